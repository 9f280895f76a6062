//! The servers that somebody else runs and on which this event has made databases:
//! noted before the first one, with how to log in, so that the event's end finds
//! them although the config may name others by then, or be gone.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use arena_database::{PostgresAdmin, Provisioner};
use arena_workshop::{DatabaseName, EventId, Workshop};
use serde::{Deserialize, Serialize};

use super::remote::{self, postgres_admin};
use super::secrets;
use crate::failure::Failure;

/// URIs by host and port: a server whose administrator has a new password stays one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Servers {
    mongodb: BTreeMap<String, String>,
    postgres: BTreeMap<String, String>,
}

impl Servers {
    /// Reads what was noted for the event with that state folder.
    ///
    /// # Errors
    /// When the note cannot be read.
    pub(crate) fn read(state: &Path) -> anyhow::Result<Self> {
        let path = path(state);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("cannot understand {}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Notes the servers that the workshop's config names.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub(crate) fn note(workshop: &Workshop, state: &Path) -> anyhow::Result<()> {
        let configured = &workshop.config.arena.database;
        let wanted = &workshop.config.scenario.database;
        let mongodb = configured.mongodb_uri().filter(|_| wanted.mongodb);
        let postgres = configured.postgres.as_ref();
        let postgres = postgres.filter(|_| wanted.has_postgres());
        if mongodb.is_none() && postgres.is_none() {
            return Ok(());
        }
        let mut servers = Self::read(state)?;
        for (uri, noted) in [
            (mongodb, &mut servers.mongodb),
            (postgres, &mut servers.postgres),
        ] {
            let uri = uri.map(|uri| uri.reveal().to_owned());
            noted.extend(uri.map(|uri| (host(&uri).to_owned(), uri)));
        }
        secrets::write(&path(state), &serde_json::to_string(&servers)?)
    }

    /// Removes what the event made on each of them, and says so.
    ///
    /// # Errors
    /// When one cannot be reached or refuses; those before it are done, and a further call begins there.
    pub(crate) async fn remove_event(&self, event: &EventId) -> Result<(), Failure> {
        for (host, uri) in &self.mongodb {
            let server = remote::find(uri).await?;
            remove(event, host, Some(&server.admin()), None).await?;
        }
        for (host, uri) in &self.postgres {
            remove(event, host, None, Some(&postgres_admin(uri)?)).await?;
        }
        Ok(())
    }
}

async fn remove(
    event: &EventId,
    host: &str,
    mongodb: Option<&arena_database::MongodbAdmin>,
    postgres: Option<&PostgresAdmin>,
) -> Result<(), Failure> {
    eprintln!("removing the databases of {event} on {host}");
    let provisioner = Provisioner::connect(&template(event)?, mongodb, postgres)
        .await
        .map_err(Failure::environment)?;
    let removed = provisioner.remove_event(|progress| {
        eprintln!(
            "  {} ({} of {})",
            progress.seat, progress.done, progress.all
        );
    });
    removed.await.map_err(Failure::environment)
}

/// Names the database that seats start from. No seat has an underscore in its name; on a server of several events
/// every event has its own.
///
/// # Errors
/// Never for an event that has run.
pub(crate) fn template(event: &EventId) -> anyhow::Result<DatabaseName> {
    DatabaseName::new(format!("{event}_template")).context("the template's name is valid")
}

fn path(state: &Path) -> PathBuf {
    state.join("secrets/servers.json")
}

/// Returns host and port of a URI, without who logs in.
fn host(uri: &str) -> &str {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}
