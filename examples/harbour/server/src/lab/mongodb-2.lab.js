/**
 * Exercise mongodb-2: a place that fits.
 *
 * Returns the listings that fulfil every wish, the cheapest first, at most 50.
 * A wish that is missing (undefined) rules nothing out.
 *
 * @param {import('mongodb').Collection} listings
 * @param {object} wish
 * @param {string} [wish.town]         exactly this town
 * @param {number} [wish.guests]       sleeps at least so many
 * @param {number} [wish.maxPrice]     costs at most that a night
 * @param {string[]} [wish.amenities]  has all of these
 * @returns {Promise<object[]>}
 */
export async function search(listings, wish) {
  const filter = {};
  // Your code goes here: add to the filter what was wished for …
  // … then find, sort by price, limit.
  return [];
}
