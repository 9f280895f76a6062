//! Server-sent events: what changed, as it is now. A reader follows the store's
//! events and sends each thing that they touch once, so that a slow browser
//! gets fewer messages and never an old one; `Last-Event-ID` says where to go on.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arena_store::{Event, EventKind, Principal};
use arena_workshop::{ExerciseSlug, SeatId};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::caller::{Caller, Surface};
use crate::serve::App;
use crate::state::{self, SeatView};

/// A line without meaning that keeps connections open, however little concerns their viewers.
const BEAT: Duration = Duration::from_secs(15);
/// Events read at once.
const BATCH: usize = 512;
/// Messages that may wait for a slow browser.
const QUEUE_LENGTH: usize = 32;
/// Streams at once, all browsers together.
const STREAMS_MAX: usize = 5000;

/// Who watches.
#[derive(Clone)]
enum Viewer {
    /// Public things only: the board.
    Anybody,
    /// And the own seat.
    Participant(SeatId),
    /// And the room.
    Facilitator,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Resume {
    after: Option<i64>,
}

/// `GET /_arena/events`
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(resume): Query<Resume>,
    headers: HeaderMap,
) -> Response {
    let viewer = match caller.principal {
        Some(Principal::Participant(seat)) => Viewer::Participant(seat),
        Some(Principal::Facilitator(_)) if Surface::of(&headers) == Some(Surface::Portal) => {
            Viewer::Facilitator
        }
        _ => Viewer::Anybody,
    };
    if app.tasks.len() >= STREAMS_MAX {
        return (
            http::StatusCode::SERVICE_UNAVAILABLE,
            [("retry-after", "5")],
        )
            .into_response();
    }
    let last = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok()?.parse().ok())
        .or(resume.after);
    let (sender, messages) = mpsc::channel(QUEUE_LENGTH);
    let stream = Stream {
        app: Arc::clone(&app),
        viewer,
        sender,
    };
    app.tasks.spawn(stream.run(last));
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    (
        headers,
        [("x-accel-buffering", "no")],
        Body::new(Messages(messages)),
    )
        .into_response()
}

struct Stream {
    app: Arc<App>,
    viewer: Viewer,
    sender: mpsc::Sender<Bytes>,
}

/// The body of the answer; the server drops it when the browser has gone.
struct Messages(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let message = self.0.poll_recv(context);
        message.map(|message| message.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The browser has gone.
struct Gone;

/// What a batch of events touched.
#[derive(Default)]
struct Touched {
    seats: BTreeSet<SeatId>,
    own_seat: bool,
    exercises: BTreeSet<ExerciseSlug>,
    messages: Vec<String>,
    reload: bool,
    waiting: bool,
    connections: bool,
}

impl Stream {
    async fn run(mut self, resume: Option<i64>) {
        let (shutdown, sender) = (self.app.shutdown.clone(), self.sender.clone());
        // Dropping the stream halfway cuts the body, which is what a shutdown means.
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sender.closed() => {}
            _gone = self.follow(resume) => {}
        }
    }

    async fn follow(&mut self, resume: Option<i64>) -> Result<(), Gone> {
        let store = self.app.settings.store.clone();
        let mut changes = store.events_changed();
        let mut boards = self.app.board.clone();
        let newest = *changes.borrow_and_update();
        // An id from another life of this event's state is no place to go on from.
        let mut last = resume
            .filter(|id| (0..=newest).contains(id))
            .unwrap_or(newest);
        self.send_raw("retry: 1000\n\n").await?;
        self.greet(last).await?;
        let mut beat = interval_at(Instant::now() + BEAT, BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let events = store.events_since(last, BATCH);
            if let Some(newest) = events.last() {
                last = newest.id;
                self.send_touched(self.touched(&events), last).await?;
                continue;
            }
            // Each branch only waits: whichever is dropped loses nothing.
            tokio::select! {
                ended = changes.changed() => ended.map_err(|_| Gone)?,
                ended = boards.changed() => {
                    ended.map_err(|_| Gone)?;
                    self.send_board(last).await?;
                }
                _ = beat.tick() => self.send_raw(": beat\n\n").await?,
            }
        }
    }

    /// Sends how things are, to whoever comes.
    async fn greet(&mut self, last: i64) -> Result<(), Gone> {
        self.send_board(last).await?;
        let touched = Touched {
            own_seat: matches!(self.viewer, Viewer::Participant(_)),
            ..Touched::default()
        };
        self.send_touched(touched, last).await
    }

    fn touched(&self, events: &[Event]) -> Touched {
        let mut touched = Touched::default();
        for event in events {
            let about = event.kind.seat();
            match &self.viewer {
                Viewer::Anybody => {}
                Viewer::Participant(own) if about == Some(own) => touched.add_own(&event.kind),
                Viewer::Participant(own) => {
                    touched.reload |= event.kind == EventKind::SeatsSynced && self.is_gone(own);
                }
                Viewer::Facilitator => {
                    touched.seats.extend(about.cloned());
                    touched.reload |= event.kind == EventKind::SeatsSynced;
                    touched.waiting |= event.kind == EventKind::WaitingChanged;
                    touched.connections |= event.kind == EventKind::ConnectionTested;
                }
            }
            if let EventKind::Message { seat: None, text } = &event.kind {
                touched.messages.push(text.clone());
            }
        }
        touched
    }

    /// Whether a seat is no longer on the list of names.
    fn is_gone(&self, seat: &SeatId) -> bool {
        let record = self.app.settings.store.seat(seat);
        record.is_some_and(|record| record.decommissioned)
    }

    async fn send_touched(&mut self, touched: Touched, last: i64) -> Result<(), Gone> {
        let store = self.app.settings.store.clone();
        if let Viewer::Participant(seat) = self.viewer.clone() {
            if touched.own_seat
                && let Some(record) = store.seat(&seat)
            {
                self.send("seat", last, &SeatView::of(&store, record))
                    .await?;
            }
            let orders = store.open_orders();
            for exercise in touched.exercises {
                let view = state::exercise(&store, &seat, &exercise, &orders);
                self.send("exercise", last, &Named { exercise, view })
                    .await?;
            }
        }
        if !touched.seats.is_empty() {
            let records = touched.seats.iter().filter_map(|seat| store.seat(seat));
            let tiles: Vec<_> = records
                .map(|record| crate::room::tile(&self.app.settings, record))
                .collect();
            self.send("room", last, &tiles).await?;
        }
        if touched.waiting {
            self.send("waiting", last, &crate::room::waiting(&store))
                .await?;
        }
        if touched.connections {
            self.send("connections", last, &crate::room::tested(&store))
                .await?;
        }
        if touched.reload {
            self.send("reload", last, &()).await?;
        }
        for text in touched.messages {
            self.send("message", last, &Message { text }).await?;
        }
        Ok(())
    }

    async fn send_board(&mut self, last: i64) -> Result<(), Gone> {
        let board = Arc::clone(&self.app.board.borrow());
        let seat = match &self.viewer {
            Viewer::Participant(seat) => Some(seat),
            _ => None,
        };
        let json = board.json_for(seat);
        self.send_raw(&format!("id: {last}\nevent: leaderboard\ndata: {json}\n\n"))
            .await
    }

    async fn send<T: Serialize>(&mut self, name: &str, last: i64, data: &T) -> Result<(), Gone> {
        // JSON has no line breaks outside of strings, and escapes those inside.
        let json = serde_json::to_string(data).map_err(|_| Gone)?;
        self.send_raw(&format!("id: {last}\nevent: {name}\ndata: {json}\n\n"))
            .await
    }

    async fn send_raw(&mut self, text: &str) -> Result<(), Gone> {
        self.sender
            .send(Bytes::copy_from_slice(text.as_bytes()))
            .await
            .map_err(|_| Gone)
    }
}

#[derive(Serialize)]
struct Named {
    exercise: ExerciseSlug,
    #[serde(flatten)]
    view: state::ExerciseView,
}

#[derive(Serialize)]
struct Message {
    text: String,
}

impl Touched {
    /// Takes in an event about the viewer's own seat.
    fn add_own(&mut self, kind: &EventKind) {
        match kind {
            EventKind::SeatStatus { .. }
            | EventKind::LookedInto { .. }
            | EventKind::Joined { .. }
            | EventKind::Released { .. } => self.own_seat = true,
            EventKind::Attempted { exercise, .. }
            | EventKind::Solved { exercise, .. }
            | EventKind::OrderChanged {
                exercise: Some(exercise),
                ..
            } => {
                self.exercises.insert(exercise.clone());
            }
            EventKind::Message { text, .. } => self.messages.push(text.clone()),
            _ => {}
        }
    }
}
