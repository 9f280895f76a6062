//! The editor: started when somebody comes, stopped when told to, never both at
//! once. It listens on a socket in the agent's own folder; nobody else in the
//! network sees it. Its memory options do not reach its terminals.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arena_supervisor::{Child, ChildSpec, Ready, Restart, State};
use tokio::sync::{mpsc, watch};

use crate::agent::Agent;
use crate::health::{AgentHealth, EditorPhase};
use crate::{apps, extension, terminal};

/// code-server's switches: no password (the gateway has checked), no calls home, no questions, no
/// second way to the apps.
const SWITCHES: [&str; 7] = [
    "--auth=none",
    "--disable-telemetry",
    "--disable-update-check",
    "--disable-workspace-trust",
    "--disable-getting-started-override",
    "--disable-proxy",
    "--ignore-last-opened",
];

/// What may be asked of the editor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Wake,
    Stop,
}

/// Where it listens.
pub(crate) fn socket(agent: &Agent) -> PathBuf {
    agent.places.run.join("editor.sock")
}

/// Follows orders until shutdown.
pub(crate) async fn run(
    agent: Arc<Agent>,
    mut orders: mpsc::Receiver<Order>,
    mut prepared: watch::Receiver<bool>,
) -> &'static str {
    // Fails only when preparation has panicked, which ends the agent anyway.
    let _ = prepared.wait_for(|prepared| *prepared).await;
    let mut child: Option<Child> = None;
    loop {
        let change = async {
            match &child {
                Some(child) => followed(&agent, child).await,
                None => std::future::pending().await,
            }
        };
        // Dropping `followed` is safe: it shows the present state when it begins again.
        let order = tokio::select! {
            () = agent.shutdown.cancelled() => return "editor",
            () = change => None,
            order = orders.recv() => order,
        };
        match (order, &child) {
            (Some(Order::Wake), None) => child = Some(agent.supervisor.start(spec(&agent))),
            (Some(Order::Wake), Some(running)) => {
                if matches!(running.status().state, State::Failed(_)) {
                    running.restart();
                }
            }
            (Some(Order::Stop), Some(running)) => {
                running.stop().await;
                child = None;
                agent.change(|health| show(health, EditorPhase::Stopped, None));
            }
            (Some(Order::Stop), None) | (None, _) => {}
        }
    }
}

/// Shows the state of the running editor as it changes, for ever.
async fn followed(agent: &Agent, child: &Child) {
    let mut changes = child.changes();
    loop {
        let (phase, message) = match changes.borrow_and_update().state.clone() {
            State::Asleep | State::Starting => (EditorPhase::Starting, None),
            State::Waiting(why) => (EditorPhase::Starting, Some(why)),
            State::Ready => (EditorPhase::Ready, None),
            State::Failed(why) | State::Ended(_, why) => (EditorPhase::Failed, Some(why)),
            State::Stopped => (EditorPhase::Stopped, None),
        };
        agent.change(|health| show(health, phase, message));
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn show(health: &mut AgentHealth, phase: EditorPhase, message: Option<String>) {
    health.editor.state = phase;
    health.editor.message = message;
}

fn spec(agent: &Agent) -> ChildSpec {
    let settings = &agent.settings;
    let socket = socket(agent);
    let (program, first) = settings
        .editor
        .split_first()
        .map_or(("/nonexistent/editor", &[][..]), |(program, args)| {
            (program.as_str(), args)
        });
    let mut args: Vec<std::ffi::OsString> = first.iter().map(Into::into).collect();
    args.extend(
        SWITCHES
            .iter()
            .filter(|switch| !first.iter().any(|arg| arg == *switch))
            .map(Into::into),
    );
    for (switch, path) in [
        ("--socket", socket.as_path()),
        ("--config", &agent.places.run.join("editor.yaml")),
        ("--user-data-dir", &extension::user_data(settings)),
        ("--extensions-dir", &extension::folder(settings)),
    ] {
        args.push(switch.into());
        args.push(path.into());
    }
    args.push((&settings.work).into());
    let mut environment = apps::environment(settings);
    environment.extend(
        settings
            .editor_environment
            .iter()
            .map(|(name, value)| (name.into(), value.into())),
    );
    environment.extend(terminal::editor_environment(agent));
    ChildSpec {
        args,
        environment,
        directory: Path::new(&settings.home).to_owned(),
        ready: Ready::HttpSocket(socket, "/healthz".to_owned()),
        ready_within: Duration::from_secs(60),
        restart: Restart {
            attempts: 3,
            ..Restart::default()
        },
        grace: Duration::from_secs(3),
        tail_lines: 50,
        ..ChildSpec::new("editor", program)
    }
}
