//! Hashed indexes. The engine's own lose what is equal and of another type: 1 beside
//! a decimal 1, 0 beside -0.0, `{x: 1}` beside `{x: 1.0}`. So one is built as an
//! ordered index whose key has a direction that nobody writes, and named as hashed
//! wherever it is shown. Arrays, which it may not have, are refused by the front.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use crate::commands::{Call, field_of, raw, reading, sorting};
use crate::error::CommandError;

/// The direction that stands for hashed.
const MARK: f64 = 7.3e-203;
/// How the engine writes it.
const MARK_TEXT: &str = "7.2999999999999998131e-203";

/// Writes an index as it is built. What is wrong with one that the engine has to say stays as it is.
pub(super) fn to_build(index: &mut Document) {
    let is_refused = |option: &str| {
        matches!(
            option,
            "unique" | "expireAfterSeconds" | "wildcardProjection"
        )
    };
    if index.keys().any(|option| is_refused(option)) {
        return;
    }
    let Ok(key) = index.get_document_mut("key") else {
        return;
    };
    if let [path] = paths(key).as_slice()
        && !path.contains("$**")
        && key
            .values()
            .all(|kind| kind.as_str().is_none_or(|kind| kind == "hashed"))
    {
        as_built(key);
    }
}

/// Replaces the name by the mark.
fn as_built(key: &mut Document) {
    for (_, kind) in key.iter_mut() {
        if kind.as_str() == Some("hashed") {
            *kind = Bson::Double(MARK);
        }
    }
}

/// Replaces the mark by the name.
pub(in crate::commands) fn as_named(key: &mut Document) {
    for (_, kind) in key.iter_mut() {
        if matches!(kind, Bson::Double(direction) if direction.to_bits() == MARK.to_bits()) {
            *kind = Bson::String("hashed".to_owned());
        }
    }
}

/// Returns a listed index with the name in place of the mark.
pub(in crate::commands) fn listed(index: &RawDocument) -> Result<RawDocumentBuf, CommandError> {
    let is_marked = |key: &RawDocument| {
        let mut kinds = key.iter().flatten().map(|(_, kind)| kind);
        kinds.any(|kind| {
            kind.as_f64()
                .is_some_and(|kind| kind.to_bits() == MARK.to_bits())
        })
    };
    if !index.get_document("key").is_ok_and(is_marked) {
        return Ok(index.to_owned());
    }
    let mut index = Document::try_from(index)?;
    if let Ok(key) = index.get_document_mut("key") {
        as_named(key);
    }
    Ok(raw(&index))
}

/// Returns what names an index by its key as the engine knows it, if that is another one.
pub(in crate::commands) fn meant(key: RawBsonRef<'_>) -> Result<Option<RawBson>, CommandError> {
    let RawBsonRef::Document(key) = key else {
        return Ok(None);
    };
    let mut built = Document::try_from(key)?;
    as_built(&mut built);
    let is_other = built.values().any(|kind| kind.as_f64() == Some(MARK));
    Ok(is_other.then(|| RawBson::Document(raw(&built))))
}

/// Returns a command whose hint names an index as the engine knows it.
pub(in crate::commands) fn with_hint(spec: RawDocumentBuf) -> Result<RawDocumentBuf, CommandError> {
    let meant = field_of(&spec, "hint")?.map(meant).transpose()?.flatten();
    let Some(meant) = meant else {
        return Ok(spec);
    };
    let mut named = crate::commands::without(&spec, &["hint"])?;
    named.append(bson::cstr!("hint"), meant.as_raw_bson_ref());
    Ok(named)
}

/// Returns a collMod whose index is named as the engine knows it.
pub(in crate::commands) fn with_pattern(
    spec: RawDocumentBuf,
) -> Result<RawDocumentBuf, CommandError> {
    let index = spec.get_document("index").ok();
    let pattern = index
        .map(|index| index.get("keyPattern"))
        .transpose()?
        .flatten();
    let meant = pattern.map(meant).transpose()?.flatten();
    let Some(RawBson::Document(meant)) = meant else {
        return Ok(spec);
    };
    let mut named = Document::try_from(&*spec)?;
    if let Ok(index) = named.get_document_mut("index") {
        index.insert("keyPattern", Document::try_from(meant)?);
    }
    Ok(raw(&named))
}

/// Whether a pipeline begins with the figures of indexes.
pub(in crate::commands) fn shows_indexes(stages: &[Bson]) -> bool {
    let first = stages.first().and_then(Bson::as_document);
    first.is_some_and(|first| first.contains_key("$indexStats"))
}

/// A stage that writes the name in place of the mark.
pub(in crate::commands) fn named() -> Bson {
    let kind = bson::bson!({ "$cond": [{ "$eq": ["$$this.v", MARK] }, "hashed", "$$this.v"] });
    let field = bson::bson!({ "k": "$$this.k", "v": kind });
    let fields = bson::bson!({ "$map": { "input": { "$objectToArray": "$key" }, "in": field } });
    let key = bson::bson!({ "$arrayToObject": fields });
    bson::bson!({ "$set": { "key": key.clone(), "spec.key": key } })
}

/// A text of the engine's with the name in it.
pub(super) fn told(message: &str) -> String {
    message.replace(MARK_TEXT, "\"hashed\"")
}

/// The hashed paths of an index.
pub(in crate::commands) fn paths(key: &Document) -> Vec<String> {
    let hashed = key
        .iter()
        .filter(|(_, kind)| kind.as_str() == Some("hashed"));
    hashed.map(|(path, _)| path.clone()).collect()
}

/// What is said of an array on a hashed path.
pub(in crate::commands) fn refused(path: &str) -> CommandError {
    CommandError::new(
        16766,
        "Location16766",
        format!(
            "Error: hashed indexes do not currently support array values. Found array at path: {path}"
        ),
    )
}

/// Fails where a collection has arrays that a new index may not have.
pub(super) async fn check(
    call: &Call<'_>,
    collection: &str,
    index: &Document,
) -> Result<(), CommandError> {
    let Ok(key) = index.get_document("key") else {
        return Ok(());
    };
    for path in paths(key) {
        let mut filter = sorting::has_array(&path);
        if let Ok(partial) = index.get_document("partialFilterExpression") {
            filter = doc! { "$and": [partial.clone(), filter] };
        }
        let find =
            doc! { "find": collection, "filter": filter, "projection": { "_id": 1 }, "limit": 1 };
        if !reading::ids_of(call, &raw(&find)).await?.is_empty() {
            return Err(refused(&path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_named_again() {
        let mut index = doc! { "key": { "c": 1, "a": "hashed" }, "name": "i" };
        let asked = index.clone();
        to_build(&mut index);
        assert_eq!(index, doc! { "key": { "c": 1, "a": MARK }, "name": "i" });
        let named = listed(&raw(&index)).expect("it is well-formed");
        assert_eq!(Document::try_from(named).expect("it is well-formed"), asked);
        for refused in [
            doc! { "key": { "a": "hashed", "b": "hashed" } },
            doc! { "key": { "a": "hashed" }, "unique": true },
            doc! { "key": { "$**": "hashed" } },
            doc! { "key": { "a": "hashed", "b": "text" } },
        ] {
            let mut index = refused.clone();
            to_build(&mut index);
            assert_eq!(index, refused);
        }
    }

    #[test]
    fn the_engine_writes_the_mark_as_it_is_read() {
        assert_eq!(MARK_TEXT.parse::<f64>(), Ok(MARK));
        assert_eq!(
            told("key: { b: 7.2999999999999998131e-203 }"),
            "key: { b: \"hashed\" }"
        );
    }
}
