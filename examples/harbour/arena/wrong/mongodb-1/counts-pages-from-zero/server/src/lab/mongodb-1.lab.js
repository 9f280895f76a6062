export async function listPage(listings, { page, size }) {
  return listings
    .find()
    .sort({ name: 1 })
    .skip(page * size)
    .limit(size)
    .toArray();
}
