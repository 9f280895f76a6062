//! Commands that make and drop indexes.

pub(super) mod hashed;
pub(super) mod options;

use bson::{Bson, Document, RawArray, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::definitions::{COLL_MOD, refuse_options};
use super::{
    Answer, Call, GENERIC_FIELDS, collations, duplicates, is_true, parallel, raw, reading,
    validation, without,
};
use crate::backend::{BsonIn, BsonOut};
use crate::error::CommandError;
use crate::guard::{Growth, PAGE_BYTES};
use crate::pipeline::check_raw_expressions;
use crate::users::Action;

const CREATE: &str = "SELECT documentdb_api_internal.create_indexes_non_concurrently($1, $2, true)";
const DROP: &str = "CALL documentdb_api.drop_indexes($1, $2, NULL)";

/// In a transaction only a collection that nobody else sees may get indexes.
async fn check_is_new(call: &Call<'_>, collection: &str) -> Result<(), CommandError> {
    let found = reading::indexes_of(call, collection).await;
    if found.is_ok_and(|found| !found.is_empty()) {
        let message = format!(
            "Cannot create new indexes on existing collection {}.{collection} in a multi-document transaction.",
            call.database
        );
        return Err(CommandError::new(
            263,
            "OperationNotSupportedInTransaction",
            message,
        ));
    }
    Ok(())
}

pub(super) async fn create(call: &Call<'_>) -> Answer {
    call.allow(Action::Define)?;
    let collection = call.collection()?;
    if call.transaction.is_some() {
        check_is_new(call, collection).await?;
    }
    let asked = asked(call.body())?;
    let (mut indexes, mut hidden) = (Vec::new(), Vec::new());
    for index in asked {
        let RawBsonRef::Document(index) = index? else {
            return Err(CommandError::type_mismatch("'indexes' must hold objects"));
        };
        refuse_options(index)?;
        if let Some(collation) = index.get("collation")? {
            collations::refuse(call, collation, "an index").await?;
        }
        check_raw_expressions(index)?;
        check_id_index(index)?;
        options::check(index)?;
        let index = prepared(index, &mut hidden)?;
        parallel::check_index(call, collection, &index).await?;
        hashed::check(call, collection, &index).await?;
        indexes.push(index);
    }
    options::check_present(call, collection, &indexes, &hidden).await?;
    let answer = build(call, collection, indexes).await?;
    if is_true(&answer, "createdCollectionAutomatically") {
        call.server.arrivals.begin(call.database, collection);
    }
    // One that was there stays as it was.
    let hidden = hidden.into_iter().filter(|_| !has_note(&answer));
    for name in hidden {
        hide(call, collection, &name).await?;
    }
    Ok(answer)
}

fn has_note(answer: &RawDocument) -> bool {
    answer.get("note").is_ok_and(|note| note.is_some())
}

fn asked(body: &RawDocument) -> Result<&RawArray, CommandError> {
    match body.get("indexes")? {
        Some(RawBsonRef::Array(indexes)) => Ok(indexes),
        Some(other) => {
            let other = validation::type_name(&Bson::try_from(other)?);
            Err(CommandError::type_mismatch(format!(
                "BSON field 'createIndexes.indexes' is the wrong type '{other}', expected type 'array'"
            )))
        }
        None => {
            let message = "BSON field 'createIndexes.indexes' is missing but a required field";
            Err(CommandError::new(40414, "Location40414", message))
        }
    }
}

/// The index over `_id` is one and the same; the engine would make others.
fn check_id_index(index: &RawDocument) -> Result<(), CommandError> {
    let Some(RawBsonRef::Document(key)) = index.get("key")? else {
        return Ok(());
    };
    let fields: Vec<_> = key.iter().collect::<Result<_, _>>()?;
    let direction = match fields.as_slice() {
        [(field, direction)] if field.as_str() == "_id" => super::integer(*direction),
        _ => None,
    };
    let shown = |part: &RawDocument| {
        let part = Document::try_from(part)?;
        Ok::<_, CommandError>(duplicates::shell_text(&Bson::Document(part)))
    };
    match direction {
        Some(1) => {
            for element in index {
                let (option, _) = element?;
                let option = option.as_str();
                if !matches!(option, "key" | "name" | "ns" | "v" | "collation" | "hidden") {
                    let whole = shown(index)?;
                    let message = format!(
                        "The field '{option}' is not valid for an _id index specification. Specification: {whole}"
                    );
                    return Err(CommandError::new(
                        197,
                        "InvalidIndexSpecificationOption",
                        message,
                    ));
                }
            }
            if index.get("hidden")?.is_some() {
                return Err(CommandError::bad_value("can't hide _id index"));
            }
            Ok(())
        }
        Some(-1) => Err(CommandError::bad_value(format!(
            "The field 'key' for an _id index must be {{_id: 1}}, but got {}",
            shown(key)?
        ))),
        _ if index.get_str("name").is_ok_and(|name| name == "_id_") => {
            Err(CommandError::bad_value(format!(
                "The index name '_id_' is reserved for the _id index, which must have key pattern {{_id: 1}}, found {}",
                shown(key)?
            )))
        }
        _ => Ok(()),
    }
}

/// Makes indexes, with what else the command says.
pub(super) async fn build(call: &Call<'_>, collection: &str, indexes: Vec<Document>) -> Answer {
    let mut built = indexes.clone();
    built.iter_mut().for_each(hashed::to_build);
    let mut spec = doc! { "createIndexes": collection, "indexes": built };
    if call.name == "createIndexes" {
        let others = without(
            call.body(),
            &[
                &GENERIC_FIELDS[..],
                &["createIndexes", "commitQuorum", "indexes"],
            ]
            .concat(),
        )?;
        spec.extend(Document::try_from(others)?);
    }
    let spec = raw(&spec);
    let growth = Growth {
        bytes: PAGE_BYTES,
        indexes: u64::try_from(indexes.len()).unwrap_or(u64::MAX),
        collection,
        ..Growth::default()
    };
    let _let_in = call.admit(call.database, growth).await?;
    let row = call
        .server
        .backend
        .row(
            call.budget(),
            CREATE,
            &[&call.database, &BsonIn(spec.as_bytes())],
        )
        .await;
    let result = match row {
        Err(error) if error.code == 11000 => {
            return Err(duplicates::while_building(call, collection, &indexes).await);
        }
        Err(error) => {
            let message = hashed::told(&error.message);
            return Err(CommandError { message, ..error });
        }
        other => other?.get::<_, BsonOut>(0).document()?,
    };
    call.schema_changed(call.database, Some(collection));
    created(&result)
}

/// An index as the engine takes it; the names of those to hide afterwards go apart.
fn prepared(index: &RawDocument, hidden: &mut Vec<String>) -> Result<Document, CommandError> {
    let is_hidden = is_true(index, "hidden");
    let mut index = Document::try_from(index)?;
    // Another than the simple one is refused.
    index.remove("collation");
    // One that is on is refused.
    index.remove("prepareUnique");
    if is_hidden {
        index.remove("hidden");
        hidden.push(index.get_str("name").unwrap_or_default().to_owned());
    }
    let is_text = index
        .get_document("key")
        .is_ok_and(|key| key.values().any(|kind| kind.as_str() == Some("text")));
    if is_text && !index.contains_key("default_language") {
        // The engine's own default takes each word as it is written.
        index.insert("default_language", "english");
    }
    Ok(index)
}

async fn hide(call: &Call<'_>, collection: &str, name: &str) -> Result<(), CommandError> {
    let spec = raw(&doc! { "collMod": collection, "index": { "name": name, "hidden": true } });
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&call.database, &collection, &BsonIn(spec.as_bytes())];
    call.server
        .backend
        .row(call.budget_to_change(), COLL_MOD, &parameters)
        .await?;
    Ok(())
}

/// The engine answers per shard; there is one.
fn created(result: &RawDocument) -> Answer {
    let shard = result
        .get_document("raw")
        .and_then(|shards| shards.get_document("defaultShard"));
    let result = shard.unwrap_or(result);
    if !is_true(result, "ok") {
        return Err(refused(result, ("CannotCreateIndex", 67)));
    }
    let mut answer = Document::try_from(result)?;
    if answer.contains_key("note") {
        answer.insert("note", "all indexes already exist");
    }
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

fn refused(result: &RawDocument, otherwise: (&'static str, i32)) -> CommandError {
    let packed = result.get_i32("code").unwrap_or(0);
    let (name, code) = CommandError::unpacked_code(packed).unwrap_or(otherwise);
    let message = result
        .get_str("errmsg")
        .unwrap_or("cannot do this with the index");
    // What only the engine has.
    let message = hashed::told(message).replace(", enableOrderedIndex: 1", "");
    CommandError::new(code, name, message)
}

pub(super) async fn drop(call: &Call<'_>) -> Answer {
    call.allow(Action::Define)?;
    let collection = call.collection()?;
    let index = call.body().get("index")?.unwrap_or(RawBsonRef::Null);
    let index = whole_list(index)?;
    let result = remove(call, collection, index).await?;
    let mut answer = Document::new();
    let count = result.get("nIndexesWas")?.and_then(super::integer);
    let count = count.and_then(|count| i32::try_from(count).ok());
    answer.extend(count.map(|count| ("nIndexesWas".to_owned(), Bson::Int32(count))));
    if index.as_str() == Some("*") {
        answer.insert("msg", "non-_id indexes dropped for collection");
    }
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

/// What to drop: '*' in a list alone means all of them. Among others it is the name of an index, which the engine
/// takes for all, too.
fn whole_list(index: RawBsonRef<'_>) -> Result<RawBsonRef<'_>, CommandError> {
    let RawBsonRef::Array(names) = index else {
        return Ok(index);
    };
    let names: Vec<RawBsonRef<'_>> = names.into_iter().collect::<Result<_, _>>()?;
    let is_all = |name: &RawBsonRef<'_>| name.as_str() == Some("*");
    match names.as_slice() {
        [only] if is_all(only) => Ok(*only),
        names if names.iter().any(is_all) => {
            let message = "index not found with name [*]";
            Err(CommandError::new(27, "IndexNotFound", message))
        }
        _ => Ok(index),
    }
}

/// The name of a text index that is named by its key; the engine knows others by their keys.
async fn named(call: &Call<'_>, collection: &str, index: RawBsonRef<'_>) -> Option<String> {
    let key = index.as_document()?;
    key.get("_fts").ok()??;
    let indexes = reading::indexes_of(call, collection).await.ok()?;
    let mut alike = indexes
        .iter()
        .filter(|index| index.get_document("key").is_ok_and(|found| found == key));
    alike.next()?.get_str("name").ok().map(str::to_owned)
}

/// Drops what names one index, several or all.
pub(super) async fn remove(call: &Call<'_>, collection: &str, index: RawBsonRef<'_>) -> Answer {
    let mut spec = bson::rawdoc! { "dropIndexes": collection };
    match named(call, collection, index).await {
        Some(name) => spec.append(bson::cstr!("index"), name.as_str()),
        None if index == RawBsonRef::Null => {}
        None => match hashed::meant(index)? {
            Some(meant) => spec.append(bson::cstr!("index"), meant.as_raw_bson_ref()),
            None => spec.append(bson::cstr!("index"), index),
        },
    }
    let row = call
        .server
        .backend
        .row(
            call.budget(),
            DROP,
            &[&call.database, &BsonIn(spec.as_bytes())],
        )
        .await?;
    let result: RawDocumentBuf = row.get::<_, BsonOut>(0).document()?;
    if !is_true(&result, "ok") {
        return Err(refused(&result, ("IndexNotFound", 27)));
    }
    call.changed();
    call.schema_changed(call.database, Some(collection));
    Ok(result)
}
