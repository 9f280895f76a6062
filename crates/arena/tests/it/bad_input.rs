//! Workshops with something wrong: every mistake has a place and a way out, or
//! is accepted for a reason; nothing ends in a panic.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::world::{Said, World};

/// Checks the files of `examples/hello` with one of them changed.
fn check(change: impl FnOnce(&World)) -> (World, Said) {
    let world = World::of("hello");
    change(&world);
    let said = world.arena(&["check", "--config-only"]);
    said.is_readable();
    (world, said)
}

fn config(change: impl FnOnce(String) -> String) -> String {
    let (world, said) = check(|world| world.edit("config.yaml", change));
    said.transcript(&world)
}

fn list(rows: &str) -> String {
    let (world, said) = check(|world| world.edit("user_list.csv", |text| text + rows));
    said.transcript(&world)
}

#[test]
fn a_dropped_key_is_asked_for() {
    let text = config(|text| {
        text.lines()
            .filter(|line| !line.starts_with("  name:"))
            .collect::<Vec<_>>()
            .join("\n")
    });
    insta::assert_snapshot!(text, @"
    error: `customer` is empty
      --> ./config.yaml:3:1
       |
     3 | customer:
       | ^^^^^^^^
      help: Whose event it is.

    1 mistake in the workshop's files; nothing was started
    exit code 2
    ");
}

#[test]
fn a_misspelt_key_is_told_with_the_nearest() {
    insta::assert_snapshot!(config(|text| text.replace("backend:", "bakend:")), @"
    error: unknown key `bakend` in `scenario`
      --> ./config.yaml:15:3
        |
     15 |   bakend: server
        |   ^^^^^^
      help: did you mean `backend`?

    1 mistake in the workshop's files; nothing was started
    exit code 2
    ");
}

#[test]
fn a_value_of_another_type_is_told_with_what_to_write() {
    let text = config(|text| {
        text.replace(
            "additional_users_count: 1 ",
            "additional_users_count: many ",
        )
    });
    insta::assert_snapshot!(text, @"
    error: `mongodb.additional_users_count` must be a whole number, not `many`
      --> ./config.yaml:7:27
       |
     7 |   additional_users_count: many     # seats for people who walk in
       |                           ^^^^
      help: write digits only, such as `5`

    1 mistake in the workshop's files; nothing was started
    exit code 2
    ");
}

#[test]
fn several_mistakes_are_told_in_one_run() {
    let text = config(|text| {
        text.replace("backend:", "bakend:")
            .replace("type: timed", "type: tymed")
    });
    assert!(
        text.contains("bakend") && text.contains("tymed") && text.contains("2 mistakes"),
        "{text}"
    );
}

#[test]
fn a_key_that_is_there_twice_is_told() {
    let text = config(|text| text + "\nmongodb:\n  additional_users_count: 3\n");
    assert!(
        text.contains("config.yaml:") && text.contains("mongodb") && text.ends_with("exit code 2"),
        "{text}"
    );
}

#[test]
fn a_tab_is_told_with_its_line() {
    insta::assert_snapshot!(config(|text| text.replace("  name:", "\tname:")), @"
    error: a tab indents this line
      --> ./config.yaml:4:1
       |
     4 |  name: [event]
       | ^
      help: YAML is indented with spaces: replace the tab by two spaces

    1 mistake in the workshop's files; nothing was started
    exit code 2
    ");
}

#[test]
fn a_byte_order_mark_is_accepted() {
    let text = config(|text| format!("\u{feff}{text}"));
    assert!(text.ends_with("exit code 0"), "{text}");
}

#[test]
fn an_empty_config_is_told_with_its_first_lines() {
    insta::assert_snapshot!(config(|_| String::new()), @"
    error: `customer` is missing
      --> ./config.yaml:1:1
      help: add `customer: …`. Whose event it is.

    1 mistake in the workshop's files; nothing was started
    exit code 2
    ");
}

#[test]
fn a_binary_config_is_told_as_such() {
    let bytes: Vec<u8> = (0..3000_u32)
        .map(|number| u8::try_from(number * 7 % 256).expect("below 256"))
        .collect();
    let (_, said) = check(|world| world.write("config.yaml", &bytes));
    said.is_refused(
        2,
        &["config.yaml:1:", "not UTF-8", "is this the right file?"],
    );
}

#[test]
fn ten_megabytes_of_config_are_refused_by_size() {
    let (_, said) =
        check(|world| world.edit("config.yaml", |text| text + &"# filler\n".repeat(1_200_000)));
    said.is_refused(2, &["config.yaml:1:1", "bytes; at most", "right file?"]);
}

#[test]
fn anchors_that_explode_are_refused() {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 9].join(",");
        writeln!(text, "a{level}: &a{level} [{below}]").expect("a string");
    }
    let (world, said) = check(|world| world.write("config.yaml", &text));
    insta::assert_snapshot!(said.transcript(&world), @"
    error: anchors and aliases grow to more than 10000 values
      --> ./config.yaml:4:5
       |
     4 | a3: &a3 [*a2,*a2,*a2,*a2,*a2,*a2,*a2,*a2,*a2]
       |     ^^^^^
      help: write the values out instead of naming them with `&` and `*`

    1 mistake in the workshop's files; nothing was started
    exit code 2
    ");
}

#[test]
fn two_people_of_one_id_both_get_a_seat() {
    insta::assert_snapshot!(list("Ada,Byron,ada@example.org\n"), @"
    ✓ Hello, Arena: 4 seats, 1 exercise
    warning: the seat of ada@example.org is named `ada-2`: `ada` is another seat's
      --> ./user_list.csv:4:11
       |
     4 | Ada,Byron,ada@example.org
       |           ^^^^^^^^^^^^^^^

    exit code 0
    ");
}

#[test]
fn a_reserved_id_gets_a_number() {
    insta::assert_snapshot!(list("Ad,Min,admin@example.com\n"), @"
    ✓ Hello, Arena: 4 seats, 1 exercise
    warning: the seat of admin@example.com is named `admin-2`: `admin` is reserved
      --> ./user_list.csv:4:8
       |
     4 | Ad,Min,admin@example.com
       |        ^^^^^^^^^^^^^^^^^

    exit code 0
    ");
}

#[test]
fn five_thousand_people_are_planned() {
    let world = World::of("hello");
    let mut rows = "name,surname,email\n".to_owned();
    for number in 0..5000 {
        writeln!(rows, "Person,{number},p{number}@example.com").expect("a string");
    }
    world.write("user_list.csv", rows);
    let said = world.arena(&["plan"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(
        said.out
            .contains("seats: 5000 for people on the list, 1 spare"),
        "{}",
        said.out
    );
    assert!(
        said.out.lines().count() < 100,
        "a tree that nobody can read"
    );
    let json = world.arena(&["plan", "--format", "json"]);
    assert!(json.out.contains("p4999.arena.localhost"));
}

#[test]
fn a_quote_that_does_not_close_skips_its_row_with_a_warning() {
    let text = list("\"Ada,Byron,ada2@example.org\n");
    assert!(
        text.contains("warning: ") && text.contains("user_list.csv:4:") && text.contains("help:"),
        "{text}"
    );
    assert!(
        text.ends_with("exit code 0"),
        "the others have their seats: {text}"
    );
}

#[test]
fn a_list_without_its_columns_is_told() {
    let (_, said) = check(|world| world.write("user_list.csv", "who\nAda\n"));
    said.is_refused(2, &["user_list.csv:1", "email", "help:"]);
}

#[test]
fn a_folder_without_config_is_told_with_where_it_looked() {
    let (world, said) =
        check(|world| fs::remove_file(world.workshop().join("config.yaml")).expect("our copy"));
    insta::assert_snapshot!(said.transcript(&world), @"
    error: there is no config.yaml
      help: write one with two lines: `customer:` and, indented by two spaces, `name: …`

    1 mistake in the workshop's files; nothing was started
    help: looked in [folder]/workshop; another folder is named on the command line
    exit code 2
    ");
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    let world = World::of("hello");
    for command in ["check", "plan", "up"] {
        let said = world.arena(&[command, "nowhere"]);
        insta::allow_duplicates! {
            insta::assert_snapshot!(said.transcript(&world), @"
            error: cannot open workshop folder nowhere
              because No such file or directory (os error 2)
            help: name a folder that holds config.yaml and that you may read
            exit code 2
            ");
        }
    }
}

#[test]
fn a_file_in_place_of_the_folder_is_told_unless_it_is_the_config() {
    let world = World::of("hello");
    let said = world.arena(&["check", "README.md"]);
    insta::assert_snapshot!(said.transcript(&world), @"
    error: README.md is not a config.yaml
    help: name the folder that holds config.yaml, or that file itself
    exit code 2
    ");
    let said = world.arena(&["check", "--config-only", "config.yaml"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}

#[test]
fn what_cannot_be_read_is_named() {
    let world = World::of("hello");
    let close = |path: &str, mode| {
        let closed = fs::Permissions::from_mode(mode);
        fs::set_permissions(world.workshop().join(path), closed).expect("our copy");
    };
    for path in ["config.yaml", "docs"] {
        close(path, 0);
        let said = world.ordinary().run(&["check", "--config-only", "."]);
        said.is_refused(2, &["cannot", path, "Permission denied", "help:"]);
        close(path, 0o755);
    }
    let said = world.ordinary().run(&["check", "--config-only"]);
    assert_eq!(said.code, 0, "readable again: {said:?}");
}

#[test]
fn a_folder_called_config_yaml_is_told() {
    let (_, said) = check(|world| {
        let config = world.workshop().join("config.yaml");
        fs::remove_file(&config).expect("our copy");
        fs::create_dir(config).expect("a folder");
    });
    said.is_refused(2, &["config.yaml", "directory", "help:"]);
}

#[test]
fn broken_exercises_and_pages_are_told_with_the_config() {
    let (_, said) = check(|world| {
        world.edit("config.yaml", |text| text.replace("backend:", "bakend:"));
        world.write("arena/exercises/hello-1.yaml", "checks: 7\n");
    });
    said.is_refused(2, &["config.yaml:15:3", "arena/exercises/hello-1.yaml:1:"]);
}
