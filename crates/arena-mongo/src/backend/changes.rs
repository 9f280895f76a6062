//! Changes of what names mean: collections that are dropped, renamed or altered. Only this front changes them, so
//! they can be counted. Two things depend on it.
//!
//! The engine keeps what it knows of collections per connection (`NameToCollectionHash` in its
//! `metadata/collection.c`), and while it adds an entry it throws away what other sessions say of other entries. Such a
//! connection finds the collection empty, or finds another one under its old name, for ever. So a connection that was in
//! use during a change begins its next use by forgetting what it knows.
//!
//! And what the front itself knows of a collection's table ([`Lookups`](crate::lookups::Lookups)) holds until the next
//! change.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Makes a connection, and by the way all others, look collections up anew.
pub(super) const FORGET: &str = "SELECT documentdb_api_internal.invalidate_collection_cache()";

/// A statement whose connection was closed may go on for as long: the engine looks every second whether it is
/// still there.
const SETTLING: Duration = Duration::from_secs(10);

/// Counts statements that drop, rename or alter collections.
#[derive(Debug, Default)]
pub(super) struct Changes {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    begun: u64,
    running: u64,
    /// Until then what nobody waits for any more may go on.
    unsettled_until: Option<Instant>,
}

impl Counts {
    fn are_settled(&self) -> bool {
        let is_over = |until| until <= Instant::now();
        self.running == 0 && self.unsettled_until.is_none_or(is_over)
    }
}

/// What had begun when a connection was taken, and of that what still ran.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    begun: u64,
    was_quiet: bool,
}

/// A change that is under way.
#[derive(Debug)]
pub(super) struct Change<'a> {
    changes: &'a Changes,
    is_settled: bool,
}

impl Changes {
    pub(super) fn begin(&self) -> Change<'_> {
        let mut counts = self.counts();
        counts.begun += 1;
        counts.running += 1;
        Change {
            changes: self,
            is_settled: false,
        }
    }

    /// How many there have been; nothing while one is under way.
    pub(super) fn count(&self) -> Option<u64> {
        let counts = self.counts();
        counts.are_settled().then_some(counts.begun)
    }

    pub(super) fn seen(&self) -> Seen {
        let counts = self.counts();
        Seen {
            begun: counts.begun,
            was_quiet: counts.are_settled(),
        }
    }

    /// Whether nothing was changed since, but by the connection's own statements: so many.
    pub(super) fn were_none_since(&self, seen: Seen, own: u64) -> bool {
        seen.was_quiet && self.counts().begun == seen.begun + own
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Change<'_> {
    /// It is done, has failed, or its connection was lost: in any case it does not go on.
    pub(super) fn settle(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Change<'_> {
    /// Where it is not settled, nobody waits for the answer any more, and the engine may do it yet.
    fn drop(&mut self) {
        let mut counts = self.changes.counts();
        counts.running -= 1;
        if !self.is_settled {
            counts.unsettled_until = Some(Instant::now() + SETTLING);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_overlaps_is_known_whichever_way_it_does() {
        let changes = Changes::default();
        let before = changes.seen();
        assert!(changes.were_none_since(before, 0));
        let change = changes.begin();
        assert!(!changes.were_none_since(before, 0), "it began meanwhile");
        let during = changes.seen();
        change.settle();
        assert!(
            !changes.were_none_since(before, 0),
            "it was there and has gone"
        );
        assert!(!changes.were_none_since(during, 0), "it ended meanwhile");
        assert!(changes.were_none_since(changes.seen(), 0), "it was before");
    }

    #[test]
    fn ones_own_change_is_none_unless_others_change_too() {
        let changes = Changes::default();
        let seen = changes.seen();
        changes.begin().settle();
        assert!(changes.were_none_since(seen, 1));
        changes.begin().settle();
        assert!(!changes.were_none_since(seen, 1));
    }

    #[test]
    fn what_nobody_waits_for_is_under_way_for_a_while() {
        let changes = Changes::default();
        let change = changes.begin();
        assert_eq!(changes.count(), None);
        change.settle();
        assert_eq!(changes.count(), Some(1));
        drop(changes.begin());
        assert_eq!(changes.count(), None);
        let seen = changes.seen();
        assert!(!changes.were_none_since(seen, 0));
        changes.counts().unsettled_until = Some(Instant::now());
        assert_eq!(changes.count(), Some(2));
    }
}
