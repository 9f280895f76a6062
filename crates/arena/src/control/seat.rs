//! Follows one seat's agent: writes the seat's status to the store when it
//! changes, and turns saves, signals and restarts into orders to grade.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use arena_database::SeatDatabase;
use arena_seat::{AgentEvent, AgentHealth, AppPhase, EditorPhase};
use arena_store::{
    Actor, AppStatus, DatabaseStatus, DatabaseUse, EditorStatus, OrderKind, PostgresUse, SeatPhase,
    SeatStatus, Trigger,
};
use arena_supervisor::Child;
use arena_workshop::plan::{AppKind, SeatPlan};
use arena_workshop::{ExerciseSlug, SeatId};
use tokio::sync::{RwLock, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::form_urlencoded::byte_serialize;

use super::agent::AgentClient;
use super::care::in_a_line;
use super::{ControlledSeat, Shared};

/// After a save the app restarts by itself; when nothing moves for this long, we grade without waiting.
const RESTART_BEGINS_WITHIN: Duration = Duration::from_secs(1);
/// An app that begins to restart this long after a save was only slow: what was graded meanwhile met
/// the old code or a dying process, and is graded again.
const RESTART_MAY_BE_LATE: Duration = Duration::from_secs(10);
/// An app that is restarting is waited for at most this long before the exercise is graded anyway.
const RESTART_LIMIT: Duration = Duration::from_secs(5);
/// Waits between tries to reach an agent.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// What control knows of a seat at this moment.
pub(super) struct SeatWatch {
    id: SeatId,
    seat: ControlledSeat,
    agent: AgentClient,
    live: Mutex<Live>,
    /// Gradings share it; who exchanges the log-in that they use has it alone.
    pub(super) login: RwLock<()>,
    pub(super) editor: watch::Sender<EditorStatus>,
}

struct Live {
    health: Option<AgentHealth>,
    /// Place in the line of editors that wait for their turn, from 1.
    place: Option<u32>,
    database: DatabaseStatus,
    database_use: Option<DatabaseUse>,
    postgres_use: Option<PostgresUse>,
    /// What is wrong with the database.
    database_message: Option<String>,
    /// Why the seat was given up; until its agent answers again.
    given_up: Option<String>,
    /// What facilitators should know of the seat.
    message: Option<String>,
    /// What the terminal named *server* has not shown yet.
    unsaid: Option<String>,
}

/// Exercises waiting for the app to come back after a save, and those that did not wait long enough.
#[derive(Default)]
struct Saved {
    waiting: BTreeMap<ExerciseSlug, Trigger>,
    since: Option<Instant>,
    restart_seen: bool,
    /// Graded lately, each with the instant of its save.
    graded: BTreeMap<ExerciseSlug, (Trigger, Instant)>,
}

impl SeatWatch {
    pub(super) fn new(seat: ControlledSeat) -> Self {
        Self {
            agent: AgentClient::of(&seat),
            id: seat.plan.id.clone(),
            seat,
            live: Mutex::new(Live {
                health: None,
                place: None,
                database: DatabaseStatus::Unknown,
                database_use: None,
                postgres_use: None,
                database_message: None,
                given_up: None,
                message: None,
                unsaid: None,
            }),
            login: RwLock::new(()),
            editor: watch::Sender::new(EditorStatus::Stopped),
        }
    }

    pub(super) fn id(&self) -> &SeatId {
        &self.id
    }

    pub(super) fn agent(&self) -> &AgentClient {
        &self.agent
    }

    pub(super) fn plan(&self) -> &SeatPlan {
        &self.seat.plan
    }

    /// Returns how the grader reaches the seat now.
    pub(super) fn access(&self) -> arena_grader::SeatAccess {
        let socket = self.seat.socket.clone();
        self.seat.databases.access(&self.seat.plan, socket)
    }

    /// Returns the seat's databases with its log-in as it is now; `None` when the workshop has none.
    pub(super) fn database(&self) -> Option<SeatDatabase> {
        self.seat.databases.seat(&self.seat.plan)
    }

    /// Returns the apps that somebody has woken.
    pub(super) fn woken_apps(&self) -> Vec<AppKind> {
        let live = self.live();
        let apps = live.health.iter().flat_map(|health| &health.apps);
        let woken = apps.filter(|app| !matches!(app.state, AppPhase::Asleep | AppPhase::Stopped));
        woken.map(|app| app.kind).collect()
    }

    /// Tells the participant in the seat's terminal, now.
    pub(super) async fn tell(&self, text: &str) {
        self.live().unsaid = Some(text.to_owned());
        self.say().await;
    }

    pub(super) fn child(&self) -> &Child {
        &self.seat.child
    }

    /// Returns why the seat was given up.
    pub(super) fn given_up(&self) -> Option<String> {
        self.live().given_up.clone()
    }

    /// Takes in whether the seat was given up, and why, and shows it.
    pub(super) async fn give_up(
        &self,
        shared: &Shared,
        reason: Option<String>,
    ) -> anyhow::Result<()> {
        let before = std::mem::replace(&mut self.live().given_up, reason.clone());
        if before == reason {
            return Ok(());
        }
        self.publish(shared).await
    }

    /// A failure from before is no answer to what is asked of the editor now.
    pub(super) fn forget_editor_failure(&self) {
        self.editor.send_if_modified(|state| {
            let had_failed = *state == EditorStatus::Failed;
            if had_failed {
                *state = EditorStatus::Starting;
            }
            had_failed
        });
    }

    /// Whether a browser has the editor open.
    pub(super) fn is_visited(&self) -> bool {
        let live = self.live();
        live.health
            .as_ref()
            .is_some_and(|health| health.editor.connections > 0)
    }

    pub(super) fn editor_is_ready(&self) -> bool {
        *self.editor.borrow() == EditorStatus::Ready
    }

    /// Waits until the editor answers.
    pub(super) async fn editor_ready(&self, limit: Duration) -> anyhow::Result<()> {
        let mut editor = self.editor.subscribe();
        let reached = tokio::time::timeout(
            limit,
            editor.wait_for(|state| matches!(state, EditorStatus::Ready | EditorStatus::Failed)),
        );
        match *reached
            .await
            .context("the editor did not answer in time")?
            .context("control is stopping")?
        {
            EditorStatus::Failed => {
                let reason = self.status().message;
                bail!(reason.unwrap_or_else(|| "the editor did not start".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Takes in how the database is; returns whether that is new.
    pub(super) fn note_database(
        &self,
        status: Option<&(DatabaseStatus, Option<String>)>,
        built_in: Option<DatabaseUse>,
        postgres: Option<PostgresUse>,
    ) -> bool {
        let mut live = self.live();
        let mut is_new = false;
        if let Some((status, message)) = status
            && (live.database != *status || live.database_message != *message)
        {
            (live.database, live.database_message) = (*status, message.clone());
            is_new = true;
        }
        if built_in.is_some() && live.database_use != built_in {
            live.database_use = built_in;
            is_new = true;
        }
        if postgres.is_some() && live.postgres_use != postgres {
            live.postgres_use = postgres;
            is_new = true;
        }
        is_new
    }

    /// Takes in its place in line; returns whether that is new.
    pub(super) fn stand(&self, place: Option<u32>) -> bool {
        std::mem::replace(&mut self.live().place, place) != place
    }

    /// Shows facilitators why the seat was started again, and the participant as soon as the agent is
    /// back; `None` takes it from the room.
    pub(super) async fn notice(&self, shared: &Shared, text: Option<String>) -> anyhow::Result<()> {
        {
            let mut live = self.live();
            live.message.clone_from(&text);
            live.unsaid = text;
        }
        self.publish(shared).await
    }

    /// Shows in the seat's terminal what has not been said there.
    async fn say(&self) {
        let Some(text) = self.live().unsaid.take() else {
            return;
        };
        let text: String = byte_serialize(text.as_bytes()).collect();
        if let Err(error) = self.agent.tell(&format!("/notice?text={text}")).await {
            tracing::debug!(seat.id = %self.id, %error, "the terminal was not told");
        }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the seat's status as it is now; the store ignores what did not change.
    pub(super) async fn publish(&self, shared: &Shared) -> anyhow::Result<()> {
        let status = self.status();
        self.editor
            .send_if_modified(|state| std::mem::replace(state, status.editor) != status.editor);
        shared.store.set_status(&self.id, status).await?;
        Ok(())
    }

    pub(super) fn status(&self) -> SeatStatus {
        let live = self.live();
        let Some(health) = &live.health else {
            let (phase, editor) = if live.given_up.is_some() {
                (SeatPhase::Failed, EditorStatus::Failed)
            } else {
                (SeatPhase::Preparing, EditorStatus::Stopped)
            };
            return SeatStatus {
                run: None,
                phase,
                editor,
                apps: Vec::new(),
                database: live.database,
                database_use: live.database_use.clone(),
                postgres_use: live.postgres_use.clone(),
                message: live.told(),
            };
        };
        let editor = match live.place {
            Some(position) if health.editor.state != EditorPhase::Ready => {
                EditorStatus::Queued { position }
            }
            _ => editor_status(health.editor.state),
        };
        let apps = health
            .apps
            .iter()
            .map(|app| AppStatus {
                kind: app.kind,
                state: app_state(app.state),
                message: app.message.clone(),
            })
            .collect();
        SeatStatus {
            run: Some(health.run),
            phase: SeatPhase::Ready,
            editor,
            apps,
            database: live.database,
            database_use: live.database_use.clone(),
            postgres_use: live.postgres_use.clone(),
            message: live.told(),
        }
    }
}

impl Live {
    /// The most pressing of what people should know.
    fn told(&self) -> Option<String> {
        let editor = self.health.as_ref().and_then(|health| {
            let why = health.editor.message.as_deref().unwrap_or("it ended");
            (health.editor.state == EditorPhase::Failed)
                .then(|| format!("the editor does not start: {}", in_a_line(why)))
        });
        self.given_up
            .clone()
            .filter(|_| self.health.is_none())
            .or(editor)
            .or_else(|| self.message.clone())
            .or_else(|| self.database_message.clone())
    }
}

impl Shared {
    pub(super) async fn order_grading(
        &self,
        seat: &SeatId,
        exercise: ExerciseSlug,
        trigger: Trigger,
    ) -> anyhow::Result<()> {
        let order = OrderKind::Grade {
            seat: seat.clone(),
            exercise,
            trigger,
        };
        self.store.place_order(order, Actor::System).await?;
        Ok(())
    }
}

/// Follows the agent until `shutdown`, through its restarts.
pub(super) async fn follow(
    seat: Arc<SeatWatch>,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut wait = RETRY_FIRST;
    loop {
        // Listening may be dropped halfway: the next connection begins with the whole health.
        let broken = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            ended = listen(&seat, &shared, &mut wait) => ended?,
        };
        tracing::debug!(seat.id = %seat.id, error = %format!("{broken:#}"), "lost the agent");
        seat.live().health = None;
        seat.publish(&shared).await?;
        // The wait may be dropped halfway: nothing hangs on it.
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_LONGEST),
        }
    }
}

/// Listens to one connection of the agent. Returns why it broke; an error is the store's.
async fn listen(
    seat: &SeatWatch,
    shared: &Shared,
    wait: &mut Duration,
) -> anyhow::Result<anyhow::Error> {
    let mut events = match seat.agent.events().await {
        Ok(events) => events,
        Err(error) => return Ok(error),
    };
    let mut saved = Saved::default();
    let mut is_first = true;
    loop {
        let deadline = saved.deadline();
        // `next` keeps what it has read when it is dropped; the timer is made anew.
        let event = tokio::select! {
            event = events.next() => event,
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                saved.grade(seat, shared).await?;
                continue;
            }
        };
        match event {
            Err(error) => return Ok(error),
            Ok(None) => return Ok(anyhow::anyhow!("the agent ended its events")),
            Ok(Some(AgentEvent::Health(health))) => {
                *wait = RETRY_FIRST;
                if is_first {
                    seat.say().await;
                    is_first = false;
                }
                let came_back = saved.app_moved(seat.live().health.as_ref(), &health);
                seat.live().health = Some(health);
                seat.publish(shared).await?;
                if came_back {
                    saved.grade(seat, shared).await?;
                }
            }
            Ok(Some(AgentEvent::Saved { path })) => {
                saved.add(
                    shared
                        .exercises_of_file(&path)
                        .map(|exercise| exercise.slug.clone()),
                    Trigger::Save,
                );
            }
            Ok(Some(AgentEvent::Signal)) => {
                saved.add(shared.unsolved(&seat.id), Trigger::Signal);
            }
            Ok(Some(AgentEvent::Beat)) => {}
        }
    }
}

impl Shared {
    /// Exercises with checks that the seat has not solved.
    pub(super) fn unsolved(&self, seat: &SeatId) -> Vec<ExerciseSlug> {
        let states = self.store.exercises(seat);
        self.exercises
            .iter()
            .filter(|exercise| {
                !exercise.checks.is_empty()
                    && states
                        .get(&exercise.slug)
                        .is_none_or(|state| state.solved_at.is_none())
            })
            .map(|exercise| exercise.slug.clone())
            .collect()
    }
}

impl Saved {
    fn add(&mut self, exercises: impl IntoIterator<Item = ExerciseSlug>, trigger: Trigger) {
        self.waiting
            .extend(exercises.into_iter().map(|exercise| (exercise, trigger)));
        self.since = (!self.waiting.is_empty()).then(Instant::now);
        self.restart_seen = false;
    }

    /// When to stop waiting for the app.
    fn deadline(&self) -> Option<Instant> {
        let limit = if self.restart_seen {
            RESTART_LIMIT
        } else {
            RESTART_BEGINS_WITHIN
        };
        self.since.map(|since| since + limit)
    }

    /// Takes in how the back end moved; returns whether it has come back and something waits for it.
    fn app_moved(&mut self, before: Option<&AgentHealth>, now: &AgentHealth) -> bool {
        let backend = |health: &AgentHealth| {
            let app = health.apps.iter().find(|app| app.kind == AppKind::Backend);
            app.map(|app| (app.state, app.restarts))
        };
        let (Some(was), Some(is)) = (before.and_then(backend), backend(now)) else {
            return false;
        };
        if was != is {
            self.restart_seen = true;
            let late = std::mem::take(&mut self.graded)
                .into_iter()
                .filter(|(_, (_, saved))| saved.elapsed() < RESTART_MAY_BE_LATE);
            self.waiting
                .extend(late.map(|(exercise, (trigger, _))| (exercise, trigger)));
            self.since = self
                .since
                .or_else(|| (!self.waiting.is_empty()).then(Instant::now));
        }
        self.since.is_some() && self.restart_seen && is.0 == AppPhase::Ready
    }

    /// Orders the grading of what waits.
    async fn grade(&mut self, seat: &SeatWatch, shared: &Shared) -> anyhow::Result<()> {
        let saved = self.since.take().unwrap_or_else(Instant::now);
        for (exercise, trigger) in std::mem::take(&mut self.waiting) {
            shared
                .order_grading(&seat.id, exercise.clone(), trigger)
                .await?;
            self.graded.insert(exercise, (trigger, saved));
        }
        Ok(())
    }
}

/// The name that the agent's routes use.
pub(super) fn app_name(app: AppKind) -> &'static str {
    match app {
        AppKind::Backend => "backend",
        AppKind::Frontend => "frontend",
        AppKind::React => "react",
        AppKind::Postgres => "postgres",
    }
}

fn editor_status(state: EditorPhase) -> EditorStatus {
    match state {
        EditorPhase::Stopped => EditorStatus::Stopped,
        EditorPhase::Starting => EditorStatus::Starting,
        EditorPhase::Ready => EditorStatus::Ready,
        EditorPhase::Failed => EditorStatus::Failed,
    }
}

fn app_state(state: AppPhase) -> arena_store::AppState {
    match state {
        AppPhase::Asleep => arena_store::AppState::Asleep,
        AppPhase::Starting => arena_store::AppState::Starting,
        AppPhase::Ready => arena_store::AppState::Ready,
        AppPhase::Failed => arena_store::AppState::Failed,
        AppPhase::Stopped => arena_store::AppState::Stopped,
    }
}
