//! `$merge` where the engine fails. MongoDB writes one document after the other: what comes twice for one document is
//! written twice, and an error takes nothing of the others back. The engine writes all at once or nothing, so what it
//! could not write is written here, by updates.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc};

use super::statements::Statement;
use super::{Call, once, pages, raw, reading, without, writing};
use crate::backend::BsonIn;
use crate::error::{CommandError, WRITTEN_TWICE};

const DUPLICATE: i32 = 11000;
const UNMATCHED: i32 = 13113;

/// Updates that are sent together.
const TOGETHER: usize = 1_000;

/// How a document is written.
struct Merge {
    on: Vec<String>,
    /// The update's operator; none replaces.
    operator: Option<&'static str>,
    inserts: bool,
}

/// Writes what a failed `$merge` brings, if it may be written here; returns the answer of one that did not have to
/// fail.
pub(super) async fn one_by_one(
    call: &Call<'_>,
    (statement, spec): (Statement, &RawDocument),
    (database, collection): &(Option<String>, String),
    error: &CommandError,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    let is_twice = error.message == WRITTEN_TWICE;
    if !(is_twice || matches!(error.code, DUPLICATE | UNMATCHED))
        || database.is_some()
        || call.transaction.is_some()
        || super::is_true(call.body(), "bypassDocumentValidation")
    {
        return Ok(None);
    }
    if error.code == DUPLICATE && keep_unmatched(call, statement, spec).await? {
        return Ok(None);
    }
    let (Some(merge), Some(documents)) = (merge_of(spec), source(call, statement, spec).await?)
    else {
        return Ok(None);
    };
    let statements = documents.iter().map(|document| merge.statement(document));
    let Some(statements) = statements.collect::<Option<Vec<RawDocumentBuf>>>() else {
        return Ok(None);
    };
    let update = rawdoc! { "update": collection.as_str(), "ordered": false };
    for together in statements.chunks(TOGETHER) {
        let bytes: Vec<u8> = together
            .iter()
            .flat_map(|one| one.as_bytes().to_vec())
            .collect();
        let result = once::run_plainly(call, once::UPDATE, &update, Some(BsonIn(&bytes))).await?;
        let operations: Vec<&RawDocument> = together.iter().map(|one| &**one).collect();
        let result = writing::with_readable_errors(call, collection, result, &operations).await?;
        if let Some(failed) = first_error(&result) {
            return Err(failed);
        }
    }
    let source = spec.get_str("aggregate").unwrap_or_default();
    let answer = rawdoc! {
        "cursor": { "id": 0_i64, "ns": format!("{}.{source}", call.database), "firstBatch": [] },
        "ok": 1.0,
    };
    // What matched nothing is an error once all others are written.
    Ok(Some(answer).filter(|_| error.code != UNMATCHED))
}

/// Writes what a `$merge` brings that matches nothing, where it fails because something matches; tells whether it is
/// such a one.
async fn keep_unmatched(
    call: &Call<'_>,
    statement: Statement,
    spec: &RawDocument,
) -> Result<bool, CommandError> {
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
        return Ok(false);
    };
    merge.insert("whenMatched", "keepExisting");
    reading::first_page(call, call.budget_to_change(), statement, &raw(&spec)).await?;
    Ok(true)
}

fn first_error(result: &RawDocument) -> Option<CommandError> {
    let errors = result.get_array("writeErrors").ok()?;
    let first = errors.into_iter().next()?.ok()?.as_document()?;
    let message = first.get_str("errmsg").unwrap_or_default();
    Some(CommandError::located(first.get_i32("code").ok()?, message))
}

/// Reads how a `$merge` writes; nothing of one by a pipeline.
fn merge_of(spec: &RawDocument) -> Option<Merge> {
    let last = spec.get_array("pipeline").ok()?.into_iter().last()?.ok()?;
    let (name, value) = last.as_document()?.iter().next()?.ok()?;
    if name != "$merge" {
        return None;
    }
    let merge = match value {
        RawBsonRef::Document(merge) => Document::try_from(merge).ok()?,
        _ => Document::new(),
    };
    let on = match merge.get("on") {
        None => vec!["_id".to_owned()],
        Some(Bson::String(field)) => vec![field.clone()],
        Some(Bson::Array(fields)) => {
            let names = fields.iter().map(|field| field.as_str().map(str::to_owned));
            names.collect::<Option<_>>()?
        }
        Some(_) => return None,
    };
    let operator = match merge.get_str("whenMatched") {
        Err(_) if !merge.contains_key("whenMatched") => Some("$set"),
        Ok("merge") => Some("$set"),
        Ok("keepExisting") => Some("$setOnInsert"),
        Ok("replace") => None,
        _ => return None,
    };
    let inserts = matches!(merge.get_str("whenNotMatched"), Err(_) | Ok("insert"));
    Some(Merge {
        on,
        operator,
        inserts,
    })
}

impl Merge {
    /// The update that stands for one document; nothing for one whose fields it cannot name.
    fn statement(&self, document: &RawDocument) -> Option<RawDocumentBuf> {
        let document = Document::try_from(document).ok()?;
        let mut filter = Document::new();
        for field in &self.on {
            let value = document.get(field).filter(|value| **value != Bson::Null)?;
            filter.insert(field, doc! { "$eq": value.clone() });
        }
        let is_plain = |name: &String| !name.is_empty() && !name.contains(['.', '$']);
        if !document.keys().all(is_plain) {
            return None;
        }
        let update = match self.operator {
            Some(operator) => doc! { operator: document },
            None => document,
        };
        Some(raw(
            &doc! { "q": filter, "u": update, "upsert": self.inserts },
        ))
    }
}

/// The documents that a pipeline brings, if a page holds them all.
async fn source(
    call: &Call<'_>,
    statement: Statement,
    spec: &RawDocument,
) -> Result<Option<Vec<RawDocumentBuf>>, CommandError> {
    let Bson::Array(mut stages) = Bson::try_from(RawBsonRef::Array(spec.get_array("pipeline")?))?
    else {
        return Err(CommandError::internal());
    };
    stages.pop();
    let mut read = without(spec, &["pipeline", "cursor"])?;
    read.append(
        bson::cstr!("pipeline"),
        bson::RawBson::try_from(Bson::Array(stages))?,
    );
    read.append(bson::cstr!("cursor"), rawdoc! { "batchSize": 1_000_000 });
    let (page, rest) = pages::open(call, call.budget_to_change(), statement, &read).await?;
    if let Some((id, _)) = rest {
        reading::delete_cursors(call.server, call.budget_outside(), vec![id]).await;
        return Ok(None);
    }
    let batch = page.get_document("cursor")?.get_array("firstBatch")?;
    let documents = batch.into_iter().map(|document| match document? {
        RawBsonRef::Document(document) => Ok(document.to_owned()),
        _ => Err(CommandError::internal()),
    });
    documents.collect::<Result<Vec<_>, _>>().map(Some)
}
