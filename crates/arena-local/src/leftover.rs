//! What outlived the platform.
//!
//! A database server: the kernel tells it to stop when the platform dies, but that takes it a
//! moment, and meanwhile it holds its folder and still answers: a new `up` must neither fail on it
//! nor take it for its own. And the helper that `unshare` starts to map user ids: killed between
//! the two, `unshare` leaves it waiting for a word that never comes. And the shared memory of a
//! database server that was killed.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use arena_supervisor::{has_ended, kill_where};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The file of a seat that says what its nest shall do.
pub(crate) const WORK_ORDER: &str = "nest.json";

/// How a server is told to end, each with the seconds that it gets: cancelling what runs, without
/// tidying up, and not asking at all.
const WAYS: [(Signal, i64); 3] = [(Signal::INT, 15), (Signal::QUIT, 5), (Signal::KILL, 5)];

/// Ends the PostgreSQL server that runs on a data directory, if there is one. Blocks until it is gone.
pub(crate) fn end_server(data: &Path) {
    let Some(server) = server_on(data) else {
        return;
    };
    tracing::info!("ending the server that was left on {}", data.display());
    for (signal, seconds) in WAYS {
        // It may have gone in this moment, which is what we want.
        let _ = pidfd_send_signal(&server, signal);
        if has_ended(&server, seconds) {
            return;
        }
    }
}

/// Ends the PostgreSQL server that runs on a data directory and gives back what the kernel keeps for it, before
/// the directory is removed. Blocks until it is gone.
///
/// A killed server leaves a piece of System V shared memory, which only the next server on the same directory looks
/// for. Without this, each directory that is removed after a kill would leave one until the machine starts
/// again, of the 4,096 that all programs of a machine have (`kernel.shmmni`).
pub fn end_server_for_good(data: &Path) {
    end_server(data);
    let Some(memory) = memory_of(data) else {
        return;
    };
    // A piece that is still in use goes with the last process that uses it.
    let removed = Command::new("ipcrm")
        .args(["--shmem-id", &memory])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !removed.is_ok_and(|status| status.success()) {
        tracing::info!("shared memory {memory} of {} is left", data.display());
    }
}

/// Returns the number of the shared memory that a server on this directory has left, if there is any.
///
/// Line 7 of the directory's lock file holds key and number of the piece (`miscadmin.h` of PostgreSQL); the kernel's
/// list says whether that number is still the one with that key.
fn memory_of(data: &Path) -> Option<String> {
    let lock = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let mut words = lock.lines().nth(6)?.split_whitespace();
    let (key, number) = (words.next()?, words.next()?);
    // Written there as a wide number without a sign; the kernel's are 32 bits with one.
    let key = key.parse::<u64>().ok()? & u64::from(u32::MAX);
    let key = u32::try_from(key).ok()?.cast_signed().to_string();
    let kernels = fs::read_to_string("/proc/sysvipc/shm").ok()?;
    let is_there = kernels
        .lines()
        .any(|line| line.split_whitespace().take(2).eq([key.as_str(), number]));
    is_there.then(|| number.to_owned())
}

/// Ends processes that were given a work order in this folder, and waits until they are gone. Only
/// ours can be ended. To be called while nothing of ours is started there. Blocks.
pub(crate) fn end_starters(folder: &Path) {
    let orders = folder.as_os_str().as_encoded_bytes();
    kill_where(|process| {
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|argument| {
            argument.starts_with(orders) && argument.ends_with(WORK_ORDER.as_bytes())
        })
    });
}

/// Finds the process that the directory's lock file names, if it really works there.
fn server_on(data: &Path) -> Option<OwnedFd> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let number: i32 = text.lines().next()?.trim().parse().ok()?;
    let server = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
    // Asked after it was opened: the number cannot have become another's in between.
    let works_in = fs::read_link(format!("/proc/{number}/cwd")).ok()?;
    (works_in == data.canonicalize().ok()?).then_some(server)
}
