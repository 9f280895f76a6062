//! Services on the seat's loopback: a port of 127.0.0.1, forwarded byte by byte
//! to the service's socket. The service knows the seat from the socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;

use crate::ServeError;
use crate::agent::Agent;

/// Connections of one seat to one service at a time; further ones wait.
const CONNECTIONS: usize = 256;

/// A port that is listened on, and where it leads.
pub(crate) struct Bound {
    listener: TcpListener,
    socket: PathBuf,
}

/// Listens on all ports.
pub(crate) fn bind(agent: &Agent) -> Result<Vec<Bound>, ServeError> {
    let bound = agent.settings.forwards.iter().map(|forward| {
        let listen = || {
            let listener = std::net::TcpListener::bind(("127.0.0.1", forward.port))?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let failed = |source| ServeError::Forward {
            port: forward.port,
            socket: forward.socket.clone(),
            source,
        };
        Ok(Bound {
            listener: listen().map_err(failed)?,
            socket: agent.places.services.join(&forward.socket),
        })
    });
    bound.collect()
}

/// Accepts until shutdown.
pub(crate) async fn run(agent: Arc<Agent>, bound: Bound) -> &'static str {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Both branches may be dropped: no connection has been taken yet.
        let accepted = tokio::select! {
            () = agent.shutdown.cancelled() => return "forwarding",
            accepted = accept(&bound.listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else {
            continue;
        };
        let socket = bound.socket.clone();
        agent.spawn(async move {
            join(stream, socket).await;
            drop(slot);
        });
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            // Out of descriptors: the seat has them all. Waiting is all we can do.
            tracing::warn!(error = %error, "cannot accept a connection to a service");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn join(mut stream: TcpStream, socket: PathBuf) {
    let _ = stream.set_nodelay(true);
    match UnixStream::connect(&socket).await {
        // Either side may end it as it likes; that is no event.
        Ok(mut service) => drop(tokio::io::copy_bidirectional(&mut stream, &mut service).await),
        Err(error) => {
            tracing::debug!(error = %error, "no service behind {}", socket.display());
        }
    }
}
