//! Mappings: known and unknown keys, required ones, exactly one of several.

use serde_json::{Map, Value as Json};

use super::shape::{about, accepts_null, is_single, known_keys, required};
use super::{Place, Reader, nearest, noun, spot};
use crate::source::Severity;
use crate::yaml::{Entry, Node, Value};

/// Levels of a schema in which a misplaced key's home is looked for; schemas may be recursive.
const HOMES_DEPTH_MAX: usize = 6;

impl<'a> Reader<'a> {
    pub(super) fn object(&mut self, schema: &'a Json, node: &Node, place: &Place) -> Json {
        let Value::Mapping(entries) = &node.value else {
            let hint = match known_keys(schema).as_slice() {
                [] => "write `key: value` lines, indented below it".to_owned(),
                keys => format!(
                    "write keys below it, indented by two spaces; known here: {}",
                    keys.join(", ")
                ),
            };
            return self.fail(
                spot(node, place),
                format!("{} must be a mapping, not {}", place.name(), noun(node)),
                hint,
            );
        };
        let properties = schema.get("properties").and_then(Json::as_object);
        let mut object = Map::new();
        let mut meant = Vec::new();
        for entry in entries {
            let inner = place.key(entry);
            let values = schema
                .get("additionalProperties")
                .filter(|values| **values != Json::Bool(false));
            if let Some(property) = properties.and_then(|properties| properties.get(&entry.key)) {
                if entry.value.is_null() && !accepts_null(self.resolve(property)) {
                    self.empty_key(schema, property, entry, &inner);
                } else {
                    object.insert(
                        entry.key.clone(),
                        self.value(property, &entry.value, &inner),
                    );
                }
            } else if let Some(values) = values {
                object.insert(entry.key.clone(), self.value(values, &entry.value, &inner));
            } else if properties.is_some() {
                meant.extend(self.unknown_key(schema, entry, place));
            } else {
                object.insert(entry.key.clone(), entry.value.to_json());
            }
        }
        self.missing_keys(schema, entries, place, &meant);
        self.exactly_one(schema, entries, place, &meant);
        Json::Object(object)
    }

    /// Reports a key with nothing behind it where that is a mistake or may be one.
    fn empty_key(&mut self, schema: &'a Json, property: &'a Json, entry: &Entry, inner: &Place) {
        if required(schema).contains(&entry.key.as_str()) {
            self.fail(
                entry.key_span,
                format!("{} is empty", inner.name()),
                about(property),
            );
        } else if is_single(self.resolve(property)) {
            let message = format!("{} is empty and counts as absent", inner.name());
            let problem = self
                .file
                .problem(Severity::Warning, entry.key_span, message);
            self.problems
                .push(problem.hint("write a value, or remove the line"));
        }
    }

    /// Reports required keys that are absent, except those that an unknown key was meant to be.
    fn missing_keys(
        &mut self,
        schema: &'a Json,
        entries: &[Entry],
        place: &Place,
        meant: &[String],
    ) {
        for key in required(schema) {
            if entries.iter().any(|entry| entry.key == key)
                || meant.iter().any(|meant| meant == key)
            {
                continue;
            }
            let property = schema
                .get("properties")
                .and_then(|properties| properties.get(key));
            let dot = if place.path.is_empty() { "" } else { "." };
            let message = format!("`{}{dot}{key}` is missing", place.path);
            self.fail(
                place.span,
                message,
                format!("add `{key}: …`. {}", property.map_or(String::new(), about)),
            );
        }
    }

    /// Reports an unknown key and returns the key that was meant, when that is clear.
    fn unknown_key(&mut self, schema: &'a Json, entry: &Entry, place: &Place) -> Option<String> {
        let known = known_keys(schema);
        let meant = nearest(&entry.key, known.iter().copied()).map(str::to_owned);
        let elsewhere = || self.homes_of(&entry.key);
        let hint = match &meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => match elsewhere() {
                Some(home) => format!(
                    "`{}` belongs below {home}: check the indentation",
                    entry.key
                ),
                None => format!("known here: {}", known.join(", ")),
            },
        };
        let inside = if place.path.is_empty() {
            String::new()
        } else {
            format!(" in `{}`", place.path)
        };
        self.fail(
            entry.key_span,
            format!("unknown key `{}`{inside}", entry.key),
            hint,
        );
        meant
    }

    /// Returns where in the whole file a key is known, when that is one place.
    fn homes_of(&self, key: &str) -> Option<String> {
        let homes = self.homes_below(self.root, key, "", 0);
        match homes.as_slice() {
            [home] if home.is_empty() => Some("the top of the file".to_owned()),
            [home] => Some(format!("`{home}`")),
            _ => None,
        }
    }

    fn homes_below(&self, schema: &'a Json, key: &str, path: &str, depth: usize) -> Vec<String> {
        let schema = self.resolve(schema);
        let mut homes = Vec::new();
        if depth > HOMES_DEPTH_MAX {
            return homes;
        }
        for (name, property) in schema
            .get("properties")
            .and_then(Json::as_object)
            .into_iter()
            .flatten()
        {
            if name == key {
                homes.push(path.to_owned());
            }
            let dot = if path.is_empty() { "" } else { "." };
            homes.extend(self.homes_below(property, key, &format!("{path}{dot}{name}"), depth + 1));
        }
        homes
    }

    fn exactly_one(
        &mut self,
        schema: &'a Json,
        entries: &[Entry],
        place: &Place,
        meant: &[String],
    ) {
        let Some(choices) = schema.get("x-exactly-one").and_then(Json::as_array) else {
            return;
        };
        let choices: Vec<&str> = choices.iter().filter_map(Json::as_str).collect();
        let given: Vec<&Entry> = entries
            .iter()
            .filter(|entry| choices.contains(&entry.key.as_str()))
            .collect();
        if given.is_empty() && !meant.iter().any(|meant| choices.contains(&meant.as_str())) {
            let message = format!("{} needs one of: {}", place.name(), choices.join(", "));
            self.fail(
                place.span,
                message,
                "give exactly one of these keys".to_owned(),
            );
        }
        for extra in given.iter().skip(1) {
            let message = format!(
                "`{}` and `{}` cannot be given together",
                given[0].key, extra.key
            );
            self.fail(
                extra.key_span,
                message,
                "give exactly one of them".to_owned(),
            );
        }
    }
}
