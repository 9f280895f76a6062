//! `arena check`: every mistake of a workshop's files, and whether this
//! machine can run it. Started as root it looks at the machine as the user
//! that `up` would run as.

use std::ffi::OsString;
use std::process::Stdio;

use anyhow::Context;
use arena_local::machine::{Requirement, Wanted, check_machine};
use arena_local::tools::{self, ToolSettings};
use arena_workshop::plan::Isolation;
use arena_workshop::{Plan, Problems};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::inputs::{self, Inputs};
use super::repository::{self, Content};
use super::tools::{Needs, RUN_AS};
use super::{databases, machine, print, print_json};
use crate::cli::{Check, DEFAULT_PORT, Format};
use crate::failure::{Failure, Kind, Paint, paint};
use crate::host::{self, Host};
use crate::platform::pages;

/// The machine as it was found; also what the child of a root process prints.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    requirements: Vec<Row>,
    people: u64,
}

/// A requirement.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    name: String,
    ok: bool,
    optional: bool,
    detail: String,
    fix: Option<String>,
}

/// Checks and prints.
///
/// # Errors
/// Exit code 2 for mistakes in the files, 3 when the machine cannot run it.
pub(crate) fn run(arguments: &Check) -> Result<(), Failure> {
    if let Some(seats) = arguments.machine_only {
        return print_json(&look(arguments.port.unwrap_or(DEFAULT_PORT), seats)?);
    }
    if arguments.format == Format::Json {
        return as_json(arguments);
    }
    // What was fetched stays until everything is said.
    let (inputs, fetched, missing) = match repository::content(inputs::read(&arguments.workshop)?)?
    {
        Content::Whole(inputs, fetched) => (inputs, fetched, None),
        Content::Mistaken(problems) => return Err(Failure::problems(&problems)),
        Content::Missing(inputs, failure) => (inputs, None, Some(failure)),
    };
    let plan = inputs.plan(inputs.port(arguments.port), Isolation::OwnUser);
    for note in notes(&inputs, &plan)?.iter() {
        eprintln!("{note}");
    }
    drop(fetched);
    print(&title(&inputs, &plan))?;
    if arguments.config_only {
        return missing.map_or(Ok(()), Err);
    }
    let found = machine(&inputs, &plan, arguments)?;
    let mut text = found.requirements.iter().map(line).collect::<String>();
    let (title, seen) = databases::look(&inputs.workshop)?.unzip();
    let plan = inputs.plan_seen(inputs.port(arguments.port), Isolation::OwnUser, seen);
    let chosen = databases::chosen(&inputs.workshop, &plan, title);
    text.extend(chosen.iter().map(databases::Chosen::lines));
    let greyed = databases::greyed(&inputs.workshop, &plan);
    text.extend(greyed.iter().map(databases::Greyed::line));
    if Needs::of(&inputs.workshop).engine {
        text.push_str(&machine::engine_line(&Host::here()?));
    }
    print(&text)?;
    if found.is_ok() {
        return missing.map_or(Ok(()), Err);
    }
    if let Some(missing) = missing {
        missing.report();
    }
    eprintln!("this machine cannot run the workshop yet: see the lines marked ✗");
    Err(Failure::said(Kind::Environment))
}

/// The first line: whose event, how many seats and exercises.
fn title(inputs: &Inputs, plan: &Plan) -> String {
    let exercises = if inputs.awaits_content() {
        "exercises not known yet".to_owned()
    } else {
        counted(inputs.workshop.exercises.len(), "exercise")
    };
    let mark = if inputs.awaits_content() {
        paint("…", Paint::Yellow)
    } else {
        paint("✓", Paint::Green)
    };
    let seats = counted(plan.seats.len(), "seat");
    format!("{mark} {}: {seats}, {exercises}\n", inputs.workshop.title)
}

impl Found {
    fn is_ok(&self) -> bool {
        self.requirements.iter().all(|row| row.ok || row.optional)
    }
}

impl From<&Requirement> for Row {
    fn from(found: &Requirement) -> Self {
        Self {
            name: found.name.clone(),
            ok: found.is_ok,
            optional: found.is_optional,
            detail: found.detail.clone(),
            fix: found.fix.clone(),
        }
    }
}

/// What is worth saying about files without a mistake: config, list, exercises, then pages.
fn notes(inputs: &Inputs, plan: &Plan) -> Result<Problems, Failure> {
    let mut notes = inputs.notes.clone();
    if inputs.awaits_content() {
        return Ok(notes);
    }
    notes.append(pages::site(&inputs.workshop, plan, &inputs.folder)?.notes);
    Ok(notes)
}

fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// Looks at the machine as the user that the workshop would run as.
fn machine(inputs: &Inputs, plan: &Plan, arguments: &Check) -> Result<Found, Failure> {
    let port = inputs.port(arguments.port);
    let seats = u32::try_from(plan.seats.len()).unwrap_or(u32::MAX);
    if !host::is_root() {
        return look(port, seats);
    }
    if host::has_user(RUN_AS)? {
        return look_as_user(port, seats);
    }
    let mut found = look(port, seats)?;
    // Root itself never separates seats: what it lacks for that is no fault of the machine.
    for row in &mut found.requirements {
        if matches!(row.name.as_str(), "ordinary user" | "user id per seat") {
            (row.ok, row.fix) = (true, None);
            row.detail = format!("`up` makes the system user `{RUN_AS}`");
        }
    }
    Ok(found)
}

fn look_as_user(port: u16, seats: u32) -> Result<Found, Failure> {
    let arguments = [
        "check",
        "--port",
        &port.to_string(),
        "--machine-only",
        &seats.to_string(),
    ];
    let output = host::user_command(RUN_AS, &arguments.map(OsString::from))?
        .command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run this executable as {RUN_AS}"))?;
    if !output.status.success() {
        return Err(Failure::said(Kind::from_code(output.status.code())));
    }
    Ok(serde_json::from_slice(&output.stdout)
        .context("cannot read what the machine's check printed")?)
}

fn look(port: u16, seats: u32) -> Result<Found, Failure> {
    let host = Host::here()?;
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let settings = ToolSettings {
        cache: host.cache().to_owned(),
        ..ToolSettings::default()
    };
    let found = check_machine(&Wanted {
        executable: &executable,
        paths: host.paths(),
        port,
        seats,
        tools: &tools::find(&settings),
    });
    Ok(Found {
        requirements: found.requirements.iter().map(Row::from).collect(),
        people: found.people,
    })
}

fn line(row: &Row) -> String {
    let mark = match (row.ok, row.optional) {
        (true, _) => paint("✓", Paint::Green),
        (false, true) => paint("…", Paint::Yellow),
        (false, false) => paint("✗", Paint::Red),
    };
    let fix = row
        .fix
        .as_deref()
        .filter(|_| !row.ok)
        .map(to_type)
        .unwrap_or_default();
    format!("{mark} {}: {}{fix}\n", row.name, row.detail)
}

/// Commands as they are typed: one on each line, with `sudo` for those that need root.
fn to_type(fix: &str) -> String {
    let as_root = |command: &str| {
        let needs_root = ["apt-get ", "usermod "]
            .iter()
            .any(|program| command.starts_with(program));
        let sudo = if needs_root && !host::is_root() {
            "sudo "
        } else {
            ""
        };
        format!("\n    {sudo}{command}")
    };
    fix.split(" && ").map(as_root).collect()
}

fn as_json(arguments: &Check) -> Result<(), Failure> {
    let folder = inputs::open(&arguments.workshop)?;
    let mistaken = |problems| {
        print_json(&json!({ "ok": false, "problems": problems }))?;
        Err(Failure::said(Kind::Configuration))
    };
    let inputs = match inputs::parse(folder) {
        Ok(inputs) => inputs,
        Err(problems) => return mistaken(problems),
    };
    // What was fetched stays until everything is said.
    let (inputs, _fetched, missing) = match repository::content(inputs)? {
        Content::Whole(inputs, fetched) => (inputs, fetched, None),
        Content::Mistaken(problems) => return mistaken(problems),
        Content::Missing(inputs, failure) => (inputs, None, Some(failure)),
    };
    let plan = inputs.plan(inputs.port(arguments.port), Isolation::OwnUser);
    let found = if arguments.config_only {
        None
    } else {
        Some(machine(&inputs, &plan, arguments)?)
    };
    let is_ok = missing.is_none() && found.as_ref().is_none_or(Found::is_ok);
    let looked = match &found {
        Some(_) => databases::look(&inputs.workshop)?,
        None => None,
    };
    let (title, seen) = looked.unzip();
    let plan = inputs.plan_seen(inputs.port(arguments.port), Isolation::OwnUser, seen);
    print_json(&json!({
        "ok": is_ok,
        "databases": databases::chosen(&inputs.workshop, &plan, title),
        "greyed_exercises": databases::greyed(&inputs.workshop, &plan),
        "problems": notes(&inputs, &plan)?,
        "machine": found.as_ref().map(|found| &found.requirements),
        "people": found.as_ref().map(|found| found.people),
    }))?;
    if let Some(missing) = missing {
        Err(missing)
    } else if is_ok {
        Ok(())
    } else {
        Err(Failure::said(Kind::Environment))
    }
}
