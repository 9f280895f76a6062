//! What is odd about values, and where they are.

use bson::{Bson, Document, RawBsonRef};

use crate::commands::approximate;

/// Whether a decimal may be equal to a double that is not whole.
pub(super) fn is_fraction(value: RawBsonRef<'_>) -> bool {
    matches!(value, RawBsonRef::Double(number) if number.fract() != 0.0)
}

/// Whether a decimal is zero, however many digits of it are written.
pub(super) fn is_zero(value: RawBsonRef<'_>) -> bool {
    matches!(value, RawBsonRef::Decimal128(_)) && approximate(value) == Some(0.0)
}

pub(super) fn is_nan(value: &Bson) -> bool {
    match value {
        Bson::Double(number) => number.is_nan(),
        Bson::Decimal128(number) => number.to_string() == "NaN",
        _ => false,
    }
}

/// The value on a path through documents and positions of arrays.
pub(super) fn value_at<'a>(document: &'a Document, path: &str) -> Option<&'a Bson> {
    let mut parts = path.split('.');
    let mut value = document.get(parts.next()?)?;
    for part in parts {
        value = match value {
            Bson::Document(inner) => inner.get(part)?,
            Bson::Array(values) => values.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}
