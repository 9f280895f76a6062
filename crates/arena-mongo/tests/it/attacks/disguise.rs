//! Things that look like something else: fields twice, databases under other
//! names, values of the wrong type where a checker might look away.

use mongodb::bson::{
    Binary, Bson, Document, JavaScriptCodeWithScope, Regex, Timestamp, doc, spec::BinarySubtype,
};

use super::{Attack, SECRET};
use crate::wire::{Wire, document, message};
use crate::world::PASSWORD;

/// A body with one field name overwritten by another of the same length, which no driver would send.
fn disguised(body: &Document, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = document(body);
    let (from, to) = (format!("{from}\0"), format!("{to}\0"));
    let at = bytes
        .windows(from.len())
        .position(|name| name == from.as_bytes())
        .unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    message(&bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_twice_is_refused_wherever_it_stands() {
    let attack = Attack::begin().await;
    let mut wire = Wire::open(&attack.world).await;
    wire.log_in("ada", PASSWORD).await;
    let there = doc! { "db": "bob", "coll": "c" };
    for (body, from, to) in [
        (
            doc! { "find": "c", "$db": "ada", "$dc": "bob" },
            "$dc",
            "$db",
        ),
        (
            doc! { "find": "c", "$dc": "bob", "$db": "ada" },
            "$dc",
            "$db",
        ),
        (
            doc! { "find": "c", "fine": "x", "$db": "ada" },
            "fine",
            "find",
        ),
        (
            doc! { "aggregate": "c", "pipeline": [], "pipelinf": [{ "$unionWith": there.clone() }], "cursor": {}, "$db": "ada" },
            "pipelinf",
            "pipeline",
        ),
        (
            doc! { "aggregate": "c", "pipeline": [{ "$unionWith": { "coll": "c", "colm": there.clone() } }], "cursor": {}, "$db": "ada" },
            "colm",
            "coll",
        ),
        (
            doc! { "aggregate": "c", "pipeline": [{ "$out": { "db": "ada", "dc": "bob", "coll": "x" } }], "cursor": {}, "$db": "ada" },
            "dc",
            "db",
        ),
        (
            doc! { "aggregate": "c", "pipeline": [{ "$lookup": { "from": "c", "frox": there, "pipeline": [], "as": "x" } }], "cursor": {}, "$db": "ada" },
            "frox",
            "from",
        ),
        (
            doc! { "update": "c", "updates": [{ "q": {}, "u": { "$set": { "a": 1 } }, "v": {} }], "$db": "ada" },
            "v",
            "u",
        ),
    ] {
        wire.send(&disguised(&body, from, to)).await;
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.get_f64("ok").unwrap(), 0.0, "{body}: {answer}");
        assert!(answer.to_string().contains("appears twice"), "{answer}");
    }
    // Also inside a document of a sequence.
    let insert = document(&doc! { "insert": "c", "$db": "ada" });
    let mut hidden = document(&doc! { "_id": 9, "_ie": 8 });
    let at = hidden.windows(4).position(|name| name == b"_ie\0").unwrap();
    hidden[at..at + 4].copy_from_slice(b"_id\0");
    let section = [b"documents\0", &hidden[..]].concat();
    let length = i32::try_from(section.len() + 4).unwrap();
    let mut bytes = [
        message(&insert),
        vec![1],
        length.to_le_bytes().to_vec(),
        section,
    ]
    .concat();
    let whole = i32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&whole.to_le_bytes());
    wire.send(&bytes).await;
    let answer = wire.answer().await.unwrap();
    assert!(answer.to_string().contains("appears twice"), "{answer}");
    attack.nothing_happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_spelling_of_a_database_is_that_database() {
    let attack = Attack::begin().await;
    let mut wire = Wire::open(&attack.world).await;
    wire.log_in("ada", PASSWORD).await;
    let long = "b".repeat(64);
    for name in [
        "admin",
        "local",
        "config",
        "postgres",
        "documentdb",
        "pg_catalog",
        "Bob",
        "BOB",
        "Ada",
        "bob ",
        " bob",
        "bob\0",
        "bob\0ada",
        "ada\0",
        "bob.c",
        "bob.",
        ".bob",
        "./bob",
        "ada/../bob",
        "b\u{43e}b",
        "bo\u{62}\u{301}",
        "\u{feff}bob",
        "bob'",
        "bob'--",
        "bob\"",
        "$external",
        "$cmd",
        "*",
        "%",
        "",
        "ada,bob",
        &long,
    ] {
        for command in [
            doc! { "find": "c", "$db": name },
            doc! { "insert": "c", "documents": [{ "evil": 1 }], "$db": name },
            doc! { "create": "evil", "$db": name },
            doc! { "explain": { "find": "c" }, "$db": name },
            doc! { "aggregate": "c", "pipeline": [{ "$match": {} }], "cursor": {}, "$db": name },
        ] {
            let answer = wire.run(&command).await;
            assert_eq!(answer.get_f64("ok").unwrap(), 0.0, "{command}: {answer}");
            assert!(!answer.to_string().contains(SECRET), "{answer}");
        }
    }
    for database in [
        Bson::Null,
        Bson::Int32(1),
        Bson::from(vec!["bob"]),
        Bson::from(doc! { "db": "bob" }),
        Bson::Boolean(true),
    ] {
        let answer = wire.run(&doc! { "find": "c", "$db": database }).await;
        assert_eq!(answer.get_f64("ok").unwrap(), 0.0, "{answer}");
    }
    attack.nothing_happened().await;
}

/// Values that are no text, no document and no array, or pretend to be.
fn strange() -> Vec<Bson> {
    vec![
        Bson::Null,
        Bson::Int32(1),
        Bson::Int64(i64::MIN),
        Bson::Double(f64::NAN),
        Bson::Boolean(true),
        Bson::from(doc! {}),
        Bson::from(doc! { "0": { "$unionWith": { "db": "bob", "coll": "c" } } }),
        Bson::from(doc! { "db": "bob", "coll": "c" }),
        Bson::from(vec![Bson::from(
            doc! { "$unionWith": { "db": "bob", "coll": "c" } },
        )]),
        Bson::from(vec!["bob", "c"]),
        Bson::RegularExpression(Regex {
            pattern: "bob".try_into().unwrap(),
            options: "i".try_into().unwrap(),
        }),
        Bson::JavaScriptCode("db.getSiblingDB('bob').c.find()".to_owned()),
        Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
            code: "x".to_owned(),
            scope: doc! { "db": "bob" },
        }),
        Bson::Binary(Binary {
            subtype: BinarySubtype::Generic,
            bytes: b"bob.c".to_vec(),
        }),
        Bson::Symbol("bob".to_owned()),
        Bson::Timestamp(Timestamp {
            time: 1,
            increment: 1,
        }),
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Undefined,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_the_wrong_type_opens_nothing() {
    let attack = Attack::begin().await;
    for value in strange() {
        let v = || value.clone();
        for command in [
            doc! { "find": v() },
            doc! { "find": "c", "filter": v() },
            doc! { "aggregate": v(), "pipeline": [], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": v(), "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [v()], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$out": v() }], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$out": { "db": v(), "coll": "x" } }], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$out": { "db": "bob", "coll": v() } }], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$merge": { "into": v() } }], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$merge": { "into": "c", "whenMatched": v() } }], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$lookup": v() }], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$lookup": { "from": v(), "pipeline": [], "as": "x" } }], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$lookup": { "from": "c", "pipeline": v(), "as": "x" } }], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$unionWith": v() }], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$unionWith": { "coll": v() } }], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$graphLookup": { "from": v(), "startWith": 1, "connectFromField": "a", "connectToField": "b", "as": "x" } }], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$facet": v() }], "cursor": {} },
            doc! { "aggregate": "c", "pipeline": [{ "$facet": { "f": v() } }], "cursor": {} },
            doc! { "update": "c", "updates": [{ "q": {}, "u": v() }] },
            doc! { "update": "c", "updates": v() },
            doc! { "delete": "c", "deletes": v() },
            doc! { "insert": "c", "documents": v() },
            doc! { "create": v() },
            doc! { "create": "v", "viewOn": v() },
            doc! { "explain": v() },
            doc! { "renameCollection": v(), "to": "ada.x" },
            doc! { "renameCollection": "ada.nothing", "to": v() },
            doc! { "createUser": v(), "pwd": "x", "roles": ["root"] },
            doc! { "usersInfo": v() },
            doc! { "killCursors": "c", "cursors": v() },
            doc! { "getMore": v(), "collection": "c" },
            doc! { "distinct": "c", "key": v() },
        ] {
            // Whatever the answer: the secret is not in it, and nothing of Bob's moved.
            let _ = attack.try_on("ada", &command).await;
        }
    }
    attack.nothing_happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_place_lets_code_in() {
    let attack = Attack::begin().await;
    let code = [
        doc! { "$where": "true" },
        doc! { "$expr": { "$function": { "body": "x", "args": [], "lang": "js" } } },
        doc! { "$or": [{ "a": 1 }, { "$and": [{ "$where": "true" }] }] },
        doc! { "a": { "$not": { "$elemMatch": { "$where": "true" } } } },
    ];
    let function = doc! { "$function": { "body": "x", "args": [], "lang": "js" } };
    let accumulator = doc! { "$accumulator": { "init": "x", "accumulate": "x", "accumulateArgs": [], "merge": "x", "lang": "js" } };
    let mut commands = vec![
        doc! { "find": "c", "projection": { "x": function.clone() } },
        doc! { "find": "c", "let": { "x": function.clone() } },
        doc! { "find": "c", "sort": { "x": function.clone() } },
        doc! { "aggregate": "c", "pipeline": [{ "$set": { "x": function.clone() } }], "cursor": {} },
        doc! { "aggregate": "c", "pipeline": [], "let": { "x": function.clone() }, "cursor": {} },
        doc! { "aggregate": "c", "pipeline": [{ "$group": { "_id": null, "x": accumulator } }], "cursor": {} },
        doc! { "aggregate": "c", "pipeline": [{ "$lookup": { "from": "c", "let": { "x": function.clone() }, "pipeline": [], "as": "y" } }], "cursor": {} },
        doc! { "update": "c", "updates": [{ "q": {}, "u": [{ "$set": { "x": function.clone() } }] }] },
        doc! { "findAndModify": "c", "query": {}, "update": { "$set": { "x": 1 } }, "fields": { "x": function } },
    ];
    for filter in code {
        commands.extend([
            doc! { "find": "c", "filter": filter.clone() },
            doc! { "count": "c", "query": filter.clone() },
            doc! { "distinct": "c", "key": "a", "query": filter.clone() },
            doc! { "aggregate": "c", "pipeline": [{ "$match": filter.clone() }], "cursor": {} },
            doc! { "delete": "c", "deletes": [{ "q": filter.clone(), "limit": 0 }] },
            doc! { "update": "c", "updates": [{ "q": filter.clone(), "u": { "$set": { "a": 1 } } }] },
            doc! { "update": "c", "updates": [{ "q": {}, "u": { "$set": { "a.$[x]": 1 } }, "arrayFilters": [filter.clone()] }] },
            doc! { "update": "c", "updates": [{ "q": {}, "u": { "$pull": { "a": filter.clone() } } }] },
            doc! { "findAndModify": "c", "query": filter.clone(), "remove": true },
            doc! { "create": "evil", "validator": filter.clone() },
            doc! { "create": "evil", "viewOn": "c", "pipeline": [{ "$match": filter.clone() }] },
            doc! { "createIndexes": "c", "indexes": [{ "key": { "a": 1 }, "name": "a", "partialFilterExpression": filter.clone() }] },
            doc! { "explain": { "find": "c", "filter": filter.clone() } },
            doc! { "aggregate": "c", "pipeline": [{ "$graphLookup": { "from": "c", "startWith": 1, "connectFromField": "a", "connectToField": "b", "as": "x", "restrictSearchWithMatch": filter } }], "cursor": {} },
        ]);
    }
    for command in commands {
        let answer = attack.try_on("ada", &command).await;
        assert!(answer.is_err(), "{command}: {answer:?}");
    }
    let names = attack.ada.list_collection_names().await.unwrap();
    assert_eq!(names, ["c"]);
}
