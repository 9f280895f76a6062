//! What differs between two plans, such as the one that runs and a new one.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::Value as Json;

use super::Plan;

/// Parts that follow from others: showing them too would only repeat.
const DERIVED: &[&str] = &["routes", "secrets", "defaults"];
/// A value longer than this is cut when shown, in characters.
const VALUE_LENGTH_MAX: usize = 60;

/// What differs, in order of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Difference {
    /// Each thing that differs.
    pub changes: Vec<Change>,
}

/// A thing that differs. Its path is made of keys and of the names of listed things, such as
/// `seats.ada.environment.LOG_LEVEL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the new plan has it.
    Added {
        /// What.
        path: String,
    },
    /// Only the old plan has it.
    Removed {
        /// What.
        path: String,
    },
    /// Both have it, with another value.
    Changed {
        /// What.
        path: String,
        /// Before.
        old: Json,
        /// After.
        new: Json,
    },
}

/// Returns what differs from `old` to `new`.
pub fn difference(old: &Plan, new: &Plan) -> Difference {
    let json = |plan: &Plan| {
        serde_json::to_value(plan)
            .expect("a plan holds only texts, numbers, lists and maps with text keys")
    };
    let mut difference = Difference::default();
    difference.compare("", &json(old), &json(new));
    difference
}

impl Difference {
    /// Returns whether the plans are the same.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn compare(&mut self, path: &str, old: &Json, new: &Json) {
        if old == new || DERIVED.contains(&path) {
            return;
        }
        match (named(old), named(new)) {
            (Some(old), Some(new)) => {
                for (name, value) in &old {
                    let inner = join(path, name);
                    match new.iter().find(|(other, _)| other == name) {
                        Some((_, other)) => self.compare(&inner, value, other),
                        None => self.changes.push(Change::Removed { path: inner }),
                    }
                }
                let before: BTreeSet<&String> = old.iter().map(|(name, _)| name).collect();
                let added = new.iter().filter(|(name, _)| !before.contains(name));
                self.changes.extend(added.map(|(name, _)| Change::Added {
                    path: join(path, name),
                }));
            }
            _ => self.changes.push(Change::Changed {
                path: path.to_owned(),
                old: old.clone(),
                new: new.clone(),
            }),
        }
    }
}

/// Returns the parts of a mapping, or of a list whose items have names; `None` for anything else.
fn named(value: &Json) -> Option<Vec<(String, &Json)>> {
    match value {
        Json::Object(object) => Some(
            object
                .iter()
                .map(|(key, value)| (key.clone(), value))
                .collect(),
        ),
        Json::Array(items) => items
            .iter()
            .map(|item| name(item).map(|name| (name, item)))
            .collect(),
        _ => None,
    }
}

fn name(item: &Json) -> Option<String> {
    let key = ["id", "name", "kind", "socket", "host"]
        .into_iter()
        .find_map(|key| item.get(key));
    key.and_then(Json::as_str).map(str::to_owned)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

impl fmt::Display for Difference {
    /// Writes a line for each change: `+` added, `-` removed, `~` changed. What changes in several
    /// seats alike is one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<(String, Vec<String>)> = Vec::new();
        for change in &self.changes {
            let (seat, line) = line(change);
            match lines
                .iter_mut()
                .find(|(other, seats)| *other == line && !seats.is_empty() && seat.is_some())
            {
                Some((_, seats)) => seats.extend(seat),
                None => lines.push((line, seat.into_iter().collect())),
            }
        }
        for (line, seats) in lines {
            match seats.as_slice() {
                [] => writeln!(f, "{line}")?,
                [seat] => writeln!(f, "{line} (seat {seat})")?,
                [first, others @ ..] => {
                    writeln!(f, "{line} (seat {first} and {} more)", others.len())?
                }
            }
        }
        Ok(())
    }
}

/// Returns a change as a line, and apart from it the seat in which something changes.
fn line(change: &Change) -> (Option<String>, String) {
    let (mark, path, values) = match change {
        Change::Added { path } => ('+', path, String::new()),
        Change::Removed { path } => ('-', path, String::new()),
        Change::Changed { path, old, new } => {
            ('~', path, format!(": {} → {}", short(old), short(new)))
        }
    };
    match path
        .strip_prefix("seats.")
        .and_then(|rest| rest.split_once('.'))
    {
        Some((seat, rest)) => (Some(seat.to_owned()), format!("{mark} {rest}{values}")),
        None => (None, format!("{mark} {path}{values}")),
    }
}

fn short(value: &Json) -> String {
    let text = match value {
        Json::String(text) => text.clone(),
        Json::Null => "(nothing)".to_owned(),
        other => other.to_string(),
    };
    if text.chars().count() <= VALUE_LENGTH_MAX {
        return text;
    }
    text.chars().take(VALUE_LENGTH_MAX).chain(['…']).collect()
}
