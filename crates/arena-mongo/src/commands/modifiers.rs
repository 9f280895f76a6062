//! The operators of an update, written so that the engine does what MongoDB does:
//! new fields in MongoDB's order, nothing counted that changes nothing, and refused
//! what MongoDB refuses. What goes wrong with them is said in MongoDB's words.

use std::cmp::Ordering;

use bson::{Bson, Document, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, cstr};

use super::duplicates::shell_text;
use super::updates::stamps::stamped;
use super::{alike, raw, replacing};
use crate::error::CommandError;
use crate::pipeline::check_raw_value;

/// Operators whose new fields MongoDB adds in the order of their names.
pub(super) const ADDING: [&str; 11] = [
    "$set",
    "$setOnInsert",
    "$inc",
    "$mul",
    "$min",
    "$max",
    "$push",
    "$addToSet",
    "$bit",
    "$currentDate",
    "$rename",
];

/// Of so many values that are added to a set each is compared with each.
const COMPARED_MAX: usize = 2_000;

/// What an update is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) is_upsert: bool,
    /// A findAndModify, in which the engine knows an operator once.
    pub(super) finds: bool,
    /// Whether empty timestamps of a replacement stay.
    pub(super) keeps_empty: bool,
}

/// Returns an update by operators as it has to run, if that is not as it came.
pub(super) fn prepared(
    update: &RawDocument,
    way: Way,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    if replacing::is_replacement(update) {
        return match way.keeps_empty {
            true => Ok(None),
            false => stamped(update),
        };
    }
    // What `$pull` looks for is a query; everything else in an update is data.
    if let Some(pulled) = update.get("$pull")? {
        check_raw_value(pulled)?;
    }
    check_update(update)?;
    let pulled = with_pulled(update)?.map(|changed| raw(&changed));
    let once = added_once(pulled.as_deref().unwrap_or(update))?.or(pulled);
    let idle = with_idle(once.as_deref().unwrap_or(update), way.is_upsert)?.or(once);
    Ok(ordered(idle.as_deref().unwrap_or(update), way.finds)?.or(idle))
}

/// Returns an update that adds each value to a set once; of equal ones whose numbers are of other types the engine
/// adds all.
fn added_once(update: &RawDocument) -> Result<Option<RawDocumentBuf>, CommandError> {
    let Some(RawBsonRef::Document(sets)) = update.get("$addToSet")? else {
        return Ok(None);
    };
    let mut has_types = false;
    for set in sets {
        if let RawBsonRef::Document(added) = set?.1
            && let Some(each) = added.get("$each")?
        {
            has_types |= alike::has_types(each)?;
        }
    }
    if !has_types {
        return Ok(None);
    }
    let mut whole = Document::try_from(update)?;
    let mut is_changed = false;
    for (_, set) in whole.get_document_mut("$addToSet")?.iter_mut() {
        let each = set
            .as_document_mut()
            .and_then(|set| set.get_array_mut("$each").ok());
        let Some(each) = each.filter(|each| each.len() <= COMPARED_MAX) else {
            continue;
        };
        let mut kept: Vec<Bson> = Vec::with_capacity(each.len());
        for value in each.drain(..) {
            if kept.iter().any(|one| alike::is_alike(one, &value)) {
                is_changed = true;
            } else {
                kept.push(value);
            }
        }
        *each = kept;
    }
    Ok(is_changed.then(|| raw(&whole)))
}

/// Returns an error of an update in MongoDB's words where these name what was asked.
pub(super) fn in_words_of(error: CommandError, operation: &RawDocument) -> CommandError {
    let update = ["u", "update"].into_iter().find_map(|field| {
        let update = operation.get(field).ok()??;
        update.as_document()
    });
    let Some(update) = update else {
        return error;
    };
    let has = |operator: &str| matches!(update.get(operator), Ok(Some(_)));
    let id = || {
        update
            .get("_id")
            .ok()?
            .and_then(|id| Bson::try_from(id).ok())
    };
    let message = match error.code {
        14 if has("$inc") && !has("$mul") => {
            error
                .message
                .replacen("Cannot apply $mul to", "Cannot apply $inc to", 1)
        }
        9 if error.message == "The destination field is an invalid array element"
            && !has("$rename") =>
        {
            let message = in_empty_array(update).unwrap_or_else(|| error.message.clone());
            return CommandError::new(28, "PathNotViable", message);
        }
        28 if has("$rename") && error.message.starts_with("Invalid array index path") => {
            return CommandError::bad_value("The source field cannot be an array element");
        }
        28 => match uncreated(&error.message, update) {
            Some(message) if message.starts_with("Cannot create field '$' in") => {
                let message =
                    "The positional operator did not find the match needed from the query.";
                return CommandError::bad_value(message);
            }
            Some(message) => match no_array(&message) {
                Some(message) => return CommandError::bad_value(message),
                None => message,
            },
            None => return error,
        },
        66 if error.message == "Cannot modify '_id' field as part of the operation" => match id() {
            Some(id) => format!(
                "After applying the update, the (immutable) field '_id' was found to have been altered to _id: {}",
                shell_text(&id)
            ),
            None => return error,
        },
        _ => return error,
    };
    CommandError { message, ..error }
}

/// A field of an empty array; the engine says only that there is one.
fn in_empty_array(update: &RawDocument) -> Option<String> {
    let mut paths = Vec::new();
    for (_, fields) in update.iter().flatten() {
        let fields = fields.as_document().into_iter().flatten().flatten();
        paths.extend(fields.map(|(path, _)| path.as_str()));
    }
    let [path] = paths.as_slice() else {
        return None;
    };
    let (array, field) = path
        .split_once('.')
        .filter(|(_, field)| !field.contains('.'))?;
    Some(format!(
        "Cannot create field '{field}' in element {{{array}: []}}"
    ))
}

/// What is said where positions of what is no array are asked for.
fn no_array(message: &str) -> Option<String> {
    let rest = message.strip_prefix("Cannot create field '$[")?;
    let (_, element) = rest.split_once("]' in element {")?;
    let element = element.strip_suffix('}')?;
    Some(format!(
        "Cannot apply array updates to non-array element {element}"
    ))
}

/// `Cannot create field 'c' in element {b: 5}`: the engine names the element twice and its value as its own.
fn uncreated(message: &str, update: &RawDocument) -> Option<String> {
    let rest = message.strip_prefix("Cannot create field '")?;
    let (element, value) = rest.split_once("' in element {")?;
    let value = value.strip_prefix(element)?.strip_prefix(" : ")?;
    let mut created = Vec::new();
    for (_, fields) in update.iter().flatten() {
        for (path, _) in fields.as_document().into_iter().flatten().flatten() {
            let parts: Vec<&str> = path.as_str().split('.').collect();
            let pairs = parts.windows(2).filter(|pair| pair[0] == element);
            created.extend(pairs.map(|pair| pair[1].to_owned()));
        }
    }
    created.dedup();
    match created.as_slice() {
        [field] => Some(format!(
            "Cannot create field '{field}' in element {{{element}: {value}"
        )),
        _ => None,
    }
}

/// MongoDB adds new fields in the order of their names, whatever operators add them; the engine in the order
/// they are written. An operator may come more than once here, which only the engine sees; where it knows it once,
/// all its fields come with its first.
fn ordered(update: &RawDocument, is_once: bool) -> Result<Option<RawDocumentBuf>, CommandError> {
    let mut added = Vec::new();
    let mut others = RawDocumentBuf::new();
    for element in update {
        let (operator, value) = element?;
        let adds = ADDING.contains(&operator.as_str());
        match value {
            RawBsonRef::Document(fields) if adds && !fields.is_empty() => {
                for field in fields {
                    let (path, value) = field?;
                    let new = match (operator.as_str(), value.as_str()) {
                        ("$rename", Some(to)) => to,
                        _ => path.as_str(),
                    };
                    added.push((new, operator, path, value));
                }
            }
            _ => others.append(operator, value),
        }
    }
    if added.is_sorted_by(|(a, ..), (b, ..)| by_parts(a, b) != Ordering::Greater) {
        return Ok(None);
    }
    added.sort_by(|(a, ..), (b, ..)| by_parts(a, b));
    if is_once {
        let first: Vec<_> = added.iter().map(|(_, operator, ..)| *operator).collect();
        added.sort_by_key(|(_, operator, ..)| first.iter().position(|one| one == operator));
    }
    let mut whole = RawDocumentBuf::new();
    for same in added.chunk_by(|(_, a, ..), (_, b, ..)| a == b) {
        let mut fields = RawDocumentBuf::new();
        for (_, _, path, value) in same {
            fields.append(*path, *value);
        }
        if let Some((_, operator, ..)) = same.first() {
            whole.append(*operator, fields);
        }
    }
    for element in &others {
        let (operator, value) = element?;
        whole.append(operator, value);
    }
    Ok(Some(whole))
}

/// `$pull` of what fits a pattern: the engine takes the pattern for a value.
fn with_pulled(update: &RawDocument) -> Result<Option<Document>, CommandError> {
    let Some(RawBsonRef::Document(pulled)) = update.get("$pull")? else {
        return Ok(None);
    };
    let mut is_other = false;
    for element in pulled {
        let (_, value) = element?;
        match value {
            RawBsonRef::RegularExpression(_) => is_other = true,
            RawBsonRef::Document(condition) => {
                is_other |= condition.is_empty();
                check_condition(condition)?;
            }
            _ => {}
        }
    }
    if !is_other {
        return Ok(None);
    }
    let mut update = Document::try_from(update)?;
    for (_, value) in update.get_document_mut("$pull")?.iter_mut() {
        match value {
            Bson::RegularExpression(_) => *value = bson::bson!({ "$in": [value.clone()] }),
            // Every document, which the engine takes for everything.
            Bson::Document(all) if all.is_empty() => {
                *value = bson::bson!({ "$type": "object" });
            }
            _ => {}
        }
    }
    Ok(Some(update))
}

/// What is no condition of an element.
fn check_condition(condition: &RawDocument) -> Result<(), CommandError> {
    for (place, element) in condition.iter().enumerate() {
        let (name, _) = element?;
        if place == 0 && name.as_str() == "$not" {
            return Err(CommandError::bad_value(
                "unknown top level operator: $not. If you are trying to negate an entire expression, use $nor.",
            ));
        }
        check_allowed(name.as_str())?;
    }
    Ok(())
}

/// What needs a whole document of a collection, which neither an element nor an array filter is.
pub(super) fn check_allowed(name: &str) -> Result<(), CommandError> {
    let message = format!("{name} is not allowed in this context");
    match name {
        "$where" | "$text" => Err(CommandError::bad_value(message)),
        "$expr" => Err(CommandError::new(224, "QueryFeatureNotAllowed", message)),
        _ => Ok(()),
    }
}

/// What adds nothing changes nothing, which the engine counts as a change: `$inc` by zero is `$mul` by one, and
/// `$push` of no values is `$pullAll` of none; but it makes the array of a document that is inserted.
fn with_idle(
    update: &RawDocument,
    is_upsert: bool,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    let mut written = RawDocumentBuf::new();
    let (mut factors, mut nothing) = (RawDocumentBuf::new(), RawDocumentBuf::new());
    for element in update {
        let (operator, value) = element?;
        let RawBsonRef::Document(fields) = value else {
            written.append(operator, value);
            continue;
        };
        let mut others = RawDocumentBuf::new();
        for field in fields {
            let (path, value) = field?;
            match (operator.as_str(), value) {
                ("$inc", RawBsonRef::Int32(0)) => factors.append(path, 1_i32),
                ("$inc", RawBsonRef::Int64(0)) => factors.append(path, 1_i64),
                ("$inc", RawBsonRef::Double(zero)) if zero.to_bits() == 0 => {
                    factors.append(path, 1.0);
                }
                ("$push", RawBsonRef::Document(added)) if !is_upsert && is_nothing(added)? => {
                    nothing.append(path, RawArrayBuf::new());
                }
                _ => others.append(path, value),
            }
        }
        if fields.is_empty() || !others.is_empty() {
            written.append(operator, others);
        }
    }
    if factors.is_empty() && nothing.is_empty() {
        return Ok(None);
    }
    for (operator, fields) in [(cstr!("$mul"), factors), (cstr!("$pullAll"), nothing)] {
        if !fields.is_empty() {
            written.append(operator, fields);
        }
    }
    Ok(Some(written))
}

/// Returns whether all that is pushed is an empty `$each`.
fn is_nothing(added: &RawDocument) -> Result<bool, CommandError> {
    let is_alone = added.iter().count() == 1;
    Ok(is_alone && matches!(added.get("$each")?, Some(RawBsonRef::Array(each)) if each.is_empty()))
}

/// What may not be added, compared with or multiplied.
fn check_operands(update: &RawDocument) -> Result<(), CommandError> {
    for element in update {
        let (operator, RawBsonRef::Document(fields)) = element? else {
            continue;
        };
        for field in fields {
            let (path, operand) = field?;
            let is_number = matches!(
                operand,
                RawBsonRef::Int32(_)
                    | RawBsonRef::Int64(_)
                    | RawBsonRef::Double(_)
                    | RawBsonRef::Decimal128(_)
            );
            if operator.as_str() == "$inc" && !is_number {
                let operand = shell_text(&Bson::try_from(operand)?);
                let message =
                    format!("Cannot increment with non-numeric argument: {{{path}: {operand}}}");
                return Err(CommandError::type_mismatch(message));
            }
            if let ("$currentDate", RawBsonRef::Document(kind)) = (operator.as_str(), operand) {
                check_kind_of_date(kind)?;
            }
            let is_nan = match operand {
                RawBsonRef::Double(number) => number.is_nan(),
                RawBsonRef::Decimal128(number) => {
                    operator.as_str() == "$min" && number.to_string() == "NaN"
                }
                _ => false,
            };
            if matches!(operator.as_str(), "$min" | "$max") && is_nan {
                // The engine takes it for greater and smaller than nothing.
                return Err(CommandError::not_supported(format_args!(
                    "{operator} with NaN"
                )));
            }
        }
    }
    Ok(())
}

fn check_kind_of_date(kind: &RawDocument) -> Result<(), CommandError> {
    for element in kind {
        let (option, _) = element?;
        if option.as_str() != "$type" {
            let message = format!("Unrecognized $currentDate option: {option}");
            return Err(CommandError::bad_value(message));
        }
    }
    Ok(())
}

/// What MongoDB refuses in an update and the engine takes.
fn check_update(update: &RawDocument) -> Result<(), CommandError> {
    check_renames(update)?;
    check_operands(update)?;
    let Some(RawBsonRef::Document(inserted)) = update.get("$setOnInsert")? else {
        return Ok(());
    };
    for element in update {
        let (operator, fields) = element?;
        let (true, RawBsonRef::Document(fields)) = (operator.as_str() != "$setOnInsert", fields)
        else {
            continue;
        };
        for field in fields {
            let (path, _) = field?;
            for element in inserted {
                let (other, _) = element?;
                check_conflict(path.as_str(), other.as_str())?;
            }
        }
    }
    Ok(())
}

fn check_conflict(path: &str, other: &str) -> Result<(), CommandError> {
    let is_above = |above: &str, below: &str| {
        below
            .strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let at = if is_above(path, other) { path } else { other };
    if !is_above(path, other) && !is_above(other, path) {
        return Ok(());
    }
    Err(CommandError::new(
        40,
        "ConflictingUpdateOperators",
        format!("Updating the path '{other}' would create a conflict at '{at}'"),
    ))
}

fn check_renames(update: &RawDocument) -> Result<(), CommandError> {
    let Some(RawBsonRef::Document(renames)) = update.get("$rename")? else {
        return Ok(());
    };
    for rename in renames {
        let (from, to) = rename?;
        if to.as_str() == Some(from.as_str()) {
            return Err(CommandError::bad_value(format!(
                "The source and target field for $rename must differ: {from}: \"{from}\""
            )));
        }
        let inside = |a: &str, b: &str| b.strip_prefix(a).is_some_and(|rest| rest.starts_with('.'));
        if let Some(to) = to.as_str()
            && (inside(from.as_str(), to) || inside(to, from.as_str()))
        {
            return Err(CommandError::bad_value(format!(
                "The source and target field for $rename must not be on the same path: {from}: \"{to}\""
            )));
        }
    }
    Ok(())
}

/// Compares paths part by part, numbers as numbers.
fn by_parts(a: &str, b: &str) -> Ordering {
    let by_part = |(a, b): (&str, &str)| match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a.cmp(b),
    };
    let parts = a.split('.').zip(b.split('.')).map(by_part);
    let first = parts.into_iter().find(|order| order.is_ne());
    first.unwrap_or_else(|| a.split('.').count().cmp(&b.split('.').count()))
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn fields_come_in_the_order_of_their_names_over_all_operators() {
        let update = raw(
            &doc! { "$set": { "z": 1, "a.10": 1, "a.9": 1 }, "$unset": { "y": 1 }, "$inc": { "b": 2 } },
        );
        let ordered_update = ordered(&update, false)
            .expect("it is well-formed")
            .expect("it was not in order");
        let operators: Vec<String> = ordered_update
            .iter()
            .map(|element| {
                let (operator, fields) = element.expect("it is well-formed");
                let fields = fields.as_document().expect("operators hold documents");
                let names = fields.iter().flatten().map(|(name, _)| name.to_string());
                format!("{operator} {}", names.collect::<Vec<_>>().join(" "))
            })
            .collect();
        assert_eq!(operators, ["$set a.9 a.10", "$inc b", "$set z", "$unset y"]);
        let already = raw(&doc! { "$set": { "a": 1 }, "$inc": { "b": 1 } });
        assert_eq!(ordered(&already, false).expect("it is well-formed"), None);
    }

    #[test]
    fn an_operator_comes_once_where_the_engine_knows_it_once() {
        let update = raw(&doc! { "$inc": { "c": 1, "a": 1 }, "$set": { "b": 1 } });
        let written = ordered(&update, true).expect("it is well-formed");
        let written = written.expect("it was not in order");
        assert_eq!(
            Document::try_from(written).expect("it is well-formed"),
            doc! { "$inc": { "a": 1, "c": 1 }, "$set": { "b": 1 } }
        );
    }
}
