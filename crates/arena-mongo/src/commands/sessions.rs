//! Commands about sessions. Drivers send them by themselves; a session begins to
//! exist when a command first names it.

use std::sync::{Mutex, PoisonError};

use bson::{
    Binary, Document, RawBsonRef, RawDocumentBuf, Timestamp, doc, rawdoc, spec::BinarySubtype,
};

use super::transactions::{end_sessions, session_id};
use super::{Answer, Call, raw};
use crate::error::CommandError;
use crate::pipeline::cluster_time;
use crate::scram::random;

/// The length that a document begins with.
const LENGTH_BYTES: usize = 4;
const SESSION_MINUTES: i32 = 30;
/// More ids in one command are nobody's.
const IDS_MAX: usize = 10_000;

pub(super) async fn run(call: &Call<'_>) -> Answer {
    match call.name {
        "startSession" => return Ok(start()),
        "endSessions" | "killSessions" => {
            let ids = ids(call)?;
            // `killSessions: []` means all of one's own.
            let all_own = ids.is_empty() && call.name == "killSessions";
            let ids = (!all_own).then_some(ids.as_slice());
            if call.name == "killSessions" {
                let operations = &call.server.operations;
                operations.end_sessions(Some(call.user_name), ids, call.connection);
            }
            end_sessions(call.server, Some(call.user_name), ids).await;
        }
        "refreshSessions" => drop(ids(call)?),
        "killAllSessions" => kill_all(call).await?,
        "killAllSessionsByPattern" => {
            call.allow_root()?;
            return Err(CommandError::not_supported("killAllSessionsByPattern"));
        }
        other => return Err(CommandError::command_not_found(other)),
    }
    Ok(raw(&doc! { "ok": 1.0 }))
}

/// Adds the time by which a session reads its own writes. There is one node, so every read does; drivers
/// count on being told by every answer, the first one too.
pub(super) fn with_time(answer: RawDocumentBuf) -> RawDocumentBuf {
    /// The fields as they are written for a while: time is told in seconds.
    static WRITTEN: Mutex<(Option<Timestamp>, Vec<u8>)> = Mutex::new((None, Vec::new()));
    let time = cluster_time();
    let mut bytes = answer.into_bytes();
    {
        let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        if written.0 != Some(time) {
            let fields = rawdoc! { "$clusterTime": signed(time), "operationTime": time };
            *written = (Some(time), fields.into_bytes());
        }
        let fields = &written.1[LENGTH_BYTES..];
        bytes.pop();
        bytes.extend_from_slice(fields);
    }
    let length = i32::try_from(bytes.len()).expect("an answer is limited to far less than 2 GiB");
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    RawDocumentBuf::from_bytes(bytes).expect("it is a document with two more fields")
}

/// The same of an error.
pub(super) fn at_time(error: CommandError) -> CommandError {
    let time = cluster_time();
    match Document::try_from(signed(time)) {
        Ok(cluster) => error
            .with("$clusterTime", cluster)
            .with("operationTime", time),
        Err(_) => error,
    }
}

fn signed(time: Timestamp) -> RawDocumentBuf {
    let hash = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![0; 20],
    };
    rawdoc! { "clusterTime": time, "signature": { "hash": hash, "keyId": 0_i64 } }
}

fn start() -> RawDocumentBuf {
    let mut bytes = random::<16>();
    // The marks of a random UUID.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let id = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: bytes.to_vec(),
    };
    raw(&doc! { "id": { "id": id }, "timeoutMinutes": SESSION_MINUTES, "ok": 1.0 })
}

fn ids(call: &Call<'_>) -> Result<Vec<[u8; 16]>, CommandError> {
    let listed = call.body().get_array(call.name).map_err(|_| {
        CommandError::type_mismatch(format!(
            "BSON field '{0}.{0}' is the wrong type, expected type 'array'",
            call.name
        ))
    })?;
    let ids: Result<Vec<_>, _> = listed
        .into_iter()
        .take(IDS_MAX + 1)
        .map(|id| session_id(id?))
        .collect();
    ids.and_then(|ids| {
        if ids.len() > IDS_MAX {
            let message = format!("Too many ids in BatchedCommandRequest, maximum is {IDS_MAX}");
            return Err(CommandError::bad_value(message));
        }
        Ok(ids)
    })
}

/// Ends everybody's sessions, or those of the users that are named.
async fn kill_all(call: &Call<'_>) -> Result<(), CommandError> {
    call.allow_root()?;
    let mut users = Vec::new();
    for user in call.body().get_array(call.name)? {
        match user? {
            RawBsonRef::Document(user) => users.push(user.get_str("user")?),
            _ => {
                return Err(CommandError::type_mismatch(
                    "killAllSessions names users by objects",
                ));
            }
        }
    }
    let operations = &call.server.operations;
    if users.is_empty() {
        operations.end_sessions(None, None, call.connection);
        end_sessions(call.server, None, None).await;
    }
    for user in users {
        operations.end_sessions(Some(user), None, call.connection);
        end_sessions(call.server, Some(user), None).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_added_as_fields() {
        for answer in [doc! {}, doc! { "a": [1, 2], "ok": 1.0 }] {
            let timed = Document::try_from(with_time(raw(&answer))).expect("a document");
            let mut fields = timed.clone();
            let cluster = fields.remove("$clusterTime").expect("a field");
            let time = fields.remove("operationTime").expect("a field");
            assert_eq!(fields, answer);
            let cluster = cluster.as_document().expect("a document");
            assert_eq!(cluster.get("clusterTime"), Some(&time));
            let added: Vec<_> = timed.keys().skip(answer.len()).collect();
            assert_eq!(added, ["$clusterTime", "operationTime"]);
        }
    }
}
