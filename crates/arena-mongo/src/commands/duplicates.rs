//! `E11000` as MongoDB words it. The engine names the index only; the key comes
//! from the collection's list of indexes and the values from what was written.

use bson::{Bson, Document, RawDocument};

use super::{Call, reading};
use crate::error::CommandError;

/// Returns the error with text, `keyPattern` and `keyValue`; unchanged where the index is not known.
pub(super) async fn described(
    call: &Call<'_>,
    collection: &str,
    error: &CommandError,
    operation: &RawDocument,
) -> CommandError {
    let Some(index) = index_name(&error.message) else {
        return without_values(call, collection, error);
    };
    let Some(pattern) = pattern_of(call, collection, index).await else {
        return without_values(call, collection, error);
    };
    let written = Document::try_from(operation).unwrap_or_default();
    let values = key_values(&pattern, &written);
    let mut described = error.clone();
    described.message = message(&format!("{}.{collection}", call.database), index, &values);
    described
        .with("keyPattern", pattern)
        .with("keyValue", values)
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

pub(super) async fn pattern_of(call: &Call<'_>, collection: &str, index: &str) -> Option<Document> {
    let indexes = reading::indexes_of(call, collection).await.ok()?;
    let index = indexes
        .into_iter()
        .find(|listed| listed.get_str("name").is_ok_and(|name| name == index))?;
    Document::try_from(index.get_document("key").ok()?).ok()
}

/// The values of the key's fields: in an inserted document itself, in an update in what it sets, else in
/// what it looked for.
fn key_values(pattern: &Document, written: &Document) -> Document {
    let update = ["u", "update"]
        .into_iter()
        .find_map(|field| written.get_document(field).ok());
    let query = ["q", "query"]
        .into_iter()
        .find_map(|field| written.get_document(field).ok());
    let mut places: Vec<&Document> = Vec::new();
    match update {
        Some(update) => {
            places.extend(
                ["$set", "$setOnInsert"]
                    .into_iter()
                    .filter_map(|operator| update.get_document(operator).ok()),
            );
            places.push(update);
            places.extend(query);
        }
        None => places.push(written),
    }
    let value_of = |path: &str| {
        places
            .iter()
            .find_map(|place| value_at(place, path))
            .unwrap_or(Bson::Null)
    };
    pattern
        .keys()
        .map(|path| (path.clone(), value_of(path)))
        .collect()
}

fn value_at(document: &Document, path: &str) -> Option<Bson> {
    if let Some(value) = document.get(path) {
        return Some(value.clone());
    }
    let (first, rest) = path.split_once('.')?;
    value_at(document.get_document(first).ok()?, rest)
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
fn shell_text(value: &Bson) -> String {
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
        other => other.to_string(),
    }
}

/// Returns the error of a unique index that could not be made, with the index the client asked for.
pub(super) fn while_building(namespace: &str, index: &str) -> CommandError {
    let message = format!(
        "Index build failed: E11000 duplicate key error collection: {namespace} index: {index} dup key"
    );
    CommandError::new(11000, "DuplicateKey", message)
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn the_text_is_mongodbs() {
        let values = key_values(
            &doc! { "e": 1, "a.b": 1 },
            &doc! { "e": "x", "a": { "b": 2 } },
        );
        assert_eq!(
            message("db.c", "e_1_a.b_1", &values),
            "E11000 duplicate key error collection: db.c index: e_1_a.b_1 dup key: { e: \"x\", a.b: 2 }"
        );
    }

    #[test]
    fn an_updates_values_come_from_what_it_sets() {
        let update = doc! { "q": { "_id": 1, "f": 3 }, "u": { "$set": { "e": 5 } } };
        assert_eq!(
            key_values(&doc! { "e": 1, "f": 1 }, &update),
            doc! { "e": 5, "f": 3 }
        );
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
