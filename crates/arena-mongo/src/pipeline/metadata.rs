//! Metadata that documents do not have. MongoDB gives nothing where it is asked for; the
//! engine knows none of it outside of its own searches, and fails.

use bson::{Bson, Document};

use super::expressions::only;

/// Metadata that only a search gives, an index, or chance.
const ABSENT: [&str; 4] = ["searchScore", "searchHighlights", "randVal", "indexKey"];
/// Stages behind which it is there.
const GIVING: [&str; 4] = ["$search", "$vectorSearch", "$sample", "$geoNear"];

/// Whether a pipeline's documents may have metadata.
pub(super) fn is_given(pipeline: &[Bson]) -> bool {
    let mut names = pipeline
        .iter()
        .filter_map(|stage| stage.as_document().and_then(only));
    names.any(|(name, _)| GIVING.contains(&name))
}

/// Returns a stage without the fields of such metadata, if there are any, and others.
pub(super) fn without_absent(name: &str, value: &Bson) -> Option<Bson> {
    let fields = value.as_document()?;
    let may_ask = match name {
        "$project" | "$addFields" | "$set" => &ABSENT[..],
        "$sort" => &["searchScore", "randVal"],
        _ => return None,
    };
    let is_absent = |value: &Bson| {
        let asked = value.as_document().and_then(only);
        matches!(asked, Some(("$meta", Bson::String(what))) if may_ask.contains(&what.as_str()))
    };
    let others: Document = fields
        .iter()
        .filter(|(_, value)| !is_absent(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    (!others.is_empty() && others.len() < fields.len()).then_some(Bson::Document(others))
}
