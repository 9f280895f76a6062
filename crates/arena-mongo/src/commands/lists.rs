//! Lists of collections and indexes, as MongoDB writes them.

use bson::{Bson, Document, RawDocument, rawdoc};

use super::indexes::hashed;
use super::statements::Statement;
use super::{Answer, Call, GENERIC_FIELDS, integer, raw, reading, without};
use crate::error::CommandError;
use crate::pipeline::{as_written, check_raw_expressions, stages_as_written};
use crate::users::Action;

pub(super) async fn indexes(call: &Call<'_>) -> Answer {
    call.allow(Action::Look)?;
    call.collection()?;
    let spec = without(&call.spec()?, &["cursor"])?;
    let page = reading::first_page(call, call.budget(), Statement::LIST_INDEXES, &spec).await?;
    listed(call, &page, None).await
}

pub(super) async fn collections(call: &Call<'_>) -> Answer {
    call.allow(Action::Look)?;
    check_raw_expressions(call.body())?;
    let mut spec = without(
        call.body(),
        &[&GENERIC_FIELDS[..], &["authorizedCollections", "cursor"]].concat(),
    )?;
    spec.append(bson::cstr!("cursor"), rawdoc! { "batchSize": 100_000 });
    let page = reading::first_page(call, call.budget(), Statement::LIST_COLLECTIONS, &spec).await?;
    let namespace = format!("{}.$cmd.listCollections", call.database);
    listed(call, &page, Some(namespace)).await
}

/// A list without what only the engine has, in pages of the size that was asked for, which the engine does not mind.
async fn listed(call: &Call<'_>, page: &RawDocument, namespace: Option<String>) -> Answer {
    let cursor = page.get_document("cursor")?;
    if cursor.get("id")?.and_then(integer) != Some(0) {
        return Err(CommandError::internal());
    }
    let mut listed = Vec::new();
    for one in cursor.get_array("firstBatch")? {
        let mut one = Document::try_from(one?.as_document().ok_or_else(CommandError::internal)?)?;
        as_listed(&mut one);
        listed.push(raw(&one));
    }
    let own = cursor.get_str("ns").unwrap_or_default();
    let mut answer = reading::own_cursor(call, namespace.as_deref().unwrap_or(own), listed).await?;
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

/// Writes one collection or index of a list as MongoDB does.
fn as_listed(one: &mut Document) {
    one.remove("storageEngine");
    if let Ok(key) = one.get_document_mut("key") {
        hashed::as_named(key);
    }
    match one.remove("idIndex") {
        Some(Bson::Document(mut index)) => {
            let name = index.remove("name");
            index.extend(name.map(|name| ("name".to_owned(), name)));
            one.insert("idIndex", index);
        }
        Some(Bson::Null) | None => {}
        Some(other) => drop(one.insert("idIndex", other)),
    }
    if let Ok(options) = one.get_document_mut("options")
        && let Ok(validator) = options.get_document_mut("validator")
        && let Some(written) = as_written(validator).cloned()
    {
        *validator = written;
    }
    if let Ok(options) = one.get_document_mut("options")
        && let Ok(stages) = options.get_array_mut("pipeline")
        && let Some(written) = stages_as_written(stages).cloned()
    {
        *stages = written;
    }
    if let Some(bits) = one.get_mut("bits") {
        as_int(bits);
    }
    if let Ok(weights) = one.get_document_mut("weights") {
        weights.iter_mut().for_each(|(_, weight)| as_int(weight));
        one.insert("textIndexVersion", 3);
    }
}

/// The engine keeps whole numbers as doubles.
fn as_int(number: &mut Bson) {
    if let Some(whole) = super::whole(number).and_then(|whole| i32::try_from(whole).ok()) {
        *number = Bson::Int32(whole);
    }
}
