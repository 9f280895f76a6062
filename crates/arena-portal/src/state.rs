//! How exercises and the seat stand for one participant, in the words of the
//! API: the instructions' script and the seat page read these.

use std::collections::BTreeMap;
use std::sync::Arc;

use arena_store::{
    Actor, CheckOutcome, Order, OrderKind, OrderState, SeatRecord, SeatStatus, Store, Trigger,
};
use arena_workshop::{ExerciseSlug, SeatId};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::caller::Participant;
use crate::problem::{Code, Problem};
use crate::serve::App;

/// One exercise for one participant.
#[derive(Debug, Serialize)]
pub(crate) struct ExerciseView {
    pub(crate) solved: bool,
    pub(crate) attempts: u32,
    /// Whether every check passed last.
    pub(crate) passed: bool,
    pub(crate) checks: Vec<CheckOutcome>,
    /// Whether it waits to be checked or is being checked.
    pub(crate) running: bool,
    /// Place in line while it waits, from 1.
    pub(crate) position: Option<usize>,
}

/// The participant's seat.
#[derive(Debug, Serialize)]
pub(crate) struct SeatView {
    pub(crate) seat: SeatId,
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) status: SeatStatus,
    /// Facilitators who look into the seat.
    pub(crate) visitors: Vec<VisitorView>,
}

/// A facilitator who looks into the seat.
#[derive(Debug, Serialize)]
pub(crate) struct VisitorView {
    pub(crate) name: String,
    pub(crate) until: Timestamp,
}

/// Everything of one participant.
#[derive(Debug, Serialize)]
pub(crate) struct StateView {
    pub(crate) seat: Option<SeatView>,
    pub(crate) exercises: BTreeMap<ExerciseSlug, ExerciseView>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CheckRequest {
    exercise: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct CheckAnswer {
    order: i64,
}

/// Returns how one exercise stands.
pub(crate) fn exercise(
    store: &Store,
    seat: &SeatId,
    slug: &ExerciseSlug,
    orders: &[Order],
) -> ExerciseView {
    let state = store.exercise(seat, slug);
    let grading: Vec<&Order> = orders
        .iter()
        .filter(|order| matches!(order.kind, OrderKind::Grade { .. }))
        .collect();
    let mine = |order: &&&Order| order.kind.seat() == seat && order.kind.exercise() == Some(slug);
    let running = grading.iter().any(|order| mine(&order));
    let being_done = grading
        .iter()
        .filter(mine)
        .any(|order| order.state == OrderState::Running);
    let waiting = grading
        .iter()
        .filter(|order| order.state == OrderState::Pending);
    let position = waiting
        .enumerate()
        .find(|(_, order)| mine(order))
        .map(|(index, _)| index + 1);
    ExerciseView {
        solved: state.solved_at.is_some(),
        attempts: state.attempts,
        passed: state.passed,
        checks: state.checks,
        running,
        position: position.filter(|_| !being_done),
    }
}

impl SeatView {
    pub(crate) fn of(store: &Store, record: SeatRecord) -> Self {
        let visits = store.visits_of(&record.seat).into_iter();
        Self {
            visitors: visits
                .map(|visit| VisitorView {
                    name: visit.facilitator,
                    until: visit.until,
                })
                .collect(),
            seat: record.seat,
            name: record.display_name,
            status: record.status,
        }
    }
}

/// `GET /_arena/state`
pub(crate) async fn show(State(app): State<Arc<App>>, participant: Participant) -> Json<StateView> {
    let store = &app.settings.store;
    let orders = store.open_orders();
    let exercises = app.settings.solvable().map(|entry| {
        (
            entry.slug.clone(),
            exercise(store, &participant.seat, &entry.slug, &orders),
        )
    });
    Json(StateView {
        seat: store
            .seat(&participant.seat)
            .map(|record| SeatView::of(store, record)),
        exercises: exercises.collect(),
    })
}

/// `POST /_arena/check`
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    participant: Participant,
    Json(request): Json<CheckRequest>,
) -> Result<(StatusCode, Json<CheckAnswer>), Problem> {
    let wanted = app
        .settings
        .solvable()
        .find(|entry| entry.slug.as_str() == request.exercise);
    let exercise = wanted
        .ok_or(Problem::new(Code::ExerciseUnknown))?
        .slug
        .clone();
    let by = Actor::Participant(participant.seat.clone());
    let kind = OrderKind::Grade {
        seat: participant.seat,
        exercise,
        trigger: Trigger::Button,
    };
    let order = app.settings.store.place_order(kind, by).await?;
    Ok((StatusCode::ACCEPTED, Json(CheckAnswer { order })))
}
