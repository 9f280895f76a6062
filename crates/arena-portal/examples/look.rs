//! Serves a made-up event on a TCP port, to look at the pages: `look PORT [participant:ada]`.
//! Every request is taken as coming from that principal on the portal's host.

use std::sync::Arc;

use arena_portal::{DatabaseAccess, ExerciseEntry, Language, Prizes, Settings, StaticPage, serve};
use arena_store::{
    Actor, AppState, AppStatus, Attempt, CheckOutcome, DatabaseStatus, EditorStatus, SeatPhase,
    SeatSpec, SeatStatus, Store, Trigger,
};
use arena_workshop::plan::{Address, AppKind};
use arena_workshop::scoring::Scoring;
use arena_workshop::{EventId, ExerciseSlug, SeatId};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(8099);
    let principal = arguments.next();
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path().join("event.db"))?;
    fill(&store).await?;
    let socket = folder.path().join("portal.sock");
    let listener = UnixListener::bind(&socket)?;
    let portal = tokio::spawn(serve(
        settings(store, port)?,
        listener,
        CancellationToken::new(),
    ));
    let door = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (browser, _) = door.accept().await?;
        let (socket, principal) = (socket.clone(), principal.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request| forward(&socket, principal.as_deref(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(browser), answer)
                .await;
        });
        if portal.is_finished() {
            return Ok(portal.await??);
        }
    }
}

/// Does what the gateway does for one request.
async fn forward(
    socket: &std::path::Path,
    principal: Option<&str>,
    mut request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<hyper::body::Incoming>, Failure> {
    let headers = request.headers_mut();
    headers.insert("x-arena-surface", http::HeaderValue::from_static("portal"));
    headers.insert("x-arena-session", http::HeaderValue::from_static("5e55"));
    if let Some(principal) = principal {
        headers.insert("x-arena-principal", principal.parse()?);
    }
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request.map(BodyExt::boxed)).await?)
}

fn settings(store: Store, port: u16) -> Result<Settings, Failure> {
    let exercises = EXERCISES.iter().map(|(slug, title)| {
        Ok(ExerciseEntry {
            slug: ExerciseSlug::new(*slug)?,
            title: (*title).to_owned(),
            page: None,
            missing: Vec::new(),
        })
    });
    let page = StaticPage {
        content_type: "text/html".to_owned(),
        body: "<h1>Find a berth</h1>".into(),
        etag: "\"1\"".to_owned(),
    };
    Ok(Settings {
        event: EventId::new("harbour")?,
        title: "Harbour Stays".to_owned(),
        address: Address {
            scheme: "http".to_owned(),
            domain: "arena.localhost".to_owned(),
            port,
        },
        language: Language::English,
        exercises: exercises.collect::<Result<_, Failure>>()?,
        joins_by_code: true,
        scoring: Scoring::Timed,
        prizes: Some(Prizes {
            place: "at the stage".to_owned(),
            time: "17:00".to_owned(),
        }),
        app_path: Some("/app/".to_owned()),
        instructions_path: "/".to_owned(),
        is_separated: true,
        instructions: Arc::new(move |_| Some(page.clone())),
        databases: Arc::new(|seat| {
            vec![
                DatabaseAccess::Mongodb {
                    uri: format!(
                        "mongodb://{seat}:r7Kq@127.0.0.1:27017/{seat}?directConnection=true"
                    ),
                },
                DatabaseAccess::Postgres {
                    uri: format!("postgresql://{seat}:r7Kq@127.0.0.1:5432/{seat}"),
                    jdbc: format!(
                        "jdbc:postgresql://127.0.0.1:5432/{seat}?user={seat}&password=r7Kq"
                    ),
                },
            ]
        }),
        store,
    })
}

const EXERCISES: &[(&str, &str)] = &[
    ("find-1", "Find a berth"),
    ("find-2", "One page at a time"),
    ("index-1", "An index for the harbour"),
    ("group-1", "Prices by town"),
    ("sql-1", "Nights by month"),
    ("sql-2", "The best hosts"),
];

const PEOPLE: &[&str] = &[
    "Ada Lovelace",
    "Grace Hopper",
    "Edsger Dijkstra",
    "Barbara Liskov",
    "Katherine Johnson",
    "Donald Knuth",
    "Radia Perlman",
    "Zoë Ó Briain",
    "Wolfeschlegelsteinhausenbergerdorff von Hohenfels the Third",
    "李小龍",
];

#[expect(clippy::too_many_lines, reason = "one event, told in order")]
async fn fill(store: &Store) -> Result<(), Failure> {
    let mut specs = Vec::new();
    for name in PEOPLE {
        let id: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
        let seat = SeatId::new(if id.is_empty() {
            "li".to_owned()
        } else {
            id.to_lowercase()
        })?;
        specs.push(SeatSpec {
            seat,
            display_name: (*name).to_owned(),
            email: None,
            listed: true,
        });
    }
    for number in 0..3 {
        let seat = SeatId::new(format!("harbour-{number}"))?;
        specs.push(SeatSpec {
            display_name: seat.to_string(),
            seat,
            email: None,
            listed: false,
        });
    }
    store.sync_seats(specs.clone()).await?;
    for (index, spec) in specs.iter().take(8).enumerate() {
        store.take_listed(&spec.seat).await?;
        for (number, (slug, _)) in EXERCISES.iter().enumerate().take(7 - index.min(6)) {
            store
                .record_attempt(attempt(&spec.seat, slug, number + index < 6)?)
                .await?;
        }
        let failed = index == 3;
        let app = AppStatus {
            kind: AppKind::Backend,
            state: if failed {
                AppState::Failed
            } else {
                AppState::Ready
            },
            message: failed.then(|| {
                "SyntaxError: Unexpected token ')' in server/src/lab/find-2.lab.js:14".to_owned()
            }),
        };
        let editor = if index == 5 {
            EditorStatus::Queued { position: 2 }
        } else {
            EditorStatus::Ready
        };
        let editor = if index == 0 {
            EditorStatus::Starting
        } else {
            editor
        };
        let status = SeatStatus {
            run: Some(1),
            phase: SeatPhase::Ready,
            editor,
            apps: vec![app],
            database: DatabaseStatus::Ready,
            postgres_use: None,
            database_use: None,
            message: None,
        };
        store.set_status(&spec.seat, status).await?;
    }
    let grace = Actor::Facilitator("Grace".to_owned());
    store
        .set_excluded(&specs[6].seat, true, grace.clone())
        .await?;
    let soon = jiff::Timestamp::now().checked_add(jiff::SignedDuration::from_mins(14))?;
    Ok(store.set_close_on(Some(soon), grace).await?)
}

fn attempt(seat: &SeatId, slug: &str, passed: bool) -> Result<Attempt, Failure> {
    let message =
        "the answer had 20 stays, we expected 10: use limit() with the page size".to_owned();
    Ok(Attempt {
        seat: seat.clone(),
        exercise: ExerciseSlug::new(slug)?,
        version: String::new(),
        files_hash: String::new(),
        trigger: Trigger::Save,
        trial: false,
        passed,
        checks: vec![CheckOutcome {
            name: "returns one page".to_owned(),
            passed,
            message,
        }],
        started_at: jiff::Timestamp::now(),
        duration: std::time::Duration::from_millis(120),
    })
}
