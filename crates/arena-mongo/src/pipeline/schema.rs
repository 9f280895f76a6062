//! `$jsonSchema` for an engine that knows fewer keywords: what it lacks is said by
//! other conditions where that is possible, else refused by name. A validator that
//! was written otherwise carries the one it was written from, so that a listing and
//! the reasons for a failed validation show what the user wrote.

use bson::{Bson, Document, bson, doc};

use crate::error::CommandError;

/// Holds the validator as the user wrote it.
const WRITTEN: &str = "arenaWritten";
/// What `number` stands for in `bsonType`.
const NUMBERS: [&str; 4] = ["int", "long", "double", "decimal"];

/// Returns a schema's conditions, all of which must hold.
///
/// # Errors
/// With the keyword that cannot be said otherwise where it stands.
pub(super) fn conditions(schema: &Document) -> Result<Vec<Document>, CommandError> {
    let mut conditions = Vec::new();
    let kept = kept_at(&[], schema, &mut conditions)?;
    conditions.insert(0, doc! { "$jsonSchema": kept });
    Ok(conditions)
}

/// Returns a validator as it has to be stored: what runs, and what the user wrote.
pub(crate) fn stored(written: &Document, running: Document) -> Document {
    if running == *written {
        return running;
    }
    doc! { "$and": [running, { "$expr": { "$literal": { WRITTEN: written.clone() } } }] }
}

/// Returns a stored validator as the user wrote it.
pub(crate) fn as_written(stored: &Document) -> Option<&Document> {
    let last = stored.get_array("$and").ok()?.last()?.as_document()?;
    let literal = last
        .get_document("$expr")
        .ok()?
        .get_document("$literal")
        .ok()?;
    literal.get_document(WRITTEN).ok()
}

/// Returns a view's pipeline as it has to be stored: what runs, and what the user wrote.
pub(crate) fn stored_stages(written: &[Bson], mut running: Vec<Bson>) -> Vec<Bson> {
    if running != written {
        let kept = doc! { WRITTEN: written.to_vec() };
        let stage = doc! { "$match": { "$expr": { "$literal": kept } } };
        running.push(Bson::Document(stage));
    }
    running
}

/// Returns a stored view's pipeline as the user wrote it.
pub(crate) fn stages_as_written(stored: &[Bson]) -> Option<&Vec<Bson>> {
    let filter = stored.last()?.as_document()?.get_document("$match").ok()?;
    let literal = filter
        .get_document("$expr")
        .ok()?
        .get_document("$literal")
        .ok()?;
    literal.get_array(WRITTEN).ok()
}

/// Returns what of the schema of a path the engine may keep; the rest becomes conditions.
fn kept_at(
    path: &[&str],
    schema: &Document,
    conditions: &mut Vec<Document>,
) -> Result<Document, CommandError> {
    let mut kept = Document::new();
    for (keyword, value) in schema {
        check_keyword(keyword, value)?;
        match (keyword.as_str(), value) {
            ("title" | "description", _) => {}
            ("bsonType" | "type", types) => {
                kept.insert(keyword, engines_types(keyword, types));
            }
            ("properties", Bson::Document(properties)) => {
                let mut changed = Document::new();
                for (name, property) in properties {
                    let property = match property {
                        Bson::Document(property) if !name.contains(['.', '$']) => {
                            let path = [path, &[name.as_str()]].concat();
                            Bson::Document(kept_at(&path, property, conditions)?)
                        }
                        other => other.clone(),
                    };
                    changed.insert(name, property);
                }
                kept.insert(keyword, changed);
            }
            ("items", Bson::Document(items)) => {
                let mut inside = Vec::new();
                let items = kept_at(&[], items, &mut inside)?;
                if !inside.is_empty() {
                    return Err(not_here("in 'items'"));
                }
                kept.insert(keyword, items);
            }
            ("additionalProperties", Bson::Boolean(true)) => {}
            ("additionalProperties", Bson::Boolean(false))
                if !schema.contains_key("patternProperties") =>
            {
                conditions.push(closed(path, schema));
            }
            ("minProperties" | "maxProperties", count) => {
                let operator = if keyword == "minProperties" {
                    "$gte"
                } else {
                    "$lte"
                };
                let compared = bson!({ operator: [{ "$size": { "$objectToArray": root(path) } }, count.clone()] });
                conditions.push(if_object(path, compared));
            }
            ("anyOf" | "allOf" | "not" | "dependencies", value) if path.is_empty() => {
                conditions.push(combined(keyword, value)?);
            }
            (
                "additionalProperties"
                | "patternProperties"
                | "anyOf"
                | "allOf"
                | "not"
                | "dependencies",
                _,
            ) => {
                return Err(not_here(keyword));
            }
            ("multipleOf", Bson::Double(divisor)) if divisor.fract() != 0.0 => {
                kept.insert(keyword, rounded(*divisor));
            }
            (_, value) => {
                kept.insert(keyword, value.clone());
            }
        }
    }
    Ok(kept)
}

/// What is wrong with a keyword that the engine does not see, or takes.
fn check_keyword(keyword: &str, value: &Bson) -> Result<(), CommandError> {
    let failed = |what: &str| {
        let message = format!("$jsonSchema keyword '{keyword}' {what}");
        Err(CommandError::failed_to_parse(message))
    };
    match (keyword, value) {
        ("title" | "description", Bson::String(_)) => Ok(()),
        ("title" | "description", _) => Err(CommandError::type_mismatch(format!(
            "$jsonSchema keyword '{keyword}' must be of type string"
        ))),
        ("minProperties" | "maxProperties", count) => match whole(count) {
            Some(count) if count >= 0 => Ok(()),
            Some(_) => failed("must be a non-negative number"),
            None => failed("must be a whole number"),
        },
        ("required", Bson::Array(names)) if names.is_empty() => failed("cannot be an empty array"),
        ("dependencies", Bson::Document(dependencies)) => {
            let is_empty = |one: &Bson| one.as_array().is_some_and(Vec::is_empty);
            if dependencies.values().any(is_empty) {
                return failed("cannot have an empty array of properties");
            }
            Ok(())
        }
        ("multipleOf", divisor) if is_not_positive(divisor) => failed("must be a number above 0"),
        _ => Ok(()),
    }
}

fn whole(number: &Bson) -> Option<i64> {
    match number {
        Bson::Decimal128(number) => {
            let number: f64 = number.to_string().parse().ok()?;
            crate::commands::whole(&Bson::Double(number))
        }
        number => crate::commands::whole(number),
    }
}

fn is_not_positive(number: &Bson) -> bool {
    match number {
        Bson::Int32(number) => *number <= 0,
        Bson::Int64(number) => *number <= 0,
        Bson::Double(number) => *number <= 0.0,
        Bson::Decimal128(number) => {
            let number: Option<f64> = number.to_string().parse().ok();
            number.is_some_and(|number| number <= 0.0)
        }
        _ => false,
    }
}

/// A fraction as the decimal of its first 15 digits, by which MongoDB divides; the engine takes all that a double has.
fn rounded(number: f64) -> Bson {
    let text = format!("{number:.14e}");
    text.parse().map_or(Bson::Double(number), Bson::Decimal128)
}

fn not_here(keyword: &str) -> CommandError {
    CommandError::not_supported(format_args!("$jsonSchema's '{keyword}' where it stands"))
}

/// Types by the engine's names: it knows no `number`, and takes the least key for the greatest.
fn engines_types(keyword: &str, types: &Bson) -> Bson {
    let names = match types {
        Bson::String(_) => std::slice::from_ref(types),
        Bson::Array(names) => names,
        _ => return types.clone(),
    };
    let is_other = |name: &Bson| matches!(name.as_str(), Some("number" | "minKey" | "maxKey"));
    if keyword == "type" || !names.iter().any(is_other) {
        return types.clone();
    }
    let names = names.iter().flat_map(|name| match name.as_str() {
        Some("number") => NUMBERS.iter().map(|name| (*name).into()).collect(),
        Some("minKey") => vec![Bson::from("maxKey")],
        Some("maxKey") => vec![Bson::from("minKey")],
        _ => vec![name.clone()],
    });
    Bson::Array(names.collect())
}

fn root(path: &[&str]) -> String {
    if path.is_empty() {
        "$$ROOT".to_owned()
    } else {
        format!("${}", path.join("."))
    }
}

/// A condition on a document inside; what is no document meets it.
fn if_object(path: &[&str], condition: Bson) -> Document {
    let is_object = bson!({ "$eq": [{ "$type": root(path) }, "object"] });
    doc! { "$expr": { "$cond": [is_object, condition, true] } }
}

fn closed(path: &[&str], schema: &Document) -> Document {
    let properties = schema.get_document("properties").ok();
    let names: Vec<Bson> = properties
        .into_iter()
        .flat_map(Document::keys)
        .map(|name| bson!({ "$literal": name.clone() }))
        .collect();
    let found = bson!({ "$map": { "input": { "$objectToArray": root(path) }, "in": "$$this.k" } });
    if_object(path, bson!({ "$setIsSubset": [found, names] }))
}

fn combined(keyword: &str, value: &Bson) -> Result<Document, CommandError> {
    let whole = |schema: &Bson| match schema {
        Bson::Document(schema) => Ok(doc! { "$and": conditions(schema)? }),
        _ => Err(CommandError::type_mismatch(format!(
            "$jsonSchema keyword '{keyword}' must hold objects"
        ))),
    };
    match (keyword, value) {
        ("not", schema) => Ok(doc! { "$nor": [whole(schema)?] }),
        ("anyOf" | "allOf", Bson::Array(schemas)) if !schemas.is_empty() => {
            let schemas: Result<Vec<Document>, CommandError> = schemas.iter().map(whole).collect();
            let operator = if keyword == "anyOf" { "$or" } else { "$and" };
            Ok(doc! { operator: schemas? })
        }
        ("dependencies", Bson::Document(dependencies)) => {
            let mut all = Vec::new();
            for (name, needed) in dependencies {
                if name.starts_with('$') {
                    return Err(not_here(keyword));
                }
                let needed = match needed {
                    Bson::Array(names) => doc! { "$jsonSchema": { "required": names.clone() } },
                    schema => whole(schema)?,
                };
                all.push(doc! { "$or": [{ name: { "$exists": false } }, needed] });
            }
            Ok(doc! { "$and": all })
        }
        _ => Err(not_here(keyword)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_lacks_becomes_conditions_of_their_own() {
        let schema = doc! { "title": "x", "required": ["a"], "minProperties": 2, "properties": { "a": { "bsonType": "number" } } };
        let conditions = conditions(&schema).expect("all of it can be said");
        assert_eq!(
            conditions[0],
            doc! { "$jsonSchema": { "required": ["a"], "properties": { "a": { "bsonType": ["int", "long", "double", "decimal"] } } } }
        );
        assert_eq!(conditions.len(), 2);
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let refused = |schema: Document| conditions(&schema).map(drop).map_err(|e| e.code);
        assert_eq!(refused(doc! { "patternProperties": { "a": {} } }), Err(115));
        assert_eq!(
            refused(doc! { "properties": { "a": { "anyOf": [{}] } } }),
            Err(115)
        );
        assert_eq!(refused(doc! { "anyOf": [{}] }), Ok(()));
    }

    #[test]
    fn a_stored_validator_shows_what_was_written() {
        let written = doc! { "$jsonSchema": { "title": "x" } };
        let stored = stored(&written, doc! { "$jsonSchema": {} });
        assert_eq!(as_written(&stored), Some(&written));
        assert_eq!(as_written(&written), None);
    }
}
