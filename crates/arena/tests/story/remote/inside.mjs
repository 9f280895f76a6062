// Run inside a seat, beside the workshop's driver: what a participant's program sees of the set.
// node inside.mjs [address with another name's certificate]
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const server = '/home/workspace/workshop/server';
const { MongoClient } = createRequire(server + '/x.js')('mongodb');
const line = readFileSync(server + '/.env', 'utf8').split('\n').find((line) => line.startsWith('MONGODB_URI='));
const uri = line.slice('MONGODB_URI='.length).replace(/^"|"$/g, '');

const seen = {};
const client = new MongoClient(uri, { serverSelectionTimeoutMS: 20_000 });
client.on('topologyDescriptionChanged', ({ newDescription }) => {
  for (const [name, server] of newDescription.servers) seen[name] = server.type;
});
await client.connect();
const notes = client.db().collection('notes');
const { insertedId } = await notes.insertOne({ by: process.argv[2] ?? 'participant' }, { writeConcern: { w: 'majority' } });
const found = await notes.findOne({ _id: insertedId });
const until = Date.now() + 20_000;
while (Object.values(seen).some((type) => type === 'Unknown') && Date.now() < until) {
  await new Promise((resolve) => setTimeout(resolve, 100));
}
await client.close();

// A member's certificate holds for its own name only: under an address of the loopback it is refused.
let underAnAddress = 'accepted';
const direct = new URL(uri.replace(/@[^/]*\//, `@127.0.0.2:${new URL(uri.replace(/,[^/]*/, '')).port}/`));
direct.searchParams.delete('replicaSet');
direct.searchParams.set('directConnection', 'true');
try {
  const other = new MongoClient(direct.href, { serverSelectionTimeoutMS: 3_000 });
  await other.connect();
  await other.close();
} catch (error) {
  underAnAddress = String(error.cause?.message ?? error.message);
}
console.log(JSON.stringify({ seen, wrote: found !== null, underAnAddress, user: new URL(uri.replace(/,[^/]*/, '')).username }));
