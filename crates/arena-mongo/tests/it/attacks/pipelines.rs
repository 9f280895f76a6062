//! Stages that name another database, in every place where a pipeline may stand.

use mongodb::bson::{Document, doc};

use super::{Attack, SECRET};

/// Ways to name Bob's collection.
fn reaching() -> Vec<Document> {
    let there = doc! { "db": "bob", "coll": "c" };
    vec![
        doc! { "$lookup": { "from": there.clone(), "pipeline": [], "as": "x" } },
        doc! { "$lookup": { "from": there.clone(), "localField": "_id", "foreignField": "_id", "as": "x" } },
        doc! { "$lookup": { "from": "c", "db": "bob", "pipeline": [], "as": "x" } },
        doc! { "$unionWith": there.clone() },
        doc! { "$unionWith": { "db": "bob", "coll": "c", "pipeline": [] } },
        doc! { "$graphLookup": { "from": there.clone(), "startWith": 1, "connectFromField": "_id", "connectToField": "_id", "as": "x" } },
        doc! { "$out": there.clone() },
        doc! { "$out": { "coll": "c", "db": "bob" } },
        doc! { "$merge": { "into": there.clone(), "whenMatched": "replace" } },
        doc! { "$merge": there },
    ]
}

/// The stage, and the stage inside others that hold pipelines, two deep.
fn wrapped(stage: &Document) -> Vec<Vec<Document>> {
    let inside = |stages: Vec<Document>| {
        vec![
            vec![doc! { "$facet": { "f": stages.clone() } }],
            vec![doc! { "$lookup": { "from": "c", "pipeline": stages.clone(), "as": "y" } }],
            vec![doc! { "$unionWith": { "coll": "c", "pipeline": stages } }],
        ]
    };
    let once = inside(vec![stage.clone()]);
    let twice = once.iter().flat_map(|stages| inside(stages.clone()));
    let mut all = vec![
        vec![stage.clone()],
        vec![doc! { "$match": {} }, stage.clone(), doc! { "$limit": 1 }],
    ];
    all.extend(twice.collect::<Vec<_>>());
    all.extend(once);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_nesting_hides_a_stage_that_names_another_database() {
    let attack = Attack::begin().await;
    let mut tried = 0;
    for stage in reaching() {
        for pipeline in wrapped(&stage) {
            for command in [
                doc! { "aggregate": "c", "pipeline": pipeline.clone(), "cursor": {} },
                doc! { "explain": { "aggregate": "c", "pipeline": pipeline.clone(), "cursor": {} } },
                doc! { "aggregate": "c", "pipeline": pipeline.clone(), "explain": true },
                doc! { "create": "evil", "viewOn": "c", "pipeline": pipeline.clone() },
                doc! { "collMod": "c", "viewOn": "c", "pipeline": pipeline.clone() },
                doc! { "update": "c", "updates": [{ "q": {}, "u": pipeline.clone() }] },
                doc! { "findAndModify": "c", "query": {}, "update": pipeline.clone() },
                doc! { "aggregate": "c", "cursor": {}, "pipeline": [{ "$merge": { "into": "c", "whenMatched": pipeline.clone() } }] },
            ] {
                let answer = attack.try_on("ada", &command).await;
                assert!(answer.is_err(), "{command}: {answer:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 500, "{tried}");
    attack.nothing_happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_reads_no_other_database_than_its_own() {
    let attack = Attack::begin().await;
    for source in [
        doc! { "create": "v", "viewOn": { "db": "bob", "coll": "c" }, "pipeline": [] },
        doc! { "create": "v", "viewOn": ["bob", "c"], "pipeline": [] },
        doc! { "create": "v", "viewOn": "c", "pipeline": [], "$db": "bob" },
    ] {
        let answer = attack.try_on("ada", &source).await;
        assert!(answer.is_err(), "{source}: {answer:?}");
    }
    // A dot makes no database of a collection's name: this is a view on Ada's own `bob.c`, which is empty.
    let dotted = doc! { "create": "v", "viewOn": "bob.c", "pipeline": [] };
    attack.try_on("ada", &dotted).await.unwrap();
    let read = attack.try_on("ada", &doc! { "find": "v" }).await.unwrap();
    assert!(
        read.to_string().contains("firstBatch: []")
            || read
                .get_document("cursor")
                .unwrap()
                .get_array("firstBatch")
                .unwrap()
                .is_empty()
    );
    attack.nothing_happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_are_not_on_the_list_do_not_exist() {
    let attack = Attack::begin().await;
    for name in [
        "$LOOKUP",
        "$Lookup",
        " $lookup",
        "$lookup ",
        "lookup",
        "$lookup.$lookup",
        "$_internalInhibitOptimization",
        "$_internalLookup",
        "$inverseMatch",
        "$changeStream",
        "$currentOp",
        "$listSessions",
        "$listLocalSessions",
        "$listCatalog",
        "$planCacheStats",
        "$queryStats",
        "$shardedDataDistribution",
        "$",
        "",
    ] {
        let stage = doc! { name: { "from": { "db": "bob", "coll": "c" }, "as": "x" } };
        for aggregate in [
            doc! { "aggregate": "c", "pipeline": [stage.clone()], "cursor": {} },
            doc! { "aggregate": 1, "pipeline": [stage.clone()], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$facet": { "f": [stage.clone()] } }], "cursor": {} },
        ] {
            for database in ["ada", "admin"] {
                let answer = attack.try_on(database, &aggregate).await;
                assert!(answer.is_err(), "{aggregate} on {database}: {answer:?}");
            }
        }
    }
    attack.nothing_happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_nested_stages_are_an_error_and_nothing_else() {
    let attack = Attack::begin().await;
    let many: Vec<Document> = (0..10_000).map(|_| doc! { "$match": {} }).collect();
    let long = doc! { "aggregate": "c", "pipeline": many, "cursor": {} };
    let started = std::time::Instant::now();
    let _ = attack.try_on("ada", &long).await;
    // Nested as deep as a driver can write it.
    let mut nested = vec![doc! { "$match": {} }];
    for _ in 0..24 {
        nested = vec![doc! { "$facet": { "f": nested } }];
    }
    let deep = doc! { "aggregate": "c", "pipeline": nested, "cursor": {} };
    assert!(attack.try_on("ada", &deep).await.is_err());
    assert!(started.elapsed() < std::time::Duration::from_secs(30));
    let own = attack.try_on("ada", &doc! { "find": "c" }).await.unwrap();
    assert!(own.to_string().contains("own"));
    attack.nothing_happened().await;
}

/// The negative control: with the right there, the same stages do what they say.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_role_there_the_same_stages_are_let_through_or_say_why() {
    let attack = Attack::begin().await;
    attack.world.user(
        "ada",
        &[
            (arena_mongo::RoleName::ReadWrite, "ada"),
            (arena_mongo::RoleName::ReadWrite, "bob"),
        ],
    );
    let out = doc! { "aggregate": "c", "pipeline": [{ "$out": { "db": "bob", "coll": "copy" } }], "cursor": {} };
    attack.ada.run_command(out).await.unwrap();
    let found = attack.ada.client().database("bob");
    let secret = found
        .collection::<Document>("c")
        .find_one(doc! {})
        .await
        .unwrap()
        .unwrap();
    assert_eq!(secret.get_str("secret").unwrap(), SECRET);
    let copied = found.collection::<Document>("copy");
    assert_eq!(copied.count_documents(doc! {}).await.unwrap(), 1);
}
