//! This machine as a runtime: tools, sandbox, template, seats, convergence

pub mod engine;
pub mod forward;
pub mod nest;
pub mod outbound;
pub mod sandbox;
pub mod seat;
pub mod template;
pub mod paths;
mod workroom;
