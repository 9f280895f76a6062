//! `$lookup`. The engine knows the variables of a join around it in every stage but in the values of others, finds
//! nothing for a field inside another, and fails where an index is to find what equals a variable that is missing.

use bson::{Bson, Document, bson};

use super::accumulators::HELPER;
use super::checks::reads;
use super::expressions::rewritten;
use crate::error::CommandError;

/// Returns what runs in place of a `$lookup` whose pipeline has had the same walk.
pub(super) fn stages(mut lookup: Document) -> Result<Vec<Bson>, CommandError> {
    without_nothing(&mut lookup);
    let before = named_before(&mut lookup)?;
    let path = lookup.get_str("as").unwrap_or_default().to_owned();
    let joined = if path.contains('.') {
        looked_up_inside(&path, lookup)
    } else {
        vec![bson!({ "$lookup": lookup })]
    };
    if before.is_empty() {
        return Ok(joined);
    }
    let names: Vec<String> = before.keys().cloned().collect();
    let mut stages = vec![bson!({ "$set": before })];
    stages.extend(joined);
    stages.push(bson!({ "$unset": names }));
    Ok(stages)
}

/// Variables whose values name others, which the engine knows everywhere but there: they are fields for a while, and
/// these are returned.
fn named_before(lookup: &mut Document) -> Result<Document, CommandError> {
    let mut fields = Document::new();
    let Some(Bson::Document(variables)) = lookup.get_mut("let") else {
        return Ok(fields);
    };
    let is_variable = |text: &str| {
        let name = text.strip_prefix("$$");
        name.is_some_and(|name| !name.starts_with(|letter: char| letter.is_ascii_uppercase()))
    };
    let names_others = variables.values().any(|value| reads(value, &is_variable));
    for (place, (_, value)) in variables.iter_mut().enumerate() {
        *value = rewritten(value)?;
        if names_others {
            let field = format!("{HELPER}Variable{place}");
            let named = Bson::String(format!("${field}"));
            fields.insert(field, std::mem::replace(value, named));
        }
    }
    Ok(fields)
}

/// What a `$lookup` does not say, said by null; and fields of no name, which a pipeline does without.
fn without_nothing(lookup: &mut Document) {
    if lookup.get("let") == Some(&Bson::Null) {
        lookup.remove("let");
    }
    let fields = ["localField", "foreignField"];
    let is_nothing = |field: &&str| match lookup.get(*field) {
        Some(Bson::String(path)) => path.is_empty(),
        value => value == Some(&Bson::Null),
    };
    if lookup.contains_key("pipeline") && fields.iter().any(is_nothing) {
        for field in fields {
            lookup.remove(field);
        }
    }
}

/// `$lookup` with a pipeline into a field inside another: the engine finds nothing.
fn looked_up_inside(path: &str, mut lookup: Document) -> Vec<Bson> {
    if lookup.get_array("pipeline").map_or(true, Vec::is_empty) {
        return vec![bson!({ "$lookup": lookup })];
    }
    let found = format!("{HELPER}Found");
    lookup.insert("as", found.as_str());
    vec![
        bson!({ "$lookup": lookup }),
        bson!({ "$set": { path: format!("${found}") } }),
        bson!({ "$unset": found }),
    ]
}

/// Writes what joined documents are found by so that no index takes part; tells whether there was such a thing.
pub(crate) fn without_index(stages: &mut [Bson]) -> bool {
    let mut is_changed = false;
    for stage in stages.iter_mut().filter_map(Bson::as_document_mut) {
        for (name, value) in stage.iter_mut() {
            match (name.as_str(), value) {
                ("$lookup", Bson::Document(lookup)) => {
                    let Ok(inner) = lookup.get_array_mut("pipeline") else {
                        continue;
                    };
                    for stage in inner.iter_mut().filter_map(Bson::as_document_mut) {
                        if let Ok(filter) = stage.get_document_mut("$match") {
                            is_changed |= compared(filter);
                        }
                    }
                    is_changed |= without_index(inner);
                }
                ("$unionWith", Bson::Document(union)) => {
                    if let Ok(inner) = union.get_array_mut("pipeline") {
                        is_changed |= without_index(inner);
                    }
                }
                ("$facet", Bson::Document(facets)) => {
                    for (_, facet) in facets.iter_mut() {
                        is_changed |= facet
                            .as_array_mut()
                            .is_some_and(|facet| without_index(facet));
                    }
                }
                _ => {}
            }
        }
    }
    is_changed
}

/// Writes the equalities of a filter's expressions as the contrary of their contrary.
fn compared(filter: &mut Document) -> bool {
    let mut is_changed = false;
    for (name, value) in filter.iter_mut() {
        match (name.as_str(), value) {
            ("$expr", expression) => is_changed |= equalities(expression),
            ("$and" | "$or" | "$nor", Bson::Array(parts)) => {
                for part in parts.iter_mut().filter_map(Bson::as_document_mut) {
                    is_changed |= compared(part);
                }
            }
            _ => {}
        }
    }
    is_changed
}

fn equalities(expression: &mut Bson) -> bool {
    match expression {
        Bson::Array(values) => {
            let changed: Vec<bool> = values.iter_mut().map(equalities).collect();
            changed.contains(&true)
        }
        Bson::Document(fields) => {
            let mut is_changed = false;
            for (name, value) in fields.iter_mut() {
                is_changed |= name != "$literal" && equalities(value);
            }
            if fields.len() == 1
                && let Some(operands) = fields.remove("$eq")
            {
                fields.insert("$not", bson!([{ "$ne": operands }]));
                return true;
            }
            is_changed
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn equalities_of_joined_documents_are_written_without_an_index() {
        let lookup = |condition: Bson| {
            bson!([{ "$lookup": { "from": "c", "as": "j", "pipeline": [
                { "$match": { "$and": [{ "$expr": condition }] } },
            ] } }])
        };
        let asked = bson!({ "$and": [{ "$eq": ["$x", "$$v"] }, { "$literal": { "$eq": 1 } }] });
        let mut stages = lookup(asked);
        assert!(without_index(stages.as_array_mut().unwrap()));
        let not_other = doc! { "$not": [{ "$ne": ["$x", "$$v"] }] };
        let expected = bson!({ "$and": [not_other, { "$literal": { "$eq": 1 } }] });
        assert_eq!(stages, lookup(expected));
        let mut plain = bson!([{ "$match": { "$expr": { "$eq": ["$x", 1] } } }]);
        assert!(!without_index(plain.as_array_mut().unwrap()));
    }
}
