//! YAML to structs: every mistake shown at once with its place.

use arena_workshop::yaml::{self, Node};
use arena_workshop::{Problems, SourceFile};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
struct Sample {
    /// What it is called. Shown to people.
    name: String,
    #[serde(default)]
    size: Option<u16>,
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    mode: Option<Mode>,
    #[serde(default)]
    steps: Vec<Step>,
    #[serde(default)]
    expect: Option<Expect>,
    #[serde(default)]
    with: std::collections::BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// Fast.
    Quick,
    Slow,
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Step {
    Find(Find),
    Count { count: String },
    ListIndexes(String),
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
struct Find {
    collection: String,
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-exactly-one" = ["status", "body"]))]
struct Expect {
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    body: Option<serde_json::Value>,
    #[serde(default)]
    otherwise: Option<String>,
}

fn read(text: impl Into<Vec<u8>>) -> (Option<Sample>, String) {
    let file = SourceFile::new("sample.yaml", text);
    let mut problems = Problems::default();
    let value = yaml::load::<Sample>(&file, &mut problems).map(|(value, _)| value);
    (value, problems.to_string())
}

fn tree(text: &str) -> Node {
    yaml::parse(
        &SourceFile::new("sample.yaml", text),
        &mut Problems::default(),
    )
    .unwrap()
}

#[test]
fn a_right_file_becomes_the_struct() {
    let (value, problems) = read(
        "\u{feff}name: 'Ünïversity: 1'\r\nsize: 12\r\nenabled: \"true\"\r\ntags: [a, 1]\r\nmode: quick\r\nsteps:\r\n- find: {collection: listings}\r\n- listIndexes: x\r\nexpect: {status: 200, otherwise: hm}\r\nwith: {a: 1, b: '1', c: [true, 1.5], d: null}\r\n",
    );
    insta::assert_snapshot!(problems, @"");
    insta::assert_debug_snapshot!(value);
}

#[test]
fn every_mistake_is_shown_at_once() {
    let (value, problems) = read(
        "nam: Ada\nsize: 70000\nenabled: yes\ntags: one\nmode: quik\nsteps:\n  - fnd: {collection: x}\n  - find: {colection: x}\n  - find: {collection: x}\n    listIndexes: y\n  - soup\nexpect: {status: 200, body: 1}\nwidth: 3\n",
    );
    assert_eq!(value, None);
    insta::assert_snapshot!(problems);
}

#[test]
fn a_duplicate_names_the_first() {
    let (value, problems) = read("name: a\nsize: 1\nname: b\n");
    assert_eq!(value, None);
    insta::assert_snapshot!(problems);
}

#[test]
fn keys_without_value_count_as_absent_and_required_ones_are_missed() {
    let (_, problems) = read("name:\ntags:\nmode: ~\nsize:\n");
    insta::assert_snapshot!(problems);
    let (_, problems) = read("");
    insta::assert_snapshot!(problems);
}

#[test]
fn tabs_are_named() {
    let (_, problems) = read("name: x\nexpect:\n\tstatus: 200\n\totherwise: y\n");
    insta::assert_snapshot!(problems);
}

#[test]
fn what_is_no_yaml_says_where() {
    let mut all = String::new();
    for text in [
        "name: [a, b\nsize: 1\n",
        "name: 'a\n",
        "name: x: y\n",
        "name: a\n size: 1\n",
        "- a\nb: 1\n",
        "{{ name }}: x\n",
        "name: *none\n",
    ] {
        let (value, problems) = read(text);
        assert_eq!(value, None, "{text}");
        all += &problems;
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_is_no_text_says_so() {
    let mut all = String::new();
    for bytes in [
        &b"\xff\xfen\0"[..],
        b"name: \xe9t\xe9\n",
        b"\x7fELF\0\0",
        b"name: a\nb: \x1b[31m\n",
    ] {
        let (value, problems) = read(bytes);
        assert_eq!(value, None);
        all += &problems;
    }
    insta::assert_snapshot!(all);
}

#[test]
fn too_large_too_deep_and_exploding_files_are_refused() {
    let mut all = String::new();
    let laughs = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
        text + &format!(
            "a{n}: &a{n} [{}]\n",
            vec![format!("*a{}", n - 1); 10].join(",")
        )
    });
    let nested_anchors = (0..60).map(|n| format!("&b{n} [")).collect::<String>()
        + &"x,".repeat(5_000)
        + &"]".repeat(60);
    for text in [
        "x".repeat(10 * 1024 * 1024),
        "[".repeat(100_000),
        laughs,
        nested_anchors,
        "a: &a [*a]\n".to_owned(),
        "[],".repeat(200_000),
    ] {
        let (value, problems) = read(text);
        assert_eq!(value, None);
        all += &problems;
    }
    insta::assert_snapshot!(all);
}

#[test]
fn anchors_and_merges_work_in_measure() {
    let node = tree("base: &b {a: 1, b: 2}\nmine:\n  <<: *b\n  b: 3\nlist: [*b]\n");
    assert_eq!(
        node.to_json(),
        serde_json::json!({"base": {"a": 1, "b": 2}, "mine": {"b": 3, "a": 1}, "list": [{"a": 1, "b": 2}]})
    );
}

#[test]
fn a_path_leads_to_its_place() {
    let node = tree("a:\n  b:\n    - c: x\n    - é: yy\n");
    let span = node.find(&["a", "b", "1", "é"]);
    assert_eq!((span.line, span.column, span.end - span.start), (4, 10, 2));
    let span = node.find(&["a", "b", "7", "é"]);
    assert_eq!((span.line, span.column), (2, 3));
    assert_eq!(node.find_key(&["a", "b", "1", "é"]).column, 7);
}
