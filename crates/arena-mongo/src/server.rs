//! The server around its connections: listeners that come while it runs, what
//! all connections share, and an orderly end.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Budget, Share};
use crate::commands;
use crate::connection;
use crate::cursors::Cursors;
use crate::error::CommandError;
use crate::scram::random;
use crate::settings::{Listener, Settings, Socket};
use crate::users::Users;

const GRACE: Duration = Duration::from_secs(2);
const ENGINE_WAIT: Duration = Duration::from_secs(20);
const ENGINE_RETRY: Duration = Duration::from_millis(100);
/// A failing `accept` (no file descriptors left) must not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Why the server could not start or had to end.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The engine did not answer, or its tables are not as they should be.
    #[error("cannot use the database engine: {0}")]
    Engine(String),
}

/// What all connections share.
pub(crate) struct Server {
    pub(crate) settings: Settings,
    pub(crate) backend: Backend,
    pub(crate) cursors: Cursors,
    pub(crate) started: Instant,
    /// Makes the salts of users that do not exist.
    pub(crate) secret: [u8; 32],
    /// The front's own work, beside everybody's.
    pub(crate) own_share: Share,
    places: Mutex<HashMap<String, Arc<Place>>>,
    connections: Arc<Semaphore>,
    next_connection: AtomicI32,
}

/// What one user's connections share.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) share: Share,
}

impl Server {
    fn new(settings: Settings) -> Self {
        Self {
            backend: Backend::new(&settings.engine_socket_dir, settings.limits.statements),
            cursors: Cursors::default(),
            started: Instant::now(),
            secret: random(),
            own_share: Share::of(1),
            places: Mutex::default(),
            connections: Arc::new(Semaphore::new(settings.limits.connections)),
            next_connection: AtomicI32::new(1),
            settings,
        }
    }

    pub(crate) fn users(&self) -> &Users {
        &self.settings.users
    }

    pub(crate) fn place_of(&self, user: &str) -> Arc<Place> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = &self.settings.limits;
        let new = || Place {
            connections: Arc::new(Semaphore::new(limits.connections_per_user)),
            share: Share::of(limits.statements_per_user),
        };
        Arc::clone(
            places
                .entry(user.to_owned())
                .or_insert_with(|| Arc::new(new())),
        )
    }

    pub(crate) fn own_budget(&self) -> Budget<'_> {
        Budget {
            share: &self.own_share,
            time: self.settings.limits.statement_time,
        }
    }
}

/// Serves clients on every listener that arrives, until `shutdown`; then connections have a moment to
/// finish what they do. The caller binds sockets; it may send listeners as long as the server runs.
///
/// # Errors
/// When the engine cannot be used within some seconds.
///
/// # Cancellation
/// Connections are cut.
pub async fn serve(
    settings: Settings,
    mut listeners: mpsc::Receiver<Listener>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let server = Arc::new(Server::new(settings));
    // Both branches may be dropped halfway: nothing has been acknowledged yet.
    tokio::select! {
        ready = wait_for_engine(&server) => ready?,
        () = shutdown.cancelled() => return Ok(()),
    }
    let mut accepting = JoinSet::new();
    loop {
        // Receiving a listener, joining a task and waiting for the end lose nothing when dropped.
        tokio::select! {
            Some(listener) = listeners.recv() => {
                accepting.spawn(accept_all(Arc::clone(&server), listener, shutdown.clone()));
            }
            Some(ended) = accepting.join_next() => raise_panic(ended),
            () = shutdown.cancelled() => break,
        }
    }
    while let Some(ended) = accepting.join_next().await {
        raise_panic(ended);
    }
    Ok(())
}

async fn wait_for_engine(server: &Server) -> Result<(), ServeError> {
    let deadline = Instant::now() + ENGINE_WAIT;
    loop {
        let error: CommandError = match commands::load_users(server).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(ServeError::Engine(error.message));
        }
        sleep(ENGINE_RETRY).await;
    }
}

async fn accept_all(server: Arc<Server>, listener: Listener, shutdown: CancellationToken) {
    let ending = CancellationToken::new();
    let mut connections = JoinSet::new();
    let allowed_user: Option<Arc<str>> = listener.allowed_user.map(Arc::from);
    loop {
        // Accepting and joining lose nothing when dropped.
        tokio::select! {
            accepted = accept(&listener.socket) => match accepted {
                Ok(stream) => {
                    let Ok(slot) = Arc::clone(&server.connections).try_acquire_owned() else {
                        tracing::warn!("refused a database client: too many connections");
                        continue;
                    };
                    let id = server.next_connection.fetch_add(1, Ordering::Relaxed);
                    let (server, allowed, ending) = (Arc::clone(&server), allowed_user.clone(), ending.clone());
                    connections.spawn(async move {
                        let _slot = slot;
                        connection::run(&server, stream, connection::Session::new(id, allowed), ending).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept a database client");
                    sleep(ACCEPT_RETRY).await;
                }
            },
            Some(ended) = connections.join_next() => raise_panic(ended),
            () = shutdown.cancelled() => break,
            () = listener.closed.cancelled() => break,
        }
    }
    drop(listener.socket);
    ending.cancel();
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE, all_ended).await.is_err() {
        connections.shutdown().await;
    }
}

/// A bug in one task is not hidden by the others.
fn raise_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// A client's stream, whatever it came over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn accept(socket: &Socket) -> io::Result<Box<dyn Stream>> {
    Ok(match socket {
        Socket::Unix(listener) => Box::new(listener.accept().await?.0),
        Socket::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    })
}
