//! A room that everybody has left.

use std::time::Duration;

use crate::browser::Driver;
use crate::databases::configure;
use crate::starts;
use crate::world::{World, wait_until};

/// Generous: the room must be empty for a minute, the shortest that a config may ask for.
const LIMIT: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn editors_of_an_empty_room_sleep_until_somebody_comes_back() {
    let world = World::copy("hello", "idle");
    configure(&world, "  seats:\n    editor_idle_minutes: 1\n");
    let event = world.up();
    let driver = Driver::start();
    let (ada, grace) = (driver.person().await, driver.person().await);
    starts(&ada, &event.link(0)).await;
    starts(&grace, &event.link(1)).await;
    assert_eq!(world.seat("ada")["editor"], "ready");
    assert_eq!(world.seat("grace")["editor"], "ready");
    for person in [ada, grace] {
        person.page.close().await.expect("Chromium ends");
    }

    for seat in ["ada", "grace"] {
        wait_until(LIMIT, "the editor is stopped", || {
            world.seat(seat)["editor"] == "asleep"
        });
        // The seat and its app go on.
        assert_eq!(world.seat(seat)["phase"], "ready");
    }
    let processes = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
    let running = event.in_seat("ada", processes, b"");
    assert!(!running.contains("code-server"), "{running}");
    assert!(running.contains("node"), "{running}");

    // With the next visit it is there again.
    let ada = driver.person().await;
    starts(&ada, &event.link(0)).await;
    assert_eq!(world.seat("ada")["editor"], "ready");
    assert_eq!(world.seat("grace")["editor"], "asleep");
    ada.page.close().await.expect("Chromium ends");
    event.interrupt();
    world.purge();
}
