//! Connections: limits, changes while they run, and their end.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use arena_gateway::{Endpoint, Limits, Routes, Target, Upstream};
use arena_workshop::plan::Surface;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};

use crate::world::{
    ADA, Answer, LIMIT, PORTAL, World, routes, seat, socket, until, upstream, within,
};

#[tokio::test]
async fn slow_heads_are_cut() {
    let world = World::start_with(Limits {
        head_wait: Duration::from_millis(100),
        ..Limits::default()
    })
    .await;
    let mut stream = world.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("200"));
    assert_eq!(world.get(PORTAL, "/", "").await.status, 200);
}

#[tokio::test]
async fn large_heads_and_bodies_are_refused() {
    let world = World::start_with(Limits {
        body_bytes_max: 1_000,
        ..Limits::default()
    })
    .await;
    let head = world
        .get(PORTAL, "/", &format!("X: {}\r\n", "x".repeat(100_000)))
        .await;
    assert_eq!(head.status, 431);
    let many = world.get(PORTAL, "/", &"X: y\r\n".repeat(300)).await;
    assert_eq!(many.status, 431);
    assert_eq!(
        world.post(PORTAL, "/", "", &"x".repeat(2_000)).await.status,
        400
    );
    assert_eq!(
        world.post(PORTAL, "/", "", &"x".repeat(1_000)).await.status,
        200
    );
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let world = World::start_with(Limits {
        connections_per_address_max: 2,
        ..Limits::default()
    })
    .await;
    let request = format!("GET /x HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n");
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = world.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(Answer::read(&mut stream).await.status, 200);
        held.push(stream);
    }
    let mut third = world.connect().await;
    let _ = third.write_all(request.as_bytes()).await;
    assert_eq!(
        Answer::read(&mut third).await.status,
        0,
        "closed without an answer"
    );
    drop(held);
    let started = Instant::now();
    loop {
        let mut next = world.connect().await;
        let _ = next.write_all(request.as_bytes()).await;
        if Answer::read(&mut next).await.status == 200 {
            break;
        }
        assert!(
            started.elapsed() < LIMIT,
            "the places were never given back"
        );
    }
}

#[tokio::test]
async fn a_changed_route_is_used_at_once_and_drops_no_connection() {
    let world = World::start().await;
    let cookie = world.cookie("ada", ADA).await;
    let request = format!("GET /backend/x HTTP/1.1\r\nHost: {ADA}\r\n{cookie}\r\n");
    let mut stream = world.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(
        Answer::read(&mut stream).await.header("x-upstream"),
        Some("ada")
    );

    upstream(
        "moved",
        &socket(world.folder.path(), "moved"),
        world.seen.clone(),
    );
    let moved = Upstream {
        authority: "ada.2.invalid".into(),
        endpoint: Endpoint::Unix(socket(world.folder.path(), "moved")),
    };
    let old = routes(world.folder.path());
    let hosts = [
        (PORTAL.to_owned(), old.target(PORTAL).unwrap().clone()),
        (
            ADA.to_owned(),
            Target {
                surface: Surface::SeatApps(seat("ada")),
                upstream: moved,
            },
        ),
    ];
    world
        .routes
        .store(Arc::new(Routes::new(old.portal().clone(), hosts)));

    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(
        Answer::read(&mut stream).await.header("x-upstream"),
        Some("moved"),
        "same connection, new way"
    );
}

#[tokio::test]
async fn a_request_under_way_ends_before_the_gateway_does() {
    let mut world = World::start().await;
    let cookie = world.cookie("ada", ADA).await;
    let mut stream = world.connect().await;
    let request = format!("GET /backend/slow HTTP/1.1\r\nHost: {ADA}\r\n{cookie}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    until("the request is under way", || !world.seen.all().is_empty()).await;
    let reader = tokio::spawn(async move { Answer::read(&mut stream).await });
    world.stop().await;
    assert_eq!(within(reader).await.unwrap().body, "slow");
    assert!(TcpStream::connect(("127.0.0.1", world.port)).await.is_err());
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let mut world = World::start_with(Limits {
        drain: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let cookie = world.cookie("ada", ADA).await;
    let mut stream = world.connect().await;
    let request = format!("GET /backend/big HTTP/1.1\r\nHost: {ADA}\r\n{cookie}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    until("the request is under way", || !world.seen.all().is_empty()).await;
    world.stop().await;
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn a_slow_reader_of_a_large_answer_costs_little_memory() {
    let world = World::start().await;
    let cookie = world.cookie("ada", ADA).await;
    world.get(ADA, "/backend/x", &cookie).await;
    let before = resident_bytes();
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut stream = world.connect().await;
        let request = format!("GET /backend/big HTTP/1.1\r\nHost: {ADA}\r\n{cookie}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
        readers.push(stream);
    }
    // 400 MB would come if nothing held them back; tests beside this one have their share.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "grew by {grown} bytes");
    }
    // The control: a reader that goes on gets it all.
    let mut rest = vec![0; 1 << 20];
    let mut read = 1 << 20;
    while read < 100 << 20 {
        read += within(readers[0].read(&mut rest)).await.unwrap();
    }
}

/// A server that closes each connection after one answer without saying so, as Node does
/// with one that was idle too long.
fn forgetful(path: std::path::PathBuf) -> Arc<std::sync::atomic::AtomicUsize> {
    let listener = UnixListener::bind(path).unwrap();
    let answered = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = answered.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 8192];
                if stream.read(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    .await
                    .unwrap();
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                // The next request on this connection is read and never answered.
                let _ = stream.read(&mut buffer).await;
            });
        }
    });
    answered
}

#[tokio::test]
async fn a_get_survives_a_kept_connection_that_was_closed_and_a_post_is_not_repeated() {
    let world = World::start().await;
    let path = socket(world.folder.path(), "forgetful");
    let answered = forgetful(path.clone());
    let old = routes(world.folder.path());
    let way = Upstream {
        authority: "ada.3.invalid".into(),
        endpoint: Endpoint::Unix(path),
    };
    let hosts = [(
        ADA.to_owned(),
        Target {
            surface: Surface::SeatApps(seat("ada")),
            upstream: way,
        },
    )];
    world
        .routes
        .store(Arc::new(Routes::new(old.portal().clone(), hosts)));
    let cookie = world.cookie("ada", ADA).await;
    for _ in 0..3 {
        assert_eq!(world.get(ADA, "/backend/x", &cookie).await.status, 200);
    }
    let before = answered.load(std::sync::atomic::Ordering::SeqCst);
    let own = format!("Origin: {}\r\n{cookie}", world.origin(ADA));
    assert_eq!(
        world.get(ADA, "/backend/x", &cookie).await.status,
        200,
        "leaves a connection behind"
    );
    let post = world.post(ADA, "/backend/x", &own, "a").await.status;
    let after = answered.load(std::sync::atomic::Ordering::SeqCst);
    assert!(
        post == 502 || after == before + 2,
        "a POST is sent once: {post}, {before} → {after}"
    );
}

#[tokio::test]
async fn a_seat_that_is_gone_has_a_page_and_the_gateway_goes_on() {
    let world = World::start().await;
    let cookie = world.cookie("ada", ADA).await;
    std::fs::remove_file(socket(world.folder.path(), "ada")).unwrap();
    let page = world
        .get(ADA, "/backend/x", &format!("{cookie}Accept: text/html\r\n"))
        .await;
    assert_eq!(page.status, 502);
    assert!(page.body.contains("Your seat is not running"));
    assert_eq!(world.get(PORTAL, "/", "").await.status, 200);
}
