//! Pages that are exactly full. MongoDB stops reading when a page has as many documents
//! as were asked for, and does not look whether there is another one: the cursor stays
//! open, and the next page is empty.

use bson::{RawBson, RawBsonRef, RawDocument};

use super::{Answer, integer, is_true, updates};
use crate::error::CommandError;

/// How many documents a first page has where nobody asked for a size.
const FIRST_PAGE: i64 = 101;

/// Whether the cursor of a command ends with a full page: what has a limit may have come to it, and what is one
/// document by its `_id` is no more.
pub(super) fn ends_cursor(body: &RawDocument) -> Result<bool, CommandError> {
    if body.get("find")?.is_none() {
        return Ok(false);
    }
    if body.get("limit")?.and_then(integer).unwrap_or(0) != 0 {
        return Ok(true);
    }
    let id = match body.get("filter")? {
        Some(RawBsonRef::Document(filter)) => filter.get("_id")?,
        _ => None,
    };
    let is_by_id = match id {
        Some(RawBsonRef::Document(id)) => {
            let first = id.iter().next().transpose()?;
            first.is_none_or(|(name, _)| !name.as_str().starts_with('$') || name == "$eq")
        }
        id => id.is_some(),
    };
    Ok(is_by_id || is_true(body, "singleBatch"))
}

/// Whether a first page has as many documents as it may have.
pub(super) fn is_first(body: &RawDocument, page: &RawDocument) -> Result<bool, CommandError> {
    let size = match (body.get("find")?, body.get("aggregate")?) {
        (Some(_), _) => body.get("batchSize")?.and_then(integer),
        (_, Some(_)) => match body.get("cursor")? {
            Some(RawBsonRef::Document(cursor)) => cursor.get("batchSize")?.and_then(integer),
            _ => return Ok(false),
        },
        _ => return Ok(false),
    };
    is_full(size.unwrap_or(FIRST_PAGE), page, "firstBatch")
}

/// Whether a later page has as many documents as were asked for.
pub(super) fn is_next(body: &RawDocument, page: &RawDocument) -> Result<bool, CommandError> {
    let size = body.get("batchSize")?.and_then(integer);
    is_full(size.unwrap_or(0), page, "nextBatch")
}

fn is_full(size: i64, page: &RawDocument, batch: &str) -> Result<bool, CommandError> {
    let batch = page.get_document("cursor")?.get_array(batch)?;
    let wanted = usize::try_from(size).unwrap_or(0);
    Ok(wanted > 0 && batch.into_iter().count() == wanted)
}

/// Returns a page of a cursor that stays open.
pub(super) fn still_open(page: &RawDocument, id: i64) -> Answer {
    let cursor = page.get_document("cursor")?;
    let id = Some(RawBson::Int64(id));
    let cursor = updates::with_changes(cursor, &[("id", id)])?;
    let cursor = cursor.map(RawBson::Document);
    let page = updates::with_changes(page, &[("cursor", cursor)])?;
    page.ok_or_else(CommandError::internal)
}

#[cfg(test)]
mod tests {
    use bson::{doc, rawdoc};

    use super::*;
    use crate::commands::raw;

    #[test]
    fn only_a_limit_or_an_id_ends_a_cursor() {
        let ends = |body: bson::Document| ends_cursor(&raw(&body)).expect("it is read");
        assert!(ends(doc! { "find": "c", "limit": 5 }));
        assert!(ends(doc! { "find": "c", "filter": { "_id": 5 } }));
        assert!(ends(doc! { "find": "c", "singleBatch": true }));
        assert!(!ends(
            doc! { "find": "c", "filter": { "_id": { "$gt": 5 } } }
        ));
        assert!(!ends(
            doc! { "find": "c", "limit": 0, "filter": { "a": 1 } }
        ));
        assert!(!ends(
            doc! { "aggregate": "c", "pipeline": [{ "$limit": 5 }] }
        ));
    }

    #[test]
    fn a_full_page_has_the_size_that_was_asked_for() {
        let page =
            rawdoc! { "cursor": { "id": 0_i64, "firstBatch": [{}, {}], "ns": "d.c" }, "ok": 1 };
        let is_full = |body: bson::Document| is_first(&raw(&body), &page).expect("it is read");
        assert!(is_full(doc! { "find": "c", "batchSize": 2 }));
        assert!(is_full(
            doc! { "aggregate": "c", "cursor": { "batchSize": 2 } }
        ));
        assert!(!is_full(doc! { "find": "c", "batchSize": 3 }));
        assert!(!is_full(doc! { "find": "c" }));
        assert!(!is_full(
            doc! { "listIndexes": "c", "cursor": { "batchSize": 2 } }
        ));
        let open = still_open(&page, 7).expect("it is written");
        let cursor = open.get_document("cursor").expect("a cursor");
        assert_eq!(cursor.get_i64("id").expect("a number"), 7);
    }
}
