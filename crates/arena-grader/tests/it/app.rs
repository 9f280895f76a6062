//! A seat's app: a hand-made HTTP server on a unix socket, so that it can
//! answer what no decent server would.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arena_grader::{Grading, Limits, SeatAccess, grade};
use arena_workshop::check::parse;
use arena_workshop::{Exercise, ExerciseSlug, Problems, SeatId, SourceFile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// What the app was asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// How the app answers.
pub(crate) enum Reply {
    /// These bytes, then the end.
    Raw(Vec<u8>),
    /// These bytes, then this again and again, for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// Nothing, for ever.
    Silence,
}

pub(crate) fn json(status: u16, body: &str) -> Reply {
    Reply::Raw(format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

/// A running app.
pub(crate) struct App {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl App {
    pub(crate) fn start(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("seat.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, reply) = (Arc::clone(&asked), Arc::new(reply));
        let server = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&log), Arc::clone(&reply)));
            }
        });
        Self {
            folder,
            asked,
            server,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("seat.sock")
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn seat(&self) -> SeatAccess {
        SeatAccess {
            seat: SeatId::new("ada").unwrap(),
            socket: self.socket(),
            authority: "ada.1.invalid".to_owned(),
            mongodb: None,
            postgres: None,
            samples: Arc::default(),
            random_seed: 7,
        }
    }

    pub(crate) async fn grade(&self, checks: &str) -> Grading {
        grade(&exercise(checks), &self.seat(), &Limits::default()).await
    }

    /// The message of the first failed check; panics when all passed.
    pub(crate) async fn message(&self, checks: &str) -> String {
        first_message(self.grade(checks).await)
    }
}

pub(crate) fn first_message(grading: Grading) -> String {
    assert!(!grading.passed, "every check passed");
    grading
        .checks
        .into_iter()
        .find_map(|check| check.message)
        .unwrap()
}

async fn serve(
    mut stream: UnixStream,
    log: Arc<Mutex<Vec<Asked>>>,
    reply: Arc<impl Fn(&Asked) -> Reply>,
) {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            break (head, length);
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    while bytes.len() < length {
        stream.read_buf(&mut bytes).await.unwrap();
    }
    let mut words = head.split(' ');
    let asked = Asked {
        method: words.next().unwrap().to_owned(),
        path: words.next().unwrap().to_owned(),
        head: head.clone(),
        body: String::from_utf8(bytes).unwrap(),
    };
    let answer = reply(&asked);
    log.lock().unwrap().push(asked);
    match answer {
        Reply::Raw(bytes) => drop(stream.write_all(&bytes).await),
        Reply::Endless(head, more) => {
            let _ = stream.write_all(&head).await;
            while stream.write_all(&more).await.is_ok() {}
        }
        Reply::Silence => std::future::pending().await,
    }
}

/// An exercise with these checks (YAML below `checks:`).
pub(crate) fn exercise(checks: &str) -> Exercise {
    let text = format!("files: [server/src/lab/crud-1.lab.js]\nchecks:\n{checks}");
    let file = SourceFile::new("crud-1.yaml", text);
    let slug = ExerciseSlug::new("crud-1").unwrap();
    let mut problems = Problems::default();
    let Some(read) = parse(&file, &slug, &mut problems) else {
        panic!(
            "{}",
            problems.iter().map(ToString::to_string).collect::<String>()
        );
    };
    Exercise {
        slug,
        title: "Find".to_owned(),
        page: None,
        files: read.files,
        needs: read.needs,
        after: read.after,
        hints: read.hints,
        checks: read.checks,
        version: read.version,
    }
}
