//! One connection to the engine. It works only while somebody waits for it, in the
//! task that waits: a task of its own would cost a change of tasks, often of
//! threads, for each statement and each answer. Dropping it closes it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage, Socket, Statement};
use tokio_util::sync::CancellationToken;

use super::CANCEL_MARGIN;
use crate::error::{CommandError, chain};

/// Without the second, a count without a filter is what the last statistics say. The third ends a statement
/// whose connection is gone, also when this process was killed.
const SETTINGS: &str = "SET client_min_messages = warning; \
    SET documentdb.use_pg_stats_live_tuples_for_count = off; \
    SET client_connection_check_interval = 1000";

pub(super) struct Connection {
    client: Client,
    driver: Driver,
    prepared: HashMap<&'static str, Statement>,
    time_limit: Duration,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    pub(super) async fn open(
        config: &tokio_postgres::Config,
    ) -> Result<Self, tokio_postgres::Error> {
        let (client, driver) = config.connect(NoTls).await?;
        let mut connection = Self {
            client,
            driver: Driver(Some(driver)),
            prepared: HashMap::new(),
            time_limit: Duration::MAX,
        };
        connection.execute(SETTINGS).await?;
        Ok(connection)
    }

    /// Whether the engine is still at the other end, as far as is known.
    pub(super) fn is_open(&mut self) -> bool {
        self.driver.work(&mut Context::from_waker(Waker::noop()));
        !self.client.is_closed()
    }

    /// Runs what gives nothing.
    pub(super) async fn execute(&mut self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.driver.during(self.client.batch_execute(sql)).await
    }

    /// Runs a statement, which is prepared when it is first used.
    pub(super) async fn query(
        &mut self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
        interruption: &CancellationToken,
    ) -> Result<Vec<Row>, CommandError> {
        if !self.prepared.contains_key(sql) {
            let prepared = self.driver.during(self.client.prepare(sql)).await;
            let statement = prepared.map_err(|error| CommandError::from_postgres(&error))?;
            self.prepared.insert(sql, statement);
        }
        let query = self.client.query(&self.prepared[sql], parameters);
        finish(&self.client, self.driver.during(query), interruption).await
    }

    /// Runs statements without parameters.
    pub(super) async fn simple_query(
        &mut self,
        sql: &str,
        interruption: &CancellationToken,
    ) -> Result<Vec<SimpleQueryMessage>, CommandError> {
        let query = self.client.simple_query(sql);
        finish(&self.client, self.driver.during(query), interruption).await
    }

    /// Sets how long a statement may take from now on.
    pub(super) async fn limit_time(&mut self, limit: Duration) -> Result<(), CommandError> {
        if self.time_limit != limit {
            let sql = format!("SET statement_timeout = {}", limit.as_millis().max(1));
            let set = self.execute(&sql).await;
            set.map_err(|error| CommandError::from_postgres(&error))?;
            self.time_limit = limit;
        }
        Ok(())
    }
}

/// Waits for a statement; asks the engine to end it when interrupted.
async fn finish<T>(
    client: &Client,
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    interruption: &CancellationToken,
) -> Result<T, CommandError> {
    let mut statement = pin!(statement);
    // The statement is waited for below when the other branch was first.
    let interrupted = tokio::select! {
        biased;
        result = &mut statement => return result.map_err(|error| CommandError::from_postgres(&error)),
        () = interruption.cancelled() => async {
            let _ = client.cancel_token().cancel_query(NoTls).await;
            statement.await
        },
    };
    match timeout(CANCEL_MARGIN, interrupted).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) | Err(_) => Err(CommandError::interrupted()),
    }
}

/// What reads and writes; nothing once the connection has ended.
struct Driver(Option<tokio_postgres::Connection<Socket, NoTlsStream>>);

impl Driver {
    /// Works as long as the operation waits. Nothing but this work makes an operation go on, so it is asked
    /// after each piece of work and wakes nobody: a task that wakes itself while it runs makes the runtime
    /// start another thread for it.
    async fn during<T>(&mut self, operation: impl Future<Output = T>) -> T {
        let mut operation = pin!(operation);
        poll_fn(|context| {
            let mut asking = Context::from_waker(Waker::noop());
            if let Poll::Ready(result) = operation.as_mut().poll(&mut asking) {
                return Poll::Ready(result);
            }
            self.work(context);
            operation.as_mut().poll(&mut asking)
        })
        .await
    }

    fn work(&mut self, context: &mut Context<'_>) {
        let Some(connection) = &mut self.0 else {
            return;
        };
        if let Poll::Ready(ended) = Pin::new(connection).poll(context) {
            if let Err(error) = ended {
                tracing::debug!(error = %chain(&error), "a connection to the database engine ended");
            }
            self.0 = None;
        }
    }
}
