// All routes in one place. Each asks a function in ./lab: those are the exercises.
import express from 'express';
import { isUnavailable, listings, pool } from './databases.js';
import { listPage } from './lab/mongodb-1.lab.js';
import { search } from './lab/mongodb-2.lab.js';
import { townGuide } from './lab/mongodb-4.lab.js';
import { listingsInTown } from './lab/sql-1.lab.js';
import { freeListings } from './lab/sql-2.lab.js';

const TOWNS = 20;

export function makeApp() {
  const app = express();
  app.disable('x-powered-by');
  app.use(express.json({ limit: '64kb' }));

  app.get('/health', (request, response) => response.json({ status: 'ok' }));

  // Not an exercise: what the page shows before anything is solved.
  app.get('/api/overview', async (request, response) => {
    const [count, towns, featured] = await Promise.all([
      listings().countDocuments(),
      listings().distinct('town'),
      listings().find({ kind: 'boat' }).sort({ _id: 1 }).limit(3).toArray(),
    ]);
    response.json({ count, towns: towns.slice(0, TOWNS), featured });
  });

  // Exercise mongodb-1
  app.get('/api/listings', async (request, response) => {
    const page = positive(request.query.page, 1);
    const size = positive(request.query.size, 6);
    response.json((await listPage(listings(), { page, size })) ?? null);
  });

  // Exercises mongodb-2 and mongodb-3
  app.post('/api/listings/search', async (request, response) => {
    response.json((await search(listings(), request.body ?? {})) ?? null);
  });

  // Exercise mongodb-4
  app.get('/api/towns', async (request, response) => {
    response.json((await townGuide(listings())) ?? null);
  });

  // Exercise sql-1
  app.post('/api/sql/town', async (request, response) => {
    response.json((await listingsInTown(pool(), request.body?.town)) ?? null);
  });

  // Exercise sql-2
  app.post('/api/sql/free', async (request, response) => {
    const { town, from, to } = request.body ?? {};
    response.json((await freeListings(pool(), { town, from, to })) ?? null);
  });

  app.use((request, response) => {
    response.status(404).json({ error: `There is no route ${request.method} ${request.path}.` });
  });

  // Express calls this when a route throws.
  app.use((error, request, response, next) => {
    if (isUnavailable(error)) {
      console.error(`${request.method} ${request.path}: the database does not answer: ${error.message}`);
      return response.status(503).json({ error: `The database does not answer: ${error.message}` });
    }
    console.error(`${request.method} ${request.path} failed:`, error);
    return response.status(error.status ?? 500).json({ error: error.message });
  });

  return app;
}

// A whole number from 1, from text that anybody may have typed.
function positive(text, otherwise) {
  const number = Number.parseInt(text, 10);
  return number >= 1 ? Math.min(number, 1000) : otherwise;
}
