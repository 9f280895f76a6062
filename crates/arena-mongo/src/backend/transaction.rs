//! A connection inside a transaction: its statements run one after the other and
//! see one snapshot. It waits for no lock: MongoDB's transactions conflict at
//! once, too. Dropping it closes the connection, which takes everything back.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use super::{Backend, Budget, CANCEL_MARGIN, Connection};
use crate::error::CommandError;

/// Long enough for a write that is being committed just now, too short to be felt.
const LOCK_WAIT_MS: u32 = 100;
/// Commits and rollbacks wait for the disk only.
const END_MAX: Duration = Duration::from_secs(20);

/// How a commit ended, if it did not succeed.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Nothing was kept.
    Refused(CommandError),
    /// The engine went away in between: kept or not, nobody knows yet.
    Unknown,
}

#[derive(Debug)]
pub(crate) struct Transaction {
    /// Nothing once it has ended.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    connection: Box<Connection>,
    time_limit: Duration,
}

impl Backend {
    /// Opens a transaction that ends by itself after this time, also when this process is gone. The snapshot
    /// is taken by its first statement.
    pub(crate) async fn begin(&self, lifetime: Duration) -> Result<Transaction, CommandError> {
        let connection = self.connection().await?;
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = {LOCK_WAIT_MS}; \
             SET LOCAL transaction_timeout = {}",
            (lifetime + CANCEL_MARGIN).as_millis()
        );
        let begun = connection.client.batch_execute(&sql).await;
        begun.map_err(|error| CommandError::from_postgres(&error))?;
        let open = Open {
            connection,
            time_limit: Duration::MAX,
        };
        Ok(Transaction {
            open: Mutex::new(Some(open)),
        })
    }

    /// Takes everything back; harmless when the transaction has ended.
    pub(crate) async fn roll_back(&self, transaction: &Transaction) {
        let Some(open) = transaction.open.lock().await.take() else {
            return;
        };
        let ending = open.connection.client.batch_execute("ROLLBACK");
        if matches!(
            timeout_at(Instant::now() + END_MAX, ending).await,
            Ok(Ok(()))
        ) {
            self.give_back(open.connection, &CancellationToken::new());
        }
    }

    /// Makes everything lasting, together with what this statement notes.
    pub(crate) async fn commit(
        &self,
        budget: Budget<'_>,
        transaction: &Transaction,
        note: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), Lost> {
        transaction
            .rows(budget, note, parameters)
            .await
            .map_err(Lost::Refused)?;
        let Some(open) = transaction.open.lock().await.take() else {
            return Err(Lost::Unknown);
        };
        let ending = open.connection.client.batch_execute("COMMIT");
        match timeout_at(Instant::now() + END_MAX, ending).await {
            Ok(Ok(())) => {
                self.give_back(open.connection, budget.interruption);
                Ok(())
            }
            Ok(Err(error))
                if error.as_db_error().is_some() && !open.connection.client.is_closed() =>
            {
                let refused = CommandError::from_postgres(&error);
                self.give_back(open.connection, budget.interruption);
                Err(Lost::Refused(refused))
            }
            _ => Err(Lost::Unknown),
        }
    }
}

impl Transaction {
    /// Runs a statement in the transaction. After a failure the engine runs no other one; the caller rolls
    /// back. An interruption ends the transaction.
    ///
    /// # Cancellation
    /// The connection is closed, which ends the transaction.
    pub(super) async fn rows(
        &self,
        budget: Budget<'_>,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, CommandError> {
        let deadline = Instant::now() + budget.time + CANCEL_MARGIN;
        let mut place = self.open.lock().await;
        // Taken out while the statement runs: whoever is interrupted leaves nothing half done behind.
        let Some(mut open) = place.take() else {
            return Err(CommandError::no_such_transaction());
        };
        let run = async {
            open.limit_time(budget.time).await?;
            let Connection {
                prepared, client, ..
            } = &mut *open.connection;
            let statement = prepared.statement(client, sql).await?;
            let query = open.connection.client.query(&statement, parameters);
            open.connection.finish(query, budget.interruption).await
        };
        let result = timeout_at(deadline, run)
            .await
            .map_err(|_| CommandError::time_limit())?;
        if budget.interruption.is_cancelled() {
            return Err(CommandError::interrupted());
        }
        if !open.connection.client.is_closed() {
            *place = Some(open);
        }
        result
    }
}

impl Open {
    async fn limit_time(&mut self, limit: Duration) -> Result<(), CommandError> {
        if self.time_limit != limit {
            let sql = format!("SET LOCAL statement_timeout = {}", limit.as_millis().max(1));
            let set = self.connection.client.batch_execute(&sql).await;
            set.map_err(|error| CommandError::from_postgres(&error))?;
            self.time_limit = limit;
        }
        Ok(())
    }
}
