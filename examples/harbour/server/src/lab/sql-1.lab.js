/**
 * Exercise sql-1: a town and its stars.
 *
 * Returns every listing of a town with its host and what guests thought:
 *
 *   { id: 'h007', name: 'Net loft …', host: 'Signe Holm', reviews: 3, stars: 4.7 }
 *
 * `stars` is the average, rounded to one decimal; null where there is no review yet.
 * Best stars first, those without stars last, then by id.
 *
 * @param {import('pg').Pool} pool
 * @param {string} town
 * @returns {Promise<object[]>}
 */
export async function listingsInTown(pool, town) {
  // Your code goes here: const { rows } = await pool.query('SELECT …', [town]);
  return [];
}
