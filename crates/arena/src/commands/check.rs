//! `arena check`: every mistake of a workshop's files, and whether this
//! machine can run it.

use anyhow::Context;
use arena_local::machine::{Machine, Requirement, Wanted, check_machine};
use arena_local::tools::{self, ToolSettings};
use arena_workshop::plan::Isolation;
use arena_workshop::{Severity, Workshop};
use serde_json::json;

use super::inputs::{self, Inputs};
use super::tools::Needs;
use super::{machine, print, print_json};
use crate::cli::{Check, Format};
use crate::failure::{Failure, Kind, Paint, paint};
use crate::folder;
use crate::host::Host;
use crate::platform::pages;

/// Checks and prints.
///
/// # Errors
/// Exit code 2 for mistakes in the files, 3 when the machine cannot run it.
pub(crate) fn run(arguments: &Check) -> Result<(), Failure> {
    if arguments.format == Format::Json {
        return as_json(arguments);
    }
    let inputs = inputs::read(&arguments.workshop)?;
    for note in inputs.notes.iter() {
        eprintln!("{note}");
    }
    let plan = inputs.plan(inputs.port(arguments.port), Isolation::OwnUser);
    let site = pages::site(&inputs.workshop, &plan, &inputs.folder)?;
    for note in site.notes.iter() {
        eprintln!("{note}");
    }
    let exercises = inputs.workshop.exercises.len();
    print(&format!(
        "{} {}: {} seats, {exercises} {}\n",
        paint("✓", Paint::Green),
        inputs.workshop.title,
        plan.seats.len(),
        if exercises == 1 {
            "exercise"
        } else {
            "exercises"
        }
    ))?;
    if arguments.config_only {
        return Ok(());
    }
    let found = look(&inputs, arguments)?;
    let mut text = found.requirements.iter().map(line).collect::<String>();
    let host = Host::here()?;
    if Needs::of(&inputs.workshop).engine {
        text.push_str(&machine::engine_line(&host));
    }
    text.push_str(&format!(
        "  about {} people can work here at the same time\n",
        found.people
    ));
    print(&text)?;
    if found.is_ok() {
        return Ok(());
    }
    eprintln!("this machine cannot run the workshop yet: see the lines marked ✗");
    Err(Failure::said(Kind::Environment))
}

fn look(inputs: &Inputs, arguments: &Check) -> Result<Machine, Failure> {
    let host = Host::here()?;
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let settings = ToolSettings {
        cache: host.cache().to_owned(),
        ..ToolSettings::default()
    };
    let found = tools::find(&settings);
    Ok(check_machine(&Wanted {
        executable: &executable,
        paths: host.paths(),
        port: inputs.port(arguments.port),
        seats: u32::try_from(inputs.workshop.participants.seats.len()).unwrap_or(u32::MAX),
        tools: &found,
    }))
}

fn line(requirement: &Requirement) -> String {
    let mark = match (requirement.is_ok, requirement.is_optional) {
        (true, _) => paint("✓", Paint::Green),
        (false, true) => paint("…", Paint::Yellow),
        (false, false) => paint("✗", Paint::Red),
    };
    let fix = requirement
        .fix
        .as_deref()
        .filter(|_| !requirement.is_ok)
        .map(|fix| format!("\n    {fix}"))
        .unwrap_or_default();
    format!("{mark} {}: {}{fix}\n", requirement.name, requirement.detail)
}

fn as_json(arguments: &Check) -> Result<(), Failure> {
    let folder = folder::read(&arguments.workshop)
        .map_err(|error| Failure::configuration(format_args!("{error:#}")))?;
    let parsed = match Workshop::parse(&folder.sources) {
        Ok(parsed) => parsed,
        Err(problems) => {
            print_json(&json!({ "ok": false, "problems": problems }))?;
            return Err(Failure::said(Kind::Configuration));
        }
    };
    let inputs = Inputs {
        folder,
        workshop: parsed.workshop,
        notes: parsed.notes,
    };
    let machine = if arguments.config_only {
        None
    } else {
        Some(look(&inputs, arguments)?)
    };
    let requirements: Option<Vec<_>> = machine.as_ref().map(|machine| {
        let each = |requirement: &Requirement| {
            json!({ "name": requirement.name, "ok": requirement.is_ok, "optional": requirement.is_optional,
                    "detail": requirement.detail, "fix": requirement.fix })
        };
        machine.requirements.iter().map(each).collect()
    });
    let is_ok = machine.as_ref().is_none_or(Machine::is_ok)
        && !inputs
            .notes
            .iter()
            .any(|note| note.severity == Severity::Error);
    print_json(&json!({
        "ok": is_ok,
        "problems": inputs.notes,
        "machine": requirements,
        "people": machine.as_ref().map(|machine| machine.people),
    }))?;
    if is_ok {
        Ok(())
    } else {
        Err(Failure::said(Kind::Environment))
    }
}
