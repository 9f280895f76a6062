// Makes the workshop's data: `node arena/data/generate.mjs`. The same bytes each time.
// Writes listings.ndjson (MongoDB, extended JSON) and listings.sql (PostgreSQL), one world told
// twice. Everything is invented: towns, people, prices.
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));

// mulberry32: small, good enough, and the same everywhere.
let seed = 20260501;
function random() {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const whole = (from, to) => from + Math.floor(random() * (to - from + 1));
const pick = (list) => list[whole(0, list.length - 1)];
const sample = (list, count) => {
  const rest = [...list];
  return Array.from({ length: Math.min(count, rest.length) }, () => rest.splice(whole(0, rest.length - 1), 1)[0]);
};

const TOWNS = [
  { name: 'Saltmere', share: 34, price: 128, at: [-4.62, 50.21], places: ['the Old Quay', 'Chapel Steps', 'the Fish Cellars', 'Rope Lane', 'the Lifeboat House'] },
  { name: 'Gullhaven', share: 28, price: 96, at: [-3.91, 53.42], places: ['the North Mole', 'Lantern Street', 'the Boatyard', 'Herring Row', 'the Signal Tower'] },
  { name: 'Ankerby', share: 24, price: 112, at: [10.73, 56.04], places: ['the Ferry Landing', 'Toldgade', 'the Smokehouse', 'Mastvej', 'the Customs House'] },
  { name: 'Porto Serra', share: 20, price: 84, at: [-9.12, 38.58], places: ['Largo do Farol', 'the Cannery', 'Rua da Maré', 'the Lower Market', 'the Chapel Cliff'] },
  { name: "Fisher's Rest", share: 14, price: 71, at: [-6.31, 54.86], places: ['the Slipway', 'Kelp Road', 'the Net Sheds', 'the Harbour Bar', 'Anchor Green'] },
];
const KINDS = [
  { name: 'apartment', weight: 46, nouns: ['Attic flat', 'Quayside apartment', 'Net loft', 'Two rooms with a view', 'Garden flat'], sleeps: [2, 5] },
  { name: 'house', weight: 28, nouns: ["Fisherman's cottage", 'Captain’s house', 'Terraced house', 'Stone house', 'Pilot’s cottage'], sleeps: [3, 8] },
  { name: 'room', weight: 16, nouns: ['Quiet room', 'Room under the roof', 'Sunny guest room', 'Small blue room'], sleeps: [1, 2] },
  { name: 'boat', weight: 10, nouns: ['Moored sloop', 'Converted trawler', 'Houseboat', 'Old pilot cutter'], sleeps: [2, 4] },
];
const AMENITIES = ['Wi-Fi', 'Kitchen', 'Sea view', 'Washing machine', 'Heating', 'Parking', 'Balcony', 'Fireplace', 'Bicycles', 'Dogs welcome', 'Step-free access', 'Kayak'];
const HOSTS = ['Inês Duarte', 'Rory McKay', 'Signe Holm', 'Tom Pascoe', 'Aoife Byrne', 'Mateus Silva', 'Karen Lund', 'Jenny Trelawny', 'Owen Price', 'Beatriz Lopes', 'Finn O’Dowd', 'Maren Skov', 'Petra Vann', 'Hugh Carne', 'Luísa Prata', 'Donal Keane', 'Elin Strand', 'Wyn Morgan'];
const GUESTS = ['Amara', 'Bo', 'Chiara', 'Dev', 'Esther', 'Farid', 'Gunnar', 'Hana', 'Iris', 'Jonas', 'Keiko', 'Lior', 'Mila', 'Noor', 'Otto', 'Priya', 'Quinn', 'Rosa', 'Sami', 'Tove'];
const PRAISE = ['Woke up to the sound of halyards.', 'Everything was spotless and the bakery is next door.', 'The host met us at the ferry with a lantern.', 'Best sleep we have had in months.', 'The view alone is worth it.', 'Steep stairs, warm welcome.'];
const MIDDLING = ['Lovely place, thin walls.', 'Good value; the kitchen could use a sharper knife.', 'A little damp after the storm, but the host brought wood at once.', 'Nice, though the gulls start early.'];
const BLAME = ['The heating never came on.', 'Smaller than in the pictures.', 'Nobody answered the telephone.'];

const day = (text, plus) => new Date(Date.parse(`${text}T00:00:00Z`) + plus * 86_400_000);
const iso = (date) => date.toISOString();
const dateOnly = (date) => iso(date).slice(0, 10);
const weighted = (list, weight) => {
  let left = random() * list.reduce((sum, item) => sum + weight(item), 0);
  return list.find((item) => (left -= weight(item)) < 0) ?? list[0];
};

const hosts = HOSTS.map((name, index) => ({ id: index + 1, name, since: day('2014-03-01', whole(0, 3600)), superhost: random() < 0.35 }));
const names = new Set();
const listings = [];
for (const town of TOWNS) {
  for (let i = 0; i < town.share; i++) listings.push(listing(town));
}
// Six places that are not open for booking yet: they have no price.
for (const index of [7, 29, 48, 71, 93, 112]) listings[index].price = null;
// Somewhere for everybody who asks for a boat with a kitchen and a view of the sea.
for (const one of listings.filter((row) => row.kind === 'boat')) one.amenities = [...new Set(['Kitchen', 'Sea view', ...one.amenities])];

function listing(town) {
  const kind = weighted(KINDS, (item) => item.weight);
  let name;
  do name = `${pick(kind.nouns)} ${pick(['by', 'near', 'behind', 'above'])} ${pick(town.places)}`; while (names.has(name));
  names.add(name);
  const number = listings.length + 1;
  const sleeps = whole(...kind.sleeps);
  const price = town.price * (0.45 + 0.2 * sleeps) * (0.75 + random() * 0.6) * (kind.name === 'boat' ? 1.25 : 1);
  const reviews = random() < 0.14 ? [] : Array.from({ length: whole(1, 7) }, (_, index) => review(number, index));
  return {
    id: `h${String(number).padStart(3, '0')}`,
    name, town: town.name, kind: kind.name, sleeps,
    bedrooms: Math.max(1, Math.ceil(sleeps / 2)),
    price: (Math.round(price * 2) / 2).toFixed(2),
    summary: `${kind.name === 'boat' ? 'Afloat' : 'A short walk from the water'} in ${town.name}, for ${sleeps === 1 ? 'one guest' : `${sleeps} guests`}.`,
    amenities: sample(AMENITIES, whole(3, 8)),
    host: pick(hosts),
    at: town.at.map((value) => Number((value + (random() - 0.5) * 0.03).toFixed(5))),
    reviews: reviews.sort((a, b) => b.date - a.date),
    bookings: bookings(),
  };
}

function review(listingNumber, index) {
  const stars = weighted([5, 4, 3, 2, 1], (value) => [0, 3, 4, 12, 34, 47][value]);
  return {
    id: listingNumber * 100 + index, author: pick(GUESTS), stars,
    date: day('2024-01-01', whole(0, 820)),
    text: pick(stars >= 5 ? PRAISE : stars >= 3 ? MIDDLING : BLAME),
  };
}

function bookings() {
  const stays = [];
  for (let at = whole(0, 12); at < 90; at += whole(0, 14)) {
    const nights = whole(2, 9);
    stays.push({ guest: pick(GUESTS), from: day('2026-06-01', at), to: day('2026-06-01', at + nights) });
    at += nights;
  }
  return stays;
}

const document = (row) => ({
  _id: row.id,
  name: row.name,
  town: row.town,
  kind: row.kind,
  summary: row.summary,
  sleeps: row.sleeps,
  bedrooms: row.bedrooms,
  ...(row.price && { price: { $numberDecimal: row.price } }),
  amenities: row.amenities,
  host: { name: row.host.name, since: { $date: iso(row.host.since) }, superhost: row.host.superhost },
  location: { type: 'Point', coordinates: row.at },
  reviews: row.reviews.map((one) => ({ author: one.author, stars: one.stars, date: { $date: iso(one.date) }, text: one.text })),
});
writeFileSync(join(HERE, 'listings.ndjson'), listings.map((row) => `${JSON.stringify(document(row))}\n`).join(''));

const quote = (value) => (typeof value === 'string' ? `'${value.replaceAll("'", "''")}'` : String(value ?? 'NULL'));
const insert = (table, rows) => {
  const lines = rows.map((row) => `  (${row.map(quote).join(', ')})`);
  return `INSERT INTO ${table} VALUES\n${lines.join(',\n')};\n`;
};
let bookingId = 0;
const sql = `-- Made by generate.mjs: the same world as listings.ndjson, as tables.
CREATE TABLE hosts (
  id        integer PRIMARY KEY,
  name      text    NOT NULL,
  since     date    NOT NULL,
  superhost boolean NOT NULL
);
CREATE TABLE listings (
  id       text          PRIMARY KEY,
  host_id  integer       NOT NULL REFERENCES hosts,
  name     text          NOT NULL,
  town     text          NOT NULL,
  kind     text          NOT NULL,
  sleeps   integer       NOT NULL,
  bedrooms integer       NOT NULL,
  price    numeric(8, 2),  -- NULL: not open for booking yet
  summary  text          NOT NULL
);
CREATE TABLE amenities (
  listing_id text NOT NULL REFERENCES listings,
  name       text NOT NULL,
  PRIMARY KEY (listing_id, name)
);
CREATE TABLE reviews (
  id         integer PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY (START WITH 100000),
  listing_id text    NOT NULL REFERENCES listings,
  author     text    NOT NULL,
  stars      integer NOT NULL CHECK (stars BETWEEN 1 AND 5),
  written_on date    NOT NULL,
  comment    text    NOT NULL
);
-- A stay takes the nights from starts_on to ends_on; on the day ends_on the next guest may come.
CREATE TABLE bookings (
  id         integer PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY (START WITH 100000),
  listing_id text    NOT NULL REFERENCES listings,
  guest      text    NOT NULL,
  starts_on  date    NOT NULL,
  ends_on    date    NOT NULL,
  CHECK (starts_on < ends_on)
);
CREATE INDEX reviews_listing_id ON reviews (listing_id);
CREATE INDEX bookings_listing_id ON bookings (listing_id);

${insert('hosts', hosts.map((row) => [row.id, row.name, dateOnly(row.since), row.superhost]))}
${insert('listings', listings.map((row) => [row.id, row.host.id, row.name, row.town, row.kind, row.sleeps, row.bedrooms, row.price && Number(row.price), row.summary]))}
${insert('amenities', listings.flatMap((row) => row.amenities.map((name) => [row.id, name])))}
${insert('reviews', listings.flatMap((row) => row.reviews.map((one) => [one.id, row.id, one.author, one.stars, dateOnly(one.date), one.text])))}
${insert('bookings', listings.flatMap((row) => row.bookings.map((one) => [(bookingId += 1), row.id, one.guest, dateOnly(one.from), dateOnly(one.to)])))}`;
writeFileSync(join(HERE, 'listings.sql'), sql);
console.log(`${listings.length} listings, ${bookingId} bookings.`);
