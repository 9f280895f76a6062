//! A throw-away place with seats. Started as root (CI), each test runs itself again as an
//! ordinary user with spare user ids, because Arena never runs as root either.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arena_local::sandbox::{Sandbox, probe};
use arena_local::seat::{HOME, SeatStart, Seats, Trees};
use arena_supervisor::{Child, Supervisor};
use arena_workshop::SeatId;
use arena_workshop::plan::{SeatSettings, Ways};
use tempfile::TempDir;

pub(crate) const USER: &str = "arena-test";
const NEST: &str = "ARENA_TEST_NEST";

/// Runs a test's body as an ordinary user with spare user ids.
pub(crate) fn as_ordinary_user(test: &str, body: impl FnOnce()) {
    as_user(USER, test, body);
}

/// Runs a test's body as a user without spare user ids.
pub(crate) fn as_plain_user(test: &str, body: impl FnOnce()) {
    as_user("daemon", test, body);
}

/// Runs a test's body as a user.
pub(crate) fn as_user(user: &str, test: &str, body: impl FnOnce()) {
    if !rustix::process::geteuid().is_root() {
        return body();
    }
    let folder = programs_for_others();
    let output = Command::new("setpriv")
        .args(["--reuid", user, "--regid", user, "--init-groups", "--"])
        .arg(folder.join("it"))
        .args(["--exact", test, "--nocapture"])
        .env(NEST, folder.join("arena-nest"))
        .env("HOME", "/nonexistent")
        .current_dir("/")
        .output()
        .expect("setpriv starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "as {user}:\n{text}"
    );
}

/// Copies our programs to where an ordinary user can run them, and makes that user.
fn programs_for_others() -> PathBuf {
    static FOLDER: OnceLock<Mutex<Option<TempDir>>> = OnceLock::new();
    let mut folder = FOLDER.get_or_init(Mutex::default).lock().unwrap();
    let folder = folder.get_or_insert_with(|| {
        let run = |program: &str, arguments: &[&str]| {
            Command::new(program)
                .args(arguments)
                .output()
                .unwrap()
                .status
                .success()
        };
        if !run("id", &[USER]) {
            assert!(run(
                "useradd",
                &[
                    "--system",
                    "--user-group",
                    "--shell",
                    "/usr/sbin/nologin",
                    USER
                ]
            ));
        }
        if !fs::read_to_string("/etc/subuid")
            .unwrap_or_default()
            .contains(USER)
        {
            assert!(run(
                "usermod",
                &[
                    "--add-subuids",
                    "700000-765535",
                    "--add-subgids",
                    "700000-765535",
                    USER
                ]
            ));
        }
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for (from, name) in [
            (std::env::current_exe().unwrap(), "it"),
            (env!("CARGO_BIN_EXE_arena-nest").into(), "arena-nest"),
        ] {
            fs::copy(from, folder.path().join(name)).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o755))
                .unwrap();
        }
        folder
    });
    folder.path().to_owned()
}

/// Where the nest is for whoever runs the test.
pub(crate) fn nest() -> PathBuf {
    std::env::var_os(NEST).map_or_else(|| env!("CARGO_BIN_EXE_arena-nest").into(), PathBuf::from)
}

/// An agent for tests: answers every request with 200; the body of a request is a script.
const AGENT: &str = r#"
$SIG{PIPE} = 'IGNORE'; open(my $l, "+<&=3") or die "no listener: $!"; my $v = ''; vec($v, 3, 1) = 1;
while (1) {
  select(my $r = $v, undef, undef, undef); accept(my $c, $l) or next;
  my ($len, $body, $out) = (0, '', '');
  while (<$c>) { last if /^\r?$/; $len = $1 if /^content-length: (\d+)/i }
  read($c, $body, $len) if $len;
  if ($len) { open(my $p, '-|', '/bin/sh', '-c', "exec 2>&1; $body"); local $/; $out = <$p>; close $p }
  print $c "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n$out"; close $c
}"#;

/// Where a world is.
pub(crate) struct Folder {
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A throw-away place with a template and seats.
pub(crate) struct World {
    pub(crate) folder: Folder,
    pub(crate) seats: Arc<Seats>,
    pub(crate) supervisor: Supervisor,
    runtime: tokio::runtime::Runtime,
}

pub(crate) fn sandbox(scratch: &Path) -> Sandbox {
    let probe = probe(&nest(), scratch, 20);
    probe
        .sandbox
        .unwrap_or_else(|| panic!("no sandbox here: {:#?}", probe.steps))
}

impl World {
    pub(crate) fn new() -> World {
        let temporary = TempDir::new().unwrap();
        World::at(Folder {
            path: temporary.path().to_owned(),
            _temporary: Some(temporary),
        })
    }

    /// A place that outlives this process.
    pub(crate) fn lasting(path: &Path) -> World {
        fs::create_dir_all(path).unwrap();
        World::at(Folder {
            path: path.to_owned(),
            _temporary: None,
        })
    }

    fn at(folder: Folder) -> World {
        let home = folder.path().join("template/one/home/workshop");
        for (file, text) in [
            ("server/index.js", "start\n"),
            ("server/node_modules/left-pad/index.js", "shared\n"),
            ("README.md", "read me\n"),
        ] {
            fs::create_dir_all(home.join(file).parent().unwrap()).unwrap();
            fs::write(home.join(file), text).unwrap();
        }
        open_up(&folder.path().join("template/one/home"));
        let seats = Arc::new(Seats::new(
            sandbox(folder.path()),
            folder.path(),
            &folder.path().join("r"),
        ));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        World {
            seats,
            supervisor: Supervisor::new().unwrap(),
            runtime,
            folder,
        }
    }

    pub(crate) fn make(&self, name: &str) -> SeatId {
        let seat = SeatId::new(name).unwrap();
        self.seats.make(&seat, "one").unwrap();
        seat
    }

    pub(crate) fn begin(&self, seat: &SeatId) -> Child {
        let agent = ["exec", "/usr/bin/perl", "-e", AGENT].map(str::to_owned);
        let start = SeatStart {
            settings: &settings(seat),
            agent: &agent,
            trees: &Trees::default(),
            ways: &Ways {
                names: [(
                    "mongo.example".to_owned(),
                    Ipv4Addr::new(127, 0, 0, 2).into(),
                )]
                .into(),
                forwards: Vec::new(),
            },
            limits: Default::default(),
        };
        let _inside = self.runtime.enter();
        self.seats.start(&self.supervisor, seat, &start).unwrap()
    }

    pub(crate) fn start(&self, seat: &SeatId) -> Child {
        let child = self.begin(seat);
        self.wait(child.ready(Duration::from_secs(60)))
            .unwrap_or_else(|error| panic!("{error}"));
        child
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Runs a script in a started seat and returns what it printed.
    pub(crate) fn inside(&self, seat: &SeatId, script: &str) -> String {
        let mut stream = UnixStream::connect(self.seats.socket(seat)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        write!(
            stream,
            "POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n{script}",
            script.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
            .split_once("\r\n\r\n")
            .expect("an answer")
            .1
            .trim()
            .to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let World {
            seats,
            supervisor,
            runtime,
            ..
        } = self;
        runtime.block_on(supervisor.stop_all(&Default::default()));
        for seat in seats.made() {
            let _ = seats.remove(&seat);
        }
    }
}

fn settings(seat: &SeatId) -> SeatSettings {
    SeatSettings {
        seat: seat.clone(),
        display_name: "Ada".to_owned(),
        home: HOME.to_owned(),
        work: format!("{HOME}/workshop"),
        apps: Vec::new(),
        environment: BTreeMap::from([("PASSWORD".to_owned(), format!("secret-of-{seat}"))]),
        editor: Vec::new(),
        editor_environment: BTreeMap::new(),
        forwards: Vec::new(),
        watched: Vec::new(),
        first_file: None,
    }
}

fn open_up(path: &Path) {
    let is_folder = path.is_dir();
    fs::set_permissions(
        path,
        fs::Permissions::from_mode(if is_folder { 0o777 } else { 0o666 }),
    )
    .unwrap();
    if is_folder {
        fs::read_dir(path)
            .unwrap()
            .for_each(|entry| open_up(&entry.unwrap().path()));
    }
}

/// Waits for a condition with a limit.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not within a minute: {what}");
}
