//! The line of editors that wait for their turn to wake: whoever came first wakes first. Everybody
//! is told their place, all with one write and not more often than people read it: a hundred
//! people in line must not make a hundred commits each time that one of them leaves it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use arena_workshop::SeatId;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;

/// Between two tellings.
const TOLD_EVERY: Duration = Duration::from_millis(500);

/// As long after somebody came, more are expected.
const COMING: Duration = Duration::from_secs(1);
/// Editors that wake at a time even on the smallest machine: each waits for its files now and then.
const AT_ONCE_MIN: usize = 3;

/// Who waits, and how many may wake at a time: as many as the machine has cores, at least three, and half as
/// many as there are cores while people are coming in, because whoever stands at the door waits for the processor, too.
pub(super) struct WakeLine {
    turns: Semaphore,
    while_coming: usize,
    pace: Mutex<Pace>,
    ended: Notify,
    waiting: Mutex<Vec<SeatId>>,
    moved: Notify,
}

struct Pace {
    waking: usize,
    came: Instant,
}

/// A turn to wake, until it is dropped.
pub(super) struct Turn<'a> {
    line: &'a WakeLine,
    _permit: SemaphorePermit<'a>,
}

impl WakeLine {
    pub(super) fn of(cores: usize) -> Self {
        Self {
            turns: Semaphore::new(cores.max(AT_ONCE_MIN)),
            while_coming: (cores / 2).max(1),
            pace: Mutex::new(Pace {
                waking: 0,
                came: Instant::now(),
            }),
            ended: Notify::new(),
            waiting: Mutex::default(),
            moved: Notify::new(),
        }
    }

    /// Waits for a seat's turn, which lasts until it is dropped.
    ///
    /// # Cancellation
    /// The place in line is given up.
    pub(super) async fn turn(&self, seat: &SeatId) -> anyhow::Result<Turn<'_>> {
        self.pace().came = Instant::now();
        let mut place = None;
        let permit = match self.turns.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                place = Some(Place::take(self, seat));
                let permit = self.turns.acquire().await;
                permit.context("control is stopping")?
            }
        };
        while let Some(wait) = self.begin() {
            place.get_or_insert_with(|| Place::take(self, seat));
            // Both only wait; whether it is time is asked again.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.ended.notified() => {}
            }
        }
        Ok(Turn {
            line: self,
            _permit: permit,
        })
    }

    /// Counts one more that wakes; where that is too many for now, returns how long to wait at most.
    fn begin(&self) -> Option<Duration> {
        let mut pace = self.pace();
        let wait = COMING.saturating_sub(pace.came.elapsed());
        if pace.waking >= self.while_coming && !wait.is_zero() {
            return Some(wait);
        }
        pace.waking += 1;
        None
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.line.pace().waking -= 1;
        self.line.ended.notify_one();
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

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn seat(name: &str) -> SeatId {
        SeatId::new(name).expect("a seat's id")
    }

    /// Whether a turn comes only later.
    async fn waits<'a>(turn: impl Future<Output = anyhow::Result<Turn<'a>>> + Unpin) -> bool {
        tokio::select! {
            biased;
            _ = turn => false,
            () = tokio::task::yield_now() => true,
        }
    }

    #[tokio::test]
    async fn few_wake_while_people_are_coming_and_more_afterwards() {
        let line = WakeLine::of(2);
        let (ada, bea, eve) = (seat("ada"), seat("bea"), seat("eve"));
        let first = line.turn(&ada).await.expect("a turn");
        let mut second = pin!(line.turn(&bea));
        let mut third = pin!(line.turn(&eve));
        assert!(waits(&mut second).await, "one at a time at first");
        assert!(waits(&mut third).await);
        drop(first);
        let second = second.await.expect("who was first in line");
        let calm = tokio::time::timeout(COMING * 60, third);
        let third = calm.await.expect("nobody comes any more").expect("a turn");
        drop((second, third));
        assert_eq!(line.pace().waking, 0);
        assert!(line.waiting.lock().expect("no panic").is_empty());
    }
}
