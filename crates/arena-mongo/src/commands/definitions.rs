//! Commands that make, change and drop collections, views and indexes. Each that
//! succeeded is told to the caller: grading may depend on it.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::{
    Answer, Call, GENERIC_FIELDS, duplicates, is_collection_name, is_database_name, is_true, raw,
    without,
};
use crate::backend::{BsonIn, BsonOut};
use crate::error::CommandError;
use crate::guard::{Growth, PAGE_BYTES};
use crate::pipeline::{Place, check_raw_expressions};
use crate::users::Action;

const CREATE: &str = "SELECT documentdb_api.create_collection_view($1, $2)";
const DROP: &str = "SELECT documentdb_api.drop_collection($1, $2)";
const DROP_DATABASE: &str = "SELECT documentdb_api.drop_database($1)::text";
const COLL_MOD: &str = "SELECT documentdb_api.coll_mod($1, $2, $3)";
const RENAME: &str = "SELECT documentdb_api.rename_collection($1)";
const CREATE_INDEXES: &str =
    "SELECT documentdb_api_internal.create_indexes_non_concurrently($1, $2, true)";
const DROP_INDEXES: &str = "CALL documentdb_api.drop_indexes($1, $2, NULL)";

/// Options of collections and indexes that would be accepted and not work, or that the engine lacks.
const MISSING_OPTIONS: [&str; 6] = [
    "capped",
    "timeseries",
    "clusteredIndex",
    "collation",
    "changeStreamPreAndPostImages",
    "encryptedFields",
];

pub(super) async fn run(call: &Call<'_>) -> Answer {
    match call.name {
        "create" => create(call).await,
        "drop" => drop_collection(call).await,
        "dropDatabase" => drop_database(call).await,
        "collMod" => collection_modify(call).await,
        "renameCollection" => rename(call).await,
        "createIndexes" => create_indexes(call).await,
        _ => drop_indexes(call).await,
    }
}

async fn create(call: &Call<'_>) -> Answer {
    call.allow(Action::Define)?;
    let collection = call.collection()?;
    refuse_options(call.body())?;
    let spec = checked_view(call)?;
    let growth = Growth {
        bytes: PAGE_BYTES,
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
        .await?;
    call.schema_changed(call.database, Some(collection));
    row.get::<_, BsonOut>(0).document()
}

fn refuse_options(options: &RawDocument) -> Result<(), CommandError> {
    let set = MISSING_OPTIONS
        .into_iter()
        .find(|option| match options.get(option) {
            Ok(Some(RawBsonRef::Document(_))) => true,
            _ => is_true(options, option),
        });
    set.map_or(Ok(()), |option| {
        Err(CommandError::not_supported(format_args!(
            "the option '{option}'"
        )))
    })
}

/// A view reads with its reader's rights, but its definition gets the same walk as a query.
fn checked_view(call: &Call<'_>) -> Result<RawDocumentBuf, CommandError> {
    let body = call.body();
    if let Some(validator) = body
        .get("validator")?
        .and_then(|validator| validator.as_document())
    {
        check_raw_expressions(validator)?;
    }
    let Some(source) = body.get("viewOn")? else {
        return call.spec();
    };
    if !source.as_str().is_some_and(is_collection_name) {
        return Err(CommandError::new(
            73,
            "InvalidNamespace",
            "'viewOn' must be a collection's name",
        ));
    }
    let stages = match body.get("pipeline")? {
        None => Vec::new(),
        Some(RawBsonRef::Array(stages)) => match Bson::try_from(RawBsonRef::Array(stages))? {
            Bson::Array(stages) => stages,
            _ => return Err(CommandError::internal()),
        },
        Some(_) => return Err(CommandError::type_mismatch("'pipeline' must be an array")),
    };
    let checked = call.reader().check_pipeline(&stages, Place::Inner)?;
    let mut spec = without(body, &[&GENERIC_FIELDS[..], &["pipeline"]].concat())?;
    spec.append(
        bson::cstr!("pipeline"),
        RawBson::try_from(Bson::Array(checked))?,
    );
    Ok(spec)
}

async fn drop_collection(call: &Call<'_>) -> Answer {
    call.allow(Action::Define)?;
    let collection = call.collection()?;
    let row = call
        .server
        .backend
        .row(call.budget(), DROP, &[&call.database, &collection])
        .await?;
    if !row.get::<_, bool>(0) {
        // MongoDB since 7.0: what is not there is dropped already.
        return Ok(raw(&doc! { "ok": 1.0 }));
    }
    call.changed();
    call.schema_changed(call.database, Some(collection));
    Ok(raw(
        &doc! { "ns": format!("{}.{collection}", call.database), "ok": 1.0 },
    ))
}

async fn drop_database(call: &Call<'_>) -> Answer {
    call.allow(Action::Administer)?;
    call.server
        .backend
        .rows(call.budget(), DROP_DATABASE, &[&call.database])
        .await?;
    call.changed();
    call.schema_changed(call.database, None);
    Ok(raw(&doc! { "dropped": call.database, "ok": 1.0 }))
}

async fn collection_modify(call: &Call<'_>) -> Answer {
    call.allow(Action::Administer)?;
    let collection = call.collection()?;
    refuse_options(call.body())?;
    let spec = checked_view(call)?;
    let row = call
        .server
        .backend
        .row(
            call.budget(),
            COLL_MOD,
            &[&call.database, &collection, &BsonIn(spec.as_bytes())],
        )
        .await?;
    call.schema_changed(call.database, Some(collection));
    with_ok(row.get::<_, BsonOut>(0).document()?)
}

async fn rename(call: &Call<'_>) -> Answer {
    let (database, from) = namespace(call, "renameCollection")?;
    let (target_database, to) = namespace(call, "to")?;
    call.allow_on(Action::Define, database)?;
    call.allow_on(Action::Write, database)?;
    if database != target_database {
        return Err(CommandError::not_supported(
            "renaming into another database",
        ));
    }
    let spec = call.spec()?;
    let row = call
        .server
        .backend
        .row(call.budget(), RENAME, &[&BsonIn(spec.as_bytes())])
        .await?;
    call.changed();
    call.schema_changed(database, Some(from));
    call.schema_changed(database, Some(to));
    row.get::<_, BsonOut>(0).document()
}

fn namespace<'a>(call: &Call<'a>, field: &str) -> Result<(&'a str, &'a str), CommandError> {
    let text = call.body().get_str(field).unwrap_or_default();
    let parts = text
        .split_once('.')
        .filter(|(database, name)| is_database_name(database) && is_collection_name(name));
    parts.ok_or_else(|| {
        CommandError::new(
            73,
            "InvalidNamespace",
            format!("Invalid namespace specified '{text}'"),
        )
    })
}

async fn create_indexes(call: &Call<'_>) -> Answer {
    call.allow(Action::Define)?;
    let collection = call.collection()?;
    let indexes = call
        .body()
        .get_array("indexes")
        .map_err(|_| CommandError::type_mismatch("'indexes' must be an array"))?;
    let mut names = Vec::new();
    for index in indexes {
        let RawBsonRef::Document(index) = index? else {
            return Err(CommandError::type_mismatch("'indexes' must hold objects"));
        };
        refuse_options(index)?;
        check_raw_expressions(index)?;
        names.push(index.get_str("name").unwrap_or_default().to_owned());
    }
    let spec = without(
        call.body(),
        &[&GENERIC_FIELDS[..], &["commitQuorum"]].concat(),
    )?;
    let growth = Growth {
        bytes: PAGE_BYTES,
        indexes: u64::try_from(names.len()).unwrap_or(u64::MAX),
        collection,
        ..Growth::default()
    };
    let _let_in = call.admit(call.database, growth).await?;
    let row = call
        .server
        .backend
        .row(
            call.budget(),
            CREATE_INDEXES,
            &[&call.database, &BsonIn(spec.as_bytes())],
        )
        .await;
    let namespace = format!("{}.{collection}", call.database);
    let result = match row {
        Err(error) if error.code == 11000 => {
            return Err(duplicates::while_building(
                &namespace,
                names.first().map_or("", String::as_str),
            ));
        }
        other => other?.get::<_, BsonOut>(0).document()?,
    };
    call.schema_changed(call.database, Some(collection));
    unwrapped(&result)
}

/// The engine answers per shard; there is one.
fn unwrapped(result: &RawDocument) -> Answer {
    let shard = result
        .get_document("raw")
        .and_then(|shards| shards.get_document("defaultShard"));
    let result = shard.unwrap_or(result);
    if !is_true(result, "ok") {
        let packed = result.get_i32("code").unwrap_or(0);
        let (name, code) = CommandError::unpacked_code(packed).unwrap_or(("CannotCreateIndex", 67));
        let message = result
            .get_str("errmsg")
            .unwrap_or("cannot create the index");
        return Err(CommandError::new(code, name, message));
    }
    let mut answer = Document::try_from(result)?;
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

async fn drop_indexes(call: &Call<'_>) -> Answer {
    call.allow(Action::Define)?;
    let collection = call.collection()?;
    let mut spec = bson::rawdoc! { "dropIndexes": collection };
    if let Some(index) = call.body().get("index")? {
        spec.append(bson::cstr!("index"), index);
    }
    let row = call
        .server
        .backend
        .row(
            call.budget(),
            DROP_INDEXES,
            &[&call.database, &BsonIn(spec.as_bytes())],
        )
        .await?;
    let result = row.get::<_, BsonOut>(0).document()?;
    let is_done = is_true(&result, "ok");
    if is_done {
        call.changed();
        call.schema_changed(call.database, Some(collection));
        return with_ok(result);
    }
    let packed = result.get_i32("code").unwrap_or(0);
    let (name, code) = CommandError::unpacked_code(packed).unwrap_or(("IndexNotFound", 27));
    Err(CommandError::new(
        code,
        name,
        result.get_str("errmsg").unwrap_or("cannot drop the index"),
    ))
}

/// `ok` as every client expects it: the number 1.
fn with_ok(result: RawDocumentBuf) -> Answer {
    let mut answer = Document::try_from(result)?;
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}
