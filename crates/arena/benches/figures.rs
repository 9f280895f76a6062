//! The figures of one machine, measured on real events of the real executable
//! and printed as one table: `cargo bench -p arena --bench figures`. As root, like
//! the stories; tools must be in the cache. Words choose what is measured:
//! `starts`, `crowds`, `saves`, `viewers`, `floods`, `joins`; `--rounds NUMBER` says how often, `--executable PATH`
//! measures another build. Only when it is named: `soak`, for `--minutes NUMBER`.
//! What is measured how is in [`measure`], [`rooms`] and [`soak`].

#[path = "figures/browser.rs"]
mod browser;
#[path = "figures/event.rs"]
mod event;
#[path = "figures/machine.rs"]
mod machine;
#[path = "figures/measure.rs"]
mod measure;
#[path = "figures/rooms.rs"]
mod rooms;
#[path = "figures/soak.rs"]
mod soak;
#[path = "figures/table.rs"]
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::table::Table;

/// How often an event is started and a crowd comes.
const ROUNDS: usize = 3;

/// How long people of the long event go on.
const SOAK_MINUTES: u64 = 20;

/// What to measure, and of which executable.
struct Wish {
    starts: bool,
    crowds: bool,
    saves: bool,
    viewers: bool,
    floods: bool,
    joins: bool,
    soak: bool,
    minutes: u64,
    rounds: usize,
    executable: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let wish = wish(std::env::args().skip(1))?;
    let (mut table, load) = (Table::default(), machine::load());
    measure::rows(&mut table);
    rooms::rows(&mut table);
    soak::rows(&mut table);
    let outcome = measured(&wish, &mut table);
    print(&format!(
        "\n{}\nload average before: {load}; after: {}\n",
        table.text(),
        machine::load()
    ));
    outcome
}

fn measured(wish: &Wish, table: &mut Table) -> anyhow::Result<()> {
    if wish.starts {
        measure::starts(&wish.executable, wish.rounds, table)?;
    }
    if wish.saves {
        measure::saves(&wish.executable, table)?;
    }
    if wish.viewers {
        rooms::viewers(&wish.executable, table)?;
    }
    if wish.floods {
        rooms::floods(&wish.executable, table)?;
    }
    if wish.joins {
        measure::coming(&wish.executable, wish.rounds, table)?;
    }
    if wish.crowds {
        measure::crowds(&wish.executable, wish.rounds, table)?;
    }
    if wish.soak {
        let time = Duration::from_secs(wish.minutes * 60);
        soak::soak(&wish.executable, time, table)?;
    }
    Ok(())
}

fn wish(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Wish> {
    let mut wish = Wish {
        starts: false,
        crowds: false,
        saves: false,
        viewers: false,
        floods: false,
        joins: false,
        soak: false,
        minutes: SOAK_MINUTES,
        rounds: ROUNDS,
        executable: env!("CARGO_BIN_EXE_arena").into(),
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "starts" => wish.starts = true,
            "crowds" => wish.crowds = true,
            "saves" => wish.saves = true,
            "viewers" => wish.viewers = true,
            "floods" => wish.floods = true,
            "joins" => wish.joins = true,
            "soak" => wish.soak = true,
            "--minutes" => wish.minutes = arguments.next().context("a number follows")?.parse()?,
            "--rounds" => wish.rounds = arguments.next().context("a number follows")?.parse()?,
            "--executable" => wish.executable = arguments.next().context("a path follows")?.into(),
            // Cargo says so to every bench.
            "--bench" => {}
            other => bail!(
                "{other} is none of: starts, crowds, saves, viewers, floods, joins, soak, --rounds NUMBER, --minutes NUMBER, --executable PATH"
            ),
        }
    }
    let some = [
        wish.starts,
        wish.crowds,
        wish.saves,
        wish.viewers,
        wish.floods,
        wish.joins,
        wish.soak,
    ];
    if !some.contains(&true) {
        (wish.starts, wish.crowds, wish.saves) = (true, true, true);
        (wish.viewers, wish.floods, wish.joins) = (true, true, true);
    }
    Ok(wish)
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(text: &str) {
    println!("{text}");
}
