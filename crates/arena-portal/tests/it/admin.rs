//! Facilitators: coming in, and everything they do.

use arena_store::{Actor, OrderKind, Principal};

use crate::world::{World, attempt, seat};

#[tokio::test]
async fn a_facilitator_link_asks_a_name_and_works_once() {
    let world = World::new().await;
    let link = format!(
        "/facilitator/{}",
        world.store.create_facilitator_link().await.unwrap()
    );
    let page = world.get(&link).await_page().await;
    world
        .post(&link, &[("csrf", &page.csrf()), ("name", "\u{202e}  ")])
        .send()
        .await
        .assert(400);
    world
        .post(&link, &[("csrf", "x"), ("name", "Eve")])
        .send()
        .await
        .assert(403);
    let entered = world
        .post(&link, &[("csrf", &page.csrf()), ("name", "Gráinne")])
        .send()
        .await;
    assert_eq!(entered.header("location"), "/admin");
    let secret = entered
        .header("set-cookie")
        .split([';', '='])
        .nth(1)
        .unwrap();
    let session = world.store.session(secret, "arena.localhost").unwrap();
    assert_eq!(
        session.principal,
        Principal::Facilitator("Gráinne".to_owned())
    );
    assert!(world.get(&link).send().await.body.contains("works once"));
    world
        .post(&link, &[("csrf", &page.csrf()), ("name", "Eve")])
        .send()
        .await
        .assert(404);
}

#[tokio::test]
async fn the_room_is_for_facilitators_on_the_portals_host_only() {
    let world = World::new().await;
    let paths = [
        "/admin",
        "/admin/seats/ada/restore",
        "/api/admin/leaderboard/download",
        "/api/admin/leaderboard/status",
        "/backend/api/admin/prizes/close-date",
    ];
    for path in paths {
        world.get(path).send().await.assert(403);
        world.get(path).participant("ada").send().await.assert(403);
        world
            .get(path)
            .header("x-arena-principal", "facilitator")
            .send()
            .await
            .assert(403);
        world.get(path).facilitator().send().await.assert(200);
    }
    for (path, body) in [
        (
            "/api/admin/leaderboard/exclude",
            serde_json::json!({"identifier": "ada", "exclude": true}),
        ),
        (
            "/api/admin/prizes/close-date",
            serde_json::json!({"close_on": "2026-01-01T00:00:00Z"}),
        ),
        (
            "/api/admin/database/restore",
            serde_json::json!({"user_ids": ["ada"]}),
        ),
    ] {
        world
            .json(path, &body)
            .participant("ada")
            .send()
            .await
            .assert(403);
        world.json(path, &body).send().await.assert(403);
    }
    assert!(world.store.pending_orders().is_empty() && world.store.close_on().is_none());
    world
        .post("/admin/board", &[("action", "freeze")])
        .participant("ada")
        .send()
        .await
        .assert(403);
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]
async fn every_action_needs_its_token_and_is_written_down() {
    let world = World::new().await;
    world.join("ada").await;
    for order in world.store.pending_orders() {
        world
            .store
            .finish_order(order.id, Ok(String::new()))
            .await
            .unwrap();
    }
    let page = world.get("/admin").facilitator().await_page().await;
    let csrf = page.csrf();
    let act = |path: &str, fields: &[(&str, &str)]| world.post(path, fields).facilitator();
    act("/admin/seats/ada/hide", &[("csrf", "forged")])
        .send()
        .await
        .assert(403);
    // Another session's token is no token.
    let other = world
        .get("/leaderboard")
        .participant("ada")
        .await_page()
        .await
        .csrf();
    act("/admin/seats/ada/hide", &[("csrf", &other)])
        .send()
        .await
        .assert(403);
    assert!(!world.store.seat(&seat("ada")).unwrap().excluded);

    let hidden = act("/admin/seats/ada/hide", &[("csrf", &csrf)])
        .send()
        .await;
    let back = world
        .get(hidden.header("location"))
        .facilitator()
        .await_page()
        .await;
    assert!(back.body.contains("Ada is hidden from the leaderboard."));
    act("/admin/seats/ada/show", &[("csrf", &csrf)])
        .send()
        .await
        .assert(303);
    act("/admin/board", &[("csrf", &csrf), ("action", "freeze")])
        .send()
        .await
        .assert(303);
    assert!(world.store.close_on().is_some());
    act("/admin/board", &[("csrf", &csrf), ("action", "unfreeze")])
        .send()
        .await
        .assert(303);
    act(
        "/admin/board",
        &[("csrf", &csrf), ("action", "freeze_in"), ("minutes", "15")],
    )
    .send()
    .await
    .assert(303);
    assert!(world.store.close_on().unwrap() > jiff::Timestamp::now());
    for minutes in ["-1", "", "1e9", "99999999999999999999"] {
        act(
            "/admin/board",
            &[
                ("csrf", &csrf),
                ("action", "freeze_in"),
                ("minutes", minutes),
            ],
        )
        .send()
        .await
        .assert(400);
    }

    let ask = world
        .get("/admin/seats/ada/restore")
        .facilitator()
        .await_page()
        .await;
    assert!(
        ask.body.contains("Restore the database of Ada?")
            && world.store.pending_orders().is_empty()
    );
    act("/admin/seats/ada/restore", &[("csrf", &ask.csrf())])
        .send()
        .await
        .assert(303);
    act("/admin/seats/ada/restart", &[("csrf", &csrf)])
        .send()
        .await
        .assert(303);
    let orders: Vec<_> = world
        .store
        .pending_orders()
        .into_iter()
        .map(|order| (order.kind, order.by))
        .collect();
    assert_eq!(
        orders[0],
        (
            OrderKind::RestoreDatabase { seat: seat("ada") },
            Actor::Facilitator("Gráinne".to_owned())
        )
    );
    assert!(matches!(orders[1].0, OrderKind::RestartApp { .. }));
    act("/admin/seats/ada/release", &[("csrf", &csrf)])
        .send()
        .await
        .assert(303);
    assert!(world.store.seat(&seat("ada")).unwrap().taken.is_none());

    let log: Vec<_> = world
        .store
        .audit_log(20)
        .into_iter()
        .map(|entry| entry.action)
        .collect();
    let wanted = [
        "release",
        "restart_app",
        "restore_database",
        "freeze_board",
        "freeze_board",
        "freeze_board",
        "show",
        "hide",
        "join",
    ];
    assert_eq!(log, wanted);
}

#[tokio::test]
async fn the_room_says_what_came_of_an_order() {
    let world = World::new().await;
    let mut room = world.get("/_arena/events").facilitator().stream().await;
    let restore = OrderKind::RestoreDatabase { seat: seat("ada") };
    let order = world
        .store
        .place_order(restore, Actor::System)
        .await
        .unwrap();
    room.find("room", |tiles| tiles[0]["message"] == "restore database…")
        .await;
    world
        .store
        .finish_order(order, Err("the server is gone".to_owned()))
        .await
        .unwrap();
    room.find("room", |tiles| {
        tiles[0]["message"] == "restore database failed: the server is gone"
    })
    .await;
}

#[tokio::test]
async fn what_a_restore_replaced_can_be_brought_back() {
    let world = World::new().await;
    let mut room = world.get("/_arena/events").facilitator().stream().await;
    let restore = || OrderKind::RestoreDatabase { seat: seat("ada") };
    for outcome in [
        Err("the server is gone".to_owned()),
        Ok("restored".to_owned()),
    ] {
        let offered = outcome.is_ok();
        let order = world.store.place_order(restore(), Actor::System).await;
        world
            .store
            .finish_order(order.unwrap(), outcome)
            .await
            .unwrap();
        room.find("room", |tiles| tiles[0]["restored"] == offered)
            .await;
    }
    let ask = world
        .get("/admin/seats/ada/undo")
        .facilitator()
        .await_page()
        .await;
    assert!(ask.body.contains("before it was restored?"), "{}", ask.body);
    assert!(world.store.pending_orders().is_empty());
    world
        .post("/admin/seats/ada/undo", &[("csrf", &ask.csrf())])
        .facilitator()
        .send()
        .await
        .assert(303);
    let orders = world.store.pending_orders();
    assert_eq!(
        orders[0].kind,
        OrderKind::BringBackDatabase { seat: seat("ada") }
    );
}

#[tokio::test]
async fn the_room_shows_progress_trouble_and_links() {
    let world = World::new().await;
    world.join("ada").await;
    world.solve("ada", "crud-1").await;
    world
        .store
        .record_attempt(attempt("ada", "crud-2", false))
        .await
        .unwrap();
    let page = world.get("/admin").facilitator().await_page().await;
    assert!(page.body.contains("Exercise crud-2: expected 10 stays"));
    assert!(page.body.contains("<span data-field=\"solved\">1</span>/3"));
    assert!(page.body.contains(&world.link("ada")) && page.body.contains(&world.link("bob")));
    assert!(page.body.contains(&world.store.event_code()));
    assert!(
        !page.body.contains("@example.com"),
        "e-mails are in the download only"
    );
    let page = world.get("/participants").await_page().await;
    assert!(
        page.body.contains("Ada")
            && !page.body.contains("@example.com")
            && !page.body.contains("--code")
    );
    let own = world
        .get("/participants")
        .participant("ada")
        .await_page()
        .await;
    assert!(own.body.contains("http://ada--code.arena.localhost:8080/"));
}
