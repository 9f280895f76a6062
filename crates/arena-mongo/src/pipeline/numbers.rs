//! Expressions that compute with numbers and that the engine lacks or gets wrong:
//! the text of a double, and statistics over the values of an array.

use bson::{Bson, Document, bson, doc};

use super::arithmetic::with_exact_zero;
use super::binaries;
use super::sums::may_be_double;

/// Significant digits of a double's text.
const DIGITS: i32 = 16;

/// `$toString` of a double: the engine writes six digits of it, MongoDB sixteen (C's `%.16g`).
pub(super) fn text(operand: &Bson) -> Bson {
    let value = match operand {
        Bson::Array(values) if values.len() == 1 => &values[0],
        other => other,
    };
    if is_no_double(value) {
        return bson!({ "$toString": operand.clone() });
    }
    if_double(value, bson!({ "$toString": "$$arenaValue" }))
}

/// `$convert` to a string does the same.
pub(super) fn converted(arguments: &Bson) -> Bson {
    let as_it_is = || bson!({ "$convert": arguments.clone() });
    let Bson::Document(options) = arguments else {
        return as_it_is();
    };
    let is_to_text = match options.get("to") {
        Some(Bson::String(name)) => name == "string",
        Some(Bson::Int32(number)) => *number == 2,
        _ => false,
    };
    match options.get("input") {
        Some(input) if is_to_text && !is_no_double(input) => {
            let mut other = options.clone();
            other.insert("input", "$$arenaValue");
            if_double(input, bson!({ "$convert": other }))
        }
        Some(input) => {
            let to = match options.get("to") {
                Some(Bson::String(name)) => name.as_str(),
                Some(Bson::Int32(1)) => "double",
                Some(Bson::Int32(16)) => "int",
                Some(Bson::Int32(18)) => "long",
                Some(Bson::Int32(19)) => "decimal",
                _ => "",
            };
            let input = match to {
                "double" | "int" | "long" => binaries::read(to, input),
                "decimal" if may_be_double(input) => with_exact_zero(input),
                _ => return as_it_is(),
            };
            let mut options = options.clone();
            options.insert("input", input);
            bson!({ "$convert": options })
        }
        None => as_it_is(),
    }
}

fn is_no_double(value: &Bson) -> bool {
    let is_constant = matches!(value, Bson::String(text) if !text.starts_with('$'));
    let is_computed = matches!(
        value,
        Bson::Double(_) | Bson::Document(_) | Bson::Array(_) | Bson::String(_)
    );
    is_constant || !is_computed
}

fn if_double(value: &Bson, other: Bson) -> Bson {
    bson!({ "$let": { "vars": { "arenaValue": value.clone() }, "in": { "$cond": [
        { "$eq": [{ "$type": "$$arenaValue" }, "double"] }, double_text(), other,
    ] } } })
}

/// The text of the double `$$arenaValue`.
fn double_text() -> Bson {
    // Nothing that needs digits; and what is too small for the powers of two below.
    let is_special = bson!({ "$or": [
        { "$not": [{ "$gt": ["$$arenaSize", 1e-280] }] }, { "$eq": ["$$arenaSize", f64::INFINITY] },
    ] });
    let is_whole = bson!({ "$and": [
        { "$lt": ["$$arenaSize", 1e15] }, { "$eq": ["$$arenaValue", { "$trunc": "$$arenaValue" }] },
    ] });
    let sign = bson!({ "$cond": [{ "$lt": ["$$arenaValue", 0] }, "-", ""] });
    bson!({ "$let": { "vars": { "arenaSize": { "$abs": "$$arenaValue" } }, "in": { "$switch": {
        "branches": [
            { "case": is_special, "then": { "$toString": "$$arenaValue" } },
            { "case": is_whole, "then": { "$toString": { "$toLong": "$$arenaValue" } } },
        ],
        "default": { "$concat": [sign, digits()] },
    } } } })
}

/// The digits of `$$arenaSize`: the double as an exact decimal, rounded, with or without an exponent.
fn digits() -> Bson {
    let two = bson!({ "$floor": { "$log": ["$$arenaSize", 2] } });
    let whole = bson!({ "$toLong": { "$multiply": ["$$arenaSize", { "$pow": [2.0, { "$subtract": [52, "$$arenaTwo"] }] }] } });
    let exact = bson!({ "$multiply": [
        { "$toDecimal": whole }, { "$pow": [decimal("2"), { "$subtract": ["$$arenaTwo", 52] }] },
    ] });
    let ten = bson!({ "$toInt": { "$floor": { "$log10": "$$arenaSize" } } });
    let mantissa =
        bson!({ "$divide": ["$$arenaExact", { "$pow": [decimal("10"), "$$arenaTen"] }] });
    let rounded = bson!({ "$round": [mantissa.clone(), DIGITS - 1] });
    // The logarithm may be one off beside a power of ten, and rounding may reach one.
    let beside = bson!({ "$switch": {
        "branches": [
            { "case": { "$lt": [mantissa.clone(), 1] }, "then": { "$subtract": ["$$arenaTen", 1] } },
            { "case": { "$gte": [mantissa, 10] }, "then": { "$add": ["$$arenaTen", 1] } },
        ],
        "default": "$$arenaTen",
    } });
    let reached = bson!({ "$cond": [
        { "$gte": [rounded.clone(), 10] }, { "$add": ["$$arenaTen", 1] }, "$$arenaTen",
    ] });
    let is_plain =
        bson!({ "$and": [{ "$gte": ["$$arenaTen", -4] }, { "$lt": ["$$arenaTen", DIGITS] }] });
    let plain = trimmed(
        bson!({ "$toString": { "$round": ["$$arenaExact", { "$subtract": [DIGITS - 1, "$$arenaTen"] }] } }),
    );
    let exponent = bson!({ "$toString": { "$abs": "$$arenaTen" } });
    let scientific = bson!({ "$concat": [
        trimmed(bson!({ "$toString": rounded })),
        { "$cond": [{ "$lt": ["$$arenaTen", 0] }, "e-", "e+"] },
        { "$cond": [{ "$lt": [{ "$abs": "$$arenaTen" }, 10] }, "0", ""] },
        exponent,
    ] });
    let written = bson!({ "$cond": [is_plain, plain, scientific] });
    let written = bson!({ "$let": { "vars": { "arenaTen": reached }, "in": written } });
    let at_ten = bson!({ "$let": { "vars": { "arenaTen": beside }, "in": written } });
    bson!({ "$let": { "vars": { "arenaTwo": two, "arenaTen": ten }, "in":
        { "$let": { "vars": { "arenaExact": exact }, "in": at_ten } } } })
}

/// A decimal's text without the zeros at its end.
fn trimmed(text: Bson) -> Bson {
    let cut = bson!({ "$rtrim": { "input": { "$rtrim": { "input": "$$arenaText", "chars": "0" } }, "chars": "." } });
    let has_point = bson!({ "$gte": [{ "$indexOfCP": ["$$arenaText", "."] }, 0] });
    bson!({ "$let": { "vars": { "arenaText": text }, "in": { "$cond": [has_point, cut, "$$arenaText"] } } })
}

pub(super) fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().expect("a constant decimal is well-formed"))
}

/// What a double from 1e-280 on is exactly, as a decimal of 34 digits; the engine's `$toDecimal` keeps 15.
pub(super) fn exact(size: &str) -> Bson {
    // Two more than the 52 binary places of a double, as the logarithm may be one off.
    let places = bson!({ "$subtract": [54, { "$toInt": { "$floor": { "$log": [size, 2] } } }] });
    let whole = bson!({ "$toLong": { "$multiply": [size, { "$pow": [2.0, "$$arenaTwo"] }] } });
    let power = bson!({ "$pow": [decimal("2"), "$$arenaTwo"] });
    let exact = bson!({ "$divide": [{ "$toDecimal": whole }, power] });
    bson!({ "$let": { "vars": { "arenaTwo": places }, "in": exact } })
}

/// `$stdDevPop` and `$stdDevSamp` as expressions: the mean and the sum of squares move with every number, as MongoDB's
/// do, so that none of them is larger than it must be.
pub(super) fn deviation(name: &str, operand: &Bson) -> Bson {
    let less = if name == "$stdDevPop" { 0 } else { 1 };
    let count = bson!({ "$add": ["$$value.n", 1] });
    let moved = bson!({ "$add": ["$$value.mean", { "$divide": ["$$arenaDelta", count.clone()] }] });
    let squares = bson!({ "$add": ["$$value.m2", { "$multiply": [
        "$$arenaDelta", { "$subtract": [{ "$toDouble": "$$this" }, "$$arenaMean"] },
    ] }] });
    let next = bson!({ "$let": {
        "vars": { "arenaMean": moved }, "in": { "n": count.clone(), "mean": "$$arenaMean", "m2": squares },
    } });
    let same = bson!({ "n": count, "mean": "$$value.mean", "m2": "$$value.m2" });
    let next = bson!({ "$let": {
        "vars": { "arenaDelta": { "$subtract": [{ "$toDouble": "$$this" }, "$$value.mean"] } },
        "in": { "$cond": [{ "$eq": ["$$arenaDelta", 0] }, same, next] },
    } });
    let reduced = bson!({ "$reduce": {
        "input": numbers(operand), "initialValue": { "n": 0, "mean": 0.0, "m2": 0.0 }, "in": next,
    } });
    let divisor = bson!({ "$subtract": ["$$arenaAll.n", less] });
    let root = bson!({ "$sqrt": { "$divide": ["$$arenaAll.m2", divisor.clone()] } });
    // The squares of what overflows have no sum.
    let root = bson!({ "$cond": [{ "$lt": ["$$arenaAll.m2", 0] }, f64::NAN, root] });
    bson!({ "$let": { "vars": { "arenaAll": reduced }, "in": { "$cond": [
        { "$lt": [divisor, 1] }, Bson::Null, root,
    ] } } })
}

/// `$median` and `$percentile` as expressions, for percentiles that are constant.
pub(super) fn percentiles(name: &str, arguments: &Document) -> Option<Bson> {
    let input = arguments.get("input")?;
    if arguments.get("method")?.as_str() != Some("approximate") {
        return None;
    }
    let wanted = match (name, arguments.get("p")) {
        ("$median", None) => vec![0.5],
        ("$percentile", Some(Bson::Array(wanted))) if !wanted.is_empty() => {
            wanted.iter().map(fraction).collect::<Option<Vec<f64>>>()?
        }
        _ => return None,
    };
    let value = |p: f64| {
        let rank = bson!({ "$ceil": { "$multiply": [p, { "$size": "$$arenaSorted" }] } });
        let position = bson!({ "$toInt": { "$max": [0, { "$subtract": [rank, 1] }] } });
        let found = bson!({ "$toDouble": { "$arrayElemAt": ["$$arenaSorted", position] } });
        bson!({ "$cond": [{ "$eq": ["$$arenaSorted", []] }, Bson::Null, found] })
    };
    let mut values: Vec<Bson> = wanted.into_iter().map(value).collect();
    let result = match name {
        "$median" => values.pop()?,
        _ => Bson::Array(values),
    };
    let is_number = bson!({ "$ne": [{ "$toDouble": "$$arenaItem" }, f64::NAN] });
    let counted =
        bson!({ "$filter": { "input": numbers(input), "as": "arenaItem", "cond": is_number } });
    let sorted = bson!({ "$sortArray": { "input": counted, "sortBy": 1 } });
    Some(bson!({ "$let": { "vars": { "arenaSorted": sorted }, "in": result } }))
}

fn fraction(value: &Bson) -> Option<f64> {
    let number = match value {
        Bson::Double(number) => *number,
        Bson::Int32(number) => f64::from(*number),
        Bson::Int64(number) => f64::from(i32::try_from(*number).ok()?),
        Bson::Decimal128(number) => number.to_string().parse().ok()?,
        _ => return None,
    };
    (0.0..=1.0).contains(&number).then_some(number)
}

/// The numbers of an operand: of an array's elements, or the one value itself.
pub(super) fn numbers(operand: &Bson) -> Bson {
    let listed = match operand {
        Bson::Array(values) if values.len() == 1 => listed(&values[0]),
        Bson::Array(_) => operand.clone(),
        one => listed(one),
    };
    bson!({ "$filter": { "input": listed, "as": "arenaItem", "cond": { "$isNumber": "$$arenaItem" } } })
}

fn listed(one: &Bson) -> Bson {
    let list = doc! { "$cond": [{ "$isArray": [one.clone()] }, one.clone(), [one.clone()]] };
    Bson::Document(list)
}
