//! Starts, watches and ends child processes.
//!
//! A [`Supervisor`] owns its children: each runs in its own process group with
//! a cleared environment, is restarted with growing waits when it ends, and is
//! given up when that does not help. Its output is kept line by line: a tail in
//! memory, a rotated file, a live feed. It knows nothing about what the
//! children are. Begin with [`Supervisor::start`] and [`ChildSpec`];
//! `supervise.rs` holds the loop of one child.
//!
//! [`kill_where`] ends what an earlier run left.
//!
//! Nothing is detached: one task per child, joined by [`Supervisor::stop_all`]
//! or aborted on drop, and a dropped child's process group is killed. A panic
//! in a task shows as [`State::Failed`] and is raised again by `stop_all`.

mod child;
mod output;
mod process;
mod ready;
mod spec;
mod strangers;
mod supervise;

use std::io;
use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use child::{Child, NotReady, State, Status};
pub use output::{Follow, LogFile};
pub use ready::Ready;
pub use spec::{ChildSpec, ParentDeath, Restart, StopSignal};
pub use strangers::{has_ended, kill_where};

use process::Spawner;

/// Owns child processes, from start to end.
pub struct Supervisor {
    spawner: Spawner,
    entries: Mutex<Vec<Entry>>,
}

/// A child and the task that watches over it.
struct Entry {
    child: Child,
    together: Option<String>,
    task: AbortOnDropHandle<()>,
}

impl Supervisor {
    /// Makes a supervisor with its one long-lived thread, from which all children are spawned:
    /// parent-death signals follow the thread, so it lives as long as the supervisor.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn new() -> io::Result<Supervisor> {
        Ok(Supervisor {
            spawner: Spawner::new()?,
            entries: Mutex::default(),
        })
    }

    /// Starts a child and returns at once; [`Child::ready`] waits for it. A program that cannot
    /// be started is a failure like any other: retried, then [`State::Failed`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(&self, spec: ChildSpec) -> Child {
        let child = Child::new(&spec);
        let together = spec.together.clone();
        let task = tokio::spawn(supervise::supervise(
            spec,
            child.clone(),
            self.spawner.clone(),
        ));
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| !entry.has_ended());
        entries.push(Entry {
            child: child.clone(),
            together,
            task: AbortOnDropHandle::new(task),
        });
        child
    }

    /// Returns the children in order of start.
    pub fn children(&self) -> Vec<Child> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|entry| entry.child.clone()).collect()
    }

    /// Stops all children in reverse order of start, those with one [`ChildSpec::together`] label
    /// at once. Cancelling `at_once` (a second Ctrl-C) kills what is left immediately.
    ///
    /// # Panics
    /// Raises the panic of a child's task again, after everything has been stopped.
    ///
    /// # Cancellation
    /// Children not yet stopped keep running; call it again.
    pub async fn stop_all(&self, at_once: &CancellationToken) {
        loop {
            let batch = self.last_batch();
            if batch.is_empty() {
                break;
            }
            for child in &batch {
                child.begin_stop();
            }
            for child in &batch {
                // Dropping `stopped` halfway loses nothing: it only watches the state.
                tokio::select! {
                    () = child.stopped() => {}
                    () = at_once.cancelled() => {
                        self.kill_all();
                        child.stopped().await;
                    }
                }
            }
            if let Err(panic) = self.join(&batch).await {
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// Kills every child's process group now, without grace. [`Supervisor::stop_all`] then returns quickly.
    pub fn kill_all(&self) {
        for child in self.children() {
            child.begin_kill();
        }
    }

    /// The children to stop next: the youngest one left, with those that stop together with it.
    fn last_batch(&self) -> Vec<Child> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = entries.last() else {
            return Vec::new();
        };
        let with_it = |entry: &&Entry| {
            entry.child.is(&last.child)
                || (entry.together.is_some() && entry.together == last.together)
        };
        entries
            .iter()
            .filter(with_it)
            .map(|entry| entry.child.clone())
            .collect()
    }

    /// Waits for the tasks of stopped children and forgets them.
    async fn join(&self, batch: &[Child]) -> Result<(), Box<dyn std::any::Any + Send>> {
        let ended: Vec<Entry> = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let in_batch = |entry: &mut Entry| batch.iter().any(|child| child.is(&entry.child));
            entries.extract_if(.., in_batch).collect()
        };
        let mut outcome = Ok(());
        for entry in ended {
            if let Err(error) = entry.task.await
                && error.is_panic()
            {
                outcome = Err(error.into_panic());
            }
        }
        outcome
    }
}

impl Entry {
    /// Whether it was stopped and may be forgotten. A panicked task stays, to be raised by `stop_all`.
    fn has_ended(&self) -> bool {
        self.task.is_finished() && matches!(self.child.status().state, State::Stopped)
    }
}
