//! Documents looked up by `_id` in the tables that hold them. For a find the engine reads the command, looks the
//! collection up and plans, each time anew; the lookup itself is the smallest part. Here a connection plans the lookup
//! in a table once.
//!
//! That takes which table a name has. It is asked for where a collection is read a second time, and holds until
//! anything is dropped, renamed or altered; all that is known is forgotten then. Collections that are made need not be
//! counted: of what has no table nothing is kept. A table's number is never given again. In a transaction nothing is
//! looked up here, as collections may be made in it that nobody else sees.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_postgres::Row;

use crate::backend::{Backend, BsonIn, Budget};
use crate::error::CommandError;

/// The table of a collection; a view has none, and a sharded collection other keys.
const TABLE: &str = "SELECT collection_id FROM documentdb_api_catalog.collections \
    WHERE database_name = $1 AND collection_name = $2 AND shard_key IS NULL AND view_definition IS NULL";

/// What is known of collections as they are after so many changes.
#[derive(Debug, Default)]
pub(crate) struct Lookups(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    changes: u64,
    /// By namespace; only those in which documents were found.
    collections: HashMap<String, Collection>,
}

#[derive(Debug, Clone, Copy)]
enum Collection {
    /// It was read once.
    Read,
    /// It has no table where an `_id` could be looked up.
    WithoutTable,
    /// The number of its table.
    In(i64),
}

impl Lookups {
    /// Looks a document up whose `_id` is the value in this document; nothing where the engine has to be asked in the
    /// usual way.
    ///
    /// # Cancellation
    /// As [`Backend::rows`].
    pub(crate) async fn find(
        &self,
        backend: &Backend,
        budget: Budget<'_>,
        namespace: &str,
        id: &BsonIn<'_>,
    ) -> Option<Result<Option<Row>, CommandError>> {
        let changes = backend.changes()?;
        let found = match self.of(changes, namespace)? {
            Collection::WithoutTable => return None,
            Collection::In(table) => backend.look_up(budget, (table, changes), id).await,
            Collection::Read => match table(backend, budget, namespace).await {
                Ok(Some(table)) => {
                    self.learn(changes, namespace, Collection::In(table));
                    backend.look_up(budget, (table, changes), id).await
                }
                Ok(None) => {
                    self.learn(changes, namespace, Collection::WithoutTable);
                    return None;
                }
                Err(error) => Err(error),
            },
        };
        match found {
            Ok(Some(mut rows)) => Some(Ok(rows.pop())),
            Err(error) if error.has_ended() || error.is_retryable() => Some(Err(error)),
            Ok(None) => None,
            // It is gone, or cannot be read.
            Err(_) => {
                self.learn(changes, namespace, Collection::WithoutTable);
                None
            }
        }
    }

    /// Notes that a document was found in a collection in the usual way.
    pub(crate) fn note(&self, backend: &Backend, namespace: &str) {
        if let Some(changes) = backend.changes()
            && self.of(changes, namespace).is_none()
        {
            self.learn(changes, namespace, Collection::Read);
        }
    }

    fn of(&self, changes: u64, namespace: &str) -> Option<Collection> {
        let known = self.known();
        let found = known.collections.get(namespace);
        found.filter(|_| known.changes == changes).copied()
    }

    fn learn(&self, changes: u64, namespace: &str, collection: Collection) {
        let mut known = self.known();
        if known.changes < changes {
            known.collections.clear();
            known.changes = changes;
        }
        // What was asked before a change is not kept after it.
        if known.changes == changes {
            known.collections.insert(namespace.to_owned(), collection);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn table(
    backend: &Backend,
    budget: Budget<'_>,
    namespace: &str,
) -> Result<Option<i64>, CommandError> {
    // A database's name has no dot.
    let Some((database, collection)) = namespace.split_once('.') else {
        return Ok(None);
    };
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&database, &collection];
    let rows = backend.rows(budget, TABLE, &parameters).await?;
    Ok(rows.first().map(|row| row.get(0)))
}
