//! Where `$out` and `$merge` write.

use bson::{Bson, Document};

use super::paths::check_path;
use crate::commands::is_database_name;
use crate::error::CommandError;

/// Databases that are MongoDB's own.
const INTERNAL: [&str; 3] = ["admin", "config", "local"];

/// Returns the database, where one is named, and the collection.
pub(super) fn named<'a>(
    stage: &str,
    target: &'a Bson,
) -> Result<(Option<&'a str>, &'a str), CommandError> {
    match target {
        Bson::String(collection) if collection.is_empty() && stage == "$merge" => {
            let message = "$merge 'into' field cannot be an empty string";
            Err(CommandError::new(5_786_800, "Location5786800", message))
        }
        Bson::String(collection) => Ok((None, collection)),
        Bson::Document(target) if stage == "$out" => {
            check_fields(target)?;
            let database = required(target, "db")?;
            Ok((Some(database), required(target, "coll")?))
        }
        Bson::Document(target) => {
            let unknown = |key: &&String| !matches!(key.as_str(), "db" | "coll");
            if let Some(key) = target.keys().find(unknown) {
                return Err(CommandError::not_supported(format_args!(
                    "'{key}' of {stage}"
                )));
            }
            let text = |key: &str| target.get_str(key).ok();
            let collection = match target.get("coll") {
                Some(Bson::String(collection)) if !collection.is_empty() => Ok(collection.as_str()),
                Some(Bson::String(_) | Bson::Null) | None => {
                    let message = format!(
                        "{stage} 'into' field must specify a 'coll' that is not empty, null or undefined"
                    );
                    Err(CommandError::new(5_786_801, "Location5786801", message))
                }
                Some(_) => Err(CommandError::type_mismatch(format!(
                    "'coll' of {stage} must be a string"
                ))),
            }?;
            match (target.contains_key("db"), text("db")) {
                (true, None) => Err(CommandError::failed_to_parse(format!(
                    "'db' of {stage} must be a string"
                ))),
                (_, database) => Ok((database, collection)),
            }
        }
        _ => {
            let message = format!("{stage} only supports a string or object argument");
            let (code, name) = if stage == "$out" {
                (16990, "Location16990")
            } else {
                (51178, "Location51178")
            };
            Err(CommandError::new(code, name, message))
        }
    }
}

/// The fields of an `$out`; that of a time series exists at MongoDB.
fn check_fields(target: &Document) -> Result<(), CommandError> {
    for key in target.keys() {
        match key.as_str() {
            "db" | "coll" => {}
            "timeseries" => return Err(CommandError::not_supported("'timeseries' of $out")),
            _ => {
                let message = format!("BSON field '$out.{key}' is an unknown field.");
                return Err(CommandError::new(40415, "IDLUnknownField", message));
            }
        }
    }
    Ok(())
}

fn required<'a>(target: &'a Document, field: &str) -> Result<&'a str, CommandError> {
    match target.get(field) {
        Some(Bson::String(text)) => Ok(text),
        None | Some(Bson::Null) => {
            let message = format!("BSON field '$out.{field}' is missing but a required field");
            Err(CommandError::new(40414, "IDLFailedToParse", message))
        }
        Some(_) => Err(CommandError::type_mismatch(format!(
            "BSON field '$out.{field}' is the wrong type, expected type 'string'"
        ))),
    }
}

/// Why a collection of this name cannot be written by `$out`, or by `$merge`.
pub(super) fn check_collection(stage: &str, name: &str) -> Result<(), CommandError> {
    if name.starts_with("system.") && stage == "$merge" {
        let message = format!("Cannot $merge to special collection: {name}");
        return Err(CommandError::new(31319, "Location31319", message));
    }
    if stage == "$merge" {
        return super::checked_collection(name);
    }
    if name.starts_with("system.") {
        let message = format!("Can't $out to special collection: {name}");
        return Err(CommandError::new(17385, "Location17385", message));
    }
    if name.starts_with('$') || name.len() >= 255 {
        let message = format!("failed to $out to a collection of the name {name}");
        return Err(CommandError::new(20, "IllegalOperation", message));
    }
    super::checked_collection(name)
}

pub(super) fn check_database_name(name: &str) -> Result<(), CommandError> {
    if is_database_name(name) {
        return Ok(());
    }
    let message = format!("Invalid database name: '{name}'");
    Err(CommandError::new(73, "InvalidNamespace", message))
}

/// Nothing is written into the databases that are MongoDB's own.
pub(super) fn check_database(stage: &str, name: &str) -> Result<(), CommandError> {
    if !INTERNAL.contains(&name) {
        return Ok(());
    }
    let (code, code_name) = match stage {
        "$out" => (31321, "Location31321"),
        _ => (31320, "Location31320"),
    };
    let message = format!("Cannot {stage} to internal database: {name}");
    Err(CommandError::new(code, code_name, message))
}

/// What a `$merge` cannot say together: what is kept cannot be discarded, and only a pipeline has variables.
pub(super) fn check_modes(merge: &Document) -> Result<(), CommandError> {
    match merge.get("on") {
        Some(Bson::String(field)) => check_path(field)?,
        Some(Bson::Array(fields)) => {
            let mut fields = fields.iter().filter_map(Bson::as_str);
            fields.try_for_each(check_path)?;
        }
        _ => {}
    }
    if let Some(Bson::Array(on)) = merge.get("on")
        && let Some(twice) = on
            .iter()
            .enumerate()
            .find_map(|(place, field)| on[..place].contains(field).then_some(field))
    {
        let message = format!("Found a duplicate field {twice} in the 'on' of $merge");
        return Err(CommandError::new(31465, "Location31465", message));
    }
    if let Some(Bson::Document(variables)) = merge.get("let") {
        let has_pipeline = merge.get_array("whenMatched").is_ok();
        if !has_pipeline {
            let message = "Cannot use 'let' variables with 'whenMatched' that is no pipeline";
            return Err(CommandError::new(51199, "Location51199", message));
        }
        if variables.contains_key("new") {
            let message =
                "'let' may not define a value for the reserved 'new' variable other than '$$ROOT'";
            let is_root = variables.get_str("new").is_ok_and(|new| new == "$$ROOT");
            if !is_root {
                return Err(CommandError::new(51273, "Location51273", message));
            }
        }
        if variables.contains_key("CURRENT") {
            return Err(CommandError::not_supported(
                "$merge with a variable CURRENT",
            ));
        }
    }
    let modes = (
        merge.get_str("whenMatched"),
        merge.get_str("whenNotMatched"),
    );
    let (Ok(matched @ ("keepExisting" | "fail")), Ok(other @ ("discard" | "fail"))) = modes else {
        return Ok(());
    };
    let message = format!(
        "Combination of 'whenMatched: {matched}' and 'whenNotMatched: {other}' is not supported by $merge"
    );
    Err(CommandError::new(51181, "Location51181", message))
}
