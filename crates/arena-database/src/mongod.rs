//! What a fresh `mongod` of our own needs before it is an event's MongoDB: its first user, made
//! while only we can reach it, and a replica set of one. Both may be done twice.
//!
//! Experimental: written by MongoDB's manual, with no real `mongod` at hand to try it.

use std::path::Path;
use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::ClientOptions;
use tokio::time::{Instant, sleep};

use crate::ProvisionError;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// An election among one takes a second or two.
const ELECTION_TIME_MAX: Duration = Duration::from_secs(60);
const ELECTION_LOOK: Duration = Duration::from_millis(200);
/// `replSetGetStatus` before `replSetInitiate`.
const NOT_YET_INITIALIZED: i32 = 94;
const ALREADY_INITIALIZED: i32 = 23;

/// Makes the first user, `root` of `admin`, through the exception for local connections.
///
/// # Errors
/// When the server does not take it, and does not take this user's password either.
pub async fn make_administrator(
    socket: &Path,
    user: &str,
    password: &str,
) -> Result<(), ProvisionError> {
    let host = socket
        .display()
        .to_string()
        .replace('%', "%25")
        .replace('/', "%2F");
    let stranger = client(&format!("mongodb://{host}/?directConnection=true")).await?;
    let role = doc! { "role": "root", "db": "admin" };
    let command = doc! { "createUser": user, "pwd": password, "roles": [role] };
    let Err(refused) = stranger.database("admin").run_command(command).await else {
        return Ok(());
    };
    // An interrupted start may have made it: then it can log in, and nobody else is let in.
    let own = format!("mongodb://{user}:{password}@{host}/?directConnection=true&authSource=admin");
    let ping = client(&own)
        .await?
        .database("admin")
        .run_command(doc! { "ping": 1 })
        .await;
    ping.map(|_| ())
        .map_err(|_| failed("make its administrator")(refused))
}

/// Makes a replica set of the one server behind `uri` (a direct connection as administrator), which
/// calls itself `host`, and waits until it takes writes.
///
/// # Errors
/// When the server refuses, or does not take writes within a minute.
pub async fn initiate(uri: &str, set: &str, host: &str) -> Result<(), ProvisionError> {
    let admin = client(uri).await?.database("admin");
    let status = admin.run_command(doc! { "replSetGetStatus": 1 }).await;
    match status {
        Ok(_) => {}
        Err(error) if code(&error) == Some(NOT_YET_INITIALIZED) => {
            let member = doc! { "_id": 0, "host": host };
            let config = doc! { "_id": set, "members": [member] };
            let begun = admin.run_command(doc! { "replSetInitiate": config }).await;
            begun.map(|_| ()).or_else(|error| match code(&error) {
                Some(ALREADY_INITIALIZED) => Ok(()),
                _ => Err(failed("make its replica set")(error)),
            })?;
        }
        Err(error) => return Err(failed("ask for its replica set")(error)),
    }
    let begun = Instant::now();
    while !takes_writes(&admin.run_command(doc! { "hello": 1 }).await) {
        if begun.elapsed() > ELECTION_TIME_MAX {
            return Err(ProvisionError::Timeout {
                what: "elect the replica set's primary".to_owned(),
                seconds: ELECTION_TIME_MAX.as_secs(),
            });
        }
        sleep(ELECTION_LOOK).await;
    }
    Ok(())
}

fn takes_writes(hello: &Result<Document, Error>) -> bool {
    hello
        .as_ref()
        .is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false))
}

async fn client(uri: &str) -> Result<Client, ProvisionError> {
    let mut options = ClientOptions::parse(uri)
        .await
        .map_err(failed("understand the address"))?;
    options.server_selection_timeout = Some(CONNECT_TIME_MAX);
    options.connect_timeout = Some(CONNECT_TIME_MAX);
    Client::with_options(options).map_err(failed("connect"))
}

fn failed(what: &'static str) -> impl Fn(Error) -> ProvisionError {
    move |source| ProvisionError::Mongodb {
        what: what.to_owned(),
        source: Box::new(source),
    }
}

fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        _ => None,
    }
}
