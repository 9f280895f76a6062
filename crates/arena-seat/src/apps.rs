//! The workshop's apps: started with the editor or by the first request, whichever
//! comes first, so that a seat where nobody sits costs nothing; restarted within bounds, and
//! watched by who listens on their port. Apps under `node --watch` restart by
//! themselves, which the supervisor cannot see; so every sign of life (a line
//! of output, a saved file, a refused connection) makes us look at the port for
//! a few seconds. A quiet app that listens costs nothing.

mod npm;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arena_supervisor::{Child, ChildSpec, Restart, State, Supervisor};
use arena_workshop::plan::{AppKind, AppPlan, SeatSettings};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::health::{AppHealth, AppPhase};
use crate::ports;

/// After a sign of life the port is looked at this often …
const LOOK: Duration = Duration::from_millis(50);
/// … for so long.
const ATTENTION: Duration = Duration::from_secs(3);
/// An app that runs without listening is looked at this often: it may only be slow.
const SLOW_LOOK: Duration = Duration::from_secs(2);
/// Time for an app to listen after it was started, before we say that it does not.
const PATIENCE: Duration = Duration::from_secs(20);
/// Output kept for the terminal named *server*.
const TAIL_LINES: usize = 500;
/// Lines of output in a message.
const LAST_LINES: usize = 20;

/// An app of the workshop that has a command and a port.
pub(crate) struct App {
    pub(crate) kind: AppKind,
    pub(crate) port: u16,
    pub(crate) child: Child,
    /// Something happened that may change who listens.
    look: Notify,
    /// Whether somebody has asked for it.
    woken: AtomicBool,
}

impl App {
    /// Returns all apps that have a command and a port; they sleep.
    pub(crate) fn all(settings: &SeatSettings, supervisor: &Supervisor) -> Vec<App> {
        let apps = settings.apps.iter().filter_map(|plan| {
            let (program, args) = plan.start.as_ref()?.split_first()?;
            let port = plan.port?;
            let child = supervisor.start(spec(settings, plan, program, args, port));
            Some(App {
                kind: plan.kind,
                port,
                child,
                look: Notify::new(),
                woken: AtomicBool::new(false),
            })
        });
        apps.collect()
    }

    /// Starts it unless that was done before.
    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::Relaxed) {
            self.child.restart();
        }
    }

    /// Starts it again.
    pub(crate) fn restart(&self) {
        self.woken.store(true, Ordering::Relaxed);
        self.child.restart();
    }

    pub(crate) fn first_health(&self) -> AppHealth {
        AppHealth {
            kind: self.kind,
            state: AppPhase::Asleep,
            message: None,
            restarts: 0,
        }
    }

    /// Looks at the port soon.
    pub(crate) fn poke(&self) {
        self.look.notify_one();
    }

    /// A file was saved: look; start it if nobody has yet, and try again if it was given up.
    pub(crate) fn saved(&self) {
        self.wake();
        if matches!(self.child.status().state, State::Failed(_)) {
            self.child.restart();
        }
        self.poke();
    }
}

fn spec(
    settings: &SeatSettings,
    plan: &AppPlan,
    program: &str,
    args: &[String],
    port: u16,
) -> ChildSpec {
    let mut environment = environment(settings);
    environment.insert("PORT".into(), port.to_string().into());
    let directory = Path::new(&settings.work).join(&plan.folder);
    let (mut program, mut args) = (program, args.to_vec());
    if program == "npm"
        && args == ["start"]
        && let Some(start) = npm::start(&directory)
    {
        (program, args) = (start.program, start.args);
        environment.extend(
            start
                .environment
                .into_iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
    }
    ChildSpec {
        args: args.into_iter().map(Into::into).collect(),
        environment,
        directory,
        restart: Restart {
            attempts: 4,
            first_wait: Duration::from_millis(500),
            ..Restart::default()
        },
        grace: Duration::from_secs(3),
        tail_lines: TAIL_LINES,
        together: Some("apps".to_owned()),
        asleep: true,
        ..ChildSpec::new(name(plan.kind), program)
    }
}

/// Wakes an app and waits for its first start to end well or badly.
///
/// # Cancellation
/// The app starts all the same.
pub(crate) async fn awake(agent: &Agent, index: usize) {
    agent.apps[index].wake();
    let mut health = agent.health.subscribe();
    let settled = health.wait_for(|health| {
        let app = &health.apps[index];
        !matches!(app.state, AppPhase::Asleep | AppPhase::Starting) || app.restarts > 0
    });
    // Whoever asked is answered in any case.
    let _ = tokio::time::timeout(PATIENCE, settled).await;
}

/// The environment of editor, terminals and apps. What the settings leave out gets a default.
pub(crate) fn environment(
    settings: &SeatSettings,
) -> std::collections::BTreeMap<std::ffi::OsString, std::ffi::OsString> {
    let mut environment: std::collections::BTreeMap<std::ffi::OsString, std::ffi::OsString> =
        settings
            .environment
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
    for (name, value) in [
        ("HOME", settings.home.as_str()),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("LANG", "C.UTF-8"),
    ] {
        environment
            .entry(name.into())
            .or_insert_with(|| value.into());
    }
    environment
}

/// The name of an app in addresses, logs and JSON.
pub(crate) fn name(kind: AppKind) -> &'static str {
    match kind {
        AppKind::Backend => "backend",
        AppKind::Frontend => "frontend",
        AppKind::React => "react",
        AppKind::Postgres => "postgres",
    }
}

/// What was seen of an app so far.
struct Seen {
    listener: Option<u64>,
    /// How often another listener took over while the process lived on.
    takeovers: u32,
    ever: bool,
    since: Instant,
}

/// Prints an app's output until it is gone. Printing waits on a thread of its own: whoever reads
/// slowly makes it leave lines out, and never holds up the agent.
pub(crate) async fn print(agent: Arc<Agent>, index: usize) {
    let app = &agent.apps[index];
    let mut output = app.child.follow();
    while let Some(line) = output.next().await {
        let line = format!("{}: {line}\n", name(app.kind));
        let printed = tokio::task::spawn_blocking(move || io::stdout().write_all(line.as_bytes()));
        if !matches!(printed.await, Ok(Ok(()))) {
            // Nobody reads: the platform is gone, and this seat with it.
            return;
        }
    }
}

/// Keeps the health of one app up to date until it is stopped.
pub(crate) async fn run(agent: Arc<Agent>, index: usize) -> &'static str {
    let app = &agent.apps[index];
    let mut changes = app.child.changes();
    let mut output = app.child.follow();
    let mut pid = None;
    let mut seen = Seen {
        listener: None,
        takeovers: 0,
        ever: false,
        since: Instant::now(),
    };
    let mut attentive_until = Instant::now() + ATTENTION;
    loop {
        let status = changes.borrow_and_update().clone();
        if status.pid != pid {
            pid = status.pid;
            seen = Seen {
                listener: None,
                ever: false,
                since: Instant::now(),
                ..seen
            };
        }
        look(app.port, &mut seen);
        let health = assess(app, &status.state, &seen, status.restarts);
        let quiet = health.state == AppPhase::Ready || pid.is_none();
        agent.change(|all| all.apps[index] = health);
        let next_look = async {
            let attentive = pid.is_some() && Instant::now() < attentive_until;
            match (attentive, quiet) {
                (true, _) => tokio::time::sleep(LOOK).await,
                (false, false) => tokio::time::sleep(SLOW_LOOK).await,
                (false, true) => std::future::pending().await,
            }
        };
        // All branches only wait; lines of output are of no interest here beyond their coming.
        tokio::select! {
            biased;
            () = app.child.stopped() => break,
            Ok(()) = changes.changed() => attentive_until = Instant::now() + ATTENTION,
            () = app.look.notified() => attentive_until = Instant::now() + ATTENTION,
            () = next_look => {}
            Some(_) = output.next() => {
                attentive_until = Instant::now() + ATTENTION;
                // A chatty app shall not make us look with every line.
                tokio::time::sleep(LOOK).await;
            }
        }
    }
    agent.change(|all| all.apps[index].state = AppPhase::Stopped);
    // Apps end only at shutdown; the part ends with it.
    agent.shutdown.cancelled().await;
    "app"
}

fn look(port: u16, seen: &mut Seen) {
    let listener = ports::listener(port);
    if listener == seen.listener {
        return;
    }
    if listener.is_some() && seen.ever {
        seen.takeovers = seen.takeovers.saturating_add(1);
    }
    seen.ever |= listener.is_some();
    seen.listener = listener;
    seen.since = Instant::now();
}

fn assess(app: &App, state: &State, seen: &Seen, restarts: u32) -> AppHealth {
    let (state, message) = match state {
        State::Asleep => (AppPhase::Asleep, None),
        State::Starting | State::Ready => match seen.listener {
            Some(_) => (AppPhase::Ready, None),
            None => silent(app, seen),
        },
        State::Waiting(why) => (AppPhase::Starting, Some(why.clone())),
        State::Failed(why) | State::Ended(_, why) => (AppPhase::Failed, Some(why.clone())),
        State::Stopped => (AppPhase::Stopped, None),
    };
    AppHealth {
        kind: app.kind,
        state,
        message,
        restarts: restarts.saturating_add(seen.takeovers),
    }
}

/// An app that runs but does not listen: on its way, or broken under `node --watch`.
fn silent(app: &App, seen: &Seen) -> (AppPhase, Option<String>) {
    let patience = if seen.ever { ATTENTION } else { PATIENCE };
    if seen.since.elapsed() < patience {
        return (AppPhase::Starting, None);
    }
    let last = app.child.tail(LAST_LINES).join("\n");
    (
        AppPhase::Failed,
        Some(format!(
            "it runs but does not listen on port {}; its last output:\n{last}",
            app.port
        )),
    )
}
