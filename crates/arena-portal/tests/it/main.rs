//! The portal over a real store and a real unix socket, asked as the gateway would ask.

mod admin;
mod api;
mod hostile;
mod join;
mod live;
mod world;
