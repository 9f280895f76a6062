//! What operators on dates read: the seconds of an ObjectId have a sign, there is a year
//! zero, and the name of a timezone is written in one way only.

use bson::{Bson, Document, bson};

use super::accumulators::has_operator;
use super::operands::{PARTS_OF_DATES, constant};
use super::raising::raise;

/// What [`read_by`] writes otherwise, beside the operators that name a part of a date.
pub(super) const REWRITTEN: [&str; 5] = [
    "$dateDiff",
    "$dateToParts",
    "$dateFromParts",
    "$dateToString",
    "$toDate",
];
/// Those that are rewritten for another reason as well.
const OTHERS: [&str; 5] = [
    "$dateAdd",
    "$dateSubtract",
    "$dateTrunc",
    "$dateFromString",
    "$convert",
];

/// The seconds from which an ObjectId is before 1970.
const SIGN: i64 = 0x8000_0000_i64 * 1000;
/// What is taken from its time then.
const ROUND: i64 = 0x1_0000_0000_i64 * 1000;
/// How a part of a timezone's name does not begin, or an area or a city is not written.
const NO_ZONE: &str = "^[a-z]|/[a-z]|^[A-Z]{3,}/|/[A-Z_]{4,}";

/// Makes an operator on dates read its arguments as it has to.
pub(super) fn read_by(expression: &mut Document) {
    if expression.len() != 1 {
        return;
    }
    for (name, arguments) in expression.iter_mut() {
        let is_read = |names: &[&str]| names.contains(&name.as_str());
        if is_read(&PARTS_OF_DATES) || is_read(&REWRITTEN) || is_read(&OTHERS) {
            *arguments = read(name, arguments);
        }
    }
}

fn read(name: &str, arguments: &Bson) -> Bson {
    match arguments {
        Bson::Document(options) if !has_operator(options) => {
            let is_to_date = name != "$convert"
                || matches!(options.get("to"), Some(Bson::Int32(9)))
                || options.get_str("to").is_ok_and(|to| to == "date");
            let options = options.iter().map(|(option, value)| {
                let value = match option.as_str() {
                    "date" | "startDate" | "endDate" => signed(value),
                    "input" if is_to_date => signed(value),
                    "timezone" => zone(value),
                    _ => value.clone(),
                };
                (option.clone(), value)
            });
            Bson::Document(options.collect())
        }
        Bson::Array(one) if one.len() == 1 => Bson::Array(vec![signed(&one[0])]),
        Bson::Array(_) => arguments.clone(),
        one => signed(one),
    }
}

/// A value, or its date where it is an ObjectId of before 1970.
fn signed(value: &Bson) -> Bson {
    match value {
        Bson::ObjectId(id) if id.timestamp().timestamp_millis() >= SIGN => {
            let millis = id.timestamp().timestamp_millis() - ROUND;
            Bson::DateTime(bson::DateTime::from_millis(millis))
        }
        Bson::String(path) if path.starts_with('$') && path != "$$NOW" => if_id(path),
        Bson::Document(fields) if may_be_id(fields) => bson!({ "$let": {
            "vars": { "arenaMoment": value.clone() }, "in": if_id("$$arenaMoment"),
        } }),
        other => other.clone(),
    }
}

fn may_be_id(expression: &Document) -> bool {
    let operator = expression.keys().next();
    constant(&Bson::Document(expression.clone())).is_none()
        && operator.is_some_and(|name| {
            !matches!(
                name.as_str(),
                "$dateAdd"
                    | "$dateSubtract"
                    | "$dateFromParts"
                    | "$dateTrunc"
                    | "$toDate"
                    | "$add"
                    | "$subtract"
            )
        })
}

fn if_id(value: &str) -> Bson {
    let first = Bson::DateTime(bson::DateTime::from_millis(SIGN));
    let date = bson!({ "$let": { "vars": { "arenaTime": { "$toDate": value } }, "in": { "$cond": [
        { "$gte": ["$$arenaTime", first] }, { "$subtract": ["$$arenaTime", ROUND] }, "$$arenaTime",
    ] } } });
    bson!({ "$cond": [{ "$eq": [{ "$type": value }, "objectId"] }, date, value] })
}

/// A timezone, unless its name is written otherwise than it is.
fn zone(value: &Bson) -> Bson {
    if constant(value).is_some() || matches!(value, Bson::Array(_)) {
        return value.clone();
    }
    let is_wrong = bson!({ "$cond": [
        { "$eq": [{ "$type": "$$arenaNamed" }, "string"] },
        { "$regexMatch": { "input": "$$arenaNamed", "regex": NO_ZONE } },
        false,
    ] });
    let error = raise(
        40485,
        "unrecognized time zone identifier: ",
        bson!("$$arenaNamed"),
    );
    bson!({ "$let": { "vars": { "arenaNamed": value.clone() }, "in": {
        "$cond": [is_wrong, error, "$$arenaNamed"],
    } } })
}

/// Returns an operator whose value has a year.
pub(super) fn written(name: &str, arguments: &Bson) -> Bson {
    match name {
        "$dateToParts" => parts(arguments),
        _ => year(name, arguments),
    }
}

/// The engine counts years before the first one from minus one on, and those of weeks without a sign.
fn year(name: &str, arguments: &Bson) -> Bson {
    let (is_off, by) = match name {
        "$year" => (bson!({ "$lt": ["$$arenaYear", 0] }), Bson::Int32(1)),
        _ => (
            bson!({ "$gt": ["$$arenaYear", i64::from(i32::MAX)] }),
            Bson::Int64(-i64::from(u32::MAX)),
        ),
    };
    bson!({ "$let": { "vars": { "arenaYear": { name: arguments.clone() } }, "in": {
        "$cond": [is_off, { "$add": ["$$arenaYear", by] }, "$$arenaYear"],
    } } })
}

/// `$dateToParts` has such years too.
fn parts(arguments: &Bson) -> Bson {
    let year = bson!({ "year": { "$add": ["$$arenaParts.year", 1] } });
    bson!({ "$let": { "vars": { "arenaParts": { "$dateToParts": arguments.clone() } }, "in": { "$cond": [
        { "$and": [{ "$isNumber": "$$arenaParts.year" }, { "$lt": ["$$arenaParts.year", 0] }] },
        { "$mergeObjects": ["$$arenaParts", year] },
        "$$arenaParts",
    ] } } })
}
