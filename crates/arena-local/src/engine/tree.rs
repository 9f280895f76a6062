//! A finished engine tree and how its programs start. The programs are linked
//! against a newer C library than this machine may have, so each starts through
//! the tree's own loader; a small wrapper of the same name in `bin` does that for
//! programs that start each other (`initdb` asks `postgres` for its version).

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The file in a tree that says what it was made of; written last.
pub(super) const MANIFEST: &str = "arena-engine.json";
const POSTGRES: &str = "usr/lib/postgresql/18";

/// One package that a tree was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Package {
    pub(super) file: String,
    pub(super) sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) id: String,
    pub(super) postgres: String,
    pub(super) documentdb: String,
    pub(super) packages: Vec<Package>,
}

/// Why a folder is not a usable engine tree.
#[derive(Debug, Error)]
pub enum TreeError {
    /// The folder has no readable list of what it was made of.
    #[error("cannot read {path}, so this is not a finished engine tree")]
    Manifest {
        /// The manifest's path.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A file without which nothing starts is missing.
    #[error("engine tree {root} lacks {missing}")]
    Incomplete {
        /// The tree.
        root: PathBuf,
        /// What was looked for.
        missing: String,
    },
}

/// A program of the tree with the arguments that start it through the loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// What is executed: the tree's loader.
    pub program: PathBuf,
    /// Its arguments, the wanted program's own arguments last.
    pub args: Vec<OsString>,
}

impl Invocation {
    /// Returns this invocation with more arguments for the program.
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Returns the invocation as a command.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        command
    }
}

/// A complete tree on this machine.
#[derive(Debug, Clone)]
pub struct EngineTree {
    root: PathBuf,
    id: String,
    postgres: String,
    documentdb: String,
    loader: PathBuf,
    library_path: OsString,
}

impl EngineTree {
    /// Returns the tree in this folder after checking that it is complete.
    ///
    /// # Errors
    /// When the folder has no manifest or lacks loader, libraries or programs.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self, TreeError> {
        let root = root.into();
        let path = root.join(MANIFEST);
        let manifest = fs::read(&path)
            .and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).map_err(io::Error::other))
            .map_err(|source| TreeError::Manifest { path, source })?;
        let (loader, library_path) = loader_of(&root)?;
        Ok(Self {
            root,
            id: manifest.id,
            postgres: manifest.postgres,
            documentdb: manifest.documentdb,
            loader,
            library_path,
        })
    }

    /// Returns the tree's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the name of exactly these packages: the same everywhere, changed by any other version.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns PostgreSQL's version, like `18.6`.
    pub fn postgres_version(&self) -> &str {
        &self.postgres
    }

    /// Returns the version of the DocumentDB package.
    pub fn documentdb_version(&self) -> &str {
        &self.documentdb
    }

    /// Returns how to start a program of the tree (`postgres`, `initdb`, `psql`, `pg_dump`) as a
    /// direct child: the started process becomes the program, no shell stays between.
    pub fn invocation(&self, program: &str) -> Invocation {
        let home = self.root.join(POSTGRES);
        let args: Vec<OsString> = vec![
            "--library-path".into(),
            self.library_path.clone(),
            "--argv0".into(),
            home.join("bin").join(program).into(),
            home.join("bin.elf").join(program).into(),
        ];
        Invocation {
            program: self.loader.clone(),
            args,
        }
    }

    /// Returns a command for a program of the tree; add arguments and start it.
    pub fn command(&self, program: &str) -> Command {
        self.invocation(program).command()
    }
}

/// Finds the loader and the library path of a tree, whatever its architecture.
fn loader_of(root: &Path) -> Result<(PathBuf, OsString), TreeError> {
    let incomplete = |missing: String| TreeError::Incomplete {
        root: root.to_path_buf(),
        missing,
    };
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libraries = root.join("usr/lib").join(&triplet);
    let loader = first_entry(&libraries, "ld-linux-")
        .ok_or_else(|| incomplete(format!("a loader in usr/lib/{triplet}")))?;
    for program in ["postgres", "initdb", "psql"] {
        let path = format!("{POSTGRES}/bin.elf/{program}");
        if !root.join(&path).is_file() {
            return Err(incomplete(path));
        }
    }
    let mut library_path = libraries.into_os_string();
    library_path.push(":");
    library_path.push(root.join(POSTGRES).join("lib"));
    Ok((loader, library_path))
}

fn first_entry(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries.map(|entry| entry.path()).find(|path| {
        path.file_name()
            .and_then(OsStr::to_str)
            .is_some_and(|name| name.starts_with(prefix))
    })
}

/// Makes unpacked packages startable: wrappers in `bin`, the programs themselves in `bin.elf`,
/// and the extension name that DocumentDB asks for.
pub(super) fn finish(root: &Path) -> io::Result<()> {
    let home = root.join(POSTGRES);
    let (bin, elf) = (home.join("bin"), home.join("bin.elf"));
    fs::rename(&bin, &elf)?;
    fs::create_dir(&bin)?;
    for entry in fs::read_dir(&elf)? {
        let wrapper = bin.join(entry?.file_name());
        fs::write(&wrapper, WRAPPER)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    }
    let extensions = root.join("usr/share/postgresql/18/extension");
    if !extensions.join("postgis.control").exists() {
        std::os::unix::fs::symlink("postgis-3.control", extensions.join("postgis.control"))?;
    }
    Ok(())
}

const WRAPPER: &str = r#"#!/bin/sh
# Starts the program of the same name in ../bin.elf with this tree's own loader and libraries.
bin=$(cd "$(dirname "$0")" && pwd)
home=${bin%/bin}
name=${0##*/}
for libraries in "${home%/postgresql/*}"/*-linux-gnu; do
    for loader in "$libraries"/ld-linux-*; do
        exec "$loader" --library-path "$libraries:$home/lib" --argv0 "$bin/$name" "$home/bin.elf/$name" "$@"
    done
done
"#;
