//! The static front end, files for the grader, files that the agent writes.

use std::os::unix::fs::symlink;

use arena_workshop::plan::AppKind;
use http::{Method, Request};

use crate::world::{World, app, until, write};

fn front_end() -> World {
    let world = World::new()
        .file("app/out/index.html", "<p>front")
        .file("app/out/about.html", "<p>about")
        .file("app/out/deep/index.html", "<p>deep")
        .file("app/out/assets/a b.js", "1")
        .file("app/secret.txt", "outside")
        .with(|settings| {
            let mut plan = app(AppKind::Frontend, "app", &[]);
            (plan.start, plan.port) = (None, None);
            plan.static_folders = vec!["dist".to_owned(), "out".to_owned()];
            settings.apps.push(plan);
        });
    write(&world.folder.path().join("outside/secret.txt"), "outside");
    world
}

#[tokio::test]
async fn the_front_end_falls_back_as_the_reference_does() {
    let seat = front_end().start().await;
    for (path, body) in [
        ("/app/", "<p>front"),
        ("/app/about", "<p>about"),
        ("/app/about.html", "<p>about"),
        ("/app/deep/", "<p>deep"),
        ("/app/deep", "<p>deep"),
        ("/app/assets/a%20b.js", "1"),
        ("/app/a/route/of/the/app", "<p>front"),
    ] {
        let answer = seat.get("apps", path).await;
        assert_eq!((answer.status, answer.text()), (200, body), "{path}");
    }
    let answer = seat.get("apps", "/app/assets/a%20b.js").await;
    assert_eq!(
        answer.headers["content-type"],
        "text/javascript; charset=utf-8"
    );
    let again = Request::get("/app/").header("x-arena-surface", "apps");
    let tag = seat.get("apps", "/app/").await.headers["etag"].clone();
    assert_eq!(
        seat.send(again.header("if-none-match", tag)).await.status(),
        304
    );
    let answer = seat.get("apps", "/app").await;
    assert_eq!(
        (answer.status, answer.headers["location"].to_str().unwrap()),
        (308, "/app/")
    );
    let answer = seat.ask(Method::HEAD, "apps", "/app/").await;
    assert_eq!(
        (
            answer.status,
            answer.headers["content-length"].to_str().unwrap(),
            answer.body.len()
        ),
        (200, "8", 0)
    );
    assert_eq!(seat.ask(Method::POST, "apps", "/app/").await.status, 405);
    seat.stop().await;
}

#[tokio::test]
async fn the_front_end_never_leaves_its_folder() {
    let world = front_end();
    let out = world.work().join("app/out");
    symlink(
        world.folder.path().join("outside/secret.txt"),
        out.join("link.txt"),
    )
    .unwrap();
    symlink("../secret.txt", out.join("near.txt")).unwrap();
    symlink(world.folder.path().join("outside"), out.join("linked")).unwrap();
    symlink("/proc/self/root/etc/hostname", out.join("magic")).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(out.join("pipe"))
            .status()
            .unwrap()
            .success()
    );
    let seat = world.start().await;
    for path in [
        "/app/../secret.txt",
        "/app/%2e%2e/secret.txt",
        "/app/..%2fsecret.txt",
        "/app/deep/../../secret.txt",
        "/app//etc/hostname",
        "/app/%2fetc/hostname",
        "/app/link.txt",
        "/app/near.txt",
        "/app/linked/secret.txt",
        "/app/magic",
        "/app/pipe",
        "/app/%00",
    ] {
        let answer = seat.get("apps", path).await;
        assert!(
            answer.status == 400 || answer.text() == "<p>front",
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
    }
    seat.stop().await;
}

#[tokio::test]
async fn a_front_end_that_is_itself_a_link_is_not_served() {
    let world = front_end();
    std::fs::remove_dir_all(world.work().join("app/out")).unwrap();
    symlink(
        world.folder.path().join("outside"),
        world.work().join("app/out"),
    )
    .unwrap();
    let seat = world.start().await;
    assert_eq!(seat.get("apps", "/app/secret.txt").await.status, 404);
    seat.stop().await;
}

#[tokio::test]
async fn the_grader_reads_regular_files_of_the_work_folder_only() {
    let world = front_end()
        .file("server/lab file.js", "work")
        .file("big", &"x".repeat(1024 * 1024 + 1));
    symlink("/etc/hostname", world.work().join("link")).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(world.work().join("pipe"))
            .status()
            .unwrap()
            .success()
    );
    let seat = world.start().await;
    assert_eq!(
        seat.get("agent", "/files?path=server/lab%20file.js")
            .await
            .text(),
        "work"
    );
    assert_eq!(seat.get("agent", "/files?path=big").await.status, 413);
    for path in [
        "link",
        "pipe",
        "server",
        "",
        "../home",
        "/etc/hostname",
        "app/../../x",
        "none",
    ] {
        assert_eq!(
            seat.get("agent", &format!("/files?path={path}"))
                .await
                .status,
            404,
            "{path}"
        );
    }
    seat.stop().await;
}

#[tokio::test]
async fn a_repository_with_one_commit_and_the_apps_own_settings_are_made_once() {
    let world = front_end()
        .file("server/.env", "OWN=1\nPORT=1\n")
        .with(|settings| {
            let mut plan = app(AppKind::Postgres, "server", &["/bin/sleep", "1000"]);
            plan.env_file.insert("PORT".into(), "5000".into());
            plan.env_file.insert(
                "MONGODB_URI".into(),
                "mongodb://ada:p@127.0.0.1:27017/ada".into(),
            );
            settings.apps.push(plan);
        });
    let work = world.work();
    let commits = || {
        let log = std::process::Command::new("git")
            .args(["-c", "safe.directory=*", "log", "--format=%s"])
            .current_dir(&work)
            .output()
            .unwrap();
        String::from_utf8(log.stdout).unwrap()
    };
    let seat = world.start().await;
    until("the commit", async || {
        (commits().lines().count() == 1).then_some(())
    })
    .await;
    let environment = std::fs::read_to_string(work.join("server/.env")).unwrap();
    assert_eq!(
        environment,
        "OWN=1\nMONGODB_URI=mongodb://ada:p@127.0.0.1:27017/ada\nPORT=5000\n"
    );
    let seat = seat.stop().await.start().await;
    seat.health().await;
    let _world = seat.stop().await;
    assert_eq!(commits(), "Start of the workshop\n");
    assert_eq!(
        std::fs::read_to_string(work.join("server/.env")).unwrap(),
        environment
    );
}
