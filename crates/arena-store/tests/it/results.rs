//! Attempts, results, orders.

use arena_store::{Actor, OrderKind, OrderState, Trigger};
use jiff::Timestamp;

use crate::{World, attempt, seat, slug};

#[tokio::test]
async fn only_the_first_pass_is_a_result_and_a_trial_never_is() {
    let world = World::with(&["ada"], 0).await;
    let mut trial = attempt("ada", "crud-1", true);
    trial.trial = true;
    world.store.record_attempt(trial).await.unwrap();
    assert!(world.store.results().is_empty());
    world
        .store
        .record_attempt(attempt("ada", "crud-1", false))
        .await
        .unwrap();
    world
        .store
        .record_attempt(attempt("ada", "crud-1", true))
        .await
        .unwrap();
    let results = world.store.results();
    world
        .store
        .record_attempt(attempt("ada", "crud-1", false))
        .await
        .unwrap();
    world
        .store
        .record_attempt(attempt("ada", "crud-1", true))
        .await
        .unwrap();
    assert_eq!(results.len(), 1);
    assert_eq!(world.store.results(), results);

    let state = world.store.exercise(&seat("ada"), &slug("crud-1"));
    assert_eq!(
        (state.attempts, state.passed, state.solved_at),
        (4, true, Some(results[0].at))
    );
    assert_eq!(world.store.attempts(&seat("ada")).len(), 5);
    let all = world.store.exercises(&seat("ada"));
    let world = world.reopened();
    assert_eq!(world.store.results(), results);
    assert_eq!(world.store.exercises(&seat("ada")), all);
}

#[tokio::test]
async fn the_same_order_waits_once_and_again_while_it_runs() {
    let world = World::with(&["ada"], 0).await;
    let store = &world.store;
    let grade = |trigger| OrderKind::Grade {
        seat: seat("ada"),
        exercise: slug("crud-1"),
        trigger,
    };
    let mut changes = store.orders_changed();
    let first = store
        .place_order(grade(Trigger::Save), Actor::System)
        .await
        .unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!(
        store
            .place_order(grade(Trigger::Button), Actor::System)
            .await
            .unwrap(),
        first
    );
    assert!(!changes.has_changed().unwrap());
    store.start_order(first).await.unwrap();
    let second = store
        .place_order(grade(Trigger::Save), Actor::System)
        .await
        .unwrap();
    assert_ne!(first, second);
    store
        .finish_order(first, Ok("passed".to_owned()))
        .await
        .unwrap();
    store
        .finish_order(first, Err("again".to_owned()))
        .await
        .unwrap();
    assert_eq!(
        store.order(first).unwrap().state,
        OrderState::Done("passed".to_owned())
    );
    assert_eq!(
        store
            .pending_orders()
            .iter()
            .map(|order| order.id)
            .collect::<Vec<_>>(),
        [second]
    );
}

#[tokio::test]
async fn orders_placed_at_once_have_their_numbers_in_order() {
    let world = World::with(&["ada", "bea"], 0).await;
    let restore = |name| OrderKind::RestoreDatabase { seat: seat(name) };
    let first = world.store.place_order(restore("bea"), Actor::System);
    let first = first.await.unwrap();
    let all = vec![restore("ada"), restore("bea")];
    let placed = world.store.place_orders(all, Actor::System).await.unwrap();
    // The one that waits already is not placed twice.
    assert_eq!(placed[1], first);
    let waiting = world.reopened().store.pending_orders();
    let waiting: Vec<_> = waiting.iter().map(|order| order.id).collect();
    assert_eq!(waiting, [first, placed[0]]);
}

#[tokio::test]
async fn an_order_that_ran_when_arena_ended_waits_again() {
    let world = World::with(&["ada"], 0).await;
    let restore = OrderKind::RestoreDatabase { seat: seat("ada") };
    let id = world
        .store
        .place_order(restore.clone(), Actor::Facilitator("Grace".to_owned()))
        .await
        .unwrap();
    world.store.start_order(id).await.unwrap();
    let world = world.reopened();
    assert_eq!(world.store.pending_orders()[0].id, id);
    // With the same order waiting behind it, one of them is enough.
    world.store.start_order(id).await.unwrap();
    let next = world
        .store
        .place_order(restore, Actor::System)
        .await
        .unwrap();
    let world = world.reopened();
    assert_eq!(
        world
            .store
            .open_orders()
            .iter()
            .map(|order| order.id)
            .collect::<Vec<_>>(),
        [next]
    );
    assert_eq!(world.store.audit_log(9)[0].action, "restore_database");
}

#[tokio::test]
async fn freezing_and_hiding_survive_and_are_written_down() {
    let world = World::with(&["ada"], 0).await;
    let by = Actor::Facilitator("Zoë".to_owned());
    let at: Timestamp = "2026-11-23T16:00:00Z".parse().unwrap();
    world
        .store
        .set_close_on(Some(at), by.clone())
        .await
        .unwrap();
    world
        .store
        .set_excluded(&seat("ada"), true, by.clone())
        .await
        .unwrap();
    let world = world.reopened();
    assert_eq!(world.store.close_on(), Some(at));
    assert!(world.store.seat(&seat("ada")).unwrap().excluded);
    world.store.set_close_on(None, by.clone()).await.unwrap();
    assert_eq!(world.store.close_on(), None);
    let log = world.store.audit_log(10);
    assert!(log.iter().all(|entry| entry.by == by));
    assert_eq!(
        log.iter()
            .map(|entry| entry.action.as_str())
            .collect::<Vec<_>>(),
        ["freeze_board", "hide", "freeze_board"]
    );
}

#[tokio::test]
async fn orders_that_ran_twice_at_once_do_not_keep_the_file_closed() {
    let world = World::with(&["ada"], 0).await;
    let wake = || OrderKind::WakeEditor { seat: seat("ada") };
    for _ in 0..3 {
        let id = world
            .store
            .place_order(wake(), Actor::System)
            .await
            .unwrap();
        world.store.start_order(id).await.unwrap();
    }
    let world = world.reopened();
    assert_eq!(world.store.pending_orders().len(), 1);
    assert_eq!(world.store.open_orders().len(), 1);
}
