# Writes and reads small and large documents with the compressor that the URI names.
# Ends with "all good".
import sys
import warnings

from pymongo import MongoClient

# A compressor that is not installed is only warned of.
warnings.simplefilter("error")
texts = MongoClient(sys.argv[1]).ada.texts
for n in range(30):
    text = "".join(chr(32 + (at * 7919 + n) % 5000) for at in range(n**3))
    texts.insert_one({"_id": n, "text": text})
    assert texts.find_one({"_id": n})["text"] == text
large = "again and again " * 500_000
texts.insert_one({"_id": "large", "large": large})
assert texts.find_one({"_id": "large"})["large"] == large
assert len(list(texts.find({}, batch_size=3))) == 31
print("all good")
