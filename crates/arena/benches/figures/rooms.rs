//! What a full room costs: a board that hundreds watch, and people whose seats
//! take everything they can get while somebody else works.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use anyhow::{Context, ensure};
use jiff::Timestamp;

use crate::browser::Browser;
use crate::event::{Running, World};
use crate::machine;
use crate::measure::{Desk, LAB, LIMIT, PORTAL};
use crate::table::{Statistic, Table};

const VIEWERS: usize = 500;
/// People who solve while all watch.
const SOLVERS: usize = 12;
const SAVES: usize = 12;
/// What a seat of the floods may use, in MiB.
const SEAT_MEMORY: u32 = 512;

/// Three programs take memory until they are ended.
const MEMORY: &str = "for n in 1 2 3; do node -e 'const all = []; for (;;) all.push(Buffer.alloc(8 << 20, 1))' & done; wait";
/// The same gigabyte is written again and again.
const DISK: &str = "for n in $(seq 40); do dd if=/dev/zero of=filler bs=1M count=900 conv=fsync 2>/dev/null || true; done";
/// The app prints as fast as it can.
const LOGS: &str = "const line = 'x'.repeat(65536) + '\\n'; const print = () => process.stdout.write(line, print); print();\nexport function greet() { return 'flooded'; }";

/// Results on the boards of everybody who watches.
pub(crate) fn viewers(executable: &Path, table: &mut Table) -> anyhow::Result<()> {
    let world = World::copy(executable, "hello")?;
    let people: Vec<String> = (1..=SOLVERS).map(|n| format!("person{n}")).collect();
    world.people(&people)?;
    let running = world.up()?;
    world.all_ready(LIMIT)?;
    let mut desks = Vec::new();
    for (index, person) in people.iter().enumerate() {
        let mut desk = Desk::of(&running, index, person)?;
        desk.save("not yet")?;
        desks.push(desk);
    }
    let before = machine::megabytes(running.pid(), "Pss");
    let board = Browser::new(running.port()?).events(PORTAL)?;
    let words = people.iter().map(|person| format!("\"seat\":\"{person}\""));
    let words = Arc::new(words.collect::<Vec<_>>());
    let (sender, shown) = channel();
    for _ in 0..VIEWERS {
        let viewer = Browser::new(running.port()?);
        viewer.watch(PORTAL, Arc::clone(&words), sender.clone())?;
    }
    let open = machine::megabytes(running.pid(), "Pss");
    table.add("platform process (PSS) for 500 viewers", open - before);
    let spent = machine::own_seconds(running.pid());
    for (index, (desk, person)) in desks.iter_mut().zip(&people).enumerate() {
        let at = desk.solve_at(person, &board)?;
        for _ in 0..VIEWERS {
            let (seen, when) = shown
                .recv_timeout(LIMIT)
                .context("a board stays as it was")?;
            ensure!(seen == index, "a board shows what nobody solved");
            table.add("result → 500 open boards", seconds(when, at));
        }
    }
    let solvers = f64::from(u32::try_from(SOLVERS)?);
    let spent = (machine::own_seconds(running.pid()) - spent) / solvers;
    table.add("  platform's CPU for a result", spent);
    let after = machine::megabytes(running.pid(), "Pss");
    table.add("  and after the results", after - before);
    running.interrupt()
}

fn seconds(later: Timestamp, earlier: Timestamp) -> f64 {
    later.duration_since(earlier).as_secs_f64()
}

/// One person saves, quietly and while another seat floods memory, disk, logs.
pub(crate) fn floods(executable: &Path, table: &mut Table) -> anyhow::Result<()> {
    let world = World::copy(executable, "hello")?;
    world.people(&["victim".to_owned(), "flood".to_owned()])?;
    world.seat_memory_mib(SEAT_MEMORY)?;
    let running = world.up()?;
    world.all_ready(LIMIT)?;
    let mut desk = Desk::of(&running, 0, "victim")?;
    desk.save("first")?;
    work(&mut desk, "save → outcome, quiet", table)?;
    for (flood, row) in [
        (MEMORY, "  while another seat floods memory"),
        (DISK, "  while another seat floods the disk"),
    ] {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let flooding = scope.spawn(|| again_and_again(&running, flood, &over));
            let outcome = work(&mut desk, row, table);
            over.store(true, Ordering::Relaxed);
            let ends = flooding.join().ok().context("the flood fell over")?;
            outcome.and(ends)
        })?;
    }
    let mut flood = Desk::of(&running, 1, "flood")?;
    flood.write(LAB, LOGS)?;
    work(&mut desk, "  while another seat floods its log", table)?;
    running.interrupt()
}

/// Floods again when the seat was started again.
fn again_and_again(running: &Running, flood: &str, over: &AtomicBool) -> anyhow::Result<()> {
    while !over.load(Ordering::Relaxed) {
        // While the seat starts there is nobody to ask.
        if let Ok(shell) = running.shell("flood") {
            let guarded = format!("timeout 8 sh -c '{}'", flood.replace('\'', "'\\''"));
            shell.run_to_its_end(&guarded)?;
        }
    }
    Ok(())
}

fn work(desk: &mut Desk, row: &'static str, table: &mut Table) -> anyhow::Result<()> {
    for save in 0..SAVES {
        let (_, outcome) = desk.save(&format!("{} {save}", row.trim()))?;
        table.add(row, outcome);
    }
    Ok(())
}

/// The rows of the table, after those of single people.
pub(crate) fn rows(table: &mut Table) {
    table.wanted("result → 500 open boards", "s", 0.5, Statistic::P99);
    table.only("  platform's CPU for a result", "s");
    table.only("platform process (PSS) for 500 viewers", "MB");
    table.only("  and after the results", "MB");
    table.only("save → outcome, quiet", "s");
    table.only("  while another seat floods memory", "s");
    table.only("  while another seat floods the disk", "s");
    table.only("  while another seat floods its log", "s");
}
