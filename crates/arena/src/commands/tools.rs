//! `arena tools`, and the tools that seats stand on: Node, the editor, the
//! database engine. All of them live in the tool cache of the user that Arena
//! runs as.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context;
use arena_local::engine::{self, EngineArchive, EngineTree, InstallProgress, InstallSettings};
use arena_local::mongod::find_mongod;
use arena_local::outbound::machine_registries;
use arena_local::sandbox::{Probe, Sandbox, probe};
use arena_local::tools::{self as local, Found, Origin, ToolProgress, ToolSettings};
use arena_workshop::Workshop;
use arena_workshop::config::MongodbChoice;
use serde::Serialize;

use super::{machine, print, print_json};
use crate::cli::{Format, Separation, Tools, ToolsCommand};
use crate::failure::{Failure, Paint, paint};
use crate::host::{self, Host};
use crate::platform::seats::SeatTools;
use crate::progress::{Line, Progress};

/// The user that Arena runs as when it is started as root.
pub(crate) const RUN_AS: &str = "arena";

/// Where the licence of mongod is.
const SSPL: &str = "https://www.mongodb.com/legal/licensing/server-side-public-license";

/// A tool as `arena tools list` shows it.
#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    version: String,
    from: &'static str,
    /// The tree; absent when it is not installed.
    path: Option<PathBuf>,
}

/// Which of the tools a workshop needs.
#[derive(Debug, Clone)]
pub(crate) struct Needs {
    /// Node and the editor: every workshop.
    pub(crate) seats: bool,
    /// mongosh, for the seats' terminals.
    pub(crate) mongosh: bool,
    /// The database engine.
    pub(crate) engine: bool,
    /// The archive that the config names for it.
    pub(crate) archive: Option<String>,
}

impl Needs {
    /// Returns what the workshop needs on this machine.
    pub(crate) fn of(workshop: &Workshop) -> Self {
        let (wanted, configured) = (
            &workshop.config.scenario.database,
            &workshop.config.arena.database,
        );
        let is_built_in = matches!(configured.mongodb, None | Some(MongodbChoice::BuiltIn));
        let mongodb = wanted.mongodb && is_built_in;
        let postgres = wanted.has_postgres() && configured.postgres.is_none();
        Self {
            seats: true,
            mongosh: wanted.mongodb,
            engine: mongodb || postgres,
            archive: configured.engine.clone(),
        }
    }
}

/// Lists or installs.
pub(crate) fn run(arguments: &Tools) -> Result<(), Failure> {
    match &arguments.command {
        ToolsCommand::List { format } => list(*format),
        ToolsCommand::Archive { folder } => archive(folder),
        ToolsCommand::Install {
            names,
            accept_license,
            ..
        } if names.iter().any(|name| name == "mongod") => mongod(*accept_license),
        ToolsCommand::Install { names, yes, .. } => {
            let needs = needs(names)?;
            machine::prepare(*yes, needs.seats, Separation::Sandbox)?;
            if host::is_root() {
                host::make_user(RUN_AS, *yes)?;
                let mut again: Vec<OsString> =
                    vec!["tools".into(), "install".into(), "--yes".into()];
                again.extend(names.iter().map(OsString::from));
                return host::become_user(RUN_AS, &again);
            }
            let (host, progress) = (Host::here()?, Progress::new());
            host.make()?;
            if needs.seats {
                let sandbox = sandbox(&host)?;
                let tools = install_for_seats(&host, &sandbox, local::machine_npm(), &progress)?;
                if needs.mongosh {
                    install_mongosh(&host, &sandbox, tools.trees.node, &progress)?;
                }
            }
            if needs.engine {
                install_engine(&host, engine_archive(None).as_deref(), &progress)?;
            }
            Ok(())
        }
    }
}

/// MongoDB's server may be used by whoever accepts its licence, and is given on by nobody but its maker.
fn mongod(accepts: bool) -> Result<(), Failure> {
    let host = Host::here()?;
    if let Ok(found) = find_mongod(host.cache(), std::env::var_os("PATH")) {
        return print(&format!(
            "mongod {} is there: {}\n",
            found.version,
            found.path.display()
        ));
    }
    if !accepts {
        let error =
            anyhow::anyhow!("mongod is under the Server Side Public License (SSPL): {SSPL}");
        return Err(Failure::environment(error)
            .hint("read it, and if you accept it: arena tools install mongod --accept-license"));
    }
    // Its maker's address would be the only source, and none of its archives was ever tried here.
    let error = anyhow::anyhow!("Arena does not fetch mongod itself yet");
    Err(Failure::environment(error)
        .hint("install MongoDB Community by its manual, so that `mongod` is on PATH")
        .hint(
            "or unpack its archive so that this is the program: ".to_owned()
                + &host.cache().join("mongod/bin/mongod").display().to_string(),
        )
        .hint("or name a server: arena.database.mongodb: mongodb://…"))
}

/// Makes an archive of the engine for machines without a network.
fn archive(folder: &Path) -> Result<(), Failure> {
    let line = Progress::new().begin("engine");
    let made = engine::make_archive(folder, &|now| show(&line, now));
    match made {
        Ok(made) => {
            line.done(&format!(
                "{} packages, each with its licence",
                made.packages
            ));
            print(&format!(
                "{}\n{} MB, SHA-256 {}\n",
                made.path.display(),
                made.bytes >> 20,
                made.sha256
            ))
        }
        Err(error) => {
            line.failed("the archive");
            let hint = engine_hint(&error);
            Err(Failure::environment(error).hint(hint))
        }
    }
}

fn needs(names: &[String]) -> Result<Needs, Failure> {
    let mut needs = Needs {
        seats: names.is_empty(),
        mongosh: names.is_empty(),
        engine: names.is_empty(),
        archive: None,
    };
    for name in names {
        match name.as_str() {
            "node" | "editor" => needs.seats = true,
            // It runs on Node.
            "mongosh" => (needs.seats, needs.mongosh) = (true, true),
            "engine" => needs.engine = true,
            other => {
                return Err(
                    Failure::configuration(format_args!("there is no tool {other}"))
                        .hint("there are: node, editor, mongosh, engine"),
                );
            }
        }
    }
    Ok(needs)
}

fn list(format: Format) -> Result<(), Failure> {
    let host = Host::here()?;
    let settings = ToolSettings {
        cache: host.cache().to_owned(),
        ..ToolSettings::default()
    };
    let mut tools: Vec<Listed> = local::find(&settings).iter().map(listed).collect();
    let mongosh = local::find_mongosh(&settings);
    tools.push(Listed {
        name: local::MONGOSH_PIN.name,
        version: local::MONGOSH_PIN.version.to_owned(),
        from: if mongosh.is_some() {
            "cache"
        } else {
            "missing"
        },
        path: mongosh,
    });
    let engine = EngineTree::at(host.cache().join("engine/current")).ok();
    tools.push(Listed {
        name: "engine",
        version: engine.as_ref().map_or_else(
            || "PostgreSQL 18 with DocumentDB".to_owned(),
            |tree| {
                format!(
                    "PostgreSQL {} with DocumentDB {}",
                    tree.postgres_version(),
                    tree.documentdb_version()
                )
            },
        ),
        from: if engine.is_some() { "cache" } else { "missing" },
        path: engine.map(|tree| tree.root().to_owned()),
    });
    if format == Format::Json {
        return print_json(&serde_json::json!({ "cache": host.cache(), "tools": tools }));
    }
    let mut text = String::new();
    for tool in &tools {
        let mark = if tool.path.is_some() {
            paint("✓", Paint::Green)
        } else {
            paint("✗", Paint::Red)
        };
        let place = tool.path.as_ref().map_or_else(
            || "not installed: arena tools install".to_owned(),
            |path| path.display().to_string(),
        );
        text.push_str(&format!(
            "{mark} {:<8} {:<44} {place}\n",
            tool.name, tool.version
        ));
    }
    print(&text)
}

fn listed(found: &Found) -> Listed {
    let (from, path) = match &found.origin {
        Origin::Configured(path) => ("configured", Some(path.clone())),
        Origin::System(path) => ("system", Some(path.clone())),
        Origin::Machine(path) => ("machine", Some(path.clone())),
        Origin::Cache(path) => ("cache", Some(path.clone())),
        Origin::Missing => ("missing", None),
    };
    let name = if found.pin.name == "code-server" {
        "editor"
    } else {
        found.pin.name
    };
    Listed {
        name,
        version: found.pin.version.to_owned(),
        from,
        path,
    }
}

/// Installs what is missing, and returns everything that seats stand on. Blocks for minutes the first time.
///
/// # Errors
/// When seats cannot be separated here, or a tool cannot be had; with what to do.
pub(crate) fn install(
    needs: Needs,
    separation: Separation,
    progress: &Progress,
) -> Result<SeatTools, Failure> {
    let host = Host::here()?;
    host.make()?;
    let sandbox = match separation {
        Separation::Sandbox => sandbox(&host)?,
        Separation::None => {
            let executable = std::env::current_exe().context("cannot find this executable")?;
            Sandbox::open(&executable)
        }
    };
    let npm = local::machine_npm();
    let mut tools = install_for_seats(&host, &sandbox, npm.clone(), progress)?;
    if needs.mongosh {
        // A convenience: an event does not wait for a registry because of it.
        match install_mongosh(&host, &sandbox, tools.trees.node.clone(), progress) {
            Ok(tree) => tools.trees.mongosh = Some(tree),
            Err(failure) => tracing::warn!("seats have no mongosh: {failure:?}"),
        }
    }
    let engine = if needs.engine {
        Some(install_engine(
            &host,
            engine_archive(needs.archive).as_deref(),
            progress,
        )?)
    } else {
        None
    };
    tools.trees.engine = engine.as_ref().map(|tree| tree.root().to_owned());
    Ok(SeatTools {
        sandbox,
        trees: tools.trees,
        editor: tools.editor,
        engine,
        npm,
        registries: Vec::new(),
    })
}

fn install_for_seats(
    host: &Host,
    sandbox: &Sandbox,
    npm: BTreeMap<String, String>,
    progress: &Progress,
) -> Result<local::Tools, Failure> {
    let settings = ToolSettings {
        cache: host.cache().to_owned(),
        npm,
        ..ToolSettings::default()
    };
    let missing: Vec<&str> = local::find(&settings)
        .iter()
        .filter(|found| found.origin == Origin::Missing)
        .map(|found| found.pin.name)
        .collect();
    let line = progress.begin("tools");
    if !missing.is_empty() {
        line.update(&format!(
            "fetching {}: a few minutes, once",
            missing.join(" and ")
        ));
    }
    let tools = local::ensure(&settings, sandbox, &|now: ToolProgress| {
        let text = format!("{}: {}", now.name, now.step);
        line.update(&text);
        if now.total_bytes > 0 {
            line.bytes(&text, now.bytes, now.total_bytes);
        }
    });
    match tools {
        Ok(tools) => {
            line.done("Node, editor");
            Ok(tools)
        }
        Err(error) => {
            line.failed("Node, editor");
            let hint = error.hint();
            let failure = Failure::environment(error);
            Err(match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
    }
}

fn install_mongosh(
    host: &Host,
    sandbox: &Sandbox,
    node: Option<PathBuf>,
    progress: &Progress,
) -> Result<PathBuf, Failure> {
    let settings = ToolSettings {
        cache: host.cache().to_owned(),
        ..ToolSettings::default()
    };
    if let Some(tree) = local::find_mongosh(&settings) {
        return Ok(tree);
    }
    let line = progress.begin("mongosh");
    let installed = local::ensure_mongosh(&settings, sandbox, node, &|now: ToolProgress| {
        line.bytes(&now.step, now.bytes, now.total_bytes);
    });
    match installed {
        Ok(tree) => {
            line.done(local::MONGOSH_PIN.version);
            Ok(tree)
        }
        Err(error) => {
            line.failed("mongosh");
            let hint = error
                .hint()
                .unwrap_or("try again with: arena tools install mongosh");
            Err(Failure::environment(error).hint(hint))
        }
    }
}

fn install_engine(
    host: &Host,
    archive: Option<&str>,
    progress: &Progress,
) -> Result<EngineTree, Failure> {
    let settings = InstallSettings {
        cache: host.cache().to_owned(),
        archive: archive.map(EngineArchive::parse),
    };
    let line = progress.begin("engine");
    let tree = engine::ensure(&settings, &|now| show(&line, now));
    match tree {
        Ok(tree) => {
            line.done("PostgreSQL with DocumentDB");
            Ok(tree)
        }
        Err(error) => {
            line.failed("PostgreSQL with DocumentDB");
            let hint = engine_hint(&error);
            Err(Failure::environment(error).hint(hint))
        }
    }
}

/// The configured archive of the engine: the environment's word counts before the config's.
fn engine_archive(configured: Option<String>) -> Option<String> {
    let variable = std::env::var("ARENA_ENGINE_ARCHIVE").ok();
    variable.filter(|place| !place.is_empty()).or(configured)
}

fn show(line: &Line, now: InstallProgress) {
    match now {
        InstallProgress::WaitingForOther => {
            line.update("another Arena installs it, waiting for it");
        }
        InstallProgress::ReadingPackageLists => line.update("reading package lists"),
        InstallProgress::Downloading { bytes, total } => line.bytes("fetching", bytes, total),
        InstallProgress::Unpacking { done, total } => {
            line.tick(&format!("unpacking {done} of {total}"));
        }
    }
}

/// What to do when the engine cannot be had.
fn engine_hint(error: &engine::InstallError) -> &'static str {
    let is_full = match error {
        engine::InstallError::Files { source, .. } => {
            source.kind() == std::io::ErrorKind::StorageFull
        }
        engine::InstallError::Program { output, .. } => output.contains("No space left on device"),
        _ => false,
    };
    if matches!(
        error,
        engine::InstallError::OtherArchive { .. } | engine::InstallError::Archive { .. }
    ) {
        return "fetch the archive again, or correct the checksum (ARENA_ENGINE_ARCHIVE, arena.database.engine)";
    }
    if is_full {
        "free some space there, or set XDG_CACHE_HOME to a folder on a larger disk"
    } else {
        "it comes from the Debian mirror of this machine's apt; is that reachable? `apt-get update` tells"
    }
}

/// Installs in a blocking task, then asks the machine's package clients for their registries.
pub(crate) async fn for_event(
    needs: Needs,
    separation: Separation,
    progress: &Progress,
) -> Result<SeatTools, Failure> {
    let progress = progress.clone();
    let (tools, registries) = tokio::join!(
        tokio::task::spawn_blocking(move || install(needs, separation, &progress)),
        machine_registries()
    );
    let tools = tools.context("installing tools broke")??;
    Ok(SeatTools {
        registries,
        ..tools
    })
}

/// Returns how seats are separated on this machine.
///
/// # Errors
/// When they cannot be, with what to do.
pub(crate) fn sandbox(host: &Host) -> Result<Sandbox, Failure> {
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let Probe { steps, sandbox } = probe(&executable, host.state(), 1);
    sandbox.ok_or_else(|| {
        let mut failure = Failure::environment(anyhow::anyhow!(
            "seats cannot be separated from each other on this machine"
        ));
        for step in steps.iter().filter(|step| !step.is_ok && !step.is_optional) {
            let fix = step
                .fix
                .as_deref()
                .map(|fix| format!("; {fix}"))
                .unwrap_or_default();
            failure = failure.hint(format!("{}: {}{fix}", step.name, step.detail));
        }
        failure.hint("alone and only to try it out? `arena up --isolation none` makes one seat that is not separated")
    })
}
