//! Runs a seat's agent by hand, without a sandbox: `seat SETTINGS.json RUN-FOLDER SERVICES-FOLDER`
//! with the listener on file descriptor 3 or, for trying things out, on the path in
//! `SEAT_SOCKET`. With `serve app-terminal APP` it is the program in the terminal.

use std::error::Error;

use arena_seat::{Places, TerminalSettings, app_terminal, serve_at};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", "app-terminal", app] => {
            let socket = std::env::var_os("ARENA_AGENT_SOCKET").ok_or("no ARENA_AGENT_SOCKET")?;
            Ok(app_terminal(&TerminalSettings {
                socket: socket.into(),
                app: (*app).to_owned(),
            })?)
        }
        [settings, run, services] => {
            let settings = serde_json::from_slice(&std::fs::read(settings)?)?;
            let places = Places {
                run: run.into(),
                services: services.into(),
                executable: std::env::current_exe()?,
                prints_output: false,
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let path = std::env::var_os("SEAT_SOCKET").ok_or("no SEAT_SOCKET")?;
                let _ = std::fs::remove_file(&path);
                let shutdown = CancellationToken::new();
                let agent = serve_at(
                    settings,
                    places,
                    UnixListener::bind(path)?,
                    shutdown.clone(),
                );
                tokio::pin!(agent);
                let mut terminate =
                    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
                tokio::select! {
                    ended = &mut agent => return Ok(ended?),
                    _ = terminate.recv() => shutdown.cancel(),
                }
                Ok(agent.await?)
            })
        }
        _ => Err("usage: seat SETTINGS.json RUN-FOLDER SERVICES-FOLDER".into()),
    }
}
