//! How much each database holds, and whether it may grow.
//!
//! Between two looks what was let in since is added, so a write is refused before
//! it goes too far, not after. What a small command can make large (an update of
//! everything) is watched while it runs and ended when it goes far over.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Row;

use super::Quota;
use crate::error::CommandError;

/// A definition takes a page at least.
pub(crate) const PAGE_BYTES: u64 = 8192;
/// Nothing is refused by an older look than this.
const FRESH_FOR_REFUSING: Duration = Duration::from_millis(50);
/// A running statement may go over its database's quota by a quarter and this much before it is ended.
const OVERSHOOT_BYTES: u64 = 4 * 1024 * 1024;
/// Between two rewritings of one database.
const REWRITE_PAUSE: Duration = Duration::from_secs(3);

/// What a database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// Bytes on disk, indexes included.
    pub bytes: u64,
    /// Documents.
    pub documents: u64,
    /// Collections and views.
    pub collections: u64,
    /// Indexes, those over `_id` included.
    pub indexes: u64,
}

/// What a command may add.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Growth<'a> {
    pub(crate) bytes: u64,
    pub(crate) documents: u64,
    pub(crate) indexes: u64,
    /// Where it goes; made if it is not there.
    pub(crate) collection: &'a str,
}

/// Databases that something must be done about.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// What is written there must end.
    pub(super) far_over: Vec<String>,
    /// Little space is left, and some may be given back.
    pub(super) short: Vec<String>,
}

/// What is known of all databases.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    by_database: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    stored: Stored,
    collections: HashSet<String>,
    measured: Option<Instant>,
    /// Let in and ended since the last look began.
    ended: Amount,
    /// Let in and still running.
    running: Amount,
    writes_running: usize,
    changed: bool,
    /// Something was deleted, and its space may be given back.
    freed: bool,
    rewritten: Option<Instant>,
    /// When statements were last ended for being far over.
    stopped: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Amount {
    bytes: u64,
    documents: u64,
    collections: u64,
    indexes: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            documents: self.documents.saturating_add(other.documents),
            collections: self.collections.saturating_add(other.collections),
            indexes: self.indexes.saturating_add(other.indexes),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            documents: self.documents.saturating_sub(other.documents),
            collections: self.collections.saturating_sub(other.collections),
            indexes: self.indexes.saturating_sub(other.indexes),
        }
    }
}

impl Storage {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.by_database
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<(String, Stored)> {
        let entries = self.entries();
        let measured = entries.iter().filter(|(_, entry)| entry.measured.is_some());
        measured
            .map(|(name, entry)| (name.clone(), entry.stored))
            .collect()
    }

    /// Notes that documents were deleted.
    pub(crate) fn note_freed(&self, database: &str) {
        let mut entries = self.entries();
        let entry = entries.entry(database.to_owned()).or_default();
        (entry.changed, entry.freed) = (true, true);
    }

    /// Notes a change that was not let in by [`admit`].
    pub(crate) fn note_changed(&self, database: &str) {
        self.entries()
            .entry(database.to_owned())
            .or_default()
            .changed = true;
    }

    /// Lets a write in that no quota limits.
    pub(crate) fn pass(&self, database: &str) -> Admitted<'_> {
        self.note_changed(database);
        Admitted {
            storage: self,
            database: database.to_owned(),
            amount: Amount::default(),
            limited: 0,
            quota_bytes: u64::MAX,
            since: Instant::now(),
        }
    }

    pub(super) fn age(&self, database: &str) -> Duration {
        let entries = self.entries();
        let measured = entries.get(database).and_then(|entry| entry.measured);
        measured.map_or(Duration::MAX, |at| at.elapsed())
    }

    /// Whether the last look may be wrong by now.
    pub(super) fn is_outdated(&self, database: &str) -> bool {
        let has_changed = self
            .entries()
            .get(database)
            .is_some_and(|entry| entry.changed);
        has_changed || self.age(database) > FRESH_FOR_REFUSING
    }

    pub(super) fn try_admit(
        &self,
        database: &str,
        quota: &Quota,
        growth: Growth<'_>,
    ) -> Result<Admitted<'_>, CommandError> {
        let mut entries = self.entries();
        let entry = entries.entry(database.to_owned()).or_default();
        entry.check(database, quota, growth)?;
        let new_collections = u64::from(entry.is_new(growth.collection));
        let amount = Amount {
            bytes: growth.bytes,
            documents: growth.documents,
            collections: new_collections,
            indexes: growth.indexes.saturating_add(new_collections),
        };
        // The next look names what is really there.
        if new_collections > 0 {
            entry.collections.insert(growth.collection.to_owned());
        }
        entry.running = entry.running.plus(amount);
        entry.writes_running += 1;
        // A write that takes long is watched from its beginning.
        entry.changed = true;
        Ok(Admitted {
            storage: self,
            database: database.to_owned(),
            amount,
            limited: 1,
            quota_bytes: quota.bytes,
            since: Instant::now(),
        })
    }

    /// Takes in one look. `since` says what had ended when it began.
    pub(super) fn take_in(
        &self,
        rows: &[Row],
        asked: Option<&[String]>,
        since: &HashMap<String, Amount>,
    ) {
        let mut found: HashMap<String, (Stored, HashSet<String>)> = HashMap::new();
        for name in asked.into_iter().flatten() {
            found.insert(name.clone(), Default::default());
        }
        for row in rows {
            let (stored, collections) = found.entry(row.get(0)).or_default();
            let count = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
            stored.bytes += count(3);
            stored.documents += count(4);
            stored.indexes += count(5);
            stored.collections += 1;
            collections.insert(row.get(1));
        }
        let mut entries = self.entries();
        if asked.is_none() {
            for entry in entries.values_mut() {
                (entry.stored, entry.collections) = Default::default();
            }
        }
        for (name, (stored, collections)) in found {
            let before = since.get(&name).copied().unwrap_or_default();
            let entry = entries.entry(name).or_default();
            entry.ended = entry.ended.minus(before);
            (entry.stored, entry.collections) = (stored, collections);
            entry.measured = Some(Instant::now());
        }
    }

    /// What has ended so far; and from now on a change is a new one.
    pub(super) fn begin_look(&self, databases: Option<&[String]>) -> HashMap<String, Amount> {
        let mut entries = self.entries();
        let asked = |name: &String| databases.is_none_or(|asked| asked.contains(name));
        let looked_at = entries.iter_mut().filter(|(name, _)| asked(name));
        looked_at
            .map(|(name, entry)| {
                entry.changed = entry.writes_running > 0;
                (name.clone(), entry.ended)
            })
            .collect()
    }

    /// Returns what has to be done now, and notes that it is being done.
    pub(super) fn due(&self, quota_of: impl Fn(&str) -> Quota) -> Due {
        let mut due = Due::default();
        for (name, entry) in self.entries().iter_mut() {
            let quota = quota_of(name);
            if entry.writes_running > 0 && entry.is_far_over(&quota) {
                entry.stopped = Some(Instant::now());
                (entry.changed, entry.freed) = (true, true);
                due.far_over.push(name.clone());
            } else if entry.wants_rewriting(&quota) {
                entry.rewritten = Some(Instant::now());
                entry.freed = false;
                due.short.push(name.clone());
            }
        }
        due
    }

    pub(super) fn changed(&self) -> Vec<String> {
        let entries = self.entries();
        let changed = entries.iter().filter(|(_, entry)| entry.changed);
        changed.map(|(name, _)| name.clone()).collect()
    }
}

impl Entry {
    /// Whether the database may grow by so much.
    fn check(&self, database: &str, quota: &Quota, growth: Growth<'_>) -> Result<(), CommandError> {
        let let_in = self.ended.plus(self.running);
        let bytes = self.stored.bytes.saturating_add(let_in.bytes);
        if bytes.saturating_add(growth.bytes) > quota.bytes {
            return Err(over(
                database,
                &megabytes(quota.bytes),
                &megabytes(bytes),
                &format!("this command brings up to {}", megabytes(growth.bytes)),
            ));
        }
        let documents = self.stored.documents.saturating_add(let_in.documents);
        if documents.saturating_add(growth.documents) > quota.documents {
            return Err(over(
                database,
                &format!("{} documents", quota.documents),
                &documents.to_string(),
                &format!("this command brings up to {}", growth.documents),
            ));
        }
        let is_new = self.is_new(growth.collection);
        let collections = self.stored.collections.saturating_add(let_in.collections);
        if is_new && collections >= quota.collections {
            return Err(over(
                database,
                &format!("{} collections and views", quota.collections),
                &collections.to_string(),
                &format!("'{}' would be a new one", growth.collection),
            ));
        }
        let made = growth.indexes.saturating_add(u64::from(is_new));
        let indexes = self.stored.indexes.saturating_add(let_in.indexes);
        if made > 0 && indexes.saturating_add(made) > quota.indexes {
            return Err(over(
                database,
                &format!("{} indexes", quota.indexes),
                &indexes.to_string(),
                &format!("this command makes {made}"),
            ));
        }
        Ok(())
    }

    fn is_new(&self, collection: &str) -> bool {
        !collection.is_empty() && !self.collections.contains(collection)
    }

    /// Far enough over to end what runs.
    fn is_far_over(&self, quota: &Quota) -> bool {
        self.stored.bytes
            > quota
                .bytes
                .saturating_add(quota.bytes / 4)
                .saturating_add(OVERSHOOT_BYTES)
    }

    /// Little is left, something was deleted, and it was not rewritten a moment ago.
    fn wants_rewriting(&self, quota: &Quota) -> bool {
        self.freed
            && self.writes_running == 0
            && self.stored.bytes > quota.bytes / 10 * 9
            && self.rewritten.is_none_or(|at| at.elapsed() > REWRITE_PAUSE)
    }
}

fn over(database: &str, allowed: &str, held: &str, why: &str) -> CommandError {
    // The code and name that Atlas gives when a free cluster is full.
    CommandError::new(
        8000,
        "AtlasError",
        format!(
            "over the quota: the database '{database}' may hold {allowed} and holds {held}; {why}. \
             Delete documents, drop collections or indexes, or ask a facilitator for more; \
             reading, deleting and dropping go on working."
        ),
    )
}

fn megabytes(bytes: u64) -> String {
    const MEGABYTE: u64 = 1024 * 1024;
    match bytes {
        0..MEGABYTE => format!("{} KB", bytes.div_ceil(1024)),
        _ => format!("{} MB", bytes.div_ceil(MEGABYTE)),
    }
}

/// A write that was let in; says when it has ended.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    storage: &'a Storage,
    database: String,
    amount: Amount,
    /// 1, or 0 for a write that no quota limits and nobody ends.
    limited: usize,
    quota_bytes: u64,
    since: Instant,
}

/// Returns a write's error as the client should see it: one that was ended for its size is told so.
pub(crate) fn explained(error: CommandError, let_in: Option<&Admitted<'_>>) -> CommandError {
    let Some(write) = let_in.filter(|_| error.code == 50) else {
        return error;
    };
    let entries = write.storage.entries();
    let stopped = entries.get(&write.database).and_then(|entry| entry.stopped);
    if stopped.is_none_or(|at| at < write.since) {
        return error;
    }
    over(
        &write.database,
        &megabytes(write.quota_bytes),
        "more by now",
        "this command was ended and undone",
    )
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut entries = self.storage.entries();
        if let Some(entry) = entries.get_mut(&self.database) {
            entry.running = entry.running.minus(self.amount);
            entry.ended = entry.ended.plus(self.amount);
            entry.writes_running = entry.writes_running.saturating_sub(self.limited);
            entry.changed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: u64) -> Entry {
        Entry {
            stored: Stored {
                bytes,
                documents: 10,
                collections: 2,
                indexes: 3,
            },
            collections: ["a", "b"].map(str::to_owned).into(),
            ..Entry::default()
        }
    }

    const QUOTA: Quota = Quota {
        bytes: 1000,
        documents: 20,
        collections: 2,
        indexes: 4,
        connections: 1,
        statement_time: Duration::from_secs(1),
        commands_per_second: 1,
    };

    fn message(entry: &Entry, growth: Growth<'_>) -> String {
        let refused = entry.check("ada", &QUOTA, growth);
        refused.map_or_else(|error| error.message, |()| String::new())
    }

    #[test]
    fn each_quota_refuses_with_what_to_do() {
        let grows = |bytes, documents, indexes, collection| Growth {
            bytes,
            documents,
            indexes,
            collection,
        };
        assert_eq!(message(&entry(900), grows(100, 10, 1, "a")), "");
        for (growth, what) in [
            (grows(101, 1, 0, "a"), "may hold 1 KB"),
            (grows(1, 11, 0, "a"), "may hold 20 documents"),
            (grows(1, 1, 0, "c"), "may hold 2 collections"),
            (grows(1, 1, 2, "a"), "may hold 4 indexes"),
        ] {
            let refusal = message(&entry(900), growth);
            assert!(refusal.contains(what), "{refusal}");
            assert!(refusal.contains("drop collections"), "{refusal}");
        }
    }

    #[test]
    fn what_was_let_in_since_the_last_look_counts() {
        let storage = Storage::default();
        storage.entries().insert("ada".to_owned(), entry(500));
        let growth = Growth {
            bytes: 200,
            documents: 1,
            collection: "a",
            ..Growth::default()
        };
        let first = storage.try_admit("ada", &QUOTA, growth).unwrap();
        drop(storage.try_admit("ada", &QUOTA, growth).unwrap());
        assert!(storage.try_admit("ada", &QUOTA, growth).is_err());
        // A look that began before the second ended does not know it; one after does.
        let since = storage.begin_look(None);
        assert_eq!(since["ada"].bytes, 200);
        drop(first);
        assert_eq!(storage.entries()["ada"].ended.bytes, 400);
    }

    #[test]
    fn what_was_made_while_a_look_was_on_its_way_counts() {
        let storage = Storage::default();
        let ada = ["ada".to_owned()];
        let makes = |indexes, collection| Growth {
            indexes,
            collection,
            ..Growth::default()
        };
        let old_look = storage.begin_look(Some(&ada));
        drop(storage.try_admit("ada", &QUOTA, makes(1, "a")).unwrap());
        let new_look = storage.begin_look(Some(&ada));
        // It saw nothing of it: a collection with two indexes.
        storage.take_in(&[], Some(&ada), &old_look);
        assert!(storage.try_admit("ada", &QUOTA, makes(3, "")).is_err());
        drop(storage.try_admit("ada", &QUOTA, makes(0, "b")).unwrap());
        assert!(storage.try_admit("ada", &QUOTA, makes(0, "c")).is_err());
        // One that began afterwards says what is there.
        storage.take_in(&[], Some(&ada), &new_look);
        assert!(storage.try_admit("ada", &QUOTA, makes(2, "c")).is_ok());
    }
}
