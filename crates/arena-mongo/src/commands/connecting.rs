//! What a client may ask before it has logged in, and the login itself.

use std::sync::Arc;
use std::time::Duration;

use bson::{Binary, Bson, DateTime, Document, RawDocument, doc, spec::BinarySubtype};
use tokio::time::sleep;

use super::{Answer, Kind, is_true, raw, stable};
use crate::compression::Compressor;
use crate::connection::Session;
use crate::error::CommandError;
use crate::guard::Slot;
use crate::scram::{ClientFirst, Conversation, ScramVerifier};
use crate::server::Server;
use crate::users::User;
use crate::wire::{DOCUMENT_BYTES_MAX, MESSAGE_BYTES_MAX};

/// What the front answers like; drivers decide by the wire version, people by this.
const VERSION: [i32; 4] = [8, 0, 0, 0];
const WIRE_VERSION: i32 = 25;
const WRITE_BATCH_MAX: i32 = 25_000;
const SESSION_MINUTES: i32 = 30;
/// MongoDB's limit for `client.application.name` of a `hello`.
const APPLICATION_NAME_BYTES_MAX: usize = 128;
const MECHANISM: &str = "SCRAM-SHA-256";

/// After so many wrong passwords a connection is closed.
pub(crate) const FAILED_LOGINS_MAX: u32 = 3;
/// Wrong passwords are answered late, so that guessing is slow.
const FAILED_LOGIN_DELAY: Duration = Duration::from_millis(300);

pub(super) async fn run(
    server: &Server,
    session: &mut Session,
    name: &str,
    body: &RawDocument,
) -> Answer {
    match name {
        "hello" => hello(server, session, body, "isWritablePrimary"),
        "isMaster" | "ismaster" => hello(server, session, body, "ismaster"),
        "ping" => Ok(raw(&doc! { "ok": 1.0 })),
        "buildInfo" | "buildinfo" => Ok(raw(&build_info())),
        "saslStart" => {
            slow_when_refused(session, |session| sasl_start(server, session, body)).await
        }
        "saslContinue" => {
            slow_when_refused(session, |session| sasl_continue(server, session, body)).await
        }
        "logout" => {
            (session.user, session.slot) = (None, None);
            Ok(raw(&doc! { "ok": 1.0 }))
        }
        "connectionStatus" => Ok(raw(&connection_status(server, session, body))),
        "listCommands" => Ok(raw(&listed())),
        "whatsmyuri" => Ok(raw(&doc! { "you": "127.0.0.1:0", "ok": 1.0 })),
        other => Err(CommandError::command_not_found(other)),
    }
}

async fn slow_when_refused(
    session: &mut Session,
    step: impl FnOnce(&mut Session) -> Answer,
) -> Answer {
    let answer = step(session);
    if answer.is_err() {
        session.failed_logins += 1;
        session.conversation = None;
        sleep(FAILED_LOGIN_DELAY).await;
    }
    answer
}

/// Every command there is, as MongoDB lists them.
fn listed() -> Document {
    let mut commands = Document::new();
    for (name, kind) in super::known::KNOWN {
        let versions: &[&str] = if stable::is_in_version_1(name) {
            &["1"]
        } else {
            &[]
        };
        let reads = matches!(kind, Kind::Connecting | Kind::Reading | Kind::Statistics);
        let none: [&str; 0] = [];
        commands.insert(
            name,
            doc! {
                "help": "", "requiresAuth": kind != Kind::Connecting, "secondaryOk": reads,
                "adminOnly": matches!(name, "renameCollection" | "bulkWrite"),
                "apiVersions": versions.to_vec(), "deprecatedApiVersions": none.to_vec(),
            },
        );
    }
    doc! { "commands": commands, "ok": 1.0 }
}

fn hello(server: &Server, session: &mut Session, body: &RawDocument, primary: &str) -> Answer {
    let mut answer = doc! {
        "helloOk": true,
        primary: true,
        // Drivers then use sessions and retry writes without asking for a replica set's members.
        "msg": "isdbgrid",
        "maxBsonObjectSize": i32::try_from(DOCUMENT_BYTES_MAX).unwrap_or(i32::MAX),
        "maxMessageSizeBytes": i32::try_from(MESSAGE_BYTES_MAX).unwrap_or(i32::MAX),
        "maxWriteBatchSize": WRITE_BATCH_MAX,
        "localTime": DateTime::now(),
        "logicalSessionTimeoutMinutes": SESSION_MINUTES,
        "connectionId": session.id,
        "minWireVersion": 0,
        "maxWireVersion": WIRE_VERSION,
        "readOnly": false,
    };
    if let Some(name) = application(body) {
        session.application = Some(Arc::from(name));
    }
    // The same for every name: which users exist is nobody's business.
    if body.get_str("saslSupportedMechs").is_ok() {
        answer.insert("saslSupportedMechs", [MECHANISM].as_slice());
    }
    let offered = body
        .get_array("compression")
        .into_iter()
        .flatten()
        .flatten();
    let common: Vec<&str> = offered
        .filter_map(|name| Compressor::named(name.as_str()?))
        .map(Compressor::name)
        .collect();
    if !common.is_empty() {
        answer.insert("compression", common);
    }
    if let Ok(start) = body.get_document("speculativeAuthenticate")
        && let Ok(reply) = sasl_start(server, session, start)
    {
        answer.insert("speculativeAuthenticate", Document::try_from(reply)?);
    }
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

/// What a driver says its program is; a longer name than MongoDB takes is none.
fn application(hello: &RawDocument) -> Option<&str> {
    let client = hello.get_document("client").ok()?;
    let name = client
        .get_document("application")
        .ok()?
        .get_str("name")
        .ok()?;
    (name.len() <= APPLICATION_NAME_BYTES_MAX).then_some(name)
}

fn build_info() -> Document {
    let version = format!("{}.{}.{}", VERSION[0], VERSION[1], VERSION[2]);
    doc! {
        "version": version,
        "gitVersion": "DocumentDB behind Arena",
        "versionArray": VERSION.to_vec(),
        "modules": [],
        "bits": 64,
        "debug": false,
        "maxBsonObjectSize": i32::try_from(DOCUMENT_BYTES_MAX).unwrap_or(i32::MAX),
        "ok": 1.0,
    }
}

/// Begins a conversation. Unknown names, and on a seat's own socket all others, get one that cannot end well.
fn sasl_start(server: &Server, session: &mut Session, body: &RawDocument) -> Answer {
    if !body
        .get_str("mechanism")
        .is_ok_and(|name| name == MECHANISM)
    {
        let message = "Unsupported mechanism; the built-in database offers SCRAM-SHA-256";
        return Err(CommandError::new(334, "MechanismUnavailable", message));
    }
    let first =
        ClientFirst::parse(payload(body)?).map_err(|_| CommandError::authentication_failed())?;
    let is_allowed = session
        .allowed_user
        .as_deref()
        .is_none_or(|allowed| allowed == first.user);
    let user = server.users().get(&first.user).filter(|_| is_allowed);
    let verifier = match user {
        Some(user) => user.verifier.clone(),
        None => ScramVerifier::of_nobody(&server.secret, &first.user),
    };
    let skips_empty_exchange = body
        .get_document("options")
        .is_ok_and(|options| is_true(options, "skipEmptyExchange"));
    let (conversation, answer) = Conversation::start(first, verifier);
    session.conversation = Some((conversation, skips_empty_exchange));
    Ok(raw(&sasl_reply(&answer, false)))
}

fn sasl_continue(server: &Server, session: &mut Session, body: &RawDocument) -> Answer {
    let Some((conversation, skips_empty_exchange)) = session.conversation.take() else {
        // The empty message that ends a conversation for clients that did not ask to skip it.
        if session.user.is_some() && payload(body)?.is_empty() {
            return Ok(raw(&sasl_reply("", true)));
        }
        return Err(CommandError::authentication_failed());
    };
    let name: Arc<str> = conversation.user.as_str().into();
    let proof = conversation
        .finish(payload(body)?)
        .map_err(|_| CommandError::authentication_failed())?;
    let limit = server.settings.guard.quota(&name).connections;
    let slot = Slot::take(server.place_of(&name), limit).ok_or_else(|| {
        let message = format!("user {name} has {limit} connections already, close some");
        CommandError::new(8000, "AtlasError", message)
    })?;
    (session.user, session.slot) = (Some(name), Some(slot));
    Ok(raw(&sasl_reply(&proof, skips_empty_exchange)))
}

fn payload(body: &RawDocument) -> Result<&[u8], CommandError> {
    if let Ok(text) = body.get_str("payload") {
        return Ok(text.as_bytes());
    }
    let binary = body
        .get_binary("payload")
        .map_err(|_| CommandError::authentication_failed())?;
    Ok(binary.bytes)
}

fn sasl_reply(payload: &str, done: bool) -> Document {
    let payload = Binary {
        subtype: BinarySubtype::Generic,
        bytes: payload.as_bytes().to_vec(),
    };
    doc! { "conversationId": 1, "done": done, "payload": payload, "ok": 1.0 }
}

fn connection_status(server: &Server, session: &Session, body: &RawDocument) -> Document {
    let user = session
        .user
        .as_deref()
        .and_then(|name| Some((name, server.users().get(name)?)));
    let (users, roles) = match &user {
        Some((name, user)) => (
            vec![Bson::from(doc! { "user": *name, "db": "admin" })],
            roles_of(user),
        ),
        None => (Vec::new(), Vec::new()),
    };
    let mut info = doc! { "authenticatedUsers": users, "authenticatedUserRoles": roles };
    if is_true(body, "showPrivileges") {
        info.insert("authenticatedUserPrivileges", Vec::<Bson>::new());
    }
    doc! { "authInfo": info, "ok": 1.0 }
}

/// Returns a user's roles as commands show them.
pub(super) fn roles_of(user: &User) -> Vec<Bson> {
    let roles = user.roles.iter();
    roles
        .map(|role| Bson::from(doc! { "role": role.name().as_str(), "db": role.database() }))
        .collect()
}
