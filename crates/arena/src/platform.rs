//! One running event on this machine: composes store, databases, seats,
//! portal, gateway and control from a plan, opens the doors, and ends
//! everything in reverse order. Begin at [`run`].

pub(crate) mod databases;
pub(crate) mod door;
pub(crate) mod list;
pub(crate) mod logins;
pub(crate) mod mongod;
pub(crate) mod pages;
pub(crate) mod places;
pub(crate) mod remote;
pub(crate) mod seats;
pub(crate) mod secrets;
pub(crate) mod servers;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use arena_gateway::{Endpoint, Routes};
use arena_store::{SeatSpec, Store};
use arena_supervisor::Supervisor;
use arena_workshop::plan::SeatPlan;
use arena_workshop::{Exercise, Plan, Target, Workshop};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::control::{self, ControlledSeat};
use crate::failure::Failure;
use crate::folder::Folder;
use crate::platform::databases::Databases;
use crate::platform::logins::Logins;
use crate::platform::places::Places;
use crate::platform::remote::Remote;
use crate::platform::seats::{SeatTools, StartedSeats};
use crate::platform::secrets::Secrets;
use crate::progress::Progress;

/// After the doors are closed, requests and gradings may take this long to end.
const DRAIN: Duration = Duration::from_secs(15);

/// Seats that come or go at once, before control takes them in.
const CHANGES_MAX: usize = 64;

/// Everything that was decided before anything runs.
pub(crate) struct Prepared {
    /// The workshop.
    pub(crate) workshop: Workshop,
    /// The author's folder.
    pub(crate) folder: Folder,
    /// The plan.
    pub(crate) plan: Plan,
    /// The machine that it was made for.
    pub(crate) target: Target,
    /// Where state, sockets and tools are.
    pub(crate) places: Places,
    /// Node and editor.
    pub(crate) tools: SeatTools,
    /// Databases that the config names.
    pub(crate) remote: Remote,
}

/// When to end: the first signal is polite, the second at once.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    /// Begin to end.
    pub(crate) begin: CancellationToken,
    /// Do not wait for anything any more.
    pub(crate) at_once: CancellationToken,
}

/// What `up` says when the doors are open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The event's id.
    pub(crate) event: String,
    /// Shown to people.
    pub(crate) title: String,
    /// The portal.
    pub(crate) address: String,
    /// Signs one facilitator in, once.
    pub(crate) facilitator_link: String,
    /// For walk-ins.
    pub(crate) event_code: String,
    /// Process id of the platform.
    pub(crate) pid: u32,
    /// Folder with everything that survives.
    pub(crate) state: String,
    /// Seats of the list, with their personal links.
    pub(crate) seats: Vec<SeatLink>,
    /// Seats for walk-ins.
    pub(crate) spare_seats: usize,
}

/// A person's way in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SeatLink {
    /// The seat's id.
    pub(crate) seat: String,
    /// Name on the list.
    pub(crate) name: String,
    /// Opens "You are {name} — Start".
    pub(crate) link: String,
}

/// Binds the gateway's port; 0 takes a free one. The port is the first thing taken: who finds it
/// taken learns that before anything was started.
///
/// # Errors
/// When the address is not on loopback, or the port is taken.
pub(crate) fn bind(listen: IpAddr, port: u16) -> Result<TcpListener, Failure> {
    let address = SocketAddr::new(listen, port);
    arena_gateway::bind(address).map_err(|error| {
        let hint = match &error {
            arena_gateway::BindError::NotLoopback(_) => "leave --listen out: the workshop is then reached at http://arena.localhost".to_owned(),
            arena_gateway::BindError::Listen { .. } => format!("end what listens there (`ss -ltnp sport = :{port}` names it) or choose another port with --port"),
        };
        Failure::environment(error).hint(hint)
    })
}

/// Runs the event until `stop`. `opened` is called once, when the doors are open.
///
/// # Errors
/// When a part cannot be started, or a part that must run ends.
pub(crate) async fn run(
    prepared: Prepared,
    listener: TcpListener,
    progress: &Progress,
    stop: Stop,
    opened: impl FnOnce(&Summary),
) -> Result<(), Failure> {
    let supervisor = Arc::new(Supervisor::new().context("cannot start the supervisor's thread")?);
    let mut parts = Parts::new(supervisor);
    // Starting may be dropped halfway: the next `up` converges from wherever it was.
    let started = tokio::select! {
        started = start(prepared, listener, progress, &stop, &mut parts) => Some(started),
        () = stop.begin.cancelled() => None,
    };
    let outcome = match started {
        Some(Ok(summary)) => {
            opened(&summary);
            parts.run(&stop).await
        }
        Some(Err(failure)) => Err(failure),
        None => Ok(()),
    };
    parts.end(&stop).await;
    outcome
}

/// What runs: tasks of the platform, in the two groups in which they end, and child processes.
pub(crate) struct Parts {
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) tasks: Tasks,
    /// Doors and control: end first.
    pub(crate) doors: CancellationToken,
    /// What seats stand on (databases' front, the way out): ends after the seats.
    pub(crate) ground: CancellationToken,
}

impl Parts {
    fn new(supervisor: Arc<Supervisor>) -> Self {
        Self {
            supervisor,
            tasks: Tasks::default(),
            doors: CancellationToken::new(),
            ground: CancellationToken::new(),
        }
    }

    /// Starts a task that must run as long as the event.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.tasks.spawn(name, task);
    }

    async fn run(&mut self, stop: &Stop) -> Result<(), Failure> {
        // Both only report; the tasks go on.
        tokio::select! {
            () = stop.begin.cancelled() => Ok(()),
            why = self.tasks.ended() => Err(why.into()),
        }
    }

    /// Ends doors, then children (seats, databases) in reverse order, then what they stood on.
    async fn end(&mut self, stop: &Stop) {
        self.doors.cancel();
        let (supervisor, ground) = (Arc::clone(&self.supervisor), self.ground.clone());
        let children = async {
            supervisor.stop_all(&stop.at_once).await;
            ground.cancel();
        };
        let tasks = self.tasks.all_end();
        let all = async { tokio::join!(children, tasks) };
        // A second signal cuts what drains; children are killed by `stop_all` itself.
        tokio::select! {
            _ = tokio::time::timeout(DRAIN, all) => {}
            () = async { stop.at_once.cancelled().await; tokio::time::sleep(Duration::from_millis(300)).await } => {}
        }
        self.supervisor.kill_all();
    }
}

/// Tasks that must run as long as the event.
#[derive(Default)]
pub(crate) struct Tasks(JoinSet<(&'static str, anyhow::Result<()>)>);

impl Tasks {
    /// Starts a task.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.0.spawn(async move { (name, task.await) });
    }

    /// Waits until one ends, for ever when there is none; returns why.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        match self.0.join_next().await {
            None => std::future::pending().await,
            Some(Err(error)) => {
                anyhow::Error::new(error).context("a part of the platform ended badly")
            }
            Some(Ok((name, Ok(())))) => anyhow::anyhow!("{name} ended by itself"),
            Some(Ok((name, Err(error)))) => error.context(format!("{name} ended")),
        }
    }

    /// Waits until all have ended.
    pub(crate) async fn all_end(&mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

/// Starts everything in the order of what stands on what.
async fn start(
    mut prepared: Prepared,
    listener: TcpListener,
    progress: &Progress,
    stop: &Stop,
    parts: &mut Parts,
) -> Result<Summary, Failure> {
    let store = open_store(&prepared.workshop, &prepared.plan, &prepared.places).await?;
    let secrets = Secrets::open(&prepared.places.state, &prepared.plan.secrets)?;
    let line = progress.begin("database");
    if let Some(mongodb) = mongod::start(&prepared, &secrets, parts, &line).await? {
        prepared.remote.mongodb = Some(mongodb);
    }
    let prepared = Arc::new(prepared);
    let logins = Logins::new(&prepared, secrets);
    let mut databases = Databases::start(&prepared, &logins, parts, &line).await?;
    line.done(databases.description());
    let mut seats = seats::start(&prepared, &databases, parts, progress).await?;
    let (schema_changes, stops) = (databases.take_schema_changes(), seats.take_stops());
    let (databases, seats) = (Arc::new(databases), Arc::new(seats));
    serve_portal(&prepared, &logins, &store, parts)?;
    let routes = serve_gateway(&prepared, &store, listener, &seats, parts);
    let (changes, changing) = mpsc::channel(CHANGES_MAX);
    let (asked, asking) = mpsc::channel(1);
    let list = list::List {
        prepared: Arc::clone(&prepared),
        logins: logins.clone(),
        store: store.clone(),
        databases: Arc::clone(&databases),
        seats: Arc::clone(&seats),
        routes,
        changes,
    };
    let settings = control::Settings {
        store: store.clone(),
        seats: controlled(&prepared, &databases, &seats),
        exercises: solvable(&prepared).cloned().collect(),
        quotas: databases.quotas(),
        editor_idle: Duration::from_secs(60) * prepared.plan.editor_idle_minutes,
        databases,
        started: seats,
        scenario: control::scenario(&prepared.workshop),
        schema_changes,
        stops,
        changes: changing,
    };
    parts.spawn("control", control::serve(settings, parts.doors.clone()));
    let shutdown = (parts.doors.clone(), parts.ground.clone());
    parts.spawn("list", list::serve(list, asking, shutdown));
    let keeper = door::Keeper {
        exercises: solvable(&prepared).count(),
        logins,
        list: asked,
        store: store.clone(),
        supervisor: Arc::clone(&parts.supervisor),
        stop: stop.begin.clone(),
    };
    serve_door(&prepared.places, keeper, parts)?;
    keep_plan(&prepared.places, &prepared.plan)?;
    summary(&prepared, &store).await
}

/// Writes down what runs, for commands that ask when nothing runs any more.
fn keep_plan(places: &Places, plan: &Plan) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(plan).context("cannot write the plan as JSON")?;
    std::fs::write(places.state.join("plan.json"), text).context("cannot keep the plan")
}

async fn open_store(workshop: &Workshop, plan: &Plan, places: &Places) -> Result<Store, Failure> {
    let path = places.state.join("event.db");
    let store = Store::open(&path).map_err(Failure::environment)?;
    store
        .sync_seats(specs(workshop, plan))
        .await
        .context("cannot write the seats")?;
    Ok(store)
}

/// Returns the plan's seats as the store knows them.
fn specs(workshop: &Workshop, plan: &Plan) -> Vec<SeatSpec> {
    let emails: BTreeMap<_, _> = workshop
        .participants
        .seats
        .iter()
        .filter_map(|seat| Some((&seat.id, seat.person.as_ref()?.email.clone())))
        .collect();
    let specs = plan.seats.iter().map(|seat| SeatSpec {
        seat: seat.id.clone(),
        display_name: seat.display_name.clone(),
        email: emails.get(&seat.id).cloned(),
        listed: seat.listed,
    });
    specs.collect()
}

fn serve_portal(
    prepared: &Prepared,
    logins: &Logins,
    store: &Store,
    parts: &mut Parts,
) -> Result<(), Failure> {
    let settings = pages::settings(prepared, logins, store)?;
    let listener = places::bind(&prepared.places.portal_socket())?;
    let shutdown = parts.doors.clone();
    parts.spawn("portal", async move {
        arena_portal::serve(settings, arena_portal::Listener::Unix(listener), shutdown)
            .await
            .context("the portal broke")
    });
    Ok(())
}

fn serve_gateway(
    prepared: &Prepared,
    store: &Store,
    listener: TcpListener,
    seats: &StartedSeats,
    parts: &mut Parts,
) -> Arc<ArcSwap<Routes>> {
    let plan = &prepared.plan;
    let routes = Arc::new(ArcSwap::from_pointee(routes(prepared, plan, seats)));
    let settings = arena_gateway::Settings {
        event: plan.event.clone(),
        address: plan.address.clone(),
        routes: Arc::clone(&routes),
        store: store.clone(),
        limits: arena_gateway::Limits::default(),
    };
    let shutdown = parts.doors.clone();
    parts.spawn("gateway", async move {
        arena_gateway::serve(settings, listener, shutdown)
            .await
            .context("the gateway broke")
    });
    routes
}

/// Returns which host serves what.
fn routes(prepared: &Prepared, plan: &Plan, seats: &StartedSeats) -> Routes {
    let portal = Endpoint::Unix(prepared.places.portal_socket());
    Routes::from_plan(plan, portal, |seat| Endpoint::Unix(seats.socket(seat)))
}

/// Returns the plan's seats as control follows them.
fn controlled(
    prepared: &Prepared,
    databases: &Arc<Databases>,
    seats: &StartedSeats,
) -> Vec<ControlledSeat> {
    let controlled = prepared.plan.seats.iter().filter_map(|seat| {
        Some(ControlledSeat {
            plan: seat.clone(),
            socket: seats.socket(&seat.id),
            child: seats.child(&seat.id)?,
            databases: Arc::clone(databases),
        })
    });
    controlled.collect()
}

/// Returns the exercises whose databases are there; the others are shown, but nobody can solve them.
fn solvable(prepared: &Prepared) -> impl Iterator<Item = &Exercise> {
    let databases = &prepared.plan.databases;
    prepared
        .workshop
        .exercises
        .iter()
        .filter(|exercise| databases.missing(exercise).is_empty())
}

fn serve_door(places: &Places, keeper: door::Keeper, parts: &mut Parts) -> Result<(), Failure> {
    let listener: UnixListener = places::bind(&places.door_socket())?;
    parts.spawn(
        "door",
        door::serve(Arc::new(keeper), listener, parts.doors.clone()),
    );
    Ok(())
}

async fn summary(prepared: &Prepared, store: &Store) -> Result<Summary, Failure> {
    let Prepared {
        workshop,
        plan,
        places,
        ..
    } = prepared;
    let address = plan.address.origin(&plan.address.domain);
    let token = store
        .create_facilitator_link()
        .await
        .context("cannot make a facilitator link")?;
    let links = plan.seats.iter().filter_map(|seat| link(plan, seat, store));
    Ok(Summary {
        event: plan.event.to_string(),
        title: workshop.title.clone(),
        facilitator_link: format!("{address}/facilitator/{token}"),
        event_code: store.event_code(),
        pid: std::process::id(),
        state: places.state.display().to_string(),
        seats: links.collect(),
        spare_seats: plan.seats.iter().filter(|seat| !seat.listed).count(),
        address,
    })
}

/// Returns a listed person's way in.
fn link(plan: &Plan, seat: &SeatPlan, store: &Store) -> Option<SeatLink> {
    let token = store.link_token(&seat.id).filter(|_| seat.listed)?;
    let address = plan.address.origin(&plan.address.domain);
    Some(SeatLink {
        seat: seat.id.to_string(),
        name: seat.display_name.clone(),
        link: format!("{address}/join/{token}"),
    })
}
