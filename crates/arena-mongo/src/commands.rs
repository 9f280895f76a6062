//! From a request to an answer: which command it is, whether this user may run it
//! on this database, and which module runs it. What is not in [`known`] does not
//! exist.

mod accounts;
mod aggregated;
mod aggregation;
mod alike;
mod apart;
mod bounds;
mod bulk;
mod carried;
mod collated;
mod collations;
mod concern;
mod conflicts;
mod connecting;
mod copying;
mod definitions;
mod distinct;
mod duplicates;
mod expected;
mod explaining;
mod filtered;
mod full;
mod hints;
mod indexes;
mod known;
mod lists;
mod merging;
mod modifiers;
mod oddities;
mod once;
mod operations;
mod orders;
mod outputs;
mod pages;
mod parallel;
mod plain;
mod plans;
mod pointed;
mod positions;
mod preference;
mod profiling;
mod projections;
mod reading;
mod refused;
mod removals;
mod replacing;
mod scores;
mod search;
mod sessions;
mod shapes;
mod singly;
mod sorting;
mod stable;
mod statements;
mod statistics;
mod storage;
mod texts;
mod ties;
mod transactions;
mod unread;
mod updates;
mod validation;
mod validators;
mod values;
mod variables;
mod views;
mod writing;

use std::{sync::Arc, time::Duration};

use bson::{RawBsonRef, RawDocument, RawDocumentBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::aside::Content;
use crate::backend::{Budget, Transaction};
use crate::connection::Session;
use crate::error::CommandError;
use crate::guard::{self, Admitted, Done, Growth, Place, Quota};
use crate::operations::Operation;
use crate::pipeline::Reader;
use crate::server::Server;
use crate::settings::SchemaChange;
use crate::users::{Action, User};
use crate::wire::Request;
use crate::wording::Asked;

pub(crate) use connecting::FAILED_LOGINS_MAX;
pub(crate) use parallel::Indexed;
pub(crate) use sorting::leaves_keys;

use carried::Carried;
use known::Kind;
use pointed::Pointed;
use transactions::Fields;
use values::{
    approximate, check_namespace, collection_in, field_of, fitting, integer, invalid_namespace,
    is_number, is_on, is_true, max_time, raw, with_ok, without,
};
pub(crate) use values::{is_collection_name, is_database_name, whole};

/// The MongoDB that is followed.
const VERSION: &str = "8.0.0";

type Answer = Result<RawDocumentBuf, CommandError>;

/// A write whose client has left has this long to finish.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// Fields that any command may carry and that the engine must not see.
const GENERIC_FIELDS: [&str; 16] = [
    "$db",
    "lsid",
    "$clusterTime",
    "apiVersion",
    "apiStrict",
    "apiDeprecationErrors",
    "$readPreference",
    "readConcern",
    "writeConcern",
    "txnNumber",
    "stmtId",
    "stmtIds",
    "maxTimeMS",
    "comment",
    "autocommit",
    "startTransaction",
];

/// One command of a user who is logged in.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    server: &'a Server,
    request: &'a Request,
    name: &'a str,
    database: &'a str,
    user_name: &'a str,
    user: &'a User,
    place: &'a Place,
    time: Duration,
    fields: &'a Fields,
    transaction: Option<&'a Transaction>,
    interruption: &'a CancellationToken,
    /// The client's number.
    connection: i32,
}

/// What a command is made of: an insert's documents go to the engine as they are.
pub(crate) fn content(body: &RawDocument) -> Content {
    match body.iter().next() {
        Some(Ok((name, _))) if name.as_str() == "insert" => Content::Documents,
        _ => Content::Expressions,
    }
}

/// Runs one request and returns the answer's body. An interruption ends what it does in the engine.
pub(crate) async fn run(
    server: &Server,
    session: &mut Session,
    request: &Request,
    interruption: &CancellationToken,
) -> Answer {
    let body: &RawDocument = &request.body;
    let Some(Ok((name, _))) = body.iter().next() else {
        return Err(CommandError::failed_to_parse("empty command"));
    };
    let name = name.as_str();
    let carried = Carried::of(body)?;
    let database = carried.database;
    if !is_database_name(database) {
        return Err(CommandError::new(
            73,
            "InvalidNamespace",
            format!("Invalid database name: '{database}'"),
        ));
    }
    let kind = known::kind_of(name).ok_or_else(|| CommandError::command_not_found(name))?;
    if carried.version {
        stable::check(name, body)?;
    }
    let pointed = match name {
        "find" => Pointed::of(&carried)?,
        _ => None,
    };
    let plain = match pointed {
        Some(_) => None,
        None => plain::request(name, request)?,
    };
    let request = plain.as_ref().unwrap_or(request);
    if pointed.is_none() {
        shapes::check(name, &request.body)?;
    }
    if kind == Kind::Connecting {
        transactions::check_outside(name, body)?;
        let answer = connecting::run(server, session, name, body).await;
        return answer.map(sessions::with_time);
    }
    if carried.preference {
        preference::check(body)?;
    }
    if carried.concern {
        concern::check(kind, name, body)?;
    }
    let needs_login =
        || CommandError::unauthorized(format!("Command {name} requires authentication"));
    let user_name = session.user.clone().ok_or_else(needs_login)?;
    // Looked up at every command: what was taken away is gone at once.
    let user = server.users().get(&user_name).ok_or_else(needs_login)?;
    let fields = Fields::of(&user_name, &carried)?;
    let task = Task {
        kind,
        name,
        carried: &carried,
        pointed: pointed.as_ref(),
        user_name: &user_name,
        user: &user,
        fields: &fields,
        interruption,
    };
    let answer = task.run(server, session, request).await;
    match answer {
        Ok(answer) => Ok(sessions::with_time(concern::told(kind, body, answer))),
        Err(error) => Err(sessions::at_time(fields.label(name, error))),
    }
}

/// A command, who sent it and what it belongs to.
struct Task<'a> {
    kind: Kind,
    name: &'a str,
    carried: &'a Carried<'a>,
    pointed: Option<&'a Pointed<'a>>,
    user_name: &'a Arc<str>,
    user: &'a User,
    fields: &'a Fields,
    interruption: &'a CancellationToken,
}

impl Task<'_> {
    async fn run(&self, server: &Server, session: &Session, request: &Request) -> Answer {
        let fields = self.fields;
        if matches!(self.name, "commitTransaction" | "abortTransaction") {
            return transactions::end(server, fields, self.name, self.carried.database).await;
        }
        let _running = server.operations.begin(self.operation(session));
        let place = server.place_of(self.user_name);
        let logical = fields.session.as_ref().map(|id| server.sessions.enter(id));
        // One command of a transaction after the other.
        let _turn = match &logical {
            Some(logical) if fields.in_transaction => Some(logical.turn.lock().await),
            _ => None,
        };
        let scope = match &logical {
            Some(logical) => {
                let command = (self.name, self.carried.database, &*request.body);
                transactions::enter(server, &place, Arc::clone(logical), fields, command).await?
            }
            None => None,
        };
        let quota = server.settings.guard.quota(self.user_name);
        if !self.user.is_root() {
            place.keep_pace(quota.commands_per_second).await;
        }
        let ceiling = self.time_limit(server, &quota, &request.body)?;
        let time = match &scope {
            Some(scope) => scope.use_by(session.id).min(ceiling),
            None => ceiling,
        };
        let call = Call {
            server,
            request,
            name: self.name,
            database: self.carried.database,
            user_name: self.user_name,
            user: self.user,
            place: &place,
            time,
            fields,
            transaction: scope.as_ref().map(|scope| &scope.open.transaction),
            interruption: self.interruption,
            connection: session.id,
        };
        let started = Instant::now();
        let answer = match self.pointed {
            Some(pointed) => pointed.answer(&call).await,
            None if self.carried.expectation => expecting(self.kind, &call).await,
            None => dispatch(self.kind, &call).await,
        };
        let mut answer = answer.map_err(|error| call.worded(error));
        if let Some(scope) = &scope {
            answer = scope.leave(server, answer).await;
            answer = answer.map(transactions::with_token);
        }
        call.note(self.kind, &answer, started.elapsed());
        answer
    }
}

impl Task<'_> {
    /// `maxTimeMS`, never more than the ceiling; 0 means none was asked for.
    fn time_limit(
        &self,
        server: &Server,
        quota: &Quota,
        body: &RawDocument,
    ) -> Result<Duration, CommandError> {
        let ceiling = if self.user.is_root() {
            server.settings.limits.root_statement_time
        } else {
            quota.statement_time
        };
        match self.carried.time.then(|| max_time(body)).transpose()? {
            None | Some(0) => Ok(ceiling),
            Some(milliseconds) => Ok(ceiling.min(Duration::from_millis(milliseconds))),
        }
    }

    fn operation(&self, session: &Session) -> Operation {
        let collection = match self.carried.own.first() {
            Some((_, RawBsonRef::String(collection))) => collection,
            _ => "$cmd",
        };
        Operation {
            user: Arc::clone(self.user_name),
            session: self.fields.session.as_ref().map(|session| session.id),
            connection: session.id,
            application: session.application.clone(),
            command: self.name.to_owned(),
            namespace: format!("{}.{collection}", self.carried.database),
            since: Instant::now(),
            interruption: self.interruption.clone(),
        }
    }
}

/// Runs a command, if the collection is the one that it expects.
async fn expecting(kind: Kind, call: &Call<'_>) -> Answer {
    let changed = expected::checked(call).await?;
    let request = changed.as_ref().unwrap_or(call.request);
    dispatch(kind, &Call { request, ..*call }).await
}

async fn dispatch(kind: Kind, call: &Call<'_>) -> Answer {
    match kind {
        Kind::Reading => reading::run(call).await,
        Kind::Aggregation => aggregation::run(call).await,
        Kind::Writing if call.name == "bulkWrite" => bulk::run(call).await,
        Kind::Writing => writing::run(call).await,
        Kind::Definition => definitions::run(call).await,
        Kind::Statistics if call.name == "killOp" => operations::kill(call),
        Kind::Statistics => statistics::run(call).await,
        Kind::Explaining => explaining::run(call).await,
        Kind::Sessions => sessions::run(call).await,
        Kind::Accounts => accounts::run(call).await,
        Kind::Connecting => Err(CommandError::internal()),
    }
}

/// Makes what the commands need in the engine.
pub(crate) async fn prepare(server: &Server) -> Result<(), CommandError> {
    accounts::load_users(server).await?;
    once::prepare(server).await?;
    copying::prepare(server).await
}

/// Ends what took too long or is needed no more.
pub(crate) async fn tidy(server: &Server) {
    for open in server.sessions.expire() {
        server.backend.roll_back(&open.transaction).await;
    }
    let unread = server.cursors.expire();
    reading::delete_cursors(server, server.own_budget(), unread).await;
}

pub(crate) use once::forget_old;

/// How long a command runs on when its client has left. A write is finished, as MongoDB does: a program that ends
/// right after it has sent one means it. What it would hold up others with is short.
pub(crate) fn patience(request: &Request) -> Duration {
    let body: &RawDocument = &request.body;
    let name = body.iter().next().and_then(Result::ok);
    let name = name.map_or("", |(name, _)| name.as_str());
    let writes = match known::kind_of(name) {
        Some(Kind::Writing | Kind::Definition | Kind::Accounts | Kind::Sessions) => true,
        Some(Kind::Aggregation) => aggregation::writes_to(body).is_some(),
        _ => false,
    };
    // What a transaction does is taken back in any case.
    let is_in_transaction = body.get_bool("autocommit").is_ok();
    if writes && !is_in_transaction {
        WRITE_PATIENCE
    } else {
        Duration::ZERO
    }
}

impl<'a> Call<'a> {
    fn body(&self) -> &'a RawDocument {
        &self.request.body
    }

    fn budget(&self) -> Budget<'_> {
        Budget {
            share: &self.place.share,
            time: self.time,
            is_change: false,
            transaction: self.transaction,
            interruption: self.interruption,
        }
    }

    /// For what drops, renames or alters a collection.
    fn budget_to_change(&self) -> Budget<'_> {
        Budget {
            is_change: true,
            ..self.budget()
        }
    }

    /// For looking something up beside a transaction that may have failed.
    fn budget_outside(&self) -> Budget<'_> {
        Budget {
            transaction: None,
            ..self.budget()
        }
    }

    /// Counts the command, and keeps its shape if it was slow.
    fn note(&self, kind: Kind, answer: &Answer, time: Duration) {
        let done = Done {
            reads: matches!(
                kind,
                Kind::Reading | Kind::Aggregation | Kind::Explaining | Kind::Statistics
            ),
            writes: matches!(kind, Kind::Writing | Kind::Definition),
            refused: answer
                .as_ref()
                .is_err_and(|error| matches!(error.code, 13 | 8000)),
            bytes_in: self.request.bytes(),
            bytes_out: answer.as_ref().map_or(0, |answer| answer.as_bytes().len()),
            time,
        };
        self.place.note(done, || {
            let collection = self.body().get_str(self.name).unwrap_or("$cmd");
            let namespace = format!("{}.{collection}", self.database);
            (namespace, guard::shape(self.name, self.body()))
        });
    }

    /// Lets a write in that may make a database larger, if its quota allows. The answer must be kept until the
    /// write has ended. Who may do everything has no quota.
    async fn admit(
        &self,
        database: &str,
        growth: Growth<'_>,
    ) -> Result<Admitted<'_>, CommandError> {
        if self.user.is_root() {
            return Ok(self.server.settings.guard.storage().pass(database));
        }
        guard::admit(self.server, database, growth).await
    }

    /// Notes that documents were deleted, whose space may be given back.
    fn freed(&self) {
        self.server
            .settings
            .guard
            .storage()
            .note_freed(self.database);
    }

    /// Notes that something was dropped or renamed.
    fn changed(&self) {
        self.server
            .settings
            .guard
            .storage()
            .note_changed(self.database);
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            user: self.user,
            database: self.database,
        }
    }

    /// Returns an error in MongoDB's words.
    fn worded(&self, error: CommandError) -> CommandError {
        let collection = self.body().get_str(self.name).unwrap_or("$cmd");
        let namespace = format!("{}.{collection}", self.database);
        error.worded(Asked {
            command: self.name,
            namespace: &namespace,
        })
    }

    fn allow(&self, action: Action) -> Result<(), CommandError> {
        self.allow_on(action, self.database)
    }

    fn allow_on(&self, action: Action, database: &str) -> Result<(), CommandError> {
        if self.user.may(action, database) {
            Ok(())
        } else {
            Err(self.refused(database))
        }
    }

    fn allow_root(&self) -> Result<(), CommandError> {
        if self.user.is_root() {
            Ok(())
        } else {
            Err(self.refused(self.database))
        }
    }

    fn refused(&self, database: &str) -> CommandError {
        CommandError::unauthorized(format!(
            "not authorized on {database} to execute command {}",
            self.name
        ))
    }

    /// The collection that the command's first field names.
    fn collection(&self) -> Result<&'a str, CommandError> {
        collection_in(self.body(), self.name)
    }

    /// The command as the engine should see it.
    fn spec(&self) -> Result<RawDocumentBuf, CommandError> {
        without(self.body(), &GENERIC_FIELDS)
    }

    fn schema_changed(&self, database: &str, collection: Option<&str>) {
        self.server.indexed.forget();
        if let Some(tell) = &self.server.settings.on_schema_change {
            let collection = collection.map(str::to_owned);
            tell(SchemaChange {
                user: self.user_name.to_owned(),
                database: database.to_owned(),
                collection,
            });
        }
    }
}
