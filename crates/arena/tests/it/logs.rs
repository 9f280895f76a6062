//! `logs`, and `status` of an event that does not run: what is left on the disk.

use std::fs;
use std::io::{BufRead, BufReader, Write};

use crate::world::{World, wait_until};

/// An event that ran, with what it wrote.
fn ran(logs: &[(&str, &str)]) -> World {
    let world = World::of("hello");
    let state = world.path("state/arena").join(&world.event);
    fs::create_dir_all(state.join("logs")).expect("a folder");
    fs::write(state.join("lock"), "1").expect("a file");
    for (name, text) in logs {
        fs::write(state.join("logs").join(name), text).expect("a file");
    }
    world
}

#[test]
fn logs_are_listed_by_service_and_seat() {
    let world = ran(&[
        ("platform.log", ""),
        ("seat-ada.log", ""),
        ("engine.log.1", ""),
    ]);
    let said = world.ordinary().run(&["logs"]);
    insta::assert_snapshot!(said.transcript(&world), @"
    ada
    platform
    exit code 0
    ");
    let said = world.ordinary().run(&["logs", "grace"]);
    insta::assert_snapshot!(said.transcript(&world), @"
    error: nothing here wrote a log named grace
    help: there are: ada, platform
    exit code 2
    ");
    let world = ran(&[]);
    let said = world.ordinary().run(&["logs"]);
    insta::assert_snapshot!(said.transcript(&world), @"
    nothing of [event] wrote a log yet
    exit code 0
    ");
}

#[test]
fn a_log_shows_its_end_and_cannot_steer_the_terminal() {
    let world = ran(&[("seat-ada.log", "one\ntwo\n\u{1b}]0;three\u{7}\n")]);
    let said = world.ordinary().run(&["logs", "ada", "-n", "2"]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "two\n\u{fffd}]0;three\u{fffd}\n")
    );
    said.is_readable();
}

#[test]
fn a_followed_log_ends_when_its_reader_leaves() {
    let world = ran(&[("platform.log", "one\n")]);
    let mut child = world.ordinary().start(&["logs", "platform", "--follow"]);
    let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
    let path = world
        .path("state/arena")
        .join(&world.event)
        .join("logs/platform.log");
    let mut log = fs::File::options().append(true).open(path).expect("a file");
    let mut lines = String::new();
    out.read_line(&mut lines).expect("text");
    writeln!(log, "two").expect("a file");
    out.read_line(&mut lines).expect("text");
    assert_eq!(lines, "one\ntwo\n");
    drop(out);
    let mut status = None;
    wait_until("it ends", || {
        writeln!(log, "three").expect("a file");
        status = child.try_wait().expect("our child");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

#[test]
fn an_event_that_does_not_run_is_told_with_how_to_start_it() {
    let world = ran(&[]);
    for command in ["status", "open"] {
        let said = world.ordinary().run(&[command]);
        insta::allow_duplicates! {
            insta::assert_snapshot!(said.transcript(&world), @"
            error: [event] is not running
            help: start it with: arena up FOLDER
            exit code 1
            ");
        }
    }
}

#[test]
fn of_several_events_one_must_be_named() {
    let world = ran(&[]);
    let other = world.path("state/arena/other");
    fs::create_dir_all(&other).expect("a folder");
    fs::write(other.join("lock"), "1").expect("a file");
    let said = world.ordinary().run(&["status"]);
    insta::assert_snapshot!(said.transcript(&world), @"
    error: there are several events on this machine
    help: name one with --event: [event], other
    exit code 2
    ");
}
