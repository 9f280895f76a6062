//! The write concern of a command. There is one node: a write that asks for more of
//! them is done, and its answer says that so many will never have it.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::{Kind, aggregation, approximate, integer, is_number, is_true, raw, validation};
use crate::error::CommandError;

/// MongoDB allows no larger replica sets.
const NODES_MAX: i32 = 50;

/// What a write concern may say; the last ones are of servers among each other.
const FIELDS: [&str; 8] = [
    "w",
    "j",
    "wtimeout",
    "fsync",
    "provenance",
    "getLastError",
    "wOpTime",
    "wElectionId",
];

/// Fails where a write concern makes no sense, or belongs to a command that does not write.
pub(super) fn check(kind: Kind, name: &str, body: &RawDocument) -> Result<(), CommandError> {
    let concern = match body.get("writeConcern")? {
        None | Some(RawBsonRef::Null) => return Ok(()),
        Some(RawBsonRef::Document(concern)) => concern,
        Some(other) => return Err(wrong_type("writeConcern", other, "object")?),
    };
    for element in concern {
        let (field, value) = element?;
        check_field(field.as_str(), value)?;
    }
    if is_true(concern, "j") && is_true(concern, "fsync") {
        let message = "fsync and j options cannot be used together";
        return Err(CommandError::failed_to_parse(message));
    }
    if kind == Kind::Reading {
        let message = format!("Command {name} does not support writeConcern");
        return Err(CommandError::new(72, "InvalidOptions", message));
    }
    Ok(())
}

fn check_field(field: &str, value: RawBsonRef<'_>) -> Result<(), CommandError> {
    match field {
        "w" => check_nodes(value),
        "j" | "fsync"
            if !is_number(value) && !matches!(value, RawBsonRef::Boolean(_) | RawBsonRef::Null) =>
        {
            Err(wrong_type(&format!("writeConcern.{field}"), value, "bool")?)
        }
        "wtimeout" if approximate(value).is_some_and(|time| time > f64::from(i32::MAX)) => Err(
            CommandError::failed_to_parse("wtimeout must be a 32-bit integer"),
        ),
        known if FIELDS.contains(&known) => Ok(()),
        unknown => {
            let message = format!("BSON field 'writeConcern.{unknown}' is an unknown field.");
            Err(CommandError::new(40415, "Location40415", message))
        }
    }
}

fn check_nodes(value: RawBsonRef<'_>) -> Result<(), CommandError> {
    match value {
        RawBsonRef::String(_) | RawBsonRef::Null => Ok(()),
        RawBsonRef::Document(tags) => check_tags(tags),
        number if is_number(number) => {
            let nodes = approximate(number).unwrap_or(f64::NAN);
            if (0.0..f64::from(NODES_MAX) + 1.0).contains(&nodes) {
                return Ok(());
            }
            Err(CommandError::failed_to_parse(format!(
                "w has to be a non-negative number and not greater than {NODES_MAX}; found: {nodes}"
            )))
        }
        other => {
            let other = validation::type_name(&Bson::try_from(other)?);
            Err(CommandError::failed_to_parse(format!(
                "w has to be a number, string, or object; found: {other}"
            )))
        }
    }
}

fn check_tags(tags: &RawDocument) -> Result<(), CommandError> {
    if tags.is_empty() {
        return Err(CommandError::failed_to_parse(
            "tagged write concern requires tags",
        ));
    }
    for tag in tags {
        let (name, value) = tag?;
        if !is_number(value) {
            let other = validation::type_name(&Bson::try_from(value)?);
            return Err(CommandError::failed_to_parse(format!(
                "tags must be a single level document with only number values; found: {other} of tag {name}"
            )));
        }
    }
    Ok(())
}

fn wrong_type(
    field: &str,
    value: RawBsonRef<'_>,
    expected: &str,
) -> Result<CommandError, CommandError> {
    let other = validation::type_name(&Bson::try_from(value)?);
    Ok(CommandError::type_mismatch(format!(
        "BSON field '{field}' is the wrong type '{other}', expected type '{expected}'"
    )))
}

/// Returns an answer that says which write concern cannot be met, if that is so.
pub(super) fn told(kind: Kind, body: &RawDocument, answer: RawDocumentBuf) -> RawDocumentBuf {
    let writes = match kind {
        Kind::Writing | Kind::Definition | Kind::Accounts => true,
        Kind::Aggregation => aggregation::writes_to(body).is_some(),
        Kind::Sessions => ["commitTransaction", "abortTransaction"]
            .iter()
            .any(|name| matches!(body.get(name), Ok(Some(_)))),
        _ => false,
    };
    let Some(error) = writes.then(|| unmet(body)).flatten() else {
        return answer;
    };
    match Document::try_from(answer.as_ref()) {
        Ok(mut told) => {
            told.insert("writeConcernError", error);
            raw(&told)
        }
        Err(_) => answer,
    }
}

fn of(body: &RawDocument) -> Result<Option<&RawDocument>, CommandError> {
    Ok(body
        .get("writeConcern")?
        .and_then(|value| value.as_document()))
}

fn unmet(body: &RawDocument) -> Option<Document> {
    let concern = of(body).ok()??;
    match concern.get("w").ok()?? {
        RawBsonRef::String("majority") => None,
        RawBsonRef::String(mode) => Some(doc! {
            "code": 79,
            "codeName": "UnknownReplWriteConcern",
            "errmsg": format!("No write concern mode named '{mode}' found in replica set configuration"),
            "errInfo": { "writeConcern": as_understood(concern, &Bson::String(mode.to_owned())) },
        }),
        number => {
            let nodes = integer(number).filter(|nodes| *nodes > 1)?;
            let nodes = Bson::Int32(i32::try_from(nodes).ok()?);
            Some(doc! {
                "code": 100,
                "codeName": "UnsatisfiableWriteConcern",
                "errmsg": "Not enough data-bearing nodes",
                "errInfo": { "writeConcern": as_understood(concern, &nodes) },
            })
        }
    }
}

fn as_understood(concern: &RawDocument, nodes: &Bson) -> Document {
    let mut understood = doc! { "w": nodes };
    if concern.get("j").is_ok_and(|journal| journal.is_some()) {
        understood.insert("j", is_true(concern, "j"));
    }
    let time = concern.get("wtimeout").ok().flatten().and_then(integer);
    let time = time.and_then(|time| i32::try_from(time).ok()).unwrap_or(0);
    understood.insert("wtimeout", time);
    understood.insert("provenance", "clientSupplied");
    understood
}
