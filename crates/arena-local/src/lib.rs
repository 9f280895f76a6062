//! This machine as a runtime: whether it can run a workshop ([`machine`]), what is fetched for it
//! ([`tools`], [`engine`]), how strangers' programs are kept apart ([`sandbox`], [`nest`]), and
//! what is made of a plan: the [`template`], [`seat`]s and the [`watch`] over them, the databases' servers, and the ways from
//! a seat to a service ([`forward`]) and out ([`outbound`]). The binary composes them.
//!
//! Nothing here knows a page, a check or a participant. Begin reading at [`seat::Seats`].

pub mod engine;
pub mod forward;
mod leftover;
pub mod machine;
pub mod mongod;
pub mod nest;
pub mod outbound;
pub mod paths;
pub mod postgres;
pub mod repository;
pub mod sandbox;
pub mod seat;
pub mod template;
pub mod tools;
pub mod watch;
mod workroom;
