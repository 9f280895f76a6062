//! Which connections may have missed that a collection was dropped. The engine
//! keeps what it knows of collections per connection (`NameToCollectionHash` in
//! its `metadata/collection.c`), and while it adds an entry it throws away what
//! other sessions say of other entries. Such a connection finds the collection
//! empty, or finds another one under its old name, for ever. So a connection that
//! was in use while collections were dropped, renamed or altered begins its next
//! use by forgetting what it knows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

/// Makes a connection, and by the way all others, look collections up anew.
pub(super) const FORGET: &str = "SELECT documentdb_api_internal.invalidate_collection_cache()";

/// A statement whose connection was closed may go on for as long: the engine looks every second whether it is
/// still there.
const SETTLING: Duration = Duration::from_secs(10);

/// Counts statements that drop, rename or alter collections.
#[derive(Debug, Default)]
pub(super) struct Changes {
    counts: Arc<Mutex<Counts>>,
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

/// A change that is under way.
#[derive(Debug)]
pub(super) struct Change {
    /// Nothing once it has settled.
    counts: Option<Arc<Mutex<Counts>>>,
}

impl Changes {
    pub(super) fn begin(&self) -> Change {
        let mut counts = locked(&self.counts);
        counts.begun += 1;
        counts.running += 1;
        Change {
            counts: Some(Arc::clone(&self.counts)),
        }
    }

    /// How many there have been; nothing while one is under way.
    pub(super) fn count(&self) -> Option<u64> {
        let counts = locked(&self.counts);
        (counts.running == 0).then_some(counts.begun)
    }

    pub(super) fn seen(&self) -> Seen {
        let counts = locked(&self.counts);
        Seen {
            begun: counts.begun,
            was_quiet: counts.running == 0,
        }
    }

    /// Whether nothing was changed since, but by the connection's own statements: so many.
    pub(super) fn were_none_since(&self, seen: Seen, own: u64) -> bool {
        seen.was_quiet && locked(&self.counts).begun == seen.begun + own
    }
}

impl Change {
    /// The engine has answered: it is done, or failed.
    pub(super) fn settle(mut self) {
        if let Some(counts) = self.counts.take() {
            locked(&counts).running -= 1;
        }
    }
}

impl Drop for Change {
    /// Nobody waits for the answer any more, and the engine may do it yet.
    fn drop(&mut self) {
        if let Some(counts) = self.counts.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(settle_after(SETTLING, counts));
        }
    }
}

async fn settle_after(time: Duration, counts: Arc<Mutex<Counts>>) {
    sleep(time).await;
    locked(&counts).running -= 1;
}

fn locked(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test]
    async fn what_nobody_waits_for_is_under_way_for_a_while() {
        let changes = Changes::default();
        changes.begin().settle();
        assert_eq!(changes.count(), Some(1));
        drop(changes.begin());
        assert_eq!(changes.count(), None);
        settle_after(Duration::ZERO, Arc::clone(&changes.counts)).await;
        assert_eq!(changes.count(), Some(2));
    }
}
