//! The waiting list.

use arena_store::{Actor, Seated, Standing, Store, TakeError};
use tokio::task::JoinSet;

use crate::{World, seat, specs};

fn place(store: &Store, token: &str) -> Option<usize> {
    match store.standing(token) {
        Some(Standing::Waits { place, .. }) => Some(place),
        _ => None,
    }
}

fn waits(seated: Seated) -> String {
    match seated {
        Seated::Waits(token) => token,
        Seated::Seat(record) => panic!("sits in {}", record.seat),
    }
}

#[tokio::test]
async fn fifty_at_once_for_the_last_seat_are_one_there_and_the_others_in_line() {
    let world = World::with(&["ada"], 1).await;
    let mut tasks = JoinSet::new();
    for number in 0..50 {
        let store = world.store.clone();
        tasks.spawn(async move {
            let (name, email) = (format!("P{number}"), format!("p{number}@x.org"));
            store.take_free_or_wait(&name, &email).await.unwrap()
        });
    }
    let all = tasks.join_all().await;
    let sitting = all
        .iter()
        .filter(|seated| matches!(seated, Seated::Seat(_)));
    assert_eq!(sitting.count(), 1);
    let line = world.store.waiting();
    assert_eq!(line.len(), 49);
    assert!(line.is_sorted_by_key(|entry| (entry.at, entry.id)));
    let mut places: Vec<usize> = all
        .into_iter()
        .filter_map(|seated| match seated {
            Seated::Waits(token) => place(&world.store, &token),
            Seated::Seat(_) => None,
        })
        .collect();
    places.sort_unstable();
    assert_eq!(places, (1..=49).collect::<Vec<_>>());
    assert_eq!(world.reopened().store.waiting(), line);
}

#[tokio::test]
async fn a_free_seat_goes_to_who_waits_longest_and_to_nobody_who_comes_later() {
    let world = World::with(&["ada"], 1).await;
    let store = &world.store;
    store.take_free("First", "1@x.org").await.unwrap();
    let second = waits(store.take_free_or_wait("Second", "2@x.org").await.unwrap());
    let third = waits(store.take_free_or_wait("Third", "3@x.org").await.unwrap());
    assert!(matches!(
        store.take_free_or_wait("Again", "2@x.org").await,
        Err(TakeError::EmailKnown)
    ));
    store.release(&seat("spare0"), Actor::System).await.unwrap();
    assert_eq!(store.standing(&second), Some(Standing::Has(seat("spare0"))));
    assert_eq!(store.seat(&seat("spare0")).unwrap().display_name, "Second");
    assert_eq!(place(store, &third), Some(1));
    assert!(matches!(
        store.take_free("Later", "9@x.org").await,
        Err(TakeError::NoneFree)
    ));
    // A seat that is added goes to the next; a listed person's seat stays theirs.
    store.sync_seats(specs(&["ada", "bob"], 2)).await.unwrap();
    assert_eq!(store.standing(&third), Some(Standing::Has(seat("spare1"))));
    assert!(store.seat(&seat("bob")).unwrap().taken.is_none());
    // Given back, the seat is not theirs any more.
    store.release(&seat("spare1"), Actor::System).await.unwrap();
    assert_eq!(store.standing(&third), None);
    assert_eq!(
        store.standing(&second.replace('1', "2")),
        None,
        "a made-up place"
    );
    let reopened = world.reopened();
    assert_eq!(
        reopened.store.standing(&second),
        Some(Standing::Has(seat("spare0")))
    );
}

#[tokio::test]
async fn a_facilitator_gives_the_seat_of_somebody_who_has_not_come() {
    let world = World::with(&["ada", "bob"], 0).await;
    let store = &world.store;
    let link = store.link_token(&seat("ada")).unwrap();
    let token = waits(store.take_free_or_wait("Zoë", "z@x.org").await.unwrap());
    let other = waits(store.take_free_or_wait("Yan", "y@x.org").await.unwrap());
    let (first, last) = (store.waiting()[0].id, store.waiting()[1].id);
    let by = Actor::Facilitator("Grace".to_owned());
    store.take_listed(&seat("bob")).await.unwrap();
    assert!(matches!(
        store.give_seat(first, &seat("bob"), by.clone()).await,
        Err(TakeError::Taken)
    ));
    let record = store
        .give_seat(first, &seat("ada"), by.clone())
        .await
        .unwrap();
    assert_eq!(record.display_name, "Zoë");
    assert_eq!(store.standing(&token), Some(Standing::Has(seat("ada"))));
    assert_eq!(
        store.seat_for_link(&link),
        None,
        "the absent person's link has ended"
    );
    assert!(
        store
            .give_seat(first, &seat("ada"), by.clone())
            .await
            .is_err()
    );
    store.stop_waiting(last, by).await.unwrap();
    assert_eq!(store.standing(&other), None);
    assert!(store.waiting().is_empty());
}
