//! The behaviour suite: what MongoDB 8 answers, in `tests/behaviour/*.cases`, asked
//! of the built-in database. With `ARENA_BEHAVIOUR_URI` it is asked of that MongoDB
//! instead, so that both can be compared; `ARENA_BEHAVIOUR_ONLY` names one file or
//! a part of a title. A case that the built-in database answers otherwise says so
//! with its reason, and `docs/database/differences.md` is made from these.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod cases;
mod notation;
mod page;

use std::path::{Path, PathBuf};
use std::{env, fs};

use futures_util::StreamExt as _;
use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Database};

use self::cases::{Asked, Case, Expected, Step, parse};
use self::notation::{MISSING, holds, is_same, shown, shown_document};
use crate::world::World;

/// Cases that run at the same time.
const AT_ONCE: usize = 4;

/// One file of cases.
struct Topic {
    name: String,
    cases: Vec<Case>,
}

fn topics() -> Vec<Topic> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/behaviour");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "cases"))
        .collect();
    files.sort();
    let topics = files.iter().map(|file| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(file).unwrap();
        let cases = parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        Topic { name, cases }
    });
    topics.collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    BuiltIn,
    Another,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_mongodbs_or_a_known_difference() {
    let topics = topics();
    let other = env::var("ARENA_BEHAVIOUR_URI").ok();
    let (world, client, asking) = match other {
        Some(uri) => (
            None,
            Client::with_uri_str(uri).await.unwrap(),
            Asking::Another,
        ),
        None => {
            let world = World::start().await;
            let client = world.client("root").await;
            (Some(world), client, Asking::BuiltIn)
        }
    };
    let only = env::var("ARENA_BEHAVIOUR_ONLY").unwrap_or_default();
    let wanted = topics.iter().flat_map(|topic| {
        let is_wanted = |case: &&Case| topic.name == only || case.title.contains(&only);
        let cases = topic.cases.iter().filter(is_wanted);
        cases.map(|case| (topic.name.as_str(), case))
    });
    let runs = wanted.enumerate().map(|(number, (topic, case))| {
        let database = client.database(&format!("behaviour_{topic}_{number}"));
        async move { run(&database, topic, case, asking).await }
    });
    let outcomes: Vec<Vec<String>> = futures_util::stream::iter(runs)
        .buffered(AT_ONCE)
        .collect()
        .await;
    drop(world);
    let cases = outcomes.len();
    let wrong: Vec<String> = outcomes.into_iter().flatten().collect();
    assert!(
        wrong.is_empty(),
        "{} answers of {cases} cases are wrong\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn the_page_of_differences_is_current() {
    page::check(&topics());
}

/// Runs one case and returns what was not as expected.
async fn run(database: &Database, topic: &str, case: &Case, asking: Asking) -> Vec<String> {
    database.drop().await.unwrap();
    for (collection, documents) in &case.documents {
        let insert = doc! { "insert": collection, "documents": documents };
        let answer = database.run_command(insert).await;
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", case.title));
        assert!(
            !answer.contains_key("writeErrors"),
            "{}: {answer}",
            case.title
        );
    }
    let mut wrong = Vec::new();
    for (number, step) in case.steps.iter().enumerate() {
        let answer = ask(database, &step.asked, number).await;
        for problem in problems(database.name(), step, &answer, asking) {
            let found = shown_document(&answer.document);
            wrong.push(format!(
                "{topic}: {}\n  > {}\n  {problem}\n  answer: {found}",
                case.title, step.text
            ));
        }
    }
    database.drop().await.unwrap();
    wrong
}

fn problems(database: &str, step: &Step, answer: &Answer, asking: Asking) -> Vec<String> {
    let is_different = asking == Asking::BuiltIn && !step.here.is_empty();
    let expected = if is_different {
        &step.here
    } else {
        &step.expected
    };
    let unmet = expected
        .iter()
        .filter(|expected| !is_met(expected, answer, database));
    let mut problems: Vec<String> = unmet
        .map(|expected| format!("expected: {}", expectation(expected)))
        .collect();
    let is_mongodbs = step
        .expected
        .iter()
        .all(|expected| is_met(expected, answer, database));
    if is_different && is_mongodbs {
        problems.push("this is no difference any more: remove its 'here'".to_owned());
    }
    if step.expected.is_empty() && answer.error().is_some() {
        problems.push("no error expected".to_owned());
    }
    problems
}

/// What came back, and how it was asked.
struct Answer {
    document: Document,
    result: Option<Bson>,
}

impl Answer {
    /// The command's error, else the first of its writes.
    fn error(&self) -> Option<&Document> {
        if self.document.get_f64("ok").is_ok_and(|ok| ok == 0.0) {
            return Some(&self.document);
        }
        let errors = self.document.get_array("writeErrors").ok()?;
        errors.first()?.as_document()
    }
}

async fn ask(database: &Database, asked: &Asked, number: usize) -> Answer {
    match asked {
        Asked::Command(command) => {
            let document = answer_to(database, command.clone()).await;
            let result = result_of(&document);
            Answer { document, result }
        }
        Asked::Ids(find) => {
            let document = answer_to(database, find.clone()).await;
            let found = result_of(&document);
            let id = |document: &Bson| document.as_document()?.get("_id").cloned();
            let result = found.and_then(|found| {
                found
                    .as_array()
                    .map(|found| Bson::Array(found.iter().filter_map(id).collect()))
            });
            Answer { document, result }
        }
        Asked::Value {
            expression,
            document,
        } => value_of(database, expression, document, number).await,
    }
}

async fn value_of(
    database: &Database,
    expression: &Bson,
    document: &Document,
    number: usize,
) -> Answer {
    let id = i32::try_from(number).unwrap();
    let mut stored = doc! { "_id": id };
    stored.extend(document.clone());
    answer_to(database, doc! { "insert": "one", "documents": [stored] }).await;
    let pipeline = [
        doc! { "$match": { "_id": id } },
        doc! { "$replaceWith": { "v": expression } },
    ];
    let aggregate = doc! { "aggregate": "one", "pipeline": pipeline.to_vec(), "cursor": {} };
    let document = answer_to(database, aggregate).await;
    let result = result_of(&document).map(|documents| {
        let first = documents
            .as_array()
            .and_then(|documents| documents.first()?.as_document()?.get("v"));
        first
            .cloned()
            .unwrap_or_else(|| Bson::Symbol(MISSING.to_owned()))
    });
    Answer { document, result }
}

async fn answer_to(database: &Database, command: Document) -> Document {
    match database.run_command(command).await {
        Ok(answer) => answer,
        Err(error) => match error.server_response() {
            Some(response) => Document::try_from(response.as_ref()).unwrap(),
            None => panic!("no answer: {error}"),
        },
    }
}

/// What a command is for: the documents of its cursor, its values, its value, its number.
fn result_of(answer: &Document) -> Option<Bson> {
    if let Ok(cursor) = answer.get_document("cursor") {
        let is_whole = cursor.get_i64("id").is_ok_and(|id| id == 0);
        assert!(is_whole, "one batch is enough for a case: {cursor}");
        return cursor.get("firstBatch").cloned();
    }
    ["values", "value", "n"]
        .into_iter()
        .find_map(|field| answer.get(field).cloned())
}

fn is_met(expected: &Expected, answer: &Answer, database: &str) -> bool {
    match expected {
        Expected::Result(value) => {
            let is_equal = |found: &Bson| is_same(value, found);
            answer.error().is_none() && answer.result.as_ref().is_some_and(is_equal)
        }
        Expected::Unordered(values) => {
            let found = answer.result.as_ref().and_then(Bson::as_array);
            answer.error().is_none() && found.is_some_and(|found| are_same(values, found))
        }
        Expected::Holds(fields) => {
            let named = in_database(fields, database);
            holds(
                &Bson::Document(named),
                &Bson::Document(answer.document.clone()),
            )
        }
        Expected::Error { code, message } => answer.error().is_some_and(|error| {
            let text = error.get_str("errmsg").unwrap_or_default();
            error.get_i32("code").is_ok_and(|found| found == *code)
                && fits(&message.replace("DB.", &format!("{database}.")), text)
        }),
    }
}

fn are_same(expected: &[Bson], found: &[Bson]) -> bool {
    let mut left: Vec<&Bson> = found.iter().collect();
    for value in expected {
        let Some(at) = left.iter().position(|found| is_same(value, found)) else {
            return false;
        };
        left.swap_remove(at);
    }
    left.is_empty()
}

/// Puts the case's database where `DB` stands.
fn in_database(fields: &Document, database: &str) -> Document {
    fn replaced(value: &Bson, database: &str) -> Bson {
        match value {
            Bson::String(text) if text == "DB" => Bson::String(database.to_owned()),
            Bson::String(text) => Bson::String(text.replace("DB.", &format!("{database}."))),
            Bson::Document(document) => Bson::Document(in_database(document, database)),
            Bson::Array(values) => values
                .iter()
                .map(|value| replaced(value, database))
                .collect(),
            other => other.clone(),
        }
    }
    let fields = fields.iter();
    fields
        .map(|(name, value)| (name.clone(), replaced(value, database)))
        .collect()
}

/// Returns whether a text is as expected, where `…` stands for anything.
fn fits(expected: &str, text: &str) -> bool {
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

fn expectation(expected: &Expected) -> String {
    match expected {
        Expected::Result(value) => shown(value),
        Expected::Unordered(values) => {
            let values: Vec<String> = values.iter().map(shown).collect();
            format!("[{}] in any order", values.join(", "))
        }
        Expected::Holds(fields) => format!("at least {}", shown_document(fields)),
        Expected::Error { code, message } => format!("error {code} {message}"),
    }
}

#[test]
fn dots_stand_for_anything() {
    assert!(fits("a…c…", "abcd") && fits("abc", "abc") && fits("…", ""));
    assert!(!fits("abc", "abcd") && !fits("a…d", "abc") && !fits("b…", "abc"));
}
