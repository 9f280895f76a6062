//! From an author's folder to a plan: what `check`, `plan` and `up` share.

use std::collections::BTreeSet;
use std::path::Path;

use arena_local::mongod::find_mongod;
use arena_workshop::config::MongodbChoice;
use arena_workshop::plan::{Content, Isolation, MongodbSource, PostgresSource};
use arena_workshop::{Capability, Plan, Problems, Target, Workshop};

use crate::cli::DEFAULT_PORT;
use crate::failure::{Failure, Kind};
use crate::folder::{self, Folder};
use crate::host::Host;

/// A workshop that was read without a mistake.
pub(crate) struct Inputs {
    /// Its folder.
    pub(crate) folder: Folder,
    /// Its values.
    pub(crate) workshop: Workshop,
    /// Notes and warnings.
    pub(crate) notes: Problems,
}

/// Reads the workshop.
///
/// # Errors
/// Exit code 2 with every mistake printed; 3 when the folder cannot be read.
pub(crate) fn read(path: &Path) -> Result<Inputs, Failure> {
    let folder = open(path)?;
    match Workshop::parse(&folder.sources) {
        Ok(parsed) => Ok(Inputs {
            folder,
            workshop: parsed.workshop,
            notes: parsed.notes,
        }),
        Err(problems) => {
            let failure = Failure::problems(&problems);
            Err(if folder.sources.config.is_none() {
                failure.hint(format!(
                    "looked in {}; another folder is named on the command line",
                    folder.path.display()
                ))
            } else {
                failure
            })
        }
    }
}

/// Reads the author's folder.
///
/// # Errors
/// Exit code 2 when it is not there, cannot be read, or is a file that cannot be a config.
pub(crate) fn open(path: &Path) -> Result<Folder, Failure> {
    let is_yaml = path
        .extension()
        .is_some_and(|ending| ending == "yaml" || ending == "yml");
    if path.is_file() && !is_yaml {
        return Err(Failure::configuration(format_args!(
            "{} is not a config.yaml",
            path.display()
        ))
        .hint("name the folder that holds config.yaml, or that file itself"));
    }
    folder::read(path).map_err(|error| {
        Failure::new(Kind::Configuration, error)
            .hint("name a folder that holds config.yaml and that you may read")
    })
}

impl Inputs {
    /// Returns the plan for this machine.
    pub(crate) fn plan(&self, port: u16, isolation: Isolation) -> Plan {
        self.plan_seen(port, isolation, None)
    }

    /// Returns the plan for this machine, where a configured MongoDB was seen to be capable of `seen`.
    pub(crate) fn plan_seen(
        &self,
        port: u16,
        isolation: Isolation,
        seen: Option<BTreeSet<Capability>>,
    ) -> Plan {
        let configured = &self.workshop.config.arena.database;
        let target = Target {
            port,
            content: self.content(),
            mongodb: match configured.mongodb {
                None => self.found_mongodb(),
                Some(MongodbChoice::BuiltIn) => MongodbSource::BuiltIn,
                Some(MongodbChoice::Mongod) => MongodbSource::Mongod,
                Some(MongodbChoice::AtlasLocal) => MongodbSource::AtlasLocal,
                Some(MongodbChoice::Uri(_)) => MongodbSource::Uri,
            },
            mongodb_seen: seen,
            postgres: if configured.postgres.is_some() {
                PostgresSource::Uri
            } else {
                PostgresSource::BuiltIn
            },
            isolation,
        };
        arena_workshop::plan(&self.workshop, &target)
    }

    /// What an event uses that names no MongoDB: a `mongod` of this machine where there is one, but
    /// never another than before, whose data it would leave behind.
    fn found_mongodb(&self) -> MongodbSource {
        let Ok(host) = Host::here() else {
            return MongodbSource::BuiltIn;
        };
        let state = host.event(&self.workshop.event).state;
        let has_mongod = find_mongod(host.cache(), std::env::var_os("PATH")).is_ok();
        if has_mongod && !state.join("engine/data").exists() {
            MongodbSource::Mongod
        } else {
            MongodbSource::BuiltIn
        }
    }

    /// The port that was asked for: on the command line, in the config, else the default.
    pub(crate) fn port(&self, asked: Option<u16>) -> u16 {
        asked
            .or(self.workshop.config.arena.port)
            .unwrap_or(DEFAULT_PORT)
    }

    /// The folder's own files, unless it holds only the facilitator's config and names a repository.
    fn content(&self) -> Content {
        let scenario = &self.workshop.config.scenario;
        let has_files = ["docs/", "arena/"].iter().any(|part| {
            self.folder
                .sources
                .files
                .iter()
                .any(|file| file.starts_with(part))
        });
        match &scenario.repository {
            Some(url) if !has_files => Content::Repository {
                url: url.to_string(),
                branch: scenario.branch.clone(),
            },
            _ => Content::Folder(self.folder.path.display().to_string()),
        }
    }
}
