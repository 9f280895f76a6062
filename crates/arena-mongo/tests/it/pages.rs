//! Pages that are cut because documents are large stay in order.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use futures_util::TryStreamExt as _;
use mongodb::Collection;
use mongodb::bson::{Bson, Decimal128, Document, doc};

use crate::wire::Wire;
use crate::world::World;

const DOCUMENTS: i32 = 60;

/// Some fill a quarter of a page, most are small.
fn document(n: i32) -> Document {
    let bytes = match n % 7 {
        3 => 4_500_000,
        5 => 900_000,
        _ => 2_000,
    };
    doc! { "_id": n * 37 % DOCUMENTS, "n": n, "text": "x".repeat(bytes) }
}

fn numbers(found: &[Document]) -> Vec<i32> {
    found
        .iter()
        .map(|document| document.get_i32("n").unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sorted_documents_stay_sorted_where_a_page_is_full() {
    let world = World::start().await;
    world.seat("ada");
    let client = world.client("ada").await;
    let things: Collection<Document> = client.database("ada").collection("things");
    for n in (0..DOCUMENTS).rev() {
        things.insert_one(document(n)).await.unwrap();
    }
    let all: Vec<i32> = (0..DOCUMENTS).collect();
    let by_number = doc! { "n": 1 };

    // The control: the engine itself goes on with smaller documents where a large one does not fit.
    let engine = world.engine.connect().await;
    let page = r#"SELECT string_agg(number[1], ' ')
        FROM documentdb_api.find_cursor_first_page('ada', '{"find": "things", "sort": {"n": 1}, "batchSize": 1000}'),
        LATERAL regexp_matches(documentdb_core.bson_to_json_string(cursorpage)::text, '"n" : \{ "\$numberInt" : "(\d+)"', 'g') AS number"#;
    let of_engine: String = engine.query_one(page, &[]).await.unwrap().get(0);
    let of_engine: Vec<i32> = of_engine
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect();
    assert!(!of_engine.is_empty());
    assert_ne!(of_engine, all[..of_engine.len()]);

    for size in [10, 1000] {
        let found = things
            .find(doc! {})
            .sort(by_number.clone())
            .batch_size(size);
        let found: Vec<Document> = found.await.unwrap().try_collect().await.unwrap();
        assert_eq!(numbers(&found), all);
        let found = things
            .aggregate([doc! { "$sort": by_number.clone() }])
            .batch_size(size);
        let found: Vec<Document> = found.await.unwrap().try_collect().await.unwrap();
        assert_eq!(numbers(&found), all);
    }

    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let find = things.find(doc! {}).sort(by_number).session(&mut session);
    let mut cursor = find.await.unwrap();
    let found: Vec<Document> = cursor.stream(&mut session).try_collect().await.unwrap();
    assert_eq!(numbers(&found), all);
    session.commit_transaction().await.unwrap();
}

/// A batch's size may be any number; a list's, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_as_large_as_its_number_read_whole() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let things: Collection<Document> = database.collection("things");
    let five = (0..5).map(|n| doc! { "_id": n });
    things.insert_many(five).await.unwrap();
    let decimal = |text: &str| Bson::from(text.parse::<Decimal128>().unwrap());
    for (size, documents, collections) in [
        (Bson::from(0.9), 0, 0),
        (Bson::from(f64::NAN), 0, 0),
        (decimal("1.5"), 2, 1),
        (decimal("2.5"), 2, 1),
        (Bson::from(3.9), 3, 1),
        (Bson::from(f64::INFINITY), 5, 1),
        (Bson::from(i64::MAX), 5, 1),
        (Bson::Null, 5, 1),
    ] {
        let cursor = doc! { "batchSize": size.clone() };
        for (command, expected) in [
            (doc! { "find": "things", "batchSize": size }, documents),
            (
                doc! { "aggregate": "things", "pipeline": [], "cursor": cursor.clone() },
                documents,
            ),
            (
                doc! { "listCollections": 1, "cursor": cursor.clone() },
                collections,
            ),
            (
                doc! { "listIndexes": "things", "cursor": cursor },
                collections,
            ),
        ] {
            let answer = database.run_command(command.clone()).await.unwrap();
            let batch = answer.get_document("cursor").unwrap();
            let batch = batch.get_array("firstBatch").unwrap();
            assert_eq!(batch.len(), expected, "{command}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_page_of_no_size_is_the_rest_and_ends_with_its_collection() {
    let world = World::start().await;
    world.seat("ada");
    let ada = world.client("ada").await.database("ada");
    let things = ada.collection::<Document>("things");
    let documents = (0..10).map(|n| doc! { "_id": n });
    things.insert_many(documents).await.unwrap();
    // By hand: a driver may read on in another session of its own.
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let open = async |wire: &mut Wire| {
        let find = doc! { "find": "things", "batchSize": 2, "$db": "ada" };
        let opened = wire.run(&find).await;
        let cursor = opened.get_document("cursor").unwrap();
        cursor.get_i64("id").unwrap()
    };
    for size in [Bson::Int32(0), Bson::Double(0.5), Bson::Double(f64::NAN)] {
        let id = open(&mut wire).await;
        let more = doc! { "getMore": id, "collection": "things", "batchSize": size, "$db": "ada" };
        let rest = wire.run(&more).await;
        let cursor = rest.get_document("cursor").unwrap();
        let batch = cursor.get_array("nextBatch").unwrap();
        assert_eq!((batch.len(), cursor.get_i64("id").unwrap()), (8, 0));
    }
    let id = open(&mut wire).await;
    things.drop().await.unwrap();
    things.insert_one(doc! { "_id": 11 }).await.unwrap();
    let more = doc! { "getMore": id, "collection": "things", "$db": "ada" };
    for code in [175, 43] {
        assert_eq!(wire.run(&more).await.get_i32("code").unwrap(), code);
    }
}

/// Documents of other sizes than their neighbours go where there is room, and changed ones to the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_read_as_it_was_filled() {
    let world = World::start().await;
    world.seat("ada");
    let ada = world.client("ada").await.database("ada");
    let size = |n: i32| usize::try_from(n * 7919 % 1500).unwrap();
    let document = |n: i32| doc! { "_id": n, "n": n, "text": "x".repeat(size(n)) };
    let read = |name: &'static str| {
        let things = ada.collection::<Document>(name);
        async move {
            let found = things.find(doc! {}).await.unwrap();
            numbers(&found.try_collect::<Vec<Document>>().await.unwrap())
        }
    };
    let growing = ada.collection::<Document>("growing");
    growing.insert_many((0..300).map(document)).await.unwrap();
    let longer = doc! { "$set": { "text": "y".repeat(2_000) } };
    growing
        .update_many(doc! { "_id": { "$lt": 20 } }, longer)
        .await
        .unwrap();
    assert_eq!(read("growing").await, (0..300).collect::<Vec<i32>>());

    // The control: the first two the other way round tell no order, and the engine's is another one.
    let other = ada.collection::<Document>("other");
    let mixed: Vec<i32> = [1, 0].into_iter().chain(2..300).collect();
    other
        .insert_many(mixed.iter().copied().map(document))
        .await
        .unwrap();
    assert_ne!(read("other").await, mixed);
}

/// MongoDB does not look for another document where a page is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_exactly_full_leaves_its_cursor_open() {
    let world = World::start().await;
    world.seat("ada");
    let ada = world.client("ada").await.database("ada");
    let things = ada.collection::<Document>("things");
    let documents = (0..4).map(|n| doc! { "_id": n, "n": n });
    things.insert_many(documents).await.unwrap();
    // By hand: a driver may read on in another session of its own.
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let mut page_of = async |mut command: Document, batch: &str| {
        command.insert("$db", "ada");
        let answer = wire.run(&command).await;
        let cursor = answer.get_document("cursor").unwrap();
        let count = cursor.get_array(batch).unwrap().len();
        (count, cursor.get_i64("id").unwrap())
    };
    let more =
        |id: i64, size: i32| doc! { "getMore": id, "collection": "things", "batchSize": size };
    let sized = doc! { "batchSize": 4 };
    for command in [
        doc! { "find": "things", "batchSize": 4 },
        doc! { "find": "things", "batchSize": 4, "limit": 0, "sort": { "n": -1 } },
        doc! { "aggregate": "things", "pipeline": [], "cursor": sized.clone() },
        doc! { "aggregate": "things", "pipeline": [{ "$limit": 4 }], "cursor": sized },
    ] {
        let (count, id) = page_of(command.clone(), "firstBatch").await;
        assert!(count == 4 && id != 0, "{command}");
        assert_eq!(page_of(more(id, 4), "nextBatch").await, (0, 0));
    }
    let (_, id) = page_of(doc! { "find": "things", "batchSize": 2 }, "firstBatch").await;
    assert_eq!(page_of(more(id, 2), "nextBatch").await, (2, id));
    assert_eq!(page_of(more(id, 2), "nextBatch").await, (0, 0));

    // Not so where there cannot be more.
    let by_id = doc! { "find": "things", "filter": { "_id": 1 }, "batchSize": 1 };
    assert_eq!(page_of(by_id, "firstBatch").await, (1, 0));
    let single = doc! { "find": "things", "batchSize": 4, "singleBatch": true };
    assert_eq!(page_of(single, "firstBatch").await, (4, 0));
    let limited = doc! { "find": "things", "batchSize": 4, "limit": 4 };
    assert_eq!(page_of(limited, "firstBatch").await, (4, 0));
    let limited = doc! { "find": "things", "batchSize": 2, "limit": 4 };
    let (_, id) = page_of(limited, "firstBatch").await;
    assert_eq!(page_of(more(id, 2), "nextBatch").await, (2, 0));
}
