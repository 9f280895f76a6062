//! The collection that a command expects, by the UUID that it names: a command that
//! was meant for one that is gone must not reach another of the same name.

use bson::{Binary, Bson, Document, RawBsonRef, doc, spec::BinarySubtype};

use super::{Call, reading, updates, validation};
use crate::error::CommandError;
use crate::users::Action;
use crate::wire::Request;

const FIELD: &str = "collectionUUID";

/// Commands that may name it.
const COMMANDS: [&str; 12] = [
    "find",
    "aggregate",
    "count",
    "insert",
    "update",
    "delete",
    "createIndexes",
    "dropIndexes",
    "deleteIndexes",
    "drop",
    "collMod",
    "renameCollection",
];

/// Returns the request without the UUID, if it names one and that is the collection's.
pub(super) async fn checked(call: &Call<'_>) -> Result<Option<Request>, CommandError> {
    let Some(value) = call.body().get(FIELD)? else {
        return Ok(None);
    };
    let (true, Some((database, collection))) = (COMMANDS.contains(&call.name), target(call)) else {
        return Ok(None);
    };
    if value != RawBsonRef::Null {
        let asked = uuid(call.name, value)?;
        call.allow_on(Action::Look, database)?;
        check(&Call { database, ..*call }, collection, asked).await?;
    }
    let body = updates::with_changes(call.body(), &[(FIELD, None)])?;
    Ok(body.map(|body| Request {
        framing: call.request.framing,
        is_unanswered: call.request.is_unanswered,
        compressor: call.request.compressor,
        body,
        sequences: call.request.sequences.clone(),
    }))
}

fn target<'a>(call: &Call<'a>) -> Option<(&'a str, &'a str)> {
    let named = call.body().get_str(call.name).ok()?;
    if call.name == "renameCollection" {
        return named.split_once('.');
    }
    Some((call.database, named))
}

fn uuid(command: &str, value: RawBsonRef<'_>) -> Result<Binary, CommandError> {
    let wrong = |kind: &str, expected: &str| {
        CommandError::type_mismatch(format!(
            "BSON field '{command}.{FIELD}' is the wrong type '{kind}', expected type '{expected}'"
        ))
    };
    match Bson::try_from(value)? {
        Bson::Binary(uuid) if uuid.subtype == BinarySubtype::Uuid => Ok(uuid),
        Bson::Binary(_) => Err(wrong("binData", "UUID")),
        other => Err(wrong(validation::type_name(&other), "binData")),
    }
}

async fn check(call: &Call<'_>, expected: &str, asked: Binary) -> Result<(), CommandError> {
    let listed = reading::collections(call, doc! { "type": "collection" }).await?;
    let has_it = |collection: &&Document| {
        let info = collection.get_document("info").ok();
        info.and_then(|info| info.get("uuid")) == Some(&Bson::Binary(asked.clone()))
    };
    let found = listed.iter().find(has_it);
    let actual = found.and_then(|collection| collection.get_str("name").ok());
    if actual == Some(expected) {
        return Ok(());
    }
    let message = "Collection UUID does not match that specified";
    let error = CommandError::new(361, "CollectionUUIDMismatch", message);
    let error = error
        .with("db", call.database)
        .with(FIELD, asked)
        .with("expectedCollection", expected);
    Err(error.with("actualCollection", actual.map_or(Bson::Null, Bson::from)))
}
