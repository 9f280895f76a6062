//! Stops the editors of a room that nobody is in: after the day, at night, between two days. An editor
//! whose browser has left keeps its memory (390 MB were measured). While anybody at all is in the room
//! none is stopped: who comes back from a break finds terminals as they were.

use std::sync::Arc;
use std::time::Duration;

use arena_store::{Actor, OrderKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::seat::SeatWatch;

/// How often the room is looked at; more often where it is to be empty for less than a quarter of an hour.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The room, as it was last looked at.
struct Room {
    empty_since: Instant,
}

impl Room {
    /// Takes in whether anybody is there now, and returns for how long nobody has been.
    fn empty_for(&mut self, is_visited: bool, now: Instant) -> Duration {
        if is_visited {
            self.empty_since = now;
        }
        now - self.empty_since
    }
}

/// Orders every editor to stop when the room has been empty for so long, until `shutdown`.
pub(super) async fn let_editors_sleep(
    shared: Arc<Shared>,
    idle: Duration,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut looks = tokio::time::interval(LOOK_EVERY.min(idle / 15));
    let mut room = Room {
        empty_since: Instant::now(),
    };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = looks.tick() => {}
        }
        let seats = shared.seats.all();
        let is_visited = seats.iter().any(|seat| seat.is_visited());
        if room.empty_for(is_visited, Instant::now()) < idle {
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
pub(super) async fn stop_editor(seat: &SeatWatch) -> anyhow::Result<String> {
    if seat.is_visited() {
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
        let mut room = Room { empty_since: begin };
        let looks = [
            (1, false, 1),
            (2, true, 0),
            // Somebody is there all the time, however long.
            (500, true, 0),
            (501, false, 1),
            (620, false, 120),
            (621, true, 0),
        ];
        for (at, is_visited, expected) in looks {
            let empty = room.empty_for(is_visited, begin + minutes(at));
            assert_eq!(empty, minutes(expected), "at minute {at}");
        }
    }
}
