//! Every command there is, on somebody else's database: plain, explained, and
//! with the other database only hinted at.

use std::collections::BTreeSet;

use mongodb::bson::{Binary, Bson, Document, doc, spec::BinarySubtype};

use super::Attack;

/// What tells nothing of a database and changes nothing in it: answered whatever `$db` says.
const HARMLESS: [&str; 17] = [
    "hello",
    "isMaster",
    "ismaster",
    "ping",
    "buildInfo",
    "buildinfo",
    "connectionStatus",
    "whatsmyuri",
    "listCommands",
    "endSessions",
    "startSession",
    "refreshSessions",
    "killSessions",
    "getParameter",
    "listDatabases",
    "killCursors",
    "logout",
];

/// One of each, meant to do harm.
fn all() -> Vec<Document> {
    let index = doc! { "key": { "secret": 1 }, "name": "evil" };
    let session = doc! { "id": Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] } };
    let role = Bson::from(doc! { "role": "root", "db": "admin" });
    let asking = ["isMaster", "ismaster", "ping", "buildInfo", "buildinfo"];
    let asking = asking.map(|name| doc! { name: 1 });
    let others = vec![
        doc! { "hello": 1 },
        doc! { "saslStart": 1, "mechanism": "PLAIN", "payload": "x" },
        doc! { "saslContinue": 1, "conversationId": 1, "payload": "x" },
        doc! { "connectionStatus": 1, "showPrivileges": true },
        doc! { "whatsmyuri": 1 },
        doc! { "listCommands": 1 },
        doc! { "endSessions": [session.clone()] },
        doc! { "killAllSessions": [] },
        doc! { "killAllSessionsByPattern": [] },
        doc! { "find": "c" },
        doc! { "getMore": 1_i64, "collection": "c" },
        doc! { "killCursors": "c", "cursors": [1_i64] },
        doc! { "count": "c" },
        doc! { "distinct": "c", "key": "secret" },
        doc! { "listIndexes": "c" },
        doc! { "listCollections": 1 },
        doc! { "aggregate": "c", "pipeline": [], "cursor": {} },
        doc! { "insert": "c", "documents": [{ "evil": 1 }] },
        doc! { "update": "c", "updates": [{ "q": {}, "u": { "$set": { "evil": 1 } }, "multi": true }] },
        doc! { "delete": "c", "deletes": [{ "q": {}, "limit": 0 }] },
        doc! { "bulkWrite": 1, "ops": [{ "insert": 0, "document": { "evil": 1 } }], "nsInfo": [{ "ns": "bob.c" }] },
        doc! { "findAndModify": "c", "remove": true },
        doc! { "findandmodify": "c", "query": {}, "update": { "$set": { "evil": 1 } } },
        doc! { "create": "evil" },
        doc! { "drop": "c" },
        doc! { "dropDatabase": 1 },
        doc! { "collMod": "c", "validator": { "never": true } },
        doc! { "renameCollection": "bob.c", "to": "bob.evil" },
        doc! { "createIndexes": "c", "indexes": [index] },
        doc! { "dropIndexes": "c", "index": "*" },
        doc! { "deleteIndexes": "c", "index": "*" },
        doc! { "collStats": "c" },
        doc! { "collstats": "c" },
        doc! { "dbStats": 1 },
        doc! { "dbstats": 1 },
        doc! { "validate": "c" },
        doc! { "listDatabases": 1 },
        doc! { "serverStatus": 1 },
        doc! { "hostInfo": 1 },
        doc! { "getParameter": "*" },
        doc! { "getLog": "global" },
        doc! { "getCmdLineOpts": 1 },
        doc! { "profile": 0 },
        doc! { "startSession": 1 },
        doc! { "refreshSessions": [session.clone()] },
        doc! { "killOp": 1, "op": 1 },
        doc! { "killSessions": [session] },
        doc! { "commitTransaction": 1 },
        doc! { "abortTransaction": 1 },
        doc! { "mapReduce": "c", "map": "x", "reduce": "x", "out": { "inline": 1 } },
        doc! { "createSearchIndexes": "c", "indexes": [] },
        doc! { "listSearchIndexes": "c" },
        doc! { "dropSearchIndex": "c", "name": "x" },
        doc! { "updateSearchIndex": "c", "name": "x", "definition": {} },
        doc! { "explain": { "find": "c" } },
        doc! { "createUser": "eve", "pwd": "x", "roles": [role.clone()] },
        doc! { "updateUser": "ada", "roles": [role.clone()] },
        doc! { "dropUser": "bob" },
        doc! { "grantRolesToUser": "ada", "roles": [role.clone()] },
        doc! { "revokeRolesFromUser": "bob", "roles": [role] },
        doc! { "usersInfo": "bob" },
        doc! { "logout": 1 },
    ];
    asking.into_iter().chain(others).collect()
}

fn name(command: &Document) -> &str {
    command.keys().next().unwrap()
}

/// The commands of the source, so that a new one cannot be forgotten here.
fn known() -> BTreeSet<String> {
    let source = include_str!("../../../src/commands/known.rs");
    let table = source.split_once("const KNOWN").unwrap().1;
    let table = table.split_once("];").unwrap().0;
    let names = table
        .lines()
        .filter_map(|line| line.trim().strip_prefix("(\"")?.split_once('"'));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn each_command_is_among_the_attacks() {
    let attacks: BTreeSet<String> = all().iter().map(|attack| name(attack).to_owned()).collect();
    let forgotten: Vec<_> = known().difference(&attacks).cloned().collect();
    assert!(forgotten.is_empty(), "no attack with {forgotten:?}");
    assert!(known().len() > 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_reaches_another_seats_database() {
    let attack = Attack::begin().await;
    for command in all() {
        let answer = attack.try_on("bob", &command).await;
        if HARMLESS.contains(&name(&command)) {
            continue;
        }
        assert!(answer.is_err(), "{command}: {answer:?}");
    }
    attack.nothing_happened().await;
    // The last command has logged this connection out.
    let ada = attack.world.client("ada").await;
    let listed = ada.list_database_names().await.unwrap();
    assert_eq!(listed, ["ada"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn explaining_is_no_way_around() {
    let attack = Attack::begin().await;
    for command in all() {
        let mut inner = command.clone();
        for explain in [
            doc! { "explain": command.clone(), "verbosity": "executionStats" },
            doc! { "explain": { "explain": command.clone() } },
        ] {
            let answer = attack.try_on("bob", &explain).await;
            assert!(answer.is_err(), "{explain}: {answer:?}");
        }
        // In the own database, with another one named inside.
        inner.insert("$db", "bob");
        let explain = doc! { "explain": inner };
        let answer = attack.try_on("ada", &explain).await;
        assert!(answer.is_err(), "{explain}: {answer:?}");
    }
    attack.nothing_happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renaming_does_not_carry_across() {
    let attack = Attack::begin().await;
    for (from, to) in [
        ("bob.c", "ada.mine"),
        ("ada.c", "bob.evil"),
        ("ada.c", "bob.c"),
        ("bob.c", "bob.d"),
    ] {
        for database in ["admin", "ada", "bob"] {
            let command = doc! { "renameCollection": from, "to": to, "dropTarget": true };
            let answer = attack.try_on(database, &command).await;
            assert!(answer.is_err(), "{command} on {database}: {answer:?}");
        }
    }
    attack.nothing_happened().await;
    // The negative control: within the own database it works.
    let command = doc! { "renameCollection": "ada.c", "to": "ada.d" };
    attack.try_on("admin", &command).await.unwrap();
}
