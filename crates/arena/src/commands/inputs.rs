//! From an author's folder to a plan: what `check`, `plan` and `up` share.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;

use anyhow::Context;
use arena_local::mongod::find_mongod;
use arena_local::repository::{Fetched, Repository};
use arena_workshop::config::{self, MongodbChoice};
use arena_workshop::plan::{Content, Isolation, MongodbSource, PORTS, PostgresSource};
use arena_workshop::{Capability, Plan, Problems, Target, Workshop};

use crate::cli::DEFAULT_PORT;
use crate::content::short;
use crate::failure::{Failure, Kind};
use crate::folder::{self, Folder};
use crate::host::Host;

/// Where a range of ports is looked for, for a seat that has no loopback of its own.
const FIRST_PORT: u16 = 21_000;

/// A workshop that was read without a mistake.
pub(crate) struct Inputs {
    /// Its folder.
    pub(crate) folder: Folder,
    /// Its values.
    pub(crate) workshop: Workshop,
    /// Notes and warnings.
    pub(crate) notes: Problems,
    /// The repository that holds the content, where the folder itself holds none.
    pub(crate) repository: Option<Repository>,
    /// The version of it that was fetched; until then pages, exercises and apps are not known.
    pub(crate) version: Option<String>,
}

/// Reads the workshop's folder. What lies in a repository is not fetched: see
/// [`Inputs::with_content`].
///
/// # Errors
/// Exit code 2 with every mistake printed; 3 when the folder cannot be read.
pub(crate) fn read(path: &Path) -> Result<Inputs, Failure> {
    let folder = open(path)?;
    match parse(folder.clone()) {
        Ok(inputs) => Ok(inputs),
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

/// Parses a folder's texts.
///
/// # Errors
/// Every mistake.
pub(crate) fn parse(mut folder: Folder) -> Result<Inputs, Problems> {
    let repository = repository(&folder);
    folder.sources.awaits_content = repository.is_some();
    let parsed = Workshop::parse(&folder.sources)?;
    Ok(Inputs {
        folder,
        workshop: parsed.workshop,
        notes: parsed.notes,
        repository,
        version: None,
    })
}

/// The folder's own files are the content, unless it holds only the facilitator's config and that
/// names a repository.
fn repository(folder: &Folder) -> Option<Repository> {
    let has_content = ["docs/", "arena/"].iter().any(|part| {
        let mut files = folder.sources.files.iter();
        files.any(|file| file.starts_with(part))
    });
    let file = folder.sources.config.as_ref().filter(|_| !has_content)?;
    // Mistakes are reported when the whole is parsed.
    let scenario = config::parse(file, &mut Problems::default())?
        .config
        .scenario;
    Some(Repository {
        url: scenario.repository?,
        branch: scenario.branch,
    })
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

/// Returns the first of a range of ports on loopback that nobody listens on, the same one as long as
/// nobody does.
fn free_ports() -> u16 {
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut firsts = (FIRST_PORT..u16::MAX - PORTS).step_by(usize::from(PORTS));
    firsts
        .find(|first| (*first..first + PORTS).all(is_free))
        .unwrap_or(FIRST_PORT)
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
        arena_workshop::plan(&self.workshop, &self.target(port, isolation, seen))
    }

    /// Returns this machine as plans know it, where a configured MongoDB was seen to be capable of `seen`.
    pub(crate) fn target(
        &self,
        port: u16,
        isolation: Isolation,
        seen: Option<BTreeSet<Capability>>,
    ) -> Target {
        let configured = &self.workshop.config.arena.database;
        Target {
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
            first_port: if isolation == Isolation::None {
                free_ports()
            } else {
                FIRST_PORT
            },
        }
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

    fn content(&self) -> Content {
        match &self.repository {
            Some(repository) => Content::Repository {
                url: repository.address(),
                branch: repository.branch.clone(),
                version: self.version.clone(),
            },
            None => Content::Folder(self.folder.path.display().to_string()),
        }
    }

    /// Returns whether pages, exercises and apps are not known yet.
    pub(crate) fn awaits_content(&self) -> bool {
        self.repository.is_some() && self.version.is_none()
    }

    /// Returns the same event with the content that was fetched.
    ///
    /// # Errors
    /// Every mistake; or a file that cannot be read.
    pub(crate) fn with_content(self, fetched: &Fetched) -> Result<Result<Self, Problems>, Failure> {
        let address = self.repository.as_ref().map(Repository::address);
        let address = address.context("only a repository is fetched")?;
        let name = address.trim_end_matches('/').rsplit('/').next();
        let name = format!(
            "{}@{}",
            name.unwrap_or("repository").trim_end_matches(".git"),
            short(&fetched.version)
        );
        let folder = folder::with_fetched(&self.folder, &fetched.folder, &name)
            .map_err(Failure::environment)?;
        let parsed = match Workshop::parse(&folder.sources) {
            Ok(parsed) => parsed,
            Err(problems) => return Ok(Err(problems)),
        };
        Ok(Ok(Self {
            folder,
            workshop: parsed.workshop,
            notes: parsed.notes,
            version: Some(fetched.version.clone()),
            ..self
        }))
    }
}
