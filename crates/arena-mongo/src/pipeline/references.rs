//! Patterns of a filter that refer to their groups by number. Where the engine looks
//! only whether a pattern matches, it counts groups with a name alone, so each group
//! gets one.

use bson::{Bson, Document, Regex};

/// Returns a filter whose patterns can refer to their groups, if it is another one.
pub(super) fn with_names(filter: &Document) -> Option<Document> {
    let mut is_changed = false;
    let written = conditions(filter, &mut is_changed);
    is_changed.then_some(written)
}

fn conditions(filter: &Document, is_changed: &mut bool) -> Document {
    let written = filter.iter().map(|(name, value)| {
        let value = match (name.as_str(), value) {
            ("$and" | "$or" | "$nor", Bson::Array(parts)) => {
                let parts = parts.iter().map(|part| match part {
                    Bson::Document(part) => Bson::Document(conditions(part, is_changed)),
                    other => other.clone(),
                });
                Bson::Array(parts.collect())
            }
            ("$regex", pattern) => named(pattern, is_changed),
            ("$in" | "$nin" | "$all", Bson::Array(values)) => {
                let values = values.iter().map(|value| match value {
                    Bson::RegularExpression(_) => named(value, is_changed),
                    other => other.clone(),
                });
                Bson::Array(values.collect())
            }
            ("$not" | "$elemMatch", Bson::Document(inner)) => {
                Bson::Document(conditions(inner, is_changed))
            }
            ("$not", pattern) => named(pattern, is_changed),
            (path, Bson::Document(operators))
                if !path.starts_with('$') && super::choices::has_operators(operators) =>
            {
                Bson::Document(conditions(operators, is_changed))
            }
            (path, pattern @ Bson::RegularExpression(_)) if !path.starts_with('$') => {
                named(pattern, is_changed)
            }
            (_, value) => value.clone(),
        };
        (name.clone(), value)
    });
    written.collect()
}

fn named(pattern: &Bson, is_changed: &mut bool) -> Bson {
    let written = match pattern {
        Bson::String(text) => with_named_groups(text).map(Bson::String),
        Bson::RegularExpression(regex) => {
            let pattern = with_named_groups(regex.pattern.as_str());
            let pattern = pattern.and_then(|pattern| pattern.try_into().ok());
            pattern.map(|pattern| {
                let options = regex.options.clone();
                Bson::RegularExpression(Regex { pattern, options })
            })
        }
        _ => None,
    };
    *is_changed |= written.is_some();
    written.unwrap_or_else(|| pattern.clone())
}

/// Whether a group of the pattern is named again by its number.
pub(super) fn has_reference(pattern: &str) -> bool {
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        let rest = letters.as_str();
        let (next, others) = match letter {
            '\\' => (letters.next(), "g"),
            '(' if rest.starts_with('?') => (rest.chars().nth(1), "+-R("),
            _ => continue,
        };
        if next.is_some_and(|next| next.is_ascii_digit() || others.contains(next)) {
            return true;
        }
    }
    false
}

/// A pattern with a name for each group, where it refers to one and is understood.
fn with_named_groups(pattern: &str) -> Option<String> {
    // Branches that share their numbers cannot have names of their own.
    if !has_reference(pattern) || pattern.contains("(?|") {
        return None;
    }
    let (mut written, mut rest, mut count) = (String::new(), pattern, 0);
    while let Some(letter) = rest.chars().next() {
        let length = match letter {
            '\\' if rest.starts_with("\\Q") => rest.find("\\E").map_or(rest.len(), |end| end + 2),
            '\\' => 1 + rest[1..].chars().next()?.len_utf8(),
            '[' => class_length(rest)?,
            '(' if rest.starts_with("(?#") => rest.find(')')? + 1,
            '(' if rest.starts_with("(?(") => 3,
            '(' if rest.starts_with("(?") || rest.starts_with("(*") => 2,
            '(' => {
                count += 1;
                written.push_str(&format!("(?<arena{count}>"));
                rest = &rest[1..];
                continue;
            }
            other => other.len_utf8(),
        };
        written.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    (count > 0).then_some(written)
}

/// How long the class of letters is that a text begins with.
fn class_length(text: &str) -> Option<usize> {
    let mut at = if text.starts_with("[^") { 2 } else { 1 };
    // What comes first is in the class, whatever it is.
    at += usize::from(text[at..].starts_with(']'));
    loop {
        let rest = &text[at..];
        at += match rest.chars().next()? {
            ']' => return Some(at + 1),
            '\\' => 1 + rest[1..].chars().next()?.len_utf8(),
            '[' if rest.starts_with("[:") => rest.find(":]").map_or(1, |end| end + 2),
            other => other.len_utf8(),
        };
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn groups_of_a_pattern_that_refers_to_them_are_named() {
        let named = |pattern: &str| with_named_groups(pattern);
        for (pattern, expected) in [
            (r"(a)\1", r"(?<arena1>a)\1"),
            (r"(?i)((A)b)\2", r"(?i)(?<arena1>(?<arena2>A)b)\2"),
            (r"(a)(?1)", r"(?<arena1>a)(?1)"),
            (r"(?:x)(é)\g{1}", r"(?:x)(?<arena1>é)\g{1}"),
            (r"[](]\((a)\1", r"[](]\((?<arena1>a)\1"),
            (r"[^([:alpha:](](a)\1", r"[^([:alpha:](](?<arena1>a)\1"),
            (r"\Q(\E(a)\1", r"\Q(\E(?<arena1>a)\1"),
            (r"(a)?(?(1)b|c)", r"(?<arena1>a)?(?(1)b|c)"),
            (r"(?#(a)(b)\1", r"(?#(a)(?<arena1>b)\1"),
        ] {
            assert_eq!(named(pattern).as_deref(), Some(expected), "{pattern}");
        }
        for pattern in [
            "(a)b",
            r"(?|(a)|(b))\1",
            r"(?<x>a)\k<x>",
            r"[(a)\1",
            r"a\1",
            "(",
        ] {
            assert_eq!(named(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn only_patterns_are_written_otherwise() {
        for filter in [
            doc! { "a": r"(a)\1" },
            doc! { "a": { "$eq": r"(a)\1" } },
            doc! { "a": { "$in": [r"(a)\1"] } },
            doc! { "a": { "b": { "$regex": r"(a)\1" } } },
            doc! { "$expr": { "$eq": ["$a", { "$regex": r"(a)\1" }] } },
        ] {
            assert_eq!(with_names(&filter), None, "{filter}");
        }
        let pattern = doc! { "$regex": r"(a)\1", "$options": "i" };
        let expected = doc! { "$regex": r"(?<arena1>a)\1", "$options": "i" };
        let nested = |pattern: Document| {
            doc! { "$or": [{ "a": { "$not": pattern.clone() } }, { "b": { "$elemMatch": { "c": pattern } } }] }
        };
        assert_eq!(with_names(&nested(pattern)), Some(nested(expected)));
    }
}
