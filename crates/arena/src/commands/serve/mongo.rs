//! The built-in database on its own, for tests and for looking at it by hand:
//! the engine, its front, and one user who may do everything and whose
//! password nobody else knows. An event does not start it this way: it runs
//! the same two parts inside the platform's process.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use arena_local::engine::{Engine, EngineTree, OsUser};
use arena_mongo::{Listener, Role, RoleName, ScramVerifier, Socket, Tls, User, Users};
use arena_supervisor::{ChildSpec, LogFile, ParentDeath, Ready, StopSignal, Supervisor};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::commands::print;
use crate::failure::{Failure, Kind};
use crate::host;
use crate::platform::secrets;

/// The user of the printed address.
const ADMIN: &str = "arena";
/// A new data directory is made in seconds, on a busy machine in more.
const ENGINE_LIMIT: Duration = Duration::from_secs(120);

/// Serves until SIGTERM or SIGINT; prints the address on standard output when it is ready.
///
/// # Errors
/// When the tree is not complete, the engine does not come up, or the address is taken.
pub(crate) fn serve(
    tree: &Path,
    state: &Path,
    listen: SocketAddr,
    certificate: Option<&Path>,
) -> Result<(), Failure> {
    let tls = certificate.map(tls).transpose()?;
    make_enterable(state).map_err(Failure::environment)?;
    let engine = engine(tree, state)?;
    engine.prepare().map_err(Failure::environment)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // First, so that no signal ends us with a running engine.
        let mut terminated =
            signal(SignalKind::terminate()).context("cannot listen for signals")?;
        let mut interrupted =
            signal(SignalKind::interrupt()).context("cannot listen for signals")?;
        let supervisor = Supervisor::new().context("cannot supervise the engine")?;
        let shutdown = CancellationToken::new();
        let served = start_and_serve(&engine, state, (listen, tls), &supervisor, shutdown.clone());
        tokio::pin!(served);
        // A signal may be dropped: each is only waited for once. What serves goes on below.
        let ended = tokio::select! {
            ended = &mut served => Some(ended),
            _ = terminated.recv() => None,
            _ = interrupted.recv() => None,
        };
        shutdown.cancel();
        let ended = match ended {
            Some(ended) => ended,
            None => served.await,
        };
        supervisor.stop_all(&CancellationToken::new()).await;
        ended
    })
}

/// Reads the certificate and key that clients are shown.
fn tls(file: &Path) -> Result<Tls, Failure> {
    let read = || {
        let pem = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Tls::from_pem(&pem).with_context(|| format!("cannot use {}", file.display()))
    };
    read().map_err(|error| Failure::new(Kind::Configuration, error))
}

/// Makes the folder where it is missing. The engine may run as another user, who must get through it.
fn make_enterable(state: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(state)
        .with_context(|| format!("cannot make {}", state.display()))
}

/// The engine in `state`. PostgreSQL refuses root, so root runs it as the tree's owner, who can read it.
fn engine(tree: &Path, state: &Path) -> Result<Engine, Failure> {
    let tree = EngineTree::at(tree).map_err(Failure::environment)?;
    let root = tree.root().to_owned();
    let (cache, data, sockets) = (state.join("cache"), state.join("engine"), state.join("s"));
    let engine = Engine::new(tree, &cache, &data, &sockets);
    if !host::is_root() {
        return Ok(engine);
    }
    let owner = Command::new("stat")
        .args(["--format", "%U", "--"])
        .arg(root)
        .output()
        .context("cannot ask who owns the engine's tree")?;
    let owner = match String::from_utf8_lossy(&owner.stdout).trim() {
        "root" | "UNKNOWN" | "" => "nobody".to_owned(),
        owner => owner.to_owned(),
    };
    Ok(engine.run_as(OsUser(owner)))
}

async fn start_and_serve(
    engine: &Engine,
    state: &Path,
    (listen, tls): (SocketAddr, Option<Tls>),
    supervisor: &Supervisor,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let invocation = engine.invocation();
    let child = supervisor.start(ChildSpec {
        args: invocation.args,
        environment: [
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("LC_ALL".into(), "C".into()),
        ]
        .into(),
        alone_in: Some(engine.data_dir()),
        parent_death: Some(ParentDeath::Interrupt),
        ready: Ready::Socket(engine.socket()),
        ready_within: ENGINE_LIMIT,
        stop_signal: StopSignal::Interrupt,
        log: Some(LogFile::new(state.join("engine.log"))),
        ..ChildSpec::new("engine", invocation.program)
    });
    child
        .ready(ENGINE_LIMIT)
        .await
        .map_err(Failure::environment)?;
    let password = secrets::random()?;
    let users = Users::default();
    let root = Role::new(RoleName::Root, "admin").context("root is a role of admin")?;
    users.set(
        ADMIN,
        User {
            verifier: ScramVerifier::from_password(&password),
            roles: vec![root],
        },
    );
    let socket = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    let address = socket.local_addr().context("cannot read our own address")?;
    let (listeners, incoming) = mpsc::channel(1);
    let mut listener = Listener::new(Socket::Tcp(socket));
    listener.tls = tls;
    let options = if listener.tls.is_some() {
        "?tls=true"
    } else {
        ""
    };
    listeners
        .try_send(listener)
        .context("the channel holds one listener")?;
    print(&format!(
        "mongodb://{ADMIN}:{password}@{address}/{options}\n"
    ))?;
    let settings = arena_mongo::Settings {
        engine_socket_dir: engine.socket_dir().to_owned(),
        users,
        limits: arena_mongo::Limits::default(),
        guard: arena_mongo::Guard::default(),
        on_schema_change: None,
    };
    arena_mongo::serve(settings, incoming, shutdown)
        .await
        .context("the MongoDB front broke")?;
    Ok(())
}
