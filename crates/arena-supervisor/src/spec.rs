//! What a child shall be: plain values, all with defaults except name and program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{LogFile, Ready};

/// Everything about a child process. Make it with [`ChildSpec::new`] and set the fields that differ:
///
/// ```
/// # use arena_supervisor::{ChildSpec, Ready};
/// let spec = ChildSpec {
///     args: vec!["index.js".into()],
///     ready: Ready::Port(5000),
///     ..ChildSpec::new("backend", "/usr/bin/node")
/// };
/// ```
pub struct ChildSpec {
    /// Names it in messages and logs.
    pub name: String,
    /// The program; without a slash it is looked up in the `PATH` of `environment`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment: nothing is inherited.
    pub environment: BTreeMap<OsString, OsString>,
    /// Its working directory, `/` by default.
    pub directory: PathBuf,
    /// Folder where no other process of its program may be at work: before each start and after each stop,
    /// those whose working directory it is are killed. A killed PostgreSQL leaves processes in sessions of
    /// their own, and one of them that does not notice keeps every new server from starting.
    pub alone_in: Option<PathBuf>,
    /// Descriptors handed over, with their numbers in the child (3 and above).
    pub descriptors: Vec<(Arc<OwnedFd>, i32)>,
    /// Whether its standard input is a pipe that stays empty and ends when our process does, however
    /// it dies; otherwise there is no input at all. A program that starts late learns by it that we are gone.
    pub lifeline: bool,
    /// Signal to the child when our process dies, however it dies.
    pub parent_death: Option<ParentDeath>,
    /// When it counts as ready.
    pub ready: Ready,
    /// How long it may take to be ready; then it is killed, which counts as a failure.
    pub ready_within: Duration,
    /// What happens when it ends.
    pub restart: Restart,
    /// First signal of a stop, sent to its process group.
    pub stop_signal: StopSignal,
    /// Time between that signal and the kill.
    pub grace: Duration,
    /// File that receives its output.
    pub log: Option<LogFile>,
    /// Lines of output kept in memory (at most 64 KiB in all).
    pub tail_lines: usize,
    /// Children with the same label are stopped at the same time, such as all seats.
    pub together: Option<String>,
    /// Whether it sleeps until the first [`crate::Child::restart`].
    pub asleep: bool,
}

impl ChildSpec {
    /// Returns a child that is ready as soon as it runs, restarts by [`Restart::default`], stops
    /// by SIGTERM with five seconds of grace, and has an empty environment.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> ChildSpec {
        ChildSpec {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            environment: BTreeMap::new(),
            directory: PathBuf::from("/"),
            alone_in: None,
            descriptors: Vec::new(),
            lifeline: false,
            parent_death: None,
            ready: Ready::Started,
            ready_within: Duration::from_secs(60),
            restart: Restart::default(),
            stop_signal: StopSignal::Terminate,
            grace: Duration::from_secs(5),
            log: None,
            tail_lines: 200,
            together: None,
            asleep: false,
        }
    }
}

/// What happens when a child ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Failures in a row before it is given up; 0 never restarts.
    pub attempts: u32,
    /// Wait before the first restart; doubles each time, plus up to a quarter of jitter.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// A child that ran this long is healthy again: the count starts anew.
    pub healthy_after: Duration,
}

impl Restart {
    /// Runs the program once; its end is [`crate::State::Ended`].
    pub fn never() -> Restart {
        Restart {
            attempts: 0,
            ..Restart::default()
        }
    }
}

impl Default for Restart {
    fn default() -> Restart {
        Restart {
            attempts: 5,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(10),
            healthy_after: Duration::from_secs(30),
        }
    }
}

/// Signal sent by the kernel to a direct child when we die. Done by `setpriv`; it does not
/// survive the exec of a set-user-id program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentDeath {
    /// SIGKILL.
    Kill,
    /// SIGINT: PostgreSQL's fast shutdown.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// The first signal of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM.
    Terminate,
    /// SIGINT: PostgreSQL's fast shutdown.
    Interrupt,
    /// SIGKILL: for what hears no other, such as the first process of a process namespace.
    Kill,
}
