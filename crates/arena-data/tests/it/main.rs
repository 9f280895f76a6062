//! What the crate promises: generated data, and files read and written.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

mod files;
mod generator;
