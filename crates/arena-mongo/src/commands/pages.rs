//! First pages in order. Where a document no longer fits into a page the engine goes
//! on with later ones that do, and gives the one left out with the next page: sorted
//! documents would come out of order. The document that begins the next page tells up
//! to where the order is sure; so many are asked for once more.

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::{Call, without};
use crate::error::CommandError;
use crate::wire::DOCUMENT_BYTES_MAX;

/// A page with less than this is in order, as long as no document has nearly the size that MongoDB allows.
const SMALL_PAGE_BYTES: usize = 1024 * 1024;
/// What the engine may count beside the documents.
const MARGIN_BYTES: usize = 1024 * 1024;

/// Whether the document that begins the next page has to be looked at.
pub(super) fn may_be_disordered(page: &RawDocument) -> bool {
    page.as_bytes().len() > SMALL_PAGE_BYTES
}

/// A getMore of the one document that begins the next page.
pub(super) fn peek(page: &RawDocument) -> Result<RawDocumentBuf, CommandError> {
    let cursor = page.get_document("cursor")?;
    let namespace = cursor.get_str("ns")?;
    let collection = namespace
        .split_once('.')
        .map_or(namespace, |(_, name)| name);
    let id = cursor
        .get("id")?
        .and_then(super::integer)
        .unwrap_or_default();
    Ok(rawdoc! { "getMore": id, "collection": collection, "batchSize": 1 })
}

/// How many of a page's documents are sure to be in order.
pub(super) struct Sure {
    pub(super) count: i32,
    pub(super) of: i32,
}

pub(super) fn sure(page: &RawDocument, next: &RawDocument) -> Result<Sure, CommandError> {
    let left_out = next.get_document("cursor")?.get_array("nextBatch")?;
    let left_out = left_out.into_iter().next().transpose()?.map_or(0, bytes_of);
    let room = DOCUMENT_BYTES_MAX.saturating_sub(MARGIN_BYTES + left_out);
    let (mut bytes, mut sure) = (0, Sure { count: 0, of: 0 });
    for document in page.get_document("cursor")?.get_array("firstBatch")? {
        // The document left out would have had its place where there still was room.
        sure.count += i32::from(bytes <= room);
        sure.of += 1;
        bytes += bytes_of(document?);
    }
    Ok(sure)
}

fn bytes_of(value: RawBsonRef<'_>) -> usize {
    value
        .as_document()
        .map_or(0, |document| document.as_bytes().len())
}

/// A find or an aggregate whose first page has so many documents.
pub(super) fn of_size(
    call: &Call<'_>,
    spec: &RawDocument,
    size: i32,
) -> Result<RawDocumentBuf, CommandError> {
    let field = if spec.get("find")?.is_some() {
        "batchSize"
    } else {
        "cursor"
    };
    tracing::debug!(
        user = call.user_name,
        size,
        "a page is read once more, in order"
    );
    let mut changed = without(spec, &[field])?;
    if field == "cursor" {
        changed.append(bson::cstr!("cursor"), rawdoc! { "batchSize": size });
    } else {
        changed.append(bson::cstr!("batchSize"), size);
    }
    Ok(changed)
}
