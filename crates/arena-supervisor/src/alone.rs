//! Ends what a child has left at work in a folder.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long the kernel may take to end a killed process.
const SECONDS: i64 = 5;

/// Kills every process whose working directory is this folder, and waits until they are gone.
pub(crate) async fn end_others(folder: Option<&Path>) {
    let Some(folder) = folder.map(Path::to_owned) else {
        return;
    };
    // It ends within seconds; a panic there would be told by the runtime.
    let _ = tokio::task::spawn_blocking(move || end_all_in(&folder)).await;
}

fn end_all_in(folder: &Path) {
    let Ok(folder) = folder.canonicalize() else {
        return;
    };
    let limit = Timespec {
        tv_sec: SECONDS,
        tv_nsec: 0,
    };
    // All are told before any is waited for.
    let killed: Vec<OwnedFd> = processes()
        .filter_map(|pid| kill_in(pid, &folder))
        .collect();
    for process in &killed {
        let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit));
    }
    if !killed.is_empty() {
        let count = killed.len();
        tracing::info!(
            count,
            "ended processes that were left in {}",
            folder.display()
        );
    }
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

fn kill_in(pid: Pid, folder: &PathBuf) -> Option<OwnedFd> {
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Asked after it was opened: the number cannot have become another's in between.
    let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    (works_in == *folder && pidfd_send_signal(&process, Signal::KILL).is_ok()).then_some(process)
}
