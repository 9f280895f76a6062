//! Services on the seat's loopback: an address and port, forwarded byte by byte
//! to the service's socket. The service knows the seat from the socket. Ways to
//! servers of somebody else ([`Ways`]) may change while the seat lives.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arena_workshop::plan::{Forward, Ways};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::ServeError;
use crate::agent::Agent;

/// Connections of one seat to one service at a time; further ones wait.
const CONNECTIONS: usize = 256;
/// How often changed ways are looked for; only where there are any.
const LOOK: Duration = Duration::from_secs(2);
/// A list of ways to a few servers is small; a larger file is none.
const WAYS_BYTES_MAX: u64 = 256 * 1024;

/// A port that is listened on, and where it leads.
pub(crate) struct Bound {
    listener: TcpListener,
    socket: PathBuf,
}

/// Listens on all ports.
pub(crate) fn bind(agent: &Agent) -> Result<Vec<Bound>, ServeError> {
    let bound = agent.settings.forwards.iter().map(|forward| {
        bind_one(agent, forward).map_err(|source| ServeError::Forward {
            address: (forward.address, forward.port).into(),
            socket: forward.socket.clone(),
            source,
        })
    });
    bound.collect()
}

fn bind_one(agent: &Agent, forward: &Forward) -> io::Result<Bound> {
    let listener = std::net::TcpListener::bind((forward.address, forward.port))?;
    listener.set_nonblocking(true)?;
    Ok(Bound {
        listener: TcpListener::from_std(listener)?,
        socket: agent.places.services.join(&forward.socket),
    })
}

/// Accepts until shutdown.
pub(crate) async fn run(agent: Arc<Agent>, bound: Bound) -> &'static str {
    serve(&agent, bound, &agent.shutdown).await;
    "forwarding"
}

/// Accepts until `end`.
async fn serve(agent: &Arc<Agent>, bound: Bound, end: &CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Both branches may be dropped: no connection has been taken yet.
        let accepted = tokio::select! {
            () = end.cancelled() => return,
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

/// Ways that are open, and what closes each.
pub(crate) struct Open {
    file: PathBuf,
    seen: Option<SystemTime>,
    ways: BTreeMap<Forward, CancellationToken>,
}

/// Opens the ways to servers of somebody else that are known now.
pub(crate) fn open(agent: &Arc<Agent>) -> Open {
    let mut open = Open {
        file: agent.places.services.join(Ways::FILE),
        seen: None,
        ways: BTreeMap::new(),
    };
    open.look(agent);
    open
}

/// Follows their changes until shutdown.
pub(crate) async fn follow(agent: Arc<Agent>, mut open: Open) -> &'static str {
    // A seat without such servers never gets any: nothing is looked for.
    let has_any = !open.ways.is_empty();
    loop {
        // Nothing is lost: a look compares with the one before.
        tokio::select! {
            () = agent.shutdown.cancelled() => return "ways",
            () = tokio::time::sleep(LOOK), if has_any => open.look(&agent),
        }
    }
}

impl Open {
    fn look(&mut self, agent: &Arc<Agent>) {
        let changed = std::fs::metadata(&self.file).and_then(|found| found.modified());
        let changed = changed.ok();
        if changed == self.seen {
            return;
        }
        self.seen = changed;
        match read(&self.file) {
            Ok(ways) => self.change(agent, ways.forwards),
            Err(error) => tracing::warn!(error = %error, "cannot read {}", self.file.display()),
        }
    }

    fn change(&mut self, agent: &Arc<Agent>, wanted: Vec<Forward>) {
        self.ways.retain(|way, end| {
            let stays = wanted.contains(way);
            if !stays {
                end.cancel();
            }
            stays
        });
        for way in wanted {
            if self.ways.contains_key(&way) {
                continue;
            }
            match bind_one(agent, &way) {
                Ok(bound) => {
                    let end = agent.shutdown.child_token();
                    self.ways.insert(way, end.clone());
                    let inner = agent.clone();
                    agent.spawn(async move { serve(&inner, bound, &end).await });
                }
                // A port that an app of the participant took: their own server, and only theirs, is shut out.
                Err(error) => {
                    tracing::warn!(error = %error, "cannot listen on {}:{} for {}", way.address, way.port, way.socket);
                }
            }
        }
    }
}

fn read(file: &Path) -> io::Result<Ways> {
    if std::fs::metadata(file)?.len() > WAYS_BYTES_MAX {
        return Err(io::Error::other("not a small file"));
    }
    serde_json::from_slice(&std::fs::read(file)?).map_err(io::Error::other)
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
