//! What passes, in both directions.

use crate::world::{ADA, ADA_EDITOR, INSTRUCTIONS, PORTAL, World};

#[tokio::test]
async fn nobody_but_the_gateway_says_who_is_asking() {
    let world = World::start().await;
    let cookie = world.cookie("ada", PORTAL).await;
    let lies = "X-Arena-Principal: facilitator:eve\r\nX-Arena-Surface: agent\r\nX-Forwarded-For: 8.8.8.8\r\n\
                X-Forwarded-Host: evil\r\nX-Real-IP: 8.8.8.8\r\nForwarded: for=8.8.8.8\r\n\
                Connection: x-arena-principal, x-forwarded-for\r\n";
    world.get(PORTAL, "/", &format!("{lies}{cookie}")).await;
    let seen = world.seen.last();
    assert_eq!(seen.headers["x-arena-principal"], "participant:ada");
    assert_eq!(seen.headers["x-arena-surface"], "portal");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(
        seen.headers["x-forwarded-host"],
        format!("{PORTAL}:{}", world.port)
    );
    assert!(!seen.headers.contains_key("x-real-ip") && !seen.headers.contains_key("forwarded"));
    assert!(
        !seen.headers.contains_key("cookie"),
        "not even the portal sees the secret"
    );
    assert!(seen.headers.contains_key("x-arena-session"));

    world.get(PORTAL, "/", lies).await;
    assert!(
        !world.seen.last().headers.contains_key("x-arena-principal"),
        "nobody is nobody"
    );
}

#[tokio::test]
async fn a_seat_sees_its_seat_and_person_and_no_platform_cookie() {
    let world = World::start().await;
    for (host, path, surface) in [(ADA, "/backend/x", "apps"), (ADA_EDITOR, "/", "editor")] {
        let cookie = world
            .cookie("ada", host)
            .await
            .replace("Cookie: ", "Cookie: theme=dark; __Host-arena_other=1; ");
        assert_eq!(
            world
                .get(host, path, &format!("{cookie}X-Arena-Seat: eve\r\n"))
                .await
                .status,
            200
        );
        let seen = world.seen.last();
        assert_eq!(seen.headers["cookie"], "theme=dark");
        assert_eq!(seen.headers["x-arena-surface"], surface);
        assert_eq!(seen.headers["x-arena-seat"], "ada");
        assert_eq!(seen.headers["x-arena-user"], "Ada Lovelace");
        assert_eq!(seen.headers["host"], "ada.1.invalid");
        assert!(
            !seen.headers.contains_key("x-arena-principal")
                && !seen.headers.contains_key("x-arena-session")
        );
    }
}

#[tokio::test]
async fn a_seats_answer_cannot_reach_beyond_its_pages() {
    let world = World::start().await;
    let cookie = world.cookie("ada", ADA).await;
    let answer = world.get(ADA, "/backend/hostile", &cookie).await;
    assert_eq!(
        answer.headers("set-cookie").collect::<Vec<_>>(),
        ["theme=dark; Path=/"]
    );
    for name in [
        "clear-site-data",
        "service-worker-allowed",
        "alt-svc",
        "strict-transport-security",
        "nel",
        "report-to",
        "access-control-allow-origin",
        "x-arena-principal",
        "x-hop",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("x-own"), Some("kept"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("location"), Some("/backend/there"));
    // The same lines from the portal pass: they are its own to set.
    let portal = world.get(PORTAL, "/backend/hostile", "").await;
    assert_eq!(portal.headers("set-cookie").count(), 3);
}

#[tokio::test]
async fn only_the_portal_frames_the_editor_and_the_instructions() {
    let world = World::start().await;
    let portal = world.origin(PORTAL);
    for (host, ancestors) in [
        (PORTAL, "'none'".to_owned()),
        (INSTRUCTIONS, format!("'self' {portal}")),
        (ADA_EDITOR, format!("'self' {portal}")),
        (ADA, format!("'self' {} {portal}", world.origin(ADA_EDITOR))),
        ("unknown.localhost", "'none'".to_owned()),
    ] {
        let answer = world.get(host, "/x", "").await;
        let policies: Vec<&str> = answer.headers("content-security-policy").collect();
        assert!(
            policies.contains(&format!("frame-ancestors {ancestors}").as_str()),
            "{host}: {policies:?}"
        );
    }
}

#[tokio::test]
async fn what_is_the_gateways_own_never_reaches_a_seat() {
    let world = World::start().await;
    for host in [ADA, ADA_EDITOR, INSTRUCTIONS, PORTAL] {
        let cookie = world.cookie("ada", host).await;
        for path in ["/_arena/state", "/_arena"] {
            assert_eq!(world.get(host, path, &cookie).await.status, 200);
            assert_eq!(
                (
                    world.seen.last().upstream.as_str(),
                    world.seen.last().path.as_str()
                ),
                ("portal", path)
            );
        }
    }
    assert_eq!(world.seen.last().headers["x-arena-surface"], "portal");
    let cookie = world.cookie("ada", ADA_EDITOR).await;
    world.get(ADA_EDITOR, "/_arena/state", &cookie).await;
    let seen = world.seen.last();
    assert_eq!(
        (
            &seen.headers["x-arena-surface"],
            &seen.headers["x-arena-seat"]
        ),
        (&"editor".parse().unwrap(), &"ada".parse().unwrap())
    );
}

#[tokio::test]
async fn a_missing_app_is_explained_to_people_only() {
    let world = World::start().await;
    let cookie = world.cookie("ada", ADA).await;
    let page = world
        .get(
            ADA,
            "/backend/down",
            &format!("{cookie}Accept: text/html\r\n"),
        )
        .await;
    assert_eq!(page.status, 503);
    assert!(page.body.contains("terminal named server"));
    assert_eq!(
        world.get(ADA, "/backend/down", &cookie).await.status,
        502,
        "a program gets the answer as it is"
    );
}

#[tokio::test]
async fn too_many_cookies_are_cleared_instead_of_a_dead_end() {
    let world = World::start().await;
    let big = format!(
        "Cookie: a={}; b=2\r\nAccept: text/html\r\n",
        "x".repeat(9_000)
    );
    let answer = world.get(PORTAL, "/", &big).await;
    assert_eq!(answer.status, 431);
    assert_eq!(answer.header("clear-site-data"), Some("\"cookies\""));
    assert_eq!(
        answer.headers("set-cookie").collect::<Vec<_>>(),
        ["a=; Path=/; Max-Age=0", "b=; Path=/; Max-Age=0"]
    );
    assert_eq!(
        world.get(PORTAL, "/", "Cookie: a=1; b=2\r\n").await.status,
        200
    );
}

#[tokio::test]
async fn the_seats_first_page_is_its_editor() {
    let world = World::start().await;
    let answer = world.get(ADA, "/?folder=/x", "").await;
    assert_eq!(answer.status, 307);
    assert_eq!(
        answer.header("location"),
        Some(format!("{}/?folder=/x", world.origin(ADA_EDITOR)).as_str())
    );
}
