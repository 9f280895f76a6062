//! Requests that two parsers could read differently never reach anybody.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{ADA, Answer, EVE, PORTAL, World, within};

async fn status_of(world: &World, request: &str) -> u16 {
    world.raw(request).await.status
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]
async fn ambiguous_requests_are_refused_and_nobody_sees_them() {
    let world = World::start().await;
    let host = format!("Host: {PORTAL}:{}\r\n", world.port);
    let post = |lines: &str, body: &str| format!("POST /x HTTP/1.1\r\n{host}{lines}\r\n{body}");
    let chunk = "1\r\na\r\n0\r\n\r\n";
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: arena.localhost\r\n\r\n";
    for (what, request) in [
        (
            "length before coding",
            post(
                "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
                smuggled,
            ),
        ),
        (
            "coding before length",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                smuggled,
            ),
        ),
        (
            "coding twice",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                chunk,
            ),
        ),
        (
            "unknown coding",
            post("Transfer-Encoding: gzip, chunked\r\n", chunk),
        ),
        (
            "coding that is none",
            post("Transfer-Encoding: identity\r\n", ""),
        ),
        (
            "coding with a space",
            post("Transfer-Encoding : chunked\r\n", chunk),
        ),
        (
            "two lengths",
            post("Content-Length: 1\r\nContent-Length: 2\r\n", "ab"),
        ),
        (
            "a length with a sign",
            post("Content-Length: +3\r\n", "abc"),
        ),
        ("a list of lengths", post("Content-Length: 3, 3\r\n", "abc")),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("two hosts", format!("GET / HTTP/1.1\r\n{host}{host}\r\n")),
        (
            "a host with a user",
            "GET / HTTP/1.1\r\nHost: x@arena.localhost\r\n\r\n".to_owned(),
        ),
        (
            "a folded line",
            format!("GET / HTTP/1.1\r\n{host}X: a\r\n b\r\n\r\n"),
        ),
        (
            "dot segments",
            format!("GET /_arena/../x HTTP/1.1\r\n{host}\r\n"),
        ),
        (
            "encoded dot segments",
            format!("GET /_arena/%2e%2E/x HTTP/1.1\r\n{host}\r\n"),
        ),
    ] {
        assert_eq!(status_of(&world, &request).await, 400, "{what}");
    }
    let connect = format!("CONNECT {PORTAL}:80 HTTP/1.1\r\n{host}\r\n");
    assert_eq!(status_of(&world, &connect).await, 405);
    assert!(world.seen.all().is_empty(), "{:?}", world.seen.all());

    // The same with one clear length, and with one clear coding, goes through whole.
    assert_eq!(
        status_of(&world, &post("Content-Length: 3\r\n", "abc")).await,
        200
    );
    assert_eq!(world.seen.last().body, "abc");
    assert_eq!(
        status_of(&world, &post("Transfer-Encoding: chunked\r\n", chunk)).await,
        200
    );
    assert_eq!(world.seen.last().body, "a");
}

#[tokio::test]
async fn what_follows_a_refused_request_is_never_read_as_another() {
    let world = World::start().await;
    let mut stream = world.connect().await;
    let request = format!(
        "POST /x HTTP/1.1\r\nHost: {PORTAL}:{}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n",
        world.port
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    within(stream.read_to_end(&mut all)).await.ok();
    assert_eq!(String::from_utf8_lossy(&all).matches("HTTP/1.1").count(), 1);
    assert!(world.seen.all().is_empty());
}

#[tokio::test]
async fn the_targets_own_host_wins_for_cookie_and_route() {
    let world = World::start().await;
    let cookie = world.cookie("ada", ADA).await;
    let as_ada = format!("GET http://{ADA}/backend/x HTTP/1.1\r\nHost: {EVE}\r\n{cookie}\r\n");
    assert_eq!(world.raw(&as_ada).await.status, 200);
    assert_eq!(world.seen.last().upstream, "ada");
    let as_eve = format!("GET http://{EVE}/backend/x HTTP/1.1\r\nHost: {ADA}\r\n{cookie}\r\n");
    assert_eq!(
        world.raw(&as_eve).await.status,
        401,
        "ada's session is none on eve's host"
    );
    assert_eq!(world.seen.all().len(), 1);
}

#[tokio::test]
async fn hosts_outside_the_event_get_a_page_that_leads_to_the_portal() {
    let world = World::start().await;
    for host in [
        "127.0.0.1",
        "localhost",
        "evil.example",
        "nobody.arena.localhost",
    ] {
        let answer = world.get(host, "/", "Accept: text/html\r\n").await;
        assert_eq!(answer.status, 404);
        assert!(answer.body.contains(&world.origin(PORTAL)));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(world.get("127.0.0.1", "/health", "").await.status, 200);
    let upper = world.get("ARENA.localhost.", "/x", "").await;
    assert_eq!((upper.status, upper.body.as_str()), (200, "portal saw /x"));
}

#[tokio::test]
async fn two_requests_on_one_connection_reach_their_own_hosts() {
    let world = World::start().await;
    let (ada, eve) = (
        world.cookie("ada", ADA).await,
        world.cookie("eve", EVE).await,
    );
    let mut stream = world.connect().await;
    for (host, cookie, name) in [(ADA, &ada, "ada"), (EVE, &eve, "eve"), (ADA, &ada, "ada")] {
        let request = format!("GET /backend/y HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(
            Answer::read(&mut stream).await.header("x-upstream"),
            Some(name)
        );
    }
}
