// Prints which of the seats' users and of an event's databases there are on a MongoDB.
// node left.mjs '{"uri", "modules", "event", "seats"}'
import { createRequire } from 'node:module';

const { uri, modules, event, seats } = JSON.parse(process.argv[2]);
const { MongoClient } = createRequire(modules + '/x.js')('mongodb');
const client = await MongoClient.connect(uri);
const admin = client.db('admin');
const { users } = await admin.command({ usersInfo: 1 });
const { databases } = await admin.admin().listDatabases({ nameOnly: true });
const ours = (name) => seats.includes(name) || name.startsWith(`${event}_`) || seats.some((seat) => name.startsWith(`${seat}_`));
console.log(JSON.stringify({
  users: users.map(({ user }) => user).filter((user) => seats.includes(user)).sort(),
  databases: databases.map(({ name }) => name).filter(ours).sort(),
}));
await client.close();
