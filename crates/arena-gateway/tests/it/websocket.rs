//! WebSockets: who may open one, what passes, how they end.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::time::Duration;

use arena_gateway::Limits;
use arena_store::EditorStatus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{ADA, ADA_EDITOR, Answer, EVE, PORTAL, World, participant, seat, within};

const UPGRADE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const HELLO: &[u8] = b"\x82\x05hello";

async fn open(world: &World, path: &str, lines: &str) -> (Answer, TcpStream) {
    let mut stream = world.connect().await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {ADA_EDITOR}:{}\r\n{UPGRADE}{lines}\r\n",
        world.port
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    (Answer::read(&mut stream).await, stream)
}

async fn own_lines(world: &World) -> String {
    format!(
        "Origin: {}\r\n{}",
        world.origin(ADA_EDITOR),
        world.cookie("ada", ADA_EDITOR).await
    )
}

async fn echo(stream: &mut TcpStream, frame: &[u8]) {
    stream.write_all(frame).await.unwrap();
    let mut back = vec![0; frame.len()];
    within(stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, frame);
}

#[tokio::test]
async fn frames_pass_unchanged_both_ways() {
    let world = World::start().await;
    let (answer, mut stream) = open(&world, "/ws", &own_lines(&world).await).await;
    assert_eq!(answer.status, 101);
    echo(&mut stream, HELLO).await;
    let mut large = vec![0x82, 127];
    large.extend(300_000_u64.to_be_bytes());
    large.extend(vec![7; 300_000]);
    let (mut read, mut write) = stream.split();
    let mut back = vec![0; large.len()];
    let (sent, _) =
        within(async { tokio::join!(write.write_all(&large), read.read_exact(&mut back)) }).await;
    sent.unwrap();
    assert!(back == large);
    let headers = world.seen.last().headers;
    assert!(!headers.contains_key("cookie"));
    assert_eq!(headers["upgrade"], "websocket");
}

#[tokio::test]
async fn a_websocket_needs_its_own_page_and_session() {
    let world = World::start().await;
    let cookie = world.cookie("ada", ADA_EDITOR).await;
    for origin in [
        format!("Origin: {}\r\n", world.origin(EVE)),
        format!("Origin: {}\r\n", world.origin(PORTAL)),
        String::new(),
    ] {
        assert_eq!(
            open(&world, "/ws", &format!("{origin}{cookie}"))
                .await
                .0
                .status,
            403,
            "{origin}"
        );
    }
    assert_eq!(
        open(
            &world,
            "/ws",
            &format!("Origin: {}\r\n", world.origin(ADA_EDITOR))
        )
        .await
        .0
        .status,
        401
    );
    assert!(world.seen.all().is_empty());
    assert_eq!(
        open(&world, "/ws", &own_lines(&world).await).await.0.status,
        101
    );
}

#[tokio::test]
async fn a_seat_that_switches_to_something_else_is_cut() {
    let world = World::start().await;
    assert_eq!(
        open(&world, "/ws-lie", &own_lines(&world).await)
            .await
            .0
            .status,
        502
    );
    // A 101 that nobody asked for is no answer either.
    let cookie = world.cookie("ada", ADA_EDITOR).await;
    assert_eq!(world.get(ADA_EDITOR, "/ws", &cookie).await.status, 502);
    assert_eq!(world.get(ADA_EDITOR, "/x", &cookie).await.status, 200);
}

#[tokio::test]
async fn shutdown_tells_a_websocket_before_it_ends() {
    let mut world = World::start().await;
    let (_, mut stream) = open(&world, "/ws", &own_lines(&world).await).await;
    echo(&mut stream, HELLO).await;
    let reader = tokio::spawn(async move {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        rest
    });
    world.stop().await;
    assert_eq!(
        within(reader).await.unwrap(),
        [0x88, 0x02, 0x03, 0xE9],
        "going away"
    );
}

#[tokio::test]
async fn a_silent_websocket_is_kept_alive_by_a_ping_between_frames() {
    let world = World::start_with(Limits {
        ping_every: Duration::from_millis(30),
        ..Limits::default()
    })
    .await;
    let (_, mut stream) = open(&world, "/ws", &own_lines(&world).await).await;
    let mut ping = [0; 2];
    within(stream.read_exact(&mut ping)).await.unwrap();
    assert_eq!(ping, [0x89, 0x00]);

    // Half a frame from the seat: no ping may come before its end.
    let (_, mut stream) = open(&world, "/ws", &own_lines(&world).await).await;
    stream.write_all(&HELLO[..4]).await.unwrap();
    let mut back = [0; 4];
    loop {
        within(stream.read_exact(&mut back[..1])).await.unwrap();
        if back[0] == HELLO[0] {
            break;
        }
        within(stream.read_exact(&mut back[..1])).await.unwrap();
    }
    within(stream.read_exact(&mut back[1..])).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_millis(150), stream.read_u8()).await;
    assert!(quiet.is_err(), "a ping inside a frame: {quiet:?}");
    stream.write_all(&HELLO[4..]).await.unwrap();
    let mut rest = [0; 3];
    within(stream.read_exact(&mut rest)).await.unwrap();
    assert_eq!(rest, HELLO[4..]);
    within(stream.read_exact(&mut ping)).await.unwrap();
    assert_eq!(ping, [0x89, 0x00]);
}

#[tokio::test]
async fn a_websocket_waits_for_a_sleeping_editor() {
    let world = std::sync::Arc::new(World::start().await);
    world.set_editor("ada", EditorStatus::Stopped).await;
    let opened = tokio::spawn({
        let world = world.clone();
        async move { open(&world, "/ws", &own_lines(&world).await).await.0.status }
    });
    crate::world::until("a wake is ordered", || {
        !world.store.open_orders().is_empty()
    })
    .await;
    world.set_editor("ada", EditorStatus::Ready).await;
    assert_eq!(within(opened).await.unwrap(), 101);
}

#[tokio::test]
async fn a_websocket_ends_with_its_session_and_the_others_go_on() {
    let world = World::start().await;
    world.store.take_listed(&seat("ada")).await.unwrap();
    let (answer, mut ended) = open(&world, "/ws", &own_lines(&world).await).await;
    assert_eq!(answer.status, 101);
    echo(&mut ended, HELLO).await;
    let mut eve = world.connect().await;
    let lines = format!(
        "Origin: {}\r\n{}",
        world.origin(EVE),
        world.cookie("eve", EVE).await
    );
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {EVE}:{}\r\n{UPGRADE}{lines}\r\n",
        world.port
    );
    eve.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut eve).await.status, 101);
    // The seat is given back: whoever sat there has an open terminal no longer.
    let by = arena_store::Actor::System;
    world.store.release(&seat("ada"), by).await.unwrap();
    let mut rest = Vec::new();
    within(ended.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"\x88\x02\x03\xe9", "told before it was cut");
    echo(&mut eve, HELLO).await;
}

#[tokio::test]
async fn an_answer_that_goes_on_ends_with_its_session() {
    let world = World::start().await;
    let secret = world
        .store
        .create_session(participant("ada"), ADA)
        .await
        .unwrap();
    let session = world.store.session(secret.reveal(), ADA).unwrap();
    let mut stream = world.connect().await;
    let request = format!(
        "GET /backend/endless HTTP/1.1\r\nHost: {ADA}:{}\r\nCookie: arena_harbour={}\r\n\r\n",
        world.port,
        secret.reveal()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut some = [0; 512];
    assert_ne!(within(stream.read(&mut some)).await.unwrap(), 0);
    world.store.end_session(&session.id).await.unwrap();
    let mut rest = Vec::new();
    // Cut, by an end or a reset.
    let _ = within(stream.read_to_end(&mut rest)).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "not as if it were whole");
}
