//! Drivers that compress what they send, as they agree on it themselves: a relay
//! between them and the front counts what passes.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::node::runs_at;
use crate::world::World;

const OP_COMPRESSED: i32 = 2012;

/// Who sent a message, and how it was compressed; nothing if it was not.
type Seen = (&'static str, Option<u8>);

/// Passes messages between clients and the front.
struct Relay {
    address: String,
    seen: Arc<Mutex<BTreeMap<Seen, usize>>>,
    _ending: DropGuard,
}

impl Relay {
    async fn before(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<BTreeMap<Seen, usize>>> = Arc::default();
        let (front, noted, ending) = (
            world.address.clone(),
            Arc::clone(&seen),
            CancellationToken::new(),
        );
        let relaying = async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&front).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let (asked, answered) = (Arc::clone(&noted), noted.clone());
                tokio::spawn(pass("client", from_client, to_server, asked));
                tokio::spawn(pass("server", from_server, to_client, answered));
            }
        };
        let token = ending.clone();
        tokio::spawn(async move { token.run_until_cancelled(relaying).await });
        Self {
            address,
            seen,
            _ending: ending.drop_guard(),
        }
    }

    fn seen(&self, message: Seen) -> usize {
        self.seen
            .lock()
            .unwrap()
            .get(&message)
            .copied()
            .unwrap_or(0)
    }
}

/// Passes one side's messages until it closes.
async fn pass(
    sender: &'static str,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    seen: Arc<Mutex<BTreeMap<Seen, usize>>>,
) {
    let mut head = [0; 16];
    while from.read_exact(&mut head).await.is_ok() {
        let number = |at: usize| i32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let mut rest = vec![0; usize::try_from(number(0)).unwrap() - head.len()];
        if from.read_exact(&mut rest).await.is_err() {
            return;
        }
        let compressor = (number(12) == OP_COMPRESSED).then(|| rest[8]);
        *seen
            .lock()
            .unwrap()
            .entry((sender, compressor))
            .or_default() += 1;
        if to.write_all(&[&head[..], &rest].concat()).await.is_err() {
            return;
        }
    }
}

/// Runs an app that offers this compressor and looks at what both sides sent.
async fn both_sides_use(script: &str, library: &str, (name, number): (&str, u8)) {
    let world = World::start().await;
    world.seat("ada");
    let relay = Relay::before(&world).await;
    let uri = world.uri("ada").replace(&world.address, &relay.address);
    runs_at(&format!("{uri}&compressors={name}"), script, library).await;
    let seen = relay.seen.lock().unwrap().clone();
    for side in ["client", "server"] {
        assert!(relay.seen((side, Some(number))) > 20, "{side}: {seen:?}");
    }
    // Logging in is never compressed, and nothing is compressed in another way.
    assert!(relay.seen(("client", None)) > 0, "{seen:?}");
    let others = seen
        .keys()
        .filter(|(_, used)| used.is_some_and(|used| used != number));
    assert_eq!(others.count(), 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_driver_speaks_zstandard() {
    both_sides_use("compressed.js", "mongodb7", ("zstd", 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_driver_speaks_zlib() {
    both_sides_use("compressed.js", "mongodb", ("zlib", 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pymongo_speaks_zstandard() {
    both_sides_use("compressed.py", "", ("zstd", 3)).await;
}
