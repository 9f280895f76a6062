//! The leaderboard: computed from results whenever something changes, once for
//! everybody who watches, and never stored.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arena_store::{EventKind, ResultRow, SeatRecord, Store};
use arena_workshop::scoring::{Leaderboard, Rules, Scoring, ShortDuration, Solved};
use arena_workshop::{ExerciseSlug, SeatId};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::settings::Settings;

/// A room that solves at once gets so many boards less: each goes to everybody who watches.
const BOARD_EVERY: Duration = Duration::from_millis(100);
/// Rows that a page gets; further down, one sees oneself only.
pub(crate) const ROWS_MAX: usize = 200;

/// The board at one moment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Board {
    /// Last event that it knows.
    #[serde(skip)]
    pub(crate) event: i64,
    /// `timed` or `score`.
    pub(crate) kind: &'static str,
    /// How many exercises can be solved.
    pub(crate) total: usize,
    /// People who have joined.
    pub(crate) joined: usize,
    /// When it freezes or froze.
    pub(crate) close_on: Option<Timestamp>,
    /// Whether it has frozen.
    pub(crate) frozen: bool,
    /// Who has results, best first.
    pub(crate) rows: Vec<Row>,
    /// What all viewers get alike, as JSON without its opening brace: written once for all.
    #[serde(skip)]
    alike: OnceLock<String>,
}

/// A person's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) rank: u32,
    pub(crate) seat: SeatId,
    pub(crate) name: String,
    pub(crate) solved: u32,
    pub(crate) points: u32,
    pub(crate) duration: String,
    pub(crate) duration_ms: i64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// For each exercise in order: whether it is solved.
    pub(crate) marks: Vec<bool>,
}

impl Board {
    /// Returns the board as it is now.
    pub(crate) fn of(settings: &Settings, now: Timestamp) -> Self {
        let store = &settings.store;
        let (event, seats, close_on) = (store.last_event(), store.seats(), store.close_on());
        let slugs: Vec<ExerciseSlug> = settings
            .solvable()
            .map(|entry| entry.slug.clone())
            .collect();
        let rows = ranked(settings.scoring, &store.results(), &seats, &slugs, close_on);
        Self {
            event,
            kind: settings.scoring.as_str(),
            total: slugs.len(),
            joined: seats
                .iter()
                .filter(|seat| seat.taken.is_some() && !seat.decommissioned)
                .count(),
            close_on,
            frozen: close_on.is_some_and(|at| at <= now),
            rows,
            alike: OnceLock::new(),
        }
    }

    /// Returns the row of a seat.
    pub(crate) fn row(&self, seat: &SeatId) -> Option<&Row> {
        self.rows.iter().find(|row| row.seat == *seat)
    }

    /// Returns what one viewer gets: their own row, the server's clock for the countdown, and the top.
    pub(crate) fn json_for(&self, seat: Option<&SeatId>) -> String {
        let me = seat.and_then(|seat| self.row(seat));
        let me = serde_json::to_string(&me).unwrap_or_default();
        let now = Timestamp::now();
        format!("{{\"me\":{me},\"now\":\"{now}\",{}", self.alike())
    }

    fn alike(&self) -> &str {
        self.alike.get_or_init(|| {
            let top = Self {
                rows: self.rows.iter().take(ROWS_MAX).cloned().collect(),
                ..self.clone()
            };
            let json = serde_json::to_string(&top).unwrap_or_default();
            json.strip_prefix('{').unwrap_or_default().to_owned()
        })
    }
}

/// Returns who has results, best first. Results after `close_on`, of exercises that the scenario
/// does not list, and of people who are hidden or whose seat is gone do not count.
pub(crate) fn ranked(
    scoring: Scoring,
    results: &[ResultRow],
    seats: &[SeatRecord],
    exercises: &[ExerciseSlug],
    close_on: Option<Timestamp>,
) -> Vec<Row> {
    let people: HashMap<&SeatId, &SeatRecord> = seats
        .iter()
        .filter(|seat| seat.taken.is_some() && !seat.excluded && !seat.decommissioned)
        .map(|seat| (&seat.seat, seat))
        .collect();
    let places: HashMap<&ExerciseSlug, usize> = exercises
        .iter()
        .enumerate()
        .map(|(place, slug)| (slug, place))
        .collect();
    let mut marks: HashMap<&SeatId, Vec<bool>> = HashMap::new();
    let mut counted = Vec::with_capacity(results.len());
    for result in results {
        let late = close_on.is_some_and(|at| result.at > at);
        let Some(place) = places
            .get(&result.exercise)
            .filter(|_| !late && people.contains_key(&result.seat))
        else {
            continue;
        };
        marks
            .entry(&result.seat)
            .or_insert_with(|| vec![false; exercises.len()])[*place] = true;
        counted.push(Solved {
            seat: result.seat.clone(),
            exercise: result.exercise.clone(),
            at: result.at,
        });
    }
    let rules = Rules {
        close_on,
        ..Rules::default()
    };
    let board = Leaderboard::rank(scoring, &counted, &rules);
    board
        .rows
        .into_iter()
        .map(|row| {
            let duration = row.duration();
            Row {
                rank: row.rank,
                name: people
                    .get(&row.seat)
                    .map_or_else(|| row.seat.to_string(), |seat| seat.display_name.clone()),
                solved: row.solved,
                points: row.points,
                duration: ShortDuration(duration).to_string(),
                duration_ms: i64::try_from(duration.as_millis()).unwrap_or(i64::MAX),
                first: row.first,
                last: row.last,
                marks: marks.remove(&row.seat).unwrap_or_default(),
                seat: row.seat,
            }
        })
        .collect()
}

/// Returns whether an event can change the board.
pub(crate) fn concerns(kind: &EventKind) -> bool {
    !matches!(
        kind,
        EventKind::SeatStatus { .. }
            | EventKind::Attempted { .. }
            | EventKind::OrderChanged { .. }
            | EventKind::WaitingChanged
            | EventKind::ConnectionTested
            | EventKind::LookedInto { .. }
            | EventKind::Message { .. }
    )
}

/// Keeps the board current until the portal ends.
pub(crate) async fn keep(
    settings: Settings,
    board: watch::Sender<Arc<Board>>,
    shutdown: CancellationToken,
) {
    let store: Store = settings.store.clone();
    let mut changes = store.events_changed();
    let mut seen = board.borrow().event;
    loop {
        let freezes_in = store
            .close_on()
            .map(|at| at.duration_since(Timestamp::now()))
            .filter(|wait| wait.is_positive());
        let freezes_in = freezes_in.and_then(|wait| Duration::try_from(wait).ok());
        let mut changed = false;
        // Each branch only waits: whichever is dropped loses nothing.
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = changes.changed() => if ended.is_err() { return },
            () = tokio::time::sleep(freezes_in.unwrap_or(Duration::MAX)), if freezes_in.is_some() => changed = true,
        }
        loop {
            let events = store.events_since(seen, 1000);
            let Some(last) = events.last() else { break };
            seen = last.id;
            changed |= events.iter().any(|event| concerns(&event.kind));
        }
        if changed {
            board.send_replace(Arc::new(Board::of(&settings, Timestamp::now())));
            // Dropping the pause ends it, which a shutdown may.
            shutdown
                .run_until_cancelled(tokio::time::sleep(BOARD_EVERY))
                .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arena_store::{SeatStatus, Taken};

    fn person(id: &str) -> SeatRecord {
        SeatRecord {
            seat: SeatId::new(id).unwrap(),
            display_name: id.to_owned(),
            listed: true,
            taken: Some(Taken {
                at: Timestamp::UNIX_EPOCH,
                name: id.to_owned(),
            }),
            excluded: false,
            decommissioned: false,
            status: SeatStatus::default(),
            sitting: 1,
        }
    }

    fn slugs(all: &[&str]) -> Vec<ExerciseSlug> {
        all.iter()
            .map(|slug| ExerciseSlug::new(*slug).unwrap())
            .collect()
    }

    fn results(rows: &[(&str, &str, i64)]) -> Vec<ResultRow> {
        rows.iter()
            .map(|(seat, exercise, second)| ResultRow {
                seat: SeatId::new(*seat).unwrap(),
                exercise: ExerciseSlug::new(*exercise).unwrap(),
                at: Timestamp::from_second(*second).unwrap(),
            })
            .collect()
    }

    #[test]
    fn late_unlisted_and_hidden_results_do_not_count() {
        let mut people = [person("ada"), person("bob"), person("cy")];
        people[1].excluded = true;
        let results = results(&[
            ("bob", "a-1", 1),
            ("ada", "a-1", 5),
            ("cy", "a-1", 6),
            ("cy", "unlisted", 6),
            ("ada", "a-2", 50),
            ("gone", "a-1", 2),
        ]);
        let close = Timestamp::from_second(6).unwrap();
        let rows = ranked(
            Scoring::Score,
            &results,
            &people,
            &slugs(&["a-2", "a-1"]),
            Some(close),
        );
        let shown: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row.rank,
                    row.name.as_str(),
                    row.points,
                    row.marks.as_slice(),
                )
            })
            .collect();
        // The first place of a hidden person goes to the next.
        assert_eq!(
            shown,
            [
                (1, "ada", 100, &[false, true][..]),
                (2, "cy", 95, &[false, true][..])
            ]
        );
    }
}
