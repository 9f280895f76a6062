//! Logical sessions: what a driver's `lsid` and `txnNumber` mean. A session knows
//! its newest transaction number and, while one is open, the transaction. What
//! commands do with it is in `commands/transactions.rs`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::backend::Transaction;

/// What `hello` promises.
const SESSION_IDLE_MAX: Duration = Duration::from_secs(30 * 60);
/// Sessions of one user that are remembered; the longest unused one is forgotten first.
const SESSIONS_PER_USER_MAX: usize = 2_000;
/// A client that lost its connection may come back with another one and commit.
const ABANDONED_MAX: Duration = Duration::from_secs(3);
/// A user's only transaction is ended for somebody who has none when nobody used it for so long…
const IDLE_MIN: Duration = Duration::from_secs(1);
/// … or when it has been open for so long.
const OPEN_MIN: Duration = Duration::from_secs(10);

/// A session's identity: the client's number, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionId {
    pub(crate) user: Arc<str>,
    pub(crate) id: [u8; 16],
}

impl SessionId {
    /// Returns the text that the engine's notes use.
    pub(crate) fn text(&self) -> String {
        let digits = self.id.iter().map(|byte| format!("{byte:02x}"));
        format!("{}:{}", digits.collect::<String>(), self.user)
    }
}

/// Returns a session's number as people write it.
pub(crate) fn session_text(id: &[u8; 16]) -> String {
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    parts.map(|part| digits[part].to_owned()).join("-")
}

/// How far the session's newest transaction has come.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// The newest number was a retryable write's, or there was none.
    None,
    Open(Arc<OpenTransaction>),
    Committed,
    Aborted,
    /// The engine went away during the commit; its note tells.
    Unknown,
}

#[derive(Debug)]
pub(crate) struct OpenTransaction {
    pub(crate) transaction: Transaction,
    /// The connection that used it last.
    connection: AtomicI32,
    begun: Instant,
    used: Mutex<Instant>,
    ends: Mutex<Instant>,
    /// One of the user's.
    _own_place: OwnedSemaphorePermit,
    /// One of all.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

impl OpenTransaction {
    pub(crate) fn new(
        transaction: Transaction,
        lifetime: Duration,
        (own_place, place): (OwnedSemaphorePermit, OwnedSemaphorePermit),
    ) -> Self {
        let now = Instant::now();
        Self {
            transaction,
            connection: AtomicI32::new(0),
            begun: now,
            used: Mutex::new(now),
            ends: Mutex::new(now + lifetime),
            _own_place: own_place,
            place: Mutex::new(Some(place)),
        }
    }

    /// Hands on its place among all, once it has been rolled back; others may stand in line for a free one.
    pub(crate) fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        locked(&self.place).take()
    }

    fn may_be_ended_for_others(&self, now: Instant) -> bool {
        now.saturating_duration_since(*locked(&self.used)) >= IDLE_MIN
            || now.saturating_duration_since(self.begun) >= OPEN_MIN
    }

    pub(crate) fn used_by(&self, connection: i32) {
        self.connection.store(connection, Ordering::Relaxed);
        *locked(&self.used) = Instant::now();
    }

    /// What is left of its time.
    pub(crate) fn time_left(&self) -> Duration {
        locked(&self.ends).saturating_duration_since(Instant::now())
    }
}

/// The newest number of a session and what became of it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) number: i64,
    pub(crate) phase: Phase,
}

#[derive(Debug)]
pub(crate) struct LogicalSession {
    state: Mutex<State>,
    touched: Mutex<Instant>,
    /// One command of a transaction at a time.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl LogicalSession {
    fn new() -> Self {
        Self {
            state: Mutex::new(State {
                number: -1,
                phase: Phase::None,
            }),
            touched: Mutex::new(Instant::now()),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn open_transaction(&self) -> Option<Arc<OpenTransaction>> {
        match &self.state().phase {
            Phase::Open(open) => Some(Arc::clone(open)),
            _ => None,
        }
    }

    /// Marks the open transaction of this number as ended without the client; returns it for rolling back.
    pub(crate) fn abort(&self, number: i64) -> Option<Arc<OpenTransaction>> {
        let mut state = self.state();
        if state.number != number {
            return None;
        }
        match std::mem::replace(&mut state.phase, Phase::Aborted) {
            Phase::Open(open) => Some(open),
            other => {
                state.phase = other;
                None
            }
        }
    }

    fn abort_any(&self) -> Option<Arc<OpenTransaction>> {
        let number = self.state().number;
        self.abort(number)
    }
}

/// All sessions that are known.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    known: Mutex<HashMap<SessionId, Arc<LogicalSession>>>,
}

impl Sessions {
    /// Returns the session, which begins to exist when it is first named.
    pub(crate) fn enter(&self, id: &SessionId) -> Arc<LogicalSession> {
        let mut known = locked(&self.known);
        if let Some(session) = known.get(id) {
            *locked(&session.touched) = Instant::now();
            return Arc::clone(session);
        }
        make_room(&mut known, &id.user);
        let session = Arc::new(LogicalSession::new());
        known.insert(id.clone(), Arc::clone(&session));
        session
    }

    /// Returns the sessions of a user, or all there are, each with how long ago it was named.
    pub(crate) fn list(&self, user: Option<&str>) -> Vec<(SessionId, Duration)> {
        let known = locked(&self.known);
        let listed = known
            .iter()
            .filter(|(id, _)| user.is_none_or(|user| &*id.user == user));
        listed
            .map(|(id, session)| (id.clone(), locked(&session.touched).elapsed()))
            .collect()
    }

    /// Forgets sessions of a user; returns the transactions that were open in them. Without ids: all of the
    /// user's, and without a user all there are.
    pub(crate) fn end(
        &self,
        user: Option<&str>,
        ids: Option<&[[u8; 16]]>,
    ) -> Vec<Arc<OpenTransaction>> {
        let mut ended = Vec::new();
        locked(&self.known).retain(|id, session| {
            let is_meant = user.is_none_or(|user| *id.user == *user)
                && ids.is_none_or(|ids| ids.contains(&id.id));
            if is_meant {
                ended.extend(session.abort_any());
            }
            !is_meant
        });
        ended
    }

    /// Ends one transaction of those who have most, for a user who has at least two fewer, or none; returns it for
    /// rolling back. It is between two commands, and the one that was not used for longest. The only one of a user
    /// is left alone while it is new and in use.
    pub(crate) fn displace_for(&self, user: &str) -> Option<Arc<OpenTransaction>> {
        let known = locked(&self.known);
        let mut by_user: HashMap<&str, Vec<(Arc<OpenTransaction>, &LogicalSession)>> =
            HashMap::new();
        for (id, session) in known.iter() {
            if let Some(open) = session.open_transaction() {
                let theirs = by_user.entry(&*id.user).or_default();
                theirs.push((open, &**session));
            }
        }
        let own = by_user.get(user).map_or(0, Vec::len);
        let most = by_user.values().map(Vec::len).max()?;
        let now = Instant::now();
        let has_more = most > own + 1;
        if !has_more && own > 0 {
            return None;
        }
        let mut endable: Vec<_> = by_user
            .into_values()
            .filter(|theirs| theirs.len() == most)
            .flatten()
            .filter(|(open, _)| has_more || open.may_be_ended_for_others(now))
            .collect();
        endable.sort_by_key(|(open, _)| *locked(&open.used));
        endable.into_iter().find_map(|(_, session)| {
            let _turn = session.turn.try_lock().ok()?;
            session.abort_any()
        })
    }

    /// A client has left: what it began ends soon.
    pub(crate) fn connection_ended(&self, connection: i32) {
        let soon = Instant::now() + ABANDONED_MAX;
        for session in locked(&self.known).values() {
            if let Some(open) = session.open_transaction()
                && open.connection.load(Ordering::Relaxed) == connection
            {
                let mut ends = locked(&open.ends);
                *ends = (*ends).min(soon);
            }
        }
    }

    /// Ends transactions whose time is over and forgets sessions that nobody used; returns the former for
    /// rolling back.
    pub(crate) fn expire(&self) -> Vec<Arc<OpenTransaction>> {
        let mut expired = Vec::new();
        locked(&self.known).retain(|_, session| {
            let Some(open) = session.open_transaction() else {
                return locked(&session.touched).elapsed() < SESSION_IDLE_MAX;
            };
            if open.time_left().is_zero() {
                expired.extend(session.abort_any());
            }
            true
        });
        expired
    }
}

fn make_room(known: &mut HashMap<SessionId, Arc<LogicalSession>>, user: &Arc<str>) {
    let own = known.iter().filter(|(id, _)| id.user == *user);
    if own.clone().count() < SESSIONS_PER_USER_MAX {
        return;
    }
    let oldest = own
        .filter(|(_, session)| session.open_transaction().is_none())
        .min_by_key(|(_, session)| *locked(&session.touched))
        .map(|(id, _)| id.clone());
    if let Some(oldest) = oldest {
        known.remove(&oldest);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
