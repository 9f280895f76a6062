//! Replacements that change nothing, also those of a pipeline. MongoDB does not count
//! a document that is replaced by the same one as changed, the engine does.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::statements::Statement;
use super::{Call, raw, reading, updates};
use crate::error::CommandError;
use crate::pipeline::Place;

/// So many documents that a pipeline replaces are looked at.
const LOOKED_AT_MAX: i32 = 1_000;

/// Returns the document that a statement replaces another one by.
pub(super) fn replacement(statement: &RawDocument) -> Option<&RawDocument> {
    let update = statement.get("u").ok()??.as_document()?;
    is_replacement(update).then_some(update)
}

/// Whether an update is a document that replaces another one.
pub(super) fn is_replacement(update: &RawDocument) -> bool {
    match update.iter().next() {
        Some(Ok((name, _))) => !name.as_str().starts_with('$'),
        Some(Err(_)) => false,
        None => true,
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
    if let [statement] = statements
        && let Some(stages) = replacing_stages(call, statement)?
    {
        let found = if super::is_true(statement, "multi") {
            None
        } else {
            first(call, collection, statement).await?
        };
        if let Some(found) = found {
            let own = own(found.get("_id")?)?;
            let made = made(call, collection, &own, stages).await?;
            idle[0] = made.first().is_some_and(|made| is_same(&found, made));
        }
        return Ok(idle);
    }
    if statements.iter().all(|one| replacement(one).is_none()) {
        return Ok(idle);
    }
    if let [statement] = statements {
        let found = first(call, collection, statement).await?;
        idle[0] = found.is_some_and(|found| is_replaced(&found, statement));
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
        idle[place] = found.is_some_and(|found| is_replaced(found, statement));
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

/// Returns the two parts of a statement whose pipeline replaces some documents by the same: what runs for the others,
/// and what runs for these.
pub(super) async fn parts(
    call: &Call<'_>,
    collection: &str,
    statement: &RawDocument,
) -> Result<Option<[RawDocumentBuf; 2]>, CommandError> {
    let Some(stages) = replacing_stages(call, statement)? else {
        return Ok(None);
    };
    if !super::is_true(statement, "multi") || updates::has_collation(statement)? {
        return Ok(None);
    }
    let filter = match statement.get("q")? {
        Some(RawBsonRef::Document(filter)) => Document::try_from(filter)?,
        _ => Document::new(),
    };
    let mut find = bson::rawdoc! { "find": collection, "limit": LOOKED_AT_MAX };
    find.append(bson::cstr!("filter"), raw(&filter));
    if let Some(RawBsonRef::Document(variables)) = call.body().get("let")? {
        find.append(bson::cstr!("let"), variables);
    }
    // What is wrong with a filter the update says itself.
    let found = reading::documents_of(call, &find).await.unwrap_or_default();
    let mut ids = Vec::new();
    for document in &found {
        ids.extend(document.get("_id")?.map(Bson::try_from).transpose()?);
    }
    let made = made(call, collection, &doc! { "_id": { "$in": &ids } }, stages).await?;
    let mut idle = Vec::new();
    for (document, id) in found.iter().zip(ids) {
        if made
            .iter()
            .any(|made| is_same(document, made) && has_id(made, &id))
        {
            idle.push(id);
        }
    }
    if idle.is_empty() {
        return Ok(None);
    }
    let others = doc! { "$and": [filter, { "_id": { "$nin": &idle } }] };
    let others = RawBson::Document(raw(&others));
    let others = updates::with_changes(statement, &[("q", Some(others)), ("upsert", None)])?;
    let these = doc! { "q": { "_id": { "$in": idle } }, "u": updates::nothing(), "multi": true };
    Ok(others.map(|others| [others, raw(&these)]))
}

fn has_id(document: &RawDocument, id: &Bson) -> bool {
    let own = document.get("_id").ok().flatten();
    own.is_some_and(|own| Bson::try_from(own).is_ok_and(|own| own == *id))
}

fn own(id: Option<RawBsonRef<'_>>) -> Result<Document, CommandError> {
    let id = id.ok_or_else(CommandError::internal)?;
    Ok(doc! { "_id": { "$eq": Bson::try_from(id)? } })
}

/// The stages of a statement by a pipeline that replaces.
fn replacing_stages(
    call: &Call<'_>,
    statement: &RawDocument,
) -> Result<Option<Vec<Bson>>, CommandError> {
    let Some(stages @ RawBsonRef::Array(_)) = statement.get("u")? else {
        return Ok(None);
    };
    let Bson::Array(stages) = Bson::try_from(stages)? else {
        return Ok(None);
    };
    let replaces = |stage: &Bson| {
        let stage = stage.as_document();
        stage.is_some_and(|stage| {
            stage.contains_key("$replaceWith") || stage.contains_key("$replaceRoot")
        })
    };
    // What is wrong with them the update says itself.
    let is_sound = call.reader().check_update_pipeline(&stages).is_ok();
    if !is_sound || !stages.iter().any(replaces) {
        return Ok(None);
    }
    call.reader()
        .check_pipeline(&stages, Place::Inner)
        .map(Some)
}

/// What stages make of the documents that fit a filter; nothing where they fail.
async fn made(
    call: &Call<'_>,
    collection: &str,
    filter: &Document,
    stages: Vec<Bson>,
) -> Result<Vec<RawDocumentBuf>, CommandError> {
    let mut pipeline = vec![Bson::Document(doc! { "$match": filter })];
    pipeline.extend(stages);
    let cursor = doc! { "batchSize": LOOKED_AT_MAX };
    let mut spec = doc! { "aggregate": collection, "pipeline": pipeline, "cursor": cursor };
    if let Some(RawBsonRef::Document(variables)) = call.body().get("let")? {
        spec.insert("let", Document::try_from(variables)?);
    }
    let Ok(page) = Statement::AGGREGATE
        .answer(call, call.budget(), &raw(&spec))
        .await
    else {
        return Ok(Vec::new());
    };
    let mut made = Vec::new();
    for document in page.get_document("cursor")?.get_array("firstBatch")? {
        made.extend(document?.as_document().map(RawDocument::to_owned));
    }
    Ok(made)
}

fn is_replaced(found: &RawDocument, statement: &RawDocument) -> bool {
    replacement(statement).is_some_and(|replacement| is_same(found, replacement))
}

/// Whether a document is, field by field, what it is replaced by. A replacement that names no `_id` keeps it.
fn is_same(found: &RawDocument, replacement: &RawDocument) -> bool {
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
    let nothing = RawBson::Document(raw(&updates::nothing()));
    let changed = updates::with_changes(statement, &[("u", Some(nothing))])?;
    Ok(changed.unwrap_or_else(|| statement.to_owned()))
}

#[cfg(test)]
mod tests {
    use bson::Document;

    use super::*;

    fn is_idle(found: &Document, replacement: &Document) -> bool {
        is_replaced(&raw(found), &raw(&doc! { "q": {}, "u": replacement }))
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
