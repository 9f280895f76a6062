//! What learners do, through the Rust driver.

use futures_util::TryStreamExt as _;
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::{IndexOptions, ReturnDocument};

use crate::world::{World, code, code_of};

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]
async fn documents_are_written_read_changed_and_removed() {
    let world = World::start().await;
    world.seat("ada");
    let notes = world
        .client("ada")
        .await
        .database("ada")
        .collection::<Document>("notes");
    notes
        .insert_one(doc! { "_id": 1, "text": "one" })
        .await
        .unwrap();
    notes
        .insert_many([
            doc! { "_id": 2, "text": "two" },
            doc! { "_id": 3, "n": 3.5 },
        ])
        .await
        .unwrap();
    let found: Vec<Document> = notes
        .find(doc! { "_id": { "$gte": 2 } })
        .sort(doc! { "_id": -1 })
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(
        found,
        [
            doc! { "_id": 3, "n": 3.5 },
            doc! { "_id": 2, "text": "two" }
        ]
    );
    let updated = notes
        .update_one(doc! { "_id": 1 }, doc! { "$set": { "text": "eins" } })
        .await
        .unwrap();
    assert_eq!((updated.matched_count, updated.modified_count), (1, 1));
    let upserted = notes
        .update_one(doc! { "_id": 9 }, doc! { "$inc": { "n": 1 } })
        .upsert(true)
        .await
        .unwrap();
    assert_eq!(upserted.upserted_id, Some(9.into()));
    let updated = notes
        .update_many(doc! {}, vec![doc! { "$set": { "seen": true } }])
        .await
        .unwrap();
    assert_eq!(updated.modified_count, 4);
    let before = notes
        .find_one_and_update(doc! { "_id": 1 }, doc! { "$set": { "a": 1 } })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(before, doc! { "_id": 1, "text": "eins", "seen": true });
    let after = notes
        .find_one_and_replace(doc! { "_id": 1 }, doc! { "b": 2 })
        .return_document(ReturnDocument::After)
        .await
        .unwrap();
    assert_eq!(after, Some(doc! { "_id": 1, "b": 2 }));
    assert_eq!(
        notes
            .delete_one(doc! { "_id": 1 })
            .await
            .unwrap()
            .deleted_count,
        1
    );
    assert_eq!(notes.count_documents(doc! {}).await.unwrap(), 3);
    assert_eq!(notes.estimated_document_count().await.unwrap(), 3);
    assert_eq!(
        notes.distinct("text", doc! {}).await.unwrap(),
        ["two".into()]
    );
    assert_eq!(notes.delete_many(doc! {}).await.unwrap().deleted_count, 3);
    assert_eq!(notes.estimated_document_count().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_read_to_its_end_in_batches() {
    let world = World::start().await;
    world.seat("ada");
    let numbers = world
        .client("ada")
        .await
        .database("ada")
        .collection::<Document>("numbers");
    numbers
        .insert_many((0..1000).map(|n| doc! { "_id": n, "even": n % 2 == 0 }))
        .await
        .unwrap();
    let plain: Vec<Document> = numbers
        .find(doc! {})
        .batch_size(7)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(plain.len(), 1000);
    assert!(plain.iter().enumerate().all(|(n, document)| {
        document
            .get_i32("_id")
            .is_ok_and(|id| usize::try_from(id) == Ok(n))
    }));
    let sorted: Vec<Document> = numbers
        .find(doc! { "even": true })
        .sort(doc! { "_id": -1 })
        .batch_size(100)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(
        (sorted.len(), sorted[0].get_i32("_id").unwrap()),
        (500, 998)
    );
    let grouped: Vec<Document> = numbers
        .aggregate([
            doc! { "$group": { "_id": { "$mod": ["$_id", 50] }, "n": { "$sum": 1 } } },
            doc! { "$sort": { "_id": 1 } },
        ])
        .batch_size(3)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(grouped.len(), 50);
    assert_eq!(grouped[0].get_i32("n").unwrap(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_join_write_and_count() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let hosts = database.collection::<Document>("hosts");
    let stays = database.collection::<Document>("stays");
    hosts
        .insert_many([
            doc! { "_id": "h1", "name": "Eve" },
            doc! { "_id": "h2", "name": "Bo" },
        ])
        .await
        .unwrap();
    stays
        .insert_many([
            doc! { "host": "h1", "price": 10 },
            doc! { "host": "h1", "price": 35 },
            doc! { "host": "h2", "price": 70 },
        ])
        .await
        .unwrap();
    let run = async |pipeline: Vec<Document>| -> Vec<Document> {
        stays
            .aggregate(pipeline)
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap()
    };
    let joined = run(vec![
        doc! { "$lookup": { "from": "hosts", "localField": "host", "foreignField": "_id", "as": "h" } },
        doc! { "$unwind": "$h" },
        doc! { "$group": { "_id": "$h.name", "total": { "$sum": "$price" } } },
        doc! { "$sort": { "total": 1 } },
    ]).await;
    assert_eq!(
        joined,
        [
            doc! { "_id": "Eve", "total": 45 },
            doc! { "_id": "Bo", "total": 70 }
        ]
    );
    let buckets = run(vec![
        doc! { "$bucket": { "groupBy": "$price", "boundaries": [0, 20, 50, 100] } },
    ])
    .await;
    let ids: Vec<i32> = buckets
        .iter()
        .map(|bucket| bucket.get_i32("_id").unwrap())
        .collect();
    assert_eq!(ids, [0, 20, 50]);
    run(vec![
        doc! { "$match": { "price": { "$gt": 20 } } },
        doc! { "$out": "dear" },
    ])
    .await;
    assert_eq!(
        database
            .collection::<Document>("dear")
            .count_documents(doc! {})
            .await
            .unwrap(),
        2
    );
    let faceted = run(vec![doc! { "$facet": { "n": [{ "$count": "n" }], "max": [{ "$group": { "_id": null, "m": { "$max": "$price" } } }] } }]).await;
    assert_eq!(
        faceted[0].get_array("n").unwrap()[0].as_document().unwrap(),
        &doc! { "n": 3 }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_key_is_told_as_mongodb_tells_it() {
    let world = World::start().await;
    world.seat("ada");
    let people = world
        .client("ada")
        .await
        .database("ada")
        .collection::<Document>("people");
    let unique = IndexOptions::builder().unique(true).build();
    people
        .create_index(
            IndexModel::builder()
                .keys(doc! { "e": 1 })
                .options(unique)
                .build(),
        )
        .await
        .unwrap();
    people.insert_one(doc! { "_id": 1, "e": 1 }).await.unwrap();
    let error = people
        .insert_one(doc! { "_id": 2, "e": 1 })
        .await
        .unwrap_err();
    assert_eq!(code_of(&error), 11000);
    let text = error.to_string();
    assert!(
        text.contains(
            "E11000 duplicate key error collection: ada.people index: e_1 dup key: { e: 1 }"
        ),
        "{text}"
    );
    let command = people.clone();
    let answer = world.client("ada").await.database("ada")
        .run_command(doc! { "insert": command.name(), "documents": [{ "_id": 1 }, { "_id": 7 }], "ordered": false })
        .await
        .unwrap();
    let failed = answer.get_array("writeErrors").unwrap()[0]
        .as_document()
        .unwrap()
        .clone();
    assert_eq!(answer.get_i32("n").unwrap(), 1);
    assert_eq!(
        failed.get_document("keyPattern").unwrap(),
        &doc! { "_id": 1 }
    );
    assert_eq!(failed.get_document("keyValue").unwrap(), &doc! { "_id": 1 });
    people
        .insert_one(doc! { "_id": 20, "e": 20 })
        .await
        .unwrap();
    let update = people
        .update_one(doc! { "_id": 20 }, doc! { "$set": { "e": 1 } })
        .await
        .unwrap_err();
    assert!(update.to_string().contains("dup key: { e: 1 }"), "{update}");
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]
async fn indexes_and_views_are_made_listed_explained_and_dropped() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let stays = database.collection::<Document>("stays");
    stays
        .insert_many((0..50).map(|n| doc! { "price": n, "town": n % 5 }))
        .await
        .unwrap();
    let plan = async || {
        database
            .run_command(doc! { "explain": { "find": "stays", "filter": { "price": 3 } } })
            .await
            .unwrap()
    };
    let stage = |answer: Document| {
        answer
            .get_document("queryPlanner")
            .unwrap()
            .get_document("winningPlan")
            .unwrap()
            .clone()
    };
    assert_eq!(stage(plan().await).get_str("stage").unwrap(), "COLLSCAN");
    let name = stays
        .create_index(IndexModel::builder().keys(doc! { "price": 1 }).build())
        .await
        .unwrap()
        .index_name;
    let winning = stage(plan().await);
    let scan = winning.get_document("inputStage").unwrap();
    assert_eq!(
        scan,
        &doc! { "stage": "IXSCAN", "keyPattern": { "price": 1 }, "indexName": "price_1", "direction": "forward", "indexBounds": { "price": ["[3, 3]"] } }
    );
    assert_eq!(
        plan()
            .await
            .get_document("executionStats")
            .unwrap()
            .get_i32("nReturned")
            .unwrap(),
        1
    );
    assert_eq!(stays.list_index_names().await.unwrap(), ["_id_", "price_1"]);
    stays.drop_index(name).await.unwrap();
    assert_eq!(stays.list_index_names().await.unwrap(), ["_id_"]);
    assert_eq!(
        code(
            database
                .run_command(doc! { "dropIndexes": "stays", "index": "nope" })
                .await
        ),
        27
    );
    database
        .create_collection("cheap")
        .view_on("stays".to_owned())
        .pipeline(vec![doc! { "$match": { "price": { "$lt": 10 } } }])
        .await
        .unwrap();
    assert_eq!(
        database
            .collection::<Document>("cheap")
            .count_documents(doc! {})
            .await
            .unwrap(),
        10
    );
    let mut names = database.list_collection_names().await.unwrap();
    names.sort();
    assert_eq!(names, ["cheap", "stays"]);
    database
        .collection::<Document>("cheap")
        .drop()
        .await
        .unwrap();
    database
        .run_command(doc! { "collStats": "stays" })
        .await
        .unwrap();
    database.run_command(doc! { "dbStats": 1 }).await.unwrap();
    let changes: Vec<_> = world
        .changes
        .lock()
        .unwrap()
        .iter()
        .map(|change| (change.user.clone(), change.collection.clone().unwrap()))
        .collect();
    let stays = ("ada".to_owned(), "stays".to_owned());
    let cheap = ("ada".to_owned(), "cheap".to_owned());
    assert_eq!(changes, [stays.clone(), stays, cheap.clone(), cheap]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_refuses_with_its_own_code() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    database
        .create_collection("v")
        .validator(doc! { "$jsonSchema": { "required": ["a"] } })
        .await
        .unwrap();
    let error = database
        .collection::<Document>("v")
        .insert_one(doc! { "b": 1 })
        .await
        .unwrap_err();
    assert_eq!(code_of(&error), 121);
    database
        .collection::<Document>("v")
        .insert_one(doc! { "a": 1 })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_a_driver_retries_runs_once() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    database
        .collection::<Document>("c")
        .insert_one(doc! { "_id": 1, "n": 0 })
        .await
        .unwrap();
    let session = bson::Binary {
        subtype: bson::spec::BinarySubtype::Uuid,
        bytes: vec![7; 16],
    };
    let update = doc! {
        "update": "c", "updates": [{ "q": { "_id": 1 }, "u": { "$inc": { "n": 1 } } }],
        "lsid": { "id": session }, "txnNumber": 5_i64,
    };
    // Drivers retry once; the engine forgets the number after that.
    for _ in 0..2 {
        let answer = crate::wire::command(&world, "ada", "ada", &update).await;
        assert_eq!(answer.get_i32("nModified").unwrap(), 1, "{answer}");
    }
    let document = database
        .collection::<Document>("c")
        .find_one(doc! {})
        .await
        .unwrap()
        .unwrap();
    assert_eq!(document.get_i32("n").unwrap(), 1);
}

/// Joins everything with everything, twice.
pub(crate) fn slow_pipeline(collection: &str) -> Vec<Document> {
    vec![
        doc! { "$lookup": { "from": collection, "as": "x", "pipeline": [] } },
        doc! { "$unwind": "$x" },
        doc! { "$lookup": { "from": collection, "as": "y", "pipeline": [] } },
        doc! { "$unwind": "$y" },
        doc! { "$group": { "_id": null, "n": { "$sum": "$y._id" } } },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn too_slow_is_told_and_the_connection_goes_on() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let numbers = database.collection::<Document>("numbers");
    numbers
        .insert_many((0..2000).map(|n| doc! { "_id": n }))
        .await
        .unwrap();
    let slow = doc! {
        "aggregate": "numbers", "pipeline": slow_pipeline("numbers"), "cursor": {}, "maxTimeMS": 50,
    };
    assert_eq!(code(database.run_command(slow).await), 50);
    assert_eq!(numbers.count_documents(doc! {}).await.unwrap(), 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_says_so() {
    let world = World::start().await;
    world.seat("ada");
    let client = world.client("ada").await;
    let database = client.database("ada");
    for command in [
        doc! { "create": "c", "capped": true, "size": 1000 },
        doc! { "create": "c", "timeseries": { "timeField": "t" } },
        doc! { "mapReduce": "c" },
        doc! { "find": "c", "filter": { "$where": "true" } },
        doc! { "find": "c", "tailable": true },
        doc! { "aggregate": "c", "pipeline": [{ "$changeStream": {} }], "cursor": {} },
        doc! { "aggregate": 1, "pipeline": [{ "$changeStream": {} }], "cursor": {} },
    ] {
        let error = database.run_command(command.clone()).await.unwrap_err();
        assert_eq!(code_of(&error), 115, "{command}: {error}");
    }
    assert_eq!(
        code(database.run_command(doc! { "atlasVersion": 1 }).await),
        59
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_outlives_a_killed_engine() {
    let mut world = World::start().await;
    world.seat("ada");
    let notes = world
        .client("ada")
        .await
        .database("ada")
        .collection::<Document>("notes");
    notes.insert_one(doc! { "_id": 1 }).await.unwrap();
    world.engine.kill();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let refused = loop {
        let answer = notes.find_one(doc! {}).await;
        if answer.is_err() {
            break code(answer.map(Option::unwrap_or_default));
        }
        // A process of the killed server answers until it notices.
        assert!(std::time::Instant::now() < deadline, "the engine is dead");
    };
    assert_eq!(refused, 91);
    world.engine.run_server();
    let found = loop {
        match notes.find_one(doc! {}).await {
            Ok(found) => break found,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
    };
    assert_eq!(found, Some(doc! { "_id": 1 }));
}

/// The engine's connections forget to forget collections that others drop at the wrong moment. Without the front's
/// rule about that (`backend/changes.rs`) one in some hundred of these counts is 0.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_and_made_again_is_seen_by_everybody_however_many_do_so_at_once() {
    const SEATS: usize = 8;
    const ROUNDS: usize = 40;
    let world = World::start().await;
    let names: Vec<String> = (0..SEATS).map(|number| format!("seat{number}")).collect();
    let seats = names.iter().map(async |name| {
        world.seat(name);
        let database = world.client(name).await.database(name);
        let notes = database.collection::<Document>("notes");
        for round in 0..ROUNDS {
            notes.drop().await.unwrap();
            notes.insert_many([doc! {}, doc! {}]).await.unwrap();
            for _ in 0..3 {
                let count = notes.count_documents(doc! {}).await.unwrap();
                assert_eq!(count, 2, "{name} in round {round}");
            }
        }
    });
    futures_util::future::join_all(seats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_too_large_is_refused_and_those_beside_it_are_not() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let large = "x".repeat(16 * 1024 * 1024);
    for (ordered, inserted) in [(true, 1), (false, 2)] {
        let documents = [
            doc! { "_id": 1 },
            doc! { "_id": 2, "text": &large },
            doc! { "_id": 1, "again": true },
            doc! { "_id": 4 },
        ];
        let insert =
            doc! { "insert": "notes", "documents": documents.to_vec(), "ordered": ordered };
        let answer = database.run_command(insert).await.unwrap();
        assert_eq!(answer.get_i32("n").unwrap(), inserted, "{answer}");
        let errors = answer.get_array("writeErrors").unwrap();
        let told: Vec<(i32, i32)> = errors
            .iter()
            .map(|error| {
                let error = error.as_document().unwrap();
                (
                    error.get_i32("index").unwrap(),
                    error.get_i32("code").unwrap(),
                )
            })
            .collect();
        let expected: &[(i32, i32)] = match ordered {
            true => &[(1, 2)],
            false => &[(1, 2), (2, 11000)],
        };
        assert_eq!(told, expected);
        database
            .run_command(doc! { "drop": "notes" })
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_tells_the_time_of_the_cluster() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    for command in [
        doc! { "hello": 1 },
        doc! { "ping": 1 },
        doc! { "count": "c" },
    ] {
        let answer = database.run_command(command).await.unwrap();
        assert!(answer.contains_key("$clusterTime"), "{answer}");
    }
}
