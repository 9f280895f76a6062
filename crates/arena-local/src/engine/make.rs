//! Makes the archive that [`super::EngineArchive`] installs: a fresh tree from packages, checked for
//! licences, as one reproducible file with its checksum and a list of what is in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use super::install::{
    InstallError, InstallProgress, InstallSettings, ensure, last_lines, sha256_of,
};
use super::tree::{EngineTree, MANIFEST, Manifest, Package};

/// Where Debian's packages keep their licences.
const LICENCES: &str = "usr/share/doc";
/// Instead of the times of unpacking: the same packages give the same bytes.
const MADE_AT: &str = "@1700000000";

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeArchive {
    /// The archive; its checksum lies beside it as `.sha256`, its list as `.json`.
    pub path: PathBuf,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Packages in it, each with its licence.
    pub packages: usize,
}

/// What an archive says about itself.
#[derive(Serialize)]
struct Contents<'a> {
    archive: &'a str,
    sha256: &'a str,
    engine: &'a str,
    postgresql: &'a str,
    documentdb: &'a str,
    architecture: &'a str,
    packages: Vec<Content<'a>>,
}

#[derive(Serialize)]
struct Content<'a> {
    name: &'a str,
    version: String,
    sha256: &'a str,
    licence: String,
}

/// Makes an archive of the engine from this machine's packages in `folder`. Blocks for a minute.
///
/// # Errors
/// When the packages cannot be had, one of them has no licence text, or the disk refuses.
pub fn make_archive(
    folder: &Path,
    progress: &dyn Fn(InstallProgress),
) -> Result<MadeArchive, InstallError> {
    let files = |source| InstallError::Files {
        path: folder.to_owned(),
        source,
    };
    let work = folder.join(format!(".making-{}", std::process::id()));
    fs::create_dir_all(&work).map_err(files)?;
    let settings = InstallSettings {
        cache: work.clone(),
        archive: None,
    };
    let made = ensure(&settings, progress).and_then(|tree| pack(&tree, folder));
    fs::remove_dir_all(&work).map_err(files)?;
    made
}

fn pack(tree: &EngineTree, folder: &Path) -> Result<MadeArchive, InstallError> {
    let files = |source| InstallError::Files {
        path: folder.to_owned(),
        source,
    };
    let manifest = fs::read(tree.root().join(MANIFEST)).map_err(files)?;
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .map_err(io::Error::other)
        .map_err(files)?;
    let packages = contents(tree.root(), &manifest.packages)?;
    let name = format!(
        "arena-engine-{}-{}-{}-{}.tar.gz",
        manifest.postgres,
        manifest.documentdb,
        std::env::consts::ARCH,
        manifest.id
    );
    let (path, new) = (folder.join(&name), folder.join(format!("{name}.new")));
    compress(tree.root(), &new)?;
    let sha256 = sha256_of(&new).map_err(files)?;
    fs::rename(&new, &path).map_err(files)?;
    let beside = |ending: &str| folder.join(format!("{name}.{ending}"));
    fs::write(beside("sha256"), format!("{sha256}  {name}\n")).map_err(files)?;
    let contents = Contents {
        archive: &name,
        sha256: &sha256,
        engine: &manifest.id,
        postgresql: &manifest.postgres,
        documentdb: &manifest.documentdb,
        architecture: std::env::consts::ARCH,
        packages,
    };
    let text = serde_json::to_vec_pretty(&contents)
        .map_err(io::Error::other)
        .map_err(files)?;
    fs::write(beside("json"), text).map_err(files)?;
    Ok(MadeArchive {
        bytes: fs::metadata(&path).map_err(files)?.len(),
        packages: manifest.packages.len(),
        path,
        sha256,
    })
}

fn contents<'a>(root: &Path, packages: &'a [Package]) -> Result<Vec<Content<'a>>, InstallError> {
    let mut missing = Vec::new();
    let mut contents = Vec::new();
    for package in packages {
        // `zlib1g_1%3a1.3.dfsg-1_amd64.deb`
        let mut parts = package.file.split('_');
        let name = parts.next().unwrap_or_default();
        let version = parts.next().unwrap_or_default().replace("%3a", ":");
        let licence = format!("{LICENCES}/{name}/copyright");
        if !root.join(&licence).is_file() {
            missing.push(name);
        }
        contents.push(Content {
            name,
            version,
            sha256: &package.sha256,
            licence,
        });
    }
    if missing.is_empty() {
        Ok(contents)
    } else {
        Err(InstallError::Licence(missing.join(", ")))
    }
}

fn compress(root: &Path, file: &Path) -> Result<(), InstallError> {
    let no = |program| move |source| InstallError::NoProgram { program, source };
    let out = fs::File::create(file).map_err(|source| InstallError::Files {
        path: file.to_owned(),
        source,
    })?;
    let mut tar = Command::new("tar")
        .args([
            "--create",
            "--sort=name",
            "--format=gnu",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
        ])
        .arg(format!("--mtime={MADE_AT}"))
        .arg("--directory")
        .arg(root)
        .arg(".")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(no("tar"))?;
    let plain = tar.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let gzip = Command::new("gzip")
        .args(["--no-name", "-6"])
        .stdin(plain)
        .stdout(out)
        .stderr(Stdio::piped())
        .output()
        .map_err(no("gzip"))?;
    let status = tar.wait().map_err(no("tar"))?;
    if status.success() && gzip.status.success() {
        return Ok(());
    }
    Err(InstallError::Program {
        command: "tar | gzip".to_owned(),
        output: last_lines(&gzip.stderr),
    })
}

/// Leaves of the packages' documentation their licences only.
pub(super) fn keep_licences(root: &Path) -> io::Result<()> {
    let folder = root.join(LICENCES);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        // A link leads to the licence of a package of the same source.
        if !entry.file_type()?.is_dir() {
            continue;
        }
        for inner in fs::read_dir(entry.path())? {
            let inner = inner?;
            if inner.file_name() == "copyright" {
                continue;
            }
            if inner.file_type()?.is_dir() {
                fs::remove_dir_all(inner.path())?;
            } else {
                fs::remove_file(inner.path())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_its_licence_is_named() {
        let root = tempfile::tempdir().unwrap();
        let doc = root.path().join(LICENCES);
        for name in ["zlib1g", "libpq5"] {
            fs::create_dir_all(doc.join(name).join("examples")).unwrap();
            fs::write(doc.join(name).join("changelog.gz"), "").unwrap();
        }
        fs::write(doc.join("zlib1g/copyright"), "free").unwrap();
        keep_licences(root.path()).unwrap();
        let left: Vec<_> = fs::read_dir(doc.join("zlib1g"))
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(left, ["copyright"]);
        let package = |file: &str| Package {
            file: file.to_owned(),
            sha256: "00".to_owned(),
        };
        let found = [package("zlib1g_1%3a1.3.dfsg-1_amd64.deb")];
        assert_eq!(
            contents(root.path(), &found).unwrap()[0].version,
            "1:1.3.dfsg-1"
        );
        let packages = [package("libpq5_18.6-1_amd64.deb")];
        let error = contents(root.path(), &packages).err().unwrap();
        assert!(matches!(error, InstallError::Licence(names) if names == "libpq5"));
    }
}
