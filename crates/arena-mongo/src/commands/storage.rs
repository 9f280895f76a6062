//! Options of MongoDB's storage engine. They say how something lies on disk, never
//! what is found in it, so that they are read as MongoDB reads them and have no effect.

use bson::{Bson, RawBsonRef, RawDocument};

use super::validation;
use crate::error::CommandError;

const ENGINE: &str = "wiredTiger";
const OPTIONS: &str = "configString";

/// Fails where a `storageEngine` is none that MongoDB takes.
pub(super) fn check(engines: &RawDocument) -> Result<(), CommandError> {
    for element in engines {
        let (engine, options) = element?;
        let engine = engine.as_str();
        let RawBsonRef::Document(options) = options else {
            let message = format!("'storageEngine.{engine}' has to be an embedded document.");
            return Err(CommandError::bad_value(message));
        };
        if engine != ENGINE {
            let message = format!("{engine} is not a registered storage engine for this server");
            return Err(invalid(message));
        }
        for element in options {
            let (option, value) = element?;
            let option = option.as_str();
            if option != OPTIONS {
                let message =
                    format!("'{option}' is not a supported option in storageEngine.{ENGINE}");
                return Err(invalid(message));
            }
            if value.as_str().is_none() {
                let message = format!("'{OPTIONS}' must be a string.");
                return Err(CommandError::type_mismatch(message));
            }
        }
    }
    Ok(())
}

/// Checks what a collection is created with.
pub(super) fn check_collection(body: &RawDocument) -> Result<(), CommandError> {
    if let Some(engines) = object(body, "create", "storageEngine")? {
        check(engines)?;
    }
    let Some(defaults) = object(body, "create", "indexOptionDefaults")? else {
        return Ok(());
    };
    let part = "create.indexOptionDefaults";
    for element in defaults {
        let (field, _) = element?;
        if field.as_str() != "storageEngine" {
            let message = format!(
                "BSON field '{part}.{}' is an unknown field.",
                field.as_str()
            );
            return Err(CommandError::new(40415, "Location40415", message));
        }
    }
    object(defaults, part, "storageEngine")?.map_or(Ok(()), check)
}

/// A field that may hold an object only.
fn object<'a>(
    part: &'a RawDocument,
    name: &str,
    field: &str,
) -> Result<Option<&'a RawDocument>, CommandError> {
    match part.get(field)? {
        None | Some(RawBsonRef::Null) => Ok(None),
        Some(RawBsonRef::Document(object)) => Ok(Some(object)),
        Some(other) => {
            let other = validation::type_name(&Bson::try_from(other)?);
            Err(CommandError::type_mismatch(format!(
                "BSON field '{name}.{field}' is the wrong type '{other}', expected type 'object'"
            )))
        }
    }
}

fn invalid(message: String) -> CommandError {
    CommandError::new(72, "InvalidOptions", message)
}
