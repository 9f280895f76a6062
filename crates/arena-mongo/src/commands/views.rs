//! What a find may ask of a collection and not of a view, which MongoDB reads by
//! an aggregation.

use bson::{RawBsonRef, RawDocument, doc};

use super::{Call, reading};
use crate::error::CommandError;

/// A view knows no projections that only a find has.
pub(super) async fn check_projection(
    call: &Call<'_>,
    spec: &RawDocument,
) -> Result<(), CommandError> {
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
