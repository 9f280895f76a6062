//! The last slow statements of a user, as a shape: names of fields and operators,
//! never a value, so that nothing a learner stored is shown to others.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use bson::{RawBsonRef, RawDocument};

/// From this time on a statement is slow.
pub(super) const SLOW_FROM: Duration = Duration::from_millis(200);
/// So many are kept of each user.
const KEPT: usize = 20;
/// The longest shape, in bytes; the rest is left out.
const SHAPE_BYTES_MAX: usize = 400;
/// How many elements of an array are shown; a pipeline rarely has more stages.
const ELEMENTS_MAX: usize = 12;
/// Deeper parts are left out.
const DEPTH_MAX: usize = 12;

/// What a user's profiler would write down. It changes nothing of what facilitators see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Profiling {
    /// From so many on a statement is slow.
    pub(crate) milliseconds: i32,
    /// The share of slow statements, 0 to 1.
    pub(crate) sampled: f64,
}

/// MongoDB's defaults.
impl Default for Profiling {
    fn default() -> Self {
        Self {
            milliseconds: 100,
            sampled: 1.0,
        }
    }
}

/// A statement that took long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowStatement {
    /// When it ended.
    pub at: SystemTime,
    /// `database.collection`.
    pub namespace: String,
    /// The command with `?` for every value.
    pub shape: String,
    /// How long it took, waiting for its turn included.
    pub time: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<SlowStatement>);

impl Recent {
    pub(super) fn add(&mut self, namespace: String, shape: String, time: Duration) {
        self.0.truncate(KEPT - 1);
        self.0.push_front(SlowStatement {
            at: SystemTime::now(),
            namespace,
            shape,
            time,
        });
    }

    pub(super) fn newest_first(&self) -> Vec<SlowStatement> {
        self.0.iter().cloned().collect()
    }
}

/// Returns a command's shape: its first field's name and what it looks for.
pub(crate) fn shape(command: &str, body: &RawDocument) -> String {
    let telling = [
        "filter", "query", "q", "sort", "pipeline", "updates", "deletes", "update", "key",
        "indexes", "explain",
    ];
    let mut shape = command.to_owned();
    for element in body.iter().flatten() {
        let (name, value) = element;
        if telling.contains(&name.as_str()) && shape.len() < SHAPE_BYTES_MAX {
            shape.push_str(&format!(" {}: ", name.as_str()));
            write_value(&mut shape, value, 0);
        }
    }
    if shape.len() > SHAPE_BYTES_MAX {
        let end = (0..=SHAPE_BYTES_MAX)
            .rev()
            .find(|end| shape.is_char_boundary(*end))
            .unwrap_or(0);
        shape.truncate(end);
        shape.push('…');
    }
    shape
}

fn write_value(out: &mut String, value: RawBsonRef<'_>, depth: usize) {
    if out.len() > SHAPE_BYTES_MAX || depth > DEPTH_MAX {
        out.push('…');
        return;
    }
    match value {
        RawBsonRef::Document(document) => {
            out.push('{');
            for (position, (name, value)) in document.iter().flatten().enumerate() {
                out.push_str(if position > 0 { ", " } else { " " });
                out.push_str(name.as_str());
                out.push_str(": ");
                write_value(out, value, depth + 1);
                if out.len() > SHAPE_BYTES_MAX {
                    break;
                }
            }
            out.push_str(" }");
        }
        RawBsonRef::Array(values) => write_array(out, values, depth),
        _ => out.push('?'),
    }
}

fn write_array(out: &mut String, values: &bson::RawArray, depth: usize) {
    out.push('[');
    let mut only_values = true;
    for (position, value) in values.into_iter().flatten().enumerate() {
        let is_nested = matches!(value, RawBsonRef::Document(_) | RawBsonRef::Array(_));
        if position >= ELEMENTS_MAX || (only_values && position > 0 && !is_nested) {
            out.push_str(", …");
            break;
        }
        if position > 0 {
            out.push_str(", ");
        }
        only_values &= !is_nested;
        write_value(out, value, depth + 1);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_shape_holds_names_and_no_value() {
        let body = rawdoc! { "find": "people", "filter": { "name": "Ada Lovelace", "age": { "$in": [36, 37, 38] } }, "sort": { "born": -1 }, "$db": "ada" };
        assert_eq!(
            shape("find", &body),
            "find filter: { name: ?, age: { $in: [?, …] } } sort: { born: ? }"
        );
        let body = rawdoc! { "aggregate": "c", "pipeline": [{ "$match": { "a": "secret" } }, { "$group": { "_id": "$secret" } }] };
        assert_eq!(
            shape("aggregate", &body),
            "aggregate pipeline: [{ $match: { a: ? } }, { $group: { _id: ? } }]"
        );
    }

    #[test]
    fn a_shape_is_short_whatever_was_asked() {
        let nested = (0..90).fold(rawdoc! { "x": 1 }, |inner, _| rawdoc! { "ä": inner });
        let body = rawdoc! { "find": "c", "filter": nested.clone(), "query": nested.clone(), "sort": nested };
        assert!(shape("find", &body).len() < SHAPE_BYTES_MAX + 200);
    }

    #[test]
    fn the_list_is_bounded_and_the_newest_is_first() {
        let mut recent = Recent::default();
        for time in 1..100 {
            recent.add("d.c".to_owned(), String::new(), Duration::from_secs(time));
        }
        let kept = recent.newest_first();
        assert_eq!((kept.len(), kept[0].time), (KEPT, Duration::from_secs(99)));
    }
}
