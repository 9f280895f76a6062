//! What runs now, by number: whose it is, since when, and how to end it. It knows
//! nothing of what a command does; who may see or end an operation is decided in
//! `commands/operations.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One command while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) user: Arc<str>,
    pub(crate) session: Option<[u8; 16]>,
    pub(crate) connection: i32,
    /// What the client says it is.
    pub(crate) application: Option<Arc<str>>,
    pub(crate) command: String,
    pub(crate) namespace: String,
    pub(crate) since: Instant,
    pub(crate) interruption: CancellationToken,
}

/// Everything that runs.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: i32,
    running: BTreeMap<i32, Operation>,
}

/// An operation is listed as long as this is kept.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    operations: &'a Operations,
    number: i32,
}

impl Operations {
    pub(crate) fn begin(&self, operation: Operation) -> Running<'_> {
        let mut state = self.state();
        state.last = state.last.checked_add(1).unwrap_or(1);
        let number = state.last;
        state.running.insert(number, operation);
        Running {
            operations: self,
            number,
        }
    }

    /// Ends one operation, of this user or of anybody; returns whether there was one.
    pub(crate) fn end(&self, number: i32, user: Option<&str>) -> bool {
        let state = self.state();
        let found = state.running.get(&number);
        let meant = found.filter(|operation| is_of(operation, user));
        meant.inspect(|operation| operation.interruption.cancel());
        meant.is_some()
    }

    /// Ends what runs in sessions: in these, or in all; of one user, or of all. The operation that asks, on this
    /// connection, goes on.
    pub(crate) fn end_sessions(&self, user: Option<&str>, ids: Option<&[[u8; 16]]>, asking: i32) {
        for operation in self.state().running.values() {
            let is_meant = operation
                .session
                .is_some_and(|session| ids.is_none_or(|ids| ids.contains(&session)));
            if is_meant && operation.connection != asking && is_of(operation, user) {
                operation.interruption.cancel();
            }
        }
    }

    /// Returns what runs, of one user or of all.
    pub(crate) fn list(&self, user: Option<&str>) -> Vec<(i32, Operation)> {
        let state = self.state();
        let meant = state
            .running
            .iter()
            .filter(|(_, operation)| is_of(operation, user));
        meant
            .map(|(number, operation)| (*number, operation.clone()))
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.operations.state().running.remove(&self.number);
    }
}

fn is_of(operation: &Operation, user: Option<&str>) -> bool {
    user.is_none_or(|user| *operation.user == *user)
}
