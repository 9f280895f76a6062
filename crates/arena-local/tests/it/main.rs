//! The sandbox, seats and templates of this machine, tried for real.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is a failed test"
)]

mod attacks;
mod forward;
mod full_disk;
mod leftovers;
mod machine;
mod outbound;
mod postgres;
mod repositories;
mod seats;
mod templates;
mod victims;
mod watch;
mod world;
