//! The facilitators' room: every seat with what can be done about it. What
//! cannot be undone asks once more on a page of its own.

use std::sync::Arc;

use arena_store::{Actor, AuditEntry, OrderKind, Principal, SeatRecord, Session, WaitingId};
use arena_workshop::SeatId;
use arena_workshop::plan::AppKind;
use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{Frame, check_token, go_to, page};
use crate::caller::{Caller, Facilitator};
use crate::problem::{Code, Problem};
use crate::room::{TestView, Tile, WaitingView, tile};
use crate::serve::App;

/// Lines of the audit log on the page.
const LOG_LINES: usize = 30;
/// The longest that the board's freeze can be set ahead, in minutes.
const MINUTES_MAX: i64 = 7 * 24 * 60;

#[derive(Template)]
#[template(path = "admin.html")]
struct Room {
    frame: Frame,
    rows: Vec<RoomRow>,
    taken: usize,
    done: Option<String>,
    code: String,
    join_host: String,
    close_on: String,
    frozen: bool,
    waiting: Vec<WaitingView>,
    tests: Vec<TestView>,
    /// Seats in which nobody sits, for who waits.
    empty: Vec<(String, String)>,
    log: Vec<LogLine>,
}

struct RoomRow {
    tile: Tile,
    activity: String,
    link: String,
    /// Whether the workshop has databases: otherwise nothing is said of them.
    has_database: bool,
}

struct LogLine {
    at: String,
    by: String,
    what: String,
    subject: String,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct Confirm {
    frame: Frame,
    question: String,
    text: &'static str,
    button: &'static str,
    action: String,
}

#[derive(Deserialize)]
pub(crate) struct DoneQuery {
    done: Option<String>,
    who: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct BoardForm {
    csrf: String,
    action: String,
    #[serde(default)]
    minutes: String,
}

/// A page that goes on to a visit's host at once: a form's answer may not lead to another origin.
#[derive(Template)]
#[template(path = "look.html")]
struct Look {
    frame: Frame,
    name: String,
    editor: String,
    app: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct WaitingForm {
    csrf: String,
    #[serde(default)]
    seat: String,
}

#[derive(Deserialize)]
pub(crate) struct ActionForm {
    csrf: String,
}

/// `GET /admin`
pub(crate) async fn room(
    State(app): State<Arc<App>>,
    _facilitator: Facilitator,
    caller: Caller,
    Query(query): Query<DoneQuery>,
) -> Response {
    let (settings, t) = (&app.settings, app.texts);
    let store = &settings.store;
    let seats: Vec<SeatRecord> = store
        .seats()
        .into_iter()
        .filter(|seat| !seat.decommissioned)
        .collect();
    let close_on = store.close_on();
    let known = [
        "hide", "show", "restart", "again", "restore", "undo", "rotate", "quota", "release",
        "freeze", "unfreeze", "grade", "give", "remove",
    ];
    let done = query.done.filter(|done| known.contains(&done.as_str()));
    let who = query.who.unwrap_or_default();
    page(&Room {
        frame: Frame::of(&app, &caller),
        waiting: crate::room::waiting(store),
        tests: crate::room::tested(store),
        empty: seats
            .iter()
            .filter(|seat| seat.taken.is_none())
            .map(|seat| (seat.seat.to_string(), seat.display_name.clone()))
            .collect(),
        taken: seats.iter().filter(|seat| seat.taken.is_some()).count(),
        rows: seats.into_iter().map(|record| row(&app, record)).collect(),
        done: done.map(|done| t.with(&format!("done.{done}"), &who)),
        code: store.event_code(),
        join_host: settings.portal_origin(),
        close_on: close_on.map(|at| at.to_string()).unwrap_or_default(),
        frozen: close_on.is_some_and(|at| at <= Timestamp::now()),
        log: store
            .audit_log(LOG_LINES)
            .into_iter()
            .map(|entry| log_line(&app, entry))
            .collect(),
    })
}

fn row(app: &App, record: SeatRecord) -> RoomRow {
    let settings = &app.settings;
    let has_link = record.listed || record.taken.is_some();
    let link = settings.store.link_token(&record.seat).filter(|_| has_link);
    let has_database = !(settings.databases)(&record.seat).is_empty();
    let tile = tile(settings, record);
    RoomRow {
        has_database,
        activity: tile
            .last_activity
            .map(|at| at.to_string())
            .unwrap_or_default(),
        link: link
            .map(|token| format!("{}/join/{token}", settings.portal_origin()))
            .unwrap_or_default(),
        tile,
    }
}

fn log_line(app: &App, entry: AuditEntry) -> LogLine {
    let by = match entry.by {
        Actor::Facilitator(name) => name,
        Actor::Participant(seat) => app
            .settings
            .store
            .seat(&seat)
            .map_or(seat.to_string(), |seat| seat.display_name),
        Actor::System => "Arena".to_owned(),
    };
    LogLine {
        at: entry.at.to_string(),
        by,
        what: entry.action.replace('_', " "),
        subject: entry.subject,
    }
}

/// `POST /admin/board`: freeze now, in some minutes, or not at all.
pub(crate) async fn board(
    State(app): State<Arc<App>>,
    facilitator: Facilitator,
    Form(form): Form<BoardForm>,
) -> Result<Response, Problem> {
    check_token(&app, &facilitator.session, &form.csrf)?;
    let now = Timestamp::now();
    let close_on = match form.action.as_str() {
        "freeze" => Some(now),
        "unfreeze" => None,
        "freeze_in" => {
            let minutes = form
                .minutes
                .trim()
                .parse()
                .ok()
                .filter(|minutes| (1..=MINUTES_MAX).contains(minutes));
            let minutes = minutes.ok_or(Problem::new(Code::Malformed))?;
            Some(
                now.checked_add(SignedDuration::from_mins(minutes))
                    .map_err(|error| Problem::broken(&error))?,
            )
        }
        _ => return Err(Problem::new(Code::Malformed)),
    };
    app.settings
        .store
        .set_close_on(close_on, facilitator.actor())
        .await?;
    Ok(go_to(if close_on.is_some() {
        "/admin?done=freeze"
    } else {
        "/admin?done=unfreeze"
    }))
}

/// `GET /admin/seats/{seat}/{action}`: asks once more.
pub(crate) async fn confirm(
    State(app): State<Arc<App>>,
    _facilitator: Facilitator,
    caller: Caller,
    Path((seat, action)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let record = seat_of(&app, &seat)?;
    let t = app.texts;
    let (question, text, button) = match action.as_str() {
        "restore" => (
            t.with("confirm.restore", &record.display_name),
            t.get("confirm.restore.text"),
            t.get("room.restore"),
        ),
        "undo" => (
            t.with("confirm.undo", &record.display_name),
            t.get("confirm.undo.text"),
            t.get("room.undo"),
        ),
        "rotate" => (
            t.with("confirm.rotate", &record.display_name),
            t.get("confirm.rotate.text"),
            t.get("room.rotate"),
        ),
        "again" => (
            t.with("confirm.again", &record.display_name),
            t.get("confirm.again.text"),
            t.get("room.again"),
        ),
        "release" => (
            t.with("confirm.release", &record.display_name),
            t.get("confirm.release.text"),
            t.get("room.release"),
        ),
        _ => return Err(Problem::new(Code::NotFound)),
    };
    let action = format!("/admin/seats/{}/{action}", record.seat);
    Ok(page(&Confirm {
        frame: Frame::of(&app, &caller),
        question,
        text,
        button,
        action,
    }))
}

/// `POST /admin/seats/{seat}/{action}`
pub(crate) async fn act(
    State(app): State<Arc<App>>,
    facilitator: Facilitator,
    caller: Caller,
    Path((seat, action)): Path<(String, String)>,
    Form(form): Form<ActionForm>,
) -> Result<Response, Problem> {
    check_token(&app, &facilitator.session, &form.csrf)?;
    let record = seat_of(&app, &seat)?;
    let (store, by) = (&app.settings.store, facilitator.actor());
    let seat = record.seat.clone();
    match action.as_str() {
        "look" => return look(&app, caller, &facilitator, &record).await,
        "hide" => store.set_excluded(&seat, true, by).await?,
        "show" => store.set_excluded(&seat, false, by).await?,
        "release" => store.release(&seat, by).await?,
        "restore" => {
            store
                .place_order(OrderKind::RestoreDatabase { seat }, by)
                .await?;
        }
        "undo" => {
            store
                .place_order(OrderKind::BringBackDatabase { seat }, by)
                .await?;
        }
        "rotate" => {
            store
                .place_order(OrderKind::RotatePassword { seat }, by)
                .await?;
        }
        "quota" => {
            store
                .place_order(OrderKind::RaiseQuota { seat }, by)
                .await?;
        }
        "again" => {
            store
                .place_order(OrderKind::RestartSeat { seat }, by)
                .await?;
        }
        "restart" => {
            let known = record.status.apps.iter().map(|app| app.kind).min();
            let kind = OrderKind::RestartApp {
                seat,
                app: known.unwrap_or(AppKind::Backend),
            };
            store.place_order(kind, by).await?;
        }
        _ => return Err(Problem::new(Code::NotFound)),
    }
    let who: String = record
        .display_name
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    Ok(go_to(&format!("/admin?done={action}&who={who}")))
}

/// Begins a visit: the facilitator's browser goes on to a host that nobody has seen before.
async fn look(
    app: &App,
    caller: Caller,
    facilitator: &Facilitator,
    record: &SeatRecord,
) -> Result<Response, Problem> {
    let settings = &app.settings;
    let session = Session {
        id: facilitator.session.clone(),
        principal: Principal::Facilitator(facilitator.name.clone()),
    };
    let visit = settings.store.begin_visit(&record.seat, &session).await?;
    let visit = visit.ok_or(Problem::new(Code::SeatUnknown))?;
    let domain = &settings.address.domain;
    let app_origin = settings.origin(&format!("{}.{domain}", visit.label));
    Ok(page(&Look {
        frame: Frame::of(app, &caller),
        name: record.display_name.clone(),
        editor: format!(
            "{}/",
            settings.origin(&format!("{}--code.{domain}", visit.label))
        ),
        app: settings
            .app_path
            .as_ref()
            .map(|path| format!("{app_origin}{path}")),
    }))
}

/// `POST /admin/waiting/{id}/{action}`: gives somebody who waits a seat, or takes them off the list.
pub(crate) async fn waiting(
    State(app): State<Arc<App>>,
    facilitator: Facilitator,
    Path((id, action)): Path<(WaitingId, String)>,
    Form(form): Form<WaitingForm>,
) -> Result<Response, Problem> {
    check_token(&app, &facilitator.session, &form.csrf)?;
    let (store, by) = (&app.settings.store, facilitator.actor());
    match action.as_str() {
        "give" => {
            let seat = seat_of(&app, &form.seat)?.seat;
            store.give_seat(id, &seat, by).await?;
        }
        "remove" => store.stop_waiting(id, by).await?,
        _ => return Err(Problem::new(Code::NotFound)),
    }
    Ok(go_to(&format!("/admin?done={action}")))
}

fn seat_of(app: &App, seat: &str) -> Result<SeatRecord, Problem> {
    let seat = SeatId::new(seat)
        .ok()
        .and_then(|seat| app.settings.store.seat(&seat));
    seat.ok_or(Problem::new(Code::SeatUnknown))
}
