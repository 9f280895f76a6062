//! Coming in, and what one finds there.

use arena_store::{EditorStatus, OrderKind, Principal, SeatPhase, SeatStatus};

use crate::world::{World, seat};

fn cookie(reply: &crate::world::Reply) -> &str {
    reply
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .strip_prefix("arena_harbour=")
        .unwrap()
}

#[tokio::test]
async fn a_personal_link_is_one_click_and_comes_back_to_the_same_seat() {
    let world = World::new().await;
    let page = world.get(&world.link("ada")).await_page().await;
    assert!(
        page.body.contains("You are")
            && page.body.contains("<bdi>Ada</bdi>")
            && page.body.contains("Start")
    );
    assert!(
        world.store.seat(&seat("ada")).unwrap().taken.is_none(),
        "looking takes nothing"
    );
    assert!(
        world.store.pending_orders().is_empty(),
        "a preview wakes nothing"
    );
    world
        .get(&world.link("ada"))
        .header("sec-fetch-dest", "document")
        .send()
        .await;
    assert_eq!(
        world.store.pending_orders()[0].kind,
        OrderKind::WakeEditor { seat: seat("ada") }
    );

    let first = world.join("ada").await;
    assert_eq!(
        (first.status.as_u16(), first.header("location")),
        (303, "/seat")
    );
    let set = first.header("set-cookie");
    assert!(
        set.contains("; HttpOnly")
            && set.contains("; SameSite=Lax")
            && set.contains("; Path=/")
            && !set.contains("Domain")
    );
    let session = world
        .store
        .session(cookie(&first), "arena.localhost")
        .unwrap();
    assert_eq!(session.principal, Principal::Participant(seat("ada")));

    // On another device, later.
    let again = world.get(&world.link("ada")).await_page().await;
    assert!(again.body.contains("Welcome back") && again.body.contains("Continue"));
    let second = world.join("ada").await;
    assert_ne!(cookie(&first), cookie(&second));
    assert_eq!(
        world
            .store
            .session(cookie(&second), "arena.localhost")
            .unwrap()
            .principal,
        session.principal
    );
    let back = world
        .get(&world.link("ada"))
        .participant("ada")
        .send()
        .await;
    assert_eq!(back.header("location"), "/seat");
}

#[tokio::test]
async fn a_link_that_ended_or_never_was_gets_a_friendly_page() {
    let world = World::new().await;
    let old = world.link("ada");
    world.join("ada").await;
    world
        .store
        .release(&seat("ada"), arena_store::Actor::System)
        .await
        .unwrap();
    for link in [old.as_str(), "/join/guess", "/join/%00%ff"] {
        let reply = world.get(link).send().await;
        assert!(reply.status.is_client_error());
        assert!(
            reply.body.contains("<html") || reply.status == 400,
            "{}",
            reply.body
        );
    }
    assert!(
        world
            .get(&old)
            .send()
            .await
            .body
            .contains("Ask a facilitator")
    );
    let api = world.ask(http::Method::GET, &old).send().await;
    assert_eq!(
        (api.header("content-type"), &api.json()["code"]),
        ("application/problem+json", &"link_invalid".into())
    );
    // A free seat has no link before somebody sits there.
    world.get(&world.link("free-0")).send().await.assert(404);
}

#[tokio::test]
async fn the_code_lets_people_choose_their_name_or_a_free_seat() {
    let world = World::new().await;
    let code = world.store.event_code();
    let spaced = format!(" {}-{} ", &code[..3].to_lowercase(), &code[3..]);
    let page = world.post("/join", &[("code", &spaced)]).await_page().await;
    assert!(
        page.body.contains("<option value=\"ada\">Ada</option>")
            && page.body.contains("Free seats: 2")
    );
    let ada = world
        .post("/join/seat", &[("code", &code), ("seat", "ada")])
        .send()
        .await;
    assert_eq!(ada.header("location"), "/seat");

    // Another who says to be Ada gets no seat, and is told what to do.
    let other = world
        .post("/join/seat", &[("code", &code), ("seat", "ada")])
        .send()
        .await;
    other.assert(409);
    assert!(
        other.body.contains("open your personal link") && other.header("set-cookie").is_empty()
    );
    let other = world
        .post(
            "/join/seat",
            &[
                ("code", &code),
                ("name", "Ada"),
                ("email", "ADA@example.com"),
            ],
        )
        .send()
        .await;
    other.assert(409);

    let walk_in = world
        .post(
            "/join/seat",
            &[("code", &code), ("name", " Zoë "), ("email", "z@x.org")],
        )
        .send()
        .await;
    assert_eq!(walk_in.header("location"), "/seat");
    assert_eq!(
        world.store.seat(&seat("free-0")).unwrap().display_name,
        "Zoë"
    );
    world
        .post(
            "/join/seat",
            &[("code", &code), ("name", "Cy"), ("email", "c@x.org")],
        )
        .send()
        .await
        .assert(303);
    let full = world
        .post(
            "/join/seat",
            &[("code", &code), ("name", "Dee"), ("email", "d@x.org")],
        )
        .send()
        .await;
    full.assert(303);
    assert!(full.header("location").starts_with("/waiting/1."));
    // The reference's API knows no waiting list.
    let body = serde_json::json!({"code": code, "name": "Eli", "email": "e@x.org"});
    let api = world.json("/api/participants/take", &body).send().await;
    assert_eq!(api.assert(404).json()["code"], "none_free");
}

#[tokio::test]
async fn wrong_codes_are_told_clearly_and_limited_by_address() {
    let world = World::new().await;
    let wrong = world.post("/join", &[("code", "AAAAAA")]).send().await;
    wrong.assert(403);
    assert!(wrong.body.contains("six letters") && !wrong.body.contains(&world.store.event_code()));
    let mut last = 0;
    for _ in 0..150 {
        last = world
            .post("/join/seat", &[("code", "AAAAAA"), ("seat", "ada")])
            .send()
            .await
            .status
            .as_u16();
        if last == 429 {
            break;
        }
    }
    assert_eq!(last, 429);
    // The same address still comes in by a link; another address is not touched.
    world.join("ada").await.assert(303);
    let code = world.store.event_code();
    let refused = world.post("/join", &[("code", &code)]).send().await;
    assert!(refused.body.contains("personal link"));
    world
        .post("/join", &[("code", &code)])
        .at_address("10.0.0.2")
        .send()
        .await
        .assert(200);
}

#[tokio::test]
async fn a_forms_address_without_the_form_leads_to_the_start() {
    let world = World::new().await;
    for form in ["/join", "/join/seat", "/leave", "/admin/board"] {
        let reply = world.get(form).send().await;
        reply.assert(303);
        assert_eq!(reply.header("location"), "/", "{form}");
    }
    world.post("/leaderboard", &[]).send().await.assert(405);
}

#[tokio::test]
async fn the_seat_page_frames_only_the_own_editor_and_wakes_it() {
    let world = World::new().await;
    world.get("/seat").send().await.assert(303);
    world.join("ada").await;
    for order in world.store.pending_orders() {
        world
            .store
            .finish_order(order.id, Ok(String::new()))
            .await
            .unwrap();
    }
    let page = world.get("/seat").participant("ada").await_page().await;
    assert!(
        page.body
            .contains("data-src=\"http://ada--code.arena.localhost:8080/\"")
    );
    assert!(
        page.body
            .contains("src=\"http://instructions.arena.localhost:8080/\"")
    );
    assert!(
        page.body
            .contains("href=\"http://ada.arena.localhost:8080/app/\"")
    );
    let ready = "data-src=\"http://ada--code.arena.localhost:8080/\" data-ready";
    assert!(!page.body.contains(ready));
    let policy = page.header("content-security-policy");
    assert!(policy.ends_with(
        "frame-src 'self' http://instructions.arena.localhost:8080 http://ada--code.arena.localhost:8080"
    ));
    assert_eq!(
        world.store.pending_orders()[0].kind,
        OrderKind::WakeEditor { seat: seat("ada") }
    );

    let status = SeatStatus {
        phase: SeatPhase::Ready,
        editor: EditorStatus::Ready,
        ..SeatStatus::default()
    };
    world.store.set_status(&seat("ada"), status).await.unwrap();
    let page = world.get("/seat").participant("ada").await_page().await;
    assert!(page.body.contains(ready), "the script opens it at once");
}

#[tokio::test]
async fn leaving_ends_the_session_and_keeps_the_seat() {
    let world = World::new().await;
    let joined = world.join("ada").await;
    let session = world
        .store
        .session(cookie(&joined), "arena.localhost")
        .unwrap();
    let as_ada = |ask: crate::world::Ask| {
        ask.header("x-arena-principal", "participant:ada")
            .header("x-arena-session", &session.id)
    };
    let page = as_ada(world.get("/leaderboard")).await_page().await;
    as_ada(world.post("/leave", &[("csrf", "guess")]))
        .send()
        .await
        .assert(403);
    let left = as_ada(world.post("/leave", &[("csrf", &page.csrf())]))
        .send()
        .await;
    assert!(left.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(
        world.store.session(cookie(&joined), "arena.localhost"),
        None
    );
    assert!(world.store.seat(&seat("ada")).unwrap().taken.is_some());
}

#[tokio::test]
async fn instructions_are_for_those_who_joined() {
    let world = World::new().await;
    let nobody = world.get("/crud/1/").surface("instructions").send().await;
    nobody.assert(401);
    assert!(nobody.body.contains("Join first"));
    let page = world
        .get("/crud/1/")
        .surface("instructions")
        .participant("ada")
        .send()
        .await;
    page.assert(200);
    assert!(
        page.header("content-security-policy")
            .contains("frame-ancestors 'self' http://arena.localhost:8080")
    );
    let kept = world
        .get("/crud/1/")
        .surface("instructions")
        .participant("ada")
        .header("if-none-match", "\"tag\"");
    kept.send().await.assert(304);
    let slash = world
        .get("/crud/1")
        .surface("instructions")
        .participant("ada")
        .send()
        .await;
    assert_eq!(slash.header("location"), "/crud/1/");
    world
        .get("/admin")
        .surface("instructions")
        .facilitator()
        .send()
        .await
        .assert(404);
}

#[tokio::test]
async fn other_hosts_of_the_portal_lead_to_the_main_one() {
    let world = World::new().await;
    for (host, path, to) in [
        (
            "participants.arena.localhost:8080",
            "/",
            "http://arena.localhost:8080/participants",
        ),
        (
            "www.arena.localhost:8080",
            "/leaderboard?projector",
            "http://arena.localhost:8080/leaderboard?projector",
        ),
    ] {
        let mut ask = world.get(path);
        ask = ask.replace_host(host);
        assert_eq!(ask.send().await.header("location"), to);
    }
    let mut api = world.ask(http::Method::GET, "/backend/api/participants");
    api = api.replace_host("portal.arena.localhost:8080");
    api.send().await.assert(200);
}

#[tokio::test]
async fn a_browser_that_closes_halfway_finds_its_seat_again() {
    use tokio::io::AsyncWriteExt;
    let world = World::new().await;
    let link = world.link("ada");
    let body = format!("csrf={}", world.get(&link).await_page().await.csrf());
    let request = format!(
        "POST {link} HTTP/1.1\r\nhost: portal.invalid\r\nx-arena-surface: portal\r\nsec-fetch-site: same-origin\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // Closed in the middle of the form: nothing is taken.
    let mut browser = tokio::net::UnixStream::connect(world.socket())
        .await
        .unwrap();
    browser
        .write_all(format!("{request}{}", &body[..10]).as_bytes())
        .await
        .unwrap();
    drop(browser);
    world.get("/").send().await.assert(200);
    assert!(world.store.seat(&seat("ada")).unwrap().taken.is_none());
    // Closed after the button and before the answer: whatever came of it, the link leads there.
    let mut browser = tokio::net::UnixStream::connect(world.socket())
        .await
        .unwrap();
    browser
        .write_all(format!("{request}{body}").as_bytes())
        .await
        .unwrap();
    drop(browser);
    let again = world.join("ada").await;
    assert_eq!(again.assert(303).header("location"), "/seat");
    let events = world.store.events_since(0, 1000);
    let joined = events
        .iter()
        .filter(|event| matches!(event.kind, arena_store::EventKind::Joined { .. }));
    assert_eq!(joined.count(), 1);
}
