export async function listPage(listings, { page, size }) {
  return listings
    .find()
    .skip((page - 1) * size)
    .limit(size)
    .toArray();
}
