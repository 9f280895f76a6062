//! The workshop's apps: reached, restarted, watched.

use std::net::Ipv4Addr;

use arena_seat::{AgentEvent, AppPhase};
use arena_workshop::plan::{AppKind, Forward, Ways};
use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, app, free_port, node, until, within, write};

/// Answers with what it was asked.
const ECHO: &str = "
const http = require('http'), crypto = require('crypto');
const server = http.createServer((q, s) => {
  s.setHeader('x-arena-error', 'forged'); s.setHeader('x-own', '1');
  s.end(JSON.stringify({ url: q.url, headers: q.headers, env: process.env }));
});
server.on('upgrade', (q, c) => {
  const key = crypto.createHash('sha1').update(q.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  c.write('HTTP/1.1 101 ok\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ' + key + '\\r\\n\\r\\nhello ');
  c.on('error', () => {}); c.pipe(c);
});
server.listen(process.env.PORT, '127.0.0.1', () => console.log('listening'));
";

#[tokio::test]
async fn an_app_sleeps_until_the_first_request_which_is_answered() {
    let seat = World::new().backend(ECHO).start_asleep().await;
    assert_eq!(seat.health().await.apps[0].state, AppPhase::Asleep);
    // Both wait for the one start.
    let (first, second) = tokio::join!(
        seat.get("apps", "/backend/first"),
        seat.get("apps", "/backend/second"),
    );
    assert_eq!((first.status, second.status), (200, 200));
    let app = seat.app_in(AppPhase::Ready).await.apps.remove(0);
    assert_eq!(app.restarts, 0, "started once");
    seat.stop().await;
}

#[tokio::test]
async fn an_app_starts_with_the_editor() {
    let seat = World::new().backend(ECHO).start_asleep().await;
    assert_eq!(seat.post("/editor/wake").await.status, 202);
    seat.app_in(AppPhase::Ready).await;
    seat.stop().await;
}

#[tokio::test]
async fn a_first_request_to_a_broken_app_is_told_so() {
    let seat = World::new().backend("process.exit(3)").start_asleep().await;
    let answer = seat.get("apps", "/backend/").await;
    assert_eq!((answer.status, answer.code()), (502, "app-not-running"));
    seat.stop().await;
}

#[tokio::test]
async fn an_app_is_reached_under_its_prefix_and_speaks_only_for_itself() {
    let seat = World::new()
        .backend(ECHO)
        .with(|settings| {
            drop(
                settings
                    .environment
                    .insert("DATABASE_NAME".into(), "ada".into()),
            )
        })
        .start()
        .await;
    seat.app_in(AppPhase::Ready).await;
    let request = Request::get("/backend/api/x?y=1")
        .header("x-arena-surface", "apps")
        .header("x-arena-session", "s3cret")
        .header("x-arena-user", "Ada")
        .header("connection", "x-drop-me")
        .header("x-drop-me", "1");
    let response = seat.send(request).await;
    assert_eq!(response.headers()["x-own"], "1");
    assert!(!response.headers().contains_key("x-arena-error"));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(said["url"], "/api/x?y=1");
    assert_eq!(said["headers"]["x-arena-user"], "Ada");
    assert_eq!(said["env"]["DATABASE_NAME"], "ada");
    for gone in ["x-arena-session", "x-arena-surface", "x-drop-me"] {
        assert!(said["headers"][gone].is_null(), "{gone}");
    }
    let environment = said["env"].as_object().unwrap();
    assert!(
        !environment.contains_key("CARGO"),
        "nothing of ours reaches an app"
    );
    assert!(
        seat.get("apps", "/backend")
            .await
            .text()
            .contains("\"url\":\"/\"")
    );
    assert!(
        seat.get("apps", "/backend?q=2")
            .await
            .text()
            .contains("\"url\":\"/?q=2\"")
    );
    assert_eq!(seat.get("apps", "/backendx").await.status, 404);
    assert_eq!(seat.get("elsewhere", "/backend/").await.status, 421);
    seat.stop().await;
}

#[tokio::test]
async fn a_websocket_reaches_an_app() {
    let seat = World::new().backend(ECHO).start().await;
    seat.app_in(AppPhase::Ready).await;
    let mut socket = seat.upgrade("apps", "/backend/live").await.unwrap();
    socket.write_all(b"and back").await.unwrap();
    let mut bytes = [0; 14];
    within("the echo", socket.read_exact(&mut bytes))
        .await
        .unwrap();
    assert_eq!(&bytes, b"hello and back");
    seat.stop().await;
}

#[tokio::test]
async fn an_app_that_is_not_there_is_named() {
    let seat = World::new().start().await;
    let answer = seat.get("apps", "/react/").await;
    assert_eq!((answer.status, answer.code()), (502, "app-not-running"));
    assert!(answer.text().contains("port 3001"), "{}", answer.text());
    seat.stop().await;
}

#[tokio::test]
async fn an_app_under_watch_is_seen_to_restart() {
    let node = node();
    let seat = World::new()
        .file(
            "server/index.js",
            &ECHO
                .replace("x-own', '1'", "x-own', lab")
                .replace("const http", "const lab = require('./lab.js'), http"),
        )
        .file("server/lab.js", "module.exports = 'before'")
        .with(|settings| {
            settings.apps.push(app(
                AppKind::Backend,
                "server",
                &[&node, "--watch", "index.js"],
            ))
        })
        .start()
        .await;
    seat.app_in(AppPhase::Ready).await;
    assert_eq!(
        seat.get("apps", "/backend/").await.headers["x-own"],
        "before"
    );
    let mut events = seat.events().await;
    write(
        &seat.work().join("server/lab.js"),
        "module.exports = 'after'",
    );
    let restarted = |event| match event {
        AgentEvent::Health(health) => {
            (health.apps[0].restarts >= 1 && health.apps[0].state == AppPhase::Ready).then_some(())
        }
        _ => None,
    };
    events.until(restarted).await;
    assert_eq!(
        seat.get("apps", "/backend/").await.headers["x-own"],
        "after"
    );

    // Broken: the watcher lives, nobody listens; mended: it comes back by itself.
    write(
        &seat.work().join("server/lab.js"),
        "throw new Error('half typed')",
    );
    let broken = seat.app_in(AppPhase::Failed).await;
    assert!(
        broken.apps[0]
            .message
            .as_ref()
            .unwrap()
            .contains("half typed"),
        "{broken:?}"
    );
    write(
        &seat.work().join("server/lab.js"),
        "module.exports = 'mended'",
    );
    seat.app_in(AppPhase::Ready).await;
    seat.stop().await;
}

#[tokio::test]
async fn an_app_that_keeps_crashing_is_given_up_until_a_file_is_saved() {
    let seat = World::new()
        .backend("require('./lab.js')")
        .file("server/lab.js", "throw new Error('no such luck')")
        .with(|settings| settings.watched.push("server/lab.js".into()))
        .start()
        .await;
    let health = seat.app_in(AppPhase::Failed).await;
    assert!(
        health.apps[0]
            .message
            .as_ref()
            .unwrap()
            .contains("no such luck")
    );
    assert!(
        seat.get("agent", "/apps/backend/log?lines=500")
            .await
            .text()
            .contains("no such luck")
    );
    write(&seat.work().join("server/lab.js"), ECHO);
    seat.app_in(AppPhase::Ready).await;
    seat.stop().await;
}

#[tokio::test]
async fn a_restart_that_was_asked_for_makes_another_process() {
    let seat = World::new()
        .backend(ECHO.replace("url: q.url", "pid: process.pid").as_str())
        .start()
        .await;
    seat.app_in(AppPhase::Ready).await;
    let pid = async || {
        let answer = seat.get("apps", "/backend/").await;
        serde_json::from_slice::<serde_json::Value>(&answer.body).ok()?["pid"].as_u64()
    };
    let before = pid().await.unwrap();
    assert_eq!(seat.post("/apps/backend/restart").await.status, 202);
    until("another process", async || {
        pid().await.filter(|now| *now != before)
    })
    .await;
    assert_eq!(seat.post("/apps/postgres/restart").await.status, 404);
    assert!(
        seat.get("agent", "/apps/backend/log?lines=1")
            .await
            .text()
            .contains("listening")
    );
    seat.stop().await;
}

#[tokio::test]
async fn a_service_is_forwarded_from_the_loopback() {
    let port = free_port();
    let world = World::new().with(|settings| {
        settings.forwards.push(Forward {
            address: Ipv4Addr::LOCALHOST.into(),
            socket: "mongodb.sock".into(),
            port,
        })
    });
    let services = world.folder.path().join("svc");
    std::fs::create_dir(&services).unwrap();
    let service = tokio::net::UnixListener::bind(services.join("mongodb.sock")).unwrap();
    let seat = world.start().await;
    let mut client = until("the port", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .ok()
    })
    .await;
    let (mut server, _) = within("the connection", service.accept()).await.unwrap();
    client.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    server.read_exact(&mut bytes).await.unwrap();
    server.write_all(b"pong").await.unwrap();
    drop(server);
    let mut back = Vec::new();
    within("the end", client.read_to_end(&mut back))
        .await
        .unwrap();
    assert_eq!((&bytes, back.as_slice()), (b"ping", &b"pong"[..]));
    seat.stop().await;
}

/// Every address of 127.0.0.0/8 is the loopback's own, inside a seat as here.
#[tokio::test]
async fn servers_of_somebody_else_come_and_go_while_the_seat_lives() {
    let way = |last: u8, port: u16| Forward {
        address: Ipv4Addr::new(127, 0, 0, last).into(),
        socket: format!("mongodb-{last}.sock"),
        port,
    };
    let (first, second) = (way(2, free_port()), way(3, free_port()));
    let world = World::new();
    let services = world.folder.path().join("svc");
    std::fs::create_dir(&services).unwrap();
    let lead = |forwards: Vec<Forward>| {
        let ways = Ways {
            forwards,
            ..Ways::default()
        };
        std::fs::write(services.join("new"), serde_json::to_vec(&ways).unwrap()).unwrap();
        std::fs::rename(services.join("new"), services.join(Ways::FILE)).unwrap();
    };
    let connect = async |way: &Forward| {
        tokio::net::TcpStream::connect((way.address, way.port))
            .await
            .ok()
    };
    lead(vec![first.clone()]);
    let seat = world.start().await;
    until("the first server", async || connect(&first).await).await;
    assert!(connect(&second).await.is_none());
    lead(vec![second.clone()]);
    until("the second server", async || connect(&second).await).await;
    until("the first one is gone", async || {
        connect(&first).await.is_none().then_some(())
    })
    .await;
    std::fs::write(services.join(Ways::FILE), "{").unwrap();
    assert!(
        connect(&second).await.is_some(),
        "a broken list changes nothing"
    );
    seat.stop().await;
}

#[tokio::test]
async fn apps_end_with_their_seat() {
    let seat = World::new()
        .backend(ECHO.replace("url: q.url", "pid: process.pid").as_str())
        .start()
        .await;
    seat.app_in(AppPhase::Ready).await;
    let body = seat.get("apps", "/backend/").await.body;
    let pid = serde_json::from_slice::<serde_json::Value>(&body).unwrap()["pid"]
        .as_u64()
        .unwrap();
    assert!(std::fs::metadata(format!("/proc/{pid}")).is_ok());
    seat.stop().await;
    assert!(std::fs::metadata(format!("/proc/{pid}")).is_err());
}
