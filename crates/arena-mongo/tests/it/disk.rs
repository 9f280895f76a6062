//! A full disk: what is not on it is not acknowledged, clients are told, and it
//! goes on by itself when there is space.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::collections::BTreeSet;
use std::future::IntoFuture as _;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use mongodb::Collection;
use mongodb::bson::{Document, doc};

use crate::world::{Engine, World, code_of};

const PATIENCE: Duration = Duration::from_secs(60);

fn large(id: i32) -> Document {
    // Digits of a number that is nobody's pattern: text that does not become small.
    let mut seed = u64::from(id.unsigned_abs()) + 1;
    let text: String = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b' ' + u8::try_from((seed >> 40) % 90).unwrap())
    })
    .take(60_000)
    .collect();
    doc! { "_id": id, "text": text }
}

async fn stored(things: &Collection<Document>) -> Option<BTreeSet<i32>> {
    let ids = things
        .find(doc! {})
        .projection(doc! { "_id": 1 })
        .await
        .ok()?;
    let ids: Vec<Document> = ids.try_collect().await.ok()?;
    Some(
        ids.iter()
            .map(|document| document.get_i32("_id").unwrap())
            .collect(),
    )
}

/// Does something while the engine is started again as often as it ends, as its supervisor would.
async fn supervised<T>(
    engine: &mut Engine,
    restarts: &mut u32,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    loop {
        // The work goes on where it was; the pause means nothing.
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(Duration::from_millis(200)) => *restarts += u32::from(engine.keep_running()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_that_was_acknowledged_and_heals_itself() {
    let mut world = World::on_a_disk_of(150).await;
    world.seat("ada");
    let things: Collection<Document> = world
        .client("ada")
        .await
        .database("ada")
        .collection("things");
    let mut acknowledged = BTreeSet::new();
    let (mut told, mut refused, mut restarts) = (BTreeSet::new(), 0, 0);
    // Write until it is full, and go on: every write meets the full disk.
    for id in 0..4000 {
        let insert = things.insert_one(large(id)).into_future();
        match supervised(&mut world.engine, &mut restarts, insert).await {
            Ok(_) => drop(acknowledged.insert(id)),
            Err(error) => {
                let code = match error.kind.as_ref() {
                    mongodb::error::ErrorKind::Command(_) | mongodb::error::ErrorKind::Write(_) => {
                        code_of(&error)
                    }
                    other => panic!("not told by the front: {other:?}"),
                };
                told.insert(code);
                refused += 1;
            }
        }
        if refused == 3 {
            break;
        }
    }
    assert!(
        !acknowledged.is_empty() && acknowledged.len() < 4000,
        "the disk is not full"
    );
    // Out of space, or for a moment restarting: nothing that sounds like the client's fault.
    assert!(
        told.iter().all(|code| [14031, 91].contains(code)),
        "{told:?}"
    );
    world.engine.make_space();
    let begun = Instant::now();
    loop {
        let insert = things.insert_one(large(10_000)).into_future();
        let written = supervised(&mut world.engine, &mut restarts, insert).await;
        if written.is_ok() {
            acknowledged.insert(10_000);
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "does not go on: {written:?}");
        // An answer that was lost is no loss: the next one has another number.
        things.delete_one(doc! { "_id": 10_000 }).await.ok();
    }
    eprintln!(
        "{} were acknowledged, {restarts} restarts of the engine; went on after {:?}",
        acknowledged.len(),
        begun.elapsed()
    );
    let found = stored(&things).await.unwrap();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "lost {lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_engine_is_told_by_what_must_be_looked_up_and_not_by_a_ping() {
    let mut world = World::start().await;
    world.seat("ada");
    let ada = world.client("ada").await.database("ada");
    let list = doc! { "listCollections": 1, "nameOnly": true };
    ada.run_command(list.clone()).await.unwrap();
    world.engine.kill();
    ada.run_command(doc! { "ping": 1 }).await.unwrap();
    let error = ada.run_command(list.clone()).await.unwrap_err();
    assert_eq!(code_of(&error), 91, "{error}");
    world.engine.run_server();
    let begun = Instant::now();
    while ada.run_command(list.clone()).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
