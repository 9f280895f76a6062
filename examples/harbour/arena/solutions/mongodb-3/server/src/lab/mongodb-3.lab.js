export async function prepareIndexes(listings) {
  await listings.createIndex({ town: 1, price: 1 });
}
