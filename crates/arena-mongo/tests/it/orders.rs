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
    numbers(&found)
}

fn numbers(found: &[Document]) -> Vec<i32> {
    let found = found.iter();
    found
        .map(|document| document.get_i32("n").unwrap())
        .collect()
}

fn ids(numbers: std::ops::Range<i32>) -> Vec<String> {
    numbers.map(|n| format!("id {n:04}")).collect()
}

/// The `_id`s of the first five documents as the engine itself reads them.
async fn untold(engine: &tokio_postgres::Client) -> Vec<String> {
    let page = r#"SELECT string_agg(id[1], ',')
        FROM documentdb_api.find_cursor_first_page('ada', '{"find": "things", "limit": 5}'),
        LATERAL regexp_matches(documentdb_core.bson_to_json_string(cursorpage)::text, '"_id" : "(id \d+)"', 'g') AS id"#;
    let found: String = engine.query_one(page, &[]).await.unwrap().get(0);
    found.split(',').map(str::to_owned).collect()
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
    let paged = things
        .find(doc! { "n": { "$gte": 0 } })
        .limit(5)
        .batch_size(1);
    let paged: Vec<Document> = paged.await.unwrap().try_collect().await.unwrap();
    assert_eq!(numbers(&paged), [0, 1, 2, 3, 4]);
    // The control: so the engine reads when it is not told.
    assert_eq!(untold(&engine).await, ids(0..5));
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
    numbers(&found)
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
    let joining = doc! { "from": "nothing", "localField": "n", "foreignField": "n", "as": "x" };
    for read in [
        vec![doc! { "$limit": 3 }, doc! { "$lookup": joining.clone() }],
        vec![doc! { "$lookup": joining }, doc! { "$limit": 3 }],
        vec![
            doc! { "$limit": 1 },
            doc! { "$unionWith": { "coll": "things", "pipeline": [{ "$match": { "n": { "$gt": 0 } } }, { "$limit": 2 }] } },
        ],
        vec![
            doc! { "$facet": { "some": [{ "$limit": 3 }] } },
            doc! { "$unwind": "$some" },
            doc! { "$replaceWith": "$some" },
        ],
    ] {
        assert_eq!(piped(&things, read).await, [0, 1, 2]);
    }
    // The control: so the engine reads when it is not told.
    assert_eq!(untold(&engine).await, ids(0..5));
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_merged_is_read_as_it_was_inserted() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    scattered(&database).await;
    let engine = world.engine.connect().await;
    engine.batch_execute("ANALYZE").await.unwrap();
    let written = |bypass: bool, stages: Vec<Document>| {
        let mut stages = stages;
        stages.push(doc! { "$merge": { "into": if bypass { "past" } else { "within" } } });
        doc! { "aggregate": "things", "pipeline": stages, "cursor": {}, "bypassDocumentValidation": bypass }
    };
    for bypass in [false, true] {
        let some = vec![doc! { "$limit": 3 }];
        database.run_command(written(bypass, some)).await.unwrap();
        let group = doc! { "_id": "$town", "n": { "$first": "$n" }, "all": { "$push": "$n" } };
        let grouped = vec![
            doc! { "$match": { "n": { "$gte": 7 } } },
            doc! { "$group": group },
        ];
        database
            .run_command(written(bypass, grouped))
            .await
            .unwrap();
        let into: Collection<Document> =
            database.collection(if bypass { "past" } else { "within" });
        let found = into.find(doc! {}).sort(doc! { "n": 1 }).await.unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        assert_eq!(numbers(&found), [0, 1, 2, 7, 8, 9, 10, 11, 12, 13]);
        let pushed = found[3].get_array("all").unwrap();
        assert!(pushed.is_sorted_by_key(|n| n.as_i32()), "{pushed:?}");
    }
    // The control: so the engine reads when it is not told.
    assert_eq!(untold(&engine).await, ids(0..5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_takes_first_what_was_inserted_first_before_the_engine_has_looked() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let things = scattered(&database).await;
    let grouped = vec![
        doc! { "$group": { "_id": "$town", "n": { "$first": "$n" } } },
        doc! { "$sort": { "_id": 1 } },
    ];
    assert_eq!(piped(&things, grouped).await, [0, 1, 2, 3, 4, 5, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_write_takes_the_document_that_was_inserted_first() {
    let world = World::start().await;
    world.seat("ada");
    let client = world.client("ada").await;
    let things = scattered(&client.database("ada")).await;
    let taken = doc! { "$set": { "taken": true } };
    for _ in 0..2 {
        let updated = things.update_one(doc! { "town": 2, "taken": null }, taken.clone());
        assert_eq!(updated.await.unwrap().modified_count, 1);
        let found = things.find_one_and_update(doc! { "town": 3, "taken": null }, taken.clone());
        assert!(found.await.unwrap().is_some());
        things.delete_one(doc! { "town": 4 }).await.unwrap();
    }
    let mut found = first(&things, doc! { "taken": true }).await;
    found.sort_unstable();
    assert_eq!(found, [2, 3, 9, 10]);
    assert_eq!(first(&things, doc! { "town": 4 }).await[0], 18);
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let deleted = things.delete_one(doc! { "town": 4 });
    deleted.session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    assert_eq!(first(&things, doc! { "town": 4 }).await[0], 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_index_finds_comes_in_its_order() {
    let world = World::start().await;
    world.seat("ada");
    let database = world.client("ada").await.database("ada");
    let things = scattered(&database).await;
    let spread = doc! { "$set": { "place": { "$mod": [{ "$multiply": ["$n", 31] }, 400] } } };
    things.update_many(doc! {}, vec![spread]).await.unwrap();
    let index = mongodb::IndexModel::builder().keys(doc! { "place": -1 });
    things.create_index(index.build()).await.unwrap();
    let places = |found: Vec<i32>| -> Vec<i32> { found.iter().map(|n| n * 31 % 400).collect() };
    let some = doc! { "place": { "$gt": 100, "$lte": 390 } };
    assert_eq!(
        places(first(&things, some.clone()).await),
        [390, 389, 388, 387, 386]
    );
    let some = vec![doc! { "$match": some }, doc! { "$limit": 2 }];
    assert_eq!(places(piped(&things, some).await), [390, 389]);
    let found: Vec<Document> = things
        .find(doc! { "_id": { "$in": ["id 0009", "id 0003", "id 0005"] } })
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let found: Vec<&str> = found
        .iter()
        .map(|one| one.get_str("_id").unwrap())
        .collect();
    assert_eq!(found, ["id 0003", "id 0005", "id 0009"]);
    // Of arrays it has the elements, which no sort is by.
    things
        .update_one(doc! { "n": 0 }, doc! { "$set": { "place": [0, 200] } })
        .await
        .unwrap();
    let found = first(&things, doc! { "place": { "$gte": 190, "$lt": 210 } }).await;
    assert!(found.is_sorted(), "{found:?}");
}
