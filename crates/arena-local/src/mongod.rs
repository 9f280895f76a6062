//! A `mongod` of this machine as an event's MongoDB: where it is, its data directory, its key file
//! and how it starts. First alone and on a unix socket that only we may open, so that nobody else
//! makes the first user; then as a replica set of one on a port of the loopback, with
//! authorization, so that transactions and change streams work. Who makes the user and the set is
//! `arena_database::mongod`.
//!
//! Experimental: written by MongoDB's manual, with no real `mongod` at hand to try it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::engine::Invocation;
use crate::seat::write_private;

/// Name of the replica set.
pub const SET: &str = "arena";
/// Older ones lack what drivers of today need.
const OLDEST: u32 = 6;
/// Bytes of the key that members of a set (here: one) show each other; MongoDB takes 6 to 1024 characters.
const KEY_BYTES: usize = 48;
/// A server left from before ends within this.
const LEFT_WAIT: Duration = Duration::from_secs(10);
const MADE_BY: &str = "arena-made-by.json";

/// A `mongod` that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MongodProgram {
    /// The program.
    pub path: PathBuf,
    /// Such as `8.0.4`.
    pub version: String,
}

/// Why a `mongod` cannot be used.
#[derive(Debug, Error)]
pub enum MongodError {
    /// There is none.
    #[error("there is no mongod on PATH and none in the tool cache")]
    Missing,
    /// Its version cannot be told, or is too old.
    #[error("{path} cannot be used: {why}")]
    Unusable {
        /// The program.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot prepare mongod's folder {path}")]
    Files {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The data is of a version that this program cannot continue.
    #[error("the data in {path} was made by mongod {found}, and {program} is installed: {advice}")]
    OtherVersion {
        /// The data directory.
        path: PathBuf,
        /// Who made it.
        found: String,
        /// Who would use it.
        program: String,
        /// What to do.
        advice: &'static str,
    },
    /// The port that the replica set knows itself by is taken.
    #[error("port {0} is taken, and this event's replica set knows itself by it")]
    Port(u16),
}

impl MongodError {
    /// Returns what to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing => {
                "install MongoDB so that `mongod` is on PATH, name a server with arena.database.mongodb, or write `mongodb: builtin` there"
            }
            Self::Unusable { .. } => {
                "install MongoDB 6 or newer, or write `arena.database.mongodb: builtin`"
            }
            Self::Files { .. } => "may the user of Arena write there, and is there space?",
            Self::OtherVersion { .. } => "or remove the event's data with: arena down --purge",
            Self::Port(_) => "end what listens there (`ss -ltnp` names it)",
        }
    }
}

/// Who made a data directory, and where its set is.
#[derive(Debug, Serialize, Deserialize)]
struct MadeBy {
    version: String,
    port: u16,
}

/// An event's `mongod`.
#[derive(Debug, Clone)]
pub struct Mongod {
    program: MongodProgram,
    folder: PathBuf,
    sockets: PathBuf,
    port: u16,
}

/// Finds a `mongod` on PATH, else in the tool cache.
///
/// # Errors
/// When there is none, or it is too old.
pub fn find_mongod(cache: &Path, path: Option<OsString>) -> Result<MongodProgram, MongodError> {
    let folders = path.iter().flat_map(std::env::split_paths);
    let found = folders
        .chain([cache.join("mongod/bin")])
        .map(|folder| folder.join("mongod"))
        .find(|program| program.is_file())
        .ok_or(MongodError::Missing)?;
    let unusable = |why: String| MongodError::Unusable {
        path: found.clone(),
        why,
    };
    let output = Command::new(&found)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| unusable(format!("it does not start: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version =
        version_in(&text).ok_or_else(|| unusable("it does not say `db version v…`".to_owned()))?;
    match feature_version(&version) {
        Some((major, _)) if major >= OLDEST => Ok(MongodProgram {
            path: found,
            version,
        }),
        _ => Err(unusable(format!(
            "it is version {version}, and {OLDEST} is the oldest that works"
        ))),
    }
}

/// `db version v8.0.4` → `8.0.4`.
fn version_in(text: &str) -> Option<String> {
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("db version v"))?;
    Some(version.split_whitespace().next()?.to_owned())
}

/// `8.0.4` → 8 and 0: what decides over data files.
fn feature_version(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl Mongod {
    /// Makes key file and data directory where they are missing, and takes the port of before, or a
    /// free one the first time. `sockets` is a folder with a short path.
    ///
    /// # Errors
    /// When the data is of a version that this one cannot continue, the port of before is taken, or
    /// the disk refuses. Blocks for up to ten seconds where a server is left from before.
    pub fn prepare(
        program: MongodProgram,
        folder: &Path,
        sockets: &Path,
    ) -> Result<Self, MongodError> {
        for folder in [folder, &folder.join("data"), sockets] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(files_at(folder))?;
        }
        let made_by = folder.join(MADE_BY);
        let port = match fs::read(&made_by) {
            Ok(bytes) => {
                let found: MadeBy = serde_json::from_slice(&bytes)
                    .map_err(io::Error::other)
                    .map_err(files_at(&made_by))?;
                check_version(&program, &found.version, folder)?;
                wait_for(found.port)?;
                found.port
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => free_port(folder)?,
            Err(error) => return Err(files_at(&made_by)(error)),
        };
        let mongod = Self {
            program,
            folder: folder.to_owned(),
            sockets: sockets.to_owned(),
            port,
        };
        mongod.make_key()?;
        Ok(mongod)
    }

    /// Returns whether its first user and its set have not been made yet.
    pub fn is_new(&self) -> bool {
        !self.folder.join(MADE_BY).exists()
    }

    /// Remembers that user and set are made, and by which version the data is used from now on.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remember(&self) -> Result<(), MongodError> {
        let path = self.folder.join(MADE_BY);
        let made_by = MadeBy {
            version: self.program.version.clone(),
            port: self.port,
        };
        let text = serde_json::to_vec(&made_by).expect("a string and a number");
        write_private(&path, &text).map_err(files_at(&path))
    }

    /// Returns the port on the loopback that the set knows itself by.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the version of the program.
    pub fn version(&self) -> &str {
        &self.program.version
    }

    /// Returns the socket of [`Mongod::alone`].
    pub fn socket(&self) -> PathBuf {
        self.sockets.join("mongod.sock")
    }

    /// Returns how it starts the first time: alone, on a socket that only we may open.
    pub fn alone(&self) -> Invocation {
        let mut args = self.common();
        args.extend([
            "--bind_ip".into(),
            self.socket().into(),
            "--filePermissions".into(),
            "0600".into(),
        ]);
        self.invocation(args)
    }

    /// Returns how it starts as a replica set of one.
    pub fn as_set(&self) -> Invocation {
        let mut args = self.common();
        args.extend(
            [
                "--replSet",
                SET,
                "--bind_ip",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
                "--nounixsocket",
                "--keyFile",
            ]
            .map(OsString::from),
        );
        args.push(self.key().into());
        self.invocation(args)
    }

    fn common(&self) -> Vec<OsString> {
        vec![
            "--auth".into(),
            "--dbpath".into(),
            self.folder.join("data").into(),
            // Seats are many and small; the default takes half of the machine.
            "--wiredTigerCacheSizeGB".into(),
            "0.5".into(),
        ]
    }

    fn invocation(&self, args: Vec<OsString>) -> Invocation {
        Invocation {
            program: self.program.path.clone(),
            args,
        }
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key")
    }

    fn make_key(&self) -> Result<(), MongodError> {
        let path = self.key();
        if path.exists() {
            return fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                .map_err(files_at(&path));
        }
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|error| files_at(&path)(io::Error::other(error.to_string())))?;
        let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        write_private(&path, key.as_bytes()).map_err(files_at(&path))
    }
}

/// Data of a newer version is never touched; of an older one only as MongoDB upgrades: one major
/// version at a time.
fn check_version(program: &MongodProgram, found: &str, folder: &Path) -> Result<(), MongodError> {
    let (Some(was), Some(is)) = (feature_version(found), feature_version(&program.version)) else {
        return Ok(());
    };
    let advice = if was > is {
        "use that version or a newer one"
    } else if is.0 - was.0 > 1 {
        "MongoDB upgrades one major version at a time; start it with the ones between"
    } else {
        return Ok(());
    };
    Err(MongodError::OtherVersion {
        path: folder.join("data"),
        found: found.to_owned(),
        program: program.version.clone(),
        advice,
    })
}

/// Waits for the port: a server that outlived the platform may still be closing its files.
fn wait_for(port: u16) -> Result<(), MongodError> {
    let begun = Instant::now();
    while TcpListener::bind(("127.0.0.1", port)).is_err() {
        if begun.elapsed() > LEFT_WAIT {
            return Err(MongodError::Port(port));
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn free_port(folder: &Path) -> Result<u16, MongodError> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    port.map(|address| address.port()).map_err(files_at(folder))
}

fn files_at(path: &Path) -> impl Fn(io::Error) -> MongodError {
    let path = path.to_owned();
    move |source| MongodError::Files {
        path: path.clone(),
        source,
    }
}

/// The image of `mongodb/mongodb-atlas-local`, by its version.
pub const ATLAS_LOCAL_IMAGE: &str = "mongodb/mongodb-atlas-local:8.0";

/// An event's container of `mongodb-atlas-local`: command lines, nothing more.
///
/// Experimental: no Docker engine was at hand to try it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtlasLocal {
    /// Names container and volume.
    pub event: String,
    /// Port of the loopback that leads to it.
    pub port: u16,
    /// File with the administrator's name and password, for `--env-file`: a password on a command
    /// line would be everybody's to read.
    pub secrets: PathBuf,
}

impl AtlasLocal {
    fn name(&self) -> String {
        format!("arena-{}-mongodb", self.event)
    }

    /// Returns the arguments of `docker` that run it in the foreground, as a child of ours.
    pub fn run(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = [
            "run",
            "--rm",
            "--name",
            &self.name(),
            "--hostname",
            "localhost",
            "--publish",
            &format!("127.0.0.1:{}:27017", self.port),
            "--volume",
            &format!("{}:/data/db", self.name()),
            "--env-file",
        ]
        .map(OsString::from)
        .into();
        args.extend([self.secrets.clone().into(), ATLAS_LOCAL_IMAGE.into()]);
        args
    }

    /// Returns the arguments of `docker` that end one left from before.
    pub fn remove(&self) -> Vec<OsString> {
        ["rm", "--force", &self.name()].map(OsString::from).into()
    }

    /// Returns the arguments of `docker` that delete its data.
    pub fn remove_data(&self) -> Vec<OsString> {
        ["volume", "rm", "--force", &self.name()]
            .map(OsString::from)
            .into()
    }

    /// Returns the text of the file of secrets.
    pub fn secrets_text(user: &str, password: &str) -> String {
        format!("MONGODB_INITDB_ROOT_USERNAME={user}\nMONGODB_INITDB_ROOT_PASSWORD={password}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that says that it is a mongod of a version. It is none.
    fn says(folder: &Path, text: &str) {
        let path = folder.join("mongod");
        fs::write(&path, format!("#!/bin/sh\necho '{text}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn program(version: &str) -> MongodProgram {
        MongodProgram {
            path: "/usr/bin/mongod".into(),
            version: version.to_owned(),
        }
    }

    fn words(invocation: &Invocation) -> String {
        let args: Vec<_> = invocation
            .args
            .iter()
            .map(|arg| arg.to_string_lossy())
            .collect();
        args.join(" ")
    }

    #[test]
    fn a_mongod_is_found_by_path_and_an_old_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let find = || find_mongod(Path::new("/nonexistent"), Some(folder.path().into()));
        assert!(matches!(find(), Err(MongodError::Missing)));
        says(folder.path(), "db version v8.0.4");
        assert_eq!(find().unwrap().version, "8.0.4");
        for text in ["db version v4.4.29", "something else"] {
            says(folder.path(), text);
            assert!(
                matches!(find(), Err(MongodError::Unusable { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn it_starts_alone_on_a_private_socket_and_then_as_a_set_with_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let (state, sockets) = (folder.path().join("state"), folder.path().join("s"));
        let mongod = Mongod::prepare(program("8.0.4"), &state, &sockets).unwrap();
        assert!(mongod.is_new());
        let alone = words(&mongod.alone());
        assert!(
            alone.contains("--auth")
                && alone.contains("mongod.sock")
                && !alone.contains("--replSet"),
            "{alone}"
        );
        let set = words(&mongod.as_set());
        assert!(
            set.contains("--auth")
                && set.contains("--replSet arena --bind_ip 127.0.0.1")
                && set.contains("--keyFile"),
            "{set}"
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (
                mode(&state.join("key")),
                mode(&state.join("data")),
                mode(&sockets)
            ),
            (0o600, 0o700, 0o700)
        );
        mongod.remember().unwrap();
        let again = Mongod::prepare(program("8.0.9"), &state, &sockets).unwrap();
        assert!(!again.is_new() && again.port() == mongod.port());
        let _taken = TcpListener::bind(("127.0.0.1", mongod.port())).unwrap();
        let error = Mongod::prepare(program("8.0.9"), &state, &sockets).unwrap_err();
        assert!(matches!(error, MongodError::Port(_)), "{error}");
    }

    #[test]
    fn data_of_a_newer_version_or_of_one_too_old_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (state, sockets) = (folder.path().join("state"), folder.path().join("s"));
        Mongod::prepare(program("7.0.1"), &state, &sockets)
            .unwrap()
            .remember()
            .unwrap();
        for (version, is_taken) in [
            ("7.0.1", true),
            ("7.3.0", true),
            ("8.0.4", true),
            ("6.0.9", false),
            ("9.0.0", false),
        ] {
            let outcome = Mongod::prepare(program(version), &state, &sockets);
            assert_eq!(outcome.is_ok(), is_taken, "{version}: {:?}", outcome.err());
        }
    }

    #[test]
    fn a_container_is_run_without_a_password_on_its_command_line() {
        let container = AtlasLocal {
            event: "harbour".to_owned(),
            port: 27100,
            secrets: "/var/lib/arena/harbour/secrets/atlas.env".into(),
        };
        let words = |args: Vec<OsString>| {
            let words: Vec<String> = args
                .iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect();
            words.join(" ")
        };
        assert_eq!(
            words(container.run()),
            "run --rm --name arena-harbour-mongodb --hostname localhost --publish 127.0.0.1:27100:27017 \
             --volume arena-harbour-mongodb:/data/db --env-file /var/lib/arena/harbour/secrets/atlas.env \
             mongodb/mongodb-atlas-local:8.0"
        );
        assert_eq!(
            words(container.remove()),
            "rm --force arena-harbour-mongodb"
        );
        assert_eq!(
            words(container.remove_data()),
            "volume rm --force arena-harbour-mongodb"
        );
    }
}
