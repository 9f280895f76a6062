//! The filtered way out, over real sockets; names lead where the test says.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arena_local::outbound::{Allowed, Limits, Network, Rule, Settings, serve};
use arena_workshop::SeatId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use url::Url;

const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1));
const LIMIT: Duration = Duration::from_secs(60);

struct Way {
    _folder: tempfile::TempDir,
    socket: PathBuf,
    dialled: Arc<Mutex<Vec<SocketAddr>>>,
    lookups: Arc<AtomicUsize>,
    shutdown: CancellationToken,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A way out where every name has these addresses, and every address is an echo server here.
async fn way(allowed: Allowed, limits: Limits, addresses: &[IpAddr]) -> Way {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let echo_address = echo.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = echo.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let (dialled, lookups) = (
        Arc::new(Mutex::new(Vec::new())),
        Arc::new(AtomicUsize::new(0)),
    );
    let addresses = addresses.to_vec();
    let network = Network::new(
        {
            let lookups = lookups.clone();
            move |_, _| {
                lookups.fetch_add(1, Ordering::SeqCst);
                let addresses = addresses.clone();
                Box::pin(async move { Ok(addresses) })
            }
        },
        {
            let dialled = dialled.clone();
            move |address| {
                dialled.lock().unwrap().push(address);
                Box::pin(TcpStream::connect(echo_address))
            }
        },
    );
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("outbound.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let shutdown = CancellationToken::new();
    let settings = Settings {
        seat: SeatId::new("ada").unwrap(),
        allowed,
        limits,
        network,
    };
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move { serve(settings, listener, shutdown).await.unwrap() }
    });
    Way {
        _folder: folder,
        socket,
        dialled,
        lookups,
        shutdown,
    }
}

fn list(rules: &[&str]) -> Allowed {
    Allowed::List(
        rules
            .iter()
            .map(|rule| Rule::parse(rule).unwrap())
            .collect(),
    )
}

async fn ask(way: &Way, request: &str) -> (String, UnixStream) {
    let mut stream = UnixStream::connect(&way.socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 4096];
    let read = tokio::time::timeout(LIMIT, stream.read(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    (
        String::from_utf8_lossy(&buffer[..read]).into_owned(),
        stream,
    )
}

async fn connect(way: &Way, target: &str) -> (String, UnixStream) {
    ask(
        way,
        &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"),
    )
    .await
}

#[tokio::test]
async fn a_listed_host_is_reached_at_the_address_that_was_checked() {
    let way = way(list(&["registry.example"]), Limits::default(), &[PUBLIC]).await;
    let (answer, mut stream) = connect(&way, "registry.example:443").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    assert_eq!(*way.dialled.lock().unwrap(), [SocketAddr::new(PUBLIC, 443)]);
    assert_eq!(way.lookups.load(Ordering::SeqCst), 1, "resolved once");
}

#[tokio::test]
async fn what_is_not_listed_is_not_even_looked_up() {
    let way = way(list(&["registry.example"]), Limits::default(), &[PUBLIC]).await;
    for target in [
        "evil.example:443",
        "registry.example:22",
        "registry.example:80",
        "1.1.1.1:443",
        "registry.example.evil:443",
    ] {
        let (answer, _) = connect(&way, target).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("arena.seats.outbound"),
            "{answer}"
        );
    }
    assert_eq!(
        (
            way.lookups.load(Ordering::SeqCst),
            way.dialled.lock().unwrap().len()
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn none_allows_nothing_and_all_only_https() {
    let none = way(Allowed::None, Limits::default(), &[PUBLIC]).await;
    assert!(
        connect(&none, "registry.example:443")
            .await
            .0
            .starts_with("HTTP/1.1 403 ")
    );
    let all = way(Allowed::All, Limits::default(), &[PUBLIC]).await;
    assert!(
        connect(&all, "anything.example:443")
            .await
            .0
            .starts_with("HTTP/1.1 200 ")
    );
    assert!(
        connect(&all, "anything.example:25")
            .await
            .0
            .starts_with("HTTP/1.1 403 ")
    );
}

#[tokio::test]
async fn no_name_leads_inside_in_any_mode() {
    for address in [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "fe80::1",
    ] {
        let address: IpAddr = address.parse().unwrap();
        for allowed in [Allowed::All, list(&["registry.example"])] {
            let way = way(allowed, Limits::default(), &[address]).await;
            let (answer, _) = connect(&way, "registry.example:443").await;
            assert!(
                answer.starts_with("HTTP/1.1 403 ") && answer.contains("public addresses only"),
                "{address}: {answer}"
            );
            assert!(way.dialled.lock().unwrap().is_empty());
        }
    }
    // A name with an inner and a public address: only the public one is tried.
    let mixed = way(
        Allowed::All,
        Limits::default(),
        &[IpAddr::V4(Ipv4Addr::LOCALHOST), PUBLIC],
    )
    .await;
    assert!(
        connect(&mixed, "mixed.example:443")
            .await
            .0
            .starts_with("HTTP/1.1 200 ")
    );
    assert_eq!(
        *mixed.dialled.lock().unwrap(),
        [SocketAddr::new(PUBLIC, 443)]
    );
}

#[tokio::test]
async fn a_registry_of_the_machine_may_be_plain_and_inside() {
    let inner: IpAddr = "10.255.254.253".parse().unwrap();
    let registry = Rule::registry(&Url::parse("http://mirror.example:8081/npm/").unwrap()).unwrap();
    let own = way(Allowed::List(vec![registry]), Limits::default(), &[inner]).await;
    let request = "GET http://mirror.example:8081/npm/x HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\n\r\n";
    let (answer, _) = ask(&own, request).await;
    assert_eq!(
        answer, "GET /npm/x HTTP/1.1\r\nHost: mirror.example:8081\r\nConnection: close\r\n\r\n",
        "echoed"
    );
    assert_eq!(*own.dialled.lock().unwrap(), [SocketAddr::new(inner, 8081)]);
    // Written into the list by hand, it is neither.
    let listed = way(list(&["mirror.example:8081"]), Limits::default(), &[inner]).await;
    assert!(ask(&listed, request).await.0.starts_with("HTTP/1.1 403 "));
    assert!(
        connect(&listed, "mirror.example:8081")
            .await
            .0
            .starts_with("HTTP/1.1 403 ")
    );
}

#[tokio::test]
async fn a_seat_has_so_many_connections_and_bytes() {
    let limits = Limits {
        connections_max: 1,
        bytes_max: 1_000,
        ..Limits::default()
    };
    let way = way(Allowed::All, limits, &[PUBLIC]).await;
    let (first, mut stream) = connect(&way, "a.example:443").await;
    assert!(first.starts_with("HTTP/1.1 200 "));
    assert!(
        connect(&way, "a.example:443")
            .await
            .0
            .starts_with("HTTP/1.1 429 ")
    );
    stream.write_all(&[7; 400]).await.unwrap();
    let mut back = [0; 400];
    stream.read_exact(&mut back).await.unwrap();
    let _ = stream.write_all(&[7; 4_000]).await;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(
        rest.len() <= 1_000,
        "cut at the limit, not after {}",
        rest.len()
    );
    let (again, _) = connect(&way, "a.example:443").await;
    assert!(
        again.starts_with("HTTP/1.1 200 "),
        "the place was given back: {again}"
    );
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let limits = Limits {
        idle_max: Duration::from_millis(50),
        ..Limits::default()
    };
    let way = way(Allowed::All, limits, &[PUBLIC]).await;
    let (_, mut stream) = connect(&way, "a.example:443").await;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest))
        .await
        .expect("it was cut");
}
