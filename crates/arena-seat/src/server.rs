//! The one listener: accepts, and sends each request by its surface and path to
//! an app, the editor or the agent itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arena_workshop::plan::AppKind;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::agent::Agent;
use crate::proxy::{self, Upstream};
use crate::{apps, control, editor, statics};

/// Connections at a time; a browser with editor and app uses about twenty.
const CONNECTIONS: usize = 512;
/// Space for the head of a request.
const HEAD_BYTES: usize = 64 * 1024;

/// A body that is sent as it comes.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Makes a body of bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// Makes a short answer in plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(full(text.into() + "\n"));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Makes an answer of our own in place of an app's or the editor's, with its stable code.
pub(crate) fn refusal(
    status: StatusCode,
    code: &'static str,
    words: impl Into<String>,
) -> Response<Body> {
    let mut response = text(status, words);
    response
        .headers_mut()
        .insert("x-arena-error", HeaderValue::from_static(code));
    response
}

/// Accepts until shutdown.
pub(crate) async fn run(agent: Arc<Agent>, listener: UnixListener) -> &'static str {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Both branches may be dropped: no connection has been taken yet.
        let accepted = tokio::select! {
            () = agent.shutdown.cancelled() => return "listener",
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else {
            continue;
        };
        let inner = agent.clone();
        agent.spawn(async move {
            connection(inner, stream).await;
            drop(slot);
        });
    }
}

async fn accept(
    listener: &UnixListener,
    slots: &Arc<Semaphore>,
) -> Option<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(error = %error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(agent: Arc<Agent>, stream: UnixStream) {
    let service = service_fn(move |request| {
        let agent = agent.clone();
        async move { Ok::<_, Infallible>(answer(agent, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = served.await {
        // Usually a browser that has gone.
        tracing::debug!(error = %error, "a connection ended early");
    }
}

async fn answer(agent: Arc<Agent>, request: Request<Incoming>) -> Response<Body> {
    let surface = request
        .headers()
        .get("x-arena-surface")
        .map(HeaderValue::as_bytes);
    match surface {
        Some(b"apps") => app(agent, request).await,
        Some(b"editor") => {
            let upstream = Upstream::Editor(editor::socket(&agent));
            proxy::forward(agent, request, upstream).await
        }
        Some(b"agent") => control::answer(&agent, request).await,
        _ => refusal(
            StatusCode::MISDIRECTED_REQUEST,
            "no-route",
            "This is not a surface of a seat.",
        ),
    }
}

/// Finds the app by the first part of the path.
async fn app(agent: Arc<Agent>, mut request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    let first = path[1.min(path.len())..]
        .split('/')
        .next()
        .unwrap_or_default();
    let kind = match first {
        "app" => AppKind::Frontend,
        "backend" => AppKind::Backend,
        "react" => AppKind::React,
        "postgres" => AppKind::Postgres,
        _ => {
            return refusal(
                StatusCode::NOT_FOUND,
                "no-route",
                "There is nothing at this address of the seat.",
            );
        }
    };
    let prefix = first.len() + 1;
    if kind == AppKind::Frontend {
        return statics::answer(&agent, &request, prefix);
    }
    // The reference's ports, also for an app that the participant starts by hand.
    let port = match agent.apps.iter().position(|app| app.kind == kind) {
        Some(index) => {
            apps::awake(&agent, index).await;
            agent.apps[index].port
        }
        None => match kind {
            AppKind::Backend | AppKind::Frontend => 5000,
            AppKind::React => 3001,
            AppKind::Postgres => 5001,
        },
    };
    let rest = request
        .uri()
        .path_and_query()
        .map_or("/", |all| &all.as_str()[prefix..]);
    let target = if rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    let Ok(uri) = target.parse() else {
        return refusal(
            StatusCode::BAD_REQUEST,
            "no-route",
            "This address cannot be read.",
        );
    };
    *request.uri_mut() = uri;
    proxy::forward(agent, request, Upstream::App(kind, port)).await
}

/// Whether a method only reads.
pub(crate) fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}
