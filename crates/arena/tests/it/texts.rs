//! Help, completions, schemas: what is read before anything is done.

use std::path::Path;

use serde_json::Value;

use crate::world::World;

const COMMANDS: [&[&str]; 21] = [
    &[],
    &["check"],
    &["plan"],
    &["up"],
    &["status"],
    &["logs"],
    &["open"],
    &["down"],
    &["restore"],
    &["rotate"],
    &["data"],
    &["data", "generate"],
    &["data", "load"],
    &["data", "verify"],
    &["data", "dump"],
    &["data", "embed"],
    &["tools"],
    &["tools", "list"],
    &["tools", "install"],
    &["schema"],
    &["completions"],
];

fn help(command: &[&str]) -> String {
    let said = World::of("hello").arena(&[command, &["--help"]].concat());
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    said.out
}

#[test]
fn help_says_what_each_command_does() {
    insta::assert_snapshot!(help(&[]));
    insta::assert_snapshot!("up", help(&["up"]));
    insta::assert_snapshot!("check", help(&["check"]));
    insta::assert_snapshot!("plan", help(&["plan"]));
    insta::assert_snapshot!("status", help(&["status"]));
    insta::assert_snapshot!("logs", help(&["logs"]));
    insta::assert_snapshot!("down", help(&["down"]));
    insta::assert_snapshot!("tools install", help(&["tools", "install"]));
}

#[test]
fn every_help_fits_eighty_columns() {
    for command in COMMANDS {
        for line in help(command).lines() {
            assert!(
                line.chars().count() <= 80,
                "arena {} --help: {line}",
                command.join(" ")
            );
        }
    }
}

#[test]
fn what_only_arena_itself_calls_is_not_in_the_help() {
    let text = help(&[]) + &help(&["check"]);
    assert!(
        !text.contains("serve") && !text.contains("machine-only"),
        "{text}"
    );
}

#[test]
fn a_misspelt_command_ends_with_two_and_the_nearest_one() {
    let said = World::of("hello").arena(&["chekc"]);
    said.is_refused(2, &["unrecognized subcommand 'chekc'", "'check'"]);
    assert_eq!(said.out, "");
}

#[test]
fn schemas_are_json_that_editors_understand() {
    for (of, key) in [
        ("config", "/properties/customer"),
        ("exercise", "/properties/checks"),
    ] {
        let said = World::of("hello").arena(&["schema", of]);
        assert_eq!(said.code, 0, "{said:?}");
        let schema: Value = serde_json::from_str(&said.out).expect("JSON");
        assert_eq!(schema["type"], "object", "{of}");
        assert!(
            schema.pointer(key).is_some(),
            "the schema of {of} has no {key}"
        );
    }
}

/// `ARENA_WRITE_DOCS=1` writes them anew.
#[test]
fn reference_pages_are_as_the_schemas_say() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    for (of, page) in [("config", "config.md"), ("exercise", "exercises.md")] {
        let said = World::of("hello").arena(&["schema", of, "--format", "markdown"]);
        assert_eq!(said.code, 0, "{said:?}");
        let path = docs.join(page);
        if std::env::var_os("ARENA_WRITE_DOCS").is_some() {
            std::fs::write(&path, &said.out).expect("the page can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == said.out,
            "docs/reference/{page} is stale; write it anew with: ARENA_WRITE_DOCS=1 cargo test -p arena --test it reference"
        );
    }
}

#[test]
fn completions_are_a_script_that_bash_reads() {
    let world = World::of("hello");
    let said = world.arena(&["completions", "bash"]);
    assert_eq!(said.code, 0, "{said:?}");
    world.write("arena.bash", &said.out);
    let bash = std::process::Command::new("bash")
        .arg("-n")
        .arg(world.workshop().join("arena.bash"))
        .status();
    assert!(bash.expect("bash runs").success());
    assert!(
        said.out.contains("harbour") || said.out.contains("--config-only"),
        "{}",
        said.out
    );
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let arena = env!("CARGO_BIN_EXE_arena");
    for command in ["schema config", "completions bash"] {
        let script = format!("set -o pipefail; {arena} {command} | head -n 1 > /dev/null");
        let status = std::process::Command::new("bash")
            .args(["-c", &script])
            .status();
        assert_eq!(
            status.expect("bash runs").code(),
            Some(0),
            "arena {command} | head"
        );
    }
}

#[test]
fn commands_about_an_event_say_which_events_there_are() {
    let world = World::of("hello");
    let said = world.ordinary().run(&["status"]);
    insta::assert_snapshot!(said.transcript(&world), @"
    error: there is no event on this machine
    help: start one with: arena up FOLDER
    exit code 2
    ");
    let said = world
        .ordinary()
        .run(&["logs", "--event", "nowhere", "engine"]);
    insta::assert_snapshot!(said.transcript(&world), @"
    error: there is no event nowhere on this machine
    exit code 2
    ");
}
