//! Finds by one `_id`, which have a way of their own through the front.

use mongodb::bson::{Bson, DateTime, Document, doc, oid::ObjectId};

use crate::world::{World, code};

/// A find's answer without its times; a cursor's number is told from none only.
async fn answered(database: &mongodb::Database, find: Document) -> Result<Document, i32> {
    let answer = database.run_command(find).await;
    let Ok(mut answer) = answer else {
        return Err(code(answer));
    };
    answer.remove("$clusterTime");
    answer.remove("operationTime");
    let cursor = answer.get_document_mut("cursor").expect("a cursor");
    let is_open = cursor.get_i64("id").expect("its number") != 0;
    cursor.insert("id", is_open);
    Ok(answer)
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
                match answer {
                    Ok(answer) => {
                        let page = answer.get_document("cursor").unwrap();
                        found += page.get_array("firstBatch").unwrap().len();
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
}
