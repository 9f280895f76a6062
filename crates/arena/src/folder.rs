//! Reads an author's folder into [`Sources`]: the only place that opens the
//! workshop's own files on the author's behalf. Decides nothing about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use arena_workshop::{SourceFile, Sources};

/// Files above this size are read only so far; the parser then says that they are too large.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Folders that hold no source of a workshop.
const SKIPPED: &[&str] = &[".git", "node_modules", "target"];
/// Paths listed at most.
const PATHS_MAX: usize = 100_000;

/// A workshop's folder and its texts.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    /// Absolute path of the folder with `config.yaml`.
    pub(crate) path: PathBuf,
    /// Its texts.
    pub(crate) sources: Sources,
}

/// Reads the folder that holds `config.yaml`, or the folder of the file itself.
///
/// # Errors
/// When a file or folder that exists cannot be read. A missing `config.yaml` is no error here:
/// the parser reports it with everything else.
pub(crate) fn read(workshop: &Path) -> anyhow::Result<Folder> {
    let config_path = if workshop.is_file() {
        workshop.to_owned()
    } else {
        workshop.join("config.yaml")
    };
    let shown = config_path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
        .to_owned();
    let path = shown
        .canonicalize()
        .with_context(|| format!("cannot open workshop folder {}", shown.display()))?;
    let source = |inside: &str| read_file(&path.join(inside), &shown.join(inside));
    let config = read_file(&config_path, &config_path)?;
    let participants = match source("user_list.csv")? {
        Some(file) => Some(file),
        None => source("atlas-cluster/user_list.csv")?,
    };
    let sources = Sources {
        config,
        participants,
        workshop: source("arena/workshop.yaml")?,
        ..Sources::default()
    };
    with_content(path, &shown, sources)
}

/// Reads the content of a repository that was fetched to `path` in place of the folder's own.
/// Files that are links are not read: they are a stranger's.
///
/// # Errors
/// When a file or folder cannot be read.
pub(crate) fn with_fetched(own: &Folder, path: &Path, name: &str) -> anyhow::Result<Folder> {
    let shown = Path::new(name);
    let sources = Sources {
        config: own.sources.config.clone(),
        participants: own.sources.participants.clone(),
        ..Sources::default()
    };
    let mut folder = with_content(path.to_owned(), shown, sources)?;
    let workshop = "arena/workshop.yaml";
    if folder.sources.files.contains(workshop) {
        folder.sources.workshop = read_file(&path.join(workshop), &shown.join(workshop))?;
    }
    Ok(folder)
}

/// Adds navigations, exercises and the list of files.
fn with_content(path: PathBuf, shown: &Path, sources: Sources) -> anyhow::Result<Folder> {
    let mut files = BTreeSet::new();
    list(&path, "", &mut files)?;
    let source = |inside: &str| read_file(&path.join(inside), &shown.join(inside));
    let many = |folder: &str, endings: &[&str]| -> anyhow::Result<BTreeMap<String, SourceFile>> {
        let mut found = BTreeMap::new();
        for file in files.iter().filter(|file| {
            file.starts_with(folder) && endings.iter().any(|ending| file.ends_with(ending))
        }) {
            if let Some(text) = source(file)? {
                found.insert(file.clone(), text);
            }
        }
        Ok(found)
    };
    let sources = Sources {
        navigations: many("docs/_data/", &[".yml", ".yaml"])?,
        exercises: many("arena/exercises/", &[".yaml", ".yml"])?,
        files,
        ..sources
    };
    Ok(Folder { path, sources })
}

fn read_file(path: &Path, shown: &Path) -> anyhow::Result<Option<SourceFile>> {
    use std::io::Read;
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot open {}", shown.display()));
        }
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", shown.display()))?;
    Ok(Some(SourceFile::new(shown.display().to_string(), bytes)))
}

fn list(root: &Path, inside: &str, files: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let folder = root.join(inside);
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if inside.is_empty() {
            name.clone()
        } else {
            format!("{inside}/{name}")
        };
        let kind = entry
            .file_type()
            .with_context(|| format!("cannot look at {path}"))?;
        if kind.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                list(root, &path, files)?;
            }
        } else if kind.is_file() && files.len() < PATHS_MAX {
            files.insert(path);
        }
    }
    Ok(())
}
