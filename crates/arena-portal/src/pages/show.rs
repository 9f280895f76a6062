//! What participants look at: their seat, the leaderboard, who is here.

use std::sync::Arc;

use arena_store::EditorStatus;
use arena_workshop::SeatId;
use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::{Frame, go_to, page, wake};
use crate::board::{Board, ROWS_MAX, Row};
use crate::caller::{Caller, check_on_list};
use crate::problem::Problem;
use crate::serve::App;
use crate::settings::DatabaseAccess;

#[derive(Template)]
#[template(path = "seat.html")]
struct Seat {
    frame: Frame,
    solved: usize,
    total: usize,
    editor: String,
    instructions: String,
    app_url: String,
    ready: bool,
    is_separated: bool,
    link: String,
    exercises: Vec<ExerciseLine>,
    databases: Vec<DatabaseLines>,
    /// State of the databases, a word of the room's.
    database_state: &'static str,
    /// Facilitators who look into the seat.
    visitors: String,
}

struct ExerciseLine {
    title: String,
    slug: String,
    page: String,
    solved: bool,
    /// Why it cannot be solved here; empty where it can.
    reason: String,
}

/// A database and the lines to copy.
struct DatabaseLines {
    name: &'static str,
    lines: Vec<(&'static str, String)>,
}

#[derive(Template)]
#[template(path = "leaderboard.html")]
struct Leaderboard {
    frame: Frame,
    board: Arc<Board>,
    rows: Vec<Row>,
    me: String,
    /// Rank and name of whoever looks, when they are not among the rows.
    own: Option<Row>,
    close_on: String,
    projector: bool,
    join_host: String,
    code: String,
    prizes: Option<(String, String)>,
}

#[derive(Template)]
#[template(path = "participants.html")]
struct Participants {
    frame: Frame,
    people: Vec<PersonRow>,
    free: usize,
}

struct PersonRow {
    name: String,
    initial: String,
    here: bool,
    solved: usize,
    /// The editor's address, for whoever may enter it.
    editor: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct BoardQuery {
    projector: Option<String>,
}

/// `GET /seat`: the participant's one page. Asking for it wakes the editor.
pub(crate) async fn seat(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    let settings = &app.settings;
    let Some(record) = caller.seat().and_then(|seat| settings.store.seat(seat)) else {
        return Ok(go_to(if caller.is_facilitator() {
            "/admin"
        } else {
            "/"
        }));
    };
    check_on_list(&app, &record.seat)?;
    wake(&app, &record.seat).await?;
    let tile = crate::room::tile(settings, record.clone());
    let token = settings.store.link_token(&record.seat).unwrap_or_default();
    Ok(page(&Seat {
        frame: Frame::of(&app, &caller),
        solved: tile.solved,
        total: tile.total,
        editor: format!("{}/", settings.editor_origin(&record.seat)),
        instructions: format!(
            "{}{}",
            settings.instructions_origin(),
            settings.instructions_path
        ),
        app_url: settings.app_url(&record.seat).unwrap_or_default(),
        ready: record.status.editor == EditorStatus::Ready,
        is_separated: settings.is_separated,
        link: format!("{}/join/{token}", settings.portal_origin()),
        exercises: exercise_lines(&app, &record.seat),
        databases: (settings.databases)(&record.seat)
            .into_iter()
            .map(|access| database_lines(&app, access))
            .collect(),
        database_state: tile.database,
        visitors: settings
            .store
            .visits_of(&record.seat)
            .into_iter()
            .map(|visit| visit.facilitator)
            .collect::<Vec<_>>()
            .join(", "),
    }))
}

fn exercise_lines(app: &App, seat: &SeatId) -> Vec<ExerciseLine> {
    let settings = &app.settings;
    let entries = settings.exercises.iter().map(|entry| ExerciseLine {
        title: entry.title.clone(),
        slug: entry.slug.to_string(),
        page: entry.page.as_ref().map_or_else(String::new, |page| {
            format!("{}{page}", settings.instructions_origin())
        }),
        solved: settings
            .store
            .exercise(seat, &entry.slug)
            .solved_at
            .is_some(),
        reason: if entry.missing.is_empty() {
            String::new()
        } else {
            app.texts.with("seat.needs", entry.missing.join(", "))
        },
    });
    entries.collect()
}

fn database_lines(app: &App, access: DatabaseAccess) -> DatabaseLines {
    let t = app.texts;
    match access {
        DatabaseAccess::Mongodb { uri } => DatabaseLines {
            name: "MongoDB",
            lines: vec![
                (t.get("databases.uri"), uri.clone()),
                (
                    t.get("databases.terminal"),
                    format!("mongosh {}", quoted(&uri)),
                ),
            ],
        },
        DatabaseAccess::Postgres { uri, jdbc } => DatabaseLines {
            name: "PostgreSQL",
            lines: vec![
                (t.get("databases.uri"), uri.clone()),
                (t.get("databases.jdbc"), jdbc),
                (
                    t.get("databases.terminal"),
                    format!("psql {}", quoted(&uri)),
                ),
            ],
        },
    }
}

/// Returns one word of a shell's line.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// `GET /leaderboard`
pub(crate) async fn leaderboard(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<BoardQuery>,
) -> Response {
    let settings = &app.settings;
    let board = Arc::clone(&app.board.borrow());
    let me = caller.seat();
    let is_top = |row: &Row| {
        board
            .rows
            .iter()
            .take(ROWS_MAX)
            .any(|top| top.seat == row.seat)
    };
    // The code lets people in: only facilitators put it on the wall.
    let projector = query.projector.is_some();
    let code = if projector && caller.is_facilitator() {
        settings.store.event_code()
    } else {
        String::new()
    };
    page(&Leaderboard {
        frame: Frame::of(&app, &caller),
        rows: board.rows.iter().take(ROWS_MAX).cloned().collect(),
        me: me.map(ToString::to_string).unwrap_or_default(),
        own: me
            .and_then(|seat| board.row(seat))
            .filter(|row| !is_top(row))
            .cloned(),
        close_on: board.close_on.map(|at| at.to_string()).unwrap_or_default(),
        board,
        projector,
        join_host: settings.portal_origin(),
        code,
        prizes: settings
            .prizes
            .clone()
            .map(|prizes| (prizes.place, prizes.time)),
    })
}

/// `GET /participants`
pub(crate) async fn participants(State(app): State<Arc<App>>, caller: Caller) -> Response {
    let settings = &app.settings;
    let seats: Vec<_> = settings
        .store
        .seats()
        .into_iter()
        .filter(|seat| !seat.decommissioned)
        .collect();
    let free = seats
        .iter()
        .filter(|seat| !seat.listed && seat.taken.is_none())
        .count();
    let mut shown: Vec<_> = seats
        .into_iter()
        .filter(|seat| seat.listed || seat.taken.is_some())
        .collect();
    shown.sort_by_key(|seat| std::cmp::Reverse(seat.taken.as_ref().map(|taken| taken.at)));
    let people = shown.into_iter().map(|record| PersonRow {
        initial: record
            .display_name
            .chars()
            .next()
            .map(|c| c.to_uppercase().to_string())
            .unwrap_or_default(),
        here: record.taken.is_some(),
        editor: (caller.seat() == Some(&record.seat))
            .then(|| format!("{}/", settings.editor_origin(&record.seat))),
        solved: settings
            .store
            .exercises(&record.seat)
            .values()
            .filter(|state| state.solved_at.is_some())
            .count(),
        name: record.display_name,
    });
    page(&Participants {
        frame: Frame::of(&app, &caller),
        people: people.collect(),
        free,
    })
}
