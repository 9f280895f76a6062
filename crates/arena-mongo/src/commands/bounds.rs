//! The bounds of an index scan as explain tells them. The engine does not say which
//! it uses; they follow from the filter as MongoDB derives them. Where a condition is
//! not one of the plain comparisons, nothing is told rather than guessed.

use bson::{Bson, Document};

/// One interval: its ends, and whether they belong to it.
#[derive(Debug, Clone, PartialEq)]
struct Interval {
    low: String,
    high: String,
    has_low: bool,
    has_high: bool,
}

/// Returns the bounds of each field of an index.
pub(super) fn bounds(key: &Document, filter: &Document, is_backward: bool) -> Option<Document> {
    let mut conditions = Vec::new();
    collect(filter, &mut conditions)?;
    let mut bounds = Document::new();
    for (path, order) in key {
        let falls = match super::whole(order)? {
            1 => false,
            -1 => true,
            _ => return None,
        };
        let own = conditions.iter().filter(|(name, ..)| name == path);
        let own: Vec<(&str, &Bson)> = own
            .map(|(_, operator, value)| (*operator, *value))
            .collect();
        let mut intervals = intervals(&own)?;
        if falls != is_backward {
            intervals.reverse();
            for interval in &mut intervals {
                *interval = Interval {
                    low: interval.high.clone(),
                    high: interval.low.clone(),
                    has_low: interval.has_high,
                    has_high: interval.has_low,
                };
            }
        }
        let texts: Vec<String> = intervals.iter().map(Interval::text).collect();
        bounds.insert(path, texts);
    }
    Some(bounds)
}

impl Interval {
    fn point(value: &Bson) -> Option<Self> {
        let text = text(value)?;
        Some(Self {
            low: text.clone(),
            high: text,
            has_low: true,
            has_high: true,
        })
    }

    fn text(&self) -> String {
        let open = if self.has_low { '[' } else { '(' };
        let close = if self.has_high { ']' } else { ')' };
        format!("{open}{}, {}{close}", self.low, self.high)
    }
}

/// The plain comparisons of a filter; nothing if there is anything else.
fn collect<'a>(
    filter: &'a Document,
    conditions: &mut Vec<(&'a str, &'a str, &'a Bson)>,
) -> Option<()> {
    for (path, condition) in filter {
        match condition {
            Bson::Array(parts) if path == "$and" => {
                for part in parts {
                    collect(part.as_document()?, conditions)?;
                }
            }
            _ if path.starts_with('$') => return None,
            Bson::Document(operators) if operators.keys().any(|key| key.starts_with('$')) => {
                for (operator, value) in operators {
                    conditions.push((path, operator, value));
                }
            }
            value => conditions.push((path, "$eq", value)),
        }
    }
    Some(())
}

fn intervals(conditions: &[(&str, &Bson)]) -> Option<Vec<Interval>> {
    match conditions {
        [] => Some(vec![Interval {
            low: "MinKey".to_owned(),
            high: "MaxKey".to_owned(),
            has_low: true,
            has_high: true,
        }]),
        [("$eq", value)] => Some(vec![Interval::point(value)?]),
        [("$in", Bson::Array(values))] => points(values),
        conditions => {
            let (_, first) = conditions.first()?;
            let (low, high, has_high) = ends(first)?;
            let mut interval = Interval {
                low,
                high,
                has_low: true,
                has_high,
            };
            let (mut is_low_set, mut is_high_set) = (false, false);
            for (operator, value) in conditions {
                if std::mem::discriminant(*value) != std::mem::discriminant(*first) {
                    return None;
                }
                let is_low = matches!(*operator, "$gt" | "$gte");
                let is_set = if is_low {
                    &mut is_low_set
                } else {
                    &mut is_high_set
                };
                if !matches!(*operator, "$gt" | "$gte" | "$lt" | "$lte") || *is_set {
                    return None;
                }
                *is_set = true;
                if is_low {
                    (interval.low, interval.has_low) = (text(value)?, *operator == "$gte");
                } else {
                    (interval.high, interval.has_high) = (text(value)?, *operator == "$lte");
                }
            }
            Some(vec![interval])
        }
    }
}

/// Points in their order, each once.
fn points(values: &[Bson]) -> Option<Vec<Interval>> {
    let mut values: Vec<&Bson> = values.iter().collect();
    if values.iter().all(|value| super::whole(value).is_some()) {
        values.sort_by_key(|value| super::whole(value));
    } else if values.iter().all(|value| value.as_str().is_some()) {
        values.sort_by_key(|value| value.as_str());
    } else {
        return None;
    }
    values.dedup();
    values.into_iter().map(Interval::point).collect()
}

/// Where the values of a type end, and whether the upper end belongs to it.
fn ends(value: &Bson) -> Option<(String, String, bool)> {
    let (low, high, has_high) = match value {
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) => ("-inf.0", "inf.0", true),
        Bson::String(_) => ("\"\"", "{}", false),
        Bson::DateTime(_) => (
            "new Date(-9223372036854775808)",
            "new Date(9223372036854775807)",
            true,
        ),
        _ => return None,
    };
    Some((low.to_owned(), high.to_owned(), has_high))
}

fn text(value: &Bson) -> Option<String> {
    Some(match value {
        Bson::Int32(number) => number.to_string(),
        Bson::Int64(number) => number.to_string(),
        Bson::Double(number) if number.is_finite() && number.fract() == 0.0 => {
            format!("{number:.1}")
        }
        Bson::Double(number) if number.is_finite() => number.to_string(),
        Bson::String(text) => format!("\"{text}\""),
        Bson::Boolean(value) => value.to_string(),
        Bson::Null => "null".to_owned(),
        Bson::DateTime(date) => format!("new Date({})", date.timestamp_millis()),
        Bson::ObjectId(id) => format!("ObjectId('{id}')"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn bounds_follow_from_plain_comparisons() {
        let of = |key: Document, filter: Document| bounds(&key, &filter, false);
        assert_eq!(
            of(
                doc! { "a": 1, "b": -1 },
                doc! { "a": 2, "b": { "$gt": 5 }, "c": 1 }
            ),
            Some(doc! { "a": ["[2, 2]"], "b": ["[inf.0, 5)"] })
        );
        assert_eq!(
            of(doc! { "a": 1 }, doc! { "a": { "$in": [3, 1, 3] } }),
            Some(doc! { "a": ["[1, 1]", "[3, 3]"] })
        );
        assert_eq!(
            of(doc! { "s": 1 }, doc! { "s": { "$gte": "x" } }),
            Some(doc! { "s": ["[\"x\", {})"] })
        );
        assert_eq!(
            of(
                doc! { "a": 1 },
                doc! { "$and": [{ "a": { "$gte": 1 } }, { "a": { "$lt": 5 } }] }
            ),
            Some(doc! { "a": ["[1, 5)"] })
        );
        assert_eq!(
            of(doc! { "a": 1 }, doc! {}),
            Some(doc! { "a": ["[MinKey, MaxKey]"] })
        );
    }

    #[test]
    fn nothing_is_guessed() {
        for filter in [
            doc! { "a": { "$ne": 1 } },
            doc! { "$or": [{ "a": 1 }] },
            doc! { "a": { "$gt": 1, "$lt": "x" } },
        ] {
            assert_eq!(bounds(&doc! { "a": 1 }, &filter, false), None, "{filter}");
        }
        assert_eq!(
            bounds(&doc! { "a": "hashed" }, &doc! { "a": 1 }, false),
            None
        );
    }
}
