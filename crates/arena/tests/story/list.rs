//! The list of names changes while people work: who is taken off is locked out and loses nothing, who
//! is new gets a seat, and nobody else notices.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::browser::Driver;
use crate::world::{Event, World, processes, shells_are_at_hand, wait_until};

/// Generous: the test machine does other things too.
const LIMIT: Duration = Duration::from_secs(120);

/// Writes the list of names, from full names.
fn writes(world: &World, names: &[&str]) {
    let rows = names.iter().map(|name| {
        let (first, last) = name.split_once(' ').expect("two names");
        format!("{first},{last},{}@example.com\n", first.to_lowercase())
    });
    let text = format!("name,surname,email\n{}", rows.collect::<String>());
    fs::write(world.workshop().join("user_list.csv"), text).expect("the list can be written");
}

/// `arena up` of the event that runs; returns exit code and what it said.
fn up_again(world: &World) -> (i32, String) {
    let folder = world.workshop().display().to_string();
    let (code, said, error) = world.run(&["up", "--yes", "--port", "0", &folder]);
    (code, said + &error)
}

/// A seat's own doors to both databases, tried from outside with the seat's password.
struct Doors {
    sockets: PathBuf,
    folder: tempfile::TempDir,
    password: String,
    seat: String,
}

impl Doors {
    fn of(event: &Event, seat: &str) -> Self {
        let path = event.socket(&format!("/svc/{seat}/postgres.sock"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        symlink(&path, folder.path().join(".s.PGSQL.5432")).expect("a link");
        let secret = format!("{}/secrets/seat--{seat}--database", event.text("/state"));
        Self {
            sockets: path.parent().expect("a folder").to_owned(),
            folder,
            password: fs::read_to_string(secret).expect("a secret"),
            seat: seat.to_owned(),
        }
    }

    /// Which of the two let the seat in.
    fn open(&self) -> [bool; 2] {
        let (seat, password) = (&self.seat, &self.password);
        let psql = Command::new("psql")
            .env("PGPASSWORD", password)
            .args(["-h", &self.folder.path().display().to_string()])
            .args(["-U", seat, "-d", seat, "-Atc", "select 1"])
            .output()
            .expect("psql runs");
        let socket = self.sockets.join("mongodb.sock").display().to_string();
        let host = socket.replace('/', "%2F");
        let uri = format!("mongodb://{seat}:{password}@{host}/{seat}?authSource={seat}");
        let mongosh = Command::new(mongosh())
            .env("HOME", self.folder.path())
            .args([&uri, "--quiet", "--eval", "db.listings.findOne()._id"])
            .output()
            .expect("mongosh runs");
        [psql.status.success(), mongosh.status.success()]
    }
}

/// The shell that seats have.
fn mongosh() -> PathBuf {
    let tools = fs::read_dir("/var/cache/arena").expect("the tools' cache");
    let all = tools
        .flatten()
        .map(|entry| entry.path().join("bin/mongosh"));
    let found = all.into_iter().find(|path| path.is_file());
    found.expect("mongosh is among the tools")
}

/// Which processes a seat is: another one after it was started again.
fn run_of(event: &Event, seat: &str) -> String {
    event.in_seat(seat, "readlink /proc/self/ns/pid", b"")
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]
async fn a_list_that_changes_locks_out_lets_in_and_disturbs_nobody_else() {
    let world = World::copy("harbour", "list");
    writes(&world, &["Ada Lovelace", "Grace Hopper"]);
    let event = world.up();
    let (code, said) = up_again(&world);
    assert!(code == 3 && said.contains("runs already"), "{said}");

    // Grace works: a table, a file, an open page.
    let driver = Driver::start();
    let grace = driver.person().await;
    grace.open(&event.link(1)).await;
    grace.click("form button.big").await;
    grace.element("#instructions").await;
    let mine = "psql -qAtc 'create table mine as select 42 as n'";
    event.in_terminal("grace", mine);
    event.in_seat("grace", "echo kept > /home/workspace/kept", b"");
    let doors = Doors::of(&event, "grace");
    assert_eq!(doors.open(), [true, true], "the control");
    let ada = run_of(&event, "ada");
    let facilitator = crate::failing::facilitates(&driver, &event).await;

    // She is taken off the list, and Linus is new on it.
    writes(&world, &["Ada Lovelace", "Linus Pauling"]);
    let (code, said) = up_again(&world);
    assert!(code == 0 && said.contains("- grace: locked out"), "{said}");
    let link = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("+ Linus Pauling"))
        .expect("Linus's link")
        .trim()
        .to_owned();
    assert_eq!(doors.open(), [false, false]);
    grace.sees("h1", "not on the list of names any more").await;
    grace.screenshot("off-the-list").await;
    grace.open(&event.link(1)).await;
    grace.sees("h1", "This link does not work").await;
    assert!(world.find_seat("grace").is_none());
    facilitator.sees("tr[data-seat=linus]", "Linus").await;
    facilitator
        .sees("tr[data-seat=linus] [data-field=database]", "ready")
        .await;
    assert!(facilitator.texts("tr[data-seat=grace]").await.is_empty());

    // Linus has everything that the others have; Ada has noticed nothing.
    let linus = driver.person().await;
    linus.open(&link).await;
    linus.sees("h1", "Linus Pauling").await;
    linus.click("form button.big").await;
    linus.enter_frame("#editor").await;
    linus.sees(".monaco-workbench", "").await;
    shells_are_at_hand(&event, "linus");
    assert_eq!(run_of(&event, "ada"), ada);
    shells_are_at_hand(&event, "ada");
    for person in [linus, facilitator] {
        person.page.close().await.expect("Chromium ends");
    }

    // Back on the list, everything is as it was: link, session, table, file.
    writes(&world, &["Ada Lovelace", "Grace Hopper", "Linus Pauling"]);
    let (code, said) = up_again(&world);
    assert!(code == 0 && said.contains("+ Grace Hopper"), "{said}");
    assert!(said.contains(&event.link(1)), "{said}");
    grace.open(&event.link(1)).await;
    grace.element("#instructions").await;
    grace.page.close().await.expect("Chromium ends");
    assert_eq!(doors.open(), [true, true]);
    let kept = event.in_terminal("grace", "psql -Atc 'select n from mine'; cat kept");
    assert_eq!(kept.split_whitespace().collect::<Vec<_>>(), ["42", "kept"]);
    assert_eq!(run_of(&event, "ada"), ada);

    // Killed in the middle of a change, the next start finishes it.
    let all = ["Ada Lovelace", "Linus Pauling", "Barbara McClintock"];
    writes(&world, &all);
    let folder = world.workshop().display().to_string();
    let changing = world.begin(&["up", "--yes", "--port", "0", &folder]);
    let state = PathBuf::from(event.text("/state"));
    wait_until(LIMIT, "Barbara's seat is being made", || {
        state.join("secrets/seat--barbara--database").is_file()
    });
    event.kill();
    let (code, said) = changing.ends();
    assert_ne!(code, 0, "{said}");
    let event = world.up();
    let seats: Vec<String> = ["ada", "linus", "barbara", "grace"]
        .into_iter()
        .filter(|seat| world.find_seat(seat).is_some())
        .map(str::to_owned)
        .collect();
    assert_eq!(seats, ["ada", "linus", "barbara"]);
    shells_are_at_hand(&event, "barbara");
    shells_are_at_hand(&event, "linus");
    let is_graces = |pid: &u32| {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.contains(&format!("{}/seats/grace/", world.event))
    };
    assert_eq!(processes().into_iter().find(is_graces), None);
    event.interrupt();
    world.purge();
}
