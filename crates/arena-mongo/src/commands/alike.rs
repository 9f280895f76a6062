//! Values that MongoDB compares as equal and that are not the same: their numbers are
//! of different types.

use bson::{Bson, RawBsonRef, RawDocument, doc};

use super::raw;
use crate::error::CommandError;

/// Whether something else may be equal to a value, and the engine does not notice: a number inside of a document or an
/// array, or a decimal, or what has no end or two signs.
pub(super) fn has_types(value: RawBsonRef<'_>) -> Result<bool, CommandError> {
    let holds = |document: &RawDocument| -> Result<bool, CommandError> {
        for element in document {
            let value = element?.1;
            let is_number = matches!(
                value,
                RawBsonRef::Int32(_) | RawBsonRef::Int64(_) | RawBsonRef::Double(_)
            );
            if is_number || has_types(value)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    match value {
        RawBsonRef::Decimal128(_) => Ok(true),
        RawBsonRef::Double(number) => Ok(number.is_infinite() || number == 0.0),
        RawBsonRef::Document(document) => holds(document),
        RawBsonRef::Array(values) => holds(RawDocument::from_bytes(values.as_bytes())?),
        _ => Ok(false),
    }
}

pub(super) fn is_alike(one: &Bson, other: &Bson) -> bool {
    match (one, other) {
        (Bson::Document(one), Bson::Document(other)) => {
            let are_alike = |((a, one), (b, other)): ((&String, &Bson), (&String, &Bson))| {
                a == b && is_alike(one, other)
            };
            one.len() == other.len() && one.iter().zip(other).all(are_alike)
        }
        (Bson::Array(one), Bson::Array(other)) => {
            let are_alike = |(one, other): (&Bson, &Bson)| is_alike(one, other);
            one.len() == other.len() && one.iter().zip(other).all(are_alike)
        }
        _ => match (number(one), number(other)) {
            (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
            _ => one == other,
        },
    }
}

/// A number as a double; nothing where another one might have the same.
fn number(value: &Bson) -> Option<f64> {
    let number = match value {
        Bson::Int32(number) => f64::from(*number),
        Bson::Int64(number) => i32::try_from(*number).ok()?.into(),
        Bson::Double(number) => *number,
        Bson::Decimal128(number) => number.to_string().parse().ok()?,
        _ => return None,
    };
    // What has few binary digits is the same in every type.
    let is_exact = !number.is_finite() || (number * 1024.0).fract() == 0.0;
    (is_exact || matches!(value, Bson::Double(_))).then_some(number)
}

/// Whether two values are the same in every bit.
pub(super) fn is_identical(one: &Bson, other: &Bson) -> bool {
    let bytes = |value: &Bson| raw(&doc! { "value": value }).into_bytes();
    bytes(one) == bytes(other)
}

#[cfg(test)]
mod tests {
    use bson::bson;

    use super::*;

    #[test]
    fn numbers_of_other_types_are_alike_and_not_the_same() {
        let one = bson!({ "a": [1, { "b": 2.0 }], "c": "x" });
        let other = bson!({ "a": [1.0, { "b": 2_i64 }], "c": "x" });
        assert!(is_alike(&one, &other) && !is_identical(&one, &other));
        let half: bson::Decimal128 = "0.50".parse().expect("it is a decimal");
        assert!(is_alike(&Bson::Decimal128(half), &Bson::Double(0.5)));
        let tenth: bson::Decimal128 = "0.1".parse().expect("it is a decimal");
        assert!(!is_alike(&Bson::Decimal128(tenth), &Bson::Double(0.1)));
        for different in [
            bson!({ "a": [1, { "b": 3 }], "c": "x" }),
            bson!({ "c": "x", "a": [1, { "b": 2 }] }),
            bson!({ "a": [1, { "b": "2" }], "c": "x" }),
            bson!({ "a": [1, { "b": 2 }, 3], "c": "x" }),
        ] {
            assert!(!is_alike(&one, &different), "{different}");
        }
        assert!(is_alike(&Bson::Double(0.1), &Bson::Double(0.1)));
    }
}
