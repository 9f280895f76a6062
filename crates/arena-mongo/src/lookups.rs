//! Documents looked up by `_id` in the tables that hold them. For a find the engine reads the command, looks the
//! collection up and plans, each time anew; the lookup itself is the smallest part. Here a connection plans the lookup
//! in a table once. That takes which table it is: it is asked for where a collection is read a second time, and
//! forgotten as soon as anybody drops, renames or alters any collection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_postgres::Row;

use crate::backend::{Backend, BsonIn, Budget};
use crate::error::CommandError;

/// The table of a collection that is none of the others: a view has no table, a sharded one other keys.
const TABLE: &str = "SELECT collection_id FROM documentdb_api_catalog.collections \
    WHERE database_name = $1 AND collection_name = $2 AND shard_key IS NULL AND view_definition IS NULL";

/// What is known of collections as they are after so many changes.
#[derive(Debug, Default)]
pub(crate) struct Lookups(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    changes: u64,
    collections: HashMap<String, Collection>,
}

#[derive(Debug, Clone)]
enum Collection {
    /// It was read once.
    Read,
    /// It has no table where an `_id` could be looked up.
    WithoutTable,
    /// The statement that looks up in its table.
    In(Arc<str>),
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
        (database, collection, namespace): (&str, &str, &str),
        id: &BsonIn<'_>,
    ) -> Option<Result<Option<Row>, CommandError>> {
        let changes = backend.changes()?;
        let statement = match self.of(changes, namespace)? {
            Collection::In(statement) => statement,
            Collection::WithoutTable => return None,
            Collection::Read => {
                let rows = backend.rows(budget, TABLE, &[&database, &collection]).await;
                let table = rows.ok()?.first().map(|row| row.get::<_, i64>(0));
                let Some(table) = table else {
                    self.learn(changes, namespace, Collection::WithoutTable);
                    return None;
                };
                let statement = Arc::from(statement(table));
                self.learn(changes, namespace, Collection::In(Arc::clone(&statement)));
                // It may be another one by now.
                if backend.changes() != Some(changes) {
                    return None;
                }
                statement
            }
        };
        match backend.rows(budget, &statement, &[id]).await {
            Ok(mut rows) => Some(Ok(rows.pop())),
            Err(error) if error.has_ended() => Some(Err(error)),
            // The table is gone, or the engine was away.
            Err(_) => None,
        }
    }

    /// Notes that a collection was read in the usual way.
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
        found.filter(|_| known.changes == changes).cloned()
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

fn statement(table: i64) -> String {
    format!(
        "SELECT document FROM documentdb_data.documents_{table} \
         WHERE shard_key_value = {table} AND object_id OPERATOR(documentdb_core.=) $1"
    )
}
