//! Attempts and results. An attempt and the result of a first pass are written
//! in one transaction, with their events; a result is never written otherwise.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use arena_workshop::{ExerciseSlug, SeatId};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use crate::events::EventKind;
use crate::model::{Change, json, parsed, timestamp};
use crate::orders::Trigger;
use crate::store::Store;
use crate::writer::{Work, WriteError, to_json};

/// Number of an attempt; grows in order of recording.
pub type AttemptId = i64;

/// One grading run of one exercise in one seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The seat.
    pub seat: SeatId,
    /// The exercise.
    pub exercise: ExerciseSlug,
    /// Version of its checks.
    pub version: String,
    /// Hash of the participant's files that were graded.
    pub files_hash: String,
    /// Why it was graded.
    pub trigger: Trigger,
    /// A failed run that nobody asked for (started by a save): shown, but no try that opens hints,
    /// and never a result.
    pub trial: bool,
    /// Whether every check passed.
    pub passed: bool,
    /// What each check said, in order.
    pub checks: Vec<CheckOutcome>,
    /// When grading began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
}

/// What one check said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckOutcome {
    /// What is verified.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// What to tell the participant; empty when there is nothing to say.
    pub message: String,
}

/// An attempt with its number and when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptRecord {
    /// Its number.
    pub id: AttemptId,
    /// When it was committed.
    pub at: Timestamp,
    /// The attempt.
    pub attempt: Attempt,
}

/// A first pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResultRow {
    /// The seat.
    pub seat: SeatId,
    /// The exercise.
    pub exercise: ExerciseSlug,
    /// When it was committed.
    pub at: Timestamp,
}

/// How one exercise stands in one seat.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ExerciseState {
    /// When it was first passed.
    pub solved_at: Option<Timestamp>,
    /// How often it was tried; trials do not count.
    pub attempts: u32,
    /// When it was last tried.
    pub last_at: Option<Timestamp>,
    /// What the checks said last.
    pub checks: Vec<CheckOutcome>,
    /// Whether every check passed last.
    pub passed: bool,
}

impl ExerciseState {
    /// Takes a newer attempt in.
    pub(crate) fn add(&mut self, attempt: Attempt, at: Timestamp) {
        if !attempt.trial {
            self.attempts = self.attempts.saturating_add(1);
        }
        self.last_at = Some(at);
        self.passed = attempt.passed;
        self.checks = attempt.checks;
    }
}

impl Store {
    /// Records an attempt; the first pass that is not a trial becomes a result in the same
    /// transaction.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn record_attempt(&self, attempt: Attempt) -> Result<AttemptId, WriteError> {
        self.write(move |work| Ok(record(work, attempt)?)).await
    }

    /// Returns the attempts of who sits in the seat now, oldest first. Reads the file.
    pub fn attempts(&self, seat: &SeatId) -> Vec<AttemptRecord> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "{SELECT} where a.seat = ?1 and a.sitting = (select sitting from seats where seat = ?1) order by a.id"
            ))?;
            let rows = statement.query_map([seat.as_str()], attempt_from)?;
            rows.collect()
        })
    }

    /// Returns how each tried exercise of a seat stands.
    pub fn exercises(&self, seat: &SeatId) -> BTreeMap<ExerciseSlug, ExerciseState> {
        self.model(|model| model.exercises.get(seat).cloned().unwrap_or_default())
    }

    /// Returns how one exercise of a seat stands.
    pub fn exercise(&self, seat: &SeatId, exercise: &ExerciseSlug) -> ExerciseState {
        self.model(|model| {
            model
                .exercises
                .get(seat)
                .and_then(|all| all.get(exercise))
                .cloned()
                .unwrap_or_default()
        })
    }

    /// Returns all results of those who sit now, oldest first.
    pub fn results(&self) -> Vec<ResultRow> {
        self.model(|model| model.results.clone())
    }
}

/// Reads how every exercise stands in every seat's current sitting.
pub(crate) fn load_states(
    connection: &Connection,
) -> rusqlite::Result<HashMap<SeatId, BTreeMap<ExerciseSlug, ExerciseState>>> {
    let mut states: HashMap<SeatId, BTreeMap<ExerciseSlug, ExerciseState>> = HashMap::new();
    let mut statement = connection.prepare(&format!(
        "{SELECT} join seats on seats.seat = a.seat and seats.sitting = a.sitting order by a.id"
    ))?;
    for row in statement.query_map([], attempt_from)? {
        let AttemptRecord { at, attempt, .. } = row?;
        let exercises = states.entry(attempt.seat.clone()).or_default();
        exercises
            .entry(attempt.exercise.clone())
            .or_default()
            .add(attempt, at);
    }
    for row in load_results(connection)? {
        states
            .entry(row.seat)
            .or_default()
            .entry(row.exercise)
            .or_default()
            .solved_at = Some(row.at);
    }
    Ok(states)
}

/// Reads the results of current sittings, oldest first.
pub(crate) fn load_results(connection: &Connection) -> rusqlite::Result<Vec<ResultRow>> {
    let mut statement = connection.prepare(
        "select r.seat, r.exercise, r.at from results r
         join seats on seats.seat = r.seat and seats.sitting = r.sitting order by r.at, r.attempt",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(ResultRow {
            seat: parsed(row, 0)?,
            exercise: parsed(row, 1)?,
            at: timestamp(row, 2)?,
        })
    })?;
    rows.collect()
}

const SELECT: &str = "select a.id, a.recorded_at, a.seat, a.exercise, a.version, a.files_hash, a.trigger, a.trial, a.passed, a.checks, a.started_at, a.duration_us from attempts a";

fn attempt_from(row: &Row<'_>) -> rusqlite::Result<AttemptRecord> {
    let duration_us: i64 = row.get(11)?;
    Ok(AttemptRecord {
        id: row.get(0)?,
        at: timestamp(row, 1)?,
        attempt: Attempt {
            seat: parsed(row, 2)?,
            exercise: parsed(row, 3)?,
            version: row.get(4)?,
            files_hash: row.get(5)?,
            trigger: json(row, 6)?,
            trial: row.get(7)?,
            passed: row.get(8)?,
            checks: json(row, 9)?,
            started_at: timestamp(row, 10)?,
            duration: Duration::from_micros(u64::try_from(duration_us).unwrap_or_default()),
        },
    })
}

fn record(work: &mut Work<'_>, attempt: Attempt) -> rusqlite::Result<AttemptId> {
    let sitting = crate::seats::sitting(work.connection, &attempt.seat)?.unwrap_or(1);
    let now = work.now.as_microsecond();
    let duration_us = i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX);
    work.connection
        .prepare_cached(
            "insert into attempts (seat, sitting, exercise, version, files_hash, trigger, trial, passed, checks, started_at, duration_us, recorded_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            attempt.seat.as_str(),
            sitting,
            attempt.exercise.as_str(),
            attempt.version,
            attempt.files_hash,
            to_json(&attempt.trigger)?,
            attempt.trial,
            attempt.passed,
            to_json(&attempt.checks)?,
            attempt.started_at.as_microsecond(),
            duration_us,
            now,
        ])?;
    let id = work.connection.last_insert_rowid();
    let (seat, exercise, passed) = (
        attempt.seat.clone(),
        attempt.exercise.clone(),
        attempt.passed,
    );
    let counts = passed && !attempt.trial;
    work.changes
        .push(Change::Attempt(Box::new(attempt), work.now));
    let first = counts
        && work
            .connection
            .prepare_cached("insert or ignore into results (seat, sitting, exercise, at, attempt) values (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![seat.as_str(), sitting, exercise.as_str(), now, id])?
            == 1;
    if first {
        let row = ResultRow {
            seat: seat.clone(),
            exercise: exercise.clone(),
            at: work.now,
        };
        work.changes.push(Change::Result(row));
        work.event(EventKind::Solved {
            seat: seat.clone(),
            exercise: exercise.clone(),
        })?;
    }
    work.event(EventKind::Attempted {
        seat,
        exercise,
        passed,
    })?;
    Ok(id)
}
