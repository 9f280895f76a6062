//! The store against a real file: what it promises to everybody else.
#![expect(
    clippy::unwrap_used,
    reason = "a test's helper that cannot go on ends the test"
)]

mod crash;
mod events;
mod full_disk;
mod results;
mod seats;
mod sessions;
mod waiting;

use arena_store::{Attempt, CheckOutcome, SeatSpec, Store, Trigger, WriteError};
use arena_workshop::{ExerciseSlug, SeatId};
use jiff::Timestamp;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// An event's database in its own folder.
struct World {
    folder: TempDir,
    store: Store,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path().join("event.db")).unwrap();
        Self { folder, store }
    }

    /// Makes a world with these people on the list and that many free seats.
    async fn with(listed: &[&str], free: usize) -> Self {
        let world = Self::new();
        world.store.sync_seats(specs(listed, free)).await.unwrap();
        world
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("event.db")
    }

    /// Closes the store and opens the file again.
    fn reopened(self) -> Self {
        let Self { folder, store } = self;
        drop(store);
        let store = Store::open(folder.path().join("event.db")).unwrap();
        Self { folder, store }
    }
}

fn specs(listed: &[&str], free: usize) -> Vec<SeatSpec> {
    let people = listed.iter().map(|name| SeatSpec {
        seat: seat(name),
        display_name: name.to_uppercase(),
        email: Some(format!("{name}@example.com")),
        listed: true,
    });
    let spare = (0..free).map(|number| SeatSpec {
        seat: seat(&format!("spare{number}")),
        display_name: format!("spare{number}"),
        email: None,
        listed: false,
    });
    people.chain(spare).collect()
}

fn seat(id: &str) -> SeatId {
    SeatId::new(id).unwrap()
}

fn slug(id: &str) -> ExerciseSlug {
    ExerciseSlug::new(id).unwrap()
}

fn attempt(of: &str, exercise: &str, passed: bool) -> Attempt {
    Attempt {
        seat: seat(of),
        exercise: slug(exercise),
        version: "v1".to_owned(),
        files_hash: "hash".to_owned(),
        trigger: Trigger::Save,
        trial: false,
        passed,
        checks: vec![CheckOutcome {
            name: "returns it".to_owned(),
            passed,
            message: "nothing came".to_owned(),
        }],
        started_at: Timestamp::UNIX_EPOCH,
        duration: Duration::from_millis(40),
    }
}
