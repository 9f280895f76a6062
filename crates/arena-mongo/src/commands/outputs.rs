//! `$out` and `$merge` of a collection that is not there, which is empty at MongoDB. The engine refuses the one, and
//! answers the other with the documents instead of writing them. And `$out` into the collection that is read, which
//! goes by another collection.

use bson::oid::ObjectId;
use bson::{Bson, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc};
use tokio_postgres::types::ToSql;

use super::statements::Statement;
use super::{Answer, Call, aggregation, merging, orders, raw, reading, without};
use crate::backend::BsonIn;
use crate::error::CommandError;

const CREATE: &str = "SELECT documentdb_api.create_collection($1, $2)";
const DELETE: &str =
    "SELECT p_result, pg_stat_force_next_flush() FROM documentdb_api.delete($1, $2, NULL, NULL)";

const DROP: &str = "SELECT documentdb_api.drop_collection($1, $2)";

/// Stages that give documents where there is none.
const SOURCES: [&str; 2] = ["$unionWith", "$facet"];

/// The statement for a pipeline that writes: without validators where that is asked for, quick where it merges.
pub(super) fn statement(mut statement: Statement, body: &RawDocument) -> Statement {
    statement.looks_up = !aggregation::replaces(body);
    statement.is_unvalidated = super::is_true(body, "bypassDocumentValidation");
    statement
}

/// What a pipeline makes by beginning to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Nothing,
    /// The target of a `$merge`, which MongoDB makes only with something to write.
    Target,
}

/// Refuses what would not write as it should, and tells what writing makes.
pub(super) async fn checked(
    call: &Call<'_>,
    spec: &RawDocument,
    target: Option<&(Option<String>, String)>,
) -> Result<Made, CommandError> {
    let Some((database, collection)) = target else {
        return Ok(Made::Nothing);
    };
    check_level(call.body())?;
    let Ok(source) = spec.get_str("aggregate") else {
        return Ok(Made::Nothing);
    };
    if aggregation::replaces(spec) {
        return Ok(Made::Nothing);
    }
    if has_source(spec) && is_missing(call, source).await {
        return Err(CommandError::not_supported(
            "$merge of other documents from a collection that does not exist",
        ));
    }
    let is_new = database.is_none() && is_missing(call, collection).await;
    Ok(if is_new { Made::Target } else { Made::Nothing })
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

/// What is left to do where a pipeline that writes has failed: its target may have to be empty or to be made, and a
/// `$merge` writes one document after the other.
pub(super) async fn after_failure(
    call: &Call<'_>,
    (statement, spec): (Statement, &RawDocument),
    target: &(Option<String>, String),
    error: CommandError,
) -> Answer {
    if is_of_missing(&error) {
        return if aggregation::replaces(spec) {
            emptied(call, spec, target, error).await
        } else {
            into_new(call, (statement, spec), target, error).await
        };
    }
    if let Some(answer) = merging::one_by_one(call, (statement, spec), target, &error).await? {
        return Ok(answer);
    }
    Err(aggregation::of_projections(error, call.body()))
}

/// Makes the target of a `$merge` by a pipeline, which looks into it before anything is written.
async fn into_new(
    call: &Call<'_>,
    (statement, spec): (Statement, &RawDocument),
    (database, collection): &(Option<String>, String),
    error: CommandError,
) -> Answer {
    let source = spec.get_str("aggregate").unwrap_or_default();
    let is_new = database.is_none() && is_missing(call, collection).await;
    if !is_new || is_missing(call, source).await {
        return Err(error);
    }
    let parameters: [&(dyn ToSql + Sync); 2] = [&call.database, collection];
    let backend = &call.server.backend;
    backend
        .row(call.budget_to_change(), CREATE, &parameters)
        .await?;
    reading::first_page(call, call.budget_to_change(), statement, spec).await
}

/// Takes a target away that was made for nothing.
pub(super) async fn drop_empty(
    call: &Call<'_>,
    made: Made,
    collection: &str,
) -> Result<(), CommandError> {
    if made == Made::Nothing
        || is_missing(call, collection).await
        || reading::count_of(call, collection).await? > 0
    {
        return Ok(());
    }
    let parameters: [&(dyn ToSql + Sync); 2] = [&call.database, &collection];
    let backend = &call.server.backend;
    backend
        .row(call.budget_to_change(), DROP, &parameters)
        .await?;
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
    let (statement, written) = orders::of_pipeline(call, writing_to(spec, aside)?).await?;
    let answer = reading::first_page(call, call.budget_to_change(), statement, &written).await?;
    let back = doc! { "aggregate": aside, "pipeline": [{ "$out": collection }], "cursor": {} };
    let budget = call.budget_to_change();
    reading::first_page(call, budget, Statement::AGGREGATE, &raw(&back)).await?;
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
fn check_level(body: &RawDocument) -> Result<(), CommandError> {
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
