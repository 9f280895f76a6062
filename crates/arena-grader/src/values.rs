//! Values of a check: what names stand for, and how templates are filled in.
//! Everything is BSON here: answers of apps and rows of PostgreSQL become it,
//! so that one comparison serves all.

use std::collections::BTreeMap;

use arena_workshop::check::placeholder::{Piece, pieces};
use arena_workshop::check::{Reference, Segment, Template};
use bson::oid::ObjectId;
use bson::{Bson, Document};
use serde_json::{Map, Number, Value as Json};

use crate::random::Random;
use crate::show;

/// What a placeholder without a value prints.
pub(crate) const NOTHING: &str = "(nothing)";

/// The names bound in one check's run.
pub(crate) struct Values {
    bound: BTreeMap<String, Bson>,
    random: Random,
}

impl Values {
    pub(crate) fn new(seat: &str, random: Random) -> Self {
        let seat = doc_of([("id", Bson::String(seat.to_owned()))]);
        Self {
            bound: BTreeMap::from([("seat".to_owned(), seat)]),
            random,
        }
    }

    pub(crate) fn bind(&mut self, name: &str, value: Bson) {
        self.bound.insert(name.to_owned(), value);
    }

    /// Returns what a reference stands for; `None` when there is nothing.
    pub(crate) fn get(&self, reference: &Reference) -> Option<Bson> {
        if reference.name == "random" {
            let [Segment::Key(key)] = reference.path.as_slice() else {
                return None;
            };
            return Some(self.random.value(key));
        }
        walk(self.bound.get(&reference.name)?, &reference.path)
    }

    /// Fills a template in; `None` when it is exactly one placeholder and that has no value.
    pub(crate) fn fill(&self, template: &Template) -> Option<Bson> {
        self.fill_json(&template.0)
    }

    /// Fills a template in that must be a mapping, such as a filter.
    pub(crate) fn fill_document(&self, template: &Template) -> Option<Document> {
        match self.fill(template)? {
            Bson::Document(document) => Some(document),
            _ => None,
        }
    }

    fn fill_json(&self, json: &Json) -> Option<Bson> {
        let value = match json {
            Json::String(text) => return self.fill_text(text),
            Json::Array(items) => Bson::Array(
                items
                    .iter()
                    .map(|item| self.fill_json(item).unwrap_or_else(nothing))
                    .collect(),
            ),
            Json::Object(fields) => {
                let fill = |(key, value): (&String, &Json)| {
                    (key.clone(), self.fill_json(value).unwrap_or_else(nothing))
                };
                from_extended(fields.iter().map(fill).collect())
            }
            plain => from_json(plain),
        };
        Some(value)
    }

    fn fill_text(&self, text: &str) -> Option<Bson> {
        match pieces(text).unwrap_or_default().as_slice() {
            [Piece::Value(reference)] => self.get(reference),
            _ => Some(Bson::String(self.text(text, |value| plain_text(&value)))),
        }
    }

    /// Fills a text in; `print` writes each value (what is missing prints "(nothing)").
    pub(crate) fn text(&self, text: &str, print: impl Fn(Bson) -> String) -> String {
        let Ok(pieces) = pieces(text) else {
            return text.to_owned();
        };
        let filled = pieces.into_iter().map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Value(reference) => self
                .get(&reference)
                .map_or_else(|| NOTHING.to_owned(), &print),
        });
        filled.collect()
    }

    /// Fills an author's message in; values are made harmless.
    pub(crate) fn message(&self, text: &str) -> String {
        self.text(text, |value| show::inline(&value))
    }
}

fn nothing() -> Bson {
    Bson::String(NOTHING.to_owned())
}

/// Follows a path; `*` collects what every row has there.
pub(crate) fn walk(value: &Bson, path: &[Segment]) -> Option<Bson> {
    let Some((first, rest)) = path.split_first() else {
        return Some(value.clone());
    };
    match (first, value) {
        (Segment::Key(key), Bson::Document(document)) if document.contains_key(key) => {
            walk(document.get(key)?, rest)
        }
        (Segment::Key(key), Bson::Array(items)) if key == "length" => {
            walk(&count(items.len()), rest)
        }
        (Segment::Key(key), Bson::String(text)) if key == "length" => {
            walk(&count(text.chars().count()), rest)
        }
        (Segment::Index(index), Bson::Array(items)) => walk(items.get(*index)?, rest),
        (Segment::Index(index), Bson::Document(document)) => {
            walk(document.get(index.to_string())?, rest)
        }
        (Segment::Every, Bson::Array(items)) => Some(Bson::Array(
            items.iter().filter_map(|item| walk(item, rest)).collect(),
        )),
        _ => None,
    }
}

/// Returns a number of things as a value.
pub(crate) fn count(number: usize) -> Bson {
    Bson::Int64(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Returns a mapping of fields.
pub(crate) fn doc_of<const N: usize>(fields: [(&str, Bson); N]) -> Bson {
    Bson::Document(
        fields
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

/// Reads JSON; `{"$numberDecimal": …}` and its like become what they stand for.
pub(crate) fn from_json(json: &Json) -> Bson {
    match json {
        Json::Null => Bson::Null,
        Json::Bool(truth) => Bson::Boolean(*truth),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Bson::Int64(whole),
            None => Bson::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Bson::String(text.clone()),
        Json::Array(items) => Bson::Array(items.iter().map(from_json).collect()),
        Json::Object(fields) => from_extended(
            fields
                .iter()
                .map(|(key, value)| (key.clone(), from_json(value)))
                .collect(),
        ),
    }
}

/// Turns `{"$oid": …}` and its like into the value; any other document stays.
fn from_extended(document: Document) -> Bson {
    let single = match (document.len(), document.iter().next()) {
        (1, Some((key, value))) if key.starts_with('$') => Some((key.as_str(), value)),
        _ => None,
    };
    let value = match single {
        Some(("$oid", Bson::String(hex))) => ObjectId::parse_str(hex).ok().map(Bson::ObjectId),
        Some(("$numberDecimal", Bson::String(text))) => text.parse().ok().map(Bson::Decimal128),
        Some(("$numberDouble", Bson::String(text))) => text.parse().ok().map(Bson::Double),
        Some(("$numberLong" | "$numberInt", Bson::String(text))) => {
            text.parse().ok().map(Bson::Int64)
        }
        Some(("$date", Bson::String(text))) => bson::DateTime::parse_rfc3339_str(text)
            .ok()
            .map(Bson::DateTime),
        Some(("$date", Bson::Int64(millis))) => {
            Some(Bson::DateTime(bson::DateTime::from_millis(*millis)))
        }
        _ => None,
    };
    value.unwrap_or(Bson::Document(document))
}

/// Writes a value as a Node app's `JSON.stringify` would.
pub(crate) fn to_json(value: &Bson) -> Json {
    match value {
        Bson::Double(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Bson::Int32(number) => Json::from(*number),
        Bson::Int64(number) => Json::from(*number),
        Bson::String(text) => Json::String(text.clone()),
        Bson::Boolean(truth) => Json::Bool(*truth),
        Bson::Null | Bson::Undefined => Json::Null,
        Bson::Array(items) => Json::Array(items.iter().map(to_json).collect()),
        Bson::Document(document) => Json::Object(
            document
                .iter()
                .map(|(key, value)| (key.clone(), to_json(value)))
                .collect(),
        ),
        Bson::ObjectId(id) => Json::String(id.to_hex()),
        Bson::DateTime(instant) => Json::String(
            instant
                .try_to_rfc3339_string()
                .unwrap_or_else(|_| instant.timestamp_millis().to_string()),
        ),
        Bson::Decimal128(number) => Json::Object(Map::from_iter([(
            "$numberDecimal".to_owned(),
            Json::String(number.to_string()),
        )])),
        other => other.clone().into_relaxed_extjson(),
    }
}

/// Writes a value into a text: texts as they are, everything else as JSON.
pub(crate) fn plain_text(value: &Bson) -> String {
    match value {
        Bson::String(text) => text.clone(),
        Bson::Decimal128(number) => number.to_string(),
        value => match to_json(value) {
            Json::String(text) => text,
            json => json.to_string(),
        },
    }
}
