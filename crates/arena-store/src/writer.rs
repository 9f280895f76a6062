//! The one writer: a thread that owns the connection and commits requests in
//! groups. Each request runs in its own savepoint, so one that fails leaves
//! the others whole; each is answered after the group's commit, and only then
//! does the model in memory change.

use std::sync::Arc;
use std::thread::JoinHandle;

use jiff::Timestamp;
use rusqlite::{Connection, params};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::events::{Event, EventKind};
use crate::model::{Change, Shared};
use crate::types::Actor;

/// Requests that may wait for the writer; more wait in line before the queue.
const QUEUE_LENGTH: usize = 4096;
/// Requests that share one commit.
const GROUP_SIZE_MAX: usize = 512;

/// A write that did not happen.
#[derive(Debug, Clone, Error)]
pub enum WriteError {
    /// SQLite refused it, or the commit of its group.
    #[error("cannot write to the event's database")]
    Database(#[source] Arc<rusqlite::Error>),
    /// The store was closed, or its writer ended.
    #[error("cannot write to the event's database: it was closed")]
    Closed,
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

/// What a request sees: the connection inside its savepoint, and where its changes go.
pub(crate) struct Work<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) now: Timestamp,
    pub(crate) changes: Vec<Change>,
}

impl Work<'_> {
    /// Writes an event in the same transaction.
    pub(crate) fn event(&mut self, kind: EventKind) -> rusqlite::Result<()> {
        let text = to_json(&kind)?;
        self.connection
            .prepare_cached("insert into events (at, kind) values (?1, ?2)")?
            .execute(params![self.now.as_microsecond(), text])?;
        let id = self.connection.last_insert_rowid();
        self.changes.push(Change::Event(Event {
            id,
            at: self.now,
            kind,
        }));
        Ok(())
    }

    /// Writes who did what in the same transaction.
    pub(crate) fn audit(
        &mut self,
        actor: &Actor,
        action: &str,
        subject: &str,
    ) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "insert into audit (at, actor, action, subject) values (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                self.now.as_microsecond(),
                actor.to_string(),
                action,
                subject
            ])?;
        Ok(())
    }
}

/// Returns a value's JSON as SQLite's error type, so that it fits where rows are written.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// A request after it ran: told whether the commit succeeded.
type Answer = Box<dyn FnOnce(Result<(), WriteError>) + Send>;
/// A request: runs in its savepoint, says whether to keep it, and what changes in the model.
type Request = Box<dyn FnOnce(&Connection, Timestamp) -> Ran + Send>;

struct Ran {
    keep: bool,
    changes: Vec<Change>,
    answer: Answer,
}

/// The queue to the writer's thread; dropping it lets the thread finish what is queued and end.
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread that owns the connection.
    pub(crate) fn start(connection: Connection, shared: Arc<Shared>) -> std::io::Result<Self> {
        let (queue, requests) = mpsc::channel(QUEUE_LENGTH);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_groups(&connection, &shared, requests))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Runs `work` in a transaction and returns its answer after the commit. When it returns an
    /// error, nothing of it remains.
    ///
    /// # Cancellation
    /// The work may or may not be committed.
    pub(crate) async fn write<T, E>(
        &self,
        work: impl FnOnce(&mut Work<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<WriteError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel::<Result<T, E>>();
        let request: Request = Box::new(move |connection, now| {
            let mut context = Work {
                connection,
                now,
                changes: Vec::new(),
            };
            let result = work(&mut context);
            let keep = result.is_ok();
            let changes = if keep { context.changes } else { Vec::new() };
            let answer: Answer = Box::new(move |committed| {
                let answer = match (result, committed) {
                    (Ok(_), Err(error)) => Err(E::from(error)),
                    (result, _) => result,
                };
                // Nobody waits any more: the commit stands all the same.
                let _ = sender.send(answer);
            });
            Ran {
                keep,
                changes,
                answer,
            }
        });
        let Some(queue) = &self.queue else {
            return Err(WriteError::Closed.into());
        };
        queue.send(request).await.map_err(|_| WriteError::Closed)?;
        receiver
            .await
            .unwrap_or_else(|_| Err(WriteError::Closed.into()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer ended by a panic");
        }
    }
}

fn write_groups(connection: &Connection, shared: &Shared, mut requests: mpsc::Receiver<Request>) {
    while let Some(first) = requests.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_SIZE_MAX
            && let Ok(request) = requests.try_recv()
        {
            group.push(request);
        }
        write_group(connection, shared, group);
    }
}

fn write_group(connection: &Connection, shared: &Shared, group: Vec<Request>) {
    let now = now();
    let begun = connection.execute_batch("begin immediate");
    let mut ran = Vec::with_capacity(group.len());
    for request in group {
        ran.push(run(connection, now, request));
    }
    let committed = begun
        .and_then(|()| connection.execute_batch("commit"))
        .map_err(WriteError::from);
    if let Err(error) = &committed {
        tracing::error!(error = %error, "cannot commit to the event's database");
        // After a failed commit the transaction may still be open.
        let _ = connection.execute_batch("rollback");
    } else {
        shared.apply(
            ran.iter_mut()
                .flat_map(|ran| std::mem::take(&mut ran.changes)),
        );
    }
    for ran in ran {
        (ran.answer)(committed.clone());
    }
}

fn run(connection: &Connection, now: Timestamp, request: Request) -> Ran {
    let opened = connection.execute_batch("savepoint request");
    let mut ran = request(connection, now);
    let closed = opened.and_then(|()| {
        if !ran.keep {
            connection.execute_batch("rollback to request")?;
        }
        connection.execute_batch("release request")
    });
    if let Err(error) = closed {
        let error = WriteError::from(error);
        let answer = ran.answer;
        ran.answer = Box::new(move |_| answer(Err(error)));
        ran.changes.clear();
    }
    ran
}

/// Returns the time, as exactly as it is stored.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
