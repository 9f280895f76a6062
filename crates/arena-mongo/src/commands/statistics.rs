//! Commands about databases, collections and the server, and the clear
//! refusals of what MongoDB can and the built-in database cannot.

use bson::{Bson, DateTime, RawBsonRef, RawDocument, doc, rawdoc};

use super::{Answer, Call, is_true, raw, reading, with_ok};
use crate::backend::{BsonIn, BsonOut};
use crate::error::CommandError;
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
    match body.get("scale")? {
        None => Ok(1.0),
        Some(RawBsonRef::Int32(scale)) if scale > 0 => Ok(scale.into()),
        Some(RawBsonRef::Double(scale)) if scale >= 1.0 => Ok(scale),
        _ => Err(CommandError::bad_value("scale must be a positive number")),
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
    let mut answer = bson::Document::try_from(&*row.get::<_, BsonOut>(0).document()?)?;
    let count = reading::count_of(call, collection).await?;
    answer.insert(
        "count",
        i32::try_from(count).map_or(Bson::Int64(count), Bson::Int32),
    );
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
    let mut answer = bson::Document::try_from(&*row.get::<_, BsonOut>(0).document()?)?;
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
    let mut spec = rawdoc! { "listDatabases": 1, "nameOnly": true };
    if let Some(filter @ RawBsonRef::Document(_)) = call.body().get("filter")? {
        spec.append(bson::cstr!("filter"), filter);
    }
    let row = call
        .server
        .backend
        .row(call.budget(), LIST_DATABASES, &[&BsonIn(spec.as_bytes())])
        .await?;
    let listed = row.get::<_, BsonOut>(0).document()?;
    let name_only = is_true(call.body(), "nameOnly");
    let (mut databases, mut total) = (Vec::new(), 0.0);
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
            let size = size_of(call, name).await?;
            total += size;
            shown.extend(doc! { "sizeOnDisk": size, "empty": false });
        }
        databases.push(Bson::Document(shown));
    }
    let mut answer = doc! { "databases": databases };
    if !name_only {
        answer.extend(doc! { "totalSize": total, "totalSizeMb": (total / 1_048_576.0).floor() });
    }
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

async fn size_of(call: &Call<'_>, database: &str) -> Result<f64, CommandError> {
    let row = call
        .server
        .backend
        .row(call.budget(), DB_STATS, &[&database, &1.0_f64])
        .await?;
    let statistics = row.get::<_, BsonOut>(0).document()?;
    Ok(statistics.get_f64("totalSize").unwrap_or(0.0))
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
