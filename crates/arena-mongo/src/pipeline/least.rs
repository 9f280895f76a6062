//! Comparisons with the least key. MongoDB takes what is missing for greater, the
//! engine for the same.

use bson::{Bson, bson};

use super::expressions::only;

/// What [`compared`] writes otherwise.
pub(super) const COMPARING: [&str; 7] = ["$eq", "$ne", "$lt", "$lte", "$gt", "$gte", "$cmp"];

/// Returns what compares an expression with the least key, if it is that.
pub(super) fn compared(name: &str, operands: &[Bson]) -> Option<Bson> {
    let (value, is_first) = match operands {
        [value, Bson::MinKey] => (value, true),
        [Bson::MinKey, value] => (value, false),
        _ => return None,
    };
    let is_expression = match value {
        Bson::String(path) => path.starts_with('$'),
        Bson::Document(document) => only(document).is_some_and(|(name, _)| name.starts_with('$')),
        _ => false,
    };
    if !is_expression {
        return None;
    }
    let is_least = bson!({ "$eq": [{ "$type": value.clone() }, "minKey"] });
    let sign = if is_first { 1 } else { -1 };
    Some(match (name, is_first) {
        ("$eq", _) | ("$lte", true) | ("$gte", false) => is_least,
        ("$ne", _) | ("$gt", true) | ("$lt", false) => bson!({ "$not": [is_least] }),
        ("$cmp", _) => bson!({ "$cond": [is_least, 0, sign] }),
        // Everything is at least that, and nothing less.
        ("$gte", true) | ("$lte", false) => bson!({ "$in": [is_least, [true, false]] }),
        _ => bson!({ "$in": [is_least, []] }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_expressions_are_compared_with_the_least_key() {
        for operands in [
            [Bson::Int32(1), Bson::MinKey],
            [Bson::MinKey, Bson::MinKey],
            [bson!("$a"), Bson::MaxKey],
            [bson!({ "a": 1 }), Bson::MinKey],
        ] {
            assert_eq!(compared("$eq", &operands), None);
        }
        let least = bson!({ "$eq": [{ "$type": "$a" }, "minKey"] });
        let turned = compared("$gte", &[Bson::MinKey, bson!("$a")]);
        assert_eq!(turned, Some(least));
    }
}
