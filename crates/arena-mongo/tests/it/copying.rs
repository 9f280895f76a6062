//! `$out` of a whole collection: rows are copied as they are, and nothing of it
//! can be told from what the engine's own pipeline would have made.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;
use mongodb::{Collection, Database};

use crate::world::World;

/// Written in another order than that of `_id`, and one of them changed afterwards.
async fn filled(database: &Database, count: i32) -> Collection<Document> {
    let things = database.collection::<Document>("things");
    let documents = (0..count).map(|number| {
        let id = if number % 2 == 0 { Bson::Int32(count - number) } else { Bson::String(number.to_string()) };
        doc! { "_id": id, "n": number, "text": "as long as it has to be ".repeat(150), "none": Bson::Null }
    });
    things.insert_many(documents).await.unwrap();
    things
        .update_one(doc! { "n": 1 }, doc! { "$set": { "changed": true } })
        .await
        .unwrap();
    things
}

async fn all(collection: &Collection<Document>) -> Vec<Document> {
    let found = collection.find(doc! {}).await.unwrap();
    found.try_collect().await.unwrap()
}

/// Copies a collection, through the engine's pipeline where there is a second stage; none of the tests has an index
/// on its field, whose order the copy would have.
async fn out(from: &Collection<Document>, to: &str, is_whole: bool) {
    let every = (!is_whole).then(|| doc! { "$match": { "text": { "$gte": "" } } });
    let stages = every.into_iter().chain([doc! { "$out": to }]);
    let answer = from.aggregate(stages).await.unwrap();
    assert_eq!(
        answer.try_collect::<Vec<_>>().await.unwrap(),
        Vec::<Document>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_what_the_pipeline_makes() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let things = filled(&database, 300).await;
    let indexed = doc! { "createIndexes": "things", "indexes": [{ "key": { "n": 1 }, "name": "n_1", "unique": true }] };
    database.run_command(indexed).await.unwrap();
    for (name, is_whole) in [("copied", true), ("written", false)] {
        out(&things, name, is_whole).await;
        let copy = database.collection::<Document>(name);
        assert_eq!(all(&copy).await, all(&things).await, "{name}");
        assert_eq!(copy.list_index_names().await.unwrap(), ["_id_"], "{name}");
        // It is a collection of its own, with the index over `_id`.
        let again = copy.insert_one(doc! { "_id": 300 }).await.unwrap_err();
        assert!(
            again.to_string().contains(&format!(
                "E11000 duplicate key error collection: ada.{name}"
            )),
            "{again}"
        );
        copy.delete_many(doc! { "n": { "$lt": 100 } })
            .await
            .unwrap();
        assert_eq!(copy.count_documents(doc! {}).await.unwrap(), 200, "{name}");
        assert_eq!(
            things.count_documents(doc! {}).await.unwrap(),
            300,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_replaced_and_keeps_its_indexes() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let things = filled(&database, 20).await;
    let target = database.collection::<Document>("target");
    target.insert_one(doc! { "_id": "old" }).await.unwrap();
    let indexed =
        doc! { "createIndexes": "target", "indexes": [{ "key": { "n": 1 }, "name": "n_1" }] };
    database.run_command(indexed).await.unwrap();
    out(&things, "target", true).await;
    assert_eq!(all(&target).await, all(&things).await);
    assert_eq!(target.list_index_names().await.unwrap(), ["_id_", "n_1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_copied_as_what_it_shows() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    filled(&database, 20).await;
    let view = doc! { "create": "few", "viewOn": "things", "pipeline": [{ "$match": { "n": { "$lt": 3 } } }] };
    database.run_command(view).await.unwrap();
    out(&database.collection("few"), "copied", true).await;
    let copy = database.collection::<Document>("copied");
    assert_eq!(copy.count_documents(doc! {}).await.unwrap(), 3);
}

/// Whoever comes second replaces what the first one made; both are told that it was done.
#[tokio::test(flavor = "multi_thread")]
async fn copies_at_once_leave_one_whole_copy() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let things = filled(&database, 200).await;
    for round in 0..5 {
        let target = format!("target-{round}");
        let copies = (0..4).map(|_| out(&things, &target, true));
        futures_util::future::join_all(copies).await;
        let copy = database.collection::<Document>(&target);
        assert_eq!(all(&copy).await, all(&things).await, "{target}");
    }
}
