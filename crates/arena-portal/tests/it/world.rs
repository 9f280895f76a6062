//! A portal to ask, and how to ask it.

use std::sync::Arc;
use std::time::Duration;

use arena_portal::{
    DatabaseAccess, ExerciseEntry, Language, ServeError, Settings, StaticPage, serve,
};
use arena_store::{Attempt, CheckOutcome, SeatSpec, Store, Trigger};
use arena_workshop::plan::Address;
use arena_workshop::scoring::Scoring;
use arena_workshop::{EventId, ExerciseSlug, SeatId};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
    folder: TempDir,
}

/// A request in the making.
pub(crate) struct Ask {
    socket: std::path::PathBuf,
    request: http::request::Builder,
    surface: &'static str,
    body: String,
}

/// A whole answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// An answer that goes on.
pub(crate) struct Stream {
    body: Incoming,
    buffer: String,
}

impl World {
    /// Two people on the list (`ada`, `bob`), two free seats, three exercises and one (`search-1`) that
    /// this event lacks the database for, timed.
    pub(crate) async fn new() -> Self {
        Self::with(Scoring::Timed).await
    }

    pub(crate) async fn with(scoring: Scoring) -> Self {
        Self::at(scoring, 8080).await
    }

    /// An event whose hosts are served at that port of the loopback.
    pub(crate) async fn at(scoring: Scoring, port: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path().join("event.db")).unwrap();
        let spec = |id: &str, name: &str, listed: bool| SeatSpec {
            seat: seat(id),
            display_name: name.to_owned(),
            email: listed.then(|| format!("{id}@example.com")),
            listed,
        };
        let specs = [
            ("ada", "Ada", true),
            ("bob", "Bob", true),
            ("free-0", "free-0", false),
            ("free-1", "free-1", false),
        ];
        store
            .sync_seats(
                specs
                    .map(|(id, name, listed)| spec(id, name, listed))
                    .to_vec(),
            )
            .await
            .unwrap();
        let listener = UnixListener::bind(folder.path().join("portal.sock")).unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(
            settings(store.clone(), scoring, port),
            listener,
            shutdown.clone(),
        ));
        Self {
            store,
            shutdown,
            serving,
            folder,
        }
    }

    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("portal.sock")
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> Ask {
        let request = Request::builder().method(method).uri(path);
        let socket = self.socket();
        let ask = Ask {
            socket,
            request,
            surface: "portal",
            body: String::new(),
        };
        ask.header("x-forwarded-for", "10.0.0.1")
            .header("x-forwarded-host", "arena.localhost:8080")
    }

    pub(crate) fn get(&self, path: &str) -> Ask {
        self.ask(Method::GET, path).header("accept", "text/html")
    }

    /// A form as a browser sends it.
    pub(crate) fn post(&self, path: &str, fields: &[(&str, &str)]) -> Ask {
        let body: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        let mut ask = self.ask(Method::POST, path);
        ask.body = body.join("&");
        ask.header("accept", "text/html")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin")
    }

    pub(crate) fn json(&self, path: &str, body: &serde_json::Value) -> Ask {
        let mut ask = self.ask(Method::POST, path);
        ask.body = body.to_string();
        ask.header("content-type", "application/json")
            .header("sec-fetch-site", "same-origin")
    }

    pub(crate) fn link(&self, id: &str) -> String {
        format!("/join/{}", self.store.link_token(&seat(id)).unwrap())
    }

    /// Joins by the personal link and returns the answer to the button.
    pub(crate) async fn join(&self, id: &str) -> Reply {
        let page = self.get(&self.link(id)).await_page().await;
        self.post(&self.link(id), &[("csrf", &page.csrf())])
            .send()
            .await
    }

    pub(crate) async fn solve(&self, id: &str, exercise: &str) {
        self.store
            .record_attempt(attempt(id, exercise, true))
            .await
            .unwrap();
    }

    /// Waits until the answer holds the text.
    pub(crate) async fn until(&self, ask: impl Fn(&Self) -> Ask, text: &str) -> Reply {
        let waited = async {
            loop {
                let reply = ask(self).send().await;
                if reply.body.contains(text) {
                    return reply;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, waited)
            .await
            .expect("the answer comes to hold the text")
    }
}

impl Ask {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn replace_host(mut self, host: &str) -> Self {
        if let Some(headers) = self.request.headers_mut() {
            headers.insert("x-forwarded-host", host.parse().unwrap());
        }
        self
    }

    pub(crate) fn at_address(mut self, address: &str) -> Self {
        if let Some(headers) = self.request.headers_mut() {
            headers.insert("x-forwarded-for", address.parse().unwrap());
        }
        self
    }

    pub(crate) fn surface(mut self, surface: &'static str) -> Self {
        self.surface = surface;
        self
    }

    pub(crate) fn participant(self, id: &str) -> Self {
        self.header("x-arena-principal", &format!("participant:{id}"))
            .header("x-arena-session", &format!("5e55{id}"))
    }

    pub(crate) fn facilitator(self) -> Self {
        self.header("x-arena-principal", "facilitator:Gr%C3%A1inne")
            .header("x-arena-session", "fac1")
    }

    async fn start(self) -> http::Response<Incoming> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = self
            .request
            .header("host", "portal.invalid")
            .header("x-arena-surface", self.surface);
        sender
            .send_request(request.body(Full::new(Bytes::from(self.body))).unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn send(self) -> Reply {
        let (parts, body) = tokio::time::timeout(LIMIT, self.start())
            .await
            .unwrap()
            .into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    /// Sends, and checks what every page has.
    pub(crate) async fn await_page(self) -> Reply {
        let reply = self.send().await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        let policy = reply.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(
            !reply.body.contains("<style")
                && !reply.body.contains(" style=")
                && !reply.body.contains("<script>")
        );
        assert!(!reply.body.contains(" on") || !reply.body.contains("onclick="));
        reply
    }

    pub(crate) async fn stream(self) -> Stream {
        let response = self.start().await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Stream {
            body: response.into_body(),
            buffer: String::new(),
        }
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    /// The first form token of the page.
    pub(crate) fn csrf(&self) -> String {
        let (_, rest) = self
            .body
            .split_once("name=\"csrf\" value=\"")
            .expect("the page has a form");
        rest.split('"').next().unwrap().to_owned()
    }

    pub(crate) fn assert(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }
}

impl Stream {
    /// Returns id, name and data of the next event; beats are skipped. `None`: the stream ended.
    pub(crate) async fn next(&mut self) -> Option<(i64, String, serde_json::Value)> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let lines: Vec<(String, String)> = event
                    .lines()
                    .filter_map(|line| {
                        line.split_once(": ")
                            .map(|(a, b)| (a.to_owned(), b.to_owned()))
                    })
                    .collect();
                self.buffer = rest.to_owned();
                let field = |name: &str| {
                    lines
                        .iter()
                        .find(|(field, _)| field == name)
                        .map(|(_, value)| value.clone())
                };
                if let Some(name) = field("event") {
                    let data = serde_json::from_str(&field("data").unwrap()).unwrap();
                    return Some((field("id").unwrap().parse().unwrap(), name, data));
                }
                continue;
            }
            let frame = tokio::time::timeout(LIMIT, self.body.frame())
                .await
                .expect("something comes")?;
            let Ok(frame) = frame else { return None };
            self.buffer
                .push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    /// Returns the next event of that name for which the condition holds.
    pub(crate) async fn find(
        &mut self,
        name: &str,
        holds: impl Fn(&serde_json::Value) -> bool,
    ) -> (i64, serde_json::Value) {
        let found = async {
            loop {
                let (id, found, data) = self.next().await.expect("the stream goes on");
                if found == name && holds(&data) {
                    return (id, data);
                }
            }
        };
        tokio::time::timeout(LIMIT, found)
            .await
            .expect("the event comes")
    }
}

pub(crate) fn seat(id: &str) -> SeatId {
    SeatId::new(id).unwrap()
}

pub(crate) fn slug(id: &str) -> ExerciseSlug {
    ExerciseSlug::new(id).unwrap()
}

pub(crate) fn attempt(id: &str, exercise: &str, passed: bool) -> Attempt {
    Attempt {
        seat: seat(id),
        exercise: slug(exercise),
        version: "v".to_owned(),
        files_hash: "h".to_owned(),
        trigger: Trigger::Save,
        trial: false,
        passed,
        checks: vec![CheckOutcome {
            name: "returns it".to_owned(),
            passed,
            message: "expected 10 stays".to_owned(),
        }],
        started_at: jiff::Timestamp::now(),
        duration: Duration::from_millis(20),
    }
}

fn settings(store: Store, scoring: Scoring, port: u16) -> Settings {
    let exercise = |id: &str| ExerciseEntry {
        slug: slug(id),
        title: format!("Exercise {id}"),
        page: None,
        missing: Vec::new(),
    };
    let page = StaticPage {
        content_type: "text/html; charset=utf-8".to_owned(),
        body: "<h1>Crud</h1>".into(),
        etag: "\"tag\"".to_owned(),
    };
    Settings {
        event: EventId::new("harbour").unwrap(),
        title: "Harbour".to_owned(),
        address: Address {
            scheme: "http".to_owned(),
            domain: "arena.localhost".to_owned(),
            port,
        },
        language: Language::English,
        exercises: ["crud-1", "crud-2", "sql-1"]
            .map(exercise)
            .into_iter()
            .chain([ExerciseEntry {
                missing: vec!["Atlas Search".to_owned()],
                ..exercise("search-1")
            }])
            .collect(),
        joins_by_code: true,
        scoring,
        prizes: None,
        app_path: Some("/app/".to_owned()),
        instructions_path: "/".to_owned(),
        is_separated: true,
        instructions: Arc::new(move |path| (path == "/crud/1/").then(|| page.clone())),
        databases: Arc::new(|seat| {
            vec![
                DatabaseAccess::Mongodb {
                    uri: format!(
                        "mongodb://{seat}:secret-of-{seat}@127.0.0.1:27017/{seat}?directConnection=true"
                    ),
                },
                DatabaseAccess::Postgres {
                    uri: format!("postgresql://{seat}:secret-of-{seat}@127.0.0.1:5432/{seat}"),
                    jdbc: format!(
                        "jdbc:postgresql://127.0.0.1:5432/{seat}?user={seat}&password=secret-of-{seat}"
                    ),
                },
            ]
        }),
        store,
    }
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
