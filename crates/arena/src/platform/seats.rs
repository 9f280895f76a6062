//! Brings the plan's seats to life: the template, every seat's files and
//! sockets, then its sandbox with the agent inside.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use arena_local::engine::EngineTree;
use arena_local::forward::{self, ForwardLimits, PlainSettings, PostgresSettings, Service};
use arena_local::outbound::{self, Allowed, Network, Rule};
use arena_local::sandbox::Sandbox;
use arena_local::seat::{PRIVATE, SERVICES, SETTINGS, SeatError, SeatStart, Seats, Trees};
use arena_local::template::{Progress as TemplateProgress, Supplies, TemplateError, Templates};
use arena_local::watch::{Stopped, WatchLimits, Watched, watch};
use arena_supervisor::{Child, Status, Supervisor};
use arena_workshop::SeatId;
use arena_workshop::config::Outbound;
use arena_workshop::plan::{Plan, SeatPlan, Ways};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Kind};
use crate::platform::databases::Databases;
use crate::platform::logins::Logins;
use crate::platform::remote::MemberWays;
use crate::platform::{Parts, Prepared, Tasks, places};
use crate::progress::{Line, Progress};

/// Seats made at the same time: copying is one core's work.
const MADE_AT_ONCE: usize = 4;
/// News of seats that took too much, waiting to be told.
const STOPS_WAITING_MAX: usize = 256;
/// How long all agents together may take to answer.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// The template's own way out is named like a seat that cannot exist (ids are labels).
const TEMPLATE_SEAT: &str = "template";

/// Measured: half the memory of the defaults, and no slower to type in.
const EDITOR_NODE_OPTIONS: &str = "--max-semi-space-size=1 --max-old-space-size=400";

/// Trees and sandbox that seats stand on.
pub(crate) struct SeatTools {
    /// How seats are separated.
    pub(crate) sandbox: Sandbox,
    /// Node and editor.
    pub(crate) trees: Trees,
    /// Program inside a seat that starts the editor.
    pub(crate) editor: String,
    /// The database engine, where the plan needs it.
    pub(crate) engine: Option<EngineTree>,
    /// npm's settings of this machine that packages need.
    pub(crate) npm: BTreeMap<String, String>,
    /// Registries that this machine is configured with.
    pub(crate) registries: Vec<Rule>,
}

/// Seats that run.
pub(crate) struct StartedSeats {
    prepared: Arc<Prepared>,
    seats: Arc<Seats>,
    starter: Starter,
    supervisor: Arc<Supervisor>,
    /// Of seats that run; of those that have gone, the last ones.
    children: RwLock<BTreeMap<SeatId, Child>>,
    watched: Watched,
    /// The version of the template that new seats start from.
    template: String,
    /// Where a configured MongoDB's members are, further seats are led to them.
    newcomers: Option<mpsc::Sender<SeatId>>,
    /// Seats that were started again because they took too much.
    stops: Option<mpsc::Receiver<Stopped>>,
}

impl StartedSeats {
    /// Where a seat's agent listens.
    pub(crate) fn socket(&self, seat: &SeatId) -> PathBuf {
        self.seats.socket(seat)
    }

    /// Starts a seat again with its settings as they are now, log-ins included: whatever ran in it
    /// ends, files stay. Returns when its agent answers.
    ///
    /// # Errors
    /// When the settings cannot be written, or the seat does not come up.
    pub(crate) async fn start_again(&self, seat: &SeatPlan) -> anyhow::Result<()> {
        let child = self
            .child(&seat.id)
            .with_context(|| format!("seat {} does not run", seat.id))?;
        let before = child.status().pid;
        let mut changes = child.changes();
        self.starter.start(seat, |start| {
            self.seats.set_settings(&seat.id, start).map(drop)
        })?;
        child.restart();
        let is_other = |status: &Status| status.pid.is_some() && status.pid != before;
        tokio::time::timeout(READY_LIMIT, changes.wait_for(is_other))
            .await
            .with_context(|| format!("seat {} does not end", seat.id))?
            .context("the supervisor is gone")?;
        Ok(child.ready(READY_LIMIT).await?)
    }

    /// A seat's processes.
    pub(crate) fn child(&self, seat: &SeatId) -> Option<Child> {
        let children = self.children.read().unwrap_or_else(PoisonError::into_inner);
        children.get(seat).cloned()
    }

    /// Makes and starts one more seat while the others go on; one that was stopped finds its files as
    /// they were. Whether its agent answers is looked after by whoever follows the seat.
    ///
    /// # Errors
    /// When its files cannot be made, or it cannot be started.
    pub(crate) async fn add(&self, seat: &SeatPlan) -> anyhow::Result<Child> {
        let (seats, id, key) = (
            Arc::clone(&self.seats),
            seat.id.clone(),
            self.template.clone(),
        );
        tokio::task::spawn_blocking(move || seats.make(&id, &key))
            .await
            .context("making a seat broke")??;
        let child = self.starter.start(seat, |start| {
            self.seats.start(&self.supervisor, &seat.id, start)
        })?;
        self.watched.set(seat.id.clone(), child.clone());
        let mut children = self
            .children
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        children.insert(seat.id.clone(), child.clone());
        Ok(child)
    }

    /// Serves what a further seat reaches outside of itself, for as long as the event runs.
    ///
    /// # Errors
    /// When a socket cannot be bound.
    pub(crate) async fn serve_ways(
        &self,
        databases: &Databases,
        seat: &SeatPlan,
        tasks: &mut Tasks,
        shutdown: &CancellationToken,
    ) -> Result<(), Failure> {
        serve_ways(&self.prepared, databases, seat, tasks, shutdown)?;
        let places = &self.prepared.places;
        databases.serve_seat(places, seat).await?;
        if let Some(newcomers) = &self.newcomers {
            let sent = newcomers.send(seat.id.clone()).await;
            sent.context("nobody leads seats to the configured MongoDB")?;
        }
        Ok(())
    }

    /// Ends everything in a seat; its files stay.
    pub(crate) async fn stop(&self, seat: &SeatId) {
        if let Some(child) = self.child(seat) {
            child.stop().await;
        }
    }

    /// Hands out the news of seats that took too much, once.
    pub(crate) fn take_stops(&mut self) -> Option<mpsc::Receiver<Stopped>> {
        self.stops.take()
    }
}

/// Prepares the template and starts every seat.
///
/// # Errors
/// When the workshop's own commands fail (their output is shown), or a seat does not come up.
pub(crate) async fn start(
    prepared: &Arc<Prepared>,
    databases: &Databases,
    parts: &mut Parts,
    progress: &Progress,
) -> Result<StartedSeats, Failure> {
    let Prepared {
        plan,
        places,
        tools,
        ..
    } = &**prepared;
    let seats = Arc::new(Seats::new(
        tools.sandbox.clone(),
        &places.state,
        &places.runtime,
    ));
    // Before anything is made that the other kind could not remove again.
    seats.check_isolation().map_err(|error| {
        let hint = match &error {
            SeatError::OtherIsolation { made, .. } => format!(
                "start it {made} isolation as before, or begin anew: arena down --purge --event {}",
                plan.event
            ),
            _ => "see the message".to_owned(),
        };
        Failure::environment(error).hint(hint)
    })?;
    let ending = Arc::clone(&seats);
    tokio::task::spawn_blocking(move || ending.end_starters())
        .await
        .context("ending what was left broke")?;
    let line = progress.begin("template");
    let key = template(prepared, parts, &line).await?;
    line.done(&format!(
        "{} {}",
        plan.template.repository,
        &key[..key.len().min(8)]
    ));
    let line = progress.begin("seats");
    make(&seats, plan, &key, &line).await?;
    collect(&seats, prepared, key.clone()).await?;
    for seat in &plan.seats {
        let ground = parts.ground.clone();
        serve_ways(prepared, databases, seat, &mut parts.tasks, &ground)?;
    }
    let mut newcomers = None;
    if let Some(mongodb) = &prepared.remote.mongodb {
        let ways = MemberWays::open(mongodb, places, plan, parts.ground.clone())?;
        newcomers = Some(ways.newcomers());
        parts.spawn("ways to MongoDB", ways.follow(Arc::clone(&seats)));
    }
    sweep_at_the_end(&seats, plan, parts);
    let starter = Starter::new(prepared, databases.logins().clone());
    let children = run(&seats, &starter, plan, &parts.supervisor)?;
    let said = ready(&children, &line).await?;
    line.done(&said);
    let watched: Watched = children.iter().cloned().collect();
    let stops = watch_over(&seats, watched.clone(), plan.seat_memory_mib, parts);
    Ok(StartedSeats {
        prepared: Arc::clone(prepared),
        seats,
        starter,
        supervisor: Arc::clone(&parts.supervisor),
        children: RwLock::new(children.into_iter().collect()),
        watched,
        template: key,
        newcomers,
        stops: Some(stops),
    })
}

async fn template(prepared: &Prepared, parts: &mut Parts, line: &Line) -> Result<String, Failure> {
    let Prepared {
        plan,
        places,
        tools,
        ..
    } = prepared;
    let id = SeatId::new(TEMPLATE_SEAT).context("a label is a seat id")?;
    let listener = places::bind(&places.service(&id, "outbound.sock")?)?;
    let settings = outbound::Settings {
        seat: id.clone(),
        allowed: Allowed::List(tools.registries.clone()),
        limits: outbound::Limits::default(),
        network: Network::system(),
    };
    let shutdown = parts.ground.clone();
    parts.spawn("outbound", async move {
        outbound::serve(settings, listener, shutdown)
            .await
            .context("the way out broke")
    });
    let templates = Templates::new(tools.sandbox.clone(), &places.state);
    let supplies = Supplies {
        trees: tools.trees.clone(),
        services: Some(places.services(&id)),
        npm: tools.npm.clone(),
    };
    let (template, content) = (plan.template.clone(), prepared.folder.path.clone());
    let (sender, mut said) = mpsc::unbounded_channel();
    let work = tokio::task::spawn_blocking(move || {
        templates.prepare(&template, &content, &supplies, &|progress| {
            let text = match progress {
                TemplateProgress::Step(step) => step.to_owned(),
                TemplateProgress::Line(_) => return,
                TemplateProgress::Reused => "unchanged".to_owned(),
            };
            let _ = sender.send(text);
        })
    });
    while let Some(text) = said.recv().await {
        line.update(&text);
    }
    work.await
        .context("preparing the template broke")?
        .map_err(|error| match error {
            TemplateError::Step { ref hint, .. } => {
                let hint = hint.clone();
                Failure::new(Kind::Configuration, error).hint(hint)
            }
            TemplateError::Gather(_) => Failure::new(Kind::Configuration, error),
            _ => Failure::environment(error),
        })
}

async fn make(seats: &Arc<Seats>, plan: &Plan, key: &str, line: &Line) -> Result<(), Failure> {
    let places = Arc::new(Semaphore::new(MADE_AT_ONCE));
    let mut tasks = JoinSet::new();
    for seat in &plan.seats {
        let (seats, id, key, places) = (
            Arc::clone(seats),
            seat.id.clone(),
            key.to_owned(),
            Arc::clone(&places),
        );
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            tokio::task::spawn_blocking(move || seats.make(&id, &key)).await
        });
    }
    let mut made = 0;
    while let Some(task) = tasks.join_next().await {
        task.context("making a seat broke")?
            .context("making a seat broke")?
            .map_err(Failure::environment)?;
        made += 1;
        line.tick(&format!("{made} of {} made", plan.seats.len()));
    }
    Ok(())
}

/// Deletes versions of the template that no seat uses. Seats that are no longer in the plan are
/// not started, but they keep their files, and so the version below them.
async fn collect(seats: &Arc<Seats>, prepared: &Prepared, key: String) -> Result<(), Failure> {
    let Prepared { places, tools, .. } = prepared;
    let templates = Templates::new(tools.sandbox.clone(), &places.state);
    let seats = Arc::clone(seats);
    let work = tokio::task::spawn_blocking(move || {
        let mut used = seats.templates();
        used.insert(key);
        templates.collect(&used)
    });
    work.await
        .context("collecting old templates broke")?
        .map_err(Failure::environment)
}

/// Where there is no sandbox, what a seat's programs left running is ended after its agent.
fn sweep_at_the_end(seats: &Arc<Seats>, plan: &Plan, parts: &mut Parts) {
    if !seats.sandbox().is_open() {
        return;
    }
    let (seats, ground) = (Arc::clone(seats), parts.ground.clone());
    let ids: Vec<SeatId> = plan.seats.iter().map(|seat| seat.id.clone()).collect();
    parts.spawn("sweeper", async move {
        ground.cancelled().await;
        for id in &ids {
            seats.sweep(id);
        }
        Ok(())
    });
}

/// Ends what takes too much memory or disk, as long as the doors are open; control tells people.
fn watch_over(
    seats: &Arc<Seats>,
    watched: Watched,
    memory_mib: u32,
    parts: &mut Parts,
) -> mpsc::Receiver<Stopped> {
    let (seats, shutdown) = (Arc::clone(seats), parts.doors.clone());
    let limits = WatchLimits {
        memory_bytes: u64::from(memory_mib) << 20,
        ..WatchLimits::default()
    };
    let (sender, stops) = mpsc::channel(STOPS_WAITING_MAX);
    parts.spawn("watcher", async move {
        // Nobody waits for control here: what does not fit is in the log and the seat's output.
        let tell = move |stopped| drop(sender.try_send(stopped));
        watch(seats, watched, limits, tell, shutdown).await;
        Ok(())
    });
    stops
}

/// Serves what a seat reaches through its own sockets, besides MongoDB.
fn serve_ways(
    prepared: &Prepared,
    databases: &Databases,
    seat: &SeatPlan,
    tasks: &mut Tasks,
    ground: &CancellationToken,
) -> Result<(), Failure> {
    let Prepared {
        places,
        tools,
        workshop,
        ..
    } = prepared;
    let allowed = match &workshop.config.arena.seats.outbound {
        Outbound::None => Allowed::None,
        Outbound::All => Allowed::All,
        Outbound::Registries => Allowed::List(tools.registries.clone()),
        Outbound::Hosts(hosts) => Allowed::List(rules(hosts)?),
    };
    let listener = places::bind_for_seat(&places.service(&seat.id, "outbound.sock")?)?;
    let settings = outbound::Settings {
        seat: seat.id.clone(),
        allowed,
        limits: outbound::Limits::default(),
        network: Network::system(),
    };
    let shutdown = ground.clone();
    tasks.spawn("outbound", async move {
        outbound::serve(settings, listener, shutdown)
            .await
            .context("the way out broke")
    });
    if let Some(cluster) = databases.postgres_socket() {
        let listener = places::bind_for_seat(&places.service(&seat.id, "postgres.sock")?)?;
        let settings = PostgresSettings {
            seat: seat.id.clone(),
            cluster: cluster.clone(),
            role: seat.database.clone(),
            database: seat.database.clone(),
            limits: ForwardLimits::default(),
        };
        let shutdown = ground.clone();
        tasks.spawn("postgres way", async move {
            forward::serve_postgres(settings, listener, shutdown)
                .await
                .context("the way to PostgreSQL broke")
        });
    }
    serve_remote(prepared, seat, tasks, ground)
}

/// Serves a seat's ways to servers that the config names; they see to their own rights.
fn serve_remote(
    prepared: &Prepared,
    seat: &SeatPlan,
    tasks: &mut Tasks,
    ground: &CancellationToken,
) -> Result<(), Failure> {
    let postgres = prepared.remote.postgres.as_ref().map(|postgres| {
        (
            "postgres.sock",
            Service::Tcp {
                host: postgres.host.clone(),
                port: postgres.port,
            },
        )
    });
    if let Some((socket, service)) = postgres {
        let listener = places::bind_for_seat(&prepared.places.service(&seat.id, socket)?)?;
        let settings = PlainSettings {
            seat: seat.id.clone(),
            service,
            limits: ForwardLimits::default(),
        };
        let shutdown = ground.clone();
        tasks.spawn("way to a database", async move {
            forward::serve_plain(settings, listener, shutdown)
                .await
                .context("the way to a database broke")
        });
    }
    Ok(())
}

fn rules(hosts: &[String]) -> Result<Vec<Rule>, Failure> {
    hosts
        .iter()
        .map(|host| Rule::parse(host).map_err(|error| Failure::new(Kind::Configuration, error)))
        .collect()
}

/// What every start of a seat needs besides the seat's own settings.
struct Starter {
    logins: Logins,
    agent: Vec<String>,
    editor: String,
    trees: Trees,
    ways: Ways,
}

impl Starter {
    fn new(prepared: &Prepared, logins: Logins) -> Self {
        let tools = &prepared.tools;
        let mut agent = ["serve", "seat", "--settings", SETTINGS].to_vec();
        if tools.sandbox.is_open() {
            agent.extend(["--run", PRIVATE, "--services", SERVICES]);
        }
        Self {
            logins,
            agent: agent.into_iter().map(str::to_owned).collect(),
            editor: tools.editor.clone(),
            trees: tools.trees.clone(),
            ways: prepared.remote.ways(),
        }
    }

    /// Begins a start with the seat's settings as they are now.
    fn start<T>(
        &self,
        seat: &SeatPlan,
        begin: impl FnOnce(&SeatStart<'_>) -> Result<T, SeatError>,
    ) -> anyhow::Result<T> {
        let mut settings = self.logins.settings(seat)?;
        settings.editor = vec![self.editor.clone()];
        settings.editor_environment =
            [("NODE_OPTIONS".to_owned(), EDITOR_NODE_OPTIONS.to_owned())].into();
        Ok(begin(&SeatStart {
            settings: &settings,
            agent: &self.agent,
            trees: &self.trees,
            ways: &self.ways,
            limits: arena_local::nest::Limits::default(),
        })?)
    }
}

fn run(
    seats: &Seats,
    starter: &Starter,
    plan: &Plan,
    supervisor: &Supervisor,
) -> Result<Vec<(SeatId, Child)>, Failure> {
    let mut children = Vec::new();
    for seat in &plan.seats {
        let child = starter
            .start(seat, |start| seats.start(supervisor, &seat.id, start))
            .map_err(Failure::environment)?;
        children.push((seat.id.clone(), child));
    }
    Ok(children)
}

/// Waits for all agents; returns what to say. A seat that does not come up keeps nobody else from
/// working: control goes on trying and tells people.
async fn ready(children: &[(SeatId, Child)], line: &Line) -> Result<String, Failure> {
    let deadline = Instant::now() + READY_LIMIT;
    let all = children.len();
    let (mut ready, mut failed) = (0, Vec::new());
    for (seat, child) in children {
        match child
            .ready(deadline.saturating_duration_since(Instant::now()))
            .await
        {
            Ok(()) => ready += 1,
            Err(error) if all == 1 || (ready == 0 && failed.len() + 1 == all) => {
                let hint = format!("see what it said with: arena logs {seat}");
                return Err(Failure::environment(error).hint(hint));
            }
            Err(error) => {
                tracing::warn!(seat.id = %seat, "seat {seat} does not start: {error}");
                failed.push(seat.as_str());
            }
        }
        line.tick(&format!("{ready} of {all} ready"));
    }
    if failed.is_empty() {
        return Ok(format!("{all} ready"));
    }
    let failed = failed.join(", ");
    Ok(format!(
        "{ready} of {all} ready; not {failed} (see: arena status)"
    ))
}
