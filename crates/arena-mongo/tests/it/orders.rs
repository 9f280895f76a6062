//! The order in which documents come where nobody asks for one.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use mongodb::{Collection, Database};

use crate::world::World;

const DOCUMENTS: i32 = 400;

/// Numbers of the first five documents.
async fn first(things: &Collection<Document>, filter: Document) -> Vec<i32> {
    let found = things.find(filter).limit(5).await.unwrap();
    let found: Vec<Document> = found.try_collect().await.unwrap();
    found
        .iter()
        .map(|document| document.get_i32("n").unwrap())
        .collect()
}

/// A collection whose documents were inserted in another order than that of their `_id`s.
async fn scattered(database: &Database) -> Collection<Document> {
    let things: Collection<Document> = database.collection("things");
    let documents = (0..DOCUMENTS).map(|n| {
        let id = format!("id {:04}", n * 7919 % DOCUMENTS);
        doc! { "_id": id, "n": n, "town": n % 7, "text": "x".repeat(500) }
    });
    things.insert_many(documents).await.unwrap();
    things
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_documents_are_those_that_were_inserted_first() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let things = scattered(&database).await;
    // Some time after, the engine looks at what there is; from then on it would read by `_id`.
    let engine = world.engine.connect().await;
    engine.batch_execute("ANALYZE").await.unwrap();
    assert_eq!(first(&things, doc! {}).await, [0, 1, 2, 3, 4]);
    assert_eq!(
        first(&things, doc! { "town": 3 }).await,
        [3, 10, 17, 24, 31]
    );
    let one = things.find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(one.get_i32("n").unwrap(), 0);
    assert_eq!(
        first(&things, doc! { "n": { "$gte": 0 } }).await,
        [0, 1, 2, 3, 4]
    );
    let either = doc! { "$or": [{ "town": 3 }, { "n": { "$in": [4, 5] } }] };
    assert_eq!(first(&things, either).await, [3, 4, 5, 10, 17]);
    // The control: so the engine reads when it is not told.
    let paged = things
        .find(doc! { "n": { "$gte": 0 } })
        .limit(5)
        .batch_size(1)
        .await;
    let paged: Vec<Document> = paged.unwrap().try_collect().await.unwrap();
    let paged: Vec<&str> = paged
        .iter()
        .map(|one| one.get_str("_id").unwrap())
        .collect();
    assert_eq!(
        paged,
        ["id 0000", "id 0001", "id 0002", "id 0003", "id 0004"]
    );
    // What is asked for comes first, and no setting outlives its statement.
    let by_id = things.find(doc! {}).sort(doc! { "_id": 1 }).limit(2).await;
    let by_id: Vec<Document> = by_id.unwrap().try_collect().await.unwrap();
    assert_eq!(by_id[0].get_str("_id").unwrap(), "id 0000");
    let explained = doc! { "explain": { "find": "things", "filter": { "_id": "id 0001" } } };
    let explained = database.run_command(explained).await.unwrap().to_string();
    assert!(!explained.contains("COLLSCAN"), "{explained}");
}

/// Numbers of the documents that a pipeline gives.
async fn piped(things: &Collection<Document>, pipeline: Vec<Document>) -> Vec<i32> {
    let found = things.aggregate(pipeline).batch_size(3).await.unwrap();
    let found: Vec<Document> = found.try_collect().await.unwrap();
    found
        .iter()
        .map(|document| document.get_i32("n").unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_take_first_what_was_inserted_first() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let things = scattered(&database).await;
    let engine = world.engine.connect().await;
    engine.batch_execute("ANALYZE").await.unwrap();
    assert_eq!(
        piped(&things, vec![doc! { "$limit": 5 }]).await,
        [0, 1, 2, 3, 4]
    );
    let cut = vec![doc! { "$skip": 2 }, doc! { "$limit": 2 }];
    assert_eq!(piped(&things, cut).await, [2, 3]);
    for filter in [
        doc! { "town": 3 },
        doc! { "town": { "$gt": 2, "$lt": 4 } },
        doc! { "$and": [{ "town": { "$in": [3] } }] },
    ] {
        let matched = vec![
            doc! { "$match": filter },
            doc! { "$set": { "x": 1 } },
            doc! { "$limit": 4 },
        ];
        assert_eq!(piped(&things, matched).await, [3, 10, 17, 24]);
    }
    let grouped = vec![
        doc! { "$match": { "n": { "$gte": 7 } } },
        doc! { "$group": { "_id": "$town", "n": { "$first": "$n" } } },
        doc! { "$sort": { "_id": 1 } },
    ];
    assert_eq!(piped(&things, grouped).await, [7, 8, 9, 10, 11, 12, 13]);
    // The control: so the engine reads when it is not told.
    let joining = doc! { "from": "nothing", "localField": "n", "foreignField": "n", "as": "x" };
    let untold = things.aggregate(vec![doc! { "$limit": 1 }, doc! { "$lookup": joining }]);
    let untold: Vec<Document> = untold.await.unwrap().try_collect().await.unwrap();
    assert_eq!(untold[0].get_str("_id").unwrap(), "id 0000");
    // What an index finds comes in its order.
    let by_id = vec![
        doc! { "$match": { "_id": { "$gte": "id 0100" } } },
        doc! { "$limit": 1 },
        doc! { "$set": { "n": { "$toInt": { "$substrCP": ["$_id", 3, 4] } } } },
    ];
    assert_eq!(piped(&things, by_id).await, [100]);
    let sorted = vec![
        doc! { "$sort": { "_id": -1 } },
        doc! { "$limit": 1 },
        doc! { "$set": { "n": { "$strLenCP": "$_id" } } },
    ];
    assert_eq!(piped(&things, sorted).await, [7]);
}
