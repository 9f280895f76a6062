//! The portal over a real store and a real unix socket, asked as the gateway would ask.
#![expect(
    clippy::unwrap_used,
    reason = "a test's helper that cannot go on ends the test"
)]

mod admin;
mod api;
// One way to drive Chromium for all tests.
#[path = "../../../arena/tests/story/browser.rs"]
#[expect(dead_code, reason = "the stories ask for more")]
mod browser;
mod connection;
mod hostile;
mod join;
mod live;
mod looks;
mod quota;
mod seat;
mod waiting;
mod world;
