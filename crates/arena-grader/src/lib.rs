//! Runs checks against a seat and says what came out.
//!
//! [`grade`] is the front: one exercise, one seat, one [`Grading`]. It calls the
//! participant's app through the seat's listener and looks into the seat's
//! databases with the seat's own credentials, never with more: a trap in the
//! data then catches nobody. What it meets there is hostile until proven
//! harmless; each bound is a field of [`Limits`]. [`GradeQueue`] decides, purely,
//! which run is next.
//!
//! Begin reading at `run`; steps are in `http`, `mongo` and `sql`, the fixed set
//! of matchers in `matchers`, what equal means in `compare`.

mod compare;
mod files;
mod http;
mod matchers;
mod mongo;
mod queue;
mod random;
mod run;
mod session;
mod show;
mod sql;
mod values;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arena_database::{PostgresTls, Samples};
use arena_workshop::{Exercise, ExerciseSlug, SeatId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use queue::{GradeQueue, Run};
use session::Session;

/// How the grader reaches a seat: everything with the seat's own rights.
#[derive(Clone, Debug)]
pub struct SeatAccess {
    /// The seat.
    pub seat: SeatId,
    /// The seat's listener, a unix socket.
    pub socket: PathBuf,
    /// What the agent is addressed as, from the plan.
    pub authority: String,
    /// The seat's MongoDB, where there is one.
    pub mongodb: Option<MongodbAccess>,
    /// The seat's PostgreSQL, where there is one.
    pub postgres: Option<PostgresAccess>,
    /// Documents that markers are made like.
    pub samples: Arc<Samples>,
    /// Where random values come from: a new one for each run.
    pub random_seed: u64,
}

/// A seat's MongoDB with the seat's own user.
#[derive(Clone)]
pub struct MongodbAccess {
    /// URI with user and password.
    pub uri: String,
    /// The seat's database.
    pub database: String,
}

/// A seat's PostgreSQL with the seat's own role.
#[derive(Clone)]
pub struct PostgresAccess {
    /// Host name, or the folder of a unix socket.
    pub host: String,
    /// Port; names the socket's file too.
    pub port: u16,
    /// The seat's database.
    pub database: String,
    /// The seat's role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// How the connection is encrypted.
    pub tls: PostgresTls,
}

impl fmt::Debug for MongodbAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongodbAccess")
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PostgresAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresAccess")
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// Bounds of a run. Participants control what is compared: each of these is hit by somebody.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// One request, from connecting to the answer's last byte.
    pub request: Duration,
    /// Bytes of an answer.
    pub answer_bytes: usize,
    /// Levels of an answer's JSON.
    pub json_depth: usize,
    /// One question to a database.
    pub database: Duration,
    /// Rows that are read and compared.
    pub rows: usize,
    /// Bytes of all rows of one question.
    pub rows_bytes: usize,
    /// The whole exercise.
    pub exercise: Duration,
    /// Removing the markers, after that.
    pub cleanup: Duration,
    /// Lines of a message.
    pub message_lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(5),
            answer_bytes: 1024 * 1024,
            json_depth: 64,
            database: Duration::from_secs(5),
            rows: 1000,
            rows_bytes: 4 * 1024 * 1024,
            exercise: Duration::from_secs(20),
            cleanup: Duration::from_secs(8),
            message_lines: 20,
        }
    }
}

/// What one run said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grading {
    /// The seat.
    pub seat: SeatId,
    /// The exercise.
    pub exercise: ExerciseSlug,
    /// Which version of its checks, from [`Exercise::version`].
    pub version: String,
    /// SHA-256 (hex) of the participant's files as they were.
    pub files_hash: String,
    /// Whether every check passed.
    pub passed: bool,
    /// Each check's outcome, in order.
    pub checks: Vec<CheckOutcome>,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
}

/// What one check said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckOutcome {
    /// The check's name.
    pub name: String,
    /// Whether all that it expects was so.
    pub passed: bool,
    /// Why not: plain text of at most [`Limits::message_lines`] lines.
    pub message: Option<String>,
}

/// Runs an exercise's checks against a seat. It never fails: what goes wrong is an outcome with a
/// message for the participant.
///
/// # Cancellation
/// Markers may stay in the seat's databases; a run should be left to its own limits.
pub async fn grade(exercise: &Exercise, seat: &SeatAccess, limits: &Limits) -> Grading {
    let started_at = Timestamp::now();
    let begin = Instant::now();
    let deadline = tokio::time::Instant::now() + limits.exercise;
    let mut session = Session::new(seat, limits);
    let files_hash = files::hash(&session, &exercise.files).await;
    let mut checks = Vec::new();
    for (index, check) in exercise.checks.iter().enumerate() {
        checks.push(run::check(&mut session, check, index, deadline).await);
    }
    session.close().await;
    let passed = !checks.is_empty() && checks.iter().all(|check| check.passed);
    let duration = begin.elapsed();
    tracing::debug!(seat.id = %seat.seat, exercise.slug = %exercise.slug, passed, duration_ms = duration.as_millis(), "graded");
    Grading {
        seat: seat.seat.clone(),
        exercise: exercise.slug.clone(),
        version: exercise.version.clone(),
        files_hash,
        passed,
        checks,
        started_at,
        duration,
    }
}
