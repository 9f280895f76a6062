//! The server around its connections: listeners that come while it runs, what
//! all connections share, and an orderly end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::arrivals::Arrivals;
use crate::aside::Turn;
use crate::backend::{Backend, Budget, Share};
use crate::commands;
use crate::commands::Indexed;
use crate::connection;
use crate::cursors::Cursors;
use crate::error::CommandError;
use crate::guard::{self, Place};
use crate::lookups::Lookups;
use crate::operations::Operations;
use crate::scram::random;
use crate::sessions::Sessions;
use crate::settings::{Listener, Settings, Socket};
use crate::threads::Threads;
use crate::tls::Tls;
use crate::unix::QuietStream;
use crate::users::Users;

/// The front's own statements are short; rewriting a full database is the longest.
const OWN_TIME: Duration = Duration::from_secs(30);
/// Connections of one seat's listener that have not logged in yet.
const LOGGING_IN_MAX: usize = 20;
const WATCHING_STATEMENTS: usize = 2;
const GRACE: Duration = Duration::from_secs(2);
const ENGINE_WAIT: Duration = Duration::from_secs(20);
const ENGINE_RETRY: Duration = Duration::from_millis(100);
/// A failing `accept` (no file descriptors left) must not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const TIDY_EVERY: Duration = Duration::from_millis(500);
const FORGET_EVERY: Duration = Duration::from_secs(15 * 60);

/// Why the server could not start or had to end.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The engine did not answer, or its tables are not as they should be.
    #[error("cannot use the database engine: {0}")]
    Engine(String),
    /// The system gives no more threads.
    #[error("cannot start the threads of the MongoDB front")]
    Threads(#[source] io::Error),
}

/// What all connections share.
pub(crate) struct Server {
    pub(crate) settings: Settings,
    pub(crate) backend: Backend,
    /// The guard's own way to the engine: it must not wait behind what it watches.
    pub(crate) watching: Backend,
    pub(crate) cursors: Cursors,
    pub(crate) sessions: Sessions,
    pub(crate) operations: Operations,
    pub(crate) indexed: Indexed,
    pub(crate) lookups: Lookups,
    pub(crate) arrivals: Arrivals,
    pub(crate) transactions: Arc<Semaphore>,
    /// The turn for long work of all who have not logged in.
    pub(crate) strangers: Turn,
    pub(crate) started: Instant,
    /// Makes the salts of users that do not exist.
    pub(crate) secret: [u8; 32],
    /// The front's own work, beside everybody's.
    pub(crate) own_share: Share,
    /// Nobody interrupts it.
    own_interruption: CancellationToken,
    connections: Arc<Semaphore>,
    next_connection: AtomicI32,
}

impl Server {
    fn new(settings: Settings) -> Self {
        Self {
            backend: Backend::new(&settings.engine_socket_dir, settings.limits.statements),
            watching: Backend::new(&settings.engine_socket_dir, WATCHING_STATEMENTS).impatient(),
            cursors: Cursors::default(),
            sessions: Sessions::default(),
            operations: Operations::default(),
            indexed: Indexed::default(),
            lookups: Lookups::default(),
            arrivals: Arrivals::default(),
            transactions: Arc::new(Semaphore::new(settings.limits.transactions)),
            strangers: Turn::default(),
            started: Instant::now(),
            secret: random(),
            own_share: Share::of(WATCHING_STATEMENTS),
            own_interruption: CancellationToken::new(),
            connections: Arc::new(Semaphore::new(settings.limits.connections)),
            next_connection: AtomicI32::new(1),
            settings,
        }
    }

    pub(crate) fn users(&self) -> &Users {
        &self.settings.users
    }

    pub(crate) fn place_of(&self, user: &str) -> Arc<Place> {
        let limits = &self.settings.limits;
        self.settings.guard.place_of(user, limits)
    }

    pub(crate) fn own_budget(&self) -> Budget<'_> {
        Budget {
            share: &self.own_share,
            time: OWN_TIME,
            is_change: false,
            transaction: None,
            interruption: &self.own_interruption,
        }
    }
}

/// Serves clients on every listener that arrives, until `shutdown`; then connections have a moment to
/// finish what they do. The caller binds sockets; it may send listeners as long as the server runs.
///
/// It runs on threads of its own ([`Limits::threads`](crate::Limits::threads)).
///
/// # Errors
/// When its threads cannot be started, or the engine cannot be used within some seconds.
///
/// # Cancellation
/// Connections are cut.
pub async fn serve(
    settings: Settings,
    listeners: mpsc::Receiver<Listener>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let threads = Threads::start(settings.limits.threads).map_err(ServeError::Threads)?;
    let served = threads.run(serve_here(settings, listeners, shutdown)).await;
    served.unwrap_or(Ok(()))
}

async fn serve_here(
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
    accepting.spawn(watch_sizes(Arc::clone(&server), shutdown.clone()));
    accepting.spawn(tidy(Arc::clone(&server), shutdown.clone()));
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
        let error: CommandError = match commands::prepare(server).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(ServeError::Engine(error.message));
        }
        sleep(ENGINE_RETRY).await;
    }
}

async fn watch_sizes(server: Arc<Server>, shutdown: CancellationToken) {
    // A look may be dropped halfway: it changes nothing.
    tokio::select! {
        () = guard::watch(&server) => {}
        () = shutdown.cancelled() => {}
    }
}

/// Ends what took too long, as long as the server runs.
async fn tidy(server: Arc<Server>, shutdown: CancellationToken) {
    let mut forgotten = Instant::now();
    loop {
        // Sleeping loses nothing when dropped.
        tokio::select! {
            () = sleep(TIDY_EVERY) => {}
            () = shutdown.cancelled() => return,
        }
        commands::tidy(&server).await;
        if forgotten.elapsed() >= FORGET_EVERY {
            commands::forget_old(&server).await;
            forgotten = Instant::now();
        }
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
                    if is_crowded(&server, allowed_user.as_deref(), connections.len()) {
                        tracing::debug!("refused a database client: its seat has too many connections");
                        continue;
                    }
                    let Ok(slot) = Arc::clone(&server.connections).try_acquire_owned() else {
                        tracing::warn!("refused a database client: too many connections");
                        continue;
                    };
                    let id = server.next_connection.fetch_add(1, Ordering::Relaxed);
                    let session = connection::Session::new(id, allowed_user.clone());
                    let (server, tls, ending) = (Arc::clone(&server), listener.tls.clone(), ending.clone());
                    connections.spawn(async move {
                        let _slot = slot;
                        let Some(stream) = secured(tls.as_ref(), stream, &ending).await else {
                            return;
                        };
                        connection::run(&server, stream, session, ending).await;
                        server.sessions.connection_ended(id);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept a database client");
                    sleep(ACCEPT_RETRY).await;
                }
            },
            Some(ended) = connections.join_next() => report_panic(ended),
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

/// A seat's own listener takes what the seat may have and some that have not logged in, so that no seat takes
/// the places of all.
fn is_crowded(server: &Server, allowed_user: Option<&str>, open: usize) -> bool {
    allowed_user
        .is_some_and(|user| open >= server.settings.guard.quota(user).connections + LOGGING_IN_MAX)
}

/// A bug that one client meets ends that client's connection, not everybody's database.
fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(error = %error, "a database client met a bug of the front; its connection was ended");
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

/// The stream after its handshake, if its listener has TLS; nothing of a client that does not keep to it.
async fn secured(
    tls: Option<&Tls>,
    stream: Box<dyn Stream>,
    ending: &CancellationToken,
) -> Option<Box<dyn Stream>> {
    let Some(tls) = tls else {
        return Some(stream);
    };
    let accepted = ending.run_until_cancelled(tls.accept(stream)).await?;
    accepted
        .inspect_err(
            |error| tracing::debug!(error = %error, "a database client's TLS handshake failed"),
        )
        .ok()
}

/// A client's stream, whatever it came over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn accept(socket: &Socket) -> io::Result<Box<dyn Stream>> {
    Ok(match socket {
        Socket::Unix(listener) => Box::new(QuietStream::new(listener.accept().await?.0)?),
        Socket::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clients_bug_is_reported_and_a_listeners_is_raised() {
        let bug = || async { tokio::spawn(async { panic!("a bug that a test has") }).await };
        report_panic(bug().await);
        let ended = bug().await;
        let raised = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| raise_panic(ended)));
        assert!(raised.is_err());
    }
}
