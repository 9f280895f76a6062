//! The client-level `bulkWrite`: writes to several collections in one command.
//! Each statement runs as the command it stands for, with the same rights, quotas
//! and checks; inserts into one collection that follow each other run together.

use bson::{Bson, Document, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc};

use super::{
    Answer, Call, approximate, integer, is_collection_name, is_database_name, is_true, raw,
    reading, shapes, writing,
};
use crate::error::CommandError;
use crate::users::Action;
use crate::wire::{Framing, Request, documents_of};

const BATCH_MAX: usize = 100_000;
/// Inserts that run as one command.
const INSERTS_MAX: usize = 1_000;
const INSERT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Options of a statement, as the commands it stands for call them; the constants come first.
const UPDATE_FIELDS: [(&str, &str); 9] = [
    ("constants", "c"),
    ("filter", "q"),
    ("updateMods", "u"),
    ("multi", "multi"),
    ("upsert", "upsert"),
    ("arrayFilters", "arrayFilters"),
    ("hint", "hint"),
    ("collation", "collation"),
    ("sort", "sort"),
];
const DELETE_FIELDS: [(&str, &str); 3] = [
    ("filter", "q"),
    ("hint", "hint"),
    ("collation", "collation"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Insert,
    Update,
    Delete,
}

struct Statement<'a> {
    kind: Kind,
    database: &'a str,
    collection: &'a str,
    document: &'a RawDocument,
}

#[derive(Debug, Default)]
struct Totals {
    errors: i32,
    inserted: i32,
    matched: i32,
    modified: i32,
    upserted: i32,
    deleted: i32,
}

pub(super) async fn run(call: &Call<'_>) -> Answer {
    if call.database != "admin" {
        return Err(CommandError::unauthorized(
            "bulkWrite may only be run against the admin database.",
        ));
    }
    shapes::BULK.check(call.body())?;
    let namespaces = namespaces(call)?;
    let statements = statements(call, &namespaces)?;
    let is_ordered = call.body().get("ordered")?.is_none() || is_true(call.body(), "ordered");
    let errors_only = is_true(call.body(), "errorsOnly");
    let (mut totals, mut results) = (Totals::default(), Vec::new());
    let mut next = 0;
    while next < statements.len() {
        let group = group_at(&statements, next);
        let (mut answers, stopped) = run_group(call, next, group, is_ordered).await?;
        totals.add(group[0].kind, &answers);
        next += group.len();
        if errors_only {
            answers.retain(|answer| !is_done(answer));
        }
        results.extend(answers.iter().map(raw));
        if stopped && is_ordered {
            break;
        }
    }
    let mut answer = reading::own_cursor(call, "admin.$cmd.bulkWrite", results).await?;
    answer.extend(totals.fields());
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

fn listed<'a>(call: &Call<'a>, field: &str) -> Result<Vec<&'a RawDocument>, CommandError> {
    let sequence = call
        .request
        .sequences
        .iter()
        .find(|(name, _)| name == field);
    if let Some((_, documents)) = sequence {
        return Ok(documents_of(documents).collect());
    }
    let array = call.body().get_array(field).map_err(|_| {
        let message = format!("BSON field 'bulkWrite.{field}' is missing but a required field");
        CommandError::new(40414, "Location40414", message)
    })?;
    let documents = array.into_iter().map(|element| match element? {
        RawBsonRef::Document(document) => Ok(document),
        _ => Err(CommandError::type_mismatch(format!(
            "BSON field 'bulkWrite.{field}' is the wrong type, expected type 'object'"
        ))),
    });
    documents.collect()
}

/// Reads the namespaces; all of them must be the user's.
fn namespaces<'a>(call: &Call<'a>) -> Result<Vec<(&'a str, &'a str)>, CommandError> {
    let mut namespaces = Vec::new();
    for info in listed(call, "nsInfo")? {
        shapes::BULK_NAMESPACE.check(info)?;
        let text = info.get_str("ns").unwrap_or_default();
        let parts = text
            .split_once('.')
            .filter(|(database, name)| is_database_name(database) && is_collection_name(name));
        let (database, collection) = parts.ok_or_else(|| {
            let message = format!("Invalid namespace specified for bulkWrite: '{text}'");
            CommandError::new(73, "InvalidNamespace", message)
        })?;
        call.allow_on(Action::Write, database)?;
        if info.get("collectionUUID")?.is_some() {
            return Err(CommandError::not_supported("'collectionUUID' of nsInfo"));
        }
        namespaces.push((database, collection));
    }
    Ok(namespaces)
}

fn statements<'a>(
    call: &Call<'a>,
    namespaces: &[(&'a str, &'a str)],
) -> Result<Vec<Statement<'a>>, CommandError> {
    let listed = listed(call, "ops")?;
    if listed.is_empty() || listed.len() > BATCH_MAX {
        let message = format!(
            "Write batch sizes must be between 1 and {BATCH_MAX}. Got {} operations.",
            listed.len()
        );
        return Err(CommandError::new(16, "InvalidLength", message));
    }
    let read = |(position, document): (usize, &'a RawDocument)| {
        let Some(Ok((name, namespace))) = document.iter().next() else {
            return Err(CommandError::failed_to_parse(
                "a bulkWrite operation is empty",
            ));
        };
        let kind = match name.as_str() {
            "insert" => Kind::Insert,
            "update" => Kind::Update,
            "delete" => Kind::Delete,
            other => {
                let message = format!("BSON field 'bulkWrite.ops.{other}' is an unknown field.");
                return Err(CommandError::new(40415, "Location40415", message));
            }
        };
        check_statement(kind, document)?;
        let place = approximate(namespace).and_then(|number| integer(RawBsonRef::Double(number)));
        let place = place.and_then(|number| usize::try_from(number).ok());
        let (database, collection) =
            place
                .and_then(|number| namespaces.get(number))
                .ok_or_else(|| {
                    let message =
                        format!("BulkWrite ops entry {position} has an invalid nsInfo index.");
                    CommandError::bad_value(message)
                })?;
        Ok(Statement {
            kind,
            database,
            collection,
            document,
        })
    };
    listed.into_iter().enumerate().map(read).collect()
}

fn check_statement(kind: Kind, statement: &RawDocument) -> Result<(), CommandError> {
    match kind {
        Kind::Insert => shapes::BULK_INSERT.check(statement)?,
        Kind::Update => shapes::BULK_UPDATE.check(statement)?,
        Kind::Delete => shapes::BULK_DELETE.check(statement)?,
    }
    shapes::check_update(statement.get("updateMods")?)?;
    shapes::check_hint(statement.get("hint")?)
}

/// Returns the statement at this place, with inserts that follow it into the same collection.
fn group_at<'s, 'a>(statements: &'s [Statement<'a>], start: usize) -> &'s [Statement<'a>] {
    let first = &statements[start];
    if first.kind != Kind::Insert {
        return &statements[start..=start];
    }
    let mut bytes = 0;
    let belong = statements[start..]
        .iter()
        .take(INSERTS_MAX)
        .take_while(|next| {
            bytes += next.document.as_bytes().len();
            next.kind == Kind::Insert
                && (next.database, next.collection) == (first.database, first.collection)
                && bytes <= INSERT_BYTES_MAX.max(first.document.as_bytes().len())
        });
    let count = belong.count().max(1);
    &statements[start..start + count]
}

/// Runs a group; returns one result for each statement that was reached, and whether one failed.
async fn run_group(
    call: &Call<'_>,
    first: usize,
    group: &[Statement<'_>],
    is_ordered: bool,
) -> Result<(Vec<Document>, bool), CommandError> {
    let request = Request {
        framing: Framing::Msg { checksum: false },
        is_unanswered: false,
        compressor: None,
        body: command(call, first, group, is_ordered)?,
        sequences: Vec::new(),
    };
    let kind = group[0].kind;
    let part = Call {
        request: &request,
        name: match kind {
            Kind::Insert => "insert",
            Kind::Update => "update",
            Kind::Delete => "delete",
        },
        database: group[0].database,
        ..*call
    };
    let answer = match Box::pin(writing::run(&part)).await {
        Ok(answer) => Document::try_from(answer)?,
        // What failed for all of it ends the command, what failed for this statement does not.
        Err(error) if error.ends_command() || call.fields.in_transaction => return Err(error),
        Err(error) => error.as_write_errors(if is_ordered { 1 } else { group.len() }),
    };
    Ok(results(kind, first, group.len(), answer))
}

/// The command that a group stands for.
fn command(
    call: &Call<'_>,
    first: usize,
    group: &[Statement<'_>],
    is_ordered: bool,
) -> Result<RawDocumentBuf, CommandError> {
    let (kind, collection) = (group[0].kind, group[0].collection);
    let (name, field) = match kind {
        Kind::Insert => ("insert", "documents"),
        Kind::Update => ("update", "updates"),
        Kind::Delete => ("delete", "deletes"),
    };
    let mut operations = RawArrayBuf::new();
    for statement in group {
        match kind {
            Kind::Insert => {
                operations.push(statement.document.get_document("document")?.to_owned())
            }
            Kind::Update => {
                let is_pipeline = matches!(
                    statement.document.get("updateMods")?,
                    Some(RawBsonRef::Array(_))
                );
                // A pipeline has its constants among the variables.
                let fields = &UPDATE_FIELDS[usize::from(is_pipeline)..];
                operations.push(renamed(statement.document, fields)?);
            }
            Kind::Delete => {
                let mut operation = renamed(statement.document, &DELETE_FIELDS)?;
                let limit = i32::from(!is_true(statement.document, "multi"));
                operation.append(bson::cstr!("limit"), limit);
                operations.push(operation);
            }
        }
    }
    let number = i32::try_from(first).unwrap_or(i32::MAX);
    let variables = variables(call, kind, group[0].document)?;
    let mut command = rawdoc! { "ordered": is_ordered, "stmtId": number };
    command.append(key(name)?, collection);
    command.append(key(field)?, operations);
    if !variables.is_empty() {
        command.append(bson::cstr!("let"), raw(&variables));
    }
    for option in ["bypassDocumentValidation", "bypassEmptyTsReplacement"] {
        if let Some(value) = call.body().get(option)? {
            command.append(key(option)?, value);
        }
    }
    Ok(command)
}

/// The variables of a statement. Constants are variables of one pipeline, whose values are no expressions.
fn variables(
    call: &Call<'_>,
    kind: Kind,
    statement: &RawDocument,
) -> Result<Document, CommandError> {
    let mut variables = match call.body().get("let")? {
        Some(RawBsonRef::Document(variables)) if kind != Kind::Insert => {
            Document::try_from(variables)?
        }
        _ => Document::new(),
    };
    if let (Kind::Update, Some(RawBsonRef::Document(constants)), Some(RawBsonRef::Array(_))) = (
        kind,
        statement.get("constants")?,
        statement.get("updateMods")?,
    ) {
        for (name, value) in Document::try_from(constants)? {
            variables.insert(name, doc! { "$literal": value });
        }
    }
    Ok(variables)
}

fn key(name: &str) -> Result<&bson::raw::CStr, CommandError> {
    <&bson::raw::CStr>::try_from(name).map_err(|_| CommandError::internal())
}

fn renamed(
    statement: &RawDocument,
    fields: &[(&str, &str)],
) -> Result<RawDocumentBuf, CommandError> {
    let mut renamed = RawDocumentBuf::new();
    for (from, to) in fields {
        match statement.get(from)? {
            None | Some(RawBsonRef::Null) => {}
            Some(value) => renamed.append(key(to)?, value),
        }
    }
    Ok(renamed)
}

/// One result per statement, from what the command says of all.
fn results(kind: Kind, first: usize, count: usize, answer: Document) -> (Vec<Document>, bool) {
    let index = |position: usize| i32::try_from(first + position).unwrap_or(i32::MAX);
    let mut failed: Vec<(usize, Document)> = Vec::new();
    for error in answer.get_array("writeErrors").into_iter().flatten() {
        if let Some(error) = error.as_document() {
            let position = usize::try_from(error.get_i32("index").unwrap_or(0)).unwrap_or(0);
            failed.push((position, error.clone()));
        }
    }
    let done = usize::try_from(answer.get_i32("n").unwrap_or(0)).unwrap_or(0);
    let reached = match kind {
        Kind::Insert => (done + failed.len()).min(count),
        Kind::Update | Kind::Delete => 1,
    };
    let result = |position: usize| {
        if let Some((_, error)) = failed.iter().find(|(at, _)| *at == position) {
            let mut result = doc! { "ok": 0.0, "idx": index(position) };
            let rest = error.iter().filter(|(name, _)| *name != "index");
            result.extend(rest.map(|(name, value)| (name.clone(), value.clone())));
            result.insert("n", 0);
            if kind == Kind::Update {
                result.insert("nModified", 0);
            }
            return result;
        }
        let mut result = doc! { "ok": 1.0, "idx": index(position) };
        match kind {
            Kind::Insert => drop(result.insert("n", 1)),
            Kind::Delete => drop(result.insert("n", answer.get_i32("n").unwrap_or(0))),
            Kind::Update => {
                result.insert("n", answer.get_i32("n").unwrap_or(0));
                result.insert("nModified", answer.get_i32("nModified").unwrap_or(0));
                if let Some(id) = upserted_id(&answer) {
                    result.insert("upserted", doc! { "_id": id });
                }
            }
        }
        result
    };
    ((0..reached).map(result).collect(), !failed.is_empty())
}

fn upserted_id(answer: &Document) -> Option<Bson> {
    let upserted = answer.get_array("upserted").ok()?.first()?;
    upserted.as_document()?.get("_id").cloned()
}

fn is_done(result: &Document) -> bool {
    result.get_f64("ok").is_ok_and(|ok| ok > 0.0)
}

impl Totals {
    fn add(&mut self, kind: Kind, results: &[Document]) {
        for result in results {
            let number = |field: &str| result.get_i32(field).unwrap_or(0);
            if !is_done(result) {
                self.errors += 1;
                continue;
            }
            match kind {
                Kind::Insert => self.inserted += 1,
                Kind::Delete => self.deleted += number("n"),
                Kind::Update => {
                    let upserted = i32::from(result.contains_key("upserted"));
                    self.upserted += upserted;
                    self.matched += number("n") - upserted;
                    self.modified += number("nModified");
                }
            }
        }
    }

    fn fields(&self) -> Document {
        doc! {
            "nErrors": self.errors, "nInserted": self.inserted, "nMatched": self.matched,
            "nModified": self.modified, "nUpserted": self.upserted, "nDeleted": self.deleted,
        }
    }
}
