//! The event's file on a disk that is full: what is not on it is not acknowledged, and it goes on when there
//! is space.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// Where the test finds its small disk, in a process of its own.
const DISK: &str = "ARENA_TEST_SMALL_DISK";
const TEST: &str = "full_disk::a_full_disk_loses_nothing_that_was_acknowledged_and_heals_itself";

/// Runs the test once more, in a mount namespace where a folder is a disk of eight megabytes.
fn on_a_small_disk() {
    let folder = TempDir::new().unwrap();
    let script = "mount -t tmpfs -o size=8m disk \"$0\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(folder.path())
        .arg(env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(DISK, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

/// A file that leaves so many bytes of the disk.
fn fill(disk: &Path, leave: usize) -> PathBuf {
    let filler = disk.join("filler");
    let mut size = 8 << 20;
    while fs::write(&filler, vec![0; size]).is_err() {
        size -= 64 << 10;
    }
    fs::write(&filler, vec![0; size - leave]).unwrap();
    filler
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_acknowledged_and_heals_itself() {
    let Some(disk) = env::var_os(DISK).map(PathBuf::from) else {
        return on_a_small_disk();
    };
    let path = disk.join("event.db");
    let store = Store::open(&path).unwrap();
    store.sync_seats(specs(&["ada"], 2)).await.unwrap();
    store.take_listed(&seat("ada")).await.unwrap();
    let filler = fill(&disk, 512 << 10);

    // Ada tries again and again, and the disk fills; then everything is refused.
    let (mut acknowledged, mut refused) = (0, 0);
    while refused < 20 {
        assert!(acknowledged < 10_000, "the disk does not fill");
        match store.record_attempt(attempt("ada", "crud-1", false)).await {
            Ok(_) => acknowledged += 1,
            Err(WriteError::Database(why)) => {
                assert!(why.to_string().contains("full"), "{why}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(acknowledged > 20, "{acknowledged}");
    // What is shown is what is on the disk: nothing of what was refused.
    assert_eq!(store.attempts(&seat("ada")).len(), acknowledged);
    assert!(store.take_free("Bob", "bob@x.org").await.is_err());
    assert!(
        store
            .seats()
            .iter()
            .all(|one| one.taken.is_none() || one.seat == seat("ada"))
    );
    let events = store.events_since(0, 100_000);

    // There is space again: it goes on by itself.
    fs::remove_file(filler).unwrap();
    store
        .record_attempt(attempt("ada", "crud-2", true))
        .await
        .unwrap();
    store.take_free("Bob", "bob@x.org").await.unwrap();
    assert!(store.events_since(0, 100_000).len() > events.len());
    let (seats, results) = (store.seats(), store.results());
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.attempts(&seat("ada")).len(), acknowledged + 1);
    assert_eq!((store.seats(), store.results()), (seats, results));
}
