//! Apps that answer what hurts. Each test fails when its limit is removed.

use std::time::{Duration, Instant};

use arena_grader::{Limits, grade};

use crate::app::{App, Reply, exercise, first_message, json};

const CHECK: &str =
    "  - name: x\n    request: { get: / }\n    expect: [{ body: { equals: [] } }]\n";

#[tokio::test]
async fn a_body_without_end_is_cut() {
    let app = App::start(|_| {
        Reply::Endless(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
            format!("1000\r\n{}\r\n", "a".repeat(0x1000)).into_bytes(),
        )
    });
    assert_eq!(
        app.message(CHECK).await,
        "your back end answered with more than 1024 kB: does the query have a limit?"
    );
}

#[tokio::test]
async fn a_claim_of_two_gigabytes_allocates_nothing() {
    let app = App::start(|_| {
        Reply::Endless(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2147483648\r\n\r\n".to_vec(),
            vec![b'a'; 4096],
        )
    });
    assert_eq!(
        app.message(CHECK).await,
        "your back end answered with more than 1024 kB: does the query have a limit?"
    );
}

#[tokio::test]
async fn headers_without_end_are_cut() {
    let app = App::start(|_| {
        Reply::Endless(
            b"HTTP/1.1 200 OK\r\n".to_vec(),
            b"x-more: and more\r\n".to_vec(),
        )
    });
    assert_eq!(
        app.message(CHECK).await,
        "your back end broke off its answer: see the terminal named server"
    );
}

#[tokio::test]
async fn silence_is_ended_by_the_time_limit() {
    let app = App::start(|_| Reply::Silence);
    let limits = Limits {
        request: Duration::from_millis(200),
        ..Limits::default()
    };
    let grading = grade(&exercise(CHECK), &app.seat(), &limits).await;
    let message = first_message(grading);
    assert_eq!(
        message,
        "your back end did not answer within 0.2 s: is there a request that it never answers, or a loop?"
    );
}

#[tokio::test]
async fn drops_that_never_fill_the_glass_are_ended_too() {
    let app =
        App::start(|_| Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec()));
    assert_eq!(
        app.message(CHECK).await,
        "your back end broke off its answer: see the terminal named server"
    );
}

#[tokio::test]
async fn the_whole_exercise_has_a_time_limit() {
    let app = App::start(|_| Reply::Silence);
    let limits = Limits {
        request: Duration::from_secs(60),
        exercise: Duration::from_millis(300),
        ..Limits::default()
    };
    let mut many = exercise(&CHECK.repeat(5));
    many.files.clear();
    let begin = Instant::now();
    let grading = grade(&many, &app.seat(), &limits).await;
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(grading.checks.iter().all(|check| {
        check.message.as_deref() == Some("stopped: this exercise's checks took longer than 0.3 s")
    }));
}

#[tokio::test]
async fn deep_json_is_refused_before_it_is_read() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let app = App::start(move |_| json(200, &deep(100_000)));
    assert_eq!(
        app.message(CHECK).await,
        "your back end answered with JSON nested deeper than 64 levels"
    );
    let app = App::start(move |_| json(200, &deep(64)));
    assert!(
        app.message(CHECK)
            .await
            .starts_with("body is not as expected")
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let app = App::start(|_| {
        Reply::Raw(
            b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".to_vec(),
        )
    });
    app.message("  - name: x\n    request: { get: / }\n    expect: [{ status: 200 }]\n")
        .await;
    let to_apps = app
        .asked()
        .into_iter()
        .filter(|asked| !asked.path.starts_with("/files"));
    assert_eq!(to_apps.count(), 1);
}

#[tokio::test]
async fn what_a_terminal_or_a_browser_would_obey_is_shown_harmless() {
    let app = App::start(|_| {
        json(
            200,
            r#"{"name":"\u001b[2J\u001b]0;pwned\u0007\u202egnp.exe\u200b\r\n<script>alert(1)</script>"}"#,
        )
    });
    let message = app
        .message("  - name: x\n    request: { get: / }\n    expect: [{ body.name: Ada, otherwise: 'You said {{ body.name }}.' }]\n")
        .await;
    // HTML is text here: pages escape text.
    insta::assert_snapshot!(message, @r"You said \u{1b}[2J\u{1b}]0;pwned\u{7}\u{202e}gnp.exe\u{200b}\u{d}⏎<script>alert(1)</script>.");
    assert!(message.chars().all(|character| !character.is_control()));
}

#[tokio::test]
async fn a_message_has_at_most_twenty_lines_of_bounded_length() {
    let rows: Vec<String> = (0..900)
        .map(|number| format!("{{\"n\":{number},\"t\":\"{}\"}}", "x".repeat(900)))
        .collect();
    let body = format!("[{}]", rows.join(","));
    let app = App::start(move |_| json(200, &body));
    let message = app.message(CHECK).await;
    assert_eq!(message.lines().count(), 20);
    assert!(message.lines().all(|line| line.chars().count() <= 401));
    assert_eq!(message.lines().last(), Some("… and 883 more"));
}

#[tokio::test]
async fn more_than_a_thousand_rows_are_not_compared() {
    let body = format!("[{}1]", "1,".repeat(1000));
    let app = App::start(move |_| json(200, &body));
    assert_eq!(
        app.message(CHECK).await,
        "body is not as expected\nbody has more than 1000 rows"
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_are_shown_as_text() {
    let app = App::start(|_| {
        Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\xff\x00\xfe\x01".to_vec())
    });
    let message = app.message(CHECK).await;
    assert_eq!(
        message,
        "body is not as expected\nexpected [], got \"\u{fffd}\\u0000\u{fffd}\\u0001\""
    );
}
