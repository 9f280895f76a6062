//! The projections of a find: what the engine takes otherwise, and what may be
//! asked of a collection and not of a view, which MongoDB reads by an aggregation.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::{Answer, Call, raw, reading};
use crate::error::CommandError;

/// A view knows no projections that only a find has.
pub(super) async fn check_view(call: &Call<'_>, spec: &RawDocument) -> Result<(), CommandError> {
    let Some(RawBsonRef::Document(projection)) = spec.get("projection")? else {
        return Ok(());
    };
    for element in projection {
        let (path, value) = element?;
        let is_element =
            matches!(value, RawBsonRef::Document(inner) if inner.get("$elemMatch")?.is_some());
        if !is_element && !path.as_str().ends_with(".$") {
            continue;
        }
        let filter = doc! { "name": call.collection()?, "type": "view" };
        if reading::collections(call, filter).await?.is_empty() {
            return Ok(());
        }
        return Err(if is_element {
            let message = "Invalid $project :: caused by :: Unknown expression $elemMatch";
            CommandError::new(168, "InvalidPipelineOperator", message)
        } else {
            let message = "Cannot use positional projection in aggregation projection";
            CommandError::new(31324, "Location31324", message)
        });
    }
    Ok(())
}

/// A projection's `$slice` whose first argument is no number is the expression of that name, which the engine
/// takes inside of another one only.
pub(super) fn with_slices(spec: RawDocumentBuf) -> Answer {
    let Some(RawBsonRef::Document(projection)) = spec.get("projection")? else {
        return Ok(spec);
    };
    let mut projection = Document::try_from(projection)?;
    let mut has_slice = false;
    for (_, value) in projection.iter_mut() {
        let slice = value
            .as_document()
            .and_then(|value| value.get_array("$slice").ok());
        let first = slice.and_then(|slice| slice.first());
        if matches!(
            first,
            Some(Bson::String(_) | Bson::Document(_) | Bson::Array(_))
        ) {
            has_slice = true;
            *value = bson::bson!({ "$let": { "vars": {}, "in": value.clone() } });
        }
    }
    if !has_slice {
        return Ok(spec);
    }
    let mut whole = Document::try_from(spec)?;
    whole.insert("projection", projection);
    Ok(raw(&whole))
}
