//! The event and the repository of somebody who used what Arena replaces, brought here unchanged:
//! a config without any key of Arena's, and a repository without a folder of Arena's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::browser::Driver;
use crate::world::{self, World, wait_until};

/// Generous: the test machine does other things too, and packages come over the network.
const LIMIT: Duration = Duration::from_secs(60);
/// The listing that the needed answer of an exercise finds.
const INSERT: &str = "cd /home/workspace/homes/server && node --env-file=.env -e \
    \"const { MongoClient } = require('mongodb'); (async () => { \
    const c = await new MongoClient(process.env.MONGODB_URI).connect(); \
    await c.db(process.env.DATABASE_NAME).collection('listingsAndReviews').insertOne({ _id: '1', name: 'Net loft' }); \
    await c.close() })()\"";

/// The look-alike beside the copy of its event; returns its folder.
fn repository(world: &World) -> PathBuf {
    let folder = world.beside("homes");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/story/lookalike/workshop");
    let copied = Command::new("cp")
        .arg("-r")
        .arg(source)
        .arg(&folder)
        .status();
    assert!(copied.expect("cp runs").success());
    // A user of the machine like any other fetches it.
    let parent = folder.parent().expect("it is below a folder");
    fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).expect("our folder");
    git(&folder, &["init", "--quiet", "--initial-branch=main"]);
    commit(&folder);
    let config = world.workshop().join("config.yaml");
    let text = fs::read_to_string(&config).expect("the event has a config");
    let text = text.replace("REPOSITORY", &folder.display().to_string());
    fs::write(&config, text).expect("our copy can be written");
    folder
}

fn commit(folder: &Path) {
    git(folder, &["add", "--all"]);
    git(folder, &["commit", "--quiet", "--message", "work"]);
}

fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
        .args(["-c", "safe.directory=*"])
        .args(arguments)
        .current_dir(folder)
        .status();
    assert!(status.expect("git runs").success(), "git {arguments:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]
async fn a_repository_of_the_system_before_runs_unchanged() {
    let world = World::of(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/story/lookalike/event"),
        "reference",
    );
    let folder = repository(&world);
    let workshop = world.workshop().display().to_string();
    let event = world.up();

    // What the scenario lists is there, and what it needs is answered; the repository's own answers are not.
    let server = "/home/workspace/homes/server";
    let lab =
        |name: &str| event.in_seat("ada-lovelace", &format!("cat {server}/src/lab/{name}"), b"");
    assert!(lab("crud-1.lab.js").contains("write your code here"));
    assert!(lab("crud-2.lab.js").contains("findOne"));
    let gone = event.try_in_seat("ada-lovelace", "ls /home/workspace/homes/utils", b"");
    assert!(gone.is_err(), "the answers came along: {gone:?}");
    event.opens_link(0);
    wait_until(LIMIT, "the back end listens", || {
        world.seat("ada-lovelace")["apps"] == "backend ready"
    });
    event.in_seat("ada-lovelace", INSERT, b"");

    // The app in the browser is the built front end, and asks the seat's own back end.
    let driver = Driver::start();
    let ada = driver.person().await;
    ada.open(&event.link(0)).await;
    ada.click("form button.big").await;
    ada.enter_frame("#instructions").await;
    ada.sees("h1", "Introduction").await;
    let exercise = "nav.menu a[data-mark=crud-1]";
    ada.element(exercise).await;
    let listed = ada.page.source().await.expect("a page");
    assert!(
        listed.contains("CRUD: Index") && !listed.contains("CRUD: Exercise 2"),
        "{listed}"
    );
    // Nothing is checked in such a repository: people say themselves what is done.
    ada.page
        .execute(
            "document.querySelector('nav.menu a[data-mark=crud-1]').click()",
            Vec::new(),
        )
        .await
        .expect("a script runs");
    ada.click("[data-exercise=crud-1] [data-done]").await;
    ada.sees("[data-exercise=crud-1] [data-done]", "Done, as you say")
        .await;
    ada.element("nav.menu a[data-mark=crud-1] .mark.done").await;
    ada.leave_frames().await;
    assert_eq!(world.seat("ada-lovelace")["solved"], 0, "it counts nothing");
    ada.screenshot("reference-seat").await;
    let seat = event
        .address()
        .replace("arena.localhost", "ada-lovelace.arena.localhost");
    ada.open(&format!("{seat}/app/")).await;
    ada.sees("#rows", "Homes of ada-lovelace").await;
    ada.open(&format!("{seat}/backend/api/listingsAndReviews/1"))
        .await;
    ada.sees("body", "Net loft").await;
    ada.open(&format!("{seat}/app/exercises")).await;
    ada.sees("#rows", "Homes of ada-lovelace").await;
    ada.page.close().await.expect("Chromium ends");
    event.interrupt();

    // A commit is a new version; `plan` says which one it would be and leaves nothing behind.
    fs::write(
        folder.join("docs/index.md"),
        "---\ntitle: Introduction again\npermalink: /\n---\n\nHello.\n",
    )
    .expect("our copy can be written");
    commit(&folder);
    let before = world::traces(&world.event);
    let (code, plan, said) = world.run(&["plan", &workshop]);
    assert_eq!(code, 0, "{plan}{said}");
    assert!(
        plan.contains("branch main, version ") && plan.contains("crud-2.lab.js"),
        "{plan}"
    );
    let (code, checked, said) = world.run(&["check", "--config-only", &workshop]);
    assert_eq!(code, 0, "{checked}{said}");
    assert!(checked.contains("2 seats, 2 exercises"), "{checked}");
    assert_eq!(world::traces(&world.event), before);

    // Without the repository, what was fetched goes on.
    fs::rename(folder.join(".git"), folder.join("gone")).expect("our copy");
    let event = world.up();
    event.interrupt();
    let (code, _, said) = world.run(&["check", "--config-only", &workshop]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("look whether the address is right"), "{said}");
    world.purge();
}
