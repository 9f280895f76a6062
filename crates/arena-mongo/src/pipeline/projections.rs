//! The order of a projection's fields. MongoDB gives computed ones behind those that
//! are included, in the order in which they are named; the engine leaves one that
//! the document has where it is. Which these are is known where the projection's
//! own expressions read them.

use std::collections::BTreeSet;

use bson::{Bson, Document, bson};

use super::accumulators::{HELPER, has_operator};
use super::buckets::collect;

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
