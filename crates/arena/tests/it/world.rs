//! A copy of an example, the executable run on it, and what it said. Machines
//! that lack something are made with namespaces of the test's own: nothing of
//! the host is ever changed.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than anything here takes; what waits for ever fails the test.
const LIMIT_SECONDS: &str = "120";
/// Programs of an ordinary machine.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The user without any rights that every Linux has.
const NOBODY: u32 = 65534;

/// Numbers the events of this process.
static EVENTS: AtomicU32 = AtomicU32::new(0);

/// A workshop in a folder of its own, and folders for a user who runs it.
pub(crate) struct World {
    folder: TempDir,
    /// The event's id: nobody else's on this machine.
    pub(crate) event: String,
}

/// `arena` with its surroundings, before it is run.
pub(crate) struct Arena<'a> {
    world: &'a World,
    around: Vec<OsString>,
    is_ordinary: bool,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    /// Standard output: data.
    pub(crate) out: String,
    /// Standard error: for people.
    pub(crate) err: String,
}

impl World {
    /// Returns a copy of `examples/{example}` as an event of its own.
    pub(crate) fn of(example: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples")
            .join(example);
        let number = EVENTS.fetch_add(1, Ordering::Relaxed);
        let world = Self {
            folder,
            event: format!("it-{}-{number}", std::process::id()),
        };
        let copied = Command::new("cp")
            .arg("-r")
            .arg(source)
            .arg(world.workshop())
            .status();
        assert!(copied.expect("cp runs").success());
        world.edit("config.yaml", |text| {
            let name = text
                .lines()
                .find(|line| line.starts_with("  name:"))
                .expect("the example has a name");
            text.replace(name, &format!("  name: {}", world.event))
        });
        open(world.folder.path());
        for name in ["home", "cache", "state", "runtime"] {
            let path = world.folder.path().join(name);
            fs::create_dir(&path).expect("a folder");
            // An ordinary user of the test makes its own folders inside.
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("our folder");
        }
        world
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join(inside)
    }

    pub(crate) fn workshop(&self) -> PathBuf {
        self.path("workshop")
    }

    /// Rewrites a file of the workshop.
    pub(crate) fn edit(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.workshop().join(file);
        let text = fs::read_to_string(&path).expect("the example has this file");
        fs::write(&path, change(text)).expect("our copy can be written");
    }

    /// Replaces a file of the workshop by these bytes.
    pub(crate) fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.workshop().join(file), bytes).expect("our copy can be written");
    }

    /// Runs `arena` in the workshop's folder as who runs the tests.
    pub(crate) fn arena(&self, arguments: &[&str]) -> Said {
        Arena {
            world: self,
            around: Vec::new(),
            is_ordinary: false,
        }
        .run(arguments)
    }

    /// `arena` as an ordinary user without tools, on a machine like this one.
    pub(crate) fn ordinary(&self) -> Arena<'_> {
        Arena {
            world: self,
            around: Vec::new(),
            is_ordinary: true,
        }
    }

    /// Returns `folder/program` of each tool in a full cache.
    pub(crate) fn tools(&self) -> Vec<String> {
        let said = self.ordinary().run(&["tools", "list", "--format", "json"]);
        let list: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        let tools = list["tools"].as_array().expect("tools").iter();
        tools
            .filter_map(|tool| {
                let version = tool["version"].as_str()?;
                match tool["name"].as_str()? {
                    "node" => Some(format!("node-{version}/node")),
                    "editor" => Some(format!("code-server-{version}/code-server")),
                    _ => None,
                }
            })
            .collect()
    }

    /// Removes everything that `up` made.
    pub(crate) fn purge(&self) {
        let said = self.arena(&[
            "down",
            "--event",
            &self.event,
            "--purge",
            "--without-export",
            "--yes",
        ]);
        assert_eq!(said.code, 0, "{said:?}");
    }
}

impl Arena<'_> {
    /// On a machine where a program of bubblewrap's options has changed something.
    fn inside(mut self, bubblewrap: &[&str]) -> Self {
        self.around
            .extend(["bwrap", "--dev-bind", "/", "/"].map(OsString::from));
        self.around.extend(bubblewrap.iter().map(OsString::from));
        self.around.push("--".into());
        self
    }

    /// Without any network, not even a loopback that answers.
    pub(crate) fn without_network(self) -> Self {
        self.inside(&["--unshare-net"])
    }

    /// Where no further user namespace is allowed: the limit is written inside a namespace of its own.
    pub(crate) fn without_user_namespaces(self) -> Self {
        self.inside(&["--unshare-user", "--disable-userns"])
    }

    /// With so few bytes for tools.
    pub(crate) fn with_cache_of(self, bytes: u32) -> Self {
        let cache = self.world.path("cache").display().to_string();
        self.inside(&["--size", &bytes.to_string(), "--tmpfs", &cache])
    }

    /// With a tool cache that has space for so few files, which no look at free bytes tells.
    pub(crate) fn with_files_in_cache(self, files: u32) -> Self {
        let cache = self.world.path("cache").display().to_string();
        self.with_mount(&format!(
            "-t tmpfs -o size=4g,nr_inodes={files} cache {cache}"
        ))
    }

    /// With this server as the mirror of Debian that apt is set up with.
    pub(crate) fn with_mirror(self, address: &str) -> Self {
        let apt = self.world.path("apt");
        fs::create_dir_all(&apt).expect("a folder");
        fs::write(
            apt.join("sources.list"),
            format!("deb {address}/debian bookworm main\n"),
        )
        .expect("our folder");
        self.with_mount(&format!("--bind {} /etc/apt", apt.display()))
    }

    /// Where `mount` was given these arguments. What runs there has the process id of what made it.
    fn with_mount(mut self, arguments: &str) -> Self {
        let script = format!(
            "mount {arguments} && exec unshare --user --map-user=1000 --map-group=1000 \"$@\""
        );
        self.around.extend(
            [
                "unshare",
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                &script,
                "sh",
            ]
            .map(OsString::from),
        );
        self
    }

    /// Without this program: `/usr/bin` with everything else.
    pub(crate) fn without(self, program: &str) -> Self {
        let (real, farm) = (self.world.path("real"), self.world.path("farm"));
        fs::create_dir(&real).expect("a folder");
        fs::create_dir(&farm).expect("a folder");
        for entry in fs::read_dir("/usr/bin").expect("programs").flatten() {
            let name = entry.file_name();
            if name == program {
                continue;
            }
            // A link stays what it is; it may lead out of the folder.
            let target = fs::read_link(entry.path()).unwrap_or_else(|_| real.join(&name));
            symlink(target, farm.join(name)).expect("a link");
        }
        let (real, farm) = (real.display().to_string(), farm.display().to_string());
        self.inside(&[
            "--ro-bind",
            "/usr/bin",
            &real,
            "--ro-bind",
            &farm,
            "/usr/bin",
        ])
    }

    /// Starts it; its output is taken by [`finish`].
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("arena starts")
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        finish(self.start(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut words: Vec<OsString> = vec!["timeout".into(), LIMIT_SECONDS.into()];
        if self.is_ordinary && is_root() {
            let id = NOBODY.to_string();
            words.extend(
                ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"].map(OsString::from),
            );
        }
        words.extend(self.around.iter().cloned());
        words.push(self.executable().into());
        words.extend(arguments.iter().map(OsString::from));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.world.workshop());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
            .env("PATH", PATH)
            .env("NO_COLOR", "1")
            .env_remove("ARENA_LOG");
        if self.is_ordinary {
            for (name, folder) in [
                ("HOME", "home"),
                ("XDG_CACHE_HOME", "cache"),
                ("XDG_STATE_HOME", "state"),
                ("XDG_RUNTIME_DIR", "runtime"),
            ] {
                command.env(name, self.world.path(folder));
            }
        }
        command
    }

    /// An ordinary user may not be able to reach the folder of the build: a copy.
    fn executable(&self) -> PathBuf {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_arena"));
        if !self.is_ordinary {
            return built;
        }
        let copy = self.world.path("arena");
        if !copy.exists() {
            fs::copy(built, &copy).expect("the executable can be copied");
        }
        copy
    }
}

impl Said {
    /// Asserts that this machine or workshop was refused for a reason that a person understands.
    pub(crate) fn is_refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(
                self.err.contains(word) || self.out.contains(word),
                "no `{word}` in {self:?}"
            );
        }
        self.is_readable();
    }

    /// Nothing that a person should never see.
    pub(crate) fn is_readable(&self) {
        for text in [&self.out, &self.err] {
            for word in ["panicked", "RUST_BACKTRACE", "Some(", "unwrap"] {
                assert!(!text.contains(word), "`{word}` in {self:?}");
            }
            let control = text
                .chars()
                .find(|character| character.is_control() && !matches!(character, '\n' | '\t'));
            assert_eq!(
                control, None,
                "a control character would reach the terminal: {self:?}"
            );
        }
    }

    /// What a person reads, with the event's name and the test's folder replaced.
    pub(crate) fn transcript(&self, world: &World) -> String {
        let text = format!("{}{}exit code {}", self.out, self.err, self.code);
        let folder = world.folder.path().display().to_string();
        text.replace(&folder, "[folder]")
            .replace(&world.event, "[event]")
    }
}

/// Waits for its end and takes what it said.
pub(crate) fn finish(child: Child) -> Said {
    let output = child.wait_with_output().expect("our child");
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits for a condition, at most a minute.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn open(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("our folder");
}
