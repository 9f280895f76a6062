//! With what documents may be validated.

use bson::{Bson, Document, RawDocument, RawDocumentBuf};

use super::{Call, reading, unread};
use crate::error::CommandError;
use crate::pipeline::{Found, check_raw_expressions, is_near_at_all, rewritten_fields, stored};

/// Databases whose collections have no validators.
const INTERNAL: [&str; 3] = ["admin", "config", "local"];

/// Returns a validator as the engine may keep it, if that is not as it was written.
pub(super) async fn checked(
    call: &Call<'_>,
    validator: &RawDocument,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    if INTERNAL.contains(&call.database) && !validator.is_empty() {
        let message = format!(
            "Document validators are not allowed on collections of the {} database",
            call.database
        );
        return Err(CommandError::new(72, "InvalidOptions", message));
    }
    let filter = Document::try_from(validator)?;
    if has_text(&filter) {
        let message = "$text is not allowed in this context";
        return Err(CommandError::bad_value(message));
    }
    if is_near_at_all(&filter) {
        let message =
            "$near, $nearSphere and $geoNear cannot be used here. Use $geoWithin instead.";
        return Err(CommandError::new(5_626_500, "Location5626500", message));
    }
    reading::check_filter(call, validator).await?;
    unread::check_filter(call, &filter).await?;
    if check_raw_expressions(validator)? != Found::Rewritable {
        return Ok(None);
    }
    Ok(Some(super::raw(&stored(
        &filter,
        rewritten_fields(validator)?,
    ))))
}

fn has_text(filter: &Document) -> bool {
    filter.iter().any(|(name, value)| match value {
        Bson::Array(parts) => {
            let mut parts = parts.iter().filter_map(Bson::as_document);
            parts.any(has_text)
        }
        _ => name == "$text",
    })
}
