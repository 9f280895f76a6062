//! What MongoDB finds wrong with an operator's operands before it looks at any
//! document, and the engine not, or under another code.

use bson::{Bson, Document};

use super::expressions::only;
use crate::error::CommandError;

/// Operators that name one part of a date.
pub(super) const PARTS_OF_DATES: [&str; 13] = [
    "$year",
    "$month",
    "$week",
    "$dayOfMonth",
    "$dayOfWeek",
    "$dayOfYear",
    "$hour",
    "$minute",
    "$second",
    "$millisecond",
    "$isoDayOfWeek",
    "$isoWeek",
    "$isoWeekYear",
];
/// Others whose options have a timezone.
const ZONED: [&str; 7] = [
    "$dateAdd",
    "$dateSubtract",
    "$dateDiff",
    "$dateTrunc",
    "$dateToParts",
    "$dateToString",
    "$dateFromString",
];

/// Checks the operands of one operator; not what is inside them.
pub(super) fn check_operands(name: &str, operands: &Bson) -> Result<(), CommandError> {
    if let Bson::Document(options) = operands
        && (PARTS_OF_DATES.contains(&name) || ZONED.contains(&name))
        && let Some(Bson::String(zone)) = options.get("timezone").and_then(constant)
    {
        check_zone(zone)?;
    }
    match (name, operands) {
        ("$setEquals", Bson::Array(sets)) => check_sets(sets),
        ("$toString", Bson::Array(one)) if one.len() != 1 => {
            let message = format!("{name} requires a single argument, got {}", one.len());
            Err(CommandError::new(50723, "Location50723", message))
        }
        ("$sortArray", Bson::Document(options)) => {
            options.get("sortBy").map_or(Ok(()), check_order)
        }
        ("$setField" | "$unsetField", Bson::Document(options)) => check_field(name, options),
        ("$let", Bson::Document(options)) => match options.get("vars") {
            Some(Bson::Document(variables)) => variables
                .keys()
                .try_for_each(|name| check_new_variable(name)),
            Some(Bson::Array(values)) if !values.is_empty() => check_new_variable("0"),
            _ => Ok(()),
        },
        ("$mod", Bson::Array(operands)) => match operands.as_slice() {
            [_, by] if is_decimal_zero(by) => Err(CommandError::new(
                5_733_415,
                "Location5733415",
                "can't $mod by zero",
            )),
            _ => Ok(()),
        },
        ("$round" | "$trunc", Bson::Array(operands)) => match operands.get(1).and_then(constant) {
            Some(Bson::Decimal128(places)) if places.to_string() == "NaN" => {
                let message = format!("precision argument to  {name} must be a integral value");
                Err(CommandError::new(51082, "Location51082", message))
            }
            _ => Ok(()),
        },
        ("$zip", Bson::Document(options)) => {
            let is_no_list = |field: &str| {
                options
                    .get(field)
                    .is_some_and(|list| list.as_array().is_none())
            };
            if is_no_list("inputs") {
                return Err(CommandError::new(
                    34461,
                    "Location34461",
                    "inputs must be an array of expressions",
                ));
            }
            if is_no_list("defaults") {
                return Err(CommandError::new(
                    34462,
                    "Location34462",
                    "defaults must be an array of expressions",
                ));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Checks a path that begins with a variable, without its `$$`.
pub(super) fn check_variable(path: &str) -> Result<(), CommandError> {
    let name = path.split('.').next().unwrap_or_default();
    check_letters(name, |first| first.is_ascii_alphabetic())
}

/// An object that is an expression has one operator.
pub(super) fn check_single(fields: &Document) -> Result<(), CommandError> {
    match fields.keys().next() {
        Some(first) if first.starts_with('$') && fields.len() > 1 => {
            let message = format!(
                "an object representing an expression must have exactly one field: {fields}"
            );
            Err(CommandError::new(15983, "Location15983", message))
        }
        _ => Ok(()),
    }
}

fn check_new_variable(name: &str) -> Result<(), CommandError> {
    if name == "CURRENT" {
        return Ok(());
    }
    check_letters(name, |first| first.is_ascii_lowercase())
}

fn check_letters(name: &str, may_begin: fn(char) -> bool) -> Result<(), CommandError> {
    let Some(first) = name.chars().next() else {
        return Err(CommandError::failed_to_parse(
            "empty variable names are not allowed",
        ));
    };
    if first.is_ascii() && !may_begin(first) {
        return Err(CommandError::failed_to_parse(format!(
            "'{name}' starts with an invalid character for a user variable name"
        )));
    }
    let is_inside =
        |letter: &char| letter.is_ascii() && !letter.is_ascii_alphanumeric() && *letter != '_';
    match name.chars().find(is_inside) {
        Some(letter) => Err(CommandError::failed_to_parse(format!(
            "'{name}' contains an invalid character for a variable name: '{letter}'"
        ))),
        None => Ok(()),
    }
}

/// The value of an operand that is a constant, as far as it is seen at once.
pub(super) fn constant(operand: &Bson) -> Option<&Bson> {
    match operand {
        Bson::String(text) => (!text.starts_with('$')).then_some(operand),
        Bson::Document(fields) => match only(fields) {
            Some(("$literal" | "$const", value)) => Some(value),
            _ => fields.is_empty().then_some(operand),
        },
        Bson::Array(_) => None,
        value => Some(value),
    }
}

/// MongoDB tells capital letters in the name of a timezone from small ones, the engine not: an area or a city begins
/// with one and goes on small.
fn check_zone(zone: &str) -> Result<(), CommandError> {
    let is_whole = !zone.contains('/');
    let is_wrong = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_lowercase())
            || (!is_whole
                && part.len() > 3
                && part.chars().all(|letter| !letter.is_ascii_lowercase())
                && part
                    .chars()
                    .all(|letter| letter.is_ascii_alphabetic() || letter == '_'))
    };
    if !zone.is_empty() && !zone.split('/').any(is_wrong) {
        return Ok(());
    }
    let message = format!("unrecognized time zone identifier: \"{zone}\"");
    Err(CommandError::new(40485, "Location40485", message))
}

fn check_sets(sets: &[Bson]) -> Result<(), CommandError> {
    let is_none = |set: &&Bson| constant(set).is_some_and(|value| value.as_array().is_none());
    match sets.iter().find(is_none) {
        Some(set) if sets.len() > 1 => Err(CommandError::new(
            5_887_502,
            "Location5887502",
            format!("All operands of $setEquals must be arrays. Found: {set}"),
        )),
        _ => Ok(()),
    }
}

fn is_direction(value: &Bson) -> Option<bool> {
    match value {
        Bson::Int32(number) => Some(number.unsigned_abs() == 1),
        Bson::Int64(number) => Some(number.unsigned_abs() == 1),
        Bson::Double(number) => Some(number.abs() == 1.0),
        Bson::Decimal128(number) => Some(
            number
                .to_string()
                .parse()
                .is_ok_and(|number: f64| number.abs() == 1.0),
        ),
        _ => None,
    }
}

fn check_order(order: &Bson) -> Result<(), CommandError> {
    match order {
        Bson::Document(keys) => {
            let is_order = |value: &Bson| is_direction(value) == Some(true);
            if keys.is_empty() || !keys.values().all(is_order) {
                return Err(CommandError::new(
                    2_942_505,
                    "Location2942505",
                    "Invalid sort clause: every direction has to be 1 or -1",
                ));
            }
            Ok(())
        }
        order => match is_direction(order) {
            Some(true) => Ok(()),
            Some(false) => Err(CommandError::new(
                2_942_506,
                "Location2942506",
                "The $sortArray direction must be 1 or -1",
            )),
            None => Err(CommandError::new(
                2_942_507,
                "Location2942507",
                "The $sortArray sortBy must be a number or an object",
            )),
        },
    }
}

/// The engine cuts a name at its zero byte.
fn check_field(name: &str, options: &Document) -> Result<(), CommandError> {
    match options.get("field").and_then(constant) {
        Some(Bson::String(field)) if field.contains('\0') => {
            let message = format!("{name}: 'field' must not contain an embedded null byte");
            Err(CommandError::new(9_534_700, "Location9534700", message))
        }
        _ => Ok(()),
    }
}

fn is_decimal_zero(operand: &Bson) -> bool {
    matches!(constant(operand), Some(Bson::Decimal128(number)) if number.to_string().parse() == Ok(0.0_f64))
}
