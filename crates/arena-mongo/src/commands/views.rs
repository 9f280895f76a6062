//! What is refused on views alone.

use bson::RawBsonRef;

use super::{Call, reading};
use crate::error::CommandError;

/// A view is read by its own collation, which is the simple one here; the engine reads it by any.
pub(super) async fn check_collation(call: &Call<'_>, field: &str) -> Result<(), CommandError> {
    let body = call.body();
    let (Some(RawBsonRef::Document(collation)), Ok(name)) =
        (body.get("collation")?, body.get_str(field))
    else {
        return Ok(());
    };
    if collation.is_empty() || matches!(collation.get_str("locale"), Ok("simple")) {
        return Ok(());
    }
    match reading::indexes_of(call, name).await {
        Err(error) if error.code == 166 => {
            let message = format!(
                "Cannot override a view's default collation: {}.{name}",
                call.database
            );
            Err(CommandError::new(167, "OptionNotSupportedOnView", message))
        }
        _ => Ok(()),
    }
}
