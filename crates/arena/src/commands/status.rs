//! `arena status` and `arena open`: what runs now.

use std::io::IsTerminal;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use super::{print, print_json, print_while_read};
use crate::cli::{Format, Status, Which};
use crate::failure::{Failure, Kind, Paint, paint};
use crate::host::Host;
use crate::platform::door::{Client, EventStatus, SeatLine};

/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Columns of a terminal that nobody asked for.
const WIDTH: usize = 80;
/// Columns before what is said of a seat.
const INDENT: usize = 4;

/// Prints the status once, or again and again.
pub(crate) fn run(arguments: &Status) -> Result<(), Failure> {
    let host = Host::here()?;
    let event = host.chosen_to_use(arguments.which.event.as_deref())?;
    let client = Client::new(&host.event(&event).door_socket());
    let runtime = runtime()?;
    loop {
        let status = match runtime.block_on(client.status()) {
            Ok(status) => status,
            Err(error) => {
                tracing::debug!(error = %format!("{error:#}"), "the platform did not answer");
                return Err(Failure::new(
                    Kind::CheckFailed,
                    anyhow::anyhow!("{event} is not running"),
                )
                .hint("start it with: arena up FOLDER"));
            }
        };
        let text = match arguments.format {
            Format::Json => return print_json(&status),
            Format::Text => table(&status),
        };
        if !arguments.watch {
            return print(&text);
        }
        // A screen is painted anew; what goes into a file or another program is one table after another.
        let before = if std::io::stdout().is_terminal() {
            "\u{1b}[H\u{1b}[2J"
        } else {
            ""
        };
        if !print_while_read(&format!("{before}{text}\n"))? {
            return Ok(());
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

/// Opens the portal in this machine's browser.
pub(crate) fn open(which: &Which) -> Result<(), Failure> {
    let host = Host::here()?;
    let event = host.chosen_to_use(which.event.as_deref())?;
    let client = Client::new(&host.event(&event).door_socket());
    let status = runtime()?.block_on(client.status()).map_err(|_| {
        Failure::new(Kind::CheckFailed, anyhow::anyhow!("{event} is not running"))
            .hint("start it with: arena up FOLDER")
    })?;
    print(&format!("{}\n", status.address))?;
    let opened = Command::new("xdg-open")
        .arg(&status.address)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match opened {
        Ok(status) if status.success() => Ok(()),
        _ => Err(
            Failure::environment(anyhow::anyhow!("no browser could be opened here"))
                .hint("open the address above in a browser of this machine"),
        ),
    }
}

/// A runtime for a command that asks the platform something.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?)
}

fn table(status: &EventStatus) -> String {
    let taken = status
        .seats
        .iter()
        .filter(|seat| seat.name.is_some())
        .count();
    let summary = format!(
        "event {} · {} · {taken} of {} seats taken · process {}",
        status.event,
        status.phase,
        status.seats.len(),
        status.pid
    );
    let mut text = format!(
        "{}  {}\n{}\n\n",
        paint(&status.title, Paint::Bold),
        paint(&status.address, Paint::Cyan),
        cut(&summary, WIDTH)
    );
    for service in &status.services {
        text.push_str(&format!(
            "  {:<10} {}\n",
            service.name,
            state(&service.state)
        ));
        for told in [&service.message, &service.hint].into_iter().flatten() {
            let line = told.lines().collect::<Vec<_>>().join(" ");
            text.push_str(&wrapped(&clean(&line)));
        }
    }
    if !status.services.is_empty() {
        text.push('\n');
    }
    text.push_str(&row(["seat", "who", "solved", "editor", "apps"]));
    for seat in &status.seats {
        text.push_str(&seat_row(seat, status.exercises));
    }
    text
}

fn seat_row(seat: &SeatLine, exercises: usize) -> String {
    let apps = if seat.phase == "ready" {
        seat.apps.as_str()
    } else {
        seat.phase.as_str()
    };
    let solved = format!("{}/{exercises}", seat.solved);
    let name = clean(seat.name.as_deref().unwrap_or("-"));
    let mut text = row([&seat.seat, &name, &solved, &seat.editor, apps]);
    for told in [&seat.message, &seat.hint].into_iter().flatten() {
        text.push_str(&wrapped(&clean(told)));
    }
    text
}

/// Breaks a text into indented lines between its words.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        let length = INDENT + line.chars().count() + 1 + word.chars().count();
        if line.is_empty() {
            line.push_str(word);
        } else if length <= WIDTH {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    let indented = lines.iter().map(|line| format!("{:INDENT$}{line}\n", ""));
    indented.collect()
}

fn row(cells: [&str; 5]) -> String {
    let [seat, who, solved, editor, apps] = cells;
    let line = format!(
        "  {:<18} {:<20} {:>6}  {:<11} {}",
        cut(seat, 18),
        cut(who, 20),
        solved,
        editor,
        apps
    );
    cut(line.trim_end(), WIDTH) + "\n"
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

fn state(word: &str) -> String {
    match word {
        "ready" => format!("{} ready", paint("✓", Paint::Green)),
        "failed" => format!("{} failed", paint("✗", Paint::Red)),
        other => format!("{} {other}", paint("…", Paint::Yellow)),
    }
}

/// Names and messages come from participants: no control characters reach the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                '�'
            } else {
                character
            }
        })
        .collect()
}
