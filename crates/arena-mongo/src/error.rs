//! What a client is told when a command fails: MongoDB's codes, names and
//! wording, also where the engine below says it in PostgreSQL's.

use std::collections::HashMap;
use std::sync::LazyLock;

use bson::{Bson, Document, RawDocumentBuf, doc};
use tokio_postgres::error::{DbError, SqlState};

use crate::pipeline::raised;
use crate::wording::{Asked, reworded};

/// MongoDB's own class of retryable errors.
const RETRYABLE_CODES: [i32; 14] = [
    6, 7, 89, 91, 134, 189, 262, 358, 9001, 10107, 11600, 11602, 13435, 13436,
];

/// What a driver may do about an error.
pub(crate) const TRANSIENT_TRANSACTION: &str = "TransientTransactionError";
pub(crate) const RETRYABLE_WRITE: &str = "RetryableWriteError";

/// `codeName,SQLSTATE,code` of every error that DocumentDB raises on purpose.
const ENGINE_ERRORS: &str = include_str!("errors.csv");

static BY_SQLSTATE: LazyLock<HashMap<&'static str, (&'static str, i32)>> = LazyLock::new(|| {
    let entries = ENGINE_ERRORS.lines().filter_map(|line| {
        let mut fields = line.split(',');
        let (name, state, code) = (fields.next()?, fields.next()?, fields.next()?);
        Some((state, (name, code.trim().parse().ok()?)))
    });
    entries.collect()
});

const BUILT_IN: &str = "the built-in database (DocumentDB)";
/// Words of PostgreSQL and of DocumentDB's insides, which mean nothing to a client.
const INTERNAL_WORDS: [&str; 4] = ["pg_", "documentdb_api", "documentdb_core", "SQLSTATE"];

/// Writes `{ "a" : 1 }` as MongoDB does: `{ a: 1 }`.
fn unquoted_names(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut parts = text.split("\" : ").peekable();
    while let Some(part) = parts.next() {
        match part.rfind('"').filter(|_| parts.peek().is_some()) {
            Some(quote) => {
                written.push_str(&part[..quote]);
                written.push_str(&part[quote + 1..]);
                written.push_str(": ");
            }
            None => written.push_str(part),
        }
    }
    written
}

/// MongoDB's name of a code that a reworded error has.
fn name_of(code: i32) -> &'static str {
    let known = BY_SQLSTATE.values().find(|(_, other)| *other == code);
    let location = || {
        let number = |name: &str| name.strip_prefix("Location")?.parse().ok();
        LOCATIONS.iter().find(|name| number(name) == Some(code))
    };
    known
        .map(|(name, _)| *name)
        .or_else(|| location().copied())
        .unwrap_or("UnknownError")
}

/// Names of codes that the engine does not have.
const LOCATIONS: [&str; 24] = [
    "Location40259",
    "Location40517",
    "Location50723",
    "Location51106",
    "Location51081",
    "Location5166307",
    "Location5439002",
    "Location5439006",
    "Location5439007",
    "Location5439008",
    "Location5439009",
    "Location5439010",
    "Location5439013",
    "Location5439014",
    "Location5439015",
    "Location5439016",
    "Location5439017",
    "Location5439018",
    "Location9711600",
    "Location9711601",
    "Location10503900",
    "Location10503901",
    "Location10503902",
    "Location10503904",
];

/// What the engine says when somebody else made the collection, or the first of its database, a moment ago and a
/// transaction's snapshot does not show it yet. MongoDB calls that a write conflict.
const CREATION_RACES: [&str; 2] = [
    "Unable to create the specified collection",
    "Unable to create metadata database sentinel collection.",
];

/// What the engine fails with where one statement is to write one document several times.
pub(crate) const WRITTEN_TWICE: &str = "several documents are to be written to the same one";

/// The failure of one command; the connection stays usable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CommandError {
    pub(crate) code: i32,
    pub(crate) name: &'static str,
    pub(crate) message: String,
    /// More fields of the answer, such as `keyPattern`.
    pub(crate) details: Option<Box<Document>>,
    /// What drivers may do about it; filled where the whole command is known.
    pub(crate) labels: Vec<&'static str>,
}

impl CommandError {
    pub(crate) fn new(code: i32, name: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            name,
            message: message.into(),
            details: None,
            labels: Vec::new(),
        }
    }

    /// An error that MongoDB names by its number.
    pub(crate) fn located(code: i32, message: impl Into<String>) -> Self {
        Self::new(code, name_of(code), message)
    }

    /// Returns the error with one more field in its answer.
    #[must_use]
    pub(crate) fn with(mut self, field: &str, value: impl Into<Bson>) -> Self {
        self.details.get_or_insert_default().insert(field, value);
        self
    }

    pub(crate) fn bad_value(message: impl Into<String>) -> Self {
        Self::new(2, "BadValue", message)
    }

    pub(crate) fn failed_to_parse(message: impl Into<String>) -> Self {
        Self::new(9, "FailedToParse", message)
    }

    pub(crate) fn type_mismatch(message: impl Into<String>) -> Self {
        Self::new(14, "TypeMismatch", message)
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(13, "Unauthorized", message)
    }

    /// The same words whatever was wrong, so that nobody learns which names exist.
    pub(crate) fn authentication_failed() -> Self {
        Self::new(18, "AuthenticationFailed", "Authentication failed.")
    }

    /// For what MongoDB can and the built-in database cannot.
    pub(crate) fn not_supported(what: impl std::fmt::Display) -> Self {
        let message = format!("{what} is not supported by the built-in database (DocumentDB)");
        Self::new(115, "CommandNotSupported", message)
    }

    pub(crate) fn command_not_found(name: &str) -> Self {
        Self::new(59, "CommandNotFound", format!("no such command: '{name}'"))
    }

    pub(crate) fn time_limit() -> Self {
        Self::new(50, "MaxTimeMSExpired", "operation exceeded time limit")
    }

    /// Somebody ended the command: its client left, or asked for it.
    pub(crate) fn interrupted() -> Self {
        Self::new(11601, "Interrupted", "operation was interrupted")
    }

    /// The engine is away; drivers repeat the command after this one.
    pub(crate) fn engine_away() -> Self {
        Self::new(
            91,
            "ShutdownInProgress",
            "the built-in database is restarting",
        )
    }

    /// A transaction that ended without the client.
    pub(crate) fn no_such_transaction() -> Self {
        Self::new(
            251,
            "NoSuchTransaction",
            "the transaction was ended by the built-in database, start it again",
        )
    }

    pub(crate) fn write_conflict() -> Self {
        let message = "Write conflict during plan execution and yielding is disabled. Please retry your operation or multi-document transaction.";
        Self::new(112, "WriteConflict", message)
    }

    /// Another statement was faster; the same one may succeed now.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code == 112
    }

    /// The node or the way to it failed, not the command: the same command may succeed later.
    pub(crate) fn is_retryable(&self) -> bool {
        RETRYABLE_CODES.contains(&self.code)
    }

    /// Its time was over, or somebody ended it.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.code, 50 | 11601)
    }

    /// Everything else would fail the same way now.
    pub(crate) fn ends_command(&self) -> bool {
        self.is_conflict()
            || self.is_retryable()
            || matches!(self.code, 13 | 24 | 50 | 225 | 251 | 11601)
    }

    /// Returns the failure as that of each of the first statements of a batch.
    pub(crate) fn as_write_errors(&self, count: usize) -> Document {
        let errors = (0..count).map(|index| {
            let index = i32::try_from(index).unwrap_or(i32::MAX);
            let mut error = doc! { "index": index, "code": self.code, "errmsg": &self.message };
            let details = self.details.iter();
            error.extend(details.flat_map(|details| Document::clone(details)));
            Bson::Document(error)
        });
        doc! { "n": 0, "writeErrors": errors.collect::<Vec<_>>() }
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            1,
            "InternalError",
            "the built-in database failed to run this command",
        )
    }

    /// Returns the failure as MongoDB words it for an error of PostgreSQL.
    pub(crate) fn from_postgres(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(database) => Self::from_database_error(database),
            None => {
                tracing::warn!(error = %chain(error), "lost a connection to the database engine");
                Self::engine_away()
            }
        }
    }

    fn from_database_error(error: &DbError) -> Self {
        let state = error.code();
        if *state == SqlState::QUERY_CANCELED {
            return Self::time_limit();
        }
        if *state == SqlState::INSUFFICIENT_PRIVILEGE {
            return Self::unauthorized("not authorized to do this in the built-in database");
        }
        if CREATION_RACES.contains(&error.message()) {
            return Self::write_conflict();
        }
        if let Some((name, code)) = BY_SQLSTATE.get(state.code()) {
            return Self::new(*code, name, error.message());
        }
        // A write that is no insert or update, such as `$out`.
        if *state == SqlState::UNIQUE_VIOLATION {
            return Self::new(
                11000,
                "DuplicateKey",
                "E11000 duplicate key error collection",
            );
        }
        if *state == SqlState::FEATURE_NOT_SUPPORTED {
            return Self::new(115, "CommandNotSupported", error.message());
        }
        if *state == SqlState::CARDINALITY_VIOLATION {
            return Self::new(1, "InternalError", WRITTEN_TWICE);
        }
        let conflicts = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
        ];
        if conflicts.contains(state) {
            return Self::write_conflict();
        }
        // 25P02…25P04: the transaction failed before or took too long.
        if state.code().starts_with("25P") {
            return Self::no_such_transaction();
        }
        // 57P01…57P03: the server shuts down, crashed or starts.
        if state.code().starts_with("57P") {
            return Self::engine_away();
        }
        // Unknown codes of the engine's own class carry a message meant for users.
        if state.code().starts_with('M') {
            return Self::new(8, "UnknownError", error.message());
        }
        if *state == SqlState::DISK_FULL {
            return Self::new(
                14031,
                "OutOfDiskSpace",
                "the built-in database's disk is full",
            );
        }
        // A collection that is dropped while its documents are looked up.
        if *state == SqlState::UNDEFINED_TABLE {
            tracing::debug!(error = %error, "a table is gone");
            return Self::internal();
        }
        tracing::error!(error = %error, sqlstate = state.code(), "the database engine failed unexpectedly");
        Self::internal()
    }

    /// Returns the error in MongoDB's words. What stays in the engine's own words names no part of it, and
    /// a refusal says whose it is.
    pub(crate) fn worded(mut self, asked: Asked<'_>) -> Self {
        if let Some((code, text)) = raised(&self.message) {
            return Self::located(code, text);
        }
        if let Some((code, message)) = reworded(&self.message, asked) {
            self.message = message;
            if let Some(code) = code.filter(|code| *code != self.code) {
                self.code = code;
                self.name = name_of(code);
            }
        }
        if self.message.contains("\" : ") {
            self.message = unquoted_names(&self.message);
        }
        if self.code == 115 && !self.message.contains("(DocumentDB)") {
            let what = self.message.trim_end_matches('.').trim_end_matches(" yet");
            self.message = format!("{BUILT_IN} cannot do this: {what}");
        }
        if INTERNAL_WORDS
            .iter()
            .any(|word| self.message.contains(word))
        {
            tracing::warn!(
                error.code = self.code,
                "an error named the engine's parts: {}",
                self.message
            );
            self.message = format!("{BUILT_IN} failed to run this command");
        }
        self
    }

    /// Returns the code and name for a code inside `writeErrors`, which is an SQLSTATE packed six bits a
    /// character, lowest first.
    pub(crate) fn unpacked_code(packed: i32) -> Option<(&'static str, i32)> {
        BY_SQLSTATE.get(unpacked_state(packed)?.as_str()).copied()
    }

    /// Returns whether such a code stands for a lost race against another statement.
    pub(crate) fn is_packed_conflict(packed: i32) -> bool {
        let states = ["40001", "40P01", "55P03"];
        unpacked_state(packed).is_some_and(|state| states.contains(&state.as_str()))
    }

    /// Returns the answer to the client.
    pub(crate) fn to_answer(&self) -> RawDocumentBuf {
        let mut answer = Document::new();
        if !self.labels.is_empty() {
            answer.insert("errorLabels", self.labels.clone());
        }
        answer.extend(
            doc! { "ok": 0.0, "errmsg": &self.message, "code": self.code, "codeName": self.name },
        );
        answer.extend(
            self.details
                .iter()
                .flat_map(|details| Document::clone(details)),
        );
        RawDocumentBuf::try_from(&answer).expect("field names of an answer contain no zero byte")
    }
}

fn unpacked_state(packed: i32) -> Option<String> {
    let packed = u32::try_from(packed).ok()?;
    (0..5)
        .map(|position| char::from_u32(48 + ((packed >> (6 * position)) & 0x3f)))
        .collect()
}

/// Returns an error with what caused it, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// For reading fields of a document that was checked for well-formedness when it came.
impl From<bson::error::Error> for CommandError {
    fn from(error: bson::error::Error) -> Self {
        Self::failed_to_parse(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_code_is_the_sqlstate_of_the_table() {
        assert_eq!(
            CommandError::unpacked_code(319_029_277),
            Some(("DuplicateKey", 11000))
        );
        assert_eq!(
            CommandError::unpacked_code(525_074_461),
            Some(("DocumentValidationFailure", 121))
        );
        assert_eq!(CommandError::unpacked_code(-1), None);
    }

    #[test]
    fn documents_in_messages_are_written_as_mongodb_writes_them() {
        let heard = "index { \"key\" : { \"a\" : \"x\" }, \"name\" : \"e\" } is wrong";
        assert_eq!(
            unquoted_names(heard),
            "index { key: { a: \"x\" }, name: \"e\" } is wrong"
        );
    }

    #[test]
    fn no_word_of_the_engines_insides_reaches_a_client() {
        let asked = Asked {
            command: "find",
            namespace: "ada.c",
        };
        for inside in ["pg_catalog.x", "function documentdb_api.y", "SQLSTATE 42"] {
            let error = CommandError::new(2, "BadValue", inside).worded(asked);
            assert_eq!(
                (error.code, error.message.as_str()),
                (
                    2,
                    "the built-in database (DocumentDB) failed to run this command"
                )
            );
        }
        let missing = CommandError::new(115, "CommandNotSupported", "x is not supported yet.");
        assert!(missing.worded(asked).message.contains("(DocumentDB)"));
    }

    #[test]
    fn every_line_of_the_table_is_read() {
        let states = ENGINE_ERRORS
            .lines()
            .filter_map(|line| line.split(',').nth(1));
        assert!(states.clone().count() > 80);
        assert!(
            states
                .into_iter()
                .all(|state| BY_SQLSTATE.contains_key(state))
        );
    }
}
