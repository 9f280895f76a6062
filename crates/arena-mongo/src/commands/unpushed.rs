//! Comparisons that the engine cannot look up in an index: `$expr` with `$eq` of a
//! field and a variable that is missing. Written as what is not unequal they are computed.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

use super::without;
use crate::error::CommandError;

/// What the engine says when it has nothing to look up.
const NOTHING: &str = "Should not have empty document";

/// Returns a pipeline that failed because of such a comparison, without it.
pub(super) fn after(
    error: &CommandError,
    spec: &RawDocument,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    if !error.message.contains(NOTHING) {
        return Ok(None);
    }
    let stages = Bson::try_from(RawBsonRef::Array(spec.get_array("pipeline")?))?;
    let computed = within(&stages, false);
    if computed == stages {
        return Ok(None);
    }
    let mut changed = without(spec, &["pipeline"])?;
    changed.append(bson::cstr!("pipeline"), RawBson::try_from(computed)?);
    Ok(Some(changed))
}

fn within(value: &Bson, is_expression: bool) -> Bson {
    match value {
        Bson::Array(values) => {
            let values = values.iter().map(|value| within(value, is_expression));
            Bson::Array(values.collect())
        }
        Bson::Document(fields) => {
            let field = |(name, value): (&String, &Bson)| match name.as_str() {
                "$literal" => (name.clone(), value.clone()),
                "$eq" if is_expression => {
                    let unequal = bson::doc! { "$ne": within(value, true) };
                    ("$not".to_owned(), Bson::Array(vec![unequal.into()]))
                }
                _ => (
                    name.clone(),
                    within(value, is_expression || name == "$expr"),
                ),
            };
            Bson::Document(fields.iter().map(field).collect::<Document>())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use bson::bson;

    use super::*;

    #[test]
    fn only_comparisons_of_expressions_are_written_otherwise() {
        let filter = bson!({ "a": { "$eq": 1 }, "$expr": { "$and": [{ "$eq": ["$a", "$$v"] }, { "$literal": { "$eq": [1, 2] } }] } });
        let computed = bson!({ "a": { "$eq": 1 }, "$expr": { "$and": [{ "$not": [{ "$ne": ["$a", "$$v"] }] }, { "$literal": { "$eq": [1, 2] } }] } });
        assert_eq!(within(&filter, false), computed);
    }
}
