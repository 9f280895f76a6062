//! Passes a request on to an app or the editor, and a WebSocket with it. Apps
//! are written by strangers: their heads are limited, their claims to switch
//! protocols are believed only when somebody asked, and headers that mean
//! something to us are removed. Bodies stream; nothing is buffered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arena_workshop::plan::AppKind;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::agent::Agent;
use crate::health::EditorPhase;
use crate::server::{Body, refusal};

/// Reference: an app may think for an hour.
const ANSWER_LIMIT: Duration = Duration::from_secs(3600);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The head of an app's answer.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 100;

/// Headers that concern one connection only.
const HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Where a request goes.
pub(crate) enum Upstream {
    /// An app on a port of the seat's loopback.
    App(AppKind, u16),
    /// The editor on its socket.
    Editor(PathBuf),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Passes a request on and returns the answer.
pub(crate) async fn forward(
    agent: Arc<Agent>,
    mut request: Request<Incoming>,
    upstream: Upstream,
) -> Response<Body> {
    let stream = match timeout(CONNECT_LIMIT, connect(&upstream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) | Err(_) => return not_running(&agent, &upstream),
    };
    let wants_upgrade = asks_for_websocket(&request);
    let client = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    prepare(&mut request, &upstream, wants_upgrade);

    let builder = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .clone();
    let Ok((mut sender, connection)) = builder.handshake(TokioIo::new(stream)).await else {
        return bad_answer();
    };
    agent.spawn(async move { drop(connection.with_upgrades().await) });
    let mut response = match timeout(ANSWER_LIMIT, sender.send_request(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::debug!(error = %error, "an app's answer cannot be read");
            return bad_answer();
        }
        Err(_) => return bad_answer(),
    };

    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    match client {
        Some(client) if switching && says_websocket(response.headers()) => {
            let app = hyper::upgrade::on(&mut response);
            let counted = matches!(upstream, Upstream::Editor(_)).then(|| agent.count_connection());
            agent.spawn(async move {
                tunnel(client, app).await;
                drop(counted);
            });
            clean(response.headers_mut());
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            response
                .headers_mut()
                .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        // Nobody asked, or for something else: whoever believed it would read the app's bytes as
        // the next answer.
        _ if switching => return bad_answer(),
        _ => clean(response.headers_mut()),
    }
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

async fn connect(upstream: &Upstream) -> std::io::Result<Box<dyn Stream>> {
    match upstream {
        Upstream::Editor(socket) => Ok(Box::new(UnixStream::connect(socket).await?)),
        Upstream::App(_, port) => {
            let stream = match TcpStream::connect(("127.0.0.1", *port)).await {
                Ok(stream) => stream,
                // Node listens on ::1 when it is told `localhost`.
                Err(error) => TcpStream::connect(("::1", *port))
                    .await
                    .map_err(|_| error)?,
            };
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
    }
}

fn not_running(agent: &Agent, upstream: &Upstream) -> Response<Body> {
    match upstream {
        Upstream::Editor(_) => {
            let words = match agent.health.borrow().editor.state {
                EditorPhase::Failed => "The editor could not be started.",
                EditorPhase::Stopped => "The editor is not running.",
                EditorPhase::Starting | EditorPhase::Ready => "The editor is starting.",
            };
            refusal(StatusCode::SERVICE_UNAVAILABLE, "editor-not-ready", words)
        }
        Upstream::App(kind, port) => {
            if let Some(app) = agent.apps.iter().find(|app| app.kind == *kind) {
                app.poke();
            }
            let words = format!(
                "Nothing listens on port {port} of your seat: see the terminal named server."
            );
            refusal(StatusCode::BAD_GATEWAY, "app-not-running", words)
        }
    }
}

fn bad_answer() -> Response<Body> {
    let words = "The program behind this address did not answer in proper HTTP.";
    refusal(StatusCode::BAD_GATEWAY, "app-bad-answer", words)
}

fn asks_for_websocket(request: &Request<Incoming>) -> bool {
    let connection = request.headers().get_all(header::CONNECTION);
    let mut words = connection
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    request.method() == Method::GET
        && says_websocket(request.headers())
        && words.any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}

fn says_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Makes the request fit for its receiver.
fn prepare(request: &mut Request<Incoming>, upstream: &Upstream, wants_upgrade: bool) {
    let browser_host = request.headers().get("x-forwarded-host").cloned();
    let headers = request.headers_mut();
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|word| word.trim().parse().ok())
        .filter(|name| *name != header::UPGRADE)
        .collect();
    for name in named.iter().chain(&HOP) {
        headers.remove(name);
    }
    for name in [
        "x-arena-surface",
        "x-arena-principal",
        "x-arena-session",
        "forwarded",
        "keep-alive",
    ] {
        headers.remove(name);
    }
    let host = match upstream {
        Upstream::App(_, port) => HeaderValue::try_from(format!("localhost:{port}")).ok(),
        // The editor compares it with `Origin` when a WebSocket is opened.
        Upstream::Editor(_) => browser_host,
    };
    headers.insert(
        header::HOST,
        host.unwrap_or(HeaderValue::from_static("localhost")),
    );
    if wants_upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    *request.version_mut() = Version::HTTP_11;
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str())
        .parse();
    if let Ok(target) = target {
        *request.uri_mut() = target;
    }
}

/// Removes what an app must not say to the platform.
fn clean(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-arena-"))
        .cloned()
        .collect();
    for name in ours.iter().chain(&HOP) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// Carries bytes both ways until either side ends. A WebSocket is over when one side has gone;
/// waiting for the other to notice would leave programs that never do in the count.
async fn tunnel(client: hyper::upgrade::OnUpgrade, app: hyper::upgrade::OnUpgrade) {
    // Either may fail when its side has gone meanwhile.
    let (Ok(client), Ok(app)) = tokio::join!(client, app) else {
        return;
    };
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_app, mut to_app) = tokio::io::split(TokioIo::new(app));
    // What the ended side has sent is written by then; the other direction has no reader.
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_app) => {}
        _ = tokio::io::copy(&mut from_app, &mut to_client) => {}
    }
}
