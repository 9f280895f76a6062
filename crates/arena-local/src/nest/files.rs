//! Makes, hands over, copies and deletes trees, by descriptors of their folders and never by
//! following a link: what lies in them was written by strangers. Depth is limited where we
//! descend; deletion has no depth because it first moves what is deep to the top.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, mkdirat, openat,
    readlinkat, renameat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::{Fill, NestError, SEAT_ID};

/// Folders inside folders that we descend into. npm's deepest trees have about thirty.
const DEPTH_MAX: usize = 100;

/// Files that are measured before we say that they are too many: about a second.
const MEASURED_MAX: u32 = 200_000;

/// The folder that an overlay keeps shared instead of copying it to every seat.
const SHARED_FOLDER: &str = "node_modules";

const OPEN_FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Gives a tree to a user.
pub(super) fn own(folder: &Path, id: u32) -> Result<(), NestError> {
    let give = |at: BorrowedFd<'_>, name: &str, _: &Stat| give_to(at, name, id);
    let top = open_top(folder)?;
    walk(&top, &give, 0).map_err(cannot("hand over", folder))?;
    give_to(CWD, &folder.to_string_lossy(), id).map_err(cannot("hand over", folder))
}

/// Takes a tree back (to the namespace's first user) and lets everybody read and write it.
pub(super) fn seal(folder: &Path) -> Result<(), NestError> {
    let open_up = |at: BorrowedFd<'_>, name: &str, stat: &Stat| {
        give_to(at, name, 0)?;
        let mode = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => 0o777,
            FileType::RegularFile if stat.st_mode & 0o111 != 0 => 0o777,
            FileType::RegularFile => 0o666,
            // A link has no mode of its own; anything else (a socket, a pipe) is of no use to a seat.
            _ => return Ok(()),
        };
        chmodat(at, name, Mode::from_raw_mode(mode), AtFlags::empty())
    };
    let top = open_top(folder)?;
    walk(&top, &open_up, 0).map_err(cannot("seal", folder))?;
    let path = folder.to_string_lossy();
    give_to(CWD, &path, 0).map_err(cannot("seal", folder))?;
    chmodat(CWD, folder, Mode::from_raw_mode(0o777), AtFlags::empty())
        .map_err(cannot("seal", folder))
}

/// Copies a template's files into a new folder that belongs to the seat.
pub(super) fn fill(fill: &Fill) -> Result<(), NestError> {
    let from = open_top(&fill.from)?;
    mkdirat(CWD, &fill.to, Mode::from_raw_mode(0o755)).map_err(cannot("make", &fill.to))?;
    let to = open_top(&fill.to)?;
    copy(&from, &to, fill, 0).map_err(cannot("copy the template to", &fill.to))?;
    if fill.own_user {
        give_to(CWD, &fill.to.to_string_lossy(), SEAT_ID).map_err(cannot("hand over", &fill.to))?;
    }
    Ok(())
}

/// Deletes a tree. A missing one is fine.
pub(super) fn remove(folder: &Path) -> Result<(), NestError> {
    let top = match openat(CWD, folder, OPEN_FOLDER, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(cannot("open", folder)(errno)),
    };
    empty(&top).map_err(cannot("delete", folder))?;
    unlinkat(CWD, folder, AtFlags::REMOVEDIR).map_err(cannot("delete", folder))
}

/// Returns what a tree takes on the disk, while somebody may be at work in it.
pub(super) fn measure(folder: &Path) -> Result<u64, NestError> {
    let mut measured = Measured::default();
    let outcome = measured.add(&open_top(folder)?, 0);
    outcome.map_err(cannot("measure", folder))?;
    Ok(measured.bytes)
}

#[derive(Default)]
struct Measured {
    bytes: u64,
    entries: u32,
}

impl Measured {
    fn add(&mut self, folder: &OwnedFd, depth: usize) -> Result<(), Errno> {
        if depth > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        for name in names_as_bytes(folder)? {
            let stat = match statat(folder, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            };
            self.entries += 1;
            if self.entries > MEASURED_MAX {
                return Err(Errno::TOOBIG);
            }
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            self.bytes = self.bytes.saturating_add(blocks.saturating_mul(512));
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                match openat(folder, &*name, OPEN_FOLDER, Mode::empty()) {
                    Ok(inner) => self.add(&inner, depth + 1)?,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    }
}

fn cannot(verb: &str, folder: &Path) -> impl FnOnce(Errno) -> NestError {
    NestError::at(format!("cannot {verb} {}", folder.display()))
}

fn open_top(folder: &Path) -> Result<OwnedFd, NestError> {
    openat(CWD, folder, OPEN_FOLDER, Mode::empty()).map_err(cannot("open", folder))
}

fn give_to(at: impl AsFd, name: &str, id: u32) -> Result<(), Errno> {
    // Without a namespace of our own there is one user, to whom everything belongs.
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    chownat(
        at,
        name,
        Some(Uid::from_raw(id)),
        Some(Gid::from_raw(id)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

/// Names in a folder with their types, `.` and `..` left out. Names that are not UTF-8 are refused:
/// nothing of ours makes them, and git, npm and the editor stumble over them as well.
fn names(folder: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_str().map_err(|_| Errno::ILSEQ)?;
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

type Visit<'a> = &'a dyn Fn(BorrowedFd<'_>, &str, &Stat) -> Result<(), Errno>;

fn walk(folder: &OwnedFd, visit: Visit<'_>, depth: usize) -> Result<(), Errno> {
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    for name in names(folder)? {
        let stat = statat(folder, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            walk(
                &openat(folder, &*name, OPEN_FOLDER, Mode::empty())?,
                visit,
                depth + 1,
            )?;
        }
        visit(folder.as_fd(), &name, &stat)?;
    }
    Ok(())
}

fn copy(from: &OwnedFd, to: &OwnedFd, fill: &Fill, depth: usize) -> Result<(), Errno> {
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    for name in names(from)? {
        let stat = statat(from, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if name == SHARED_FOLDER && !fill.with_modules => continue,
            FileType::Directory => {
                mkdirat(to, &*name, Mode::from_raw_mode(0o755))?;
                let inner_from = openat(from, &*name, OPEN_FOLDER, Mode::empty())?;
                let inner_to = openat(to, &*name, OPEN_FOLDER, Mode::empty())?;
                copy(&inner_from, &inner_to, fill, depth + 1)?;
            }
            FileType::RegularFile => copy_file(from, to, &name, &stat)?,
            FileType::Symlink => symlinkat(&*readlinkat(from, &*name, Vec::new())?, to, &*name)?,
            _ => continue,
        }
        if fill.own_user {
            give_to(to, &name, SEAT_ID)?;
        }
    }
    Ok(())
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &str, stat: &Stat) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(if stat.st_mode & 0o111 != 0 {
        0o755
    } else {
        0o644
    });
    let reading = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let writing =
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut source = File::from(openat(from, name, reading, Mode::empty())?);
    let mut target = File::from(openat(to, name, writing, mode)?);
    io::copy(&mut source, &mut target)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    rustix::fs::fchmod(&target, mode)
}

/// Empties a folder of any depth with two descriptors: a folder found inside a folder that is
/// being emptied moves to the top and waits for its turn there.
fn empty(top: &OwnedFd) -> Result<(), Errno> {
    let mut waiting = names_as_bytes(top)?;
    let mut moved = 0_u64;
    while let Some(name) = waiting.pop() {
        if delete_simple(top, &name)? {
            continue;
        }
        // The namespace's first user may do all of this without the mode bits, except where there
        // is only one user: an overlay's work folder has mode 0.
        let _ = chmodat(top, &*name, Mode::from_raw_mode(0o700), AtFlags::empty());
        let folder = openat(top, &*name, OPEN_FOLDER, Mode::empty())?;
        for inner in names_as_bytes(&folder)? {
            if delete_simple(&folder, &inner)? {
                continue;
            }
            let _ = chmodat(
                &folder,
                &*inner,
                Mode::from_raw_mode(0o700),
                AtFlags::empty(),
            );
            moved += 1;
            let parked = format!(".arena-deleted-{moved}").into_bytes();
            renameat(&folder, &*inner, top, &*parked)?;
            waiting.push(parked);
        }
        unlinkat(top, &*name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Names as bytes: whatever a seat called its files.
fn names_as_bytes(folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Deletes a file, a link or an empty folder; returns whether it is gone.
fn delete_simple(folder: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno),
    }
}
