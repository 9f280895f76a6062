//! What MongoDB refuses in stages and the engine takes, or refuses with another code.

use bson::{Bson, Document};

use super::accumulators::has_operator;
use super::expressions::only;
use super::geo::number;
use super::paths::{check_expression, check_path, check_specification, with_empty};
use super::{near, only_field, projections};
use crate::error::CommandError;

/// The engine ends, or writes nothing, where documents that are in no collection are to be written into one.
pub(super) fn check_documents(pipeline: &[Bson]) -> Result<(), CommandError> {
    let [first, .., last] = pipeline else {
        return Ok(());
    };
    let is_documents = |stage: &Bson| matches!(only_field(stage), Ok(("$documents", _)));
    if pipeline.iter().skip(1).any(is_documents) {
        let message = "$documents is only valid as the first stage in a pipeline";
        return Err(CommandError::new(40602, "Location40602", message));
    }
    match (only_field(first)?, only_field(last)?) {
        (("$documents", _), (name @ ("$out" | "$merge"), _)) => Err(CommandError::not_supported(
            format_args!("{name} of a pipeline that begins with $documents"),
        )),
        _ => Ok(()),
    }
}

/// What MongoDB refuses in a stage and the engine takes.
pub(super) fn check_plain(name: &str, value: &Bson) -> Result<(), CommandError> {
    match (name, value) {
        ("$count", Bson::String(field)) => check_count(field),
        ("$addFields" | "$set", Bson::Document(fields)) => {
            check_added(name, fields)?;
            check_specification(value)
        }
        ("$project", Bson::Document(projection)) => {
            projections::check(projection)?;
            check_specification(value)
        }
        ("$sortByCount", Bson::String(path)) if !path.starts_with('$') => {
            let message = "the sortByCount field must be defined as a $-prefixed path or an expression inside an object";
            Err(CommandError::new(40148, "Location40148", message))
        }
        ("$sortByCount", key) if !matches!(key, Bson::String(_) | Bson::Document(_)) => {
            let message = "the sortByCount field must be specified as a string or as an object";
            Err(CommandError::new(40149, "Location40149", message))
        }
        ("$redact", decision) => check_decision(decision),
        ("$replaceRoot" | "$replaceWith", _) => check_expression(value),
        ("$group", Bson::Document(group)) => check_group(group),
        ("$unwind", Bson::String(path)) => unwound(path),
        ("$unwind", Bson::Document(unwind)) => check_unwind(unwind),
        ("$fill", Bson::Document(fill))
            if fill.get_document("output").is_ok_and(Document::is_empty) =>
        {
            let message = "The output field to $fill must not be empty";
            Err(CommandError::new(6_050_203, "Location6050203", message))
        }
        ("$densify", Bson::Document(densify)) => check_densify(densify),
        ("$geoNear", near) => near::check(near),
        ("$bucket", Bson::Document(bucket)) => {
            check_bucket(bucket).and_then(|()| check_grouping(bucket))
        }
        ("$bucketAuto", Bson::Document(bucket)) => check_grouping(bucket),
        ("$unset", Bson::String(path)) => projections::check_exclusions([path.as_str()]),
        ("$unset", Bson::Array(paths)) => {
            projections::check_exclusions(paths.iter().filter_map(Bson::as_str))
        }
        ("$sort", Bson::Document(keys)) => check_sort_stage(keys),
        ("$setWindowFields", Bson::Document(windows)) => check_windows(windows),
        ("$limit" | "$skip", Bson::Decimal128(count)) => check_whole(name, &count.to_string()),
        _ => Ok(()),
    }
}

/// Why a text is no name for a count.
fn check_count(field: &str) -> Result<(), CommandError> {
    let (code, name, message) = if field.is_empty() {
        (
            40157,
            "Location40157",
            "the count field must be a non-empty string",
        )
    } else if field.starts_with('$') {
        (
            40158,
            "Location40158",
            "the count field cannot be a $-prefixed path",
        )
    } else if field.contains('\0') {
        (
            40159,
            "Location40159",
            "the count field cannot contain a null byte",
        )
    } else if field.contains('.') {
        (40160, "Location40160", "the count field cannot contain '.'")
    } else if field == "_id" {
        (
            9_039_800,
            "Location9039800",
            "the count field cannot be '_id'",
        )
    } else {
        return Ok(());
    };
    Err(CommandError::new(code, name, message))
}

fn unwound(path: &str) -> Result<(), CommandError> {
    match path.strip_prefix('$') {
        Some(_) if path.contains('\0') => Err(CommandError::new(
            16419,
            "Location16419",
            "field path must not contain embedded null bytes",
        )),
        Some(path) if !path.starts_with('$') => check_path(path),
        _ => Ok(()),
    }
}

/// A decimal that is no number of documents; the engine rounds some of them.
fn check_whole(stage: &str, text: &str) -> Result<(), CommandError> {
    let Ok(number) = text.parse::<f64>() else {
        return Ok(());
    };
    let digits = text.split('E').next().unwrap_or_default();
    let is_special = !digits.bytes().any(|digit| digit.is_ascii_digit());
    let is_zero = !digits.bytes().any(|digit| matches!(digit, b'1'..=b'9'));
    let is_whole = text.parse::<i64>().is_ok()
        || (number.abs() < MOST_DOCUMENTS && number.fract() == 0.0 && (number != 0.0 || is_zero));
    if is_special || is_whole {
        return Ok(());
    }
    let (code, name) = match stage {
        "$limit" => (5_107_201, "Location5107201"),
        _ => (5_107_200, "Location5107200"),
    };
    let message = format!("invalid argument to {stage} stage: Expected an integer: {text}");
    Err(CommandError::new(code, name, message))
}

/// Two to the 63rd.
const MOST_DOCUMENTS: f64 = 9_223_372_036_854_775_808.0;

/// The fields are looked at in their order.
fn check_unwind(unwind: &Document) -> Result<(), CommandError> {
    for (field, value) in unwind {
        match (field.as_str(), value) {
            ("path", Bson::String(path)) => unwound(path)?,
            ("path", _) => {
                let message = "expected a string as the path for $unwind stage";
                return Err(CommandError::new(28808, "Location28808", message));
            }
            ("includeArrayIndex", Bson::String(index)) if !index.is_empty() => {
                if index.starts_with('$') {
                    let message = "includeArrayIndex option to $unwind stage should not be prefixed with a '$'";
                    return Err(CommandError::new(28822, "Location28822", message));
                }
                check_path(index)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The engine descends with `$$ROOT`, which stays the whole document at MongoDB.
fn check_decision(decision: &Bson) -> Result<(), CommandError> {
    let reads_root = |text: &str| text == "$$ROOT" || text.starts_with("$$ROOT.");
    let descends = reads(decision, &|text| text == "$$DESCEND");
    if descends && reads(decision, &reads_root) {
        return Err(CommandError::not_supported(
            "$$ROOT in a $redact that descends",
        ));
    }
    check_expression(decision)
}

/// Whether an expression has a text that is no literal and meets a condition.
pub(super) fn reads(expression: &Bson, meets: &dyn Fn(&str) -> bool) -> bool {
    match expression {
        Bson::String(text) => meets(text),
        Bson::Array(values) => values.iter().any(|value| reads(value, meets)),
        Bson::Document(fields) => fields
            .iter()
            .any(|(name, value)| name != "$literal" && reads(value, meets)),
        _ => false,
    }
}

/// The engine takes an expression of a default for an object.
fn check_bucket(bucket: &Document) -> Result<(), CommandError> {
    for (field, value) in bucket {
        match (field.as_str(), value) {
            ("groupBy", Bson::String(path)) if !path.starts_with('$') => {
                let message = "The $bucket 'groupBy' field must be defined as a $-prefixed path or an expression";
                return Err(CommandError::new(40202, "Location40202", message));
            }
            ("boundaries", boundaries) if boundaries.as_array().is_none() => {
                let message = "The $bucket 'boundaries' field must be an array";
                return Err(CommandError::new(40200, "Location40200", message));
            }
            ("groupBy" | "boundaries" | "default" | "output", _) => {}
            _ => break,
        }
    }
    let boundaries = bucket.get_array("boundaries").ok();
    if let (Some(boundaries), Some(default)) = (boundaries, bucket.get("default"))
        && is_between(default, boundaries)
    {
        let message = "The $bucket 'default' field must be less than the lowest boundary or greater than or equal to the highest boundary.";
        return Err(CommandError::new(40199, "Location40199", message));
    }
    let mut constants = boundaries
        .into_iter()
        .flatten()
        .chain(bucket.get("default"));
    let is_computed = |constant: &Bson| constant.as_document().is_some_and(has_operator);
    if constants.any(is_computed) {
        return Err(CommandError::not_supported(
            "$bucket with a computed boundary or default",
        ));
    }
    Ok(())
}

/// Whether a number is one that a bucket takes; the engine compares those of one type only.
fn is_between(default: &Bson, boundaries: &[Bson]) -> bool {
    let (Some(first), Some(last)) = (boundaries.first(), boundaries.last()) else {
        return false;
    };
    match (number(first), number(default), number(last)) {
        (Some(first), Some(default), Some(last)) => first <= default && default < last,
        _ => false,
    }
}

fn check_grouping(bucket: &Document) -> Result<(), CommandError> {
    bucket.get("groupBy").map_or(Ok(()), check_expression)?;
    bucket.get_document("output").map_or(Ok(()), check_group)
}

/// The engine gives documents that it adds a field of that name.
fn check_densify(densify: &Document) -> Result<(), CommandError> {
    let is_known =
        |field: &&String| matches!(field.as_str(), "field" | "partitionByFields" | "range");
    if let Some(field) = densify.keys().find(|field| !is_known(field)) {
        let message = format!("BSON field '$densify.{field}' is an unknown field.");
        return Err(CommandError::new(40415, "IDLUnknownField", message));
    }
    match densify.get_str("field") {
        Ok(field) if field.contains('.') && check_path(field).is_ok() => Err(
            CommandError::not_supported("$densify of a field inside another"),
        ),
        _ => Ok(()),
    }
}

fn check_group(group: &Document) -> Result<(), CommandError> {
    for (field, value) in group {
        if field != "_id" && field.starts_with('$') {
            let message = format!("The field name '{field}' cannot be an operator name");
            return Err(CommandError::new(40236, "Location40236", message));
        }
        let Bson::Document(fields) = value else {
            check_expression(value)?;
            continue;
        };
        match only(fields) {
            _ if field != "_id"
                && !fields
                    .keys()
                    .next()
                    .is_some_and(|name| name.starts_with('$')) =>
            {
                let message = format!("The field '{field}' must be an accumulator object");
                return Err(CommandError::new(40234, "Location40234", message));
            }
            Some((operator, Bson::Array(_))) if field != "_id" => {
                let message = format!("The {operator} accumulator is a unary operator");
                return Err(CommandError::new(40237, "Location40237", message));
            }
            _ if field == "_id" && !has_operator(fields) => check_key(fields)?,
            // One operator too many is the engine's to tell.
            None if field != "_id" => {
                fields.values().try_for_each(check_expression)?;
                continue;
            }
            _ => {}
        }
        check_expression(value)?;
    }
    Ok(())
}

/// A key's fields are expressions; a number or a boolean looks like a projection's.
fn check_key(fields: &Document) -> Result<(), CommandError> {
    if fields.contains_key("") {
        return Err(with_empty());
    }
    let is_inclusion = |value: &Bson| {
        matches!(
            value,
            Bson::Int32(_)
                | Bson::Int64(_)
                | Bson::Double(_)
                | Bson::Decimal128(_)
                | Bson::Boolean(_)
        )
    };
    if fields.values().any(is_inclusion) {
        let message = "$group does not support inclusion-style expressions";
        return Err(CommandError::new(17390, "Location17390", message));
    }
    Ok(())
}

fn check_added(stage: &str, fields: &Document) -> Result<(), CommandError> {
    let invalid = |code: i32, name: &'static str, why: String| {
        let message = format!("Invalid {stage} :: caused by :: {why}");
        Err(CommandError::new(code, name, message))
    };
    for path in fields.keys() {
        check_path(path)?;
    }
    if let Some(name) = fields.values().find_map(dotted) {
        let why = format!("cannot use dotted field name '{name}' in a sub object");
        return invalid(40183, "Location40183", why);
    }
    for (position, path) in fields.keys().enumerate() {
        let is_above = |above: &str, below: &str| {
            below
                .strip_prefix(above)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        let before = fields.keys().take(position);
        let mut conflicting = before.filter(|seen| is_above(seen, path) || is_above(path, seen));
        if let Some(seen) = conflicting.next() {
            let why = format!(
                "specification contains two conflicting paths. Cannot specify both '{path}' and '{seen}'"
            );
            return invalid(40176, "Location40176", why);
        }
    }
    Ok(())
}

/// A name with a point of a field inside others.
fn dotted(value: &Bson) -> Option<&str> {
    let fields = value.as_document().filter(|fields| !has_operator(fields))?;
    let own = fields.keys().find(|name| name.contains('.'));
    own.map(String::as_str)
        .or_else(|| fields.values().find_map(dotted))
}

/// A sort is by up to this many fields.
const MOST_KEYS: usize = 32;

fn check_sort_stage(keys: &Document) -> Result<(), CommandError> {
    if keys.contains_key("$natural") {
        check_path("$natural")?;
    }
    check_sort(keys)
}

/// A sort's keys are field paths.
pub(crate) fn check_sort(keys: &Document) -> Result<(), CommandError> {
    for (path, order) in keys {
        if path == "$natural" {
            continue;
        }
        check_direction(path, order)?;
        check_path(path)?;
    }
    let is_field = |order: &&Bson| order.as_document().is_none();
    if keys.values().filter(is_field).count() > MOST_KEYS {
        let message = format!("too many compound keys: {}", keys.len());
        return Err(CommandError::new(13103, "Location13103", message));
    }
    Ok(())
}

fn check_direction(path: &str, order: &Bson) -> Result<(), CommandError> {
    match order {
        Bson::Document(meta) if !meta.contains_key("$meta") => {
            let message = "$meta is the only expression supported by $sort right now";
            Err(CommandError::new(17312, "Location17312", message))
        }
        Bson::Document(meta) if meta.len() > 1 => Err(CommandError::failed_to_parse(
            "Cannot have additional keys in a $meta sort specification",
        )),
        Bson::Document(_) => Ok(()),
        number => match direction(number) {
            Some(direction) if direction.abs() == 1.0 => Ok(()),
            Some(_) => {
                let message = "$sort key ordering must be 1 (for ascending) or -1 (for descending)";
                Err(CommandError::new(15975, "Location15975", message))
            }
            None => {
                let message = format!("Illegal key in $sort specification: {path}: {order}");
                Err(CommandError::new(15974, "Location15974", message))
            }
        },
    }
}

/// The whole number that a direction is taken for: a double loses its fraction, a decimal is rounded, half to even.
pub(super) fn direction(order: &Bson) -> Option<f64> {
    match order {
        Bson::Double(number) => Some(number.trunc()),
        Bson::Decimal128(number) => {
            let number: f64 = number.to_string().parse().ok()?;
            Some(number.round_ties_even())
        }
        Bson::Int32(number) => Some(f64::from(*number)),
        Bson::Int64(number) => i32::try_from(*number)
            .ok()
            .map_or(Some(0.0), |number| Some(f64::from(number))),
        _ => None,
    }
}

/// The order of windows, and what a range over it needs.
fn check_windows(windows: &Document) -> Result<(), CommandError> {
    let has_no_order = windows.get_document("sortBy").is_ok_and(Document::is_empty);
    let functions = windows.get_document("output").into_iter().flatten();
    let functions = functions.filter_map(|(_, function)| function.as_document());
    for (name, operand) in functions.flatten() {
        if has_no_order && matches!(name.as_str(), "$rank" | "$denseRank" | "$documentNumber") {
            let message = format!(
                "{name} must be specified with a top level sortBy expression with exactly one element"
            );
            return Err(CommandError::new(5_371_602, "Location5371602", message));
        }
        if name != "window" {
            check_expression(operand)?;
        }
    }
    let Ok(order) = windows.get_document("sortBy") else {
        return Ok(());
    };
    check_sort(order)?;
    let is_descending = only(order).and_then(|(_, order)| direction(order)) == Some(-1.0);
    let has_range = |function: &Bson| {
        let window = function
            .as_document()
            .map(|function| function.get_document("window"));
        matches!(window, Some(Ok(window)) if window.contains_key("range"))
    };
    let output = windows.get_document("output");
    let mut functions = output.into_iter().flat_map(Document::values);
    if is_descending && functions.any(has_range) {
        let message = "Range-based bounds require an ascending sortBy";
        return Err(CommandError::new(8_947_401, "Location8947401", message));
    }
    Ok(())
}

/// Only the engine's own vector search goes by this name; text search is Atlas's.
pub(super) fn check_search(value: &Bson) -> Result<(), CommandError> {
    match value.as_document() {
        Some(search) if search.contains_key("cosmosSearch") => Ok(()),
        _ => Err(CommandError::not_supported("Atlas Search ($search)")),
    }
}

/// A pipeline inside of a stage that joins may not write, wherever its stage stands.
pub(super) fn check_writes_nothing(stage: &str, pipeline: &[Bson]) -> Result<(), CommandError> {
    let names = pipeline
        .iter()
        .filter_map(|stage| stage.as_document()?.keys().next());
    let writing = names
        .into_iter()
        .find(|name| matches!(name.as_str(), "$out" | "$merge"));
    let (Some(writing), false) = (writing, stage == "$graphLookup") else {
        return Ok(());
    };
    let (code, name) = match stage {
        "$unionWith" => (31441, "Location31441"),
        _ => (51047, "Location51047"),
    };
    let message = format!("{writing} is not allowed within a {stage}'s sub-pipeline");
    Err(CommandError::new(code, name, message))
}

/// What the engine takes in a `$lookup` and MongoDB does not.
pub(super) fn check_lookup(lookup: &Bson) -> Result<(), CommandError> {
    let Bson::Document(lookup) = lookup else {
        return Ok(());
    };
    check_lookup_fields(lookup)?;
    for field in ["localField", "foreignField", "as"] {
        let is_given =
            |path: &&str| !path.is_empty() || field == "as" || !lookup.contains_key("pipeline");
        let path = lookup.get_str(field).ok().filter(is_given);
        path.map_or(Ok(()), check_path)?;
    }
    let variables = lookup
        .get("let")
        .filter(|variables| **variables != Bson::Null);
    if variables.is_some() && !lookup.contains_key("pipeline") {
        let message = "$lookup with a 'let' argument must also specify 'pipeline'";
        return Err(CommandError::failed_to_parse(message));
    }
    match variables {
        None => Ok(()),
        Some(Bson::Document(names)) => {
            if let Some(name) = names.keys().find(|name| name.contains('.')) {
                let message =
                    format!("'{name}' contains an invalid character for a variable name: '.'");
                return Err(CommandError::failed_to_parse(message));
            }
            names.values().try_for_each(check_expression)
        }
        Some(_) => {
            let message = "BSON field '$lookup.let' is the wrong type, expected type 'object'";
            Err(CommandError::type_mismatch(message))
        }
    }
}

/// The fields of a `$lookup` and their types; what another database is named by is refused elsewhere.
fn check_lookup_fields(lookup: &Document) -> Result<(), CommandError> {
    for (field, value) in lookup {
        match (field.as_str(), value) {
            ("localField" | "foreignField" | "as", Bson::String(_) | Bson::Null) => {}
            ("localField" | "foreignField" | "as", _) => {
                let message = format!(
                    "BSON field '$lookup.{field}' is the wrong type, expected type 'string'"
                );
                return Err(CommandError::type_mismatch(message));
            }
            ("from" | "let" | "pipeline" | "db" | "coll", _) => {}
            _ => {
                let message = format!("BSON field '$lookup.{field}' is an unknown field.");
                return Err(CommandError::new(40415, "IDLUnknownField", message));
            }
        }
    }
    if matches!(lookup.get("as"), None | Some(Bson::Null)) {
        let message = "BSON field '$lookup.as' is missing but a required field";
        return Err(CommandError::new(40414, "IDLFailedToParse", message));
    }
    Ok(())
}
