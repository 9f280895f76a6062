//! First pages in order. Where a document no longer fits into a page the engine goes
//! on with later ones that do, and gives the one left out with the next page: sorted
//! documents would come out of order. The document that begins the next page tells up
//! to where the order is sure; so many are asked for once more.

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use tokio_postgres::Row;

use super::statements::Statement;
use super::{Call, reading, without};
use crate::backend::{BsonIn, BsonOut, Budget};
use crate::error::CommandError;
use crate::wire::DOCUMENT_BYTES_MAX;

const GET_MORE: &str =
    "SELECT cursorpage, continuation FROM documentdb_api.cursor_get_more($1, $2, $3)";
/// How often a page is asked for once more while others write.
const TRIES: usize = 4;

/// A page with less than this is in order, as long as no document has nearly the size that MongoDB allows.
const SMALL_PAGE_BYTES: usize = 1024 * 1024;
/// What the engine may count beside the documents.
const MARGIN_BYTES: usize = 1024 * 1024;

/// A first page, and the cursor that has the rest.
pub(super) type Opened = (RawDocumentBuf, Option<(i64, Vec<u8>)>);

/// Opens a cursor so that its first page is in order.
pub(super) async fn in_order(
    call: &Call<'_>,
    budget: Budget<'_>,
    statement: Statement,
    spec: &RawDocument,
) -> Result<Opened, CommandError> {
    let mut opened = open(call, budget, statement, spec).await?;
    for _ in 0..TRIES {
        let (page, Some((id, continuation))) = &opened else {
            break;
        };
        if !may_be_disordered(page) {
            break;
        }
        let (next, _) = more(call, &peek(page)?, continuation).await?;
        let sure = sure(page, &next)?;
        // In a transaction, what was looked at is read; there the same page comes again.
        let is_in_transaction = call.transaction.is_some();
        if sure.count == sure.of && !is_in_transaction {
            break;
        }
        reading::delete_cursors(call.server, call.budget_outside(), vec![*id]).await;
        let spec = of_size(call, spec, sure.count)?;
        opened = open(call, call.budget(), statement, &spec).await?;
        if is_in_transaction {
            break;
        }
    }
    Ok(opened)
}

/// Opens a cursor as the engine does.
pub(super) async fn open(
    call: &Call<'_>,
    budget: Budget<'_>,
    statement: Statement,
    spec: &RawDocument,
) -> Result<Opened, CommandError> {
    let row = call
        .server
        .backend
        .row(
            budget,
            statement.sql(),
            &[&call.database, &BsonIn(spec.as_bytes())],
        )
        .await?;
    let id: i64 = row.try_get(2).unwrap_or(0);
    let page = row.get::<_, BsonOut>(0).document()?;
    let rest = continuation_of(&row).filter(|_| id != 0);
    Ok((page, rest.map(|continuation| (id, continuation))))
}

/// A next page, and what continues it.
pub(super) async fn more(
    call: &Call<'_>,
    spec: &RawDocument,
    continuation: &[u8],
) -> Result<(RawDocumentBuf, Option<Vec<u8>>), CommandError> {
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [
        &call.database,
        &BsonIn(spec.as_bytes()),
        &BsonIn(continuation),
    ];
    let row = call
        .server
        .backend
        .row(call.budget(), GET_MORE, &parameters)
        .await?;
    Ok((row.get::<_, BsonOut>(0).document()?, continuation_of(&row)))
}

fn continuation_of(row: &Row) -> Option<Vec<u8>> {
    let continuation: Option<BsonOut> = row.get(1);
    continuation.map(|continuation| continuation.0)
}

/// Whether the document that begins the next page has to be looked at.
fn may_be_disordered(page: &RawDocument) -> bool {
    page.as_bytes().len() > SMALL_PAGE_BYTES
}

/// A getMore of the one document that begins the next page.
fn peek(page: &RawDocument) -> Result<RawDocumentBuf, CommandError> {
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
struct Sure {
    count: i32,
    of: i32,
}

fn sure(page: &RawDocument, next: &RawDocument) -> Result<Sure, CommandError> {
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
fn of_size(call: &Call<'_>, spec: &RawDocument, size: i32) -> Result<RawDocumentBuf, CommandError> {
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
