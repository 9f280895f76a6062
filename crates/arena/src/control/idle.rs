//! Stops the editors of a room that nobody is in: after the day, at night, between two days. An editor
//! whose browser has left keeps its memory (390 MB were measured). While anybody at all is in the room
//! none is stopped: who comes back from a break finds terminals as they were.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arena_store::{Actor, OrderKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::seat::SeatWatch;

/// How often the room is looked at; more often where it is to be empty for less than a quarter of an hour.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// When somebody was last seen in the room.
pub(super) struct Room {
    last: Mutex<Instant>,
    /// For how long nobody must have been seen.
    idle: Duration,
}

impl Room {
    /// A room that somebody has just entered.
    pub(super) fn entered(now: Instant, idle: Duration) -> Self {
        Self {
            last: Mutex::new(now),
            idle,
        }
    }

    /// Somebody is there, or at the door: who asks for an editor has no connection to it yet.
    pub(super) fn visit(&self, now: Instant) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = now.max(*last);
    }

    fn is_empty(&self, now: Instant) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(last) >= self.idle
    }
}

/// Orders every editor to stop when the room has been empty for so long, until `shutdown`.
pub(super) async fn let_editors_sleep(
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut looks = tokio::time::interval(LOOK_EVERY.min(shared.room.idle / 15));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = looks.tick() => {}
        }
        let seats = shared.seats.all();
        if seats.iter().any(|seat| seat.is_visited()) {
            shared.room.visit(Instant::now());
        }
        if !shared.room.is_empty(Instant::now()) {
            continue;
        }
        let awake = seats.iter().filter(|seat| seat.editor_is_ready());
        let stops: Vec<OrderKind> = awake
            .map(|seat| OrderKind::StopEditor {
                seat: seat.id().clone(),
            })
            .collect();
        if !stops.is_empty() {
            shared.store.place_orders(stops, Actor::System).await?;
        }
    }
}

/// Stops a seat's editor, unless somebody has come since that was ordered.
pub(super) async fn stop_editor(shared: &Shared, seat: &SeatWatch) -> anyhow::Result<String> {
    if seat.is_visited() || !shared.room.is_empty(Instant::now()) {
        return Ok("somebody has come: the editor stays".to_owned());
    }
    seat.agent().tell("/editor/stop").await?;
    Ok("editor stopped".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_empty_from_when_its_last_visitor_left() {
        let begin = Instant::now();
        let minutes = |count: u32| Duration::from_secs(60) * count;
        let room = Room::entered(begin, minutes(120));
        let is_empty_at = |minute| room.is_empty(begin + minutes(minute));
        assert!(!is_empty_at(119) && is_empty_at(120));
        // Somebody is there for hours, and is seen now and then.
        for minute in 120..500 {
            room.visit(begin + minutes(minute));
            assert!(!is_empty_at(minute + 1));
        }
        assert!(!is_empty_at(618) && is_empty_at(619));
        // What was seen late does not make it emptier.
        room.visit(begin + minutes(400));
        assert!(!is_empty_at(618));
    }
}
