//! The platform is killed while it starts seats. The kernel ends what is tied to the platform; a
//! sandbox that was only being built is tied to nobody for a moment.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::world::{World, processes, signal, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
/// Each round hits another moment of the start.
const ROUNDS: usize = 6;

struct Process {
    parent: u32,
    command: String,
}

fn look(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(Process {
        parent: parent.parse().ok()?,
        command: String::from_utf8_lossy(&command).replace('\0', " "),
    })
}

/// The platform, as soon as a seat's sandbox has an inner process.
fn platform_that_builds_a_seat(event: &str) -> Option<u32> {
    let all: BTreeMap<u32, Process> = processes()
        .into_iter()
        .filter_map(|pid| Some((pid, look(pid)?)))
        .collect();
    let is_sandbox = |process: &Process| {
        process.command.contains("bwrap --args") && process.command.contains("serve seat")
    };
    all.values()
        .filter(|process| is_sandbox(process) && all.get(&process.parent).is_some_and(is_sandbox))
        .find_map(|inner| {
            let mut at = inner.parent;
            loop {
                let process = all.get(&at)?;
                if process.command.contains(event) && process.command.contains(" up ") {
                    return Some(at);
                }
                at = process.parent;
            }
        })
}

/// The helper of `unshare` that maps user ids may wait for ever when it lost its master. It holds
/// nothing; the next start ends it.
fn is_helper(process: &str) -> bool {
    process.contains(" unshare --pid")
}

/// Processes that name the event or have a file of it open, such as the lock of a seat.
fn of_the_event(event: &str) -> Vec<String> {
    let holds = |pid: u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        open.flatten()
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
            .any(|file| file.to_string_lossy().contains(event))
    };
    let found = processes().into_iter().filter_map(|pid| {
        let command = look(pid)?.command;
        (command.contains(event) || holds(pid)).then(|| format!("{pid} {command}"))
    });
    found.collect()
}

#[test]
fn a_seat_that_was_just_being_started_dies_with_the_platform() {
    let world = World::copy("hello", "killed-early");
    let folder = world.workshop().display().to_string();
    world.up().interrupt();
    for round in 0..ROUNDS {
        let up = world.begin(&["up", "--yes", "--port", "0", &folder]);
        let mut platform = None;
        wait_until(LIMIT, "a seat is being started", || {
            platform = platform_that_builds_a_seat(&world.event);
            platform.is_some()
        });
        signal(platform.expect("it was waited for"), "KILL");
        let _ = up.ends();
        wait_until(LIMIT, &format!("all of round {round} has ended"), || {
            of_the_event(&world.event)
                .iter()
                .all(|process| is_helper(process))
        });
    }
    let event = world.up();
    event.interrupt();
    wait_until(LIMIT, "nothing is left, no helper either", || {
        of_the_event(&world.event).is_empty()
    });
    world.purge();
}
