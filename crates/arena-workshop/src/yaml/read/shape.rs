//! What a schema says, read off its keywords.

use serde_json::Value as Json;

/// The alternatives of `oneOf` or `anyOf` that are not null.
pub(super) fn alternatives(schema: &Json) -> Vec<&Json> {
    let list = schema
        .get("oneOf")
        .or_else(|| schema.get("anyOf"))
        .and_then(Json::as_array);
    list.into_iter()
        .flatten()
        .filter(|alternative| alternative.get("type").and_then(Json::as_str) != Some("null"))
        .collect()
}

/// The one type that a schema asks for, null aside.
pub(super) fn kind(schema: &Json) -> Option<&str> {
    match schema.get("type") {
        Some(Json::String(kind)) => Some(kind),
        Some(Json::Array(kinds)) => kinds
            .iter()
            .filter_map(Json::as_str)
            .find(|kind| *kind != "null"),
        _ => schema.get("properties").map(|_| "object"),
    }
}

/// The words of an enum.
pub(super) fn words(schema: &Json) -> Option<Vec<&str>> {
    if let Some(word) = schema.get("const") {
        return word.as_str().map(|word| vec![word]);
    }
    schema
        .get("enum")
        .and_then(Json::as_array)
        .map(|words| words.iter().filter_map(Json::as_str).collect())
}

/// The key of an externally tagged alternative, and what stands behind it.
pub(super) fn tag(schema: &Json) -> Option<(&str, &Json)> {
    let properties = schema.get("properties")?.as_object()?;
    match (required(schema).as_slice(), properties.len()) {
        ([key], 1) => properties.get(*key).map(|inner| (*key, inner)),
        _ => None,
    }
}

pub(super) fn required(schema: &Json) -> Vec<&str> {
    schema
        .get("required")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect()
}

pub(super) fn known_keys(schema: &Json) -> Vec<&str> {
    schema
        .get("properties")
        .and_then(Json::as_object)
        .into_iter()
        .flat_map(|properties| properties.keys().map(String::as_str))
        .collect()
}

/// Whether null is a value of its own here (only where anything is accepted).
pub(super) fn accepts_null(schema: &Json) -> bool {
    kind(schema).is_none() && alternatives(schema).is_empty() && words(schema).is_none()
}

/// Whether one value is expected, not a list or mapping, which may well be empty.
pub(super) fn is_single(schema: &Json) -> bool {
    words(schema).is_some()
        || matches!(
            kind(schema),
            Some("string" | "boolean" | "integer" | "number")
        )
}

/// The bound that schemars leaves to the format.
pub(super) fn most_of(schema: &Json) -> Option<f64> {
    match schema.get("format").and_then(Json::as_str)? {
        "uint32" => Some(f64::from(u32::MAX)),
        "int32" => Some(f64::from(i32::MAX)),
        "uint64" | "int64" | "uint" | "int" => Some(9_007_199_254_740_992.0),
        _ => None,
    }
}

/// The first sentence of a key's documentation.
pub(super) fn about(schema: &Json) -> String {
    let text = schema
        .get("description")
        .and_then(Json::as_str)
        .unwrap_or("write a value after the colon, or remove the line");
    text.split_inclusive(". ")
        .next()
        .unwrap_or(text)
        .trim()
        .replace('\n', " ")
}
