//! Requests to a seat's apps, through the seat's listener. The answer is the
//! participant's: its time, size and depth are bounded, no redirect is followed.

use std::time::Duration;

use arena_workshop::check::placeholder::{Piece, pieces};
use arena_workshop::check::{RequestContent, RequestStep, Template};
use arena_workshop::plan::AppKind;
use bson::{Bson, Document};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::session::{Session, StepFailure};
use crate::values::{NOTHING, Values, from_json, plain_text, to_json};
use crate::{Limits, SeatAccess, show};

/// Which part of the agent a request is for.
const SURFACE: HeaderName = HeaderName::from_static("x-arena-surface");

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Document,
    pub(crate) bytes: Bytes,
}

/// Sends a check's request and returns `{status, headers, body}`.
pub(crate) async fn send(
    session: &Session<'_>,
    step: &RequestStep,
    values: &Values,
) -> Result<Document, StepFailure> {
    let app = App::of(step.to);
    let request = build(session.seat, step, &app, values)?;
    let answer = exchange(session.seat, request, session.limits, &app).await?;
    // The agent says by a header that an answer is its own; an app's own 502 is the app's answer.
    match answer.headers.get_str("x-arena-error") {
        Ok("app-bad-answer") => return Err(app.broke_off()),
        Ok(_) => return Err(app.is_not_running()),
        Err(_) => {}
    }
    let mut document = Document::new();
    document.insert("status", i32::from(answer.status.as_u16()));
    document.insert("headers", answer.headers);
    document.insert(
        "body",
        body(&answer.bytes, session.limits.json_depth, &app)?,
    );
    Ok(document)
}

/// Asks the agent itself, not an app.
pub(crate) async fn ask_agent(
    seat: &SeatAccess,
    path: &str,
    limits: &Limits,
) -> Result<Answer, StepFailure> {
    let request = Request::get(path)
        .header(HOST, &seat.authority)
        .header(SURFACE, "agent")
        .body(Full::new(Bytes::new()))
        .map_err(|_| StepFailure::new(format!("cannot ask for {}", show::harmless(path))))?;
    exchange(
        seat,
        request,
        limits,
        &App {
            noun: "seat",
            terminal: "server",
            prefix: "",
        },
    )
    .await
}

/// How an app is called and reached.
struct App {
    noun: &'static str,
    terminal: &'static str,
    prefix: &'static str,
}

impl App {
    fn of(kind: AppKind) -> Self {
        match kind {
            AppKind::Backend => Self {
                noun: "back end",
                terminal: "server",
                prefix: "/backend",
            },
            AppKind::Frontend => Self {
                noun: "front end",
                terminal: "app",
                prefix: "/app",
            },
            AppKind::React => Self {
                noun: "React app",
                terminal: "react",
                prefix: "/react",
            },
            AppKind::Postgres => Self {
                noun: "PostgreSQL app",
                terminal: "postgres",
                prefix: "/postgres",
            },
        }
    }

    fn is_not_running(&self) -> StepFailure {
        StepFailure::new(format!(
            "your {} is not running: see the terminal named {}",
            self.noun, self.terminal
        ))
    }

    fn broke_off(&self) -> StepFailure {
        StepFailure::new(format!(
            "your {} broke off its answer: see the terminal named {}",
            self.noun, self.terminal
        ))
    }
}

fn build(
    seat: &SeatAccess,
    step: &RequestStep,
    app: &App,
    values: &Values,
) -> Result<Request<Full<Bytes>>, StepFailure> {
    let mut path = format!("{}{}", app.prefix, encoded_path(&step.path, values));
    if !step.query.is_empty() {
        let separator = if path.contains('?') { '&' } else { '?' };
        path = format!("{path}{separator}{}", pairs(&step.query, values));
    }
    let (content_type, content) = match &step.content {
        RequestContent::Empty => (None, Bytes::new()),
        RequestContent::Json(template) => {
            let json = values
                .fill(template)
                .map_or(serde_json::Value::Null, |value| to_json(&value));
            (Some("application/json"), Bytes::from(json.to_string()))
        }
        RequestContent::Form(fields) => (
            Some("application/x-www-form-urlencoded"),
            Bytes::from(pairs(fields, values)),
        ),
    };
    let wrong = |error: http::Error| {
        StepFailure::new(format!("this check's request cannot be sent: {error}"))
    };
    let method = Method::from_bytes(step.method.as_bytes()).map_err(|error| wrong(error.into()))?;
    let mut request = Request::builder().method(method).uri(path);
    for (name, text) in &step.headers {
        let text = values.text(text, |value| plain_text(&value));
        request = request.header(
            name,
            HeaderValue::from_bytes(text.as_bytes()).map_err(|error| wrong(error.into()))?,
        );
    }
    if let Some(content_type) = content_type {
        request = request.header(CONTENT_TYPE, content_type);
    }
    // Last, so that a check cannot replace them.
    let request = request
        .header(HOST, &seat.authority)
        .header(SURFACE, "apps");
    request.body(Full::new(content)).map_err(wrong)
}

/// Fills a path in: values are percent-encoded, and so is what no path may hold.
fn encoded_path(path: &str, values: &Values) -> String {
    let keep = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte);
    let encode = |text: &str, keep: &dyn Fn(u8) -> bool| {
        let bytes = text.bytes().map(|byte| {
            if keep(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        });
        bytes.collect::<String>()
    };
    let Ok(pieces) = pieces(path) else {
        return encode(path, &keep);
    };
    let filled = pieces.into_iter().map(|piece| match piece {
        Piece::Text(text) => encode(&text, &keep),
        Piece::Value(reference) => {
            let text = values
                .get(&reference)
                .map_or_else(|| NOTHING.to_owned(), |value| plain_text(&value));
            byte_serialize(text.as_bytes())
                .collect::<String>()
                .replace('+', "%20")
        }
    });
    filled.collect()
}

fn pairs(fields: &std::collections::BTreeMap<String, Template>, values: &Values) -> String {
    let mut serializer = Serializer::new(String::new());
    for (key, template) in fields {
        let text = values
            .fill(template)
            .map_or_else(|| NOTHING.to_owned(), |value| plain_text(&value));
        serializer.append_pair(key, &text);
    }
    serializer.finish()
}

/// Sends one request on its own connection and reads the whole answer.
async fn exchange(
    seat: &SeatAccess,
    request: Request<Full<Bytes>>,
    limits: &Limits,
    app: &App,
) -> Result<Answer, StepFailure> {
    let exchange = async {
        let stream = UnixStream::connect(&seat.socket)
            .await
            .map_err(|_| seat_is_away())?;
        let handshake = hyper::client::conn::http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|_| app.broke_off())?;
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|_| app.broke_off())?;
            read(response, limits.answer_bytes, app).await
        };
        // The connection only moves bytes for the answer; when the answer is whole (or refused)
        // it is dropped, and with it whatever the app still wants to send.
        tokio::pin!(connection);
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // After its end everything received is in the answer's hands already.
            _ = &mut connection => answer.await,
        }
    };
    match tokio::time::timeout(limits.request, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(StepFailure::new(format!(
            "your {} did not answer within {}: is there a request that it never answers, or a loop?",
            app.noun,
            seconds(limits.request)
        ))),
    }
}

fn seat_is_away() -> StepFailure {
    StepFailure::new("your seat is not running: wait a moment and try again, or ask a facilitator")
}

/// Writes a time limit.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

async fn read(
    response: Response<Incoming>,
    bytes_max: usize,
    app: &App,
) -> Result<Answer, StepFailure> {
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| app.broke_off())?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > bytes_max {
            return Err(StepFailure::new(format!(
                "your {} answered with more than {} kB: does the query have a limit?",
                app.noun,
                bytes_max / 1024
            )));
        }
        bytes.extend_from_slice(&data);
    }
    let headers = head.headers.iter().map(|(name, value)| {
        (
            name.as_str().to_owned(),
            Bson::String(String::from_utf8_lossy(value.as_bytes()).into_owned()),
        )
    });
    Ok(Answer {
        status: head.status,
        headers: headers.collect(),
        bytes: bytes.into(),
    })
}

/// Reads a body: JSON when it is JSON, else text.
fn body(bytes: &[u8], depth_max: usize, app: &App) -> Result<Bson, StepFailure> {
    let looks_like_json = bytes
        .trim_ascii_start()
        .first()
        .is_some_and(|first| b"{[\"-0123456789tfn".contains(first));
    if looks_like_json && depth(bytes) > depth_max {
        return Err(StepFailure::new(format!(
            "your {} answered with JSON nested deeper than {depth_max} levels",
            app.noun
        )));
    }
    let json = serde_json::from_slice(bytes)
        .ok()
        .filter(|_| looks_like_json);
    Ok(json.map_or_else(
        || Bson::String(String::from_utf8_lossy(bytes).into_owned()),
        |json| from_json(&json),
    ))
}

/// Counts the levels of a JSON text before anything recursive reads it.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
