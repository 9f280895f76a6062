//! Sums and averages of doubles. MongoDB adds them with twice the precision and
//! rounds once; the engine rounds at every step, so that 0.1, 0.2 and 0.3 are
//! 0.6000000000000001. Here each number is cut in three, the first two parts are added
//! without an error, and the sum of all is rounded once.

use bson::{Bson, bson};

use super::expressions::only;
use super::numbers;

/// What is added to a double and taken away again leaves whole multiples of 2^10, of which the sum is exact up to
/// [`MOST`]; 1.5 * 2^62.
const LARGE: f64 = 6_917_529_027_641_081_856.0;
/// The same for multiples of 2^-20 of what is left, which are exact for 2^24 numbers; 1.5 * 2^32.
const SMALL: f64 = 6_442_450_944.0;
/// The part of a long that is left beside a double.
const LOW_BITS: i64 = 0xf_ffff;
/// Up to this size the parts add up without an error; 2^61.
const MOST: f64 = 2_305_843_009_213_693_952.0;

/// The multiple next to a number.
fn multiple(number: &Bson, of: f64) -> Bson {
    bson!({ "$subtract": [{ "$add": [number.clone(), of] }, of] })
}

/// The three parts of a number.
fn cut(number: &Bson) -> [Bson; 3] {
    let large = multiple(number, LARGE);
    let rest = bson!({ "$subtract": [number.clone(), large.clone()] });
    let small = multiple(&rest, SMALL);
    let left = Bson::String("$$arenaLeft".to_owned());
    let last = bson!({ "$subtract": [left.clone(), multiple(&left, SMALL)] });
    let last = bson!({ "$let": { "vars": { "arenaLeft": rest }, "in": last } });
    [large, small, last]
}

/// The parts of what an accumulator adds; nothing of what is a decimal or no number.
pub(super) fn parts(operand: &Bson) -> [Bson; 3] {
    parts_of("$$arenaTerm")
        .map(|part| bson!({ "$let": { "vars": { "arenaTerm": operand.clone() }, "in": part } }))
}

/// The parts of any value. A whole number is cut where both parts are a double exactly; the third part is a double of
/// doubles alone.
fn parts_of(term: &str) -> [Bson; 3] {
    let low = bson!({ "$bitAnd": [term, LOW_BITS] });
    let high = bson!({ "$toDouble": { "$subtract": [term, low.clone()] } });
    let mut of_whole = [high, low, Bson::Int32(0)].into_iter();
    let is_double = bson!({ "$eq": [{ "$type": term }, "double"] });
    let is_whole = bson!({ "$in": [{ "$type": term }, ["int", "long"]] });
    cut(&Bson::String(term.to_owned())).map(|part| {
        let whole = of_whole.next().unwrap_or(Bson::Null);
        let other = bson!({ "$cond": [is_whole.clone(), whole, 0] });
        bson!({ "$cond": [is_double.clone(), part, other] })
    })
}

/// Whether whole numbers add up to a double, and what they are together: the engine stays with a double where a part of
/// them does not fit a long and all of them do.
pub(super) fn beyond_long(sum: &str, [high, low, last]: [Bson; 3]) -> (Bson, Bson) {
    let is_double = |value: Bson| bson!({ "$eq": [{ "$type": value }, "double"] });
    let case = bson!({ "$and": [is_double(bson!(sum)), { "$not": [is_double(last)] }] });
    let high = bson!({ "$convert": { "input": high, "to": "long", "onError": Bson::Null } });
    let both = bson!({ "$add": ["$$arenaHigh", low] });
    let then = bson!({ "$let": { "vars": { "arenaHigh": high }, "in": {
        "$cond": [{ "$eq": ["$$arenaHigh", Bson::Null] }, sum, both],
    } } });
    (case, then)
}

/// The decimals of what an accumulator adds.
pub(super) fn decimals(operand: &Bson) -> Bson {
    bson!({ "$let": { "vars": { "arenaTerm": operand.clone() }, "in": { "$cond": [
        is_decimal("$$arenaTerm"), "$$arenaTerm", 0,
    ] } } })
}

/// The sum of decimals and of the parts of the others, each part as what it is exactly. What has no end is the first one
/// alone.
pub(super) fn with_decimals(decimals: Bson, parts: [Bson; 3]) -> Bson {
    let has_end = bson!({ "$lt": [{ "$abs": parts[0].clone() }, f64::INFINITY] });
    let [first, second, third] = parts.map(|part| {
        bson!({ "$let": { "vars": { "arenaNumber": part }, "in": exactly("$$arenaNumber") } })
    });
    let all = bson!({ "$add": [decimals.clone(), { "$add": [first.clone(), second, third] }] });
    bson!({ "$cond": [has_end, all, { "$add": [decimals, first] }] })
}

/// The sum of the parts' sums, rounded once: what the first addition loses is added to the last part.
pub(super) fn total([large, small, last]: [Bson; 3]) -> Bson {
    let lost = bson!({ "$add": [
        { "$subtract": ["$$arenaLarge", { "$subtract": ["$$arenaBoth", "$$arenaAdded"] }] },
        { "$subtract": ["$$arenaSmall", "$$arenaAdded"] },
    ] });
    let sum = bson!({ "$add": ["$$arenaBoth", { "$add": [lost, "$$arenaLast"] }] });
    let added = bson!({ "$subtract": ["$$arenaBoth", "$$arenaLarge"] });
    let with_added = bson!({ "$let": { "vars": { "arenaAdded": added }, "in": sum } });
    let both = bson!({ "$add": ["$$arenaLarge", "$$arenaSmall"] });
    let with_both = bson!({ "$let": { "vars": { "arenaBoth": both }, "in": with_added } });
    bson!({ "$let": {
        "vars": { "arenaLarge": large, "arenaSmall": small, "arenaLast": last }, "in": with_both,
    } })
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
    let terms = terms(operand);
    let is_one = match operand {
        Bson::Array(listed) if listed.len() > 1 => !listed.iter().any(may_be_large),
        _ => !may_be_large(terms),
    };
    if is_one {
        return bson!({ "$sum": operand.clone() });
    }
    let of_parts = bson!({ "case": is_of_parts("$$arenaSum"), "then": sum_of_parts() });
    let with_long = bson!({ "$switch": {
        "branches": [{ "case": are_beyond_long(), "then": whole_sum() }, of_parts.clone()],
        "default": "$$arenaSum",
    } });
    let mut branches = vec![
        bson!({ "case": is_decimal("$$arenaSum"), "then": decimal_sum() }),
        bson!({ "case": has_long(), "then": with_long }),
    ];
    // Two terms are rounded once, unless a double does not hold one of them.
    if !matches!(terms, Bson::Array(two) if two.len() == 2) {
        branches.push(of_parts);
    }
    over_terms(
        terms,
        bson!({ "$switch": { "branches": branches, "default": "$$arenaSum" } }),
    )
}

/// `$avg` as an expression: the engine gives a double for decimals besides.
pub(super) fn average(operand: &Bson) -> Bson {
    let count = bson!({ "$size": "$$arenaNumbers" });
    let total = |sum: Bson| bson!({ "$divide": [sum, count.clone()] });
    over_terms(
        terms(operand),
        bson!({ "$switch": {
            "branches": [
                { "case": is_decimal("$$arenaSum"), "then": total(decimal_sum()) },
                { "case": is_of_parts("$$arenaSum"), "then": total(sum_of_parts()) },
            ],
            "default": { "$avg": "$$arenaNumbers" },
        } }),
    )
}

pub(super) fn is_decimal(number: &str) -> Bson {
    bson!({ "$eq": [{ "$type": number }, "decimal"] })
}

/// The sum of `$$arenaNumbers` when there are decimals among them: the others are added apart, each as what it is
/// exactly, and their sum is added to that of the decimals, also when it is nothing.
fn decimal_sum() -> Bson {
    let number = "$$arenaNumber";
    let which = |is_decimal: Bson| bson!({ "$filter": { "input": "$$arenaNumbers", "as": "arenaNumber", "cond": is_decimal } });
    let others = which(bson!({ "$not": [is_decimal(number)] }));
    let others = bson!({ "$map": { "input": others, "as": "arenaNumber", "in": exactly(number) } });
    bson!({ "$add": [{ "$sum": which(is_decimal(number)) }, { "$sum": others }] })
}

/// A number as a decimal of 34 digits.
fn exactly(number: &str) -> Bson {
    let exactly = numbers::exact("$$arenaSize");
    let signed = bson!({ "$cond": [{ "$lt": [number, 0] }, { "$multiply": [exactly.clone(), -1] }, exactly] });
    let is_cut = bson!({ "$and": [{ "$gte": ["$$arenaSize", 1e-280] }, { "$lt": ["$$arenaSize", f64::INFINITY] }] });
    let of_double = bson!({ "$let": { "vars": { "arenaSize": { "$abs": number } }, "in": { "$switch": {
        "branches": [
            { "case": is_cut, "then": signed },
            { "case": { "$eq": [number, 0] }, "then": numbers::decimal("0") },
        ],
        "default": { "$toDecimal": number },
    } } } });
    let is_double = bson!({ "$eq": [{ "$type": number }, "double"] });
    bson!({ "$cond": [is_double, of_double, { "$toDecimal": number }] })
}

/// What is added: the terms of an array, or one operand.
fn terms(operand: &Bson) -> &Bson {
    match operand {
        Bson::Array(terms) if terms.len() == 1 => &terms[0],
        other => other,
    }
}

/// Makes the terms, the numbers among them and their sum known to an expression.
fn over_terms(terms: &Bson, result: Bson) -> Bson {
    let found = numbers::numbers(&Bson::String("$$arenaTerms".to_owned()));
    bson!({ "$let": { "vars": { "arenaTerms": terms.clone() }, "in":
        { "$let": { "vars": { "arenaSum": { "$sum": "$$arenaTerms" }, "arenaNumbers": found }, "in": result } } } })
}

fn sum_of_parts() -> Bson {
    let of = |part: Bson| bson!({ "$sum": { "$map": { "input": "$$arenaNumbers", "as": "arenaNumber", "in": part } } });
    total(parts_of("$$arenaNumber").map(of))
}

/// The sum of whole numbers of which a part does not fit a long: the engine stays with a double where the whole fits.
fn whole_sum() -> Bson {
    let exact = bson!({ "$map": { "input": "$$arenaNumbers", "as": "arenaNumber", "in": { "$toDecimal": "$$arenaNumber" } } });
    let fits = bson!({ "$and": [
        { "$gte": ["$$arenaExact", i64::MIN] }, { "$lte": ["$$arenaExact", i64::MAX] },
    ] });
    bson!({ "$let": { "vars": { "arenaExact": { "$sum": exact } }, "in": {
        "$cond": [fits, { "$toLong": "$$arenaExact" }, "$$arenaSum"],
    } } })
}

/// Whether whole numbers add up to a double.
fn are_beyond_long() -> Bson {
    let is_whole = bson!({ "$in": [{ "$type": "$$arenaNumber" }, ["int", "long"]] });
    let are_whole = bson!({ "$allElementsTrue": [{
        "$map": { "input": "$$arenaNumbers", "as": "arenaNumber", "in": is_whole },
    }] });
    let is_double = bson!({ "$eq": [{ "$type": "$$arenaSum" }, "double"] });
    bson!({ "$cond": [is_double, are_whole, false] })
}

fn has_long() -> Bson {
    let is_long = bson!({ "$eq": [{ "$type": "$$arenaNumber" }, "long"] });
    bson!({ "$anyElementTrue": [{
        "$map": { "input": "$$arenaNumbers", "as": "arenaNumber", "in": is_long },
    }] })
}

/// Whether a number may be another one than an int, as far as it can be seen.
fn may_be_large(operand: &Bson) -> bool {
    matches!(operand, Bson::Decimal128(_) | Bson::Int64(_)) || may_be_double(operand)
}
