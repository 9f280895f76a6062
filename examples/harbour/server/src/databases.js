// The way to the two databases. Nothing here waits at start: the drivers connect on first use.
import { MongoClient } from 'mongodb';
import pg from 'pg';

// PostgreSQL's numeric and bigint arrive as text, to lose nothing. Our prices and counts are small.
pg.types.setTypeParser(pg.types.builtins.NUMERIC, Number);
pg.types.setTypeParser(pg.types.builtins.INT8, Number);
// A date stays the text 2026-06-01: it has no time and no time zone.
pg.types.setTypeParser(pg.types.builtins.DATE, (text) => text);

const WAIT_MS = 2500;

/** Thrown when a database cannot be reached; becomes status 503. */
export class Unavailable extends Error {}

let client;
let connections;

/** The collection `listings` in this seat's MongoDB database. */
export function listings() {
  if (!process.env.MONGODB_URI) throw new Unavailable('MONGODB_URI is not set.');
  client ??= new MongoClient(process.env.MONGODB_URI, { serverSelectionTimeoutMS: WAIT_MS, maxPoolSize: 5 });
  return client.db(process.env.DATABASE_NAME || undefined).collection('listings');
}

/** Connections to this seat's PostgreSQL database; PGHOST, PGUSER … say where it is. */
export function pool() {
  if (!process.env.PGHOST && !process.env.PGSQL_MCP_CONNECTION_STRING) throw new Unavailable('PGHOST is not set.');
  if (!connections) {
    const connectionString = process.env.PGHOST ? undefined : process.env.PGSQL_MCP_CONNECTION_STRING;
    connections = new pg.Pool({ connectionString, max: 4, connectionTimeoutMillis: WAIT_MS });
    // Without this line a database that restarts would end the server.
    connections.on('error', (error) => console.error(`PostgreSQL: ${error.message}`));
  }
  return connections;
}

const NETWORK = /^(ECONN|ENOENT|ENOTFOUND|EPIPE|ETIMEDOUT|EAI_|57P0|08)/;

/** Whether an error means that the database is not there, as opposed to a mistake in a query. */
export function isUnavailable(error) {
  return (
    error instanceof Unavailable ||
    ['MongoServerSelectionError', 'MongoNetworkError', 'MongoNetworkTimeoutError'].includes(error?.name) ||
    NETWORK.test(error?.code ?? '') ||
    /connection timeout|Connection terminated/i.test(error?.message ?? '')
  );
}
