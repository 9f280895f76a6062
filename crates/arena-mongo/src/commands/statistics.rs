//! Commands about databases, collections and the server, and the clear
//! refusals of what MongoDB can and the built-in database cannot.

use bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, doc, rawdoc};

use super::statements::Statement;
use super::{Answer, Call, fitting, is_true, raw, reading, with_ok};
use crate::backend::{BsonIn, BsonOut};
use crate::error::CommandError;
use crate::pipeline::Place;
use crate::users::Action;

const COLL_STATS: &str = "SELECT documentdb_api.coll_stats($1, $2, $3)";
const DB_STATS: &str = "SELECT documentdb_api.db_stats($1, $2)";
/// Of more collections the engine's own estimate is told.
const COUNTED_COLLECTIONS_MAX: usize = 100;
const VALIDATE: &str = "SELECT document FROM documentdb_api.validate($1, $2)";
const LIST_DATABASES: &str = "SELECT documentdb_api.list_databases($1)";

pub(super) async fn run(call: &Call<'_>) -> Answer {
    match call.name {
        "collStats" | "collstats" => collection_statistics(call).await,
        "dbStats" | "dbstats" => database_statistics(call).await,
        "validate" => validate(call).await,
        "listDatabases" => list_databases(call).await,
        "serverStatus" => server_status(call),
        "hostInfo" => host_info(call),
        "getParameter" => parameter(call),
        "getLog" => log(call),
        "profile" => super::profiling::run(call),
        "getCmdLineOpts" => {
            call.allow_root()?;
            Ok(raw(&doc! { "argv": ["arena"], "parsed": {}, "ok": 1.0 }))
        }
        "listSearchIndexes" | "createSearchIndexes" | "dropSearchIndex" | "updateSearchIndex" => {
            super::search::run(call).await
        }
        "mapReduce" => Err(CommandError::not_supported("mapReduce")),
        other => Err(CommandError::command_not_found(other)),
    }
}

fn scale(body: &RawDocument) -> Result<f64, CommandError> {
    match body.get("scale")?.and_then(super::approximate) {
        None => Ok(1.0),
        Some(scale) if scale >= 1.0 => Ok(scale.trunc()),
        Some(_) => Err(CommandError::bad_value("scale must be a positive number")),
    }
}

async fn collection_statistics(call: &Call<'_>) -> Answer {
    call.allow(Action::Look)?;
    let collection = call.collection()?;
    let scale = scale(call.body())?;
    let row = call
        .server
        .backend
        .row(
            call.budget(),
            COLL_STATS,
            &[&call.database, &collection, &scale],
        )
        .await?;
    let mut answer = Document::try_from(&*row.get::<_, BsonOut>(0).document()?)?;
    let count = reading::count_of(call, collection).await?;
    answer.insert("count", fitting(count));
    with_ok(raw(&answer))
}

async fn database_statistics(call: &Call<'_>) -> Answer {
    call.allow(Action::Look)?;
    let scale = scale(call.body())?;
    let row = call
        .server
        .backend
        .row(call.budget(), DB_STATS, &[&call.database, &scale])
        .await?;
    let mut answer = Document::try_from(&*row.get::<_, BsonOut>(0).document()?)?;
    if let Some(scale) = answer.get("scaleFactor").and_then(super::whole) {
        answer.insert("scaleFactor", scale);
    }
    // The engine estimates, and of small collections it estimates 0.
    if let Some((objects, bytes)) = counted(call).await {
        let mean = if objects == 0 {
            0.0
        } else {
            bytes / number(objects)
        };
        answer.insert("objects", objects);
        answer.insert("avgObjSize", mean);
        answer.insert("dataSize", bytes / scale);
    }
    with_ok(raw(&answer))
}

/// Counts documents and estimates their bytes; nothing when there are too many collections.
async fn counted(call: &Call<'_>) -> Option<(i64, f64)> {
    let names = reading::collections_of(call).await.ok()?;
    if names.len() > COUNTED_COLLECTIONS_MAX {
        return None;
    }
    let (mut objects, mut bytes) = (0, 0.0);
    for name in names {
        let row = call
            .server
            .backend
            .row(
                call.budget(),
                COLL_STATS,
                &[&call.database, &name, &1.0_f64],
            )
            .await
            .ok()?;
        let statistics = row.get::<_, BsonOut>(0).document().ok()?;
        let mean = statistics.get("avgObjSize").ok()?.and_then(super::integer);
        let count = reading::count_of(call, &name).await.ok()?;
        objects += count;
        bytes += number(mean.unwrap_or(0)) * number(count);
    }
    Some((objects, bytes))
}

/// As a double; the sizes and counts of a workshop's databases fit exactly.
fn number(whole: i64) -> f64 {
    whole.to_string().parse().unwrap_or(0.0)
}

async fn validate(call: &Call<'_>) -> Answer {
    call.allow(Action::Administer)?;
    call.collection()?;
    let spec = call.spec()?;
    let row = call
        .server
        .backend
        .row(
            call.budget(),
            VALIDATE,
            &[&call.database, &BsonIn(spec.as_bytes())],
        )
        .await?;
    row.get::<_, BsonOut>(0).document()
}

/// Lists what this user may see, with sizes that the engine's own list leaves at 0.
async fn list_databases(call: &Call<'_>) -> Answer {
    if call.database != "admin" {
        let message = "listDatabases may only be run against the admin database.";
        return Err(CommandError::unauthorized(message));
    }
    let name_only = is_true(call.body(), "nameOnly");
    let spec = rawdoc! { "listDatabases": 1, "nameOnly": true };
    let row = call
        .server
        .backend
        .row(call.budget(), LIST_DATABASES, &[&BsonIn(spec.as_bytes())])
        .await?;
    let listed = row.get::<_, BsonOut>(0).document()?;
    let mut databases = Vec::new();
    for database in listed.get_array("databases")? {
        let RawBsonRef::Document(database) = database? else {
            continue;
        };
        let name = database.get_str("name")?;
        if !call.user.may(Action::Look, name) {
            continue;
        }
        let mut shown = doc! { "name": name };
        if !name_only {
            shown.insert("sizeOnDisk", size_of(call, name).await?);
            shown.insert("empty", false);
        }
        databases.push(shown);
    }
    if let Some(RawBsonRef::Document(filter)) = call.body().get("filter")? {
        databases = filtered(call, databases, &Document::try_from(filter)?).await?;
    }
    if name_only {
        let names = databases.iter().map(|one| one.get_str("name"));
        let names = names.flatten().map(|name| doc! { "name": name });
        return Ok(raw(
            &doc! { "databases": names.collect::<Vec<_>>(), "ok": 1.0 },
        ));
    }
    let sizes = databases.iter().map(|one| one.get_i64("sizeOnDisk"));
    let total: i64 = sizes.flatten().sum();
    Ok(raw(&doc! {
        "databases": databases, "totalSize": total, "totalSizeMb": total / (1024 * 1024), "ok": 1.0,
    }))
}

/// Which of these documents a filter finds.
async fn filtered(
    call: &Call<'_>,
    documents: Vec<Document>,
    filter: &Document,
) -> Result<Vec<Document>, CommandError> {
    let stages = [Bson::Document(doc! { "$match": filter.clone() })];
    let stages = call.reader().check_pipeline(&stages, Place::Inner)?;
    let mut pipeline = vec![Bson::Document(doc! { "$documents": documents })];
    pipeline.extend(stages);
    let spec = doc! { "aggregate": 1, "pipeline": pipeline, "cursor": { "batchSize": i32::MAX } };
    let page = Statement::AGGREGATE
        .answer(call, call.budget(), &raw(&spec))
        .await?;
    let batch = page.get_document("cursor")?.get_array("firstBatch")?;
    let found = batch.into_iter().filter_map(|one| one.ok()?.as_document());
    Ok(found.map(Document::try_from).collect::<Result<_, _>>()?)
}

/// A database's bytes on disk.
async fn size_of(call: &Call<'_>, database: &str) -> Result<i64, CommandError> {
    let row = call
        .server
        .backend
        .row(call.budget(), DB_STATS, &[&database, &1.0_f64])
        .await?;
    let statistics = row.get::<_, BsonOut>(0).document()?;
    let size = statistics.get("totalSize")?.and_then(super::integer);
    Ok(size.unwrap_or(0))
}

fn server_status(call: &Call<'_>) -> Answer {
    call.allow_root()?;
    let uptime = call.server.started.elapsed();
    Ok(raw(&doc! {
        "host": "arena", "version": "8.0.0", "process": "arena-mongo", "pid": i64::from(std::process::id()),
        "uptime": uptime.as_secs_f64(), "uptimeMillis": i64::try_from(uptime.as_millis()).unwrap_or(i64::MAX),
        "localTime": DateTime::now(), "ok": 1.0,
    }))
}

fn host_info(call: &Call<'_>) -> Answer {
    call.allow_root()?;
    let system = doc! { "currentTime": DateTime::now(), "cpuArch": std::env::consts::ARCH };
    Ok(raw(
        &doc! { "system": system, "os": { "type": "Linux" }, "extra": {}, "ok": 1.0 },
    ))
}

/// The parameters that clients ask for; nothing else is told.
fn parameter(call: &Call<'_>) -> Answer {
    let body = call.body();
    let all = body.get_str("getParameter").is_ok_and(|asked| asked == "*");
    let mut answer = doc! {};
    for (name, value) in [
        (
            "featureCompatibilityVersion",
            Bson::from(doc! { "version": "8.0" }),
        ),
        ("enableTestCommands", false.into()),
        ("requireApiVersion", false.into()),
    ] {
        if all || body.get(name)?.is_some() {
            answer.insert(name, value);
        }
    }
    if answer.is_empty() {
        return Err(CommandError::new(
            72,
            "InvalidOptions",
            "no option found to get",
        ));
    }
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

/// Shells show warnings of the start; there are none. The log itself is not for clients.
fn log(call: &Call<'_>) -> Answer {
    if !call
        .body()
        .get_str("getLog")
        .is_ok_and(|name| name == "startupWarnings")
    {
        call.allow_root()?;
    }
    Ok(raw(&doc! { "totalLinesWritten": 0, "log": [], "ok": 1.0 }))
}
