//! The facilitator's hands on the seats' databases while people work: quotas,
//! restores and their undo, new passwords, an engine that dies.

use std::fs;
use std::time::{Duration, Instant};

use crate::browser::{Driver, Person};
use crate::world::{Event, World, shells_are_at_hand, wait_until};

/// Generous: the test machine does other things too.
const LIMIT: Duration = Duration::from_secs(60);

/// A facilitator in the room.
async fn room(driver: &Driver, event: &Event) -> Person {
    let person = driver.person().await;
    person.open(&event.text("/facilitator_link")).await;
    let name = person.element("#name").await;
    name.send_keys("Barbara")
        .await
        .expect("a name can be typed");
    person.click("form button.big").await;
    person.element("#seats").await;
    person
}

/// Chooses an entry of a seat's menu in the room.
async fn choose(facilitator: &Person, seat: &str, entry: &str) {
    let row = format!("tr[data-seat={seat}]");
    facilitator
        .click(&format!("{row} details.menu summary"))
        .await;
    facilitator.click(&format!("{row} {entry}")).await;
}

/// Whether a statement of the seat in PostgreSQL is carried out.
fn psql(event: &Event, seat: &str, statement: &str) -> bool {
    let said = event.in_terminal(
        seat,
        &format!("psql -qAtc \"{statement}\" 2>&1 || echo REFUSED"),
    );
    !said.contains("REFUSED")
}

/// Adds keys below `arena` to the copy's config.
pub(crate) fn configure(world: &World, keys: &str) {
    let config = world.workshop().join("config.yaml");
    let text = fs::read_to_string(&config).expect("a config");
    fs::write(&config, format!("{text}\narena:\n{keys}")).expect("the config can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn facilitators_have_the_databases_in_hand() {
    let world = World::copy("harbour", "databases");
    configure(&world, "  quota: { megabytes: 8 }\n");
    let event = world.up();
    let driver = Driver::start();
    let facilitator = room(&driver, &event).await;

    // What a seat takes of both databases shows beside each other; the quota is the config's.
    let taken = "tr[data-seat=ada] [data-field=postgres_use]";
    facilitator.sees(taken, "of 8 MB").await;
    let mongodb = "tr[data-seat=ada] [data-field=database_use]";
    facilitator.sees(mongodb, "of 8 MB").await;

    // Over the quota, PostgreSQL takes no more; doubled, it does within seconds, in both.
    let fill = "create table big as select md5(i::text) from generate_series(1, 150000) i";
    assert!(psql(&event, "ada", fill));
    facilitator
        .sees(taken, "full: only reading and deleting")
        .await;
    let more = "insert into big values (1)";
    assert!(!psql(&event, "ada", more), "a full database is written to");
    assert!(psql(&event, "grace", "create table other as select 1"));
    facilitator.screenshot("room-full").await;
    choose(&facilitator, "ada", "form[action$='/quota'] button").await;
    let asked = Instant::now();
    wait_until(LIMIT, "the doubled quota is in force", || {
        psql(&event, "ada", more)
    });
    println!("the doubled quota was in force after {:?}", asked.elapsed());
    facilitator.sees(taken, "of 16 MB").await;
    facilitator.sees(mongodb, "of 16 MB").await;
    let other = "tr[data-seat=grace] [data-field=postgres_use]";
    facilitator.sees(other, "of 8 MB").await;

    // A restore by the command line waits for its end; the room's menu takes it back.
    let there = "select 1 from big limit 1";
    let restored = restores(&world, &["ada"]);
    assert!(restored.contains("ada"), "{restored}");
    assert!(!psql(&event, "ada", there), "it was not restored");
    choose(&facilitator, "ada", "a[href$='/undo']").await;
    facilitator.click("form[action$='/undo'] button").await;
    wait_until(LIMIT, "what was before is back", || {
        psql(&event, "ada", there)
    });
    // All at once, and all back again: nobody's is another's.
    let said = restores(&world, &["--all"]);
    let lines = said.matches(" databases").count();
    assert!(lines >= 2 && said.contains("6 of 6 databases"), "{said}");
    let others = "select 1 from other";
    assert!(!psql(&event, "ada", there) && !psql(&event, "grace", others));
    restores(&world, &["--all", "--undo"]);
    assert!(psql(&event, "ada", there) && psql(&event, "grace", others));
    facilitator.page.close().await.expect("Chromium ends");

    event.interrupt();
    world.purge();
}

/// The address of one of a seat's databases, with its password, as a terminal has it.
pub(crate) fn address(event: &Event, seat: &str, variable: &str) -> String {
    let said = event.in_terminal(seat, &format!("printenv {variable}"));
    said.trim().to_owned()
}

impl Event {
    /// Reads a seat's password where the event keeps it.
    fn password(&self, seat: &str) -> impl Fn() -> String + use<> {
        let file = format!("{}/secrets/seat--{seat}--database", self.text("/state"));
        move || fs::read_to_string(&file).expect("a secret")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_is_in_force_at_once() {
    let world = World::copy("harbour", "rotate");
    let event = world.up();
    event.opens_link(0);
    let app_is_ready = || world.seat("ada")["apps"] == "backend ready";
    wait_until(LIMIT, "the app works", app_is_ready);
    assert!(psql(&event, "ada", "create table mine as select 1"));
    let all = ["MONGODB_URI", "PGSQL_MCP_CONNECTION_STRING"];
    let before = all.map(|name| address(&event, "ada", name));
    let grace = address(&event, "grace", all[0]);
    let opened = |uri: &str, client: &str| {
        let said = event.in_terminal("ada", &format!("{client} '{uri}' 2>&1 || echo REFUSED"));
        !said.contains("REFUSED")
    };
    let clients = [
        "mongosh --quiet --eval 'db.listings.findOne()'",
        "psql -c 'select 1'",
    ];
    assert!(
        (0..2).all(|n| opened(&before[n], clients[n])),
        "the control"
    );

    let (code, said, error) = world.run(&["rotate", "ada", "--event", &world.event]);
    assert!(code == 0 && said.contains("ada  done"), "{said}{error}");
    let after = all.map(|name| address(&event, "ada", name));
    for n in 0..2 {
        assert_ne!(before[n], after[n]);
        assert!(
            !opened(&before[n], clients[n]),
            "the old one opens {}",
            all[n]
        );
        assert!(opened(&after[n], clients[n]), "the new one: {}", all[n]);
    }
    shells_are_at_hand(&event, "ada");
    assert!(psql(&event, "ada", "select 1 from mine"), "data is gone");
    assert_eq!(address(&event, "grace", all[0]), grace);
    // App and grader work with it, and nobody had to ask for that.
    wait_until(LIMIT, "the app works with the new password", app_is_ready);
    for exercise in ["mongodb-1", "sql-1"] {
        let solution = world.workshop().join("arena/solutions").join(exercise);
        event.lay_over("ada", &solution, "workshop");
    }
    let solved = || world.seat("ada")["solved"] == 2;
    wait_until(LIMIT, "an exercise on each database is solved", solved);

    // The room's menu does the same, and the seat's page shows what is in force.
    let driver = Driver::start();
    let facilitator = room(&driver, &event).await;
    choose(&facilitator, "ada", "a[href$='/rotate']").await;
    facilitator.click("form[action$='/rotate'] button").await;
    let secret = event.password("ada");
    wait_until(LIMIT, "the password is another one", || {
        !after[0].contains(&secret()) && world.seat("ada")["phase"] == "ready"
    });
    let ada = driver.person().await;
    ada.open(&event.link(0)).await;
    ada.click("form button.big").await;
    let page = ada.page.source().await.expect("a page");
    assert!(page.contains(&address(&event, "ada", all[0]).replace('&', "&amp;")));
    assert!(!page.contains(&after[0]) && !page.contains(&before[0]));
    for person in [ada, facilitator] {
        person.page.close().await.expect("Chromium ends");
    }
    event.interrupt();
    world.purge();
}

#[test]
fn passwords_are_whole_after_a_kill_in_the_middle() {
    let world = World::copy("harbour", "rotate-killed");
    let event = world.up();
    let seats = ["ada", "grace", "edgar", "margaret", "alan"];
    let before = seats.map(|seat| address(&event, seat, "MONGODB_URI"));
    let rotating = world.begin(&["rotate", "--all", "--event", &world.event]);
    let ada = event.password("ada");
    wait_until(LIMIT, "Ada has a new password", || {
        !before[0].contains(&ada())
    });
    event.kill();
    let (code, said) = rotating.ends();
    assert_ne!(code, 0, "{said}");

    let event = world.up();
    for (n, seat) in seats.into_iter().enumerate() {
        let password = event.password(seat);
        wait_until(LIMIT, "what was ordered is done", || {
            !before[n].contains(&password())
        });
    }
    // Waits for what is being done to the same seats.
    let (code, _, said) = world.run(&["rotate", "--all", "--event", &world.event]);
    assert_eq!(code, 0, "{said}");
    let open = || world.run(&["status", "--event", &world.event]).1;
    wait_until(LIMIT, "every seat is back", || {
        !open().contains("preparing")
    });
    for seat in seats {
        shells_are_at_hand(&event, seat);
    }
    event.interrupt();
    world.purge();
}

/// Reads from the seat's MongoDB again and again; prints the longest time between two answers, in
/// milliseconds, and how many questions failed.
const READER: &str = r#"
import { existsSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
const { environment } = JSON.parse((await import("node:fs")).readFileSync("/run/arena/settings.json"));
const { MongoClient } = createRequire("/home/workspace/workshop/server/")("mongodb");
const client = new MongoClient(environment.MONGODB_URI);
const listings = client.db().collection("listings");
let last, longest = 0, failed = 0;
while (!existsSync("/tmp/enough")) {
  try {
    await listings.findOne();
    const now = performance.now();
    if (last) longest = Math.max(longest, now - last);
    last = now;
    writeFileSync("/tmp/reads", "");
  } catch { failed++; }
  await new Promise((done) => setTimeout(done, 20));
}
await client.close();
console.log(`${Math.round(longest)} ms, ${failed} failed`);
"#;

/// Ends the reader, also when something fails meanwhile.
struct Enough<'a>(&'a Event);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_in_seat("ada", "touch /tmp/enough", b"");
    }
}

/// What `arena status` says of the built-in database's engine.
fn engine(world: &World) -> serde_json::Value {
    let status = world.status();
    let services = status["services"].as_array().expect("services");
    let engine = services.iter().find(|service| service["name"] == "engine");
    engine.expect("the engine").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_comes_back_by_itself_and_one_that_cannot_says_so() {
    let world = World::copy("harbour", "engine-killed");
    let event = world.up();
    let driver = Driver::start();
    let facilitator = room(&driver, &event).await;
    let is_there = |path: &str| {
        event
            .try_in_seat("ada", &format!("test -e {path}"), b"")
            .is_ok()
    };

    // Killed while seats work, it is back before anybody has to be told.
    event.in_seat("ada", "cat > /tmp/reader.mjs", READER.as_bytes());
    let read = "cd /tmp && node reader.mjs";
    let said = std::thread::scope(|scope| {
        let reading = scope.spawn(|| event.in_seat("ada", read, b""));
        let enough = Enough(&event);
        wait_until(LIMIT, "the seat reads", || is_there("/tmp/reads"));
        crate::harbour::kill_engine(&world.event);
        // Read again after it: a first answer of the new engine.
        event.in_seat("ada", "rm /tmp/reads", b"");
        wait_until(LIMIT, "the seat reads again", || is_there("/tmp/reads"));
        drop(enough);
        reading.join().expect("the reader ends")
    });
    println!(
        "killed, the longest time between two answers was {}",
        said.trim()
    );
    assert_eq!(engine(&world)["state"], "ready");
    shells_are_at_hand(&event, "ada");

    // Its folder cannot be read any more: it is given up, and everybody concerned is told.
    let data = std::path::PathBuf::from(event.text("/state")).join("engine/data");
    let away = data.with_extension("away");
    fs::rename(&data, &away).expect("the engine's folder");
    fs::write(&data, "").expect("a file in its place");
    crate::harbour::kill_engine(&world.event);
    let database = "tr[data-seat=ada] [data-field=database]";
    facilitator.sees(database, "failed").await;
    let message = "tr[data-seat=ada] [data-field=message]";
    facilitator.sees(message, "arena status").await;
    wait_until(LIMIT, "it is given up", || {
        engine(&world)["state"] == "failed"
    });
    let engine_now = engine(&world);
    let hint = engine_now["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("arena logs engine"), "{engine_now}");
    facilitator.screenshot("room-engine-failed").await;
    let (_, table, _) = world.run(&["status", "--event", &world.event]);
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    assert!(table.contains("arena logs engine"), "{table}");

    // The cause is gone: it comes back by itself, with everything.
    fs::remove_file(&data).expect("our file");
    fs::rename(&away, &data).expect("the engine's folder");
    wait_until(LIMIT, "it is back", || engine(&world)["state"] == "ready");
    facilitator.sees(database, "ready").await;
    shells_are_at_hand(&event, "ada");
    facilitator.page.close().await.expect("Chromium ends");
    event.interrupt();
    world.purge();
}

/// `arena restore` of the running event; returns what it said, standard error included: there it says
/// how far it is.
fn restores(world: &World, arguments: &[&str]) -> String {
    let (code, said, error) =
        world.run(&[&["restore"], arguments, &["--event", &world.event]].concat());
    assert_eq!(code, 0, "{said}{error}");
    said + &error
}
