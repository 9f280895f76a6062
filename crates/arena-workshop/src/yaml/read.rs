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
use serde_json::{Map, Value as Json};

use super::{Entry, Node, Value, parse};
use crate::source::{Problems, Severity, SourceFile, Span};

mod formats;

use formats::format_mistake;

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

    fn object(&mut self, schema: &'a Json, node: &Node, place: &Place) -> Json {
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
        let required = required(schema);
        let mut object = Map::new();
        let mut meant = Vec::new();
        for entry in entries {
            let inner = place.key(entry);
            if let Some(property) = properties.and_then(|properties| properties.get(&entry.key)) {
                let is_required = required.contains(&entry.key.as_str());
                if entry.value.is_null() && !accepts_null(self.resolve(property)) {
                    if is_required {
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
                    continue;
                }
                object.insert(
                    entry.key.clone(),
                    self.value(property, &entry.value, &inner),
                );
            } else if let Some(values) = schema
                .get("additionalProperties")
                .filter(|values| **values != Json::Bool(false))
            {
                object.insert(entry.key.clone(), self.value(values, &entry.value, &inner));
            } else if properties.is_some() {
                meant.extend(self.unknown_key(schema, entry, place));
            } else {
                object.insert(entry.key.clone(), entry.value.to_json());
            }
        }
        for key in required {
            let is_absent = entries.iter().all(|entry| entry.key != key);
            if is_absent && !meant.iter().any(|meant| meant == key) {
                let property = properties.and_then(|properties| properties.get(key));
                let dot = if place.path.is_empty() { "" } else { "." };
                let message = format!("`{}{dot}{key}` is missing", place.path);
                self.fail(
                    place.span,
                    message,
                    format!("add `{key}: …`. {}", property.map_or(String::new(), about)),
                );
            }
        }
        self.exactly_one(schema, entries, place, &meant);
        Json::Object(object)
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
        let mut homes = Vec::new();
        self.collect_homes(self.root, key, "", &mut homes, 0);
        match homes.as_slice() {
            [home] if home.is_empty() => Some("the top of the file".to_owned()),
            [home] => Some(format!("`{home}`")),
            _ => None,
        }
    }

    fn collect_homes(
        &self,
        schema: &'a Json,
        key: &str,
        path: &str,
        homes: &mut Vec<String>,
        depth: usize,
    ) {
        let schema = self.resolve(schema);
        if depth > 6 {
            return;
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
            self.collect_homes(
                property,
                key,
                &format!("{path}{dot}{name}"),
                homes,
                depth + 1,
            );
        }
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

    fn word(&mut self, words: &[&str], node: &Node, place: &Place) -> Json {
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
    fn one_of(&mut self, schema: &'a Json, node: &Node, place: &Place) -> Json {
        let alternatives: Vec<&'a Json> = alternatives(schema)
            .into_iter()
            .map(|alternative| self.resolve(alternative))
            .collect();
        let words: Vec<&str> = alternatives
            .iter()
            .filter_map(|alternative| words(alternative))
            .flatten()
            .collect();
        let tagged: Vec<(&'a str, &'a Json)> = alternatives
            .iter()
            .filter_map(|alternative| tag(alternative))
            .collect();
        let of_kind = |kinds: &[&str]| {
            let fits = |alternative: &&&'a Json| {
                kind(alternative).is_some_and(|kind| kinds.contains(&kind))
                    && self::words(alternative).is_none()
                    && tag(alternative).is_none()
            };
            alternatives.iter().find(fits).copied()
        };
        match &node.value {
            Value::Mapping(entries) => {
                if !tagged.is_empty() {
                    return self.tagged(&tagged, entries, place);
                }
                if let Some(object) = of_kind(&["object"]) {
                    return self.object(object, node, place);
                }
            }
            Value::Sequence(_) => {
                if let Some(list) = of_kind(&["array"]) {
                    return self.list(list, node, place);
                }
            }
            Value::Scalar(scalar) => {
                if words.contains(&scalar.text.as_str()) {
                    return Json::String(scalar.text.clone());
                }
                let kinds: &[&str] = match node.to_json() {
                    Json::Bool(_) => &["boolean", "string"],
                    Json::Number(_) => &["integer", "number", "string"],
                    _ => &["string"],
                };
                let fitting = kinds.iter().find_map(|kind| of_kind(&[*kind]));
                if let Some(fitting) = fitting {
                    return self.value(fitting, node, place);
                }
            }
        }
        let mut accepted: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        accepted.extend(tagged.iter().map(|(tag, _)| format!("`{tag}: …`")));
        for (kind, noun) in [
            ("object", "a mapping"),
            ("array", "a list"),
            ("string", "a text"),
            ("integer", "a whole number"),
            ("boolean", "true or false"),
        ] {
            if of_kind(&[kind]).is_some() {
                accepted.push(noun.to_owned());
            }
        }
        let hint = match node
            .text()
            .and_then(|text| nearest(text, words.iter().copied()))
        {
            Some(meant) => format!("did you mean `{meant}`? Accepted: {}", accepted.join(", ")),
            None => format!("write one of: {}", accepted.join(", ")),
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

/// The alternatives of `oneOf` or `anyOf` that are not null.
fn alternatives(schema: &Json) -> Vec<&Json> {
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
fn kind(schema: &Json) -> Option<&str> {
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
fn words(schema: &Json) -> Option<Vec<&str>> {
    if let Some(word) = schema.get("const") {
        return word.as_str().map(|word| vec![word]);
    }
    schema
        .get("enum")
        .and_then(Json::as_array)
        .map(|words| words.iter().filter_map(Json::as_str).collect())
}

/// The key of an externally tagged alternative, and what stands behind it.
fn tag(schema: &Json) -> Option<(&str, &Json)> {
    let properties = schema.get("properties")?.as_object()?;
    match (required(schema).as_slice(), properties.len()) {
        ([key], 1) => properties.get(*key).map(|inner| (*key, inner)),
        _ => None,
    }
}

fn required(schema: &Json) -> Vec<&str> {
    schema
        .get("required")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect()
}

fn known_keys(schema: &Json) -> Vec<&str> {
    schema
        .get("properties")
        .and_then(Json::as_object)
        .into_iter()
        .flat_map(|properties| properties.keys().map(String::as_str))
        .collect()
}

/// Whether null is a value of its own here (only where anything is accepted).
fn accepts_null(schema: &Json) -> bool {
    kind(schema).is_none() && alternatives(schema).is_empty() && words(schema).is_none()
}

/// Whether one value is expected, not a list or mapping, which may well be empty.
fn is_single(schema: &Json) -> bool {
    words(schema).is_some()
        || matches!(
            kind(schema),
            Some("string" | "boolean" | "integer" | "number")
        )
}

/// The bound that schemars leaves to the format.
fn most_of(schema: &Json) -> Option<f64> {
    match schema.get("format").and_then(Json::as_str)? {
        "uint32" => Some(f64::from(u32::MAX)),
        "int32" => Some(f64::from(i32::MAX)),
        "uint64" | "int64" | "uint" | "int" => Some(9_007_199_254_740_992.0),
        _ => None,
    }
}

/// The first sentence of a key's documentation.
fn about(schema: &Json) -> String {
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
