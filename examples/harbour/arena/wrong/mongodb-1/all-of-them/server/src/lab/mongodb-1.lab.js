export async function listPage(listings) {
  return listings.find().sort({ name: 1 }).toArray();
}
