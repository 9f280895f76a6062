//! `check --config-only` and `plan` on both samples.

use serde_json::Value;

use crate::world::World;

#[test]
fn the_samples_are_without_a_mistake() {
    for (example, line) in [
        ("hello", "✓ Hello, Arena: 3 seats, 1 exercise\n"),
        ("harbour", "✓ Harbour: 6 seats, 6 exercises\n"),
    ] {
        let world = World::of(example);
        let said = world.arena(&["check", "--config-only"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        assert_eq!(said.out, line, "{example}");
    }
}

#[test]
fn the_samples_are_without_a_mistake_for_scripts() {
    for (example, databases) in [
        ("hello", &[][..]),
        (
            "harbour",
            &["built-in database (DocumentDB)", "built-in PostgreSQL 18"],
        ),
    ] {
        let said = World::of(example).arena(&["check", "--config-only", "--format", "json"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        let mut found: Value = serde_json::from_str(&said.out).expect("JSON");
        let named = found["databases"].take();
        let titles = named
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| &one["title"]);
        assert!(titles.eq(databases), "{named}");
        assert_eq!(
            found,
            serde_json::json!({
                "ok": true, "databases": null, "greyed_exercises": [],
                "problems": [], "machine": null, "people": null
            })
        );
    }
}

#[test]
fn mistakes_are_told_to_scripts_with_their_place() {
    let world = World::of("hello");
    world.edit("config.yaml", |text| text.replace("backend:", "bakend:"));
    let said = world.arena(&["check", "--config-only", "--format", "json"]);
    assert_eq!((said.code, said.err.as_str()), (2, ""), "{said:?}");
    let found: Value = serde_json::from_str(&said.out).expect("JSON");
    let problem = &found["problems"][0];
    assert_eq!(found["ok"], false);
    assert_eq!(
        (problem["span"]["line"].as_u64(), problem["hint"].as_str()),
        (Some(15), Some("did you mean `backend`?"))
    );
}

#[test]
fn a_plan_is_a_tree() {
    for example in ["hello", "harbour"] {
        let world = World::of(example);
        let said = world.arena(&["plan"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        insta::assert_snapshot!(format!("plan of {example}"), said.transcript(&world));
    }
}

#[test]
fn the_same_workshop_never_gives_two_plans() {
    for example in ["hello", "harbour"] {
        let world = World::of(example);
        let plan = || world.arena(&["plan", "--format", "json"]);
        let (first, second) = (plan(), plan());
        assert_eq!((first.code, &first.out), (0, &second.out));
        let plan: Value = serde_json::from_str(&first.out).expect("JSON");
        assert_eq!(plan["event"], world.event.as_str());
        // Negative control: what makes a difference is seen.
        let other = world.arena(&["plan", "--format", "json", "--port", "9000"]);
        assert_ne!(first.out, other.out);
    }
}

#[test]
fn a_difference_to_nothing_is_the_whole_plan() {
    let world = World::of("hello");
    let (plan, said) = (
        world.ordinary().run(&["plan"]),
        world.ordinary().run(&["plan", "--diff"]),
    );
    assert_eq!((said.code, &said.out), (0, &plan.out));
    insta::assert_snapshot!(said.err.replace(&world.event, "[event]"), @"nothing of [event] runs or ran here: everything would be new");
}

#[test]
fn a_difference_names_what_up_would_change() {
    let world = World::of("hello");
    // What ran last, as `up` keeps it.
    let plan = world.ordinary().run(&["plan", "--format", "json"]);
    let state = world.path("state/arena").join(&world.event);
    std::fs::create_dir_all(&state).expect("a folder");
    std::fs::write(state.join("plan.json"), plan.out).expect("a file");
    let said = world.ordinary().run(&["plan", "--diff"]);
    insta::assert_snapshot!(said.transcript(&world), @"
    `up` would change nothing of [event]
    exit code 0
    ");
    world.edit("config.yaml", |text| {
        text.replace("additional_users_count: 1", "additional_users_count: 2")
    });
    let said = world.ordinary().run(&["plan", "--diff", "--port", "9000"]);
    insta::assert_snapshot!(said.transcript(&world), @"
    ~ address.port: 8080 → 9000
    ~ environment.BACKEND_URL: http://ada.arena.localhost:8080/backend → http://ada.arena.localhost:9000/backend (seat ada)
    ~ environment.BACKEND_URL: http://grace.arena.localhost:8080/backend → http://grace.arena.localhost:9000/backend (seat grace)
    ~ environment.BACKEND_URL: http://seat0.arena.localhost:8080/backend → http://seat0.arena.localhost:9000/backend (seat seat0)
    + seats.seat1
    exit code 0
    ");
    let said = world
        .ordinary()
        .run(&["plan", "--diff", "--format", "json"]);
    serde_json::from_str::<Value>(&said.out).expect("JSON");
}
