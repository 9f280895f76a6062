//! Holds a request until its seat's editor is awake. Every request that waits
//! places the same order, and the store keeps one of them; all are woken by the
//! store's changes. Nobody waits for ever, and only so many at once.

use std::sync::Arc;
use std::time::Duration;

use arena_store::{Actor, EditorStatus, OrderId, OrderKind, OrderState, SeatRecord, Store};
use arena_workshop::SeatId;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::Limits;
use crate::refusal::Refusal;

/// Once a browser shows the waiting page, its next request may wait longer: the page stays.
const NEXT_PAGE_AFTER: Duration = Duration::from_secs(5);

/// How long a request may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A browser shows the page before until there is an answer.
    Page,
    /// A browser shows our waiting page until there is an answer.
    WaitingPage,
    /// A program waits.
    Call,
}

/// The requests that wait.
#[derive(Clone)]
pub(crate) struct Waiting {
    slots: Arc<Semaphore>,
    call_wait: Duration,
    page_after: Duration,
}

impl Waiting {
    /// Returns room for as many as the limits say.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(limits.wake_waiters_max)),
            call_wait: limits.wake_wait,
            page_after: limits.wake_page_after,
        }
    }

    /// Waits until the seat's editor is awake, waking it if it sleeps.
    ///
    /// # Errors
    /// When it does not wake in time, or at all, or too many wait.
    ///
    /// # Cancellation
    /// Dropping the future gives its place back; the order stays.
    pub(crate) async fn until_awake(
        &self,
        store: &Store,
        seat: &SeatId,
        by: Actor,
        patience: Patience,
    ) -> Result<SeatRecord, Refusal> {
        let (mut orders, mut events) = (store.orders_changed(), store.events_changed());
        let record = store.seat(seat).ok_or(Refusal::SeatDown)?;
        if record.status.editor == EditorStatus::Ready {
            return Ok(record);
        }
        let _place = self.slots.try_acquire().map_err(|_| Refusal::Crowded)?;
        let order = store
            .place_order(OrderKind::WakeEditor { seat: seat.clone() }, by)
            .await
            .map_err(|error| Refusal::broken("cannot order an editor to wake", &error))?;
        let deadline = Instant::now() + self.wait(patience);
        loop {
            let record = store.seat(seat).ok_or(Refusal::SeatDown)?;
            match record.status.editor {
                EditorStatus::Ready => return Ok(record),
                EditorStatus::Failed => still_open(store, order, &record)?,
                _ => {}
            }
            // All branches only wait; the state is looked at anew each time.
            let is_late = tokio::select! {
                changed = orders.changed() => changed.is_err(),
                changed = events.changed() => changed.is_err(),
                () = tokio::time::sleep_until(deadline) => true,
            };
            if is_late {
                return Err(Refusal::Waking {
                    position: place_in_line(record.status.editor),
                });
            }
        }
    }

    fn wait(&self, patience: Patience) -> Duration {
        match patience {
            Patience::Page => self.page_after,
            Patience::WaitingPage => self.page_after.max(NEXT_PAGE_AFTER).min(self.call_wait),
            Patience::Call => self.call_wait,
        }
    }
}

/// A failure from before the order is no answer to it.
fn still_open(store: &Store, order: OrderId, record: &SeatRecord) -> Result<(), Refusal> {
    match store.order(order).map(|order| order.state) {
        Some(OrderState::Pending | OrderState::Running) => Ok(()),
        Some(OrderState::Failed(why)) => Err(Refusal::WakeFailed(Some(why))),
        Some(OrderState::Done(_)) | None => Err(Refusal::WakeFailed(record.status.message.clone())),
    }
}

fn place_in_line(editor: EditorStatus) -> Option<u32> {
    match editor {
        EditorStatus::Queued { position } => Some(position),
        _ => None,
    }
}
