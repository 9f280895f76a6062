//! Ways from a seat to a service of the platform, each over a unix socket of the
//! seat's own: a service knows the seat from the socket. [`serve_postgres`] lets a
//! seat reach its own role and database and nothing else of the cluster;
//! [`serve_plain`] only carries bytes.
//!
//! Neither knows passwords: the cluster still asks for them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arena_workshop::{DatabaseName, SeatId};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pause after the kernel would not give a connection (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for a client to say who it is.
const STARTUP_WAIT: Duration = Duration::from_secs(10);
/// PostgreSQL's own bound for a startup message.
const STARTUP_BYTES_MAX: usize = 10_000;
/// Requests for encryption before the real startup message: one of each kind.
const ENCRYPTION_ASKED_MAX: usize = 2;
/// A seat's cancel requests go one by one with this pause: their keys cannot be guessed so.
const CANCEL_PAUSE: Duration = Duration::from_millis(50);

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
const PROTOCOL_MAJOR: u32 = 3;

/// How much a seat may use of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardLimits {
    /// Connections at once. 40.
    pub connections_max: usize,
    /// Time to connect to the service. 5 s.
    pub connect_wait: Duration,
}

impl Default for ForwardLimits {
    fn default() -> Self {
        Self {
            connections_max: 40,
            connect_wait: Duration::from_secs(5),
        }
    }
}

/// A seat's way to its PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// Whose way it is.
    pub seat: SeatId,
    /// The cluster's socket file, such as `…/.s.PGSQL.5432`.
    pub cluster: PathBuf,
    /// The only role that may log in here.
    pub role: DatabaseName,
    /// The only database that may be opened here.
    pub database: DatabaseName,
    /// How much.
    pub limits: ForwardLimits,
}

/// A seat's way to a service that sees to its own rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainSettings {
    /// Whose way it is.
    pub seat: SeatId,
    /// Where the service listens.
    pub service: Service,
    /// How much.
    pub limits: ForwardLimits,
}

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// On this machine.
    Unix(PathBuf),
    /// Somewhere else: a server that the configuration names.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Why a way ended before its shutdown.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A connection's task panicked: a bug of ours.
    #[error("cannot go on serving a seat's socket: a task panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Serves a seat's way to PostgreSQL until `shutdown` is called, then cuts its connections.
///
/// # Errors
/// Only when there is a bug.
pub async fn serve_postgres(
    settings: PostgresSettings,
    listener: UnixListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let slots = Arc::new(Semaphore::new(settings.limits.connections_max));
    let way = Arc::new(PostgresWay {
        settings,
        slots,
        cancels: Mutex::new(()),
    });
    each_connection(listener, shutdown, move |stream| {
        let way = way.clone();
        async move {
            if let Err(error) = way.serve(stream).await {
                tracing::debug!(seat.id = %way.settings.seat, %error, "a connection to PostgreSQL broke off");
            }
        }
    })
    .await
}

/// Serves a plain way until `shutdown` is called, then cuts its connections.
///
/// # Errors
/// Only when there is a bug.
pub async fn serve_plain(
    settings: PlainSettings,
    listener: UnixListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let slots = Arc::new(Semaphore::new(settings.limits.connections_max));
    let settings = Arc::new(settings);
    each_connection(listener, shutdown, move |stream| {
        let (settings, slots) = (settings.clone(), slots.clone());
        async move {
            let Ok(_slot) = slots.try_acquire() else {
                tracing::warn!(seat.id = %settings.seat, "too many connections to a service");
                return;
            };
            if let Err(error) = settings.relay(stream).await {
                tracing::warn!(seat.id = %settings.seat, %error, "cannot reach a seat's service");
            }
        }
    })
    .await
}

impl PlainSettings {
    async fn relay(&self, stream: UnixStream) -> io::Result<()> {
        let wait = self.limits.connect_wait;
        match &self.service {
            Service::Unix(path) => {
                let service = connect(path, wait).await?;
                relay(stream, service, &RelayLimits::none()).await;
            }
            Service::Tcp { host, port } => {
                let service =
                    tokio::time::timeout(wait, TcpStream::connect((host.as_str(), *port)))
                        .await??;
                service.set_nodelay(true)?;
                relay(stream, service, &RelayLimits::none()).await;
            }
        }
        Ok(())
    }
}

struct PostgresWay {
    settings: PostgresSettings,
    slots: Arc<Semaphore>,
    cancels: Mutex<()>,
}

/// What a client says first.
#[derive(Debug, PartialEq, Eq)]
enum Startup {
    /// It wants encryption first.
    Encryption,
    /// It wants a running query of another connection cancelled.
    Cancel,
    /// It logs in with these parameters.
    Login(BTreeMap<String, String>),
}

/// What PostgreSQL's clients are told: an SQLSTATE and a text.
#[derive(Debug, PartialEq, Eq)]
struct Denial {
    state: &'static str,
    text: String,
}

impl PostgresWay {
    async fn serve(&self, mut client: UnixStream) -> io::Result<()> {
        let first = tokio::time::timeout(STARTUP_WAIT, self.startup(&mut client)).await?;
        let (message, startup) = match first? {
            Ok(first) => first,
            Err(denial) => return deny(&mut client, &denial).await,
        };
        if startup == Startup::Cancel {
            return self.cancel(&message).await;
        }
        let Ok(_slot) = self.slots.try_acquire() else {
            let text = format!(
                "this seat has {} connections open already",
                self.settings.limits.connections_max
            );
            return deny(
                &mut client,
                &Denial {
                    state: "53300",
                    text,
                },
            )
            .await;
        };
        let mut cluster = match connect(&self.settings.cluster, self.settings.limits.connect_wait)
            .await
        {
            Ok(cluster) => cluster,
            Err(error) => {
                tracing::warn!(seat.id = %self.settings.seat, %error, "cannot reach PostgreSQL");
                let text = "PostgreSQL is not running: please try again in a moment".to_owned();
                return deny(
                    &mut client,
                    &Denial {
                        state: "57P03",
                        text,
                    },
                )
                .await;
            }
        };
        cluster.write_all(&message).await?;
        relay(client, cluster, &RelayLimits::none()).await;
        Ok(())
    }

    /// Reads messages until one says what the client really wants.
    async fn startup(
        &self,
        client: &mut UnixStream,
    ) -> io::Result<Result<(Vec<u8>, Startup), Denial>> {
        for _ in 0..=ENCRYPTION_ASKED_MAX {
            let message = match read_message(client).await? {
                Ok(message) => message,
                Err(denial) => return Ok(Err(denial)),
            };
            match startup(&message) {
                Ok(Startup::Encryption) => client.write_all(b"N").await?,
                Ok(Startup::Login(parameters)) => {
                    let allowed =
                        check_login(&parameters, &self.settings.role, &self.settings.database);
                    return Ok(allowed.map(|()| (message, Startup::Login(parameters))));
                }
                Ok(Startup::Cancel) => return Ok(Ok((message, Startup::Cancel))),
                Err(denial) => return Ok(Err(denial)),
            }
        }
        Ok(Err(violation("asked for encryption again and again")))
    }

    async fn cancel(&self, message: &[u8]) -> io::Result<()> {
        let _one_by_one = self.cancels.lock().await;
        let mut cluster =
            connect(&self.settings.cluster, self.settings.limits.connect_wait).await?;
        cluster.write_all(message).await?;
        tokio::time::sleep(CANCEL_PAUSE).await;
        Ok(())
    }
}

async fn read_message(client: &mut UnixStream) -> io::Result<Result<Vec<u8>, Denial>> {
    let length = client.read_u32().await?;
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if !(8..=STARTUP_BYTES_MAX).contains(&size) {
        return Ok(Err(violation(
            "sent a startup message of impossible length",
        )));
    }
    let mut message = vec![0; size];
    message[..4].copy_from_slice(&length.to_be_bytes());
    client.read_exact(&mut message[4..]).await?;
    Ok(Ok(message))
}

/// Reads a startup message, its length included.
fn startup(message: &[u8]) -> Result<Startup, Denial> {
    let code = message
        .get(4..8)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_be_bytes);
    match code {
        Some(SSL_REQUEST | GSS_REQUEST) => Ok(Startup::Encryption),
        Some(CANCEL_REQUEST) => Ok(Startup::Cancel),
        Some(version) if version >> 16 == PROTOCOL_MAJOR => {
            parameters(&message[8..]).map(Startup::Login)
        }
        _ => Err(violation("speaks an unknown version of the protocol")),
    }
}

/// Reads names and values, each ended by a zero, the list ended by another.
fn parameters(bytes: &[u8]) -> Result<BTreeMap<String, String>, Denial> {
    let broken = || violation("sent a broken startup message");
    let mut parameters = BTreeMap::new();
    let mut texts = bytes
        .strip_suffix(b"\0\0")
        .ok_or_else(broken)?
        .split(|byte| *byte == 0);
    while let Some(name) = texts.next() {
        let text = |bytes: &[u8]| {
            std::str::from_utf8(bytes)
                .map(str::to_owned)
                .map_err(|_| broken())
        };
        let (name, value) = (text(name)?, text(texts.next().ok_or_else(broken)?)?);
        // The cluster would take the last of several: nothing may be checked and then replaced.
        if name.is_empty() || parameters.insert(name, value).is_some() {
            return Err(broken());
        }
    }
    Ok(parameters)
}

fn check_login(
    parameters: &BTreeMap<String, String>,
    role: &DatabaseName,
    database: &DatabaseName,
) -> Result<(), Denial> {
    let user = parameters.get("user").map_or("", String::as_str);
    if user != role.as_str() {
        return Err(Denial {
            state: "28000",
            text: format!(
                "role {user:?} is not this seat's: its role is {role:?}",
                role = role.as_str()
            ),
        });
    }
    let wanted = parameters
        .get("database")
        .filter(|name| !name.is_empty())
        .map_or(user, String::as_str);
    if wanted != database.as_str() {
        let text = format!(
            "database {wanted:?} is not this seat's: its database is {:?}",
            database.as_str()
        );
        return Err(Denial {
            state: "3D000",
            text,
        });
    }
    match parameters.get("replication").map(String::as_str) {
        None | Some("false" | "off" | "no" | "0") => Ok(()),
        Some(_) => Err(Denial {
            state: "28000",
            text: "a seat cannot replicate".to_owned(),
        }),
    }
}

fn violation(what: &str) -> Denial {
    Denial {
        state: "08P01",
        text: format!("the client {what}"),
    }
}

/// Writes PostgreSQL's ErrorResponse and ends the connection.
async fn deny(client: &mut UnixStream, denial: &Denial) -> io::Result<()> {
    let mut fields = Vec::new();
    for (kind, text) in [
        (b'S', "FATAL"),
        (b'V', "FATAL"),
        (b'C', denial.state),
        (b'M', &denial.text),
    ] {
        fields.push(kind);
        fields.extend(text.bytes().filter(|byte| *byte != 0));
        fields.push(0);
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).unwrap_or(u32::MAX);
    let mut message = vec![b'E'];
    message.extend(length.to_be_bytes());
    message.extend(fields);
    client.write_all(&message).await?;
    client.shutdown().await
}

async fn connect(path: &PathBuf, wait: Duration) -> io::Result<UnixStream> {
    tokio::time::timeout(wait, UnixStream::connect(path)).await?
}

/// Serves each connection in a task of its own until `shutdown`, then cuts them.
pub(crate) async fn each_connection<F, Serving>(
    listener: UnixListener,
    shutdown: CancellationToken,
    serve: F,
) -> Result<(), ServeError>
where
    F: Fn(UnixStream) -> Serving,
    Serving: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        // A dropped accept loses nothing: the connection stays in the kernel's queue.
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => ended.map_err(ServeError::Panicked)?,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a seat's connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    connections.shutdown().await;
    Ok(())
}

/// How much a relayed connection may carry, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelayLimits {
    pub(crate) bytes_max: u64,
    pub(crate) time_max: Option<Duration>,
    pub(crate) idle_max: Option<Duration>,
}

impl RelayLimits {
    fn none() -> Self {
        Self {
            bytes_max: u64::MAX,
            time_max: None,
            idle_max: None,
        }
    }
}

/// Carries bytes both ways until both sides have ended or a limit is reached, and returns
/// how many. The sides may not be of one kind.
pub(crate) async fn relay<A, B>(client: A, service: B, limits: &RelayLimits) -> u64
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let moved = AtomicU64::new(0);
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_service, mut to_service) = tokio::io::split(service);
    let up = copy(&mut from_client, &mut to_service, limits, &moved);
    let down = copy(&mut from_service, &mut to_client, limits, &moved);
    let both = async { tokio::try_join!(up, down) };
    let ended = match limits.time_max {
        Some(time) => tokio::time::timeout(time, both)
            .await
            .unwrap_or(Err(io::ErrorKind::TimedOut.into())),
        None => both.await,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a relayed connection was cut");
    }
    moved.into_inner()
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    limits: &RelayLimits,
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let before = moved.load(Ordering::Relaxed);
        let read = match limits.idle_max {
            None => from.read(&mut buffer).await?,
            Some(idle) => match tokio::time::timeout(idle, from.read(&mut buffer)).await {
                Ok(read) => read?,
                // The other direction may be busy: only silence in both is idle.
                Err(_) if moved.load(Ordering::Relaxed) != before => continue,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            },
        };
        if read == 0 {
            return to.shutdown().await;
        }
        let size = u64::try_from(read).unwrap_or(u64::MAX);
        if moved
            .fetch_add(size, Ordering::Relaxed)
            .saturating_add(size)
            > limits.bytes_max
        {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(pairs: &[&str]) -> Vec<u8> {
        let mut message = vec![0; 4];
        message.extend((3_u32 << 16).to_be_bytes());
        for text in pairs {
            message.extend(text.bytes());
            message.push(0);
        }
        message.push(0);
        message
    }

    fn verdict(pairs: &[&str]) -> Result<(), &'static str> {
        let name = |text| DatabaseName::new(text).unwrap();
        match startup(&login(pairs)) {
            Ok(Startup::Login(parameters)) => {
                check_login(&parameters, &name("ada"), &name("ada")).map_err(|denial| denial.state)
            }
            Ok(_) => Err("not a login"),
            Err(denial) => Err(denial.state),
        }
    }

    #[test]
    fn a_seat_logs_in_as_itself_to_its_database_only() {
        assert_eq!(
            verdict(&["user", "ada", "database", "ada", "application_name", "psql"]),
            Ok(())
        );
        assert_eq!(
            verdict(&["user", "ada"]),
            Ok(()),
            "the database is named like the role"
        );
        assert_eq!(verdict(&["user", "ada", "replication", "off"]), Ok(()));
        assert_eq!(
            verdict(&["user", "postgres", "database", "ada"]),
            Err("28000")
        );
        assert_eq!(verdict(&["user", "ADA"]), Err("28000"));
        assert_eq!(verdict(&["database", "ada"]), Err("28000"));
        assert_eq!(verdict(&["user", "ada", "database", "eve"]), Err("3D000"));
        assert_eq!(
            verdict(&["user", "ada", "database", "template1"]),
            Err("3D000")
        );
        assert_eq!(
            verdict(&["user", "ada", "replication", "database"]),
            Err("28000")
        );
        assert_eq!(
            verdict(&["user", "ada", "user", "postgres"]),
            Err("08P01"),
            "the cluster would take the last"
        );
        assert_eq!(verdict(&["user"]), Err("08P01"));
        assert_eq!(verdict(&[]), Err("08P01"));
    }

    #[test]
    fn other_messages_are_told_apart() {
        let message = |code: u32| [8_u32.to_be_bytes(), code.to_be_bytes()].concat();
        assert_eq!(startup(&message(SSL_REQUEST)), Ok(Startup::Encryption));
        assert_eq!(startup(&message(GSS_REQUEST)), Ok(Startup::Encryption));
        assert_eq!(startup(&message(CANCEL_REQUEST)), Ok(Startup::Cancel));
        assert!(startup(&message(2 << 16)).is_err());
    }
}
