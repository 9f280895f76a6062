export async function listingsInTown(pool, town) {
  const { rows } = await pool.query(
    `SELECT l.id, l.name, h.name AS host,
            count(r.id) AS reviews,
            round(avg(r.stars), 1) AS stars
       FROM listings l
       JOIN hosts h ON h.id = l.host_id
       JOIN reviews r ON r.listing_id = l.id
      WHERE l.town = $1
      GROUP BY l.id, h.name
      ORDER BY stars DESC NULLS LAST, l.id`,
    [town],
  );
  return rows;
}
