//! The harbour workshop from inside a seat: an app over two real databases,
//! six exercises, a lost engine, a restore.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::browser::Driver;
use crate::databases::address;
use crate::world::{Event, World, processes, shells_are_at_hand, signal, wait_until};

const EXERCISES: [&str; 6] = [
    "mongodb-1",
    "mongodb-2",
    "mongodb-3",
    "mongodb-4",
    "sql-1",
    "sql-2",
];

/// The copy of the sample lies in a folder of that name.
const REPOSITORY: &str = "workshop";

/// Generous: the test machine does other things too.
const LIMIT: Duration = Duration::from_secs(60);

/// Counts the seat's listings with its own driver and credentials.
const COUNT: &str = "cd /home/workspace/workshop/server && node --env-file=.env --input-type=module -e \
    \"import { MongoClient } from 'mongodb'; const c = await new MongoClient(process.env.MONGODB_URI).connect(); \
    console.log(await c.db(process.env.DATABASE_NAME).collection('listings').countDocuments()); await c.close();\"";

const EMPTY: &str = "cd /home/workspace/workshop/server && node --env-file=.env --input-type=module -e \
    \"import { MongoClient } from 'mongodb'; const c = await new MongoClient(process.env.MONGODB_URI).connect(); \
    await c.db(process.env.DATABASE_NAME).collection('listings').deleteMany({}); await c.close();\"";

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]
async fn six_exercises_over_two_databases_and_what_goes_wrong() {
    let world = World::copy("harbour", "harbour");
    let event = world.up();
    shells_are_at_hand(&event, "ada");
    let driver = Driver::start();

    // The app's page shows data from the seat's own database.
    let ada = driver.person().await;
    ada.open(&event.link(0)).await;
    ada.click("form button.big").await;
    ada.enter_frame("#editor").await;
    ada.sees(".tab.active .label-name", ".lab").await;
    ada.sees(".single-terminal-tab", "server").await;
    ada.leave_frames().await;
    ada.enter_frame("#instructions").await;
    let first = ada.element("nav.menu a[data-mark=mongodb-1]").await;
    let page = first
        .attr("href")
        .await
        .expect("a link")
        .expect("leads somewhere");
    ada.page
        .execute(&format!("location.href = {page:?}"), Vec::new())
        .await
        .expect("a script runs");
    ada.sees("[data-exercise=mongodb-1] h2", "").await;
    ada.leave_frames().await;
    ada.screenshot("harbour-seat").await;
    let app = format!(
        "{}/app/",
        event
            .address()
            .replace("arena.localhost", "ada.arena.localhost")
    );
    ada.open(&app).await;
    event.lay_over(
        "ada",
        &world.workshop().join("arena/solutions/mongodb-1"),
        REPOSITORY,
    );
    wait_until(LIMIT, "the first exercise is solved", || {
        world.seat("ada")["solved"] == 1
    });
    ada.page.refresh().await.expect("the app reloads");
    ada.sees("main", "guests").await;
    ada.screenshot("harbour-app").await;

    // A wrong solution is no result; each right one is.
    event.lay_over(
        "ada",
        &world
            .workshop()
            .join("arena/wrong/mongodb-4/cheapest-first"),
        REPOSITORY,
    );
    for exercise in &EXERCISES[1..] {
        event.lay_over(
            "ada",
            &world.workshop().join("arena/solutions").join(exercise),
            REPOSITORY,
        );
    }
    wait_until(LIMIT, "all six are solved", || {
        world.seat("ada")["solved"] == 6
    });
    assert_eq!(
        world.seat("grace")["solved"],
        0,
        "nobody else solved anything"
    );

    // The engine is killed: it comes back by itself with everything acknowledged.
    assert_eq!(event.in_seat("ada", COUNT, b"").trim(), "120");
    kill_engine(&world.event);
    wait_until(LIMIT, "the database answers again", || {
        event
            .try_in_seat("ada", COUNT, b"")
            .is_ok_and(|count| count.trim() == "120")
    });

    // Ada loses her data; the facilitator restores it, and only hers.
    event.in_seat("ada", EMPTY, b"");
    assert_eq!(event.in_seat("ada", COUNT, b"").trim(), "0");
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
        .sees("tr[data-seat=ada] [data-field=solved]", "6")
        .await;
    facilitator
        .open(&format!("{}/admin/seats/ada/restore", event.address()))
        .await;
    facilitator.click("main form button").await;
    wait_until(LIMIT, "the data is back", || {
        event.in_seat("ada", COUNT, b"").trim() == "120"
    });
    facilitator.screenshot("harbour-room").await;

    for person in [ada, facilitator] {
        person.page.close().await.expect("Chromium ends");
    }
    event.interrupt();
    world.purge();
}

#[test]
fn seats_work_on_a_mongodb_that_the_config_names() {
    let world = World::copy("harbour", "remote");
    // A server of its own stands for somebody else's; seats reach it over TCP.
    let server = Server::start(&world.event);
    let config = world.workshop().join("config.yaml");
    let text = fs::read_to_string(&config).expect("a config");
    fs::write(
        &config,
        format!(
            "{text}\narena:\n  database:\n    mongodb: {:?}\n",
            server.uri
        ),
    )
    .expect("the config can be written");
    let event = world.up();
    assert_eq!(event.in_seat("ada", COUNT, b"").trim(), "120");
    event.lay_over(
        "ada",
        &world.workshop().join("arena/solutions/mongodb-1"),
        REPOSITORY,
    );
    event.lay_over(
        "ada",
        &world.workshop().join("arena/solutions/sql-1"),
        REPOSITORY,
    );
    wait_until(LIMIT, "one exercise on each database is solved", || {
        world.seat("ada")["solved"] == 2
    });
    let before = address(&event, "ada", "MONGODB_URI");
    assert!(opens(&event, &before), "the control");
    let (code, said, error) = world.run(&["rotate", "ada", "--event", &world.event]);
    assert!(code == 0 && said.contains("ada  done"), "{said}{error}");
    let after = address(&event, "ada", "MONGODB_URI");
    assert!(opens(&event, &after) && !opens(&event, &before));
    assert_eq!(event.in_seat("ada", COUNT, b"").trim(), "120");
    event.interrupt();
    world.purge();
}

/// Whether a client in Ada's terminal is let in there.
fn opens(event: &Event, uri: &str) -> bool {
    let question = "mongosh --quiet --eval 'db.listings.findOne()'";
    let said = event.in_terminal("ada", &format!("{question} '{uri}' 2>&1 || echo REFUSED"));
    !said.contains("REFUSED")
}

/// A MongoDB that no event started.
struct Server {
    process: Child,
    uri: String,
    _state: tempfile::TempDir,
}

impl Server {
    fn start(name: &str) -> Self {
        let tree = std::env::var("ARENA_ENGINE_TREE")
            .unwrap_or_else(|_| "/var/cache/arena/engine/current".to_owned());
        let state = tempfile::Builder::new()
            .prefix(name)
            .tempdir()
            .expect("a temporary folder");
        let mut process = Command::new(env!("CARGO_BIN_EXE_arena"))
            .args([
                "serve",
                "mongo",
                "--listen",
                "127.0.0.1:0",
                "--tree",
                &tree,
                "--state",
            ])
            .arg(state.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("arena starts");
        let mut uri = String::new();
        BufReader::new(process.stdout.take().expect("piped"))
            .read_line(&mut uri)
            .expect("the server prints its address");
        Self {
            process,
            uri: uri.trim().to_owned(),
            _state: state,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        signal(self.process.id(), "TERM");
        let _ = self.process.wait();
    }
}

/// `kill -9` of the built-in database's server. Another of its processes does not notice: it was stopped.
pub(crate) fn kill_engine(event: &str) {
    let data = format!("{event}/engine/data");
    // Its helpers have its command line; their numbers may be smaller, as numbers begin anew.
    let is_engine = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.contains(&data) && line.contains("-D"))
    };
    let engine: Vec<u32> = processes().into_iter().filter(is_engine).collect();
    let is_child_of = |pid: u32, parent: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains(&format!("PPid:\t{parent}\n"))
    };
    let is_server = |pid: &u32| !engine.iter().any(|other| is_child_of(*pid, *other));
    let server = engine.iter().copied().find(is_server);
    let server = server.expect("the engine runs");
    let helper = engine.iter().copied().find(|pid| is_child_of(*pid, server));
    signal(helper.expect("the engine has helpers"), "STOP");
    signal(server, "KILL");
}
