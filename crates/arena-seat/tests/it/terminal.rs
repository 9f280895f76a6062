//! The terminal named *server*, as a program on a pseudo-terminal.

use std::process::Stdio;

use arena_seat::AppPhase;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::world::{World, until, within};

const APP: &str = "console.log('process', process.pid); require('http').createServer((q, s) => s.end('fine')).listen(process.env.PORT)";

#[tokio::test]
async fn a_terminal_shows_output_restarts_the_app_and_never_kills_it() {
    let seat = World::new().backend(APP).start().await;
    seat.app_in(AppPhase::Ready).await;
    // Cargo builds examples before tests, beside the folder of this test's binary.
    let program = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .with_file_name("examples")
        .join("seat");
    let command = format!("{} serve app-terminal backend", program.display());
    let mut terminal = Command::new("/usr/bin/script")
        .args(["-q", "-f", "-e", "-c", &command, "/dev/null"])
        .env(
            "ARENA_AGENT_SOCKET",
            seat.world.folder.path().join("run/agent.sock"),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut keys = terminal.stdin.take().unwrap();
    let mut screen = BufReader::new(terminal.stdout.take().unwrap()).lines();
    let mut line = async |text: &str| {
        let found = async {
            loop {
                let line = screen
                    .next_line()
                    .await
                    .unwrap()
                    .expect("the terminal lives");
                if line.contains(text) {
                    return line;
                }
            }
        };
        within(text, found).await
    };
    line("closing this terminal does not stop it").await;
    let before = line("process").await;

    keys.write_all(b"\x03\x1a\nhello\n").await.unwrap();
    keys.write_all(b"r\n").await.unwrap();
    line("restarted from a terminal").await;
    let after = line("process").await;
    assert_ne!(before, after);
    let health = until("the restart is counted", async || {
        let health = seat.health().await;
        let is_back = health.apps[0].restarts == 1 && health.apps[0].state == AppPhase::Ready;
        is_back.then_some(health)
    })
    .await;
    terminal.kill().await.unwrap();
    assert_eq!(seat.get("apps", "/backend/").await.text(), "fine");
    let now = until("quiet", async || Some(seat.health().await)).await;
    assert_eq!(now.apps[0].restarts, health.apps[0].restarts);
    seat.stop().await;
}
