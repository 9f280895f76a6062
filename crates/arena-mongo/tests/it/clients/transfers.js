// Transactions, sessions, bulk writes, GridFS and compression with npm's `mongodb`
// of the version that the second argument names. Ends with "all good".
const assert = require('node:assert/strict');

async function main(uri, library) {
  const { MongoClient, GridFSBucket } = require(library);
  const client = new MongoClient(uri, { compressors: ['zlib'], retryWrites: true });
  await client.connect();
  const db = client.db('ada');
  const accounts = db.collection('accounts');
  await accounts.insertMany([{ _id: 'a', euros: 100 }, { _id: 'b', euros: 100 }]);
  const pay = (from, to, euros) => client.withSession((session) => session.withTransaction(async () => {
    await accounts.updateOne({ _id: from }, { $inc: { euros: -euros } }, { session });
    await accounts.updateOne({ _id: to }, { $inc: { euros } }, { session });
    if (euros > 100) throw new Error('too much');
    return euros;
  }));
  assert.equal(await pay('a', 'b', 30), 30);
  await assert.rejects(pay('a', 'b', 101), /too much/);
  // All of these touch the same two documents at once: the driver repeats what conflicts.
  await Promise.all([1, 2, 3, 4, 5].map((euros) => pay('b', 'a', euros)));
  const euros = async (id) => (await accounts.findOne({ _id: id })).euros;
  assert.deepEqual([await euros('a'), await euros('b')], [85, 115]);
  await client.withSession({ causalConsistency: true }, async (session) => {
    await accounts.updateOne({ _id: 'a' }, { $set: { seen: true } }, { session });
    assert.equal((await accounts.findOne({ _id: 'a' }, { session })).seen, true);
    assert.ok(session.operationTime);
  });
  const result = await client.bulkWrite([
    { name: 'insertOne', namespace: 'ada.notes', document: { n: 1 } },
    { name: 'updateOne', namespace: 'ada.accounts', filter: { _id: 'a' }, update: { $set: { note: 1 } } },
    { name: 'deleteMany', namespace: 'ada.notes', filter: { n: 1 } },
  ]);
  assert.deepEqual([result.insertedCount, result.modifiedCount, result.deletedCount], [1, 1, 1]);
  const bucket = new GridFSBucket(db);
  const bytes = Buffer.alloc(600_000, 'grid');
  await new Promise((done, failed) => bucket.openUploadStream('file').end(bytes).on('finish', done).on('error', failed));
  const read = [];
  for await (const part of bucket.openDownloadStreamByName('file')) read.push(part);
  assert.ok(Buffer.concat(read).equals(bytes));
  const stream = accounts.watch();
  await assert.rejects(stream.next(), /not supported by the built-in database/);
  await stream.close();
  await client.close();
  console.log('all good');
}

main(process.argv[2], process.argv[3]).catch((error) => {
  console.error(error);
  process.exit(1); // Connections that are open would keep it going.
});
