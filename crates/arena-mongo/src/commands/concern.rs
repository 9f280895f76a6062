//! The write concern of a command. There is one node: a write that asks for more of
//! them is done, and its answer says that so many will never have it.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::{Kind, aggregation, integer, is_true, raw, validation};
use crate::error::CommandError;

/// MongoDB allows no larger replica sets.
const NODES_MAX: i64 = 50;

/// Fails where a write concern makes no sense.
pub(super) fn check(body: &RawDocument) -> Result<(), CommandError> {
    let Some(concern) = of(body)? else {
        return Ok(());
    };
    match concern.get("w")? {
        None | Some(RawBsonRef::String(_) | RawBsonRef::Document(_) | RawBsonRef::Null) => Ok(()),
        Some(number @ (RawBsonRef::Int32(_) | RawBsonRef::Int64(_) | RawBsonRef::Double(_))) => {
            match integer(number) {
                Some(nodes) if !(0..=NODES_MAX).contains(&nodes) => {
                    Err(CommandError::failed_to_parse(format!(
                        "w has to be a non-negative number and not greater than {NODES_MAX}; found: {nodes}"
                    )))
                }
                _ => Ok(()),
            }
        }
        Some(other) => {
            let other = validation::type_name(&Bson::try_from(other)?);
            Err(CommandError::failed_to_parse(format!(
                "w has to be a number, string, or object; found: {other}"
            )))
        }
    }
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
    let error = if writes { unmet(body) } else { None };
    match (error, Document::try_from(answer.as_ref())) {
        (Some(error), Ok(mut told)) => {
            told.insert("writeConcernError", error);
            raw(&told)
        }
        _ => answer,
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
