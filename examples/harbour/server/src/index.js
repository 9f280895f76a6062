// Starts the back end. `npm start` starts it again after every save.
// It comes up without databases too: routes that need one then answer 503 and say why.
import { makeApp } from './app.js';
import { listings, pool } from './databases.js';
import { prepareIndexes } from './lab/mongodb-3.lab.js';

const port = Number(process.env.PORT ?? 5000);

makeApp().listen(port, (error) => {
  if (error) {
    console.error(`Cannot listen on port ${port}: ${error.message}`);
    process.exit(1);
  }
  console.log(`Harbour is listening on port ${port}.`);
  greet('MongoDB', async () => `${await listings().countDocuments()} listings`);
  greet('PostgreSQL', async () => `${(await pool().query('SELECT count(*) FROM listings')).rows[0].count} listings`);
  prepare();
});

// Says in the terminal what each database holds.
async function greet(name, look) {
  try {
    console.log(`${name}: ${await look()}.`);
  } catch (error) {
    console.log(`${name} does not answer yet: ${error.message}`);
  }
}

// Exercise mongodb-3: an application makes the indexes it needs when it starts.
async function prepare() {
  try {
    await prepareIndexes(listings());
  } catch (error) {
    console.error(`prepareIndexes in server/src/lab/mongodb-3.lab.js failed: ${error.message}`);
  }
}
