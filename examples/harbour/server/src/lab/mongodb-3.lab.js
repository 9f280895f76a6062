/**
 * Exercise mongodb-3: an index for the search.
 *
 * Called each time the server starts. Makes one index that serves a search
 * for one town with the cheapest first. Making an index that is already
 * there does nothing, so it is safe to ask for it again and again.
 *
 * @param {import('mongodb').Collection} listings
 */
export async function prepareIndexes(listings) {
  // Your code goes here: createIndex.
}
