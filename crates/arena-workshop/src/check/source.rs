//! The structs that mirror an exercise's file and nothing else. Doc comments
//! are what an editor shows beside a key.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::plan::AppKind;
use crate::workshop::Capability;

/// An exercise: what the participant edits, and what is verified.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExerciseSource {
    /// Shown to people; else the navigation's title.
    pub(super) title: Option<String>,
    /// Files that the participant edits, inside the workshop.
    #[serde(default)]
    pub(super) files: Vec<String>,
    /// What the exercise needs of a database or machine.
    #[serde(default)]
    #[schemars(with = "Vec<NeedSource>")]
    pub(super) needs: Vec<Capability>,
    /// Exercises whose state this one needs.
    #[serde(default)]
    pub(super) after: Vec<String>,
    /// Hints, each with when it opens.
    #[serde(default)]
    pub(super) hints: Vec<HintSource>,
    /// What is verified, in order.
    #[serde(default)]
    pub(super) checks: Vec<CheckSource>,
}

/// The capabilities, for the schema only.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(
    dead_code,
    reason = "only its schema is used; the values are `Capability`'s"
)]
enum NeedSource {
    Mongodb,
    AtlasSearch,
    Vector,
    Transactions,
    ChangeStreams,
    Postgres,
    Pgvector,
}

/// A hint.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HintSource {
    /// When it opens; at once when left out.
    #[serde(default)]
    pub(super) after: HintAfterSource,
    /// Markdown.
    pub(super) text: String,
}

/// When a hint opens: whichever comes first.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HintAfterSource {
    /// After that many failed attempts.
    pub(super) attempts: Option<u32>,
    /// That many minutes after the exercise was first opened.
    pub(super) minutes: Option<u32>,
}

/// One thing to verify.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckSource {
    /// Says what is verified, such as "returns the requested page, sorted by name".
    pub(super) name: String,
    /// Names bound before the act, in order: what the database says, markers.
    #[serde(default)]
    pub(super) given: BTreeMap<String, StepSource>,
    /// The act: a request to one of the seat's apps. Binds `status`, `headers`, `body`.
    pub(super) request: Option<RequestSource>,
    /// The act: a question to MongoDB. Binds `result`.
    pub(super) mongodb: Option<MongodbSource>,
    /// The act: a question to PostgreSQL. Binds `result`.
    pub(super) sql: Option<SqlSource>,
    /// The act: a file of the work folder. Binds `exists`, `text`.
    pub(super) file: Option<String>,
    /// A command inside the seat: not run yet.
    pub(super) command: Option<Json>,
    /// The author's own program: not run yet.
    pub(super) script: Option<Json>,
    /// Names bound after the act, in order.
    #[serde(default)]
    pub(super) then: BTreeMap<String, StepSource>,
    /// What must be so: `path: matcher` and the message `otherwise`.
    pub(super) expect: Vec<BTreeMap<String, Json>>,
    /// Steps that always run at the end.
    #[serde(default)]
    pub(super) finally: Vec<StepSource>,
}

/// Something done or asked: exactly one of `mongodb`, `sql`, `request`, `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-exactly-one" = ["mongodb", "sql", "request", "file"]))]
pub(super) struct StepSource {
    /// A question to MongoDB.
    pub(super) mongodb: Option<MongodbSource>,
    /// A question to PostgreSQL.
    pub(super) sql: Option<SqlSource>,
    /// A request; the name stands for `{status, headers, body}`.
    pub(super) request: Option<RequestSource>,
    /// A file; the name stands for `{exists, text}`.
    pub(super) file: Option<String>,
    /// Rows that a read must give: 1 under `given` when left out, 0 elsewhere.
    pub(super) at_least: Option<u32>,
}

/// Exactly one of `find`, `aggregate`, `count`, `distinct`, `listIndexes`, `kind`, `insert`, `delete`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-exactly-one" = ["find", "aggregate", "count", "distinct", "listIndexes", "kind", "insert", "delete"]))]
pub(super) struct MongodbSource {
    /// Documents of this collection.
    pub(super) find: Option<String>,
    /// An aggregation over this collection.
    pub(super) aggregate: Option<String>,
    /// The number of documents of this collection.
    pub(super) count: Option<String>,
    /// Distinct values of `field` in this collection.
    pub(super) distinct: Option<String>,
    /// Indexes of this collection, each `{name, key, …}`.
    #[serde(rename = "listIndexes")]
    pub(super) list_indexes: Option<String>,
    /// What this is: `collection`, `view` or `absent`.
    pub(super) kind: Option<String>,
    /// Inserts a marker into this collection; it is removed at the end.
    pub(super) insert: Option<String>,
    /// Deletes documents of this collection.
    pub(super) delete: Option<String>,
    /// Which documents.
    pub(super) filter: Option<Json>,
    /// In which order.
    pub(super) sort: Option<Json>,
    /// How many to leave out.
    pub(super) skip: Option<Json>,
    /// How many at most.
    pub(super) limit: Option<Json>,
    /// Which fields.
    pub(super) projection: Option<Json>,
    /// The stages of an aggregation.
    pub(super) pipeline: Option<Json>,
    /// The field of `distinct`.
    pub(super) field: Option<String>,
    /// The marker starts as a copy of a document of the template.
    pub(super) like: Option<LikeSource>,
    /// Fields of the marker.
    pub(super) with: Option<Json>,
}

/// What a marker is a copy of.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LikeSource {
    /// A document of the template database.
    Template,
}

/// Exactly one of `query`, `plan`, `table`, `insert`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-exactly-one" = ["query", "plan", "table", "insert"]))]
pub(super) struct SqlSource {
    /// One statement that returns rows.
    pub(super) query: Option<String>,
    /// How this statement would be answered: `{indexes, sequential, text}`.
    pub(super) plan: Option<String>,
    /// Facts about this table: `{exists, kind, columns, constraints, indexes}`.
    pub(super) table: Option<String>,
    /// Inserts a marker into this table; it is removed at the end.
    pub(super) insert: Option<String>,
    /// Values for `$1` … of the query.
    pub(super) parameters: Option<Vec<Json>>,
    /// Columns of the marker.
    pub(super) with: Option<BTreeMap<String, Json>>,
}

/// A request: exactly one of `get`, `post`, `put`, `patch`, `delete`, each a path.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-exactly-one" = ["get", "post", "put", "patch", "delete"]))]
pub(super) struct RequestSource {
    /// Which app of the seat: `backend` when left out.
    pub(super) to: Option<AppSource>,
    /// GET this path.
    pub(super) get: Option<String>,
    /// POST to this path.
    pub(super) post: Option<String>,
    /// PUT to this path.
    pub(super) put: Option<String>,
    /// PATCH this path.
    pub(super) patch: Option<String>,
    /// DELETE this path.
    pub(super) delete: Option<String>,
    /// Query parameters; what is not text is sent as JSON.
    #[serde(default)]
    pub(super) query: BTreeMap<String, Json>,
    /// Send this as JSON.
    pub(super) json: Option<Json>,
    /// Send these as form fields.
    pub(super) form: Option<BTreeMap<String, Json>>,
    /// Headers.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

/// An app of the seat.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AppSource {
    Backend,
    Frontend,
    React,
    Postgres,
}

impl From<AppSource> for AppKind {
    fn from(app: AppSource) -> Self {
        match app {
            AppSource::Backend => Self::Backend,
            AppSource::Frontend => Self::Frontend,
            AppSource::React => Self::React,
            AppSource::Postgres => Self::Postgres,
        }
    }
}

/// What a value must be; all keys must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MatcherSource {
    /// The same value.
    #[serde(default, deserialize_with = "present")]
    pub(super) equals: Option<Json>,
    /// The same rows in any order.
    pub(super) unordered: Option<Json>,
    /// At least these fields, or rows.
    pub(super) subset: Option<Json>,
    /// This text, or a row like this.
    pub(super) contains: Option<Json>,
    /// This regular expression.
    pub(super) matches: Option<String>,
    /// Number of rows or characters: a number, or `{ at_least, at_most, equals }`.
    pub(super) length: Option<Json>,
    /// The same value, numbers within a tolerance.
    pub(super) near: Option<NearSource>,
    /// Not below this.
    pub(super) at_least: Option<Json>,
    /// Not above this.
    pub(super) at_most: Option<Json>,
    /// Equals one of these.
    pub(super) one_of: Option<Json>,
    /// Is not there (`false`: is there).
    pub(super) absent: Option<bool>,
}

/// A value and a tolerance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NearSource {
    /// The value.
    pub(super) value: Json,
    /// How far a number may be off.
    pub(super) within: f64,
}

/// Tells `equals: null` from no `equals`.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}
