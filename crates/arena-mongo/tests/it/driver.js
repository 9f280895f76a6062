// What the samples' back ends do, with npm's `mongodb`. Ends with "all good".
const assert = require('node:assert/strict');
const { MongoClient, ObjectId, Decimal128 } = require('mongodb');

async function main(uri) {
  const client = new MongoClient(uri, { serverApi: { version: '1' }, appName: 'sample' });
  await client.connect();
  await client.db('admin').command({ ping: 1 });
  const stays = client.db('ada').collection('stays');
  const many = Array.from({ length: 250 }, (_, n) => ({ n, town: `t${n % 5}`, price: Decimal128.fromString(`${n}.50`), at: new Date(n) }));
  assert.equal((await stays.insertMany(many)).insertedCount, 250);
  assert.equal((await stays.find({ town: 't1' }).sort({ n: -1 }).limit(3).toArray())[0].n, 246);
  assert.equal((await stays.find({}, { batchSize: 20, projection: { n: 1, _id: 0 } }).toArray()).length, 250);
  const id = new ObjectId();
  assert.deepEqual((await stays.insertOne({ _id: id, n: -1 })).insertedId, id);
  assert.equal((await stays.findOneAndUpdate({ _id: id }, { $set: { n: -2 } }, { returnDocument: 'after' })).n, -2);
  assert.equal((await stays.updateMany({ town: 't2' }, { $push: { tags: 'x' } })).modifiedCount, 50);
  assert.equal((await stays.deleteOne({ _id: id })).deletedCount, 1);
  const bulk = await stays.bulkWrite([
    { insertOne: { document: { n: 1000 } } },
    { updateOne: { filter: { n: 1000 }, update: { $inc: { n: 1 } } } },
    { replaceOne: { filter: { n: 2000 }, replacement: { n: 2000 }, upsert: true } },
    { deleteOne: { filter: { n: 1001 } } },
  ]);
  assert.deepEqual([bulk.insertedCount, bulk.modifiedCount, bulk.upsertedCount, bulk.deletedCount], [1, 1, 1, 1]);
  const towns = await stays.aggregate([{ $match: { town: { $exists: true } } }, { $group: { _id: '$town', n: { $sum: 1 } } }, { $sort: { _id: 1 } }]).toArray();
  assert.deepEqual(towns.map((town) => town.n), [50, 50, 50, 50, 50]);
  assert.equal(await stays.createIndex({ town: 1, n: -1 }), 'town_1_n_-1');
  assert.ok((await stays.indexes()).some((index) => index.name === 'town_1_n_-1'));
  await stays.createIndex({ n: 1 }, { unique: true });
  await assert.rejects(stays.insertOne({ n: 5 }), { code: 11000, keyPattern: { n: 1 }, keyValue: { n: 5 } });
  assert.equal(await stays.countDocuments({ n: { $lt: 10 } }), 10);
  assert.deepEqual((await stays.distinct('town')).sort(), ['t0', 't1', 't2', 't3', 't4']);
  const plan = await stays.find({ town: 't1' }).explain('executionStats');
  assert.equal(plan.queryPlanner.winningPlan.inputStage.indexName, 'town_1_n_-1');
  assert.equal(plan.executionStats.nReturned, 50);
  await client.db('ada').createCollection('cheap', { viewOn: 'stays', pipeline: [{ $match: { n: { $lt: 3 } } }] });
  assert.equal((await client.db('ada').collection('cheap').find().toArray()).length, 3);
  await assert.rejects(client.db('bob').collection('c').findOne({}), { code: 13 });
  assert.deepEqual((await client.db().admin().listDatabases()).databases.map((database) => database.name), ['ada']);
  await client.close();
  console.log('all good');
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1); // Connections that are open would keep it going.
});
