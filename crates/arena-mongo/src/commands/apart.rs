//! Statements of one command that run one after the other, each as a command of
//! its own. How such a statement has to be written depends on what is there when
//! it runs, which the statements before it may have changed.

use bson::{Bson, Document, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::{
    Answer, Call, oddities, once, raw, removals, replacing, texts, updates, without, writing,
};
use crate::error::CommandError;
use crate::wire::{Framing, Request};

/// Of more statements those that replace run together, though what they find is not looked at then.
const REPLACEMENTS_MAX: usize = 200;

/// Returns whether the statements have to run one after the other.
pub(super) async fn is_needed(
    call: &Call<'_>,
    collection: &str,
    statements: &[&RawDocument],
) -> Result<bool, CommandError> {
    if statements.len() < 2 {
        return Ok(false);
    }
    for (place, statement) in statements.iter().enumerate() {
        if place > 0 && updates::has_collation(statement)? {
            return Ok(true);
        }
        let filter = statement.get_document("q");
        if filter.is_ok_and(texts::may_ask) || !removals::of(statement)?.is_empty() {
            return Ok(true);
        }
    }
    let replaces = statements
        .iter()
        .any(|statement| replacing::replacement(statement).is_some());
    let may_be_alike = replacing::ids(statements).is_none();
    if replaces && may_be_alike && statements.len() <= REPLACEMENTS_MAX {
        return Ok(true);
    }
    oddities::are_met(call, collection, statements).await
}

/// Runs the statements and answers as for all of them.
pub(super) async fn run(
    call: &Call<'_>,
    collection: &str,
    field: &str,
    statements: &[&RawDocument],
) -> Answer {
    let is_ordered = call.body().get_bool("ordered").unwrap_or(true);
    let (mut count, mut modified) = (0, 0);
    let (mut upserted, mut errors) = (Vec::new(), Vec::new());
    for (place, statement) in statements.iter().enumerate() {
        let request = Request {
            framing: Framing::Msg { checksum: false },
            is_unanswered: false,
            compressor: None,
            body: command(call, (collection, field), place, statement)?,
            sequences: Vec::new(),
        };
        let part = Call {
            request: &request,
            ..*call
        };
        let answer = match Box::pin(writing::run(&part)).await {
            Ok(answer) => Document::try_from(answer)?,
            Err(error) if error.ends_command() || call.fields.in_transaction => return Err(error),
            Err(error) => call.worded(error).as_write_errors(1),
        };
        count += answer.get_i32("n").unwrap_or(0);
        modified += answer.get_i32("nModified").unwrap_or(0);
        let before = errors.len();
        for (listed, all) in [("upserted", &mut upserted), ("writeErrors", &mut errors)] {
            for one in answer.get_array(listed).into_iter().flatten() {
                if let Bson::Document(mut one) = one.clone() {
                    one.insert("index", i32::try_from(place).unwrap_or(i32::MAX));
                    all.push(Bson::Document(one));
                }
            }
        }
        if is_ordered && errors.len() > before {
            break;
        }
    }
    let mut answer = doc! { "n": count };
    if field == "updates" {
        answer.insert("nModified", modified);
    }
    for (listed, all) in [("upserted", upserted), ("writeErrors", errors)] {
        if !all.is_empty() {
            answer.insert(listed, all);
        }
    }
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

/// The command of one statement, with what else the whole one says.
fn command(
    call: &Call<'_>,
    (collection, field): (&str, &str),
    place: usize,
    statement: &RawDocument,
) -> Result<RawDocumentBuf, CommandError> {
    let place = i32::try_from(place).unwrap_or(i32::MAX);
    let stated = match call.body().get("stmtIds")? {
        Some(RawBsonRef::Array(numbers)) => {
            let numbers = numbers.into_iter().flatten();
            let own = numbers.skip(usize::try_from(place).unwrap_or(usize::MAX));
            own.filter_map(|number| number.as_i32()).next()
        }
        _ => None,
    };
    let number = stated.unwrap_or_else(|| once::first_statement(call).saturating_add(place));
    let mut command = RawDocumentBuf::new();
    command.append(bson::raw::CString::try_from(call.name)?, collection);
    let others = without(call.body(), &[call.name, field, "stmtId", "stmtIds"])?;
    for element in &others {
        let (key, value) = element?;
        command.append(key, value);
    }
    command.append(bson::cstr!("stmtId"), number);
    let mut statements = RawArrayBuf::new();
    statements.push(statement);
    command.append(bson::raw::CString::try_from(field)?, statements);
    Ok(command)
}
