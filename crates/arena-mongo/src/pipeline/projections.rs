//! What a projection may not say together, and the order of its fields. MongoDB gives computed ones behind those that
//! are included, in the order in which they are named; the engine leaves one that
//! the document has where it is. Which these are is known where the projection's
//! own expressions read them.

use std::collections::BTreeSet;

use bson::{Bson, Document, bson};

use super::accumulators::{HELPER, has_operator};
use super::buckets::collect;
use super::expressions::only;
use super::paths::check_path;
use crate::error::CommandError;

/// Refuses a projection that MongoDB refuses. The engine's own checks take every one for an inclusion.
pub(super) fn check(projection: &Document) -> Result<(), CommandError> {
    let mut seen = Seen::default();
    let checked = projection
        .iter()
        .try_for_each(|(path, value)| seen.field(path, value));
    checked.map_err(|error| CommandError {
        message: format!("Invalid $project :: caused by :: {}", error.message),
        ..error
    })
}

/// Refuses paths that collide where fields are left out.
pub(super) fn check_exclusions<'a>(
    paths: impl IntoIterator<Item = &'a str>,
) -> Result<(), CommandError> {
    let mut seen = Seen::default();
    let mut paths = paths.into_iter();
    let checked = paths.try_for_each(|path| seen.field(path, &Bson::Boolean(false)));
    checked.map_err(|error| CommandError {
        message: format!("Invalid $unset :: caused by :: {}", error.message),
        ..error
    })
}

/// Fields of a projection so far.
#[derive(Default)]
struct Seen {
    is_inclusion: Option<bool>,
    paths: Vec<String>,
}

impl Seen {
    fn field(&mut self, path: &str, value: &Bson) -> Result<(), CommandError> {
        // A position in an array, which the engine refuses.
        if path.ends_with(".$") {
            return Ok(());
        }
        check_path(path)?;
        match value {
            Bson::Document(fields) if fields.is_empty() => {
                let message = format!(
                    "An empty sub-projection is not a valid value. Found empty object at path {path}"
                );
                Err(CommandError::new(51270, "Location51270", message))
            }
            Bson::Document(fields) => match only(fields) {
                Some(("$elemMatch", _)) => {
                    let message = "Unrecognized expression '$elemMatch'";
                    Err(CommandError::new(168, "InvalidPipelineOperator", message))
                }
                Some((operator, _)) if operator.starts_with('$') => {
                    self.leaf(path)?;
                    self.computed(operator, path, value)
                }
                _ => fields
                    .iter()
                    .try_for_each(|(name, value)| self.inner(path, name, value)),
            },
            value => {
                self.leaf(path)?;
                match included(value) {
                    Some(_) if path == "_id" => Ok(()),
                    Some(is_included) => self.included(path, is_included),
                    None => self.computed("", path, value),
                }
            }
        }
    }

    fn inner(&mut self, path: &str, name: &str, value: &Bson) -> Result<(), CommandError> {
        check_path(name)?;
        self.field(&format!("{path}.{name}"), value)
    }

    fn included(&mut self, path: &str, is_included: bool) -> Result<(), CommandError> {
        let mode = *self.is_inclusion.get_or_insert(is_included);
        let (code, name, what, of) = match (mode, is_included) {
            (true, false) => (31254, "Location31254", "exclusion", "inclusion"),
            (false, true) => (31253, "Location31253", "inclusion", "exclusion"),
            _ => return Ok(()),
        };
        let message = format!("Cannot do {what} on field {path} in {of} projection");
        Err(CommandError::new(code, name, message))
    }

    /// An expression is an inclusion; metadata may stand in both.
    fn computed(&mut self, operator: &str, path: &str, value: &Bson) -> Result<(), CommandError> {
        if operator == "$meta" || *self.is_inclusion.get_or_insert(true) {
            return Ok(());
        }
        let (code, name, message) = if operator.is_empty() {
            let message =
                format!("Cannot use an expression {path}: {value} in an exclusion projection");
            (31310, "Location31310", message)
        } else {
            let message = "Cannot use expression other than $meta in exclusion projection";
            (31252, "Location31252", message.to_owned())
        };
        Err(CommandError::new(code, name, message))
    }

    /// A path that is named twice, or below or above another one, collides with it.
    fn leaf(&mut self, path: &str) -> Result<(), CommandError> {
        let rest = |path: &str, above: &str| {
            let rest = path.strip_prefix(above)?.strip_prefix('.')?;
            Some(rest.to_owned())
        };
        let is_above = |seen: &String| seen == path || rest(seen, path).is_some();
        if self.paths.iter().any(is_above) {
            let message = format!("Path collision at {path}");
            return Err(CommandError::new(31250, "Location31250", message));
        }
        if let Some(rest) = self.paths.iter().find_map(|seen| rest(path, seen)) {
            let message = format!("Path collision at {path} remaining portion {rest}");
            return Err(CommandError::new(31249, "Location31249", message));
        }
        self.paths.push(path.to_owned());
        Ok(())
    }
}

/// Whether a value says that a field is kept or left out.
fn included(value: &Bson) -> Option<bool> {
    match value {
        Bson::Boolean(is_included) => Some(*is_included),
        Bson::Double(number) => Some(*number != 0.0),
        Bson::Decimal128(number) => {
            let number = number.to_string().parse::<f64>();
            Some(number.is_ok_and(|number| number != 0.0))
        }
        Bson::Int32(number) => Some(*number != 0),
        Bson::Int64(number) => Some(*number != 0),
        _ => None,
    }
}

/// Returns the stages that project in MongoDB's order, if the stage itself may not.
pub(super) fn in_order(projection: &Document) -> Option<Vec<Bson>> {
    let others = || projection.iter().filter(|(name, _)| *name != "_id");
    if projection.len() < 2 || others().any(|(_, value)| is_exclusion(value)) {
        return None;
    }
    let mut read = BTreeSet::new();
    let computed: Document = others()
        .filter(|(name, value)| !name.contains('.') && is_computed(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !computed.values().all(|value| collect(value, &mut read)) {
        return None;
    }
    if !computed.keys().any(|name| read.contains(name)) {
        return None;
    }
    let helper = format!("{HELPER}Computed");
    let mut first: Document = projection
        .iter()
        .filter(|(name, _)| !computed.contains_key(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    first.insert(&helper, computed);
    let behind = format!("${helper}");
    Some(vec![
        bson!({ "$project": first }),
        bson!({ "$replaceWith": { "$mergeObjects": [
            { "$unsetField": { "field": helper, "input": "$$ROOT" } },
            behind,
        ] } }),
    ])
}

fn is_exclusion(value: &Bson) -> bool {
    match value {
        Bson::Boolean(is_included) => !is_included,
        number => crate::commands::whole(number) == Some(0),
    }
}

fn is_computed(value: &Bson) -> bool {
    match value {
        Bson::String(_) | Bson::Array(_) => true,
        Bson::Document(fields) => has_operator(fields),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn only_fields_that_are_read_come_last() {
        for projection in [
            doc! { "a": "$a" },
            doc! { "a": 1, "b": "$c" },
            doc! { "a": 0, "b": false },
            doc! { "a.b": "$a", "c": 1 },
            doc! { "a": { "b": "$a" }, "c": 1 },
        ] {
            assert_eq!(in_order(&projection), None, "{projection}");
        }
        let stages = in_order(&doc! { "a": { "$add": ["$a.x", 1] }, "b": 1, "_id": 0 });
        let first = stages.and_then(|stages| stages.first().cloned());
        let computed = doc! { "a": { "$add": ["$a.x", 1] } };
        assert_eq!(
            first,
            Some(bson!({ "$project": { "b": 1, "_id": 0, "arenaHelperComputed": computed } }))
        );
    }
}
