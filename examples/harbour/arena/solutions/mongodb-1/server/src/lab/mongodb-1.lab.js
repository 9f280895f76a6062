export async function listPage(listings, { page, size }) {
  return listings
    .find()
    .sort({ name: 1 })
    .skip((page - 1) * size)
    .limit(size)
    .toArray();
}
