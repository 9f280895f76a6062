//! `arena_shared`: what workshop apps may read about the event, as collections
//! and views of an ordinary database on whatever MongoDB the event has. Every
//! seat's user has the role `read` there and nobody but the administrator may
//! write. The types have no field for an e-mail.
//!
//! Only what changed is written: the writer remembers what it wrote last.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use mongodb::{Client, Database};
use sha2::{Digest, Sha256};

use crate::ProvisionError;
use crate::mongo::{code, failed};

/// Name of the database.
pub const SHARED_DATABASE: &str = "arena_shared";

const PARTICIPANTS: &str = "participants";
const RESULTS: &str = "results";
const HEALTH: &str = "results_health";
const SCENARIO: &str = "scenario_config";
const COLLECTIONS: [&str; 4] = [PARTICIPANTS, RESULTS, HEALTH, SCENARIO];
/// Operations in one command.
const BATCH: usize = 500;
/// What `create` answers when there is one of that name.
const NAMESPACE_EXISTS: i32 = 48;
/// What `collMod` answers when there is none.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// All that is shared, as it is at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SharedContents {
    /// Seats that are taken or on the list.
    pub participants: Vec<SharedParticipant>,
    /// First passes.
    pub results: Vec<SharedResult>,
    /// How each seat's exercises stand.
    pub health: Vec<SharedHealth>,
    /// The scenario, for apps that show what is asked: a JSON object without secrets.
    pub scenario: serde_json::Value,
    /// Results after this instant do not count on the leaderboards.
    pub close_on: Option<SystemTime>,
}

/// A seat and who sits there.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedParticipant {
    /// The seat.
    pub seat: String,
    /// Name to show.
    pub name: String,
    /// Since when somebody sits there.
    pub taken: Option<SystemTime>,
    /// Whether the person is hidden from the leaderboards.
    pub hidden: bool,
    /// Whether the seat is missing from the list now.
    pub decommissioned: bool,
}

/// A first pass of an exercise.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedResult {
    /// The exercise, such as `crud-1`.
    pub exercise: String,
    /// The seat.
    pub seat: String,
    /// When.
    pub at: SystemTime,
}

/// How a seat's exercises stand.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedHealth {
    /// The seat.
    pub seat: String,
    /// Version of Arena that graded.
    pub version: String,
    /// When it was last graded.
    pub at: SystemTime,
    /// Exercises in the scenario.
    pub total: u32,
    /// Each exercise that was graded.
    pub exercises: Vec<SharedExercise>,
}

/// How one exercise stands in one seat.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedExercise {
    /// Its name, such as `crud-1`.
    pub name: String,
    /// Whether it was passed last.
    pub passed: bool,
    /// What the first failed check says; empty when passed.
    pub failure: String,
}

type Written = BTreeMap<&'static str, BTreeMap<String, Document>>;

/// Keeps the database as it should be.
pub struct SharedWriter {
    database: Database,
    /// What is there; `None` before it is known.
    written: Option<Written>,
    views: Vec<(&'static str, Vec<Document>)>,
}

impl SharedWriter {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            database: client.database(SHARED_DATABASE),
            written: None,
            views: Vec::new(),
        }
    }

    /// Writes what differs from what is there.
    ///
    /// # Errors
    /// When the server refuses or is away; the next call begins with what is really there.
    ///
    /// # Cancellation
    /// Part may be written; the next call writes the rest.
    pub async fn write(&mut self, contents: &SharedContents) -> Result<(), ProvisionError> {
        let before = match self.written.take() {
            Some(written) => written,
            None => self.prepare().await?,
        };
        let wanted = documents(contents);
        for name in COLLECTIONS {
            let none = BTreeMap::new();
            let old = before.get(name).unwrap_or(&none);
            let new = wanted.get(name).unwrap_or(&none);
            self.replace(name, old, new).await?;
        }
        let views = views(contents.close_on);
        if views != self.views {
            self.views.clear();
            for (name, pipeline) in &views {
                self.view(name, pipeline).await?;
            }
            self.views = views;
        }
        self.written = Some(wanted);
        Ok(())
    }

    /// Makes what is missing and returns which documents there are; their contents count as unknown.
    async fn prepare(&mut self) -> Result<Written, ProvisionError> {
        self.views.clear();
        let mut found = Written::new();
        for name in COLLECTIONS {
            match self.database.create_collection(name).await {
                Err(error) if code(&error) != Some(NAMESPACE_EXISTS) => {
                    return Err(failed(format!("make {SHARED_DATABASE}.{name}"))(error));
                }
                _ => {}
            }
            let what = || failed(format!("read {SHARED_DATABASE}.{name}"));
            let collection = self.database.collection::<Document>(name);
            let find = collection.find(doc! {}).projection(doc! { "_id": 1 });
            let mut cursor = find.await.map_err(what())?;
            let documents = found.entry(name).or_default();
            while cursor.advance().await.map_err(what())? {
                let document = cursor.deserialize_current().map_err(what())?;
                documents.insert(key(&document), document);
            }
        }
        Ok(found)
    }

    async fn replace(
        &self,
        name: &str,
        old: &BTreeMap<String, Document>,
        new: &BTreeMap<String, Document>,
    ) -> Result<(), ProvisionError> {
        let id = |document: &Document| document.get("_id").cloned().unwrap_or(Bson::Null);
        let changed = new
            .iter()
            .filter(|(key, document)| old.get(*key) != Some(*document));
        let updates: Vec<Document> = changed
            .map(|(_, document)| doc! { "q": { "_id": id(document) }, "u": document.clone(), "upsert": true })
            .collect();
        let gone = old.iter().filter(|(key, _)| !new.contains_key(*key));
        let deletes: Vec<Document> = gone
            .map(|(_, document)| doc! { "q": { "_id": id(document) }, "limit": 1 })
            .collect();
        let commands = updates
            .chunks(BATCH)
            .map(|part| doc! { "update": name, "updates": part.to_vec() })
            .chain(
                deletes
                    .chunks(BATCH)
                    .map(|part| doc! { "delete": name, "deletes": part.to_vec() }),
            );
        for command in commands {
            let what = || failed(format!("write {SHARED_DATABASE}.{name}"));
            let answer = self.database.run_command(command).await.map_err(what())?;
            if let Ok(errors) = answer.get_array("writeErrors") {
                return Err(ProvisionError::Unlike {
                    database: format!("{SHARED_DATABASE}.{name}"),
                    difference: errors.first().map(Bson::to_string).unwrap_or_default(),
                });
            }
        }
        Ok(())
    }

    /// All views stand on the results.
    async fn view(&self, name: &str, pipeline: &[Document]) -> Result<(), ProvisionError> {
        let change = doc! { "collMod": name, "viewOn": RESULTS, "pipeline": pipeline.to_vec() };
        let done = match self.database.run_command(change).await {
            Err(error) if code(&error) == Some(NAMESPACE_NOT_FOUND) => {
                let create =
                    doc! { "create": name, "viewOn": RESULTS, "pipeline": pipeline.to_vec() };
                self.database.run_command(create).await
            }
            done => done,
        };
        done.map(drop)
            .map_err(failed(format!("make the view {SHARED_DATABASE}.{name}")))
    }
}

fn key(document: &Document) -> String {
    document.get("_id").map(Bson::to_string).unwrap_or_default()
}

fn documents(contents: &SharedContents) -> Written {
    let keyed = |documents: Vec<Document>| {
        documents
            .into_iter()
            .map(|document| (key(&document), document))
            .collect()
    };
    let participants = contents.participants.iter().map(participant).collect();
    let results = contents.results.iter().map(result).collect();
    let health = contents.health.iter().map(health).collect();
    Written::from([
        (PARTICIPANTS, keyed(participants)),
        (RESULTS, keyed(results)),
        (HEALTH, keyed(health)),
        (SCENARIO, keyed(vec![scenario(&contents.scenario)])),
    ])
}

fn at(time: SystemTime) -> DateTime {
    DateTime::from_system_time(time)
}

fn participant(one: &SharedParticipant) -> Document {
    let mut document = doc! { "_id": &one.seat, "name": &one.name, "taken": one.taken.is_some() };
    if let Some(taken) = one.taken {
        document.insert("taken_timestamp", at(taken));
    }
    if one.hidden {
        document.insert("leaderboard", false);
    }
    if one.decommissioned {
        document.insert("decommissioned", true);
    }
    document
}

/// The id is made of what makes a result one of its kind, so that writing it twice is writing it once.
fn result(one: &SharedResult) -> Document {
    let digest = Sha256::digest(format!("{}\n{}", one.seat, one.exercise));
    let mut id = [0; 12];
    id.copy_from_slice(&digest[..12]);
    let mut document = doc! {
        "_id": ObjectId::from_bytes(id), "name": &one.exercise, "username": &one.seat, "timestamp": at(one.at),
    };
    if let Some((section, _)) = one.exercise.rsplit_once('-') {
        document.insert("section", section);
    }
    document
}

fn health(one: &SharedHealth) -> Document {
    let exercises = one.exercises.iter().map(|exercise| {
        Bson::from(doc! {
            "exercise_name": &exercise.name,
            "passed": exercise.passed,
            // Apps' toggles show this word.
            "status": if exercise.passed { "passed" } else { "failed" },
            "failure_reason": if exercise.passed { Bson::Null } else { exercise.failure.as_str().into() },
        })
    });
    let passed = one
        .exercises
        .iter()
        .filter(|exercise| exercise.passed)
        .count();
    doc! {
        "_id": &one.seat,
        "version": &one.version,
        "environment_info": { "grader": "Arena" },
        "exercise_results": exercises.collect::<Vec<_>>(),
        "execution_status": "completed",
        "last_updated": at(one.at),
        "total_exercises": i64::from(one.total),
        "passed_exercises": i64::try_from(passed).unwrap_or(i64::MAX),
    }
}

fn scenario(value: &serde_json::Value) -> Document {
    let mut document = doc! { "_id": "scenario" };
    if let Ok(Bson::Document(contents)) = Bson::try_from(value.clone()) {
        document.extend(contents);
    }
    document
}

/// The boards, computed where they are read, by the same rules as the portal's.
fn views(close_on: Option<SystemTime>) -> Vec<(&'static str, Vec<Document>)> {
    let counted = |mut rest: Vec<Document>| {
        let mut stages = Vec::new();
        if let Some(close_on) = close_on {
            stages.push(doc! { "$match": { "timestamp": { "$lte": at(close_on) } } });
        }
        stages.extend([
            doc! { "$lookup": { "from": PARTICIPANTS, "localField": "username", "foreignField": "_id", "as": "participant" } },
            doc! { "$unwind": "$participant" },
            doc! { "$match": { "participant.leaderboard": { "$ne": false }, "participant.decommissioned": { "$ne": true } } },
        ]);
        stages.append(&mut rest);
        stages
    };
    let timed = vec![
        doc! { "$group": {
            "_id": "$username", "name": { "$first": "$participant.name" }, "exercises_completed": { "$sum": 1 },
            "first_timestamp": { "$min": "$timestamp" }, "last_timestamp": { "$max": "$timestamp" },
        } },
        doc! { "$project": {
            "_id": 1, "user_id": "$_id", "username": "$_id", "name": 1, "exercises_completed": 1,
            "duration_ms": { "$subtract": ["$last_timestamp", "$first_timestamp"] },
            "first_timestamp": 1, "last_timestamp": 1,
        } },
        doc! { "$sort": { "exercises_completed": -1, "duration_ms": 1, "last_timestamp": 1, "_id": 1 } },
    ];
    let score = vec![
        // Of one instant, the portal's rule decides; places have one key to sort by.
        doc! { "$set": { "order": { "timestamp": "$timestamp", "username": "$username" } } },
        doc! { "$setWindowFields": {
            "partitionBy": "$name", "sortBy": { "order": 1 }, "output": { "place": { "$documentNumber": {} } },
        } },
        doc! { "$group": {
            "_id": "$username", "name": { "$first": "$participant.name" }, "last_timestamp": { "$max": "$timestamp" },
            "total_points": { "$sum": { "$max": [50, { "$subtract": [105, { "$multiply": [5, "$place"] }] }] } },
        } },
        doc! { "$project": { "_id": 1, "user_id": "$_id", "username": "$_id", "name": 1, "total_points": 1, "last_timestamp": 1 } },
        doc! { "$sort": { "total_points": -1, "last_timestamp": 1, "_id": 1 } },
    ];
    let user = vec![
        doc! { "$sort": { "timestamp": 1 } },
        doc! { "$group": {
            "_id": "$username", "name": { "$first": "$participant.name" },
            "exercises": { "$push": { "name": "$name", "section": "$section", "timestamp": "$timestamp" } },
        } },
        doc! { "$project": { "_id": 1, "user_id": "$_id", "username": "$_id", "name": 1, "exercises": 1 } },
        doc! { "$sort": { "_id": 1 } },
    ];
    vec![
        ("timed_leaderboard", counted(timed)),
        ("score_leaderboard", counted(score)),
        ("user_leaderboard", counted(user)),
    ]
}
