//! Whether several updates in one command meet odd documents: asked once for all.

use std::collections::HashMap;

use bson::{Bson, Document, RawDocument, doc};

use super::{Odd, matching, of};
use crate::commands::{Call, raw, reading};
use crate::error::CommandError;

/// Conditions that are asked for at once.
const CONDITIONS_MAX: usize = 100;

/// Whether one of several updates may meet an odd document. What one of them makes odd for another one is not seen,
/// nor values of many updates that may be equal to others', unless all of them find their documents by `_id`.
pub(in crate::commands) async fn are_met(
    call: &Call<'_>,
    collection: &str,
    statements: &[&RawDocument],
) -> Result<bool, CommandError> {
    let mut all = Vec::new();
    for statement in statements {
        match of(statement) {
            Ok(odd) => all.extend(odd),
            // What is wrong with it, it says itself.
            Err(_) => return Ok(true),
        }
    }
    let mut any: Vec<Document> = Vec::new();
    let mut conditions: Vec<(bool, Document)> = Vec::new();
    let are_by_id = all.iter().all(|odd| odd.is_by_id);
    for odd in &all {
        let meetings = odd.meetings.iter();
        conditions.extend(meetings.map(|meeting| (true, meeting.filter.clone())));
        let oddities = odd.oddities.iter().filter(|_| !are_by_id);
        conditions.extend(oddities.map(|oddity| (oddity.is_of_any_value(), oddity.condition())));
    }
    let are_many = conditions.len() > CONDITIONS_MAX;
    for (is_of_any_value, condition) in conditions {
        if (is_of_any_value || !are_many) && !any.contains(&condition) {
            any.push(condition);
        }
    }
    if are_by_id && are_met_by_id(call, collection, &all).await? {
        return Ok(true);
    }
    if any.is_empty() {
        return Ok(false);
    }
    let found = matching(call, collection, &Document::new(), &doc! { "$or": any }, 1).await?;
    Ok(!found.is_empty())
}

/// Whether one of several documents is odd for the update that names its `_id`.
async fn are_met_by_id(
    call: &Call<'_>,
    collection: &str,
    all: &[Odd],
) -> Result<bool, CommandError> {
    let (mut updates, mut fields) = (HashMap::new(), doc! { "_id": 1 });
    let mut ids = Vec::new();
    for odd in all.iter().filter(|odd| !odd.oddities.is_empty()) {
        let Some(id) = odd.filter.get("_id") else {
            continue;
        };
        ids.push(id.clone());
        updates
            .entry(id.to_string())
            .or_insert_with(Vec::new)
            .push(odd);
        for oddity in &odd.oddities {
            let root = oddity.path().split('.').next().unwrap_or_default();
            fields.insert(root, 1);
        }
    }
    if ids.is_empty() {
        return Ok(false);
    }
    let find =
        doc! { "find": collection, "filter": { "_id": { "$in": ids } }, "projection": fields };
    let found = reading::some_documents_of(call, &raw(&find)).await;
    for document in found.unwrap_or_default() {
        let document = Document::try_from(document)?;
        let id = document.get("_id").map(Bson::to_string).unwrap_or_default();
        let mut own = updates.get(&id).into_iter().flatten();
        if own.any(|odd| odd.effect(&document).is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}
