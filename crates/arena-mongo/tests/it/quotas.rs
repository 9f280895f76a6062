//! What one user may take: refused with what to do, measured by the engine's own
//! counts, and raised at once on connections that are open.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::time::{Duration, Instant};

use arena_mongo::{Quota, Stored};
use mongodb::bson::{Document, doc};
use mongodb::{Collection, Database};

use crate::crud::slow_pipeline;
use crate::world::{World, code, code_of};

const MEGABYTE: u64 = 1024 * 1024;
const OVER: i32 = 8000;

/// Longer than a look is good for, and shorter than anybody's patience.
const SOON: Duration = Duration::from_secs(10);

async fn ada(world: &World) -> Database {
    world.seat("ada");
    world.client("ada").await.database("ada")
}

fn documents(count: u32, bytes: usize) -> Vec<Document> {
    // Text that does not compress well, so that bytes stored are bytes sent.
    let mut seed = 1_u64;
    let mut text = || {
        let letters = (0..bytes).map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(b'0' + u8::try_from((seed >> 33) % 64).unwrap())
        });
        letters.collect::<String>()
    };
    (0..count).map(|_| doc! { "text": text() }).collect()
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done().await {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn stored(world: &World) -> Stored {
    let usage = world.guard.usage();
    usage
        .get("ada")
        .and_then(|usage| usage.stored)
        .unwrap_or_default()
}

/// Bytes of a database as the engine's own statistics say.
async fn measured(world: &World, database: &str) -> u64 {
    let root = world.client("root").await.database(database);
    let statistics = root.run_command(doc! { "dbStats": 1 }).await.unwrap();
    format!("{:.0}", statistics.get_f64("totalSize").unwrap())
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_database_refuses_writes_says_why_and_can_be_emptied() {
    let quota = Quota {
        bytes: 8 * MEGABYTE,
        ..Quota::default()
    };
    let world = World::with_quota(quota).await;
    let ada = ada(&world).await;
    let things: Collection<Document> = ada.collection("things");
    let refused = loop {
        match things.insert_many(documents(200, 1000)).await {
            Ok(_) => {}
            Err(error) => break error,
        }
        assert!(
            measured(&world, "ada").await < 16 * MEGABYTE,
            "never refused"
        );
    };
    assert_eq!(code_of(&refused), OVER);
    let said = refused.to_string();
    for told in [
        "'ada' may hold 8 MB",
        "Delete documents",
        "ask a facilitator",
    ] {
        assert!(said.contains(told), "{said}");
    }
    // It went neither over nor was it refused long before.
    let held = measured(&world, "ada").await;
    assert!((5 * MEGABYTE..9 * MEGABYTE).contains(&held), "{held}");
    // Reading, deleting and dropping go on; growing by another way does not.
    assert!(things.count_documents(doc! {}).await.unwrap() > 1000);
    world.guard.set_quota(
        "ada",
        Quota {
            bytes: held,
            ..quota
        },
    );
    for command in [
        doc! { "update": "things", "updates": [{ "q": {}, "u": { "$set": { "more": "x" } }, "multi": true }] },
        doc! { "findAndModify": "things", "query": {}, "update": { "$set": { "more": "x" } } },
        doc! { "createIndexes": "things", "indexes": [{ "key": { "text": 1 }, "name": "text_1" }] },
        doc! { "create": "others" },
        doc! { "aggregate": "things", "pipeline": [{ "$out": "copy" }], "cursor": {} },
        doc! { "aggregate": "things", "pipeline": [{ "$set": { "_id": { "$concat": ["x", "$text"] } } }, { "$merge": "things" }], "cursor": {} },
    ] {
        assert_eq!(
            code(ada.run_command(command.clone()).await),
            OVER,
            "{command}"
        );
    }
    // What is deleted in the middle of files is given back too: every second document goes.
    things
        .delete_many(doc! { "text": { "$lt": "P" } })
        .await
        .unwrap();
    let again = Instant::now();
    until("the space of deleted documents", async || {
        things.insert_one(doc! { "after": 1 }).await.is_ok()
    })
    .await;
    eprintln!("writes went on {:?} after the deletion", again.elapsed());
    things.drop().await.unwrap();
    ada.collection::<Document>("other")
        .insert_many(documents(200, 1000))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_large_insert_cannot_go_far_over() {
    let world = World::with_quota(Quota {
        bytes: 4 * MEGABYTE,
        ..Quota::default()
    })
    .await;
    let ada = ada(&world).await;
    let error = ada
        .collection::<Document>("things")
        .insert_many(documents(40_000, 1000))
        .await
        .unwrap_err();
    assert_eq!(code_of(&error), OVER);
    assert!(measured(&world, "ada").await < 5 * MEGABYTE);
    // The negative control: with a quota that large the same insert passes.
    world.guard.set_quota("ada", Quota::default());
    ada.collection::<Document>("things")
        .insert_many(documents(10_000, 1000))
        .await
        .unwrap();
    assert!(measured(&world, "ada").await > 9 * MEGABYTE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_command_that_writes_much_is_ended_and_undone() {
    let world = World::with_quota(Quota {
        bytes: 8 * MEGABYTE,
        ..Quota::default()
    })
    .await;
    let ada = ada(&world).await;
    let things: Collection<Document> = ada.collection("things");
    things
        .insert_many((0..20_000).map(|n| doc! { "n": n }))
        .await
        .unwrap();
    // Eight kilobytes that become a hundred megabytes.
    let much = documents(1, 8000)
        .remove(0)
        .get_str("text")
        .unwrap()
        .to_owned();
    let error = things
        .update_many(doc! {}, doc! { "$set": { "much": much } })
        .await
        .unwrap_err();
    assert_eq!(code_of(&error), OVER, "{error}");
    assert!(error.to_string().contains("ended and undone"), "{error}");
    assert_eq!(
        things
            .count_documents(doc! { "much": { "$exists": true } })
            .await
            .unwrap(),
        0
    );
    // What the engine writes in one step is counted before: eight times eight thousand documents.
    let many = doc! { "aggregate": "things", "cursor": {}, "pipeline": [
        { "$set": { "x": { "$range": [0, 60] } } }, { "$unwind": "$x" }, { "$set": { "_id": { "$concat": [{ "$toString": "$_id" }, { "$toString": "$x" }] } } }, { "$out": "copy" },
    ] };
    assert_eq!(code(ada.run_command(many).await), OVER);
    let names = ada.list_collection_names().await.unwrap();
    assert_eq!(names, ["things"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_collections_and_indexes_are_counted() {
    let quota = Quota {
        documents: 100,
        collections: 3,
        indexes: 5,
        ..Quota::default()
    };
    let world = World::with_quota(quota).await;
    let ada = ada(&world).await;
    let things: Collection<Document> = ada.collection("things");
    things.insert_many(documents(99, 10)).await.unwrap();
    things.insert_one(doc! {}).await.unwrap();
    assert_eq!(
        code_of(&things.insert_one(doc! {}).await.unwrap_err()),
        OVER
    );
    let upsert = things
        .update_one(doc! { "x": 1 }, doc! { "$set": { "y": 1 } })
        .upsert(true)
        .await;
    assert_eq!(code_of(&upsert.unwrap_err()), OVER);
    things
        .update_one(doc! {}, doc! { "$set": { "y": 1 } })
        .await
        .unwrap();
    things.delete_many(doc! {}).await.unwrap();
    things.insert_many(documents(100, 10)).await.unwrap();
    for name in ["two", "three"] {
        ada.create_collection(name).await.unwrap();
    }
    assert_eq!(
        code_of(&ada.create_collection("four").await.unwrap_err()),
        OVER
    );
    let view = doc! { "create": "view", "viewOn": "things", "pipeline": [] };
    assert_eq!(code(ada.run_command(view).await), OVER);
    ada.collection::<Document>("three").drop().await.unwrap();
    ada.create_collection("four").await.unwrap();
    let index = |name: &str| doc! { "createIndexes": "things", "indexes": [{ "key": { name: 1 }, "name": name }] };
    ada.run_command(index("a")).await.unwrap();
    ada.run_command(index("b")).await.unwrap();
    assert_eq!(code(ada.run_command(index("c")).await), OVER);
    ada.run_command(doc! { "dropIndexes": "things", "index": "a" })
        .await
        .unwrap();
    ada.run_command(index("c")).await.unwrap();
    until("the counts", async || {
        let now = stored(&world);
        (now.documents, now.collections, now.indexes) == (100, 3, 5)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raised_quota_holds_at_once_on_an_open_connection() {
    let quota = Quota {
        documents: 1,
        statement_time: Duration::from_millis(300),
        connections: 1,
        ..Quota::default()
    };
    let world = World::with_quota(quota).await;
    let ada = ada(&world).await;
    let things: Collection<Document> = ada.collection("things");
    things.insert_one(doc! { "_id": 1 }).await.unwrap();
    assert_eq!(
        code_of(&things.insert_one(doc! {}).await.unwrap_err()),
        OVER
    );
    world.guard.set_quota(
        "ada",
        Quota {
            documents: 5_000,
            ..quota
        },
    );
    things
        .insert_many((2..1500).map(|n| doc! { "_id": n }))
        .await
        .unwrap();
    let slow = doc! { "aggregate": "things", "pipeline": slow_pipeline("things"), "cursor": {} };
    assert_eq!(code(ada.run_command(slow.clone()).await), 50);
    let raised = Quota {
        documents: 5_000,
        statement_time: Duration::from_secs(2),
        connections: 2,
        ..quota
    };
    world.guard.set_quota("ada", raised);
    let started = Instant::now();
    let longer = ada.run_command(slow).await;
    assert!(
        longer.is_ok() || started.elapsed() > Duration::from_secs(1),
        "{longer:?}"
    );
    let second = world.client("ada").await.database("ada");
    second.run_command(doc! { "ping": 1 }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_beyond_the_pace_wait_and_none_fails() {
    let world = World::with_quota(Quota {
        commands_per_second: 20,
        ..Quota::default()
    })
    .await;
    let ada = ada(&world).await;
    let things: Collection<Document> = ada.collection("things");
    let started = Instant::now();
    for _ in 0..50 {
        things.find_one(doc! {}).await.unwrap();
    }
    let paced = started.elapsed();
    assert!(paced > Duration::from_millis(1_300), "{paced:?}");
    // The negative control.
    world.guard.set_quota("ada", Quota::default());
    let started = Instant::now();
    for _ in 0..50 {
        things.find_one(doc! {}).await.unwrap();
    }
    assert!(started.elapsed() < paced / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_sees_what_a_seat_does_and_no_value_of_it() {
    let world = World::start().await;
    let ada = ada(&world).await;
    let things: Collection<Document> = ada.collection("things");
    things
        .insert_many((0..2000).map(|n| doc! { "_id": n, "name": "Ada Lovelace" }))
        .await
        .unwrap();
    let opened = ada
        .run_command(
            doc! { "find": "things", "filter": { "name": "Ada Lovelace" }, "batchSize": 2 },
        )
        .await
        .unwrap();
    assert_ne!(
        opened
            .get_document("cursor")
            .unwrap()
            .get_i64("id")
            .unwrap(),
        0
    );
    assert_eq!(
        code(
            world
                .client("ada")
                .await
                .database("bob")
                .run_command(doc! { "find": "c" })
                .await
        ),
        13
    );
    let mut slow = slow_pipeline("things");
    slow.insert(0, doc! { "$match": { "name": "Ada Lovelace" } });
    let slow = doc! { "aggregate": "things", "pipeline": slow, "cursor": {}, "maxTimeMS": 400 };
    assert_eq!(code(ada.run_command(slow).await), 50);
    until("sizes and cursors", async || {
        stored(&world).documents == 2000 && world.guard.usage()["ada"].cursors == 1
    })
    .await;
    let usage = world.guard.usage()["ada"].clone();
    assert!(
        usage.commands >= 4 && usage.reads >= 3 && usage.writes >= 1,
        "{usage:?}"
    );
    assert_eq!(usage.refused, 1);
    assert!(
        usage.connections >= 1 && usage.bytes_in > 50_000 && usage.bytes_out > 100,
        "{usage:?}"
    );
    let slowest = &usage.slow[0];
    assert_eq!(slowest.namespace, "ada.things");
    assert!(slowest.time >= Duration::from_millis(300), "{slowest:?}");
    assert!(slowest.shape.contains("$match: { name: ? }"), "{slowest:?}");
    assert!(!format!("{usage:?}").contains("Lovelace"), "{usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_survive_a_killed_engine() {
    let mut world = World::start().await;
    let ada = ada(&world).await;
    let things: Collection<Document> = ada.collection("things");
    things
        .insert_many((0..5000).map(|n| doc! { "_id": n }))
        .await
        .unwrap();
    // As after a load: the index tells the catalog how many there are.
    ada.run_command(
        doc! { "createIndexes": "things", "indexes": [{ "key": { "n": 1 }, "name": "n" }] },
    )
    .await
    .unwrap();
    world.engine.kill();
    world.engine.run_server();
    until("the engine", async || {
        things.insert_one(doc! { "_id": -1 }).await.is_ok()
            || things
                .count_documents(doc! { "_id": -1 })
                .await
                .is_ok_and(|n| n == 1)
    })
    .await;
    until("the counts", async || stored(&world).documents == 5001).await;
}
