const { MongoClient } = require("mongodb");

const client = new MongoClient(process.env.MONGODB_URI);

exports.connect = () => client.connect();
exports.database = () => client.db(process.env.DATABASE_NAME);
