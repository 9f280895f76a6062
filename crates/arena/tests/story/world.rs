//! A throw-away event run by the real executable, and a look at the machine
//! that does not ask Arena.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The first `up` on a machine may install tools; set-up has done that before.
const UP_LIMIT: Duration = Duration::from_secs(180);
const DOWN_LIMIT: Duration = Duration::from_secs(30);

/// A copy of an example, with an event id of its own.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) event: String,
}

/// A running event.
pub(crate) struct Event {
    process: Child,
    /// What `up --format json` printed when the doors opened.
    pub(crate) summary: Value,
}

/// A command that goes on.
pub(crate) struct Running {
    process: Child,
    said: PathBuf,
}

impl Running {
    /// Waits until it has said a text so many times.
    pub(crate) fn says(&self, text: &str, times: usize) {
        wait_until(UP_LIMIT, &format!("it says {text} {times} times"), || {
            self.said().matches(text).count() >= times
        });
    }

    /// Presses Ctrl-C.
    pub(crate) fn interrupt(&self) {
        signal(self.process.id(), "INT");
    }

    /// Waits for its end; returns its exit code and everything it said.
    pub(crate) fn ends(mut self) -> (i32, String) {
        let status = wait_for_exit(&mut self.process, DOWN_LIMIT);
        (status.code().unwrap_or(-1), self.said())
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }
}

impl World {
    /// Returns a copy of `examples/{name}` for the event `{name}-{test}-{pid}`.
    pub(crate) fn copy(name: &str, test: &str) -> Self {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        Self::of(&examples.join(name), test)
    }

    /// Returns a copy of any workshop's folder for the event `{test}-{pid}`.
    pub(crate) fn of(example: &Path, test: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let copied = Command::new("cp")
            .arg("-r")
            .arg(example)
            .arg(folder.path().join("workshop"))
            .status()
            .expect("cp runs");
        assert!(copied.success());
        let world = Self {
            folder,
            event: format!("{test}-{}", std::process::id()),
        };
        let config = fs::read_to_string(world.workshop().join("config.yaml"))
            .expect("the example has a config");
        let named: Vec<String> = config
            .lines()
            .map(|line| {
                if line.starts_with("  name:") {
                    format!("  name: {}", world.event)
                } else {
                    line.to_owned()
                }
            })
            .collect();
        fs::write(
            world.workshop().join("config.yaml"),
            named.join("\n") + "\n",
        )
        .expect("the config can be written");
        world
    }

    pub(crate) fn workshop(&self) -> PathBuf {
        self.folder.path().join("workshop")
    }

    /// A path beside the workshop that goes with it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts `arena up` and waits until the doors are open.
    pub(crate) fn up(&self) -> Event {
        self.up_with(&[])
    }

    /// What the last `up` said to people.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.beside("up.log")).unwrap_or_default()
    }

    /// As [`World::up`], with further arguments.
    pub(crate) fn up_with(&self, arguments: &[&str]) -> Event {
        self.up_by(arena(), arguments)
    }

    /// As [`World::up`], on a machine that has this hosts file.
    pub(crate) fn up_where(&self, hosts: &Path) -> Event {
        self.up_by(arena_where(hosts), &[])
    }

    fn up_by(&self, mut arena: Command, arguments: &[&str]) -> Event {
        let log = fs::File::create(self.folder.path().join("up.log")).expect("a log file");
        let mut process = arena
            .args(["up", "--yes", "--format", "json"])
            .args(if arguments.contains(&"--port") {
                &[][..]
            } else {
                &["--port", "0"]
            })
            .args(arguments)
            .arg(self.workshop())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("arena starts");
        let stdout = process.stdout.take().expect("standard output is piped");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let mut reader = BufReader::new(stdout);
            if reader.read_line(&mut line).is_ok() {
                let _ = sender.send(line);
            }
        });
        let line = receiver.recv_timeout(UP_LIMIT).unwrap_or_default();
        let summary = serde_json::from_str(&line).unwrap_or_else(|_| {
            let log = fs::read_to_string(self.folder.path().join("up.log")).unwrap_or_default();
            let _ = process.kill();
            panic!("arena up did not open the doors; it printed {line:?} and logged:\n{log}")
        });
        Event { process, summary }
    }

    /// Runs `arena` with arguments to its end; returns exit code, standard output and error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run_by(arena(), arguments)
    }

    /// As [`World::run`], on a machine that has this hosts file.
    pub(crate) fn run_where(&self, hosts: &Path, arguments: &[&str]) -> (i32, String, String) {
        self.run_by(arena_where(hosts), arguments)
    }

    fn run_by(&self, mut arena: Command, arguments: &[&str]) -> (i32, String, String) {
        let output = arena
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .expect("arena runs");
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Starts `arena` with arguments; what it says goes to a file.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Running {
        let said = self.folder.path().join(format!("{}.said", arguments[0]));
        let output = fs::File::create(&said).expect("a file for what it says");
        let mut command = arena();
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .stderr(output.try_clone().expect("a second handle"))
            .stdout(output);
        Running {
            process: command.spawn().expect("arena starts"),
            said,
        }
    }

    /// Returns a seat's line of `arena status`.
    pub(crate) fn seat(&self, seat: &str) -> Value {
        self.find_seat(seat).expect("the seat")
    }

    /// Returns a seat's line of `arena status`; `None` when the event has no such seat.
    pub(crate) fn find_seat(&self, seat: &str) -> Option<Value> {
        let status = self.status();
        let seats = status["seats"].as_array().expect("seats");
        seats.iter().find(|line| line["seat"] == seat).cloned()
    }

    /// Returns what `arena status` says.
    pub(crate) fn status(&self) -> Value {
        let (code, status, error) =
            self.run(&["status", "--event", &self.event, "--format", "json"]);
        assert_eq!(code, 0, "{status}{error}");
        serde_json::from_str(&status).expect("JSON")
    }

    /// Removes everything of the event.
    pub(crate) fn purge(&self) {
        let (code, stdout, stderr) = self.run(&[
            "down",
            "--event",
            &self.event,
            "--purge",
            "--without-export",
            "--yes",
        ]);
        assert_eq!(code, 0, "purge failed: {stdout}{stderr}");
    }
}

/// A test that fails shows what the editors have logged and leaves nothing running: it would take
/// the processor from those after it.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = Command::new("find")
                .arg(Path::new("/var/lib/arena").join(&self.event).join("seats"))
                .args([
                    "-path",
                    "*/code-server/logs/*",
                    "-name",
                    "*.log",
                    "-size",
                    "+0",
                ])
                .args(["-exec", "tail", "-n", "60", "{}", "+"])
                .output();
            if let Ok(logs) = logs {
                eprintln!("{}", String::from_utf8_lossy(&logs.stdout));
            }
            self.run(&[
                "down",
                "--event",
                &self.event,
                "--purge",
                "--without-export",
                "--yes",
            ]);
        }
    }
}

/// Ids of all processes of this machine.
pub(crate) fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .collect()
}

fn tree(folder: &Path, paths: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            tree(&entry.path(), paths);
        } else {
            paths.insert(entry.path());
        }
    }
}

impl Event {
    /// Runs a shell command inside a seat, as its participant would in a terminal; returns what it printed.
    pub(crate) fn in_seat(&self, seat: &str, command: &str, input: &[u8]) -> String {
        self.try_in_seat(seat, command, input)
            .unwrap_or_else(|said| panic!("{command}: {said}"))
    }

    /// Runs a command with the environment that a terminal of the seat has; returns what it printed.
    pub(crate) fn in_terminal(&self, seat: &str, command: &str) -> String {
        let run = "const { environment } = JSON.parse(require(\"fs\").readFileSync(\"/run/arena/settings.json\")); \
                   const env = { ...environment, HOME: \"/home/workspace\" }; \
                   process.stdout.write(require(\"child_process\").execSync(process.argv[1], { env, cwd: env.HOME }));";
        self.in_seat(
            seat,
            &format!("node -e '{run}' \"$(cat)\""),
            command.as_bytes(),
        )
    }

    /// As [`Event::in_seat`], for a command that may fail; the error is what it said.
    pub(crate) fn try_in_seat(
        &self,
        seat: &str,
        command: &str,
        input: &[u8],
    ) -> Result<String, String> {
        use std::io::Write;
        let mark = self
            .address()
            .rsplit(':')
            .next()
            .map(|port| format!("localhost:{port}/backend"))
            .expect("a port");
        let own = format!("\"seat\":\"{seat}\"");
        let agent = processes()
            .into_iter()
            .find(|pid| {
                let file = |name: &str| {
                    fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default()
                };
                file("cmdline").starts_with("/opt/arena/bin/arena\0serve\0seat") && {
                    let settings = file("root/run/arena/settings.json");
                    settings.contains(&own) && settings.contains(&mark)
                }
            })
            .ok_or_else(|| format!("no agent runs for {seat}"))?;
        let mut child = Command::new("nsenter")
            .args([
                "--target",
                &agent.to_string(),
                "--user",
                "--mount",
                "--net",
                "--pid",
                "--uts",
                "--setuid",
                "1000",
                "--setgid",
                "1000",
            ])
            .args([
                "--",
                "/usr/bin/env",
                "-i",
                "HOME=/home/workspace",
                "PATH=/opt/arena/node/bin:/usr/bin:/bin",
                "/bin/sh",
                "-c",
                command,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter runs");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(input)
            .expect("the shell reads");
        let output = child.wait_with_output().expect("the shell ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// Lays files over the workshop in a seat, such as `arena/solutions/mongodb-1`.
    pub(crate) fn lay_over(&self, seat: &str, folder: &Path, repository: &str) {
        let mut paths = BTreeSet::new();
        tree(folder, &mut paths);
        for path in paths {
            let inside = path
                .strip_prefix(folder)
                .expect("below it")
                .display()
                .to_string();
            let text = fs::read(&path).expect("a file of the workshop");
            self.in_seat(
                seat,
                &format!("cat > /home/workspace/{repository}/{inside}"),
                &text,
            );
        }
    }

    /// Returns the summary's text at a JSON pointer.
    pub(crate) fn text(&self, pointer: &str) -> String {
        self.summary
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("the summary has no {pointer}: {}", self.summary))
            .to_owned()
    }

    pub(crate) fn address(&self) -> String {
        self.text("/address")
    }

    pub(crate) fn port(&self) -> u16 {
        let address = self.address();
        let port = address
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        port.expect("a port")
    }

    /// Returns the path of a socket that the platform listens on, by how it ends.
    pub(crate) fn socket(&self, ending: &str) -> PathBuf {
        let handles = fs::read_dir(format!("/proc/{}/fd", platform_pid(self)));
        let handles = handles.expect("the platform runs").flatten();
        let held: BTreeSet<String> = handles
            .filter_map(|handle| fs::read_link(handle.path()).ok())
            .map(|target| target.display().to_string())
            .collect();
        let sockets = fs::read_to_string("/proc/net/unix").expect("/proc is there");
        let path = sockets.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [.., number, path] = fields[..] else {
                return None;
            };
            let is_held = held.contains(&format!("socket:[{number}]"));
            (is_held && path.ends_with(ending)).then(|| PathBuf::from(path))
        });
        path.unwrap_or_else(|| panic!("the platform listens on no socket {ending}"))
    }

    /// The personal link of the n-th seat.
    pub(crate) fn link(&self, seat: usize) -> String {
        self.text(&format!("/seats/{seat}/link"))
    }

    /// Opens the personal link of the n-th seat as a browser's window does: editor and apps wake.
    pub(crate) fn opens_link(&self, seat: usize) {
        let link = self.link(seat);
        let rest = link.strip_prefix("http://").expect("a link");
        let (host, path) = rest.split_once('/').expect("a path");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).expect("the gateway");
        let head = format!(
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nSec-Fetch-Dest: document\r\n\
             Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// Ends it as Ctrl-C does, and waits.
    pub(crate) fn interrupt(mut self) -> ExitStatus {
        signal(self.process.id(), "INT");
        wait_for_exit(&mut self.process, DOWN_LIMIT)
    }

    /// Ends it as an impatient Ctrl-C, Ctrl-C does, and waits.
    pub(crate) fn interrupt_twice(mut self) -> ExitStatus {
        signal(self.process.id(), "INT");
        // The process may be gone already: then once was enough.
        let _ = Command::new("kill")
            .args(["-s", "INT", &self.process.id().to_string()])
            .status();
        wait_for_exit(&mut self.process, DOWN_LIMIT)
    }

    /// `kill -9` of the platform process, nothing else.
    pub(crate) fn kill(mut self) {
        signal(platform_pid(&self), "KILL");
        let _ = wait_for_exit(&mut self.process, DOWN_LIMIT);
    }
}

/// The shells of both databases know where, as whom and with which password.
pub(crate) fn shells_are_at_hand(event: &Event, seat: &str) {
    let said = |command: &str| event.in_terminal(seat, command).trim().to_owned();
    assert_eq!(said("psql -Atc 'select 1'"), "1");
    let who = said("psql -Atc 'select current_user, current_database()'");
    assert_eq!(who, format!("{seat}|{seat}"));
    assert_eq!(said("mongosh --quiet --eval 'db.getName()'"), seat);
    let counted = said("mongosh --quiet --eval 'db.listings.countDocuments() > 0'");
    assert_eq!(counted, "true");
}

fn platform_pid(event: &Event) -> u32 {
    event
        .summary
        .pointer("/pid")
        .and_then(Value::as_u64)
        .and_then(|pid| u32::try_from(pid).ok())
        .expect("the summary names the platform's pid")
}

fn arena() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arena"));
    command.stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// On a machine that has this hosts file.
fn arena_where(hosts: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--", "/bin/sh", "-c"])
        .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
        .arg(hosts)
        .arg(env!("CARGO_BIN_EXE_arena"));
    command.stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "process {pid} was gone already");
}

fn wait_for_exit(process: &mut Child, limit: Duration) -> ExitStatus {
    let mut status = None;
    wait_until(limit, "the process ends", || {
        status = process.try_wait().expect("our child");
        status.is_some()
    });
    status.expect("it ended")
}

/// Waits for a condition, at most `limit`.
pub(crate) fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} in vain until {what}"
        );
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// What lives on this machine and names the event: processes, mounts of every process, listening
/// sockets, files. Read from /proc and the file system, not from Arena.
pub(crate) fn traces(event: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for pid in processes()
        .into_iter()
        .filter(|pid| *pid != std::process::id())
    {
        let read = |name: &str| {
            fs::read(format!("/proc/{pid}/{name}"))
                .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
                .unwrap_or_default()
        };
        if read("cmdline").contains(event) {
            found.insert(format!("process {pid}: {}", read("cmdline")));
        }
        for line in read("mountinfo")
            .lines()
            .filter(|line| line.contains(event))
        {
            found.insert(format!("mount of {pid}: {line}"));
        }
    }
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    found.extend(
        sockets
            .lines()
            .filter(|line| line.contains(event))
            .map(|line| format!("socket {line}")),
    );
    for folder in ["/var/lib/arena", "/run/arena", "/var/cache/arena", "/tmp"] {
        files(Path::new(folder), event, 3, &mut found);
    }
    found
}

fn files(folder: &Path, event: &str, depth: usize, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(event) {
            found.insert(format!("file {}", entry.path().display()));
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&entry.path(), event, depth - 1, found);
        }
    }
}
