/**
 * Exercise mongodb-4: the town guide.
 *
 * Returns one row for each town, the dearest town first:
 *
 *   { town: 'Saltmere', places: 32, averagePrice: 131.27, reviews: 118 }
 *
 * Places without a price are not open for booking and do not count at all.
 *
 * @param {import('mongodb').Collection} listings
 * @returns {Promise<object[]>}
 */
export async function townGuide(listings) {
  const pipeline = [
    // Your stages go here: $match, $group, $project, $sort.
  ];
  if (pipeline.length === 0) return [];
  return listings.aggregate(pipeline).toArray();
}
