//! Choices between several values of a field: `$in`, `$nin`, and `$or` of equalities,
//! which the engine takes for `$in`. It compares documents and arrays in them byte
//! by byte, so that 2 and 2.0 inside of them are not the same; written as an
//! equality beside another condition they are. So it does numbers with a fraction,
//! which decimals may equal. And what an index would lose some of: what is not in a
//! range, numbers by their type, sizes of arrays in arrays, regular expressions that
//! equal the one asked for; and `$elemMatch` of values, on which an index breaks the
//! engine. Distances are written here, too.

use bson::{Bson, Document, doc};

use super::conditions::{self, BITS};
use super::{elements, geo, references};
use crate::error::CommandError;

/// Returns a filter whose choices find what is equal, if it is another one.
pub(crate) fn chosen(filter: &Document) -> Option<Document> {
    written(filter, Choices::default())
}

/// The same of a filter whose equalities an upsert takes into its document.
pub(crate) fn chosen_to_insert(filter: &Document) -> Option<Document> {
    let choices = Choices {
        keeps_equalities: true,
        ..Choices::default()
    };
    written(filter, choices)
}

fn written(filter: &Document, mut choices: Choices) -> Option<Document> {
    let named = references::with_names(filter);
    let written = choices.filter(named.as_ref().unwrap_or(filter), false);
    if choices.is_changed {
        Some(written)
    } else {
        named
    }
}

/// Returns the value of a `$match` as it has to run.
pub(super) fn of_match(value: &Bson) -> Result<Bson, CommandError> {
    let Some(filter) = value.as_document() else {
        return Ok(value.clone());
    };
    if geo::is_near_inside(filter) {
        let message =
            "$near, $nearSphere and $geoNear cannot be used here. Use $geoWithin instead.";
        return Err(CommandError::new(5_626_500, "Location5626500", message));
    }
    conditions::check(filter)?;
    Ok(chosen(filter).map_or_else(|| value.clone(), Bson::Document))
}

/// A stage's value with the filter in one of its fields as it has to run.
pub(super) fn with_chosen(value: &Bson, field: &str) -> Bson {
    let mut value = value.clone();
    if let Bson::Document(stage) = &mut value
        && let Some(chosen) = stage.get_document(field).ok().and_then(chosen)
    {
        stage.insert(field, chosen);
    }
    value
}

#[derive(Default)]
struct Choices {
    is_changed: bool,
    /// No index reads what is negated.
    is_negated: bool,
    /// What is equal stays where it is.
    keeps_equalities: bool,
}

impl Choices {
    /// Whether a path means positions of arrays; the engine's index takes them for what is there beside, too.
    fn is_apart(&self, path: &str) -> bool {
        let mut parts = path.split('.').skip(1);
        !self.is_negated && parts.any(|part| part.parse::<u32>().is_ok())
    }

    /// Writes a filter; of one among several an equality is a choice, too.
    fn filter(&mut self, filter: &Document, is_one_of_several: bool) -> Document {
        let (mut written, mut conditions) = (Document::new(), Vec::new());
        for (name, value) in filter {
            match (name.as_str(), value) {
                ("$and" | "$or" | "$nor", Bson::Array(parts)) => {
                    let before = self.is_negated;
                    self.is_negated |= name == "$nor";
                    let parts = parts.iter().map(|part| match part {
                        Bson::Document(part) => Bson::Document(self.filter(part, name != "$and")),
                        other => other.clone(),
                    });
                    written.insert(name, parts.collect::<Vec<Bson>>());
                    self.is_negated = before;
                }
                (path, Bson::Document(operators)) if is_field(path) && has_operators(operators) => {
                    let others = self.operators(path, operators, &mut conditions);
                    if self.is_apart(path) && is_everywhere(&others) {
                        self.is_changed = true;
                        conditions.push(apart(doc! { path: others }));
                    } else if !others.is_empty() {
                        written.insert(path, others);
                    }
                }
                (path, value)
                    if is_field(path)
                        && !self.keeps_equalities
                        && (self.is_apart(path)
                            || (!self.is_negated && is_extreme(path, value))) =>
                {
                    self.is_changed = true;
                    conditions.push(apart(doc! { path: value.clone() }));
                }
                (path, value) if is_field(path) && is_one_of_several && is_inexact(value) => {
                    self.is_changed = true;
                    written.insert(path, equal(value));
                }
                _ => drop(written.insert(name, value.clone())),
            }
        }
        if !conditions.is_empty() {
            let all = written.get_array("$and").cloned().unwrap_or_default();
            let conditions = conditions.into_iter().map(Bson::Document);
            written.insert(
                "$and",
                all.into_iter().chain(conditions).collect::<Vec<_>>(),
            );
        }
        written
    }

    fn operators(
        &mut self,
        path: &str,
        operators: &Document,
        conditions: &mut Vec<Document>,
    ) -> Document {
        let mut others = Document::new();
        let measured = geo::measured(operators);
        self.is_changed |= measured.is_some();
        for (operator, value) in measured.as_ref().unwrap_or(operators) {
            if let Some(condition) = self.without_index(path, operator, value) {
                self.is_changed = true;
                conditions.push(condition);
                continue;
            }
            match (operator.as_str(), value) {
                ("$regex", Bson::String(_))
                    if !self.is_negated && !operators.contains_key("$options") =>
                {
                    self.is_changed = true;
                    others.insert(operator, value.clone());
                    others.insert("$options", "");
                }
                ("$geoWithin", shape) => {
                    let circle = geo::within(shape);
                    self.is_changed |= circle.is_some();
                    others.insert(operator, circle.unwrap_or_else(|| value.clone()));
                }
                ("$lte" | "$gte", Bson::Null)
                    if self.is_negated && !operators.contains_key("$eq") =>
                {
                    self.is_changed = true;
                    others.insert("$eq", Bson::Null);
                }
                ("$in" | "$nin", Bson::Array(values))
                    if is_chosen_apart(values)
                        || values.iter().any(|value| is_extreme(path, value)) =>
                {
                    self.is_changed = true;
                    let choice = one_of(path, values);
                    let junction = if operator == "$in" { "$or" } else { "$nor" };
                    conditions.push(doc! { junction: choice });
                }
                ("$all", Bson::Array(values)) if values.iter().any(is_dbref) => {
                    self.is_changed = true;
                    conditions.extend(all_with_references(path, values));
                }
                ("$not", Bson::Document(negated)) => {
                    let mut inner = Self {
                        is_negated: true,
                        keeps_equalities: self.keeps_equalities,
                        ..Self::default()
                    };
                    let only = inner.filter(&doc! { path: negated.clone() }, false);
                    if inner.is_changed || negated.keys().any(|operator| is_range(operator)) {
                        self.is_changed = true;
                        conditions.push(doc! { "$nor": [only] });
                    } else {
                        others.insert(operator, value.clone());
                    }
                }
                ("$elemMatch", Bson::Document(element)) if !has_operators(element) => {
                    let before = std::mem::replace(&mut self.is_negated, true);
                    others.insert(operator, self.filter(element, false));
                    self.is_negated = before;
                }
                ("$elemMatch" | "$all", value)
                    if !self.is_negated && elements::is_of_values(operator, value) =>
                {
                    self.is_changed = true;
                    conditions.extend(elements::apart(path, value));
                }
                _ => drop(others.insert(operator, value.clone())),
            }
        }
        others
    }

    /// Returns a condition that no index is asked for, where one would find something else.
    fn without_index(&self, path: &str, operator: &str, value: &Bson) -> Option<Document> {
        let finds_else = match (operator, value) {
            ("$geoWithin" | "$geoIntersects", shape) => geo::is_around_a_pole(shape),
            ("$type", kinds) => may_be_nan(kinds),
            ("$elemMatch", Bson::Document(element)) => is_lost(element),
            (operator, mask) if BITS.contains(&operator) => {
                return Some(bits(path, operator, mask));
            }
            ("$eq", _) if self.keeps_equalities => false,
            (operator, value) => {
                !self.is_negated && is_comparison(operator) && is_extreme(path, value)
            }
        };
        finds_else.then(|| unindexed(path, operator, value))
    }
}

/// All values that there have to be, each reference as a condition of its own.
fn all_with_references(path: &str, values: &[Bson]) -> Vec<Document> {
    let (references, values): (Vec<Bson>, Vec<Bson>) = values.iter().cloned().partition(is_dbref);
    let references = references.into_iter().map(|one| doc! { path: one });
    let others = (!values.is_empty()).then(|| doc! { path: { "$all": values } });
    references.chain(others).collect()
}

/// The engine takes a reference among what there has to be for an operator.
fn is_dbref(value: &Bson) -> bool {
    value.as_document().is_some_and(conditions::is_dbref)
}

fn is_chosen_apart(values: &[Bson]) -> bool {
    values.len() > 1 && values.iter().any(is_inexact)
}

fn one_of(path: &str, values: &[Bson]) -> Vec<Bson> {
    let (extreme, others): (Vec<&Bson>, Vec<&Bson>) =
        values.iter().partition(|value| is_extreme(path, value));
    let (inexact, plain): (Vec<&Bson>, Vec<&Bson>) =
        others.into_iter().partition(|value| is_inexact(value));
    let extreme = extreme.into_iter();
    let extreme = extreme.map(|value| Bson::Document(unindexed(path, "$eq", value)));
    let mut choice: Vec<Bson> = extreme.collect();
    if !plain.is_empty() {
        let plain: Vec<Bson> = plain.into_iter().cloned().collect();
        choice.push(Bson::Document(doc! { path: { "$in": plain } }));
    }
    let inexact = inexact.into_iter();
    choice.extend(inexact.map(|value| Bson::Document(doc! { path: equal(value) })));
    choice
}

/// An equality that is no choice; what is equal to something is there.
fn equal(value: &Bson) -> Document {
    doc! { "$eq": value.clone(), "$exists": true }
}

/// A condition that no index is asked for: the engine's leaves NaN out of numbers, knows no sizes of arrays inside
/// of arrays, and loses what lies in a polygon around a pole.
fn unindexed(path: &str, operator: &str, value: &Bson) -> Document {
    apart(doc! { path: { operator: value.clone() } })
}

/// A condition that no index is asked for.
fn apart(condition: Document) -> Document {
    doc! { "$nor": [{ "$nor": [condition] }] }
}

/// Whether conditions may stand anywhere in a filter.
fn is_everywhere(operators: &Document) -> bool {
    let near = [
        "$near",
        "$nearSphere",
        "$geoNear",
        "$maxDistance",
        "$minDistance",
    ];
    !operators.is_empty()
        && !operators
            .keys()
            .any(|operator| near.contains(&operator.as_str()))
}

fn is_comparison(operator: &str) -> bool {
    operator == "$eq" || is_range(operator)
}

/// Whether the engine may take a partial index for a value that this one has not: the ends of the order and NaN.
fn is_extreme(path: &str, value: &Bson) -> bool {
    let is_extreme = match value {
        Bson::MinKey | Bson::MaxKey => true,
        Bson::Double(number) => number.is_nan(),
        Bson::Decimal128(number) => number.to_string() == "NaN",
        _ => false,
    };
    is_extreme && path != "_id"
}

/// What bits are asked for: each position once, of no decimal without an end, and without an index, which takes
/// fractions for what they are cut to.
fn bits(path: &str, operator: &str, mask: &Bson) -> Document {
    let mut mask = mask.clone();
    if let Bson::Array(positions) = &mut mask {
        let mut seen: Vec<Option<i64>> = Vec::new();
        positions.retain(|position| {
            let place = crate::commands::whole(position);
            let is_new = place.is_none() || !seen.contains(&place);
            seen.push(place);
            is_new
        });
    }
    if path
        .rsplit('.')
        .next()
        .is_some_and(|last| last.parse::<u32>().is_ok())
    {
        // Of an array at a position no element is meant.
        return apart(doc! { path: { operator: mask } });
    }
    let endless: Vec<Bson> = ["NaN", "Infinity", "-Infinity"]
        .iter()
        .filter_map(|text| text.parse().ok().map(Bson::Decimal128))
        .collect();
    let condition = doc! { operator: mask, "$nin": endless };
    let mut alone = condition.clone();
    alone.insert("$not", doc! { "$type": "array" });
    let element = doc! { path: { "$not": { "$elemMatch": condition } } };
    doc! { "$or": [apart(doc! { path: alone }), { "$nor": [element] }] }
}

/// Whether a type, or one of several, has a NaN.
fn may_be_nan(kinds: &Bson) -> bool {
    match kinds {
        Bson::String(name) => matches!(name.as_str(), "number" | "double" | "decimal"),
        Bson::Int32(number) => matches!(number, 1 | 19),
        Bson::Int64(number) => matches!(number, 1 | 19),
        Bson::Double(number) => *number == 1.0 || *number == 19.0,
        Bson::Array(kinds) => kinds.iter().any(may_be_nan),
        _ => false,
    }
}

/// Whether an index would lose elements of an array that meet conditions.
fn is_lost(element: &Document) -> bool {
    element
        .iter()
        .any(|(name, value)| match (name.as_str(), value) {
            ("$size", _) => true,
            ("$type", kinds) => may_be_nan(kinds),
            (_, Bson::Document(inner)) => is_lost(inner),
            ("$and" | "$or" | "$nor", Bson::Array(parts)) => {
                parts.iter().filter_map(Bson::as_document).any(is_lost)
            }
            _ => false,
        })
}

/// The engine's index leaves out what lies at the ends of what a range is not: `{}` beside texts, NaN beside numbers.
/// It reads none where several conditions are negated.
fn is_range(operator: &str) -> bool {
    matches!(operator, "$gt" | "$gte" | "$lt" | "$lte")
}

fn is_field(name: &str) -> bool {
    !name.starts_with('$')
}

pub(super) fn has_operators(value: &Document) -> bool {
    let first = value.keys().next();
    first.is_some_and(|first| {
        first.starts_with('$') && !matches!(first.as_str(), "$and" | "$or" | "$nor")
    })
}

/// Whether the engine may take a value of a choice for another one than what is equal to it.
fn is_inexact(value: &Bson) -> bool {
    match value {
        Bson::Double(number) => number.fract() != 0.0,
        Bson::Decimal128(_) => true,
        other => has_numbers(other),
    }
}

/// Whether a value is a document or an array with a number somewhere inside.
fn has_numbers(value: &Bson) -> bool {
    let is_number = |value: &Bson| {
        matches!(
            value,
            Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_)
        )
    };
    match value {
        Bson::Array(values) => values
            .iter()
            .any(|value| is_number(value) || has_numbers(value)),
        Bson::Document(fields) => fields
            .values()
            .any(|value| is_number(value) || has_numbers(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_inside_of_something_are_written_otherwise() {
        for filter in [
            doc! { "a": { "$in": [1, 2.0, "x"] } },
            doc! { "a": { "$in": [{ "b": "x" }, ["y"]] } },
            doc! { "a": { "$in": [{ "b": 1 }] } },
            doc! { "a": { "b": 1 } },
            doc! { "$or": [{ "a": 1 }, { "a": { "$gt": { "b": 1 } } }] },
            doc! { "$expr": { "$in": [[1], "$a"] } },
            doc! { "a": { "$not": { "$in": [1, 2] } } },
            doc! { "a": { "$type": ["int", 18, "string"] } },
            doc! { "a": { "$size": 1 } },
            doc! { "a": { "$not": { "$elemMatch": { "$gt": 1 } } } },
            doc! { "a": { "$elemMatch": { "b": { "$elemMatch": { "$gt": 1 } } } } },
        ] {
            assert_eq!(chosen(&filter), None, "{filter}");
        }
        assert_eq!(
            chosen(&doc! { "a": { "$in": [{ "b": 1 }, 9], "$exists": true } }),
            Some(doc! {
                "a": { "$exists": true },
                "$and": [{ "$or": [{ "a": { "$in": [9] } }, { "a": { "$eq": { "b": 1 }, "$exists": true } }] }],
            })
        );
        assert_eq!(
            chosen(&doc! { "a": { "$type": "number", "$gt": 1 } }),
            Some(doc! {
                "a": { "$gt": 1 },
                "$and": [{ "$nor": [{ "$nor": [{ "a": { "$type": "number" } }] }] }],
            })
        );
        let inside = doc! { "a": { "$elemMatch": { "b": { "$type": 1 }, "c": 2 } } };
        assert_eq!(
            chosen(&inside),
            Some(doc! { "$and": [{ "$nor": [{ "$nor": [inside] }] }] })
        );
        assert_eq!(
            chosen(&doc! { "a": { "$not": { "$nin": [[1], 2] } } }),
            Some(doc! {
                "$and": [{ "$nor": [{ "$and": [{ "$nor": [
                    { "a": { "$in": [2] } },
                    { "a": { "$eq": [1], "$exists": true } },
                ] }] }] }],
            })
        );
        assert_eq!(
            chosen(&doc! { "a": { "$in": [1, 2.5, 3.0] } }),
            Some(doc! { "$and": [{ "$or": [
                { "a": { "$in": [1, 3.0] } },
                { "a": { "$eq": 2.5, "$exists": true } },
            ] }] })
        );
    }

    #[test]
    fn elements_are_looked_for_apart_from_an_index() {
        let element = doc! { "$elemMatch": { "$gte": 80, "$lt": 85, "$ne": 82 } };
        assert_eq!(
            chosen(&doc! { "b": 1, "a": element.clone() }),
            Some(doc! { "b": 1, "$and": [
                { "a": { "$gte": 80 } },
                { "a": { "$lt": 85 } },
                { "$nor": [{ "a": { "$not": element } }] },
            ] })
        );
    }
}
