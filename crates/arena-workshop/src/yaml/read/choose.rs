//! Choosing among a schema's alternatives by the shape of what was written.

use serde_json::{Map, Value as Json};

use super::shape::{alternatives, kind, tag, words};
use super::{Place, Reader, nearest, noun, spot};
use crate::yaml::{Entry, Node, Value};

impl<'a> Reader<'a> {
    pub(super) fn word(&mut self, words: &[&str], node: &Node, place: &Place) -> Json {
        if let Value::Scalar(scalar) = &node.value
            && words.contains(&scalar.text.as_str())
        {
            return Json::String(scalar.text.clone());
        }
        let hint = match node
            .text()
            .and_then(|text| nearest(text, words.iter().copied()))
        {
            Some(meant) => format!("did you mean `{meant}`? Accepted: {}", words.join(", ")),
            None => format!("write one of: {}", words.join(", ")),
        };
        self.fail(
            spot(node, place),
            format!("{} cannot be {}", place.name(), noun(node)),
            hint,
        )
    }

    /// Chooses among alternatives by the shape of what was written: words, tagged mappings, else
    /// the first alternative of that kind.
    pub(super) fn one_of(&mut self, schema: &'a Json, node: &Node, place: &Place) -> Json {
        let choice = Choice::of(
            alternatives(schema)
                .into_iter()
                .map(|alternative| self.resolve(alternative))
                .collect(),
        );
        match &node.value {
            Value::Mapping(entries) if !choice.tagged.is_empty() => {
                return self.tagged(&choice.tagged, entries, place);
            }
            Value::Mapping(_) => {
                if let Some(object) = choice.of_kind("object") {
                    return self.object(object, node, place);
                }
            }
            Value::Sequence(_) => {
                if let Some(list) = choice.of_kind("array") {
                    return self.list(list, node, place);
                }
            }
            Value::Scalar(scalar) => {
                if choice.words.contains(&scalar.text.as_str()) {
                    return Json::String(scalar.text.clone());
                }
                let kinds: &[&str] = match node.to_json() {
                    Json::Bool(_) => &["boolean", "string"],
                    Json::Number(_) => &["integer", "number", "string"],
                    _ => &["string"],
                };
                if let Some(fitting) = kinds.iter().find_map(|kind| choice.of_kind(kind)) {
                    return self.value(fitting, node, place);
                }
            }
        }
        let accepted = choice.accepted().join(", ");
        let hint = match node
            .text()
            .and_then(|text| nearest(text, choice.words.iter().copied()))
        {
            Some(meant) => format!("did you mean `{meant}`? Accepted: {accepted}"),
            None => format!("write one of: {accepted}"),
        };
        self.fail(
            spot(node, place),
            format!("{} cannot be {}", place.name(), noun(node)),
            hint,
        )
    }

    /// A mapping with exactly one of several keys.
    fn tagged(&mut self, tagged: &[(&'a str, &'a Json)], entries: &[Entry], place: &Place) -> Json {
        let known: Vec<&str> = tagged.iter().map(|(tag, _)| *tag).collect();
        let mut chosen: Option<(&Entry, Json)> = None;
        let mut unknown = false;
        for entry in entries {
            let Some((_, schema)) = tagged.iter().find(|(tag, _)| *tag == entry.key) else {
                unknown = true;
                let hint = match nearest(&entry.key, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                self.fail(
                    entry.key_span,
                    format!("unknown key `{}` in {}", entry.key, place.name()),
                    hint,
                );
                continue;
            };
            if let Some((first, _)) = &chosen {
                let message = format!(
                    "`{}` and `{}` cannot be given together",
                    first.key, entry.key
                );
                self.fail(
                    entry.key_span,
                    message,
                    format!("give exactly one of: {}", known.join(", ")),
                );
                continue;
            }
            let value = self.value(schema, &entry.value, &place.key(entry));
            chosen = Some((entry, value));
        }
        match chosen {
            Some((entry, value)) => Json::Object(Map::from_iter([(entry.key.clone(), value)])),
            None if unknown => Json::Null,
            None => self.fail(
                place.span,
                format!("{} is empty", place.name()),
                format!("give exactly one of: {}", known.join(", ")),
            ),
        }
    }
}

/// The alternatives of a schema, sorted by how they are told apart.
struct Choice<'a> {
    words: Vec<&'a str>,
    tagged: Vec<(&'a str, &'a Json)>,
    others: Vec<&'a Json>,
}

impl<'a> Choice<'a> {
    fn of(alternatives: Vec<&'a Json>) -> Self {
        let mut choice = Self {
            words: Vec::new(),
            tagged: Vec::new(),
            others: Vec::new(),
        };
        for alternative in alternatives {
            if let Some(words) = words(alternative) {
                choice.words.extend(words);
            } else if let Some(tag) = tag(alternative) {
                choice.tagged.push(tag);
            } else {
                choice.others.push(alternative);
            }
        }
        choice
    }

    fn of_kind(&self, wanted: &str) -> Option<&'a Json> {
        self.others
            .iter()
            .copied()
            .find(|alternative| kind(alternative) == Some(wanted))
    }

    fn accepted(&self) -> Vec<String> {
        let nouns = [
            ("object", "a mapping"),
            ("array", "a list"),
            ("string", "a text"),
            ("integer", "a whole number"),
            ("boolean", "true or false"),
        ];
        let words = self.words.iter().map(|word| (*word).to_owned());
        let tags = self.tagged.iter().map(|(tag, _)| format!("`{tag}: …`"));
        let others = nouns
            .iter()
            .filter(|(kind, _)| self.of_kind(kind).is_some())
            .map(|(_, noun)| (*noun).to_owned());
        words.chain(tags).chain(others).collect()
    }
}
