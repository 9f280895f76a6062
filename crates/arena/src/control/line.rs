//! The line of editors that wait for their turn to wake: whoever came first wakes first. Everybody
//! is told their place, all with one write and not more often than people read it: a hundred
//! people in line must not make a hundred commits each time that one of them leaves it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arena_workshop::SeatId;
use tokio::sync::Notify;
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
    at_once: usize,
    while_coming: usize,
    state: Mutex<State>,
    /// Somebody left the line or is awake.
    changed: Notify,
    /// Places in line are others than were told.
    moved: Notify,
}

struct State {
    waking: usize,
    came: Instant,
    waiting: VecDeque<Standing>,
    /// Number of who comes next.
    next: u64,
}

/// Somebody in line. A seat may stand there twice.
struct Standing {
    number: u64,
    seat: SeatId,
}

/// A turn to wake, until it is dropped.
pub(super) struct Turn<'a> {
    line: &'a WakeLine,
}

impl WakeLine {
    pub(super) fn of(cores: usize) -> Self {
        Self {
            at_once: cores.max(AT_ONCE_MIN),
            while_coming: (cores / 2).max(1),
            state: Mutex::new(State {
                waking: 0,
                came: Instant::now(),
                waiting: VecDeque::new(),
                next: 0,
            }),
            changed: Notify::new(),
            moved: Notify::new(),
        }
    }

    /// Waits for a seat's turn, which lasts until it is dropped.
    ///
    /// # Cancellation
    /// The place in line is given up.
    pub(super) async fn turn(&self, seat: &SeatId) -> Turn<'_> {
        self.state().came = Instant::now();
        let mut place = None;
        loop {
            // What changes from here on is not missed.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let Some(wait) = self.begin(place.as_ref()) else {
                return Turn { line: self };
            };
            place.get_or_insert_with(|| Place::take(self, seat));
            // Both only wait; whether it is time is asked again.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
            }
        }
    }

    /// Counts whoever stands in that place, or has just come, among those who wake. Where it is not their
    /// turn, returns how long to wait at most.
    fn begin(&self, place: Option<&Place<'_>>) -> Option<Duration> {
        let mut state = self.state();
        let first = state.waiting.front().map(|standing| standing.number);
        let is_first = first == place.map(|place| place.number);
        let coming = COMING.saturating_sub(state.came.elapsed());
        let limit = if coming.is_zero() {
            self.at_once
        } else {
            self.while_coming
        };
        if !is_first || state.waking >= limit {
            return Some(if coming.is_zero() { COMING } else { coming });
        }
        state.waking += 1;
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes along the line, which does not move meanwhile: who left it gets no place any more.
    fn along(&self, mut tell: impl FnMut(&SeatId, u32)) {
        for (standing, place) in self.state().waiting.iter().zip(1..) {
            tell(&standing.seat, place);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.line.state().waking -= 1;
        self.line.changed.notify_waiters();
    }
}

/// A place in line until it is dropped.
struct Place<'a> {
    line: &'a WakeLine,
    number: u64,
}

impl<'a> Place<'a> {
    fn take(line: &'a WakeLine, seat: &SeatId) -> Self {
        let mut state = line.state();
        let number = state.next;
        state.next += 1;
        state.waiting.push_back(Standing {
            number,
            seat: seat.clone(),
        });
        line.moved.notify_one();
        Self { line, number }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.line.state();
        state
            .waiting
            .retain(|standing| standing.number != self.number);
        self.line.changed.notify_waiters();
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
    use super::*;

    fn seat(name: &str) -> SeatId {
        SeatId::new(name).expect("a seat's id")
    }

    /// Whether a turn comes only later.
    async fn waits<'a>(turn: impl Future<Output = Turn<'a>> + Unpin) -> bool {
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
        let first = line.turn(&ada).await;
        let mut second = pin!(line.turn(&bea));
        let mut third = pin!(line.turn(&eve));
        assert!(waits(&mut second).await, "one at a time at first");
        assert!(waits(&mut third).await);
        drop(first);
        let second = second.await;
        let calm = tokio::time::timeout(COMING * 60, third);
        let third = calm.await.expect("nobody comes any more");
        drop((second, third));
        assert_eq!(line.state().waking, 0);
        assert!(line.state().waiting.is_empty());
    }

    #[tokio::test]
    async fn whoever_came_first_wakes_first_and_who_leaves_the_line_holds_up_nobody() {
        let line = WakeLine::of(2);
        let [ada, bea, eve, joe] = ["ada", "bea", "eve", "joe"].map(seat);
        let first = line.turn(&ada).await;
        let mut second = Box::pin(line.turn(&bea));
        let (mut third, mut last) = (pin!(line.turn(&eve)), pin!(line.turn(&joe)));
        assert!(waits(&mut second).await);
        assert!(waits(&mut third).await && waits(&mut last).await);
        let places = || {
            let mut told = Vec::new();
            line.along(|seat, place| told.push(format!("{place} {seat}")));
            told
        };
        assert_eq!(places(), ["1 bea", "2 eve", "3 joe"]);
        drop(second);
        assert_eq!(places(), ["1 eve", "2 joe"]);
        drop(first);
        assert!(waits(&mut last).await, "the last does not overtake");
        let third = third.await;
        assert_eq!(places(), ["1 joe"]);
        drop(third);
        last.await;
    }
}
