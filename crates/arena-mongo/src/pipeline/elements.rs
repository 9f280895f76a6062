//! `$elemMatch` of values. Where an index begins with another field, the engine
//! reads memory that is not its own, and ends with all that run in it; an index of
//! every field it refuses. A negation uses no index, so what the elements have to
//! be is negated twice; what follows from it stands beside it, for the index.

use bson::{Bson, Document, doc};

use super::choices::has_operators;

/// Whether an operator looks for elements that are values.
pub(crate) fn is_of_values(operator: &str, value: &Bson) -> bool {
    match (operator, value) {
        ("$elemMatch", Bson::Document(element)) => has_operators(element),
        ("$all", Bson::Array(all)) => {
            let elements: Vec<_> = all.iter().filter_map(element_in).collect();
            elements.len() == all.len() && elements.into_iter().any(has_operators)
        }
        _ => false,
    }
}

/// The element that one of `$all` looks for, if it is one.
fn element_in(one: &Bson) -> Option<&Document> {
    let one = one.as_document().filter(|one| one.len() == 1)?;
    one.get_document("$elemMatch").ok()
}

/// Returns the conditions that together are the one of [`is_of_values`].
pub(super) fn apart(path: &str, value: &Bson) -> Vec<Document> {
    let elements: Vec<&Document> = match value {
        Bson::Document(element) => vec![element],
        Bson::Array(all) => all.iter().filter_map(element_in).collect(),
        _ => Vec::new(),
    };
    let mut conditions = Vec::new();
    for element in elements {
        let condition = doc! { path: { "$elemMatch": element } };
        if !has_operators(element) {
            conditions.push(condition);
            continue;
        }
        // A position at a path's end is not gone into, as its elements are.
        let is_position = path
            .rsplit('.')
            .next()
            .is_some_and(|last| last.parse::<u32>().is_ok());
        let implied = element
            .iter()
            .filter(|(operator, value)| !is_position && is_implied(operator, value));
        for (operator, value) in implied {
            // An upsert would take an equality into its document.
            let operators = match operator.as_str() {
                "$eq" => vec!["$gte", "$lte"],
                operator => vec![operator],
            };
            let operators = operators.into_iter();
            conditions.extend(operators.map(|operator| doc! { path: { operator: value.clone() } }));
        }
        conditions.push(doc! { "$nor": [{ path: { "$not": { "$elemMatch": element } } }] });
    }
    conditions
}

/// Whether an array has what an element of it has; of documents, arrays and null that is less simple, and the engine
/// takes some numbers of a choice for others.
fn is_implied(operator: &str, value: &Bson) -> bool {
    let is_simple = |value: &Bson| {
        matches!(
            value,
            Bson::Int32(_)
                | Bson::Int64(_)
                | Bson::String(_)
                | Bson::ObjectId(_)
                | Bson::DateTime(_)
        )
    };
    match (operator, value) {
        ("$eq" | "$gt" | "$gte" | "$lt" | "$lte", Bson::Double(number)) => !number.is_nan(),
        ("$eq" | "$gt" | "$gte" | "$lt" | "$lte", value) => is_simple(value),
        ("$in", Bson::Array(values)) => values.len() > 1 && values.iter().all(is_simple),
        _ => false,
    }
}
