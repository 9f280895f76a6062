//! The seats that control follows at this moment. The list of names may change
//! while the event runs: who comes is followed from then on, who is gone no more.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use arena_workshop::SeatId;
use tokio_util::sync::CancellationToken;

use super::seat::SeatWatch;

/// A seat's watch, and what ends the tasks that follow it.
type Followed = (Arc<SeatWatch>, CancellationToken);

/// Watches by seat.
#[derive(Default)]
pub(super) struct Watches(RwLock<BTreeMap<SeatId, Followed>>);

impl Watches {
    /// Takes in a seat; `end` is cancelled when it leaves.
    pub(super) fn insert(&self, watch: Arc<SeatWatch>, end: CancellationToken) {
        let mut seats = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = seats.insert(watch.id().clone(), (watch, end)) {
            before.cancel();
        }
    }

    /// Lets a seat go: nobody follows it any more.
    pub(super) fn remove(&self, seat: &SeatId) {
        let mut seats = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, end)) = seats.remove(seat) {
            end.cancel();
        }
    }

    /// Returns a seat's watch.
    pub(super) fn get(&self, seat: &SeatId) -> Option<Arc<SeatWatch>> {
        let seats = self.0.read().unwrap_or_else(PoisonError::into_inner);
        seats.get(seat).map(|(watch, _)| Arc::clone(watch))
    }

    /// Returns all watches, in order of their seats' ids.
    pub(super) fn all(&self) -> Vec<Arc<SeatWatch>> {
        let seats = self.0.read().unwrap_or_else(PoisonError::into_inner);
        seats.values().map(|(watch, _)| Arc::clone(watch)).collect()
    }
}
