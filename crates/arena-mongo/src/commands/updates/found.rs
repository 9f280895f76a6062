//! Which document an update or a findAndModify takes, where the engine would take
//! another one: with a sort in which an empty array stands beside nothing, and
//! with the hint of an index that has not every document.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::with_changes;
use crate::commands::removals::filter_of;
use crate::commands::statements::Statement;
use crate::commands::{Call, aggregation, hints, is_true, raw, sorting};
use crate::error::CommandError;

/// Returns an operation with a filter by which the engine finds the same, if that is another one.
pub(super) async fn pinned(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    let mut hinted = None;
    if let Some(hint) = operation.get("hint")?
        && let Some(held) = hints::held(call, collection, hint).await?
    {
        hinted = with_condition(operation, held, &[("hint", None)])?;
    }
    let sorted = sorted(call, collection, hinted.as_deref().unwrap_or(operation)).await?;
    Ok(sorted.or(hinted))
}

fn with_condition(
    operation: &RawDocument,
    condition: Document,
    others: &[(&str, Option<RawBson>)],
) -> Result<Option<RawDocumentBuf>, CommandError> {
    let field = if operation.get("q")?.is_some() {
        "q"
    } else {
        "query"
    };
    let filter = doc! { "$and": [condition, filter_of(operation)?] };
    let mut changes = vec![(field, Some(RawBson::Document(raw(&filter))))];
    changes.extend(others.iter().cloned());
    with_changes(operation, &changes)
}

async fn sorted(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    let Some(RawBsonRef::Document(sort)) = operation.get("sort")? else {
        return Ok(None);
    };
    if sort.is_empty() || is_true(operation, "multi") {
        return Ok(None);
    }
    let sort = Document::try_from(sort)?;
    let mut query = doc! { "find": collection, "filter": filter_of(operation)?, "limit": 1 };
    for (field, from) in [("collation", operation), ("let", call.body())] {
        if let Some(RawBsonRef::Document(part)) = from.get(field)? {
            query.insert(field, Document::try_from(part)?);
        }
    }
    let query = raw(&query);
    let ties = sorting::ties(call, &query, &sort).await?;
    if ties.is_empty() {
        return Ok(None);
    }
    let told = raw(&sorting::told_apart(&query, &sort, &ties)?);
    let spec = aggregation::checked_spec(call, &told)?;
    let page = Statement::AGGREGATE
        .answer(call, call.budget(), &spec)
        .await?;
    let mut found = page
        .get_document("cursor")?
        .get_array("firstBatch")?
        .into_iter();
    let first = found
        .next()
        .transpose()?
        .and_then(|first| first.as_document());
    let Some(id) = first.map(|first| first.get("_id")).transpose()?.flatten() else {
        return Ok(None);
    };
    let own = doc! { "_id": { "$eq": Bson::try_from(id)? } };
    with_condition(operation, own, &[])
}
