//! The read model: what is asked often, in memory, changed only after a commit.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use arena_workshop::{ExerciseSlug, SeatId};
use jiff::Timestamp;
use rusqlite::{Connection, Row};
use tokio::sync::watch;

use crate::attempts::{self, ExerciseState, ResultRow};
use crate::connections::{self, ConnectionTest};
use crate::devices::Devices;
use crate::events::Event;
use crate::orders::{self, Order, OrderId, OrderKind, OrderState};
use crate::seats::{self, SeatRecord, SeatStatus};
use crate::sessions::{self, Handovers, Session};
use crate::settings::{self, Secrets};
use crate::visits::{self, Visit};
use crate::waiting::{self, Waiting};

/// Events kept in memory for those who follow closely.
const RECENT_EVENTS_MAX: usize = 4096;

/// What one process shares between the writer and all readers.
pub(crate) struct Shared {
    model: RwLock<Model>,
    pub(crate) events: watch::Sender<i64>,
    pub(crate) orders: watch::Sender<i64>,
    handovers: Mutex<Handovers>,
    devices: Mutex<Devices>,
    /// Hosts of visits where a browser was let in.
    entered_hosts: Mutex<HashSet<String>>,
    /// Changes when sessions end.
    pub(crate) endings: watch::Sender<u64>,
}

/// The model.
pub(crate) struct Model {
    /// In order of the list.
    pub(crate) seats: Vec<SeatRecord>,
    pub(crate) emails: HashMap<SeatId, String>,
    /// By seat: the current sitting's exercises.
    pub(crate) exercises: HashMap<SeatId, BTreeMap<ExerciseSlug, ExerciseState>>,
    /// Of current sittings, in order of time.
    pub(crate) results: Vec<ResultRow>,
    /// Pending and running ones.
    pub(crate) orders: BTreeMap<OrderId, Order>,
    /// By seat: the last order that ended, other than gradings and wakings.
    pub(crate) ended: HashMap<SeatId, Order>,
    /// By SHA-256 of the secret.
    pub(crate) sessions: HashMap<[u8; 32], (String, Session)>,
    /// Ids of the sessions.
    pub(crate) session_ids: HashSet<String>,
    /// Who waits or got a seat, in order.
    pub(crate) waiting: Vec<Waiting>,
    /// Newest first.
    pub(crate) connection_tests: Vec<ConnectionTest>,
    /// In order of beginning.
    pub(crate) visits: Vec<Visit>,
    pub(crate) close_on: Option<Timestamp>,
    pub(crate) secrets: Secrets,
    recent: VecDeque<Event>,
    /// Every event after this one is in `recent`.
    recent_after: i64,
    order_changes: i64,
    session_endings: u64,
}

/// What a committed request changes in the model.
pub(crate) enum Change {
    Seats(Vec<SeatRecord>, HashMap<SeatId, String>),
    Seat(Box<SeatRecord>, Option<String>),
    Status(SeatId, SeatStatus),
    Cleared(SeatId),
    Attempt(Box<attempts::Attempt>, Timestamp),
    Result(ResultRow),
    Order(Order),
    Session([u8; 32], String, Session),
    SessionEnded(String),
    SessionsEnded(SeatId),
    Waiting(Vec<Waiting>),
    ConnectionTests(Vec<ConnectionTest>),
    Visit(Visit),
    CloseOn(Option<Timestamp>),
    Event(Event),
}

impl Shared {
    pub(crate) fn new(model: Model) -> Self {
        let last = model.recent_after;
        Self {
            model: RwLock::new(model),
            events: watch::Sender::new(last),
            orders: watch::Sender::new(0),
            handovers: Mutex::default(),
            devices: Mutex::default(),
            entered_hosts: Mutex::default(),
            endings: watch::Sender::new(0),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Model> {
        self.model.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn handovers(&self) -> MutexGuard<'_, Handovers> {
        self.handovers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn devices(&self) -> MutexGuard<'_, Devices> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn entered_hosts(&self) -> MutexGuard<'_, HashSet<String>> {
        self.entered_hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the model as a commit said, then wakes who watches.
    pub(crate) fn apply(&self, changes: impl Iterator<Item = Change>) {
        let mut model = self.model.write().unwrap_or_else(PoisonError::into_inner);
        let (orders_before, last_before) = (model.order_changes, model.last_event());
        let endings_before = model.session_endings;
        for change in changes {
            model.apply(change);
        }
        let (orders, last) = (model.order_changes, model.last_event());
        let endings = model.session_endings;
        drop(model);
        if endings != endings_before {
            self.endings.send_replace(endings);
        }
        if last != last_before {
            self.events.send_replace(last);
        }
        if orders != orders_before {
            self.orders.send_replace(orders);
        }
    }
}

impl Model {
    /// Reads everything from the file.
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let last = connection.query_row("select coalesce(max(id), 0) from events", [], |row| {
            row.get(0)
        })?;
        let (seats, emails) = seats::load(connection)?;
        let sessions = sessions::load(connection)?;
        Ok(Self {
            seats,
            emails,
            exercises: attempts::load_states(connection)?,
            results: attempts::load_results(connection)?,
            orders: orders::load_open(connection)?
                .into_iter()
                .map(|order| (order.id, order))
                .collect(),
            ended: HashMap::new(),
            session_ids: sessions
                .values()
                .map(|(_, session)| session.id.clone())
                .collect(),
            sessions,
            waiting: waiting::load(connection)?,
            connection_tests: connections::load(connection)?,
            visits: Vec::new(),
            close_on: settings::load_close_on(connection)?,
            secrets: settings::load_secrets(connection)?,
            recent: VecDeque::new(),
            recent_after: last,
            order_changes: 0,
            session_endings: 0,
        })
    }

    /// Returns events after `id`, or `None` when some of them are only in the file.
    pub(crate) fn recent_events(&self, id: i64, limit: usize) -> Option<Vec<Event>> {
        if id < self.recent_after {
            return None;
        }
        let start = self.recent.partition_point(|event| event.id <= id);
        Some(
            self.recent
                .iter()
                .skip(start)
                .take(limit)
                .cloned()
                .collect(),
        )
    }

    pub(crate) fn seat(&self, seat: &SeatId) -> Option<&SeatRecord> {
        self.seats.iter().find(|record| record.seat == *seat)
    }

    fn last_event(&self) -> i64 {
        self.recent
            .back()
            .map_or(self.recent_after, |event| event.id)
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Seats(seats, emails) => self.set_seats(seats, emails),
            Change::Seat(record, email) => self.set_seat(*record, email),
            Change::Status(seat, status) => {
                if let Some(record) = self.seats.iter_mut().find(|record| record.seat == seat) {
                    record.status = status;
                }
            }
            Change::Cleared(seat) => {
                self.exercises.remove(&seat);
                self.results.retain(|row| row.seat != seat);
            }
            Change::Attempt(attempt, at) => {
                let exercises = self.exercises.entry(attempt.seat.clone()).or_default();
                exercises
                    .entry(attempt.exercise.clone())
                    .or_default()
                    .add(*attempt, at);
            }
            Change::Result(row) => {
                let exercises = self.exercises.entry(row.seat.clone()).or_default();
                exercises.entry(row.exercise.clone()).or_default().solved_at = Some(row.at);
                self.results.push(row);
            }
            Change::Order(order) => self.set_order(order),
            Change::Session(hash, host, session) => {
                self.session_ids.insert(session.id.clone());
                self.sessions.insert(hash, (host, session));
            }
            Change::SessionEnded(id) => self.end_sessions(|session| session.id == id),
            Change::SessionsEnded(seat) => {
                self.end_sessions(|session| session.principal.is_in(&seat));
            }
            Change::Waiting(list) => self.waiting = list,
            Change::ConnectionTests(tests) => self.connection_tests = tests,
            Change::Visit(visit) => visits::remember(&mut self.visits, visit),
            Change::CloseOn(close_on) => self.close_on = close_on,
            Change::Event(event) => self.add_event(event),
        }
    }

    fn end_sessions(&mut self, ends: impl Fn(&Session) -> bool) {
        let ids = &mut self.session_ids;
        self.sessions.retain(|_, (_, session)| {
            let ends = ends(session);
            if ends {
                ids.remove(&session.id);
            }
            !ends
        });
        self.session_endings += 1;
    }

    /// Returns whether a visit goes on.
    pub(crate) fn visit_holds(&self, visit: &Visit, now: Timestamp) -> bool {
        let is_same =
            |record: &SeatRecord| record.sitting == visit.sitting && !record.decommissioned;
        visit.until > now
            && self.session_ids.contains(&visit.session)
            && self.seat(&visit.seat).is_some_and(is_same)
    }

    /// Replaces all seats; what the file does not keep (the status) stays.
    fn set_seats(&mut self, seats: Vec<SeatRecord>, emails: HashMap<SeatId, String>) {
        let before = std::mem::replace(&mut self.seats, seats);
        self.emails = emails;
        let mut statuses: HashMap<SeatId, SeatStatus> = before
            .into_iter()
            .map(|record| (record.seat, record.status))
            .collect();
        for record in &mut self.seats {
            record.status = statuses.remove(&record.seat).unwrap_or_default();
        }
    }

    fn set_seat(&mut self, mut record: SeatRecord, email: Option<String>) {
        match email {
            Some(email) => drop(self.emails.insert(record.seat.clone(), email)),
            None => drop(self.emails.remove(&record.seat)),
        }
        if let Some(present) = self
            .seats
            .iter_mut()
            .find(|present| present.seat == record.seat)
        {
            record.status = std::mem::take(&mut present.status);
            *present = record;
        }
    }

    fn set_order(&mut self, order: Order) {
        self.order_changes += 1;
        if matches!(order.state, OrderState::Pending | OrderState::Running) {
            self.orders.insert(order.id, order);
            return;
        }
        self.orders.remove(&order.id);
        if !matches!(
            order.kind,
            OrderKind::Grade { .. } | OrderKind::WakeEditor { .. }
        ) {
            self.ended.insert(order.kind.seat().clone(), order);
        }
    }

    fn add_event(&mut self, event: Event) {
        self.recent.push_back(event);
        if self.recent.len() > RECENT_EVENTS_MAX
            && let Some(oldest) = self.recent.pop_front()
        {
            self.recent_after = oldest.id;
        }
    }
}

/// Reads a column that holds microseconds since 1970.
pub(crate) fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let microseconds: i64 = row.get(column)?;
    Timestamp::from_microsecond(microseconds).map_err(|error| unreadable(column, error))
}

/// Reads a column that holds JSON.
pub(crate) fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| unreadable(column, error))
}

/// Reads a column that holds a value with a checking constructor.
pub(crate) fn parsed<T: TryFrom<String>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    T::try_from(text).map_err(|error| unreadable(column, error))
}

fn unreadable(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}
