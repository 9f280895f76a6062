//! Events: what happened, in order of commit, for everybody who watches.

use arena_workshop::{ExerciseSlug, SeatId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::orders::OrderId;
use crate::store::Store;
use crate::writer::WriteError;

/// One thing that happened. Ids grow in order of commit and never repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Place in the order of all events.
    pub id: i64,
    /// When it was committed.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// The kinds of events. Each names what changed; how it is now is read from the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// The list of seats was read again.
    SeatsSynced,
    /// Somebody took the seat.
    Joined {
        /// The seat.
        seat: SeatId,
    },
    /// The seat was given back.
    Released {
        /// The seat.
        seat: SeatId,
    },
    /// The seat's editor, apps or database changed state.
    SeatStatus {
        /// The seat.
        seat: SeatId,
    },
    /// An attempt was recorded.
    Attempted {
        /// The seat.
        seat: SeatId,
        /// The exercise.
        exercise: ExerciseSlug,
        /// Whether every check passed.
        passed: bool,
    },
    /// The seat's first pass of an exercise: a result.
    Solved {
        /// The seat.
        seat: SeatId,
        /// The exercise.
        exercise: ExerciseSlug,
    },
    /// An order was placed, started or finished.
    OrderChanged {
        /// The order.
        order: OrderId,
        /// The seat it is about.
        seat: SeatId,
        /// The exercise, where it is about one.
        exercise: Option<ExerciseSlug>,
    },
    /// The board was frozen, unfrozen, or its instant moved.
    CloseOnChanged,
    /// A person was hidden from or shown on the board.
    ExcludedChanged {
        /// The seat.
        seat: SeatId,
    },
    /// Somebody came to the waiting list, or left it.
    WaitingChanged,
    /// Somebody tested their connection.
    ConnectionTested,
    /// A facilitator looks into the seat.
    LookedInto {
        /// The seat.
        seat: SeatId,
    },
    /// A message from the facilitators.
    Message {
        /// Whom it is for; `None`: everybody.
        seat: Option<SeatId>,
        /// Plain text.
        text: String,
    },
}

impl EventKind {
    /// Returns the seat that the event is about, if it is about one.
    pub fn seat(&self) -> Option<&SeatId> {
        match self {
            Self::SeatsSynced
            | Self::CloseOnChanged
            | Self::WaitingChanged
            | Self::ConnectionTested => None,
            Self::Message { seat, .. } => seat.as_ref(),
            Self::Joined { seat }
            | Self::Released { seat }
            | Self::SeatStatus { seat }
            | Self::Attempted { seat, .. }
            | Self::Solved { seat, .. }
            | Self::OrderChanged { seat, .. }
            | Self::LookedInto { seat }
            | Self::ExcludedChanged { seat } => Some(seat),
        }
    }
}

impl Store {
    /// Returns up to `limit` events after `id`, oldest first. Recent ones come from memory.
    pub fn events_since(&self, id: i64, limit: usize) -> Vec<Event> {
        let recent = self.model(|model| model.recent_events(id, limit));
        recent.unwrap_or_else(|| self.read(|connection| stored_events(connection, id, limit)))
    }

    /// Returns a receiver that changes with each commit of events; its value is the last id.
    pub fn events_changed(&self) -> watch::Receiver<i64> {
        self.shared().events.subscribe()
    }

    /// Returns the id of the last event.
    pub fn last_event(&self) -> i64 {
        *self.shared().events.borrow()
    }

    /// Sends a plain text to one seat, or to everybody.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn post_message(
        &self,
        seat: Option<SeatId>,
        text: String,
        by: crate::types::Actor,
    ) -> Result<(), WriteError> {
        self.write(move |work| {
            work.audit(
                &by,
                "message",
                seat.as_ref().map_or("everybody", |seat| seat.as_str()),
            )?;
            Ok(work.event(EventKind::Message { seat, text })?)
        })
        .await
    }
}

pub(crate) fn stored_events(
    connection: &rusqlite::Connection,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Event>> {
    let mut statement = connection
        .prepare_cached("select id, at, kind from events where id > ?1 order by id limit ?2")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map([after, limit], |row| {
        Ok(Event {
            id: row.get(0)?,
            at: crate::model::timestamp(row, 1)?,
            kind: crate::model::json(row, 2)?,
        })
    })?;
    rows.collect()
}
