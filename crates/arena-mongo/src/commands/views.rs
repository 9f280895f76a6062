//! What is refused on views alone.

use std::collections::HashMap;

use bson::{RawBsonRef, doc};

use super::{Call, field_of, integer, reading};
use crate::error::CommandError;

/// A view is read by its own collation, which is the simple one here; the engine reads it by any.
pub(super) async fn check_collation(call: &Call<'_>, field: &str) -> Result<(), CommandError> {
    let body = call.body();
    let (Some(RawBsonRef::Document(collation)), Ok(name)) =
        (field_of(body, "collation")?, body.get_str(field))
    else {
        return Ok(());
    };
    if collation.is_empty() || matches!(collation.get_str("locale"), Ok("simple")) {
        return Ok(());
    }
    if !is_view(call, name).await {
        return Ok(());
    }
    let message = format!(
        "Cannot override a view's default collation: {}.{name}",
        call.database
    );
    Err(CommandError::new(167, "OptionNotSupportedOnView", message))
}

/// Of a collection a count of at most 0 counts everything; of a view it is a stage, which knows no 0.
pub(super) async fn check_limit(call: &Call<'_>) -> Result<(), CommandError> {
    let limit = call.body().get("limit")?.and_then(integer);
    if limit != Some(0) || !is_view(call, call.collection()?).await {
        return Ok(());
    }
    let message = "the limit must be positive";
    Err(CommandError::new(15958, "Location15958", message))
}

/// A view is one of up to so many, each on the other (`ViewGraph::kMaxViewDepth`).
const DEPTH_MAX: usize = 20;

/// A view on a view stands on all that are below that one.
pub(super) async fn check_depth(call: &Call<'_>, source: &str) -> Result<(), CommandError> {
    let listed = reading::collections(call, doc! { "type": "view" }).await?;
    let below: HashMap<&str, &str> = listed
        .iter()
        .filter_map(|view| {
            let options = view.get_document("options").ok()?;
            Some((view.get_str("name").ok()?, options.get_str("viewOn").ok()?))
        })
        .collect();
    let mut source = source;
    for _ in 1..=DEPTH_MAX {
        match below.get(source) {
            Some(next) => source = next,
            None => return Ok(()),
        }
    }
    let message = format!("View depth limit exceeded; maximum depth is {DEPTH_MAX}");
    Err(CommandError::new(165, "ViewDepthLimitExceeded", message))
}

/// A view is not renamed, and no collection takes its place; the engine does both.
pub(super) async fn check_rename(
    call: &Call<'_>,
    from: &str,
    to: &str,
) -> Result<(), CommandError> {
    let named = doc! { "name": { "$in": [from, to] } };
    let listed = reading::collections(call, named).await?;
    let kind = |name: &str| {
        let named = |one: &&bson::Document| one.get_str("name").is_ok_and(|own| own == name);
        listed.iter().find(named)?.get_str("type").ok()
    };
    match (kind(from), kind(to)) {
        (Some("view"), _) => {
            let message = format!("cannot rename view: {}.{from}", call.database);
            Err(CommandError::new(166, "CommandNotSupportedOnView", message))
        }
        (Some(_), Some("view")) => {
            let message = format!(
                "a view already exists with that name: {}.{to}",
                call.database
            );
            Err(CommandError::new(48, "NamespaceExists", message))
        }
        _ => Ok(()),
    }
}

/// A view has no indexes.
async fn is_view(call: &Call<'_>, name: &str) -> bool {
    let indexes = reading::indexes_of(call, name).await;
    indexes.is_err_and(|error| error.code == 166)
}
