//! What seats cost on this machine: making them, starting them with the real agent, letting them
//! idle under the watcher. Prints a table; asserts nothing, because these are wall-clock figures.
//!
//! `cargo build --release -p arena && cargo bench -p arena-local --bench seats -- [SEATS]`, as an
//! ordinary user with spare user ids (as root it becomes `arena-test`, which the tests make).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints its table and fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use arena_local::sandbox::probe;
use arena_local::seat::{HOME, SETTINGS, SeatStart, Seats, Trees};
use arena_local::watch::{WatchLimits, watch};
use arena_supervisor::{Child, Supervisor};
use arena_workshop::SeatId;
use arena_workshop::plan::{SeatSettings, Ways};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// As in the platform.
const MADE_AT_ONCE: usize = 4;
const IDLE: Duration = Duration::from_secs(10);
/// Clock ticks a second in `/proc`, the same on every Linux.
const TICKS: f64 = 100.0;

fn main() {
    let arguments = std::env::args().skip(1);
    let count = arguments
        .filter_map(|word| word.parse().ok())
        .next()
        .unwrap_or(100);
    let Some(arena) = arena() else {
        println!("no `arena` beside this bench: build it first with the same profile");
        return;
    };
    if rustix::process::geteuid().is_root() {
        return as_ordinary_user(&arena, count);
    }
    let folder = TempDir::new().unwrap();
    make_template(folder.path());
    let sandbox = probe(&arena, folder.path(), count)
        .sandbox
        .expect("seats can be separated here");
    println!(
        "{count} seats, kept apart by {:?}, overlay: {}\n",
        sandbox.isolation(),
        sandbox.has_overlay()
    );
    println!(
        "{:<44}{:>10}{:>14}{:>14}",
        "", "wall s", "median ms", "CPU ms/seat"
    );
    let seats = Arc::new(Seats::new(sandbox, folder.path(), &folder.path().join("r")));
    let names: Vec<SeatId> = (0..count)
        .map(|n| SeatId::new(format!("s{n}")).unwrap())
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    make(&seats, &names);
    runtime.block_on(live(&seats, &names));
    for seat in &names {
        seats.remove(seat).unwrap();
    }
}

/// The program built beside this one.
fn arena() -> Option<PathBuf> {
    let given = std::env::var_os("ARENA_BENCH_PROGRAM").map(PathBuf::from);
    let own = std::env::current_exe().unwrap();
    given
        .or_else(|| Some(own.parent()?.parent()?.join("arena")))
        .filter(|path| path.exists())
}

fn as_ordinary_user(arena: &Path, count: u32) {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for (from, name) in [
        (std::env::current_exe().unwrap(), "bench"),
        (arena.to_owned(), "arena"),
    ] {
        fs::copy(from, folder.path().join(name)).unwrap();
    }
    let user = "arena-test";
    let status = Command::new("setpriv")
        .args(["--reuid", user, "--regid", user, "--init-groups", "--"])
        .arg(folder.path().join("bench"))
        .arg(count.to_string())
        .env("ARENA_BENCH_PROGRAM", folder.path().join("arena"))
        .current_dir("/")
        .process_group(0)
        .status()
        .unwrap();
    assert!(status.success());
}

fn make_template(folder: &Path) {
    let home = folder.join("template/one/home");
    for n in 0..40 {
        let file = home.join(format!("workshop/server/part{}/file{n}.js", n % 8));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "x".repeat(4000)).unwrap();
    }
    let opened = Command::new("chmod")
        .args(["-R", "a+rwX"])
        .arg(&home)
        .status()
        .unwrap();
    assert!(opened.success());
}

fn make(seats: &Seats, names: &[SeatId]) {
    let (before, begun) = (cpu(), Instant::now());
    let (waiting, times) = (Mutex::new(names.iter()), Mutex::new(Vec::new()));
    let next = || waiting.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..MADE_AT_ONCE {
            scope.spawn(|| {
                while let Some(seat) = next() {
                    let begun = Instant::now();
                    seats.make(seat, "one").unwrap();
                    times.lock().unwrap().push(begun.elapsed());
                }
            });
        }
    });
    row(
        "made",
        begun.elapsed(),
        times.into_inner().unwrap(),
        cpu() - before,
        names.len(),
    );
}

#[expect(clippy::too_many_lines, reason = "one measurement after the other")]
async fn live(seats: &Arc<Seats>, names: &[SeatId]) {
    let supervisor = Supervisor::new().unwrap();
    let (before, begun) = (cpu(), Instant::now());
    let children: Vec<(SeatId, Child)> = names
        .iter()
        .map(|seat| (seat.clone(), start(seats, &supervisor, seat)))
        .collect();
    let mut times = Vec::new();
    for (_, child) in &children {
        child
            .ready(Duration::from_secs(120))
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        times.push(begun.elapsed());
    }
    row(
        "started, agent answered",
        begun.elapsed(),
        times,
        cpu() - before,
        names.len(),
    );
    println!("\n{:<44}{:>14}", "idle, all seats together", "% of a core");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (own, all, begun) = (own_cpu(), cpu(), Instant::now());
    tokio::time::sleep(IDLE).await;
    let part = |used: f64, begun: Instant| 100.0 * used / begun.elapsed().as_secs_f64();
    let quiet = part(own_cpu() - own, begun);
    println!(
        "{:<44}{:>14.2}",
        "seats' processes",
        part(cpu() - all, begun) - quiet
    );
    println!("{:<44}{:>14.2}", "supervisor, without the watcher", quiet);
    let shutdown = CancellationToken::new();
    let watching = tokio::spawn(watch(
        Arc::clone(seats),
        children.iter().cloned().collect(),
        WatchLimits::default(),
        |_| {},
        shutdown.clone(),
    ));
    let (own, begun) = (own_cpu(), Instant::now());
    tokio::time::sleep(IDLE).await;
    println!(
        "{:<44}{:>14.2}",
        "supervisor, with the watcher",
        part(own_cpu() - own, begun)
    );
    shutdown.cancel();
    watching.await.unwrap();
    let of_agents: Vec<u64> = descendants()
        .into_iter()
        .filter(|pid| comm(*pid) == "arena")
        .filter_map(pss)
        .collect();
    let of_others: Vec<u64> = descendants()
        .into_iter()
        .filter(|pid| comm(*pid) != "arena")
        .filter_map(pss)
        .collect();
    println!(
        "\n{:<44}{:>14}{:>14}",
        "memory (PSS, KiB)", "median", "a seat"
    );
    for (name, sizes) in [("agent", of_agents), ("its sandbox (bwrap)", of_others)] {
        println!(
            "{:<44}{:>14}{:>14}",
            name,
            median(sizes.clone()),
            sizes.iter().sum::<u64>() / u64::try_from(names.len()).unwrap()
        );
    }
    let begun = Instant::now();
    supervisor.stop_all(&CancellationToken::new()).await;
    println!("\nall stopped after {:.2} s", begun.elapsed().as_secs_f64());
}

fn start(seats: &Seats, supervisor: &Supervisor, seat: &SeatId) -> Child {
    let settings = SeatSettings {
        seat: seat.clone(),
        display_name: "Ada".to_owned(),
        home: HOME.to_owned(),
        work: format!("{HOME}/workshop"),
        apps: Vec::new(),
        environment: BTreeMap::new(),
        editor: Vec::new(),
        editor_environment: BTreeMap::new(),
        forwards: Vec::new(),
        watched: Vec::new(),
        first_file: None,
    };
    let agent = ["serve", "seat", "--settings", SETTINGS].map(str::to_owned);
    let start = SeatStart {
        settings: &settings,
        agent: &agent,
        trees: &Trees::default(),
        ways: &Ways::default(),
        limits: Default::default(),
    };
    seats.start(supervisor, seat, &start).unwrap()
}

fn row(name: &str, wall: Duration, times: Vec<Duration>, cpu: f64, count: usize) {
    let milliseconds = times
        .iter()
        .map(|time| u64::try_from(time.as_millis()).unwrap())
        .collect();
    let each = 1000.0 * cpu / f64::from(u32::try_from(count).unwrap());
    println!(
        "{name:<44}{:>10.2}{:>14}{each:>14.1}",
        wall.as_secs_f64(),
        median(milliseconds)
    );
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// Fields of `/proc/PID/stat` after the name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Some(
        text.rsplit_once(')')?
            .1
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    )
}

fn seconds(fields: &[String]) -> f64 {
    fields
        .iter()
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / TICKS
}

fn own_cpu() -> f64 {
    seconds(&stat(std::process::id()).unwrap()[11..13])
}

/// Of us, of everything that we waited for, and of all that lives below us.
fn cpu() -> f64 {
    let all = descendants().into_iter().chain([std::process::id()]);
    all.filter_map(stat)
        .map(|fields| seconds(&fields[11..15]))
        .sum()
}

fn descendants() -> Vec<u32> {
    let ids = fs::read_dir("/proc").unwrap().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = ids
        .filter_map(|pid| Some((pid, stat(pid)?[1].parse().ok()?)))
        .collect();
    let mut found = Vec::new();
    let mut waiting = vec![std::process::id()];
    while let Some(parent) = waiting.pop() {
        let of_it = parents
            .iter()
            .filter(|(_, its)| *its == parent)
            .map(|(pid, _)| *pid);
        waiting.extend(of_it.clone());
        found.extend(of_it);
    }
    found
}

fn comm(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn pss(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
