//! Field paths and names: what MongoDB refuses in them and the engine takes for a
//! text, for nothing, or for a path.

use bson::{Bson, Document};

use super::expressions::only;
use super::operands::{check_operands, check_single, check_variable};
use crate::error::CommandError;

/// Checks what holds expressions under paths: a projection, or fields that are added.
pub(super) fn check_specification(value: &Bson) -> Result<(), CommandError> {
    match value {
        Bson::Document(fields) if !is_operator(fields) => {
            fields.values().try_for_each(check_specification)
        }
        expression => check_expression(expression),
    }
}

/// Checks an expression in every depth.
pub(super) fn check_expression(value: &Bson) -> Result<(), CommandError> {
    match value {
        Bson::String(text) => match text.strip_prefix('$') {
            Some("") => Err(CommandError::new(
                16872,
                "Location16872",
                "'$' by itself is not a valid FieldPath",
            )),
            Some(path) => match path.strip_prefix('$') {
                Some(variable) => check_variable(variable).and_then(|()| check_path(variable)),
                None => check_path(path),
            },
            None if text.len() >= LONGEST_TEXT => Err(CommandError::new(
                16493,
                "Location16493",
                "Tried to create string longer than 16MB",
            )),
            None => Ok(()),
        },
        Bson::Array(values) => values.iter().try_for_each(check_expression),
        Bson::Document(fields) => {
            check_single(fields)?;
            for (name, value) in fields {
                check_name(name)?;
                check_operands(name, value)?;
                if !matches!(name.as_str(), "$literal" | "$const" | "$meta" | "sortBy") {
                    check_expression(value)?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// An object's fields are no paths; the engine goes into them.
fn check_name(name: &str) -> Result<(), CommandError> {
    if name.contains('.') && !name.starts_with('$') {
        return Err(with_point());
    }
    Ok(())
}

pub(super) fn with_point() -> CommandError {
    let message =
        "FieldPath field names may not contain '.'. Consider using $getField or $setField.";
    CommandError::new(16412, "Location16412", message)
}

pub(super) fn with_empty() -> CommandError {
    let message = "FieldPath field names may not be empty strings.";
    CommandError::new(15998, "Location15998", message)
}

pub(super) fn is_operator(fields: &Document) -> bool {
    only(fields).is_some_and(|(name, _)| name.starts_with('$'))
}

/// Whether a name is one that operators alone have; those of a reference to a document are fields.
fn is_operators(name: &str) -> bool {
    name.starts_with('$') && !REFERENCE.contains(&name)
}

/// The fields of a DBRef.
const REFERENCE: [&str; 3] = ["$ref", "$id", "$db"];
/// A text in an expression is shorter than this, in bytes.
const LONGEST_TEXT: usize = 16 * 1024 * 1024;
/// A path goes through up to this many fields.
const LONGEST: usize = 200;

/// Returns why a field path is none.
pub(super) fn check_path(path: &str) -> Result<(), CommandError> {
    let (code, name, message) = if path.is_empty() {
        let message = "FieldPath cannot be constructed with empty string";
        (40352, "Location40352", message)
    } else if path.ends_with('.') {
        (40353, "Location40353", "FieldPath must not end with a '.'.")
    } else if path.split('.').any(str::is_empty) {
        return Err(with_empty());
    } else if path.contains('\0') {
        let message = "FieldPath field names may not contain '\\0'.";
        (16411, "Location16411", message)
    } else if path.split('.').count() > LONGEST {
        (15, "Overflow", "FieldPath is too long")
    } else if path.split('.').any(is_operators) {
        let message =
            "FieldPath field names may not start with '$'. Consider using $getField or $setField.";
        (16410, "Location16410", message)
    } else {
        return Ok(());
    };
    Err(CommandError::new(code, name, message))
}
