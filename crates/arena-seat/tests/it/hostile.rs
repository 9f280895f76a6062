//! Apps that want to harm who talks to them.

use arena_seat::AppPhase;

use crate::world::{World, within};

/// A raw server that answers whatever it is asked with `answer`.
fn raw(answer: &str) -> String {
    format!(
        "require('net').createServer((c) => {{ c.on('error', () => {{}}); c.once('data', () => {{ {answer} }}); }}).listen(process.env.PORT, '127.0.0.1', () => console.log('up'))"
    )
}

async fn refused(answer: &str) {
    let seat = World::new().backend(&raw(answer)).start().await;
    seat.app_in(AppPhase::Ready).await;
    let answer = within("a refusal", seat.get("apps", "/backend/")).await;
    assert_eq!((answer.status, answer.code()), (502, "app-bad-answer"));
    // The agent is as well as before.
    assert_eq!(seat.health().await.apps[0].state, AppPhase::Ready);
    seat.stop().await;
}

#[tokio::test]
async fn endless_headers_are_cut_off() {
    refused("c.write('HTTP/1.1 200 OK\\r\\n'); const more = () => { while (c.writable && c.write('x-more: ' + 'y'.repeat(1000) + '\\r\\n')); }; c.on('drain', more); more();").await;
}

#[tokio::test]
async fn one_endless_header_is_cut_off() {
    refused("c.write('HTTP/1.1 200 OK\\r\\nx-more: '); const more = () => { while (c.writable && c.write('y'.repeat(65536))); }; c.on('drain', more); more();").await;
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_refused() {
    refused("c.write('HTTP/1.1 101 ok\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\nHTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nforged');").await;
}

#[tokio::test]
async fn something_that_is_not_http_is_refused() {
    refused("c.end('220 mail.example ready\\r\\n');").await;
}

#[tokio::test]
async fn a_connection_that_closes_without_answer_is_refused() {
    refused("c.end();").await;
}

#[tokio::test]
async fn a_switch_to_another_protocol_than_asked_for_is_refused() {
    let seat = World::new()
        .backend(&raw(
            "c.write('HTTP/1.1 101 ok\\r\\nUpgrade: h2c\\r\\nConnection: Upgrade\\r\\n\\r\\n');",
        ))
        .start()
        .await;
    seat.app_in(AppPhase::Ready).await;
    assert_eq!(seat.upgrade("apps", "/backend/").await.err(), Some(502));
    seat.stop().await;
}

#[tokio::test]
async fn a_flood_of_output_does_not_fill_the_agent() {
    let seat = World::new()
        .backend("const more = () => { while (process.stdout.write('x'.repeat(1000) + '\\n')); }; process.stdout.on('drain', more); more(); require('http').createServer((q, s) => s.end('fine')).listen(process.env.PORT)")
        .start()
        .await;
    seat.app_in(AppPhase::Ready).await;
    assert_eq!(seat.get("apps", "/backend/").await.text(), "fine");
    assert!(
        seat.get("agent", "/apps/backend/log?lines=100000")
            .await
            .body
            .len()
            <= 70_000
    );
    seat.stop().await;
}
