//! Ends what a child's program has left at work in a folder.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::ChildSpec;

/// How long the kernel may take to end a killed process.
const SECONDS: i64 = 5;

/// Kills the processes that a child must not meet, and waits until they are gone.
pub(crate) async fn end_others(spec: &ChildSpec) {
    let Some(folder) = spec.alone_in.clone() else {
        return;
    };
    // A program that becomes another one, as setpriv does, has that one's path among its arguments.
    let words = spec.args.iter().map(|word| Path::new(word.as_os_str()));
    let programs: Vec<PathBuf> = [spec.program.as_path()]
        .into_iter()
        .chain(words)
        .filter(|path| path.is_absolute())
        .map(Path::to_owned)
        .collect();
    // It ends within seconds; a panic there would be told by the runtime.
    let _ = tokio::task::spawn_blocking(move || end_all(&folder, &programs)).await;
}

fn end_all(folder: &Path, programs: &[PathBuf]) {
    let Ok(folder) = folder.canonicalize() else {
        return;
    };
    let programs: Vec<PathBuf> = programs
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    let limit = Timespec {
        tv_sec: SECONDS,
        tv_nsec: 0,
    };
    // All are told before any is waited for.
    let killed: Vec<OwnedFd> = processes()
        .filter_map(|pid| kill_if(pid, &folder, &programs))
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
    let number = |name: &OsStr| Pid::from_raw(name.to_str()?.parse().ok()?);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |entry| number(&entry.file_name()))
}

fn kill_if(pid: Pid, folder: &Path, programs: &[PathBuf]) -> Option<OwnedFd> {
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Asked after it was opened: the number cannot have become another's in between.
    let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let runs = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let is_meant = works_in == folder && programs.contains(&runs);
    (is_meant && pidfd_send_signal(&process, Signal::KILL).is_ok()).then_some(process)
}
