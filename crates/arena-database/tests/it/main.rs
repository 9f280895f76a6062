//! Provisioning on real servers: a PostgreSQL of this machine, and the MongoDB
//! named by `ARENA_TEST_MONGODB_URI` (the built-in database in CI, any other by hand).

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

mod attacks;
#[path = "../support/cluster.rs"]
mod cluster;
mod dumps;
mod health;
mod hosted;
mod killed;
mod mongodb;
mod postgres;
mod sets;
mod shared;
mod traps;
mod world;

use arena_database::{DataFile, SeatDatabase};
use arena_workshop::DatabaseName;

pub(crate) fn name(text: &str) -> DatabaseName {
    DatabaseName::new(text).unwrap()
}

pub(crate) fn seat(text: &str) -> SeatDatabase {
    SeatDatabase {
        name: name(text),
        password: format!("a-password-of-{text}-0123456789"),
    }
}

pub(crate) fn file(name: &str, text: &str) -> DataFile {
    DataFile::new(name, text)
}
