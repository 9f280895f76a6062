//! The waiting list, as people and facilitators see it.

use arena_store::{Actor, TakeError};

use crate::world::{World, seat};

/// Takes both free seats, and then puts `name` on the waiting list; returns the path of their page.
async fn wait(world: &World, name: &str) -> String {
    let code = world.store.event_code();
    for number in 0..2 {
        let taken = world
            .store
            .take_free("P", &format!("free{number}@x.org"))
            .await;
        assert!(taken.is_ok() || matches!(taken, Err(TakeError::EmailKnown)));
    }
    let email = format!("{}@x.org", name.len());
    let reply = world
        .post(
            "/join/seat",
            &[("code", &code), ("name", name), ("email", &email)],
        )
        .send()
        .await;
    reply.assert(303).header("location").to_owned()
}

#[tokio::test]
async fn who_finds_no_seat_waits_and_goes_on_to_the_one_that_is_given_back() {
    let world = World::new().await;
    let code = world.store.event_code();
    let path = wait(&world, "Zoë").await;
    let page = world.get(&path).await_page().await;
    assert!(
        page.body.contains("You are number 1 in line.") && page.body.contains("<bdi>Zoë</bdi>")
    );
    let full = world.post("/join", &[("code", &code)]).await_page().await;
    assert!(full.body.contains("Put me on the waiting list"));
    world
        .post(
            "/join/seat",
            &[("code", &code), ("name", "Zoë"), ("email", "4@x.org")],
        )
        .send()
        .await
        .assert(409);
    let mut room = world.get("/_arena/events").facilitator().stream().await;
    world
        .store
        .release(&seat("free-1"), Actor::System)
        .await
        .unwrap();
    let (_, list) = room.find("waiting", |_| true).await;
    assert_eq!(list, serde_json::json!([]));
    let place = world.get(&format!("{path}/place")).send().await.json();
    assert_eq!(place, serde_json::json!({ "place": null }));
    let on = world.get(&path).send().await;
    assert_eq!(on.assert(303).header("location"), world.link("free-1"));
    let joined = world.join("free-1").await;
    assert_eq!(joined.header("location"), "/seat");
    // Their page is theirs alone, and ends with the seat.
    world.get("/waiting/1.AAAA").send().await.assert(404);
    world
        .store
        .release(&seat("free-1"), Actor::System)
        .await
        .unwrap();
    world.get(&path).send().await.assert(404);
}

#[tokio::test]
async fn facilitators_see_who_waits_give_a_seat_and_take_off_the_list() {
    let world = World::new().await;
    let (first, second) = (wait(&world, "Zoë").await, wait(&world, "<i>Yannick").await);
    let page = world.get("/admin").facilitator().await_page().await;
    assert!(page.body.contains("<bdi>Zoë</bdi>") && page.body.contains("/admin/waiting/1/give"));
    assert!(!page.body.contains("<i>Yannick"));
    let csrf = page.csrf();
    let give = [("csrf", csrf.as_str()), ("seat", "ada")];
    for (path, caller) in [
        ("/admin/waiting/1/give", "ada"),
        ("/admin/waiting/2/remove", "ada"),
    ] {
        let refused = world.post(path, &give).participant(caller).send().await;
        refused.assert(403);
        let forged = [("csrf", "x"), ("seat", "ada")];
        let refused = world.post(path, &forged).facilitator().send().await;
        refused.assert(403);
    }
    assert_eq!(world.store.waiting().len(), 2);
    let given = world
        .post("/admin/waiting/1/give", &give)
        .facilitator()
        .send()
        .await;
    assert_eq!(given.header("location"), "/admin?done=give");
    world
        .post("/admin/waiting/2/remove", &[("csrf", &csrf)])
        .facilitator()
        .send()
        .await
        .assert(303);
    assert_eq!(
        world.get(&first).send().await.header("location"),
        world.link("ada")
    );
    world.get(&second).send().await.assert(404);
    let log = world.store.audit_log(10);
    for action in ["give_seat", "stop_waiting"] {
        let entry = log.iter().find(|entry| entry.action == action).unwrap();
        assert_eq!(entry.by, Actor::Facilitator("Gráinne".to_owned()));
    }
}
