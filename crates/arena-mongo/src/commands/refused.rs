//! Writes of which some operations do not run. MongoDB refuses these one by one,
//! where the engine or a check of ours refuses the whole command: the others run,
//! and the answer names each by its place in the command.

use std::collections::HashSet;

use bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};

use super::once::{self, Write};
use super::updates::Prepared;
use super::{Answer, Call, raw, writing};
use crate::backend::BsonIn;
use crate::error::CommandError;
use crate::wire::DOCUMENT_BYTES_MAX;

/// Refuses documents that are too large to insert.
pub(super) fn too_large(documents: &[&RawDocument]) -> Prepared {
    let mut refused = Vec::new();
    for (place, document) in documents.iter().enumerate() {
        let size = document.as_bytes().len();
        if size > DOCUMENT_BYTES_MAX {
            let message = format!(
                "object to insert too large. size in bytes: {size}, max size: {DOCUMENT_BYTES_MAX}"
            );
            refused.push((place, CommandError::bad_value(message)));
        }
    }
    Prepared {
        changed: Vec::new(),
        refused,
    }
}

/// Returns the operations as they run.
pub(super) fn statements<'a>(
    operations: &[&'a RawDocument],
    changed: &'a [Option<RawDocumentBuf>],
) -> Vec<&'a RawDocument> {
    let places = operations.iter().enumerate();
    let as_run = |(place, operation): (usize, &&'a RawDocument)| {
        let changed = changed.get(place).and_then(Option::as_deref);
        changed.unwrap_or(operation)
    };
    places.map(as_run).collect()
}

/// Returns all operations one after the other if one of them has to run otherwise than it came.
pub(super) fn as_run(
    operations: &[&RawDocument],
    changed: &[Option<RawDocumentBuf>],
) -> Option<Vec<u8>> {
    if changed.iter().all(Option::is_none) {
        return None;
    }
    let mut bytes = Vec::new();
    for (operation, changed) in operations.iter().zip(changed) {
        let whole = changed
            .as_ref()
            .map_or(operation.as_bytes(), |changed| changed.as_bytes());
        bytes.extend_from_slice(whole);
    }
    Some(bytes)
}

/// Runs the operations that are not refused; in an ordered command those before the first that is.
pub(super) async fn run_others(
    call: &Call<'_>,
    collection: &str,
    (write, field): (Write, &str),
    operations: &[&RawDocument],
    prepared: Prepared,
) -> Answer {
    let is_ordered = call.body().get_bool("ordered").unwrap_or(true);
    let mut refused = prepared.refused;
    let mut end = operations.len();
    if is_ordered && let Some((first, _)) = refused.first() {
        end = *first;
        refused.truncate(1);
    }
    let left_out: HashSet<usize> = refused.iter().map(|(place, _)| *place).collect();
    let (mut kept, mut places, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for (place, operation) in operations[..end].iter().enumerate() {
        if left_out.contains(&place) {
            continue;
        }
        let changed = prepared.changed.get(place).and_then(Option::as_ref);
        kept.push(*operation);
        places.push(i32::try_from(place).unwrap_or(i32::MAX));
        bytes.extend_from_slice(changed.map_or(operation.as_bytes(), |changed| changed.as_bytes()));
    }
    let mut result = doc! { "n": 0 };
    if field == "updates" {
        result.insert("nModified", 0);
    }
    result.insert("ok", 1.0);
    if !kept.is_empty() {
        let spec = super::without(&call.spec()?, &[field])?;
        let statement = once::first_statement(call);
        let done = once::run(call, write, statement, &spec, Some(BsonIn(&bytes))).await?;
        let done = writing::with_readable_errors(call, collection, done, &kept).await?;
        result = Document::try_from(done)?;
    }
    for listed in ["writeErrors", "upserted"] {
        for one in result.get_array_mut(listed).into_iter().flatten() {
            if let Some(one) = one.as_document_mut() {
                let index = one.get_i32("index").unwrap_or(0);
                let place = usize::try_from(index).ok().and_then(|at| places.get(at));
                one.insert("index", place.copied().unwrap_or(index));
            }
        }
    }
    let mut errors = result.get_array("writeErrors").cloned().unwrap_or_default();
    if !is_ordered || errors.is_empty() {
        errors.extend(refused.into_iter().map(|(place, error)| {
            let error = call.worded(error);
            let place = i32::try_from(place).unwrap_or(i32::MAX);
            let mut said = doc! { "index": place, "code": error.code, "errmsg": error.message };
            said.extend(error.details.into_iter().flat_map(|details| *details));
            Bson::Document(said)
        }));
    }
    errors.sort_by_key(|error| error.as_document().map(|error| error.get_i32("index").ok()));
    result.insert("writeErrors", errors);
    Ok(raw(&result))
}
