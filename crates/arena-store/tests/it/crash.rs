//! A process that writes is killed: nothing that it acknowledged is missing.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use arena_store::{OpenError, Store};
use rusqlite::Connection;
use tokio::task::JoinSet;

use crate::{World, attempt, specs};

const CHILD: &str = "ARENA_STORE_TEST_CHILD";
const WRITERS: usize = 8;

/// The child: a no-op unless the test below starts it. It says each thing after its commit.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let store = Store::open(path).unwrap();
    store.sync_seats(specs(&["ada"], 3000)).await.unwrap();
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.spawn(async move {
            for number in 0.. {
                let exercise = format!("w{writer}-{number}");
                store
                    .record_attempt(attempt("ada", &exercise, true))
                    .await
                    .unwrap();
                say(&format!("solved {exercise}"));
                let taken = store.take_free("P", &format!("{exercise}@x.org")).await;
                if let Ok(record) = taken {
                    say(&format!("joined {}", record.seat));
                }
            }
        });
    }
    tasks.join_all().await;
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "ACK {line}").unwrap();
    stdout.flush().unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    for acknowledged in [1, 60, 400] {
        let world = World::new();
        let path = world.path();
        let folder = world.folder;
        drop(world.store);
        let lines = write_and_kill(&path, acknowledged);
        assert!(lines.len() >= acknowledged);

        let store = Store::open(&path).unwrap();
        let solved: BTreeSet<_> = store
            .results()
            .into_iter()
            .map(|row| format!("solved {}", row.exercise))
            .collect();
        let seats = store.seats();
        let joined: BTreeSet<_> = seats
            .iter()
            .filter(|seat| seat.taken.is_some())
            .map(|seat| format!("joined {}", seat.seat))
            .collect();
        for line in &lines {
            assert!(
                solved.contains(line) || joined.contains(line),
                "lost: {line}"
            );
        }
        let unique: BTreeSet<_> = lines.iter().collect();
        assert_eq!(unique.len(), lines.len(), "nobody sat twice");
        drop((store, folder));
    }
}

/// Starts this test as a child, reads that many acknowledgements, kills it (SIGKILL), and returns
/// every one that it wrote.
fn write_and_kill(path: &std::path::Path, acknowledged: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::child_that_writes_until_it_is_killed",
            "--nocapture",
        ])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // The first acknowledgement may share its line with the test runner's own words.
        if let Some((_, line)) = line.unwrap().split_once("ACK ") {
            lines.push(line.to_owned());
        }
        if lines.len() == acknowledged {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    lines
}

#[test]
fn every_connection_is_as_careful_as_promised_and_a_newer_file_is_refused() {
    let world = World::new();
    let path = world.path();
    let connection = Connection::open(&path).unwrap();
    let mode: String = connection
        .query_row("pragma journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
    connection
        .execute("insert into migrations (number, at) values (99, 0)", [])
        .unwrap();
    drop(world.store);
    assert!(matches!(
        Store::open(&path),
        Err(OpenError::Newer { version: 99, .. })
    ));
}
