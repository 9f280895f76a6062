//! The room: one tile per seat, for facilitators only.

use arena_store::{
    AppState, DatabaseStatus, DatabaseUse, EditorStatus, ExerciseState, Order, OrderKind,
    OrderState, PostgresRoom, PostgresUse, SeatPhase, SeatRecord, Store,
};
use arena_workshop::{ExerciseSlug, SeatId};
use jiff::Timestamp;
use serde::Serialize;

use crate::settings::Settings;

/// What a facilitator sees of a seat.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Tile {
    pub(crate) seat: SeatId,
    pub(crate) name: String,
    pub(crate) listed: bool,
    pub(crate) taken: bool,
    pub(crate) excluded: bool,
    pub(crate) solved: usize,
    pub(crate) total: usize,
    pub(crate) last_activity: Option<Timestamp>,
    /// Exercise and message of the last check that failed, where the last attempt failed.
    pub(crate) failure: Option<String>,
    pub(crate) seat_state: &'static str,
    pub(crate) editor: String,
    pub(crate) app: &'static str,
    pub(crate) database: &'static str,
    /// What the seat takes of the built-in database, in a line; empty where that is not known.
    pub(crate) database_use: String,
    /// The same of PostgreSQL.
    pub(crate) postgres_use: String,
    /// Its last slow statements, one in a line.
    pub(crate) database_slow: Vec<String>,
    /// Whether its databases were restored: what was there before can come back.
    pub(crate) restored: bool,
    pub(crate) message: Option<String>,
    /// Whether the seat or its editor was given up: it has to be started again.
    pub(crate) failed: bool,
    /// Whether somebody should look: something failed in the seat.
    pub(crate) trouble: bool,
}

/// Connection tests that the room shows.
const TESTS_MAX: usize = 300;
/// Longest failure line on a tile, in characters.
const LINE_MAX: usize = 160;

/// Returns the tile of a seat.
pub(crate) fn tile(settings: &Settings, record: SeatRecord) -> Tile {
    let exercises = settings.store.exercises(&record.seat);
    let listed = |slug: &ExerciseSlug| settings.solvable().any(|entry| entry.slug == *slug);
    let solved = exercises
        .iter()
        .filter(|(slug, state)| state.solved_at.is_some() && listed(slug))
        .count();
    let last = exercises
        .iter()
        .filter_map(|(slug, state)| Some((state.last_at?, slug, state)))
        .max_by_key(|(at, ..)| *at);
    let failure = last
        .filter(|(_, _, state)| !state.passed)
        .map(|(_, slug, state)| failure_line(settings, slug, state));
    let status = &record.status;
    let failed = status.is_given_up();
    let app = status
        .apps
        .iter()
        .map(|app| app.state)
        .max_by_key(|state| severity(*state));
    Tile {
        solved,
        total: settings.solvable().count(),
        last_activity: last
            .map(|(at, ..)| at)
            .max(record.taken.as_ref().map(|taken| taken.at)),
        failure,
        seat_state: phase_word(status.phase),
        editor: editor_word(status.editor),
        app: app.map_or("none", app_word),
        database: database_word(status.database),
        database_use: status
            .database_use
            .as_ref()
            .map(use_line)
            .unwrap_or_default(),
        postgres_use: status
            .postgres_use
            .as_ref()
            .map(postgres_line)
            .unwrap_or_default(),
        database_slow: status
            .database_use
            .as_ref()
            .map(|taken| taken.slow.clone())
            .unwrap_or_default(),
        restored: was_restored(&settings.store, &record.seat),
        message: ordered(&settings.store, &record.seat)
            .or_else(|| status.message.clone())
            .or_else(|| status.apps.iter().find_map(|app| app.message.clone())),
        failed,
        trouble: failed
            || status.database == DatabaseStatus::Failed
            || status
                .database_use
                .as_ref()
                .is_some_and(DatabaseUse::is_nearly_full)
            || status
                .postgres_use
                .as_ref()
                .is_some_and(PostgresUse::is_nearly_full)
            || app == Some(AppState::Failed),
        taken: record.taken.is_some(),
        seat: record.seat,
        name: record.display_name,
        listed: record.listed,
        excluded: record.excluded,
    }
}

/// Returns the exercise and the message of the first check that failed.
fn failure_line(settings: &Settings, slug: &ExerciseSlug, state: &ExerciseState) -> String {
    let failed = state.checks.iter().find(|check| !check.passed);
    let message = failed.map_or("", |check| {
        if check.message.is_empty() {
            &check.name
        } else {
            &check.message
        }
    });
    let line = message.lines().next().unwrap_or_default();
    let line: String = line.chars().take(LINE_MAX).collect();
    format!("{}: {line}", settings.exercise_title(slug))
}

/// Somebody on the waiting list, as facilitators see them.
#[derive(Debug, Serialize)]
pub(crate) struct WaitingView {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) at: Timestamp,
}

/// A connection test, as facilitators see it.
#[derive(Debug, Serialize)]
pub(crate) struct TestView {
    pub(crate) name: String,
    pub(crate) at: Timestamp,
    pub(crate) good: bool,
    /// What does not work, in words of the API.
    pub(crate) troubles: Vec<String>,
    pub(crate) latency_ms: Option<u32>,
}

/// Returns who waits, first come first.
pub(crate) fn waiting(store: &Store) -> Vec<WaitingView> {
    let waiting = store.waiting().into_iter().map(|entry| WaitingView {
        id: entry.id,
        name: entry.name,
        at: entry.at,
    });
    waiting.collect()
}

/// Returns the connection tests, newest first.
pub(crate) fn tested(store: &Store) -> Vec<TestView> {
    let tests = store.connection_tests().into_iter().map(|test| {
        let report = test.report;
        let parts = [
            ("websocket", report.websocket),
            ("cookies", report.cookies),
            ("clipboard", report.clipboard),
        ];
        let broken = parts
            .into_iter()
            .filter(|(_, works)| !works)
            .map(|(part, _)| part.to_owned());
        TestView {
            good: report.is_good(),
            troubles: broken.chain(report.blocked).collect(),
            latency_ms: report.latency_ms,
            name: test.name,
            at: test.at,
        }
    });
    tests.take(TESTS_MAX).collect()
}

/// `MongoDB: 12 of 256 MB, 5555 documents, 3 connections`, and what was refused.
fn use_line(taken: &DatabaseUse) -> String {
    let mut line = format!(
        "MongoDB: {} of {} MB, {}, {}",
        taken.megabytes,
        taken.megabytes_max,
        counted(taken.documents, "document"),
        counted(taken.connections, "connection")
    );
    if taken.refused > 0 {
        line.push_str(&format!(", {} refused", taken.refused));
    }
    line
}

/// `PostgreSQL: 3 of 256 MB, 2 connections`, and what was taken from the seat.
fn postgres_line(taken: &PostgresUse) -> String {
    let mut line = format!(
        "PostgreSQL: {} of {} MB, {}",
        taken.megabytes,
        taken.megabytes_max,
        counted(taken.connections, "connection")
    );
    line.push_str(match taken.room {
        PostgresRoom::Free => "",
        PostgresRoom::Full => ", full: only reading and deleting",
        PostgresRoom::Shut => ", far over its quota and shut: raise the quota or restore",
    });
    if taken.ended > 0 {
        let reason = taken.last_ended.as_deref().unwrap_or_default();
        let ended = counted(taken.ended, "session");
        line.push_str(&format!(", {ended} ended ({reason})"));
    }
    line
}

fn counted(number: u64, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {what}{ending}")
}

fn was_restored(store: &Store, seat: &SeatId) -> bool {
    let restore = OrderKind::RestoreDatabase { seat: seat.clone() };
    store.times_done(&restore) > 0
}

/// Returns what facilitators ordered for the seat and how far it is: what is being done, else what
/// failed last.
fn ordered(store: &Store, seat: &SeatId) -> Option<String> {
    let matters = |order: &Order| {
        order.kind.seat() == seat
            && !matches!(
                order.kind,
                OrderKind::Grade { .. } | OrderKind::WakeEditor { .. }
            )
    };
    let action = |order: &Order| order.kind.action().replace('_', " ");
    if let Some(open) = store.open_orders().iter().find(|order| matters(order)) {
        return Some(format!("{}…", action(open)));
    }
    let ended = store.last_ended_order(seat)?;
    match &ended.state {
        OrderState::Failed(text) => Some(format!(
            "{} failed: {}",
            action(&ended),
            text.lines().next().unwrap_or_default()
        )),
        _ => None,
    }
}

fn severity(state: AppState) -> u8 {
    match state {
        AppState::Ready => 0,
        AppState::Starting => 1,
        AppState::Asleep => 2,
        AppState::Stopped => 3,
        AppState::Failed => 4,
    }
}

pub(crate) fn phase_word(phase: SeatPhase) -> &'static str {
    match phase {
        SeatPhase::Preparing => "preparing",
        SeatPhase::Ready => "ready",
        SeatPhase::Failed => "failed",
        SeatPhase::Stopped => "stopped",
    }
}

fn editor_word(editor: EditorStatus) -> String {
    match editor {
        EditorStatus::Stopped => "asleep".to_owned(),
        EditorStatus::Queued { position } => format!("queued {position}"),
        EditorStatus::Starting => "starting".to_owned(),
        EditorStatus::Ready => "ready".to_owned(),
        EditorStatus::Failed => "failed".to_owned(),
    }
}

fn app_word(state: AppState) -> &'static str {
    match state {
        AppState::Asleep => "asleep",
        AppState::Starting => "starting",
        AppState::Ready => "ready",
        AppState::Failed => "failed",
        AppState::Stopped => "stopped",
    }
}

fn database_word(status: DatabaseStatus) -> &'static str {
    match status {
        DatabaseStatus::Unknown => "unknown",
        DatabaseStatus::Ready => "ready",
        DatabaseStatus::Failed => "failed",
    }
}
