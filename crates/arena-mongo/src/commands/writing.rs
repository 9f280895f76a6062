//! Commands that change documents. A sequence of documents goes to the engine as
//! the bytes that came, and a retried write runs once.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};
use bytes::Bytes;

use super::once::{self, Write};
use super::updates::stamps;
use super::{
    Answer, Call, apart, duplicates, is_true, modifiers, oddities, parallel, raw, refused,
    removals, replacing, singly, texts, updates, validation,
};
use crate::arrivals::upserted;
use crate::backend::BsonIn;
use crate::error::CommandError;
use crate::guard::{self, Growth};
use crate::users::Action;
use crate::wire::documents_of;

/// What MongoDB allows in one command; hello says less.
const BATCH_MAX: usize = 100_000;

pub(super) async fn run(call: &Call<'_>) -> Answer {
    call.allow(Action::Write)?;
    stamps::check_bypass(call.name, call.body())?;
    let collection = call.collection()?;
    let answer = written(call, collection).await?;
    let upserted = upserted(&answer).into_iter().map(Some);
    call.server
        .arrivals
        .note(call.database, collection, upserted);
    Ok(answer)
}

async fn written(call: &Call<'_>, collection: &str) -> Answer {
    match call.name {
        "insert" => batch(call, collection, once::INSERT, "documents").await,
        "update" => batch(call, collection, once::UPDATE, "updates").await,
        "delete" => batch(call, collection, once::DELETE, "deletes").await,
        _ => match texts::find_and_modify(call).await {
            Some(answer) => answer,
            None => find_and_modify(call, collection).await,
        },
    }
}

async fn batch(call: &Call<'_>, collection: &str, write: Write, field: &str) -> Answer {
    let sequence = sequence(call, field)?;
    let operations = operations(call, sequence, field)?;
    check_size(operations.len())?;
    if let Some(answer) = as_others(call, collection, field, &operations).await? {
        return Ok(answer);
    }
    let mut prepared = match field {
        "documents" => inserted(call, collection, &operations).await?,
        _ => updates::prepared(call, collection, &operations).await?,
    };
    once::refuse_many(call, field, &operations, &mut prepared)?;
    let mut odd = match (field, operations.as_slice()) {
        ("updates", [only]) => odd(only, &mut prepared)?,
        _ => None,
    };
    let removes = field == "deletes";
    let let_in = match removes {
        true => None,
        false => {
            let growth = growth(call, collection, &operations);
            Some(call.admit(call.database, growth).await?)
        }
    };
    if !prepared.refused.is_empty() {
        let done =
            refused::run_others(call, collection, (write, field), &operations, prepared).await;
        if removes {
            call.freed();
        }
        return done.map_err(|error| guard::explained(error, let_in.as_ref()));
    }
    if let ("updates", [only], Some(found)) = (field, operations.as_slice(), &odd)
        && !found.only_computes(only)
    {
        if let Some(answer) = found.run(call, collection, only).await? {
            return Ok(answer);
        }
        odd = None;
    }
    let run_as = refused::statements(&operations, &prepared.changed);
    let bytes = refused::as_run(&operations, &prepared.changed);
    let (spec, documents) = match &bytes {
        None => (call.spec()?, sequence.map(|bytes| BsonIn(bytes))),
        Some(bytes) => {
            let spec = super::without(&call.spec()?, &[field])?;
            (spec, Some(BsonIn(bytes)))
        }
    };
    let result = once::run(call, write, once::first_statement(call), &spec, documents)
        .await
        .map_err(|error| guard::explained(error, let_in.as_ref()))?;
    if removes {
        call.freed();
        // What a transaction deletes may come back.
        let is_done = call.transaction.is_none() && result.get("writeErrors")?.is_none();
        if is_done && empties(&operations) {
            call.server.arrivals.begin_anew(call.database, collection);
        }
    }
    if let Some(odd) = odd
        && let Some(refused) = odd.refused(call, collection, &result).await?
    {
        return Ok(refused);
    }
    let result = match field {
        "updates" => singly::again(call, collection, result, &run_as).await?,
        _ => result,
    };
    with_readable_errors(call, collection, result, &operations).await
}

/// Whether every document is deleted.
fn empties(operations: &[&RawDocument]) -> bool {
    let all = |operation: &RawDocument| {
        let is_for_all = operation.get_document("q").is_ok_and(RawDocument::is_empty);
        let limit = operation.get("limit").ok().flatten();
        is_for_all && limit.and_then(super::integer) == Some(0)
    };
    matches!(operations, [only] if all(only))
}

/// Runs statements that have to be written as others; nothing where there are none.
async fn as_others(
    call: &Call<'_>,
    collection: &str,
    field: &str,
    operations: &[&RawDocument],
) -> Result<Option<RawDocumentBuf>, CommandError> {
    if let Some(answer) = texts::write(call, operations).await {
        return answer.map(Some);
    }
    if field != "documents" && apart::is_needed(call, collection, operations).await? {
        let answer = apart::run(call, collection, field, operations).await;
        return answer.map(Some);
    }
    if let ("updates", [only]) = (field, operations)
        && let Some([others, these]) = parts(call, collection, only).await?
    {
        let answer = apart::run(call, collection, field, &[&others, &these]).await;
        return answer.map(Some);
    }
    Ok(None)
}

/// The two statements that one stands for, if some documents have to be updated otherwise.
async fn parts(
    call: &Call<'_>,
    collection: &str,
    statement: &RawDocument,
) -> Result<Option<[RawDocumentBuf; 2]>, CommandError> {
    match removals::parts(call, collection, statement).await? {
        None => replacing::parts(call, collection, statement).await,
        parts => Ok(parts),
    }
}

fn check_size(operations: usize) -> Result<(), CommandError> {
    if (1..=BATCH_MAX).contains(&operations) {
        return Ok(());
    }
    let message = format!(
        "Write batch sizes must be between 1 and {BATCH_MAX}. Got {operations} operations."
    );
    Err(CommandError::new(16, "InvalidLength", message))
}

/// Finds what may not be inserted.
async fn inserted(
    call: &Call<'_>,
    collection: &str,
    documents: &[&RawDocument],
) -> Result<updates::Prepared, CommandError> {
    let mut prepared = refused::too_large(documents);
    if !stamps::keeps_empty(call.body()) {
        let stamped: Vec<_> = documents
            .iter()
            .map(|document| stamps::stamped(document))
            .collect::<Result<_, _>>()?;
        if stamped.iter().any(Option::is_some) {
            prepared.changed = stamped;
        }
    }
    if parallel::known(call, collection).await.indexes.is_empty() {
        call.server.arrivals.begin(call.database, collection);
    }
    let ids = documents.iter().map(|document| document.get("_id").ok()?);
    call.server.arrivals.note(call.database, collection, ids);
    let parallel = parallel::refused(call, collection, documents).await?;
    prepared.refused.extend(parallel);
    prepared.refused.sort_by_key(|(place, _)| *place);
    prepared.refused.dedup_by_key(|(place, _)| *place);
    Ok(prepared)
}

/// Returns what is odd in an update. One that only computes leaves booleans out, and is looked for one after it.
fn odd(
    operation: &RawDocument,
    prepared: &mut updates::Prepared,
) -> Result<Option<oddities::Odd>, CommandError> {
    if !prepared.refused.is_empty() {
        return Ok(None);
    }
    let odd = match oddities::of(operation) {
        Ok(odd) => odd,
        Err(error) => {
            prepared.refused.push((0, error));
            None
        }
    };
    if let Some(odd) = &odd
        && odd.only_computes(operation)
    {
        let as_run = prepared.changed.first().and_then(Option::as_ref);
        let guarded = odd.guarded(as_run.map_or(operation, |changed| changed))?;
        prepared.changed = vec![guarded];
    }
    Ok(odd)
}

/// The only sequence a command may carry is that of its operations.
fn sequence<'a>(call: &Call<'a>, field: &str) -> Result<Option<&'a Bytes>, CommandError> {
    match call.request.sequences.as_slice() {
        [] => Ok(None),
        [(name, bytes)] if name == field => Ok(Some(bytes)),
        [(name, _), ..] => Err(CommandError::new(
            40415,
            "Location40415",
            format!("BSON field '{}.{name}' is an unknown field.", call.name),
        )),
    }
}

fn operations<'a>(
    call: &Call<'a>,
    sequence: Option<&'a Bytes>,
    field: &str,
) -> Result<Vec<&'a RawDocument>, CommandError> {
    if let Some(sequence) = sequence {
        return Ok(documents_of(sequence).collect());
    }
    if let Some(other) = call
        .body()
        .get(field)?
        .filter(|value| value.as_array().is_none())
    {
        let other = validation::type_name(&Bson::try_from(other)?);
        let message = format!(
            "BSON field '{}.{field}' is the wrong type '{other}', expected type 'array'",
            call.name
        );
        return Err(CommandError::type_mismatch(message));
    }
    let listed = call.body().get_array(field);
    let listed = listed.map_err(|_| {
        CommandError::new(
            40414,
            "Location40414",
            format!(
                "BSON field '{}.{field}' is missing but a required field",
                call.name
            ),
        )
    })?;
    let mut operations = Vec::new();
    for operation in listed {
        match operation? {
            RawBsonRef::Document(operation) => operations.push(operation),
            _ => {
                return Err(CommandError::type_mismatch(format!(
                    "'{}.{field}' must hold objects",
                    call.name
                )));
            }
        }
    }
    Ok(operations)
}

/// What a write may add: what it brings, and a document for each insert and upsert.
fn growth<'a>(call: &Call<'_>, collection: &'a str, operations: &[&RawDocument]) -> Growth<'a> {
    let inserts = call.name == "insert";
    let (mut bytes, mut documents) = (0_u64, 0_u64);
    for operation in operations {
        bytes += u64::try_from(operation.as_bytes().len()).unwrap_or(u64::MAX);
        documents += u64::from(inserts || is_true(operation, "upsert"));
    }
    Growth {
        bytes,
        documents,
        indexes: 0,
        collection,
    }
}

async fn find_and_modify(call: &Call<'_>, collection: &str) -> Answer {
    call.allow(Action::Read)?;
    let (mut spec, odd) = modification(call, collection).await?;
    if call.name != "findAndModify" {
        let rest = super::without(&spec, &[call.name])?;
        spec = bson::rawdoc! { "findAndModify": collection };
        for element in &rest {
            let (key, value) = element?;
            spec.append(key, value);
        }
    }
    let removes = is_true(call.body(), "remove");
    let let_in = match removes {
        true => None,
        false => {
            let growth = growth(call, collection, &[call.body()]);
            Some(call.admit(call.database, growth).await?)
        }
    };
    let result = once::run(
        call,
        once::FIND_AND_MODIFY,
        once::first_statement(call),
        &spec,
        None,
    )
    .await
    .map_err(|error| guard::explained(error, let_in.as_ref()));
    if removes {
        call.freed();
    }
    match result {
        Ok(result) => {
            // A removal reports no `updatedExisting`; everything else is as MongoDB says it.
            debug_assert!(
                !is_true(&result, "writeErrors"),
                "find and modify has no write errors"
            );
            let has_found = matches!(result.get("value")?, Some(RawBsonRef::Document(_)));
            if let Some(odd) = odd.filter(|_| !has_found) {
                odd.check(call, collection).await?;
            }
            found(result)
        }
        Err(error) if error.code == 11000 => {
            Err(duplicates::described(call, collection, &error, call.body()).await)
        }
        Err(error) if error.code == 121 => {
            let message = format!(
                "PlanExecutor error during findAndModify :: caused by :: {}",
                error.message
            );
            let error = CommandError { message, ..error };
            let operation = Document::try_from(call.body())?;
            Err(validation::described(call, collection, error, &operation).await)
        }
        Err(error) => Err(modifiers::in_words_of(call.worded(error), call.body())),
    }
}

/// Returns a findAndModify as it has to run, and what is odd in it if it has to be looked for that after it.
async fn modification(
    call: &Call<'_>,
    collection: &str,
) -> Result<(RawDocumentBuf, Option<oddities::Odd>), CommandError> {
    let spec = call.spec()?;
    let prepared = updates::prepared_one(call, collection, &spec).await?;
    let spec = prepared.unwrap_or(spec);
    let Some(odd) = oddities::of(call.body())? else {
        return Ok((spec, None));
    };
    if odd.only_computes(call.body()) {
        let guarded = odd.guarded(&spec)?;
        return Ok((guarded.unwrap_or(spec), Some(odd)));
    }
    let other = odd
        .found_and_modified(call, collection, call.body())
        .await?;
    let Some(other) = other else {
        return Ok((spec, None));
    };
    let other = super::without(&other, &super::GENERIC_FIELDS)?;
    let prepared = updates::prepared_one(call, collection, &other).await?;
    Ok((prepared.unwrap_or(other), None))
}

/// Returns an answer that says of a document that was found and stayed as it was that it was found; the engine
/// does not count it.
fn found(result: RawDocumentBuf) -> Answer {
    let is_found = matches!(result.get("value")?, Some(RawBsonRef::Document(_)));
    let last = result.get_document("lastErrorObject");
    let is_counted = last.is_ok_and(|last| last.get_i32("n").is_ok_and(|n| n != 0));
    if !is_found || is_counted {
        return Ok(result);
    }
    let mut result = Document::try_from(result)?;
    result.insert("lastErrorObject", doc! { "n": 1, "updatedExisting": true });
    Ok(raw(&result))
}

/// Rewrites `writeErrors`: codes from packed SQLSTATEs, duplicate keys as MongoDB describes them.
pub(super) async fn with_readable_errors(
    call: &Call<'_>,
    collection: &str,
    result: RawDocumentBuf,
    operations: &[&RawDocument],
) -> Answer {
    if result.get("writeErrors")?.is_none() {
        return Ok(result);
    }
    let mut result = Document::try_from(result)?;
    let errors = result.get_array("writeErrors").cloned().unwrap_or_default();
    let mut readable = Vec::with_capacity(errors.len());
    for error in errors {
        let Bson::Document(error) = error else {
            continue;
        };
        readable.push(Bson::Document(
            readable_error(call, collection, error, operations).await,
        ));
    }
    result.insert("writeErrors", readable);
    Ok(raw(&result))
}

async fn readable_error(
    call: &Call<'_>,
    collection: &str,
    error: Document,
    operations: &[&RawDocument],
) -> Document {
    let index = error.get_i32("index").unwrap_or(0);
    let message = error.get_str("errmsg").unwrap_or_default();
    let packed = error.get_i32("code").unwrap_or(0);
    let (name, code) = CommandError::unpacked_code(packed).unwrap_or(("UnknownError", 8));
    let described = if CommandError::is_packed_conflict(packed) {
        CommandError::write_conflict()
    } else {
        CommandError::new(code, name, message)
    };
    let operation = usize::try_from(index)
        .ok()
        .and_then(|index| operations.get(index));
    let described = match operation {
        Some(operation) if code == 11000 => {
            duplicates::described(call, collection, &described, operation).await
        }
        Some(operation) if code == 121 => {
            let operation = Document::try_from(*operation).unwrap_or_default();
            validation::described(call, collection, described, &operation).await
        }
        _ => described,
    };
    let described = call.worded(described);
    let described = match operation {
        Some(operation) => modifiers::in_words_of(described, operation),
        None => described,
    };
    let mut readable = doc! { "index": index, "code": described.code, "errmsg": described.message };
    readable.extend(described.details.into_iter().flat_map(|details| *details));
    readable
}
