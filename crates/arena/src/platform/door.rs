//! The platform's own small door for the command line: HTTP over a unix
//! socket in the runtime folder, which only the platform's user can open.
//! `status`, `logs` and `down` use it; nothing in a seat can reach it.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use arena_store::{Actor, EditorStatus, Order, OrderKind, OrderState, SeatRecord, Store};
use arena_supervisor::{Child, State, Supervisor};
use arena_workshop::SeatId;
use arena_workshop::participants::Seat;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::platform::list::{self, Changed};
use crate::platform::logins::Logins;

/// A status of 5,000 seats is about 2 MiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The platform answers from memory; longer means that it hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A list of names may bring many seats, which are made one after the other.
const LIST_TIMEOUT: Duration = Duration::from_secs(600);

/// What `arena status` shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EventStatus {
    /// The event's id.
    pub(crate) event: String,
    /// Shown to people.
    pub(crate) title: String,
    /// The portal's address.
    pub(crate) address: String,
    /// Process id of the platform.
    pub(crate) pid: u32,
    /// `starting`, `open`, `stopping`.
    pub(crate) phase: String,
    /// Platform services.
    pub(crate) services: Vec<ServiceStatus>,
    /// Seats in order.
    pub(crate) seats: Vec<SeatLine>,
    /// Exercises of the workshop.
    pub(crate) exercises: usize,
}

/// A platform service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServiceStatus {
    /// Such as `engine`.
    pub(crate) name: String,
    /// `ready`, `starting`, `failed`.
    pub(crate) state: String,
    /// What a person should know.
    pub(crate) message: Option<String>,
    /// What to do about it, where somebody must act.
    pub(crate) hint: Option<String>,
}

/// A seat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SeatLine {
    /// The seat's id.
    pub(crate) seat: String,
    /// Who sits there.
    pub(crate) name: Option<String>,
    /// `preparing`, `ready`, `failed`, `stopped`.
    pub(crate) phase: String,
    /// Editor's state.
    pub(crate) editor: String,
    /// Apps' states, such as `backend ready`.
    pub(crate) apps: String,
    /// Exercises solved.
    pub(crate) solved: usize,
    /// What a person should know.
    pub(crate) message: Option<String>,
    /// What to do about it, where somebody must act.
    pub(crate) hint: Option<String>,
}

/// What `arena restore` and `arena rotate` ask for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OrderRequest {
    /// Seats by id; empty for all.
    pub(crate) seats: Vec<String>,
    /// What to do with their databases.
    pub(crate) action: DatabaseAction,
}

/// What the command line can have done with a seat's databases.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DatabaseAction {
    /// Put them back to their start.
    Restore,
    /// Bring back what the last restore kept.
    BringBack,
    /// Give them a new password.
    Rotate,
}

/// How far an order is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OrderLine {
    /// Its number.
    pub(crate) id: i64,
    /// The seat.
    pub(crate) seat: String,
    /// `waits`, `runs`, `done`, `failed`.
    pub(crate) state: String,
    /// What came of it.
    pub(crate) message: Option<String>,
}

impl OrderLine {
    fn of(order: &Order) -> Self {
        let (state, message) = match &order.state {
            OrderState::Pending => ("waits", None),
            OrderState::Running => ("runs", None),
            OrderState::Done(text) => ("done", Some(text.clone())),
            OrderState::Failed(text) => ("failed", Some(text.clone())),
        };
        Self {
            id: order.id,
            seat: order.kind.seat().to_string(),
            state: state.to_owned(),
            message,
        }
    }
}

/// What the door tells, and what it can do.
pub(crate) struct Keeper {
    /// Who knows the plan that runs.
    pub(crate) logins: Logins,
    /// Where a changed list of names is applied.
    pub(crate) list: mpsc::Sender<list::Asked>,
    /// Exercises of the scenario.
    pub(crate) exercises: usize,
    /// Seats and results.
    pub(crate) store: Store,
    /// Child processes.
    pub(crate) supervisor: Arc<Supervisor>,
    /// Cancelled to end the event.
    pub(crate) stop: CancellationToken,
}

impl Keeper {
    fn status(&self) -> EventStatus {
        let plan = self.logins.plan();
        let services = self
            .supervisor
            .children()
            .into_iter()
            .filter(|child| !child.name().starts_with("seat-"));
        EventStatus {
            event: plan.event.to_string(),
            title: plan.title.clone(),
            address: plan.address.origin(&plan.address.domain),
            pid: std::process::id(),
            phase: if self.stop.is_cancelled() {
                "stopping"
            } else {
                "open"
            }
            .to_owned(),
            services: services.map(|child| service_status(&child)).collect(),
            seats: self
                .store
                .seats()
                .iter()
                .filter(|seat| !seat.decommissioned)
                .map(|seat| self.seat_line(seat))
                .collect(),
            exercises: self.exercises,
        }
    }

    /// Places orders; a message for the person where a seat does not exist.
    async fn order(&self, request: OrderRequest) -> Result<Vec<OrderLine>, String> {
        let plan = self.logins.plan();
        let seats: Vec<SeatId> = plan.seats.iter().map(|seat| seat.id.clone()).collect();
        let unknown = request
            .seats
            .iter()
            .find(|name| !seats.iter().any(|seat| seat.as_str() == name.as_str()));
        if let Some(unknown) = unknown {
            return Err(format!("there is no seat {unknown} in what runs now"));
        }
        let chosen = seats.into_iter().filter(|seat| {
            request.seats.is_empty() || request.seats.iter().any(|name| name == seat.as_str())
        });
        let kinds = chosen.map(|seat| match request.action {
            DatabaseAction::Restore => OrderKind::RestoreDatabase { seat },
            DatabaseAction::BringBack => OrderKind::BringBackDatabase { seat },
            DatabaseAction::Rotate => OrderKind::RotatePassword { seat },
        });
        let by = Actor::Facilitator("command line".to_owned());
        let ids = self.store.place_orders(kinds.collect(), by).await;
        let ids = ids.map_err(|error| error.to_string())?;
        let placed = ids.into_iter().filter_map(|id| self.store.order(id));
        Ok(placed.map(|order| OrderLine::of(&order)).collect())
    }

    /// Has a list of names applied; a message for the person where it cannot be.
    async fn change_list(&self, seats: Vec<Seat>) -> Result<Changed, String> {
        let (answer, answered) = oneshot::channel();
        let stopping = || "the event is stopping".to_owned();
        let sent = self.list.send((seats, answer)).await;
        sent.map_err(|_| stopping())?;
        answered.await.unwrap_or_else(|_| Err(stopping()))
    }

    fn orders(&self, query: &str) -> Vec<OrderLine> {
        let ids = query.strip_prefix("ids=").unwrap_or_default().split(',');
        ids.filter_map(|id| self.store.order(id.parse().ok()?))
            .map(|order| OrderLine::of(&order))
            .collect()
    }

    fn seat_line(&self, seat: &SeatRecord) -> SeatLine {
        let apps = seat
            .status
            .apps
            .iter()
            .map(|app| format!("{} {}", word(&app.kind), word(&app.state)));
        SeatLine {
            seat: seat.seat.to_string(),
            name: seat.taken.as_ref().map(|taken| taken.name.clone()),
            phase: word(&seat.status.phase),
            editor: match seat.status.editor {
                EditorStatus::Queued { position } => format!("queued ({position})"),
                EditorStatus::Stopped => "asleep".to_owned(),
                EditorStatus::Starting => "starting".to_owned(),
                EditorStatus::Ready => "ready".to_owned(),
                EditorStatus::Failed => "failed".to_owned(),
            },
            apps: apps.collect::<Vec<_>>().join(", "),
            solved: self
                .store
                .exercises(&seat.seat)
                .values()
                .filter(|state| state.solved_at.is_some())
                .count(),
            hint: seat.status.is_given_up().then(|| {
                format!(
                    "it is tried again every minute; all it said: arena logs {}; \
                     try it now: ⋯ and Restart seat in the facilitators' room",
                    seat.seat
                )
            }),
            message: seat.status.message.clone(),
        }
    }
}

/// The word that a plain enum is in JSON.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn service_status(child: &Child) -> ServiceStatus {
    let status = child.status();
    let (state, message) = match status.state {
        State::Ready => ("ready", None),
        State::Failed(message) => ("failed", Some(message)),
        State::Waiting(message) => ("restarting", Some(message)),
        State::Stopped | State::Ended(..) => ("stopped", None),
        State::Asleep => ("asleep", None),
        State::Starting => ("starting", None),
    };
    let hint = (state == "failed").then(|| {
        format!(
            "it is tried again every few seconds: all it said is in arena logs {}; \
             mend what it names (a full disk, a folder that is gone or closed), and it goes on by itself",
            child.name()
        )
    });
    ServiceStatus {
        hint,
        name: child.name().to_owned(),
        state: state.to_owned(),
        message,
    }
}

/// Answers the command line until `shutdown`.
///
/// # Errors
/// When the listener breaks.
pub(crate) async fn serve(
    keeper: Arc<Keeper>,
    listener: UnixListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        // Accepting may be dropped halfway: a connection not yet accepted stays in the backlog.
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("cannot accept on the platform's door")?;
                let keeper = Arc::clone(&keeper);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&keeper), request));
                    if let Err(error) = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                        tracing::debug!(%error, "a command's connection broke");
                    }
                });
            }
        }
    }
    connections.shutdown().await;
    Ok(())
}

async fn answer(
    keeper: Arc<Keeper>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let (status, body) = match (&method, uri.path()) {
        (&Method::GET, "/status") => json(&keeper.status()),
        (&Method::GET, "/orders") => json(&keeper.orders(uri.query().unwrap_or_default())),
        (&Method::POST, "/orders") => match read(request).await {
            Some(request) => said(keeper.order(request).await, StatusCode::NOT_FOUND),
            None => (StatusCode::BAD_REQUEST, Vec::new()),
        },
        (&Method::POST, "/list") => match read(request).await {
            Some(seats) => said(keeper.change_list(seats).await, StatusCode::CONFLICT),
            None => (StatusCode::BAD_REQUEST, Vec::new()),
        },
        (&Method::POST, "/stop") => {
            keeper.stop.cancel();
            (StatusCode::ACCEPTED, Vec::new())
        }
        _ => (StatusCode::NOT_FOUND, Vec::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    Ok(response)
}

fn json(value: &impl Serialize) -> (StatusCode, Vec<u8>) {
    match serde_json::to_vec(value) {
        Ok(json) => (StatusCode::OK, json),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string().into_bytes(),
        ),
    }
}

/// Reads a request's body.
async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Option<T> {
    let body = Limited::new(request.into_body(), ANSWER_BYTES_MAX);
    let body = body.collect().await.ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}

/// Answers with a value, or with why there is none, in words for a person.
fn said<T: Serialize>(outcome: Result<T, String>, otherwise: StatusCode) -> (StatusCode, Vec<u8>) {
    match outcome {
        Ok(value) => json(&value),
        Err(message) => (otherwise, message.into_bytes()),
    }
}

/// The command line's side of the door.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// Returns a client for the door at that path.
    pub(crate) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Returns whether a platform answers there.
    pub(crate) async fn is_running(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    /// Asks for the status.
    ///
    /// # Errors
    /// When nobody answers in 10 seconds.
    pub(crate) async fn status(&self) -> anyhow::Result<EventStatus> {
        let body = self.call(Method::GET, "/status", Bytes::new()).await?;
        serde_json::from_slice(&body).context("cannot read the platform's status")
    }

    /// Asks the platform to stop.
    ///
    /// # Errors
    /// When nobody answers in 10 seconds.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        self.call(Method::POST, "/stop", Bytes::new())
            .await
            .map(|_| ())
    }

    /// Places orders about seats' databases.
    ///
    /// # Errors
    /// When nobody answers in 10 seconds, or there is no such seat.
    pub(crate) async fn order(&self, request: &OrderRequest) -> anyhow::Result<Vec<OrderLine>> {
        let body = serde_json::to_vec(request)?;
        let answer = self.call(Method::POST, "/orders", body.into()).await?;
        serde_json::from_slice(&answer).context("cannot read the platform's orders")
    }

    /// Asks how far orders are.
    ///
    /// # Errors
    /// When nobody answers in 10 seconds.
    pub(crate) async fn orders(&self, ids: &[i64]) -> anyhow::Result<Vec<OrderLine>> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let path = format!("/orders?ids={}", ids.join(","));
        let answer = self.call(Method::GET, &path, Bytes::new()).await?;
        serde_json::from_slice(&answer).context("cannot read the platform's orders")
    }

    /// Has a list of names applied to the event that runs.
    ///
    /// # Errors
    /// When nobody answers in ten minutes, or the platform says why not.
    pub(crate) async fn change_list(&self, seats: &[Seat]) -> anyhow::Result<Changed> {
        let body = serde_json::to_vec(seats)?.into();
        let exchange = self.exchange(Method::POST, "/list", body);
        let answer = tokio::time::timeout(LIST_TIMEOUT, exchange).await;
        let answer = answer.context("the platform is still not done with the list of names")??;
        serde_json::from_slice(&answer).context("cannot read what became of the list of names")
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(method, path, body))
            .await
            .context("the platform does not answer")?
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .with_context(|| format!("cannot reach the platform at {}", self.socket.display()))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "arena.invalid")
            .body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let body = body.to_bytes();
        if status.is_client_error() && !body.is_empty() {
            bail!("{}", String::from_utf8_lossy(&body));
        }
        if !status.is_success() {
            bail!("the platform answered {status}");
        }
        Ok(body)
    }
}
