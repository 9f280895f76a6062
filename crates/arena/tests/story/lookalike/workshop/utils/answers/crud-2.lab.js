const { database } = require("../utils/database");

exports.crud2 = async (request, response) => {
  const found = await database().collection("listingsAndReviews").findOne({ _id: request.params.id });
  response.status(found ? 200 : 404).json(found);
};
