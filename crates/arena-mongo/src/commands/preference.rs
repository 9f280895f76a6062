//! The read preference and the read concern of a command. There is one node, which
//! every valid one reads from; what MongoDB refuses is refused.

use bson::{Bson, RawBsonRef, RawDocument};

use super::{integer, validation};
use crate::error::CommandError;

const MODES: [&str; 5] = [
    "primary",
    "primaryPreferred",
    "secondary",
    "secondaryPreferred",
    "nearest",
];
/// What a read concern may say.
const CONCERNS: [&str; 7] = [
    "level",
    "afterOpTime",
    "afterClusterTime",
    "atClusterTime",
    "provenance",
    "allowTransactionTableSnapshot",
    "waitLastStableRecoveryTimestamp",
];
const LEVELS: [&str; 5] = ["local", "majority", "linearizable", "available", "snapshot"];
/// MongoDB hears of the other nodes no more often.
const STALENESS_SECONDS_MIN: i64 = 90;

pub(super) fn check(body: &RawDocument) -> Result<(), CommandError> {
    check_level(body)?;
    let preference = match body.get("$readPreference")? {
        None => return Ok(()),
        Some(RawBsonRef::Document(preference)) => preference,
        Some(other) => {
            let other = validation::type_name(&Bson::try_from(other)?);
            return Err(CommandError::type_mismatch(format!(
                "BSON field '$readPreference' is the wrong type '{other}', expected type 'object'"
            )));
        }
    };
    let mode = preference.get_str("mode").map_err(|_| {
        let message = "BSON field 'readPreference.mode' is missing but a required field";
        CommandError::new(40414, "Location40414", message)
    })?;
    if !MODES.contains(&mode) {
        return Err(CommandError::bad_value(format!(
            "Enumeration value '{mode}' for field 'readPreference.mode' is not a valid value."
        )));
    }
    let has_tags = preference
        .get_array("tags")
        .is_ok_and(|tags| tags.into_iter().flatten().any(is_tag));
    if mode == "primary" && has_tags {
        return Err(CommandError::bad_value(
            "Only empty tags are allowed with primary read preference",
        ));
    }
    let seconds = preference.get("maxStalenessSeconds")?;
    match seconds.and_then(integer) {
        None | Some(0) => Ok(()),
        Some(seconds) if seconds < 0 => Err(CommandError::bad_value(
            "maxStalenessSeconds must be a non-negative integer",
        )),
        Some(_) if mode == "primary" => Err(CommandError::bad_value(
            "maxStalenessSeconds can not be set for the primary mode",
        )),
        Some(seconds) if seconds < STALENESS_SECONDS_MIN => Err(CommandError::new(
            160,
            "MaxStalenessOutOfRange",
            format!(
                "maxStalenessSeconds value can not be less than {STALENESS_SECONDS_MIN}, actual value {seconds}"
            ),
        )),
        Some(_) => Ok(()),
    }
}

fn check_level(body: &RawDocument) -> Result<(), CommandError> {
    let concern = match body.get("readConcern")? {
        None | Some(RawBsonRef::Null) => return Ok(()),
        Some(RawBsonRef::Document(concern)) => concern,
        Some(other) => {
            let other = validation::type_name(&Bson::try_from(other)?);
            return Err(CommandError::type_mismatch(format!(
                "BSON field 'readConcern' is the wrong type '{other}', expected type 'object'"
            )));
        }
    };
    for element in concern {
        let (field, _) = element?;
        if !CONCERNS.contains(&field.as_str()) {
            let message = format!("BSON field 'readConcern.{field}' is an unknown field.");
            return Err(CommandError::new(40415, "Location40415", message));
        }
    }
    match concern.get("level")? {
        None | Some(RawBsonRef::Null) => Ok(()),
        Some(RawBsonRef::String(level)) if LEVELS.contains(&level) => Ok(()),
        Some(RawBsonRef::String(level)) => Err(CommandError::bad_value(format!(
            "Enumeration value '{level}' for field 'readConcern.level' is not a valid value."
        ))),
        Some(other) => {
            let other = validation::type_name(&Bson::try_from(other)?);
            Err(CommandError::type_mismatch(format!(
                "BSON field 'readConcern.level' is the wrong type '{other}', expected type 'string'"
            )))
        }
    }
}

fn is_tag(tag: RawBsonRef<'_>) -> bool {
    matches!(tag, RawBsonRef::Document(tag) if !tag.is_empty())
}
