//! What is missing where a group needs a value: null at MongoDB. The engine knows that
//! of a plain field only; of a path through a value that is no document, and of an
//! expression, it makes a group without a key, or leaves the accumulator out.

use bson::{Bson, Document, bson};

use super::accumulators::has_operator;

/// Accumulators that give a value as it is.
const OF_VALUE: [&str; 2] = ["$first", "$last"];
/// Accumulators that give values from one of their options.
const OF_OPTION: [(&str, &str); 7] = [
    ("$firstN", "input"),
    ("$lastN", "input"),
    ("$top", "output"),
    ("$bottom", "output"),
    ("$topN", "output"),
    ("$bottomN", "output"),
    ("$shift", "output"),
];

/// A value that is null where it is missing.
pub(super) fn or_null(value: Bson) -> Bson {
    let may_be_missing = match &value {
        Bson::String(text) if text == "$$ROOT" => false,
        Bson::String(text) => {
            text.starts_with("$$") || (text.starts_with('$') && text.contains('.'))
        }
        Bson::Document(fields) => has_operator(fields),
        _ => false,
    };
    if may_be_missing {
        bson!({ "$ifNull": [value, null] })
    } else {
        value
    }
}

/// Accumulators whose values are null where they are missing, and whose objects have no field that is.
pub(super) fn accumulated(fields: &Document) -> Document {
    let accumulators = fields.iter().map(|(name, accumulator)| {
        let accumulator = match accumulator {
            Bson::Document(accumulator) => Bson::Document(with_values(accumulator)),
            other => other.clone(),
        };
        (name.clone(), accumulator)
    });
    accumulators.collect()
}

fn with_values(accumulator: &Document) -> Document {
    let options = accumulator.iter().map(|(operator, operand)| {
        let option = OF_OPTION.iter().find(|(name, _)| name == operator);
        let operand = match (operand, option) {
            (Bson::Document(options), Some((_, option))) if !has_default(options) => {
                let mut options = options.clone();
                if let Some(value) = options.get_mut(*option) {
                    *value = valued(std::mem::replace(value, Bson::Null));
                }
                Bson::Document(options)
            }
            (operand, _) if OF_VALUE.contains(&operator.as_str()) => valued(operand.clone()),
            (Bson::Document(object), _) if operator == "$addToSet" => whole(object.clone()),
            _ => operand.clone(),
        };
        (operator.clone(), operand)
    });
    options.collect()
}

/// `$shift` takes its default for what is missing.
fn has_default(options: &Document) -> bool {
    options
        .get("default")
        .is_some_and(|default| *default != Bson::Null)
}

fn valued(value: Bson) -> Bson {
    match value {
        Bson::Document(object) => or_null(whole(object)),
        other => or_null(other),
    }
}

/// An object whose fields stay out where they are missing; the engine writes null for them.
fn whole(object: Document) -> Bson {
    if object.is_empty() || has_operator(&object) {
        Bson::Document(object)
    } else {
        bson!({ "$mergeObjects": [object] })
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn only_what_may_be_missing_is_looked_at() {
        for value in ["$a", "$$ROOT", "a", "a.b"] {
            assert_eq!(or_null(value.into()), Bson::from(value));
        }
        let first = |value: Bson| accumulated(&doc! { "f": { "$first": value } });
        assert_eq!(
            first("$a.b".into()),
            doc! { "f": { "$first": { "$ifNull": ["$a.b", null] } } }
        );
        assert_eq!(
            first(bson!({ "b": "$a" })),
            doc! { "f": { "$first": { "$ifNull": [{ "$mergeObjects": [{ "b": "$a" }] }, null] } } }
        );
        let sum = doc! { "n": { "$sum": "$a.b" }, "p": { "$push": { "b": "$a" } } };
        assert_eq!(accumulated(&sum), sum);
    }
}
