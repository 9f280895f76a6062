//! The way to the engine: a bounded pool of PostgreSQL connections, shared
//! fairly. A user has few statements at once, so that one seat's slow queries
//! hold up that seat and nobody else; every statement has a time limit. A
//! transaction has a connection of its own (`backend/transaction.rs`).

mod changes;
mod prepared;
mod transaction;

use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::RawDocumentBuf;
use bytes::{BufMut, BytesMut};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage, Statement};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use changes::{Changes, Seen};
use prepared::Prepared;
pub(crate) use transaction::{Lost, Transaction};

use crate::error::{CommandError, chain};
use crate::unix::QuietStream;

const DATABASE: &str = "postgres";
const SOCKET: &str = ".s.PGSQL.5432";
const ROLE: &str = "arena_front";
/// Without the second, a count without a filter is what the last statistics say. The third ends a statement
/// whose connection is gone, also when this process was killed.
const SETTINGS: &str = "SET client_min_messages = warning; \
    SET documentdb.use_pg_stats_live_tuples_for_count = off; \
    SET client_connection_check_interval = 1000";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An engine that was killed is back in a moment; so long a statement waits for it.
const AWAY_MAX: Duration = Duration::from_secs(10);
const AWAY_RETRY: Duration = Duration::from_millis(50);
/// A statement that lost against another one runs again so often, as MongoDB does by itself.
const CONFLICT_TRIES: u32 = 8;
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);
/// What the engine needs to notice that a statement's time is over.
const CANCEL_MARGIN: Duration = Duration::from_secs(2);

type SqlError = Box<dyn std::error::Error + Sync + Send>;

/// BSON on its way into the engine: one document, or documents one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BsonIn<'a>(pub(crate) &'a [u8]);

impl ToSql for BsonIn<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, SqlError> {
        out.put_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.name(), "bson" | "bsonsequence")
    }

    to_sql_checked!();
}

/// What is added to an answer takes less than this.
pub(crate) const ROOM_BYTES: usize = 192;

/// BSON from the engine.
#[derive(Debug, Clone)]
pub(crate) struct BsonOut(pub(crate) Vec<u8>);

impl BsonOut {
    pub(crate) fn document(self) -> Result<RawDocumentBuf, CommandError> {
        RawDocumentBuf::from_bytes(self.0).map_err(|_| CommandError::internal())
    }
}

impl FromSql<'_> for BsonOut {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, SqlError> {
        let mut bytes = Vec::with_capacity(raw.len() + ROOM_BYTES);
        bytes.extend_from_slice(raw);
        Ok(Self(bytes))
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "bson"
    }
}

/// BSON from the engine, where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BsonRef<'a>(pub(crate) &'a [u8]);

impl<'a> FromSql<'a> for BsonRef<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, SqlError> {
        Ok(Self(raw))
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "bson"
    }
}

/// One user's share of the engine.
#[derive(Debug)]
pub(crate) struct Share {
    statements: Arc<Semaphore>,
}

impl Share {
    pub(crate) fn of(statements: usize) -> Self {
        Self {
            statements: Arc::new(Semaphore::new(statements)),
        }
    }

    /// Waits for a user's turn to have something done that is no statement, but takes as much.
    pub(crate) async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, CommandError> {
        let turn = self.statements.acquire().await;
        turn.map_err(|_| CommandError::engine_away())
    }
}

/// Whose statement it is and how long it may take, waiting for its turn included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget<'a> {
    pub(crate) share: &'a Share,
    pub(crate) time: Duration,
    /// It drops, renames or alters a collection. Who keeps what a name means counts on it.
    pub(crate) is_change: bool,
    /// Where the statement belongs to, if it is not one of its own.
    pub(crate) transaction: Option<&'a Transaction>,
    /// Ends the statement in the engine.
    pub(crate) interruption: &'a CancellationToken,
}

#[derive(Debug)]
pub(crate) struct Backend {
    config: tokio_postgres::Config,
    socket: Arc<Path>,
    statements: Semaphore,
    #[expect(clippy::vec_box, reason = "they are handed around for every statement")]
    idle: Mutex<Vec<Box<Connection>>>,
    changes: Changes,
}

/// What a connection is to run.
#[derive(Clone, Copy)]
enum Asked {
    Statement(&'static str),
    Lookup { table: i64, changes: u64 },
}

struct Connection {
    client: Client,
    prepared: Prepared,
    time_limit: Duration,
    seen: Seen,
    /// Changes by this connection since then.
    own_changes: u64,
    /// It may know collections that are gone.
    is_doubtful: bool,
    /// Where a request to end its statement goes.
    socket: Arc<Path>,
    _driver: AbortOnDropHandle<()>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Backend {
    pub(crate) fn new(socket_dir: &Path, statements: usize) -> Self {
        let mut config = tokio_postgres::Config::new();
        config
            .dbname(DATABASE)
            .user(ROLE)
            .application_name("arena-mongo");
        Self {
            config,
            socket: socket_dir.join(SOCKET).into(),
            statements: Semaphore::new(statements),
            idle: Mutex::default(),
            changes: Changes::default(),
        }
    }

    /// Waits for no lock longer than a moment: a lock that is waited for holds up everybody behind.
    #[must_use]
    pub(crate) fn impatient(mut self) -> Self {
        self.config.options("-c lock_timeout=1000");
        self
    }

    /// How many changes of collections there have been; nothing while one is under way.
    pub(crate) fn changes(&self) -> Option<u64> {
        self.changes.count()
    }

    /// Runs a statement that gives one row.
    pub(crate) async fn row(
        &self,
        budget: Budget<'_>,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, CommandError> {
        let mut rows = self.rows(budget, sql, parameters).await?;
        rows.pop().ok_or_else(CommandError::internal)
    }

    /// Runs a statement.
    ///
    /// # Cancellation
    /// The connection is closed, which ends the statement.
    pub(crate) async fn rows(
        &self,
        budget: Budget<'_>,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, CommandError> {
        if let Some(transaction) = budget.transaction {
            return transaction.rows(budget, sql, parameters).await;
        }
        let rows = self.run(budget, Asked::Statement(sql), parameters).await?;
        rows.ok_or_else(CommandError::internal)
    }

    /// Looks a document up by its `_id` in the table that a name had after so many changes of collections; nothing
    /// where it may have another one by now, or a connection keeps no more lookups.
    ///
    /// # Cancellation
    /// As [`Backend::rows`].
    pub(crate) async fn look_up(
        &self,
        budget: Budget<'_>,
        (table, changes): (i64, u64),
        id: &BsonIn<'_>,
    ) -> Result<Option<Vec<Row>>, CommandError> {
        let asked = Asked::Lookup { table, changes };
        let rows = self.run(budget, asked, &[id]).await?;
        // It may have waited, behind a change too.
        Ok(rows.filter(|_| self.changes() == Some(changes)))
    }

    async fn run(
        &self,
        budget: Budget<'_>,
        asked: Asked,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Vec<Row>>, CommandError> {
        let deadline = Instant::now() + budget.time;
        let run = async {
            let _turn = self.turn(budget).await?;
            let mut tries = 1;
            loop {
                let mut connection = self.connection().await?;
                connection.limit_time(budget.time).await?;
                let Some(statement) = connection.prepared(asked).await? else {
                    self.give_back(connection, budget.interruption);
                    return Ok(None);
                };
                let change = budget.is_change.then(|| self.changes.begin());
                connection.own_changes += u64::from(budget.is_change);
                let query = async {
                    let result = connection.client.query(&statement, parameters).await;
                    if let Some(change) = change {
                        change.settle();
                    }
                    result
                };
                let result = connection.finish(query, budget.interruption).await;
                self.give_back(connection, budget.interruption);
                match result {
                    Err(error) if error.is_conflict() && tries < CONFLICT_TRIES => {
                        sleep(CONFLICT_PAUSE * tries).await;
                        tries += 1;
                    }
                    other => return other.map(Some),
                }
            }
        };
        timeout_at(deadline + CANCEL_MARGIN, run)
            .await
            .map_err(|_| CommandError::time_limit())?
    }

    /// Runs a statement that cannot have parameters and returns the first column's texts. The caller
    /// must have built it from nothing that a client could have broken out of.
    pub(crate) async fn texts(
        &self,
        budget: Budget<'_>,
        sql: &str,
    ) -> Result<Vec<String>, CommandError> {
        let deadline = Instant::now() + budget.time;
        let run = async {
            let _turn = self.turn(budget).await?;
            let mut connection = self.connection().await?;
            connection.limit_time(budget.time).await?;
            let query = connection.client.simple_query(sql);
            let result = connection.finish(query, budget.interruption).await;
            self.give_back(connection, budget.interruption);
            Ok(result?.iter().filter_map(first_column).collect())
        };
        timeout_at(deadline + CANCEL_MARGIN, run)
            .await
            .map_err(|_| CommandError::time_limit())?
    }

    /// Waits for the user's turn, then for the engine's: the first wait is only for oneself.
    async fn turn<'a>(
        &'a self,
        budget: Budget<'a>,
    ) -> Result<
        (
            tokio::sync::SemaphorePermit<'a>,
            tokio::sync::SemaphorePermit<'a>,
        ),
        CommandError,
    > {
        let closed = |_| CommandError::engine_away();
        let waiting = async {
            let own = budget.share.statements.acquire().await.map_err(closed)?;
            let all = self.statements.acquire().await.map_err(closed)?;
            Ok((own, all))
        };
        let waited = budget.interruption.run_until_cancelled(waiting).await;
        waited.unwrap_or_else(|| Err(CommandError::interrupted()))
    }

    /// Returns an idle connection or a new one. Nothing has been asked of the engine yet, so waiting for one
    /// that is away is safe.
    async fn connection(&self) -> Result<Box<Connection>, CommandError> {
        let mut begun = None;
        loop {
            if let Some(connection) = self.idle_connection().await {
                return Ok(connection);
            }
            let begun = *begun.get_or_insert_with(Instant::now);
            match self.connect().await {
                Ok(connection) => return Ok(connection.into()),
                Err(error) if begun.elapsed() >= AWAY_MAX => {
                    tracing::warn!(error = %chain(&*error), "cannot connect to the database engine");
                    return Err(CommandError::engine_away());
                }
                Err(_) => sleep(AWAY_RETRY).await,
            }
        }
    }

    async fn idle_connection(&self) -> Option<Box<Connection>> {
        while let Some(mut connection) = self.pop_idle() {
            if connection.client.is_closed() {
                continue;
            }
            (connection.seen, connection.own_changes) = (self.changes.seen(), 0);
            if !connection.is_doubtful {
                return Some(connection);
            }
            if connection
                .client
                .batch_execute(changes::FORGET)
                .await
                .is_ok()
            {
                connection.is_doubtful = false;
                return Some(connection);
            }
        }
        None
    }

    fn pop_idle(&self) -> Option<Box<Connection>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop()
    }

    async fn connect(&self) -> Result<Connection, SqlError> {
        let connecting = async {
            let stream = QuietStream::connect(&self.socket).await?;
            Ok::<_, SqlError>(self.config.connect_raw(stream, NoTls).await?)
        };
        let (client, connection) = timeout(CONNECT_TIMEOUT, connecting).await??;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %chain(&error), "a connection to the database engine ended");
            }
        });
        let driver = AbortOnDropHandle::new(driver);
        client.batch_execute(SETTINGS).await?;
        Ok(Connection {
            client,
            prepared: Prepared::default(),
            time_limit: Duration::MAX,
            seen: self.changes.seen(),
            own_changes: 0,
            is_doubtful: false,
            socket: self.socket.clone(),
            _driver: driver,
        })
    }

    /// Keeps a connection for others. One whose statement was interrupted is closed: the request to cancel may
    /// come late, and would end another's statement.
    fn give_back(&self, mut connection: Box<Connection>, interruption: &CancellationToken) {
        let is_current = self
            .changes
            .were_none_since(connection.seen, connection.own_changes);
        connection.is_doubtful |= !is_current;
        if !connection.client.is_closed() && !interruption.is_cancelled() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
        }
    }
}

impl Connection {
    /// Waits for a statement; asks the engine to end it when interrupted.
    async fn finish<T>(
        &self,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
        interruption: &CancellationToken,
    ) -> Result<T, CommandError> {
        let mut statement = pin!(statement);
        // The statement is waited for below when the other branch was first.
        let result = tokio::select! {
            biased;
            result = &mut statement => return result.map_err(|error| CommandError::from_postgres(&error)),
            () = interruption.cancelled() => async {
                if let Ok(stream) = QuietStream::connect(&self.socket).await {
                    let _ = self.client.cancel_token().cancel_query_raw(stream, NoTls).await;
                }
                statement.await
            },
        };
        match timeout(CANCEL_MARGIN, result).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) | Err(_) => Err(CommandError::interrupted()),
        }
    }

    /// Nothing where it keeps no more lookups.
    async fn prepared(&mut self, asked: Asked) -> Result<Option<Statement>, CommandError> {
        let (prepared, client) = (&mut self.prepared, &self.client);
        match asked {
            Asked::Statement(sql) => prepared.statement(client, sql).await.map(Some),
            Asked::Lookup { table, changes } => prepared.lookup(client, table, changes).await,
        }
    }

    async fn limit_time(&mut self, limit: Duration) -> Result<(), CommandError> {
        if self.time_limit != limit {
            let sql = format!("SET statement_timeout = {}", limit.as_millis().max(1));
            let set = self.client.batch_execute(&sql).await;
            set.map_err(|error| CommandError::from_postgres(&error))?;
            self.time_limit = limit;
        }
        Ok(())
    }
}

fn first_column(message: &SimpleQueryMessage) -> Option<String> {
    match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }
}
