//! Exercise files: what is read, and every mistake with its place.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::placeholder::{Piece, Reference, pieces};
use super::*;
use crate::source::{Problems, SourceFile};

fn read(text: &str) -> Result<ExerciseFile, String> {
    let file = SourceFile::new("arena/exercises/crud-1.yaml", text);
    let mut problems = Problems::default();
    let slug = ExerciseSlug::new("crud-1").unwrap();
    let exercise = parse(&file, &slug, &mut problems);
    let shown: String = problems.iter().map(ToString::to_string).collect();
    exercise.ok_or(shown)
}

const GOOD: &str = r#"
title: Find, sort, page
files: [server/src/lab/crud-1.lab.js]
needs: [mongodb]
hints:
  - { after: { attempts: 2, minutes: 5 }, text: "`skip` comes before `limit`." }
checks:
  - name: returns the requested page, sorted by name
    given:
      extra: { mongodb: { insert: listings, like: template, with: { name: "{{ random.name }}" } } }
      page:  { mongodb: { find: listings, filter: {}, sort: { name: 1 }, skip: 2, limit: 3 } }
    request: { to: backend, post: /api/listings, json: { filter: {}, skip: 2, limit: 3 } }
    then:
      rows: { sql: { query: "select 1 as one" } }
    expect:
      - { status: 200, otherwise: "Your route answered {{ status }}; look at the terminal named server." }
      - { body: { equals: "{{ page }}", length: { at_most: 3 } }, otherwise: "The first row should be {{ page[0].name }}, but your route answered {{ body[0].name }}." }
    finally:
      - mongodb: { delete: listings, filter: { name: "{{ extra.name }}" } }
"#;

#[test]
fn the_notes_example_is_read() {
    let exercise = read(GOOD).unwrap();
    assert_eq!(exercise.title.as_deref(), Some("Find, sort, page"));
    assert_eq!(exercise.version.len(), 64);
    assert_eq!(
        exercise.needs,
        [Capability::Mongodb, Capability::Postgres].into()
    );
    let check = &exercise.checks[0];
    assert_eq!(
        check
            .given
            .iter()
            .map(|given| given.name.as_str())
            .collect::<Vec<_>>(),
        ["extra", "page"]
    );
    assert_eq!(check.given[1].at_least, 1);
    assert_eq!(check.then[0].at_least, 0);
    assert_eq!(check.expect[1].matchers.len(), 2);
    assert_eq!(
        mentions(check).into_iter().collect::<Vec<_>>(),
        ["body", "extra", "page", "random", "status"]
    );
    let json = serde_json::to_string(check).unwrap();
    assert_eq!(&serde_json::from_str::<Check>(&json).unwrap(), check);
}

#[test]
fn every_sample_exercise_is_read() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let mut read = 0;
    for example in ["hello", "harbour"] {
        let folder = format!("{examples}/{example}/arena/exercises");
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let slug = ExerciseSlug::new(path.file_stem().unwrap().to_str().unwrap()).unwrap();
            let file = SourceFile::new(path.display().to_string(), std::fs::read(&path).unwrap());
            let mut problems = Problems::default();
            let exercise = parse(&file, &slug, &mut problems);
            let shown: String = problems.iter().map(ToString::to_string).collect();
            assert!(
                exercise.is_some_and(|exercise| !exercise.checks.is_empty()),
                "{shown}"
            );
            read += 1;
        }
    }
    assert!(read >= 7, "{read}");
}

#[test]
fn names_are_bound_in_the_order_of_the_file() {
    let text = GOOD.replace(
        "with: { name: \"{{ random.name }}\" }",
        "with: { name: \"{{ page[0].name }}\" }",
    );
    assert_snapshot!("names_are_bound_in_order", read(&text).unwrap_err());
}

#[test]
fn every_mistake_is_shown_with_its_place() {
    let text = r#"
title: Find
files: [../etc/passwd]
checks:
  - name: first
    given:
      body: { mongodb: { count: listings, sort: { name: 1 } } }
      page: { mongodb: { finds: listings } }
    request: { get: api/listings, headers: { X-Arena-Seat: ada } }
    expect:
      - { status: 200, otherwise: "{{ stauts }} and {{ open" }
      - { body: { equal: 3 } }
      - { random.nonsense: 3 }
      - { body: { matches: "(" } }
      - { otherwise: nothing }
  - name: second
    command: [npm, test]
    request: { get: /, post: / }
    expect: []
"#;
    assert_snapshot!("mistakes_of_shape", read(text).unwrap_err());
    let text = text
        .replace("finds:", "find:")
        .replace(", post: /", "")
        .replace("    expect: []\n", "    expect: [{ status: 200 }]\n");
    assert_snapshot!("mistakes_of_meaning", read(&text).unwrap_err());
}

#[test]
fn the_schema_names_every_key_for_editors() {
    let schema = schema().to_string();
    for key in [
        "listIndexes",
        "at_least",
        "otherwise",
        "atlas-search",
        "minutes",
    ] {
        assert!(schema.contains(key), "{key} is missing");
    }
}

#[test]
fn pieces_of_a_text() {
    let reference = Reference::parse("page[0].host.name").unwrap();
    assert_eq!(reference.to_string(), "page[0].host.name");
    assert_eq!(
        pieces("a {{ page.0.host.name }} b").unwrap(),
        [
            Piece::Text("a ".to_owned()),
            Piece::Value(reference),
            Piece::Text(" b".to_owned())
        ]
    );
    for wrong in [
        "{{ }}",
        "{{ a b }}",
        "{{ 1a }}",
        "{{ a. }}",
        "{{ a[x] }}",
        "{{ a[1 }}",
        "{{ a",
    ] {
        assert!(pieces(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*") {
        let _ = pieces(&text);
        let _ = read(&format!("checks: [{{ name: x, request: {{ get: / }}, expect: [{{ status: {text:?} }}] }}]"));
    }

    #[test]
    fn a_reference_reads_back_as_written(name in "[a-z_][a-z0-9_]{0,8}", path in prop::collection::vec("[a-z]{1,5}|[0-9]{1,3}|\\*", 0..6)) {
        let text = std::iter::once(name).chain(path).collect::<Vec<_>>().join(".");
        let reference = Reference::parse(&text).unwrap();
        prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
    }

    #[test]
    fn text_without_braces_is_one_piece(text in "[^{}]+") {
        prop_assert_eq!(pieces(&text).unwrap(), [Piece::Text(text)]);
    }
}
