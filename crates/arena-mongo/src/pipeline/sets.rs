//! Sets: to the engine, numbers of several types are one only where they are whole and
//! elements themselves. Where a decimal, an object or an array is among the elements, they
//! are compared one with the other here.

use bson::{Bson, bson};

use super::operands::constant;
use super::raising::raise;

/// What [`rewritten`] writes otherwise.
pub(super) const REWRITTEN: [&str; 5] = [
    "$setUnion",
    "$setIntersection",
    "$setDifference",
    "$setEquals",
    "$setIsSubset",
];

/// Returns what computes such an operator.
pub(super) fn rewritten(name: &str, operands: &Bson) -> Bson {
    let sets = match operands {
        Bson::Array(sets) => sets.clone(),
        one => vec![one.clone()],
    };
    let is_known = match name {
        "$setUnion" | "$setIntersection" => !sets.is_empty(),
        "$setEquals" => sets.len() > 1,
        _ => sets.len() == 2,
    };
    if !is_known || !sets.iter().any(may_hold_alike) {
        return in_order(name, operands.clone());
    }
    let names: Vec<String> = (0..sets.len())
        .map(|set| format!("arenaSet{set}"))
        .collect();
    let read: Vec<Bson> = names
        .iter()
        .map(|name| bson!(format!("$${name}")))
        .collect();
    let variables = names.into_iter().zip(sets).collect::<bson::Document>();
    let are_arrays: Vec<Bson> = read
        .iter()
        .map(|set| bson!({ "$isArray": [set] }))
        .collect();
    let is_odd = bson!({ "$cond": [
        { "$and": are_arrays }, has_alike(bson!({ "$concatArrays": read.clone() })), false,
    ] });
    let computed = by_value(name, &read);
    let plain = in_order(name, Bson::Array(read));
    bson!({ "$let": { "vars": variables, "in": { "$cond": [is_odd, computed, plain] } } })
}

/// Whether an operand may have elements that are equal and that the engine takes for several.
fn may_hold_alike(set: &Bson) -> bool {
    match set {
        Bson::Array(elements) => elements.iter().any(|element| match element {
            Bson::String(text) => text.starts_with('$'),
            Bson::Document(_) | Bson::Array(_) | Bson::Decimal128(_) => true,
            _ => false,
        }),
        Bson::String(text) => text.starts_with('$'),
        Bson::Document(_) => constant(set).is_none_or(|value| value.as_array().is_some()),
        _ => false,
    }
}

fn has_alike(elements: Bson) -> Bson {
    let is_odd = bson!({ "$in": [{ "$type": "$$this" }, ["decimal", "object", "array"]] });
    bson!({ "$anyElementTrue": [{ "$map": { "input": elements, "in": is_odd } }] })
}

/// MongoDB keeps them in order, the engine by hash.
fn in_order(name: &str, sets: Bson) -> Bson {
    match name {
        "$setUnion" | "$setIntersection" => sorted(bson!({ name: sets })),
        _ => bson!({ name: sets }),
    }
}

fn sorted(set: Bson) -> Bson {
    bson!({ "$sortArray": { "input": set, "sortBy": 1 } })
}

fn by_value(name: &str, sets: &[Bson]) -> Bson {
    let (first, others) = (&sets[0], &sets[1..]);
    match name {
        "$setUnion" => sorted(unique(bson!({ "$concatArrays": sets }))),
        "$setIntersection" => sorted(others.iter().fold(unique(first.clone()), common)),
        "$setDifference" => bson!({ "$filter": {
            "input": unique(first.clone()), "cond": { "$not": [{ "$in": ["$$this", others[0].clone()] }] },
        } }),
        "$setIsSubset" => is_within(first, &others[0]),
        _ => {
            let both = |other: &Bson| [is_within(first, other), is_within(other, first)];
            bson!({ "$and": others.iter().flat_map(both).collect::<Vec<Bson>>() })
        }
    }
}

/// Of two sets MongoDB takes what they have in common from the smaller one.
fn common(found: Bson, set: &Bson) -> Bson {
    let of = |one: &str, other: &str| bson!({ "$filter": { "input": one, "cond": { "$in": ["$$this", other] } } });
    let is_larger = bson!({ "$gt": [{ "$size": "$$arenaFound" }, { "$size": "$$arenaNext" }] });
    bson!({ "$let": {
        "vars": { "arenaFound": found, "arenaNext": unique(set.clone()) },
        "in": { "$cond": [
            is_larger, of("$$arenaNext", "$$arenaFound"), of("$$arenaFound", "$$arenaNext"),
        ] },
    } })
}

fn is_within(one: &Bson, other: &Bson) -> Bson {
    let is_there = bson!({ "$in": ["$$this", other.clone()] });
    bson!({ "$allElementsTrue": [{ "$map": { "input": one.clone(), "in": is_there } }] })
}

/// The elements of an array, each one once: the first of those that are equal.
fn unique(elements: Bson) -> Bson {
    bson!({ "$reduce": { "input": elements, "initialValue": [], "in": { "$cond": [
        { "$in": ["$$this", "$$value"] },
        "$$value",
        { "$concatArrays": ["$$value", ["$$this"]] },
    ] } } })
}

/// A set of the engine's without elements that are equal.
pub(super) fn without_alike(set: Bson) -> Bson {
    let is_odd = has_alike(bson!("$$arenaFound"));
    bson!({ "$let": { "vars": { "arenaFound": set }, "in": {
        "$cond": [is_odd, unique(bson!("$$arenaFound")), "$$arenaFound"],
    } } })
}

/// What an accumulator of arrays takes of one document: nothing where it is missing.
pub(super) fn listed(name: &str, operand: &Bson) -> Bson {
    let said = format!("{name} requires an array input, but encountered: ");
    let error = raise(14, &said, bson!({ "$type": "$$arenaListed" }));
    bson!({ "$let": { "vars": { "arenaListed": operand.clone() }, "in": { "$switch": {
        "branches": [
            { "case": { "$isArray": ["$$arenaListed"] }, "then": "$$arenaListed" },
            { "case": { "$eq": [{ "$type": "$$arenaListed" }, "missing"] }, "then": [] },
        ],
        "default": error,
    } } } })
}

/// The value of an accumulator of arrays, which were pushed.
pub(super) fn joined(name: &str, pushed: &str) -> Bson {
    let all = bson!({ "$reduce": {
        "input": pushed, "initialValue": [], "in": { "$concatArrays": ["$$value", "$$this"] },
    } });
    match name {
        "$setUnion" => rewritten(name, &Bson::Array(vec![all])),
        _ => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_texts_and_whole_numbers_are_left_to_the_engine() {
        let plain = bson!([["a", 1], [2.5, null]]);
        assert_eq!(
            rewritten("$setEquals", &plain),
            bson!({ "$setEquals": plain.clone() })
        );
        for set in [
            bson!([["a"], "$b"]),
            bson!([[1], [[1]]]),
            bson!([[{ "a": 1 }], [1]]),
        ] {
            let computed = rewritten("$setEquals", &set);
            assert!(
                computed
                    .as_document()
                    .is_some_and(|let_| let_.contains_key("$let"))
            );
        }
    }
}
