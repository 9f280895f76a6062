//! A throw-away event run by the real executable; whatever happens, it is purged.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::machine;

/// The very first `up` prepares the template.
const UP_LIMIT: Duration = Duration::from_secs(300);
const END_LIMIT: Duration = Duration::from_secs(60);
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// Between two looks at something that has no news of its own.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A copy of an example with an event id of its own.
pub(crate) struct World {
    executable: PathBuf,
    folder: tempfile::TempDir,
    event: String,
}

/// The event while it runs.
pub(crate) struct Running {
    process: Child,
    summary: Value,
    /// When the command was given.
    pub(crate) begun: Instant,
    /// From the command to open doors.
    pub(crate) opened_after: Duration,
}

/// A shell inside a seat.
pub(crate) struct SeatShell {
    process: Child,
    input: ChildStdin,
}

impl World {
    /// Copies `examples/{example}` as the event `figures-{example}-{process id}`.
    pub(crate) fn copy(executable: &Path, example: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples")
            .join(example);
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(from).arg(folder.path().join("workshop"));
        ensure!(copy.status()?.success(), "cannot copy {example}");
        let world = Self {
            executable: executable.to_owned(),
            folder,
            event: format!("figures-{example}-{}", std::process::id()),
        };
        world.set("  name:", &format!("  name: {}", world.event))?;
        Ok(world)
    }

    /// Sets how many seats there are for people who are not on the list.
    pub(crate) fn spare_seats(&self, count: usize) -> anyhow::Result<()> {
        let key = "  additional_users_count:";
        self.set(key, &format!("{key} {count}"))
    }

    /// Sets what all programs of a seat may use together.
    pub(crate) fn seat_memory_mib(&self, mebibytes: u32) -> anyhow::Result<()> {
        let path = self.workshop().join("config.yaml");
        let text = fs::read_to_string(&path)?;
        ensure!(!text.contains("\narena:"), "config.yaml has a block arena");
        let block = format!("arena:\n  seats:\n    memory_mib: {mebibytes}\n");
        fs::write(&path, text + &block).context("cannot write the config")
    }

    /// Puts other people on the list.
    pub(crate) fn people(&self, ids: &[String]) -> anyhow::Result<()> {
        let mut list = "name,surname,email\n".to_owned();
        for id in ids {
            list.push_str(&format!("{id},Figures,{id}@example.com\n"));
        }
        fs::write(self.workshop().join("user_list.csv"), list).context("cannot write the list")
    }

    /// Runs `arena up` until the doors are open.
    pub(crate) fn up(&self) -> anyhow::Result<Running> {
        let log = self.folder.path().join("up.log");
        let begun = Instant::now();
        let mut process = Command::new(&self.executable)
            .args(["up", "--yes", "--port", "0", "--format", "json"])
            .arg(self.workshop())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log)?)
            .spawn()
            .context("cannot start arena")?;
        let stdout = process.stdout.take().context("standard output is piped")?;
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            if BufReader::new(stdout).read_line(&mut line).is_ok() {
                // Nobody waits any more when it took too long.
                let _ = sender.send((line, Instant::now()));
            }
        });
        let (line, at) = receiver
            .recv_timeout(UP_LIMIT)
            .unwrap_or((String::new(), begun));
        match serde_json::from_str(&line) {
            Ok(summary) => Ok(Running {
                process,
                summary,
                begun,
                opened_after: at - begun,
            }),
            Err(_) => {
                process.kill()?;
                process.wait()?;
                let said = fs::read_to_string(log).unwrap_or_default();
                anyhow::bail!("arena up did not open the doors; it said:\n{said}")
            }
        }
    }

    /// Waits until every seat of `arena status` is ready, its apps asleep or running.
    pub(crate) fn all_ready(&self, limit: Duration) -> anyhow::Result<()> {
        let arguments = ["status", "--event", &self.event, "--format", "json"];
        until(limit, "all seats are ready", || {
            // A look costs a process.
            std::thread::sleep(STATUS_EVERY);
            let output = self.command(&arguments).output()?;
            let status: Value = serde_json::from_slice(&output.stdout)?;
            let seats = status["seats"].as_array().context("no seats")?;
            Ok(seats.iter().all(|seat| {
                let apps = seat["apps"].as_str().unwrap_or_default();
                let settled = |app: &str| app.ends_with(" ready") || app.ends_with(" asleep");
                seat["phase"] == "ready" && apps.split(", ").all(settled)
            }))
        })
    }

    /// Runs a command on the event.
    pub(crate) fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = self
            .command(arguments)
            .args(["--event", &self.event])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "arena {} failed: {said}",
            arguments.join(" ")
        );
        Ok(())
    }

    fn workshop(&self) -> PathBuf {
        self.folder.path().join("workshop")
    }

    /// Replaces the config's line that begins like this.
    fn set(&self, begin: &str, line: &str) -> anyhow::Result<()> {
        let path = self.workshop().join("config.yaml");
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(begin), "config.yaml has no line {begin}");
        let lines = text
            .lines()
            .map(|old| if old.starts_with(begin) { line } else { old });
        fs::write(&path, lines.collect::<Vec<_>>().join("\n") + "\n")?;
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(arguments).stdin(Stdio::null());
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let arguments = [
            "down",
            "--event",
            &self.event,
            "--purge",
            "--yes",
            "--without-export",
        ];
        let ended = self.command(&arguments).output();
        if !ended.is_ok_and(|output| output.status.success()) {
            eprintln!(
                "could not purge {}: arena {}",
                self.event,
                arguments.join(" ")
            );
        }
    }
}

impl Running {
    /// Process id of the platform.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The gateway's port.
    pub(crate) fn port(&self) -> anyhow::Result<u16> {
        let address = self.text("/address")?;
        let port = address
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        port.context("the address has no port")
    }

    /// Returns the summary's text at a JSON pointer.
    pub(crate) fn text(&self, pointer: &str) -> anyhow::Result<&str> {
        let text = self.summary.pointer(pointer).and_then(Value::as_str);
        text.with_context(|| format!("the summary has no {pointer}"))
    }

    /// Opens a shell in a seat, in the folder of the workshop.
    pub(crate) fn shell(&self, seat: &str) -> anyhow::Result<SeatShell> {
        let own = format!("\"seat\":\"{seat}\"");
        let agent = machine::agents(self.pid()).into_iter().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/root/run/arena/settings.json"))
                .is_ok_and(|settings| settings.contains(&own))
        });
        let agent = agent.with_context(|| format!("no agent runs for {seat}"))?;
        let mut process = Command::new("nsenter")
            .args(["--target", &agent.to_string()])
            .args(["--user", "--mount", "--net", "--pid", "--uts"])
            .args(["--setuid", "1000", "--setgid", "1000"])
            .args([
                "--",
                "/usr/bin/env",
                "-i",
                "PATH=/opt/arena/node/bin:/usr/bin:/bin",
            ])
            .args(["/bin/sh", "-e"])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run nsenter")?;
        let mut input = process.stdin.take().context("standard input is piped")?;
        writeln!(input, "cd /home/workspace/workshop")?;
        Ok(SeatShell { process, input })
    }

    /// Ends it as Ctrl-C does; it can be started again.
    pub(crate) fn interrupt(mut self) -> anyhow::Result<()> {
        Command::new("kill")
            .args(["-s", "INT", &self.pid().to_string()])
            .status()?;
        let process = &mut self.process;
        until(END_LIMIT, "arena ends", || {
            Ok(process.try_wait()?.is_some())
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After an error only: the children end with the platform, and the world is purged.
        if let Ok(None) = self.process.try_wait() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

impl SeatShell {
    /// Runs a command until it ends, or the seat does.
    pub(crate) fn run_to_its_end(mut self, command: &str) -> anyhow::Result<()> {
        writeln!(self.input, "{command}\nexit")?;
        self.input.flush()?;
        self.process.wait()?;
        Ok(())
    }

    /// Writes a file as an editor does. The text must not hold a line `END`.
    pub(crate) fn write(&mut self, path: &str, text: &str) -> anyhow::Result<()> {
        writeln!(self.input, "cat > {path} <<'END'\n{text}\nEND")?;
        self.input.flush()?;
        Ok(())
    }
}

impl Drop for SeatShell {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Looks again and again until it is so.
pub(crate) fn until(
    limit: Duration,
    what: &str,
    mut is_so: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    while !is_so()? {
        ensure!(
            Instant::now() < deadline,
            "waited {limit:?} in vain until {what}"
        );
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
