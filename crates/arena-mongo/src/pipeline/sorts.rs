//! Sorts by several fields of documents that stages have made. MongoDB fails where two
//! of them are arrays, the engine takes each by itself: a stage before such a sort fails
//! instead of it.

use bson::{Bson, Document, bson};

use super::accumulators::HELPER;
use super::expressions::only;
use super::raising::raise_whole;

/// Stages behind which nobody has looked at the documents before.
const MAKING: [&str; 4] = ["$group", "$unwind", "$replaceRoot", "$replaceWith"];
/// Accumulators that never give an array.
const NO_ARRAYS: [&str; 5] = ["$sum", "$avg", "$count", "$stdDevPop", "$stdDevSamp"];

/// Returns the stage that fails where documents cannot be sorted, if that may be.
pub(super) fn check(before: &[Bson], sort: &Bson) -> Option<Bson> {
    let Bson::Document(sort) = sort else {
        return None;
    };
    let name = |stage: &Bson| Some(stage.as_document()?.keys().next()?.clone());
    let makes = |stage: &Bson| name(stage).is_some_and(|name| MAKING.contains(&name.as_str()));
    if !before.iter().any(makes) {
        return None;
    }
    let own = before.iter().rev().find(|stage| !makes_helpers(stage));
    let group = own.and_then(|stage| {
        let (name, value) = only(stage.as_document()?)?;
        value.as_document().filter(|_| name == "$group")
    });
    let root = |path: &str| path.split('.').next().unwrap_or_default().to_owned();
    let keys = sort.iter().filter(|(path, order)| {
        let is_plain = path.split('.').all(|part| part.parse::<u32>().is_err());
        let is_value = !order
            .as_document()
            .is_some_and(|order| order.contains_key("$meta"));
        is_plain
            && is_value
            && !path.starts_with(HELPER)
            && group.is_none_or(|group| may_be_array(group, &root(path)))
    });
    let keys: Vec<&String> = keys.map(|(path, _)| path).collect();
    let mut pairs = Vec::new();
    for (number, path) in keys.iter().enumerate() {
        let others = keys[number + 1..].iter();
        // Of one array's elements both may be sorted by.
        pairs.extend(
            others
                .filter(|other| root(other) != root(path))
                .map(|other| bson!({ "$and": [{ "$isArray": [format!("${path}")] }, { "$isArray": [format!("${other}")] }] })),
        );
    }
    let first = keys.first().filter(|_| !pairs.is_empty())?;
    let failure = "cannot sort with keys that are parallel arrays";
    let error = raise_whole(2, failure, &format!("${first}"));
    let helper = format!("{HELPER}Sorted");
    // No filter, which the engine might apply before others; and nothing is added.
    let checked = bson!({ "$cond": [{ "$or": pairs }, error, "$$REMOVE"] });
    Some(bson!({ "$set": { helper: checked } }))
}

fn makes_helpers(stage: &Bson) -> bool {
    let made = stage
        .as_document()
        .and_then(|stage| stage.get_document("$set").ok());
    made.is_some_and(|made| made.keys().all(|name| name.starts_with(HELPER)))
}

/// Whether a field of a group may be an array; what it does not name is not there.
pub(super) fn may_be_array(group: &Document, field: &str) -> bool {
    match group.get(field) {
        Some(Bson::Document(made)) if field != "_id" => {
            only(made).is_none_or(|(operator, _)| !NO_ARRAYS.contains(&operator))
        }
        Some(Bson::Null) | None => false,
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_checked(before: Bson, sort: Bson) -> bool {
        check(before.as_array().expect("an array"), &sort).is_some()
    }

    #[test]
    fn only_what_may_be_two_arrays_is_looked_at() {
        let group =
            || bson!([{ "$group": { "_id": "$g", "n": { "$sum": 1 }, "all": { "$push": "$x" } } }]);
        assert!(is_checked(group(), bson!({ "_id": 1, "all": -1 })));
        assert!(is_checked(
            bson!([{ "$unwind": "$a" }, { "$set": { "x": 1 } }]),
            bson!({ "a.b": 1, "c": 1 })
        ));
        for (before, sort) in [
            (group(), bson!({ "n": -1, "_id": 1 })),
            (group(), bson!({ "all": 1, "other": 1 })),
            (bson!([{ "$unwind": "$a" }]), bson!({ "a.b": 1, "a.c": 1 })),
            (bson!([{ "$unwind": "$a" }]), bson!({ "a": 1 })),
            (bson!([{ "$match": {} }]), bson!({ "a": 1, "b": 1 })),
        ] {
            assert!(!is_checked(before.clone(), sort), "{before}");
        }
    }
}
