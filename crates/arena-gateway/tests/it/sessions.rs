//! Who may be where, and how a session gets from the portal to another host.

use arena_store::Principal;

use crate::world::{ADA, ADA_EDITOR, Answer, EVE, EVE_EDITOR, INSTRUCTIONS, PORTAL, World};

pub(crate) const PAGE: &str =
    "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
pub(crate) const FRAME: &str =
    "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n";

/// Follows a redirect's address to the path on the expected host.
pub(crate) fn path_on(answer: &Answer, origin: &str) -> String {
    let location = answer
        .header("location")
        .unwrap_or_else(|| panic!("a redirect, not {}", answer.head));
    location
        .strip_prefix(origin)
        .unwrap_or_else(|| panic!("{location} is on {origin}"))
        .to_owned()
}

pub(crate) struct HandOver {
    /// The host's cookie with the nonce.
    pub(crate) cookie: String,
    /// Where the portal sends the browser.
    pub(crate) enter: String,
}

pub(crate) async fn hand_over(
    world: &World,
    host: &str,
    portal_cookie: &str,
    how: &str,
) -> HandOver {
    let start = world.get(host, "/app/?a=1%202", how).await;
    assert_eq!(start.status, 303, "{}", start.head);
    let vouch = path_on(&start, &world.origin(PORTAL));
    let vouched = world
        .get(PORTAL, &vouch, &format!("{how}{portal_cookie}"))
        .await;
    assert_eq!(vouched.status, 303, "{}{}", vouched.head, vouched.body);
    HandOver {
        cookie: start.cookies(),
        enter: path_on(&vouched, &world.origin(host)),
    }
}

#[tokio::test]
async fn a_hand_over_brings_a_session_to_another_host_in_page_and_frame() {
    let world = World::start().await;
    let portal_cookie = world.cookie("ada", PORTAL).await;
    for (host, how) in [
        (ADA, PAGE),
        (ADA_EDITOR, PAGE),
        (ADA_EDITOR, FRAME),
        (INSTRUCTIONS, FRAME),
    ] {
        let HandOver { cookie, enter } = hand_over(&world, host, &portal_cookie, how).await;
        let entered = world.get(host, &enter, &format!("{how}{cookie}")).await;
        assert_eq!(
            (entered.status, entered.header("location")),
            (303, Some("/app/?a=1%202"))
        );
        let own: Vec<&str> = entered
            .headers("set-cookie")
            .filter(|c| c.starts_with("arena_harbour="))
            .collect();
        assert_eq!(own.len(), 1);
        assert!(
            own[0].contains("HttpOnly")
                && own[0].contains("SameSite=Lax")
                && !own[0].contains("Domain")
        );
        assert_eq!(
            world
                .get(host, "/app/", &format!("{how}{}", entered.cookies()))
                .await
                .status,
            200
        );

        let again = world.get(host, &enter, &format!("{how}{cookie}")).await;
        assert_eq!(again.status, 400, "a hand-over works once");
    }
}

#[tokio::test]
async fn a_hand_over_is_for_one_browser_and_one_host() {
    let world = World::start().await;
    let portal_cookie = world.cookie("ada", PORTAL).await;
    let HandOver { enter, .. } = hand_over(&world, ADA, &portal_cookie, PAGE).await;
    assert_eq!(
        world.get(ADA, &enter, PAGE).await.status,
        400,
        "without the nonce"
    );

    let first = hand_over(&world, ADA, &portal_cookie, PAGE).await;
    let other = hand_over(&world, ADA, &portal_cookie, PAGE).await;
    let wrong = world
        .get(ADA, &first.enter, &format!("{PAGE}{}", other.cookie))
        .await;
    assert_eq!(wrong.status, 400, "another browser's nonce");

    let HandOver { cookie, enter } = hand_over(&world, ADA, &portal_cookie, PAGE).await;
    assert_eq!(
        world
            .get(ADA_EDITOR, &enter, &format!("{PAGE}{cookie}"))
            .await
            .status,
        400,
        "another host"
    );

    let HandOver { cookie, enter } = hand_over(&world, ADA, &portal_cookie, PAGE).await;
    let elsewhere = enter.replace("to=/app/", "to=//evil.example/");
    assert_ne!(enter, elsewhere);
    assert_eq!(
        world
            .get(ADA, &elsewhere, &format!("{PAGE}{cookie}"))
            .await
            .status,
        400
    );
    assert_eq!(
        world
            .get(ADA, &enter, &format!("{PAGE}{cookie}"))
            .await
            .status,
        303,
        "unchanged it works"
    );
}

#[tokio::test]
async fn the_portal_vouches_only_for_ones_own_seat() {
    let world = World::start().await;
    let ask = async |host: &str, cookie: &str| {
        let vouch = path_on(&world.get(host, "/app/", PAGE).await, &world.origin(PORTAL));
        world.get(PORTAL, &vouch, &format!("{PAGE}{cookie}")).await
    };
    let ada = world.cookie("ada", PORTAL).await;
    assert_eq!(ask(EVE, &ada).await.status, 403);
    assert_eq!(ask(EVE_EDITOR, &ada).await.status, 403);
    assert_eq!(ask(ADA, "").await.status, 401);
    assert_eq!(ask(ADA, &ada).await.status, 303);
    let secret = world
        .store
        .create_session(Principal::Facilitator("Grace".into()), PORTAL)
        .await
        .unwrap();
    let facilitator = format!("Cookie: arena_harbour={}\r\n", secret.reveal());
    assert_eq!(ask(ADA, &facilitator).await.status, 403);
    let portal = world.origin(PORTAL);
    let elsewhere = world
        .get(
            PORTAL,
            "/_arena/handover?host=evil.example&id=1&nonce=x&to=/",
            &ada,
        )
        .await;
    assert_eq!(elsewhere.status, 400, "{portal} sends nobody elsewhere");
}

#[tokio::test]
async fn instructions_are_read_as_nobody_where_the_portal_knows_nobody() {
    let world = World::start().await;
    let secret = world
        .store
        .create_session(Principal::Facilitator("Grace".into()), PORTAL)
        .await
        .unwrap();
    for cookie in [
        String::new(),
        format!("Cookie: arena_harbour={}\r\n", secret.reveal()),
    ] {
        let HandOver { cookie, enter } = hand_over(&world, INSTRUCTIONS, &cookie, PAGE).await;
        let entered = world
            .get(INSTRUCTIONS, &enter, &format!("{PAGE}{cookie}"))
            .await;
        assert_eq!(entered.status, 303);
        assert_eq!(
            world
                .get(
                    INSTRUCTIONS,
                    "/app/",
                    &format!("{PAGE}{}", entered.cookies())
                )
                .await
                .status,
            200
        );
        assert!(!world.seen.last().headers.contains_key("x-arena-principal"));
    }
}

#[tokio::test]
async fn a_session_opens_its_own_host_and_no_other() {
    let world = World::start().await;
    let cookie = world.cookie("ada", ADA).await;
    assert_eq!(world.get(ADA, "/backend/x", &cookie).await.status, 200);
    for host in [ADA_EDITOR, EVE, EVE_EDITOR] {
        assert_eq!(
            world.get(host, "/backend/x", &cookie).await.status,
            401,
            "{host}"
        );
    }
    // Even a session that was made for a host by mistake does not open somebody else's seat.
    let wrong = world.cookie("eve", ADA).await;
    assert_eq!(world.get(ADA, "/backend/x", &wrong).await.status, 401);
    let before = world.seen.all().len();
    assert_eq!(world.get(PORTAL, "/", &cookie).await.status, 200);
    assert!(
        !world.seen.last().headers.contains_key("x-arena-principal"),
        "a seat's session is nobody's at the portal"
    );
    assert_eq!(world.seen.all().len(), before + 1);
}

#[tokio::test]
async fn two_sessions_in_one_request_are_none() {
    let world = World::start().await;
    let (ada, eve) = (
        world.cookie("ada", PORTAL).await,
        world.cookie("eve", PORTAL).await,
    );
    let eve = eve.trim_start_matches("Cookie: ").trim();
    let both = format!("{}; {eve}\r\n", ada.trim());
    world.get(PORTAL, "/", &both).await;
    assert!(!world.seen.last().headers.contains_key("x-arena-principal"));
    let stale = ada.replace("Cookie: ", "Cookie: arena_harbour=made-up; ");
    world.get(PORTAL, "/", &stale).await;
    assert_eq!(
        world.seen.last().headers["x-arena-principal"],
        "participant:ada",
        "a planted one does not log out"
    );
}

#[tokio::test]
async fn another_hosts_page_cannot_use_a_session() {
    let world = World::start().await;
    let cookie = world.cookie("ada", PORTAL).await;
    let eve = world.origin(EVE);
    let foreign =
        format!("Origin: {eve}\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\n{cookie}");
    let own = format!(
        "Origin: {}\r\nSec-Fetch-Site: same-origin\r\n{cookie}",
        world.origin(PORTAL)
    );
    assert_eq!(
        world.post(PORTAL, "/api/x", &foreign, "a").await.status,
        403
    );
    assert_eq!(world.get(PORTAL, "/api/x", &foreign).await.status, 403);
    assert_eq!(
        world.post(PORTAL, "/api/x", &cookie, "a").await.status,
        403,
        "nothing said"
    );
    assert_eq!(
        world
            .get(PORTAL, "/", &format!("{FRAME}{cookie}"))
            .await
            .status,
        403,
        "the portal in a frame"
    );
    assert!(world.seen.all().is_empty());
    assert_eq!(world.post(PORTAL, "/api/x", &own, "a").await.status, 200);
    assert_eq!(
        world
            .get(
                PORTAL,
                "/",
                &format!("{}{cookie}", PAGE.replace("none", "cross-site"))
            )
            .await
            .status,
        200
    );
    // The same from ada's own app towards her back end.
    let cookie = world.cookie("ada", ADA).await;
    let app = format!(
        "Origin: {}\r\nSec-Fetch-Site: same-origin\r\n{cookie}",
        world.origin(ADA)
    );
    assert_eq!(world.post(ADA, "/backend/x", &app, "a").await.status, 200);
}
