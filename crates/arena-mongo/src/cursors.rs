//! Open cursors: what is left to read, and whose it is. The engine keeps a
//! cursor's documents in a file of its own; here is the note that continues it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::RawDocumentBuf;
use tokio::time::Instant;

use crate::error::CommandError;
use crate::sessions::session_text;

/// MongoDB's own limit; the engine drops the files after the same time.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// Who may read a cursor on, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reader<'a> {
    pub(crate) owner: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) session: Option<[u8; 16]>,
    /// The number of the transaction, if it is read in one.
    pub(crate) transaction: Option<i64>,
}

/// What is left of a cursor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rest {
    /// The engine's own note, and whether the cursor ends with a full page, as one with a limit may.
    Engine(Vec<u8>, bool),
    /// Documents that no query finds again.
    Documents(Arc<Vec<RawDocumentBuf>>, usize),
}

#[derive(Debug)]
struct Cursor {
    owner: String,
    namespace: String,
    session: Option<[u8; 16]>,
    transaction: Option<i64>,
    rest: Rest,
    /// Its collection was dropped or renamed since it was opened.
    is_killed: bool,
    is_in_use: bool,
    touched: Instant,
}

/// All open cursors by their number.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    open: Mutex<HashMap<i64, Cursor>>,
}

impl Cursors {
    /// Keeps a cursor; returns those that had to go for it, the owner's oldest.
    pub(crate) fn keep(
        &self,
        id: i64,
        reader: &Reader<'_>,
        rest: Rest,
        per_owner: usize,
    ) -> Vec<i64> {
        let mut open = self.open();
        let mut own: Vec<(Instant, i64)> = open
            .iter()
            .filter(|(other, cursor)| cursor.owner == reader.owner && **other != id)
            .map(|(id, cursor)| (cursor.touched, *id))
            .collect();
        own.sort_unstable();
        let too_many = (own.len() + 1).saturating_sub(per_owner.max(1));
        let gone: Vec<i64> = own.iter().take(too_many).map(|(_, id)| *id).collect();
        gone.iter().for_each(|id| drop(open.remove(id)));
        let is_killed = open.get(&id).is_some_and(|cursor| cursor.is_killed);
        let cursor = Cursor {
            owner: reader.owner.to_owned(),
            namespace: reader.namespace.to_owned(),
            session: reader.session,
            transaction: reader.transaction,
            rest,
            is_killed,
            is_in_use: false,
            touched: Instant::now(),
        };
        open.insert(id, cursor);
        gone
    }

    /// Returns what continues a cursor. Until it is kept again or closed, nobody else can read it.
    pub(crate) fn take(&self, id: i64, reader: &Reader<'_>) -> Result<Rest, CommandError> {
        let mut open = self.open();
        let cursor = open
            .get_mut(&id)
            // Which cursors others have is nobody's business.
            .filter(|cursor| cursor.owner == reader.owner)
            .ok_or_else(|| not_found(id))?;
        if cursor.namespace != reader.namespace {
            return Err(CommandError::unauthorized(format!(
                "Requested getMore on namespace '{}', but cursor belongs to a different namespace {}",
                reader.namespace, cursor.namespace
            )));
        }
        check_session(id, cursor, reader)?;
        if cursor.is_in_use {
            let message = format!("cursor id {id} is already in use");
            return Err(CommandError::new(143, "CursorInUse", message));
        }
        if cursor.is_killed {
            let message = format!("collection dropped or renamed: {}", cursor.namespace);
            open.remove(&id);
            return Err(CommandError::new(175, "QueryPlanKilled", message));
        }
        cursor.is_in_use = true;
        cursor.touched = Instant::now();
        Ok(cursor.rest.clone())
    }

    /// Cursors over a collection that is no more, or over all of a database, cannot be read on.
    pub(crate) fn kill(&self, database: &str, collection: Option<&str>) {
        for cursor in self.open().values_mut() {
            let name = cursor.namespace.strip_prefix(database);
            let name = name.and_then(|rest| rest.strip_prefix('.'));
            let is_over_it =
                name.is_some_and(|name| collection.is_none_or(|dropped| dropped == name));
            cursor.is_killed |= is_over_it;
        }
    }

    /// Forgets a cursor of this user in this database; returns whether there was one.
    pub(crate) fn close(&self, id: i64, owner: &str, database: &str) -> bool {
        let mut open = self.open();
        let is_own = open.get(&id).is_some_and(|cursor| {
            let in_database = cursor.namespace.strip_prefix(database);
            cursor.owner == owner && in_database.is_some_and(|rest| rest.starts_with('.'))
        });
        if is_own {
            open.remove(&id);
        }
        is_own
    }

    /// Forgets the cursors of a transaction that has ended; returns them.
    pub(crate) fn end_transaction(&self, owner: &str, session: [u8; 16], number: i64) -> Vec<i64> {
        self.remove(|cursor| {
            cursor.owner == owner
                && cursor.session == Some(session)
                && cursor.transaction == Some(number)
        })
    }

    /// Forgets the cursors of sessions that have ended: of these, or of all; of one user, or of all.
    pub(crate) fn end_sessions(&self, owner: Option<&str>, ids: Option<&[[u8; 16]]>) -> Vec<i64> {
        self.remove(|cursor| {
            owner.is_none_or(|owner| cursor.owner == owner)
                && cursor
                    .session
                    .is_some_and(|session| ids.is_none_or(|ids| ids.contains(&session)))
        })
    }

    /// Forgets cursors that nobody reads on; returns them.
    pub(crate) fn expire(&self) -> Vec<i64> {
        self.remove(|cursor| cursor.touched.elapsed() > IDLE_MAX)
    }

    /// Returns how many each user has open.
    pub(crate) fn by_owner(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for cursor in self.open().values() {
            *counts.entry(cursor.owner.clone()).or_default() += 1;
        }
        counts
    }

    fn remove(&self, is_meant: impl Fn(&Cursor) -> bool) -> Vec<i64> {
        let mut gone = Vec::new();
        self.open().retain(|id, cursor| {
            // Whoever took it may have been cut off.
            let is_in_use = cursor.is_in_use && cursor.touched.elapsed() <= IDLE_MAX;
            let keep = is_in_use || !is_meant(cursor);
            if !keep {
                gone.push(*id);
            }
            keep
        });
        gone
    }

    fn open(&self) -> MutexGuard<'_, HashMap<i64, Cursor>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found(id: i64) -> CommandError {
    CommandError::new(43, "CursorNotFound", format!("cursor id {id} not found"))
}

/// A cursor is read on where it was opened: in the same session, in the same transaction.
fn check_session(id: i64, cursor: &Cursor, reader: &Reader<'_>) -> Result<(), CommandError> {
    let refused = |code: i32, name: &'static str, rest: String| {
        let message = format!("Cannot run getMore on cursor {id}, which was {rest}");
        Err(CommandError::new(code, name, message))
    };
    let uuid = |session: [u8; 16]| session_text(&session);
    match (cursor.session, reader.session) {
        (None, Some(session)) => {
            let rest = format!("not created in a session, in session {}", uuid(session));
            return refused(50736, "Location50736", rest);
        }
        (Some(session), None) => {
            let rest = format!("created in session {}, without an lsid", uuid(session));
            return refused(50737, "Location50737", rest);
        }
        (Some(own), Some(session)) if own != session => {
            let rest = format!(
                "created in session {}, in session {}",
                uuid(own),
                uuid(session)
            );
            return refused(50738, "Location50738", rest);
        }
        _ => {}
    }
    match (cursor.transaction, reader.transaction) {
        (None, Some(number)) => {
            let rest = format!("not created in a transaction, in transaction {number}");
            refused(50739, "Location50739", rest)
        }
        (Some(own), None) => {
            let rest = format!("created in transaction {own}, without a txnNumber");
            refused(50740, "Location50740", rest)
        }
        (Some(own), Some(number)) if own != number => {
            let rest = format!("created in transaction {own}, in transaction {number}");
            refused(50741, "Location50741", rest)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader<'a>(owner: &'a str, namespace: &'a str) -> Reader<'a> {
        Reader {
            owner,
            namespace,
            session: None,
            transaction: None,
        }
    }

    fn nothing() -> Rest {
        Rest::Engine(Vec::new(), false)
    }

    fn code(result: Result<Rest, CommandError>) -> i32 {
        result.map_or_else(|error| error.code, |_| 0)
    }

    #[test]
    fn a_cursor_is_only_its_owners_in_its_collection() {
        let cursors = Cursors::default();
        cursors.keep(7, &reader("ada", "ada.c"), Rest::Engine(vec![1], false), 10);
        assert_eq!(code(cursors.take(7, &reader("bob", "ada.c"))), 43);
        assert_eq!(code(cursors.take(7, &reader("ada", "bob.c"))), 13);
        assert_eq!(
            cursors.take(7, &reader("ada", "ada.c")),
            Ok(Rest::Engine(vec![1], false))
        );
        assert_eq!(code(cursors.take(7, &reader("ada", "ada.c"))), 143);
        assert!(!cursors.close(7, "bob", "ada") && !cursors.close(7, "ada", "ad"));
        assert!(cursors.close(7, "ada", "ada") && !cursors.close(7, "ada", "ada"));
    }

    #[test]
    fn a_cursor_is_read_on_where_it_was_opened() {
        let cursors = Cursors::default();
        let plain = reader("ada", "ada.c");
        let in_session = |session: u8, transaction: Option<i64>| Reader {
            session: Some([session; 16]),
            transaction,
            ..plain.clone()
        };
        cursors.keep(1, &plain, nothing(), 10);
        cursors.keep(2, &in_session(2, None), nothing(), 10);
        cursors.keep(3, &in_session(3, Some(5)), nothing(), 10);
        for (id, with, expected) in [
            (1, in_session(2, None), 50736),
            (2, plain.clone(), 50737),
            (2, in_session(3, None), 50738),
            (2, in_session(2, Some(1)), 50739),
            (3, in_session(3, None), 50740),
            (3, in_session(3, Some(6)), 50741),
            (3, in_session(3, Some(5)), 0),
        ] {
            assert_eq!(code(cursors.take(id, &with)), expected, "{id} {with:?}");
        }
        assert_eq!(cursors.end_sessions(Some("ada"), Some(&[[2; 16]])), [2]);
    }

    #[test]
    fn a_cursor_ends_with_its_collection() {
        let cursors = Cursors::default();
        for (id, namespace) in [(1, "ada.c"), (2, "ada.c.d"), (3, "ada.b"), (4, "adam.c")] {
            cursors.keep(id, &reader("ada", namespace), nothing(), 10);
        }
        cursors.kill("ada", Some("c"));
        // Read on while it was dropped.
        cursors.keep(1, &reader("ada", "ada.c"), nothing(), 10);
        assert_eq!(code(cursors.take(1, &reader("ada", "ada.c"))), 175);
        assert_eq!(code(cursors.take(1, &reader("ada", "ada.c"))), 43);
        assert_eq!(code(cursors.take(2, &reader("ada", "ada.c.d"))), 0);
        cursors.kill("ada", None);
        assert_eq!(code(cursors.take(3, &reader("ada", "ada.b"))), 175);
        assert_eq!(code(cursors.take(4, &reader("ada", "adam.c"))), 0);
    }

    #[test]
    fn one_user_cannot_push_out_anothers_cursors() {
        let cursors = Cursors::default();
        let (ada, bob) = (reader("ada", "ada.c"), reader("bob", "bob.c"));
        cursors.keep(1, &bob, nothing(), 2);
        for id in 2..10 {
            cursors.keep(id, &ada, nothing(), 2);
        }
        assert!(cursors.take(1, &bob).is_ok());
        assert!(cursors.take(9, &ada).is_ok() && cursors.take(8, &ada).is_ok());
        assert_eq!(code(cursors.take(7, &ada)), 43);
    }
}
