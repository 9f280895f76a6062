//! Names, messages and requests that mean harm.

use http::Method;
use serde_json::json;

use crate::world::{World, attempt, seat};

const NASTY: &str = "<img src=x onerror=alert(1)>\"'`{{7*7}}&lt;";

#[tokio::test]
async fn html_in_names_and_messages_is_text_everywhere() {
    let world = World::new().await;
    let code = world.store.event_code();
    world
        .post(
            "/join/seat",
            &[("code", &code), ("name", NASTY), ("email", "x@x.org")],
        )
        .send()
        .await
        .assert(303);
    let mut bad = attempt("free-0", "crud-1", false);
    bad.checks[0].message = format!("</script>{NASTY}\n\ndata: x{}", "A".repeat(10_000));
    world.store.record_attempt(bad).await.unwrap();
    let mut pass = attempt("free-0", "crud-2", true);
    pass.checks[0].message = NASTY.to_owned();
    world.store.record_attempt(pass).await.unwrap();
    world
        .store
        .record_attempt(attempt("free-0", "crud-1", false))
        .await
        .unwrap();
    world
        .until(|world| world.get("/api/results"), "free-0")
        .await;
    let link = world.link("free-0");
    for page in [
        world.get("/leaderboard").participant("free-0"),
        world.get("/participants"),
        world.get("/admin").facilitator(),
        world.get("/seat").participant("free-0"),
        world.get("/admin/seats/free-0/release").facilitator(),
        world.get(&link),
        world
            .get("/admin?done=hide&who=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
            .facilitator(),
        world.get("/?code=%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E"),
    ] {
        let page = page.await_page().await;
        assert!(!page.body.contains("<img"), "{}", page.body);
        assert!(
            page.body.contains("img src=x")
                || page.body.contains("&#60;img")
                || page.body.contains("&lt;img")
        );
    }
    let mut stream = world
        .get("/_arena/events")
        .participant("free-0")
        .header("last-event-id", "0")
        .stream()
        .await;
    let (_, exercise) = stream
        .find("exercise", |data| data["exercise"] == json!("crud-2"))
        .await;
    assert_eq!(exercise["checks"][0]["message"], json!(NASTY));
}

#[tokio::test]
async fn long_and_turned_names_are_refused_or_straightened() {
    let world = World::new().await;
    let code = world.store.event_code();
    let long = "x".repeat(10_000);
    world
        .post(
            "/join/seat",
            &[("code", &code), ("name", &long), ("email", "x@x.org")],
        )
        .send()
        .await
        .assert(400);
    world
        .post(
            "/join/seat",
            &[("code", &code), ("name", "Eve"), ("email", &long)],
        )
        .send()
        .await
        .assert(400);
    world
        .post(
            "/join/seat",
            &[
                ("code", &code),
                ("name", "gnp.\u{202e}exe"),
                ("email", "x@x.org"),
            ],
        )
        .send()
        .await
        .assert(303);
    assert_eq!(
        world.store.seat(&seat("free-0")).unwrap().display_name,
        "gnp.exe"
    );
    let huge = "x".repeat(100_000);
    assert_eq!(
        world.post("/join", &[("code", &huge)]).send().await.status,
        413
    );
}

#[tokio::test]
async fn other_pages_change_nothing() {
    let world = World::new().await;
    let page = world.get(&world.link("ada")).await_page().await;
    let body = [("csrf", page.csrf())];
    for (name, value) in [
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "cross-site"),
        ("origin", "http://ada.arena.localhost:8080"),
        ("origin", "null"),
    ] {
        let ask = world
            .ask(Method::POST, &world.link("ada"))
            .header(name, value);
        let reply = ask
            .header("content-type", "application/x-www-form-urlencoded")
            .send()
            .await;
        assert_eq!(
            reply.assert(403).json()["code"],
            "foreign_origin",
            "{name}: {value}"
        );
    }
    assert!(world.store.seat(&seat("ada")).unwrap().taken.is_none());
    // The control: the same request from the page itself works.
    world
        .post(&world.link("ada"), &[("csrf", &body[0].1)])
        .send()
        .await
        .assert(303);
}

#[tokio::test]
async fn without_the_gateways_word_nothing_is_answered() {
    let world = World::new().await;
    for surface in ["", "admin", "portal2"] {
        let reply = world
            .get("/admin")
            .facilitator()
            .surface(surface)
            .send()
            .await;
        reply.assert(400);
    }
    for surface in ["seat", "editor"] {
        world
            .get("/admin")
            .surface(surface)
            .facilitator()
            .send()
            .await
            .assert(404);
        world
            .get("/api/participants")
            .surface(surface)
            .send()
            .await
            .assert(404);
        world
            .get("/_arena/state")
            .surface(surface)
            .participant("ada")
            .send()
            .await
            .assert(200);
    }
}

#[tokio::test]
async fn a_check_needs_json_so_that_no_form_can_place_it() {
    let world = World::new().await;
    let form = world
        .post("/_arena/check", &[("exercise", "crud-1")])
        .participant("ada")
        .send()
        .await;
    assert!(form.status.is_client_error());
    assert!(world.store.pending_orders().is_empty());
}

#[tokio::test]
async fn fifty_at_once_for_the_last_two_seats_are_two_there_and_the_others_in_line() {
    let world = std::sync::Arc::new(World::new().await);
    let code = world.store.event_code();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50 {
        let (world, code) = (world.clone(), code.clone());
        tasks.spawn(async move {
            let email = format!("p{number}@x.org");
            world
                .post(
                    "/join/seat",
                    &[("code", &code), ("name", "P"), ("email", &email)],
                )
                .send()
                .await
                .assert(303)
                .header("location")
                .to_owned()
        });
    }
    let goes_to = tasks.join_all().await;
    assert_eq!(goes_to.iter().filter(|to| **to == "/seat").count(), 2);
    let line: Vec<_> = goes_to.iter().filter(|to| **to != "/seat").collect();
    assert_eq!(line.len(), 48);
    let mut places = Vec::new();
    for path in line {
        let place = world.get(&format!("{path}/place")).send().await.json();
        places.push(place["place"].as_u64().unwrap());
    }
    places.sort_unstable();
    assert_eq!(places, (1..=48).collect::<Vec<_>>());
}
