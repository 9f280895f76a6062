//! Every command of the front, asked by somebody who has no right where it is asked.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::collections::BTreeSet;

use mongodb::bson::{Document, doc};
use mongodb::error::ErrorKind;

use crate::world::World;

/// The front's list of its commands, read from its source: a new one is missed here until it has its line.
const SOURCE: &str = include_str!("../../src/commands.rs");

fn known() -> BTreeSet<&'static str> {
    let list = SOURCE.split_once("const KNOWN").unwrap().1;
    let list = list.split_once("];").unwrap().0;
    let lines = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix("(\""));
    lines.map(|line| line.split('"').next().unwrap()).collect()
}

/// Commands that concern only who asks: about the connection, own sessions, own cursors and operations.
const OF_ONES_OWN: [&str; 24] = [
    "hello",
    "isMaster",
    "ismaster",
    "ping",
    "buildInfo",
    "buildinfo",
    "saslStart",
    "saslContinue",
    "logout",
    "connectionStatus",
    "whatsmyuri",
    "getMore",
    "killCursors",
    "startSession",
    "refreshSessions",
    "endSessions",
    "killSessions",
    "killAllSessions",
    "killAllSessionsByPattern",
    "commitTransaction",
    "abortTransaction",
    "listDatabases",
    "killOp",
    "getParameter",
];

/// All others, as one would ask them of somebody else's collection.
fn others() -> Vec<Document> {
    let find = doc! { "find": "c" };
    let index = doc! { "key": { "a": 1 }, "name": "a" };
    let roles = doc! { "roles": ["root"] };
    let change = doc! { "q": {}, "u": { "$set": { "stolen": true } } };
    let of = |name: &str, rest: Document| {
        let mut command = doc! { name: "c" };
        command.extend(rest);
        command
    };
    vec![
        find.clone(),
        of("count", doc! {}),
        of("distinct", doc! { "key": "a" }),
        of("listIndexes", doc! {}),
        doc! { "listCollections": 1 },
        of("aggregate", doc! { "pipeline": [], "cursor": {} }),
        of("insert", doc! { "documents": [{ "a": 1 }] }),
        of("update", doc! { "updates": [&change] }),
        of("delete", doc! { "deletes": [{ "q": {}, "limit": 0 }] }),
        of("findAndModify", doc! { "remove": true }),
        of("findandmodify", doc! { "remove": true }),
        of("create", doc! {}),
        of("drop", doc! {}),
        doc! { "dropDatabase": 1 },
        of("collMod", doc! { "validator": {} }),
        of("createIndexes", doc! { "indexes": [&index] }),
        of("dropIndexes", doc! { "index": "*" }),
        of("deleteIndexes", doc! { "index": "*" }),
        of("collStats", doc! {}),
        of("collstats", doc! {}),
        doc! { "dbStats": 1 },
        doc! { "dbstats": 1 },
        of("validate", doc! {}),
        doc! { "serverStatus": 1 },
        doc! { "hostInfo": 1 },
        doc! { "getLog": "global" },
        doc! { "getCmdLineOpts": 1 },
        of(
            "mapReduce",
            doc! { "map": "f", "reduce": "f", "out": { "inline": 1 } },
        ),
        of(
            "createSearchIndexes",
            doc! { "indexes": [{ "name": "v", "type": "vectorSearch", "definition": { "fields": [] } }] },
        ),
        of("listSearchIndexes", doc! {}),
        of("dropSearchIndex", doc! { "name": "v" }),
        of("updateSearchIndex", doc! { "name": "v", "definition": {} }),
        doc! { "explain": find },
        doc! { "createUser": "eve", "pwd": "x", "roles": ["root"] },
        of("updateUser", roles.clone()),
        of("dropUser", doc! {}),
        of("grantRolesToUser", roles.clone()),
        of("revokeRolesFromUser", roles),
        doc! { "usersInfo": 1 },
        doc! { "renameCollection": "grace.c", "to": "ada.c" },
        doc! { "bulkWrite": 1, "ops": [{ "insert": 0, "document": { "a": 1 } }], "nsInfo": [{ "ns": "grace.c" }] },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_refused_where_one_has_no_right() {
    let world = World::start().await;
    world.seat("ada");
    world.seat("grace");
    let kept = doc! { "_id": 1, "a": 1 };
    let grace = world.client("grace").await;
    let collection = grace.database("grace").collection::<Document>("c");
    collection.insert_one(kept.clone()).await.unwrap();

    let asked: BTreeSet<String> = others()
        .iter()
        .map(|command| command.keys().next().unwrap().clone())
        .chain(OF_ONES_OWN.map(str::to_owned))
        .collect();
    let known: BTreeSet<String> = known().into_iter().map(str::to_owned).collect();
    assert!(known.len() > 60);
    assert_eq!(asked, known, "each command has its line");

    let ada = world.client("ada").await;
    let mut open = Vec::new();
    for command in others() {
        let name = command.keys().next().unwrap().clone();
        let of_the_server = [
            "serverStatus",
            "hostInfo",
            "getLog",
            "getCmdLineOpts",
            "renameCollection",
            "bulkWrite",
        ];
        let database = if of_the_server.contains(&name.as_str()) {
            "admin"
        } else {
            "grace"
        };
        let outcome = ada.database(database).run_command(command).await;
        let code = match outcome.as_ref().map_err(|error| &*error.kind) {
            Err(ErrorKind::Command(error)) => Some(error.code),
            _ => None,
        };
        // Refused for everybody, before anything is read: not supported, and Atlas's own.
        let for_nobody = ["mapReduce", "listSearchIndexes", "updateSearchIndex"];
        let is_for_nobody =
            for_nobody.contains(&name.as_str()) && matches!(code, Some(115 | 31082));
        if code != Some(13) && !is_for_nobody {
            open.push(format!("{name}: {outcome:?}"));
        }
    }
    assert!(open.is_empty(), "{}", open.join("\n"));
    let left: Vec<Document> = {
        use futures_util::TryStreamExt as _;
        collection
            .find(doc! {})
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap()
    };
    assert_eq!(left, [kept]);
    let names = ada.list_database_names().await.unwrap();
    assert!(!names.contains(&"grace".to_owned()), "{names:?}");
}
