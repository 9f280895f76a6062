//! `arena up`: check, plan, apply, open the doors, stay until Ctrl-C.

use std::ffi::OsString;
use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use arena_workshop::{Plan, Problems, Severity};
use tokio::signal::unix::{SignalKind, signal};

use super::inputs::{self, Inputs};
use super::tools::Needs;
use super::{list, machine, print, print_json, tools};
use crate::cli::{Format, Separation, Up};
use crate::content;
use crate::failure::{Failure, Kind, Paint, paint};
use crate::host::{self, Host};
use crate::platform::door::Client;
use crate::platform::places::{Places, lock};
use crate::platform::remote::{self, Remote};
use crate::platform::seats::SeatTools;
use crate::platform::{self, Prepared, Stop, Summary};
use crate::progress::Progress;

/// The first `up` may install tools and the workshop's dependencies.
const DETACH_LIMIT: Duration = Duration::from_secs(1800);
/// What still blocks at the end (an installation, the making of a template) is left after this.
const BLOCKING_LIMIT: Duration = Duration::from_secs(1);
/// How often the live line is painted.
const LIVE_EVERY: Duration = Duration::from_secs(1);

/// Starts the event.
pub(crate) fn run(arguments: &Up) -> Result<(), Failure> {
    let inputs = inputs::read(&arguments.workshop)?;
    warn(&inputs.notes, &Problems::default());
    // Refused before anything is installed or made.
    arena_gateway::check_loopback(&(arguments.listen, inputs.port(arguments.port)).into())
        .map_err(|error| {
            Failure::environment(error)
                .hint("leave --listen out: the workshop is then at http://arena.localhost")
        })?;
    machine::prepare(arguments.yes, true, arguments.isolation)?;
    if host::is_root() {
        return as_user(arguments, &inputs);
    }
    let host = Host::here()?;
    host.make()?;
    let places = host.event(&inputs.workshop.event);
    places.make()?;
    let lock = match lock(&places) {
        Ok(lock) => lock,
        Err(held) => {
            let door = Client::new(&places.door_socket());
            return list::apply(&inputs, &door, arguments.format, held);
        }
    };
    if arguments.detach {
        // Given back to whom it starts: another `up` was told apart from a start that fails.
        drop(lock);
        return detach(arguments, &places);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(serve(arguments, inputs, places));
    drop(lock);
    // An installation that was interrupted is a blocking task: what it made is swept by the next one.
    runtime.shutdown_timeout(BLOCKING_LIMIT);
    outcome
}

async fn serve(arguments: &Up, inputs: Inputs, places: Places) -> Result<(), Failure> {
    let listener = platform::bind(arguments.listen, inputs.port(arguments.port))?;
    let port = listener
        .local_addr()
        .context("the listener has an address")?
        .port();
    let progress = Progress::new();
    let stop = Stop::default();
    let signals = tokio::spawn(listen_for_signals(stop.clone()));
    // Looking may be dropped: nothing was made. It comes first: a wrong address is said at once.
    let remote = tokio::select! {
        remote = find_remote(&inputs, &progress) => remote?,
        () = stop.begin.cancelled() => return Ok(()),
    };
    // Installing may be dropped halfway: nothing half-made is ever taken for a tool.
    let tools = tokio::select! {
        tools = tools::for_event(Needs::of(&inputs.workshop), arguments.isolation, &progress) => tools?,
        () = stop.begin.cancelled() => return Ok(()),
    };
    // What was begun of a repository is swept by the next start.
    let inputs = tokio::select! {
        inputs = whole(inputs, &tools, &places, &progress) => inputs?,
        () = stop.begin.cancelled() => return Ok(()),
    };
    let seen = remote
        .mongodb
        .as_ref()
        .map(|mongodb| mongodb.capabilities().clone());
    let target = inputs.target(port, tools.sandbox.isolation(), seen);
    let plan = arena_workshop::plan(&inputs.workshop, &target);
    if tools.sandbox.is_open() {
        warn_of_openness(&inputs, &plan);
    }
    let Inputs {
        folder, workshop, ..
    } = inputs;
    let door = Client::new(&places.door_socket());
    let summary_path = places.state.join("summary.json");
    let prepared = Prepared {
        workshop,
        folder,
        plan,
        target,
        places,
        tools,
        remote,
    };
    let mut live = None;
    let format = arguments.format;
    let outcome = platform::run(prepared, listener, &progress, stop.clone(), |summary| {
        if let Err(failure) = show(summary, format, &summary_path) {
            failure.report();
        }
        if format == Format::Text && std::io::stderr().is_terminal() {
            live = Some(tokio::spawn(show_live(door)));
        }
    })
    .await;
    signals.abort();
    if let Some(live) = live {
        live.abort();
        eprint!("\r\u{1b}[K");
    }
    if outcome.is_ok() {
        eprintln!("stopped; `arena up` starts it again as it was");
    }
    outcome
}

/// Looks at the databases that the config names.
async fn find_remote(inputs: &Inputs, progress: &Progress) -> Result<Remote, Failure> {
    let is_configured = inputs
        .workshop
        .config
        .arena
        .database
        .mongodb_uri()
        .is_some();
    let line = is_configured.then(|| progress.begin("MongoDB"));
    if let Some(line) = &line {
        line.update("looking at the configured server");
    }
    let found = Remote::of(&inputs.workshop).await;
    match (line, &found) {
        (
            Some(line),
            Ok(Remote {
                mongodb: Some(mongodb),
                ..
            }),
        ) => line.done(&remote::described(mongodb)),
        (Some(line), Ok(_)) => line.done("not needed"),
        (Some(line), Err(_)) => line.failed("the configured server"),
        (None, _) => {}
    }
    found
}

/// Says what `--isolation none` means, each time.
fn warn_of_openness(inputs: &Inputs, plan: &Plan) {
    let left_out = inputs.workshop.participants.seats.len() - plan.seats.len();
    let left_out = match left_out {
        0 => String::new(),
        more => format!("; {more} more of the list are left out"),
    };
    eprintln!(
        "{} nothing is separated: the workshop's programs may do whatever you may. There is one seat{left_out}",
        paint("warning:", Paint::Yellow)
    );
}

/// Fetches what lies in a repository, and reads it like any folder.
async fn whole(
    inputs: Inputs,
    tools: &SeatTools,
    places: &Places,
    progress: &Progress,
) -> Result<Inputs, Failure> {
    let Some(repository) = inputs.repository.clone() else {
        return Ok(inputs);
    };
    let line = progress.begin("content");
    let store = content::Store {
        sandbox: tools.sandbox.clone(),
        folder: &places.state.join("repository"),
        services: &places.runtime.join("fetch"),
    };
    let fetched = match content::fetch(store, &repository, &line).await {
        Ok(fetched) => fetched,
        Err(failure) => {
            line.failed(&repository.address());
            return Err(failure);
        }
    };
    line.done(&format!(
        "{}, version {}",
        repository.address(),
        content::short(&fetched.version)
    ));
    if let Some(reason) = &fetched.stale {
        eprintln!(
            "{} {reason}\n  going on with the version that was fetched before",
            paint("warning:", Paint::Yellow)
        );
    }
    let said = inputs.notes.clone();
    let inputs = inputs
        .with_content(&fetched)?
        .map_err(|problems| Failure::problems(&problems))?;
    warn(&inputs.notes, &said);
    Ok(inputs)
}

/// Prints the warnings that have not been said.
fn warn(notes: &Problems, said: &Problems) {
    let warnings = notes
        .iter()
        .filter(|note| note.severity == Severity::Warning)
        .filter(|note| said.iter().all(|other| other != *note));
    for warning in warnings {
        eprintln!("{warning}");
    }
}

/// First signal: in order. Second: at once.
async fn listen_for_signals(stop: Stop) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    for token in [&stop.begin, &stop.at_once] {
        // A signal that came while none was waited for is kept by its receiver.
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        if !token.is_cancelled() && !stop.begin.is_cancelled() {
            eprintln!("\nstopping in order; once more to stop at once");
        }
        token.cancel();
    }
    Ok(())
}

/// Prints the addresses, and keeps them for `status` and `open`.
fn show(summary: &Summary, format: Format, path: &Path) -> Result<(), Failure> {
    let json = serde_json::to_string(summary).context("cannot write the summary")?;
    fs::write(path, &json).with_context(|| format!("cannot write {}", path.display()))?;
    match format {
        Format::Json => print(&format!("{json}\n")),
        Format::Text => {
            print(&(summary_text(summary) + "  Ctrl-C stops; files and results stay.\n"))
        }
    }
}

fn summary_text(summary: &Summary) -> String {
    let mut text = format!(
        "\n{} is open\n\n  portal       {}\n  facilitator  {}\n               (signs in once)\n  event code   {}\n",
        paint(&summary.title, Paint::Bold),
        paint(&summary.address, Paint::Cyan),
        paint(&summary.facilitator_link, Paint::Cyan),
        summary.event_code,
    );
    if !summary.seats.is_empty() {
        text.push_str("\n  personal links\n");
        let width = summary
            .seats
            .iter()
            .map(|seat| seat.name.chars().count())
            .max()
            .unwrap_or(0)
            .min(24);
        for seat in &summary.seats {
            text.push_str(&format!("    {:<width$}  {}\n", seat.name, seat.link));
        }
    }
    if summary.spare_seats > 0 {
        text.push_str(&format!(
            "\n  {} more {} for walk-ins with the event code\n",
            summary.spare_seats,
            if summary.spare_seats == 1 {
                "seat"
            } else {
                "seats"
            }
        ));
    }
    text.push_str(
        "\n  Firefox, Chrome and Edge resolve *.localhost by themselves; Safari does not.\n",
    );
    text
}

/// Paints one line that says how the event goes, over and over.
async fn show_live(door: Client) {
    let mut tick = tokio::time::interval(LIVE_EVERY);
    loop {
        tick.tick().await;
        if let Ok(status) = door.status().await {
            let taken = status
                .seats
                .iter()
                .filter(|seat| seat.name.is_some())
                .count();
            let awake = status
                .seats
                .iter()
                .filter(|seat| seat.editor == "ready")
                .count();
            let solved: usize = status.seats.iter().map(|seat| seat.solved).sum();
            let troubled = status
                .seats
                .iter()
                .filter(|seat| seat.phase == "failed" || seat.editor == "failed")
                .count();
            let trouble = if troubled == 0 {
                String::new()
            } else {
                format!(" · {troubled} seats in trouble")
            };
            eprint!(
                "\r\u{1b}[K{taken} of {} seats taken · {awake} editors awake · {solved} solved{trouble} ",
                status.seats.len()
            );
        }
    }
}

/// As root: copies the inputs where the system user can read them, and becomes that user.
fn as_user(arguments: &Up, inputs: &Inputs) -> Result<(), Failure> {
    host::make_user(&arguments.run_as, arguments.yes)?;
    let content = host::hand_over(&arguments.run_as, &inputs.workshop.event, &inputs.folder)?;
    let mut rest: Vec<OsString> = vec!["up".into(), content.into()];
    rest.extend(["--listen".into(), arguments.listen.to_string().into()]);
    rest.extend([
        "--port".into(),
        inputs.port(arguments.port).to_string().into(),
    ]);
    rest.extend([
        "--format".into(),
        if arguments.format == Format::Json {
            "json"
        } else {
            "text"
        }
        .into(),
    ]);
    if arguments.isolation == Separation::None {
        rest.extend(["--isolation".into(), "none".into()]);
    }
    rest.extend(arguments.yes.then(|| "--yes".into()));
    rest.extend(arguments.detach.then(|| "--detach".into()));
    host::become_user(&arguments.run_as, &rest)
}

/// Starts the same command in a session of its own, and returns when its doors are open.
fn detach(arguments: &Up, places: &Places) -> Result<(), Failure> {
    let log = places.state.join("logs").join("platform.log");
    let summary = places.state.join("summary.json");
    let _ = fs::remove_file(&summary);
    let output =
        fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let arguments_again = std::env::args_os()
        .skip(1)
        .filter(|argument| argument != "--detach" && argument != "-d");
    let mut child = Command::new("setsid")
        .arg(std::env::current_exe().context("cannot find this executable")?)
        .args(arguments_again)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .spawn()
        .context("cannot start the platform in the background")?;
    let deadline = std::time::Instant::now() + DETACH_LIMIT;
    let mut shown = 0;
    loop {
        shown += show_new(&log, shown);
        if let Ok(text) = fs::read_to_string(&summary)
            && let Ok(value) = serde_json::from_str::<serde_json::Value>(&text)
        {
            return match arguments.format {
                Format::Json => print_json(&value),
                Format::Text => print(&summary_of(&value)),
            };
        }
        if let Some(status) = child.try_wait().context("cannot look at the platform")? {
            show_new(&log, shown);
            tracing::debug!(%status, "the platform ended while it started");
            return Err(Failure::said(Kind::from_code(status.code())));
        }
        if std::time::Instant::now() > deadline {
            return Err(Failure::environment(anyhow::anyhow!(
                "the doors did not open in {} minutes",
                DETACH_LIMIT.as_secs() / 60
            ))
            .hint("see: arena logs platform"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Prints what was added to the log; returns how many bytes.
fn show_new(log: &Path, from: usize) -> usize {
    let bytes = fs::read(log).unwrap_or_default();
    let fresh = bytes.get(from..).unwrap_or_default();
    eprint!("{}", String::from_utf8_lossy(fresh));
    fresh.len()
}

fn summary_of(value: &serde_json::Value) -> String {
    serde_json::from_value::<Summary>(value.clone())
        .map_or_else(|_| value.to_string(), |summary| summary_text(&summary))
        + "\n  It runs in the background: `arena status` shows it, `arena down` ends it.\n"
}
