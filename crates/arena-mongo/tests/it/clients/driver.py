# What an app with pymongo does. Ends with "all good".
import sys
from concurrent.futures import ThreadPoolExecutor

import gridfs
import pymongo
from pymongo import InsertOne, MongoClient, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

client = MongoClient(sys.argv[1], compressors="zlib")
db = client.ada
notes = db.notes
notes.insert_many([{"_id": n, "town": f"t{n % 3}"} for n in range(500)])
assert len(list(notes.find({"town": "t1"}, batch_size=50).sort("_id", -1))) == 167
assert notes.create_index([("town", 1)]) == "town_1"
assert notes.find({"town": "t1"}).explain()["queryPlanner"]["winningPlan"]["inputStage"]["indexName"] == "town_1"
assert [row["n"] for row in notes.aggregate([{"$group": {"_id": "$town", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}])] == [167, 167, 166]
try:
    notes.insert_one({"_id": 1})
    raise AssertionError("a duplicate key was accepted")
except DuplicateKeyError as error:
    assert error.details["keyPattern"] == {"_id": 1}, error.details
try:
    notes.bulk_write([InsertOne({"_id": 1}), UpdateOne({"_id": 2}, {"$set": {"x": 1}})], ordered=False)
    raise AssertionError("a duplicate key was accepted")
except BulkWriteError as error:
    assert error.details["nModified"] == 1, error.details


def pay(session):
    db.accounts.update_one({"_id": "a"}, {"$inc": {"euros": -1}}, session=session)
    db.accounts.update_one({"_id": "b"}, {"$inc": {"euros": 1}}, session=session)


def transfer(_):
    with client.start_session() as session:
        session.with_transaction(pay)


db.accounts.insert_many([{"_id": "a", "euros": 10}, {"_id": "b", "euros": 0}])
with ThreadPoolExecutor(4) as threads:
    list(threads.map(transfer, range(8)))
assert sorted(account["euros"] for account in db.accounts.find()) == [2, 8]
result = client.bulk_write([pymongo.InsertOne(namespace="ada.more", document={"n": 1}), pymongo.DeleteMany(namespace="ada.notes", filter={"_id": {"$lt": 100}})])
assert (result.inserted_count, result.deleted_count) == (1, 100)
files = gridfs.GridFS(db)
assert files.get(files.put(b"grid" * 100_000)).read() == b"grid" * 100_000
try:
    notes.watch().next()
    raise AssertionError("a change stream was opened")
except OperationFailure as error:
    assert error.code == 115, error
client.close()
print("all good")
