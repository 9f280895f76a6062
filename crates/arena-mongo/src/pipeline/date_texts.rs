//! `$dateToString`: the engine takes a computed format for the text of one, knows no
//! names of months, and forgets that UTC is one when it is named.

use bson::{Bson, Document, bson, doc};

use super::operands::constant;
use super::raising::{raise, raise_whole};
use crate::error::CommandError;

/// MongoDB's own text of a date in a timezone that has no format.
const LOCAL_FORMAT: &str = "%Y-%m-%dT%H:%M:%S.%L";
/// The same of UTC.
const UTC_FORMAT: &str = "%Y-%m-%dT%H:%M:%S.%LZ";
/// What UTC is called.
const UTC: [&str; 4] = ["UTC", "+00:00", "+0000", "+00"];
/// What stands behind a format's `%`, apart from the names of months.
const PARTS: &str = "YmdHMSLjwuUVGzZ";
/// Stands for `%%` while a computed format is read.
const PERCENT: &str = "\u{1}";
const NO_FORMAT: &str = "$dateToString requires that 'format' be a string, found: ";
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Returns what computes a `$dateToString`.
pub(super) fn date_text(arguments: &Bson) -> Result<Bson, CommandError> {
    let as_it_is = || Ok(bson!({ "$dateToString": arguments.clone() }));
    let Bson::Document(options) = arguments else {
        return as_it_is();
    };
    let (true, Some(format)) = (options.contains_key("date"), options.get("format")) else {
        return Ok(without_format(options));
    };
    match constant(format) {
        Some(Bson::String(format)) if format.is_empty() => Ok(with_nothing(options)),
        Some(Bson::String(format)) if has_names(format) => Ok(with_names(options, format)),
        Some(Bson::String(_)) => as_it_is(),
        Some(Bson::Null) => Ok(Bson::Null),
        Some(other) => {
            let message = format!("{NO_FORMAT}{other}");
            Err(CommandError::new(18533, "Location18533", message))
        }
        None => Ok(computed(options, format)),
    }
}

fn without_format(options: &Document) -> Bson {
    let of = |format: &str| {
        let mut options = options.clone();
        options.insert("format", format);
        bson!({ "$dateToString": options })
    };
    let zone = options
        .get("timezone")
        .filter(|_| !options.contains_key("format"));
    match zone.map(|zone| (zone, constant(zone))) {
        // The engine says what is missing, if it is not the format.
        None => bson!({ "$dateToString": options.clone() }),
        Some((_, Some(Bson::String(zone)))) if UTC.contains(&zone.as_str()) => of(UTC_FORMAT),
        Some((_, Some(_))) => of(LOCAL_FORMAT),
        Some((zone, None)) => {
            let is_utc = bson!({ "$in": [zone.clone(), UTC] });
            bson!({ "$cond": [is_utc, of(UTC_FORMAT), of(LOCAL_FORMAT)] })
        }
    }
}

/// The options of an operator that has a date and a timezone only.
fn of_date(options: &Document) -> Document {
    let both = options
        .iter()
        .filter(|(name, _)| matches!(name.as_str(), "date" | "timezone"));
    both.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn part(options: &Document, format: &str) -> Bson {
    let mut options = of_date(options);
    options.insert("format", format);
    bson!({ "$dateToString": options })
}

fn or_on_null(text: Bson, options: &Document) -> Bson {
    match options.get("onNull") {
        Some(instead) => bson!({ "$ifNull": [text, instead.clone()] }),
        None => text,
    }
}

fn with_nothing(options: &Document) -> Bson {
    let is_null = bson!({ "$eq": [part(options, "%L"), Bson::Null] });
    or_on_null(bson!({ "$cond": [is_null, Bson::Null, ""] }), options)
}

/// A month's name, shortened to so many letters.
fn month(options: &Document, letters: usize) -> Bson {
    let names: Vec<&str> = MONTHS
        .iter()
        .map(|name| &name[..letters.min(name.len())])
        .collect();
    bson!({ "$arrayElemAt": [names, { "$subtract": [{ "$month": of_date(options) }, 1] }] })
}

/// A format cut in front of and behind each `%b` and `%B`.
fn cut(format: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        let name = (letter == '%').then(|| letters.next()).flatten();
        match name {
            Some(name @ ('b' | 'B')) => parts.extend([format!("%{name}"), String::new()]),
            name => {
                let last = parts.last_mut().expect("it begins with one");
                last.push(letter);
                last.extend(name);
            }
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn has_names(format: &str) -> bool {
    cut(format)
        .iter()
        .any(|part| matches!(part.as_str(), "%b" | "%B"))
}

fn with_names(options: &Document, format: &str) -> Bson {
    let texts = cut(format).into_iter().map(|piece| match piece.as_str() {
        "%b" => month(options, 3),
        "%B" => month(options, usize::MAX),
        format => part(options, format),
    });
    or_on_null(bson!({ "$concat": texts.collect::<Vec<Bson>>() }), options)
}

/// Each part that a computed format names is put in its place; what is left with a `%` is none.
fn computed(options: &Document, format: &Bson) -> Bson {
    let mut known = doc! { "date": "$$arenaDate" };
    let mut variables =
        doc! { "arenaDate": options["date"].clone(), "arenaFormat": format.clone() };
    if let Some(zone) = options.get("timezone") {
        known.insert("timezone", "$$arenaZone");
        variables.insert("arenaZone", zone.clone());
    }
    let has = |text: &str, what: &str| bson!({ "$gte": [{ "$indexOfCP": [text, what] }, 0] });
    // Joined to nothing it is a text of its own.
    let put = |text: Bson, what: &str, instead: Bson| {
        let all = bson!({ "$replaceAll": { "input": "$$arenaText", "find": what, "replacement": instead } });
        let found =
            bson!({ "$cond": [has("$$arenaText", what), { "$concat": [all, ""] }, "$$arenaText"] });
        bson!({ "$let": { "vars": { "arenaText": text }, "in": found } })
    };
    let mut text = put(bson!("$$arenaFormat"), "%%", bson!(PERCENT));
    for letter in PARTS.chars() {
        let format = format!("%{letter}");
        text = put(text, &format, part(&known, &format));
    }
    text = put(text, "%b", month(&known, 3));
    text = put(text, "%B", month(&known, usize::MAX));
    let found = bson!({ "$substrCP": ["$$arenaText", { "$indexOfCP": ["$$arenaText", "%"] }, 2] });
    let found = bson!({ "$concat": [found, "' in format string"] });
    let unknown = raise(18536, "Invalid format character '", found);
    let message = "Unmatched '%' at end of format string";
    let unmatched = raise_whole(18535, message, "$$arenaFormat");
    let last = bson!({ "$regexMatch": { "input": "$$arenaText", "regex": "%$" } });
    let checked = bson!({ "$let": { "vars": { "arenaText": text }, "in": { "$switch": {
        "branches": [
            { "case": last, "then": unmatched },
            { "case": has("$$arenaText", "%"), "then": unknown },
        ],
        "default": put(bson!("$$arenaText"), PERCENT, bson!("%")),
    } } } });
    let is_nothing =
        |value: &str| bson!({ "$in": [{ "$type": value }, ["null", "missing", "undefined"]] });
    let mut branches = vec![
        bson!({ "case": is_nothing("$$arenaFormat"), "then": Bson::Null }),
        bson!({
            "case": { "$ne": [{ "$type": "$$arenaFormat" }, "string"] },
            "then": raise(18533, NO_FORMAT, bson!({ "$type": "$$arenaFormat" })),
        }),
        bson!({ "case": is_nothing("$$arenaDate"), "then": options.get("onNull").cloned().unwrap_or(Bson::Null) }),
    ];
    if options.contains_key("timezone") {
        branches.push(bson!({ "case": is_nothing("$$arenaZone"), "then": Bson::Null }));
    }
    // A date that is none is told whatever the format names.
    let is_date = part(&known, "%L");
    let checked = bson!({ "$cond": [{ "$eq": [is_date, Bson::Null] }, Bson::Null, checked] });
    bson!({ "$let": {
        "vars": variables, "in": { "$switch": { "branches": branches, "default": checked } },
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_months_are_cut_out() {
        assert_eq!(cut("%d %b%B%%b"), ["%d ", "%b", "%B", "%%b"]);
        assert_eq!(cut("%"), ["%"]);
        assert!(has_names("%B") && !has_names("%%B"));
    }
}
