//! Commands that make, change and drop collections, views and indexes. Each that
//! succeeded is told to the caller: grading may depend on it.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::indexes::{hashed, options};
use super::{
    Answer, Call, GENERIC_FIELDS, collations, indexes, is_collection_name, is_database_name,
    is_true, raw, reading, storage, validators, views, with_ok, without,
};
use crate::backend::{BsonIn, BsonOut};
use crate::error::CommandError;
use crate::guard::{Growth, PAGE_BYTES};
use crate::pipeline::{Place, stored_stages};
use crate::users::Action;

const CREATE: &str = "SELECT documentdb_api.create_collection_view($1, $2)";
const DROP: &str = "SELECT documentdb_api.drop_collection($1, $2)";
const DROP_DATABASE: &str = "SELECT documentdb_api.drop_database($1)::text";
pub(super) const COLL_MOD: &str = "SELECT documentdb_api.coll_mod($1, $2, $3)";
const RENAME: &str = "SELECT documentdb_api.rename_collection($1)";

/// Options of collections and indexes that would be accepted and not work, or that the engine lacks.
const MISSING_OPTIONS: [&str; 5] = [
    "capped",
    "timeseries",
    "clusteredIndex",
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
        "createIndexes" => indexes::create(call).await,
        _ => indexes::drop(call).await,
    }
}

async fn create(call: &Call<'_>) -> Answer {
    call.allow(Action::Define)?;
    let collection = call.collection()?;
    let body = call.body();
    refuse_options(body)?;
    storage::check_collection(body)?;
    if let Some(collation) = body.get("collation")? {
        collations::refuse(call, collation, "a collection or view").await?;
    }
    for option in ["size", "max"] {
        if body
            .get(option)?
            .is_some_and(|value| value != RawBsonRef::Null)
        {
            let message = format!("the '{option}' field requires capped to be true");
            return Err(CommandError::new(72, "InvalidOptions", message));
        }
    }
    let is_view = body.get("viewOn")?.is_some();
    // Validators are of collections, times to expire of time series, which are refused above.
    for (option, is_out_of_place) in [("validator", is_view), ("expireAfterSeconds", true)] {
        if is_out_of_place && body.get(option)?.is_some() {
            let message = format!("'{option}' is not an option of what is to be created");
            return Err(CommandError::new(72, "InvalidOptions", message));
        }
    }
    if let Some(RawBsonRef::Document(index)) = body.get("idIndex")? {
        options::check_of_id(index)?;
    }
    let spec = checked_view(call).await?;
    let is_in_transaction = call.transaction.is_some();
    if is_in_transaction
        && reading::collections_of(call)
            .await?
            .iter()
            .any(|other| other == collection)
    {
        let message = format!("Collection {}.{collection} already exists.", call.database);
        return Err(CommandError::new(48, "NamespaceExists", message));
    }
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
    if !is_view {
        call.server.arrivals.begin(call.database, collection);
    }
    call.schema_changed(call.database, Some(collection));
    row.get::<_, BsonOut>(0).document()
}

pub(super) fn refuse_options(options: &RawDocument) -> Result<(), CommandError> {
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
async fn checked_view(call: &Call<'_>) -> Result<RawDocumentBuf, CommandError> {
    let body = call.body();
    if let Some(RawBsonRef::Document(validator)) = body.get("validator")?
        && let Some(running) = validators::checked(call, validator).await?
    {
        let mut spec = without(&call.spec()?, &["validator"])?;
        spec.append(bson::cstr!("validator"), running);
        return Ok(spec);
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
    refuse_writing(call, &stages)?;
    views::check_depth(call, source.as_str().unwrap_or_default()).await?;
    let checked = call.reader().check_pipeline(&stages, Place::Inner)?;
    let mut spec = without(body, &[&GENERIC_FIELDS[..], &["pipeline"]].concat())?;
    spec.append(
        bson::cstr!("pipeline"),
        RawBson::try_from(Bson::Array(stored_stages(&stages, checked)))?,
    );
    Ok(spec)
}

fn refuse_writing(call: &Call<'_>, stages: &[Bson]) -> Result<(), CommandError> {
    for (position, stage) in stages.iter().enumerate() {
        let name = stage.as_document().and_then(|stage| stage.keys().next());
        if let Some(name) = name.filter(|name| matches!(name.as_str(), "$out" | "$merge")) {
            let view = call.body().get_str(call.name).unwrap_or_default();
            let message = format!(
                "The aggregation stage {name} in location {position} of the pipeline cannot be used in the view definition of {}.{view} because it writes to disk",
                call.database
            );
            return Err(CommandError::new(167, "OptionNotSupportedOnView", message));
        }
    }
    Ok(())
}

async fn drop_collection(call: &Call<'_>) -> Answer {
    call.allow(Action::Define)?;
    let collection = call.collection()?;
    let indexes = reading::indexes_of(call, collection).await.ok();
    let row = call
        .server
        .backend
        .row(
            call.budget_to_change(),
            DROP,
            &[&call.database, &collection],
        )
        .await?;
    if !row.get::<_, bool>(0) {
        // MongoDB since 7.0: what is not there is dropped already.
        return Ok(raw(&doc! { "ok": 1.0 }));
    }
    call.changed();
    call.server.cursors.kill(call.database, Some(collection));
    call.server.arrivals.end(call.database, Some(collection));
    call.schema_changed(call.database, Some(collection));
    let mut answer = doc! { "ns": format!("{}.{collection}", call.database) };
    // A view has none.
    let count = indexes.and_then(|indexes| i32::try_from(indexes.len()).ok());
    answer.extend(count.map(|count| ("nIndexesWas".to_owned(), Bson::Int32(count))));
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

async fn drop_database(call: &Call<'_>) -> Answer {
    call.allow(Action::Administer)?;
    if call.body().get(call.name)?.and_then(super::approximate) != Some(1.0) {
        let message = "Have to pass 1 as db parameter";
        return Err(CommandError::new(5_255_100, "Location5255100", message));
    }
    if call.database == "admin" {
        let message = "Dropping the 'admin' database is prohibited.";
        return Err(CommandError::new(20, "IllegalOperation", message));
    }
    let was_there = !reading::collections(call, doc! {}).await?.is_empty();
    call.server
        .backend
        .rows(call.budget_to_change(), DROP_DATABASE, &[&call.database])
        .await?;
    call.changed();
    call.server.cursors.kill(call.database, None);
    call.server.arrivals.end(call.database, None);
    call.schema_changed(call.database, None);
    Ok(raw(&if was_there {
        doc! { "dropped": call.database, "ok": 1.0 }
    } else {
        doc! { "ok": 1.0 }
    }))
}

async fn collection_modify(call: &Call<'_>) -> Answer {
    call.allow(Action::Administer)?;
    let collection = call.collection()?;
    refuse_options(call.body())?;
    refuse_uniqueness(call.body())?;
    let spec = hashed::with_pattern(checked_view(call).await?)?;
    let row = call
        .server
        .backend
        .row(
            call.budget_to_change(),
            COLL_MOD,
            &[&call.database, &collection, &BsonIn(spec.as_bytes())],
        )
        .await?;
    call.schema_changed(call.database, Some(collection));
    let mut answer = Document::try_from(&*row.get::<_, BsonOut>(0).document()?)?;
    // Of a time that stays as it was the engine tells nothing; of an index that had none, only the new one.
    let asked = call
        .body()
        .get_document("index")
        .ok()
        .map(|index| index.get("expireAfterSeconds"));
    let same = asked.transpose()?.flatten().and_then(super::integer);
    let same = same.filter(|_| !answer.contains_key("expireAfterSeconds_new"));
    for field in ["expireAfterSeconds_old", "expireAfterSeconds_new"] {
        let seconds = answer.get(field).and_then(super::whole).or(same);
        answer.extend(seconds.map(|seconds| (field.to_owned(), Bson::Int64(seconds))));
    }
    with_ok(raw(&answer))
}

/// The engine makes an index unique later only if it was built for that.
fn refuse_uniqueness(body: &RawDocument) -> Result<(), CommandError> {
    let Some(RawBsonRef::Document(index)) = body.get("index")? else {
        return Ok(());
    };
    for option in ["prepareUnique", "unique"] {
        if index.get(option)?.is_some() {
            return Err(CommandError::not_supported(format_args!(
                "the option '{option}' of an index that is there"
            )));
        }
    }
    Ok(())
}

async fn rename(call: &Call<'_>) -> Answer {
    if call.database != "admin" {
        let message = "renameCollection may only be run against the admin database.";
        return Err(CommandError::unauthorized(message));
    }
    let (database, from) = namespace(call, "renameCollection")?;
    let (target_database, to) = namespace(call, "to")?;
    call.allow_on(Action::Define, database)?;
    call.allow_on(Action::Write, database)?;
    if database != target_database {
        return Err(CommandError::not_supported(
            "renaming into another database",
        ));
    }
    views::check_rename(&Call { database, ..*call }, from, to).await?;
    let spec = call.spec()?;
    let row = call
        .server
        .backend
        .row(call.budget_to_change(), RENAME, &[&BsonIn(spec.as_bytes())])
        .await?;
    call.changed();
    for name in [from, to] {
        call.server.cursors.kill(database, Some(name));
        call.server.arrivals.end(database, Some(name));
        call.schema_changed(database, Some(name));
    }
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
