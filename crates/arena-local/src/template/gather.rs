//! Copies a workshop's content into a new folder, leaving out what a seat never gets, and hashes
//! what it copies. The content may be a stranger's repository: links are never followed, and one
//! that leads out of the content is refused, because a seat would follow it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat,
    statat, symlinkat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The most that a workshop may hold without its dependencies.
const BYTES_MAX: u64 = 2 << 30;
const FILES_MAX: u64 = 200_000;
const DEPTH_MAX: usize = 64;

/// Never part of a workshop's content, wherever they lie: made from it, or its history.
const NEVER: [&str; 2] = ["node_modules", ".git"];

const OPEN_FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Content could not be copied.
#[derive(Debug, Error)]
pub enum GatherError {
    /// A link leads out of the content.
    #[error("the link {path} leads out of the workshop, to {target}")]
    LinkLeaves {
        /// Where it lies.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// More than a seat should get.
    #[error(
        "the workshop is too large at {path}: at most 2 GiB, 200,000 files and 64 folders deep"
    )]
    TooLarge {
        /// Where the limit was met.
        path: String,
    },
    /// The disk refuses.
    #[error("cannot copy {path}")]
    Files {
        /// Of what.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// A copy in progress.
pub(crate) struct Gather<'a> {
    /// Paths inside the content that are left out.
    removed: &'a [String],
    hash: Sha256,
    bytes: u64,
    files: u64,
}

impl<'a> Gather<'a> {
    /// Returns a copy that leaves out `removed`.
    pub(crate) fn new(removed: &'a [String]) -> Gather<'a> {
        Gather {
            removed,
            hash: Sha256::new(),
            bytes: 0,
            files: 0,
        }
    }

    /// Copies the tree `from` into the new folder `to`.
    pub(crate) fn tree(&mut self, from: &Path, to: &Path) -> Result<(), GatherError> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |errno: Errno| GatherError::Files {
                path,
                source: errno.into(),
            }
        };
        // The author may name the content by a link; inside it we follow none.
        let follow = OPEN_FOLDER.difference(OFlags::NOFOLLOW);
        let source = openat(CWD, from, follow, Mode::empty()).map_err(failed(from))?;
        mkdirat(CWD, to, Mode::from_raw_mode(0o755)).map_err(failed(to))?;
        let target = openat(CWD, to, OPEN_FOLDER, Mode::empty()).map_err(failed(to))?;
        self.folder(&source, &target, "")
    }

    /// Lays one file of the content `from_tree` over the copy `to_tree`.
    pub(crate) fn overlay(
        &mut self,
        from_tree: &Path,
        from: &str,
        to_tree: &Path,
        to: &str,
    ) -> Result<(), GatherError> {
        let failed = |source: io::Error| GatherError::Files {
            path: from.to_owned(),
            source,
        };
        let inside =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let open = |tree: &Path, path: &str, flags: OFlags| -> Result<OwnedFd, Errno> {
            let folder = openat(
                CWD,
                tree,
                OPEN_FOLDER.difference(OFlags::NOFOLLOW),
                Mode::empty(),
            )?;
            let mode = if flags.contains(OFlags::CREATE) {
                Mode::from_raw_mode(0o644)
            } else {
                Mode::empty()
            };
            openat2(
                folder,
                path,
                flags | OFlags::CLOEXEC | OFlags::NONBLOCK,
                mode,
                inside,
            )
        };
        let source = open(from_tree, from, OFlags::RDONLY).map_err(|errno| failed(errno.into()))?;
        if let Some((parent, _)) = to.rsplit_once('/') {
            let parent = to_tree.join(parent);
            if parent.is_relative() || to.split('/').any(|part| part == "..") {
                return Err(failed(io::Error::other("leads out of the workshop")));
            }
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let target = open(to_tree, to, flags).map_err(|errno| failed(errno.into()))?;
        self.note("overlay", to, false);
        self.file(File::from(source), File::from(target), from)
    }

    /// Adds a fact that the template depends on besides its files.
    pub(crate) fn fact(&mut self, name: &str, value: &str) {
        self.note(name, value, false);
    }

    /// Returns the key of what was copied: 32 hexadecimal digits.
    pub(crate) fn key(self) -> String {
        self.hash
            .finalize()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Hashes a kind and a text, each ended unmistakably.
    fn note(&mut self, kind: &str, text: &str, is_executable: bool) {
        for part in [kind, text, if is_executable { "x" } else { "-" }] {
            self.hash.update(part.as_bytes());
            self.hash.update([0]);
        }
    }

    fn folder(&mut self, from: &OwnedFd, to: &OwnedFd, path: &str) -> Result<(), GatherError> {
        let failed = |errno: Errno| GatherError::Files {
            path: path.to_owned(),
            source: errno.into(),
        };
        if path.split('/').count() > DEPTH_MAX {
            return Err(GatherError::TooLarge {
                path: path.to_owned(),
            });
        }
        // Sorted: the same files give the same key on every disk.
        for name in sorted_names(from).map_err(failed)? {
            let inner = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}/{name}")
            };
            if NEVER.contains(&name.as_str())
                || self
                    .removed
                    .iter()
                    .any(|left_out| left_out.trim_end_matches('/') == inner)
            {
                continue;
            }
            self.entry(from, to, &name, &inner)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &str,
        inner: &str,
    ) -> Result<(), GatherError> {
        let failed = |errno: Errno| GatherError::Files {
            path: inner.to_owned(),
            source: errno.into(),
        };
        self.files += 1;
        if self.files > FILES_MAX {
            return Err(GatherError::TooLarge {
                path: inner.to_owned(),
            });
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.note("folder", inner, false);
                mkdirat(to, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
                let source = openat(from, name, OPEN_FOLDER, Mode::empty()).map_err(failed)?;
                let target = openat(to, name, OPEN_FOLDER, Mode::empty()).map_err(failed)?;
                self.folder(&source, &target, inner)
            }
            FileType::RegularFile => {
                let is_executable = stat.st_mode & 0o111 != 0;
                self.note("file", inner, is_executable);
                let reading =
                    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let writing = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(if is_executable { 0o755 } else { 0o644 });
                let source = openat(from, name, reading, Mode::empty()).map_err(failed)?;
                let target = openat(to, name, writing, mode).map_err(failed)?;
                self.file(File::from(source), File::from(target), inner)
            }
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new()).map_err(failed)?;
                let text = target.to_string_lossy().into_owned();
                if leads_out(inner, &text) {
                    return Err(GatherError::LinkLeaves {
                        path: inner.to_owned(),
                        target: text,
                    });
                }
                self.note("link", inner, false);
                self.note("to", &text, false);
                symlinkat(&*target, to, name).map_err(failed)
            }
            // Sockets, pipes and devices are nobody's content.
            _ => Ok(()),
        }
    }

    fn file(&mut self, mut from: File, mut to: File, path: &str) -> Result<(), GatherError> {
        let failed = |source| GatherError::Files {
            path: path.to_owned(),
            source,
        };
        let mut piece = vec![0; 64 << 10];
        let mut length = 0_u64;
        loop {
            let count = from.read(&mut piece).map_err(failed)?;
            if count == 0 {
                self.hash.update(length.to_be_bytes());
                return Ok(());
            }
            let added = u64::try_from(count).expect("a piece is small");
            (length, self.bytes) = (length + added, self.bytes + added);
            if self.bytes > BYTES_MAX {
                return Err(GatherError::TooLarge {
                    path: path.to_owned(),
                });
            }
            self.hash.update(&piece[..count]);
            to.write_all(&piece[..count]).map_err(failed)?;
        }
    }
}

/// Whether a link at `path` leads out of the tree, judged by its text alone.
fn leads_out(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return true;
    }
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

fn sorted_names(folder: &OwnedFd) -> Result<BTreeSet<String>, Errno> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_str().map_err(|_| Errno::ILSEQ)?;
        if name != "." && name != ".." {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::leads_out;

    #[test]
    fn a_link_may_lead_anywhere_inside() {
        assert!(!leads_out("server/a", "../app/b"));
        assert!(!leads_out("a", "b/../c"));
        for (path, target) in [
            ("a", "/etc/passwd"),
            ("a", "../x"),
            ("server/a", "../../x"),
            ("a", "b/../../x"),
        ] {
            assert!(leads_out(path, target), "{path} -> {target}");
        }
    }
}
