const { database } = require("../utils/database");

exports.crud1 = async (request, response) => {
  const { skip = 0, limit = 10 } = request.query;
  const all = database().collection("listingsAndReviews").find().sort({ _id: 1 });
  response.json(await all.skip(Number(skip)).limit(Number(limit)).toArray());
};
