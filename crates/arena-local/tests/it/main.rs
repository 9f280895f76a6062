//! The sandbox, seats and templates of this machine, tried for real.

mod forward;
mod outbound;
mod attacks;
mod seats;
mod templates;
mod world;
