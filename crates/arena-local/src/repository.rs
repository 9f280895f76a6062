//! A workshop's repository, fetched inside the sandbox and kept by version, so that the next start
//! asks for the newest version only. Its files are a stranger's: nothing here opens one of them.
//!
//! Begin at [`Repositories::fetch`]. When the repository does not answer and a version of it is
//! kept, that one is used and [`Fetched::stale`] says why.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::nest::{Bind, Step, Work};
use crate::sandbox::{Sandbox, SandboxError, Slot};
use crate::seat::{HOME, make_folder, write_private};
use crate::workroom::{Progress, StepFailure, Supplies, Workroom};

/// How often a step that uses the network is tried.
const TRIES: u32 = 3;
/// Where a repository on this machine is found inside.
const SOURCE: &str = "/opt/arena/source";
/// Where the files are put inside.
const CONTENT: &str = "content";
/// What is known of the kept version.
const RECORD: &str = "current.json";
/// Lines of git's output in a message.
const LINES_SHOWN: usize = 6;

/// The versions of repositories under one folder of ours.
pub struct Repositories {
    sandbox: Sandbox,
    folder: PathBuf,
}

/// Which repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// An `https` or `http` address, or an absolute path.
    pub url: String,
    /// Branch or tag; else what the repository itself offers first.
    pub branch: Option<String>,
}

/// A repository's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Where they are, without their history.
    pub folder: PathBuf,
    /// The commit, or the tag's own object.
    pub version: String,
    /// Why an earlier version is used: the repository did not answer.
    pub stale: Option<String>,
}

/// A repository could not be fetched.
#[derive(Debug, Error)]
pub enum RepositoryError {
    /// git is not installed.
    #[error("git is missing: the workshop's content lies in a repository")]
    NoGit,
    /// An address that this machine has no way to.
    #[error("cannot fetch from {0}: only https, http and folders of this machine are fetched from")]
    Scheme(String),
    /// A folder of this machine that Arena's user cannot read.
    #[error("cannot read the repository {path}")]
    Unreadable {
        /// Where.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// git said no.
    #[error("cannot fetch the workshop's repository {address}:\n{output}")]
    Refused {
        /// The address, without a password.
        address: String,
        /// The last that git printed.
        output: String,
        /// What to do.
        hint: String,
    },
    /// Our own folder.
    #[error("cannot keep the workshop's repository in {path}")]
    Files {
        /// Where.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The sandbox itself.
    #[error("cannot fetch the workshop's repository")]
    Sandbox(#[source] SandboxError),
}

impl RepositoryError {
    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoGit => Some("install it: apt-get install -y git".to_owned()),
            Self::Scheme(_) => Some(
                "write its https address, or clone it yourself and name the folder as `scenario.repository`"
                    .to_owned(),
            ),
            Self::Unreadable { .. } => Some(
                "let everybody read that folder and those above it, or name an https address"
                    .to_owned(),
            ),
            Self::Refused { hint, .. } => Some(hint.clone()),
            Self::Files { .. } | Self::Sandbox(_) => None,
        }
    }
}

/// What is kept.
#[derive(Serialize, Deserialize)]
struct Record {
    repository: Repository,
    version: String,
}

impl Repository {
    /// Returns its address as it may be shown: without a user name or password.
    pub fn address(&self) -> String {
        without_credentials(&self.url)
    }

    /// Returns the folder on this machine that it is, if it is one.
    pub fn local(&self) -> Option<&Path> {
        let path = Path::new(self.url.strip_prefix("file://").unwrap_or(&self.url));
        path.is_absolute().then_some(path)
    }
}

impl Repositories {
    /// Returns the versions kept in a folder of ours, which need not exist.
    pub fn new(sandbox: Sandbox, folder: &Path) -> Repositories {
        Repositories {
            sandbox,
            folder: folder.to_owned(),
        }
    }

    /// Returns the files of the repository's newest version; fetched now unless they are kept.
    /// Blocks for as long as the network takes.
    ///
    /// # Errors
    /// When the repository does not answer or is not what it should be, and no version is kept.
    pub fn fetch(
        &self,
        repository: &Repository,
        supplies: &Supplies,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<Fetched, RepositoryError> {
        let reach = Reach::to(repository)?;
        let fetching = Fetching {
            repositories: self,
            repository,
            reach,
            supplies,
            progress,
        };
        let kept = self.kept(repository);
        let version = match (fetching.newest(), kept) {
            (Ok(version), Some(kept)) if kept.version == version => return Ok(kept),
            (Ok(version), _) => version,
            (Err(error @ RepositoryError::Refused { .. }), Some(kept)) => {
                return Ok(Fetched {
                    stale: Some(error.to_string()),
                    ..kept
                });
            }
            (Err(error), _) => return Err(error),
        };
        fetching.files(&version)
    }

    /// Returns the version of this repository that is kept, if there is one.
    pub fn kept(&self, repository: &Repository) -> Option<Fetched> {
        let record: Record =
            serde_json::from_slice(&fs::read(self.folder.join(RECORD)).ok()?).ok()?;
        let folder = self.folder.join(&record.version);
        (record.repository == *repository && folder.is_dir()).then_some(Fetched {
            folder,
            version: record.version,
            stale: None,
        })
    }

    /// Deletes every version. Blocks.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn remove(&self) -> Result<(), RepositoryError> {
        self.delete(&self.folder)
    }

    fn delete(&self, folder: &Path) -> Result<(), RepositoryError> {
        let work = Work::Remove {
            folder: folder.to_owned(),
        };
        self.sandbox
            .perform(Slot::PLATFORM, "cannot delete old files", &work)
            .map_err(RepositoryError::Sandbox)
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> RepositoryError + use<> {
        let path = self.folder.display().to_string();
        move |source| RepositoryError::Files { path, source }
    }
}

/// How a sandbox reaches the repository.
struct Reach {
    /// What git is given.
    url: String,
    /// A folder of this machine, brought in read-only.
    source: Option<PathBuf>,
}

impl Reach {
    fn to(repository: &Repository) -> Result<Reach, RepositoryError> {
        if !Path::new("/usr/bin/git").exists() {
            return Err(RepositoryError::NoGit);
        }
        if let Some(local) = repository.local() {
            let unreadable = |source| RepositoryError::Unreadable {
                path: local.display().to_string(),
                source,
            };
            fs::read_dir(local).map_err(unreadable)?;
            return Ok(Reach {
                url: format!("file://{SOURCE}"),
                source: Some(local.to_owned()),
            });
        }
        let is_web = ["https://", "http://"]
            .iter()
            .any(|scheme| repository.url.starts_with(scheme));
        if is_web {
            Ok(Reach {
                url: repository.url.clone(),
                source: None,
            })
        } else {
            Err(RepositoryError::Scheme(repository.address()))
        }
    }
}

struct Fetching<'a> {
    repositories: &'a Repositories,
    repository: &'a Repository,
    reach: Reach,
    supplies: &'a Supplies,
    progress: &'a dyn Fn(Progress<'_>),
}

impl Fetching<'_> {
    /// Asks for the newest version.
    fn newest(&self) -> Result<String, RepositoryError> {
        let mut command = ["git", "ls-remote", "--exit-code", "--"]
            .map(str::to_owned)
            .to_vec();
        command.push(self.reach.url.clone());
        match &self.repository.branch {
            Some(branch) => {
                command.extend([
                    format!("refs/heads/{branch}"),
                    format!("refs/tags/{branch}"),
                ]);
            }
            None => command.push("HEAD".to_owned()),
        }
        let printed = self.run("looking for the newest version", command)?;
        let version = printed.iter().find_map(|line| {
            let word = line.split_whitespace().next()?;
            let is_hash = word.len() >= 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hash.then(|| word.to_owned())
        });
        version.ok_or_else(|| self.refused(&printed.join("\n")))
    }

    /// Fetches the files of that version, and forgets the earlier ones.
    fn files(&self, version: &str) -> Result<Fetched, RepositoryError> {
        let mut command = [
            "git",
            "clone",
            "--quiet",
            "--no-recurse-submodules",
            "--depth",
            "1",
        ]
        .map(str::to_owned)
        .to_vec();
        if let Some(branch) = &self.repository.branch {
            command.extend(["--branch".to_owned(), branch.clone()]);
        }
        command.extend([
            "--".to_owned(),
            self.reach.url.clone(),
            format!("{HOME}/{CONTENT}"),
        ]);
        self.run("fetching the workshop's repository", command)?;
        let all = &self.repositories.folder;
        let new = all.join("new");
        let seal = Work::Seal {
            folder: new.clone(),
        };
        self.repositories
            .sandbox
            .perform(Slot::PLATFORM, "cannot take over the files", &seal)
            .map_err(RepositoryError::Sandbox)?;
        self.repositories.delete(&new.join(CONTENT).join(".git"))?;
        let folder = all.join(version);
        self.repositories.delete(&folder)?;
        fs::rename(new.join(CONTENT), &folder).map_err(self.repositories.failed())?;
        let record = Record {
            repository: self.repository.clone(),
            version: version.to_owned(),
        };
        let text = serde_json::to_vec(&record).expect("only strings");
        write_private(&all.join(RECORD), &text).map_err(self.repositories.failed())?;
        for entry in fs::read_dir(all).into_iter().flatten().flatten() {
            if entry.path() != folder && entry.path().is_dir() {
                self.repositories.delete(&entry.path())?;
            }
        }
        Ok(Fetched {
            folder,
            version: version.to_owned(),
            stale: None,
        })
    }

    /// Runs git in an empty place and returns what it printed.
    fn run(&self, title: &str, command: Vec<String>) -> Result<Vec<String>, RepositoryError> {
        let all = &self.repositories.folder;
        let new = all.join("new");
        self.repositories.delete(&new)?;
        make_folder(all, 0o700).map_err(self.repositories.failed())?;
        make_folder(&new, 0o755).map_err(self.repositories.failed())?;
        let room = Workroom {
            sandbox: &self.repositories.sandbox,
            home: &new,
            lock: &all.join("lock"),
            supplies: self.supplies,
        };
        // `--` before the address and a list of protocols: it cannot become an option or a program.
        let step = Step {
            title: title.to_owned(),
            command,
            environment: BTreeMap::from([(
                "GIT_ALLOW_PROTOCOL".to_owned(),
                "https:http:file".to_owned(),
            )]),
            directory: HOME.to_owned(),
            tries: TRIES,
        };
        let source = self.reach.source.as_ref().map(|folder| Bind {
            from: folder.clone(),
            to: SOURCE.to_owned(),
        });
        let printed = RefCell::new(Vec::new());
        let listen = |said: Progress<'_>| {
            if let Progress::Line(line) = said {
                printed.borrow_mut().push(line.to_owned());
            }
            (self.progress)(said);
        };
        match room.run(vec![step], source, &listen) {
            Ok(()) => Ok(printed.into_inner()),
            Err(StepFailure::Sandbox(error)) => Err(RepositoryError::Sandbox(error)),
            Err(StepFailure::Step { output, .. }) => Err(self.refused(&output)),
        }
    }

    fn refused(&self, output: &str) -> RepositoryError {
        let address = self.repository.address();
        let output = without_credentials(output).replace(&format!("file://{SOURCE}"), &address);
        let lines: Vec<&str> = output.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
        let branch = self.repository.branch.as_deref();
        RepositoryError::Refused {
            hint: hint(&last, branch, &address),
            output: last,
            address,
        }
    }
}

/// What to do, from what git printed.
fn hint(output: &str, branch: Option<&str>, address: &str) -> String {
    let says = |words: &[&str]| words.iter().any(|word| output.contains(word));
    if says(&[
        "could not read Username",
        "Authentication failed",
        "error: 401",
        "error: 403",
    ]) {
        "it asks for a login: write a token into its address (https://TOKEN@…), or clone it yourself and name the folder as `scenario.repository`".to_owned()
    } else if says(&[
        "Could not resolve",
        "Couldn't connect",
        "Failed to connect",
        "CONNECT tunnel failed",
        "timed out",
    ]) {
        "is that address reachable from this machine? Or clone it elsewhere, bring it here and name the folder as `scenario.repository`".to_owned()
    } else if says(&[
        "not found",
        "does not appear to be a git repository",
        "does not exist",
    ]) {
        "look whether the address is right".to_owned()
    } else if says(&["exit status: 2"]) {
        match branch {
            Some(branch) => format!(
                "there is no branch or tag `{branch}`: `git ls-remote {address}` lists what there is"
            ),
            None => "it has no commit yet: push one".to_owned(),
        }
    } else {
        format!("try it by hand: git ls-remote {address}")
    }
}

/// Removes `user:password@` from every address in a text.
fn without_credentials(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after
            .find(|c: char| c == '/' || c.is_whitespace() || c == '\'')
            .unwrap_or(after.len());
        let begin = after[..end].rfind('@').map_or(0, |at| at + 1);
        rest = &after[begin..];
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::{hint, without_credentials};

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (text, shown) in [
            (
                "https://ada:secret@git.example/a.git",
                "https://git.example/a.git",
            ),
            ("https://git.example/a@b", "https://git.example/a@b"),
            (
                "fatal: 'https://token@git.example/a' and 'http://b.example'",
                "fatal: 'https://git.example/a' and 'http://b.example'",
            ),
            ("/home/ada/workshop", "/home/ada/workshop"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }

    #[test]
    fn what_git_says_becomes_what_to_do() {
        let of = |output| hint(output, Some("main"), "https://git.example/a");
        for (output, word) in [
            (
                "fatal: could not read Username for 'https://git.example'",
                "TOKEN",
            ),
            (
                "fatal: unable to access: CONNECT tunnel failed, response 502",
                "reachable",
            ),
            ("remote: Repository not found.", "address is right"),
            ("exit status: 2", "no branch or tag `main`"),
            ("fatal: something else", "git ls-remote"),
        ] {
            assert!(of(output).contains(word), "{output}: {}", of(output));
        }
    }
}
