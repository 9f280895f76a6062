//! Replacements that change nothing. MongoDB does not count a document that is
//! replaced by the same one as changed, the engine does.

use bson::{Bson, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::{Call, raw, reading, updates};
use crate::error::CommandError;

/// Returns the document that a statement replaces another one by.
pub(super) fn replacement(statement: &RawDocument) -> Option<&RawDocument> {
    let update = statement.get("u").ok()??.as_document()?;
    let first = update.iter().next();
    let is_operator = |name: &str| name.starts_with('$');
    match first {
        Some(Ok((name, _))) if is_operator(name.as_str()) => None,
        Some(Err(_)) => None,
        _ => Some(update),
    }
}

/// Returns the `_id` that each statement names, if all name one and no two the same.
pub(super) fn ids(statements: &[&RawDocument]) -> Option<Vec<Bson>> {
    let mut ids: Vec<Bson> = Vec::with_capacity(statements.len());
    for statement in statements {
        let filter = statement.get_document("q").ok()?;
        let mut fields = filter.iter();
        let (name, value) = fields.next()?.ok()?;
        let is_value = !matches!(
            value,
            RawBsonRef::Document(_) | RawBsonRef::Array(_) | RawBsonRef::RegularExpression(_)
        );
        if name.as_str() != "_id" || !is_value || fields.next().is_some() {
            return None;
        }
        ids.push(Bson::try_from(value).ok()?);
    }
    let shown: std::collections::HashSet<String> = ids.iter().map(Bson::to_string).collect();
    (shown.len() == ids.len()).then_some(ids)
}

/// Returns for each statement whether it replaces a document by the same one.
pub(super) async fn idle(
    call: &Call<'_>,
    collection: &str,
    statements: &[&RawDocument],
) -> Result<Vec<bool>, CommandError> {
    let mut idle = vec![false; statements.len()];
    if statements.iter().all(|one| replacement(one).is_none()) {
        return Ok(idle);
    }
    if let [statement] = statements {
        let found = first(call, collection, statement).await?;
        idle[0] = found.is_some_and(|found| is_same(&found, statement));
        return Ok(idle);
    }
    let Some(ids) = ids(statements) else {
        return Ok(idle);
    };
    let filter = doc! { "_id": { "$in": &ids } };
    let find = raw(&doc! { "find": collection, "filter": filter });
    let documents = reading::documents_of(call, &find).await?;
    for (place, statement) in statements.iter().enumerate() {
        let found = documents.iter().find(|document| {
            let id = document.get("_id").ok().flatten();
            id.and_then(|id| Bson::try_from(id).ok()).as_ref() == Some(&ids[place])
        });
        idle[place] = found.is_some_and(|found| is_same(found, statement));
    }
    Ok(idle)
}

async fn first(
    call: &Call<'_>,
    collection: &str,
    statement: &RawDocument,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    let mut find = bson::rawdoc! { "find": collection, "limit": 1 };
    for (from, field) in [
        (statement.get("q")?, bson::cstr!("filter")),
        (statement.get("sort")?, bson::cstr!("sort")),
        (statement.get("collation")?, bson::cstr!("collation")),
        (call.body().get("let")?, bson::cstr!("let")),
    ] {
        if let Some(RawBsonRef::Document(part)) = from {
            find.append(field, part);
        }
    }
    let found = reading::documents_of(call, &find).await?;
    Ok(found.into_iter().next())
}

/// Whether a document is, field by field, what a statement replaces it by. A replacement that names no `_id` keeps it.
fn is_same(found: &RawDocument, statement: &RawDocument) -> bool {
    let Some(replacement) = replacement(statement) else {
        return false;
    };
    let fields = |document: &RawDocument| -> Option<Vec<(String, Vec<u8>)>> {
        let mut fields = Vec::new();
        for element in document {
            let (name, value) = element.ok()?;
            // An empty one is replaced by the time.
            if value.as_timestamp().is_some_and(|at| at.time == 0) {
                return None;
            }
            let mut alone = RawDocumentBuf::new();
            alone.append(bson::cstr!("value"), value);
            fields.push((name.as_str().to_owned(), alone.into_bytes()));
        }
        Some(fields)
    };
    let (Some(mut found), Some(mut replacement)) = (fields(found), fields(replacement)) else {
        return false;
    };
    let is_id = |(name, _): &(String, Vec<u8>)| name == "_id";
    if !replacement.iter().any(is_id) {
        found.retain(|field| !is_id(field));
    } else {
        replacement.sort_by_key(|field| !is_id(field));
    }
    found == replacement
}

/// A statement that meets the same document and leaves it as it is.
pub(super) fn without_effect(statement: &RawDocument) -> Result<RawDocumentBuf, CommandError> {
    let nothing = bson::RawBson::Document(raw(&updates::nothing()));
    let changed = updates::with_changes(statement, &[("u", Some(nothing))])?;
    Ok(changed.unwrap_or_else(|| statement.to_owned()))
}

#[cfg(test)]
mod tests {
    use bson::Document;

    use super::*;

    fn is_idle(found: &Document, replacement: &Document) -> bool {
        is_same(&raw(found), &raw(&doc! { "q": {}, "u": replacement }))
    }

    #[test]
    fn the_same_is_the_same_field_by_field() {
        let found = doc! { "_id": 1, "a": 1, "b": { "c": [1] } };
        assert!(is_idle(&found, &doc! { "a": 1, "b": { "c": [1] } }));
        assert!(is_idle(
            &found,
            &doc! { "a": 1, "_id": 1, "b": { "c": [1] } }
        ));
        for other in [
            doc! { "b": { "c": [1] }, "a": 1 },
            doc! { "a": 1.0, "b": { "c": [1] } },
            doc! { "a": 1 },
            doc! { "_id": 2, "a": 1, "b": { "c": [1] } },
        ] {
            assert!(!is_idle(&found, &other), "{other}");
        }
    }
}
