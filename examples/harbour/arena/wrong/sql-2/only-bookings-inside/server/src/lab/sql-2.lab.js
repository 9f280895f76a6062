export async function freeListings(pool, { town, from, to }) {
  const { rows } = await pool.query(
    `SELECT l.id, l.name, l.price
       FROM listings l
      WHERE l.town = $1
        AND l.price IS NOT NULL
        AND NOT EXISTS (
              SELECT 1
                FROM bookings b
               WHERE b.listing_id = l.id
                 AND b.starts_on >= $2
                 AND b.ends_on <= $3)
      ORDER BY l.price, l.id`,
    [town, from, to],
  );
  return rows;
}
