//! The agent's own API: what control and grader ask. Small JSON, one stream of
//! lines; see `health.rs` for their shape.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use tokio::sync::{broadcast, mpsc};

use crate::agent::Agent;
use crate::apps::{App, name};
use crate::editor::Order;
use crate::health::AgentEvent;
use crate::server::{Body, full, refusal, text};

const BEAT: Duration = Duration::from_secs(15);
const FILE_BYTES: u64 = 1024 * 1024;
const LOG_LINES: usize = 200;
/// A notice from the platform in the apps' output.
const NOTICE_CHARS: usize = 500;

/// Answers a request on the `agent` surface.
pub(crate) async fn answer(agent: &Arc<Agent>, request: Request<Incoming>) -> Response<Body> {
    let parts: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    let query = request.uri().query().unwrap_or_default();
    match (request.method().clone(), parts.as_slice()) {
        (Method::GET, ["health"]) => json(&agent.health_now()),
        (Method::GET, ["events"]) => events(agent),
        (Method::POST, ["editor", "wake"]) => {
            agent.apps.iter().for_each(App::wake);
            order(agent, Order::Wake)
        }
        (Method::POST, ["editor", "stop"]) => order(agent, Order::Stop),
        (Method::POST, ["apps", kind, "restart"]) => with_app(agent, kind, |app| {
            app.restart();
            text(StatusCode::ACCEPTED, "restarting")
        }),
        (Method::GET, ["apps", kind, "log"]) => with_app(agent, kind, |app| {
            let lines = parameter(query, "lines")
                .and_then(|lines| lines.parse().ok())
                .unwrap_or(LOG_LINES);
            text(StatusCode::OK, app.child.tail(lines).join("\n"))
        }),
        (Method::POST, ["notice"]) => {
            let said = parameter(query, "text").unwrap_or_default();
            let line: String = said
                .chars()
                .filter(|c| !c.is_control())
                .take(NOTICE_CHARS)
                .collect();
            for app in &agent.apps {
                app.child.note(&format!("— arena: {line} —"));
            }
            text(StatusCode::ACCEPTED, "shown")
        }
        (Method::GET, ["files"]) => file(
            agent,
            parameter(query, "path").as_deref().unwrap_or_default(),
        ),
        _ => refusal(
            StatusCode::NOT_FOUND,
            "no-route",
            "The agent has no such address.",
        ),
    }
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    let body = serde_json::to_vec(value).expect("plain values are always JSON");
    let mut response = Response::new(full(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

fn order(agent: &Agent, order: Order) -> Response<Body> {
    match agent.editor_orders.try_send(order) {
        Ok(()) => text(StatusCode::ACCEPTED, "accepted"),
        // Eight orders wait already, and all are the same two.
        Err(_) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the editor is busy with earlier orders",
        ),
    }
}

fn with_app(
    agent: &Agent,
    kind: &str,
    answer: impl FnOnce(&App) -> Response<Body>,
) -> Response<Body> {
    match agent.apps.iter().find(|app| name(app.kind) == kind) {
        Some(app) => answer(app),
        None => refusal(
            StatusCode::NOT_FOUND,
            "no-route",
            "This seat runs no such app.",
        ),
    }
}

/// Reads a file of the work folder.
fn file(agent: &Agent, path: &str) -> Response<Body> {
    match agent.work.read(path, FILE_BYTES) {
        Ok(bytes) => {
            let mut response = Response::new(full(bytes));
            let kind = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => text(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the file is larger than 1 MiB",
        ),
        Err(_) => text(StatusCode::NOT_FOUND, "no such file"),
    }
}

/// Returns the value of a query parameter, decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(key, _)| *key == name)?.1;
    percent(&value.replace('+', " "))
}

fn percent(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut parts = value.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Streams events to one reader: the whole health first, then what changes.
fn events(agent: &Arc<Agent>) -> Response<Body> {
    let (lines, body) = mpsc::channel(4);
    let inner = agent.clone();
    agent.spawn(async move {
        // Ends when the reader has gone.
        let _ = send_events(&inner, lines).await;
    });
    let mut response = Response::new(Lines(body).map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    response
}

async fn send_events(
    agent: &Agent,
    lines: mpsc::Sender<Bytes>,
) -> Result<(), mpsc::error::SendError<Bytes>> {
    let mut health = agent.health.subscribe();
    let mut events = agent.events.subscribe();
    health.mark_changed();
    loop {
        // All branches only wait; nothing is lost when one is dropped.
        let event = tokio::select! {
            biased;
            () = lines.closed() => return Ok(()),
            changed = health.changed() => match changed {
                Ok(()) => {
                    health.borrow_and_update();
                    AgentEvent::Health(agent.health_now())
                }
                Err(_) => return Ok(()),
            },
            event = events.recv() => match event {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(_)) => AgentEvent::Health(agent.health_now()),
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            () = tokio::time::sleep(BEAT) => AgentEvent::Beat,
        };
        lines.send(event.line()).await?;
    }
}

/// A body of lines as they come.
struct Lines(mpsc::Receiver<Bytes>);

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(context)
            .map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
