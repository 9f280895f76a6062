export async function search(listings, { town, guests, maxPrice, amenities }) {
  const filter = {
    town: town ?? null,
    sleeps: { $gte: guests ?? 0 },
    price: { $lte: maxPrice ?? 1_000_000 },
  };
  if (amenities?.length) filter.amenities = { $all: amenities };
  return listings.find(filter).sort({ price: 1, name: 1 }).limit(50).toArray();
}
