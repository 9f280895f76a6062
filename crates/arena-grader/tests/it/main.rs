//! Checks run against real seats: an HTTP server on a unix socket, a real
//! PostgreSQL, and a MongoDB where one is given.

mod app;
mod hostile;
mod mongodb;
mod postgres;
mod queue;
mod requests;
