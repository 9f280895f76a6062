//! Orders: what portal and gateway want done. Control does it. Placing the
//! same order twice while it waits gives the same order; placing it while it
//! runs gives one that runs afterwards, so that nothing saved meanwhile is missed.

use arena_workshop::plan::AppKind;
use arena_workshop::{ExerciseSlug, SeatId};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::events::EventKind;
use crate::model::{Change, json, parsed, timestamp};
use crate::store::Store;
use crate::types::Actor;
use crate::writer::{Work, WriteError, to_json};

/// Number of an order; grows in order of placing.
pub type OrderId = i64;

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Order {
    /// Its number.
    pub id: OrderId,
    /// What.
    pub kind: OrderKind,
    /// Who wants it.
    pub by: Actor,
    /// Since when.
    pub at: Timestamp,
    /// How far it is.
    pub state: OrderState,
}

/// How far an order is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// Waits.
    Pending,
    /// Somebody does it; after a crash it waits again.
    Running,
    /// Done, with what to say.
    Done(String),
    /// Failed, with why.
    Failed(String),
}

/// The kinds of orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum OrderKind {
    /// Wake the seat's editor.
    WakeEditor {
        /// The seat.
        seat: SeatId,
    },
    /// Put the seat's editor to sleep.
    StopEditor {
        /// The seat.
        seat: SeatId,
    },
    /// Restart one of the seat's apps.
    RestartApp {
        /// The seat.
        seat: SeatId,
        /// The app.
        app: AppKind,
    },
    /// End everything in the seat and start it again: agent, editor, apps. Files stay.
    RestartSeat {
        /// The seat.
        seat: SeatId,
    },
    /// Bring the seat's database back to its start.
    RestoreDatabase {
        /// The seat.
        seat: SeatId,
    },
    /// Double what the seat may take of the built-in database.
    RaiseQuota {
        /// The seat.
        seat: SeatId,
    },
    /// Exchange the seat's database with what the last restore kept.
    BringBackDatabase {
        /// The seat.
        seat: SeatId,
    },
    /// Give the seat a new database password.
    RotatePassword {
        /// The seat.
        seat: SeatId,
    },
    /// Run an exercise's checks.
    Grade {
        /// The seat.
        seat: SeatId,
        /// The exercise.
        exercise: ExerciseSlug,
        /// Why.
        trigger: Trigger,
    },
}

/// Why an exercise is graded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The participant asked.
    Button,
    /// A watched file was saved.
    Save,
    /// The app wrote its signal file.
    Signal,
    /// The app came up.
    AppUp,
    /// A facilitator asked.
    Facilitator,
    /// It had not been graded for a while.
    Sweep,
}

impl OrderKind {
    /// Returns the seat that the order is about.
    pub fn seat(&self) -> &SeatId {
        match self {
            Self::WakeEditor { seat }
            | Self::StopEditor { seat }
            | Self::RestartApp { seat, .. }
            | Self::RestartSeat { seat }
            | Self::RestoreDatabase { seat }
            | Self::RaiseQuota { seat }
            | Self::BringBackDatabase { seat }
            | Self::RotatePassword { seat }
            | Self::Grade { seat, .. } => seat,
        }
    }

    /// Returns the exercise that the order is about, where it is about one.
    pub fn exercise(&self) -> Option<&ExerciseSlug> {
        match self {
            Self::Grade { exercise, .. } => Some(exercise),
            _ => None,
        }
    }

    /// Returns what the audit log calls it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::WakeEditor { .. } => "wake_editor",
            Self::StopEditor { .. } => "stop_editor",
            Self::RestartApp { .. } => "restart_app",
            Self::RestartSeat { .. } => "restart_seat",
            Self::RestoreDatabase { .. } => "restore_database",
            Self::RaiseQuota { .. } => "raise_quota",
            Self::BringBackDatabase { .. } => "bring_back_database",
            Self::RotatePassword { .. } => "rotate_password",
            Self::Grade { .. } => "grade",
        }
    }

    /// Two orders with one key are the same order; a grading's trigger makes no difference.
    fn key(&self) -> rusqlite::Result<String> {
        let what = match self {
            Self::RestartApp { app, .. } => to_json(app)?,
            Self::Grade { exercise, .. } => exercise.to_string(),
            _ => String::new(),
        };
        Ok(format!("{}|{}|{what}", self.action(), self.seat()))
    }
}

impl Store {
    /// Places an order and returns its number; the same order still waiting gives the same number.
    /// Facilitators' orders are written to the audit log.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn place_order(&self, kind: OrderKind, by: Actor) -> Result<OrderId, WriteError> {
        self.write(move |work| Ok(place(work, kind, by)?)).await
    }

    /// Places several orders at once: after a crash either all of them are there or none.
    ///
    /// # Errors
    /// When they could not be committed.
    pub async fn place_orders(
        &self,
        kinds: Vec<OrderKind>,
        by: Actor,
    ) -> Result<Vec<OrderId>, WriteError> {
        self.write(move |work| {
            let placed = kinds
                .into_iter()
                .map(|kind| Ok(place(work, kind, by.clone())?));
            placed.collect()
        })
        .await
    }

    /// Says that the order is being done now. No-op unless it waits.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn start_order(&self, id: OrderId) -> Result<(), WriteError> {
        self.write(move |work| Ok(change_state(work, id, &OrderState::Running)?))
            .await
    }

    /// Says how the order ended, with a line to show. No-op if it has ended already.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn finish_order(
        &self,
        id: OrderId,
        outcome: Result<String, String>,
    ) -> Result<(), WriteError> {
        let state = match outcome {
            Ok(text) => OrderState::Done(text),
            Err(text) => OrderState::Failed(text),
        };
        self.write(move |work| Ok(change_state(work, id, &state)?))
            .await
    }

    /// Returns the orders that wait, oldest first.
    pub fn pending_orders(&self) -> Vec<Order> {
        self.open_orders()
            .into_iter()
            .filter(|order| order.state == OrderState::Pending)
            .collect()
    }

    /// Returns the orders that wait or are being done, oldest first.
    pub fn open_orders(&self) -> Vec<Order> {
        self.model(|model| model.orders.values().cloned().collect())
    }

    /// Returns the last order about a seat that ended since the store was opened, other than
    /// gradings and wakings: what a facilitator asked for, and what came of it.
    pub fn last_ended_order(&self, seat: &SeatId) -> Option<Order> {
        self.model(|model| model.ended.get(seat).cloned())
    }

    /// Returns an order, finished ones included.
    pub fn order(&self, id: OrderId) -> Option<Order> {
        self.model(|model| model.orders.get(&id).cloned())
            .or_else(|| self.read(|connection| stored(connection, id)))
    }

    /// Returns how often an order of this kind about this seat was done since the event began.
    pub fn times_done(&self, kind: &OrderKind) -> u32 {
        let Ok(key) = kind.key() else {
            return 0;
        };
        self.read(|connection| {
            connection
                .prepare_cached("select count(*) from orders where key = ?1 and state = 'done'")?
                .query_row([key], |row| row.get(0))
        })
    }

    /// Returns a receiver that changes with each commit of orders.
    pub fn orders_changed(&self) -> watch::Receiver<i64> {
        self.shared().orders.subscribe()
    }
}

/// Reads the orders that have not ended.
pub(crate) fn load_open(connection: &Connection) -> rusqlite::Result<Vec<Order>> {
    let mut statement = connection.prepare_cached(&format!(
        "{SELECT} where state in ('pending', 'running') order by id"
    ))?;
    let rows = statement.query_map([], order_from)?;
    rows.collect()
}

const SELECT: &str = "select id, kind, actor, at, state, coalesce(message, '') from orders";

fn order_from(row: &Row<'_>) -> rusqlite::Result<Order> {
    let state: String = row.get(4)?;
    let state = match state.as_str() {
        "pending" => OrderState::Pending,
        "running" => OrderState::Running,
        "done" => OrderState::Done(row.get(5)?),
        _ => OrderState::Failed(row.get(5)?),
    };
    Ok(Order {
        id: row.get(0)?,
        kind: json(row, 1)?,
        by: parsed(row, 2)?,
        at: timestamp(row, 3)?,
        state,
    })
}

fn stored(connection: &Connection, id: OrderId) -> rusqlite::Result<Option<Order>> {
    connection
        .prepare_cached(&format!("{SELECT} where id = ?1"))?
        .query_row([id], order_from)
        .optional()
}

fn place(work: &mut Work<'_>, kind: OrderKind, by: Actor) -> rusqlite::Result<OrderId> {
    let key = kind.key()?;
    let waiting = work
        .connection
        .prepare_cached("select id from orders where key = ?1 and state = 'pending'")?
        .query_row([&key], |row| row.get(0))
        .optional()?;
    if matches!(by, Actor::Facilitator(_)) {
        let subject = kind.exercise().map_or_else(
            || kind.seat().to_string(),
            |slug| format!("{} {slug}", kind.seat()),
        );
        work.audit(&by, kind.action(), &subject)?;
    }
    if let Some(id) = waiting {
        return Ok(id);
    }
    work.connection
        .prepare_cached(
            "insert into orders (key, kind, actor, at, state) values (?1, ?2, ?3, ?4, 'pending')",
        )?
        .execute(params![
            key,
            to_json(&kind)?,
            by.to_string(),
            work.now.as_microsecond()
        ])?;
    let order = Order {
        id: work.connection.last_insert_rowid(),
        kind,
        by,
        at: work.now,
        state: OrderState::Pending,
    };
    let id = order.id;
    changed(work, order)?;
    Ok(id)
}

fn change_state(work: &mut Work<'_>, id: OrderId, state: &OrderState) -> rusqlite::Result<()> {
    let (from, to, message) = match state {
        OrderState::Pending => return Ok(()),
        OrderState::Running => ("pending", "running", None),
        OrderState::Done(text) => ("", "done", Some(text)),
        OrderState::Failed(text) => ("", "failed", Some(text)),
    };
    let finished_at = message.is_some().then(|| work.now.as_microsecond());
    let updated = work
        .connection
        .prepare_cached("update orders set state = ?2, message = ?3, finished_at = ?4 where id = ?1 and state in ('pending', 'running') and (?5 = '' or state = ?5)")?
        .execute(params![id, to, message, finished_at, from])?;
    match stored(work.connection, id)? {
        Some(order) if updated > 0 => changed(work, order),
        _ => Ok(()),
    }
}

fn changed(work: &mut Work<'_>, order: Order) -> rusqlite::Result<()> {
    let event = EventKind::OrderChanged {
        order: order.id,
        seat: order.kind.seat().clone(),
        exercise: order.kind.exercise().cloned(),
    };
    work.changes.push(Change::Order(order));
    work.event(event)
}
