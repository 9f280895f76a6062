//! What is measured, each in short rounds: starting harbour, a hundred seats,
//! and the ways of a save. Every round ends with nothing left behind.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jiff::Timestamp;

use crate::browser::{Browser, Seen, Stream};
use crate::event::{LOOK_EVERY, Running, World, until};
use crate::machine;
use crate::table::{Statistic, Table};

pub(crate) const LIMIT: Duration = Duration::from_secs(120);
pub(crate) const PORTAL: &str = "arena.localhost";
const INSTRUCTIONS: &str = "instructions.arena.localhost";

const SEATS_FEW: usize = 5;
const SEATS_MANY: usize = 100;
const JOINING: usize = 200;
/// People of hello's list.
const LISTED: usize = 2;
/// After the doors open: apps and editors sleep.
const SETTLE: Duration = Duration::from_secs(15);
const IDLE_WINDOW: Duration = Duration::from_secs(10);
/// 200 people in 10 seconds come like this.
const JOIN_EVERY: Duration = Duration::from_millis(50);
const SAVES: usize = 20;
const SOLUTION: &str = "export function greet(name = 'world') { return `Hello, ${name}!`; }";
pub(crate) const LAB: &str = "server/src/lab/hello-1.lab.js";

/// `up` of harbour with five seats to make: the template of files and of data is there.
pub(crate) fn starts(executable: &Path, rounds: usize, table: &mut Table) -> anyhow::Result<()> {
    let world = World::copy(executable, "harbour")?;
    world.people(&["first".to_owned()])?;
    world.spare_seats(0)?;
    let prepared = world.up()?;
    table.add(
        "harbour: first up of all, template to make (for comparison)",
        prepared.opened_after.as_secs_f64(),
    );
    prepared.interrupt()?;
    for round in 0..rounds {
        let people: Vec<String> = ["ada", "grace", "edgar", "margaret", "alan"]
            .map(|name| format!("{name}{round}"))
            .into();
        world.people(&people)?;
        let running = world.up()?;
        let opened = running.opened_after.as_secs_f64();
        let usable = editor_usable(&running, &people[0])?;
        running.interrupt()?;
        table.add("up of harbour, 5 new seats → first editor usable", usable);
        table.add("  of it until the doors are open", opened);
        let running = world.up()?;
        let opened = running.opened_after.as_secs_f64();
        let usable = editor_usable(&running, &people[0])?;
        running.interrupt()?;
        table.add("second up of harbour → doors open", opened);
        table.add("  → first editor usable", usable);
    }
    Ok(())
}

/// Joins by the personal link and opens the editor; seconds since the command was given.
fn editor_usable(running: &Running, seat: &str) -> anyhow::Result<f64> {
    let mut person = Browser::new(running.port()?);
    person.join(PORTAL, running.text("/seats/0/link")?)?;
    let host = format!("{seat}--code.{PORTAL}");
    until(LIMIT, "the editor is usable", || {
        let page = person.open(&host, "/")?;
        Ok(page.status == 200 && page.body.contains("workbench"))
    })?;
    Ok(running.begun.elapsed().as_secs_f64())
}

/// A room that comes at once.
pub(crate) fn coming(executable: &Path, rounds: usize, table: &mut Table) -> anyhow::Result<()> {
    for _ in 0..rounds {
        made(executable, JOINING + LISTED, |running, _| {
            joins(running, table)
        })?;
    }
    Ok(())
}

/// A hundred seats: making them, and what they cost while nobody works.
pub(crate) fn crowds(executable: &Path, rounds: usize, table: &mut Table) -> anyhow::Result<()> {
    for _ in 0..rounds {
        let few = made(executable, SEATS_FEW, |_, _| Ok(()))?;
        let many = made(executable, SEATS_MANY, |running, made_after| {
            table.add("100 seats made and verified", made_after);
            idle(running, table)
        })?;
        let seats = f64::from(u32::try_from(SEATS_MANY - SEATS_FEW)?);
        table.add("CPU of an extra seat", (many - few) / seats);
    }
    Ok(())
}

/// Makes so many seats of hello; returns the processor time of it all until every seat is ready.
fn made(
    executable: &Path,
    seats: usize,
    then: impl FnOnce(&Running, f64) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let world = World::copy(executable, "hello")?;
    world.spare_seats(seats - LISTED)?;
    let running = world.up()?;
    world.all_ready(LIMIT)?;
    let made_after = running.begun.elapsed().as_secs_f64();
    let spent = machine::family_seconds(running.pid());
    then(&running, made_after)?;
    running.interrupt()?;
    Ok(spent)
}

fn idle(running: &Running, table: &mut Table) -> anyhow::Result<()> {
    std::thread::sleep(SETTLE);
    let (platform, agents) = (running.pid(), machine::agents(running.pid()));
    ensure!(agents.len() == SEATS_MANY, "{} agents run", agents.len());
    let spent = || {
        let agents = agents.iter().map(|pid| machine::own_seconds(*pid));
        (machine::own_seconds(platform), agents.sum::<f64>())
    };
    let (before, begun) = (spent(), Instant::now());
    std::thread::sleep(IDLE_WINDOW);
    let (after, window) = (spent(), begun.elapsed().as_secs_f64());
    table.add(
        "platform's CPU, 100 idle seats",
        (after.0 - before.0) / window * 100.0,
    );
    table.add(
        "  and of all 100 agents together",
        (after.1 - before.1) / window * 100.0,
    );
    table.add(
        "platform process (PSS), 100 idle seats",
        machine::megabytes(platform, "Pss"),
    );
    table.add("  RSS of it", machine::megabytes(platform, "Rss"));
    for agent in agents {
        table.add("agent (PSS)", machine::megabytes(agent, "Pss"));
    }
    Ok(())
}

/// All free seats are taken by walk-ins with the event's code, twenty a second. Their editors begin
/// to wake meanwhile, as in a real room.
fn joins(running: &Running, table: &mut Table) -> anyhow::Result<()> {
    let (port, code) = (running.port()?, running.text("/event_code")?);
    let begun = Instant::now();
    let people: Vec<_> = (0_u32..)
        .take(JOINING)
        .map(|person| {
            let code = code.to_owned();
            std::thread::spawn(move || {
                let at = begun + JOIN_EVERY * person;
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                take(port, &code, person)
            })
        })
        .collect();
    for person in people {
        let seconds = person.join().ok().context("a person fell over")??;
        table.add("take a seat, 200 joining in 10 s", seconds * 1000.0);
    }
    Ok(())
}

/// Types the code, then takes a seat; returns how long the second took.
fn take(port: u16, code: &str, person: u32) -> anyhow::Result<f64> {
    let mut browser = Browser::new(port);
    let page = browser.submit(PORTAL, "/join", &format!("code={code}"))?;
    ensure!(page.status == 200, "the code was answered {}", page.status);
    let begun = Instant::now();
    let form = format!("code={code}&name=Person+{person}&email=person{person}%40example.com");
    let answer = browser.submit(PORTAL, "/join/seat", &form)?;
    ensure!(
        answer.status == 303,
        "a seat was answered {}",
        answer.status
    );
    Ok(begun.elapsed().as_secs_f64())
}

/// A participant's pages, as far as saves show on them.
pub(crate) struct Desk {
    browser: Browser,
    app: String,
    exercises: Stream,
    shell: crate::event::SeatShell,
}

/// Saves of wrong answers until the page shows what came of them, then right ones until the board does.
pub(crate) fn saves(executable: &Path, table: &mut Table) -> anyhow::Result<()> {
    let world = World::copy(executable, "hello")?;
    let people: Vec<String> = (1..=SEATS_FEW).map(|n| format!("person{n}")).collect();
    world.people(&people)?;
    let running = world.up()?;
    world.all_ready(LIMIT)?;
    let mut desk = Desk::of(&running, 0, &people[0])?;
    for save in 0..SAVES {
        let (app, outcome) = desk.save(&format!("wrong {save}"))?;
        table.add(
            "save → outcome shown, beyond the app's restart",
            (outcome - app).max(0.0),
        );
        table.add("  the app's own restart", app);
        table.add("  save → outcome shown", outcome);
    }
    let board = Browser::new(running.port()?).events(PORTAL)?;
    for (index, person) in people.iter().enumerate() {
        let mut desk = Desk::of(&running, index, person)?;
        let (committed, shown) = desk.solve(person, &board)?;
        table.add("result → open board", committed);
        table.add("  after the own page shows it", shown);
    }
    running.interrupt()
}

impl Desk {
    pub(crate) fn of(running: &Running, index: usize, seat: &str) -> anyhow::Result<Self> {
        let mut browser = Browser::new(running.port()?);
        browser.join(PORTAL, running.text(&format!("/seats/{index}/link"))?)?;
        browser.open(INSTRUCTIONS, "/")?;
        let app = format!("{seat}.{PORTAL}");
        browser.open(&app, "/backend/health")?;
        Ok(Self {
            exercises: browser.events(INSTRUCTIONS)?,
            browser,
            app,
            shell: running.shell(seat)?,
        })
    }

    /// Saves an answer that greets everybody alike. Returns the seconds until the app answers so, and
    /// until the page is told what the check says about it.
    pub(crate) fn save(&mut self, greeting: &str) -> anyhow::Result<(f64, f64)> {
        let begun = Instant::now();
        let text = format!("export function greet() {{ return '{greeting}'; }}");
        self.shell.write(LAB, &text)?;
        until(LIMIT, "the app has the new code", || {
            let answer = self.browser.open(&self.app, "/backend/api/greeting");
            Ok(answer?.body.contains(greeting))
        })?;
        let app = begun.elapsed().as_secs_f64();
        let told = format!("\"{greeting}\"");
        let seen = self.exercises.find(LIMIT, "the outcome", |seen| {
            let checks = seen.data["checks"].as_array().into_iter().flatten();
            let mut messages = checks.filter_map(|check| check["message"].as_str());
            seen.name == "exercise" && messages.any(|message| message.contains(&told))
        })?;
        Ok((app, (seen.at - begun).as_secs_f64()))
    }

    /// Saves an answer of an exercise that the one before was not like. Returns the seconds until the page is told
    /// that it is right, or that it is wrong.
    pub(crate) fn attempt(
        &mut self,
        exercise: &str,
        text: &str,
        is_right: bool,
    ) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let path = format!("server/src/lab/{exercise}.lab.js");
        self.shell.write(&path, text)?;
        let seen = self.exercises.find(LIMIT, "the outcome", |seen| {
            let is_it = seen.name == "exercise" && seen.data["exercise"] == exercise;
            let is_checked = seen.data["checks"]
                .as_array()
                .is_some_and(|checks| !checks.is_empty());
            is_it && is_checked && seen.data["running"] == false && seen.data["passed"] == is_right
        })?;
        Ok((seen.at - begun).as_secs_f64())
    }

    /// Saves the right answer. Returns the seconds from the result's own time until the board shows it,
    /// and from the participant's page until then.
    fn solve(&mut self, seat: &str, board: &Stream) -> anyhow::Result<(f64, f64)> {
        let (at, shown) = self.solved(seat, board)?;
        let page = self.exercises.find(LIMIT, "the mark", |seen| {
            seen.name == "exercise" && seen.data["solved"] == true
        })?;
        let since = shown.clock.duration_since(at);
        let after_page = shown.at.saturating_duration_since(page.at);
        Ok((since.as_secs_f64(), after_page.as_secs_f64()))
    }

    /// Saves the right answer and waits for the board. Returns the result's own time.
    pub(crate) fn solve_at(&mut self, seat: &str, board: &Stream) -> anyhow::Result<Timestamp> {
        Ok(self.solved(seat, board)?.0)
    }

    fn solved(&mut self, seat: &str, board: &Stream) -> anyhow::Result<(Timestamp, Seen)> {
        self.write(LAB, SOLUTION)?;
        let mut at = None;
        let shown = board.find(LIMIT, "the board", |seen| {
            let rows = seen.data["rows"].as_array().into_iter().flatten();
            let mut own = rows.filter(|row| row["seat"] == seat);
            let row = own.next();
            at = row.and_then(|row| row["last"].as_str()?.parse::<Timestamp>().ok());
            at.is_some()
        })?;
        Ok((at.context("the row has no time")?, shown))
    }

    /// Writes a file in the seat.
    pub(crate) fn write(&mut self, path: &str, text: &str) -> anyhow::Result<()> {
        self.shell.write(path, text)
    }
}

/// The rows of the table in the order of the issue, with what is wanted.
pub(crate) fn rows(table: &mut Table) {
    use Statistic::{Median, P95, P99};
    table.wanted(
        "up of harbour, 5 new seats → first editor usable",
        "s",
        10.0,
        Median,
    );
    table.only("  of it until the doors are open", "s");
    table.only(
        "harbour: first up of all, template to make (for comparison)",
        "s",
    );
    table.wanted("second up of harbour → doors open", "s", 5.0, Median);
    table.only("  → first editor usable", "s");
    table.wanted("100 seats made and verified", "s", 60.0, Median);
    table.wanted("CPU of an extra seat", "s", 0.3, Median);
    table.wanted("platform process (PSS), 100 idle seats", "MB", 80.0, Median);
    table.only("  RSS of it", "MB");
    table.wanted("agent (PSS)", "MB", 4.0, Median);
    table.wanted("platform's CPU, 100 idle seats", "% of a core", 1.0, Median);
    table.only("  and of all 100 agents together", "% of a core");
    table.wanted("take a seat, 200 joining in 10 s", "ms", 50.0, P99);
    table.wanted(
        "save → outcome shown, beyond the app's restart",
        "s",
        1.0,
        P95,
    );
    table.only("  the app's own restart", "s");
    table.only("  save → outcome shown", "s");
    table.wanted("result → open board", "s", 0.5, Median);
    table.only("  after the own page shows it", "s");
    debug_assert!(
        LOOK_EVERY < JOIN_EVERY,
        "looking is finer than what is looked at"
    );
}
