//! What the room shows of a seat's database, and raising its quota.

use arena_store::{
    Actor, DatabaseStatus, DatabaseUse, OrderKind, PostgresRoom, PostgresUse, SeatPhase, SeatStatus,
};

use crate::world::{World, seat};

fn status(megabytes: u64) -> SeatStatus {
    SeatStatus {
        phase: SeatPhase::Ready,
        database: DatabaseStatus::Ready,
        database_use: Some(DatabaseUse {
            megabytes,
            megabytes_max: 256,
            documents: 5555,
            documents_max: 1_000_000,
            connections: 3,
            refused: 2,
            slow: vec!["1.2 s · ada.things · find filter: { <b>: ? }".to_owned()],
            ..DatabaseUse::default()
        }),
        ..SeatStatus::default()
    }
}

#[tokio::test]
async fn the_room_shows_what_a_seat_takes_and_slow_statements_as_text() {
    let world = World::new().await;
    world
        .store
        .set_status(&seat("ada"), status(12))
        .await
        .unwrap();
    let page = world.get("/admin").facilitator().await_page().await;
    assert!(
        page.body
            .contains("12 of 256 MB, 5555 documents, 3 connections, 2 refused")
    );
    assert!(page.body.contains("ada.things"));
    assert!(
        !page.body.contains("{ <b>:"),
        "a field's name is not markup"
    );
    let row =
        |body: &str| body.split("data-seat=\"ada\"").nth(1).unwrap_or_default()[..120].to_owned();
    assert!(
        row(&page.body).contains("data-trouble=\"false\""),
        "{}",
        row(&page.body)
    );
    // Whose PostgreSQL takes no more writes needs a look, and the line says why.
    let mut full = status(12);
    full.postgres_use = Some(PostgresUse {
        megabytes: 9,
        megabytes_max: 8,
        connections: 1,
        room: PostgresRoom::Full,
        ended: 2,
        last_ended: Some("too many locks".to_owned()),
    });
    world.store.set_status(&seat("ada"), full).await.unwrap();
    let page = world.get("/admin").facilitator().await_page().await;
    let line = "PostgreSQL: 9 of 8 MB, 1 connection, full: only reading and deleting, 2 sessions ended (too many locks)";
    assert!(page.body.contains(line), "{}", page.body);
    assert!(
        row(&page.body).contains("data-trouble=\"true\""),
        "{}",
        row(&page.body)
    );
    // Nearly full needs a look.
    world
        .store
        .set_status(&seat("ada"), status(240))
        .await
        .unwrap();
    let page = world.get("/admin").facilitator().await_page().await;
    assert!(
        row(&page.body).contains("data-trouble=\"true\""),
        "{}",
        row(&page.body)
    );
}

#[tokio::test]
async fn only_a_facilitator_raises_a_quota_and_it_is_written_down() {
    let world = World::new().await;
    let csrf = world.get("/admin").facilitator().await_page().await.csrf();
    let raise = || world.post("/admin/seats/ada/quota", &[("csrf", csrf.as_str())]);
    raise().participant("ada").send().await.assert(403);
    assert!(world.store.pending_orders().is_empty());
    raise().facilitator().send().await.assert(303);
    let orders = world.store.pending_orders();
    assert_eq!(orders[0].kind, OrderKind::RaiseQuota { seat: seat("ada") });
    assert!(matches!(orders[0].by, Actor::Facilitator(_)));
    let log = world.store.audit_log(10);
    assert!(
        log.iter()
            .any(|entry| entry.action == "raise_quota" && entry.subject == "ada")
    );
    // Done, it counts; a restart of Arena finds the count.
    assert_eq!(world.store.times_done(&orders[0].kind), 0);
    world.store.start_order(orders[0].id).await.unwrap();
    world
        .store
        .finish_order(orders[0].id, Ok(String::new()))
        .await
        .unwrap();
    assert_eq!(world.store.times_done(&orders[0].kind), 1);
}
