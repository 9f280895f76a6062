// What an assistant does with MongoDB's MCP server (npm's `mongodb-mcp-server`) over its standard
// input and output. Ends with "all good".
const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const path = require('node:path');
const { createInterface } = require('node:readline');

class Server {
  constructor() {
    const main = path.join(process.env.NODE_PATH, '../tools/node_modules/mongodb-mcp-server/dist/esm/index.js');
    this.process = spawn(process.execPath, [main], {
      env: { ...process.env, MDB_MCP_TELEMETRY: 'disabled', MDB_MCP_LOGGERS: 'stderr', DO_NOT_TRACK: '1' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.waiting = new Map();
    this.last = 0;
    createInterface({ input: this.process.stdout }).on('line', (line) => {
      const message = JSON.parse(line);
      this.waiting.get(message.id)?.(message);
      this.waiting.delete(message.id);
    });
  }

  send(message) {
    this.process.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  }

  async ask(method, params) {
    const id = ++this.last;
    const answer = new Promise((resolve) => this.waiting.set(id, resolve));
    this.send({ id, method, params });
    const { result, error } = await answer;
    assert.equal(error, undefined, JSON.stringify(error));
    return result;
  }

  async call(name, args) {
    const result = await this.ask('tools/call', { name, arguments: { connectionId: this.connection, ...args } });
    return { text: result.content.map((part) => part.text).join('\n'), isError: result.isError === true };
  }

  /** Calls a tool that must say all of these. */
  async says(name, args, ...parts) {
    const { text, isError } = await this.call(name, args);
    assert.equal(isError, false, `${name}: ${text}`);
    for (const part of parts) assert.match(text, part, `${name}: ${text}`);
  }
}

async function main(uri) {
  const server = new Server();
  const began = await server.ask('initialize', {
    protocolVersion: '2025-03-26', capabilities: {}, clientInfo: { name: 'arena-tests', version: '1' },
  });
  assert.match(began.serverInfo.name, /mongodb/i);
  server.send({ method: 'notifications/initialized' });
  const { tools } = await server.ask('tools/list', {});
  assert.ok(tools.some((tool) => tool.name === 'find'), JSON.stringify(tools.map((tool) => tool.name)));
  const connected = await server.ask('tools/call', { name: 'connect', arguments: { connectionString: uri } });
  server.connection = connected.structuredContent?.connectionId;
  assert.ok(server.connection, JSON.stringify(connected));
  const of = { database: 'ada', collection: 'homes' };
  const homes = [1, 2, 3, 4].map((id) => ({ _id: id, town: id % 2 ? 'Turin' : 'Bath', price: 10 * id }));
  await server.says('insert-many', { ...of, documents: homes }, /4/);
  await server.says('list-databases', {}, /ada/);
  await server.says('list-collections', { database: 'ada' }, /homes/);
  await server.says('find', { ...of, filter: { town: 'Bath' }, sort: { price: -1 }, limit: 5 }, /40/, /20/);
  await server.says('count', { ...of, query: { town: 'Turin' } }, /2/);
  await server.says('aggregate', { ...of, pipeline: [{ $group: { _id: '$town', sum: { $sum: '$price' } } }, { $sort: { _id: 1 } }] }, /Bath/, /60/);
  await server.says('create-index', { ...of, definition: [{ type: 'classic', keys: { town: 1 } }] }, /town_1/);
  await server.says('collection-indexes', of, /town_1/);
  await server.says('explain', { ...of, method: [{ name: 'find', arguments: { filter: { town: 'Bath' } } }] }, /winningPlan/);
  await server.says('collection-schema', of, /town/, /price/);
  await server.says('collection-storage-size', of, /size/i);
  await server.says('db-stats', { database: 'ada' }, /collections/);
  await server.says('update-many', { ...of, filter: { town: 'Bath' }, update: { $inc: { price: 1 } } }, /2/);
  await server.says('delete-many', { ...of, filter: { town: 'Turin' } }, /2/);
  await server.says('rename-collection', { ...of, newName: 'houses' }, /renamed/);
  server.process.stdin.end();
  server.process.kill();
  console.log('all good');
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1); // The server that was started would keep it going.
});
