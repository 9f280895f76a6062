//! A seat in a temporary folder, without a sandbox, and a client of its agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arena_seat::{AgentEvent, AgentHealth, AppPhase, Places, ServeError, serve_at};
use arena_workshop::SeatId;
use arena_workshop::plan::{AppKind, AppPlan, SeatSettings};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Waits for something with a limit.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

/// Waits until a question is answered with something.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(what, asked).await
}

/// Node: the variable `ARENA_TEST_NODE`, else from the PATH.
pub(crate) fn node() -> String {
    std::env::var("ARENA_TEST_NODE").unwrap_or_else(|_| {
        let path = std::env::var_os("PATH").expect("a PATH");
        let found = std::env::split_paths(&path)
            .map(|folder| folder.join("node"))
            .find(|file| file.is_file());
        found
            .expect("node on the PATH or in ARENA_TEST_NODE")
            .display()
            .to_string()
    })
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// An app made of one Node script; `PORT` is in its environment.
pub(crate) fn app(kind: AppKind, folder: &str, start: &[&str]) -> AppPlan {
    AppPlan {
        kind,
        folder: folder.to_owned(),
        prepare: Vec::new(),
        start: Some(start.iter().map(|word| (*word).to_owned()).collect()),
        port: Some(free_port()),
        static_folders: Vec::new(),
        env_file: BTreeMap::new(),
    }
}

/// A seat before it is started.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) settings: SeatSettings,
}

impl World {
    pub(crate) fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("home/harbour");
        std::fs::create_dir_all(&work).unwrap();
        let settings = SeatSettings {
            seat: SeatId::new("ada").unwrap(),
            display_name: "Ada Lovelace".to_owned(),
            home: folder.path().join("home").display().to_string(),
            work: work.display().to_string(),
            apps: Vec::new(),
            environment: BTreeMap::new(),
            editor: Vec::new(),
            editor_environment: BTreeMap::new(),
            forwards: Vec::new(),
            watched: Vec::new(),
            first_file: None,
        };
        World { folder, settings }
    }

    /// Writes a file of the work folder.
    pub(crate) fn file(self, path: &str, text: &str) -> World {
        write(&self.work().join(path), text);
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut SeatSettings)) -> World {
        change(&mut self.settings);
        self
    }

    /// A back end made of one Node script.
    pub(crate) fn backend(self, script: &str) -> World {
        let node = node();
        self.file("server/index.js", script).with(|settings| {
            settings
                .apps
                .push(app(AppKind::Backend, "server", &[&node, "index.js"]))
        })
    }

    pub(crate) fn work(&self) -> PathBuf {
        PathBuf::from(&self.settings.work)
    }

    /// Starts the agent, and the apps as somebody's coming would.
    pub(crate) async fn start(self) -> Seat {
        let seat = self.start_asleep().await;
        for app in &seat.world.settings.apps {
            let kind = serde_json::to_value(app.kind).unwrap();
            seat.post(&format!("/apps/{}/restart", kind.as_str().unwrap()))
                .await;
        }
        seat
    }

    pub(crate) async fn start_asleep(self) -> Seat {
        let root = self.folder.path().to_owned();
        let places = Places {
            run: root.join("run"),
            services: root.join("svc"),
            executable: PathBuf::from("/nonexistent/arena"),
            prints_output: false,
        };
        let socket = root.join("seat.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let shutdown = CancellationToken::new();
        let agent = tokio::spawn(serve_at(
            self.settings.clone(),
            places,
            listener,
            shutdown.clone(),
        ));
        Seat {
            world: self,
            socket,
            shutdown,
            agent,
        }
    }
}

pub(crate) fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A seat whose agent runs.
pub(crate) struct Seat {
    pub(crate) world: World,
    pub(crate) socket: PathBuf,
    shutdown: CancellationToken,
    agent: JoinHandle<Result<(), ServeError>>,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn code(&self) -> &str {
        self.headers
            .get("x-arena-error")
            .map_or("", |code| code.to_str().unwrap())
    }
}

impl Seat {
    pub(crate) fn work(&self) -> PathBuf {
        self.world.work()
    }

    /// Sends a request as the gateway would.
    pub(crate) async fn send(&self, request: http::request::Builder) -> Response<Incoming> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection.with_upgrades());
        let request = request
            .header("host", "ada.1.invalid")
            .body(Empty::<Bytes>::new())
            .unwrap();
        within("an answer", sender.send_request(request))
            .await
            .unwrap()
    }

    pub(crate) async fn ask(&self, method: Method, surface: &str, path: &str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-arena-surface", surface);
        let response = self.send(request).await;
        let (parts, body) = response.into_parts();
        let body = within("a body", body.collect()).await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    pub(crate) async fn get(&self, surface: &str, path: &str) -> Answer {
        self.ask(Method::GET, surface, path).await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        self.ask(Method::POST, "agent", path).await
    }

    pub(crate) async fn health(&self) -> AgentHealth {
        serde_json::from_slice(&self.get("agent", "/health").await.body).unwrap()
    }

    /// Waits until the first app is in a state.
    pub(crate) async fn app_in(&self, phase: AppPhase) -> AgentHealth {
        let wanted = format!("an app that is {phase:?}");
        until(&wanted, async || {
            let health = self.health().await;
            (health.apps[0].state == phase).then_some(health)
        })
        .await
    }

    pub(crate) async fn events(&self) -> Events {
        let request = Request::get("/events").header("x-arena-surface", "agent");
        Events {
            body: self.send(request).await.into_body(),
            pending: Vec::new(),
        }
    }

    /// Opens a WebSocket and returns its raw bytes after the 101.
    pub(crate) async fn upgrade(
        &self,
        surface: &str,
        path: &str,
    ) -> Result<TokioIo<hyper::upgrade::Upgraded>, u16> {
        let request = Request::get(path)
            .header("x-arena-surface", surface)
            .header("x-forwarded-host", "ada--code.arena.localhost:8080")
            .header("origin", "http://ada--code.arena.localhost:8080")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let response = self.send(request).await;
        if response.status() != 101 {
            return Err(response.status().as_u16());
        }
        Ok(TokioIo::new(hyper::upgrade::on(response).await.unwrap()))
    }

    pub(crate) async fn stop(self) -> World {
        self.shutdown.cancel();
        within("the agent's end", self.agent)
            .await
            .unwrap()
            .unwrap();
        self.world
    }
}

/// The stream of events.
pub(crate) struct Events {
    body: Incoming,
    pending: Vec<u8>,
}

impl Events {
    pub(crate) async fn next(&mut self) -> AgentEvent {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            let frame = within("an event", self.body.frame())
                .await
                .unwrap()
                .unwrap();
            self.pending.extend_from_slice(frame.data_ref().unwrap());
        }
    }

    /// Skips events until one is wanted.
    pub(crate) async fn until<T>(&mut self, wanted: impl Fn(AgentEvent) -> Option<T>) -> T {
        // Beats come all the time, so the limit is on the whole.
        let search = async {
            loop {
                if let Some(found) = wanted(self.next().await) {
                    return found;
                }
            }
        };
        within("the event", search).await
    }

    pub(crate) async fn saved(&mut self) -> String {
        let saved = |event| match event {
            AgentEvent::Saved { path } => Some(path),
            _ => None,
        };
        self.until(saved).await
    }
}
