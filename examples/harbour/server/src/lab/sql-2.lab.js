/**
 * Exercise sql-2: free nights.
 *
 * Returns the listings of a town that nobody has booked for any night of the
 * stay, the cheapest first, then by id. Places without a price are not open
 * for booking and are left out:
 *
 *   { id: 'h007', name: 'Net loft …', price: 98.5 }
 *
 * A stay begins on the day `from` and ends on the day `to`: its last night is
 * the one before `to`, so the next guest may arrive on the day the last one leaves.
 *
 * @param {import('pg').Pool} pool
 * @param {{ town: string, from: string, to: string }} stay  days such as '2026-06-14'
 * @returns {Promise<object[]>}
 */
export async function freeListings(pool, { town, from, to }) {
  // Your code goes here.
  return [];
}
