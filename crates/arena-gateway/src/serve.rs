//! Accepts connections, within limits, and ends them in order: stop accepting,
//! tell connections and WebSockets, wait, cut.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::door::Door;
use crate::head_tap::HeadTap;
use crate::{Limits, Settings};

/// Connections that the kernel keeps for us before they are accepted.
const BACKLOG: u32 = 4_096;
/// Pause after the kernel would not give a connection (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the gateway did not serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The listener has no address.
    #[error("cannot read the gateway's own address")]
    Address(#[source] io::Error),
    /// Not on loopback.
    #[error(transparent)]
    NotLoopback(#[from] NotLoopback),
}

/// Why the gateway cannot listen there.
#[derive(Debug, Error)]
pub enum BindError {
    /// Not on loopback.
    #[error(transparent)]
    NotLoopback(#[from] NotLoopback),
    /// Taken, or not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// An address that other machines reach: that needs TLS, which comes later.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error(
    "cannot serve on {address}: other machines reach it, and without TLS everybody on the way reads sessions; \
     use 127.0.0.1"
)]
pub struct NotLoopback {
    /// The address.
    pub address: SocketAddr,
}

/// Refuses every address that other machines reach.
///
/// # Errors
/// When the address is not on loopback.
pub fn check_loopback(address: &SocketAddr) -> Result<(), NotLoopback> {
    if address.ip().is_loopback() {
        Ok(())
    } else {
        Err(NotLoopback { address: *address })
    }
}

/// Listens on a loopback address, with room for a whole room that opens its browsers at once.
///
/// # Errors
/// When the address is not on loopback, or taken. Needs a tokio runtime.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    check_loopback(&address)?;
    let listen = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| BindError::Listen { address, source })
}

/// Serves until `shutdown` is called; then waits [`Limits::drain`] for what runs, and cuts it.
///
/// # Errors
/// When the listener is not on loopback.
pub async fn serve(
    settings: Settings,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Address)?;
    check_loopback(&address)?;
    let limits = settings.limits.clone();
    let door = Arc::new(Door::new(settings, shutdown.clone()));
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let addresses = Addresses::default();
    let mut connections = JoinSet::new();
    loop {
        // A dropped accept loses nothing: the connection stays in the kernel's queue.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = accept(&listener, &slots) => {
                let Some((stream, peer, slot)) = accepted else { continue };
                let Some(guest) = addresses.admit(peer.ip(), limits.connections_per_address_max) else {
                    tracing::warn!(address = %peer.ip(), "too many connections of one address");
                    continue;
                };
                let (door, limits, shutdown) = (door.clone(), limits.clone(), shutdown.clone());
                connections.spawn(async move {
                    let _held = (slot, guest);
                    connection(door, &limits, stream, peer.ip(), shutdown).await;
                });
            }
        }
    }
    drop(listener);
    door.relays.close();
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
        door.relays.wait().await;
    };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            websockets = door.relays.len(),
            "cut what did not end in time"
        );
        connections.shutdown().await;
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) => {
            tracing::warn!(error = cause(&error), "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Serves one connection until it ends, or politely ends it.
async fn connection(
    door: Arc<Door>,
    limits: &Limits,
    stream: TcpStream,
    peer: IpAddr,
    shutdown: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let (stream, length) = HeadTap::new(stream);
    let service = service_fn(move |request: Request<Incoming>| {
        let (door, length) = (door.clone(), length.clone());
        async move {
            Ok::<Response<Body>, std::convert::Infallible>(
                door.answer(peer, &length, request).await,
            )
        }
    });
    // Never `pipeline_flush`: it takes the bound off what waits for a slow reader.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_wait)
        .max_headers(limits.headers_max)
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(limits.head_bytes_max)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // Nothing is dropped halfway: the connection is polled on in both branches.
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = cause(&error), "a connection broke off");
    }
}

fn cause<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    error
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(
            error = cause(&error),
            "a connection's task panicked: this is a bug"
        );
    }
}

/// Connections by address.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

struct Guest {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    fn admit(&self, address: IpAddr, max: usize) -> Option<Guest> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Guest {
            addresses: self.clone(),
            address,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self
            .addresses
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_served() {
        for (address, served) in [
            ("127.0.0.1:8080", true),
            ("127.0.0.2:1", true),
            ("[::1]:8080", true),
            ("0.0.0.0:8080", false),
            ("[::]:8080", false),
            ("192.168.0.4:8080", false),
            ("[::ffff:192.168.0.4]:8080", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(check_loopback(&address).is_ok(), served, "{address}");
        }
    }
}
