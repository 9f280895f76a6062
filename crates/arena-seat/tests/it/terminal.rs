//! The terminal named *server*, as a program on a pseudo-terminal.

use std::process::Stdio;

use arena_seat::AppPhase;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::world::{Seat, World, node, until, within, write};

const APP: &str = "console.log('process', process.pid); require('http').createServer((q, s) => s.end('fine')).listen(process.env.PORT)";

/// The program in a terminal of its own.
struct Terminal {
    program: Child,
    keys: ChildStdin,
    screen: Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    fn of(seat: &Seat) -> Terminal {
        // Cargo builds examples before tests, beside the folder of this test's binary.
        let executable = std::env::current_exe()
            .expect("a test has a path")
            .parent()
            .expect("of a file")
            .with_file_name("examples")
            .join("seat");
        let command = format!("{} serve app-terminal backend", executable.display());
        let mut program = Command::new("/usr/bin/script")
            .args(["-q", "-f", "-e", "-c", &command, "/dev/null"])
            .env(
                "ARENA_AGENT_SOCKET",
                seat.world.folder.path().join("run/agent.sock"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("script runs");
        Terminal {
            keys: program.stdin.take().expect("it is piped"),
            screen: BufReader::new(program.stdout.take().expect("it is piped")).lines(),
            program,
        }
    }

    async fn types(&mut self, keys: &[u8]) {
        let typed = self.keys.write_all(keys).await;
        typed.expect("the terminal lives");
    }

    /// The next line that has this text.
    async fn shows(&mut self, text: &str) -> String {
        let found = async {
            loop {
                let line = self.screen.next_line().await.expect("text");
                let line = line.expect("the terminal lives");
                if line.contains(text) {
                    return line;
                }
            }
        };
        within(text, found).await
    }
}

#[tokio::test]
async fn a_terminal_shows_output_restarts_the_app_and_never_kills_it() {
    let seat = World::new().backend(APP).start().await;
    seat.app_in(AppPhase::Ready).await;
    let mut terminal = Terminal::of(&seat);
    terminal
        .shows("closing this terminal does not stop it")
        .await;
    let before = terminal.shows("process").await;

    terminal.types(b"\x03\x1a\nhello\n").await;
    terminal.types(b"r\n").await;
    terminal.shows("restarted from a terminal").await;
    let after = terminal.shows("process").await;
    assert_ne!(before, after);
    let health = until("the restart is counted", async || {
        let health = seat.health().await;
        let is_back = health.apps[0].restarts == 1 && health.apps[0].state == AppPhase::Ready;
        is_back.then_some(health)
    })
    .await;
    terminal.program.kill().await.unwrap();
    assert_eq!(seat.get("apps", "/backend/").await.text(), "fine");
    let now = until("quiet", async || Some(seat.health().await)).await;
    assert_eq!(now.apps[0].restarts, health.apps[0].restarts);
    seat.stop().await;
}

#[tokio::test]
async fn a_terminal_shows_why_the_app_does_not_run_and_that_it_runs_again() {
    let node = node();
    let seat = World::new()
        .backend("require('./lab.js')")
        .file("server/lab.js", APP)
        .with(|settings| {
            settings.apps[0].start = Some(vec![node, "--watch".to_owned(), "index.js".to_owned()]);
            settings.watched.push("server/lab.js".into());
        })
        .start()
        .await;
    seat.app_in(AppPhase::Ready).await;
    let mut terminal = Terminal::of(&seat);
    terminal.shows("process").await;
    let lab = seat.work().join("server/lab.js");

    // Half typed and saved: the file with its line, and what is wrong there.
    write(&lab, "console.log('fine so far');\nconst rows = [1, 2;\n");
    terminal.shows("server/lab.js:2").await;
    terminal.shows("const rows = [1, 2;").await;
    terminal.shows("SyntaxError").await;
    // Somebody who opens one afterwards sees it, too.
    Terminal::of(&seat).shows("SyntaxError").await;

    write(&lab, APP);
    terminal.shows("process").await;
    seat.app_in(AppPhase::Ready).await;

    // It ends by itself, again and again: the reason is there each time.
    let fails = "throw new Error('no database of that name')";
    write(&lab, fails);
    terminal.shows("server/lab.js:1").await;
    terminal.shows("no database of that name").await;
    seat.stop().await;
}
