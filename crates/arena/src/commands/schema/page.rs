//! A JSON schema as a page: one table for each object, under the path that leads there first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// Shown where a schema allows anything.
const ANYTHING: &str = "anything";

/// Returns the page of a schema.
pub(super) fn of(title: &str, schema: &Value) -> String {
    let note = "Made by `arena schema --format markdown` from what Arena reads; do not edit.";
    format!("# {title}\n\n{note}\n\n{}", Page::new(schema).tables(""))
}

/// Returns the part of a page that shows one more schema.
pub(super) fn part(title: &str, schema: &Value) -> String {
    format!("## {title}\n\n{}", Page::new(schema).tables(title))
}

struct Page<'a> {
    schema: &'a Value,
    /// Headings of the objects that have one, by their name in the schema.
    headings: BTreeMap<&'a str, String>,
    /// Objects that wait for their table: heading and schema.
    waiting: Vec<(String, &'a Value)>,
}

impl<'a> Page<'a> {
    fn new(schema: &'a Value) -> Self {
        Self {
            schema,
            headings: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    fn tables(mut self, title: &str) -> String {
        let mut text = String::new();
        self.table(&mut text, "", self.schema);
        while !self.waiting.is_empty() {
            // What an object holds comes right after it.
            let (path, object) = self.waiting.remove(0);
            let later = std::mem::take(&mut self.waiting);
            let above = if title.is_empty() { "##" } else { "###" };
            let _ = write!(text, "\n{above} {path}\n\n");
            self.table(&mut text, &path, object);
            self.waiting.extend(later);
        }
        text
    }

    fn table(&mut self, text: &mut String, path: &str, object: &'a Value) {
        if let Some(description) = object["description"].as_str() {
            let _ = write!(text, "{}\n\n", description.replace('\n', " "));
        }
        text.push_str("| key | what it says | values | left out |\n|---|---|---|---|\n");
        for (key, value) in object["properties"].as_object().into_iter().flatten() {
            let inner = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            let required = object["required"].as_array();
            let is_required = required.is_some_and(|names| names.iter().any(|name| name == key));
            let cells = [
                format!("`{key}`"),
                value["description"].as_str().unwrap_or_default().to_owned(),
                self.values(&inner, value),
                left_out(value, is_required),
            ];
            let cells = cells.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }

    /// What may stand there, in words; objects get a table of their own.
    fn values(&mut self, path: &str, value: &'a Value) -> String {
        if let Some(reference) = value["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap_or_default();
            return self.named(path, name);
        }
        if let Some(words) = value["enum"].as_array() {
            return listed(words.iter());
        }
        for form in ["anyOf", "oneOf"] {
            if let Some(forms) = value[form].as_array() {
                return self.one_of(path, forms);
            }
        }
        let kinds = value["type"].as_array().map_or_else(
            || value["type"].as_str().into_iter().collect::<Vec<_>>(),
            |kinds| kinds.iter().filter_map(Value::as_str).collect(),
        );
        match kinds.iter().find(|kind| **kind != "null") {
            None => ANYTHING.to_owned(),
            Some(&"array") => {
                let item = format!("{path}[]");
                format!("list of {}", self.values(&item, &value["items"]))
            }
            Some(&"object") if value["properties"].is_object() => self.object(path, value),
            Some(&"object") => {
                let item = format!("{path}.NAME");
                format!(
                    "names, each with {}",
                    self.values(&item, &value["additionalProperties"])
                )
            }
            Some(kind) => scalar(kind, value),
        }
    }

    fn one_of(&mut self, path: &str, forms: &'a [Value]) -> String {
        let constants: Vec<&Value> = forms.iter().filter_map(|form| form.get("const")).collect();
        if constants.len() == forms.len() {
            return listed(constants.into_iter());
        }
        let forms = forms.iter().filter(|form| form["type"] != "null");
        let mut words: Vec<String> = forms.map(|form| self.values(path, form)).collect();
        words.dedup();
        words.join(", or ")
    }

    fn named(&mut self, path: &str, name: &str) -> String {
        let Some((name, object)) = self.schema["$defs"]
            .as_object()
            .and_then(|all| all.get_key_value(name))
        else {
            return ANYTHING.to_owned();
        };
        if !object["properties"].is_object() {
            return self.values(path, object);
        }
        if let Some(heading) = self.headings.get(name.as_str()) {
            return link(heading);
        }
        self.headings.insert(name, path.to_owned());
        self.object(path, object)
    }

    fn object(&mut self, path: &str, object: &'a Value) -> String {
        self.waiting.push((path.to_owned(), object));
        link(path)
    }
}

/// Links to a heading as code hosts name it: no dots and brackets, small letters.
fn link(heading: &str) -> String {
    let is_kept = |letter: &char| letter.is_alphanumeric() || "_-".contains(*letter);
    let anchor: String = heading.chars().filter(is_kept).collect();
    format!("[{heading}](#{})", anchor.to_lowercase())
}

fn listed<'v>(words: impl Iterator<Item = &'v Value>) -> String {
    let words: Vec<String> = words
        .filter(|word| !word.is_null())
        .map(|word| format!("`{}`", bare(word)))
        .collect();
    words.join(", ")
}

/// As it is written in YAML: text without quotes.
fn bare(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn scalar(kind: &str, value: &Value) -> String {
    let limit = |name: &str| value[name].as_i64();
    let kind = match (kind, value["format"].as_str()) {
        ("string", Some("email")) => "e-mail address",
        ("string", Some("date-time")) => "instant",
        ("string", _) => "text",
        ("boolean", _) => "`true`, `false`",
        (kind, _) => kind,
    };
    match (
        limit("minimum"),
        limit("maximum"),
        limit("minLength"),
        limit("maxLength"),
    ) {
        (Some(least), Some(most), ..) => format!("{kind}, {least} to {most}"),
        (Some(least), None, ..) => format!("{kind}, from {least}"),
        (_, _, _, Some(most)) => format!("{kind}, at most {most} characters"),
        _ => kind.to_owned(),
    }
}

fn left_out(value: &Value, is_required: bool) -> String {
    match &value["default"] {
        _ if is_required => "must be there".to_owned(),
        Value::Null => String::new(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Object(keys) if keys.is_empty() => "none".to_owned(),
        Value::Array(items) => listed(items.iter()),
        Value::Object(_) => "as below".to_owned(),
        default => format!("`{}`", bare(default)),
    }
}
