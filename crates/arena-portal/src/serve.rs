//! Routes, and what every answer gets: the portal's host, the instructions'
//! host, and `/_arena/` on all hosts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::board::{self, Board};
use crate::caller::{Caller, Surface};
use crate::limits::Guesses;
use crate::problem::{Code, Problem};
use crate::settings::Settings;
use crate::texts::Texts;
use crate::{api, assets, guard, instructions, live, pages, state};

/// Largest body of a request; the largest form is a name and an e-mail.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Time for running requests after the shutdown was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// Where the portal listens. Only the gateway may be able to connect: the portal believes it.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// A TCP address.
    Tcp(TcpListener),
}

/// A portal that ended before it was told to.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The listener broke.
    #[error("cannot go on accepting connections for the portal")]
    Accept(#[source] std::io::Error),
    /// A part of it panicked.
    #[error("the portal's {0} ended by a panic")]
    Panicked(&'static str),
}

/// What all requests share.
pub(crate) struct App {
    pub(crate) settings: Settings,
    pub(crate) texts: Texts,
    pub(crate) board: watch::Receiver<Arc<Board>>,
    pub(crate) guesses: Guesses,
    /// Connection tests, which cost like wrong guesses.
    pub(crate) reports: Guesses,
    /// Streams to browsers.
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    /// In the addresses of style and scripts.
    pub(crate) assets: String,
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl Listener {
    /// Returns the TCP address, where it is one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(listener) => listener.local_addr().ok(),
        }
    }
}

/// Serves the portal until `shutdown`, then lets running requests end for a few seconds.
///
/// # Errors
/// When accepting connections fails for good, or a part panics.
///
/// # Cancellation
/// Dropping it cuts every connection; the store loses nothing acknowledged.
pub async fn serve(
    settings: Settings,
    listener: impl Into<Listener>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let stop = shutdown.child_token();
    // Whatever ends this function ends its tasks.
    let _stop_tasks = stop.clone().drop_guard();
    let (boards, board) = watch::channel(Arc::new(Board::of(&settings, Timestamp::now())));
    let keeper = tokio::spawn(board::keep(settings.clone(), boards, stop.clone()));
    let app = Arc::new(App {
        texts: Texts::of(settings.language),
        settings,
        board,
        guesses: Guesses::default(),
        reports: Guesses::default(),
        tasks: TaskTracker::new(),
        shutdown: stop.clone(),
        assets: assets::version(),
    });
    let router = Router::new()
        .fallback(dispatch)
        .with_state(Doors::new(&app));
    let told = stop.clone().cancelled_owned();
    let serving = async {
        match listener.into() {
            Listener::Unix(listener) => {
                axum::serve(listener, router)
                    .with_graceful_shutdown(told)
                    .await
            }
            Listener::Tcp(listener) => {
                axum::serve(listener, router)
                    .with_graceful_shutdown(told)
                    .await
            }
        }
    };
    let grace = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    // After the grace period the connections that are left may be cut; a keeper only ends early
    // by a panic, or with the store.
    tokio::select! {
        ended = serving => ended.map_err(ServeError::Accept)?,
        () = grace => tracing::warn!("cut connections that did not end in time"),
        ended = keeper => {
            ended.map_err(|_| ServeError::Panicked("board"))?;
            tracing::debug!("the board has stopped");
        }
    }
    app.tasks.close();
    stop.cancel();
    app.tasks.wait().await;
    Ok(())
}

/// One router per kind of host.
#[derive(Clone)]
struct Doors {
    app: Arc<App>,
    portal: Router,
    instructions: Router,
    seat: Router,
}

impl Doors {
    fn new(app: &Arc<App>) -> Self {
        let common = Router::new()
            .route("/_arena/events", get(live::events))
            .route("/_arena/state", get(state::show))
            .route("/_arena/check", post(state::check))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
        let missing = || async { Problem::new(Code::NotFound) };
        let portal = pages::router()
            .nest("/api", api::router())
            .nest("/backend/api", api::router())
            .route("/_assets/{version}/{name}", get(assets::show))
            .route("/health", get(|| async { "ok" }))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
        Self {
            portal: portal
                .merge(common.clone())
                .fallback(missing)
                .with_state(Arc::clone(app)),
            instructions: common
                .clone()
                .fallback(get(instructions::show))
                .with_state(Arc::clone(app)),
            seat: common.fallback(missing).with_state(Arc::clone(app)),
            app: Arc::clone(app),
        }
    }
}

async fn dispatch(State(doors): State<Doors>, request: Request) -> Response {
    let Doors {
        app,
        mut portal,
        mut instructions,
        mut seat,
    } = doors;
    let caller = Caller::of(request.headers(), &app);
    let path = request.uri().path();
    let is_api = ["/api/", "/backend/api/", "/_arena/", "/_assets/"]
        .iter()
        .any(|start| path.starts_with(start));
    let accepts = request
        .headers()
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    let wants_page = !is_api && accepts.contains("text/html");
    let surface = Surface::of(request.headers());
    let mut response = match surface {
        None => Problem::new(Code::UnknownHost).into_response(),
        _ if !guard::may_change(
            request.method(),
            request.headers(),
            &own_origins(&app, request.headers()),
        ) =>
        {
            Problem::new(Code::ForeignOrigin).into_response()
        }
        Some(Surface::Portal) => match main_host(&app, &request, wants_page) {
            Some(elsewhere) => (StatusCode::SEE_OTHER, [(LOCATION, elsewhere)]).into_response(),
            None => call(&mut portal, request).await,
        },
        Some(Surface::Instructions) => call(&mut instructions, request).await,
        Some(Surface::Seat) => call(&mut seat, request).await,
    };
    if let Some(problem) = response.extensions().get::<Problem>().cloned()
        && wants_page
    {
        response = pages::problem(&app, &caller, &problem);
    }
    secure(&app, &caller, surface, response.headers_mut());
    response
}

async fn call(router: &mut Router, request: Request) -> Response {
    // A router is always ready and never fails.
    match router.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Returns the origin that the browser used. The gateway has checked the host.
fn own_origins(app: &App, headers: &HeaderMap) -> Vec<String> {
    let forwarded = headers
        .get("x-forwarded-host")
        .or_else(|| headers.get(HOST))
        .and_then(|host| host.to_str().ok());
    let host = forwarded.unwrap_or(&app.settings.address.domain);
    vec![format!("{}://{host}", app.settings.address.scheme)]
}

/// Returns where a page really is when it was asked for on `www.`, `portal.` or `participants.`:
/// sessions live on the main host only.
fn main_host(app: &App, request: &Request, wants_page: bool) -> Option<String> {
    let forwarded = request.headers().get("x-forwarded-host")?.to_str().ok()?;
    let host = forwarded.split(':').next().unwrap_or(forwarded);
    let settings = &app.settings;
    if !wants_page || request.method() != Method::GET || host == settings.address.domain {
        return None;
    }
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let path = if host.starts_with("participants.") && path == "/" {
        "/participants"
    } else {
        path
    };
    Some(format!("{}{path}", settings.portal_origin()))
}

/// Returns what a page of the portal may do; `also` names origins that its scripts may ask besides.
pub(crate) fn policy(app: &App, caller: &Caller, also: &str) -> String {
    let settings = &app.settings;
    let editor = caller
        .seat()
        .map(|seat| settings.editor_origin(seat))
        .unwrap_or_default();
    // `'self'`: a frame without a session comes by the hand-over on this host; no page of ours can be framed.
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' {also}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; frame-src 'self' {} {editor}",
        settings.instructions_origin()
    )
}

/// Sets the headers that every answer has.
fn secure(app: &App, caller: &Caller, surface: Option<Surface>, headers: &mut HeaderMap) {
    let settings = &app.settings;
    let policy = if surface == Some(Surface::Instructions) {
        // Authors' pages bring styles and pictures; their scripts come from the site itself.
        format!(
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: https:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self' {}",
            settings.portal_origin()
        )
    } else {
        policy(app, caller, "")
    };
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.entry(name).or_insert(value);
        }
    };
    set(CONTENT_SECURITY_POLICY, &policy);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "same-origin");
    set(CACHE_CONTROL, "no-store");
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    );
}
