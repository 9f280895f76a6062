//! Live events and the state API.

use std::time::{Duration, Instant};

use arena_store::{Actor, EditorStatus, OrderKind, SeatPhase, SeatStatus, Trigger};
use serde_json::json;

use crate::world::{World, attempt, seat, slug};

#[tokio::test]
async fn a_result_reaches_every_open_board_and_only_its_own_exercise_page() {
    let world = World::new().await;
    world.join("ada").await;
    world.join("bob").await;
    let mut ada = world
        .get("/_arena/events")
        .surface("instructions")
        .participant("ada")
        .stream()
        .await;
    let mut bob = world
        .get("/_arena/events")
        .participant("bob")
        .stream()
        .await;
    let mut anybody = world.get("/_arena/events").stream().await;
    let begun = Instant::now();
    world.solve("ada", "crud-1").await;
    // The two come in either order.
    let (mut exercise, mut own) = (json!(null), json!(null));
    while exercise.is_null() || own.is_null() {
        match ada.next().await.unwrap() {
            (_, name, data) if name == "exercise" => exercise = data,
            (_, name, data) if name == "leaderboard" && !data["me"].is_null() => own = data,
            _ => {}
        }
    }
    assert_eq!(
        (
            &exercise["exercise"],
            &exercise["solved"],
            &exercise["passed"]
        ),
        (&json!("crud-1"), &json!(true), &json!(true))
    );
    assert_eq!(
        (&exercise["attempts"], &exercise["running"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(
        exercise["checks"][0],
        json!({"name": "returns it", "passed": true, "message": "expected 10 stays"})
    );
    for stream in [&mut bob, &mut anybody] {
        loop {
            let (_, name, data) = stream.next().await.unwrap();
            assert_ne!(
                name, "exercise",
                "an exercise is its own participant's only"
            );
            if name == "leaderboard" && data["rows"].as_array().is_some_and(|rows| rows.len() == 1)
            {
                assert_eq!(
                    (&data["rows"][0]["name"], &data["rows"][0]["marks"]),
                    (&json!("Ada"), &json!([true, false, false]))
                );
                break;
            }
        }
    }
    assert_eq!(own["me"]["rank"], 1);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn the_seats_state_is_told_while_it_wakes() {
    let world = World::new().await;
    world.join("ada").await;
    let mut stream = world
        .get("/_arena/events")
        .participant("ada")
        .stream()
        .await;
    let (_, greeting) = stream.find("seat", |_| true).await;
    assert_eq!(
        (&greeting["phase"], &greeting["editor"]["state"]),
        (&json!("preparing"), &json!("stopped"))
    );
    for (editor, state) in [
        (EditorStatus::Queued { position: 7 }, "queued"),
        (EditorStatus::Ready, "ready"),
    ] {
        let status = SeatStatus {
            phase: SeatPhase::Ready,
            editor,
            ..SeatStatus::default()
        };
        world.store.set_status(&seat("ada"), status).await.unwrap();
        let (_, told) = stream
            .find("seat", |data| data["editor"]["state"] == state)
            .await;
        assert_eq!(
            told["editor"].get("position"),
            (state == "queued").then_some(&json!(7))
        );
    }
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was_cut() {
    let world = World::new().await;
    world.join("ada").await;
    let mut first = world
        .get("/_arena/events")
        .participant("ada")
        .stream()
        .await;
    let (id, _) = first.find("seat", |_| true).await;
    drop(first);
    world
        .store
        .record_attempt(attempt("ada", "crud-1", false))
        .await
        .unwrap();
    world
        .store
        .post_message(
            None,
            "Back at ten".to_owned(),
            Actor::Facilitator("Grace".to_owned()),
        )
        .await
        .unwrap();
    let mut second = world
        .get("/_arena/events")
        .participant("ada")
        .header("last-event-id", &id.to_string())
        .stream()
        .await;
    let (next, missed) = second.find("exercise", |_| true).await;
    assert_eq!(
        (&missed["solved"], missed["attempts"].as_i64()),
        (&json!(false), Some(1))
    );
    assert!(next > id);
    let (_, message) = second.find("message", |_| true).await;
    assert_eq!(message, json!({"text": "Back at ten"}));
    // An id that this event never gave is taken as none.
    let mut lost = world
        .get("/_arena/events")
        .header("last-event-id", "999999")
        .stream()
        .await;
    assert_eq!(lost.next().await.unwrap().1, "leaderboard");
}

#[tokio::test]
async fn what_happens_between_a_page_and_its_stream_is_not_missed() {
    let world = World::new().await;
    let page = world.get("/admin").facilitator().await_page().await;
    let (_, rest) = page.body.split_once("data-seen=\"").unwrap();
    let (seen, _) = rest.split_once('"').unwrap();
    let status = SeatStatus {
        message: Some("it broke meanwhile".to_owned()),
        ..SeatStatus::default()
    };
    world.store.set_status(&seat("ada"), status).await.unwrap();
    let path = format!("/_arena/events?after={seen}");
    let mut stream = world.get(&path).facilitator().stream().await;
    let (_, tiles) = stream.find("room", |_| true).await;
    assert_eq!(tiles[0]["message"], json!("it broke meanwhile"), "{tiles}");
}

#[tokio::test]
async fn a_check_is_ordered_once_and_told_while_it_runs() {
    let world = World::new().await;
    world.join("ada").await;
    world.get("/_arena/state").send().await.assert(401);
    let ask = || {
        world
            .json("/_arena/check", &json!({"exercise": "crud-1"}))
            .surface("instructions")
            .participant("ada")
    };
    let order = ask().send().await.assert(202).json()["order"]
        .as_i64()
        .unwrap();
    assert_eq!(ask().send().await.json()["order"], order);
    assert_eq!(
        world.store.order(order).unwrap().kind,
        OrderKind::Grade {
            seat: seat("ada"),
            exercise: slug("crud-1"),
            trigger: Trigger::Button
        }
    );
    let state = || {
        world
            .get("/_arena/state")
            .surface("instructions")
            .participant("ada")
    };
    let waiting = state().send().await.json();
    assert_eq!(
        (
            &waiting["exercises"]["crud-1"]["running"],
            &waiting["exercises"]["crud-1"]["position"]
        ),
        (&json!(true), &json!(1))
    );
    world.store.start_order(order).await.unwrap();
    assert_eq!(
        state().send().await.json()["exercises"]["crud-1"]["position"],
        json!(null)
    );
    world
        .store
        .record_attempt(attempt("ada", "crud-1", false))
        .await
        .unwrap();
    world
        .store
        .finish_order(order, Ok(String::new()))
        .await
        .unwrap();
    let told = state().send().await.json();
    assert_eq!(
        told["exercises"]["crud-1"],
        json!({"solved": false, "attempts": 1, "passed": false, "running": false, "position": null,
            "checks": [{"name": "returns it", "passed": false, "message": "expected 10 stays"}]})
    );
    assert_eq!(told["seat"]["name"], "Ada");
    let unknown = world
        .json("/_arena/check", &json!({"exercise": "../x"}))
        .participant("ada")
        .send()
        .await;
    assert_eq!(unknown.assert(404).json()["code"], "exercise_unknown");
    world
        .json("/_arena/check", &json!({"exercise": "crud-1"}))
        .facilitator()
        .send()
        .await
        .assert(403);
}

#[tokio::test]
async fn the_room_is_told_to_facilitators_on_the_portal_only() {
    let world = World::new().await;
    let mut room = world.get("/_arena/events").facilitator().stream().await;
    let mut elsewhere = world
        .get("/_arena/events")
        .surface("instructions")
        .facilitator()
        .stream()
        .await;
    world.join("ada").await;
    let (_, tiles) = room
        .find("room", |tiles| tiles[0]["taken"] == json!(true))
        .await;
    assert_eq!(
        (&tiles[0]["seat"], &tiles[0]["total"]),
        (&json!("ada"), &json!(3))
    );
    let (_, board) = elsewhere
        .find("leaderboard", |data| data["joined"] == json!(1))
        .await;
    assert!(board.get("code").is_none());
}

#[tokio::test]
async fn shutting_down_ends_open_streams_at_once() {
    let world = World::new().await;
    let mut stream = world.get("/_arena/events").stream().await;
    assert_eq!(stream.next().await.unwrap().1, "leaderboard");
    world.shutdown.cancel();
    while stream.next().await.is_some() {}
    tokio::time::timeout(crate::world::LIMIT, world.serving)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn who_is_taken_off_the_list_is_told_on_the_open_page_and_no_other_page_is_loaded_again() {
    let world = World::new().await;
    for id in ["ada", "bob"] {
        world.join(id).await;
    }
    let streams = ["ada", "bob"].map(|id| world.get("/_arena/events").participant(id));
    let [ada, bob] = streams.map(crate::world::Ask::stream);
    let (mut ada, mut bob) = tokio::join!(ada, bob);
    // The streams have begun.
    ada.find("seat", |_| true).await;
    bob.find("seat", |_| true).await;
    let list = |ids: &[&str]| {
        let specs = ids.iter().map(|id| arena_store::SeatSpec {
            seat: seat(id),
            display_name: (*id).to_owned(),
            email: Some(format!("{id}@example.com")),
            listed: true,
        });
        world.store.sync_seats(specs.collect())
    };
    list(&["ada"]).await.unwrap();
    bob.find("reload", |_| true).await;
    let page = world.get("/seat").participant("bob").send().await;
    page.assert(403);
    assert!(page.body.contains("not on the list of names any more"));
    let check = world.json("/_arena/check", &json!({ "exercise": "crud-1" }));
    check.participant("bob").send().await.assert(403);
    // Whatever Ada is told next, it is not that.
    let status = SeatStatus {
        phase: SeatPhase::Ready,
        ..SeatStatus::default()
    };
    world.store.set_status(&seat("ada"), status).await.unwrap();
    loop {
        let (_, name, told) = ada.next().await.expect("the stream goes on");
        assert_ne!(name, "reload");
        if name == "seat" && told["phase"] == "ready" {
            break;
        }
    }
    list(&["ada", "bob"]).await.unwrap();
    world
        .get("/seat")
        .participant("bob")
        .send()
        .await
        .assert(200);
}

#[tokio::test]
async fn streams_of_browsers_that_left_make_room() {
    let world = World::new().await;
    // As many as may be open at once, in an event where nothing concerns their viewers.
    for _ in 0..5_000 {
        drop(world.get("/_arena/events").stream().await);
    }
    let mut stream = world.get("/_arena/events").stream().await;
    stream.find("leaderboard", |_| true).await;
}
