//! YAML as a tree that knows its lines, and the way from a tree to a struct
//! with every mistake reported at once.
//!
//! Begin at [`load`] (text → struct), which is [`parse`] (text → [`Node`])
//! followed by [`read`] (tree → struct). Rules that no schema can say are the
//! caller's: it finds the place to underline with [`Node::find`].
//!
//! Hostile texts are bounded: 1 MiB, 64 levels, 100,000 values, 10,000 values
//! copied by anchors. Each limit is a [`Problem`](crate::Problem), never a
//! panic.

mod parse;
mod read;

pub(crate) use parse::text_of;
pub use parse::{ALIAS_NODES_MAX, DEPTH_MAX, NODES_MAX, SIZE_MAX_BYTES, parse};
pub use read::{load, nearest, read, schema};

use serde_json::{Map, Number, Value as Json};

use crate::source::Span;

/// A value of the file and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value's own text for a scalar; the start of the value for a list or mapping.
    pub span: Span,
    /// What stands there.
    pub value: Value,
}

/// What a [`Node`] holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text, number, boolean or nothing: what it is depends on what is asked for.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, in order; keys are unique.
    Mapping(Vec<Entry>),
}

/// A scalar as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// The text without quotes, escapes resolved.
    pub text: String,
    /// Whether it was quoted or a block (`|`, `>`): then it is text, whatever it looks like.
    pub is_quoted: bool,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// Returns the value of a key, when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    /// Returns the entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            Value::Scalar(_) | Value::Sequence(_) => &[],
        }
    }

    /// Returns the items of a list; none for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Sequence(items) => items,
            Value::Scalar(_) | Value::Mapping(_) => &[],
        }
    }

    /// Returns the text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
            _ => None,
        }
    }

    /// Returns whether nothing stands here: an empty value, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// Returns the place to underline for a path such as `&["checks", "0", "expect"]` (list items
    /// by index): a scalar's own text, else the key that opens the value. Where the path ends
    /// early, the place of the last step that exists.
    pub fn find(&self, path: &[&str]) -> Span {
        let mut node = self;
        let mut span = self.span;
        for step in path {
            let next = match &node.value {
                Value::Mapping(entries) => entries
                    .iter()
                    .find(|entry| entry.key == *step)
                    .map(|entry| (entry.key_span, &entry.value)),
                Value::Sequence(items) => step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .map(|item| (item.span, item)),
                Value::Scalar(_) => None,
            };
            let Some((place, value)) = next else {
                return span;
            };
            span = if value.text().is_some() {
                value.span
            } else {
                place
            };
            node = value;
        }
        span
    }

    /// Returns the place of the key at a path, else of the last step that exists.
    pub fn find_key(&self, path: &[&str]) -> Span {
        let Some((last, parents)) = path.split_last() else {
            return self.span;
        };
        let mut node = self;
        for step in parents {
            let next = match &node.value {
                Value::Sequence(items) => step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index)),
                _ => node.get(step),
            };
            let Some(next) = next else {
                return self.find(parents);
            };
            node = next;
        }
        match node.entries().iter().find(|entry| entry.key == *last) {
            Some(entry) => entry.key_span,
            None => self.find(path),
        }
    }

    /// Returns the value as JSON by YAML's core rules, without a schema.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Scalar(scalar) => scalar.to_json(),
            Value::Sequence(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Mapping(entries) => Json::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_json()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// Returns how many values this is, itself included, and how many levels.
    fn measure(&self) -> (usize, usize) {
        let children: Vec<&Node> = match &self.value {
            Value::Scalar(_) => Vec::new(),
            Value::Sequence(items) => items.iter().collect(),
            Value::Mapping(entries) => entries.iter().map(|entry| &entry.value).collect(),
        };
        children
            .into_iter()
            .map(Node::measure)
            .fold((1, 1), |(count, depth), (more, deep)| {
                (count + more, depth.max(deep + 1))
            })
    }
}

impl Scalar {
    /// Returns whether this says nothing.
    pub fn is_null(&self) -> bool {
        !self.is_quoted && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// Returns the boolean, quoted or not.
    pub fn as_bool(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    /// Returns the whole number, quoted or not; `0x` and `0o` as YAML has them.
    pub fn as_integer(&self) -> Option<Number> {
        let text = self.text.as_str();
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if let Some(digits) = text.strip_prefix("0x") {
            return u64::from_str_radix(digits, 16).ok().map(Number::from);
        }
        if let Some(digits) = text.strip_prefix("0o") {
            return u64::from_str_radix(digits, 8).ok().map(Number::from);
        }
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        text.parse::<i64>()
            .map(Number::from)
            .or_else(|_| text.parse::<u64>().map(Number::from))
            .ok()
    }

    /// Returns the number, quoted or not; infinities and not-a-number are none.
    pub fn as_number(&self) -> Option<Number> {
        self.as_integer().or_else(|| {
            let starts_like_one = self
                .text
                .starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
            let has_digit = self.text.bytes().any(|byte| byte.is_ascii_digit());
            if starts_like_one && has_digit {
                self.text.parse::<f64>().ok().and_then(Number::from_f64)
            } else {
                None
            }
        })
    }

    fn to_json(&self) -> Json {
        if self.is_quoted {
            return Json::String(self.text.clone());
        }
        if self.is_null() {
            return Json::Null;
        }
        match (self.as_bool(), self.as_number()) {
            (Some(truth), _) => Json::Bool(truth),
            (None, Some(number)) => Json::Number(number),
            (None, None) => Json::String(self.text.clone()),
        }
    }
}
