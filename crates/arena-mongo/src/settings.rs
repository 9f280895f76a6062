//! What the caller decides: which engine, who may come in, how much each may take.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::guard::Guard;
use crate::threads;
use crate::tls::Tls;
use crate::users::Users;

/// A collection whose definition changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange {
    /// Who changed it.
    pub user: String,
    /// The database.
    pub database: String,
    /// The collection; nothing when the whole database was dropped.
    pub collection: Option<String>,
}

/// Called after collections or indexes were made, changed or dropped; must return at once.
pub type OnSchemaChange = Arc<dyn Fn(SchemaChange) + Send + Sync>;

/// Everything that `serve` needs beside its listeners.
#[derive(Clone)]
pub struct Settings {
    /// The folder of the engine's PostgreSQL socket.
    pub engine_socket_dir: PathBuf,
    /// Users the caller gives, shared with it. Those that clients made with `createUser` are read from the
    /// engine and added, unless the name is given already.
    pub users: Users,
    /// Limits of the server itself.
    pub limits: Limits,
    /// How much each user may take and has taken, shared with the caller.
    pub guard: Guard,
    /// Told about changed definitions.
    pub on_schema_change: Option<OnSchemaChange>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("engine_socket_dir", &self.engine_socket_dir)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Limits of the server; what one user may take is in [`Quota`](crate::Quota).
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Threads that answer clients; half as many as there are processors, at least one.
    pub threads: NonZeroUsize,
    /// Open connections in all, those that have not logged in included.
    pub connections: usize,
    /// Statements of one user that run at once; more wait.
    pub statements_per_user: usize,
    /// Statements that run at once in all; more wait.
    pub statements: usize,
    /// The longest time of one statement of a user with the role `root`.
    pub root_statement_time: Duration,
    /// Open transactions of one user; one more waits a moment and is refused.
    pub transactions_per_user: usize,
    /// Open transactions in all; each holds one of the engine's connections.
    pub transactions: usize,
    /// The longest life of a transaction, MongoDB's own.
    pub transaction_time: Duration,
    /// Open cursors of one user; opening more closes the oldest.
    pub cursors_per_user: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            threads: threads::usual(),
            connections: 4_000,
            statements_per_user: 4,
            statements: 16,
            root_statement_time: Duration::from_secs(600),
            transactions_per_user: 8,
            transactions: 32,
            transaction_time: Duration::from_secs(60),
            cursors_per_user: 100,
        }
    }
}

/// A socket that the caller has bound.
#[derive(Debug)]
pub enum Socket {
    /// A unix socket.
    Unix(UnixListener),
    /// A TCP address.
    Tcp(TcpListener),
}

/// A way in.
#[derive(Debug)]
pub struct Listener {
    /// Where clients connect.
    pub socket: Socket,
    /// What clients have to begin with; nothing where they speak plainly.
    pub tls: Option<Tls>,
    /// The only user who can log in here; any other is answered as if the password were wrong.
    pub allowed_user: Option<String>,
    /// Closes this listener and its connections alone.
    pub closed: CancellationToken,
}

impl Listener {
    /// A listener for everybody, open as long as the server.
    pub fn new(socket: Socket) -> Self {
        Self {
            socket,
            tls: None,
            allowed_user: None,
            closed: CancellationToken::new(),
        }
    }

    /// A seat's own listener.
    pub fn only_for(socket: Socket, user: impl Into<String>) -> Self {
        Self {
            allowed_user: Some(user.into()),
            ..Self::new(socket)
        }
    }
}
