//! Roles that Arena starts itself: the nest and the agent of a seat, and the
//! terminal named *server*; and the built-in database on its own ([`mongo`]).

pub(crate) mod mongo;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::Context;
use arena_seat::{Places, TerminalSettings};
use listenfd::ListenFd;
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Kind};

/// A seat's settings are a few kilobytes.
const SETTINGS_BYTES_MAX: usize = 4 << 20;

/// Does one work order of the sandbox; see `arena_local::nest`.
pub(crate) fn nest(work: &str) -> Result<(), Failure> {
    arena_local::nest::nest(work).map_err(|error| Failure::new(Kind::Environment, error))
}

/// Serves a seat on the inherited listener until it is told to stop. `folders` are those of its
/// sockets and of its services' sockets, where it is not in a sandbox.
pub(crate) fn seat(settings: &Path, folders: Option<(PathBuf, PathBuf)>) -> Result<(), Failure> {
    let text =
        std::fs::read(settings).with_context(|| format!("cannot read {}", settings.display()))?;
    if text.len() > SETTINGS_BYTES_MAX {
        return Err(anyhow::anyhow!(
            "the seat's settings are larger than {SETTINGS_BYTES_MAX} bytes"
        )
        .into());
    }
    let settings = serde_json::from_slice(&text).context("cannot read the seat's settings")?;
    let listener: UnixListener = ListenFd::from_env()
        .take_unix_listener(0)
        .context("cannot take over the seat's listener")?
        .context("no listener was handed over (LISTEN_FDS)")?;
    listener
        .set_nonblocking(true)
        .context("cannot prepare the seat's listener")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the agent's runtime")?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener)
            .context("cannot use the seat's listener")?;
        let shutdown = CancellationToken::new();
        let mut terminated =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .context("cannot listen for signals")?;
        let mut places = Places::in_sandbox().context("cannot find this executable")?;
        if let Some((run, services)) = folders {
            (places.run, places.services) = (run, services);
        }
        let served = arena_seat::serve_at(settings, places, listener, shutdown.clone());
        tokio::pin!(served);
        // The signal may be dropped: it is only waited for once. Serving goes on below.
        tokio::select! {
            ended = &mut served => return ended.context("the agent ended"),
            _ = terminated.recv() => shutdown.cancel(),
        }
        served.await.context("the agent ended")
    })?;
    Ok(())
}

/// Shows an app's output inside a seat.
pub(crate) fn app_terminal(app: &str) -> Result<(), Failure> {
    let socket = std::env::var_os("ARENA_AGENT_SOCKET")
        .map_or_else(|| PathBuf::from("/run/arena/agent.sock"), PathBuf::from);
    arena_seat::app_terminal(&TerminalSettings {
        socket,
        app: app.to_owned(),
    })
    .map_err(Failure::environment)
}
