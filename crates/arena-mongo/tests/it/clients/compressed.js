// Writes and reads small and large documents with the compressor that the URI names.
// Ends with "all good".
const assert = require('node:assert/strict');

async function main(uri, library) {
  const { MongoClient } = require(library);
  const client = new MongoClient(uri);
  await client.connect();
  const texts = client.db('ada').collection('texts');
  for (let n = 0; n < 30; n++) {
    const text = Array.from({ length: n ** 3 }, (_, at) => String.fromCharCode(32 + ((at * 7919 + n) % 5000))).join('');
    await texts.insertOne({ _id: n, text });
    assert.equal((await texts.findOne({ _id: n })).text, text);
  }
  const large = 'again and again '.repeat(500_000);
  await texts.insertOne({ _id: 'large', large });
  assert.equal((await texts.findOne({ _id: 'large' })).large, large);
  assert.equal((await texts.find({}, { batchSize: 3 }).toArray()).length, 31);
  await client.close();
  console.log('all good');
}

main(process.argv[2], process.argv[3]).catch((error) => { console.error(error); process.exitCode = 1; });
