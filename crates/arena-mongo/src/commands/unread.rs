//! What is wrong with an expression that no document has reached. MongoDB reads all of
//! them before it looks at any document, the engine when the first one comes; so where
//! nothing came out, they are read once more over an empty document.

use bson::{Array, Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, bson, rawdoc};

use super::statements::Statement;
use super::{Call, aggregation, field_of, raw};
use crate::error::CommandError;
use crate::pipeline::Place;

/// Codes of errors that an expression has whatever the documents are; others are those of the empty document.
const OF_EXPRESSIONS: [i32; 68] = [
    9, 168, 15958, 15983, 15998, 16020, 16410, 16411, 16412, 16419, 16867, 16872, 16874, 16875,
    16876, 16877, 16878, 16879, 16880, 16882, 17080, 17081, 17082, 17083, 17276, 17307, 17308,
    18534, 18628, 18629, 28646, 28647, 28648, 28650, 28667, 31022, 31023, 31024, 31249, 31250,
    31252, 31253, 31254, 31274, 31324, 31325, 31394, 40060, 40061, 40062, 40063, 40064, 40065,
    40067, 40068, 40075, 40076, 40077, 40078, 40079, 40181, 40352, 40353, 40414, 40415, 50694,
    50695, 51270,
];

/// Fails with what is wrong in a pipeline's expressions, if an answer is empty.
pub(super) async fn check_pipeline(
    call: &Call<'_>,
    spec: &RawDocument,
    answer: &RawDocument,
) -> Result<(), CommandError> {
    if !is_empty(answer)? || call.transaction.is_some() {
        return Ok(());
    }
    let Some(RawBsonRef::Array(stages)) = spec.get("pipeline")? else {
        return Ok(());
    };
    let Bson::Array(stages) = Bson::try_from(RawBsonRef::Array(stages))? else {
        return Ok(());
    };
    let mut found = Vec::new();
    collect(&stages, &mut found);
    read(call, found).await
}

/// Fails with what is wrong in a find's projection and `$expr`, if an answer is empty.
pub(super) async fn check_find(call: &Call<'_>, answer: &RawDocument) -> Result<(), CommandError> {
    if !is_empty(answer)? || call.transaction.is_some() {
        return Ok(());
    }
    let mut stages = Vec::new();
    if let Some(RawBsonRef::Document(filter)) = call.body().get("filter")?
        && let Some(expression) = filter.get("$expr")?
    {
        stages.push(bson!({ "$match": { "$expr": Bson::try_from(expression)? } }));
    }
    if let Some(RawBsonRef::Document(projection)) = field_of(call.body(), "projection")? {
        let projection = Document::try_from(projection)?;
        if !projection
            .iter()
            .any(|(path, value)| is_of_finds(path, value))
        {
            stages.push(bson!({ "$project": projection }));
        }
    }
    if !stages.iter().any(is_expressive) {
        return Ok(());
    }
    let pipeline = bson::RawBson::try_from(Bson::Array(stages))?;
    let mut command = rawdoc! { "aggregate": call.collection()? };
    command.append(bson::cstr!("pipeline"), pipeline);
    let spec = aggregation::checked_spec(call, &command)?;
    check_pipeline(call, &spec, answer).await
}

/// Fails with what is wrong in the `$expr`s of a filter that is kept for documents to come.
pub(super) async fn check_filter(call: &Call<'_>, filter: &Document) -> Result<(), CommandError> {
    let mut stages = Vec::new();
    expressions_of(filter, &mut stages);
    let stages = call.reader().check_pipeline(&stages, Place::Inner)?;
    read(call, stages).await
}

fn expressions_of(filter: &Document, found: &mut Array) {
    for (name, value) in filter {
        match (name.as_str(), value) {
            ("$expr", expression) => {
                found.push(bson!({ "$match": { "$expr": expression.clone() } }));
            }
            ("$and" | "$or" | "$nor", Bson::Array(parts)) => {
                for part in parts.iter().filter_map(Bson::as_document) {
                    expressions_of(part, found);
                }
            }
            _ => {}
        }
    }
}

fn is_empty(answer: &RawDocument) -> Result<bool, CommandError> {
    let Ok(cursor) = answer.get_document("cursor") else {
        return Ok(false);
    };
    let is_ended = matches!(cursor.get("id")?, Some(RawBsonRef::Int64(0)));
    let is_without = cursor
        .get_array("firstBatch")
        .is_ok_and(|batch| batch.is_empty());
    Ok(is_ended && is_without)
}

/// Projections that a pipeline does not have.
fn is_of_finds(path: &str, value: &Bson) -> bool {
    let operator = value.as_document().and_then(|value| value.keys().next());
    path.contains('$')
        || operator.is_some_and(|name| matches!(name.as_str(), "$slice" | "$elemMatch" | "$meta"))
}

/// The stages that hold expressions; those of joined collections may read variables of the stage around them.
fn collect(stages: &[Bson], found: &mut Array) {
    for stage in stages {
        let Some((name, value)) = stage.as_document().and_then(|stage| stage.iter().next()) else {
            continue;
        };
        match (name.as_str(), value) {
            ("$match", Bson::Document(filter)) => {
                if let Some(expression) = filter.get("$expr") {
                    found.push(bson!({ "$match": { "$expr": expression.clone() } }));
                }
            }
            ("$facet", Bson::Document(facets)) => {
                for stages in facets.values().filter_map(Bson::as_array) {
                    collect(stages, found);
                }
            }
            ("$unionWith", Bson::Document(union)) => {
                if let Ok(stages) = union.get_array("pipeline") {
                    collect(stages, found);
                }
            }
            (
                "$project" | "$addFields" | "$set" | "$replaceRoot" | "$replaceWith" | "$redact"
                | "$group" | "$bucket" | "$setWindowFields",
                _,
            ) if is_expressive(stage) => {
                found.extend(ends_of_windows(value));
                found.push(stage.clone());
            }
            _ => {}
        }
    }
}

/// What the first and the last document of a window are asked for, which one alone does not make the engine read.
fn ends_of_windows(value: &Bson) -> Vec<Bson> {
    let output = value
        .as_document()
        .and_then(|stage| stage.get_document("output").ok());
    let functions = output.into_iter().flat_map(Document::values);
    let functions = functions.filter_map(Bson::as_document);
    let asked = functions.filter_map(|function| function.get("$first").or(function.get("$last")));
    let expressive = asked.filter(|asked| is_expressive(asked));
    expressive
        .map(|asked| bson!({ "$project": { "arenaRead": asked.clone() } }))
        .collect()
}

/// Whether there is more in it than paths and constants.
fn is_expressive(value: &Bson) -> bool {
    match value {
        Bson::String(text) => text.starts_with("$$"),
        Bson::Array(values) => values.iter().any(is_expressive),
        Bson::Document(fields) => fields
            .iter()
            .any(|(name, value)| name.starts_with('$') || is_expressive(value)),
        _ => false,
    }
}

/// Fails with what is wrong in the stages of an update, which MongoDB reads before it looks for documents.
pub(super) async fn check_stages(call: &Call<'_>, stages: Array) -> Result<(), CommandError> {
    if call.transaction.is_some() {
        return Ok(());
    }
    let mut found = Vec::new();
    collect(&stages, &mut found);
    read(call, found).await
}

/// Reads stages over an empty document, each one apart.
async fn read(call: &Call<'_>, stages: Array) -> Result<(), CommandError> {
    if stages.is_empty() {
        return Ok(());
    }
    let apart = stages
        .into_iter()
        .enumerate()
        .map(|(number, stage)| (format!("s{number}"), bson!([stage])));
    let apart: Document = apart.collect();
    let pipeline = bson!([{ "$documents": [{}] }, { "$facet": apart }]);
    let mut spec: RawDocumentBuf = rawdoc! { "aggregate": 1, "cursor": {} };
    spec.append(bson::cstr!("pipeline"), bson::RawBson::try_from(pipeline)?);
    if let Some(RawBsonRef::Document(variables)) = call.body().get("let")? {
        spec.append(bson::cstr!("let"), raw(&Document::try_from(variables)?));
    }
    match Statement::AGGREGATE
        .answer(call, call.budget(), &spec)
        .await
    {
        Err(error) if OF_EXPRESSIONS.contains(&call.worded(error.clone()).code) => Err(error),
        _ => Ok(()),
    }
}
