//! Where an event's files and sockets are. The folders themselves come from
//! `arena_local::paths`; here are the names inside them that the platform uses.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use arena_workshop::SeatId;
use tokio::net::UnixListener;

use crate::failure::Failure;

/// Folders of one event.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// `{state}/{event}`: everything that survives. 0700.
    pub(crate) state: PathBuf,
    /// Sockets; a short path, 0700.
    pub(crate) runtime: PathBuf,
    /// Tools of this user.
    pub(crate) cache: PathBuf,
}

impl Places {
    /// Makes the folders.
    ///
    /// # Errors
    /// When one cannot be made.
    pub(crate) fn make(&self) -> anyhow::Result<()> {
        for folder in [
            &self.state,
            &self.runtime,
            &self.cache,
            &self.state.join("logs"),
        ] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(())
    }

    /// The portal's own socket.
    pub(crate) fn portal_socket(&self) -> PathBuf {
        self.runtime.join("portal.sock")
    }

    /// The folder whose sockets a seat sees as its services.
    pub(crate) fn services(&self, seat: &SeatId) -> PathBuf {
        self.runtime.join("svc").join(seat.as_str())
    }

    /// Where a service of a seat listens; its folder is made.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(crate) fn service(&self, seat: &SeatId, socket: &str) -> anyhow::Result<PathBuf> {
        let folder = self.services(seat);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder.join(socket))
    }

    /// The command line's door.
    pub(crate) fn door_socket(&self) -> PathBuf {
        self.runtime.join("platform.sock")
    }
}

/// Takes the event's lock; it is held as long as the file is open, and ends with the process.
///
/// # Errors
/// Exit code 3 when another `up` holds it, with its process id.
pub(crate) fn lock(places: &Places) -> Result<std::fs::File, Failure> {
    use std::io::{Read, Write};
    let path = places.state.join("lock");
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = opened
        .with_context(|| format!("cannot open {}", path.display()))
        .map_err(Failure::environment)?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        let error = anyhow::anyhow!("this event runs already (process {})", holder.trim());
        return Err(Failure::environment(error)
            .hint("see it with `arena status`, end it with `arena down`"));
    }
    file.set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

/// Binds a socket of the platform, 0600; what a killed platform left there is removed. The event's
/// lock is held, so nobody else listens.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, Failure> {
    bind_with_mode(path, 0o600)
}

/// Binds a socket that a seat connects to from its own user; the folder around it is ours.
pub(crate) fn bind_for_seat(path: &Path) -> Result<UnixListener, Failure> {
    bind_with_mode(path, 0o666)
}

/// Writes a file that a seat reads, among its sockets.
pub(crate) fn write_for_seat(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let written = std::fs::write(&new, text)
        .and_then(|()| std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644)))
        .and_then(|()| std::fs::rename(&new, path));
    Ok(written.with_context(|| format!("cannot write {}", path.display()))?)
}

fn bind_with_mode(path: &Path, mode: u32) -> Result<UnixListener, Failure> {
    let bound = (|| {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok(listener)
    })();
    Ok(bound.with_context(|| format!("cannot listen on {}", path.display()))?)
}
