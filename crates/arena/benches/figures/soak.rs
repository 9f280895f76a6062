//! A long event: people of harbour save without end, every database is restored
//! and brought back, boards are opened and left, round after round. What grows from
//! the middle round to the last is shown, and what must not grow is an error. The first
//! half fills what is bounded: the store's page cache and events, sessions, the allocator.

use std::iter::Cycle;
use std::path::{Path, PathBuf};
use std::slice::Iter;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::browser::Browser;
use crate::event::{Running, World};
use crate::machine;
use crate::measure::{Desk, LIMIT, PORTAL};
use crate::table::Table;

/// So long people save in a round; restores and boards come on top.
const ROUND: Duration = Duration::from_secs(45);
/// Between somebody's saves.
const PAUSE: Duration = Duration::from_secs(1);
const PEOPLE: usize = 4;
const VIEWERS: usize = 50;
/// What may be open or run by chance, such as a connection that is just being closed.
const SLACK: usize = 10;
/// A process keeps what it needed once; in ten minutes of saves, five kilobytes a save would be more.
const MEMORY_SLACK: f64 = 8.0;
/// From the second round on, while all that is kept fills up.
const FILLING_SLACK: f64 = 20.0;

/// Answers in both databases, and whether they are right: an exercise's one differs from the one before.
const ANSWERS: [(&str, &str, bool); 4] = [
    ("mongodb-1", "wrong/mongodb-1/no-sort", false),
    ("sql-1", "wrong/sql-1/inner-join", false),
    ("mongodb-1", "solutions/mongodb-1", true),
    ("sql-1", "solutions/sql-1", true),
];

/// Somebody who goes on where they were when the last round ended.
struct Person {
    desk: Desk,
    answers: Cycle<Iter<'static, (&'static str, &'static str, bool)>>,
}

/// What an event takes at the end of a round.
struct Taken {
    memory: f64,
    all_memory: f64,
    files: usize,
    processes: usize,
}

/// Goes on for so long, in whole rounds, three at least.
///
/// # Errors
/// When an outcome never comes, a command fails, or something has grown.
pub(crate) fn soak(executable: &Path, time: Duration, table: &mut Table) -> anyhow::Result<()> {
    let world = World::copy(executable, "harbour")?;
    let people: Vec<String> = (1..=PEOPLE).map(|n| format!("person{n}")).collect();
    world.people(&people)?;
    world.spare_seats(0)?;
    let running = world.up()?;
    world.all_ready(LIMIT)?;
    let begun = Instant::now();
    let mut people_in = Vec::new();
    for (index, person) in people.iter().enumerate() {
        let desk = Desk::of(&running, index, person)?;
        let answers = ANSWERS.iter().cycle();
        people_in.push(Person { desk, answers });
    }
    let mut rounds: Vec<Taken> = Vec::new();
    while rounds.len() < 3 || begun.elapsed() < time {
        round(&world, &running, &mut people_in, rounds.len() == 1, table)?;
        rounds.push(taken(running.pid())?);
    }
    table.add(
        "soak of harbour, four people",
        begun.elapsed().as_secs_f64() / 60.0,
    );
    let (second, middle) = (&rounds[1], &rounds[rounds.len() / 2]);
    let last = rounds.last().context("there were rounds")?;
    for (taken, memory, all, files, processes) in [
        (
            middle,
            "  platform process (PSS) after the middle round",
            "  all processes (PSS) after the middle round",
            "  platform's open files after the middle round",
            "  processes after the middle round",
        ),
        (
            last,
            "  platform process (PSS) after the last round",
            "  all processes (PSS) after the last round",
            "  platform's open files after the last round",
            "  processes after the last round",
        ),
    ] {
        table.add(memory, taken.memory);
        table.add(all, taken.all_memory);
        table.add(files, count(taken.files)?);
        table.add(processes, count(taken.processes)?);
    }
    running.interrupt()?;
    for (what, before, after) in [
        ("open files of the platform", middle.files, last.files),
        ("processes", middle.processes, last.processes),
    ] {
        ensure!(
            after <= before + SLACK,
            "{what} grew from {before} to {after} in {} rounds",
            rounds.len() / 2
        );
    }
    for (since, before, slack) in [
        ("second", second.memory, FILLING_SLACK),
        ("middle", middle.memory, MEMORY_SLACK),
    ] {
        ensure!(
            last.memory <= before + slack,
            "the platform grew from {before:.1} to {:.1} MB since the {since} of {} rounds",
            last.memory,
            rounds.len()
        );
    }
    Ok(())
}

fn round(
    world: &World,
    running: &Running,
    people: &mut [Person],
    is_second: bool,
    table: &mut Table,
) -> anyhow::Result<()> {
    let until = Instant::now() + ROUND;
    let saved = std::thread::scope(|scope| {
        let working = people
            .iter_mut()
            .map(|person| scope.spawn(move || work(person, until)));
        let working: Vec<_> = working.collect();
        let mut saved = Vec::new();
        for one in working {
            saved.extend(one.join().ok().context("a person fell over")??);
        }
        anyhow::Ok(saved)
    })?;
    for seconds in saved {
        table.add(
            if is_second {
                "  save → outcome, second round"
            } else {
                "  save → outcome, all other rounds"
            },
            seconds,
        );
    }
    for (arguments, row) in [
        (&["restore", "--all"][..], "  all four restored"),
        (
            &["restore", "--all", "--undo"][..],
            "  all four brought back",
        ),
    ] {
        let begun = Instant::now();
        world.run(arguments)?;
        table.add(row, begun.elapsed().as_secs_f64());
    }
    let viewers = (0..VIEWERS).map(|_| Browser::new(running.port()?).events(PORTAL));
    viewers.collect::<anyhow::Result<Vec<_>>>().map(drop)
}

/// Saves until the time is over; returns how long each outcome took.
fn work(person: &mut Person, until: Instant) -> anyhow::Result<Vec<f64>> {
    let mut outcomes = Vec::new();
    while Instant::now() < until {
        let (exercise, answer, is_right) = person.answers.next().context("it goes round")?;
        let file = format!("server/src/lab/{exercise}.lab.js");
        let source = examples().join(answer).join(file);
        let text = std::fs::read_to_string(&source)
            .with_context(|| format!("cannot read {}", source.display()))?;
        outcomes.push(person.desk.attempt(exercise, &text, *is_right)?);
        std::thread::sleep(PAUSE);
    }
    Ok(outcomes)
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/harbour/arena")
}

fn taken(platform: u32) -> anyhow::Result<Taken> {
    let family = machine::family(platform);
    let files =
        std::fs::read_dir(format!("/proc/{platform}/fd")).context("the platform is gone")?;
    Ok(Taken {
        memory: machine::megabytes(platform, "Pss"),
        all_memory: family
            .iter()
            .map(|pid| machine::megabytes(*pid, "Pss"))
            .sum(),
        files: files.count(),
        processes: family.len(),
    })
}

fn count(number: usize) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(number)?))
}

/// The rows of the table, after all others.
pub(crate) fn rows(table: &mut Table) {
    for (row, unit) in [
        ("soak of harbour, four people", "minutes"),
        ("  save → outcome, second round", "s"),
        ("  save → outcome, all other rounds", "s"),
        ("  all four restored", "s"),
        ("  all four brought back", "s"),
        ("  platform process (PSS) after the middle round", "MB"),
        ("  platform process (PSS) after the last round", "MB"),
        ("  all processes (PSS) after the middle round", "MB"),
        ("  all processes (PSS) after the last round", "MB"),
        ("  platform's open files after the middle round", ""),
        ("  platform's open files after the last round", ""),
        ("  processes after the middle round", ""),
        ("  processes after the last round", ""),
    ] {
        table.only(row, unit);
    }
}
