//! Variables of a command: those of MongoDB's own are nobody else's, and an aggregate
//! reads them before it knows what time it is.

use bson::{Bson, RawDocument};

use crate::error::CommandError;

const OWN: [&str; 4] = ["NOW", "CLUSTER_TIME", "IS_MR", "JS_SCOPE"];

/// Fails where a command's variables are none that it may have.
pub(super) fn check(command: &str, variables: &RawDocument) -> Result<(), CommandError> {
    for element in variables {
        let (name, value) = element?;
        let name = name.as_str();
        if OWN.contains(&name) {
            let message = format!("Attempt to set internal constant: {name}");
            return Err(CommandError::new(4_738_901, "Location4738901", message));
        }
        if command == "aggregate"
            && let Some(time) = time_in(&Bson::try_from(value)?)
        {
            let message = format!("Builtin variable '{time}' is not available");
            return Err(CommandError::new(51144, "Location51144", message));
        }
    }
    Ok(())
}

/// The variable of a time that an expression reads.
fn time_in(expression: &Bson) -> Option<&'static str> {
    match expression {
        Bson::String(text) => ["$$NOW", "$$CLUSTER_TIME"]
            .into_iter()
            .find(|name| text == name),
        Bson::Array(values) => values.iter().find_map(time_in),
        Bson::Document(document) => document
            .iter()
            .filter(|(name, _)| *name != "$literal")
            .find_map(|(_, value)| time_in(value)),
        _ => None,
    }
}
