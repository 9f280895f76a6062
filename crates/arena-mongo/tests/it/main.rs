//! The front before a real engine: through drivers, and by hand-made bytes.

mod access;
mod attacks;
mod behaviour;
mod bulk;
mod bytes;
mod compression;
mod copying;
mod crud;
mod disk;
mod fuzzing;
mod leaving;
mod node;
mod orders;
mod pages;
mod pointed;
mod power;
mod programs;
mod quotas;
mod retries;
mod suites;
mod texts;
mod tls;
mod transactions;
mod views;
mod wire;
mod world;

use std::num::NonZeroUsize;

/// How many threads a front has. One alone shows what holds up others.
fn front_threads() -> NonZeroUsize {
    NonZeroUsize::MIN
}
