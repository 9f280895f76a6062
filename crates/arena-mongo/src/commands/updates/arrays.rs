//! Updates that make arrays where an index may not have them: on two paths of one
//! index, or on a hashed one. The engine indexes such a document.

use bson::{Bson, Document, RawBsonRef, RawDocument, doc};

use super::{has_collation, update_in};
use crate::commands::indexes::hashed;
use crate::commands::parallel::{self, Keys};
use crate::commands::removals::filter_of;
use crate::commands::{Call, aggregation, is_true, raw, reading, replacing, sorting};
use crate::error::CommandError;

/// So many documents of one update are looked at.
const LOOKED_AT_MAX: i32 = 100;

/// Fails where an update would make such a document of one that it meets, or a new one.
pub(super) async fn check(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
) -> Result<(), CommandError> {
    let Some(update) = update_in(operation)? else {
        return Ok(());
    };
    let keys = parallel::known(call, collection).await;
    if keys.take_all() || has_collation(operation)? {
        return Ok(());
    }
    let refused = match update {
        RawBsonRef::Array(stages) => {
            let Bson::Array(stages) = Bson::try_from(RawBsonRef::Array(stages))? else {
                return Ok(());
            };
            return of_pipeline(call, collection, operation, stages, &keys).await;
        }
        RawBsonRef::Document(update) if replacing::is_replacement(update) => {
            keys.refusal(&Document::try_from(update)?)
        }
        RawBsonRef::Document(update) => {
            let made = made(update)?;
            if made.is_empty() {
                return Ok(());
            }
            match refusal_of_all(&keys, &made) {
                None => return of_some(call, collection, operation, &keys, &made).await,
                refused => refused,
            }
        }
        _ => return Ok(()),
    };
    match refused {
        Some(error)
            if is_true(operation, "upsert")
                || !found(call, collection, operation, None).await?.is_empty() =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// The paths on which an update makes arrays.
fn made(update: &RawDocument) -> Result<Vec<String>, CommandError> {
    let mut made = Vec::new();
    for element in update {
        let (operator, RawBsonRef::Document(fields)) = element? else {
            continue;
        };
        for field in fields {
            let (path, operand) = field?;
            let is_plain = |part: &str| !part.starts_with('$') && part.parse::<u32>().is_err();
            if !path.as_str().split('.').all(is_plain) {
                continue;
            }
            match operator.as_str() {
                "$set" | "$setOnInsert" | "$max" | "$min" => {
                    arrays_in(path.as_str(), &Bson::try_from(operand)?, &mut made);
                }
                "$push" | "$addToSet" => made.push(path.as_str().to_owned()),
                _ => {}
            }
        }
    }
    Ok(made)
}

fn arrays_in(path: &str, value: &Bson, made: &mut Vec<String>) {
    match value {
        Bson::Array(_) => made.push(path.to_owned()),
        Bson::Document(inner) => {
            for (name, value) in inner {
                arrays_in(&format!("{path}.{name}"), value, made);
            }
        }
        _ => {}
    }
}

/// Whether an array lies on a path.
fn is_on(array: &str, path: &str) -> bool {
    path.strip_prefix(array)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What is wrong with the arrays that an update makes, whatever the documents are.
fn refusal_of_all(keys: &Keys, made: &[String]) -> Option<CommandError> {
    let mut hashed = keys.hashed().iter();
    if let Some(path) = hashed.find(|path| made.iter().any(|array| is_on(array, path))) {
        return Some(hashed::refused(path));
    }
    for (path, other) in pairs(keys) {
        let first = made.iter().find(|array| is_on(array, path));
        let second = made.iter().find(|array| is_on(array, other));
        if let (Some(first), Some(second)) = (first, second)
            && first != second
        {
            return Some(refused(first, second));
        }
    }
    None
}

fn refused(first: &str, second: &str) -> CommandError {
    let name = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let (first, second) = (name(first), name(second));
    parallel::error(format!("cannot index parallel arrays [{second}] [{first}]"))
}

fn pairs(keys: &Keys) -> impl Iterator<Item = (&str, &str)> {
    keys.several().iter().flat_map(|paths| {
        let each = paths.iter().enumerate();
        each.flat_map(move |(number, path)| {
            let others = paths[number + 1..].iter();
            others.map(move |other| (path.as_str(), other.as_str()))
        })
    })
}

/// Fails where a document has an array beside one that an update makes.
async fn of_some(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
    keys: &Keys,
    made: &[String],
) -> Result<(), CommandError> {
    for (path, other) in pairs(keys) {
        for (path, other) in [(path, other), (other, path)] {
            let Some(array) = made.iter().find(|array| is_on(array, path)) else {
                continue;
            };
            if made.iter().any(|array| is_on(array, other)) {
                continue;
            }
            let there = sorting::has_array(other);
            for document in found(call, collection, operation, Some(there)).await? {
                if sorting::array_on(&document, other).is_some() {
                    return Err(refused(array, other));
                }
            }
        }
    }
    Ok(())
}

/// The documents that an operation meets: of one that changes a single document that one, of others some that fit.
async fn found(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
    condition: Option<Document>,
) -> Result<Vec<Document>, CommandError> {
    let mut filter = filter_of(operation)?;
    let is_multi = is_true(operation, "multi");
    if let Some(condition) = condition.filter(|_| is_multi) {
        filter = doc! { "$and": [filter, condition] };
    }
    let limit = if is_multi { LOOKED_AT_MAX } else { 1 };
    let mut find = doc! { "find": collection, "filter": filter, "limit": limit };
    for (field, from) in [("sort", operation), ("let", call.body())] {
        if let Some(RawBsonRef::Document(part)) = from.get(field)? {
            find.insert(field, Document::try_from(part)?);
        }
    }
    // What is wrong with a filter the update says itself.
    let found = reading::documents_of(call, &raw(&find)).await;
    let found = found.unwrap_or_default();
    let documents = found.iter().map(|found| Document::try_from(found.as_ref()));
    Ok(documents.collect::<Result<_, _>>()?)
}

/// The same of an update by stages: what they make is asked for.
async fn of_pipeline(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
    stages: Vec<Bson>,
    keys: &Keys,
) -> Result<(), CommandError> {
    let Ok(stages) = call.reader().check_update_pipeline(&stages) else {
        return Ok(());
    };
    let mut refused: Vec<Document> = keys
        .hashed()
        .iter()
        .map(|path| sorting::has_array(path))
        .collect();
    refused.extend(pairs(keys).map(|(path, other)| {
        doc! { "$and": [sorting::has_array(path), sorting::has_array(other)] }
    }));
    let mut pipeline = vec![doc! { "$match": filter_of(operation)? }];
    if !is_true(operation, "multi") {
        pipeline.push(doc! { "$limit": 1 });
    }
    pipeline.extend(stages.iter().filter_map(Bson::as_document).cloned());
    pipeline.push(doc! { "$match": { "$or": refused } });
    pipeline.push(doc! { "$limit": 1 });
    let made = aggregation::first(call, collection, pipeline).await;
    match made.and_then(|made| keys.refusal(&made)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arrays_of_an_update_are_those_that_it_brings() {
        let update = doc! {
            "$set": { "a": [1], "b": { "c": { "d": [] } }, "e": 1, "f.0": [1], "g.$[]": [1] },
            "$push": { "h.i": 1 },
            "$pull": { "j": [1] },
        };
        let made = made(&raw(&update)).expect("it is well-formed");
        assert_eq!(made, ["a", "b.c.d", "h.i"]);
        assert!(is_on("a", "a.b") && is_on("a.b", "a.b"));
        assert!(!is_on("a.b", "a") && !is_on("a", "ab"));
    }
}
