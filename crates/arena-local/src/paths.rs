//! Where Arena keeps what is its own: state that survives, tools of this user, sockets with short
//! paths. Nothing else in the crate looks at the environment, and this module only through the
//! function that it is given.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use arena_workshop::EventId;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::seat::make_folder;

/// The folders of the user that Arena runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What survives; one folder per event.
    pub state: PathBuf,
    /// Tools, shared by all events.
    pub cache: PathBuf,
    /// Sockets; one folder per event.
    pub runtime: PathBuf,
}

/// The folders of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPaths {
    /// What survives of it.
    pub state: PathBuf,
    /// Its sockets: a short path, because a socket's may have 107 bytes.
    pub runtime: PathBuf,
}

/// A folder cannot be had.
#[derive(Debug, Error)]
pub enum PathsError {
    /// Neither the XDG variables nor `HOME` say where.
    #[error("no folder for {0}: HOME is not set")]
    NoHome(&'static str),
    /// The disk refuses.
    #[error("cannot make {path}")]
    Files {
        /// What.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else made it first.
    #[error("{0} belongs to somebody else")]
    Foreign(String),
}

impl Paths {
    /// Returns the folders for an environment: `$XDG_STATE_HOME/arena`, `$XDG_CACHE_HOME/arena`,
    /// `$XDG_RUNTIME_DIR/arena`, with the usual fallbacks. Makes nothing.
    ///
    /// # Errors
    /// When nothing says where this user's files are.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Paths, PathsError> {
        let absolute = |name: &str| {
            variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let below = |name: &str, fallback: &str, what| {
            let home = || absolute("HOME").map(|home| home.join(fallback));
            absolute(name)
                .or_else(home)
                .map(|folder| folder.join("arena"))
                .ok_or(PathsError::NoHome(what))
        };
        let uid = rustix::process::geteuid().as_raw();
        let runtime = absolute("XDG_RUNTIME_DIR").map(|folder| folder.join("arena"));
        Ok(Paths {
            state: below("XDG_STATE_HOME", ".local/state", "state")?,
            cache: below("XDG_CACHE_HOME", ".cache", "tools")?,
            runtime: runtime.unwrap_or_else(|| PathBuf::from(format!("/tmp/arena-{uid}"))),
        })
    }

    /// Makes the three folders, private to us.
    ///
    /// # Errors
    /// When one cannot be made, or belongs to somebody else (a `/tmp` is everybody's).
    pub fn make(&self) -> Result<(), PathsError> {
        for folder in [&self.state, &self.cache, &self.runtime] {
            make_own(folder)?;
        }
        Ok(())
    }

    /// Returns an event's folders. Makes nothing.
    pub fn event(&self, event: &EventId) -> EventPaths {
        let hash = Sha256::digest(event.as_str().as_bytes());
        let short: String = hash
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        EventPaths {
            state: self.state.join(event.as_str()),
            runtime: self.runtime.join(short),
        }
    }

    /// Returns the events that have state here.
    pub fn events(&self) -> Vec<EventId> {
        let entries = fs::read_dir(&self.state).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.path().is_dir());
        let mut events: Vec<EventId> = folders
            .filter_map(|entry| EventId::new(entry.file_name().to_str()?).ok())
            .collect();
        events.sort();
        events
    }
}

impl EventPaths {
    /// Makes both folders, private to us.
    ///
    /// # Errors
    /// As [`Paths::make`].
    pub fn make(&self) -> Result<(), PathsError> {
        make_own(&self.state)?;
        make_own(&self.runtime)
    }
}

fn make_own(folder: &Path) -> Result<(), PathsError> {
    let path = || folder.display().to_string();
    let found = make_folder(folder, 0o700).and_then(|()| fs::symlink_metadata(folder));
    let found = found.map_err(|source| PathsError::Files {
        path: path(),
        source,
    })?;
    if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(PathsError::Foreign(path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_follow_the_environment_and_sockets_fit() {
        let paths =
            Paths::from_environment(|name| (name == "HOME").then(|| "/home/ada".to_owned()))
                .unwrap();
        assert_eq!(paths.state, PathBuf::from("/home/ada/.local/state/arena"));
        let system = Paths::from_environment(|name| {
            name.starts_with("XDG_RUNTIME")
                .then(|| "/run".to_owned())
                .or(Some("/var/lib".to_owned()))
        })
        .unwrap();
        let event = system.event(&EventId::new("e".repeat(50)).unwrap());
        let longest = event
            .runtime
            .join("svc")
            .join("s".repeat(50))
            .join("postgres.sock");
        assert!(longest.as_os_str().len() < 108, "{}", longest.display());
        assert!(matches!(
            Paths::from_environment(|_| None),
            Err(PathsError::NoHome(_))
        ));
    }
}
