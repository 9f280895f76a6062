//! The statements that run commands: a function of the engine, and what is to hold while it runs. What holds is a
//! value of the statement; the text that sets it in the engine is written from it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bson::RawDocument;
use tokio_postgres::types::ToSql;

use super::{Answer, Call};
use crate::backend::{BsonIn, BsonOut, Budget};

/// A function of the engine and how it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Statement {
    columns: &'static str,
    /// The function; what it is asked of, a database, is called `asked.of`.
    call: &'static str,
    /// Documents are read as they were inserted; the engine would read by `_id` where it thinks that cheaper.
    pub(super) as_inserted: bool,
    /// Groups take what comes as it comes; sorting for a group would lose the order in it. Sorts that were asked for
    /// are still done.
    pub(super) keeps_groups: bool,
    /// Each document of a `$merge` is looked for in the target; the engine would keep all that is to be merged and go
    /// through it for every document there.
    pub(super) looks_up: bool,
    /// Writes what a collection's validator would not let in.
    pub(super) is_unvalidated: bool,
}

impl Statement {
    pub(super) const FIND: Self = Self::page("find_cursor_first_page(asked.of, $2)");
    pub(super) const AGGREGATE: Self = Self::page("aggregate_cursor_first_page(asked.of, $2)");
    pub(super) const LIST_INDEXES: Self =
        Self::page("list_indexes_cursor_first_page(asked.of, $2)");
    pub(super) const LIST_COLLECTIONS: Self =
        Self::page("list_collections_cursor_first_page(asked.of, $2)");
    pub(super) const COUNT: Self = Self::of("document", "count_query(asked.of, $2)");
    pub(super) const DISTINCT: Self = Self::of("document", "distinct_query(asked.of, $2)");
    pub(super) const INSERT: Self = Self::write("insert(asked.of, $2, $3, NULL)");
    /// MongoDB changes the first of the documents that it finds.
    pub(super) const UPDATE: Self = Self::write("update(asked.of, $2, $3, NULL)").in_order();
    pub(super) const DELETE: Self = Self::write("delete(asked.of, $2, $3, NULL)").in_order();
    pub(super) const FIND_AND_MODIFY: Self = Self::write(
        "find_and_modify(asked.of, $2, NULL) WHERE $3::documentdb_core.bsonsequence IS NULL",
    )
    .in_order();

    const fn of(columns: &'static str, call: &'static str) -> Self {
        Self {
            columns,
            call,
            as_inserted: false,
            keeps_groups: false,
            looks_up: false,
            is_unvalidated: false,
        }
    }

    const fn page(call: &'static str) -> Self {
        Self::of("cursorpage, continuation, cursorid", call)
    }

    const fn write(call: &'static str) -> Self {
        Self::of("p_result, pg_stat_force_next_flush()", call)
    }

    /// The same statement over documents as they were inserted.
    pub(super) const fn in_order(self) -> Self {
        Self {
            as_inserted: true,
            ..self
        }
    }

    /// Runs what answers with one document.
    pub(super) async fn answer(
        self,
        call: &Call<'_>,
        budget: Budget<'_>,
        spec: &RawDocument,
    ) -> Answer {
        let parameters: [&(dyn ToSql + Sync); 2] = [&call.database, &BsonIn(spec.as_bytes())];
        let backend = &call.server.backend;
        let row = backend.row(budget, self.sql(), &parameters).await?;
        row.get::<_, BsonOut>(0).document()
    }

    /// The statement's text, written once: a connection knows what it has prepared by it.
    pub(super) fn sql(self) -> &'static str {
        static WRITTEN: Mutex<BTreeMap<Statement, &str>> = Mutex::new(BTreeMap::new());
        let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        written.entry(self).or_insert_with(|| self.text().leak())
    }

    /// What is switched off begins before the function, and ends with it, also in a transaction.
    fn text(self) -> String {
        let Self { columns, call, .. } = self;
        let off = self.off();
        if off.is_empty() {
            let call = call.replace("asked.of", "$1");
            return format!("SELECT {columns} FROM documentdb_api.{call}");
        }
        let switched = |to, between| {
            let set = |name| format!("set_config('{name}', '{to}', true)");
            off.iter().map(set).collect::<Vec<String>>().join(between)
        };
        let (begins, ends) = (switched("off", " || "), switched("on", ", "));
        format!(
            "SELECT {columns}, {ends} FROM (SELECT CASE WHEN {begins} IS NOT NULL THEN $1::text END AS of OFFSET 0) \
             AS asked, LATERAL documentdb_api.{call}"
        )
    }

    fn off(self) -> Vec<&'static str> {
        let switches = [
            (self.as_inserted, "enable_indexscan"),
            (self.as_inserted, "enable_indexonlyscan"),
            (self.keeps_groups, "enable_sort"),
            (self.looks_up, "enable_material"),
            (self.is_unvalidated, "documentdb.enableSchemaValidation"),
        ];
        let off = switches.into_iter().filter(|(is_off, _)| *is_off);
        off.map(|(_, name)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_while_a_statement_runs_is_in_its_text() {
        assert_eq!(
            Statement::COUNT.sql(),
            "SELECT document FROM documentdb_api.count_query($1, $2)"
        );
        let written = Statement {
            is_unvalidated: true,
            keeps_groups: true,
            ..Statement::AGGREGATE
        };
        assert_eq!(
            written.sql(),
            "SELECT cursorpage, continuation, cursorid, set_config('enable_sort', 'on', true), \
             set_config('documentdb.enableSchemaValidation', 'on', true) FROM (SELECT CASE WHEN \
             set_config('enable_sort', 'off', true) || \
             set_config('documentdb.enableSchemaValidation', 'off', true) IS NOT NULL THEN $1::text END AS of OFFSET 0) \
             AS asked, LATERAL documentdb_api.aggregate_cursor_first_page(asked.of, $2)"
        );
    }
}
