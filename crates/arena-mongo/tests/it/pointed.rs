//! Finds by one `_id`, which have a way of their own through the front.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::time::Duration;

use arena_mongo::{Quota, RoleName};
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc, oid::ObjectId};

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::world::{World, code};

/// A find's answer without its times, its fields in their order; a cursor's number is told from none only.
async fn answered(database: &mongodb::Database, find: Document) -> Result<RawDocumentBuf, i32> {
    let answer = database.run_command(find).await;
    let Ok(mut answer) = answer else {
        return Err(code(answer));
    };
    answer.remove("$clusterTime");
    answer.remove("operationTime");
    let cursor = answer.get_document_mut("cursor").expect("a cursor");
    let is_open = cursor.get_i64("id").expect("its number") != 0;
    cursor.insert("id", is_open);
    Ok(RawDocumentBuf::try_from(&answer).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_find_by_id_is_answered_as_one_with_an_option_that_changes_nothing() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let ids = [
        ObjectId::from_bytes([7; 12]).into(),
        Bson::from("text"),
        "".into(),
        "$a".into(),
        7.into(),
        i64::MAX.into(),
        0.5.into(),
        DateTime::from_millis(-1).into(),
        true.into(),
        Bson::Null,
        doc! { "a": 1 }.into(),
    ];
    let documents = ids.iter().map(|id| doc! { "_id": id, "parts": [1, 2, 3] });
    let collection = database.collection::<Document>("c");
    collection.insert_many(documents).await.unwrap();
    for (view, stage) in [
        ("several", doc! { "$unwind": "$parts" }),
        ("less", doc! { "$unset": "parts" }),
    ] {
        let command = doc! { "create": view, "viewOn": "c", "pipeline": [stage] };
        database.run_command(command).await.unwrap();
    }
    let missing = [8.into(), Bson::from(7_i64), false.into(), "texts".into()];
    let (mut found, mut refused) = (0, 0);
    for collection in ["c", "several", "less", "nothing", "a$b", ""] {
        for id in ids.iter().chain(&missing) {
            for options in [
                doc! {},
                doc! { "limit": 1, "singleBatch": true },
                doc! { "limit": 2_i64 },
                doc! { "limit": -1 },
                doc! { "batchSize": 0 },
                doc! { "batchSize": 1 },
                doc! { "comment": "why", "maxTimeMS": 60_000 },
            ] {
                let mut find = doc! { "find": collection, "filter": { "_id": id } };
                find.extend(options);
                let answer = answered(&database, find.clone()).await;
                let mut long = find.clone();
                long.insert("allowDiskUse", true);
                assert_eq!(answer, answered(&database, long).await, "{find}");
                // What is asked for again is looked up in another way.
                for _ in 0..2 {
                    assert_eq!(answer, answered(&database, find.clone()).await, "{find}");
                }
                match answer {
                    Ok(answer) => {
                        let page = answer.get_document("cursor").unwrap();
                        found += page.get_array("firstBatch").unwrap().into_iter().count();
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    // Of 12 ids (7 is found as a long, too), each as often as it is there and was asked for.
    assert_eq!(found, 12 * (5 + (3 + 1 + 2 + 1 + 3) + 5));
    // Names that are none, and limits below none.
    assert_eq!(refused, 15 * (2 * 7 + 4));
    let find = doc! { "find": "c", "filter": { "_id": 7 } };
    answered(&database, find).await.unwrap();
    assert!(looks_up(&world).await);
}

/// Whether a connection of the front has looked a document up in its table at last.
async fn looks_up(world: &World) -> bool {
    let engine = world.engine.connect().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'arena-mongo' \
        AND query LIKE 'SELECT document FROM documentdb_data.documents\\_%'";
    engine.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0
}

/// What the document 1 of a collection says, asked so often that it is looked up.
async fn said(database: &mongodb::Database, collection: &str) -> Option<String> {
    let collection = database.collection::<Document>(collection);
    let mut said = Vec::new();
    for _ in 0..4 {
        let found = collection.find_one(doc! { "_id": 1 }).await.unwrap();
        said.push(found.map(|found| found.get_str("says").unwrap().to_owned()));
    }
    said.dedup();
    assert_eq!(said.len(), 1, "one says now this, now that: {said:?}");
    said.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_means_another_collection_finds_what_that_one_has() {
    let world = World::start().await;
    world.user("ada", &[(RoleName::DbOwner, "ada")]);
    let client = world.client("ada").await;
    let database = client.database("ada");
    let run = async |command: Document| drop(database.run_command(command).await.unwrap());
    let insert = async |collection: &str, says: &str| {
        let collection = database.collection::<Document>(collection);
        let document = doc! { "_id": 1, "says": says };
        collection.insert_one(document).await.unwrap();
    };
    let rename = async |from: &str, to: &str, drops: bool| {
        let command = doc! { "renameCollection": format!("ada.{from}"), "to": format!("ada.{to}"), "dropTarget": drops };
        let admin = client.database("admin");
        admin.run_command(command).await.unwrap();
    };
    let says = |text: &str| Some(text.to_owned());
    insert("a", "first").await;
    assert_eq!(said(&database, "a").await, says("first"));
    assert!(looks_up(&world).await);

    rename("a", "b", false).await;
    assert_eq!(said(&database, "a").await, None);
    assert_eq!(said(&database, "b").await, says("first"));
    insert("a", "second").await;
    assert_eq!(said(&database, "a").await, says("second"));
    rename("b", "a", true).await;
    assert_eq!(said(&database, "a").await, says("first"));
    assert_eq!(said(&database, "b").await, None);

    run(doc! { "drop": "a" }).await;
    assert_eq!(said(&database, "a").await, None);
    insert("a", "third").await;
    assert_eq!(said(&database, "a").await, says("third"));
    run(doc! { "aggregate": "a", "pipeline": [{ "$set": { "says": "out" } }, { "$out": "a" }], "cursor": {} }).await;
    assert_eq!(said(&database, "a").await, says("out"));

    run(doc! { "drop": "a" }).await;
    insert("b", "from a view").await;
    run(doc! { "create": "a", "viewOn": "b", "pipeline": [] }).await;
    assert_eq!(said(&database, "a").await, says("from a view"));
    let pipeline = [doc! { "$set": { "says": "changed" } }];
    run(doc! { "collMod": "a", "viewOn": "b", "pipeline": pipeline.to_vec() }).await;
    assert_eq!(said(&database, "a").await, says("changed"));
    run(doc! { "drop": "a" }).await;
    insert("a", "fourth").await;
    assert_eq!(said(&database, "a").await, says("fourth"));

    database.drop().await.unwrap();
    assert_eq!(said(&database, "a").await, None);
    insert("a", "last").await;
    assert_eq!(said(&database, "a").await, says("last"));
    let collection = database.collection::<Document>("a");
    let update = doc! { "$set": { "says": "updated" } };
    collection.update_one(doc! {}, update).await.unwrap();
    assert_eq!(said(&database, "a").await, says("updated"));
}

/// While others ask on and on, so that what they learn meets each change at every moment.
#[tokio::test(flavor = "multi_thread")]
async fn collections_that_swap_names_are_found_by_the_new_ones() {
    let world = World::start().await;
    world.seat("ada");
    let client = world.client("ada").await;
    let database = client.database("ada");
    for name in ["a", "b"] {
        let document = doc! { "_id": 1, "says": name };
        let collection = database.collection::<Document>(name);
        collection.insert_one(document).await.unwrap();
    }
    let mut others = JoinSet::new();
    for name in ["a", "b", "c", "a", "b"] {
        let collection = database.collection::<Document>(name);
        others.spawn(async move {
            loop {
                collection.find_one(doc! { "_id": 1 }).await.unwrap();
            }
        });
    }
    let admin = client.database("admin");
    for turn in 1..=40 {
        for (from, to) in [("a", "c"), ("b", "a"), ("c", "b")] {
            let command =
                doc! { "renameCollection": format!("ada.{from}"), "to": format!("ada.{to}") };
            admin.run_command(command).await.unwrap();
            assert_eq!(said(&database, from).await, None, "{turn}: {from}");
        }
        let (in_a, in_b) = if turn % 2 == 0 {
            ("a", "b")
        } else {
            ("b", "a")
        };
        assert_eq!(said(&database, "a").await.as_deref(), Some(in_a), "{turn}");
        assert_eq!(said(&database, "b").await.as_deref(), Some(in_b), "{turn}");
    }
    others.shutdown().await;
}

/// The find was sent before the collection was renamed, and is answered after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_find_that_waits_while_its_collection_is_renamed_finds_nothing_of_it() {
    let world = World::start().await;
    world.seat("ada");
    let client = world.client("ada").await;
    let database = client.database("ada");
    let collection = database.collection::<Document>("a");
    let document = doc! { "_id": 1, "says": "first" };
    collection.insert_one(document).await.unwrap();
    said(&database, "a").await;
    let engine = world.engine.connect().await;
    let sql = "SELECT 'documentdb_data.documents_' || collection_id \
        FROM documentdb_api_catalog.collections WHERE collection_name = 'a'";
    let table: String = engine.query_one(sql, &[]).await.unwrap().get(0);
    let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
    engine.batch_execute(&lock).await.unwrap();
    let find = tokio::spawn(async move { collection.find_one(doc! { "_id": 1 }).await });
    let observer = world.engine.connect().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
        AND query LIKE 'SELECT document FROM documentdb_data.documents\\_%'";
    let waits = async || observer.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0;
    let waiting = async {
        while !waits().await {
            tokio::task::yield_now().await;
        }
    };
    let waiting = timeout(Duration::from_secs(60), waiting).await;
    waiting.expect("the find is looked up at last");
    let rename = doc! { "renameCollection": "ada.a", "to": "ada.b" };
    let admin = client.database("admin");
    admin.run_command(rename).await.unwrap();
    engine.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(find.await.unwrap().unwrap(), None);
    assert_eq!(said(&database, "b").await.as_deref(), Some("first"));
}

/// A connection keeps no lookups for all of them.
#[tokio::test(flavor = "multi_thread")]
async fn more_collections_than_a_connection_remembers_are_found_in() {
    let quota = Quota {
        collections: 400,
        indexes: 400,
        ..Quota::default()
    };
    let world = World::with_quota(quota).await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let names: Vec<String> = (0..260).map(|number| format!("c{number}")).collect();
    for name in &names {
        let document = doc! { "_id": 1, "says": name };
        let collection = database.collection::<Document>(name);
        collection.insert_one(document).await.unwrap();
    }
    for dropped in 0..2 {
        for name in &names[dropped..] {
            assert_eq!(said(&database, name).await.as_ref(), Some(name));
        }
        assert_eq!(said(&database, "c258").await.as_deref(), Some("c258"));
        assert!(!looks_up(&world).await, "there was no room for it");
        let collection = database.collection::<Document>(&names[dropped]);
        collection.drop().await.unwrap();
        assert_eq!(said(&database, &names[dropped]).await, None);
        assert_eq!(said(&database, "c259").await.as_deref(), Some("c259"));
        assert!(
            looks_up(&world).await,
            "room is made when collections change"
        );
    }
}
