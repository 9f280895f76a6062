//! `arena logs`: what services and seats wrote. The files are the platform's
//! own; control characters in them are made harmless.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::status::clean;
use super::{print, print_while_read};
use crate::cli::Logs;
use crate::failure::Failure;
use crate::host::Host;

/// How often a followed file is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

/// Prints the end of a log, and what is added with `-f`.
pub(crate) fn run(arguments: &Logs) -> Result<(), Failure> {
    let host = Host::here()?;
    let event = host.chosen_to_use(arguments.which.event.as_deref())?;
    let folder = host.event(&event).state.join("logs");
    let names = names(&folder);
    let Some(of) = &arguments.of else {
        if names.is_empty() {
            eprintln!("nothing of {event} wrote a log yet");
        }
        return print(
            &names
                .iter()
                .map(|name| format!("{name}\n"))
                .collect::<String>(),
        );
    };
    let path = file_of(&folder, of, &names)?;
    let bytes = fs::read(&path)
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(Failure::environment)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(arguments.lines)..] {
        print(&format!("{}\n", clean(line)))?;
    }
    if arguments.follow {
        follow(&path, bytes.len())
    } else {
        Ok(())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            Some(
                entry
                    .file_name()
                    .to_str()?
                    .strip_suffix(".log")?
                    .trim_start_matches("seat-")
                    .to_owned(),
            )
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn file_of(folder: &Path, of: &str, names: &[String]) -> Result<PathBuf, Failure> {
    let found = names.iter().any(|name| name == of);
    let candidates = [
        folder.join(format!("{of}.log")),
        folder.join(format!("seat-{of}.log")),
    ];
    match candidates.into_iter().find(|path| found && path.exists()) {
        Some(path) => Ok(path),
        None => {
            let failure =
                Failure::configuration(format_args!("nothing here wrote a log named {of}"));
            Err(if names.is_empty() {
                failure
            } else {
                failure.hint(format!("there are: {}", names.join(", ")))
            })
        }
    }
}

fn follow(path: &Path, mut from: usize) -> Result<(), Failure> {
    loop {
        std::thread::sleep(FOLLOW_EVERY);
        let bytes = fs::read(path).unwrap_or_default();
        // A rotated file begins anew.
        from = if bytes.len() < from { 0 } else { from };
        let Some(end) = bytes[from..].iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        for line in String::from_utf8_lossy(&bytes[from..from + end]).lines() {
            if !print_while_read(&format!("{}\n", clean(line)))? {
                return Ok(());
            }
        }
        from += end + 1;
    }
}
