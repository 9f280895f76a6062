//! Events: in order, none missing, for those who come back late too.

use std::collections::BTreeSet;

use arena_store::{Actor, Event};
use tokio::task::JoinSet;

use crate::{World, attempt, seat};

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_follows_misses_nothing() {
    let world = World::with(&["ada"], 0).await;
    let (mut changes, mut last, mut seen) = (world.store.events_changed(), 0, Vec::<Event>::new());
    let mut tasks = JoinSet::new();
    for number in 0..40 {
        let store = world.store.clone();
        tasks.spawn(async move {
            store
                .record_attempt(attempt("ada", &format!("crud-{number}"), true))
                .await
                .unwrap()
        });
    }
    while seen.len() < 81 {
        for event in world.store.events_since(last, 7) {
            assert!(event.id > last);
            last = event.id;
            seen.push(event);
        }
        if last == world.store.last_event() && seen.len() < 81 {
            changes.changed().await.unwrap();
        }
    }
    tasks.join_all().await;
    assert_eq!(
        seen.iter()
            .map(|event| event.id)
            .collect::<BTreeSet<_>>()
            .len(),
        81
    );
    assert_eq!(world.reopened().store.events_since(0, 1000), seen);
}

#[tokio::test]
async fn what_memory_forgot_comes_from_the_file() {
    let world = World::with(&["ada"], 0).await;
    let mut tasks = JoinSet::new();
    for number in 0..5000 {
        let store = world.store.clone();
        tasks.spawn(async move {
            store
                .post_message(None, format!("message {number}"), Actor::System)
                .await
                .unwrap()
        });
    }
    tasks.join_all().await;
    let all = world.store.events_since(0, 10_000);
    assert_eq!(all.len(), 5001);
    assert_eq!(world.store.events_since(4990, 10_000), all[4990..]);
    world
        .store
        .set_excluded(&seat("ada"), true, Actor::System)
        .await
        .unwrap();
    assert_eq!(world.store.events_since(5001, 10).len(), 1);
}
