//! A request for a sleeping editor wakes it and waits.

use std::time::{Duration, Instant};

use arena_gateway::Limits;
use arena_store::{EditorStatus, OrderKind};
use tokio::io::AsyncWriteExt;

use crate::world::{ADA_EDITOR, World, seat, until, within};

const PAGE: &str =
    "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";

async fn asleep(limits: Limits) -> (World, String) {
    let world = World::start_with(limits).await;
    world.set_editor("ada", EditorStatus::Stopped).await;
    let cookie = world.cookie("ada", ADA_EDITOR).await;
    (world, cookie)
}

fn wakes(world: &World) -> usize {
    let wake = OrderKind::WakeEditor { seat: seat("ada") };
    world
        .store
        .open_orders()
        .iter()
        .filter(|order| order.kind == wake)
        .count()
}

#[tokio::test]
async fn many_waiters_order_one_wake_and_go_on_together() {
    let (world, cookie) = asleep(Limits::default()).await;
    let world = std::sync::Arc::new(world);
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let (world, cookie) = (world.clone(), cookie.clone());
            tokio::spawn(async move { world.get(ADA_EDITOR, "/api", &cookie).await.status })
        })
        .collect();
    until("a wake is ordered", || wakes(&world) == 1).await;
    world.set_editor("ada", EditorStatus::Starting).await;
    assert!(
        world.seen.all().is_empty(),
        "nothing is forwarded to a sleeping seat"
    );
    world.set_editor("ada", EditorStatus::Ready).await;
    for waiter in waiters {
        assert_eq!(within(waiter).await.unwrap(), 200);
    }
    assert_eq!(wakes(&world), 1);
}

#[tokio::test]
async fn a_browser_gets_a_page_that_goes_on_by_itself() {
    let limits = Limits {
        wake_page_after: Duration::from_millis(50),
        ..Limits::default()
    };
    let (world, cookie) = asleep(limits).await;
    world
        .set_editor("ada", EditorStatus::Queued { position: 3 })
        .await;
    let page = world.get(ADA_EDITOR, "/", &format!("{PAGE}{cookie}")).await;
    assert_eq!(page.status, 503);
    assert!(
        page.body.contains("http-equiv=\"refresh\"") && page.body.contains("number 3 in line"),
        "{}",
        page.body
    );
    world.set_editor("ada", EditorStatus::Ready).await;
    assert_eq!(
        world
            .get(ADA_EDITOR, "/", &format!("{PAGE}{cookie}"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_program_waits_and_is_told_when_to_ask_again() {
    let (world, cookie) = asleep(Limits {
        wake_wait: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let answer = world.get(ADA_EDITOR, "/api", &cookie).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("2"))
    );
    assert!(answer.body.contains("\"code\":\"waking\""));
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_to_another() {
    let (world, cookie) = asleep(Limits {
        wake_waiters_max: 1,
        ..Limits::default()
    })
    .await;
    let request = format!("GET /api HTTP/1.1\r\nHost: {ADA_EDITOR}\r\n{cookie}\r\n");
    let mut first = world.connect().await;
    first.write_all(request.as_bytes()).await.unwrap();
    until("a wake is ordered", || wakes(&world) == 1).await;
    let second = world.get(ADA_EDITOR, "/api", &cookie).await;
    assert!(
        second.body.contains("\"code\":\"crowded\""),
        "one may wait: {}",
        second.body
    );
    drop(first);
    // Asks until the place is free, then waits until the editor is awake.
    let started = Instant::now();
    loop {
        let mut next = world.connect().await;
        next.write_all(request.as_bytes()).await.unwrap();
        let answer = crate::world::Answer::read(&mut next);
        match tokio::time::timeout(Duration::from_millis(100), answer).await {
            Ok(answer) => assert_eq!(answer.status, 503),
            Err(_) => break,
        }
        assert!(
            started.elapsed() < crate::world::LIMIT,
            "the place was never given back"
        );
    }
}

#[tokio::test]
async fn a_failed_wake_says_why_and_the_next_request_tries_again() {
    let (world, cookie) = asleep(Limits::default()).await;
    let world = std::sync::Arc::new(world);
    let waiter = tokio::spawn({
        let (world, cookie) = (world.clone(), cookie.clone());
        async move { world.get(ADA_EDITOR, "/api", &cookie).await }
    });
    until("a wake is ordered", || wakes(&world) == 1).await;
    let order = world.store.open_orders()[0].id;
    world
        .store
        .finish_order(order, Err("no memory left".into()))
        .await
        .unwrap();
    world.set_editor("ada", EditorStatus::Failed).await;
    let answer = within(waiter).await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("no memory left"), "{}", answer.body);
    assert_eq!(wakes(&world), 0);

    let again = tokio::spawn({
        let (world, cookie) = (world.clone(), cookie.clone());
        async move { world.get(ADA_EDITOR, "/api", &cookie).await.status }
    });
    until("another wake is ordered", || wakes(&world) == 1).await;
    world.set_editor("ada", EditorStatus::Ready).await;
    assert_eq!(within(again).await.unwrap(), 200);
}
