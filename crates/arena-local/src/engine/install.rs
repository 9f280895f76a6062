//! Puts the engine tree into the tool cache: from a configured archive, else
//! through apt. One lock file keeps two installs apart, a tree appears under its
//! name only when it is complete, and a complete one needs no network again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::archive::EngineArchive;
use super::tree::{self, EngineTree, MANIFEST, Manifest, Package, TreeError};
use super::{apt, make};

/// What of the packages the engine never reads.
const EXCLUDED: [&str; 14] = [
    "./etc",
    "./var",
    "./usr/include",
    "./usr/lib/systemd",
    "./usr/share/lintian",
    "./usr/share/locale",
    "./usr/share/man",
    "./usr/share/postgresql/18/contrib",
    "./usr/share/postgresql/18/man",
    "*/bitcode",
    "*/gconv",
    "*/pgxs",
    "*/extension/postgis_*",
    "*ANY*",
];

/// Where the tree comes from and goes to.
#[derive(Debug, Clone)]
pub struct InstallSettings {
    /// The tool cache; the engine lives in `engine/` below it.
    pub cache: PathBuf,
    /// A finished archive, preferred to packages.
    pub archive: Option<EngineArchive>,
}

/// How far an installation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallProgress {
    /// Another process installs the same; we wait for it.
    WaitingForOther,
    /// apt reads which packages exist.
    ReadingPackageLists,
    /// Packages arrive.
    Downloading {
        /// Bytes here already.
        bytes: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Packages are unpacked.
    Unpacking {
        /// Packages done.
        done: usize,
        /// Packages in all.
        total: usize,
    },
}

/// Why the engine could not be installed.
#[derive(Debug, Error)]
pub enum InstallError {
    /// A file or folder could not be read or written.
    #[error("cannot install the database engine in {path}")]
    Files {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// This machine's apt names no Debian mirror.
    #[error(
        "no Debian mirror in /etc/apt/sources.list or sources.list.d; name a Debian mirror there \
         or configure an engine archive"
    )]
    NoMirror,
    /// Debian's keys are missing, so nothing could be verified.
    #[error("no {path}; install it with: apt-get install debian-archive-keyring")]
    NoKeyring {
        /// Where the keys should be.
        path: PathBuf,
    },
    /// apt, dpkg-deb or tar is missing.
    #[error("cannot start {program}; on a machine without it, configure an engine archive")]
    NoProgram {
        /// The program.
        program: &'static str,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A program failed; the text is its own last words.
    #[error("{command} failed: {output}")]
    Program {
        /// What was run.
        command: String,
        /// The end of what it printed.
        output: String,
    },
    /// The configured archive is not the one that was meant.
    #[error("archive {path} has SHA-256 {actual}, expected {expected}")]
    OtherArchive {
        /// The file.
        path: PathBuf,
        /// What the configuration says.
        expected: String,
        /// What the file has.
        actual: String,
    },
    /// The configured archive is not what an archive of the engine is.
    #[error("cannot use the engine archive {path}: {why}")]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A package without a licence text may not be given on.
    #[error("no licence text of: {0}")]
    Licence(String),
    /// What was installed cannot be used.
    #[error("the installed database engine is not usable")]
    Tree(#[source] TreeError),
}

impl InstallError {
    pub(super) fn no_apt(source: io::Error) -> Self {
        Self::NoProgram {
            program: "apt-get",
            source,
        }
    }

    pub(super) fn apt(arguments: &[&str], stderr: &[u8]) -> Self {
        Self::Program {
            command: format!("apt-get {}", arguments.join(" ")),
            output: last_lines(stderr),
        }
    }
}

pub(super) fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}

/// Returns the engine tree of the tool cache, installing it first if it is not there. Blocks for
/// seconds: call it where waiting is allowed. Needs no network when a tree is there already.
///
/// # Errors
/// When neither the archive nor this machine's apt gives a complete tree; nothing half-made stays.
pub fn ensure(
    settings: &InstallSettings,
    progress: &dyn Fn(InstallProgress),
) -> Result<EngineTree, InstallError> {
    let folder = settings.cache.join("engine");
    let current = folder.join("current");
    if let Ok(tree) = current_tree(&current) {
        return Ok(tree);
    }
    let files = |source| InstallError::Files {
        path: folder.clone(),
        source,
    };
    fs::create_dir_all(&folder).map_err(files)?;
    let _lock = lock(&folder.join("lock"), progress).map_err(files)?;
    if let Ok(tree) = current_tree(&current) {
        return Ok(tree);
    }
    remove_remains(&folder).map_err(files)?;
    let work = folder.join(format!("{REMAINS}{}", std::process::id()));
    fs::create_dir_all(&work).map_err(files)?;
    let installed = install(settings, &work, progress)
        .and_then(|id| publish(&folder, &work, &id).map_err(files));
    // Packages and lists are of no use once unpacked, and a failed try must not fill the disk.
    fs::remove_dir_all(&work).map_err(files)?;
    installed?;
    current_tree(&current).map_err(InstallError::Tree)
}

const REMAINS: &str = ".installing-";

fn current_tree(current: &Path) -> Result<EngineTree, TreeError> {
    // The link is followed once, so that a tree installed later does not change a running one.
    let root = fs::canonicalize(current).map_err(|source| TreeError::Manifest {
        path: current.to_path_buf(),
        source,
    })?;
    EngineTree::at(root)
}

fn lock(path: &Path, progress: &dyn Fn(InstallProgress)) -> io::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        progress(InstallProgress::WaitingForOther);
        flock(&file, FlockOperation::LockExclusive)?;
    }
    Ok(file)
}

/// Removes what an installation left that was killed; the caller holds the lock.
fn remove_remains(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(REMAINS) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Makes a complete tree in `work/tree` and returns its id.
fn install(
    settings: &InstallSettings,
    work: &Path,
    progress: &dyn Fn(InstallProgress),
) -> Result<String, InstallError> {
    let root = work.join("tree");
    fs::create_dir_all(&root).map_err(|source| InstallError::Files {
        path: root.clone(),
        source,
    })?;
    match &settings.archive {
        Some(archive) => archive.unpack(work, &root, progress)?,
        None => {
            let packages = apt::download(work, progress)?;
            unpack_packages(&packages, &root, progress)?;
        }
    }
    Ok(EngineTree::at(&root)
        .map_err(InstallError::Tree)?
        .id()
        .to_owned())
}

fn unpack_packages(
    packages: &Path,
    root: &Path,
    progress: &dyn Fn(InstallProgress),
) -> Result<(), InstallError> {
    let files = |source| InstallError::Files {
        path: packages.to_path_buf(),
        source,
    };
    let mut debs: Vec<PathBuf> = fs::read_dir(packages)
        .map_err(files)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    debs.sort();
    let mut listed = Vec::new();
    for (done, deb) in debs.iter().enumerate() {
        progress(InstallProgress::Unpacking {
            done,
            total: debs.len(),
        });
        unpack_package(deb, root)?;
        let file = deb
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        listed.push(Package {
            file,
            sha256: sha256_of(deb).map_err(files)?,
        });
    }
    tree::finish(root).map_err(files)?;
    make::keep_licences(root).map_err(files)?;
    let manifest = manifest_of(listed);
    let text = serde_json::to_vec_pretty(&manifest)
        .map_err(io::Error::other)
        .map_err(files)?;
    fs::write(root.join(MANIFEST), text).map_err(files)
}

fn unpack_package(deb: &Path, root: &Path) -> Result<(), InstallError> {
    let mut dpkg = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| InstallError::NoProgram {
            program: "dpkg-deb",
            source,
        })?;
    let contents = dpkg.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let mut tar = Command::new("tar");
    // Seats read the tree too: modes are the packages' own, whatever the umask.
    tar.arg("--extract")
        .arg("--no-same-owner")
        .arg("--preserve-permissions")
        .arg("--directory")
        .arg(root);
    tar.args(
        EXCLUDED
            .iter()
            .map(|pattern| format!("--exclude={pattern}")),
    )
    .stdin(contents);
    let unpacked = run(&mut tar, "tar");
    // Our end of the pipe must be closed, else dpkg-deb would wait for ever for a tar that failed.
    drop(tar);
    let status = dpkg.wait().map_err(|source| InstallError::Files {
        path: deb.to_path_buf(),
        source,
    })?;
    unpacked?;
    if status.success() {
        Ok(())
    } else {
        Err(InstallError::Program {
            command: format!("dpkg-deb --fsys-tarfile {}", deb.display()),
            output: status.to_string(),
        })
    }
}

fn run(command: &mut Command, program: &'static str) -> Result<(), InstallError> {
    let output = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|source| InstallError::NoProgram { program, source })?;
    if output.status.success() {
        Ok(())
    } else {
        Err(InstallError::Program {
            command: program.to_owned(),
            output: last_lines(&output.stderr),
        })
    }
}

pub(super) fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn manifest_of(packages: Vec<Package>) -> Manifest {
    let mut hash = Sha256::new();
    for package in &packages {
        hash.update(format!("{} {}\n", package.file, package.sha256));
    }
    let version = |name: &str| version_of(&packages, name).unwrap_or_default();
    let (postgres, documentdb) = (
        version("postgresql-18_"),
        version("postgresql-18-documentdb_"),
    );
    let id = hex(&hash.finalize())[..16].to_owned();
    Manifest {
        id,
        postgres,
        documentdb,
        packages,
    }
}

/// `postgresql-18_18.6-3_amd64.deb` → `18.6`; an epoch is written `1%3a`.
fn version_of(packages: &[Package], prefix: &str) -> Option<String> {
    let rest = packages
        .iter()
        .find_map(|package| package.file.strip_prefix(prefix))?;
    let version = rest.split('_').next()?;
    let without_epoch = version.rsplit("%3a").next()?;
    Some(without_epoch.split('-').next()?.to_owned())
}

/// Gives the tree its name and makes it the current one; each step is a rename.
fn publish(folder: &Path, work: &Path, id: &str) -> io::Result<()> {
    let finished = folder.join(id);
    if finished.exists() {
        fs::remove_dir_all(&finished)?;
    }
    fs::rename(work.join("tree"), &finished)?;
    let link = work.join("current");
    std::os::unix::fs::symlink(id, &link)?;
    fs::rename(link, folder.join("current"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(file: &str) -> Package {
        Package {
            file: file.to_owned(),
            sha256: "00".to_owned(),
        }
    }

    #[test]
    fn versions_come_from_file_names() {
        let packages = [
            package("postgresql-18_18.6-3_amd64.deb"),
            package("zlib1g_1%3a1.3.dfsg-1_amd64.deb"),
        ];
        assert_eq!(
            version_of(&packages, "postgresql-18_").as_deref(),
            Some("18.6")
        );
        assert_eq!(
            version_of(&packages, "zlib1g_").as_deref(),
            Some("1.3.dfsg")
        );
    }

    #[test]
    fn another_version_is_another_tree() {
        let one = manifest_of(vec![package("postgresql-18_18.6-3_amd64.deb")]);
        let other = manifest_of(vec![package("postgresql-18_18.7-1_amd64.deb")]);
        assert_ne!(one.id, other.id);
    }

    #[test]
    fn another_archive_than_the_pinned_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.tar");
        fs::write(&path, b"not it").unwrap();
        let archive = EngineArchive::parse(&format!("{}#sha256=ab", path.display()));
        let settings = InstallSettings {
            cache: folder.path().to_path_buf(),
            archive: Some(archive),
        };
        let error = ensure(&settings, &|_| ()).unwrap_err();
        assert!(
            matches!(error, InstallError::OtherArchive { .. }),
            "{error}"
        );
        let left: Vec<_> = fs::read_dir(folder.path().join("engine"))
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(left, ["lock"]);
    }
}
