//! What a connection to the engine has prepared: the statements that commands are made of, and lookups in the tables
//! of collections.

use std::collections::HashMap;

use tokio_postgres::{Client, Statement};

use crate::error::CommandError;

/// Lookups that a connection keeps. The engine takes 17 kB for each (measured with 200 collections; what it knows of a
/// collection in any case takes 38 kB).
const LOOKUPS_MAX: usize = 250;

#[derive(Default)]
pub(super) struct Prepared {
    statements: HashMap<&'static str, Statement>,
    /// By the number of the table.
    lookups: HashMap<i64, Statement>,
    /// How many changes of collections there had been when the first of these was prepared.
    changes: u64,
}

impl Prepared {
    pub(super) async fn statement(
        &mut self,
        client: &Client,
        sql: &'static str,
    ) -> Result<Statement, CommandError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = prepare(client, sql).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// The lookup of an `_id` in a table; nothing where there is no room for one more. Room is made where collections
    /// have changed, as some tables are gone then; otherwise the ones would push out the others for ever.
    pub(super) async fn lookup(
        &mut self,
        client: &Client,
        table: i64,
        changes: u64,
    ) -> Result<Option<Statement>, CommandError> {
        if let Some(statement) = self.lookups.get(&table) {
            return Ok(Some(statement.clone()));
        }
        if self.lookups.len() >= LOOKUPS_MAX {
            if self.changes == changes {
                return Ok(None);
            }
            self.lookups.clear();
        }
        if self.lookups.is_empty() {
            self.changes = changes;
        }
        let sql = format!(
            "SELECT document FROM documentdb_data.documents_{table} \
             WHERE shard_key_value = {table} AND object_id OPERATOR(documentdb_core.=) $1"
        );
        let statement = prepare(client, &sql).await?;
        self.lookups.insert(table, statement.clone());
        Ok(Some(statement))
    }
}

async fn prepare(client: &Client, sql: &str) -> Result<Statement, CommandError> {
    let prepared = client.prepare(sql).await;
    prepared.map_err(|error| CommandError::from_postgres(&error))
}
