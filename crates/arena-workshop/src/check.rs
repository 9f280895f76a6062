//! The check format: what an exercise's `arena/exercises/{slug}.yaml` may say.
//! Parsing and its messages are here; running a check is `arena-grader`'s.
//!
//! The types here are what a file means. Begin reading at [`parse`]: the
//! structs that mirror the file are in `source`, the way from them to these
//! types in `convert`, and the one placeholder syntax `{{ name.path }}` in
//! [`placeholder`]. A new matcher is a variant of [`Matcher`] and a field of
//! `source::MatcherSource`.

mod convert;
pub mod placeholder;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use convert::{mentions, parse};
pub use placeholder::{Reference, Segment};

use crate::ExerciseSlug;
use crate::plan::AppKind;
use crate::workshop::{Capability, Hint};

/// What an exercise's file says.
#[derive(Debug, Clone, PartialEq)]
pub struct ExerciseFile {
    /// The exercise, from the file's name.
    pub slug: ExerciseSlug,
    /// Title, where the file gives one.
    pub title: Option<String>,
    /// Files that the participant edits, inside the workshop, `/`-separated.
    pub files: Vec<String>,
    /// What it needs: as written, and what its steps need.
    pub needs: BTreeSet<Capability>,
    /// Exercises whose state this one needs.
    pub after: Vec<ExerciseSlug>,
    /// Hints, each with when it opens.
    pub hints: Vec<Hint>,
    /// What is verified, in order.
    pub checks: Vec<Check>,
    /// SHA-256 (hex) of the file.
    pub version: String,
}

/// One thing verified about an exercise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Says what is verified, such as `returns the requested page, sorted by name`.
    pub name: String,
    /// Names bound before the act, in order.
    pub given: Vec<Binding>,
    /// What is tried; binds the names that [`Step::binds`] says.
    pub act: Option<Step>,
    /// Names bound after the act, in order.
    pub then: Vec<Binding>,
    /// What must be so.
    pub expect: Vec<Expectation>,
    /// Steps that always run at the end, such as deleting what the app inserted.
    pub finally: Vec<Step>,
}

/// A name and the step whose answer it stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// The name.
    pub name: String,
    /// What is asked.
    pub step: Step,
    /// Rows that a read must give; fewer mean that the participant's data is gone.
    pub at_least: u32,
}

/// Something done or asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Against the seat's MongoDB.
    Mongodb(MongodbStep),
    /// Against the seat's PostgreSQL.
    Sql(SqlStep),
    /// An HTTP request to one of the seat's apps.
    Request(Box<RequestStep>),
    /// A file of the seat's work folder.
    File {
        /// Path inside the work folder.
        path: String,
    },
}

impl Step {
    /// Returns the names that this step binds as a check's act.
    pub fn binds(&self) -> &'static [&'static str] {
        match self {
            Self::Request(_) => &["status", "headers", "body"],
            Self::Mongodb(_) | Self::Sql(_) => &["result"],
            Self::File { .. } => &["exists", "text"],
        }
    }
}

/// A value whose texts may hold placeholders. Their syntax and names were checked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub Json);

/// What is asked of MongoDB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MongodbStep {
    /// Documents.
    Find(Box<Find>),
    /// An aggregation's documents.
    Aggregate {
        /// Where.
        collection: String,
        /// The stages.
        pipeline: Template,
    },
    /// How many documents.
    Count {
        /// Where.
        collection: String,
        /// Which.
        filter: Template,
    },
    /// A field's distinct values.
    Distinct {
        /// Where.
        collection: String,
        /// The field.
        field: String,
        /// In which documents.
        filter: Template,
    },
    /// The indexes, each `{name, key, …}`.
    ListIndexes {
        /// Where.
        collection: String,
    },
    /// `collection`, `view` or `absent`.
    Kind {
        /// Of what.
        collection: String,
    },
    /// Inserts a marker document and stands for it; it is removed at the end.
    Insert {
        /// Where.
        collection: String,
        /// Whether it starts as a copy of a document of the template.
        is_like_template: bool,
        /// Fields laid over.
        with: Template,
    },
    /// Deletes documents; stands for their number.
    Delete {
        /// Where.
        collection: String,
        /// Which.
        filter: Template,
    },
}

/// Which documents are asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Find {
    /// Where.
    pub collection: String,
    /// Which; an empty mapping for all.
    pub filter: Template,
    /// In which order.
    pub sort: Option<Template>,
    /// How many to leave out.
    pub skip: Option<Template>,
    /// How many at most.
    pub limit: Option<Template>,
    /// Which fields.
    pub projection: Option<Template>,
}

/// What is asked of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SqlStep {
    /// A query's rows.
    Query {
        /// One statement that returns rows; `$1` … stand for the parameters.
        text: String,
        /// The parameters.
        parameters: Vec<Template>,
    },
    /// How a query would be answered: `{indexes, sequential, text}`.
    Plan {
        /// One statement.
        text: String,
    },
    /// Facts about a table: `{exists, kind, columns, constraints, indexes}`.
    Table {
        /// Its name, with a schema in front where it is not `public`.
        name: String,
    },
    /// Inserts a marker row and stands for it; it is removed at the end.
    Insert {
        /// Into which table.
        table: String,
        /// Columns and values.
        with: BTreeMap<String, Template>,
    },
}

/// An HTTP request to one of the seat's apps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestStep {
    /// Which app.
    pub to: AppKind,
    /// `GET`, `POST` …
    pub method: String,
    /// Path, maybe with a query; placeholders are percent-encoded.
    pub path: String,
    /// Query parameters; what is not text is sent as JSON.
    pub query: BTreeMap<String, Template>,
    /// What is sent.
    pub content: RequestContent,
    /// Headers.
    pub headers: BTreeMap<String, String>,
}

/// What a request sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestContent {
    /// Nothing.
    Empty,
    /// JSON.
    Json(Template),
    /// Form fields.
    Form(BTreeMap<String, Template>),
}

/// Something that must be so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// What is looked at.
    pub at: Reference,
    /// What it must be; all of them.
    pub matchers: Vec<Matcher>,
    /// The author's message, with placeholders.
    pub otherwise: Option<String>,
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matcher {
    /// The same value. Numbers are equal across their types, an ObjectId equals its hex, dates
    /// are equal by instant.
    Equals(Template),
    /// The same rows in any order.
    Unordered(Template),
    /// Has at least these fields, or rows.
    Subset(Template),
    /// A text with this in it, or a list with a row like this.
    Contains(Template),
    /// A text that matches this regular expression.
    Matches(String),
    /// Its number of rows or characters matches.
    Length(Vec<Matcher>),
    /// As equals, numbers within a tolerance.
    Near {
        /// The value.
        value: Template,
        /// The tolerance.
        within: f64,
    },
    /// A number (or instant) not below this.
    AtLeast(Template),
    /// A number (or instant) not above this.
    AtMost(Template),
    /// Equals one of these.
    OneOf(Template),
    /// Is not there (or, when false, is there).
    Absent(bool),
}

/// Returns the JSON schema of an exercise's file, for editors.
pub fn schema() -> Json {
    schemars::schema_for!(source::ExerciseSource).to_value()
}

/// Returns the JSON schema of a matcher: what stands behind a path under `expect`.
pub fn matcher_schema() -> Json {
    schemars::schema_for!(source::MatcherSource).to_value()
}
