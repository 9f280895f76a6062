//! Taking seats, and giving them back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use arena_store::{
    Actor, EditorStatus, EventKind, Principal, SeatPhase, SeatStatus, Store, TakeError,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::task::JoinSet;

use crate::{World, attempt, seat, specs};

fn facilitator() -> Actor {
    Actor::Facilitator("Grace".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_for_the_last_seat_seat_one() {
    let world = World::with(&[], 1).await;
    let mut tasks = JoinSet::new();
    for number in 0..50 {
        let store = world.store.clone();
        tasks.spawn(async move {
            store
                .take_free(&format!("P{number}"), &format!("p{number}@x.org"))
                .await
        });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(TakeError::NoneFree)))
            .count(),
        49
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_joining_sit_apart_and_wait_little() {
    let world = World::with(&[], 200).await;
    let mut tasks = JoinSet::new();
    for number in 0..200 {
        let store = world.store.clone();
        tasks.spawn(async move {
            let begun = Instant::now();
            let record = store
                .take_free(&format!("P{number}"), &format!("p{number}@x.org"))
                .await
                .unwrap();
            (record.seat, begun.elapsed())
        });
    }
    let outcomes = tasks.join_all().await;
    let seats: BTreeSet<_> = outcomes.iter().map(|(seat, _)| seat.clone()).collect();
    assert_eq!(seats.len(), 200);
    // Far from the promise of 50 ms, which a benchmark measures: only a hang fails here.
    assert!(
        outcomes
            .iter()
            .all(|(_, took)| *took < Duration::from_secs(10))
    );
}

/// Whatever is asked for at once, and whoever gives back in between: nobody sits twice,
/// nobody sits where somebody sits, and the file agrees with the memory.
#[test]
fn nobody_ever_sits_where_somebody_sits() {
    // A case is a whole store: the square root of what others do.
    let cases = ProptestConfig::default().cases.isqrt();
    let mut runner = TestRunner::new(ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(cases)
    });
    let asked = prop::collection::vec(0_u8..24, 1..60);
    let outcome = runner.run(&asked, |asks| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let world = World::with(&["ada", "bob"], 6).await;
            let mut tasks = JoinSet::new();
            for (number, ask) in asks.into_iter().enumerate() {
                let store = world.store.clone();
                tasks.spawn(async move { ask_for(store, number, ask).await });
            }
            tasks.join_all().await;
            let seats = world.store.seats();
            let joined = world.store.events_since(0, 10_000);
            for record in &seats {
                let (mut sitting, mut taken) = (1, false);
                for event in &joined {
                    match &event.kind {
                        EventKind::Joined { seat } if *seat == record.seat => {
                            assert!(!taken, "taken twice");
                            taken = true;
                        }
                        EventKind::Released { seat } if *seat == record.seat => {
                            assert!(taken);
                            taken = false;
                            sitting += 1;
                        }
                        _ => {}
                    }
                }
                assert_eq!((taken, sitting), (record.taken.is_some(), record.sitting));
            }
            assert_eq!(world.reopened().store.seats(), seats);
        });
        Ok(())
    });
    outcome.unwrap();
}

async fn ask_for(store: Store, number: usize, ask: u8) {
    match ask {
        0..4 => drop(store.take_listed(&seat("ada")).await),
        4..8 => drop(store.take_listed(&seat("bob")).await),
        8..10 => store.release(&seat("ada"), Actor::System).await.unwrap(),
        10..12 => store.release(&seat("spare0"), Actor::System).await.unwrap(),
        _ => drop(
            store
                .take_free("Somebody", &format!("p{number}@x.org"))
                .await,
        ),
    }
}

#[tokio::test]
async fn a_name_or_an_email_alone_never_returns_a_taken_seat() {
    let world = World::with(&["ada"], 2).await;
    world.store.take_listed(&seat("ada")).await.unwrap();
    assert!(matches!(
        world.store.take_listed(&seat("ada")).await,
        Err(TakeError::Taken)
    ));
    assert!(matches!(
        world.store.take_free("Ada", "Ada@Example.com ").await,
        Err(TakeError::EmailKnown)
    ));
    world.store.take_free("Bob", "bob@x.org").await.unwrap();
    assert!(matches!(
        world.store.take_free("Bob", "BOB@x.org").await,
        Err(TakeError::EmailKnown)
    ));
    assert!(matches!(
        world.store.take_listed(&seat("spare1")).await,
        Err(TakeError::Unknown)
    ));
}

#[tokio::test]
async fn a_seat_given_back_has_a_new_link_no_results_and_no_session() {
    let world = World::with(&["ada"], 0).await;
    let ada = seat("ada");
    world.store.take_listed(&ada).await.unwrap();
    let link = world.store.link_token(&ada).unwrap();
    let secret = world
        .store
        .create_session(Principal::Participant(ada.clone()), "a.test")
        .await
        .unwrap();
    world
        .store
        .record_attempt(attempt("ada", "crud-1", true))
        .await
        .unwrap();
    assert_eq!(world.store.seat_for_link(&link), Some(ada.clone()));

    world.store.release(&ada, facilitator()).await.unwrap();
    let check = |store: &Store| {
        assert_eq!(store.seat_for_link(&link), None);
        assert_eq!(store.session(secret.reveal(), "a.test"), None);
        assert!(
            store.results().is_empty()
                && store.exercises(&ada).is_empty()
                && store.attempts(&ada).is_empty()
        );
        assert!(store.seat(&ada).unwrap().taken.is_none());
        assert_eq!(store.audit_log(1)[0].action, "release");
    };
    check(&world.store);
    check(&world.reopened().store);
}

#[tokio::test]
async fn a_seat_that_leaves_the_list_keeps_its_data_and_comes_back() {
    let world = World::with(&["ada", "bob"], 1).await;
    world.store.take_listed(&seat("ada")).await.unwrap();
    let link = world.store.link_token(&seat("ada")).unwrap();
    world.store.sync_seats(specs(&["bob"], 1)).await.unwrap();
    assert!(world.store.seat(&seat("ada")).unwrap().decommissioned);
    assert_eq!(world.store.seat_for_link(&link), None);
    world
        .store
        .sync_seats(specs(&["bob", "ada"], 1))
        .await
        .unwrap();
    let ada = world.store.seat(&seat("ada")).unwrap();
    assert!(!ada.decommissioned && ada.taken.is_some());
    assert_eq!(world.store.seat_for_link(&link), Some(seat("ada")));
    let last = world.store.last_event();
    world
        .store
        .sync_seats(specs(&["bob", "ada"], 1))
        .await
        .unwrap();
    assert_eq!(
        world.store.last_event(),
        last,
        "the same list again changes nothing"
    );
}

#[tokio::test]
async fn a_status_is_an_event_once() {
    let world = World::with(&["ada"], 0).await;
    let status = SeatStatus {
        phase: SeatPhase::Ready,
        editor: EditorStatus::Queued { position: 3 },
        ..SeatStatus::default()
    };
    let before = world.store.last_event();
    for _ in 0..3 {
        world
            .store
            .set_status(&seat("ada"), status.clone())
            .await
            .unwrap();
    }
    assert_eq!(world.store.last_event(), before + 1);
    assert_eq!(world.store.seat(&seat("ada")).unwrap().status, status);
    world
        .store
        .set_status(&seat("nobody"), status.clone())
        .await
        .unwrap();
    world.store.take_listed(&seat("ada")).await.unwrap();
    assert_eq!(
        world.store.seat(&seat("ada")).unwrap().status,
        status,
        "taking does not change the status"
    );
}
