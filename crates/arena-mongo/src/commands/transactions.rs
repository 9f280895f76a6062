//! Sessions and transactions as commands see them: which transaction a command
//! belongs to, whether it may run there, how transactions end, and the labels by
//! which drivers know what to try again. A commit leaves a note in the engine in
//! the same transaction, so that a repeated commit is answered truly even after
//! the front or the engine was killed.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc, spec::BinarySubtype};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::carried::Carried;
use super::once::COMMIT_STATEMENT;
use super::reading::delete_cursors;
use super::values::boolean;
use super::{Answer, raw};
use crate::backend::Lost;
use crate::error::{CommandError, RETRYABLE_WRITE, TRANSIENT_TRANSACTION};
use crate::guard::Place;
use crate::server::Server;
use crate::sessions::{LogicalSession, OpenTransaction, Phase, SessionId};

/// A user's next transaction waits so long for one of the others to end.
const PLACE_WAIT: Duration = Duration::from_secs(5);
/// So often it is looked whether somebody else's may end.
const PLACE_RETRY: Duration = Duration::from_millis(100);

/// What may run inside a transaction.
const ALLOWED: [&str; 13] = [
    "find",
    "getMore",
    "killCursors",
    "distinct",
    "aggregate",
    "insert",
    "update",
    "delete",
    "findAndModify",
    "findandmodify",
    "create",
    "createIndexes",
    "bulkWrite",
];
const RETRYABLE: [&str; 6] = [
    "insert",
    "update",
    "delete",
    "findAndModify",
    "findandmodify",
    "bulkWrite",
];
const REFUSED_STAGES: [&str; 8] = [
    "$out",
    "$merge",
    "$collStats",
    "$indexStats",
    "$currentOp",
    "$listSessions",
    "$listLocalSessions",
    "$planCacheStats",
];

const NOTE_COMMIT: &str = "INSERT INTO arena_front.done AS d (session, statement, number) VALUES ($1, $2, $3) \
    ON CONFLICT (session, statement) DO UPDATE SET number = excluded.number, at = now()";
/// Waits for a commit that is still under way; a note that did not exist becomes one of nothing.
const COMMITTED_NUMBER: &str = "INSERT INTO arena_front.done AS d (session, statement, number) VALUES ($1, $2, -1) \
    ON CONFLICT (session, statement) DO UPDATE SET at = now() RETURNING number";

/// What a command says about its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) session: Option<SessionId>,
    pub(super) number: Option<i64>,
    /// Part of a transaction (`autocommit: false`).
    pub(super) in_transaction: bool,
    starts: bool,
}

impl Fields {
    /// Reads and checks them as MongoDB does.
    pub(super) fn of(user: &Arc<str>, carried: &Carried<'_>) -> Result<Self, CommandError> {
        let id = carried.session.map(session_id).transpose()?;
        let number = carried.number;
        let is_on = |name, value: Option<_>| value.map(|value| boolean(name, value)).transpose();
        let autocommit = is_on("autocommit", carried.autocommit)?;
        let starts = is_on("startTransaction", carried.start)?;
        let concern = carried.read_concern.and_then(RawBsonRef::as_document);
        let level = concern.and_then(|concern| concern.get_str("level").ok());
        let session = id.map(|id| SessionId {
            user: Arc::clone(user),
            id,
        });
        let number = match number {
            None => None,
            Some(RawBsonRef::Int64(number)) => Some(number),
            Some(_) => return Err(wrong_type("txnNumber", "long")),
        };
        let invalid = |message: &str| Err(CommandError::new(72, "InvalidOptions", message));
        if number.is_some() && session.is_none() {
            return invalid("Transaction number requires a session ID to also be specified");
        }
        if number.is_some_and(|number| number < 0) {
            return invalid("Transaction number cannot be negative");
        }
        if autocommit.is_some() && number.is_none() {
            return invalid(
                "'autocommit' field requires a transaction number to also be specified",
            );
        }
        if autocommit == Some(true) {
            return invalid("Specifying autocommit=true is not allowed.");
        }
        if starts.is_some() && autocommit.is_none() {
            return invalid(
                "'startTransaction' field requires 'autocommit' field to also be specified",
            );
        }
        if level == Some("snapshot") && autocommit.is_none() {
            // Reading without one would be a silent lie.
            return Err(CommandError::not_supported(
                "readConcern level 'snapshot' outside a transaction",
            ));
        }
        if starts == Some(false) {
            return invalid("Specifying startTransaction=false is not allowed.");
        }
        Ok(Self {
            session,
            number,
            in_transaction: autocommit.is_some(),
            starts: starts.is_some(),
        })
    }

    /// Whether the command must run once however often it is sent.
    pub(super) fn is_retryable_write(&self) -> bool {
        self.number.is_some() && !self.in_transaction
    }

    /// Adds what a driver should know about an error.
    pub(super) fn label(&self, command: &str, mut error: CommandError) -> CommandError {
        let is_end = matches!(command, "commitTransaction" | "abortTransaction");
        if self.number.is_none() {
            return error;
        }
        let is_transient = matches!(error.code, 24 | 112 | 246 | 251);
        if self.in_transaction && (is_transient || (error.is_retryable() && !is_end)) {
            error.labels.push(TRANSIENT_TRANSACTION);
        } else if error.is_retryable() && (is_end || RETRYABLE.contains(&command)) {
            error.labels.push(RETRYABLE_WRITE);
        }
        error
    }
}

fn wrong_type(field: &str, expected: &str) -> CommandError {
    CommandError::type_mismatch(format!(
        "BSON field '{field}' is the wrong type, expected type '{expected}'"
    ))
}

/// Reads `{ id: UUID }`.
pub(super) fn session_id(value: RawBsonRef<'_>) -> Result<[u8; 16], CommandError> {
    let lsid = value
        .as_document()
        .ok_or_else(|| wrong_type("lsid", "object"))?;
    match lsid.get("id")? {
        Some(RawBsonRef::Binary(id)) if id.subtype == BinarySubtype::Uuid => id
            .bytes
            .try_into()
            .map_err(|_| wrong_type("lsid.id", "uuid")),
        Some(_) => Err(wrong_type("lsid.id", "uuid")),
        None => Err(CommandError::new(
            40414,
            "Location40414",
            "BSON field 'lsid.id' is missing but a required field",
        )),
    }
}

/// A command's place in its session while it runs.
pub(super) struct Scope {
    session: Arc<LogicalSession>,
    number: i64,
    pub(super) open: Arc<OpenTransaction>,
}

/// Finds or begins the transaction that a command belongs to; the caller holds the session's turn.
pub(super) async fn enter(
    server: &Server,
    place: &Place,
    session: Arc<LogicalSession>,
    fields: &Fields,
    command: (&str, &str, &RawDocument),
) -> Result<Option<Scope>, CommandError> {
    let Some(number) = fields.number else {
        return Ok(None);
    };
    let (name, database, body) = command;
    if !fields.in_transaction {
        if !RETRYABLE.contains(&name) {
            let message = format!(
                "txnNumber may only be provided for multi-document transactions and retryable write commands. autocommit:false was not provided, and {name} is not a retryable write command."
            );
            return Err(CommandError::new(
                50768,
                "NotARetryableWriteCommand",
                message,
            ));
        }
        begin_number(server, &session, number, "Retryable write").await?;
        return Ok(None);
    }
    check_allowed(name, database, body, fields.starts)?;
    if fields.starts {
        let is_same = session.state().number == number;
        if is_same {
            let message = format!("txnNumber {number} for session already started");
            return Err(CommandError::new(
                117,
                "ConflictingOperationInProgress",
                message,
            ));
        }
        begin_number(server, &session, number, "Transaction").await?;
        let user = fields.session.as_ref().map_or("", |id| &*id.user);
        let open = begin(server, place, user).await?;
        session.state().phase = Phase::Open(Arc::clone(&open));
        return Ok(Some(Scope {
            session,
            number,
            open,
        }));
    }
    let open = continued(&session, number)?;
    Ok(Some(Scope {
        session,
        number,
        open,
    }))
}

/// A newer number ends what an older one began; an older number is a late message.
async fn begin_number(
    server: &Server,
    session: &LogicalSession,
    number: i64,
    what: &str,
) -> Result<(), CommandError> {
    let ended = {
        let mut state = session.state();
        if number < state.number {
            return Err(too_old(what, number, state.number));
        }
        if number == state.number {
            return Ok(());
        }
        state.number = number;
        std::mem::replace(&mut state.phase, Phase::None)
    };
    if let Phase::Open(open) = ended {
        server.backend.roll_back(&open.transaction).await;
    }
    Ok(())
}

pub(super) fn too_old(what: &str, number: i64, newest: i64) -> CommandError {
    let message = format!(
        "{what} with {{ txnNumber: {number} }} is prohibited on this session because a newer one with {{ txnNumber: {newest} }} has already started."
    );
    CommandError::new(225, "TransactionTooOld", message)
}

/// Takes a place of the user's and one of all.
async fn begin(
    server: &Server,
    place: &Place,
    user: &str,
) -> Result<Arc<OpenTransaction>, CommandError> {
    let too_many = || {
        let message = "too many transactions are open, end some";
        CommandError::new(24, "LockTimeout", message)
    };
    let own = timeout(PLACE_WAIT, Arc::clone(&place.transactions).acquire_owned()).await;
    // Nobody's ends for one who has as many as a user may have.
    let own = own.ok().and_then(Result::ok).ok_or_else(too_many)?;
    let all = place_among_all(server, user).await.ok_or_else(too_many)?;
    let lifetime = server.settings.limits.transaction_time;
    let transaction = server.backend.begin(lifetime).await?;
    Ok(Arc::new(OpenTransaction::new(
        transaction,
        lifetime,
        (own, all),
    )))
}

/// Waits for a place. Whoever has fewer transactions is not kept out by those who have more, nor who has none by
/// many who leave theirs lying: one of theirs ends, and their driver begins it again. Its place is handed over,
/// past those who stand in line.
async fn place_among_all(server: &Server, user: &str) -> Option<OwnedSemaphorePermit> {
    let deadline = Instant::now() + PLACE_WAIT;
    let mut free = pin!(Arc::clone(&server.transactions).acquire_owned());
    loop {
        if server.transactions.available_permits() == 0
            && let Some(displaced) = server.sessions.displace_for(user)
        {
            server.backend.roll_back(&displaced.transaction).await;
            if let Some(place) = displaced.take_place() {
                return Some(place);
            }
        }
        match timeout(PLACE_RETRY, &mut free).await {
            Ok(place) => return place.ok(),
            Err(_) if Instant::now() >= deadline => return None,
            Err(_) => {}
        }
    }
}

fn continued(session: &LogicalSession, number: i64) -> Result<Arc<OpenTransaction>, CommandError> {
    let state = session.state();
    if number < state.number {
        return Err(too_old("Transaction", number, state.number));
    }
    if number > state.number {
        let message = format!(
            "Given transaction number {number} does not match any in-progress transactions. The active transaction number is {}",
            state.number
        );
        return Err(CommandError::new(251, "NoSuchTransaction", message));
    }
    match &state.phase {
        Phase::Open(open) => Ok(Arc::clone(open)),
        Phase::Committed => Err(committed(number)),
        Phase::Aborted | Phase::Unknown => Err(aborted(number)),
        Phase::None => {
            let message = format!(
                "Given transaction number {number} does not match any in-progress transactions. The active transaction number is -1"
            );
            Err(CommandError::new(251, "NoSuchTransaction", message))
        }
    }
}

fn aborted(number: i64) -> CommandError {
    let message = format!("Transaction with {{ txnNumber: {number} }} has been aborted.");
    CommandError::new(251, "NoSuchTransaction", message)
}

fn committed(number: i64) -> CommandError {
    let message = format!("Transaction with {{ txnNumber: {number} }} has been committed.");
    CommandError::new(256, "TransactionCommitted", message)
}

fn refused(message: String) -> Result<(), CommandError> {
    Err(CommandError::new(
        263,
        "OperationNotSupportedInTransaction",
        message,
    ))
}

/// Nothing that is answered without a look at any database is part of a transaction.
pub(super) fn check_outside(name: &str, body: &RawDocument) -> Result<(), CommandError> {
    if body.get("autocommit")?.is_none() {
        return Ok(());
    }
    refused(format!(
        "Cannot run '{name}' in a multi-document transaction."
    ))
}

fn check_allowed(
    name: &str,
    database: &str,
    body: &RawDocument,
    is_first: bool,
) -> Result<(), CommandError> {
    if name == "count" {
        return refused("Cannot run 'count' in a multi-document transaction. Please see http://dochub.mongodb.org/core/transaction-count for a recommended alternative.".to_owned());
    }
    if !ALLOWED.contains(&name) {
        return refused(format!(
            "Cannot run '{name}' in a multi-document transaction."
        ));
    }
    if matches!(database, "admin" | "config" | "local") && name != "bulkWrite" {
        return refused(format!(
            "Cannot run command against the '{database}' database in a transaction."
        ));
    }
    let invalid = |message: &str| Err(CommandError::new(72, "InvalidOptions", message));
    if body.get("writeConcern")?.is_some() {
        return invalid("writeConcern is not allowed within a multi-statement transaction");
    }
    if let Ok(concern) = body.get_document("readConcern") {
        if !is_first {
            return invalid("Only the first command in a transaction may specify a readConcern");
        }
        if !matches!(
            concern.get_str("level"),
            Err(_) | Ok("local" | "majority" | "snapshot")
        ) {
            return invalid(
                "The readConcern level must be either 'local' (default), 'majority' or 'snapshot' in order to run in a transaction",
            );
        }
    }
    if name == "aggregate"
        && let Some(stage) = refused_stage(body)
    {
        return refused(format!(
            "Stage not supported inside of a multi-document transaction: {stage}"
        ));
    }
    Ok(())
}

fn refused_stage(body: &RawDocument) -> Option<&'static str> {
    let stages = body.get_array("pipeline").ok()?;
    stages.into_iter().flatten().find_map(|stage| {
        let (name, _) = stage.as_document()?.iter().next()?.ok()?;
        REFUSED_STAGES
            .into_iter()
            .find(|refused| *refused == name.as_str())
    })
}

impl Scope {
    /// Notes who uses the transaction; returns what is left of its time.
    pub(super) fn use_by(&self, connection: i32) -> Duration {
        self.open.used_by(connection);
        self.open.time_left()
    }

    /// Ends the transaction if its command failed, as MongoDB does; a lost race is the whole command's.
    pub(super) async fn leave(&self, server: &Server, answer: Answer) -> Answer {
        let answer = answer.and_then(|answer| match first_write_error(&answer) {
            Some(code) if code == CommandError::write_conflict().code => {
                Err(CommandError::write_conflict())
            }
            _ => Ok(answer),
        });
        let has_failed = match &answer {
            Ok(answer) => first_write_error(answer).is_some(),
            Err(_) => true,
        };
        if has_failed && let Some(open) = self.session.abort(self.number) {
            server.backend.roll_back(&open.transaction).await;
        }
        answer
    }
}

fn first_write_error(answer: &RawDocument) -> Option<i32> {
    let errors = answer.get_array("writeErrors").ok()?;
    let first = errors.into_iter().next()?.ok()?;
    Some(first.as_document()?.get_i32("code").unwrap_or(0))
}

/// Runs `commitTransaction` and `abortTransaction`.
pub(super) async fn end(server: &Server, fields: &Fields, name: &str, database: &str) -> Answer {
    let (Some(id), Some(number), true) = (&fields.session, fields.number, fields.in_transaction)
    else {
        let message = format!("{name} must be run within a transaction");
        return Err(CommandError::new(125, "CommandFailed", message));
    };
    if database != "admin" {
        let message = format!("{name} may only be run against the admin database.");
        return Err(CommandError::unauthorized(message));
    }
    // What it has defined is seen from now on.
    server.indexed.forget();
    let session = server.sessions.enter(id);
    let _turn = session.turn.lock().await;
    let phase = {
        let state = session.state();
        if number < state.number {
            return Err(too_old("Transaction", number, state.number));
        }
        if number == state.number {
            state.phase.clone()
        } else {
            // Nothing is known of it: never begun, or begun before the front was restarted.
            Phase::None
        }
    };
    let cursors = server.cursors.end_transaction(&id.user, id.id, number);
    delete_cursors(server, server.own_budget(), cursors).await;
    if name == "commitTransaction" {
        commit(server, &session, (id, number), phase).await?;
    } else {
        match phase {
            Phase::Open(open) => {
                session.abort(number);
                server.backend.roll_back(&open.transaction).await;
            }
            Phase::Committed => return Err(committed(number)),
            Phase::None | Phase::Aborted | Phase::Unknown => return Err(aborted(number)),
        }
    }
    Ok(with_token(raw(&doc! { "ok": 1.0 })))
}

/// Adds what a `mongos` gives with every answer of a transaction, for another one to commit by. Drivers send the last
/// one back with the commit. It is empty: a commit is found again by the note that it left.
pub(super) fn with_token(mut answer: RawDocumentBuf) -> RawDocumentBuf {
    answer.append(bson::cstr!("recoveryToken"), rawdoc! {});
    answer
}

async fn commit(
    server: &Server,
    session: &LogicalSession,
    (id, number): (&SessionId, i64),
    phase: Phase,
) -> Result<(), CommandError> {
    let note: (String, i32, i64) = (id.text(), COMMIT_STATEMENT, number);
    let (phase, result) = match phase {
        Phase::Committed => return Ok(()),
        Phase::Aborted => return Err(aborted(number)),
        Phase::Open(open) => {
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&note.0, &note.1, &note.2];
            let committed = server
                .backend
                .commit(
                    server.own_budget(),
                    &open.transaction,
                    NOTE_COMMIT,
                    &parameters,
                )
                .await;
            match committed {
                Ok(()) => (Phase::Committed, Ok(())),
                Err(Lost::Unknown) => (Phase::Unknown, Err(CommandError::engine_away())),
                Err(Lost::Refused(error)) => {
                    server.backend.roll_back(&open.transaction).await;
                    // What the engine forgot when it went away is gone: the client begins again.
                    let error = if error.is_retryable() {
                        aborted(number)
                    } else {
                        error
                    };
                    (Phase::Aborted, Err(error))
                }
            }
        }
        Phase::None | Phase::Unknown => {
            let row = server
                .backend
                .row(server.own_budget(), COMMITTED_NUMBER, &[&note.0, &note.1])
                .await?;
            if row.get::<_, i64>(0) == number {
                (Phase::Committed, Ok(()))
            } else {
                (Phase::Aborted, Err(aborted(number)))
            }
        }
    };
    let mut state = session.state();
    (state.number, state.phase) = (number, phase);
    result
}

/// Ends sessions and what is open in them.
pub(super) async fn end_sessions(server: &Server, user: Option<&str>, ids: Option<&[[u8; 16]]>) {
    for open in server.sessions.end(user, ids) {
        server.backend.roll_back(&open.transaction).await;
    }
    let cursors = server.cursors.end_sessions(user, ids);
    delete_cursors(server, server.own_budget(), cursors).await;
}
