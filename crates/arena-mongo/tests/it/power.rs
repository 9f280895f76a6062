//! A power loss, as far as it can be seen from outside: what is acknowledged has
//! been synced to the disk before. Killing processes shows nothing of that, because
//! the kernel keeps what they wrote; so `strace` notes when the engine syncs its log.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mongodb::bson::{Document, doc};

use crate::world::World;

const INSERTS: usize = 20;

/// From when to when.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin: Duration,
    end: Duration,
}

fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap()
}

/// Runs the server where every sync is noted, a file for each process.
fn noting_syncs(folder: &Path) -> Vec<String> {
    let notes = folder.join("calls").display().to_string();
    let arguments = [
        "strace",
        "-D",
        "-ff",
        "-q",
        "-y",
        "-ttt",
        "-T",
        "-e",
        "trace=fsync,fdatasync",
        "-o",
        &notes,
    ];
    arguments.map(str::to_owned).into()
}

/// Syncs of the log that succeeded: `1764.123456 fdatasync(5</…/pg_wal/0001>) = 0 <0.000123>`.
fn syncs_of_the_log(folder: &Path) -> Vec<Span> {
    let notes = fs::read_dir(folder).unwrap().flatten();
    let texts = notes.map(|note| fs::read_to_string(note.path()).unwrap());
    let span = |line: &str| {
        let (begin, call) = line.split_once(' ')?;
        let time = call.strip_suffix('>')?.rsplit_once("= 0 <")?.1;
        let begin = Duration::from_secs_f64(begin.parse().ok()?);
        let end = begin + Duration::from_secs_f64(time.parse().ok()?);
        call.contains("/pg_wal/").then_some(Span { begin, end })
    };
    let spans = texts.flat_map(|text| text.lines().filter_map(span).collect::<Vec<_>>());
    spans.collect()
}

/// Of so many inserts, one after the other, how many were acknowledged after a sync of the log that began when
/// the insert had been sent.
async fn synced_before_the_answer(settings: &str) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start().await;
    world.seat("ada");
    let things = world.client("ada").await.database("ada");
    let things = things.collection::<Document>("things");
    things.insert_one(doc! { "_id": -1 }).await.unwrap();
    world
        .engine
        .restart_by(noting_syncs(folder.path()), settings);
    things.insert_one(doc! { "_id": -2 }).await.unwrap();
    let mut inserts = Vec::new();
    for n in 0..INSERTS {
        let begin = now();
        let id = i32::try_from(n).unwrap();
        things.insert_one(doc! { "_id": id }).await.unwrap();
        inserts.push(Span { begin, end: now() });
    }
    // Killed as by a power loss: nothing more is synced, and the notes are whole.
    world.engine.kill();
    let syncs = syncs_of_the_log(folder.path());
    let is_synced = |insert: &&Span| {
        let within = |sync: &&Span| insert.begin <= sync.begin && sync.end <= insert.end;
        syncs.iter().any(|sync| within(&sync))
    };
    inserts.iter().filter(is_synced).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_is_acknowledged_after_the_engine_has_synced_its_log() {
    assert_eq!(synced_before_the_answer("").await, INSERTS);
}

/// The negative controls: an engine that does not sync, and one that answers first and syncs now and then.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_does_not_sync_or_syncs_later_is_found_out() {
    assert_eq!(synced_before_the_answer("fsync = off").await, 0);
    let later = synced_before_the_answer("synchronous_commit = off\nwal_writer_delay = 10s").await;
    assert!(later < INSERTS / 2, "{later}");
}
