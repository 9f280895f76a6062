//! `killOp`, and the aggregation stages `$currentOp` and `$listLocalSessions`: everybody sees
//! and ends what is their own, an administrator everything.

use std::time::Duration;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, RawBsonRef, RawDocument, doc};
use sha2::{Digest, Sha256};

use super::{Answer, Call, integer, raw};
use crate::error::CommandError;
use crate::operations::Operation;
use crate::sessions::SessionId;

/// Options of `$currentOp` that have a meaning here, or none anywhere but on a cluster.
const OPTIONS: [&str; 7] = [
    "allUsers",
    "idleConnections",
    "idleCursors",
    "idleSessions",
    "localOps",
    "backtrace",
    "targetAllNodes",
];

pub(super) fn kill(call: &Call<'_>) -> Answer {
    check_database(call, "killOp may only be run against the admin database.")?;
    let number = call.body().get("op")?.and_then(integer);
    let number = number
        .and_then(|number| i32::try_from(number).ok())
        .ok_or_else(|| {
            CommandError::type_mismatch("BSON field 'killOp.op' is the wrong type, expected 'int'")
        })?;
    let owner = (!call.user.is_root()).then_some(call.user_name);
    let was_there = call.server.operations.end(number, owner);
    if !was_there && owner.is_some() {
        // Which operations others have is nobody's business.
        return Err(call.refused("admin"));
    }
    Ok(raw(&doc! { "info": "attempting to kill op", "ok": 1.0 }))
}

/// Returns the documents that a leading `$currentOp` or `$listLocalSessions` stands for; nothing when the pipeline
/// does not begin so.
pub(super) fn listed(call: &Call<'_>) -> Result<Option<Vec<Bson>>, CommandError> {
    if let Some(options) = options(call.body(), "$listLocalSessions") {
        return sessions(call, options).map(Some);
    }
    let Some(options) = options(call.body(), "$currentOp") else {
        return Ok(None);
    };
    let whole_server = is_of_whole_server(call)?;
    if call.database != "admin" || !whole_server {
        let message = "$currentOp must be run against the 'admin' database with {aggregate: 1}";
        return Err(CommandError::new(73, "InvalidNamespace", message));
    }
    for option in options {
        let (name, _) = option?;
        if !OPTIONS.contains(&name.as_str()) {
            let message = format!("Unrecognized option '{name}' in $currentOp stage.");
            return Err(CommandError::failed_to_parse(message));
        }
    }
    let of_all = super::is_true(options, "allUsers");
    if of_all && !call.user.is_root() {
        return Err(call.refused("admin"));
    }
    let owner = (!of_all).then_some(call.user_name);
    let running = call.server.operations.list(owner);
    Ok(Some(running.iter().map(described).collect()))
}

fn is_of_whole_server(call: &Call<'_>) -> Result<bool, CommandError> {
    Ok(call.body().get("aggregate")?.and_then(integer) == Some(1))
}

/// The user's own sessions that the front remembers; all of them for an administrator who asks.
fn sessions(call: &Call<'_>, options: &RawDocument) -> Result<Vec<Bson>, CommandError> {
    if !is_of_whole_server(call)? {
        let message = "$listLocalSessions must be run against a database with {aggregate: 1}, not a collection";
        return Err(CommandError::new(73, "InvalidNamespace", message));
    }
    for option in options {
        match option?.0.as_str() {
            "allUsers" => {}
            "users" => {
                return Err(CommandError::not_supported(
                    "the option 'users' of $listLocalSessions",
                ));
            }
            other => {
                let message =
                    format!("BSON field '$listLocalSessions.{other}' is an unknown field.");
                return Err(CommandError::new(40415, "IDLUnknownField", message));
            }
        }
    }
    let of_all = super::is_true(options, "allUsers");
    if of_all && !call.user.is_root() {
        return Err(call.refused("admin"));
    }
    let owner = (!of_all).then_some(call.user_name);
    let known = call.server.sessions.list(owner);
    Ok(known.iter().map(|(id, age)| of_session(id, *age)).collect())
}

fn of_session(id: &SessionId, age: Duration) -> Bson {
    let binary = |subtype, bytes: &[u8]| Binary {
        subtype,
        bytes: bytes.to_vec(),
    };
    let user = format!("{}@admin", id.user);
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    let last_use = DateTime::now().timestamp_millis().saturating_sub(age);
    Bson::Document(doc! {
        "_id": {
            "id": binary(BinarySubtype::Uuid, &id.id),
            "uid": binary(BinarySubtype::Generic, &Sha256::digest(&user)),
        },
        "lastUse": DateTime::from_millis(last_use),
    })
}

fn options<'a>(body: &'a RawDocument, stage: &str) -> Option<&'a RawDocument> {
    let first = body.get_array("pipeline").ok()?.into_iter().next()?.ok()?;
    match first.as_document()?.get(stage).ok()?? {
        RawBsonRef::Document(options) => Some(options),
        _ => None,
    }
}

fn described((number, operation): &(i32, Operation)) -> Bson {
    let time = operation.since.elapsed();
    let microseconds = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    let mut command = Document::new();
    let (_, collection) = operation.namespace.split_once('.').unwrap_or_default();
    command.insert(operation.command.clone(), collection);
    let mut described = doc! {
        "type": "op",
        "opid": *number,
        "active": true,
        "op": "command",
        "ns": &operation.namespace,
        "command": command,
        "connectionId": operation.connection,
        "effectiveUsers": [{ "user": &*operation.user, "db": "admin" }],
        "secs_running": i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        "microsecs_running": microseconds,
        "killPending": operation.interruption.is_cancelled(),
    };
    let application = operation.application.as_deref();
    described.extend(application.map(|name| ("appName".to_owned(), Bson::from(name))));
    Bson::Document(described)
}

fn check_database(call: &Call<'_>, message: &str) -> Result<(), CommandError> {
    if call.database == "admin" {
        Ok(())
    } else {
        Err(CommandError::unauthorized(message))
    }
}
