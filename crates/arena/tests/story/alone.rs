//! One person alone, on a machine where seats cannot be separated: `--isolation none`.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::browser::Driver;
use crate::world::{self, World, processes, wait_until};
use crate::{SOLUTION, starts, writes};

/// Generous: the test machine does other things too.
const LIMIT: Duration = Duration::from_secs(60);

/// Processes whose environment says that they belong to the event's seat.
fn of_the_seat(event: &str) -> BTreeSet<u32> {
    let belongs = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|variable| {
            let text = String::from_utf8_lossy(variable);
            text.starts_with("ARENA_OPEN_SEAT=") && text.contains(event)
        })
    };
    processes().into_iter().filter(belongs).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_alone_works_without_isolation_and_is_told_so() {
    let world = World::copy("hello", "alone");
    let before = world::traces(&world.event);
    let event = world.up_with(&["--isolation", "none"]);
    let seats = event.summary["seats"].as_array().expect("seats").len();
    assert_eq!((seats, event.summary["spare_seats"].as_u64()), (1, Some(0)));
    let said = world.said();
    assert!(
        said.contains("nothing is separated") && said.contains("2 more"),
        "{said}"
    );

    // Every page of the seat says it; editor, app and grading work as ever.
    let driver = Driver::start();
    let ada = driver.person().await;
    starts(&ada, &event.link(0)).await;
    ada.sees(".unseparated", "not separated from the machine")
        .await;
    writes(&ada, SOLUTION).await;
    ada.enter_frame("#instructions").await;
    ada.sees("[data-state]", "Solved").await;
    ada.leave_frames().await;
    ada.screenshot("alone").await;
    ada.page.close().await.expect("Chromium ends");

    // The app has a port of the seat's own range, and what listens for the editor is ours alone.
    let status = world.seat("ada");
    assert_eq!(status["apps"], "backend ready", "{status}");
    assert!(
        of_the_seat(&world.event).len() > 2,
        "agent, app and editor run"
    );

    // What is left of a platform that was killed is ended by the next start, and everything at its end.
    event.kill();
    let left = of_the_seat(&world.event);
    let event = world.up_with(&["--isolation", "none"]);
    assert_eq!(world.seat("ada")["solved"], 1);
    let now = of_the_seat(&world.event);
    assert!(left.is_disjoint(&now), "{left:?} outlived the start");
    event.interrupt();
    wait_until(LIMIT, "no process of the seat is left", || {
        of_the_seat(&world.event).is_empty()
    });

    // The seat's files are of this kind for life.
    let folder = world.workshop().display().to_string();
    let (code, _, said) = world.run(&["up", "--yes", "--port", "0", &folder]);
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains("was made without isolation") && said.contains("--purge"),
        "{said}"
    );
    world.purge();
    let left: Vec<String> = world::traces(&world.event)
        .difference(&before)
        .cloned()
        .collect();
    assert!(left.is_empty(), "purge left behind: {left:#?}");
}
