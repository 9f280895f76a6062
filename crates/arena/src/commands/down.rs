//! `arena down`: ends a detached event; with `--purge` removes everything of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use arena_local::engine::end_server_for_good;
use arena_local::repository::Repositories;
use arena_local::sandbox::{Sandbox, probe};
use arena_local::seat::{Seats, are_open};
use arena_local::template::Templates;
use arena_store::Store;
use arena_workshop::EventId;

use super::status::runtime;
use crate::cli::Down;
use crate::failure::{Failure, Kind};
use crate::host::{self, Host};
use crate::platform::door::Client;
use crate::platform::places::{Places, lock};
use crate::platform::servers::Servers;

/// Requests and gradings end within 15 seconds, databases within 20.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Ends the event, and removes it if asked to.
pub(crate) fn run(arguments: &Down) -> Result<(), Failure> {
    let host = Host::here()?;
    let named = arguments.which.event.as_deref();
    // What is removed for good is named, or alone.
    let event = if arguments.purge {
        host.chosen(named)?
    } else {
        host.chosen_to_use(named)?
    };
    if arguments.purge {
        let export = if arguments.without_export {
            ""
        } else {
            " (an export of the results is kept)"
        };
        host::consent(
            &format!("Remove files, databases and results of {event}{export}?"),
            arguments.yes,
        )?;
    }
    let places = host.event(&event);
    // Seats' files belong to users of their own: only the user who made them may remove them.
    host::become_owner(&places, &again(arguments, &event))?;
    stop(&event, &places)?;
    if !arguments.purge {
        return Ok(());
    }
    if !arguments.without_export {
        export(&event, &places)?;
    }
    purge(&event, &places, arguments.leave_databases)?;
    host.remove_if_empty();
    Ok(())
}

fn again(arguments: &Down, event: &EventId) -> Vec<OsString> {
    let mut rest: Vec<OsString> = vec![
        "down".into(),
        "--event".into(),
        event.as_str().into(),
        "--yes".into(),
    ];
    rest.extend(arguments.purge.then(|| "--purge".into()));
    rest.extend(arguments.without_export.then(|| "--without-export".into()));
    rest.extend(
        arguments
            .leave_databases
            .then(|| "--leave-databases".into()),
    );
    rest
}

fn stop(event: &EventId, places: &Places) -> Result<(), Failure> {
    let client = Client::new(&places.door_socket());
    let runtime = runtime()?;
    if runtime.block_on(client.is_running()) {
        runtime
            .block_on(client.stop())
            .map_err(Failure::environment)?;
    }
    let deadline = Instant::now() + STOP_LIMIT;
    loop {
        match lock(places) {
            Ok(_free) => break,
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            Err(failure) => return Err(failure),
        }
    }
    eprintln!("{event} is stopped");
    Ok(())
}

/// Keeps people's results where the command was called.
fn export(event: &EventId, places: &Places) -> Result<(), Failure> {
    let database = places.state.join("event.db");
    if !database.exists() {
        return Ok(());
    }
    let store = Store::open(&database).map_err(Failure::environment)?;
    let folder = std::env::var_os("HOME")
        .map(std::path::PathBuf::from)
        .unwrap_or_else(std::env::temp_dir);
    let path = [
        std::env::current_dir().unwrap_or_else(|_| folder.clone()),
        folder,
    ]
    .into_iter()
    .map(|folder| folder.join(format!("{event}-results.json")))
    .find(|path| fs::write(path, b"").is_ok())
    .context("cannot write an export here or in the home folder")
    .map_err(|error| {
        Failure::environment(error).hint("add --without-export to purge without one")
    })?;
    let value = serde_json::json!({ "event": event.as_str(), "seats": store.seats(), "results": store.results(), "audit": store.audit_log(usize::MAX) });
    fs::write(
        &path,
        serde_json::to_vec_pretty(&value).context("cannot write JSON")?,
    )
    .with_context(|| format!("cannot write {}", path.display()))
    .map_err(Failure::environment)?;
    eprintln!("results are kept in {}", path.display());
    Ok(())
}

/// What the event's seats were made with.
fn sandbox_of(places: &Places, executable: &Path, seats: usize) -> Result<Sandbox, Failure> {
    if are_open(&places.state) {
        return Ok(Sandbox::open(executable));
    }
    let seats = u32::try_from(seats).unwrap_or(u32::MAX);
    probe(executable, &places.state, seats)
        .sandbox
        .context(
            "seats' files cannot be removed: their namespaces do not work on this machine any more",
        )
        .map_err(Failure::environment)
}

fn purge(event: &EventId, places: &Places, leave_databases: bool) -> Result<(), Failure> {
    let lock = lock(places)?;
    if !leave_databases {
        let servers = Servers::read(&places.state)?;
        runtime()?
            .block_on(servers.remove_event(event))
            .map_err(|failure| {
                failure.hint("make the server reachable and purge again, or add --leave-databases to leave there what is there")
            })?;
    }
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let seats_folder = places.state.join("seats");
    let count = fs::read_dir(&seats_folder).map_or(0, |entries| entries.count());
    let templates_folder = places.state.join("template");
    let repository = places.state.join("repository");
    if count > 0 || templates_folder.exists() || repository.exists() {
        let sandbox = sandbox_of(places, &executable, count)?;
        // What a broken preparation left belongs to the sandbox's user, too.
        Templates::new(sandbox.clone(), &places.state)
            .collect(&BTreeSet::new())
            .map_err(Failure::environment)?;
        Repositories::new(sandbox.clone(), &repository)
            .remove()
            .map_err(Failure::environment)?;
        let seats = Seats::new(sandbox, &places.state, &places.runtime);
        seats.end_starters();
        for seat in seats.made() {
            seats.remove(&seat).map_err(Failure::environment)?;
        }
    }
    for server in ["engine", "postgres"] {
        end_server_for_good(&places.state.join(server).join("data"));
    }
    for folder in [&places.runtime, &places.state] {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let error = anyhow::Error::new(error)
                    .context(format!("cannot remove {}", folder.display()));
                return Err(Failure::new(Kind::Environment, error));
            }
            _ => {}
        }
    }
    drop(lock);
    eprintln!("{event} is removed");
    Ok(())
}
