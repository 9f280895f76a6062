//! Arithmetic that the engine does with fewer digits or another type than MongoDB, or
//! not at all. Operands become variables, so that each is computed once.

use bson::{Bson, bson};

use super::numbers;
use super::raising::raise;
use super::sums::may_be_double;

const LEFT: &str = "$$arenaLeftOperand";
const RIGHT: &str = "$$arenaRightOperand";

fn with_operands(left: &Bson, right: &Bson, body: Bson) -> Bson {
    bson!({ "$let": {
        "vars": { "arenaLeftOperand": left.clone(), "arenaRightOperand": right.clone() }, "in": body,
    } })
}

fn switch(branches: Vec<(Bson, Bson)>, default: Bson) -> Bson {
    let branches = branches
        .into_iter()
        .map(|(case, then)| bson!({ "case": case, "then": then }));
    bson!({ "$switch": { "branches": branches.collect::<Vec<Bson>>(), "default": default } })
}

fn is_type(value: &str, name: &str) -> Bson {
    bson!({ "$eq": [{ "$type": value }, name] })
}

fn either(name: &str) -> Bson {
    bson!({ "$or": [is_type(LEFT, name), is_type(RIGHT, name)] })
}

fn are_no_numbers() -> Bson {
    bson!({ "$not": [{ "$and": [{ "$isNumber": LEFT }, { "$isNumber": RIGHT }] }] })
}

fn is_odd(value: &str) -> Bson {
    bson!({ "$eq": [{ "$abs": { "$mod": [value, 2] } }, 1] })
}

/// `$mod`: beside a double the rest is one, and beside a long it is exact, which the engine's is not.
pub(super) fn rest(operands: &[Bson]) -> Bson {
    let is_computed = |operand: &Bson| {
        matches!(operand, Bson::Document(_))
            || matches!(operand, Bson::String(path) if path.starts_with('$'))
    };
    let [left, right] = operands else {
        return bson!({ "$mod": operands });
    };
    // Two constants may be a filter's, too.
    if !is_computed(left) && !is_computed(right) {
        return bson!({ "$mod": operands });
    }
    let plain = bson!({ "$mod": [LEFT, RIGHT] });
    let is_zero = bson!({ "$eq": [RIGHT, 0] });
    let none = raise(
        5_733_415,
        "can't $mod by zero, which is a ",
        bson!({ "$type": RIGHT }),
    );
    let decimal = bson!({ "$cond": [is_zero.clone(), none, plain.clone()] });
    let is_minus_zero = bson!({ "$and": [{ "$eq": [plain.clone(), 0] }, { "$lt": [LEFT, 0] }] });
    let double = bson!({ "$cond": [is_minus_zero, -0.0, { "$toDouble": plain.clone() }] });
    let long = bson!({ "$toLong": { "$mod": [{ "$toDecimal": LEFT }, RIGHT] } });
    let branches = vec![
        (are_no_numbers(), plain.clone()),
        (either("decimal"), decimal),
        (is_zero, plain.clone()),
        (either("double"), double),
        (either("long"), long),
    ];
    with_operands(left, right, switch(branches, plain))
}

/// `$pow`: the engine ends where a result is too large or too small for a double, and loses the sign of zero.
pub(super) fn power(operands: &[Bson]) -> Bson {
    let [base, exponent] = operands else {
        return bson!({ "$pow": operands });
    };
    let plain = bson!({ "$pow": [LEFT, RIGHT] });
    let is_finite =
        |value: &str| bson!({ "$lt": [{ "$abs": { "$toDouble": value } }, f64::INFINITY] });
    let is_negative = bson!({ "$and": [{ "$lt": [LEFT, 0] }, { "$cond": [is_finite(RIGHT), is_odd(RIGHT), false] }] });
    let signed = |value: f64| bson!({ "$cond": [is_negative.clone(), -value, value] });
    let is_minus_zero = bson!({ "$cond": [is_type(LEFT, "double"), { "$eq": [{ "$toString": LEFT }, "-0"] }, false] });
    let of_zero = bson!({ "$cond": [
        { "$and": [{ "$gt": [RIGHT, 0] }, is_finite(RIGHT), is_minus_zero, is_odd(RIGHT)] }, -0.0, plain.clone(),
    ] });
    let of_infinity = bson!({ "$cond": [
        { "$and": [{ "$lt": [RIGHT, 0] }, is_finite(RIGHT), is_negative.clone()] }, -0.0, plain.clone(),
    ] });
    let is_nan = |value: &str| bson!({ "$eq": [value, f64::NAN] });
    let base_size = bson!({ "$abs": { "$toDouble": LEFT } });
    let half = bson!({ "$pow": [base_size.clone(), { "$divide": [RIGHT, 2] }] });
    let small = bson!({ "$multiply": [half.clone(), half, signed(1.0)] });
    // The exponent of two.
    let size = bson!({ "$multiply": [RIGHT, { "$log": [base_size, 2] }] });
    let sized = switch(
        vec![
            (
                bson!({ "$gte": ["$$arenaSize", 1024] }),
                signed(f64::INFINITY),
            ),
            (bson!({ "$lt": ["$$arenaSize", -1080] }), signed(0.0)),
            (bson!({ "$lt": ["$$arenaSize", -1021] }), small),
        ],
        plain.clone(),
    );
    let sized = bson!({ "$let": { "vars": { "arenaSize": size }, "in": sized } });
    let branches = vec![
        (are_no_numbers(), plain.clone()),
        (either("decimal"), plain.clone()),
        (
            bson!({ "$or": [is_nan(LEFT), is_nan(RIGHT)] }),
            plain.clone(),
        ),
        (bson!({ "$eq": [LEFT, 0] }), of_zero),
        (bson!({ "$not": [is_finite(LEFT)] }), of_infinity),
        (bson!({ "$not": [is_finite(RIGHT)] }), plain),
        (
            bson!({ "$eq": [RIGHT, 1] }),
            bson!({ "$multiply": [LEFT, RIGHT] }),
        ),
    ];
    with_operands(base, exponent, switch(branches, sized))
}

/// `$log`: the engine wants a base above one.
pub(super) fn logarithm(operands: &[Bson]) -> Bson {
    let plain = || bson!({ "$log": operands });
    let [number, base] = operands else {
        return plain();
    };
    let is_usual = match base {
        Bson::Int32(_) | Bson::Int64(_) | Bson::Null => true,
        Bson::Double(base) => !(*base > 0.0 && *base < 1.0),
        _ => false,
    };
    if is_usual {
        return plain();
    }
    let below_one = bson!({ "$and": [
        { "$isNumber": LEFT }, { "$isNumber": RIGHT }, { "$gt": [RIGHT, 0] }, { "$lt": [RIGHT, 1] },
    ] });
    let message = "$log's argument must be a positive number, but is a ";
    let of_logarithms = bson!({ "$cond": [
        { "$lte": [LEFT, 0] },
        raise(28758, message, bson!({ "$type": LEFT })),
        { "$divide": [{ "$ln": LEFT }, { "$ln": RIGHT }] },
    ] });
    let plain = bson!({ "$log": [LEFT, RIGHT] });
    with_operands(
        number,
        base,
        bson!({ "$cond": [below_one, of_logarithms, plain] }),
    )
}

/// `$sigmoid`, which the engine does not know.
pub(super) fn sigmoid(operand: &Bson) -> Bson {
    let exponent = bson!({ "$exp": { "$multiply": [-1, "$$arenaValue"] } });
    bson!({ "$let": {
        "vars": { "arenaValue": operand.clone() }, "in": { "$divide": [1, { "$add": [1, exponent] }] },
    } })
}

/// `$round` and `$trunc`: the engine takes a double's 15 digits, MongoDB what it is exactly (2.345 is
/// 2.34500000000000019984), and is at an end where the places are more than 34 digits hold.
pub(super) fn rounded(name: &str, operand: &Bson) -> Bson {
    let (value, places) = match operand {
        Bson::Array(operands) => match operands.as_slice() {
            [value] => (value, None),
            [value, places] => (value, Some(places)),
            _ => return bson!({ name: operand.clone() }),
        },
        value => (value, None),
    };
    if !may_be_double(value) && !matches!(value, Bson::Decimal128(_)) {
        return bson!({ name: operand.clone() });
    }
    match places {
        None | Some(Bson::Int32(0)) => with_operands(value, &Bson::Int32(0), to_whole(name)),
        Some(places) => with_operands(value, places, to_places(name)),
    }
}

fn to_whole(name: &str) -> Bson {
    let (below, above) = (bson!({ "$floor": LEFT }), bson!({ "$ceil": LEFT }));
    let double = if name == "$trunc" {
        bson!({ "$cond": [{ "$lt": [LEFT, 0] }, above, below] })
    } else {
        let rest = bson!({ "$subtract": [LEFT, below.clone()] });
        let is_even = bson!({ "$eq": [{ "$mod": [below.clone(), 2] }, 0] });
        let half = bson!({ "$cond": [is_even, below.clone(), above.clone()] });
        let branches = vec![
            (bson!({ "$lt": ["$$arenaRest", 0.5] }), below),
            (bson!({ "$eq": ["$$arenaRest", 0.5] }), half),
        ];
        bson!({ "$let": { "vars": { "arenaRest": rest }, "in": switch(branches, above) } })
    };
    let is_double =
        bson!({ "$and": [is_type(LEFT, "double"), { "$lt": [{ "$abs": LEFT }, f64::INFINITY] }] });
    let other = bson!({ name: [LEFT] });
    let other = bson!({ "$cond": [is_type(LEFT, "decimal"), written_out(other.clone()), other] });
    bson!({ "$cond": [is_double, double, other] })
}

fn to_places(name: &str) -> Bson {
    let size = bson!({ "$cond": [{ "$in": [{ "$type": LEFT }, ["double", "decimal"]] }, { "$abs": LEFT }, 0] });
    let is_plain = bson!({ "$or": [
        { "$not": [{ "$gte": ["$$arenaSize", 1e-280] }] },
        { "$eq": ["$$arenaSize", f64::INFINITY] },
        { "$not": [{ "$and": [{ "$gte": [RIGHT, -20] }, { "$lte": [RIGHT, 100] }] }] },
        { "$ne": [RIGHT, { "$cond": [{ "$isNumber": RIGHT }, { "$trunc": RIGHT }, RIGHT] }] },
    ] });
    let exactly =
        bson!({ "$cond": [is_type(LEFT, "double"), numbers::exact("$$arenaSize"), "$$arenaSize"] });
    let most =
        bson!({ "$subtract": [33, { "$toInt": { "$floor": { "$log10": "$$arenaExact" } } }] });
    let places = bson!({ "$min": [{ "$toInt": RIGHT }, most] });
    let rounded = bson!({ name: ["$$arenaExact", places] });
    let signed =
        bson!({ "$cond": [{ "$lt": [LEFT, 0] }, { "$multiply": [rounded.clone(), -1] }, rounded] });
    let typed =
        bson!({ "$cond": [is_type(LEFT, "double"), { "$toDouble": signed.clone() }, signed] });
    let cut = bson!({ "$let": { "vars": { "arenaExact": exactly }, "in": typed } });
    let is_nan = bson!({ "$eq": [RIGHT, numbers::decimal("NaN")] });
    let message = "precision argument to  round must be a integral value, but is a ";
    let plain = bson!({ "$cond": [
        { "$and": [is_type(RIGHT, "decimal"), is_nan] },
        raise(51082, message, bson!({ "$type": RIGHT })),
        { name: [LEFT, RIGHT] },
    ] });
    bson!({ "$let": { "vars": { "arenaSize": size }, "in": switch(
        vec![
            (is_plain, plain),
            // Every place is behind its 34 digits.
            (bson!({ "$gte": ["$$arenaSize", 1e53] }), bson!(LEFT)),
        ],
        cut,
    ) } })
}

/// `$floor` and `$ceil`: MongoDB writes a decimal without an exponent, and has no number where its 34 digits are not
/// enough for that.
pub(super) fn whole(name: &str, operand: &Bson) -> Bson {
    let value = match operand {
        Bson::Array(operands) if operands.len() == 1 => &operands[0],
        other => other,
    };
    let may_be_decimal = match value {
        Bson::String(text) => text.starts_with('$'),
        other => matches!(other, Bson::Decimal128(_) | Bson::Document(_)),
    };
    if !may_be_decimal {
        return bson!({ name: operand.clone() });
    }
    let size = bson!({ "$abs": LEFT });
    let is_too_long = bson!({ "$and": [
        { "$gte": [size.clone(), numbers::decimal("1E+34")] }, { "$lt": [size, f64::INFINITY] },
    ] });
    let plain = bson!({ name: [LEFT] });
    let decimal =
        bson!({ "$cond": [is_too_long, numbers::decimal("NaN"), written_out(plain.clone())] });
    let body = bson!({ "$cond": [is_type(LEFT, "decimal"), decimal, plain] });
    with_operands(value, &Bson::Int32(0), body)
}

/// A decimal from ten on without an exponent.
fn written_out(number: Bson) -> Bson {
    bson!({ "$let": { "vars": { "arenaWhole": number }, "in": { "$cond": [
        { "$gte": [{ "$abs": "$$arenaWhole" }, 10] },
        { "$add": ["$$arenaWhole", numbers::decimal("0")] },
        "$$arenaWhole",
    ] } } })
}

/// `$toDecimal`: the engine writes a double's zero with 15 places.
pub(super) fn to_decimal(operand: &Bson) -> Bson {
    let value = match operand {
        Bson::Array(operands) if operands.len() == 1 => &operands[0],
        other => other,
    };
    if !may_be_double(value) {
        return bson!({ "$toDecimal": operand.clone() });
    }
    bson!({ "$toDecimal": with_exact_zero(value) })
}

/// A value, of which a double's zero is a decimal.
pub(super) fn with_exact_zero(value: &Bson) -> Bson {
    let is_zero = bson!({ "$and": [is_type(LEFT, "double"), { "$eq": [LEFT, 0] }] });
    let zero = bson!({ "$cond": [
        { "$eq": [{ "$toString": LEFT }, "-0"] }, numbers::decimal("-0"), numbers::decimal("0"),
    ] });
    with_operands(
        value,
        &Bson::Int32(0),
        bson!({ "$cond": [is_zero, zero, LEFT] }),
    )
}

/// A date and a number with a fraction, which MongoDB rounds, a double away from zero and a decimal to what is even, and
/// refuses where there is no such date.
pub(super) fn moved_by_fraction(name: &str, operands: &[Bson]) -> Bson {
    let plain = || bson!({ name: operands });
    let [left, right] = operands else {
        return plain();
    };
    let may_move = |date: &Bson, number: &Bson| may_be_date(date) && may_have_fraction(number);
    let by_right = may_move(left, right).then(|| moved(name, (LEFT, RIGHT), RIGHT));
    let by_left =
        (name == "$add" && may_move(right, left)).then(|| moved(name, (RIGHT, LEFT), LEFT));
    let branches: Vec<(Bson, Bson)> = by_right.into_iter().chain(by_left).collect();
    if branches.is_empty() {
        return plain();
    }
    with_operands(
        left,
        right,
        switch(branches, bson!({ name: [LEFT, RIGHT] })),
    )
}

fn may_be_date(operand: &Bson) -> bool {
    match operand {
        Bson::String(path) => path.starts_with('$'),
        Bson::DateTime(_) => true,
        Bson::Document(fields) => {
            let operator = fields.keys().next();
            operator
                .is_some_and(|name| name.starts_with('$') && !OF_NUMBERS.contains(&name.as_str()))
        }
        _ => false,
    }
}

/// Operators whose value is a number, and that often stand in a difference.
const OF_NUMBERS: [&str; 12] = [
    "$multiply",
    "$divide",
    "$mod",
    "$size",
    "$sum",
    "$avg",
    "$abs",
    "$round",
    "$pow",
    "$sqrt",
    "$year",
    "$toLong",
];

fn may_have_fraction(operand: &Bson) -> bool {
    match operand {
        Bson::Double(number) => number.fract() != 0.0,
        Bson::Decimal128(_) => true,
        other => may_be_double(other),
    }
}

/// When a date is moved by a double or a decimal, and where to.
fn moved(name: &str, (date, by): (&str, &str), number: &str) -> (Bson, Bson) {
    let is_so = bson!({ "$and": [is_type(date, "date"), { "$in": [{ "$type": number }, ["double", "decimal"]] }] });
    let away = bson!({ "$cond": [
        { "$lt": [by, 0] }, { "$ceil": { "$subtract": [by, 0.5] } }, { "$floor": { "$add": [by, 0.5] } },
    ] });
    let rounded = bson!({ "$cond": [is_type(by, "double"), away, { "$round": [by, 0] }] });
    let size = bson!({ "$abs": by });
    let has_end = bson!({ "$and": [{ "$gte": [size.clone(), 0] }, { "$lt": [size, 9.2e18] }] });
    let said = format!("date overflow in {name} of a ");
    let error = raise(15, &said, bson!({ "$type": by }));
    let exactly = bson!({ name: [date, { "$toLong": rounded }] });
    (is_so, bson!({ "$cond": [has_end, exactly, error] }))
}

/// Constants of which the engine computes the rest by doubles, told from a filter's.
pub(super) fn with_exact_constants(value: Bson) -> Bson {
    match value {
        Bson::Document(fields) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let value = match (name.as_str(), value) {
                    ("$literal", value) => value,
                    ("$mod", Bson::Array(mut operands)) if operands.len() == 2 => {
                        let first = operands[0].clone();
                        if matches!(first, Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_)) {
                            operands[0] = bson!({ "$literal": first });
                        }
                        with_exact_constants(Bson::Array(operands))
                    }
                    (_, value) => with_exact_constants(value),
                };
                (name, value)
            });
            Bson::Document(fields.collect())
        }
        Bson::Array(values) => values.into_iter().map(with_exact_constants).collect(),
        other => other,
    }
}

/// `$ifNull`: an expression behind the first value that is there is not computed, and cannot fail.
pub(super) fn first_found(operands: &[Bson]) -> Bson {
    let Some((last, before)) = operands.split_last() else {
        return bson!({ "$ifNull": operands });
    };
    let can_fail = |operand: &Bson| matches!(operand, Bson::Document(_) | Bson::Array(_));
    if before.is_empty() || !operands[1..].iter().any(can_fail) {
        return bson!({ "$ifNull": operands });
    }
    let nothing = bson!({ "$in": [{ "$type": "$$arenaFound" }, ["null", "missing", "undefined"]] });
    before.iter().rev().fold(last.clone(), |rest, operand| {
        let found = bson!({ "$cond": [nothing.clone(), rest, "$$arenaFound"] });
        bson!({ "$let": { "vars": { "arenaFound": operand.clone() }, "in": found } })
    })
}

/// `$mergeObjects` of one operand merges an array's elements; the engine wants an object.
pub(super) fn merged(operand: &Bson) -> Bson {
    let one = match operand {
        Bson::Array(operands) => match operands.as_slice() {
            // The engine wants at least one.
            [] => return bson!({ "$literal": {} }),
            [one] => one,
            _ => return bson!({ "$mergeObjects": operand.clone() }),
        },
        one => one,
    };
    let is_object = one
        .as_document()
        .is_some_and(|fields| !fields.keys().any(|name| name.starts_with('$')));
    if is_object || !matches!(one, Bson::Document(_) | Bson::String(_) | Bson::Array(_)) {
        return bson!({ "$mergeObjects": operand.clone() });
    }
    let reduced = bson!({ "$reduce": {
        "input": "$$arenaObjects", "initialValue": { "$literal": {} },
        "in": { "$mergeObjects": ["$$value", "$$this"] },
    } });
    bson!({ "$let": { "vars": { "arenaObjects": one.clone() }, "in": { "$cond": [
        { "$isArray": "$$arenaObjects" }, reduced, { "$mergeObjects": "$$arenaObjects" },
    ] } } })
}
