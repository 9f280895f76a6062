//! One running process group: spawned from the supervisor's thread, watched
//! through a pidfd, and killed as a whole before its leader is reaped, so that
//! the group's number cannot belong to anyone else.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use crate::{ChildSpec, ParentDeath, StopSignal};

/// Sets the parent-death signal and becomes the program. Part of util-linux, always installed.
const SETPRIV: &str = "/usr/bin/setpriv";

type Job = (Command, oneshot::Sender<io::Result<std::process::Child>>);

/// The thread that spawns. It ends when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct Spawner {
    jobs: mpsc::Sender<Job>,
}

impl Spawner {
    pub(crate) fn new() -> io::Result<Spawner> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let work = move || {
            for (mut command, answer) in inbox {
                // A receiver that is gone has dropped the child's task: end what was just started.
                if let Err(Ok(mut orphan)) = answer.send(command.spawn()) {
                    let _ = orphan.kill();
                    let _ = orphan.wait();
                }
            }
        };
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .stack_size(128 * 1024)
            .spawn(work)?;
        Ok(Spawner { jobs })
    }

    /// Starts the process of a spec.
    pub(crate) async fn spawn(&self, spec: &ChildSpec) -> io::Result<Process> {
        let (answer, started) = oneshot::channel();
        let gone = || io::Error::other("the spawner thread is gone");
        self.jobs
            .send((command(spec)?, answer))
            .map_err(|_| gone())?;
        let mut leader = started.await.map_err(|_| gone())??;
        let pid = i32::try_from(leader.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("the system gives positive process ids");
        let stdout = leader
            .stdout
            .take()
            .map(OwnedFd::from)
            .expect("stdout was piped");
        let stderr = leader
            .stderr
            .take()
            .map(OwnedFd::from)
            .expect("stderr was piped");
        // From here on a drop kills the group, also when the next lines fail.
        let mut process = Process {
            leader,
            pid,
            reaped: false,
            watch: None,
        };
        let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        process.watch = Some(Watch {
            exit: registered(pidfd)?,
            stdout: Some(Receiver::from_owned_fd(stdout)?),
            stderr: Some(Receiver::from_owned_fd(stderr)?),
        });
        Ok(process)
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for types that break the rules of ownership; OwnedFd keeps them"
)]
fn registered(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

/// Translates a spec for the standard library.
fn command(spec: &ChildSpec) -> io::Result<Command> {
    let mut command = match spec.parent_death {
        None => Command::new(&spec.program),
        Some(signal) => {
            let name = match signal {
                ParentDeath::Kill => "KILL",
                ParentDeath::Interrupt => "INT",
                ParentDeath::Terminate => "TERM",
            };
            let program = resolve(&spec.program, spec.environment.get(&OsString::from("PATH")))?;
            let mut wrapper = Command::new(SETPRIV);
            wrapper.args(["--pdeathsig", name, "--"]).arg(program);
            wrapper
        }
    };
    command
        .args(&spec.args)
        .env_clear()
        .envs(&spec.environment)
        .current_dir(&spec.directory)
        // The end of ours stays with the leader's handle.
        .stdin(if spec.lifeline {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut mappings = Vec::new();
    for (descriptor, number) in &spec.descriptors {
        mappings.push(FdMapping {
            parent_fd: descriptor.try_clone()?,
            child_fd: *number,
        });
    }
    if !mappings.is_empty() {
        command
            .fd_mappings(mappings)
            .map_err(|_| io::Error::other("two descriptors have one number"))?;
    }
    Ok(command)
}

/// Finds a program before the wrapper does, so that a missing one is our error with its name.
fn resolve(program: &Path, path: Option<&OsString>) -> io::Result<std::path::PathBuf> {
    if program.components().count() > 1 {
        std::fs::metadata(program)?;
        return Ok(program.to_owned());
    }
    let folders = path
        .map(|path| std::env::split_paths(path).collect::<Vec<_>>())
        .unwrap_or_default();
    let found = folders
        .iter()
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// A process group that runs. Dropping it kills the group.
pub(crate) struct Process {
    leader: std::process::Child,
    pid: Pid,
    reaped: bool,
    watch: Option<Watch>,
}

struct Watch {
    exit: AsyncFd<OwnedFd>,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.leader.id()
    }

    /// Hands out both ends of output, once.
    pub(crate) fn take_output(&mut self) -> (Receiver, Receiver) {
        let watch = self.watch.as_mut().expect("set when it was spawned");
        let twice = "output is taken once";
        (
            watch.stdout.take().expect(twice),
            watch.stderr.take().expect(twice),
        )
    }

    /// Waits until the leader has exited; it is not reaped yet, so the group keeps its number.
    pub(crate) async fn exited(&self) {
        let watch = self.watch.as_ref().expect("set when it was spawned");
        // An error means that the reactor is gone, and then nobody waits any more.
        let _ = watch.exit.readable().await;
    }

    /// Sends the stop signal to the group.
    pub(crate) fn signal(&self, signal: StopSignal) {
        let signal = match signal {
            StopSignal::Terminate => Signal::TERM,
            StopSignal::Interrupt => Signal::INT,
            StopSignal::Kill => Signal::KILL,
        };
        let _ = kill_process_group(self.pid, signal);
    }

    /// Kills the group without reaping its leader.
    pub(crate) fn kill(&self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
    }

    /// Kills what is left of the group and reaps the leader. Blocks for the moment in which the
    /// kernel ends a killed process.
    pub(crate) fn reap(mut self) -> io::Result<ExitStatus> {
        self.end()
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        self.reaped = true;
        self.leader.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.end();
        }
    }
}

/// Says how a process ended, as a fragment for messages.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "it ended by itself".to_owned(),
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(9)) => "it was killed (signal 9)".to_owned(),
        (None, signal) => format!("it was ended by signal {}", signal.unwrap_or_default()),
    }
}
