//! The terminal named *server*: the agent's end, a socket inside the seat over
//! which any of the seat's processes may read an app's output and restart it,
//! no more; and [`app_terminal`], the program in the terminal.
//!
//! The protocol is lines: the reader sends the app's name, then `restart` as
//! often as it likes; the agent sends output.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arena_workshop::plan::AppKind;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::ServeError;
use crate::agent::Agent;
use crate::apps::{App, name};

/// Terminals at a time.
const TERMINALS: usize = 16;
/// A command of a terminal; longer ones end the connection.
const COMMAND_BYTES: u64 = 4096;
/// Restarts are taken at most this often from one terminal.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// Listens for terminals.
pub(crate) fn bind(run: &Path) -> Result<UnixListener, ServeError> {
    let path = run.join("agent.sock");
    let failed = |source| ServeError::Prepare {
        path: path.display().to_string(),
        source,
    };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Serves terminals until shutdown.
pub(crate) async fn run(agent: Arc<Agent>, listener: UnixListener) -> &'static str {
    let slots = Arc::new(Semaphore::new(TERMINALS));
    loop {
        // Nothing has been accepted when this is dropped.
        let accepted = tokio::select! {
            () = agent.shutdown.cancelled() => return "terminals",
            accepted = listener.accept() => accepted,
        };
        let (Ok((stream, _)), Ok(slot)) = (accepted, slots.clone().try_acquire_owned()) else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let inner = agent.clone();
        agent.spawn(async move {
            // A terminal that has gone is no event.
            let _ = serve(&inner, stream).await;
            drop(slot);
        });
    }
}

async fn serve(agent: &Agent, stream: UnixStream) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut commands = BufReader::with_capacity(256, reader.take(COMMAND_BYTES)).lines();
    let Some(wanted) = commands.next_line().await? else {
        return Ok(());
    };
    let Some(app) = agent.apps.iter().find(|app| name(app.kind) == wanted) else {
        return writer.write_all(b"This seat runs no such app.\n").await;
    };
    let read = async {
        while let Some(command) = commands.next_line().await? {
            commands.get_mut().get_mut().set_limit(COMMAND_BYTES);
            if command.trim() == "restart" {
                restart(app);
                tokio::time::sleep(RESTART_PAUSE).await;
            }
        }
        io::Result::Ok(())
    };
    let write = async {
        let mut output = app.child.follow();
        while let Some(line) = output.next().await {
            writer.write_all(line.as_bytes()).await?;
            writer.write_all(b"\n").await?;
        }
        io::Result::Ok(())
    };
    // Whichever side ends first ends the terminal; half a line at the end does not matter.
    tokio::select! {
        outcome = read => outcome,
        outcome = write => outcome,
    }
}

fn restart(app: &App) {
    app.child.note("— restarted from a terminal —");
    app.child.restart();
}

/// What the editor must know for our extension.
pub(crate) fn editor_environment(agent: &Agent) -> Vec<(OsString, OsString)> {
    let title = |app: &App| {
        if app.kind == AppKind::Backend {
            "server"
        } else {
            name(app.kind)
        }
    };
    let terminals: Vec<String> = agent
        .apps
        .iter()
        .map(|app| format!("{}={}", title(app), name(app.kind)))
        .collect();
    let first = agent.settings.first_file.clone().unwrap_or_default();
    vec![
        ("ARENA_TERMINALS".into(), terminals.join(",").into()),
        ("ARENA_FIRST_FILE".into(), first.into()),
        (
            "ARENA_EXECUTABLE".into(),
            agent.places.executable.clone().into(),
        ),
        (
            "ARENA_AGENT_SOCKET".into(),
            agent.places.run.join("agent.sock").into(),
        ),
    ]
}

/// Where the program in the terminal finds its agent, and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalSettings {
    /// The agent's socket: the variable `ARENA_AGENT_SOCKET`, else `/run/arena/agent.sock`.
    pub socket: PathBuf,
    /// The app's name, as in addresses: `backend`.
    pub app: String,
}

/// Shows an app's output in a terminal until the terminal is closed: `arena serve app-terminal APP`.
/// `r` and Enter restart the app; Ctrl-C and Ctrl-D do nothing to it. Blocking: call it from `main`.
///
/// # Errors
/// The terminal cannot be written to.
pub fn app_terminal(settings: &TerminalSettings) -> io::Result<()> {
    let mut screen = io::stdout();
    ignore_interrupts();
    let hint = "r + Enter restarts it; closing this terminal does not stop it.";
    writeln!(
        screen,
        "\x1b[2mOutput of your {}. {hint}\x1b[0m",
        settings.app
    )?;
    let line = Line::default();
    let orders = line.clone();
    // Reads for as long as the process lives: standard input cannot be interrupted.
    std::thread::Builder::new()
        .name("keyboard".to_owned())
        .spawn(move || keyboard(&orders))?;
    loop {
        if let Ok(agent) = StdStream::connect(&settings.socket) {
            show(settings, agent, &line, &mut screen)?;
            writeln!(screen, "\x1b[2mThe seat is restarting …\x1b[0m")?;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The connection to the agent, while there is one.
type Line = Arc<Mutex<Option<StdStream>>>;

fn set(line: &Line, stream: Option<StdStream>) {
    *line.lock().unwrap_or_else(PoisonError::into_inner) = stream;
}

/// Copies output to the terminal until the agent goes.
fn show(
    settings: &TerminalSettings,
    mut agent: StdStream,
    line: &Line,
    screen: &mut impl Write,
) -> io::Result<()> {
    if agent
        .write_all(format!("{}\n", settings.app).as_bytes())
        .is_err()
    {
        return Ok(());
    }
    set(line, Some(agent.try_clone()?));
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = agent.read(&mut buffer) {
        screen.write_all(&buffer[..count])?;
        screen.flush()?;
    }
    set(line, None);
    Ok(())
}

/// Orders a restart for each line that is `r`.
fn keyboard(line: &Line) {
    let mut input = String::new();
    loop {
        input.clear();
        match io::stdin().lock().read_line(&mut input) {
            // Ctrl-D on a terminal: not the end. Elsewhere it is.
            Ok(0) if io::stdin().is_terminal() => std::thread::sleep(Duration::from_millis(200)),
            Ok(0) | Err(_) => return,
            Ok(_) if input.trim() == "r" => {
                if let Some(agent) = &mut *line.lock().unwrap_or_else(PoisonError::into_inner) {
                    // The reading side notices when the agent has gone.
                    let _ = agent.write_all(b"restart\n");
                }
            }
            Ok(_) => {}
        }
    }
}

/// Takes Ctrl-C and Ctrl-Z their meaning: the line discipline then passes them on as bytes.
fn ignore_interrupts() {
    let input = io::stdin();
    let Ok(mut modes) = rustix::termios::tcgetattr(&input) else {
        return;
    };
    modes.local_modes.remove(rustix::termios::LocalModes::ISIG);
    let _ = rustix::termios::tcsetattr(&input, rustix::termios::OptionalActions::Now, &modes);
}
