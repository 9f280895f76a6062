//! `$out` and `$merge` of a collection that is not there, which is empty at MongoDB. The engine refuses the one, and
//! answers the other with the documents instead of writing them. And `$out` into the collection that is read, which
//! goes by another collection.

use bson::oid::ObjectId;
use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc};

use super::{Answer, Call, aggregation, orders, raw, reading, without};
use crate::backend::BsonIn;
use crate::error::CommandError;

const CREATE: &str = "SELECT documentdb_api.create_collection($1, $2)";
const DELETE: &str =
    "SELECT p_result, pg_stat_force_next_flush() FROM documentdb_api.delete($1, $2, NULL, NULL)";

const DROP: &str = "SELECT documentdb_api.drop_collection($1, $2)";

/// Stages that give documents where there is none.
const SOURCES: [&str; 2] = ["$unionWith", "$facet"];

/// Writes what a collection's validator would not let in. The setting ends with the statement.
const UNVALIDATED: &str = "SELECT cursorpage, continuation, cursorid FROM \
    (SELECT CASE WHEN set_config('documentdb.enableSchemaValidation', 'off', true) IS NOT NULL THEN $1::text END AS of \
    OFFSET 0) AS asked, LATERAL documentdb_api.aggregate_cursor_first_page(asked.of, $2)";

/// The statement for a pipeline that writes: without validators where that is asked for.
pub(super) fn statement(sql: &'static str, body: &RawDocument) -> &'static str {
    if super::is_true(body, "bypassDocumentValidation") {
        UNVALIDATED
    } else {
        sql
    }
}

/// Refuses a `$merge` that would not write what it should.
pub(super) async fn check(call: &Call<'_>, spec: &RawDocument) -> Result<(), CommandError> {
    let Ok(source) = spec.get_str("aggregate") else {
        return Ok(());
    };
    if aggregation::replaces(spec) || !has_source(spec) || !is_missing(call, source).await {
        return Ok(());
    }
    Err(CommandError::not_supported(
        "$merge of other documents from a collection that does not exist",
    ))
}

/// Whether the engine refused to read from a collection that is not there.
fn is_of_missing(error: &CommandError) -> bool {
    error
        .message
        .starts_with("The query references collections that do not exist")
}

/// Leaves the target of an `$out` empty where nothing is read.
async fn emptied(
    call: &Call<'_>,
    spec: &RawDocument,
    (database, collection): &(Option<String>, String),
    error: CommandError,
) -> Answer {
    let source = spec.get_str("aggregate").unwrap_or_default();
    if !aggregation::replaces(spec) || has_source(spec) || !is_missing(call, source).await {
        return Err(error);
    }
    let database = database.as_deref().unwrap_or(call.database);
    let delete = rawdoc! { "delete": collection.as_str(), "deletes": [{ "q": {}, "limit": 0 }] };
    let backend = &call.server.backend;
    backend
        .row(call.budget_to_change(), CREATE, &[&database, collection])
        .await?;
    backend
        .row(
            call.budget_to_change(),
            DELETE,
            &[&database, &BsonIn(delete.as_bytes())],
        )
        .await?;
    Ok(rawdoc! {
        "cursor": { "id": 0_i64, "ns": format!("{}.{source}", call.database), "firstBatch": [] },
        "ok": 1.0,
    })
}

/// What is left to do where a pipeline that writes has failed: its target may have to be empty, and what a `$merge`
/// brings that matches nothing is kept.
pub(super) async fn after_failure(
    call: &Call<'_>,
    (sql, spec): (&'static str, &RawDocument),
    target: &(Option<String>, String),
    error: CommandError,
) -> Answer {
    if is_of_missing(&error) {
        return emptied(call, spec, target, error).await;
    }
    if error.code == DUPLICATE {
        keep_unmatched(call, sql, spec).await?;
    }
    Err(aggregation::of_projections(error, call.body()))
}

const DUPLICATE: i32 = 11000;

/// Writes what a `$merge` brings that matches nothing, where it failed because something matched: the engine takes all
/// of it back, MongoDB nothing.
async fn keep_unmatched(
    call: &Call<'_>,
    sql: &'static str,
    spec: &RawDocument,
) -> Result<(), CommandError> {
    let mut spec = Document::try_from(spec)?;
    let merge = spec
        .get_array_mut("pipeline")
        .ok()
        .and_then(|stages| stages.last_mut()?.as_document_mut())
        .and_then(|stage| stage.get_document_mut("$merge").ok());
    let Some(merge) = merge.filter(|merge| {
        merge
            .get_str("whenMatched")
            .is_ok_and(|mode| mode == "fail")
    }) else {
        return Ok(());
    };
    merge.insert("whenMatched", "keepExisting");
    reading::first_page(call, call.budget_to_change(), sql, &raw(&spec)).await?;
    Ok(())
}

/// Runs a pipeline that writes into the collection that it reads; nothing for all others. What it gives is written
/// aside first, and from there into the collection, which keeps its indexes and its documents until all are known.
pub(super) async fn onto_itself(
    call: &Call<'_>,
    spec: &RawDocument,
    target: &(Option<String>, String),
) -> Option<Answer> {
    let (database, collection) = target;
    let is_here = database
        .as_deref()
        .is_none_or(|database| database == call.database);
    let is_itself = spec.get_str("aggregate").ok() == Some(collection.as_str());
    if !is_here || !is_itself || !aggregation::replaces(spec) {
        return None;
    }
    let aside = format!("tmp.agg_out.{}", ObjectId::new());
    let answer = by_way_of(call, spec, collection, &aside).await;
    let backend = &call.server.backend;
    let dropped = backend
        .row(call.budget_to_change(), DROP, &[&call.database, &aside])
        .await;
    call.schema_changed(call.database, Some(&aside));
    match answer {
        Err(error) if is_of_missing(&error) => Some(emptied(call, spec, target, error).await),
        Ok(answer) => Some(dropped.map(|_| answer)),
        failed => Some(failed),
    }
}

async fn by_way_of(call: &Call<'_>, spec: &RawDocument, collection: &str, aside: &str) -> Answer {
    let (sql, written) = orders::of_pipeline(call, writing_to(spec, aside)?).await?;
    let answer = reading::first_page(call, call.budget_to_change(), sql, &written).await?;
    let back = doc! { "aggregate": aside, "pipeline": [{ "$out": collection }], "cursor": {} };
    let budget = call.budget_to_change();
    reading::first_page(call, budget, aggregation::AGGREGATE, &raw(&back)).await?;
    Ok(answer)
}

/// A pipeline with another collection to write into.
fn writing_to(spec: &RawDocument, collection: &str) -> Result<RawDocumentBuf, CommandError> {
    let Bson::Array(mut stages) = Bson::try_from(RawBsonRef::Array(spec.get_array("pipeline")?))?
    else {
        return Err(CommandError::internal());
    };
    stages.pop();
    stages.push(Bson::Document(doc! { "$out": collection }));
    let mut other = without(spec, &["pipeline"])?;
    other.append(
        bson::cstr!("pipeline"),
        RawBson::try_from(Bson::Array(stages))?,
    );
    Ok(other)
}

/// A collection that is not there has nothing near to find, and no index for a `$geoNear`.
pub(super) async fn nothing_near(
    call: &Call<'_>,
    spec: &RawDocument,
    error: CommandError,
) -> Answer {
    let source = spec.get_str("find").or_else(|_| spec.get_str("aggregate"));
    let Ok(source) = source else {
        return Err(error);
    };
    if !is_missing(call, source).await {
        return Err(error);
    }
    let namespace = format!("{}.{source}", call.database);
    if call.name != "find" {
        let message =
            format!("$geoNear requires a geo index to run, but {namespace} does not exist");
        return Err(CommandError::new(26, "NamespaceNotFound", message));
    }
    Ok(rawdoc! {
        "cursor": { "id": 0_i64, "ns": namespace, "firstBatch": [] },
        "ok": 1.0,
    })
}

fn has_source(spec: &RawDocument) -> bool {
    let stages = spec.get_array("pipeline").into_iter().flatten().flatten();
    let mut names = stages.filter_map(|stage| Some(stage.as_document()?.iter().next()?.ok()?.0));
    names.any(|name| SOURCES.contains(&name.as_str()))
}

async fn is_missing(call: &Call<'_>, source: &str) -> bool {
    matches!(reading::indexes_of(call, source).await, Err(error) if error.code == 26)
}

/// MongoDB promises no linearizable reads where what is read is written.
pub(super) fn check_level(body: &RawDocument) -> Result<(), CommandError> {
    let concern = body.get_document("readConcern").ok();
    let level = concern.and_then(|concern| concern.get_str("level").ok());
    if level != Some("linearizable") {
        return Ok(());
    }
    let last = body.get_array("pipeline")?.into_iter().last().transpose()?;
    let last = last.and_then(RawBsonRef::as_document);
    let name = last.and_then(|stage| Some(stage.iter().next()?.ok()?.0.as_str()));
    let name = name.unwrap_or("$out");
    let message = format!(
        "Command aggregate does not support {{ readConcern: {{ level: \"linearizable\" }} }} :: caused by :: {name} cannot be used with a 'linearizable' read concern level"
    );
    Err(CommandError::new(72, "InvalidOptions", message))
}
