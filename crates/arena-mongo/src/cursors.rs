//! Open cursors: what is left to read, and whose it is. The engine keeps a
//! cursor's documents in a file of its own; here is the note that continues it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// MongoDB's own limit; the engine drops the files after the same time.
const IDLE_MAX: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) owner: String,
    pub(crate) database: String,
    pub(crate) continuation: Vec<u8>,
    touched: Instant,
}

impl Cursor {
    pub(crate) fn new(owner: &str, database: &str, continuation: Vec<u8>) -> Self {
        Self {
            owner: owner.to_owned(),
            database: database.to_owned(),
            continuation,
            touched: Instant::now(),
        }
    }
}

/// All open cursors by their number.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    open: Mutex<HashMap<i64, Cursor>>,
}

impl Cursors {
    /// Keeps a cursor; returns those that had to go for it, the owner's oldest or idle ones.
    pub(crate) fn keep(&self, id: i64, cursor: Cursor, per_owner: usize) -> Vec<i64> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut own: Vec<(Instant, i64)> = open
            .iter()
            .filter(|(_, other)| other.owner == cursor.owner)
            .map(|(id, other)| (other.touched, *id))
            .collect();
        own.sort_unstable();
        let too_many = (own.len() + 1).saturating_sub(per_owner.max(1));
        let mut gone: Vec<i64> = own.iter().take(too_many).map(|(_, id)| *id).collect();
        gone.extend(
            own.iter()
                .skip(too_many)
                .filter(|(touched, _)| touched.elapsed() > IDLE_MAX)
                .map(|(_, id)| *id),
        );
        gone.iter().for_each(|id| drop(open.remove(id)));
        open.insert(id, cursor);
        gone
    }

    /// Takes a cursor out for reading on, if it is this user's in this database. While it is read, nobody
    /// else can.
    pub(crate) fn take(&self, id: i64, owner: &str, database: &str) -> Option<Cursor> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_own = open
            .get(&id)
            .is_some_and(|cursor| cursor.owner == owner && cursor.database == database);
        if is_own { open.remove(&id) } else { None }
    }

    /// Returns how many each user has open.
    pub(crate) fn by_owner(&self) -> HashMap<String, usize> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = HashMap::new();
        for cursor in open.values() {
            *counts.entry(cursor.owner.clone()).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_only_its_owners_in_its_database() {
        let cursors = Cursors::default();
        cursors.keep(7, Cursor::new("ada", "ada", vec![1]), 10);
        assert!(cursors.take(7, "bob", "ada").is_none());
        assert!(cursors.take(7, "ada", "bob").is_none());
        assert_eq!(cursors.take(7, "ada", "ada").unwrap().continuation, [1]);
        assert!(cursors.take(7, "ada", "ada").is_none());
    }

    #[test]
    fn one_user_cannot_push_out_anothers_cursors() {
        let cursors = Cursors::default();
        cursors.keep(1, Cursor::new("bob", "bob", Vec::new()), 2);
        for id in 2..10 {
            cursors.keep(id, Cursor::new("ada", "ada", Vec::new()), 2);
        }
        assert!(cursors.take(1, "bob", "bob").is_some());
        assert!(cursors.take(9, "ada", "ada").is_some() && cursors.take(8, "ada", "ada").is_some());
        assert!(cursors.take(7, "ada", "ada").is_none());
    }
}
