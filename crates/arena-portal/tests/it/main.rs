//! The portal over a real store and a real unix socket, asked as the gateway would ask.
#![expect(
    clippy::unwrap_used,
    reason = "a test's helper that cannot go on ends the test"
)]

mod admin;
mod api;
mod connection;
mod hostile;
mod join;
mod live;
mod quota;
mod seat;
mod waiting;
mod world;
