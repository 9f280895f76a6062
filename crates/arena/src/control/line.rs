//! The line of editors that wait for their turn to wake: whoever came first wakes first. Everybody
//! is told their place, all with one write and not more often than people read it: a hundred
//! people in line must not make a hundred commits each time that one of them leaves it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use arena_workshop::SeatId;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::Shared;

/// Between two tellings.
const TOLD_EVERY: Duration = Duration::from_millis(500);

/// Who waits, and how many may wake at a time.
pub(super) struct WakeLine {
    turns: Semaphore,
    waiting: Mutex<Vec<SeatId>>,
    moved: Notify,
}

impl WakeLine {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            turns: Semaphore::new(at_once),
            waiting: Mutex::default(),
            moved: Notify::new(),
        }
    }

    /// Waits for a seat's turn, which lasts until the permit is dropped.
    ///
    /// # Cancellation
    /// The place in line is given up.
    pub(super) async fn turn(&self, seat: &SeatId) -> anyhow::Result<SemaphorePermit<'_>> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let _place = Place::take(self, seat);
        self.turns.acquire().await.context("control is stopping")
    }

    /// Goes along the line, which does not move meanwhile: who left it gets no place any more.
    fn along(&self, mut tell: impl FnMut(&SeatId, u32)) {
        let waiting = self.waiting.lock();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        for (seat, place) in waiting.iter().zip(1..) {
            tell(seat, place);
        }
    }
}

/// A place in line until it is dropped.
struct Place<'a> {
    line: &'a WakeLine,
    seat: SeatId,
}

impl<'a> Place<'a> {
    fn take(line: &'a WakeLine, seat: &SeatId) -> Self {
        let waiting = line.waiting.lock();
        waiting
            .unwrap_or_else(PoisonError::into_inner)
            .push(seat.clone());
        line.moved.notify_one();
        Self {
            line,
            seat: seat.clone(),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waiting = self.line.waiting.lock();
        waiting
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|seat| *seat != self.seat);
        self.line.moved.notify_one();
    }
}

/// Tells everybody in line their place, until `shutdown`.
pub(super) async fn tell_places(
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        // Both only wait; what moved meanwhile is seen the next time.
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = shared.line.moved.notified() => {}
        }
        let mut told = Vec::new();
        shared.line.along(|seat, place| {
            if let Some(watch) = shared.seats.get(seat)
                && watch.stand(Some(place))
            {
                told.push((seat.clone(), watch.status()));
            }
        });
        shared.store.set_statuses(told).await?;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(TOLD_EVERY) => {}
        }
    }
}
