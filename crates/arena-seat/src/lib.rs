//! The agent inside a seat: prepares the files, runs the workshop's apps and
//! the editor, and answers on the one listener that it was given.
//!
//! It is the only way into a seat and holds no secret but the seat's own
//! credentials. Everything that comes from the seat's processes is hostile:
//! bodies, headers, files, sockets. It never binds a path for the main
//! listener, which is inherited (file descriptor 3): a path in a folder that
//! the seat can write was once replaced by a link to another seat's socket.
//! It decides nothing about people; the gateway has done that before.
//!
//! Begin with [`serve`], then `agent.rs` for what is shared and `server.rs` for
//! the routes.
//!
//! # What a request must carry
//!
//! The caller (gateway, control, grader) removes what clients sent under these
//! names and sets:
//!
//! | header | meaning |
//! |---|---|
//! | `x-arena-surface` | `apps`, `editor` or `agent`; anything else is answered with 421 |
//! | `x-forwarded-host` | the browser's host with port, such as `ada--code.arena.localhost:8080`, for `editor` (required for its WebSockets: the editor compares it with `Origin`) and `apps` |
//! | `x-forwarded-proto` | `http` or `https` |
//! | `x-arena-user`, `x-arena-seat` | optional, passed on to apps |
//!
//! The gateway also removes `forwarded`, platform cookies and, for other sites, judges
//! `Origin` itself: the editor's own check only compares it with `x-forwarded-host`.
//! `Host` towards the agent is free (`{seat}.{generation}.invalid`).
//! Where the agent itself answers instead of an app or the editor, the response has
//! `x-arena-error`: `app-not-running`, `app-bad-answer`, `editor-not-ready`, `no-route`.
//! Seats cannot set it: every `x-arena-*` header of theirs is removed.
//!
//! # Runtime
//!
//! Build a `current_thread` tokio runtime: the agent shall stay below 4 MB and
//! sleep when nothing happens.

mod agent;
mod apps;
mod control;
mod editor;
mod extension;
mod folder;
mod forward;
mod health;
mod ports;
mod prepare;
mod proxy;
mod server;
mod statics;
mod terminal;
mod watch;

use std::io;
use std::path::PathBuf;

use arena_workshop::plan::SeatSettings;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

pub use health::{AgentEvent, AgentHealth, AppHealth, AppPhase, EditorHealth, EditorPhase};
pub use terminal::{TerminalSettings, app_terminal};

/// Where the agent finds and puts things that are not the workshop's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Folder for sockets inside the seat (0700): the editor's, the terminals'.
    pub run: PathBuf,
    /// Folder with the sockets of services.
    pub services: PathBuf,
    /// Arena's executable, for the terminal named *server*.
    pub executable: PathBuf,
    /// Whether apps' output is also printed to standard output, line by line behind the app's name:
    /// the runtime keeps it in the seat's log.
    pub prints_output: bool,
}

impl Places {
    /// Returns the places inside a sandbox: `/run/arena` (a folder that the runtime makes and leaves
    /// writable), `/run/svc`, and this executable. Without `/run/arena` it is `/tmp/arena`.
    ///
    /// # Errors
    /// The path of the executable cannot be told.
    pub fn in_sandbox() -> io::Result<Places> {
        let run = PathBuf::from("/run/arena");
        let writable = rustix::fs::access(&run, rustix::fs::Access::WRITE_OK).is_ok();
        Ok(Places {
            run: if writable {
                run
            } else {
                PathBuf::from("/tmp/arena")
            },
            services: PathBuf::from("/run/svc"),
            executable: std::env::current_exe()?,
            prints_output: true,
        })
    }
}

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A file or folder of the seat cannot be written.
    #[error("cannot prepare {path}")]
    Prepare {
        /// What could not be prepared.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A port for a service is taken.
    #[error("cannot listen on {address} for {socket}")]
    Forward {
        /// Address and port.
        address: std::net::SocketAddr,
        /// The service's socket.
        socket: String,
        /// Why.
        source: io::Error,
    },
    /// The system refused a thread, a socket or the like.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A part that must run has ended.
    #[error("the agent's {0} has ended, which is a bug")]
    PartEnded(&'static str),
}

/// Serves a seat inside its sandbox until `shutdown`, then stops apps and editor.
///
/// # Errors
/// Files or ports cannot be prepared, or a part of the agent has ended.
///
/// # Cancellation
/// Dropping it kills the apps and the editor.
pub async fn serve(
    settings: SeatSettings,
    listener: UnixListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let places = Places::in_sandbox().map_err(|source| ServeError::System {
        what: "find the agent's executable",
        source,
    })?;
    serve_at(settings, places, listener, shutdown).await
}

/// Serves a seat as [`serve`] does, with explicit places.
///
/// # Errors
/// As [`serve`].
pub async fn serve_at(
    settings: SeatSettings,
    places: Places,
    listener: UnixListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    agent::run(settings, places, listener, shutdown).await
}
