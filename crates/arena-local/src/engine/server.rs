//! A server of a PostgreSQL data directory, whoever it serves: its folders, the user it runs as, how
//! programs are run for it, and which version made its data. The built-in database's engine and the
//! cluster for exercises are both of this shape; what they put inside is theirs.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use thiserror::Error;

use super::tree::Invocation;

/// Characters of a failed program's output that are shown.
const OUTPUT_SHOWN: usize = 2000;

/// A user of the operating system, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsUser(pub String);

/// Why a data directory could not be prepared.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// A file or folder could not be read or written.
    #[error("cannot prepare the database's folder {path}")]
    Files {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {output}")]
    Program {
        /// The program.
        program: &'static str,
        /// The end of what it printed.
        output: String,
    },
    /// PostgreSQL refuses to run as root.
    #[error("PostgreSQL refuses to run as root; start as another user or name one to run it as")]
    Root,
    /// The data directory was made by versions that these programs cannot continue.
    #[error(
        "the databases in {path} were made by {found}, but {wanted} is installed; \
         use what made them, or remove the event's data with: arena down --purge"
    )]
    OtherVersion {
        /// The data directory.
        path: PathBuf,
        /// What made it.
        found: String,
        /// What is installed.
        wanted: String,
    },
    /// The data directory is not whole.
    #[error(
        "{path} holds no complete database: {missing} is missing; \
         put back a copy of the folder, or remove the event's data with: arena down --purge"
    )]
    Half {
        /// The data directory.
        path: PathBuf,
        /// What was looked for.
        missing: String,
    },
}

/// Where a server lives and as whom.
#[derive(Debug, Clone)]
pub(crate) struct ServerPlace {
    folder: PathBuf,
    sockets: PathBuf,
    run_as: Option<OsUser>,
}

impl ServerPlace {
    pub(crate) fn new(folder: &Path, sockets: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            sockets: sockets.to_owned(),
            run_as: None,
        }
    }

    pub(crate) fn run_as(&mut self, user: OsUser) {
        self.run_as = Some(user);
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.run_as.as_ref().map(|OsUser(user)| user.as_str())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where a data directory is made before it is moved to its place, complete.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.folder.join("data.new")
    }

    /// Makes the folders, ends a server left from before, and returns whether there is data.
    pub(crate) fn open(&self) -> Result<bool, PrepareError> {
        if rustix::process::geteuid().is_root() && self.run_as.is_none() {
            return Err(PrepareError::Root);
        }
        self.private_folder(&self.folder)?;
        self.private_folder(&self.sockets)?;
        let data = self.data();
        crate::leftover::end_server(&data);
        if data.join("PG_VERSION").exists() {
            return Ok(true);
        }
        match fs::read_dir(&data).map(|mut entries| entries.next().is_some()) {
            // Something was there: to begin anew would hide that it is lost.
            Ok(true) => Err(PrepareError::Half {
                path: data,
                missing: "PG_VERSION".to_owned(),
            }),
            _ => Ok(false),
        }
    }

    /// Refuses data of another major version than the programs'; `wanted` is like `18.1`.
    pub(crate) fn check_major(&self, wanted: &str) -> Result<(), PrepareError> {
        let path = self.data().join("PG_VERSION");
        let found = fs::read_to_string(&path).map_err(files_at(&path))?;
        let (found, wanted) = (found.trim(), major(wanted));
        if found == wanted {
            return Ok(());
        }
        Err(PrepareError::OtherVersion {
            path: self.data(),
            found: format!("PostgreSQL {found}"),
            wanted: format!("PostgreSQL {wanted}"),
        })
    }

    /// Removes what an interrupted start left unfinished.
    pub(crate) fn clear_unfinished(&self) -> Result<PathBuf, PrepareError> {
        let work = self.unfinished();
        crate::leftover::end_server_for_good(&work);
        remove_if_there(&work)?;
        Ok(work)
    }

    /// Moves a complete data directory to its place.
    pub(crate) fn finish(&self) -> Result<(), PrepareError> {
        let work = self.unfinished();
        fs::rename(&work, self.data()).map_err(files_at(&work))
    }

    /// Writes files of settings into a data directory.
    pub(crate) fn write(&self, data: &Path, files: &[(&str, String)]) -> Result<(), PrepareError> {
        for (name, text) in files {
            let path = data.join(name);
            fs::write(&path, text).map_err(files_at(&path))?;
            self.give(&path)?;
        }
        Ok(())
    }

    /// Appends to `postgresql.conf` of a new data directory that ours is read too.
    pub(crate) fn include_settings(&self, data: &Path) -> Result<(), PrepareError> {
        let path = data.join("postgresql.conf");
        let append = fs::OpenOptions::new().append(true).open(&path);
        append
            .and_then(|mut file| {
                file.write_all(b"\ninclude 'arena.conf'\n")?;
                file.sync_all()
            })
            .map_err(files_at(&path))
    }

    /// Makes a folder that only the server's user may enter.
    pub(crate) fn private_folder(&self, folder: &Path) -> Result<(), PrepareError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
        made.and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)))
            .map_err(files_at(folder))?;
        self.give(folder)
    }

    /// Gives a file to the server's user.
    pub(crate) fn give(&self, path: &Path) -> Result<(), PrepareError> {
        let Some(user) = self.user() else {
            return Ok(());
        };
        let chown = Invocation {
            program: "chown".into(),
            args: vec!["--".into(), format!("{user}:").into(), path.into()],
        };
        output_of("chown", &chown, "").map(drop)
    }

    /// Runs a program as the server's user, with this input, and returns what it printed.
    pub(crate) fn run(
        &self,
        name: &'static str,
        invocation: Invocation,
        input: &str,
    ) -> Result<Printed, PrepareError> {
        output_of(name, &self.wrapped(invocation), input)
    }

    /// Makes an invocation one of the server's user. The program stays a direct child.
    pub(crate) fn wrapped(&self, invocation: Invocation) -> Invocation {
        let Some(user) = self.user() else {
            return invocation;
        };
        // setpriv becomes the program; a change of user clears the signal that a child gets when its
        // parent dies, so it is set again.
        let mut args: Vec<OsString> = vec![
            "--reuid".into(),
            user.into(),
            "--regid".into(),
            group_of(user).into(),
        ];
        args.extend(
            [
                "--clear-groups",
                "--inh-caps=-all",
                "--pdeathsig",
                "INT",
                "--",
            ]
            .map(OsString::from),
        );
        args.push(invocation.program.into());
        args.extend(invocation.args);
        Invocation {
            program: "setpriv".into(),
            args,
        }
    }
}

/// What a program printed.
pub(crate) struct Printed {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Returns `18` of `18.1`, `18beta1` or `18rc1`.
pub(crate) fn major(version: &str) -> &str {
    version
        .split(|letter: char| !letter.is_ascii_digit())
        .next()
        .unwrap_or_default()
}

pub(crate) fn files_at(path: &Path) -> impl Fn(io::Error) -> PrepareError + use<> {
    let path = path.to_owned();
    move |source| PrepareError::Files {
        path: path.clone(),
        source,
    }
}

pub(crate) fn remove_if_there(path: &Path) -> Result<(), PrepareError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(files_at(path)(error)),
        _ => Ok(()),
    }
}

/// Returns the name of a user's own group.
fn group_of(user: &str) -> String {
    let printed = Command::new("id")
        .args(["-gn", "--", user])
        .stderr(Stdio::null())
        .output();
    let name = printed
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    if name.is_empty() {
        user.to_owned()
    } else {
        name
    }
}

pub(crate) fn output_of(
    name: &'static str,
    invocation: &Invocation,
    input: &str,
) -> Result<Printed, PrepareError> {
    let failed = |output: String| PrepareError::Program {
        program: name,
        output,
    };
    let started = invocation
        .command()
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    // The input is small: it fits into the pipe while nobody reads yet.
    let output = started.and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading says why itself.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    });
    let output = output.map_err(|error| failed(error.to_string()))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        return Ok(Printed { stdout, stderr });
    }
    let skipped = stderr.chars().count().saturating_sub(OUTPUT_SHOWN);
    let end: String = stderr.chars().skip(skipped).collect();
    Err(failed(end.trim().to_owned()))
}
