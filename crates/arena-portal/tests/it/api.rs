//! The reference's API, field by field.

use arena_workshop::scoring::Scoring;
use serde_json::{Value, json};

use crate::world::{World, seat};

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[tokio::test]
async fn people_are_listed_newest_first_without_emails() {
    let world = World::new().await;
    for base in ["/api", "/backend/api"] {
        assert_eq!(
            world.get(&format!("{base}/health")).send().await.json(),
            json!({"status": "healthy", "database": "connected"})
        );
    }
    world.join("bob").await;
    let code = world.store.event_code();
    let taken = world
        .json(
            "/api/participants/take",
            &json!({"name": "Cy", "email": "c@x.org", "code": code}),
        )
        .send()
        .await;
    let taken = taken.assert(200).json();
    assert_eq!(keys(&taken), ["_id", "name", "taken", "taken_timestamp"]);
    assert_eq!(
        (&taken["_id"], &taken["name"], &taken["taken"]),
        (&json!("free-0"), &json!("Cy"), &json!(true))
    );
    let list = world.get("/api/participants").send().await;
    let ids: Vec<_> = list
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["_id"].clone())
        .collect();
    assert_eq!(ids, ["free-0", "bob", "ada"]);
    assert!(!list.body.contains('@'));
    let counts = world.get("/api/participants/available").send().await.json();
    assert_eq!(
        counts,
        json!({"available_count": 1, "active_count": 2, "total_count": 4})
    );
}

#[tokio::test]
async fn a_seat_is_taken_with_the_code_only() {
    let world = World::new().await;
    let code = world.store.event_code();
    let take = |body: Value| world.json("/api/participants/take", &body);
    let refused = take(json!({"name": "Cy", "email": "c@x.org"})).send().await;
    assert_eq!(refused.assert(403).json()["code"], "wrong_code");
    assert_eq!(
        take(json!({"name": "Cy", "code": code}))
            .send()
            .await
            .assert(400)
            .json()["code"],
        "missing_fields"
    );
    take(json!({"name": "Cy", "email": "c@x.org"}))
        .facilitator()
        .send()
        .await
        .assert(200);
    take(json!({"name": "Dee", "email": "d@x.org", "code": code}))
        .send()
        .await
        .assert(200);
    let full = take(json!({"name": "Eve", "email": "e@x.org", "code": code}))
        .send()
        .await;
    assert_eq!(full.assert(404).json()["code"], "none_free");
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]
async fn timed_results_as_json_and_csv() {
    let world = World::new().await;
    world.join("ada").await;
    world.join("bob").await;
    world.solve("bob", "crud-1").await;
    world.solve("ada", "crud-1").await;
    world.solve("ada", "crud-2").await;
    let reply = world
        .until(
            |world| world.get("/api/results"),
            "\"exercises_completed\":2",
        )
        .await
        .json();
    assert_eq!(
        keys(&reply[0]),
        [
            "rank",
            "user_id",
            "username",
            "name",
            "exercises_completed",
            "duration",
            "duration_ms",
            "first_timestamp",
            "last_timestamp"
        ]
    );
    assert_eq!(
        (
            &reply[0]["user_id"],
            &reply[0]["rank"],
            &reply[1]["user_id"]
        ),
        (&json!("ada"), &json!(1), &json!("bob"))
    );
    let csv = world.get("/api/results?format=csv").send().await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    let mut lines = csv.body.lines();
    assert_eq!(
        lines.next(),
        Some(
            "rank,user_id,username,name,exercises_completed,duration,duration_ms,first_timestamp,last_timestamp"
        )
    );
    assert!(lines.next().unwrap().starts_with("1,ada,ada,Ada,2,0s,"));

    let own = world.get("/api/results/user/ada").send().await.json();
    assert_eq!(keys(&own[0]), ["name", "username", "timestamp", "section"]);
    assert_eq!(
        (&own[0]["name"], &own[0]["username"], &own[0]["section"]),
        (&json!("crud-1"), &json!("ada"), &json!("crud"))
    );
    world
        .get("/api/results/user/nobody")
        .send()
        .await
        .assert(404);
    world
        .get("/api/results/user/free-0")
        .send()
        .await
        .assert(404);
    world
        .json(
            "/api/admin/leaderboard/exclude",
            &json!({"identifier": "ada", "exclude": true}),
        )
        .facilitator()
        .send()
        .await
        .assert(200);
    world.get("/api/results/user/ada").send().await.assert(403);
    let status = world
        .get("/api/admin/leaderboard/status")
        .facilitator()
        .send()
        .await
        .json();
    assert_eq!(
        status[0],
        json!({"user_id": "ada", "name": "Ada", "excluded": true})
    );
}

#[tokio::test]
async fn score_results_as_json_and_csv() {
    let world = World::with(Scoring::Score).await;
    world.join("ada").await;
    world.join("bob").await;
    world.solve("ada", "crud-1").await;
    world.solve("bob", "crud-1").await;
    let reply = world
        .until(|world| world.get("/api/results"), "\"total_points\":95")
        .await
        .json();
    assert_eq!(
        reply,
        json!([{"rank": 1, "name": "Ada", "total_points": 100}, {"rank": 2, "name": "Bob", "total_points": 95}])
    );
    let csv = world.get("/api/results?format=csv").send().await.body;
    assert_eq!(csv, "rank,name,total_points\r\n1,Ada,100\r\n2,Bob,95\r\n");
}

#[tokio::test]
async fn progress_says_who_is_stuck() {
    let world = World::new().await;
    world.join("ada").await;
    world.join("bob").await;
    world.solve("ada", "crud-1").await;
    let reply = world.get("/api/users/progress").send().await.json();
    assert_eq!(
        reply["summary"],
        json!({"total": 2, "active": 1, "stuck": 0, "not_started": 1})
    );
    let (ada, bob) = (&reply["users"][0], &reply["users"][1]);
    assert_eq!(
        keys(ada),
        [
            "user_id",
            "name",
            "exercises_completed",
            "last_exercise",
            "last_activity",
            "minutes_since_last",
            "status"
        ]
    );
    assert_eq!(
        (
            &ada["last_exercise"],
            &ada["minutes_since_last"],
            &ada["status"]
        ),
        (&json!("crud-1"), &json!(0), &json!("active"))
    );
    assert_eq!(
        (&bob["status"], &bob["last_exercise"]),
        (&json!("not_started"), &Value::Null)
    );
}

#[tokio::test]
async fn the_close_date_freezes_results() {
    let world = World::new().await;
    world.join("ada").await;
    world.solve("ada", "crud-1").await;
    let set = |close_on: Value| {
        world
            .json(
                "/api/admin/prizes/close-date",
                &json!({"close_on": close_on}),
            )
            .facilitator()
    };
    set(json!("next tuesday")).send().await.assert(400);
    set(json!("2020-01-01T00:00:00Z")).send().await.assert(200);
    assert_eq!(
        world
            .get("/api/admin/prizes/close-date")
            .facilitator()
            .send()
            .await
            .json(),
        json!({"close_on": "2020-01-01T00:00:00Z"})
    );
    world
        .until(|world| world.ask(http::Method::GET, "/api/results"), "[]")
        .await;
    set(Value::Null).send().await.assert(200);
    world.until(|world| world.get("/api/results"), "ada").await;
}

#[tokio::test]
async fn downloads_and_restores_are_facilitators_and_audited() {
    let world = World::new().await;
    let code = world.store.event_code();
    let formula = json!({"name": "=cmd|' /C calc'!A0", "email": "+x@x.org", "code": code});
    world
        .json("/api/participants/take", &formula)
        .send()
        .await
        .assert(200);
    let file = world
        .get("/api/admin/leaderboard/download")
        .facilitator()
        .send()
        .await
        .body;
    assert_eq!(
        file,
        "user_id,name,email,exercises_solved\r\nfree-0,'=cmd|' /C calc'!A0,'+x@x.org,0\r\n"
    );
    assert_eq!(world.store.audit_log(1)[0].action, "download");
    let outcome = world
        .json(
            "/api/admin/database/restore",
            &json!({"user_ids": ["ada", "no such"]}),
        )
        .facilitator()
        .send()
        .await;
    let outcome = outcome.assert(200).json();
    assert_eq!(
        (
            &outcome["results"][0]["status"],
            &outcome["results"][1]["status"]
        ),
        (&json!("ordered"), &json!("error"))
    );
    assert_eq!(
        world.store.pending_orders()[0].kind,
        arena_store::OrderKind::RestoreDatabase { seat: seat("ada") }
    );
}
