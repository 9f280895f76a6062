//! The README's first page as tests: each tells a story as its people would,
//! with the real executable, real sandboxes and real browsers.

mod alone;
mod attacks;
mod browser;
mod data;
mod databases;
mod failing;
mod harbour;
mod idle;
mod killed;
mod list;
mod reference;
mod remote;
mod world;

use std::fs;
use std::time::Duration;

use browser::{Driver, Person};
use world::World;

const SOLUTION: &str = "export function greet(name = 'world') { return `Hello, ${name}!`; }";
const WRONG: &str = "export function greet(name) { return 'Hello, world!'; }";

/// A participant opens the personal link, and sees instructions and editor side by side.
async fn starts(person: &Person, link: &str) {
    person.open(link).await;
    person.click("form button.big").await;
    person.enter_frame("#instructions").await;
    person.sees("h1", "").await;
    person.leave_frames().await;
    person.enter_frame("#editor").await;
    person.sees(".tab.active .label-name", ".lab").await;
    person
        .sees(
            ".terminal-tabs-entry, .single-terminal-tab, .terminal-outer-container",
            "",
        )
        .await;
    person.leave_frames().await;
}

/// Replaces the open file's text and saves it, with the keyboard.
async fn writes(person: &Person, text: &str) {
    person.enter_frame("#editor").await;
    person
        .click(".editor-group-container.active .monaco-editor .view-lines")
        .await;
    person.control('a').await;
    person.types(text).await;
    person.control('s').await;
    person.leave_frames().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]
async fn a_workshop_from_config_to_leaderboard_and_back() {
    let world = World::copy("hello", "story");
    let before = world::traces(&world.event);
    let event = world.up();
    let driver = Driver::start();
    let ada = driver.person().await;
    starts(&ada, &event.link(0)).await;
    ada.screenshot("seat").await;

    // The board is open in another browser while Ada works.
    let visitor = driver.person().await;
    visitor
        .open(&format!("{}/leaderboard", event.address()))
        .await;

    // A wrong edit shows the check's message.
    writes(&ada, WRONG).await;
    ada.enter_frame("#instructions").await;
    ada.sees("[data-checks]", "Use the parameter").await;
    ada.leave_frames().await;
    ada.screenshot("wrong").await;

    // A right one shows in the instructions and on the open board.
    writes(&ada, SOLUTION).await;
    ada.enter_frame("#instructions").await;
    ada.sees("[data-state]", "Solved").await;
    ada.leave_frames().await;
    visitor.sees("#rows", "Ada Lovelace").await;
    ada.screenshot("solved").await;
    visitor.screenshot("board").await;

    // A walk-in joins with the event code and a name, and gets a seat of their own.
    let walk_in = driver.person().await;
    walk_in.open(&event.address()).await;
    walk_in.screenshot("landing").await;
    let code = walk_in.element("input[name=code]").await;
    code.send_keys(&event.text("/event_code"))
        .await
        .expect("the code can be typed");
    walk_in.click("form button").await;
    walk_in
        .element("#name")
        .await
        .send_keys("Edsger Dijkstra")
        .await
        .expect("a name can be typed");
    walk_in
        .element("#email")
        .await
        .send_keys("edsger@example.net")
        .await
        .expect("an address can be typed");
    walk_in.click("form:has(#email) button").await;
    walk_in.element("#instructions").await;

    // Nobody enters somebody else's seat.
    let ada_host = event
        .address()
        .replace("arena.localhost", "ada.arena.localhost");
    for path in ["/backend/api/greeting", "/", "/app/"] {
        walk_in.open(&format!("{ada_host}{path}")).await;
        let source = walk_in.page.source().await.expect("a page");
        assert!(
            !source.contains("greeting"),
            "a stranger saw {path} of Ada's seat: {source}"
        );
    }
    walk_in.screenshot("stranger").await;

    // The facilitator sees the room, freezes the board and hides Ada from it.
    let facilitator = driver.person().await;
    facilitator.open(&event.text("/facilitator_link")).await;
    facilitator
        .element("#name")
        .await
        .send_keys("Barbara")
        .await
        .expect("a name can be typed");
    facilitator.click("form button.big").await;
    facilitator
        .sees("tr[data-seat=ada] [data-field=solved]", "1")
        .await;
    // The workshop has no database, and nothing is said of one.
    let said = facilitator
        .texts("tr[data-seat=ada] .health")
        .await
        .concat();
    assert!(
        said.contains("Editor") && !said.contains("Database"),
        "{said}"
    );
    facilitator.screenshot("room").await;
    looks_into_the_seat(&facilitator).await;
    facilitator.click("button[value=freeze]").await;
    facilitator.element("button[value=unfreeze]").await;
    facilitator
        .click("tr[data-seat=ada] details.menu summary")
        .await;
    facilitator
        .click("tr[data-seat=ada] form[action$='/hide'] button")
        .await;
    facilitator
        .element("tr[data-seat=ada] form[action$='/show']")
        .await;
    visitor.page.refresh().await.expect("the board reloads");
    visitor.sees("#empty", "").await;
    assert!(
        !visitor.texts("#rows").await.concat().contains("Ada"),
        "a hidden person is on the board"
    );

    for person in [ada, visitor, walk_in, facilitator] {
        person.page.close().await.expect("Chromium ends");
    }
    assert_eq!(event.interrupt().code(), Some(0), "Ctrl-C ends it well");

    // Started again, everything is as it was: who sits where, results.
    let event = world.up();
    let returning = driver.person().await;
    returning.open(&event.link(0)).await;
    returning.click("form button.big").await;
    returning.enter_frame("#instructions").await;
    returning.sees("[data-state]", "Solved").await;
    returning.leave_frames().await;
    returning.enter_frame("#editor").await;
    returning.sees(".tab.active .label-name", ".lab").await;
    returning.runs("window.isOfTheFirstRun = true").await;
    returning.leave_frames().await;

    // kill -9 of the platform: it converges, nothing acknowledged is lost.
    let address = event.address().to_owned();
    let (_, port) = address.rsplit_once(':').expect("an address has a port");
    event.kill();
    let event = world.up_with(&["--port", port]);
    // The open page goes on with the editor of now; the other one would ask to be reloaded.
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    loop {
        assert!(
            std::time::Instant::now() < deadline,
            "the page keeps the dead editor"
        );
        returning.enter_frame("#editor").await;
        let is_old = returning
            .runs("return window.isOfTheFirstRun ?? false")
            .await;
        if is_old == false && !returning.texts(".tab.active .label-name").await.is_empty() {
            break;
        }
        returning.leave_frames().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let dialogs = returning.texts(".monaco-dialog-box").await;
    assert!(dialogs.is_empty(), "{dialogs:?}");
    returning.page.close().await.expect("Chromium ends");
    let (code, status, _) = world.run(&["status", "--event", &world.event, "--format", "json"]);
    assert_eq!(code, 0, "{status}");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let ada = status["seats"]
        .as_array()
        .expect("seats")
        .iter()
        .find(|seat| seat["seat"] == "ada")
        .expect("Ada's seat");
    assert_eq!(
        (ada["solved"].as_u64(), ada["name"].as_str()),
        (Some(1), Some("Ada Lovelace"))
    );
    event.interrupt();
    world.purge();
    let left: Vec<String> = world::traces(&world.event)
        .difference(&before)
        .cloned()
        .collect();
    assert!(left.is_empty(), "purge left behind: {left:#?}");
}

#[test]
fn a_second_up_of_the_same_event_says_who_holds_it() {
    let world = World::copy("hello", "twice");
    let event = world.up();
    let (code, _, error) = world.run(&[
        "up",
        "--yes",
        "--port",
        "0",
        &world.workshop().display().to_string(),
    ]);
    assert_eq!(code, 3, "{error}");
    assert!(
        error.contains("runs already") && error.contains("arena down"),
        "{error}"
    );
    event.interrupt();
    world.purge();
}

#[test]
fn an_interrupted_start_ends_and_the_next_one_works() {
    let world = World::copy("hello", "interrupted");
    let folder = world.workshop().display().to_string();
    for step in ["npm install", "seats"] {
        let starting = world.begin(&["up", "--yes", "--port", "0", &folder]);
        starting.says(step, 1);
        starting.interrupt();
        let (code, said) = starting.ends();
        assert_eq!(code, 0, "{step}: {said}");
        world::wait_until(Duration::from_secs(10), "no process is left", || {
            !world::traces(&world.event)
                .iter()
                .any(|trace| trace.starts_with("process") || trace.starts_with("mount"))
        });
    }
    let event = world.up();
    event.interrupt();
    world.purge();
}

#[test]
fn a_taken_port_is_named_before_anything_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let world = World::copy("hello", "port");
    let (code, _, error) = world.run(&[
        "up",
        "--yes",
        "--port",
        &port,
        &world.workshop().display().to_string(),
    ]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains(&port) && error.contains("--port"), "{error}");
    world.purge();
}

#[test]
fn an_address_that_others_reach_is_refused_with_the_reason() {
    let world = World::copy("hello", "listen");
    let (code, _, error) = world.run(&[
        "up",
        "--yes",
        "--listen",
        "0.0.0.0",
        &world.workshop().display().to_string(),
    ]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("TLS"), "{error}");
}

#[test]
fn mistakes_of_a_workshop_end_with_their_place_and_code_two() {
    let world = World::copy("hello", "mistake");
    let config = world.workshop().join("config.yaml");
    let text = fs::read_to_string(&config)
        .expect("a config")
        .replace("backend:", "bakend:");
    fs::write(&config, text).expect("the config can be written");
    let (code, _, error) = world.run(&[
        "check",
        "--config-only",
        &world.workshop().display().to_string(),
    ]);
    assert_eq!(code, 2, "{error}");
    assert!(
        error.contains("config.yaml:") && error.contains("backend"),
        "{error}"
    );
}

#[test]
fn a_detached_event_ends_with_down() {
    let world = World::copy("hello", "detach");
    let folder = world.workshop().display().to_string();
    let (code, out, error) = world.run(&[
        "up", "--yes", "--port", "0", "--detach", "--format", "json", &folder,
    ]);
    assert_eq!(code, 0, "{out}{error}");
    let (code, table, _) = world.run(&["status", "--event", &world.event]);
    assert_eq!(code, 0, "{table}");
    assert!(
        table.contains("ada") && table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    // `--watch` shows it again and again, and ends with the event.
    let watching = world.begin(&["status", "--watch", "--event", &world.event]);
    watching.says("ada", 3);
    let (code, _, error) = world.run(&["down", "--event", &world.event]);
    assert_eq!(code, 0, "{error}");
    let (code, said) = watching.ends();
    assert!(
        code == 1 && said.contains("is not running"),
        "{code}: {said}"
    );
    world::wait_until(Duration::from_secs(10), "no process is left", || {
        !world::traces(&world.event)
            .iter()
            .any(|trace| trace.starts_with("process") || trace.starts_with("mount"))
    });
    world.purge();
}

/// From the room's menu into Ada's own editor, on a host of its own.
async fn looks_into_the_seat(facilitator: &Person) {
    facilitator
        .click("tr[data-seat=ada] details.menu summary")
        .await;
    facilitator
        .click("tr[data-seat=ada] form[action$='/look'] button")
        .await;
    facilitator.enter_new_window().await;
    facilitator.sees(".explorer-folders-view", "server").await;
    let host = facilitator.page.current_url().await.expect("an address");
    assert!(host.as_str().starts_with("http://look-"), "{host}");
    facilitator.screenshot("look-in").await;
    facilitator.close_new_window().await;
    facilitator
        .click("tr[data-seat=ada] details.menu summary")
        .await;
}

#[test]
fn what_an_app_prints_is_in_the_seats_log_and_a_second_interrupt_ends_at_once() {
    let world = World::copy("hello", "logs");
    let event = world.up();
    assert_eq!(world.seat("ada")["apps"], "backend asleep");
    event.opens_link(0);
    world::wait_until(
        Duration::from_secs(60),
        "the app has said that it listens",
        || {
            let (code, log, _) = world.run(&["logs", "ada", "--event", &world.event]);
            code == 0 && log.contains("backend: Listening on port 5000")
        },
    );
    let (code, _, error) = world.run(&["logs", "nobody", "--event", &world.event]);
    assert_eq!(code, 2, "{error}");
    assert!(
        error.contains("there are:") && error.contains("ada"),
        "{error}"
    );
    assert_eq!(event.interrupt_twice().code(), Some(0));
    world::wait_until(Duration::from_secs(10), "no process is left", || {
        !world::traces(&world.event)
            .iter()
            .any(|trace| trace.starts_with("process"))
    });
    world.purge();
}
