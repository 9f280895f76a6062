//! Which connections may have missed that a collection was dropped. The engine
//! keeps what it knows of collections per connection (`NameToCollectionHash` in
//! its `metadata/collection.c`), and while it adds an entry it throws away what
//! other sessions say of other entries. Such a connection finds the collection
//! empty, or finds another one under its old name, for ever. So a connection that
//! was in use while collections were dropped, renamed or altered begins its next
//! use by forgetting what it knows.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Makes a connection, and by the way all others, look collections up anew.
pub(super) const FORGET: &str = "SELECT documentdb_api_internal.invalidate_collection_cache()";

/// Counts statements that drop, rename or alter collections.
#[derive(Debug, Default)]
pub(super) struct Changes {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    begun: u64,
    running: u64,
}

/// What had begun when a connection was taken, and of that what still ran.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    begun: u64,
    was_quiet: bool,
}

/// Counted until it is dropped.
#[derive(Debug)]
pub(super) struct Change<'a> {
    changes: &'a Changes,
}

impl Changes {
    pub(super) fn begin(&self) -> Change<'_> {
        let mut counts = self.counts();
        counts.begun += 1;
        counts.running += 1;
        Change { changes: self }
    }

    pub(super) fn seen(&self) -> Seen {
        let counts = self.counts();
        Seen {
            begun: counts.begun,
            was_quiet: counts.running == 0,
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

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.changes.counts().running -= 1;
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
        drop(change);
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
        drop(changes.begin());
        assert!(changes.were_none_since(seen, 1));
        drop(changes.begin());
        assert!(!changes.were_none_since(seen, 1));
    }
}
