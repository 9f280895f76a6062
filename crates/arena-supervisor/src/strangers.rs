//! Processes that are nobody's child any more: found by what they are, ended, and waited for.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::ChildSpec;

/// How many seconds the kernel may take to end a killed process.
const SECONDS: i64 = 5;

/// Kills (SIGKILL) every process of this machine that is meant and that this process may kill, waits until all are
/// gone, for five seconds at most, and returns how many there were. `is_meant` gets a process's folder below `/proc`;
/// what it reads there is of the process that is killed, not of a later one with the same number. Blocks.
pub fn kill_where(is_meant: impl Fn(&Path) -> bool) -> usize {
    let number = |name: &OsStr| Pid::from_raw(name.to_str()?.parse().ok()?);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    // All are told before any is waited for.
    let killed: Vec<OwnedFd> = entries
        .filter_map(|entry| {
            let process = pidfd_open(number(&entry.file_name())?, PidfdFlags::empty()).ok()?;
            // Asked after it was opened: the number cannot have become another's in between.
            let is_killed =
                is_meant(&entry.path()) && pidfd_send_signal(&process, Signal::KILL).is_ok();
            is_killed.then_some(process)
        })
        .collect();
    for process in &killed {
        has_ended(process, SECONDS);
    }
    killed.len()
}

/// Waits so many seconds at most for a process to end, and returns whether it has. Blocks.
pub fn has_ended(process: impl AsFd, seconds: i64) -> bool {
    let limit = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
}

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
    let count = kill_where(|process| {
        let works_here = fs::read_link(process.join("cwd")).is_ok_and(|path| path == folder);
        works_here
            && fs::read_link(process.join("exe")).is_ok_and(|program| programs.contains(&program))
    });
    if count > 0 {
        tracing::info!(
            count,
            "ended processes that were left in {}",
            folder.display()
        );
    }
}
