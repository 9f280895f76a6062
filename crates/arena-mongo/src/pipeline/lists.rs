//! Operators on arrays whose operands the engine fails to name, or does not look
//! at, where they are null or missing.

use bson::{Bson, Document, bson};

use super::operands::constant;
use super::strings::present;

/// What [`rewritten`] writes otherwise.
pub(super) const REWRITTEN: [&str; 5] = ["$indexOfArray", "$minN", "$maxN", "$firstN", "$lastN"];

/// Returns what computes such an operator.
pub(super) fn rewritten(name: &str, operands: &Bson) -> Bson {
    match operands {
        Bson::Array(operands) => {
            let given = |(place, operand)| {
                if place < 2 {
                    Bson::clone(operand)
                } else {
                    present(operand)
                }
            };
            let operands: Vec<Bson> = operands.iter().enumerate().map(given).collect();
            bson!({ name: operands })
        }
        Bson::Document(options) => {
            let given = options.iter().map(|(option, value)| {
                let value = match option.as_str() {
                    "n" => present(value),
                    "input" => array(value),
                    _ => value.clone(),
                };
                (option.clone(), value)
            });
            bson!({ name: given.collect::<Document>() })
        }
        _ => bson!({ name: operands.clone() }),
    }
}

/// Nothing is no array; the engine answers null for it.
fn array(input: &Bson) -> Bson {
    match (constant(input), input) {
        (Some(Bson::Null), _) => Bson::Int32(0),
        (None, Bson::Document(_) | Bson::String(_)) => bson!({ "$ifNull": [input.clone(), 0] }),
        _ => input.clone(),
    }
}
