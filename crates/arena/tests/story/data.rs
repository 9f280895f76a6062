//! What seats' databases start from, as authors say it: a data set by its name, a dump made by
//! somebody's `pg_dump`; and an event that lacks a database.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::browser::Driver;
use crate::world::{World, wait_until};

/// Generous: the test machine does other things too.
const LIMIT: Duration = Duration::from_secs(60);

/// Replaces text in a file of the workshop.
fn edit(world: &World, file: &str, from: &str, to: &str) {
    let path = world.workshop().join(file);
    let text = fs::read_to_string(&path).expect("a file of the example");
    assert!(text.contains(from), "{file} has no {from:?}");
    fs::write(path, text.replace(from, to)).expect("it can be written");
}

/// With a data set in both databases, and tables of a dump beside it.
#[test]
fn a_seat_starts_with_a_data_set_and_with_the_tables_of_a_dump() {
    let world = World::copy("hello", "data");
    edit(&world, "config.yaml", "mongodb: false", "mongodb: true");
    edit(&world, "config.yaml", "postgres: false", "postgres: true");
    let set = "title: Hello, Arena\ndata: { set: listings, seed: 7, documents: 500 }\n";
    fs::write(world.workshop().join("arena/workshop.yaml"), set).expect("our workshop");
    let event = world.up();
    let said = |command: &str| event.in_terminal("ada", command).trim().to_owned();
    let in_mongodb = "mongosh --quiet --eval 'db.listingsAndReviews.countDocuments()'";
    assert_eq!(said(in_mongodb), "500");
    assert_eq!(said("psql -Atc 'select count(*) from listings'"), "500");
    let like_the_first = "psql -Atc 'select count(*) from \
        (select 1 from listings order by embedding <-> (select embedding from listings limit 1) limit 5) near'";
    assert_eq!(said(like_the_first), "5");

    // Somebody's database, as they dump it.
    let tables = "create table boats (id int primary key, name text); \
        insert into boats select n, $$boat;$$ || n from generate_series(1, 1200) n; \
        create view fast as select * from boats where id < 100";
    said(&format!("psql -qAtc '{tables}'"));
    let dump =
        said("/opt/arena/engine/usr/lib/postgresql/*/bin/pg_dump -Fc -t boats -t fast | base64");
    fs::write(world.beside("dump.txt"), dump).expect("our folder");
    let dump = Command::new("base64")
        .arg("-d")
        .arg(world.beside("dump.txt"))
        .output();
    let dump = dump.expect("base64 runs").stdout;
    assert!(dump.starts_with(b"PGDMP"));
    fs::create_dir_all(world.workshop().join("arena/data")).expect("our workshop");
    fs::write(world.workshop().join("arena/data/boats.dump"), dump).expect("our workshop");
    event.interrupt();
    world.purge();

    let event = world.up();
    let said = |command: &str| event.in_terminal("grace", command).trim().to_owned();
    assert_eq!(
        said("psql -Atc 'select count(*), max(name) from boats'"),
        "1200|boat;999"
    );
    assert_eq!(said("psql -Atc 'select count(*) from fast'"), "99");
    assert_eq!(said("psql -Atc 'select count(*) from listings'"), "500");
    assert_eq!(said(in_mongodb), "500");
    // They are the seat's own.
    said("psql -qAtc 'drop view fast; drop table boats'");
    let (code, _, error) = world.run(&["restore", "grace", "--event", &world.event]);
    assert_eq!(code, 0, "{error}");
    wait_until(LIMIT, "the tables are back", || {
        event
            .in_terminal(
                "grace",
                "psql -Atc 'select count(*) from boats' 2>&1 || true",
            )
            .trim()
            == "1200"
    });
    event.interrupt();
    world.purge();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_database_that_is_not_there_is_greyed_out_and_says_why() {
    let world = World::copy("harbour", "greyed");
    edit(&world, "config.yaml", "postgres: true", "postgres: false");
    let event = world.up();
    let driver = Driver::start();
    let ada = driver.person().await;
    ada.open(&event.link(0)).await;
    ada.click("form button.big").await;
    ada.element("#editor").await;
    let reason = "needs PostgreSQL, which this event does not have";
    let source = ada.page.source().await.expect("a page");
    assert_eq!(
        source.matches(reason).count(),
        2,
        "of six exercises two use SQL"
    );
    ada.screenshot("greyed-seat").await;
    // The page of such an exercise says so too, in place of the button.
    ada.enter_frame("#instructions").await;
    ada.sees("body", "0 / 4 solved").await;
    let to_the_page = "document.querySelector(\"nav.menu a[href$='/sql/1/']\").click()";
    let went = ada.page.execute(to_the_page, Vec::new()).await;
    went.expect("the menu has the page");
    ada.sees("section.exercise.missing .state", "It needs PostgreSQL")
        .await;
    assert!(ada.texts("section.exercise button").await.is_empty());
    ada.screenshot("greyed-instructions").await;
    // Those of the other database count alone.
    for exercise in ["mongodb-1", "mongodb-2", "mongodb-3", "mongodb-4"] {
        let solution = world.workshop().join("arena/solutions").join(exercise);
        event.lay_over("ada", &solution, "workshop");
    }
    wait_until(LIMIT, "all that can be solved is solved", || {
        world.seat("ada")["solved"] == 4
    });
    ada.page.close().await.expect("Chromium ends");
    event.interrupt();
    world.purge();
}
