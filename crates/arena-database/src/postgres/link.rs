//! Connections to PostgreSQL: how one comes about (encryption, a server that is still starting), and
//! how statements run on it (tried again where PostgreSQL only lost a race, bounded where somebody
//! holds what they need).

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error};

use crate::{PostgresTls, ProvisionError};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Before a server that is starting is asked again.
const STARTING_PAUSE: Duration = Duration::from_millis(50);
/// Two sessions that alter the same catalog row: PostgreSQL refuses one of them.
const CONFLICT_RETRIES: usize = 5;

const LEFTOVERS_TIME_MAX: Duration = Duration::from_secs(30);
const LEFTOVERS_PAUSE: Duration = Duration::from_millis(20);
/// Asks sessions of the same event that do something to end; with a name, those whose statement holds it.
const LEFTOVERS: &str = "SELECT pg_catalog.pg_terminate_backend(s.pid) FROM pg_catalog.pg_stat_activity s \
    WHERE s.application_name = pg_catalog.current_setting('application_name') AND s.usename = current_user \
    AND s.pid <> pg_catalog.pg_backend_pid() AND s.state <> 'idle' \
    AND ($1::pg_catalog.text IS NULL OR pg_catalog.strpos(s.query, $1) > 0)";

/// A connection and the task that moves its bytes.
pub(crate) struct Link {
    pub(crate) client: Client,
    task: JoinHandle<()>,
}

impl Link {
    /// Connects; a server that listens but replays its log is waited for.
    pub(super) async fn open(
        mut config: Config,
        tls: &PostgresTls,
        what: &str,
    ) -> Result<Self, ProvisionError> {
        config
            .connect_timeout(CONNECT_TIME_MAX)
            .ssl_mode(tls.mode());
        let timeout = |_| ProvisionError::Timeout {
            what: format!("{what} in PostgreSQL"),
            seconds: CONNECT_TIME_MAX.as_secs(),
        };
        let connecting = async {
            loop {
                match config.connect(tls.clone()).await {
                    Err(error) if error.code() == Some(&SqlState::CANNOT_CONNECT_NOW) => {
                        tokio::time::sleep(STARTING_PAUSE).await;
                    }
                    connected => return connected,
                }
            }
        };
        let connected = tokio::time::timeout(CONNECT_TIME_MAX, connecting).await;
        let (client, connection) = connected.map_err(timeout)?.map_err(failed(what))?;
        // Awaited in `Link::close`; ends by itself when the client is dropped.
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a PostgreSQL connection ended");
            }
        });
        Ok(Self { client, task })
    }

    /// Closes the connection and waits until the server knows: a database in use cannot be copied.
    pub(crate) async fn close(self) {
        drop(self.client);
        let mut task = self.task;
        if tokio::time::timeout(CONNECT_TIME_MAX, &mut task)
            .await
            .is_err()
        {
            task.abort();
        }
    }

    /// Ends what a former process of this event still runs, which was killed: its `CREATE DATABASE` would end in
    /// the middle of the next process's. With a name, what is still done to that alone: an order that was given up
    /// goes on in the server.
    pub(super) async fn end_leftovers(&self, of: Option<&str>) -> Result<(), ProvisionError> {
        let deadline = Instant::now() + LEFTOVERS_TIME_MAX;
        loop {
            let left = self.client.query(LEFTOVERS, &[&of]).await;
            let left = left.map_err(failed("end what a former process left"))?;
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(ProvisionError::Leftover(left.len()));
            }
            tokio::time::sleep(LEFTOVERS_PAUSE).await;
        }
    }

    /// Runs statements; those that lost against another session's are tried again.
    pub(crate) async fn run(
        &self,
        statements: &str,
        what: impl FnOnce() -> String,
    ) -> Result<(), ProvisionError> {
        self.attempt(statements).await.map_err(failed_with(what))
    }

    /// Like [`run`](Self::run), for what only a superuser may do; elsewhere it is left out, and said.
    pub(super) async fn run_if_allowed(
        &self,
        statements: &str,
        what: &'static str,
    ) -> Result<(), ProvisionError> {
        match self.attempt(statements).await {
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                tracing::debug!(%error, "this PostgreSQL's administrator may not {what}");
                Ok(())
            }
            done => done.map_err(failed(what)),
        }
    }

    async fn attempt(&self, statements: &str) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            match self.client.batch_execute(statements).await {
                Err(error) if tries < CONFLICT_RETRIES && is_conflict(&error) => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(20 << tries)).await;
                }
                done => return done,
            }
        }
    }
}

fn is_conflict(error: &Error) -> bool {
    let Some(error) = error.as_db_error() else {
        return false;
    };
    // "source database is being accessed by other users" while another copy of it ends.
    *error.code() == SqlState::OBJECT_IN_USE
        || (*error.code() == SqlState::INTERNAL_ERROR && error.message().contains("concurrently"))
}

pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(Error) -> ProvisionError {
    let what = what.into();
    move |source| ProvisionError::Postgres { what, source }
}

fn failed_with(what: impl FnOnce() -> String) -> impl FnOnce(Error) -> ProvisionError {
    move |source| ProvisionError::Postgres {
        what: what(),
        source,
    }
}
