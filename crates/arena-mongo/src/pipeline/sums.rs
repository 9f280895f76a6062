//! Sums and averages of doubles. MongoDB adds them with twice the precision and
//! rounds once; the engine rounds at every step, so that 0.1, 0.2 and 0.3 are
//! 0.6000000000000001. Here each number is cut in two, both parts are added
//! without an error, and their sum is rounded once.

use bson::{Bson, bson};

use super::expressions::only;
use super::numbers;

/// Where a double is cut: whole multiples of 2^-20, and the rest.
const CUT: f64 = 1_048_576.0;
/// Up to this size the multiples add up without an error.
const MOST: f64 = 8_589_934_592.0;

/// The multiple in a number.
fn high(number: &Bson) -> Bson {
    bson!({ "$divide": [{ "$trunc": { "$multiply": [number.clone(), CUT] } }, CUT] })
}

/// The rest of it.
fn low(number: &Bson) -> Bson {
    bson!({ "$subtract": [number.clone(), high(number)] })
}

/// Both parts of what an accumulator adds; nothing of what is no number.
pub(super) fn parts(operand: &Bson) -> (Bson, Bson) {
    let value = Bson::String("$$arenaTerm".to_owned());
    let of = |part: Bson| {
        bson!({ "$let": { "vars": { "arenaTerm": operand.clone() }, "in": { "$cond": [
            { "$isNumber": "$$arenaTerm" }, part, 0,
        ] } } })
    };
    (of(high(&value)), of(low(&value)))
}

/// Whether a sum is one of doubles, and small enough to be made of its parts.
pub(super) fn is_of_parts(sum: &str) -> Bson {
    bson!({ "$and": [{ "$eq": [{ "$type": sum }, "double"] }, { "$lt": [{ "$abs": sum }, MOST] }] })
}

/// Returns whether an operand may be a double, as far as it can be seen.
pub(super) fn may_be_double(operand: &Bson) -> bool {
    match operand {
        Bson::String(text) => text.starts_with('$'),
        Bson::Double(_) => true,
        Bson::Document(expression) => match only(expression) {
            Some(("$size" | "$strLenCP" | "$dateDiff" | "$toInt" | "$toLong", _)) => false,
            Some(("$cond", Bson::Array(parts))) if parts.len() == 3 => {
                parts[1..].iter().any(may_be_double)
            }
            _ => true,
        },
        _ => false,
    }
}

/// `$sum` as an expression.
pub(super) fn sum(operand: &Bson) -> Bson {
    if is_exact(operand) {
        return bson!({ "$sum": operand.clone() });
    }
    over_terms(
        operand,
        bson!({ "$cond": [is_of_parts("$$arenaSum"), sum_of_parts(), "$$arenaSum"] }),
    )
}

/// `$avg` as an expression: the engine gives a double for decimals besides.
pub(super) fn average(operand: &Bson) -> Bson {
    let count = bson!({ "$size": "$$arenaNumbers" });
    over_terms(
        operand,
        bson!({ "$switch": {
            "branches": [
                { "case": { "$eq": [{ "$type": "$$arenaSum" }, "decimal"] }, "then": { "$divide": ["$$arenaSum", count.clone()] } },
                { "case": is_of_parts("$$arenaSum"), "then": { "$divide": [sum_of_parts(), count] } },
            ],
            "default": { "$avg": "$$arenaNumbers" },
        } }),
    )
}

/// Makes the terms, the numbers among them and their sum known to an expression.
fn over_terms(operand: &Bson, result: Bson) -> Bson {
    let terms = match operand {
        Bson::Array(terms) if terms.len() == 1 => terms[0].clone(),
        other => other.clone(),
    };
    let found = numbers::numbers(&Bson::String("$$arenaTerms".to_owned()));
    bson!({ "$let": { "vars": { "arenaTerms": terms }, "in":
        { "$let": { "vars": { "arenaSum": { "$sum": "$$arenaTerms" }, "arenaNumbers": found }, "in": result } } } })
}

fn sum_of_parts() -> Bson {
    let number = Bson::String("$$arenaNumber".to_owned());
    let of = |part: Bson| bson!({ "$sum": { "$map": { "input": "$$arenaNumbers", "as": "arenaNumber", "in": part } } });
    bson!({ "$add": [of(high(&number)), of(low(&number))] })
}

/// Whether a sum is rounded once at most.
fn is_exact(operand: &Bson) -> bool {
    match operand {
        Bson::Array(terms) if terms.len() == 1 => is_exact(&terms[0]),
        Bson::Array(terms) => terms.len() == 2 || !terms.iter().any(may_be_double),
        // One value, or an array's.
        other => !may_be_double(other),
    }
}
