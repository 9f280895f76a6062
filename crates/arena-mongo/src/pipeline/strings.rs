//! Operators on text. The engine writes numbers and timestamps as text otherwise
//! than MongoDB, folds letters the other way, cuts positions to 32 bits, and hangs
//! where every place of a text is to be replaced.

use bson::{Bson, Document, bson, doc};

use super::operands::constant;
use super::raising::raise;
use crate::error::CommandError;

/// What [`rewritten`] writes otherwise.
pub(super) const REWRITTEN: [&str; 13] = [
    "$substr",
    "$substrBytes",
    "$substrCP",
    "$toLower",
    "$toUpper",
    "$strcasecmp",
    "$trim",
    "$ltrim",
    "$rtrim",
    "$indexOfBytes",
    "$indexOfCP",
    "$replaceOne",
    "$replaceAll",
];
/// Operators whose value is a text or null.
const TEXTS: [&str; 12] = [
    "$concat",
    "$dateToString",
    "$ltrim",
    "$replaceAll",
    "$replaceOne",
    "$rtrim",
    "$substr",
    "$substrBytes",
    "$substrCP",
    "$toLower",
    "$toUpper",
    "$trim",
];
/// What is cut off where nothing is named; the engine leaves the space that does not break.
const WHITESPACE: &str = "\0\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}";
/// A position that the engine refuses as no whole number of 32 bits.
const NO_POSITION: f64 = 4_503_599_627_370_495.5;
const TEXT: &str = "$$arenaText";

/// Returns what computes such an operator.
pub(super) fn rewritten(name: &str, operands: &Bson) -> Result<Bson, CommandError> {
    let as_it_is = || Ok(bson!({ name: operands.clone() }));
    match (name, operands) {
        ("$substr" | "$substrBytes" | "$substrCP", Bson::Array(three)) => match three.as_slice() {
            [text, from, length] => Ok(joined(substring(name, text, from, length))),
            _ => as_it_is(),
        },
        ("$toLower" | "$toUpper", Bson::Array(one)) if one.len() != 1 => as_it_is(),
        ("$toLower" | "$toUpper", Bson::Array(one)) => Ok(bson!({ name: as_text(&one[0]) })),
        ("$toLower" | "$toUpper", one) => Ok(bson!({ name: as_text(one) })),
        // MongoDB compares capital letters, which precede what stands between Z and a.
        ("$strcasecmp", Bson::Array(two)) if two.len() == 2 => {
            let capitals = |text: &Bson| bson!({ "$toUpper": as_text(text) });
            Ok(bson!({ "$cmp": [capitals(&two[0]), capitals(&two[1])] }))
        }
        ("$trim" | "$ltrim" | "$rtrim", Bson::Document(options)) => Ok(trimmed(name, options)),
        ("$indexOfBytes" | "$indexOfCP", Bson::Array(operands)) => {
            let at = |(place, operand)| {
                if place < 2 {
                    Bson::clone(operand)
                } else {
                    position(operand)
                }
            };
            let operands: Vec<Bson> = operands.iter().enumerate().map(at).collect();
            Ok(bson!({ name: operands }))
        }
        ("$replaceAll", Bson::Document(options)) => replaced(options),
        // Its value is a part of another text, as that of $substr.
        ("$replaceOne", _) => Ok(joined(bson!({ name: operands.clone() }))),
        _ => as_it_is(),
    }
}

/// A part of another text, which the engine reads on to its end where it reads a number or a date; joined to nothing
/// it is a text of its own.
fn joined(part: Bson) -> Bson {
    bson!({ "$concat": [part, ""] })
}

fn substring(name: &str, text: &Bson, from: &Bson, length: &Bson) -> Bson {
    let whole = |operand| match name {
        "$substrCP" => present(operand),
        _ => whole(operand),
    };
    bson!({ name: [as_text(text), whole(from), whole(length)] })
}

/// What is missing as null: the engine fails to name its type.
pub(super) fn present(operand: &Bson) -> Bson {
    match constant(operand) {
        Some(_) => operand.clone(),
        None => bson!({ "$ifNull": [operand.clone(), Bson::Null] }),
    }
}

/// A decimal is rounded, and what is no number of 64 bits is their least.
fn whole(operand: &Bson) -> Bson {
    if constant(operand).is_some_and(|value| !matches!(value, Bson::Decimal128(_))) {
        return operand.clone();
    }
    let rounded = bson!({ "$convert": {
        "input": { "$round": "$$arenaNumber" }, "to": "long", "onError": i64::MIN,
    } });
    bson!({ "$let": { "vars": { "arenaNumber": present(operand) }, "in": { "$cond": [
        { "$eq": [{ "$type": "$$arenaNumber" }, "decimal"] }, rounded, "$$arenaNumber",
    ] } } })
}

/// A value as MongoDB's operators on text read it.
fn as_text(value: &Bson) -> Bson {
    let is_text = match (constant(value), value) {
        (Some(value), _) => matches!(value, Bson::String(_) | Bson::Null),
        (None, Bson::Document(operator)) => {
            operator.keys().any(|name| TEXTS.contains(&name.as_str()))
        }
        _ => false,
    };
    if is_text {
        return value.clone();
    }
    let of_type = |name: &str| bson!({ "$eq": [{ "$type": TEXT }, name] });
    let double = bson!({ "$switch": {
        "branches": [
            { "case": { "$eq": [TEXT, f64::INFINITY] }, "then": "inf" },
            { "case": { "$eq": [TEXT, f64::NEG_INFINITY] }, "then": "-inf" },
        ],
        "default": { "$toLower": TEXT },
    } });
    let read = bson!({ "$switch": {
        "branches": [
            { "case": of_type("string"), "then": TEXT },
            { "case": of_type("double"), "then": double },
            { "case": of_type("decimal"), "then": { "$toString": TEXT } },
            { "case": of_type("timestamp"), "then": timestamp() },
        ],
        "default": TEXT,
    } });
    bson!({ "$let": { "vars": { "arenaText": value.clone() }, "in": read } })
}

/// A timestamp's text has no year: the month, the day, the time, and which one of the second it is.
fn timestamp() -> Bson {
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let day = bson!({ "$dayOfMonth": TEXT });
    bson!({ "$concat": [
        { "$arrayElemAt": [months, { "$subtract": [{ "$month": TEXT }, 1] }] },
        { "$cond": [{ "$lt": [day.clone(), 10] }, "  ", " "] },
        { "$toString": day },
        { "$dateToString": { "date": TEXT, "format": " %H:%M:%S:" } },
        { "$toString": { "$tsIncrement": TEXT } },
    ] })
}

/// Cut off is whitespace where nothing is named, and nothing at all where null is: but then the input is looked at
/// all the same.
fn trimmed(name: &str, options: &Document) -> Bson {
    let mut options = options.clone();
    let Some(chars) = options.get("chars").cloned() else {
        options.insert("chars", WHITESPACE);
        return bson!({ name: options });
    };
    if matches!(constant(&chars), Some(value) if *value != Bson::Null)
        || !options.contains_key("input")
    {
        return bson!({ name: options });
    }
    let checked = bson!({ "$cond": [
        { "$eq": [{ "$type": "$$arenaInput" }, "string"] }, Bson::Null, "$$arenaInput",
    ] });
    let input = bson!({ "$cond": [
        { "$eq": [{ "$ifNull": ["$$arenaChars", Bson::Null] }, Bson::Null] }, checked, "$$arenaInput",
    ] });
    let variables = doc! { "arenaInput": options["input"].clone(), "arenaChars": chars };
    options.insert("input", input);
    options.insert("chars", bson!({ "$ifNull": ["$$arenaChars", ""] }));
    bson!({ "$let": { "vars": variables, "in": { name: options } } })
}

/// Where to look from or to.
fn position(operand: &Bson) -> Bson {
    match constant(operand) {
        Some(Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_)) | None => {}
        Some(_) => return operand.clone(),
    }
    let is_far = bson!({ "$and": [{ "$isNumber": "$$arenaAt" }, { "$or": [
        { "$gt": ["$$arenaAt", i32::MAX] }, { "$lt": ["$$arenaAt", i32::MIN] },
    ] }] });
    bson!({ "$let": { "vars": { "arenaAt": operand.clone() }, "in": {
        "$cond": [is_far, NO_POSITION, "$$arenaAt"],
    } } })
}

/// The engine would copy a text for each of its letters where nothing is to be found.
fn replaced(options: &Document) -> Result<Bson, CommandError> {
    let operator = |options: &Document| joined(bson!({ "$replaceAll": options.clone() }));
    let Some(find) = options.get("find") else {
        return Ok(operator(options));
    };
    match constant(find) {
        Some(Bson::String(find)) if find.is_empty() => {
            return Err(CommandError::not_supported(
                "$replaceAll with an empty find",
            ));
        }
        Some(_) => return Ok(operator(options)),
        None => {}
    }
    let mut computed = options.clone();
    computed.insert("find", "$$arenaFind");
    let said =
        "$replaceAll with an empty find is not supported by the built-in database (DocumentDB)";
    Ok(
        bson!({ "$let": { "vars": { "arenaFind": find.clone() }, "in": { "$cond": [
        { "$eq": ["$$arenaFind", ""] }, raise(115, said, bson!("$$arenaFind")), operator(&computed),
    ] } } }),
    )
}
