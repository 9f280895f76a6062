//! A facilitator looks into a seat: attacks on it, and that it works.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use arena_store::{Actor, Principal, Session, Visit};

use crate::sessions::{FRAME, HandOver, PAGE, hand_over, path_on};
use crate::world::{ADA, ADA_EDITOR, EVE_EDITOR, PORTAL, World, participant, seat, within};

struct Grace {
    session: Session,
    cookie: String,
}

async fn grace(world: &World) -> Grace {
    let principal = Principal::Facilitator("Grace".to_owned());
    let secret = world.store.create_session(principal, PORTAL).await.unwrap();
    Grace {
        session: world.store.session(secret.reveal(), PORTAL).unwrap(),
        cookie: format!("Cookie: arena_harbour={}\r\n", secret.reveal()),
    }
}

async fn look(world: &World, grace: &Grace) -> (Visit, String, String) {
    let visit = world.store.begin_visit(&seat("ada"), &grace.session).await;
    let visit = visit.unwrap().unwrap();
    let editor = format!("{}--code.{PORTAL}", visit.label);
    let apps = format!("{}.{PORTAL}", visit.label);
    (visit, editor, apps)
}

/// Goes the whole way of the hand-over and returns the host's cookie.
async fn enter(world: &World, host: &str, portal_cookie: &str) -> String {
    let HandOver { cookie, enter } = hand_over(world, host, portal_cookie, PAGE).await;
    let entered = world.get(host, &enter, &format!("{PAGE}{cookie}")).await;
    assert_eq!(entered.status, 303, "{}", entered.body);
    entered.cookies()
}

#[tokio::test]
async fn a_facilitator_sees_editor_and_apps_with_the_seats_rights_and_no_others() {
    let world = World::start().await;
    let grace = grace(&world).await;
    let (_, editor, apps) = look(&world, &grace).await;
    for host in [&editor, &apps] {
        let cookie = enter(&world, host, &grace.cookie).await;
        let answer = world
            .get(host, "/backend/x", &format!("{PAGE}{cookie}"))
            .await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "ada saw /backend/x")
        );
        let seen = world.seen.last();
        assert_eq!(seen.headers["x-arena-user"], "Grace");
        assert!(!seen.headers.contains_key("x-arena-principal"));
        assert!(
            !seen.headers.contains_key("cookie"),
            "no session reaches the seat"
        );
        // The platform's own paths there know a visitor, not a facilitator and not the participant.
        world.get(host, "/_arena/state", &cookie).await;
        assert_eq!(
            world.seen.last().headers["x-arena-principal"],
            "visitor:ada:Grace"
        );
        assert_eq!(world.seen.last().upstream, "portal");
    }
    let moved = world.get(&apps, "/?folder=/x", PAGE).await;
    assert_eq!(
        moved.header("location").unwrap(),
        world.origin(&editor) + "/?folder=/x"
    );
}

#[tokio::test]
async fn a_facilitators_own_session_never_reaches_a_seats_origin() {
    let world = World::start().await;
    let grace = grace(&world).await;
    let (_, editor, apps) = look(&world, &grace).await;
    // The very cookie of the portal, sent by a browser that keeps none apart.
    for host in [editor.as_str(), &apps, ADA, ADA_EDITOR] {
        let answer = world.get(host, "/backend/x", &grace.cookie).await;
        assert_eq!(answer.status, 401, "{host}");
    }
    assert!(world.seen.all().is_empty());
    // What she has on a visit's host is worth nothing at the portal and on every other host.
    let cookie = enter(&world, &editor, &grace.cookie).await;
    for host in [apps.as_str(), ADA, ADA_EDITOR, EVE_EDITOR] {
        assert_eq!(
            world.get(host, "/backend/x", &cookie).await.status,
            401,
            "{host}"
        );
    }
    world.get(PORTAL, "/admin", &cookie).await;
    assert!(!world.seen.last().headers.contains_key("x-arena-principal"));
    // A page of the seat at the visit's origin asks the portal with her cookie, as a browser would send it.
    let foreign = format!(
        "Origin: {}\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\n{}",
        world.origin(&editor),
        grace.cookie
    );
    let before = world.seen.all().len();
    assert_eq!(world.get(PORTAL, "/admin", &foreign).await.status, 403);
    assert_eq!(
        world
            .post(PORTAL, "/admin/board", &foreign, "x")
            .await
            .status,
        403
    );
    assert_eq!(
        world
            .get(PORTAL, "/", &format!("{FRAME}{}", grace.cookie))
            .await
            .status,
        403
    );
    assert_eq!(world.seen.all().len(), before);
}

#[tokio::test]
async fn a_visit_is_one_browsers_and_nobody_elses() {
    let world = World::start().await;
    let grace = grace(&world).await;
    let (_, editor, _) = look(&world, &grace).await;
    let vouch = async |cookie: &str| {
        let start = world.get(&editor, "/app/", PAGE).await;
        let path = path_on(&start, &world.origin(PORTAL));
        world
            .get(PORTAL, &path, &format!("{PAGE}{cookie}"))
            .await
            .status
    };
    assert_eq!(
        vouch(&world.cookie("ada", PORTAL).await).await,
        403,
        "who sits there"
    );
    assert_eq!(
        vouch(&world.cookie("eve", PORTAL).await).await,
        403,
        "somebody else"
    );
    assert_eq!(vouch("").await, 401, "nobody");
    let other = self::grace(&world).await;
    assert_eq!(
        vouch(&other.cookie).await,
        403,
        "another browser of the same facilitator"
    );
    // The participant's own session, made for that host by whatever mistake, opens nothing.
    let own = world.cookie("ada", &editor).await;
    assert_eq!(world.get(&editor, "/backend/x", &own).await.status, 401);
    // Once: a second hand-over to the same host is refused, also with the right session.
    enter(&world, &editor, &grace.cookie).await;
    let HandOver { cookie, enter } = hand_over(&world, &editor, &grace.cookie, PAGE).await;
    let again = world.get(&editor, &enter, &format!("{PAGE}{cookie}")).await;
    assert_eq!(again.status, 400);
    assert!(
        again
            .headers("set-cookie")
            .all(|set| !set.starts_with("arena_harbour="))
    );
}

#[tokio::test]
async fn a_visits_hosts_end_with_it() {
    let world = World::start().await;
    let grace = grace(&world).await;
    world.store.take_listed(&seat("ada")).await.unwrap();
    let (_, first, _) = look(&world, &grace).await;
    let cookie = enter(&world, &first, &grace.cookie).await;
    assert_eq!(world.get(&first, "/backend/x", &cookie).await.status, 200);
    world
        .store
        .release(&seat("ada"), Actor::System)
        .await
        .unwrap();
    assert_eq!(
        world.get(&first, "/backend/x", &cookie).await.status,
        404,
        "given back"
    );
    let (_, second, _) = look(&world, &grace).await;
    let cookie = enter(&world, &second, &grace.cookie).await;
    assert_eq!(world.get(&second, "/backend/x", &cookie).await.status, 200);
    world.store.end_session(&grace.session.id).await.unwrap();
    assert_eq!(
        world.get(&second, "/backend/x", &cookie).await.status,
        404,
        "she left"
    );
    let made_up = format!("look-bcdfghbcdfghbcdfgh--code.{PORTAL}");
    assert_eq!(world.get(&made_up, "/", PAGE).await.status, 404);
}

#[tokio::test]
async fn only_a_visits_own_hosts_frame_it() {
    let world = World::start().await;
    let grace = grace(&world).await;
    let (_, editor, apps) = look(&world, &grace).await;
    for host in [&editor, &apps] {
        let answer = world.get(host, "/backend/x", "").await;
        let policies: Vec<_> = answer.headers("content-security-policy").collect();
        let wanted = format!("frame-ancestors 'self' {}", world.origin(&editor));
        assert!(policies.contains(&wanted.as_str()), "{policies:?}");
    }
}

#[tokio::test]
async fn waiting_for_a_session_that_has_ended_is_no_waiting() {
    let world = World::start().await;
    let secret = world
        .store
        .create_session(participant("ada"), PORTAL)
        .await
        .unwrap();
    let session = world.store.session(secret.reveal(), PORTAL).unwrap();
    world.store.end_session(&session.id).await.unwrap();
    within(world.store.session_ended(&session.id)).await;
}
