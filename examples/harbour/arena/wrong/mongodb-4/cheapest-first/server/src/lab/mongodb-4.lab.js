export async function townGuide(listings) {
  const pipeline = [
    { $match: { price: { $exists: true } } },
    {
      $group: {
        _id: '$town',
        places: { $sum: 1 },
        averagePrice: { $avg: '$price' },
        reviews: { $sum: { $size: '$reviews' } },
      },
    },
    { $project: { _id: 0, town: '$_id', places: 1, averagePrice: { $round: ['$averagePrice', 2] }, reviews: 1 } },
    { $sort: { averagePrice: 1 } },
  ];
  return listings.aggregate(pipeline).toArray();
}
