/**
 * Exercise mongodb-1: the first page.
 *
 * Returns one page of all listings, sorted by name from A to Z.
 *
 * @param {import('mongodb').Collection} listings
 * @param {{ page: number, size: number }} wanted  pages are counted from 1
 * @returns {Promise<object[]>}
 */
export async function listPage(listings, { page, size }) {
  // Your code goes here: find, sort, skip, limit.
  return [];
}
