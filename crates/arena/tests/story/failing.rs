//! Seats that break down: everybody concerned is told why and what to do, nobody else notices, and
//! they come back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::browser::{Driver, Person};
use crate::databases::configure;
use crate::starts;
use crate::world::{Event, World, wait_until};

/// Generous: something that was given up is tried again every minute.
const LIMIT: Duration = Duration::from_secs(120);
/// Where the editor keeps what it must be able to write.
const OF_EDITOR: &str = "/home/workspace/.local/share/code-server";
/// A program of the seat's own ends its agent, as its participant can.
const END_AGENT: &str = "for process in /proc/[0-9]*; do \
    grep -qz '^/opt/arena/bin/arena$' $process/cmdline && kill -9 ${process#/proc/}; done 2>/dev/null; true";

/// A file stands where the agent needs a folder.
fn breaks_the_seat(event: &Event, seat: &str) {
    event.in_seat(
        seat,
        &format!("rm -rf {OF_EDITOR} && touch {OF_EDITOR}"),
        b"",
    );
    // The shell ends with the seat.
    let _ = event.try_in_seat(seat, END_AGENT, b"");
}

/// What stands there, seen from outside: nobody gets into a seat that does not run.
fn obstacle(event: &Event, seat: &str) -> PathBuf {
    let folder = PathBuf::from(event.text("/state")).join("seats").join(seat);
    find(&folder, "code-server").expect("the editor's folder, or what stands in its way")
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries.into_iter().find_map(|entry| {
        if entry.file_name() == name {
            return Some(entry.path());
        }
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        is_folder.then(|| find(&entry.path(), name)).flatten()
    })
}

pub(crate) async fn facilitates(driver: &Driver, event: &Event) -> Person {
    let facilitator = driver.person().await;
    facilitator.open(&event.text("/facilitator_link")).await;
    let name = facilitator.element("#name").await;
    name.send_keys("Barbara")
        .await
        .expect("a name can be typed");
    facilitator.click("form button.big").await;
    facilitator.element("#seats").await;
    facilitator
}

/// Why Ada's seat does not start and what to do: the organiser, the participant, the facilitator.
async fn all_are_told(world: &World, ada: &Person, facilitator: &Person) {
    let status = world.seat("ada");
    let told = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
    assert!(told("message").contains(OF_EDITOR), "{status}");
    assert!(told("hint").contains("arena logs ada"), "{status}");
    let (_, table, _) = world.run(&["status", "--event", &world.event]);
    assert!(
        table.contains("failed") && table.contains("does not start"),
        "{table}"
    );
    assert!(table.contains("Restart seat"), "{table}");
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    ada.sees("#waking h2", "Your seat does not start").await;
    ada.sees("#detail", OF_EDITOR).await;
    ada.sees("#remedy", "tried again every minute").await;
    ada.screenshot("seat-failed").await;
    facilitator
        .sees(
            "tr[data-seat=ada][data-trouble=true] [data-field=message]",
            OF_EDITOR,
        )
        .await;
    facilitator
        .sees("tr[data-seat=ada] [data-field=seat_state]", "failed")
        .await;
    facilitator
        .sees("tr[data-seat=ada] [data-field=remedy]", "arena logs ada")
        .await;
    facilitator.screenshot("room-failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_does_not_start_says_why_and_comes_back_when_the_cause_is_gone() {
    let world = World::copy("hello", "failing");
    let event = world.up();
    let driver = Driver::start();
    let ada = driver.person().await;
    starts(&ada, &event.link(0)).await;
    let facilitator = facilitates(&driver, &event).await;

    // Two seats break, one of them under an open page.
    breaks_the_seat(&event, "ada");
    breaks_the_seat(&event, "seat0");
    for seat in ["ada", "seat0"] {
        wait_until(LIMIT, "the seat is given up", || {
            world.seat(seat)["phase"] == "failed"
        });
    }
    all_are_told(&world, &ada, &facilitator).await;
    // Others go on.
    assert_eq!(world.seat("grace")["phase"], "ready");

    // The cause is gone: a facilitator starts one again at once, the other comes back by itself.
    for seat in ["seat0", "ada"] {
        fs::remove_file(obstacle(&event, seat)).expect("a file");
    }
    facilitator
        .click("tr[data-seat=seat0] details.menu summary")
        .await;
    facilitator
        .click("tr[data-seat=seat0] a[href$='/again']")
        .await;
    facilitator.click("main form button").await;
    facilitator
        .sees("tr[data-seat=seat0] [data-field=seat_state]", "ready")
        .await;
    wait_until(LIMIT, "the seat comes back by itself", || {
        world.seat("ada")["phase"] == "ready"
    });
    facilitator
        .sees("tr[data-seat=ada] [data-field=seat_state]", "ready")
        .await;
    // The page goes on by itself.
    ada.element("#waking[hidden]").await;
    ada.enter_frame("#editor").await;
    ada.sees(".monaco-workbench", "").await;
    for person in [ada, facilitator] {
        person.page.close().await.expect("Chromium ends");
    }

    // Broken before the doors open, it keeps nobody else out.
    let folder = obstacle(&event, "ada");
    event.interrupt();
    fs::remove_dir_all(&folder).expect("the editor's folder");
    fs::write(&folder, "").expect("a file in its place");
    let event = world.up();
    // It is tried again now and then, perhaps just now.
    wait_until(LIMIT, "the seat is given up", || {
        world.seat("ada")["phase"] == "failed"
    });
    assert_eq!(world.seat("grace")["phase"], "ready");
    assert!(world.said().contains("not ada"), "{}", world.said());
    event.interrupt();
    world.purge();
}

/// The lab's file with a program in it that takes memory once: two processes, each within what one may
/// have.
const HOG: &str = r#"import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
const mark = "/home/workspace/hogged";
if (!existsSync(mark)) {
  writeFileSync(mark, "");
  const take = "const all = []; for (let n = 0; n < 80; n++) all.push(Buffer.alloc(10 << 20, 1)); setTimeout(() => {}, 1e6)";
  for (let n = 0; n < 2; n++) spawn(process.execPath, ["-e", take]);
}
export function greet(name) { return "Hello, " + name + "!"; }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn who_fills_memory_is_ended_and_told_why_and_others_do_not_notice() {
    let world = World::copy("hello", "hog");
    configure(&world, "  seats:\n    memory_mib: 1200\n");
    let event = world.up();
    let driver = Driver::start();
    let (ada, grace) = (driver.person().await, driver.person().await);
    starts(&ada, &event.link(0)).await;
    starts(&grace, &event.link(1)).await;
    let facilitator = facilitates(&driver, &event).await;
    let run = |seat: &str| event.in_seat(seat, "readlink /proc/self/ns/pid", b"");
    let before = (run("ada"), run("grace"));

    grace.enter_frame("#editor").await;
    grace.runs("window.isOfTheFirstSeat = true").await;
    grace.leave_frames().await;

    // Grace saves a program that takes too much.
    let lab = "cat > /home/workspace/workshop/server/src/lab/hello-1.lab.js";
    event.in_seat("grace", lab, HOG.as_bytes());
    grace.sees("#toasts", "Your seat was started again").await;
    facilitator
        .sees("tr[data-seat=grace] [data-field=message]", "of memory")
        .await;
    facilitator.screenshot("room-memory").await;
    wait_until(LIMIT, "the seat is back", || {
        world.seat("grace")["phase"] == "ready"
    });
    let message = world.seat("grace")["message"].to_string();
    assert!(
        message.contains("more than the 1.1 GiB of a seat"),
        "{message}"
    );
    let (_, log, _) = world.run(&["logs", "grace", "--event", &world.event]);
    assert!(log.contains("arena: its programs together used"), "{log}");
    // Her page goes on by itself, with the new editor in place of the dead one.
    gets_another_editor(&grace).await;
    grace.sees(".tab.active .label-name", ".lab").await;
    let dialogs = grace.texts(".monaco-dialog-box").await;
    assert!(dialogs.is_empty(), "{dialogs:?}");
    grace.leave_frames().await;
    // What ran in one seat is gone, in the other it goes on as it was.
    assert_ne!(run("grace"), before.1);
    assert_eq!(run("ada"), before.0);
    assert_eq!(world.seat("ada")["message"], serde_json::Value::Null);
    for person in [ada, grace, facilitator] {
        person.page.close().await.expect("Chromium ends");
    }
    event.interrupt();
    world.purge();
}

/// Goes into the editor that comes in place of the first one, once the page has heard that its seat was started again.
async fn gets_another_editor(person: &Person) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        person.element("#waking[hidden]").await;
        person.enter_frame("#editor").await;
        if person.runs("return window.isOfTheFirstSeat ?? false").await == false {
            return;
        }
        person.leave_frames().await;
        let is_late = tokio::time::Instant::now() >= deadline;
        assert!(!is_late, "the dead editor stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Ends the editor whenever it starts, for as long as a file is there.
const END_EDITOR: &str = "touch /home/workspace/broken; \
    setsid sh -c 'while [ -e /home/workspace/broken ]; do pkill -9 -f [c]ode-server; sleep 0.05; done' \
    > /dev/null 2>&1 < /dev/null &";

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_that_crashes_again_and_again_is_shown_as_failed_and_comes_back() {
    let world = World::copy("hello", "crash");
    let event = world.up();
    let driver = Driver::start();
    let ada = driver.person().await;
    starts(&ada, &event.link(0)).await;
    let facilitator = facilitates(&driver, &event).await;
    event.in_seat("ada", END_EDITOR, b"");
    // Her open page asks for it again and again.
    let mut status = serde_json::Value::Null;
    wait_until(LIMIT, "the editor is given up", || {
        status = world.seat("ada");
        status["editor"] == "failed"
    });
    assert_eq!(status["phase"], "ready");
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains("the editor does not start"), "{status}");
    assert!(message.contains("signal"), "{status}");
    ada.sees("#waking h2", "Your editor did not start").await;
    ada.sees("#detail", "signal").await;
    ada.screenshot("editor-failed").await;
    facilitator
        .sees("tr[data-seat=ada] [data-field=editor]", "failed")
        .await;
    facilitator
        .sees("tr[data-seat=ada] [data-field=message]", "signal")
        .await;
    event.in_seat("ada", "rm /home/workspace/broken", b"");
    wait_until(LIMIT, "the editor is back", || {
        world.seat("ada")["editor"] == "ready"
    });
    ada.element("#waking[hidden]").await;
    for person in [ada, facilitator] {
        person.page.close().await.expect("Chromium ends");
    }
    event.interrupt();
    world.purge();
}
