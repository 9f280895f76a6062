//! Texts where they meet transactions, cursors, batches of writes and limits.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use mongodb::{Collection, Database};

use crate::world::World;

async fn indexed(database: &Database, texts: &[&str]) -> Collection<Document> {
    let things: Collection<Document> = database.collection("things");
    let index = doc! { "key": { "text": "text" }, "name": "words" };
    let command = doc! { "createIndexes": "things", "indexes": [index] };
    database.run_command(command).await.unwrap();
    let documents = (0_i32..)
        .zip(texts)
        .map(|(id, text)| doc! { "_id": id, "text": *text });
    things.insert_many(documents).await.unwrap();
    things
}

fn search(words: &str) -> Document {
    doc! { "$text": { "$search": words } }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_finds_its_own_texts_and_nobody_else_does() {
    let world = World::start().await;
    world.seat("ada");
    let client = world.client("ada").await;
    let things = indexed(&client.database("ada"), &["red fox", "blue dog"]).await;
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let inserted = doc! { "_id": 9, "text": "red cat" };
    things
        .insert_one(inserted)
        .session(&mut session)
        .await
        .unwrap();
    let changed = doc! { "$set": { "seen": true } };
    let update = things.update_many(search("red"), changed);
    let updated = update.session(&mut session).await.unwrap();
    assert_eq!(updated.modified_count, 2);
    assert_eq!(things.count_documents(search("red")).await.unwrap(), 1);
    session.abort_transaction().await.unwrap();
    assert_eq!(things.count_documents(search("red")).await.unwrap(), 1);
    let seen = things.count_documents(doc! { "seen": true }).await.unwrap();
    assert_eq!(seen, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_the_texts_comes_in_order_over_many_pages() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let texts: Vec<String> = (1..=300)
        .map(|length| format!("fox{}", " dog".repeat(length)))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let things = indexed(&database, &texts).await;
    let score = doc! { "score": { "$meta": "textScore" } };
    let find = things.find(search("fox")).sort(score.clone());
    let find = find.projection(score).batch_size(7);
    let found: Vec<Document> = find.await.unwrap().try_collect().await.unwrap();
    let ids: Vec<i32> = found
        .iter()
        .map(|one| one.get_i32("_id").unwrap())
        .collect();
    assert_eq!(ids, (0..300).collect::<Vec<_>>());
    let scores: Vec<f64> = found
        .iter()
        .map(|one| one.get_f64("score").unwrap())
        .collect();
    assert!(scores.is_sorted_by(|one, other| one > other), "{scores:?}");
    assert_eq!(scores[0], 0.75);
    let unsorted = things.find(search("fox")).batch_size(7).await.unwrap();
    let unsorted: Vec<Document> = unsorted.try_collect().await.unwrap();
    let others: Vec<i32> = unsorted
        .iter()
        .map(|one| one.get_i32("_id").unwrap())
        .collect();
    assert_eq!(others, ids);
    assert!(
        unsorted.iter().all(|one| one.len() == 2),
        "no helper is left"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_one_batch_see_what_those_before_them_wrote() {
    let world = World::start().await;
    world.seat("ada");
    let client = world.client("ada").await;
    let database = client.database("ada");
    indexed(&database, &["red fox", "blue dog"]).await;
    let statement = |words: &str, text: &str| doc! { "q": search(words), "u": { "$set": { "text": text } }, "multi": true };
    let updates = vec![
        statement("fox", "green dog"),
        statement("dog", "grey cat"),
        statement("grey -cat", "nothing"),
    ];
    let update = doc! { "update": "things", "updates": updates };
    let answer = database.run_command(update).await.unwrap();
    assert_eq!(answer.get_i32("n").unwrap(), 3);
    let operations = vec![
        doc! { "delete": 0, "filter": search("cat"), "multi": false },
        doc! { "update": 0, "filter": search("cat"), "updateMods": { "$set": { "last": true } }, "multi": true },
    ];
    let write = doc! { "bulkWrite": 1, "ops": operations, "nsInfo": [{ "ns": "ada.things" }] };
    let answer = client.database("admin").run_command(write).await.unwrap();
    assert_eq!(answer.get_i32("nDeleted").unwrap(), 1);
    assert_eq!(answer.get_i32("nModified").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_takes_too_long_is_ended() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let long = "red fox and blue dog ".repeat(40_000);
    indexed(&database, &[long.as_str(); 12]).await;
    let find = doc! { "find": "things", "filter": search("cat"), "maxTimeMS": 150 };
    let error = database.run_command(find).await.unwrap_err();
    assert!(error.to_string().contains("exceeded time limit"), "{error}");
}
