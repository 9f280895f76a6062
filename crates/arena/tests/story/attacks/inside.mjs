// What a participant's own code tries. The seat's app loads it, so that it runs with everything
// that holds an app back: namespaces, seccomp filter, limits. It writes one line per attack:
// an attack holds when it throws or finds nothing; a control must find something.
import { execFile } from 'node:child_process';
import dgram from 'node:dgram';
import fs from 'node:fs';
import net from 'node:net';
import { promisify } from 'node:util';
import { MongoClient } from 'mongodb';
import pg from 'pg';

const RESULTS = '/tmp/attacks.json';
const WAIT_MS = 8000;
const { other, otherPassword, gateway, platform, engine, state, abstract, own } = JSON.parse(fs.readFileSync('/tmp/attacks-input.json'));
const run = promisify(execFile);
const lines = [];

async function tell(kind, name, action) {
  let found, error;
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error('it took too long')), WAIT_MS).unref());
  late.catch(() => {});
  try {
    found = await Promise.race([action(), late]);
  } catch (thrown) {
    error = String(thrown?.message ?? thrown).slice(0, 300);
  }
  lines.push({ kind, name, through: Boolean(found), said: found ? String(typeof found === 'object' ? JSON.stringify(found) : found).slice(0, 300) : error ?? '' });
}
const attack = (name, action) => tell('attack', name, action);
const control = (name, action) => tell('control', name, action);
const sh = async (script) => (await run('/bin/sh', ['-c', script], { timeout: WAIT_MS })).stdout.trim();
const read = async (path) => fs.readFileSync(path, 'utf8') || 'an empty file';
const list = async (path) => `files: ${fs.readdirSync(path)}`;

function connect(options) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ ...options, timeout: 3000 });
    socket.on('connect', () => { socket.destroy(); resolve('connected'); });
    socket.on('timeout', () => { socket.destroy(); reject(new Error('no answer')); });
    socket.on('error', reject);
  });
}

// Sends bytes to one of the seat's service sockets and returns the first answer.
function talk(service, bytes) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path: `/run/svc/${service}.sock` });
    socket.setTimeout(6000, () => { socket.destroy(); resolve(''); });
    socket.on('connect', () => socket.write(bytes));
    socket.on('data', (data) => { socket.destroy(); resolve(data.toString('latin1')); });
    socket.on('close', () => resolve(''));
    socket.on('error', reject);
  });
}

async function theMachine() {
  await control('its own work folder', () => list('/home/workspace/workshop'));
  for (const path of ['/etc/shadow', '/root', '/var/lib/arena', state, `${state}/secrets`, `${state}/event.db`, `${state}/seats/${other}`, `${state}/content`, `${state}/template`, '/var/cache/arena', `/home/${other}`, '/run/arena/platform.sock', '/run/arena/portal.sock', platform, engine]) {
    await attack(`read ${path}`, () => (fs.statSync(path).isDirectory() ? list(path) : read(path)));
    await attack(`read ${path} by its parent's file descriptors`, () => sh(`for p in /proc/[0-9]*; do ls $p/cwd/../..${path} $p/root${path} 2>/dev/null; done`));
  }
  for (const path of ['/usr/bin/attack', '/opt/arena/bin/attack', '/opt/arena/node/bin/attack', '/opt/arena/editor/attack', '/etc/attack', '/run/attack', '/run/svc/attack', '/attack', '/proc/sys/kernel/core_pattern', '/proc/sys/vm/drop_caches', '/proc/sysrq-trigger', '/dev/attack', '/run/arena/settings.json']) {
    await attack(`write ${path}`, async () => { fs.writeFileSync(path, 'x'); return 'written'; });
  }
  await control('write in its own folder', async () => { fs.writeFileSync('/home/workspace/attack', 'x'); return 'written'; });
  await attack('replace a service socket', async () => { fs.unlinkSync('/run/svc/mongodb.sock'); return 'gone'; });
  await attack("see what is not the seat's among service sockets", async () => fs.readdirSync('/run/svc').filter((name) => !['mongodb.sock', 'postgres.sock', 'outbound.sock', 'hosts', 'ways.json'].includes(name)).join(' '));
  await attack('lead the name of a server elsewhere', async () => { fs.appendFileSync('/run/svc/hosts', '127.0.0.1 elsewhere\n'); return 'written'; });
  await attack('change its own ways to servers', async () => { fs.writeFileSync('/run/svc/ways.json', '[]'); return 'written'; });
  await attack('read of others in its ways and names', async () => sh(`cat /run/svc/hosts /run/svc/ways.json | grep -F -e ${other} -e ${state}`));
  await attack('see a process of the machine', () => sh(`cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -aE 'arena (up|serve platform)|postgres -D|dockerd|systemd' | grep -av grep`));
  await control('see its own processes', () => sh(`cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -a npm`));
  await attack('mount', () => sh('mount -t tmpfs none /tmp && echo mounted'));
  await attack('make a user namespace', () => sh('unshare -U true && echo made'));
  await attack('make a mount namespace', () => sh('unshare -m true && echo made'));
  await attack('enter the namespaces of process 1', () => sh('nsenter -t 1 -m -n true && echo entered'));
  await attack('become root by a set-user-id program', () => sh('su -c id </dev/null 2>/dev/null || sudo -n id 2>/dev/null'));
  await attack('have a capability', () => sh(`grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status | grep -v 0000000000000000`));
  await attack('run without a filter of system calls', () => sh(`grep -E '^Seccomp:\\s*[01]$|^NoNewPrivs:\\s*0$' /proc/self/status`));
  await attack('read the kernel log', () => sh('dmesg | head -1'));
  await attack('make a device', () => sh('mknod /tmp/disk b 254 0 && echo made'));
}

async function theNetwork() {
  await attack('the gateway on the loopback of the machine', () => connect({ host: '127.0.0.1', port: gateway }));
  await attack('the gateway by IPv6', () => connect({ host: '::1', port: gateway }));
  await attack('an abstract socket of the machine', () => sh(`perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack("S a*", AF_UNIX, "\\0${abstract}")) or die $!; print "connected"'`));
  for (const path of [platform, engine]) await attack(`the platform's socket ${path}`, () => connect({ path }));
  await attack('a public address', () => connect({ host: '192.0.2.1', port: 443 }));
  await attack('an interface besides loopback', () => sh(`ls /sys/class/net 2>/dev/null | grep -v '^lo$' || grep -vE 'Inter|face|lo:' /proc/net/dev`));
  await attack('a datagram to a name server', () => new Promise((resolve, reject) => dgram.createSocket('udp4').on('error', reject).send('x', 53, '192.0.2.1', (error) => (error ? reject(error) : resolve('sent')))));
  await control('its own app', () => connect({ host: '127.0.0.1', port: 5000 }));
  const connects = (target) => async () => { const answer = await talk('outbound', `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`); return answer.startsWith('HTTP/1.1 200') && answer; };
  await control('the way out answers', () => talk('outbound', 'CONNECT attack.invalid:443 HTTP/1.1\r\nHost: attack.invalid\r\n\r\n'));
  for (const target of [`127.0.0.1:${gateway}`, '127.0.0.1:443', '[::1]:443', '[::ffff:127.0.0.1]:443', '0.0.0.0:443', '0:443', '2130706433:443', '0x7f.1:443', '127.1:443', 'localhost:443', `localhost:${gateway}`, `arena.localhost:${gateway}`, 'ada.arena.localhost:443', 'localtest.invalid:443', '10.0.0.1:443', '192.168.0.1:443', '169.254.169.254:443', '169.254.169.254:80', 'metadata.google.internal:80', '192.0.2.1:443', '192.0.2.1:22', 'registry.acme.test:22', 'registry.acme.test:443@127.0.0.1:443', 'registry.acme.test.evil.invalid:443', 'evil-registry.acme.test:443']) {
    await attack(`CONNECT ${target}`, connects(target));
  }
  const smuggled = [`GET http://127.0.0.1:${gateway}/health HTTP/1.1\r\nHost: x\r\n\r\n`, `GET http://registry.acme.test@127.0.0.1:${gateway}/health HTTP/1.1\r\nHost: registry.acme.test\r\n\r\n`, `GET /health HTTP/1.1\r\nHost: 127.0.0.1:${gateway}\r\n\r\n`, `CONNECT attack.invalid:443 HTTP/1.1\r\nHost: x\r\n\r\nCONNECT 127.0.0.1:${gateway} HTTP/1.1\r\n\r\n`, `CONNECT registry.acme.test:443\r\n HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`];
  for (const bytes of smuggled) await attack(`to the way out: ${bytes.split('\r\n')[0]}`, async () => { const answer = await talk('outbound', bytes); return answer.startsWith('HTTP/1.1 200') && answer; });
}

async function mongodb() {
  const uri = process.env.MONGODB_URI;
  const client = new MongoClient(uri, { serverSelectionTimeoutMS: 5000 });
  const mine = client.db(own);
  const all = (database, pipeline, collection = 'listings') => database.collection(collection).aggregate(pipeline).toArray();
  await control('its own listings', () => mine.collection('listings').countDocuments());
  await attack('list databases of others', async () => (await client.db('admin').admin().listDatabases()).databases.map(({ name }) => name).filter((name) => name !== own && name !== 'arena_shared').join(' '));
  for (const name of [other, 'arena_template', 'admin', 'postgres']) {
    const database = client.db(name);
    await attack(`collections of ${name}`, async () => (await database.listCollections().toArray()).length);
    await attack(`find in ${name}`, () => database.collection('listings').findOne());
    await attack(`count in ${name}`, () => database.collection('listings').countDocuments());
    await attack(`insert into ${name}`, () => database.collection('attacks').insertOne({ by: own }));
    await attack(`drop ${name}`, () => database.dropDatabase());
    await attack(`$out into ${name}`, async () => { await all(mine, [{ $limit: 1 }, { $out: { db: name, coll: 'attacks' } }]); return 'written'; });
    await attack(`$merge into ${name}`, async () => { await all(mine, [{ $limit: 1 }, { $merge: { into: { db: name, coll: 'attacks' } } }]); return 'written'; });
    for (const [stage, value] of [['$lookup', { from: { db: name, coll: 'listings' }, pipeline: [], as: 'x' }], ['$lookup', { from: 'listings', db: name, pipeline: [], as: 'x' }], ['$lookup', { from: `${name}.listings`, pipeline: [], as: 'x' }], ['$unionWith', { db: name, coll: 'listings' }], ['$unionWith', { coll: { db: name, coll: 'listings' } }], ['$graphLookup', { from: { db: name, coll: 'listings' }, startWith: 1, connectFromField: '_id', connectToField: '_id', as: 'x' }]]) {
      await attack(`${stage} ${JSON.stringify(value)}`, async () => { const rows = await all(mine, [{ $limit: 1 }, { [stage]: value }]); return (rows[0]?.x?.length || rows.length > 1) && rows; });
    }
    await attack(`a view on ${name}`, async () => { await mine.command({ create: 'view1', viewOn: `${name}.listings`, pipeline: [] }); return mine.collection('view1').findOne(); });
    await attack(`a view with $unionWith ${name}`, async () => { await mine.command({ create: 'view2', viewOn: 'listings', pipeline: [{ $unionWith: { db: name, coll: 'listings' } }] }); return 'made'; });
    await attack(`a view changed to $unionWith ${name}`, async () => { await mine.command({ collMod: 'view1', viewOn: 'listings', pipeline: [{ $unionWith: { db: name, coll: 'listings' } }] }); return 'changed'; });
    await attack(`explain with $unionWith ${name}`, () => client.db(own).command({ explain: { aggregate: 'listings', pipeline: [{ $unionWith: { db: name, coll: 'listings' } }], cursor: {} } }));
    await attack(`explain in ${name} from here`, () => client.db(own).command({ explain: { find: 'listings', $db: name } }));
    await attack(`$facet with $lookup into ${name}`, () => all(mine, [{ $facet: { x: [{ $lookup: { from: { db: name, coll: 'listings' }, pipeline: [], as: 'x' } }] } }]));
    await attack(`distinct in ${name}`, async () => (await database.collection('listings').distinct('name')).length);
    await attack(`statistics of ${name}`, () => database.command({ dbStats: 1 }));
    await attack(`rename into ${name}`, () => client.db('admin').command({ renameCollection: `${own}.listings`, to: `${name}.attacks` }));
    await attack(`rename out of ${name}`, () => client.db('admin').command({ renameCollection: `${name}.listings`, to: `${own}.attacks` }));
    await attack(`create a user in ${name}`, () => database.command({ createUser: 'attack', pwd: 'attack', roles: ['root'] }));
    await attack(`users of ${name}`, () => database.command({ usersInfo: 1 }));
  }
  await control('$lookup in its own database', () => all(mine, [{ $limit: 1 }, { $lookup: { from: 'listings', pipeline: [{ $limit: 1 }], as: 'x' } }]));
  for (const command of [{ createUser: 'attack', pwd: 'attack', roles: ['root'] }, { updateUser: own, roles: ['root'] }, { grantRolesToUser: own, roles: ['root'] }, { usersInfo: { forAllDBs: true } }, { usersInfo: own, showCredentials: true }, { shutdown: 1 }, { eval: '1' }, { getLog: 'global' }, { getCmdLineOpts: 1 }, { setParameter: 1, quiet: 1 }, { fsync: 1, lock: true }, { currentOp: 1 }, { killOp: 1, op: 1 }, { replSetGetStatus: 1 }, { getParameter: '*' }, { connPoolStats: 1 }, { top: 1 }, { mapReduce: 'listings', map: 'x', reduce: 'y', out: 'z' }, { applyOps: [] }]) {
    await attack(`admin command ${JSON.stringify(command)}`, async () => {
      const answer = await client.db('admin').command(command);
      return JSON.stringify(answer).includes('SCRAM-SHA-256":{') || !/^(usersInfo|getLog|getCmdLineOpts|getParameter)$/.test(Object.keys(command)[0]) ? answer : (answer.users?.some(({ user }) => user !== own) || answer.log?.length || answer.parsed?.storage) && answer;
    });
  }
  await attack('run code in the database', async () => (await mine.collection('listings').find({ $where: 'true' }).toArray()).length);
  await attack('run a function in the database', async () => all(mine, [{ $limit: 1 }, { $project: { x: { $function: { body: 'function() { return 1 }', args: [], lang: 'js' } } } }]));
  await attack('all operations of everybody', () => client.db('admin').aggregate([{ $currentOp: { allUsers: true } }]).toArray());
  const guesses = [[other, otherPassword, 'its real password'], [other, process.env.PGPASSWORD, 'my password'], ['root', '', 'no password'], ['arena', 'arena', 'a guess']];
  for (const [user, password, what] of guesses) {
    await attack(`log in as ${user} with ${what}`, async () => {
      const impostor = new MongoClient(`mongodb://127.0.0.1:27017/?directConnection=true`, { auth: { username: user, password }, serverSelectionTimeoutMS: 3000 });
      try { return await impostor.db(other).collection('listings').findOne(); } finally { await impostor.close(); }
    });
  }
  await attack('read without a login', async () => {
    const nobody = new MongoClient('mongodb://127.0.0.1:27017/?directConnection=true', { serverSelectionTimeoutMS: 3000 });
    try { return await nobody.db(own).collection('listings').findOne(); } finally { await nobody.close(); }
  });
  await control('its own listings afterwards', () => mine.collection('listings').countDocuments());
  await client.close();
}

async function postgres() {
  const open = async (options) => { const client = new pg.Client({ connectionTimeoutMillis: 5000, ...options }); client.on('error', () => {}); await client.connect(); return client; };
  const mine = await open({});
  const ask = async (text) => { const { rows } = await mine.query(text); return rows.length > 0 && JSON.stringify(rows.slice(0, 3)); };
  await control('its own rows', () => ask('SELECT 1 FROM listings LIMIT 1'));
  for (const database of ['postgres', 'template1', 'template0', other, 'arena_template']) {
    await attack(`connect to ${database}`, async () => { const client = await open({ database }); await client.end(); return 'connected'; });
    await attack(`connect to ${database} as its user`, async () => { const client = await open({ database, user: other, password: otherPassword }); await client.end(); return 'connected'; });
  }
  for (const user of ['arena', 'postgres', 'root']) await attack(`log in as ${user}`, async () => { const client = await open({ user, database: 'postgres', password: process.env.PGPASSWORD }); await client.end(); return 'connected'; });
  const statements = ["CREATE ROLE attack SUPERUSER", `ALTER ROLE ${own} SUPERUSER`, `ALTER ROLE ${own} CREATEROLE`, `ALTER ROLE ${other} PASSWORD 'x'`, `SET ROLE ${other}`, `SET SESSION AUTHORIZATION ${other}`, "ALTER SYSTEM SET fsync = off", "COPY (SELECT 1) TO PROGRAM 'id'", "CREATE TEMP TABLE t (x text); COPY t FROM PROGRAM 'id'", "CREATE TEMP TABLE u (x text); COPY u FROM '/etc/passwd'", "COPY (SELECT 1) TO '/tmp/attack'", "SELECT pg_read_file('/etc/passwd')", "SELECT pg_read_binary_file('postgresql.conf')", "SELECT pg_ls_dir('.')", "SELECT pg_stat_file('/etc/passwd')", "SELECT lo_import('/etc/passwd')", "SELECT lo_export(1, '/tmp/x')", 'SELECT rolpassword FROM pg_authid', 'SELECT passwd FROM pg_shadow', 'CREATE EXTENSION dblink', 'CREATE EXTENSION postgres_fdw', 'CREATE EXTENSION file_fdw', 'CREATE EXTENSION plpython3u', "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '/lib/x86_64-linux-gnu/libc.so.6', 'getpid'", "LOAD '/tmp/x.so'", `CREATE DATABASE attack`, `ALTER DATABASE ${own} OWNER TO ${own}`, `DROP DATABASE ${own}`, 'SELECT pg_advisory_lock(1)', 'SELECT pg_try_advisory_lock(g) FROM generate_series(1, 100000) g', 'SELECT pg_reload_conf()', 'SELECT pg_rotate_logfile()', "SELECT setting FROM pg_settings WHERE name = 'data_directory'", 'SELECT pg_switch_wal()', "SELECT pg_create_physical_replication_slot('attack')", "SELECT * FROM pg_hba_file_rules", 'CREATE PUBLICATION p FOR ALL TABLES', "CREATE SUBSCRIPTION s CONNECTION 'host=/tmp' PUBLICATION p", 'CREATE TABLESPACE t LOCATION \'/tmp\'', 'CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION f()', "ALTER FUNCTION pg_catalog.now() OWNER TO current_user", 'CHECKPOINT', `SELECT query FROM pg_stat_activity WHERE usename IS DISTINCT FROM '${own}' AND query NOT IN ('<insufficient privilege>', '')`, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IS DISTINCT FROM '${own}'`, 'VACUUM pg_authid_none', `GRANT pg_read_server_files TO ${own}`, `COMMENT ON DATABASE ${own} IS 'arena seat forged'`];
  for (const text of statements) {
    await attack(text, async () => { const result = await mine.query(text); const last = [result].flat().at(-1); return last.command !== 'SELECT' ? `${last.command} worked` : last.rowCount > 0 && JSON.stringify(last.rows.slice(0, 3)); });
  }
  await attack('many connections', async () => { const clients = await Promise.allSettled(Array.from({ length: 30 }, () => open({}))); const opened = clients.filter(({ status }) => status === 'fulfilled'); await Promise.all(opened.map(({ value }) => value.end())); return opened.length > 10 && `${opened.length} at once`; });
  await control('its own rows afterwards', () => ask('SELECT 1 FROM listings LIMIT 1'));
  await mine.end();
}

for (const part of [theMachine, theNetwork, mongodb, postgres]) {
  try { await part(); } catch (error) { lines.push({ kind: 'control', name: part.name, through: false, said: String(error.stack) }); }
}
fs.writeFileSync(`${RESULTS}.new`, JSON.stringify(lines));
fs.renameSync(`${RESULTS}.new`, RESULTS);
