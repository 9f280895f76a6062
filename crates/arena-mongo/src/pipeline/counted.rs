//! Accumulators of as many values as an expression says, which reads the group's key:
//! the engine takes a constant only, so it collects all values, and the group keeps as
//! many of them after the stage.

use bson::{Bson, Document, bson};

/// Accumulators that take a count of values, each with the one that collects all in order, and the operator that takes
/// so many from them.
const COUNTED: [(&str, &str, &str); 6] = [
    ("$firstN", "$firstN", "$firstN"),
    ("$lastN", "$lastN", "$lastN"),
    ("$minN", "$minN", "$firstN"),
    ("$maxN", "$maxN", "$firstN"),
    ("$topN", "$topN", "$firstN"),
    // Of what ties `$bottomN` has the last first.
    ("$bottomN", "$topN", "$lastN"),
];
/// More values than a group has.
const ALL: i32 = i32::MAX;

/// An accumulator that collects all values, and what takes as many of them as wanted.
pub(super) struct Counted {
    pub(super) accumulator: Bson,
    pub(super) taken: Bson,
}

/// Returns how an accumulator of a field runs, if its count is computed.
pub(super) fn counted(field: &str, operator: &str, operand: &Bson) -> Option<Counted> {
    let ways = COUNTED.iter().find(|(name, ..)| *name == operator);
    let (_, collecting, taking) = ways?;
    let count = computed_count(operator, operand)?;
    let mut options = operand.as_document()?.clone();
    options.insert("n", ALL);
    Some(Counted {
        accumulator: bson!({ *collecting: options }),
        taken: bson!({ *taking: { "n": { "$ifNull": [of_key(count), Bson::Null] }, "input": format!("${field}") } }),
    })
}

/// The count of an accumulator that is no plain number.
pub(super) fn computed_count<'a>(operator: &str, operand: &'a Bson) -> Option<&'a Bson> {
    let is_counted = COUNTED.iter().any(|(name, ..)| *name == operator);
    let count = operand.as_document()?.get("n")?;
    let is_computed = match count {
        Bson::String(text) => text.starts_with('$'),
        other => matches!(other, Bson::Document(_) | Bson::Array(_)),
    };
    (is_counted && is_computed).then_some(count)
}

/// An expression of which the root is the group's key.
fn of_key(expression: &Bson) -> Bson {
    match expression {
        Bson::String(path) => Bson::String(match path.strip_prefix("$$") {
            Some(variable) => in_key(variable).unwrap_or_else(|| path.clone()),
            None => match path.strip_prefix('$') {
                Some(path) => format!("$_id.{path}"),
                None => path.clone(),
            },
        }),
        Bson::Array(values) => Bson::Array(values.iter().map(of_key).collect()),
        Bson::Document(fields) => {
            let fields = fields.iter().map(|(name, value)| {
                let value = match name.as_str() {
                    "$literal" | "$const" => value.clone(),
                    _ => of_key(value),
                };
                (name.clone(), value)
            });
            Bson::Document(fields.collect::<Document>())
        }
        other => other.clone(),
    }
}

/// The variable that is the root, or a path in it.
fn in_key(variable: &str) -> Option<String> {
    let rest = ["ROOT", "CURRENT"]
        .iter()
        .find_map(|root| variable.strip_prefix(root))?;
    (rest.is_empty() || rest.starts_with('.')).then(|| format!("$_id{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_reads_the_key() {
        let count = bson!({ "$cond": [{ "$eq": ["$$ROOT.game", { "$literal": "$x" }] }, "$$CURRENT", "$n"] });
        assert_eq!(
            of_key(&count),
            bson!({ "$cond": [{ "$eq": ["$_id.game", { "$literal": "$x" }] }, "$_id", "$_id.n"] })
        );
    }

    #[test]
    fn a_number_is_the_engines() {
        for count in [bson!(3), bson!("three")] {
            let operand = bson!({ "n": count, "input": "$a" });
            assert!(counted("x", "$firstN", &operand).is_none());
        }
    }
}
