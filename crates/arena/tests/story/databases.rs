//! The facilitator's hands on the seats' databases while people work: quotas,
//! restores and their undo, new passwords, an engine that dies.

use std::fs;
use std::time::{Duration, Instant};

use crate::browser::{Driver, Person};
use crate::world::{Event, World, wait_until};

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
fn configure(world: &World, keys: &str) {
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
    restores(&world, &["--all"]);
    let others = "select 1 from other";
    assert!(!psql(&event, "ada", there) && !psql(&event, "grace", others));
    restores(&world, &["--all", "--undo"]);
    assert!(psql(&event, "ada", there) && psql(&event, "grace", others));
    facilitator.page.close().await.expect("Chromium ends");

    // A new password is in force at the next start, for the seat alone that has it.
    let passwords = |event: &Event, seat: &str| event.in_terminal(seat, "env | grep _URI");
    let before = ["ada", "grace"].map(|seat| passwords(&event, seat));
    let (code, said, error) = world.run(&["rotate", "ada", "--event", &world.event]);
    assert_eq!(code, 0, "{error}");
    assert!(said.contains("1 new password, in force when"), "{said}");
    assert!(psql(&event, "ada", there), "nobody's work is broken");
    event.interrupt();
    let event = world.up();
    assert_ne!(passwords(&event, "ada"), before[0]);
    assert_eq!(passwords(&event, "grace"), before[1]);
    assert!(psql(&event, "ada", there));
    event.opens_link(0);
    wait_until(LIMIT, "the app works with the new password", || {
        world.seat("ada")["apps"] == "backend ready"
    });
    event.interrupt();
    world.purge();
}

/// `arena restore` of the running event; returns what it said.
fn restores(world: &World, arguments: &[&str]) -> String {
    let (code, said, error) =
        world.run(&[&["restore"], arguments, &["--event", &world.event]].concat());
    assert_eq!(code, 0, "{said}{error}");
    said
}
