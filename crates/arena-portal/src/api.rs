//! The reference's API under `/api` and `/backend/api`: the same calls and
//! fields, so that its scripts go on working; administration is for
//! facilitators, and e-mails stay private.

use std::sync::Arc;

use arena_store::{Actor, OrderKind, SeatRecord};
use arena_workshop::SeatId;
use arena_workshop::scoring::Scoring;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::board::{Board, Row};
use crate::caller::{Caller, Facilitator};
use crate::csv;
use crate::pages::{check_code, take_free};
use crate::problem::{Code, Problem};
use crate::serve::App;

/// Who has had no result for so long is stuck.
const STUCK_AFTER_MINUTES: i64 = 10;
/// Databases that one call may restore.
const RESTORES_MAX: usize = 1000;

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(health))
        .route("/participants", get(participants))
        .route("/participants/available", get(available))
        .route("/participants/take", post(take))
        .route("/results", get(results))
        .route("/results/user/{seat}", get(user_results))
        .route("/users/progress", get(progress))
        .route("/admin/leaderboard/download", get(download))
        .route("/admin/leaderboard/exclude", post(exclude))
        .route("/admin/leaderboard/status", get(status))
        .route(
            "/admin/prizes/close-date",
            get(close_date).post(set_close_date),
        )
        .route("/admin/database/restore", post(restore))
}

async fn health() -> Json<Value> {
    // Every answer reads the store; one that cannot be read does not open.
    Json(json!({"status": "healthy", "database": "connected"}))
}

/// Seats that are taken or on the list, newest first.
async fn participants(State(app): State<Arc<App>>) -> Json<Value> {
    let mut seats = seats(&app);
    seats.retain(|seat| seat.taken.is_some() || seat.listed);
    seats.sort_by_key(|seat| std::cmp::Reverse(seat.taken.as_ref().map(|taken| taken.at)));
    let rows = seats.into_iter().map(|seat| {
        json!({
            "_id": seat.seat,
            "name": seat.display_name,
            "taken": seat.taken.is_some(),
            "taken_timestamp": seat.taken.map(|taken| taken.at),
        })
    });
    Json(rows.collect())
}

async fn available(State(app): State<Arc<App>>) -> Json<Value> {
    let seats = seats(&app);
    let taken = seats.iter().filter(|seat| seat.taken.is_some()).count();
    let free = seats
        .iter()
        .filter(|seat| seat.taken.is_none() && !seat.listed)
        .count();
    Json(json!({"available_count": free, "active_count": taken, "total_count": seats.len()}))
}

#[derive(Deserialize)]
struct TakeRequest {
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
    /// The event's code; the reference let anybody in.
    #[serde(default)]
    code: String,
}

async fn take(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<TakeRequest>,
) -> Result<Json<Value>, Problem> {
    if request.name.trim().is_empty() || request.email.trim().is_empty() {
        return Err(Problem::new(Code::MissingFields));
    }
    if !caller.is_facilitator() {
        check_code(&app, &caller, &request.code)?;
    }
    let record = take_free(&app, &request.name, &request.email).await?;
    let taken_at = record.taken.as_ref().map(|taken| taken.at);
    Ok(Json(
        json!({"_id": record.seat, "name": record.display_name, "taken": true, "taken_timestamp": taken_at}),
    ))
}

#[derive(Deserialize)]
struct FormatQuery {
    format: Option<String>,
}

async fn results(State(app): State<Arc<App>>, Query(query): Query<FormatQuery>) -> Response {
    let board = Arc::clone(&app.board.borrow());
    if query.format.as_deref() == Some("csv") {
        return csv_file("results.csv", results_csv(app.settings.scoring, &board));
    }
    let timed = app.settings.scoring == Scoring::Timed;
    let rows: Vec<Value> = board
        .rows
        .iter()
        .map(|row| {
            if timed {
                timed_row(row)
            } else {
                score_row(row)
            }
        })
        .collect();
    Json(rows).into_response()
}

fn timed_row(row: &Row) -> Value {
    json!({
        "rank": row.rank,
        "user_id": row.seat,
        "username": row.seat,
        "name": row.name,
        "exercises_completed": row.solved,
        "duration": row.duration,
        "duration_ms": row.duration_ms,
        "first_timestamp": row.first,
        "last_timestamp": row.last,
    })
}

fn score_row(row: &Row) -> Value {
    json!({"rank": row.rank, "name": row.name, "total_points": row.points})
}

fn results_csv(kind: Scoring, board: &Board) -> String {
    let (header, row): (&[&str], fn(&Row) -> Value) = match kind {
        Scoring::Timed => (
            &[
                "rank",
                "user_id",
                "username",
                "name",
                "exercises_completed",
                "duration",
                "duration_ms",
                "first_timestamp",
                "last_timestamp",
            ],
            timed_row,
        ),
        Scoring::Score => (&["rank", "name", "total_points"], score_row),
    };
    let mut file = csv::line(header.iter().copied());
    for row in board.rows.iter().map(row) {
        let cells: Vec<String> = header
            .iter()
            .map(|column| match &row[*column] {
                Value::String(text) => text.clone(),
                value => value.to_string(),
            })
            .collect();
        file.push_str(&csv::line(cells.iter().map(String::as_str)));
    }
    file
}

async fn user_results(
    State(app): State<Arc<App>>,
    Path(seat): Path<String>,
) -> Result<Json<Value>, Problem> {
    let record = seat_named(&app, &seat).ok_or(Problem::new(Code::NoResults))?;
    if record.excluded {
        return Err(Problem::new(Code::Excluded));
    }
    let rows: Vec<Value> = app.settings.store.results().into_iter().filter(|row| row.seat == record.seat).map(|row| {
        let section = row.exercise.as_str().rsplit_once('-').map(|(section, _)| section.to_owned());
        json!({"name": row.exercise, "username": row.seat, "timestamp": row.at, "section": section})
    }).collect();
    if rows.is_empty() {
        Err(Problem::new(Code::NoResults))
    } else {
        Ok(Json(Value::Array(rows)))
    }
}

async fn progress(State(app): State<Arc<App>>) -> Json<Value> {
    let (now, results) = (Timestamp::now(), app.settings.store.results());
    let (mut users, mut stuck, mut active, mut idle) = (Vec::new(), 0, 0, 0);
    for seat in seats(&app).into_iter().filter(|seat| seat.taken.is_some()) {
        let own: Vec<_> = results.iter().filter(|row| row.seat == seat.seat).collect();
        let minutes = own.last().map(|row| now.duration_since(row.at).as_mins());
        let status = match minutes {
            None => {
                idle += 1;
                "not_started"
            }
            Some(minutes) if minutes > STUCK_AFTER_MINUTES => {
                stuck += 1;
                "stuck"
            }
            Some(_) => {
                active += 1;
                "active"
            }
        };
        users.push(json!({
            "user_id": seat.seat,
            "name": seat.display_name,
            "exercises_completed": own.len(),
            "last_exercise": own.last().map(|row| &row.exercise),
            "last_activity": own.last().map(|row| row.at),
            "minutes_since_last": minutes,
            "status": status,
        }));
    }
    let summary =
        json!({"total": users.len(), "active": active, "stuck": stuck, "not_started": idle});
    Json(json!({"users": users, "summary": summary}))
}

async fn download(
    State(app): State<Arc<App>>,
    facilitator: Facilitator,
) -> Result<Response, Problem> {
    let (store, results) = (&app.settings.store, app.settings.store.results());
    store
        .audit(facilitator.actor(), "download", "leaderboard with e-mails")
        .await?;
    let mut file = csv::line(["user_id", "name", "email", "exercises_solved"]);
    for seat in seats(&app).into_iter().filter(|seat| seat.taken.is_some()) {
        let solved = results
            .iter()
            .filter(|row| row.seat == seat.seat)
            .count()
            .to_string();
        let email = store.email(&seat.seat).unwrap_or_default();
        file.push_str(&csv::line([
            seat.seat.as_str(),
            seat.display_name.as_str(),
            email.as_str(),
            solved.as_str(),
        ]));
    }
    Ok(csv_file("leaderboard.csv", file))
}

#[derive(Deserialize)]
struct ExcludeRequest {
    identifier: String,
    exclude: bool,
}

async fn exclude(
    State(app): State<Arc<App>>,
    facilitator: Facilitator,
    Json(request): Json<ExcludeRequest>,
) -> Result<Json<Value>, Problem> {
    let seat = seat_named(&app, &request.identifier)
        .ok_or(Problem::new(Code::SeatUnknown))?
        .seat;
    app.settings
        .store
        .set_excluded(&seat, request.exclude, facilitator.actor())
        .await?;
    Ok(Json(json!({"user_id": seat, "excluded": request.exclude})))
}

async fn status(State(app): State<Arc<App>>, _facilitator: Facilitator) -> Json<Value> {
    let rows = seats(&app).into_iter().filter(|seat| seat.taken.is_some()).map(|seat| {
        json!({"user_id": seat.seat, "name": seat.display_name, "excluded": seat.excluded})
    });
    Json(rows.collect())
}

async fn close_date(State(app): State<Arc<App>>, _facilitator: Facilitator) -> Json<Value> {
    Json(json!({"close_on": app.settings.store.close_on()}))
}

#[derive(Deserialize)]
struct CloseRequest {
    close_on: Option<String>,
}

async fn set_close_date(
    State(app): State<Arc<App>>,
    facilitator: Facilitator,
    Json(request): Json<CloseRequest>,
) -> Result<Json<Value>, Problem> {
    let close_on = match request
        .close_on
        .as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        Some(text) => Some(
            text.parse::<Timestamp>()
                .map_err(|_| Problem::new(Code::Malformed))?,
        ),
        None => None,
    };
    app.settings
        .store
        .set_close_on(close_on, facilitator.actor())
        .await?;
    Ok(Json(json!({"close_on": app.settings.store.close_on()})))
}

#[derive(Deserialize)]
struct RestoreRequest {
    user_ids: Vec<String>,
}

/// Places an order per seat; control restores. Who asks sees the outcome in the room.
async fn restore(
    State(app): State<Arc<App>>,
    facilitator: Facilitator,
    Json(request): Json<RestoreRequest>,
) -> Result<Json<Value>, Problem> {
    if request.user_ids.len() > RESTORES_MAX {
        return Err(Problem::new(Code::Malformed));
    }
    let by: Actor = facilitator.actor();
    let mut outcomes = Vec::new();
    for id in request.user_ids {
        outcomes.push(match seat_named(&app, &id) {
            Some(record) => {
                let kind = OrderKind::RestoreDatabase { seat: record.seat };
                let order = app.settings.store.place_order(kind, by.clone()).await?;
                json!({"user_id": id, "status": "ordered", "order": order})
            }
            None => json!({"user_id": id, "status": "error", "error": "there is no such seat"}),
        });
    }
    Ok(Json(json!({"results": outcomes})))
}

fn seats(app: &App) -> Vec<SeatRecord> {
    app.settings
        .store
        .seats()
        .into_iter()
        .filter(|seat| !seat.decommissioned)
        .collect()
}

fn seat_named(app: &App, id: &str) -> Option<SeatRecord> {
    app.settings.store.seat(&SeatId::new(id).ok()?)
}

fn csv_file(name: &str, text: String) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    (
        [
            (CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
            (CONTENT_DISPOSITION, disposition),
        ],
        text,
    )
        .into_response()
}
