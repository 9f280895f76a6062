//! What the agent's parts share, and their life from start to end.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use arena_supervisor::Supervisor;
use arena_workshop::plan::SeatSettings;
use tokio::net::UnixListener;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::apps::App;
use crate::health::{AgentEvent, AgentHealth, EditorHealth, EditorPhase, memory_bytes};
use crate::{
    Places, ServeError, apps, editor, folder, forward, prepare, server, terminal, watch as files,
};

/// Events that a slow reader may lag behind; then it gets the whole health again.
const EVENTS: usize = 64;

/// What all parts share.
pub(crate) struct Agent {
    pub(crate) settings: SeatSettings,
    pub(crate) places: Places,
    pub(crate) supervisor: Supervisor,
    /// The work folder, opened once; everything is looked up beneath it.
    pub(crate) work: folder::Folder,
    pub(crate) apps: Vec<App>,
    pub(crate) health: watch::Sender<AgentHealth>,
    pub(crate) events: broadcast::Sender<AgentEvent>,
    pub(crate) editor_orders: mpsc::Sender<editor::Order>,
    pub(crate) shutdown: CancellationToken,
    connections: AtomicUsize,
    tasks: TaskTracker,
}

/// Runs the agent until `shutdown`.
pub(crate) async fn run(
    settings: SeatSettings,
    places: Places,
    listener: UnixListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    // An inherited descriptor would be inherited on, by apps that could then answer in our place.
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::CLOEXEC).map_err(|error| {
        ServeError::System {
            what: "keep the listener from the apps",
            source: error.into(),
        }
    })?;
    prepare::files(&settings, &places)?;
    let (editor_orders, orders) = mpsc::channel(8);
    let agent = Arc::new(Agent::new(settings, places, editor_orders, &shutdown)?);
    let mut parts = JoinSet::new();
    for bound in forward::bind(&agent)? {
        parts.spawn(forward::run(agent.clone(), bound));
    }
    let ways = forward::open(&agent);
    parts.spawn(forward::follow(agent.clone(), ways));
    let terminals = terminal::bind(&agent.places.run)?;
    parts.spawn(terminal::run(agent.clone(), terminals));
    let (prepared, when_prepared) = watch::channel(false);
    parts.spawn(prepare::repository(agent.clone(), prepared));
    parts.spawn(editor::run(agent.clone(), orders, when_prepared));
    parts.spawn(files::run(agent.clone()));
    for index in 0..agent.apps.len() {
        parts.spawn(apps::run(agent.clone(), index));
        if agent.places.prints_output {
            agent.spawn(apps::print(agent.clone(), index));
        }
    }
    parts.spawn(server::run(agent.clone(), listener));

    // Parts end only at shutdown, which both branches may see at once; `join_next` loses nothing when it is dropped.
    let outcome = tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = parts.join_next() => Err(ServeError::PartEnded(part_name(ended))),
    };
    shutdown.cancel();
    agent.supervisor.stop_all(&CancellationToken::new()).await;
    while let Some(ended) = parts.join_next().await {
        part_name(ended);
    }
    agent.tasks.close();
    agent.tasks.wait().await;
    outcome
}

/// Names a part that has ended; a panic goes on.
fn part_name(ended: Result<&'static str, tokio::task::JoinError>) -> &'static str {
    match ended {
        Ok(name) => name,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => "cancelled part",
    }
}

impl Agent {
    fn new(
        settings: SeatSettings,
        places: Places,
        editor_orders: mpsc::Sender<editor::Order>,
        shutdown: &CancellationToken,
    ) -> Result<Agent, ServeError> {
        let supervisor = Supervisor::new().map_err(|source| ServeError::System {
            what: "start a thread",
            source,
        })?;
        let work =
            folder::Folder::open(settings.work.as_ref()).map_err(|source| ServeError::Prepare {
                path: settings.work.clone(),
                source,
            })?;
        let apps = App::all(&settings, &supervisor);
        let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let run = run
            .ok()
            .and_then(|since| u64::try_from(since.as_millis()).ok());
        let health = AgentHealth {
            run: run.unwrap_or_default(),
            editor: EditorHealth {
                state: EditorPhase::Stopped,
                message: None,
                connections: 0,
            },
            apps: apps.iter().map(App::first_health).collect(),
            memory_bytes: 0,
        };
        Ok(Agent {
            settings,
            places,
            supervisor,
            work,
            apps,
            health: watch::Sender::new(health),
            events: broadcast::Sender::new(EVENTS),
            editor_orders,
            shutdown: shutdown.clone(),
            connections: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
        })
    }

    /// Runs a task that serves one connection; it ends with the agent at the latest.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            // Connections are cut at shutdown: apps and editor behind them are gone then.
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Changes the health; readers hear of it only if something is different.
    pub(crate) fn change(&self, change: impl FnOnce(&mut AgentHealth)) {
        self.health.send_if_modified(|health| {
            let before = health.clone();
            change(health);
            *health != before
        });
    }

    /// Returns the health as of now.
    pub(crate) fn health_now(&self) -> AgentHealth {
        AgentHealth {
            memory_bytes: memory_bytes(),
            ..self.health.borrow().clone()
        }
    }

    /// Tells readers of events; nobody may be there.
    pub(crate) fn tell(&self, event: AgentEvent) {
        let _ = self.events.send(event);
    }

    /// Counts an open WebSocket of the editor until the guard is dropped.
    pub(crate) fn count_connection(self: &Arc<Self>) -> Connection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.show_connections();
        Connection(self.clone())
    }

    fn show_connections(&self) {
        let connections = self.connections.load(Ordering::Relaxed);
        self.change(|health| health.editor.connections = connections);
    }
}

/// An open WebSocket of the editor.
pub(crate) struct Connection(Arc<Agent>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.show_connections();
    }
}
