//! Writes that run once however often a driver sends them. The engine keeps the
//! answer of a session's newest write in the same transaction as the write itself,
//! so a repeated one gets the same answer, also after a crash.

use tokio_postgres::types::ToSql;

use super::statements::Statement;
use super::updates::Prepared;
use super::{Call, integer, is_true, transactions};
use crate::backend::{BsonIn, BsonOut};
use crate::error::CommandError;
use crate::server::Server;
use bson::{RawDocument, RawDocumentBuf};

/// The number under which a session's last commit is noted.
pub(super) const COMMIT_STATEMENT: i32 = -1;

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS arena_front.done (\
    session text, statement int, number bigint NOT NULL, answer documentdb_core.bson, \
    at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (session, statement)) WITH (fillfactor = 70)";
/// Longer than any session lives.
const FORGET: &str = "DELETE FROM arena_front.done WHERE at < now() - interval '2 hours'";

/// One kind of write: the function that runs it once, and the one that just runs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    once: &'static str,
    plain: Statement,
}

pub(super) const INSERT: Write = Write {
    once: "SELECT result, known, pg_stat_force_next_flush() FROM arena_front.insert_once($1, $2, $3, $4, $5, $6)",
    plain: Statement::INSERT,
};
pub(super) const UPDATE: Write = Write {
    once: "SELECT result, known, pg_stat_force_next_flush() FROM arena_front.update_once($1, $2, $3, $4, $5, $6)",
    plain: Statement::UPDATE,
};
pub(super) const DELETE: Write = Write {
    once: "SELECT result, known, pg_stat_force_next_flush() FROM arena_front.delete_once($1, $2, $3, $4, $5, $6)",
    plain: Statement::DELETE,
};
pub(super) const FIND_AND_MODIFY: Write = Write {
    once: "SELECT result, known, pg_stat_force_next_flush() FROM arena_front.modify_once($1, $2, $3, $4, $5, $6)",
    plain: Statement::FIND_AND_MODIFY,
};

/// Makes what this module needs in the engine.
pub(super) async fn prepare(server: &Server) -> Result<(), CommandError> {
    let budget = server.own_budget();
    server.backend.rows(budget, CREATE_TABLE, &[]).await?;
    let with_documents = "spec, documents, NULL";
    for (name, function, arguments) in [
        ("insert_once", "insert", with_documents),
        ("update_once", "update", with_documents),
        ("delete_once", "delete", with_documents),
        ("modify_once", "find_and_modify", "spec, NULL"),
    ] {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION arena_front.{name}(of_session text, of_statement int, of_number bigint, \
             database text, spec documentdb_core.bson, documents documentdb_core.bsonsequence, \
             OUT result documentdb_core.bson, OUT known bigint) LANGUAGE plpgsql SET enable_indexscan TO off AS $$ BEGIN \
             SELECT d.number, d.answer INTO known, result FROM arena_front.done d \
             WHERE d.session = of_session AND d.statement = of_statement FOR UPDATE; \
             IF known >= of_number THEN RETURN; END IF; \
             SELECT p_result INTO result FROM documentdb_api.{function}(database, {arguments}); \
             INSERT INTO arena_front.done AS d (session, statement, number, answer) \
             VALUES (of_session, of_statement, of_number, result) ON CONFLICT (session, statement) \
             DO UPDATE SET number = excluded.number, answer = excluded.answer, at = now() \
             WHERE d.number < excluded.number; \
             IF NOT FOUND THEN RAISE serialization_failure; END IF; \
             known := NULL; END $$"
        );
        server.backend.texts(budget, &sql).await?;
    }
    Ok(())
}

/// Forgets answers that nobody can ask for any more.
pub(crate) async fn forget_old(server: &Server) {
    if let Err(error) = server.backend.rows(server.own_budget(), FORGET, &[]).await {
        tracing::debug!(error = error.message, "could not forget old answers");
    }
}

/// Runs a write and returns its answer; the remembered one when this write has run already.
pub(super) async fn run(
    call: &Call<'_>,
    write: Write,
    statement: i32,
    spec: &RawDocumentBuf,
    documents: Option<BsonIn<'_>>,
) -> Result<RawDocumentBuf, CommandError> {
    let (Some(session), Some(number), true) = (
        &call.fields.session,
        call.fields.number,
        call.fields.is_retryable_write(),
    ) else {
        return run_plainly(call, write, spec, documents).await;
    };
    let spec = BsonIn(spec.as_bytes());
    let backend = &call.server.backend;
    let session = session.text();
    let parameters: [&(dyn ToSql + Sync); 6] = [
        &session,
        &statement,
        &number,
        &call.database,
        &spec,
        &documents,
    ];
    let row = backend.row(call.budget(), write.once, &parameters).await?;
    match row.get::<_, Option<i64>>(1) {
        Some(newer) if newer > number => {
            Err(transactions::too_old("Retryable write", number, newer))
        }
        _ => row.get::<_, BsonOut>(0).document(),
    }
}

/// Runs a write that no driver repeats.
pub(super) async fn run_plainly(
    call: &Call<'_>,
    write: Write,
    spec: &RawDocumentBuf,
    documents: Option<BsonIn<'_>>,
) -> Result<RawDocumentBuf, CommandError> {
    let spec = BsonIn(spec.as_bytes());
    let parameters: [&(dyn ToSql + Sync); 3] = [&call.database, &spec, &documents];
    let backend = &call.server.backend;
    let row = backend
        .row(call.budget(), write.plain.sql(), &parameters)
        .await?;
    row.get::<_, BsonOut>(0).document()
}

/// What changes many documents is not made sure to run once.
pub(super) fn refuse_many(
    call: &Call<'_>,
    field: &str,
    operations: &[&RawDocument],
    prepared: &mut Prepared,
) -> Result<(), CommandError> {
    if !call.fields.is_retryable_write() {
        return Ok(());
    }
    for (place, operation) in operations.iter().enumerate() {
        let many = match field {
            "updates" => is_true(operation, "multi").then_some("multi=true"),
            "deletes" => {
                let limit = operation.get("limit")?.and_then(integer);
                (limit == Some(0)).then_some("limit=0")
            }
            _ => None,
        };
        if let Some(many) = many {
            let message = format!("Cannot use (or request) retryable writes with {many}");
            let error = CommandError::new(72, "InvalidOptions", message);
            prepared.refused.retain(|(other, _)| *other != place);
            prepared.refused.push((place, error));
        }
    }
    prepared.refused.sort_by_key(|(place, _)| *place);
    Ok(())
}

/// The number of a command's first statement.
pub(super) fn first_statement(call: &Call<'_>) -> i32 {
    let body = call.body();
    let listed = || {
        let numbers = body.get_array("stmtIds").ok()?;
        numbers.into_iter().next()?.ok()?.as_i32()
    };
    let stated = body.get_i32("stmtId").ok().or_else(listed);
    stated.unwrap_or(0).max(0)
}
