//! Checks run against real seats: an HTTP server on a unix socket, a real
//! PostgreSQL, and a MongoDB where one is given.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

mod app;
#[path = "../../../arena-database/tests/support/cluster.rs"]
mod cluster;
mod hostile;
mod mongodb;
mod postgres;
mod queue;
mod requests;
mod traps;
