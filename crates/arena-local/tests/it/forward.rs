//! Ways to services, over real sockets. The cluster here only notes what reaches
//! it: what must not reach it is what matters.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arena_local::forward::{
    ForwardLimits, PlainSettings, PostgresSettings, Service, serve_plain, serve_postgres,
};
use arena_workshop::{DatabaseName, SeatId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);

struct Way {
    folder: tempfile::TempDir,
    reached: Arc<Mutex<Vec<Vec<u8>>>>,
    shutdown: CancellationToken,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Way {
    fn new() -> Self {
        let way = Self {
            folder: tempfile::tempdir().unwrap(),
            reached: Arc::default(),
            shutdown: CancellationToken::new(),
        };
        let listener = UnixListener::bind(way.path("cluster.sock")).unwrap();
        let reached = way.reached.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let reached = reached.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 16_384];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        reached.lock().unwrap().push(buffer[..read].to_vec());
                        let _ = stream.write_all(&buffer[..read]).await;
                    }
                });
            }
        });
        way
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn postgres(limits: ForwardLimits) -> Self {
        let way = Self::new();
        let name = || DatabaseName::new("ada").unwrap();
        let settings = PostgresSettings {
            seat: SeatId::new("ada").unwrap(),
            cluster: way.path("cluster.sock"),
            role: name(),
            database: name(),
            limits,
        };
        let listener = UnixListener::bind(way.path("way.sock")).unwrap();
        tokio::spawn(serve_postgres(settings, listener, way.shutdown.clone()));
        way
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path("way.sock")).await.unwrap()
    }

    fn reached(&self) -> Vec<Vec<u8>> {
        self.reached.lock().unwrap().clone()
    }
}

fn login(user: &str, database: &str) -> Vec<u8> {
    let mut message = (3_u32 << 16).to_be_bytes().to_vec();
    message.extend(format!("user\0{user}\0database\0{database}\0\0").bytes());
    let length = u32::try_from(message.len() + 4).unwrap();
    [length.to_be_bytes().to_vec(), message].concat()
}

async fn read(stream: &mut UnixStream) -> Vec<u8> {
    let mut buffer = vec![0; 16_384];
    let read = tokio::time::timeout(LIMIT, stream.read(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    buffer.truncate(read);
    buffer
}

#[tokio::test]
async fn a_seats_own_role_goes_through_after_encryption_was_declined() {
    let way = Way::postgres(ForwardLimits::default());
    let mut stream = way.connect().await;
    for code in [80_877_104_u32, 80_877_103] {
        stream
            .write_all(&[8_u32.to_be_bytes(), code.to_be_bytes()].concat())
            .await
            .unwrap();
        assert_eq!(read(&mut stream).await, b"N");
    }
    let message = login("ada", "ada");
    stream.write_all(&message).await.unwrap();
    assert_eq!(
        read(&mut stream).await,
        message,
        "echoed by what stands for the cluster"
    );
    stream.write_all(b"more").await.unwrap();
    assert_eq!(read(&mut stream).await, b"more");
    assert_eq!(way.reached(), [message, b"more".to_vec()]);
}

#[tokio::test]
async fn other_roles_and_databases_never_reach_the_cluster() {
    let way = Way::postgres(ForwardLimits::default());
    for (user, database, state) in [
        ("postgres", "ada", "28000"),
        ("eve", "eve", "28000"),
        ("ada", "eve", "3D000"),
        ("ada", "postgres", "3D000"),
    ] {
        let mut stream = way.connect().await;
        stream.write_all(&login(user, database)).await.unwrap();
        let answer = read(&mut stream).await;
        assert_eq!(answer[0], b'E');
        assert_eq!(
            u32::from_be_bytes(answer[1..5].try_into().unwrap()),
            u32::try_from(answer.len() - 1).unwrap()
        );
        let text = String::from_utf8_lossy(&answer[5..]).into_owned();
        assert!(
            text.starts_with("SFATAL\0VFATAL\0") && text.contains(&format!("C{state}\0")),
            "{text:?}"
        );
        assert_eq!(read(&mut stream).await, b"", "and it ends");
    }
    let mut stream = way.connect().await;
    stream.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert_eq!(
        read(&mut stream).await[0],
        b'E',
        "an endless startup message"
    );
    assert!(way.reached().is_empty());
}

#[tokio::test]
async fn a_cancel_request_is_passed_on() {
    let way = Way::postgres(ForwardLimits::default());
    let message = [16_u32, 80_877_102, 42, 7].map(u32::to_be_bytes).concat();
    let mut stream = way.connect().await;
    stream.write_all(&message).await.unwrap();
    assert_eq!(
        read(&mut stream).await,
        b"",
        "no answer to a cancel request"
    );
    assert_eq!(way.reached(), [message]);
}

#[tokio::test]
async fn a_seat_has_so_many_connections() {
    let way = Way::postgres(ForwardLimits {
        connections_max: 1,
        ..ForwardLimits::default()
    });
    let mut first = way.connect().await;
    first.write_all(&login("ada", "ada")).await.unwrap();
    read(&mut first).await;
    let mut second = way.connect().await;
    second.write_all(&login("ada", "ada")).await.unwrap();
    assert!(String::from_utf8_lossy(&read(&mut second).await).contains("C53300\0"));
    assert_eq!(way.reached().len(), 1);
}

#[tokio::test]
async fn a_plain_way_carries_bytes_and_ends_with_its_shutdown() {
    let way = Way::new();
    let settings = PlainSettings {
        seat: SeatId::new("ada").unwrap(),
        service: Service::Unix(way.path("cluster.sock")),
        limits: ForwardLimits::default(),
    };
    let listener = UnixListener::bind(way.path("way.sock")).unwrap();
    let served = tokio::spawn(serve_plain(settings, listener, way.shutdown.clone()));
    let mut stream = way.connect().await;
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(read(&mut stream).await, b"hello");
    way.shutdown.cancel();
    tokio::time::timeout(LIMIT, served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(read(&mut stream).await, b"");
}
