//! Tree → struct: the whole tree is checked against the schema that schemars
//! makes from the struct, so that every mistake is reported, and only a tree
//! without mistakes is deserialized.
//!
//! Understood: objects (required and unknown keys), maps, lists, texts,
//! numbers with bounds, booleans, enums of words, externally tagged enums
//! ("exactly one of these keys"), options, references. Beyond JSON schema:
//! `x-exactly-one: [a, b]` on a struct asks for exactly one of those keys, and
//! the text formats in [`format_mistake`] are checked.

use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{Entry, Node, Value, parse};
use crate::source::{Problems, Severity, SourceFile, Span};

mod choose;
mod formats;
mod object;
mod shape;

use formats::format_mistake;
use shape::{about, accepts_null, alternatives, kind, most_of, words};

/// Parses a file and reads it as a `T`: [`parse`] and [`read`]. An empty file is an empty mapping.
pub fn load<T: JsonSchema + DeserializeOwned>(
    file: &SourceFile,
    problems: &mut Problems,
) -> Option<(T, Node)> {
    let before = problems.len();
    let node = parse(file, problems)?;
    let value = read(file, &node, problems);
    let is_clean = problems
        .iter()
        .skip(before)
        .all(|problem| problem.severity != Severity::Error);
    value.filter(|_| is_clean).map(|value| (value, node))
}

/// Reads a tree as a `T`. Every mistake becomes a problem with place and hint; `None` when there
/// is one.
///
/// A key with nothing behind it counts as absent, so that its default applies. Unknown keys are
/// mistakes wherever the schema lists keys, with or without `deny_unknown_fields`.
pub fn read<T: JsonSchema + DeserializeOwned>(
    file: &SourceFile,
    node: &Node,
    problems: &mut Problems,
) -> Option<T> {
    let root = schema::<T>();
    let mut reader = Reader {
        file,
        root: &root,
        problems,
        failed: false,
    };
    let top = Place {
        path: String::new(),
        span: node.span,
    };
    let empty = Node {
        span: node.span,
        value: Value::Mapping(Vec::new()),
    };
    let is_object = reader.resolve(&root).get("properties").is_some();
    let json = reader.value(
        &root,
        if node.is_null() && is_object {
            &empty
        } else {
            node
        },
        &top,
    );
    if reader.failed {
        return None;
    }
    match serde_json::from_value(json) {
        Ok(value) => Some(value),
        Err(error) => {
            problems.push(file.error(node.span, format!("this file cannot be used: {error}")));
            None
        }
    }
}

/// Returns the JSON schema of a file format, for editors.
pub fn schema<T: JsonSchema>() -> Json {
    SchemaGenerator::default()
        .into_root_schema_for::<T>()
        .to_value()
}

/// Returns the name nearest to what was written, when one is near enough to be meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let limit = (written.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&plain(written), &plain(name)),
                name,
            )
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Where a value stands, in words and in the text.
struct Place {
    /// Such as `scenario.llm.model`; empty at the top.
    path: String,
    /// The key that opens it.
    span: Span,
}

impl Place {
    fn key(&self, entry: &Entry) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self {
            path: format!("{}{dot}{}", self.path, entry.key),
            span: entry.key_span,
        }
    }

    fn name(&self) -> String {
        if self.path.is_empty() {
            "the file".to_owned()
        } else {
            format!("`{}`", self.path)
        }
    }
}

struct Reader<'a> {
    file: &'a SourceFile,
    root: &'a Json,
    problems: &'a mut Problems,
    failed: bool,
}

impl<'a> Reader<'a> {
    fn fail(&mut self, span: Span, message: String, hint: String) -> Json {
        self.failed = true;
        self.problems
            .push(self.file.error(span, message).hint(hint));
        Json::Null
    }

    /// Follows references and looks through options.
    fn resolve(&self, mut schema: &'a Json) -> &'a Json {
        loop {
            if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
                let found = reference
                    .strip_prefix('#')
                    .and_then(|pointer| self.root.pointer(pointer));
                match found {
                    Some(found) => schema = found,
                    None => return schema,
                }
            } else if let [only] = alternatives(schema).as_slice() {
                schema = only;
            } else {
                return schema;
            }
        }
    }

    fn value(&mut self, schema: &'a Json, node: &Node, place: &Place) -> Json {
        let schema = self.resolve(schema);
        if !alternatives(schema).is_empty() {
            return self.one_of(schema, node, place);
        }
        if let Some(words) = words(schema) {
            return self.word(&words, node, place);
        }
        match kind(schema) {
            Some("object") => self.object(schema, node, place),
            Some("array") => self.list(schema, node, place),
            Some("string") => self.text(schema, node, place),
            Some("boolean") => self.boolean(node, place),
            Some("integer" | "number") => self.number(schema, node, place),
            _ => node.to_json(),
        }
    }

    fn list(&mut self, schema: &'a Json, node: &Node, place: &Place) -> Json {
        let Value::Sequence(items) = &node.value else {
            let hint = match node.text() {
                Some(text) => format!("write a list: `[{text}]`, or lines that begin with `- `"),
                None => "put `- ` before each item".to_owned(),
            };
            return self.fail(
                spot(node, place),
                format!("{} must be a list, not {}", place.name(), noun(node)),
                hint,
            );
        };
        if let Some(least) = schema.get("minItems").and_then(Json::as_u64)
            && u64::try_from(items.len()).is_ok_and(|length| length < least)
        {
            return self.fail(
                place.span,
                format!("{} needs at least {least} item(s)", place.name()),
                about(schema),
            );
        }
        let values = items.iter().enumerate().map(|(index, item)| {
            let inner = Place {
                path: format!("{}[{index}]", place.path),
                span: item.span,
            };
            match schema.get("items") {
                Some(schema) if item.is_null() && !accepts_null(self.resolve(schema)) => self.fail(
                    item.span,
                    format!("{} is empty", inner.name()),
                    "write a value after the `-`, or remove the line".to_owned(),
                ),
                Some(schema) => self.value(schema, item, &inner),
                None => item.to_json(),
            }
        });
        Json::Array(values.collect())
    }

    fn text(&mut self, schema: &'a Json, node: &Node, place: &Place) -> Json {
        let Value::Scalar(scalar) = &node.value else {
            let hint =
                "write one value on the same line; quote text that contains `: `, ` #`, `{` or `[`"
                    .to_owned();
            return self.fail(
                spot(node, place),
                format!("{} must be a text, not {}", place.name(), noun(node)),
                hint,
            );
        };
        let least = schema.get("minLength").and_then(Json::as_u64).unwrap_or(0);
        if least > 0 && scalar.text.trim().is_empty() {
            return self.fail(
                spot(node, place),
                format!("{} is empty", place.name()),
                about(schema),
            );
        }
        if let Some(most) = schema.get("maxLength").and_then(Json::as_u64)
            && u64::try_from(scalar.text.chars().count()).is_ok_and(|length| length > most)
        {
            let message = format!(
                "{} has {} characters",
                place.name(),
                scalar.text.chars().count()
            );
            return self.fail(node.span, message, format!("write at most {most}"));
        }
        if let Some(format) = schema.get("format").and_then(Json::as_str)
            && let Some((mistake, hint)) = format_mistake(format, &scalar.text)
        {
            return self.fail(
                spot(node, place),
                format!("{} {mistake}", place.name()),
                hint,
            );
        }
        Json::String(scalar.text.clone())
    }

    fn boolean(&mut self, node: &Node, place: &Place) -> Json {
        let (truth, text) = match &node.value {
            Value::Scalar(scalar) => (scalar.as_bool(), scalar.text.to_lowercase()),
            _ => (None, String::new()),
        };
        let Some(truth) = truth else {
            let hint = match text.as_str() {
                "yes" | "on" | "y" | "1" | "enabled" => "write `true`",
                "no" | "off" | "n" | "0" | "disabled" => "write `false`",
                _ => "write `true` or `false`",
            };
            return self.fail(
                spot(node, place),
                format!("{} must be true or false, not {}", place.name(), noun(node)),
                hint.to_owned(),
            );
        };
        Json::Bool(truth)
    }

    fn number(&mut self, schema: &'a Json, node: &Node, place: &Place) -> Json {
        let is_whole = kind(schema) == Some("integer");
        let number = match &node.value {
            Value::Scalar(scalar) if is_whole => scalar.as_integer(),
            Value::Scalar(scalar) => scalar.as_number(),
            _ => None,
        };
        let what = if is_whole {
            "a whole number"
        } else {
            "a number"
        };
        let Some(number) = number else {
            let hint = "write digits only, such as `5`".to_owned();
            return self.fail(
                spot(node, place),
                format!("{} must be {what}, not {}", place.name(), noun(node)),
                hint,
            );
        };
        let value = number.as_f64().unwrap_or(f64::NAN);
        let least = schema.get("minimum").and_then(Json::as_f64);
        let most = schema
            .get("maximum")
            .and_then(Json::as_f64)
            .or_else(|| most_of(schema));
        if least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most) {
            let range = match (least, most) {
                (Some(least), Some(most)) => format!("write a number from {least} to {most}"),
                (Some(least), None) => format!("write {least} or more"),
                (None, Some(most)) => format!("write {most} or less"),
                (None, None) => String::new(),
            };
            return self.fail(
                node.span,
                format!("{} is out of range: {number}", place.name()),
                range,
            );
        }
        Json::Number(number)
    }
}

/// The place to underline: a scalar itself, else the key that opens the value.
fn spot(node: &Node, place: &Place) -> Span {
    if node.text().is_some_and(|text| !text.is_empty()) || place.span == Span::default() {
        node.span
    } else {
        place.span
    }
}

/// What stands there, in words.
fn noun(node: &Node) -> String {
    match &node.value {
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Scalar(scalar) if scalar.text.is_empty() || scalar.is_null() => "nothing".to_owned(),
        Value::Scalar(scalar) if scalar.text.chars().count() > 40 => {
            format!("`{}…`", scalar.text.chars().take(40).collect::<String>())
        }
        Value::Scalar(scalar) => format!("`{}`", scalar.text),
    }
}
