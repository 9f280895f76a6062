//! The client-level bulkWrite, the Stable API and compressed messages.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use mongodb::Namespace;
use mongodb::bson::{Bson, Document, bson, doc};
use mongodb::options::{DeleteManyModel, InsertOneModel, UpdateOneModel, WriteModel};

use crate::wire::{Wire, lsid};
use crate::world::{PASSWORD, World};

#[tokio::test(flavor = "multi_thread")]
async fn one_command_writes_to_several_collections() {
    let world = World::start().await;
    world.seat("ada");
    let client = world.client("ada").await;
    let (notes, tags) = (
        Namespace::new("ada", "notes"),
        Namespace::new("ada", "tags"),
    );
    let insert = |namespace: &Namespace, document: Document| {
        WriteModel::from(
            InsertOneModel::builder()
                .namespace(namespace.clone())
                .document(document)
                .build(),
        )
    };
    let update = UpdateOneModel::builder()
        .namespace(tags.clone())
        .filter(doc! { "_id": 9 })
        .update(doc! { "$set": { "x": 1 } })
        .upsert(true)
        .build();
    let delete = DeleteManyModel::builder()
        .namespace(notes.clone())
        .filter(doc! { "n": { "$lt": 2 } })
        .build();
    let result = client
        .bulk_write([
            insert(&notes, doc! { "n": 1 }),
            insert(&notes, doc! { "n": 2 }),
            insert(&tags, doc! { "_id": 1 }),
            update.into(),
            delete.into(),
        ])
        .verbose_results()
        .await
        .unwrap();
    let summary = &result.summary;
    assert_eq!(
        (
            summary.inserted_count,
            summary.upserted_count,
            summary.deleted_count
        ),
        (3, 1, 1)
    );
    assert_eq!(result.update_results[&3].upserted_id, Some(9.into()));
    let error = client
        .bulk_write([insert(&Namespace::new("bob", "c"), doc! {})])
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("not authorized on bob"),
        "{error}"
    );
}

/// Four statements on two collections, the second of which fails.
fn bulk(more: Document) -> Document {
    let mut bulk = doc! {
        "bulkWrite": 1, "$db": "admin", "nsInfo": [{ "ns": "ada.c" }, { "ns": "ada.d" }],
        "ops": [
            { "insert": 0, "document": { "_id": 1 } }, { "insert": 0, "document": { "_id": 1 } },
            { "insert": 1, "document": { "_id": 2 } }, { "update": 0, "filter": { "_id": 1 }, "updateMods": { "$set": { "a": 1 } } },
        ],
    };
    bulk.extend(more);
    bulk
}

#[tokio::test(flavor = "multi_thread")]
async fn results_name_each_statement_and_are_read_in_pages() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let answer = wire.run(&bulk(doc! {})).await;
    let batch = answer
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    assert_eq!(batch.len(), 2, "{answer}");
    assert_eq!(
        batch[0].as_document().unwrap(),
        &doc! { "ok": 1.0, "idx": 0, "n": 1 }
    );
    let second = batch[1].as_document().unwrap();
    assert_eq!(
        (
            second.get_i32("code").unwrap(),
            second.get_i32("idx").unwrap()
        ),
        (11000, 1)
    );
    assert!(
        second
            .get_str("errmsg")
            .unwrap()
            .starts_with("E11000 duplicate key error collection: ada.c")
    );
    assert_eq!(
        (
            answer.get_i32("nErrors").unwrap(),
            answer.get_i32("nInserted").unwrap()
        ),
        (1, 1)
    );
    let unordered = doc! { "ordered": false, "cursor": { "batchSize": 1 } };
    let answer = wire.run(&bulk(unordered)).await;
    let id = answer
        .get_document("cursor")
        .unwrap()
        .get_i64("id")
        .unwrap();
    assert_eq!(answer.get_i32("nModified").unwrap(), 1, "{answer}");
    let more = doc! { "getMore": id, "collection": "$cmd.bulkWrite", "$db": "admin" };
    let rest = wire.run(&more).await;
    let rest = rest.get_document("cursor").unwrap();
    assert_eq!(
        (
            rest.get_i64("id").unwrap(),
            rest.get_array("nextBatch").unwrap().len()
        ),
        (0, 3)
    );
    let only = wire
        .run(&bulk(doc! { "ordered": false, "errorsOnly": true }))
        .await;
    assert_eq!(
        only.get_document("cursor")
            .unwrap()
            .get_array("firstBatch")
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_bulk_says_what_is_wrong() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    for (wrong, code) in [
        (doc! { "ops": [] }, 16),
        (doc! { "ops": [{ "insert": 7, "document": {} }] }, 2),
        (doc! { "ops": [{ "what": 0 }] }, 40415),
        (doc! { "ops": [{ "insert": "0", "document": {} }] }, 14),
        (doc! { "ops": [{ "insert": 0, "document": 5 }] }, 14),
        (doc! { "ops": [{ "insert": 0 }] }, 40414),
        (doc! { "ops": [{ "delete": 0, "filter": null }] }, 40414),
        (
            doc! { "ops": [{ "delete": 0, "filter": {}, "multi": 1 }] },
            14,
        ),
        (
            doc! { "ops": [{ "delete": 0, "filter": {}, "hint": 1 }] },
            9,
        ),
        (
            doc! { "ops": [{ "update": 0, "filter": {}, "updateMods": "x" }] },
            9,
        ),
        (doc! { "ordered": 1 }, 14),
        (doc! { "let": [] }, 14),
        (doc! { "more": 1 }, 40415),
        (doc! { "nsInfo": 5 }, 14),
        (doc! { "nsInfo": [{ "ns": 5 }] }, 14),
        (doc! { "nsInfo": [{ "ns": "ada" }] }, 73),
        (
            doc! { "nsInfo": [{ "ns": "ada.c" }, { "ns": "bob.c" }] },
            13,
        ),
        (doc! { "$db": "ada" }, 13),
    ] {
        let answer = wire.run(&bulk(wrong.clone())).await;
        assert_eq!(
            answer.get_i32("code").unwrap_or(0),
            code,
            "{wrong}: {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn constants_are_variables_of_one_pipeline() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let with = |mods: Bson| doc! { "update": 0, "filter": { "_id": 1 }, "updateMods": mods, "constants": { "v": "$_id" } };
    let pipeline = bson!([{ "$set": { "x": "$$v" } }]);
    let operators = bson!({ "$set": { "y": 1 } });
    let insert = doc! { "insert": 0, "document": { "_id": 1 } };
    let asked = bulk(doc! { "ops": [insert, with(pipeline), with(operators)], "errorsOnly": true });
    let answer = wire.run(&asked).await;
    let number = |field: &str| answer.get_i32(field).unwrap();
    assert_eq!((number("nModified"), number("nErrors")), (1, 1), "{answer}");
    let failed = answer
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    let code = failed[0].as_document().unwrap().get_i32("code").unwrap();
    assert_eq!(code, 51198, "{answer}");
    let found = wire.run(&doc! { "find": "c", "$db": "ada" }).await;
    let batch = found
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    // Its text is no path.
    assert_eq!(
        batch[0].as_document().unwrap(),
        &doc! { "_id": 1, "x": "$_id" }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_bulk_runs_once() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let bulk = doc! {
        "bulkWrite": 1, "$db": "admin", "nsInfo": [{ "ns": "ada.c" }], "lsid": lsid(1), "txnNumber": 1_i64,
        "ops": [
            { "insert": 0, "document": { "n": 0 } }, { "insert": 0, "document": { "n": 0 } },
            { "update": 0, "filter": {}, "updateMods": { "$inc": { "n": 1 } }, "multi": false },
        ],
    };
    for _ in 0..3 {
        let answer = wire.run(&bulk).await;
        assert_eq!(
            (
                answer.get_i32("nInserted").unwrap(),
                answer.get_i32("nModified").unwrap()
            ),
            (2, 1),
            "{answer}"
        );
    }
    let found = wire
        .run(&doc! { "find": "c", "sort": { "n": 1 }, "projection": { "_id": 0 }, "$db": "ada" })
        .await;
    let found = found
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    assert_eq!(
        found.as_slice(),
        [doc! { "n": 0 }.into(), doc! { "n": 1 }.into()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stable_api_is_kept_to_when_asked() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    for (command, code) in [
        (
            doc! { "find": "c", "apiVersion": "1", "apiStrict": true },
            0,
        ),
        (doc! { "distinct": "c", "key": "a", "apiVersion": "1" }, 0),
        (
            doc! { "distinct": "c", "key": "a", "apiVersion": "1", "apiStrict": true },
            323,
        ),
        (doc! { "find": "c", "apiVersion": "2" }, 322),
        (doc! { "find": "c", "apiVersion": 1 }, 14),
        (doc! { "find": "c", "apiStrict": true }, 4_886_600),
    ] {
        let mut sent = command.clone();
        sent.insert("$db", "ada");
        let answer = wire.run(&sent).await;
        assert_eq!(
            answer.get_i32("code").unwrap_or(0),
            code,
            "{command}: {answer}"
        );
    }
}

/// A message around which `OP_COMPRESSED` goes.
fn compressed(command: &Document) -> Vec<u8> {
    let payload = [&[0; 5][..], &bson::serialize_to_vec(command).unwrap()].concat();
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&payload).unwrap();
    let body = encoder.finish().unwrap();
    let whole = i32::try_from(16 + 9 + body.len()).unwrap();
    let size = i32::try_from(payload.len()).unwrap();
    let head = [whole, 7, 0, 2012, 2013, size]
        .map(i32::to_le_bytes)
        .concat();
    [&head[..], &[2], &body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_message_gets_a_compressed_answer() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::open(&world).await;
    let hello = wire
        .run(&doc! { "hello": 1, "$db": "admin", "compression": ["zstd", "lz4", "zlib", "snappy"] })
        .await;
    assert_eq!(
        hello.get_array("compression").unwrap().as_slice(),
        ["zstd".into(), "zlib".into(), "snappy".into()]
    );
    wire.log_in("ada", PASSWORD).await;
    let text = "again and again ".repeat(5_000);
    let insert = doc! { "insert": "c", "documents": [{ "_id": 1, "text": &text }], "$db": "ada" };
    wire.send(&compressed(&insert)).await;
    wire.raw_answer().await;
    wire.send(&compressed(&doc! { "find": "c", "$db": "ada" }))
        .await;
    let answer = wire.raw_answer().await;
    assert_eq!(answer[12..16], 2012_i32.to_le_bytes());
    assert!(answer.len() < 5_000, "{} bytes", answer.len());
    let mut inflated = Vec::new();
    ZlibDecoder::new(&answer[25..])
        .read_to_end(&mut inflated)
        .unwrap();
    let answer = Document::from_reader(&inflated[5..]).unwrap();
    assert!(answer.to_string().contains(&text));
    // A compressor that does not exist, and a size that lies, end the connection.
    for (at, lie) in [(24, 4), (20, 1)] {
        let mut wire = Wire::open(&world).await;
        let mut message = compressed(&doc! { "ping": 1, "$db": "admin" });
        message[at] = lie;
        wire.send(&message).await;
        assert!(wire.answer().await.is_none());
    }
}
