//! `$pull` by a condition on fields. MongoDB asks only the documents of an array; the
//! engine takes an array inside of it for a document with its positions as fields.

use bson::{Bson, Document, RawDocument, doc};

use crate::error::CommandError;

/// Whether a condition may fit arrays that the engine takes for documents, or that it does not find.
pub(super) fn may_take_arrays(condition: &RawDocument) -> bool {
    let first = condition.iter().next().and_then(Result::ok);
    let name = first.map_or("", |(name, _)| name.as_str());
    !name.starts_with('$') || matches!(name, "$and" | "$or" | "$nor" | "$all")
}

/// Returns a condition that fits the documents alone among what an array holds.
pub(super) fn of_documents(condition: &Document, held: &[Bson]) -> Result<Document, CommandError> {
    let is_by_values = condition.contains_key("$all");
    // The engine goes on into what such an array holds.
    let looks_alike = held.iter().any(|one| match one {
        Bson::Array(values) => {
            let is_deep = |value: &Bson| matches!(value, Bson::Document(_) | Bson::Array(_));
            values.is_empty() || values.iter().any(is_deep)
        }
        Bson::Document(fields) => fields.contains_key("0"),
        _ => false,
    });
    if is_by_values || looks_alike {
        return Err(CommandError::not_supported(
            "$pull by conditions from an array that holds arrays",
        ));
    }
    let mut all = vec![doc! { "0": { "$exists": false } }];
    if !condition.is_empty() {
        all.insert(0, condition.clone());
    }
    Ok(doc! { "$and": all })
}

#[cfg(test)]
mod tests {
    use bson::bson;

    use super::*;
    use crate::commands::raw;

    #[test]
    fn arrays_are_told_by_their_first_position() {
        assert!(may_take_arrays(&raw(&doc! {})));
        assert!(may_take_arrays(&raw(&doc! { "b": 1 })));
        assert!(!may_take_arrays(&raw(&doc! { "$gt": 1 })));
        let written = of_documents(&doc! { "b": 1 }, &[bson!([1]), bson!({ "b": 1 })]);
        assert_eq!(
            written.ok(),
            Some(doc! { "$and": [{ "b": 1 }, { "0": { "$exists": false } }] })
        );
        assert!(of_documents(&doc! { "b": 1 }, &[bson!([])]).is_err());
        assert!(of_documents(&doc! { "b": 1 }, &[bson!([{ "b": 1 }])]).is_err());
        assert!(of_documents(&doc! { "b": 1 }, &[bson!([1]), bson!({ "0": 1 })]).is_err());
    }
}
