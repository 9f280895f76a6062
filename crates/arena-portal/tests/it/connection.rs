//! The connection test.

use http::Method;
use serde_json::json;

use crate::world::World;

fn found(name: &str) -> serde_json::Value {
    json!({"name": name, "websocket": true, "cookies": true, "clipboard": false, "blocked": [], "latency_ms": 12})
}

#[tokio::test]
async fn anybody_can_test_and_facilitators_see_it() {
    let world = World::new().await;
    let page = world.get("/check").await_page().await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("connect-src 'self' http://instructions.arena.localhost:8080 http://connection-test--code.arena.localhost:8080"), "{policy}");
    let mut room = world.get("/_arena/events").facilitator().stream().await;
    let sent = world.json("/check/report", &found("Zoë")).send().await;
    assert_eq!(sent.assert(201).json(), json!({"good": true}));
    let (_, tests) = room.find("connections", |_| true).await;
    assert_eq!(tests[0]["name"], "Zoë");
    assert_eq!(tests[0]["troubles"], json!(["clipboard"]));
    // Again by the same person: the last one counts.
    let mut blocked = found("zoë");
    blocked["blocked"] = json!(["editor", "<script>"]);
    let sent = world.json("/check/report", &blocked).send().await;
    assert_eq!(sent.json(), json!({"good": false}));
    world.join("ada").await;
    let own = world
        .json("/check/report", &found("somebody else"))
        .participant("ada");
    own.send().await.assert(201);
    let tests = world.store.connection_tests();
    let names: Vec<_> = tests.iter().map(|test| test.name.as_str()).collect();
    assert_eq!(names, ["Ada", "zoë"]);
    assert_eq!(
        tests[1].report.blocked,
        ["editor"],
        "what is no host of ours is not shown"
    );
    let page = world.get("/admin").facilitator().await_page().await;
    assert!(page.body.contains("<bdi>zoë</bdi>") && page.body.contains("12 ms"));
    let participant = world
        .get("/participants")
        .participant("ada")
        .await_page()
        .await;
    assert!(!participant.body.contains("zoë"));
}

#[tokio::test]
async fn a_cookie_that_comes_back_is_seen() {
    let world = World::new().await;
    let first = world.get("/check/cookie").send().await;
    assert_eq!(first.json(), json!({"kept": false}));
    let cookie = first
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let second = world
        .get("/check/cookie")
        .header("cookie", &cookie)
        .send()
        .await;
    assert_eq!(second.json(), json!({"kept": true}));
}

#[tokio::test]
async fn tests_without_a_name_or_without_end_are_refused() {
    let world = World::new().await;
    world
        .json("/check/report", &found(" "))
        .send()
        .await
        .assert(400);
    world
        .ask(Method::GET, "/check/echo")
        .send()
        .await
        .assert(400);
    let statuses: Vec<u16> = {
        let mut statuses = Vec::new();
        for number in 0..110 {
            let ask = world.json("/check/report", &found(&format!("P{number}")));
            statuses.push(ask.send().await.status.as_u16());
        }
        statuses
    };
    assert_eq!(statuses[0], 201);
    assert!(
        statuses.contains(&429),
        "one address cannot fill the list at once"
    );
    let elsewhere = world
        .json("/check/report", &found("Ada"))
        .at_address("10.0.0.9");
    elsewhere.send().await.assert(201);
}
