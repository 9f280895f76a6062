//! Control: the part of the platform that acts. It alone holds platform
//! credentials; portal and gateway only write orders, which it carries out,
//! and it follows every seat's agent. Here is the loop over orders; a seat's
//! agent is followed in [`seat`], exercises are graded in [`grading`].
//!
//! Orders are rows and repeatable: what a crash interrupted is found pending
//! again and done anew.

pub(crate) mod agent;
mod care;
pub(crate) mod databases;
mod grading;
mod idle;
mod line;
mod notices;
mod rotate;
mod seat;
mod shared;
mod watches;

use std::collections::HashSet;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, bail};
use arena_database::{Before, Provisioner};
use arena_local::watch::Stopped;
use arena_store::{Actor, Order, OrderId, OrderKind, Store, Trigger};
use arena_supervisor::Child;
use arena_workshop::check::{MongodbStep, Step};
use arena_workshop::plan::SeatPlan;
use arena_workshop::{Exercise, SeatId};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::control::agent::AgentClient;
use crate::control::databases::Quotas;
use crate::control::idle::Room;
use crate::control::line::WakeLine;
use crate::control::seat::SeatWatch;
use crate::control::watches::Watches;
use crate::platform::databases::Databases;
use crate::platform::seats::StartedSeats;
pub(crate) use shared::scenario;

/// Databases restored at the same time.
const RESTORES_AT_ONCE: usize = 2;
/// How long an editor may take to answer, on a machine where everybody comes at once.
const EDITOR_LIMIT: Duration = Duration::from_secs(90);
/// Before the databases' guard connects again.
const GUARD_PAUSE: Duration = Duration::from_secs(1);

/// What control works with.
pub(crate) struct Settings {
    /// The store.
    pub(crate) store: Store,
    /// Seats of the plan.
    pub(crate) seats: Vec<ControlledSeat>,
    /// Exercises that the scenario lists.
    pub(crate) exercises: Arc<[Exercise]>,
    /// Databases, and the seats' log-ins there.
    pub(crate) databases: Arc<Databases>,
    /// Seats as they run, to start one again.
    pub(crate) started: Arc<StartedSeats>,
    /// The scenario as workshop apps may read it, without secrets.
    pub(crate) scenario: serde_json::Value,
    /// What seats may take of the databases.
    pub(crate) quotas: Quotas,
    /// For how long nobody must be in the room before editors are stopped.
    pub(crate) editor_idle: Duration,
    /// Seats whose collections or indexes were just redefined by themselves.
    pub(crate) schema_changes: Option<mpsc::Receiver<SeatId>>,
    /// Seats that were just started again because they took too much.
    pub(crate) stops: Option<mpsc::Receiver<Stopped>>,
    /// Seats that come and go with the list of names, while the event runs.
    pub(crate) changes: mpsc::Receiver<SeatChange>,
}

/// A seat that comes or goes while the event runs.
pub(crate) enum SeatChange {
    /// It runs, and is followed from now on.
    Comes(Box<ControlledSeat>),
    /// It is about to be stopped: nobody looks after it any more.
    Goes(SeatId),
}

/// What control knows of a seat.
pub(crate) struct ControlledSeat {
    /// The plan's seat.
    pub(crate) plan: SeatPlan,
    /// The agent's listener, made by the platform.
    pub(crate) socket: PathBuf,
    /// Who knows its databases and how it logs in there.
    pub(crate) databases: Arc<Databases>,
    /// The seat's processes.
    pub(crate) child: Child,
}

/// What the tasks of control share.
struct Shared {
    store: Store,
    exercises: Arc<[Exercise]>,
    provisioner: Option<Arc<Provisioner>>,
    databases: Arc<Databases>,
    started: Arc<StartedSeats>,
    quotas: Quotas,
    seats: Watches,
    line: WakeLine,
    restores: Semaphore,
    room: Room,
}

/// Carries out orders and follows the seats until `shutdown`.
///
/// # Errors
/// When the store cannot be written any more.
pub(crate) async fn serve(settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let shared = Arc::new(Shared {
        store: settings.store,
        exercises: settings.exercises,
        provisioner: settings.databases.provisioner(),
        databases: settings.databases,
        started: settings.started,
        quotas: settings.quotas,
        seats: Watches::default(),
        line: WakeLine::of(available_parallelism().map_or(1, NonZero::get)),
        restores: Semaphore::new(RESTORES_AT_ONCE),
        room: Room::entered(Instant::now(), settings.editor_idle),
    });
    databases::set_quotas(&shared);
    let mut tasks = JoinSet::new();
    for seat in settings.seats {
        follow(&shared, seat, &shutdown, &mut tasks);
    }
    tasks.spawn(line::tell_places(Arc::clone(&shared), shutdown.clone()));
    tasks.spawn(databases::watch(Arc::clone(&shared), shutdown.clone()));
    tasks.spawn(idle::let_editors_sleep(
        Arc::clone(&shared),
        shutdown.clone(),
    ));
    tasks.spawn(shared::publish(
        Arc::clone(&shared),
        settings.scenario,
        shutdown.clone(),
    ));
    if let Some(provisioner) = shared.provisioner.clone() {
        tasks.spawn(guard_databases(provisioner, shutdown.clone()));
    }
    if let Some(changes) = settings.schema_changes {
        tasks.spawn(grade_what_depends_on_schema(
            Arc::clone(&shared),
            changes,
            shutdown.clone(),
        ));
    }
    if let Some(stops) = settings.stops {
        tasks.spawn(notices::tell(Arc::clone(&shared), stops, shutdown.clone()));
    }
    let outcome = carry_out(&shared, settings.changes, &shutdown, &mut tasks).await;
    shutdown.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task of control ended badly")??;
    }
    outcome
}

/// Follows a seat from now on, until it goes or `shutdown`.
fn follow(
    shared: &Arc<Shared>,
    seat: ControlledSeat,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let watch = Arc::new(SeatWatch::new(seat));
    let end = shutdown.child_token();
    databases::recall_quota(shared, &watch);
    shared.seats.insert(Arc::clone(&watch), end.clone());
    tasks.spawn(seat::follow(
        Arc::clone(&watch),
        Arc::clone(shared),
        end.clone(),
    ));
    tasks.spawn(care::look_after(watch, Arc::clone(shared), end));
}

/// Keeps one seat's sessions from taking what all seats need; goes on after the server was gone.
async fn guard_databases(
    provisioner: Arc<Provisioner>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        // The guard leaves nothing half done.
        let broken = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            guarded = provisioner.guard() => guarded,
        };
        if let Err(error) = broken {
            tracing::debug!(%error, "the guard of the databases begins again");
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(GUARD_PAUSE) => {}
        }
    }
}

/// An index made in `mongosh` shows at once: exercises that ask for indexes or collections are graded.
async fn grade_what_depends_on_schema(
    shared: Arc<Shared>,
    mut changes: mpsc::Receiver<SeatId>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        // What was not received stays in the channel.
        let seat = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            seat = changes.recv() => match seat {
                Some(seat) => seat,
                None => return Ok(()),
            },
        };
        for exercise in shared.unsolved(&seat) {
            let asks = shared
                .exercises
                .iter()
                .any(|other| other.slug == exercise && asks_for_schema(other));
            if asks {
                shared
                    .order_grading(&seat, exercise, Trigger::Signal)
                    .await?;
            }
        }
    }
}

fn asks_for_schema(exercise: &Exercise) -> bool {
    let asks = |step: &Step| {
        matches!(
            step,
            Step::Mongodb(MongodbStep::ListIndexes { .. } | MongodbStep::Kind { .. })
        )
    };
    exercise.checks.iter().any(|check| {
        let bound = check
            .given
            .iter()
            .chain(&check.then)
            .map(|binding| &binding.step);
        bound.chain(&check.act).any(asks)
    })
}

/// The loop over orders: gradings go to the grading queue, everything else to a task of its own.
async fn carry_out(
    shared: &Arc<Shared>,
    mut changes: mpsc::Receiver<SeatChange>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut changed = shared.store.orders_changed();
    let mut grading = grading::Grading::new(Arc::clone(shared));
    let mut begun: HashSet<OrderId> = HashSet::new();
    loop {
        let open = shared.store.open_orders();
        begun.retain(|id| open.iter().any(|order| order.id == *id));
        for order in open {
            if !begun.insert(order.id) {
                continue;
            }
            if let OrderKind::Grade { .. } = order.kind {
                grading.push(order);
            } else {
                tasks.spawn(act(Arc::clone(shared), order));
            }
        }
        grading.start_what_may_run();
        // Each branch only observes or takes one message; orders are looked up again at the top of the loop.
        tokio::select! {
            () = shutdown.cancelled() => {
                grading.stop().await;
                return Ok(());
            }
            ended = grading.finished() => ended?,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                ended.context("a task of control ended badly")??;
            }
            Some(change) = changes.recv() => match change {
                SeatChange::Comes(seat) => follow(shared, *seat, shutdown, tasks),
                SeatChange::Goes(id) => shared.seats.remove(&id),
            },
            result = changed.changed() => result.context("the store is gone")?,
        }
    }
}

/// Carries out one order and writes how it ended.
async fn act(shared: Arc<Shared>, order: Order) -> anyhow::Result<()> {
    let seat = order.kind.seat().clone();
    let outcome = match shared.seats.get(&seat) {
        None => Err(format!("there is no seat {seat} in what runs now")),
        Some(watch) => {
            shared.store.start_order(order.id).await?;
            carry_out_one(&shared, &watch, &order)
                .await
                .map_err(|error| format!("{error:#}"))
        }
    };
    if let Err(message) = &outcome {
        tracing::warn!(seat.id = %seat, order = order.kind.action(), error = %message, "an order failed");
    }
    shared.store.finish_order(order.id, outcome).await?;
    Ok(())
}

async fn carry_out_one(
    shared: &Shared,
    watch: &SeatWatch,
    order: &Order,
) -> anyhow::Result<String> {
    match &order.kind {
        OrderKind::WakeEditor { .. } => wake_editor(shared, watch).await,
        OrderKind::StopEditor { .. } => idle::stop_editor(shared, watch).await,
        OrderKind::RestartApp { app, .. } => {
            let name = seat::app_name(*app);
            watch
                .agent()
                .tell(&format!("/apps/{name}/restart"))
                .await
                .map(|()| format!("{name} restarted"))
        }
        OrderKind::RestartSeat { .. } => care::restart(shared, watch).await,
        OrderKind::RestoreDatabase { .. } => {
            // Carried out again after a crash, it must not keep the half-restored state.
            restore(shared, watch, Restore::Start(order.id)).await
        }
        OrderKind::BringBackDatabase { .. } => restore(shared, watch, Restore::Undo).await,
        OrderKind::RaiseQuota { .. } => databases::raise_quota(shared, watch),
        OrderKind::RotatePassword { .. } => rotate::rotate(shared, watch).await,
        OrderKind::Grade { .. } => unreachable!("gradings go to the grading queue"),
    }
}

/// Wakes the seat's editor when it is its turn, and waits until it answers.
async fn wake_editor(shared: &Shared, watch: &SeatWatch) -> anyhow::Result<String> {
    shared.room.visit(Instant::now());
    if watch.editor_is_ready() {
        return Ok("the editor is awake".to_owned());
    }
    // Nobody waits in line for a seat that is not there.
    if let Some(reason) = watch.given_up() {
        bail!("{reason}");
    }
    let _turn = shared.line.turn(watch.id()).await;
    if watch.stand(None) {
        watch.publish(shared).await?;
    }
    watch.forget_editor_failure();
    watch.agent().tell("/editor/wake").await?;
    watch.editor_ready(EDITOR_LIMIT).await?;
    shared.room.visit(Instant::now());
    Ok("the editor is awake".to_owned())
}

/// What a seat's database is put back to.
enum Restore {
    /// The template; the state before is kept for this order.
    Start(OrderId),
    /// What the last restore kept.
    Undo,
}

async fn restore(shared: &Shared, watch: &SeatWatch, to: Restore) -> anyhow::Result<String> {
    let provisioner = shared
        .provisioner
        .as_ref()
        .context("this workshop has no database")?;
    let database = watch.database().context("this seat has no database")?;
    let _turn = shared
        .restores
        .acquire()
        .await
        .context("control is stopping")?;
    let (done, action, told) = match to {
        Restore::Start(order) => {
            let kept = Before::KeepFor(order);
            let done = provisioner.restore_seat(&database, kept).await;
            (done, "database_restored", "database restored")
        }
        Restore::Undo => {
            let done = provisioner.bring_back_seat(&database).await;
            (
                done,
                "database_brought_back",
                "the state before the restore is back",
            )
        }
    };
    done.with_context(|| format!("cannot restore the database of {}", watch.id()))?;
    shared
        .store
        .audit(Actor::System, action, watch.id().as_str())
        .await?;
    Ok(told.to_owned())
}

impl Shared {
    /// Exercises that listen for the saving of that file.
    fn exercises_of_file<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Exercise> {
        self.exercises
            .iter()
            .filter(move |exercise| exercise.files.iter().any(|file| file == path))
    }
}

impl AgentClient {
    fn of(seat: &ControlledSeat) -> Self {
        Self {
            socket: seat.socket.clone(),
            authority: seat.plan.authority.clone(),
        }
    }
}
