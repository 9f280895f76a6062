//! The Stable API that a client may ask for (`apiVersion`): which version, and with
//! `apiStrict` only the commands that belong to it.

use bson::{RawBsonRef, RawDocument};

use super::values::boolean;
use crate::error::CommandError;

/// The commands of version 1 that we have.
const VERSION_1: [&str; 32] = [
    "abortTransaction",
    "aggregate",
    "bulkWrite",
    "collMod",
    "commitTransaction",
    "count",
    "create",
    "createIndexes",
    "delete",
    "drop",
    "dropDatabase",
    "dropIndexes",
    "endSessions",
    "explain",
    "find",
    "findAndModify",
    "findandmodify",
    "getMore",
    "hello",
    "insert",
    "killCursors",
    "listCollections",
    "listDatabases",
    "listIndexes",
    "ping",
    "refreshSessions",
    "saslContinue",
    "saslStart",
    "update",
    "createSearchIndexes",
    "listSearchIndexes",
    "dropSearchIndex",
];
const STRICT_STAGES: [&str; 4] = [
    "$collStats",
    "$indexStats",
    "$currentOp",
    "$listLocalSessions",
];

/// Returns whether a command belongs to version 1.
pub(super) fn is_in_version_1(name: &str) -> bool {
    VERSION_1.contains(&name)
}

/// Refuses a version that does not exist and, if the client wants that, what is not in it.
pub(super) fn check(name: &str, body: &RawDocument) -> Result<(), CommandError> {
    let error = |code: i32, name: &'static str, message: String| {
        Err(CommandError::new(code, name, message))
    };
    let (mut version, mut is_strict, mut is_deprecation) = (None, None, None);
    for element in body {
        let (field, value) = element?;
        match field.as_str() {
            "apiVersion" => version = Some(value),
            "apiStrict" => is_strict = Some(boolean("apiStrict", value)?),
            "apiDeprecationErrors" => {
                is_deprecation = Some(boolean("apiDeprecationErrors", value)?)
            }
            _ => {}
        }
    }
    match version {
        None if is_strict.is_some() || is_deprecation.is_some() => {
            let message =
                "Provided apiStrict and/or apiDeprecationErrors without passing apiVersion";
            return error(4_886_600, "Location4886600", message.to_owned());
        }
        None => return Ok(()),
        Some(RawBsonRef::String("1")) => {}
        Some(RawBsonRef::String(_)) => {
            return error(
                322,
                "APIVersionError",
                "API version must be \"1\"".to_owned(),
            );
        }
        Some(_) => {
            return Err(CommandError::type_mismatch(
                "BSON field 'apiVersion' is the wrong type, expected type 'string'",
            ));
        }
    }
    if is_strict != Some(true) {
        return Ok(());
    }
    if !VERSION_1.contains(&name) {
        let message =
            format!("Provided apiStrict:true, but the command {name} is not in API Version 1");
        return error(323, "APIStrictError", message);
    }
    if name == "aggregate" && super::is_true(body, "explain") {
        let message = "the option 'explain' of aggregate is not in API Version 1".to_owned();
        return error(323, "APIStrictError", message);
    }
    let stages = body.get_array("pipeline").into_iter().flatten().flatten();
    for stage in stages {
        let first = stage
            .as_document()
            .and_then(|stage| stage.iter().next()?.ok());
        if let Some((stage, value)) = first
            && STRICT_STAGES.contains(&stage.as_str())
            && !is_count(stage.as_str(), value)
        {
            let message =
                format!("stage {stage} is not allowed with 'apiStrict: true' in API Version 1");
            return error(323, "APIStrictError", message);
        }
    }
    Ok(())
}

/// Of a collection's statistics the count of its documents is stable.
fn is_count(stage: &str, value: RawBsonRef<'_>) -> bool {
    let RawBsonRef::Document(options) = value else {
        return false;
    };
    let mut names = options.iter().flatten().map(|(name, _)| name.as_str());
    stage == "$collStats" && names.next() == Some("count") && names.next().is_none()
}
