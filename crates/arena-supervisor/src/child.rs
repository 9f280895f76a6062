//! A child as others see it: its state, its output, and what may be asked of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::ChildSpec;
use crate::output::{Follow, Output};

/// How a child is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not started yet, on purpose ([`ChildSpec::asleep`]).
    Asleep,
    /// Runs, not ready yet.
    Starting,
    /// Runs and is ready.
    Ready,
    /// Ended and will be started again after a wait; says why it ended.
    Waiting(String),
    /// Given up; says why, with the last lines of output. [`Child::restart`] tries again.
    Failed(String),
    /// Ended and shall not restart: its exit code (`None`: a signal) and how it ended.
    Ended(Option<i32>, String),
    /// Stopped because we wanted it; final.
    Stopped,
}

/// State with the numbers that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How it is doing.
    pub state: State,
    /// How often it has been started again.
    pub restarts: u32,
    /// Process id of the running child, which is also its process group.
    pub pid: Option<u32>,
}

/// A child could not be waited for.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It failed for good, ended or was stopped.
    #[error("{name} did not start: {message}")]
    Ended {
        /// The child.
        name: String,
        /// Why, with its last output.
        message: String,
    },
    /// It is still trying.
    #[error("{name} is not ready after {} s", limit.as_secs())]
    TooLate {
        /// The child.
        name: String,
        /// How long we waited.
        limit: Duration,
    },
}

/// A handle on a child; cheap to clone. Dropping handles does not end the child.
#[derive(Clone)]
pub struct Child {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) output: Output,
    pub(crate) stop: CancellationToken,
    pub(crate) kill: CancellationToken,
    pub(crate) restart: Notify,
    /// Cancelled when the child's task has ended, in whichever way.
    pub(crate) gone: CancellationToken,
}

impl Child {
    pub(crate) fn new(spec: &ChildSpec) -> Child {
        let status = Status {
            state: if spec.asleep {
                State::Asleep
            } else {
                State::Starting
            },
            restarts: 0,
            pid: None,
        };
        Child {
            inner: Arc::new(Inner {
                name: spec.name.clone(),
                status: watch::Sender::new(status),
                output: Output::new(spec.log.clone(), spec.tail_lines),
                stop: CancellationToken::new(),
                kill: CancellationToken::new(),
                restart: Notify::new(),
                gone: CancellationToken::new(),
            }),
        }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns how it is doing now.
    pub fn status(&self) -> Status {
        self.inner.status.borrow().clone()
    }

    /// Returns a receiver that sees every later status, skipping those overtaken by newer ones.
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.inner.status.subscribe()
    }

    /// Returns the last lines of its output, at most `lines`.
    pub fn tail(&self, lines: usize) -> Vec<Arc<str>> {
        self.inner.output.tail(lines)
    }

    /// Returns the kept lines of output and all that follow, without gap or repetition.
    pub fn follow(&self) -> Follow {
        self.inner.output.follow()
    }

    /// Writes a line of our own into its output, such as a notice for who reads along.
    pub fn note(&self, line: &str) {
        self.inner.output.line(line);
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It was given up, ended or stopped; or `limit` has passed.
    pub async fn ready(&self, limit: Duration) -> Result<(), NotReady> {
        let mut changes = self.changes();
        let settled = changes.wait_for(|status| {
            !matches!(
                status.state,
                State::Asleep | State::Starting | State::Waiting(_)
            )
        });
        let Ok(status) = tokio::time::timeout(limit, settled).await else {
            return Err(NotReady::TooLate {
                name: self.name().to_owned(),
                limit,
            });
        };
        let status = status.expect("the handle itself keeps the sender alive");
        let message = match &status.state {
            State::Ready => return Ok(()),
            State::Failed(message) | State::Ended(_, message) => message.clone(),
            State::Stopped | State::Asleep | State::Starting | State::Waiting(_) => {
                "it was stopped".to_owned()
            }
        };
        Err(NotReady::Ended {
            name: self.name().to_owned(),
            message,
        })
    }

    /// Asks for a restart: a running child is stopped with its grace first; one that sleeps, waits
    /// or was given up starts at once. A stopped child stays stopped.
    pub fn restart(&self) {
        self.inner.restart.notify_one();
    }

    /// Stops it: signal to its process group, grace, kill. Returns when it is gone.
    pub async fn stop(&self) {
        self.begin_stop();
        self.stopped().await;
    }

    /// Begins to stop it and returns at once; [`Child::stopped`] waits.
    pub fn begin_stop(&self) {
        self.inner.stop.cancel();
    }

    /// Kills its process group without grace; [`Child::stopped`] waits.
    pub fn begin_kill(&self) {
        self.inner.kill.cancel();
        self.inner.stop.cancel();
    }

    /// Waits until it has been stopped and its processes are gone.
    pub async fn stopped(&self) {
        self.inner.gone.cancelled().await;
    }

    pub(crate) fn is(&self, other: &Child) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn set(&self, state: State, pid: Option<u32>) {
        self.inner.status.send_if_modified(|status| {
            let changed = status.state != state || status.pid != pid;
            status.state = state;
            status.pid = pid;
            changed
        });
    }
}
