//! What one user may take and what each has taken: quotas, counters, slow
//! statements, and the database's size. One handle, shared with the caller: a
//! quota that is raised holds for the next command, also on open connections.
//! The numbers come from the front itself and from the engine's catalogs, never
//! from anything that a user could have written there.
//!
//! A quota belongs to a name. It limits the user of that name (connections,
//! time, pace) and what the database of that name holds; a seat has one name for both.

mod look;
mod rate;
mod slow;
mod storage;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::aside::Turn;
use crate::backend::Share;
use crate::settings::Limits;
pub(crate) use look::{admit, watch};
use rate::Rate;
pub use slow::SlowStatement;
pub(crate) use slow::{Profiling, shape};
pub use storage::Stored;
pub(crate) use storage::{Admitted, Growth, PAGE_BYTES, Storage, explained};

/// How much one name may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of its database on disk, indexes included.
    pub bytes: u64,
    /// Documents of its database.
    pub documents: u64,
    /// Collections and views of its database.
    pub collections: u64,
    /// Indexes of its database, those over `_id` included.
    pub indexes: u64,
    /// Open connections of the user.
    pub connections: usize,
    /// The longest time of one statement, whatever `maxTimeMS` says.
    pub statement_time: Duration,
    /// Commands of the user in a second; more of them wait.
    pub commands_per_second: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            bytes: 256 * 1024 * 1024,
            documents: 1_000_000,
            collections: 200,
            indexes: 400,
            connections: 100,
            statement_time: Duration::from_secs(30),
            commands_per_second: 5_000,
        }
    }
}

/// What a name has taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// What it may take.
    pub quota: Quota,
    /// What its database holds; nothing before it was first measured.
    pub stored: Option<Stored>,
    /// Open connections.
    pub connections: usize,
    /// Open cursors.
    pub cursors: usize,
    /// Commands since the start.
    pub commands: u64,
    /// Of these: those that read.
    pub reads: u64,
    /// Those that write or define.
    pub writes: u64,
    /// Those that were refused: no right, or over a quota.
    pub refused: u64,
    /// Bytes of commands.
    pub bytes_in: u64,
    /// Bytes of answers.
    pub bytes_out: u64,
    /// The last slow statements, newest first.
    pub slow: Vec<SlowStatement>,
}

/// Quotas and usage by name; clones share one state.
#[derive(Clone, Default)]
pub struct Guard {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    quotas: RwLock<Quotas>,
    places: Mutex<HashMap<String, Arc<Place>>>,
    storage: Storage,
}

#[derive(Default)]
struct Quotas {
    default: Quota,
    own: HashMap<String, Quota>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    /// A guard that allows everybody the same.
    pub fn new(default: Quota) -> Self {
        let guard = Self::default();
        guard.quotas_mut().default = default;
        guard
    }

    /// Returns what a name may take.
    pub fn quota(&self, name: &str) -> Quota {
        let quotas = self
            .state
            .quotas
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        quotas.own.get(name).copied().unwrap_or(quotas.default)
    }

    /// Sets what a name may take, from the next command on.
    pub fn set_quota(&self, name: impl Into<String>, quota: Quota) {
        self.quotas_mut().own.insert(name.into(), quota);
    }

    /// Returns what each name has taken: users who have logged in, and measured databases.
    pub fn usage(&self) -> BTreeMap<String, Usage> {
        let mut all: BTreeMap<String, Usage> = self
            .places()
            .iter()
            .map(|(name, place)| (name.clone(), place.usage(self.quota(name))))
            .collect();
        for (name, stored) in self.state.storage.all() {
            let empty = || Place::new(&Limits::default()).usage(self.quota(&name));
            all.entry(name.clone()).or_insert_with(empty).stored = Some(stored);
        }
        all
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.state.storage
    }

    /// What the connections of a user share.
    pub(crate) fn place_of(&self, user: &str, limits: &Limits) -> Arc<Place> {
        let mut places = self.places();
        if let Some(place) = places.get(user) {
            return Arc::clone(place);
        }
        let place = Arc::new(Place::new(limits));
        places.insert(user.to_owned(), Arc::clone(&place));
        place
    }

    pub(crate) fn note_cursors(&self, by_user: &HashMap<String, usize>) {
        for (user, place) in self.places().iter() {
            let open = by_user.get(user).copied().unwrap_or(0);
            place.cursors.store(open, Ordering::Relaxed);
        }
    }

    fn places(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Place>>> {
        self.state
            .places
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn quotas_mut(&self) -> std::sync::RwLockWriteGuard<'_, Quotas> {
        self.state
            .quotas
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one user's connections share.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) share: Share,
    pub(crate) transactions: Arc<Semaphore>,
    turn: Turn,
    connections: AtomicUsize,
    cursors: AtomicUsize,
    counts: Counts,
    rate: Mutex<Rate>,
    slow: Mutex<slow::Recent>,
    profiling: Mutex<Profiling>,
}

#[derive(Debug, Default)]
struct Counts {
    commands: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    refused: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// What one command was, for the counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    pub(crate) refused: bool,
    pub(crate) bytes_in: usize,
    pub(crate) bytes_out: usize,
    pub(crate) time: Duration,
}

impl Place {
    fn new(limits: &Limits) -> Self {
        Self {
            share: Share::of(limits.statements_per_user),
            transactions: Arc::new(Semaphore::new(limits.transactions_per_user)),
            turn: Turn::default(),
            connections: AtomicUsize::new(0),
            cursors: AtomicUsize::new(0),
            counts: Counts::default(),
            rate: Mutex::default(),
            slow: Mutex::default(),
            profiling: Mutex::default(),
        }
    }

    /// Waits until the user's pace allows one more command. Nobody else waits for it.
    pub(crate) async fn keep_pace(&self, commands_per_second: u32) {
        let wait = self
            .rate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(Instant::now(), commands_per_second);
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
    }

    pub(crate) fn profiling(&self) -> Profiling {
        *self
            .profiling
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_profiling(&self, profiling: Profiling) {
        *self
            .profiling
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = profiling;
    }

    /// Counts a command; `describe` is asked only if it was slow.
    pub(crate) fn note(&self, done: Done, describe: impl FnOnce() -> (String, String)) {
        let add = |counter: &AtomicU64, amount: usize| {
            counter.fetch_add(u64::try_from(amount).unwrap_or(0), Ordering::Relaxed);
        };
        add(&self.counts.commands, 1);
        add(&self.counts.reads, done.reads.into());
        add(&self.counts.writes, done.writes.into());
        add(&self.counts.refused, done.refused.into());
        add(&self.counts.bytes_in, done.bytes_in);
        add(&self.counts.bytes_out, done.bytes_out);
        if done.time >= slow::SLOW_FROM {
            let (namespace, shape) = describe();
            self.slow
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(namespace, shape, done.time);
        }
    }

    fn usage(&self, quota: Quota) -> Usage {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            quota,
            stored: None,
            connections: self.connections.load(Ordering::Relaxed),
            cursors: self.cursors.load(Ordering::Relaxed),
            commands: of(&self.counts.commands),
            reads: of(&self.counts.reads),
            writes: of(&self.counts.writes),
            refused: of(&self.counts.refused),
            bytes_in: of(&self.counts.bytes_in),
            bytes_out: of(&self.counts.bytes_out),
            slow: self
                .slow
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .newest_first(),
        }
    }
}

/// One of a user's open connections; closed when dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Place>);

impl Slot {
    /// Takes a place for one more connection, if the user may have it.
    pub(crate) fn take(place: Arc<Place>, connections_max: usize) -> Option<Self> {
        let more = |open: usize| (open < connections_max).then_some(open + 1);
        place
            .connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Self(place))
    }

    /// The user's turn for long work.
    pub(crate) fn turn(&self) -> &Turn {
        &self.0.turn
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_quota_holds_at_once_and_for_that_name_alone() {
        let guard = Guard::new(Quota {
            connections: 1,
            ..Quota::default()
        });
        let place = guard.place_of("ada", &Limits::default());
        let take = || {
            Slot::take(
                guard.place_of("ada", &Limits::default()),
                guard.quota("ada").connections,
            )
        };
        let first = take();
        assert!(first.is_some() && take().is_none());
        guard.set_quota(
            "ada",
            Quota {
                connections: 2,
                ..guard.quota("ada")
            },
        );
        let second = take();
        assert!(second.is_some() && take().is_none());
        assert_eq!(guard.quota("bob").connections, 1);
        drop((first, second));
        assert_eq!(place.usage(Quota::default()).connections, 0);
    }
}
