// What an app with npm's `mongoose` does. Ends with "all good".
const assert = require('node:assert/strict');
const mongoose = require('mongoose');

async function main(uri) {
  await mongoose.connect(uri, { dbName: 'ada' });
  const schema = new mongoose.Schema({ email: { type: String, unique: true }, age: { type: Number, min: 0 }, tags: [String] }, { timestamps: true });
  const Person = mongoose.model('Person', schema);
  await Person.init();
  const ada = await Person.create({ email: 'ada@example.org', age: 36, tags: ['math'] });
  await assert.rejects(Person.create({ email: 'ada@example.org' }), { code: 11000 });
  await assert.rejects(Person.create({ email: 'eve@example.org', age: -1 }), /age/);
  ada.tags.push('engines');
  await ada.save();
  assert.deepEqual([...(await Person.findOne({ tags: 'engines' })).tags], ['math', 'engines']);
  const Visit = mongoose.model('Visit', new mongoose.Schema({ person: { type: mongoose.ObjectId, ref: 'Person' }, city: String }));
  await mongoose.connection.transaction(async (session) => {
    await Visit.create([{ person: ada._id, city: 'Turin' }, { person: ada._id, city: 'Bath' }], { session, ordered: true });
    await Person.updateOne({ _id: ada._id }, { $inc: { age: 1 } }, { session });
  });
  assert.equal((await Visit.findOne({ city: 'Bath' }).populate('person')).person.age, 37);
  await assert.rejects(mongoose.connection.transaction(async (session) => {
    await Visit.deleteMany({}, { session });
    throw new Error('changed my mind');
  }), /changed my mind/);
  const cities = await Visit.aggregate([{ $group: { _id: '$city' } }, { $sort: { _id: 1 } }]);
  assert.deepEqual(cities.map((city) => city._id), ['Bath', 'Turin']);
  assert.equal(await Visit.countDocuments(), 2);
  await mongoose.disconnect();
  console.log('all good');
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1); // Connections that are open would keep it going.
});
