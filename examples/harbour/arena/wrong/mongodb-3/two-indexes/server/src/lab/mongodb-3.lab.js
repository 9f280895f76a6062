export async function prepareIndexes(listings) {
  await listings.createIndex({ town: 1 });
  await listings.createIndex({ price: 1 });
}
