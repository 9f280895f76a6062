//! Requests, values, matchers and messages, as an author sees them.

use insta::assert_snapshot;

use crate::app::{App, Reply, json};

const LIST: &str = r#"[{"_id":"65f0c0ffee65f0c0ffee0001","name":"Amber","price":{"$numberDecimal":"12.50"},"beds":2,"since":"2026-01-02T00:00:00.000Z"},{"name":"Birch"}]"#;

#[tokio::test]
async fn a_request_arrives_as_written_and_only_with_our_headers() {
    let app = App::start(|_| json(200, "{}"));
    let passed = app
        .grade(
            r#"
  - name: first
    request: { post: "/api/find/{{ random.name }}?deep=1", query: { filter: { beds: 2 }, q: "a b" }, json: { name: "{{ random.name }}", n: "{{ random.integer }}" }, headers: { X-Test: "{{ seat.id }}", x-arena-seat-not: no } }
    expect: [{ status: 200 }]
"#
            .replace(", x-arena-seat-not: no", "")
            .as_str(),
        )
        .await;
    assert!(passed.passed);
    let asked = app.asked().pop().unwrap();
    assert_eq!(asked.method, "POST");
    assert_snapshot!(asked.path, @"/backend/api/find/Hugo%20Birch%208295?deep=1&filter=%7B%22beds%22%3A2%7D&q=a+b");
    let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(body["name"], "Hugo Birch 8295");
    assert!(
        body["n"].is_i64(),
        "a value that is one placeholder keeps its type: {body}"
    );
    let head = asked.head.to_ascii_lowercase();
    assert!(
        head.contains("\r\nx-arena-surface: apps\r\n")
            && head.contains("\r\nhost: ada.1.invalid\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nx-test: ada\r\n"), "{head}");
}

#[tokio::test]
async fn every_matcher_holds_for_what_is_right() {
    let app = App::start(|_| json(200, LIST));
    let grading = app
        .grade(
            r#"
  - name: all
    request: { get: /api/listings }
    expect:
      - { status: 200 }
      - { status: { one_of: [200, 201], at_least: 200, at_most: 299 } }
      - { body.length: 2 }
      - { body: { length: { at_least: 1, at_most: 2 }, contains: { name: Birch } } }
      - { "body.*.name": [Amber, Birch] }
      - { "body.*.name": { unordered: [Birch, Amber] } }
      - { "body.*.secret": { absent: true } }
      - { "body[0].price": { equals: 12.5, near: { value: 12.49, within: 0.01 } } }
      - { "body[0]._id": { equals: { $oid: 65f0c0ffee65f0c0ffee0001 } } }
      - { "body[0].since": { equals: { $date: "2026-01-02T01:00:00+01:00" }, at_most: "2026-01-02T00:00:00Z" } }
      - { "body[0]": { subset: { name: Amber, beds: 2 } } }
      - { "body[1].name": { matches: "^B.*h$", contains: irc } }
      - { headers.content-type: { contains: json } }
"#,
        )
        .await;
    assert_eq!(grading.checks[0].message, None);
    assert!(grading.passed);
    assert_eq!(grading.version.len(), 64);
}

#[tokio::test]
async fn messages_say_what_differs() {
    let app = App::start(|_| json(200, LIST));
    let mut told = String::new();
    for expectation in [
        "{ status: 201 }",
        "{ status: 201, otherwise: 'Your route answered {{ status }} and {{ body[9].name }}.' }",
        "{ body: { equals: [{ name: Birch }, { name: Amber }] } }",
        "{ 'body.*.name': { equals: [Birch, Amber] }, otherwise: 'By name, please.' }",
        "{ 'body.*.name': { unordered: [Birch, Cedar] } }",
        "{ body: { contains: { name: Cedar } } }",
        "{ 'body[0]': { subset: { name: Amber, beds: 3 } } }",
        "{ body: { length: { at_least: 3 } } }",
        "{ 'body[0].price': { near: { value: 12.4, within: 0.01 } } }",
        "{ 'body[0].name': { matches: '^B' } }",
        "{ 'body[0].name': { absent: true } }",
        "{ 'body[0].nothing': { absent: false } }",
        "{ 'body[0].nothing': 3 }",
        "{ 'body[0].beds': { at_most: 1 } }",
        "{ 'body[0].beds': '2' }",
        "{ 'body[0].name': { one_of: [Cedar, Dune] } }",
        "{ body: { equals: '{{ body[9] }}' } }",
    ] {
        let message = app
            .message(&format!(
                "  - name: x\n    request: {{ get: / }}\n    expect: [{expectation}]\n"
            ))
            .await;
        told.push_str(&format!(
            "{expectation}\n  {}\n",
            message.replace('\n', "\n  ")
        ));
    }
    assert_snapshot!("messages", told);
}

#[tokio::test]
async fn a_back_end_that_is_not_running_is_named() {
    let told = async |code: &str| {
        let answer = format!("HTTP/1.1 502 X\r\n{code}content-length: 2\r\n\r\n{{}}");
        let app = App::start(move |_| Reply::Raw(answer.clone().into_bytes()));
        let check = "  - name: x\n    request: { get: / }\n    expect: [{ status: 200 }]\n";
        app.message(check).await
    };
    let not_running = "your back end is not running: see the terminal named server";
    assert_eq!(
        told("x-arena-error: app-not-running\r\n").await,
        not_running
    );
    let broke_off = "your back end broke off its answer: see the terminal named server";
    assert_eq!(told("x-arena-error: app-bad-answer\r\n").await, broke_off);
    // An app may answer 502 itself.
    assert_eq!(
        told("").await,
        "status is not as expected\nexpected 200, got 502"
    );
    let app = App::start(|_| Reply::Silence);
    let mut seat = app.seat();
    seat.socket = seat.socket.with_extension("gone");
    let exercise = crate::app::exercise(
        "  - name: x\n    request: { get: / }\n    expect: [{ status: 200 }]\n",
    );
    let grading = arena_grader::grade(&exercise, &seat, &arena_grader::Limits::default()).await;
    assert_eq!(
        crate::app::first_message(grading),
        "your seat is not running: wait a moment and try again, or ask a facilitator"
    );
}

#[tokio::test]
async fn files_are_read_through_the_agent_and_hashed() {
    let app = App::start(|asked| {
        assert!(
            asked
                .head
                .to_ascii_lowercase()
                .contains("x-arena-surface: agent")
        );
        match asked.path.as_str() {
            "/files?path=server%2Fsrc%2Flab%2Fcrud-1.lab.js" => {
                Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nfind().sort".to_vec())
            }
            _ => json(404, "{}"),
        }
    });
    let checks = r"
  - name: sorts
    file: server/src/lab/crud-1.lab.js
    expect: [{ exists: true }, { text: { contains: sort } }]
  - name: has no second file
    file: server/other.js
    expect: [{ exists: false }, { text: { absent: true } }]
";
    let grading = app.grade(checks).await;
    assert!(grading.passed, "{grading:?}");
    let other = App::start(|_| json(404, "{}")).grade(checks).await;
    assert_ne!(grading.files_hash, other.files_hash);
    assert_eq!(
        other.checks[0].message.as_deref(),
        Some("exists is not as expected\nexpected true, got false")
    );
}

#[tokio::test]
async fn an_exercise_without_checks_never_passes() {
    let app = App::start(|_| json(200, "[]"));
    assert!(!app.grade("  []").await.passed);
}
