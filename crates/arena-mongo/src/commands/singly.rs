//! Updates that run for one document after the other. MongoDB updates many documents
//! so, and keeps what it did where one of them fails; the engine does all of it or
//! nothing. And where some documents have to be updated otherwise than the rest.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::{Answer, Call, once, raw, reading, updates, without, writing};
use crate::backend::BsonIn;
use crate::error::CommandError;

/// So many documents are updated one after the other.
const DOCUMENTS_MAX: usize = 10_000;
/// Statements that go to the engine together.
const TOGETHER: usize = 500;

/// Errors that MongoDB finds before it reads a document.
const BEFOREHAND: [i32; 5] = [9, 52, 56, 72, 115];

/// What became of statements up to the first that failed.
#[derive(Debug, Default)]
pub(super) struct Done {
    matched: i32,
    modified: i32,
    /// What the engine says, and of which statement.
    failed: Option<(Document, RawDocumentBuf)>,
}

/// Returns the `_id`s of the documents that a statement meets, in MongoDB's order; nothing if they are too many.
pub(super) async fn ids(
    call: &Call<'_>,
    collection: &str,
    statement: &RawDocument,
) -> Result<Option<Vec<Bson>>, CommandError> {
    let limit = i32::try_from(DOCUMENTS_MAX + 1).unwrap_or(i32::MAX);
    let mut find = bson::rawdoc! { "find": collection, "projection": { "_id": 1 }, "limit": limit };
    for (from, field) in [
        (statement.get("q")?, bson::cstr!("filter")),
        (call.body().get("let")?, bson::cstr!("let")),
    ] {
        if let Some(RawBsonRef::Document(part)) = from {
            find.append(field, part);
        }
    }
    let ids = reading::ids_of(call, &find).await?;
    Ok((ids.len() <= DOCUMENTS_MAX).then_some(ids))
}

/// Returns an update of many documents as one of one of them.
pub(super) fn of_one(statement: &RawDocument, id: &Bson) -> Result<RawDocumentBuf, CommandError> {
    let own = doc! { "_id": { "$eq": id } };
    let filter = match statement.get("q")? {
        Some(RawBsonRef::Document(filter)) if !filter.is_empty() => {
            doc! { "$and": [own, Document::try_from(filter)?] }
        }
        _ => own,
    };
    let filter = RawBson::Document(raw(&filter));
    let changes = [
        ("q", Some(filter)),
        ("multi", None),
        ("upsert", None),
        ("sort", None),
    ];
    let one = updates::with_changes(statement, &changes)?;
    Ok(one.unwrap_or_else(|| statement.to_owned()))
}

/// Runs statements one after the other, up to the first that fails.
pub(super) async fn run(
    call: &Call<'_>,
    statements: &[RawDocumentBuf],
) -> Result<Done, CommandError> {
    let spec = spec(call)?;
    let mut done = Done::default();
    for together in statements.chunks(TOGETHER) {
        let bytes: Vec<u8> = together
            .iter()
            .flat_map(|one| one.as_bytes().to_vec())
            .collect();
        let result = once::run_plainly(call, once::UPDATE, &spec, Some(BsonIn(&bytes))).await?;
        done.add(Done::of(result, together)?);
        if done.has_failed() {
            break;
        }
    }
    Ok(done)
}

/// Runs the one statement of a command, once however often it is sent.
pub(super) async fn run_once(
    call: &Call<'_>,
    statement: RawDocumentBuf,
) -> Result<Done, CommandError> {
    let number = once::first_statement(call);
    let bytes = Some(BsonIn(statement.as_bytes()));
    let result = once::run(call, once::UPDATE, number, &spec(call)?, bytes).await?;
    Done::of(result, &[statement])
}

fn spec(call: &Call<'_>) -> Answer {
    let mut spec = without(&call.spec()?, &["updates", "ordered"])?;
    spec.append(bson::cstr!("ordered"), true);
    Ok(spec)
}

impl Done {
    fn of(result: RawDocumentBuf, statements: &[RawDocumentBuf]) -> Result<Self, CommandError> {
        let result = Document::try_from(result)?;
        let errors = result.get_array("writeErrors").ok();
        let failed = match errors.and_then(|errors| errors.first()) {
            Some(Bson::Document(error)) => {
                let place = usize::try_from(error.get_i32("index").unwrap_or(0)).unwrap_or(0);
                let statement = statements.get(place).ok_or_else(CommandError::internal)?;
                Some((error.clone(), statement.clone()))
            }
            _ => None,
        };
        Ok(Self {
            matched: result.get_i32("n").unwrap_or(0),
            modified: result.get_i32("nModified").unwrap_or(0),
            failed,
        })
    }

    pub(super) fn add(&mut self, other: Self) {
        self.matched += other.matched;
        self.modified += other.modified;
        self.failed = self.failed.take().or(other.failed);
    }

    /// Notes that the same document was changed once more.
    pub(super) fn add_to_same(&mut self, other: &Self) {
        self.modified = self.modified.max(other.modified);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// The answer to the one statement that all these stand for; that a later document fails is known before.
    pub(super) async fn answer(
        self,
        call: &Call<'_>,
        collection: &str,
        fails: Option<CommandError>,
    ) -> Answer {
        if let Some((mut error, statement)) = self.failed {
            error.insert("index", 0);
            let result = doc! { "n": 0, "nModified": 0, "writeErrors": [error], "ok": 1.0 };
            return writing::with_readable_errors(call, collection, raw(&result), &[&statement])
                .await;
        }
        let mut answer = doc! { "n": self.matched, "nModified": self.modified };
        if let Some(error) = fails {
            answer = call.worded(error).as_write_errors(1);
            answer.insert("nModified", 0);
        }
        answer.insert("ok", 1.0);
        Ok(raw(&answer))
    }
}

/// Runs updates of many documents that failed once more, up to the documents in which they fail: these alone stay as
/// they were at MongoDB. What it tells of them is the same.
pub(super) async fn again(
    call: &Call<'_>,
    collection: &str,
    result: RawDocumentBuf,
    statements: &[&RawDocument],
) -> Answer {
    if call.transaction.is_some() || result.get("writeErrors")?.is_none() {
        return Ok(result);
    }
    let mut told = Document::try_from(result.as_ref())?;
    let mut is_changed = false;
    for listed in told.get_array_mut("writeErrors").into_iter().flatten() {
        let Bson::Document(error) = listed else {
            continue;
        };
        let index = error.get_i32("index").unwrap_or(0);
        let place = usize::try_from(index).ok();
        let statement = place.and_then(|place| statements.get(place));
        let code = CommandError::unpacked_code(error.get_i32("code").unwrap_or(0));
        let is_beforehand = code.is_none_or(|(_, code)| BEFOREHAND.contains(&code));
        let Some(statement) =
            statement.filter(|one| super::is_true(one, "multi") && !is_beforehand)
        else {
            continue;
        };
        let Some(ids) = ids(call, collection, statement).await? else {
            continue;
        };
        let each = ids.iter().map(|id| of_one(statement, id));
        let each = each.collect::<Result<Vec<RawDocumentBuf>, CommandError>>()?;
        if let Some((mut other, _)) = run(call, &each).await?.failed {
            other.insert("index", index);
            *error = other;
            is_changed = true;
        }
    }
    Ok(if is_changed { raw(&told) } else { result })
}
