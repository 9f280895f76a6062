export async function prepareIndexes(listings) {
  await listings.createIndex({ price: 1, town: 1 });
}
