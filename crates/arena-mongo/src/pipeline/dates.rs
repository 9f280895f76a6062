//! Dates read from text. The engine takes the fraction of a second for a number
//! without its leading zeros, so that .012 is 120 ms, and what follows the third
//! digit for a timezone. Here the text is read without it, and it is added.

use bson::{Bson, Document, bson, doc};

use super::raising::raise;

/// A text cut into what precedes the fraction of a second, the fraction, and what follows. Minutes and seconds may be
/// parted by a point as well.
const CUT: &str = "^(.*:[0-9][0-9][:.][0-9][0-9])[.]([0-9]+)(.*)$";
/// The same by a format, which knows three digits at most.
const CUT_BY_FORMAT: &str = "^(.*[0-9])[.]([0-9][0-9]?[0-9]?)([^0-9].*)?$";
/// A time with a timezone behind it.
const OWN_ZONE: &str = ":[0-9][0-9]([.][0-9]+)? *(Z|[+-][0-9][0-9]:?[0-9][0-9])$";
/// A day with a timezone right behind it, which the engine reads behind a time only.
const DAY_AND_ZONE: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[ \\t]*(Z|[+-][0-9]{2}:?[0-9]{2})$";
/// What a day begins with.
const MIDNIGHT: &str = "T00:00:00";
const BOTH_ZONES: &str = "you cannot pass in a date/time string with time zone information together with a timezone argument: ";
/// How a format has the fraction behind the seconds.
const FRACTION: &str = "%S.%L";

/// `$toDate`.
pub(super) fn to_date(operand: &Bson) -> Bson {
    let value = match operand {
        Bson::Array(values) if values.len() == 1 => &values[0],
        other => other,
    };
    let value = &trimmed(value);
    if !may_be_text(value) {
        return bson!({ "$toDate": value.clone() });
    }
    let read =
        |text: Bson| bson!({ "$convert": { "input": text, "to": "date", "onError": Bson::Null } });
    cut(value, CUT, read, bson!({ "$toDate": "$$arenaText" }))
}

/// `$convert` to a date; nothing where it is to another type.
pub(super) fn converted(arguments: &Bson) -> Option<Bson> {
    let options = arguments.as_document()?;
    let (input, to) = (options.get("input")?, options.get("to")?);
    let is_date = match to {
        Bson::String(name) if !name.starts_with('$') => name == "date",
        Bson::String(_) | Bson::Document(_) => true,
        Bson::Int32(number) => *number == 9,
        _ => false,
    };
    if !is_date {
        return None;
    }
    let input = &trimmed(input);
    let mut whole = options.clone();
    if !may_be_text(input) {
        whole.insert("input", input.clone());
        return Some(bson!({ "$convert": whole }));
    }
    whole.insert("input", "$$arenaText");
    let whole = bson!({ "$convert": whole });
    let read =
        |text: Bson| bson!({ "$convert": { "input": text, "to": "date", "onError": Bson::Null } });
    let cut = cut(input, CUT, read, whole);
    if matches!(to, Bson::Int32(_)) || to.as_str() == Some("date") {
        return Some(cut);
    }
    let as_it_is = bson!({ "$convert": arguments.clone() });
    Some(bson!({ "$cond": [{ "$in": [to.clone(), ["date", 9]] }, cut, as_it_is] }))
}

/// `$dateFromString`.
pub(super) fn from_text(arguments: &Bson) -> Bson {
    let as_it_is = || bson!({ "$dateFromString": arguments.clone() });
    let Bson::Document(options) = arguments else {
        return as_it_is();
    };
    let may_have_both = options.contains_key("timezone") && !options.contains_key("format");
    let has_format = options.contains_key("format");
    let text = options.get("dateString");
    let text = text.map(|text| {
        if has_format {
            text.clone()
        } else {
            trimmed(text)
        }
    });
    let Some(text) = text else {
        return as_it_is();
    };
    if may_have_both {
        return with_zone(&text, options);
    }
    if !may_be_text(&text) {
        let mut options = options.clone();
        options.insert("dateString", text);
        return bson!({ "$dateFromString": options });
    }
    by_format(&text, options)
}

/// What may stand around a date's text.
const SPACE: [char; 5] = [' ', '\t', '\n', '\0', '\u{a0}'];

/// A text without the space around it and with the sign between a date and a time that the engine wants.
fn trimmed(text: &Bson) -> Bson {
    match text {
        Bson::String(path) if path.starts_with('$') => if_text(text),
        Bson::String(text) => {
            let text = text.trim_matches(SPACE);
            let is_day = |date: &str| {
                date.len() == 10 && date.bytes().all(|one| one == b'-' || one.is_ascii_digit())
            };
            let (date, rest) = text.split_at_checked(10).unwrap_or((text, ""));
            let time = rest.trim_start_matches([' ', '\t']);
            let is_zone = time.starts_with(['Z', '+', '-']);
            Bson::String(match is_day(date) {
                true if is_zone => format!("{date}{MIDNIGHT}{time}"),
                true if time.len() < rest.len() => format!("{date}T{time}"),
                _ => text.to_owned(),
            })
        }
        Bson::Document(_) => if_text(text),
        other => other.clone(),
    }
}

fn if_text(value: &Bson) -> Bson {
    let around: String = SPACE.iter().collect();
    let is_text = bson!({ "$eq": [{ "$type": "$$arenaWritten" }, "string"] });
    let text = bson!({ "$trim": { "input": "$$arenaWritten", "chars": around } });
    let zone = bson!({ "$trim": { "input": { "$substrBytes": ["$$arenaDay", 10, -1] } } });
    let whole = bson!({ "$concat": [{ "$substrBytes": ["$$arenaDay", 0, 10] }, MIDNIGHT, zone] });
    let is_day = bson!({ "$regexMatch": { "input": "$$arenaDay", "regex": DAY_AND_ZONE } });
    let text = bson!({ "$let": {
        "vars": { "arenaDay": text }, "in": { "$cond": [is_day, whole, "$$arenaDay"] },
    } });
    bson!({ "$let": {
        "vars": { "arenaWritten": value.clone() }, "in": { "$cond": [is_text, text, "$$arenaWritten"] },
    } })
}

/// A text with a timezone of its own beside one is refused.
fn with_zone(text: &Bson, options: &Document) -> Bson {
    let own = bson!({ "$and": [
        { "$eq": [{ "$type": "$$arenaString" }, "string"] },
        { "$regexMatch": { "input": "$$arenaString", "regex": OWN_ZONE } },
    ] });
    let read = by_format(&bson!("$$arenaString"), options);
    let instead = match options.get("onError") {
        Some(instead) => instead.clone(),
        None => raise(241, BOTH_ZONES, bson!("$$arenaString")),
    };
    bson!({ "$let": {
        "vars": { "arenaString": text.clone() }, "in": { "$cond": [own, instead, read] },
    } })
}

fn by_format(text: &Bson, options: &Document) -> Bson {
    let as_it_is = || bson!({ "$dateFromString": options.clone() });
    let mut whole = options.clone();
    whole.insert("dateString", "$$arenaText");
    let mut parts: Document = options
        .iter()
        .filter(|(name, _)| *name == "timezone")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let pattern = match options.get("format") {
        None => CUT,
        Some(Bson::String(format)) if format.contains(FRACTION) => {
            parts.insert("format", format.replacen(FRACTION, "%S", 1));
            CUT_BY_FORMAT
        }
        Some(Bson::String(format)) if !format.starts_with('$') => return as_it_is(),
        Some(format) => {
            let without = bson!({ "$replaceOne": { "input": format.clone(), "find": FRACTION, "replacement": "%S" } });
            let without = bson!({ "$concat": [without, ""] });
            parts.insert("format", without);
            let by_format = cut_from(
                text,
                CUT_BY_FORMAT,
                &parts,
                bson!({ "$dateFromString": whole }),
            );
            let has_fraction = bson!({ "$and": [
                { "$eq": [{ "$type": format.clone() }, "string"] },
                { "$regexMatch": { "input": format.clone(), "regex": FRACTION.replace('.', "[.]") } },
            ] });
            return bson!({ "$cond": [has_fraction, by_format, as_it_is()] });
        }
    };
    cut_from(text, pattern, &parts, bson!({ "$dateFromString": whole }))
}

fn cut_from(text: &Bson, pattern: &str, parts: &Document, whole: Bson) -> Bson {
    let read = |text: Bson| {
        let mut options = doc! { "dateString": text, "onError": Bson::Null };
        options.extend(parts.clone());
        bson!({ "$dateFromString": options })
    };
    cut(text, pattern, read, whole)
}

/// Reads a text without its fraction and adds it; `whole` is what `$$arenaText` is otherwise, or why it is no date.
fn cut(text: &Bson, pattern: &str, read: impl Fn(Bson) -> Bson, whole: Bson) -> Bson {
    let part =
        |at: i32| bson!({ "$ifNull": [{ "$arrayElemAt": ["$$arenaCut.captures", at] }, ""] });
    let digits = bson!({ "$substrBytes": [{ "$concat": [part(1), "00"] }, 0, 3] });
    // Joined to nothing it is a text of its own.
    let fraction = bson!({ "$toInt": { "$concat": [digits, ""] } });
    let added = bson!({ "$let": {
        "vars": { "arenaSecond": read(bson!({ "$concat": [part(0), part(2)] })) },
        "in": { "$cond": [
            { "$eq": ["$$arenaSecond", Bson::Null] }, whole.clone(), { "$add": ["$$arenaSecond", fraction] },
        ] },
    } });
    let found = bson!({ "$cond": [
        { "$eq": [{ "$type": "$$arenaText" }, "string"] },
        { "$regexFind": { "input": "$$arenaText", "regex": pattern } },
        Bson::Null,
    ] });
    bson!({ "$let": { "vars": { "arenaText": text.clone() }, "in": {
        "$let": { "vars": { "arenaCut": found }, "in": { "$cond": [
            { "$eq": ["$$arenaCut", Bson::Null] }, whole, added,
        ] } },
    } } })
}

/// Whether a value may be a text with a fraction.
fn may_be_text(value: &Bson) -> bool {
    match value {
        Bson::String(text) => text.starts_with('$') || text.contains('.'),
        Bson::Document(_) => true,
        _ => false,
    }
}
