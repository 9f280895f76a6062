//! Commands that read documents and names, and the cursors they leave open.

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc};
use tokio_postgres::Row;

use super::{Answer, Call, GENERIC_FIELDS, integer, is_true, raw, without};
use crate::backend::{BsonIn, BsonOut};
use crate::cursors::Cursor;
use crate::error::CommandError;
use crate::pipeline::check_raw_expressions;
use crate::users::Action;

const FIND: &str =
    "SELECT cursorpage, continuation, cursorid FROM documentdb_api.find_cursor_first_page($1, $2)";
const LIST_INDEXES: &str = "SELECT cursorpage, continuation, cursorid FROM documentdb_api.list_indexes_cursor_first_page($1, $2)";
const LIST_COLLECTIONS: &str = "SELECT cursorpage, continuation, cursorid FROM documentdb_api.list_collections_cursor_first_page($1, $2)";
const GET_MORE: &str =
    "SELECT cursorpage, continuation FROM documentdb_api.cursor_get_more($1, $2, $3)";
const DELETE_CURSORS: &str = "SELECT documentdb_api_internal.delete_cursors($1)::text";
const COUNT: &str = "SELECT document FROM documentdb_api.count_query($1, $2)";
const DISTINCT: &str = "SELECT document FROM documentdb_api.distinct_query($1, $2)";

pub(super) async fn run(call: &Call<'_>) -> Answer {
    match call.name {
        "find" => find(call).await,
        "getMore" => get_more(call).await,
        "killCursors" => kill_cursors(call).await,
        "count" => documents(call, COUNT).await,
        "distinct" => documents(call, DISTINCT).await,
        "listIndexes" => {
            call.allow(Action::Look)?;
            call.collection()?;
            first_page(call, LIST_INDEXES, &call.spec()?).await
        }
        "listCollections" => list_collections(call).await,
        other => Err(CommandError::command_not_found(other)),
    }
}

async fn find(call: &Call<'_>) -> Answer {
    check_query(call, call.body(), call.name)?;
    first_page(call, FIND, &call.spec()?).await
}

/// What a query may not be, whether it runs or is explained.
pub(super) fn check_query(
    call: &Call<'_>,
    query: &RawDocument,
    name: &str,
) -> Result<(), CommandError> {
    call.allow(Action::Read)?;
    super::collection_in(query, name)?;
    if is_true(query, "tailable") || is_true(query, "awaitData") {
        return Err(CommandError::not_supported("a tailable cursor"));
    }
    check_raw_expressions(query)
}

async fn documents(call: &Call<'_>, sql: &'static str) -> Answer {
    check_query(call, call.body(), call.name)?;
    let spec = call.spec()?;
    let row = call
        .server
        .backend
        .row(
            call.budget(),
            sql,
            &[&call.database, &BsonIn(spec.as_bytes())],
        )
        .await?;
    row.get::<_, BsonOut>(0).document()
}

async fn list_collections(call: &Call<'_>) -> Answer {
    call.allow(Action::Look)?;
    check_raw_expressions(call.body())?;
    let spec = without(
        call.body(),
        &[&GENERIC_FIELDS[..], &["authorizedCollections"]].concat(),
    )?;
    first_page(call, LIST_COLLECTIONS, &spec).await
}

/// Runs what opens a cursor and keeps what is left of it.
pub(super) async fn first_page(call: &Call<'_>, sql: &'static str, spec: &RawDocument) -> Answer {
    let row = call
        .server
        .backend
        .row(
            call.budget(),
            sql,
            &[&call.database, &BsonIn(spec.as_bytes())],
        )
        .await?;
    let id: i64 = row.try_get(2).unwrap_or(0);
    keep_rest(call, &row, id).await;
    row.get::<_, BsonOut>(0).document()
}

/// Runs what answers in one page.
pub(super) async fn single_page(call: &Call<'_>, sql: &'static str, spec: &RawDocument) -> Answer {
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
        [&call.database, &BsonIn(spec.as_bytes())];
    let row = call
        .server
        .backend
        .row(call.budget(), sql, &parameters)
        .await?;
    row.get::<_, BsonOut>(0).document()
}

async fn keep_rest(call: &Call<'_>, row: &Row, id: i64) {
    let continuation: Option<BsonOut> = row.get(1);
    let Some(continuation) = continuation.filter(|_| id != 0) else {
        return;
    };
    let cursor = Cursor::new(call.user_name, call.database, continuation.0);
    let gone = call
        .server
        .cursors
        .keep(id, cursor, call.server.settings.limits.cursors_per_user);
    if !gone.is_empty() {
        delete_in_engine(call, gone).await;
    }
}

async fn get_more(call: &Call<'_>) -> Answer {
    let id = call.body().get("getMore")?.and_then(integer);
    let id =
        id.ok_or_else(|| CommandError::type_mismatch("getMore needs the number of a cursor"))?;
    let not_found = || CommandError::new(43, "CursorNotFound", format!("cursor id {id} not found"));
    let cursor = call
        .server
        .cursors
        .take(id, call.user_name, call.database)
        .ok_or_else(not_found)?;
    // Rights may have been taken away since the cursor was opened.
    call.allow(Action::Look)?;
    let spec = call.spec()?;
    let continuation = BsonIn(&cursor.continuation);
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&call.database, &BsonIn(spec.as_bytes()), &continuation];
    let row = call
        .server
        .backend
        .row(call.budget(), GET_MORE, &parameters)
        .await?;
    keep_rest(call, &row, id).await;
    row.get::<_, BsonOut>(0).document()
}

async fn kill_cursors(call: &Call<'_>) -> Answer {
    let wanted = call.body().get_array("cursors")?;
    let (mut killed, mut not_found) = (Vec::new(), Vec::new());
    for id in wanted {
        let id =
            integer(id?).ok_or_else(|| CommandError::type_mismatch("cursors must be numbers"))?;
        match call.server.cursors.take(id, call.user_name, call.database) {
            Some(_) => killed.push(id),
            None => not_found.push(id),
        }
    }
    if !killed.is_empty() {
        delete_in_engine(call, killed.clone()).await;
    }
    let none: [i64; 0] = [];
    Ok(raw(&doc! {
        "cursorsKilled": killed, "cursorsNotFound": not_found, "cursorsAlive": none.to_vec(), "cursorsUnknown": none.to_vec(), "ok": 1.0,
    }))
}

/// Frees the engine's files now; they would expire by themselves.
async fn delete_in_engine(call: &Call<'_>, ids: Vec<i64>) {
    if let Err(error) = call
        .server
        .backend
        .rows(call.budget(), DELETE_CURSORS, &[&ids])
        .await
    {
        tracing::debug!(error = error.message, "could not delete cursors early");
    }
}

/// Returns a collection's indexes as the engine lists them.
pub(super) async fn indexes_of(
    call: &Call<'_>,
    collection: &str,
) -> Result<Vec<RawDocumentBuf>, CommandError> {
    let spec = rawdoc! { "listIndexes": collection };
    let row = call
        .server
        .backend
        .row(
            call.budget(),
            LIST_INDEXES,
            &[&call.database, &BsonIn(spec.as_bytes())],
        )
        .await?;
    let page = row.get::<_, BsonOut>(0).document()?;
    let mut indexes = Vec::new();
    for index in page.get_document("cursor")?.get_array("firstBatch")? {
        if let RawBsonRef::Document(index) = index? {
            indexes.push(index.to_owned());
        }
    }
    Ok(indexes)
}
