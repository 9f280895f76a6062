// A member of a replica set, as far as drivers can tell: a real TLS server under a name of its own
// in front of a MongoDB, which passes everything on and answers `hello` as one of several members.
// Who the members are and which one is primary is read from a file at every hello.
// node member.mjs '{"me", "address", "upstream": "host:port", "state", "cert", "key", "modules"}'
import net from 'node:net';
import tls from 'node:tls';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { me, address, port, upstream, state, cert, key, modules } = JSON.parse(process.argv[2]);
const { deserialize, serialize, ObjectId, Long } = createRequire(modules + '/x.js')('bson');
const [OP_REPLY, OP_MSG] = [1, 2013];

/** Cuts a stream into messages: each begins with its length. */
function messages(stream, each) {
  let held = Buffer.alloc(0);
  stream.on('data', (chunk) => {
    held = Buffer.concat([held, chunk]);
    while (held.length >= 4 && held.length >= held.readInt32LE(0)) {
      const length = held.readInt32LE(0);
      each(held.subarray(0, length));
      held = held.subarray(length);
    }
  });
}

/** Where the one document of a reply begins. */
function documentAt(message) {
  const kind = message.readInt32LE(12);
  if (kind === OP_REPLY) return 36;
  return kind === OP_MSG && message[20] === 0 ? 21 : 0;
}

function asMember(message) {
  const at = documentAt(message);
  if (!at || message.length > 65536) return message;
  const hello = deserialize(message.subarray(at), { promoteValues: false });
  if (!('maxWireVersion' in hello)) return message;
  const { hosts, primary, term } = JSON.parse(readFileSync(state, 'utf8'));
  delete hello.msg;
  delete hello.compression;
  const isPrimary = primary === `${me}:${port}`;
  if ('ismaster' in hello) hello.ismaster = isPrimary;
  if ('isWritablePrimary' in hello) hello.isWritablePrimary = isPrimary;
  Object.assign(hello, {
    secondary: !isPrimary, setName: 'harbour0', setVersion: term, hosts, primary, me: `${me}:${port}`,
  });
  if (isPrimary) hello.electionId = new ObjectId(term.toString(16).padStart(24, '0'));
  hello.lastWrite = { opTime: { ts: Long.fromNumber(1), t: Long.fromNumber(term) }, lastWriteDate: new Date() };
  const document = Buffer.from(serialize(hello));
  const rewritten = Buffer.concat([message.subarray(0, at), document]);
  rewritten.writeInt32LE(rewritten.length, 0);
  return rewritten;
}

const server = tls.createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (client) => {
  const [host, at] = upstream.split(':');
  const behind = net.connect(Number(at), host);
  client.pipe(behind);
  messages(behind, (message) => client.write(asMember(message)));
  for (const [one, other] of [[client, behind], [behind, client]]) {
    one.on('error', () => other.destroy());
    one.on('close', () => other.destroy());
  }
});
server.listen(port, address, () => console.log('listening'));
