//! The order in which documents come where nobody asks for one.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use futures_util::TryStreamExt as _;
use mongodb::Collection;
use mongodb::bson::{Document, doc};

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

#[tokio::test(flavor = "multi_thread")]
async fn the_first_documents_are_those_that_were_inserted_first() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let things: Collection<Document> = database.collection("things");
    let documents = (0..DOCUMENTS).map(|n| {
        let id = format!("id {:04}", n * 7919 % DOCUMENTS);
        doc! { "_id": id, "n": n, "town": n % 7, "text": "x".repeat(500) }
    });
    things.insert_many(documents).await.unwrap();
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
    // The control: so the engine reads when it is not told.
    let range = first(&things, doc! { "n": { "$gte": 0 } }).await;
    assert_ne!(range, [0, 1, 2, 3, 4]);
    // What is asked for comes first, and no setting outlives its statement.
    let by_id = things.find(doc! {}).sort(doc! { "_id": 1 }).limit(2).await;
    let by_id: Vec<Document> = by_id.unwrap().try_collect().await.unwrap();
    assert_eq!(by_id[0].get_str("_id").unwrap(), "id 0000");
    let explained = doc! { "explain": { "find": "things", "filter": { "_id": "id 0001" } } };
    let explained = database.run_command(explained).await.unwrap().to_string();
    assert!(!explained.contains("COLLSCAN"), "{explained}");
}
