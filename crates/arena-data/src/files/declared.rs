//! What is declared beside documents: indexes, validators, views, and the
//! metadata that `mongodump` writes with each collection.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use serde_json::Value as Json;

use super::{DataError, Halt, Piece, Sink, Source, document, pass};

/// Options of `create` that a validator's file may hold beside the validator.
const VALIDATION: [&str; 3] = ["validator", "validationLevel", "validationAction"];

pub(super) fn indexes(
    source: &Source<'_>,
    collection: Arc<str>,
    text: &str,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let indexes = match parsed(source, text)? {
        Json::Array(items) => items
            .into_iter()
            .map(|item| document(source, 1, item))
            .collect::<Result<Vec<_>, _>>()?,
        json => vec![document(source, 1, json)?],
    };
    for (index, number) in indexes.iter().zip(1..) {
        let has_keys = index.get_document("key").is_ok_and(|key| !key.is_empty());
        if !has_keys {
            let reason =
                format!("index {number} has no `key`: write `{{ \"key\": {{ \"town\": 1 }} }}`");
            return Err(source.line(1, reason).into());
        }
    }
    pass(sink(Piece::Indexes {
        collection,
        indexes,
    }))
}

pub(super) fn validator(
    source: &Source<'_>,
    name: Arc<str>,
    text: &str,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let found = document(source, 1, parsed(source, text)?)?;
    let options = if found.contains_key("validator") {
        if let Some(other) = found.keys().find(|key| !VALIDATION.contains(&key.as_str())) {
            let reason = format!(
                "`{other}` does not belong here; there are: {}",
                VALIDATION.join(", ")
            );
            return Err(source.line(1, reason).into());
        }
        found
    } else {
        doc! { "validator": found }
    };
    if options.get_document("validator").is_err() {
        let reason = "`validator` is a document, such as `{ \"$jsonSchema\": … }`";
        return Err(source.line(1, reason).into());
    }
    pass(sink(Piece::Collection { name, options }))
}

pub(super) fn view(
    source: &Source<'_>,
    name: Arc<str>,
    text: &str,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    let options = document(source, 1, parsed(source, text)?)?;
    if options.get_str("viewOn").is_err() {
        return Err(source
            .line(1, "`viewOn` is missing: the collection that is looked at")
            .into());
    }
    if options.get_array("pipeline").is_err() {
        return Err(source
            .line(1, "`pipeline` is missing: a list of stages")
            .into());
    }
    pass(sink(Piece::View { name, options }))
}

/// `mongodump`'s metadata: options of the collection or view, and its indexes.
pub(super) fn metadata(
    source: &Source<'_>,
    name: Arc<str>,
    text: &str,
    sink: &mut Sink<'_>,
) -> Result<(), Halt> {
    if name.starts_with("system.") {
        return Ok(());
    }
    let found = document(source, 1, parsed(source, text)?)?;
    let mut options = found.get_document("options").cloned().unwrap_or_default();
    if options.contains_key("viewOn") {
        return pass(sink(Piece::View { name, options }));
    }
    if found.get_str("type").is_ok_and(|kind| kind == "timeseries")
        || options.contains_key("timeseries")
    {
        let reason = format!("{name} is a time series: dumps of these are not read");
        return Err(source.line(1, reason).into());
    }
    // Decided by the server that restores.
    options.remove("uuid");
    options.remove("autoIndexId");
    options.remove("idIndex");
    pass(sink(Piece::Collection {
        name: Arc::clone(&name),
        options,
    }))?;
    let indexes: Vec<Document> = found
        .get_array("indexes")
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(Bson::as_document)
        .filter(|index| index.get_str("name").map_or(true, |name| name != "_id_"))
        .cloned()
        .map(|mut index| {
            index.remove("ns");
            index.remove("v");
            index
        })
        .collect();
    if indexes.is_empty() {
        return Ok(());
    }
    pass(sink(Piece::Indexes {
        collection: name,
        indexes,
    }))
}

fn parsed(source: &Source<'_>, text: &str) -> Result<Json, DataError> {
    serde_json::from_str(text).map_err(|error| source.line(error.line(), error.to_string()))
}
