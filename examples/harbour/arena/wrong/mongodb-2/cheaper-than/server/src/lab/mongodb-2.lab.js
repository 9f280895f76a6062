export async function search(listings, { town, guests, maxPrice, amenities }) {
  const filter = {};
  if (town !== undefined) filter.town = town;
  if (guests !== undefined) filter.sleeps = { $gte: guests };
  if (maxPrice !== undefined) filter.price = { $lt: maxPrice };
  if (amenities?.length) filter.amenities = { $all: amenities };
  return listings.find(filter).sort({ price: 1, name: 1 }).limit(50).toArray();
}
