//! The seat page: databases, another device, who looks in.

use arena_store::Principal;
use serde_json::json;

use crate::world::{World, seat};

#[tokio::test]
async fn the_databases_of_a_seat_are_shown_to_who_sits_there_and_to_nobody_else() {
    let world = World::new().await;
    world.join("ada").await;
    world.join("bob").await;
    world.solve("ada", "crud-2").await;
    let page = world.get("/seat").participant("ada").await_page().await;
    for line in [
        "mongodb://ada:secret-of-ada@127.0.0.1:27017/ada?directConnection=true",
        "mongosh &#39;mongodb://ada:secret-of-ada@",
        "postgresql://ada:secret-of-ada@127.0.0.1:5432/ada",
        "jdbc:postgresql://127.0.0.1:5432/ada?user=ada&#38;password=secret-of-ada",
        "psql &#39;postgresql://ada:secret-of-ada@",
        "data-exercise=\"crud-2\" data-solved=\"true\"",
        "data-exercise=\"crud-1\" data-solved=\"false\"",
    ] {
        assert!(page.body.contains(line), "{line} in {}", page.body);
    }
    assert!(!page.body.contains("secret-of-bob"));
    for ask in [
        world.get("/seat").participant("bob"),
        world.get("/seat").facilitator(),
        world.get("/seat"),
        world
            .get("/seat")
            .header("x-arena-principal", "visitor:ada:Grace"),
        world.get("/admin").facilitator(),
        world.get("/participants").participant("bob"),
        world.get("/_arena/state").participant("ada"),
        world
            .get("/_arena/state")
            .surface("seat")
            .participant("ada"),
        world.get("/api/participants").facilitator(),
        world.get(&world.link("ada")),
    ] {
        let reply = ask.send().await;
        assert!(!reply.body.contains("secret-of-ada"), "{}", reply.body);
    }
}

#[tokio::test]
async fn another_device_comes_to_the_seat_by_a_code_once() {
    let world = World::new().await;
    world.join("ada").await;
    let csrf = world
        .get("/seat")
        .participant("ada")
        .await_page()
        .await
        .csrf();
    let form = [("csrf", csrf.as_str())];
    world.post("/seat/device", &form).send().await.assert(401);
    world
        .post("/seat/device", &form)
        .facilitator()
        .send()
        .await
        .assert(403);
    let forged = world
        .post("/seat/device", &[("csrf", "x")])
        .participant("ada");
    forged.send().await.assert(403);
    let page = world
        .post("/seat/device", &form)
        .participant("ada")
        .await_page()
        .await;
    assert!(page.body.contains("data:image/svg+xml;base64,"));
    let (_, rest) = page.body.split_once("another device: </span>").unwrap();
    let code = &rest[..6];
    assert_ne!(code, world.store.event_code());
    // Scanned: the code is in the field, and nothing happens before the button.
    let scanned = world.get(&format!("/?code={code}")).await_page().await;
    assert!(scanned.body.contains(&format!("value=\"{code}\"")));
    let typed = code.to_lowercase();
    let entered = world.post("/join", &[("code", &typed)]).send().await;
    assert_eq!(entered.assert(303).header("location"), "/seat");
    let secret = entered
        .header("set-cookie")
        .split([';', '='])
        .nth(1)
        .unwrap();
    let session = world.store.session(secret, "arena.localhost").unwrap();
    assert_eq!(session.principal, Principal::Participant(seat("ada")));
    let again = world.post("/join", &[("code", &typed)]).send().await;
    assert!(again.assert(403).body.contains("works once"));
    // It is a way to one seat, not into the event.
    let page = world
        .post("/seat/device", &form)
        .participant("ada")
        .await_page()
        .await;
    let (_, rest) = page.body.split_once("another device: </span>").unwrap();
    let code = &rest[..6];
    let fields = [("code", code), ("name", "Eve"), ("email", "eve@x.org")];
    world.post("/join/seat", &fields).send().await.assert(403);
}

#[tokio::test]
async fn a_facilitator_looks_in_by_a_fresh_host_and_the_participant_is_told() {
    let world = World::new().await;
    world.join("ada").await;
    let principal = Principal::Facilitator("Gráinne".to_owned());
    let secret = world
        .store
        .create_session(principal, "arena.localhost")
        .await
        .unwrap();
    let session = world
        .store
        .session(secret.reveal(), "arena.localhost")
        .unwrap();
    let as_grainne = |ask: crate::world::Ask| {
        ask.header("x-arena-principal", "facilitator:Gr%C3%A1inne")
            .header("x-arena-session", &session.id)
    };
    let csrf = as_grainne(world.get("/admin")).await_page().await.csrf();
    let (look, form) = ("/admin/seats/ada/look", [("csrf", csrf.as_str())]);
    world
        .post(look, &form)
        .participant("ada")
        .send()
        .await
        .assert(403);
    as_grainne(world.post(look, &[("csrf", "x")]))
        .send()
        .await
        .assert(403);
    assert!(world.store.visits_of(&seat("ada")).is_empty());
    let mut told = world
        .get("/_arena/events")
        .participant("ada")
        .stream()
        .await;
    let page = as_grainne(world.post(look, &form)).await_page().await;
    let visit = world.store.visits_of(&seat("ada")).pop().unwrap();
    let host = format!("http://{}--code.arena.localhost:8080/", visit.label);
    assert!(page.body.contains(&format!("url={host}")), "{}", page.body);
    assert!(
        page.body
            .contains(&format!("http://{}.arena.localhost:8080/app/", visit.label))
    );
    let (_, state) = told
        .find("seat", |seat| seat["visitors"][0].is_object())
        .await;
    assert_eq!(state["visitors"][0]["name"], "Gráinne");
    let seat_page = world.get("/seat").participant("ada").await_page().await;
    assert!(seat_page.body.contains("Gráinne is looking into your seat"));
    assert!(
        !seat_page.body.contains(&visit.label),
        "the host is the visitor's alone"
    );
    let entry = &world.store.audit_log(1)[0];
    assert_eq!(
        (entry.action.as_str(), entry.subject.as_str()),
        ("look_in", "ada")
    );
}

#[tokio::test]
async fn a_visitor_is_nobody_to_the_portal() {
    let world = World::new().await;
    world.join("ada").await;
    let visitor = |ask: crate::world::Ask| ask.header("x-arena-principal", "visitor:ada:Grace");
    for surface in ["editor", "seat", "portal"] {
        let state = visitor(world.get("/_arena/state").surface(surface))
            .send()
            .await;
        state.assert(403);
        let check = serde_json::json!({"exercise": "crud-1"});
        let ask = world.json("/_arena/check", &check).surface(surface);
        visitor(ask).send().await.assert(403);
    }
    visitor(world.get("/admin")).send().await.assert(403);
    let look = world.post("/admin/seats/ada/look", &[("csrf", "x")]);
    visitor(look).send().await.assert(403);
    assert!(world.store.visits_of(&seat("ada")).is_empty());
}

#[tokio::test]
async fn an_exercise_without_its_database_is_greyed_with_the_reason_and_counts_nowhere() {
    let world = World::new().await;
    world.join("ada").await;
    let page = world.get("/seat").participant("ada").await_page().await;
    let line = |slug: &str| {
        let start = format!("<li data-exercise=\"{slug}\"");
        let (_, rest) = page.body.split_once(&start).unwrap();
        rest.split_once("</li>").unwrap().0.to_owned()
    };
    assert!(line("search-1").contains("class=\"missing\""));
    assert!(line("search-1").contains("needs Atlas Search, which this event does not have"));
    assert!(!line("sql-1").contains("missing") && !line("sql-1").contains("needs"));
    // The totals are of what can be solved.
    assert!(page.body.contains("data-total=\"3\""));
    let ask = |slug: &str| {
        world
            .json("/_arena/check", &json!({ "exercise": slug }))
            .participant("ada")
    };
    let refused = ask("search-1").send().await.assert(404).json();
    assert_eq!(refused["code"], "exercise_unknown");
    let pending = world.store.pending_orders();
    assert!(pending.iter().all(|order| order.kind.exercise().is_none()));
    ask("sql-1").send().await.assert(202);
    let state = world.get("/_arena/state").participant("ada").send().await;
    let state = state.assert(200).json();
    assert!(state["exercises"].get("search-1").is_none());
    assert!(state["exercises"].get("sql-1").is_some());
}
