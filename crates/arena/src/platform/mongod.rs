//! A MongoDB that we run but did not write: a `mongod` of this machine, or the
//! container of `mongodb-atlas-local`. Once it answers it is used like a server
//! of somebody else: its port is brought into every seat.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use arena_database::mongod::{initiate, make_administrator};
use arena_database::remote::{RemoteMongodb, Resolver};
use arena_local::engine::Invocation;
use arena_local::mongod::{AtlasLocal, Mongod, SET, find_mongod};
use arena_supervisor::{Child, ChildSpec, LogFile, ParentDeath, Ready, StopSignal};
use arena_workshop::plan::MongodbSource;
use arena_workshop::plan::SecretName;

use crate::failure::Failure;
use crate::platform::secrets::{self, Secrets};
use crate::platform::{Parts, Prepared};
use crate::progress::Line;

const ADMIN: &str = "arena";
/// Names the administrator's password among the event's secrets.
const PASSWORD: &str = "mongodb-administrator";
/// After a crash `mongod` reads its journal first.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// The image may have to be fetched.
const IMAGE_LIMIT: Duration = Duration::from_secs(1200);

/// Starts the MongoDB that the plan names and returns how to reach it; `None` where the plan names
/// the built-in one or a configured one.
///
/// # Errors
/// When there is none, or it does not come up; with what to do.
pub(crate) async fn start(
    prepared: &Prepared,
    secrets: &Secrets,
    parts: &Parts,
    line: &Line,
) -> Result<Option<RemoteMongodb>, Failure> {
    let source = prepared
        .plan
        .databases
        .mongodb
        .as_ref()
        .map(|mongodb| &mongodb.source);
    let uri = match source {
        Some(MongodbSource::Mongod) => mongod(prepared, secrets, parts, line).await?,
        Some(MongodbSource::AtlasLocal) => atlas_local(prepared, secrets, parts, line).await?,
        Some(MongodbSource::BuiltIn | MongodbSource::Uri) | None => return Ok(None),
    };
    let found = RemoteMongodb::find(&uri, Resolver::System).await;
    found.map(Some).map_err(|error| {
        let hint = error.hint();
        Failure::environment(error).hint(hint)
    })
}

async fn mongod(
    prepared: &Prepared,
    values: &Secrets,
    parts: &Parts,
    line: &Line,
) -> Result<String, Failure> {
    let places = &prepared.places;
    line.update("starting mongod");
    let failed = |error: arena_local::mongod::MongodError| {
        let hint = error.hint();
        Failure::environment(error).hint(hint)
    };
    let program = find_mongod(&places.cache, std::env::var_os("PATH")).map_err(failed)?;
    let (folder, sockets) = (places.state.join("mongod"), places.runtime.join("mongod"));
    let preparing =
        tokio::task::spawn_blocking(move || Mongod::prepare(program, &folder, &sockets));
    let mongod = preparing
        .await
        .context("preparing mongod broke")?
        .map_err(failed)?;
    let password = values.keep(&SecretName(PASSWORD.to_owned()))?;
    if mongod.is_new() {
        let alone = run(
            prepared,
            parts,
            &mongod.alone(),
            Ready::Socket(mongod.socket()),
        )
        .await?;
        make_administrator(&mongod.socket(), ADMIN, &password)
            .await
            .map_err(Failure::environment)?;
        alone.stop().await;
    }
    run(
        prepared,
        parts,
        &mongod.as_set(),
        Ready::Port(mongod.port()),
    )
    .await?;
    let host = format!("127.0.0.1:{}", mongod.port());
    let uri = format!("mongodb://{ADMIN}:{password}@{host}/?authSource=admin");
    initiate(&format!("{uri}&directConnection=true"), SET, &host)
        .await
        .map_err(Failure::environment)?;
    mongod.remember().map_err(failed)?;
    Ok(format!("{uri}&replicaSet={SET}"))
}

async fn run(
    prepared: &Prepared,
    parts: &Parts,
    invocation: &Invocation,
    ready: Ready,
) -> Result<Child, Failure> {
    let child = parts.supervisor.start(ChildSpec {
        args: invocation.args.clone(),
        environment: [
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("LC_ALL".into(), "C".into()),
        ]
        .into(),
        parent_death: Some(ParentDeath::Interrupt),
        ready,
        ready_within: READY_LIMIT,
        // `mongod` closes its files in order on SIGTERM.
        stop_signal: StopSignal::Terminate,
        grace: Duration::from_secs(30),
        log: Some(log(prepared)),
        ..ChildSpec::new("mongod", &invocation.program)
    });
    is_ready(&child, READY_LIMIT).await?;
    Ok(child)
}

async fn atlas_local(
    prepared: &Prepared,
    values: &Secrets,
    parts: &Parts,
    line: &Line,
) -> Result<String, Failure> {
    line.update("looking for Docker");
    docker(&["version".into()])
        .await
        .map_err(|failure| failure.hint("start Docker and let the user of Arena use it (group docker), or write `arena.database.mongodb: builtin`"))?;
    let password = values.keep(&SecretName(PASSWORD.to_owned()))?;
    let path = prepared.places.state.join("secrets/atlas-local.env");
    secrets::write(&path, &AtlasLocal::secrets_text(ADMIN, &password))?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .context("cannot find a free port")?
        .port();
    let container = AtlasLocal {
        event: prepared.plan.event.to_string(),
        port,
        secrets: path,
    };
    docker(&container.remove()).await?;
    line.update("starting mongodb-atlas-local (its image is fetched the first time)");
    let child = parts.supervisor.start(ChildSpec {
        args: container.run(),
        environment: docker_environment(),
        parent_death: Some(ParentDeath::Interrupt),
        ready: Ready::Line("Waiting for connections".to_owned()),
        ready_within: IMAGE_LIMIT,
        stop_signal: StopSignal::Terminate,
        grace: Duration::from_secs(30),
        log: Some(log(prepared)),
        ..ChildSpec::new("mongod", docker_program())
    });
    is_ready(&child, IMAGE_LIMIT).await?;
    Ok(format!(
        "mongodb://{ADMIN}:{password}@127.0.0.1:{port}/?authSource=admin&directConnection=true"
    ))
}

async fn is_ready(child: &Child, limit: Duration) -> Result<(), Failure> {
    child.ready(limit).await.map_err(|error| {
        Failure::environment(error).hint("see what it said with: arena logs mongod")
    })
}

fn log(prepared: &Prepared) -> LogFile {
    LogFile::new(prepared.places.state.join("logs/mongod.log"))
}

fn docker_program() -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join("docker"))
        .find(|program| program.is_file())
        .unwrap_or_else(|| "docker".into())
}

fn docker_environment() -> std::collections::BTreeMap<std::ffi::OsString, std::ffi::OsString> {
    let kept = [
        "PATH",
        "HOME",
        "DOCKER_HOST",
        "DOCKER_CONFIG",
        "XDG_RUNTIME_DIR",
    ];
    kept.into_iter()
        .filter_map(|name| Some((name.into(), std::env::var_os(name)?)))
        .collect()
}

/// Runs `docker` to its end.
async fn docker(args: &[std::ffi::OsString]) -> Result<(), Failure> {
    let output = tokio::process::Command::new(docker_program())
        .args(args)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output)
        .await
        .context("docker does not answer")
        .map_err(Failure::environment)?
        .context("cannot start docker")
        .map_err(Failure::environment)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::environment(anyhow::anyhow!(
        "docker cannot be used: {said}"
    )))
}
