//! `$inc` and `$mul` of a boolean, which MongoDB refuses and the engine takes for
//! 0 or 1. An update of one document leaves such documents out, and only where it
//! finds nothing it is looked for one, so that others cost nothing; an upsert and
//! an update of many look before. Of several updates in one command none is looked
//! at, and no findAndModify that inserts or takes the first in an order.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::duplicates::shell_text;
use super::{Call, integer, is_true, raw, reading, sorting, updates};
use crate::error::CommandError;

/// An update that computes with what fields hold.
pub(super) struct Computing {
    /// Operators and paths.
    fields: Vec<(&'static str, String)>,
    filter: Document,
    /// The field of the operation that holds it.
    filter_field: &'static str,
    /// Whether it may not simply leave documents out.
    looks_before: bool,
}

/// Nothing where an update does not compute, or where it computes in elements of arrays that it has to find.
pub(super) fn computing(operation: &RawDocument) -> Result<Option<Computing>, CommandError> {
    let Some(RawBsonRef::Document(update)) = updates::update_in(operation)? else {
        return Ok(None);
    };
    let mut fields = Vec::new();
    for operator in ["$inc", "$mul"] {
        let Some(RawBsonRef::Document(operands)) = update.get(operator)? else {
            continue;
        };
        for operand in operands {
            let path = operand?.0.as_str();
            if path.contains('$') || path.split('.').any(str::is_empty) {
                return Ok(None);
            }
            fields.push((operator, path.to_owned()));
        }
    }
    if fields.is_empty() || updates::has_collation(operation)? {
        return Ok(None);
    }
    let filter_field = if operation.get("q")?.is_some() {
        "q"
    } else {
        "query"
    };
    let filter = match operation.get(filter_field)? {
        Some(RawBsonRef::Document(filter)) => Document::try_from(filter)?,
        _ => return Ok(None),
    };
    Ok(Some(Computing {
        fields,
        filter,
        filter_field,
        looks_before: is_true(operation, "multi") || is_true(operation, "upsert"),
    }))
}

impl Computing {
    /// Returns the operation so that it leaves out documents with a boolean.
    ///
    /// # Errors
    /// Where it may not leave them out and there is one.
    pub(super) async fn guarded(
        &self,
        call: &Call<'_>,
        collection: &str,
        operation: &RawDocument,
    ) -> Result<Option<RawDocumentBuf>, CommandError> {
        if self.looks_before {
            return self.check(call, collection).await.map(|()| None);
        }
        let Some(RawBsonRef::Document(filter)) = operation.get(self.filter_field)? else {
            return Ok(None);
        };
        let mut filter = Document::try_from(filter)?;
        let others = filter.get_array("$nor").cloned().unwrap_or_default();
        let left_out = self.fields.iter().map(|(_, path)| is_boolean(path));
        let left_out = left_out.map(Bson::Document).chain(others);
        filter.insert("$nor", left_out.collect::<Vec<Bson>>());
        let filter = RawBson::Document(raw(&filter));
        updates::with_changes(operation, &[(self.filter_field, Some(filter))])
    }

    /// Returns the answer to an update that found nothing because of a boolean.
    pub(super) async fn refused(
        &self,
        call: &Call<'_>,
        collection: &str,
        result: &RawDocument,
    ) -> Result<Option<RawDocumentBuf>, CommandError> {
        if result.get("n")?.and_then(integer) != Some(0) || result.get("writeErrors")?.is_some() {
            return Ok(None);
        }
        let Err(error) = self.check(call, collection).await else {
            return Ok(None);
        };
        let said = doc! { "index": 0, "code": error.code, "errmsg": error.message };
        let answer = doc! { "n": 0, "nModified": 0, "writeErrors": [said], "ok": 1.0 };
        Ok(Some(raw(&answer)))
    }

    /// Fails where a findAndModify found nothing because of a boolean.
    pub(super) async fn check_found(
        &self,
        call: &Call<'_>,
        collection: &str,
        result: &RawDocument,
    ) -> Result<(), CommandError> {
        match result.get("value")? {
            None | Some(RawBsonRef::Null) => self.check(call, collection).await,
            Some(_) => Ok(()),
        }
    }

    /// Fails as MongoDB does where there is a document with a boolean.
    async fn check(&self, call: &Call<'_>, collection: &str) -> Result<(), CommandError> {
        let found: Vec<Document> = self
            .fields
            .iter()
            .map(|(_, path)| is_boolean(path))
            .collect();
        let mut find = doc! {
            "find": collection, "filter": { "$and": [self.filter.clone(), { "$or": found }] }, "limit": 1,
        };
        if let Some(RawBsonRef::Document(variables)) = call.body().get("let")? {
            find.insert("let", Document::try_from(variables)?);
        }
        // What is wrong with a filter the update says itself.
        let found = reading::documents_of(call, &raw(&find)).await;
        let Some(found) = found.unwrap_or_default().pop() else {
            return Ok(());
        };
        let found = Document::try_from(found)?;
        for (operator, path) in &self.fields {
            if let Some(Bson::Boolean(_)) = value_at(&found, path) {
                let id = found.get("_id").map(shell_text).unwrap_or_default();
                let field = path.rsplit('.').next().unwrap_or(path);
                return Err(CommandError::type_mismatch(format!(
                    "Cannot apply {operator} to a value of non-numeric type. {{_id: {id}}} has the field '{field}' of non-numeric type bool"
                )));
            }
        }
        Ok(())
    }
}

/// A filter of the documents in which a field, on a way without arrays, is a boolean.
fn is_boolean(path: &str) -> Document {
    doc! { path: { "$type": "bool" }, "$nor": [sorting::has_array(path)] }
}

fn value_at<'a>(document: &'a Document, path: &str) -> Option<&'a Bson> {
    match path.split_once('.') {
        Some((first, rest)) => value_at(document.get_document(first).ok()?, rest),
        None => document.get(path),
    }
}
