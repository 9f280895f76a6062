//! The built-in MongoDB-compatible server: MongoDB's wire protocol in front of
//! DocumentDB. It owns the protocol, authentication, authorization, the shares of
//! each user and the guard against answers that would be silently wrong. It does
//! not start the engine (`arena-local` does) and knows no seats: a user is a
//! name, a verifier and roles.
//!
//! Deny by default: a command, a pipeline stage or a database that is not allowed
//! by name is refused. Begin reading at [`serve`], then `connection.rs` for one
//! client, `commands.rs` for one command, `pipeline.rs` for what may be inside.

mod arrivals;
mod aside;
mod backend;
mod commands;
mod compression;
mod connection;
mod cursors;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod lookups;
mod operations;
mod pipeline;
mod scram;
mod server;
mod sessions;
mod settings;
mod strict;
mod text;
mod threads;
mod tls;
mod unix;
mod users;
mod wire;
mod wording;

pub use guard::{Guard, Quota, SlowStatement, Stored, Usage};
pub use scram::{InvalidVerifier, ScramVerifier};
pub use server::{ServeError, serve};
pub use settings::{Limits, Listener, OnSchemaChange, SchemaChange, Settings, Socket};
pub use threads::THREAD_NAME;
pub use tls::{Tls, TlsError};
pub use users::{Role, RoleName, User, Users};
