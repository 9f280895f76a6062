//! Files of the seat, opened so that they can only be what they seem: beneath
//! their folder, without links, regular, non-blocking, of bounded size. The
//! paths come from requests, the files from a stranger.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// An opened folder; lookups cannot leave it.
pub(crate) struct Folder {
    descriptor: OwnedFd,
}

impl Folder {
    /// Opens a folder whose path we chose ourselves.
    pub(crate) fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Folder { descriptor })
    }

    /// Opens a folder beneath this one.
    pub(crate) fn folder(&self, path: &str) -> io::Result<Folder> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = if path.is_empty() { "." } else { path };
        Ok(Folder {
            descriptor: self.lookup(path, flags)?,
        })
    }

    /// Opens a regular file beneath this folder, for reading.
    pub(crate) fn file(&self, path: &str) -> io::Result<(File, rustix::fs::Stat)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = self.lookup(path, flags)?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        Ok((File::from(file), stat))
    }

    /// Reads a regular file of at most `limit` bytes.
    pub(crate) fn read(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let (file, _) = self.file(path)?;
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(bytes)
    }

    fn lookup(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        // The kernel asks for another try when a folder is renamed meanwhile.
        for _ in 0..8 {
            match openat2(&self.descriptor, path, flags, Mode::empty(), within) {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
        Err(io::Error::from(io::ErrorKind::WouldBlock))
    }
}
