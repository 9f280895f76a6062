//! `arena_shared` on whatever MongoDB the tests have, read as a workshop's app reads it.

use std::time::{Duration, Instant, SystemTime};

use arena_database::{
    MongodbAdmin, Provisioner, SHARED_DATABASE, SharedContents, SharedExercise, SharedHealth,
    SharedParticipant, SharedResult,
};
use arena_workshop::scoring::{Leaderboard, Rules, Scoring, Solved};
use bson::{Bson, Document, doc};
use mongodb::options::{ClientOptions, Credential};
use mongodb::{Client, Database};

use crate::{name, seat};

const UNAUTHORIZED: i32 = 13;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn participant(seat: &str, name: &str) -> SharedParticipant {
    SharedParticipant {
        seat: seat.to_owned(),
        name: name.to_owned(),
        taken: Some(at(0)),
        hidden: false,
        decommissioned: false,
    }
}

fn solved(seat: &str, exercise: &str, seconds: u64) -> SharedResult {
    SharedResult {
        exercise: exercise.to_owned(),
        seat: seat.to_owned(),
        at: at(seconds),
    }
}

fn contents() -> SharedContents {
    SharedContents {
        participants: vec![
            participant("ada", "Ada"),
            participant("bo", "Bo"),
            SharedParticipant {
                hidden: true,
                ..participant("cy", "Cy")
            },
        ],
        results: vec![
            solved("cy", "crud-1", 5),
            solved("bo", "crud-1", 10),
            solved("ada", "crud-1", 20),
            solved("ada", "crud-2", 40),
            solved("bo", "crud-2", 50),
        ],
        health: vec![SharedHealth {
            seat: "ada".to_owned(),
            version: "1".to_owned(),
            at: at(40),
            total: 3,
            exercises: vec![
                SharedExercise {
                    name: "crud-1".to_owned(),
                    passed: true,
                    failure: String::new(),
                },
                SharedExercise {
                    name: "crud-3".to_owned(),
                    passed: false,
                    failure: "expected 201".to_owned(),
                },
            ],
        }],
        scenario: serde_json::json!({ "leaderboard": { "type": "timed" }, "navigation": [{ "title": "CRUD", "children": [] }] }),
        close_on: None,
    }
}

async fn all(database: &Database, collection: &str) -> Vec<Document> {
    let mut cursor = database
        .collection::<Document>(collection)
        .find(doc! {})
        .await
        .unwrap();
    let mut found = Vec::new();
    while cursor.advance().await.unwrap() {
        found.push(cursor.deserialize_current().unwrap());
    }
    found
}

fn texts<'a>(documents: &'a [Document], field: &str) -> Vec<&'a str> {
    documents
        .iter()
        .map(|document| document.get_str(field).unwrap())
        .collect()
}

fn number(document: &Document, field: &str) -> i64 {
    match document.get(field).unwrap() {
        Bson::Int32(number) => i64::from(*number),
        Bson::Int64(number) => *number,
        Bson::Double(number) => format!("{number:.0}").parse().unwrap(),
        other => panic!("{field} is {other}"),
    }
}

async fn refused(database: &Database, command: Document) {
    let error = database
        .run_command(command.clone())
        .await
        .expect_err(&command.to_string());
    match error.kind.as_ref() {
        mongodb::error::ErrorKind::Command(refusal) => {
            assert_eq!(refusal.code, UNAUTHORIZED, "{command}: {refusal}")
        }
        other => panic!("{command}: {other}"),
    }
}

#[tokio::test]
async fn every_seat_reads_the_board_and_none_writes_it() {
    let uri = std::env::var("ARENA_TEST_MONGODB_URI")
        .expect("run `cargo xtask test`, or set ARENA_TEST_MONGODB_URI");
    let template = name(&format!("arena_shared{}", std::process::id()));
    let admin = MongodbAdmin { uri: uri.clone() };
    let provisioner = Provisioner::connect(&template, Some(&admin), None)
        .await
        .unwrap();
    provisioner
        .load_template(&[crate::file("arena/data/n.json", "[{\"n\":1}]")])
        .await
        .unwrap();
    provisioner.health().await.unwrap();
    let ada = seat(&format!("sharedada-{}", std::process::id()));
    provisioner.create_seat(&ada).await.unwrap();
    let mut writer = provisioner.shared_writer().unwrap();
    writer.write(&contents()).await.unwrap();

    let mut options = ClientOptions::parse(&uri).await.unwrap();
    let credential = Credential::builder()
        .username(ada.name.to_string())
        .password(ada.password.clone());
    options.credential = Some(credential.source("admin".to_owned()).build());
    let client = Client::with_options(options).unwrap();
    let shared = client.database(SHARED_DATABASE);
    check_reading(&shared).await;
    check_writing(&shared, &client.database(ada.name.as_str())).await;
    check_changes(&mut writer, &shared).await;
    check_rules(&mut writer, &shared).await;
    provisioner.drop_seat(&ada.name).await.unwrap();
    let root = Client::with_uri_str(&uri).await.unwrap();
    root.database(template.as_str()).drop().await.unwrap();
    root.database(SHARED_DATABASE).drop().await.unwrap();
}

async fn check_reading(shared: &Database) {
    let timed = all(shared, "timed_leaderboard").await;
    // Both have two; Ada needed 20 s between first and last, Bo 40. Who is hidden is not there.
    assert_eq!(texts(&timed, "username"), ["ada", "bo"]);
    assert_eq!(
        (
            number(&timed[0], "exercises_completed"),
            number(&timed[0], "duration_ms")
        ),
        (2, 20_000)
    );
    let score = all(shared, "score_leaderboard").await;
    let points: Vec<i64> = score
        .iter()
        .map(|row| number(row, "total_points"))
        .collect();
    // Bo was first in one, Ada in the other; who is hidden takes no points from them.
    assert_eq!(
        (texts(&score, "username"), points),
        (vec!["ada", "bo"], vec![195, 195])
    );
    let user = all(shared, "user_leaderboard").await;
    assert_eq!(user[0].get_array("exercises").unwrap().len(), 2);
    let participants = shared.collection::<Document>("participants");
    assert_eq!(participants.count_documents(doc! {}).await.unwrap(), 3);
    let names = participants.distinct("name", doc! {}).await.unwrap();
    assert_eq!(names.len(), 3);
    let joined = doc! { "aggregate": "results", "cursor": {}, "pipeline": [
        { "$match": { "username": "ada" } },
        { "$lookup": { "from": "participants", "localField": "username", "foreignField": "_id", "as": "who" } },
        { "$unwind": "$who" }, { "$group": { "_id": "$who.name", "n": { "$sum": 1 } } },
    ] };
    let joined = shared.run_command(joined).await.unwrap();
    assert!(joined.to_string().contains("\"Ada\""), "{joined}");
    let health = shared
        .collection::<Document>("results_health")
        .find_one(doc! { "_id": "ada" })
        .await
        .unwrap()
        .unwrap();
    let results = health.get_array("exercise_results").unwrap();
    assert_eq!(
        results[1]
            .as_document()
            .unwrap()
            .get_str("failure_reason")
            .unwrap(),
        "expected 201"
    );
    let scenario = shared
        .collection::<Document>("scenario_config")
        .find_one(doc! {})
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        scenario
            .get_document("leaderboard")
            .unwrap()
            .get_str("type")
            .unwrap(),
        "timed"
    );
}

async fn check_writing(shared: &Database, own: &Database) {
    for command in [
        doc! { "insert": "results", "documents": [{ "name": "crud-9", "username": "ada" }] },
        doc! { "update": "results", "updates": [{ "q": {}, "u": { "$set": { "username": "ada" } }, "multi": true }] },
        doc! { "delete": "results", "deletes": [{ "q": {}, "limit": 0 }] },
        doc! { "findAndModify": "participants", "query": {}, "remove": true },
        doc! { "create": "mine" },
        doc! { "drop": "results" },
        doc! { "dropDatabase": 1 },
        doc! { "collMod": "timed_leaderboard", "viewOn": "results", "pipeline": [] },
        doc! { "createIndexes": "results", "indexes": [{ "key": { "a": 1 }, "name": "a" }] },
        doc! { "dropIndexes": "results", "index": "*" },
    ] {
        refused(shared, command).await;
    }
    let into = doc! { "db": SHARED_DATABASE, "coll": "results" };
    refused(
        own,
        doc! { "aggregate": "n", "pipeline": [{ "$out": into.clone() }], "cursor": {} },
    )
    .await;
    refused(
        own,
        doc! { "aggregate": "n", "pipeline": [{ "$merge": { "into": into } }], "cursor": {} },
    )
    .await;
    // The negative control: at home the same is allowed.
    own.collection::<Document>("results")
        .insert_one(doc! { "a": 1 })
        .await
        .unwrap();
    assert_eq!(
        shared
            .collection::<Document>("results")
            .count_documents(doc! {})
            .await
            .unwrap(),
        5
    );
}

async fn check_changes(writer: &mut arena_database::SharedWriter, shared: &Database) {
    let mut next = contents();
    next.results.retain(|result| result.seat != "bo");
    next.results.push(solved("ada", "crud-3", 90));
    next.participants[1].name = "Bob".to_owned();
    next.close_on = Some(at(60));
    let begun = Instant::now();
    writer.write(&next).await.unwrap();
    eprintln!("a change was written in {:?}", begun.elapsed());
    let timed = all(shared, "timed_leaderboard").await;
    // The third came after the board froze.
    assert_eq!(
        (
            texts(&timed, "username"),
            number(&timed[0], "exercises_completed")
        ),
        (vec!["ada"], 2)
    );
    assert_eq!(
        shared
            .collection::<Document>("results")
            .count_documents(doc! {})
            .await
            .unwrap(),
        4
    );
    let renamed = shared
        .collection::<Document>("participants")
        .find_one(doc! { "_id": "bo" })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(renamed.get_str("name").unwrap(), "Bob");
    let everything = format!(
        "{:?}{:?}",
        all(shared, "participants").await,
        all(shared, "results_health").await
    );
    assert!(!everything.contains('@'), "{everything}");
}

/// The views rank as the portal does, with as many ties as there can be.
async fn check_rules(writer: &mut arena_database::SharedWriter, shared: &Database) {
    let names: Vec<String> = (0..14).map(|number| format!("seat{number:02}")).collect();
    let mut next = contents();
    next.participants = names
        .iter()
        .map(|seat| participant(seat, "One of many"))
        .collect();
    next.participants[3].hidden = true;
    next.participants[8].decommissioned = true;
    next.close_on = Some(at(9));
    // Each seat has another part of the exercises, at one of twelve instants.
    next.results = (0_u64..70)
        .filter(|number| number % 7 != 3)
        .map(|number| {
            let seat = usize::try_from(number % 14).unwrap();
            let exercise = format!("crud-{}", number / 14);
            solved(&names[seat], &exercise, number * number * 31 % 12)
        })
        .collect();
    writer.write(&next).await.unwrap();

    let results: Vec<Solved> = next
        .results
        .iter()
        .map(|result| Solved {
            seat: result.seat.clone().try_into().unwrap(),
            exercise: result.exercise.clone().try_into().unwrap(),
            at: result.at.try_into().unwrap(),
        })
        .collect();
    let rules = Rules {
        close_on: Some(at(9).try_into().unwrap()),
        excluded: [3, 8]
            .map(|index: usize| names[index].clone().try_into().unwrap())
            .into(),
        ..Rules::default()
    };
    for (scoring, view, field) in [
        (Scoring::Timed, "timed_leaderboard", "exercises_completed"),
        (Scoring::Score, "score_leaderboard", "total_points"),
    ] {
        let read = all(shared, view).await;
        let read: Vec<(&str, i64)> = read
            .iter()
            .map(|row| (row.get_str("username").unwrap(), number(row, field)))
            .collect();
        let ranked = Leaderboard::rank(scoring, &results, &rules);
        let ranked: Vec<(&str, i64)> = ranked
            .rows
            .iter()
            .map(|row| {
                let merit = if scoring == Scoring::Timed {
                    row.solved
                } else {
                    row.points
                };
                (row.seat.as_str(), i64::from(merit))
            })
            .collect();
        assert_eq!(read, ranked, "{view}");
        assert!(ranked.len() > 8, "{ranked:?}");
    }
}
