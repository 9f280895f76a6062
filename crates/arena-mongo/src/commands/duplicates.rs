//! `E11000` as MongoDB words it. The engine names the index only; the key comes
//! from the collection's list of indexes and the values from what was written.

use std::cmp::Ordering;

use bson::{Bson, Document, RawDocument, doc};

use super::{Call, aggregation, reading, whole};
use crate::error::CommandError;

/// Returns the error with text, `keyPattern` and `keyValue`; without what cannot be known.
pub(super) async fn described(
    call: &Call<'_>,
    collection: &str,
    error: &CommandError,
    operation: &RawDocument,
) -> CommandError {
    let written = Document::try_from(operation).unwrap_or_default();
    let document = would_be(call, collection, &written).await;
    let Some((index, pattern)) = broken_index(call, collection, error, document.as_ref()).await
    else {
        return without_values(call, collection, error);
    };
    let mut described = error.clone().with("keyPattern", pattern.clone());
    let namespace = format!("{}.{collection}", call.database);
    let Some(document) = document else {
        described.message =
            format!("E11000 duplicate key error collection: {namespace} index: {index}");
        return described;
    };
    let values = key_values(call, collection, &pattern, &document).await;
    described.message = message(&namespace, &index, &values);
    described.with("keyValue", values)
}

fn without_values(call: &Call<'_>, collection: &str, error: &CommandError) -> CommandError {
    let mut plain = error.clone();
    plain.message = format!(
        "E11000 duplicate key error collection: {}.{collection}",
        call.database
    );
    plain
}

/// `… Index 'e_1'`.
fn index_name(message: &str) -> Option<&str> {
    message
        .split_once("Index '")?
        .1
        .rsplit_once('\'')
        .map(|(name, _)| name)
}

/// The index that the engine names; where it names none, the first unique one that has the document's key.
async fn broken_index(
    call: &Call<'_>,
    collection: &str,
    error: &CommandError,
    document: Option<&Document>,
) -> Option<(String, Document)> {
    if let Some(name) = index_name(&error.message) {
        let pattern = pattern_of(call, collection, name).await?;
        return Some((name.to_owned(), pattern));
    }
    let document = document?;
    for index in reading::indexes_of(call, collection).await.ok()? {
        let index = Document::try_from(&*index).ok()?;
        let (name, pattern) = (index.get_str("name").ok()?, index.get_document("key").ok()?);
        // An update does not change its document's _id, and finds its own document by it.
        let is_unique = index.get_bool("unique").unwrap_or(false);
        if is_unique
            && holder_of(call, collection, pattern, document)
                .await
                .is_some()
        {
            return Some((name.to_owned(), pattern.clone()));
        }
    }
    None
}

/// Returns another document with the same key.
async fn holder_of(
    call: &Call<'_>,
    collection: &str,
    pattern: &Document,
    document: &Document,
) -> Option<Document> {
    let mut filter = Document::new();
    for path in pattern.keys() {
        let same = match value_at(document, path) {
            Some(Bson::Array(values)) => doc! { "$in": values },
            value => doc! { "$eq": value.unwrap_or(Bson::Null) },
        };
        filter.insert(path, same);
    }
    let is_by_id = pattern.contains_key("_id");
    if let Some(id) = document.get("_id").filter(|_| !is_by_id) {
        filter.insert("_id", doc! { "$ne": id.clone() });
    }
    aggregation::first(call, collection, vec![doc! { "$match": filter }]).await
}

pub(super) async fn pattern_of(call: &Call<'_>, collection: &str, index: &str) -> Option<Document> {
    let indexes = reading::indexes_of(call, collection).await.ok()?;
    let index = indexes
        .into_iter()
        .find(|listed| listed.get_str("name").is_ok_and(|name| name == index))?;
    Document::try_from(index.get_document("key").ok()?).ok()
}

/// The document that could not be written: what was inserted, else what the update makes of the one it
/// found or of its filter.
pub(super) async fn would_be(
    call: &Call<'_>,
    collection: &str,
    written: &Document,
) -> Option<Document> {
    let update = ["u", "update"]
        .into_iter()
        .find_map(|field| written.get(field));
    // A document that is inserted may have fields of these names.
    let Some(update) = update.filter(|_| call.name != "insert") else {
        return Some(written.clone());
    };
    let query = ["q", "query"]
        .into_iter()
        .find_map(|field| written.get_document(field).ok())
        .cloned()
        .unwrap_or_default();
    let mut pipeline = vec![doc! { "$match": query.clone() }, doc! { "$limit": 1 }];
    match update {
        Bson::Array(stages) => {
            pipeline.extend(stages.iter().filter_map(Bson::as_document).cloned());
            aggregation::first(call, collection, pipeline).await
        }
        Bson::Document(update) => {
            let found = aggregation::first(call, collection, pipeline).await;
            updated(found, &query, update)
        }
        _ => None,
    }
}

fn updated(found: Option<Document>, query: &Document, update: &Document) -> Option<Document> {
    let is_upsert = found.is_none();
    let mut document = found.unwrap_or_else(|| {
        let is_condition = |value: &Bson| {
            let first = value.as_document().and_then(|value| value.keys().next());
            first.is_some_and(|name| name.starts_with('$'))
        };
        let equalities = query
            .iter()
            .filter(|(name, value)| !name.starts_with('$') && !is_condition(value));
        equalities
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    });
    if !update.keys().any(|name| name.starts_with('$')) {
        let id = document.remove("_id");
        document = update.clone();
        document.extend(id.map(|id| ("_id".to_owned(), id)));
        return Some(document);
    }
    for (operator, fields) in update {
        let fields = fields.as_document()?;
        match operator.as_str() {
            "$setOnInsert" if !is_upsert => {}
            // A dotted path as a name of its own is found first, see `value_at`.
            "$set" | "$setOnInsert" => document.extend(fields.clone()),
            _ => {
                for (path, operand) in fields {
                    modify(&mut document, operator, path, operand);
                }
            }
        }
    }
    Some(document)
}

/// What an operator makes of a field. What takes away from an array gives it no value that somebody else has.
fn modify(document: &mut Document, operator: &str, path: &str, operand: &Bson) {
    let before = value_at(document, path);
    let after = match (operator, before) {
        ("$inc", before) => added(before.as_ref(), operand),
        ("$mul", Some(before)) => multiplied(&before, operand),
        ("$min" | "$max", None) => Some(operand.clone()),
        ("$min" | "$max", Some(before)) => {
            let wanted = if operator == "$min" {
                Ordering::Less
            } else {
                Ordering::Greater
            };
            (order(operand, &before) == Some(wanted)).then(|| operand.clone())
        }
        ("$bit", before) => combined(before.unwrap_or(Bson::Int32(0)), operand),
        ("$unset", _) => Some(Bson::Null),
        ("$rename", Some(before)) => {
            if let Some(to) = operand.as_str() {
                document.insert(to, before);
            }
            Some(Bson::Null)
        }
        ("$push" | "$addToSet", before) => {
            let mut values = match before {
                Some(Bson::Array(values)) => values,
                _ => Vec::new(),
            };
            let each = operand
                .as_document()
                .and_then(|operand| operand.get_array("$each").ok());
            match each {
                Some(each) => values.extend(each.iter().cloned()),
                None => values.push(operand.clone()),
            }
            Some(Bson::Array(values))
        }
        _ => None,
    };
    if let Some(after) = after {
        document.insert(path, after);
    }
}

fn added(before: Option<&Bson>, operand: &Bson) -> Option<Bson> {
    let Some(before) = before else {
        return Some(operand.clone());
    };
    match (before, operand) {
        (Bson::Double(_), _) | (_, Bson::Double(_)) => {
            Some(Bson::Double(number(before)? + number(operand)?))
        }
        _ => as_whole(
            before,
            operand,
            whole(before)?.checked_add(whole(operand)?)?,
        ),
    }
}

fn multiplied(before: &Bson, operand: &Bson) -> Option<Bson> {
    match (before, operand) {
        (Bson::Double(_), _) | (_, Bson::Double(_)) => {
            Some(Bson::Double(number(before)? * number(operand)?))
        }
        _ => as_whole(
            before,
            operand,
            whole(before)?.checked_mul(whole(operand)?)?,
        ),
    }
}

fn combined(before: Bson, operand: &Bson) -> Option<Bson> {
    let mut bits = before;
    for (operation, operand) in operand.as_document()? {
        let (a, b) = (whole(&bits)?, whole(operand)?);
        let result = match operation.as_str() {
            "and" => a & b,
            "or" => a | b,
            _ => a ^ b,
        };
        bits = as_whole(&bits, operand, result)?;
    }
    Some(bits)
}

/// An int where both were ints and it fits.
fn as_whole(before: &Bson, operand: &Bson, result: i64) -> Option<Bson> {
    let are_small = matches!((before, operand), (Bson::Int32(_), Bson::Int32(_)));
    match i32::try_from(result) {
        Ok(small) if are_small => Some(Bson::Int32(small)),
        _ => Some(Bson::Int64(result)),
    }
}

fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(value) => Some(f64::from(*value)),
        Bson::Double(value) => Some(*value),
        _ => None,
    }
}

fn order(a: &Bson, b: &Bson) -> Option<Ordering> {
    match (a, b) {
        (Bson::String(a), Bson::String(b)) => Some(a.cmp(b)),
        (Bson::DateTime(a), Bson::DateTime(b)) => Some(a.cmp(b)),
        _ => number(a)?.partial_cmp(&number(b)?),
    }
}

/// The values of the key's fields. Of an array it is the element that somebody else has.
async fn key_values(
    call: &Call<'_>,
    collection: &str,
    pattern: &Document,
    document: &Document,
) -> Document {
    let mut values = values_of(pattern, document);
    if values.values().any(|value| matches!(value, Bson::Array(_)))
        && let Some(holder) = holder_of(call, collection, pattern, document).await
    {
        for (path, value) in &mut values.iter_mut() {
            if let Bson::Array(elements) = value {
                let theirs = value_at(&holder, path);
                let shared = elements.iter().find(|element| match &theirs {
                    Some(Bson::Array(theirs)) => theirs.contains(element),
                    theirs => theirs.as_ref() == Some(*element),
                });
                if let Some(shared) = shared.cloned() {
                    *value = shared;
                }
            }
        }
    }
    values
}

fn values_of(pattern: &Document, document: &Document) -> Document {
    pattern
        .keys()
        .map(|path| {
            let value = value_at(document, path).unwrap_or(Bson::Null);
            (path.clone(), value)
        })
        .collect()
}

fn value_at(document: &Document, path: &str) -> Option<Bson> {
    if let Some(value) = document.get(path) {
        return Some(value.clone());
    }
    let (first, rest) = path.split_once('.')?;
    match document.get(first)? {
        Bson::Document(inner) => value_at(inner, rest),
        Bson::Array(elements) => {
            let inner = elements.iter().filter_map(Bson::as_document);
            let values = inner.map(|inner| value_at(inner, rest).unwrap_or(Bson::Null));
            let values = values.flat_map(|value| match value {
                Bson::Array(values) => values,
                value => vec![value],
            });
            Some(Bson::Array(values.collect()))
        }
        _ => None,
    }
}

/// `E11000 duplicate key error collection: db.c index: e_1 dup key: { e: 1 }`.
fn message(namespace: &str, index: &str, values: &Document) -> String {
    let fields: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{name}: {}", shell_text(value)))
        .collect();
    format!(
        "E11000 duplicate key error collection: {namespace} index: {index} dup key: {{ {} }}",
        fields.join(", ")
    )
}

/// A value as MongoDB's shell writes it.
pub(super) fn shell_text(value: &Bson) -> String {
    match value {
        Bson::String(text) => format!("\"{text}\""),
        Bson::ObjectId(id) => format!("ObjectId('{id}')"),
        Bson::Double(number) => format!("{number:?}"),
        Bson::DateTime(at) => format!("new Date({})", at.timestamp_millis()),
        Bson::Document(document) => {
            let fields: Vec<String> = document
                .iter()
                .map(|(name, value)| format!("{name}: {}", shell_text(value)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Bson::Array(values) => format!(
            "[ {} ]",
            values.iter().map(shell_text).collect::<Vec<_>>().join(", ")
        ),
        Bson::Binary(binary) => match binary.to_uuid() {
            Ok(id) => format!("UUID(\"{id}\")"),
            Err(_) => {
                let hex: Vec<String> = binary
                    .bytes
                    .iter()
                    .map(|byte| format!("{byte:02X}"))
                    .collect();
                format!("BinData({}, {})", u8::from(binary.subtype), hex.concat())
            }
        },
        other => other.to_string(),
    }
}

/// Returns the error of a unique index that could not be made, with the first key that is there twice.
pub(super) async fn while_building(
    call: &Call<'_>,
    collection: &str,
    indexes: &[Document],
) -> CommandError {
    let namespace = format!("{}.{collection}", call.database);
    let unique = indexes
        .iter()
        .filter(|index| index.get_bool("unique").unwrap_or(false));
    for index in unique {
        let Ok(pattern) = index.get_document("key") else {
            continue;
        };
        if let Some(values) = doubled(call, collection, pattern).await {
            let name = index.get_str("name").unwrap_or_default();
            let message = message(&namespace, name, &values);
            return CommandError::new(
                11000,
                "DuplicateKey",
                format!("Index build failed: Collection {namespace} :: caused by :: {message}"),
            )
            .with("keyPattern", pattern.clone())
            .with("keyValue", values);
        }
    }
    let message = format!("Index build failed: E11000 duplicate key error collection: {namespace}");
    CommandError::new(11000, "DuplicateKey", message)
}

/// Returns a key that two documents have.
async fn doubled(call: &Call<'_>, collection: &str, pattern: &Document) -> Option<Document> {
    let names: Vec<String> = (0..pattern.len())
        .map(|number| format!("k{number}"))
        .collect();
    let paths = pattern.keys().map(|path| Bson::String(format!("${path}")));
    let values: Document = names.iter().cloned().zip(paths).collect();
    let mut pipeline = vec![doc! { "$project": values }];
    // Each element of an array is a key.
    pipeline.extend(names.iter().map(|name| {
        doc! { "$unwind": { "path": format!("${name}"), "preserveNullAndEmptyArrays": true } }
    }));
    let own = names
        .iter()
        .map(|name| (name.clone(), Bson::String(format!("${name}"))));
    let key: Document = own.collect();
    pipeline.extend([
        doc! { "$group": { "_id": key, "of": { "$addToSet": "$_id" } } },
        doc! { "$match": { "of.1": { "$exists": true } } },
        doc! { "$limit": 1 },
    ]);
    let found = aggregation::first(call, collection, pipeline).await?;
    let key = found.get_document("_id").ok()?;
    let values = names
        .iter()
        .map(|name| key.get(name).cloned().unwrap_or(Bson::Null));
    Some(pattern.keys().cloned().zip(values).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_mongodbs() {
        let values = values_of(
            &doc! { "e": 1, "a.b": 1 },
            &doc! { "e": "x", "a": { "b": 2 } },
        );
        assert_eq!(
            message("db.c", "e_1_a.b_1", &values),
            "E11000 duplicate key error collection: db.c index: e_1_a.b_1 dup key: { e: \"x\", a.b: 2 }"
        );
    }

    #[test]
    fn an_updates_values_come_from_what_it_sets_and_what_is_there() {
        let found = Some(doc! { "_id": 1, "f": 3, "e": 1 });
        let set = doc! { "$set": { "e": 5 }, "$setOnInsert": { "f": 9 } };
        assert_eq!(
            updated(found.clone(), &doc! {}, &set),
            Some(doc! { "_id": 1, "f": 3, "e": 5 })
        );
        let query = doc! { "g": 1, "h": { "$gt": 1 } };
        assert_eq!(
            updated(None, &query, &set),
            Some(doc! { "g": 1, "e": 5, "f": 9 })
        );
        let of_found = |update: Document| updated(found.clone(), &doc! {}, &update);
        for (update, e) in [
            (
                doc! { "$inc": { "e": 1 }, "$currentDate": { "at": true } },
                Bson::Int32(2),
            ),
            (doc! { "$mul": { "e": 2.5 } }, Bson::Double(2.5)),
            (doc! { "$max": { "e": 0 } }, Bson::Int32(1)),
            (doc! { "$min": { "e": 0 } }, Bson::Int32(0)),
            (doc! { "$bit": { "e": { "or": 6_i64 } } }, Bson::Int64(7)),
            (doc! { "$unset": { "e": "" } }, Bson::Null),
            (doc! { "$rename": { "f": "e" } }, Bson::Int32(3)),
            (
                doc! { "$inc": { "e": i32::MAX } },
                Bson::Int64(2_147_483_648),
            ),
        ] {
            let value = of_found(update.clone()).and_then(|written| value_at(&written, "e"));
            assert_eq!(value, Some(e), "{update}");
        }
        let pushed = of_found(doc! { "$push": { "l": { "$each": [1, 2] } } });
        let pushed = pushed.and_then(|written| value_at(&written, "l"));
        assert_eq!(pushed, Some(bson::bson!([1, 2])));
    }

    #[test]
    fn a_value_in_documents_of_an_array_is_one_of_several() {
        let document = doc! { "l": [{ "x": 1 }, { "x": [2, 3] }, 4, { "y": 5 }] };
        let values = value_at(&document, "l.x");
        assert_eq!(values, Some(bson::bson!([1, 2, 3, null])));
    }

    #[test]
    fn an_index_name_may_contain_quotes() {
        assert_eq!(
            index_name("Duplicate key violation on the requested collection: Index 'it's'"),
            Some("it's")
        );
        assert_eq!(index_name("something else"), None);
    }
}
