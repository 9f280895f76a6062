//! Who may do what: through the Rust driver, as an attacker would use it.

use std::time::Duration;

use arena_mongo::{Limits, Quota, RoleName};
use futures_util::TryStreamExt as _;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{ClientOptions, Credential, ServerAddress};
use mongodb::{Client, error::ErrorKind};

use crate::crud::slow_pipeline;
use crate::world::{PASSWORD, World, code, code_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_name_are_told_the_same() {
    let world = World::start().await;
    world.seat("ada");
    let mut texts = Vec::new();
    for (user, password) in [("ada", "wrong"), ("nobody-knows-me", "wrong")] {
        let client = world.client_with_password(user, password).await;
        let error = client
            .database("ada")
            .run_command(doc! { "ping": 1 })
            .await
            .unwrap_err();
        assert!(
            matches!(*error.kind, ErrorKind::Authentication { .. }),
            "{error:?}"
        );
        texts.push(error.to_string());
    }
    assert_eq!(texts[0], texts[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_login_there_is_only_the_handshake() {
    let world = World::start().await;
    let client = Client::with_uri_str(format!("mongodb://{}/", world.address))
        .await
        .unwrap();
    let admin = client.database("admin");
    admin.run_command(doc! { "ping": 1 }).await.unwrap();
    admin.run_command(doc! { "buildInfo": 1 }).await.unwrap();
    for command in [
        doc! { "find": "c" },
        doc! { "listDatabases": 1 },
        doc! { "usersInfo": 1 },
        doc! { "getParameter": "*" },
        doc! { "createUser": "eve", "pwd": "x", "roles": ["root"] },
        doc! { "getMore": 1_i64, "collection": "c" },
    ] {
        assert_eq!(code(admin.run_command(command).await), 13);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]
async fn nothing_of_another_database_can_be_read_or_written() {
    let world = World::start().await;
    world.seat("ada");
    world.seat("bob");
    let secret = world
        .client("bob")
        .await
        .database("bob")
        .collection::<Document>("c");
    secret
        .insert_one(doc! { "_id": 1, "secret": true })
        .await
        .unwrap();
    let ada = world.client("ada").await;
    ada.database("ada")
        .collection::<Document>("c")
        .insert_one(doc! { "_id": 2 })
        .await
        .unwrap();
    let pipelines = [
        doc! { "$lookup": { "from": { "db": "bob", "coll": "c" }, "pipeline": [], "as": "x" } },
        doc! { "$unionWith": { "db": "bob", "coll": "c" } },
        doc! { "$graphLookup": { "from": { "db": "bob", "coll": "c" }, "startWith": 1, "connectFromField": "a", "connectToField": "b", "as": "x" } },
        doc! { "$out": { "db": "bob", "coll": "c" } },
        doc! { "$merge": { "into": { "db": "bob", "coll": "c" } } },
        doc! { "$facet": { "f": [{ "$unionWith": { "db": "bob", "coll": "c" } }] } },
    ];
    for stage in &pipelines {
        let aggregate = doc! { "aggregate": "c", "pipeline": [stage], "cursor": {} };
        assert_eq!(
            code(ada.database("ada").run_command(aggregate.clone()).await),
            13,
            "{stage}"
        );
        assert_eq!(
            code(
                ada.database("ada")
                    .run_command(doc! { "explain": aggregate })
                    .await
            ),
            13,
            "{stage}"
        );
        assert_ne!(
            code(
                ada.database("ada")
                    .run_command(doc! { "create": "v", "viewOn": "c", "pipeline": [stage] })
                    .await
            ),
            0,
            "{stage}"
        );
    }
    for command in [
        doc! { "find": "c" },
        doc! { "count": "c" },
        doc! { "distinct": "c", "key": "_id" },
        doc! { "aggregate": "c", "pipeline": [], "cursor": {} },
        doc! { "explain": { "find": "c" } },
        doc! { "insert": "c", "documents": [{}] },
        doc! { "update": "c", "updates": [{ "q": {}, "u": { "$set": { "a": 1 } } }] },
        doc! { "delete": "c", "deletes": [{ "q": {}, "limit": 0 }] },
        doc! { "findAndModify": "c", "remove": true },
        doc! { "create": "d" },
        doc! { "drop": "c" },
        doc! { "dropDatabase": 1 },
        doc! { "collMod": "c" },
        doc! { "createIndexes": "c", "indexes": [{ "key": { "a": 1 }, "name": "a" }] },
        doc! { "dropIndexes": "c", "index": "*" },
        doc! { "listIndexes": "c" },
        doc! { "listCollections": 1 },
        doc! { "collStats": "c" },
        doc! { "dbStats": 1 },
        doc! { "validate": "c" },
    ] {
        assert_eq!(
            code(ada.database("bob").run_command(command.clone()).await),
            13,
            "{command}"
        );
    }
    let admin = ada.database("admin");
    for command in [
        doc! { "renameCollection": "bob.c", "to": "ada.d" },
        doc! { "renameCollection": "ada.c", "to": "bob.d" },
        doc! { "createUser": "eve", "pwd": "x", "roles": [{ "role": "root", "db": "admin" }] },
        doc! { "updateUser": "ada", "roles": [{ "role": "root", "db": "admin" }] },
        doc! { "grantRolesToUser": "ada", "roles": ["root"] },
        doc! { "dropUser": "bob" },
        doc! { "usersInfo": "bob" },
        doc! { "usersInfo": 1 },
        doc! { "serverStatus": 1 },
        doc! { "getLog": "global" },
    ] {
        let refused = code(admin.run_command(command.clone()).await);
        assert!(refused == 13 || refused == 115, "{command}: {refused}");
    }
    assert_eq!(ada.list_database_names().await.unwrap(), ["ada"]);
    assert_eq!(
        secret.find_one(doc! {}).await.unwrap(),
        Some(doc! { "_id": 1, "secret": true })
    );
}

/// The negative control of the test above: with the right, the same stages work.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_right_there_a_pipeline_writes_into_another_database() {
    let world = World::start().await;
    let root = world.client("root").await;
    root.database("template")
        .collection::<Document>("c")
        .insert_many((0..10).map(|n| doc! { "_id": n }))
        .await
        .unwrap();
    root.database("template")
        .collection::<Document>("c")
        .aggregate([doc! { "$out": { "db": "ada", "coll": "c" } }])
        .await
        .unwrap();
    world.seat("ada");
    let copied = world
        .client("ada")
        .await
        .database("ada")
        .collection::<Document>("c")
        .count_documents(doc! {})
        .await
        .unwrap();
    assert_eq!(copied, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_cursor_cannot_be_read_or_killed() {
    let world = World::start().await;
    world.seat("ada");
    world.user("eve", &[(RoleName::ReadWrite, "ada")]);
    let ada = world.client("ada").await.database("ada");
    ada.collection::<Document>("c")
        .insert_many((0..10).map(|n| doc! { "_id": n }))
        .await
        .unwrap();
    let opened = ada
        .run_command(doc! { "find": "c", "batchSize": 2 })
        .await
        .unwrap();
    let id = opened
        .get_document("cursor")
        .unwrap()
        .get_i64("id")
        .unwrap();
    assert_ne!(id, 0);
    let eve = world.client("eve").await.database("ada");
    assert_eq!(
        code(
            eve.run_command(doc! { "getMore": id, "collection": "c" })
                .await
        ),
        43
    );
    let killed = eve
        .run_command(doc! { "killCursors": "c", "cursors": [id] })
        .await
        .unwrap();
    assert_eq!(killed.get_array("cursorsNotFound").unwrap().len(), 1);
    let more = ada
        .run_command(doc! { "getMore": id, "collection": "c" })
        .await
        .unwrap();
    assert_eq!(
        more.get_document("cursor")
            .unwrap()
            .get_array("nextBatch")
            .unwrap()
            .len(),
        8
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seats_socket_lets_in_that_seat_only() {
    let world = World::start().await;
    world.seat("ada");
    world.seat("bob");
    let socket = world.seat_socket("ada").await;
    let client = |user: &str| {
        let credential = Credential::builder()
            .username(user.to_owned())
            .password(PASSWORD.to_owned())
            .build();
        let options = ClientOptions::builder()
            .hosts(vec![ServerAddress::Unix {
                path: socket.clone(),
            }])
            .credential(credential)
            .server_selection_timeout(Duration::from_secs(5))
            .build();
        Client::with_options(options).unwrap()
    };
    client("ada")
        .database("ada")
        .run_command(doc! { "ping": 1 })
        .await
        .unwrap();
    for other in ["bob", "root"] {
        let error = client(other)
            .database(other)
            .run_command(doc! { "ping": 1 })
            .await
            .unwrap_err();
        assert!(
            matches!(*error.kind, ErrorKind::Authentication { .. }),
            "{error:?}"
        );
    }
    // Elsewhere the same users and passwords are good.
    world
        .client("bob")
        .await
        .database("bob")
        .run_command(doc! { "ping": 1 })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn users_made_by_clients_outlive_the_front_and_change_at_once() {
    let mut world = World::start().await;
    let admin = world.client("root").await.database("admin");
    let create =
        doc! { "createUser": "cy", "pwd": "first", "roles": [{ "role": "readWrite", "db": "cy" }] };
    admin.run_command(create.clone()).await.unwrap();
    assert_eq!(code(admin.run_command(create).await), 51003);
    assert_eq!(
        code(
            admin
                .run_command(doc! { "createUser": "x", "pwd": "x", "roles": ["clusterAdmin"] })
                .await
        ),
        31
    );
    world.restart_front().await;
    let admin = world.client("root").await.database("admin");
    let cy = world
        .client_with_password("cy", "first")
        .await
        .database("cy")
        .collection::<Document>("c");
    cy.insert_one(doc! {}).await.unwrap();
    admin
        .run_command(doc! { "updateUser": "cy", "roles": [{ "role": "read", "db": "cy" }] })
        .await
        .unwrap();
    assert_eq!(code_of(&cy.insert_one(doc! {}).await.unwrap_err()), 13);
    assert_eq!(cy.count_documents(doc! {}).await.unwrap(), 1);
    let known = admin.run_command(doc! { "usersInfo": "cy" }).await.unwrap();
    assert!(!known.to_string().contains("SCRAM-SHA-256$"), "{known}");
    admin.run_command(doc! { "dropUser": "cy" }).await.unwrap();
    let error = cy.count_documents(doc! {}).await.unwrap_err();
    assert_eq!(code_of(&error), 13);
    assert_eq!(code(admin.run_command(doc! { "dropUser": "cy" }).await), 11);
}

/// The driver prepares a password as RFC 4013 says: a Roman numeral is its letters, a soft hyphen nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_what_it_says_however_it_is_written() {
    let world = World::start().await;
    let admin = world.client("root").await.database("admin");
    for (name, password) in [("cy", "\u{2168}"), ("di", "I\u{ad}X"), ("eva", "IX")] {
        let roles = [doc! { "role": "readWrite", "db": name }];
        let create = doc! { "createUser": name, "pwd": password, "roles": &roles[..] };
        admin.run_command(create).await.unwrap();
        for written in ["IX", "\u{2168}", "I\u{ad}X"] {
            let client = world.client_with_password(name, written).await;
            let counted = client.database(name).collection::<Document>("c");
            assert_eq!(counted.count_documents(doc! {}).await.unwrap(), 0);
        }
    }
    let client = world.client_with_password("eva", "VI").await;
    let refused = client.database("eva").run_command(doc! { "ping": 1 }).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("Authentication failed"), "{refused}");
    let bell = doc! { "createUser": "flo", "pwd": "a\u{7}b", "roles": [] };
    assert_eq!(code(admin.run_command(bell).await), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_everything_changes_nothing() {
    let world = World::start().await;
    world.seat("ada");
    world.user("grader", &[(RoleName::ReadAnyDatabase, "admin")]);
    world
        .client("ada")
        .await
        .database("ada")
        .collection::<Document>("c")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    let grader = world.client("grader").await.database("ada");
    let found: Vec<Document> = grader
        .collection("c")
        .find(doc! {})
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    for command in [
        doc! { "insert": "c", "documents": [{}] },
        doc! { "drop": "c" },
        doc! { "dropDatabase": 1 },
        doc! { "aggregate": "c", "pipeline": [{ "$out": "d" }], "cursor": {} },
    ] {
        assert_eq!(code(grader.run_command(command).await), 13);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_users_slow_statements_hold_up_nobody_else() {
    let limits = Limits {
        statements_per_user: 2,
        statements: 4,
        ..Limits::default()
    };
    let quota = Quota {
        statement_time: Duration::from_secs(5),
        ..Quota::default()
    };
    let world = World::with(limits, quota).await;
    world.seat("ada");
    world.seat("bob");
    let ada = world.client("ada").await.database("ada");
    ada.collection::<Document>("n")
        .insert_many((0..3000).map(|n| doc! { "_id": n }))
        .await
        .unwrap();
    let bob = world
        .client("bob")
        .await
        .database("bob")
        .collection::<Document>("c");
    bob.insert_one(doc! { "_id": 1 }).await.unwrap();
    let slow = doc! { "aggregate": "n", "pipeline": slow_pipeline("n"), "cursor": {} };
    let running: Vec<_> = (0..6)
        .map(|_| {
            tokio::spawn({
                let (ada, slow) = (ada.clone(), slow.clone());
                async move { ada.run_command(slow).await }
            })
        })
        .collect();
    let started = std::time::Instant::now();
    for _ in 0..20 {
        bob.find_one(doc! { "_id": 1 }).await.unwrap();
    }
    assert!(
        started.elapsed() < quota.statement_time,
        "waited for another's statements"
    );
    for statement in running {
        assert_eq!(code(statement.await.unwrap()), 50);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_connections_are_counted() {
    let world = World::with_quota(Quota {
        connections: 1,
        ..Quota::default()
    })
    .await;
    world.seat("ada");
    world.seat("bob");
    let first = world.client("ada").await;
    first
        .database("ada")
        .run_command(doc! { "ping": 1 })
        .await
        .unwrap();
    let error = world
        .client("ada")
        .await
        .database("ada")
        .run_command(doc! { "ping": 1 })
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("has 1 connections already"),
        "{error}"
    );
    world
        .client("bob")
        .await
        .database("bob")
        .run_command(doc! { "ping": 1 })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_listed_by_name_and_by_size() {
    let world = World::start().await;
    world.seat("ada");
    let client = world.client("ada").await;
    let things = client.database("ada").collection("things");
    things.insert_one(doc! { "_id": 1 }).await.unwrap();
    let admin = client.database("admin");
    for (filter, name_only, expected) in [
        (doc! {}, false, true),
        (
            doc! { "empty": false, "sizeOnDisk": { "$gt": 0 } },
            false,
            true,
        ),
        (
            doc! { "$expr": { "$gt": ["$sizeOnDisk", 1_000_000_000_i64] } },
            false,
            false,
        ),
        (doc! { "name": { "$regex": "^ad" } }, true, true),
        (doc! { "name": "bob" }, true, false),
        // Who asks for names alone is told nothing by anything else.
        (doc! { "empty": false }, true, false),
    ] {
        let command = doc! { "listDatabases": 1, "filter": filter, "nameOnly": name_only };
        let answer = admin.run_command(command.clone()).await.unwrap();
        let found = answer.get_array("databases").unwrap();
        assert_eq!(found.len(), usize::from(expected), "{command}: {answer}");
        assert_eq!(answer.contains_key("totalSize"), !name_only);
        if let (Some(Bson::Document(one)), false) = (found.first(), name_only) {
            let total = answer.get_i64("totalSize").unwrap();
            assert_eq!(one.get_i64("sizeOnDisk").unwrap(), total);
        }
    }
    let own = client.database("ada");
    let elsewhere = own.run_command(doc! { "listDatabases": 1 });
    assert_eq!(code(elsewhere.await), 13);
}
