//! `$derivative`, `$integral` and `$expMovingAvg`: the engine divides by the unit of
//! time at every step, and keeps 15 digits of a moving average. Here the first two are
//! asked for in milliseconds and brought to the unit once, and the average is one of
//! decimals; so the last digits are MongoDB's.

use bson::{Bson, Document, bson};

/// The milliseconds of the units that both take.
const UNITS: [(&str, i32); 5] = [
    ("week", 604_800_000),
    ("day", 86_400_000),
    ("hour", 3_600_000),
    ("minute", 60_000),
    ("second", 1_000),
];

/// A function in milliseconds, and its value in its own unit.
pub(super) struct Rate {
    pub(super) function: Bson,
    pub(super) value: Bson,
}

/// Returns how a function of a field runs, if it has a unit.
pub(super) fn in_milliseconds(field: &str, function: &Bson) -> Option<Rate> {
    let mut function = function.as_document()?.clone();
    let (operator, to_unit) = [("$derivative", "$multiply"), ("$integral", "$divide")]
        .into_iter()
        .find(|(operator, _)| function.contains_key(operator))?;
    let options = function.get_document_mut(operator).ok()?;
    let unit = options.get_str("unit").ok()?;
    let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    options.insert("unit", "millisecond");
    Some(Rate {
        function: Bson::Document(function),
        value: bson!({ to_unit: [format!("${field}"), *milliseconds] }),
    })
}

/// A moving average of decimals, and how many values up to a document are decimals themselves.
pub(super) struct Average {
    pub(super) function: Bson,
    pub(super) decimals: Bson,
}

/// Returns how a moving average runs.
pub(super) fn of_decimals(function: &Bson) -> Option<Average> {
    let mut function = function.as_document()?.clone();
    let options = function.get_document_mut("$expMovingAvg").ok()?;
    let input = options.get("input")?.clone();
    let number = bson!({ "$toDecimal": input.clone() });
    options.insert(
        "input",
        bson!({ "$cond": [{ "$isNumber": [input.clone()] }, number, Bson::Null] }),
    );
    let is_decimal = bson!({ "$eq": [{ "$type": input }, "decimal"] });
    Some(Average {
        function: Bson::Document(function),
        decimals: bson!({
            "$sum": { "$cond": [is_decimal, 1, 0] },
            "window": { "documents": ["unbounded", "current"] },
        }),
    })
}

/// A moving average at MongoDB: what is no number changes nothing, and it is a double before the first decimal.
pub(super) fn carried_on(field: &str, decimals: &str) -> Document {
    let average = format!("${field}");
    let has_decimals = bson!({ "$gt": [decimals, 0] });
    bson::doc! { "$locf": { "$cond": [has_decimals, average.clone(), { "$toDouble": average }] } }
}
