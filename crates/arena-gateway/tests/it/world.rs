//! A small event: seats `ada` and `eve`, a portal, the gateway in front.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use arena_gateway::{Endpoint, Limits, Routes, Settings, Target, Upstream, serve};
use arena_store::{EditorStatus, Principal, SeatSpec, SeatStatus, Store};
use arena_workshop::plan::{Address, Surface};
use arena_workshop::{EventId, SeatId};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const PORTAL: &str = "arena.localhost";
pub(crate) const INSTRUCTIONS: &str = "instructions.arena.localhost";
pub(crate) const ADA: &str = "ada.arena.localhost";
pub(crate) const ADA_EDITOR: &str = "ada--code.arena.localhost";
pub(crate) const EVE: &str = "eve.arena.localhost";
pub(crate) const EVE_EDITOR: &str = "eve--code.arena.localhost";

/// Longest wait for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A request as an upstream saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) upstream: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }
    pub(crate) fn last(&self) -> Seen {
        self.all().pop().expect("an upstream saw a request")
    }
}

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) store: Store,
    pub(crate) routes: Arc<ArcSwap<Routes>>,
    pub(crate) seen: Log,
    pub(crate) shutdown: CancellationToken,
    pub(crate) server: Option<JoinHandle<()>>,
}

pub(crate) fn seat(name: &str) -> SeatId {
    SeatId::new(name).unwrap()
}

pub(crate) fn participant(name: &str) -> Principal {
    Principal::Participant(seat(name))
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("event.db")).unwrap();
        let spec = |name: &str, display: &str| SeatSpec {
            seat: seat(name),
            display_name: display.to_owned(),
            email: None,
            listed: true,
        };
        store
            .sync_seats(vec![spec("ada", "Ada Lovelace"), spec("eve", "Ève")])
            .await
            .unwrap();
        let seen = Log::default();
        for name in ["portal", "ada", "eve"] {
            upstream(
                name,
                &folder.path().join(format!("{name}.sock")),
                seen.clone(),
            );
        }
        let routes = Arc::new(ArcSwap::from_pointee(routes(folder.path())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let settings = Settings {
            event: EventId::new("harbour").unwrap(),
            address: Address {
                scheme: "http".into(),
                domain: PORTAL.into(),
                port,
            },
            routes: routes.clone(),
            store: store.clone(),
            limits,
        };
        let shutdown = CancellationToken::new();
        let server = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { serve(settings, listener, shutdown).await.unwrap() }
        });
        let world = Self {
            folder,
            port,
            store,
            routes,
            seen,
            shutdown,
            server: Some(server),
        };
        world.set_editor("ada", EditorStatus::Ready).await;
        world.set_editor("eve", EditorStatus::Ready).await;
        world
    }

    pub(crate) async fn set_editor(&self, name: &str, editor: EditorStatus) {
        let status = SeatStatus {
            editor,
            ..SeatStatus::default()
        };
        self.store.set_status(&seat(name), status).await.unwrap();
    }

    /// Returns a `Cookie` line with a session of `name` for `host`.
    pub(crate) async fn cookie(&self, name: &str, host: &str) -> String {
        let secret = self
            .store
            .create_session(participant(name), host)
            .await
            .unwrap();
        format!("Cookie: arena_harbour={}\r\n", secret.reveal())
    }

    pub(crate) fn origin(&self, host: &str) -> String {
        format!("http://{host}:{}", self.port)
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// Sends exactly these bytes and returns the first answer.
    pub(crate) async fn raw(&self, bytes: &str) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        Answer::read(&mut stream).await
    }

    /// Sends a GET with some more header lines (each ending in CR LF).
    pub(crate) async fn get(&self, host: &str, path: &str, lines: &str) -> Answer {
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: {host}:{}\r\n{lines}\r\n",
            self.port
        ))
        .await
    }

    pub(crate) async fn post(&self, host: &str, path: &str, lines: &str, body: &str) -> Answer {
        let (port, length) = (self.port, body.len());
        self.raw(&format!("POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {length}\r\n{lines}\r\n{body}"))
            .await
    }

    /// Ends the gateway and waits for it.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        within(self.server.take().unwrap()).await.unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Waits for something with a limit.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("it happens in time")
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < LIMIT, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn socket(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.sock"))
}

pub(crate) fn routes(folder: &Path) -> Routes {
    let upstream = |name: &str, authority: &str| Upstream {
        authority: authority.to_owned(),
        endpoint: Endpoint::Unix(socket(folder, name)),
    };
    let portal = upstream("portal", "portal.invalid");
    let target = |surface, upstream: &Upstream| Target {
        surface,
        upstream: upstream.clone(),
    };
    let mut hosts = HashMap::from([
        (PORTAL.to_owned(), target(Surface::Portal, &portal)),
        (
            INSTRUCTIONS.to_owned(),
            target(Surface::Instructions, &portal),
        ),
    ]);
    for name in ["ada", "eve"] {
        let own = upstream(name, &format!("{name}.1.invalid"));
        hosts.insert(
            format!("{name}.{PORTAL}"),
            target(Surface::SeatApps(seat(name)), &own),
        );
        hosts.insert(
            format!("{name}--code.{PORTAL}"),
            target(Surface::SeatEditor(seat(name)), &own),
        );
    }
    Routes::new(portal, hosts)
}

/// An answer as it came over the wire.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn read(stream: &mut TcpStream) -> Self {
        within(Self::read_from(stream)).await
    }

    async fn read_from(stream: &mut TcpStream) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        let mut answer = Self {
            status,
            head,
            body: String::new(),
        };
        let mut body = Vec::new();
        if let Some(length) = answer.header("content-length") {
            body.resize(length.parse().unwrap(), 0);
            stream.read_exact(&mut body).await.unwrap();
        } else if answer.header("transfer-encoding").is_some() {
            while !body.ends_with(b"0\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => body.push(byte),
                    Err(_) => break,
                }
            }
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        answer
    }

    pub(crate) fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    pub(crate) fn header<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.headers(name).next()
    }

    /// Returns the cookies it sets, as a browser would send them back.
    pub(crate) fn cookies(&self) -> String {
        let pairs: Vec<&str> = self
            .headers("set-cookie")
            .filter_map(|cookie| cookie.split(';').next())
            .collect();
        format!("Cookie: {}\r\n", pairs.join("; "))
    }
}

/// A server that answers what its path says and notes what it saw.
pub(crate) fn upstream(name: &str, socket: &Path, seen: Log) -> JoinHandle<()> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).unwrap();
    let name = name.to_owned();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (name, seen) = (name.clone(), seen.clone());
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    answer(name.clone(), seen.clone(), request)
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                let _ = connection.with_upgrades().await;
            });
        }
    })
}

type UpstreamBody = BoxBody<Bytes, Infallible>;

async fn answer(
    name: String,
    seen: Log,
    mut request: Request<Incoming>,
) -> Result<Response<UpstreamBody>, Infallible> {
    let path = request.uri().path().to_owned();
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    seen.0.lock().unwrap().push(Seen {
        upstream: name.clone(),
        path: path.clone(),
        headers: head.headers,
        body,
    });
    let respond = Response::builder();
    let text = |text: &str| Full::new(Bytes::from(text.to_owned())).boxed();
    let response = match path.as_str() {
        "/ws" | "/ws-lie" | "/_arena/ws" => {
            tokio::spawn(async move {
                let Ok(upgraded) = upgrade.await else { return };
                let mut stream = TokioIo::new(upgraded);
                let mut buffer = [0; 4096];
                // Echoes masked frames as they are: enough to see bytes pass both ways.
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..read]).await.unwrap();
                }
            });
            let to = ["websocket", "h2c"][usize::from(path == "/ws-lie")];
            respond
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", to)
                .body(text(""))
        }
        "/backend/hostile" => respond
            .header("set-cookie", "theme=dark; Path=/")
            .header("set-cookie", "arena_harbour=stolen; Path=/")
            .header("set-cookie", "wide=1; Domain=arena.localhost")
            .header("clear-site-data", "\"*\"")
            .header("service-worker-allowed", "/")
            .header("alt-svc", "h3=\":443\"")
            .header("strict-transport-security", "max-age=1")
            .header("nel", "{}")
            .header("report-to", "{}")
            .header("access-control-allow-origin", "*")
            .header("x-arena-principal", "facilitator:eve")
            .header("connection", "x-hop, x-content-type-options")
            .header("x-hop", "1")
            .header("x-own", "kept")
            .header("location", format!("http://{name}.1.invalid/backend/there"))
            .body(text("hostile")),
        "/backend/down" => respond
            .status(502)
            .header("x-arena-error", "app-not-running")
            .body(text("")),
        // Begins, and says nothing more.
        "/backend/endless" => respond.body(Endless { has_begun: false }.boxed()),
        "/backend/big" => respond.body(Big { left: 100 << 20 }.boxed()),
        "/backend/slow" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            respond.body(text("slow"))
        }
        _ => respond
            .header("x-upstream", &name)
            .body(text(&format!("{name} saw {path}"))),
    };
    Ok(response.unwrap())
}

/// Says one line, and then nothing for ever.
struct Endless {
    has_begun: bool,
}

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.has_begun, true) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b": begun\n\n")))))
    }
}

struct Big {
    left: usize,
}

impl hyper::body::Body for Big {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = self.left.min(64 << 10);
        self.left -= size;
        std::task::Poll::Ready((size > 0).then(|| Ok(Frame::data(Bytes::from(vec![b'x'; size])))))
    }
}
