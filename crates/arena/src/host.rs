//! Who runs Arena on this machine and where its folders are. The only place
//! that reads the environment for that. Started as root, Arena never works as
//! root: it reads its inputs, then becomes `--run-as` ([`become_user`]).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use arena_local::paths::Paths;
use arena_workshop::EventId;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::failure::{Failure, Kind};
use crate::folder::Folder;
use crate::platform::places::Places;

/// Where everything of the system user is: the XDG folders of a service.
const SYSTEM: [(&str, &str); 3] = [
    ("XDG_STATE_HOME", "/var/lib"),
    ("XDG_CACHE_HOME", "/var/cache"),
    ("XDG_RUNTIME_DIR", "/run"),
];
/// Home of the system user: its state.
const HOME: &str = "/var/lib/arena";
/// User ids for seats: more than any one machine seats.
const SPARE_IDS: u32 = 65_536;
/// Where `useradd` begins by default too.
const SPARE_IDS_FROM: u32 = 100_000;

/// Folders of this user's Arena, for all events.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    paths: Paths,
}

impl Host {
    /// Returns the folders of whoever runs this: the XDG folders; for root the system user's.
    ///
    /// # Errors
    /// When nothing says where this user's files are.
    pub(crate) fn here() -> Result<Self, Failure> {
        let variable = |name: &str| match SYSTEM
            .iter()
            .find(|(system, _)| is_root() && *system == name)
        {
            Some((_, folder)) => Some((*folder).to_owned()),
            None => std::env::var(name).ok(),
        };
        let paths = Paths::from_environment(variable)
            .map_err(|error| Failure::environment(error).hint("set HOME"))?;
        Ok(Self { paths })
    }

    /// Returns the folders as the runtime knows them.
    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Returns the folder with one folder an event.
    pub(crate) fn state(&self) -> &Path {
        &self.paths.state
    }

    /// Returns the folder of tools.
    pub(crate) fn cache(&self) -> &Path {
        &self.paths.cache
    }

    /// Makes the folders for all events, private to this user.
    ///
    /// # Errors
    /// When one cannot be made, or belongs to somebody else.
    pub(crate) fn make(&self) -> Result<(), Failure> {
        self.paths.make().map_err(Failure::environment)
    }

    /// Returns the folders of one event.
    pub(crate) fn event(&self, event: &EventId) -> Places {
        let own = self.paths.event(event);
        Places {
            state: own.state,
            runtime: own.runtime,
            cache: self.paths.cache.clone(),
        }
    }

    /// Returns the events that have a state folder, in order.
    pub(crate) fn events(&self) -> Vec<EventId> {
        let mut events = self.paths.events();
        // A half-made folder is no event.
        events.retain(|event| self.event(event).state.join("lock").exists());
        events
    }

    /// After the last event is purged, removes what stood beside the events: copies of the executable, empty
    /// folders. Tools stay in the cache.
    pub(crate) fn remove_if_empty(&self) {
        if self.events().is_empty() {
            // What is still in use or somebody else's stays; nothing hangs on it.
            let copies = self.paths.state.join(".bin");
            // Who is about to start from there holds it; whoever has started is named.
            if let Some(_held) = held_alone(&self.paths.state)
                && !others_name(&copies)
            {
                let _ = fs::remove_dir_all(copies);
            }
            let _ = fs::remove_dir(&self.paths.state);
            let _ = fs::remove_dir(&self.paths.runtime);
        }
    }

    /// Returns the event that is meant: the named one, else the only one that runs, else the only one.
    ///
    /// # Errors
    /// When there is none, or several and none is named.
    pub(crate) fn chosen_to_use(&self, named: Option<&str>) -> Result<EventId, Failure> {
        let answers =
            |event: &EventId| UnixStream::connect(self.event(event).door_socket()).is_ok();
        let mut running = self.events().into_iter().filter(answers);
        match (named, running.next(), running.next()) {
            (None, Some(only), None) => Ok(only),
            _ => self.chosen(named),
        }
    }

    /// Returns the event that is meant: the named one, else the only one.
    ///
    /// # Errors
    /// When there is none, or several and none is named.
    pub(crate) fn chosen(&self, named: Option<&str>) -> Result<EventId, Failure> {
        let events = self.events();
        let list = || {
            events
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        match (named, events.as_slice()) {
            (Some(name), _) => match events.iter().find(|event| event.as_str() == name) {
                Some(event) => Ok(event.clone()),
                None if events.is_empty() => Err(Failure::configuration(format_args!(
                    "there is no event {name} on this machine"
                ))),
                None => Err(Failure::configuration(format_args!(
                    "there is no event {name} on this machine"
                ))
                .hint(format!("there are: {}", list()))),
            },
            (None, [only]) => Ok(only.clone()),
            (None, []) => Err(Failure::configuration("there is no event on this machine")
                .hint("start one with: arena up FOLDER")),
            (None, _) => Err(
                Failure::configuration("there are several events on this machine")
                    .hint(format!("name one with --event: {}", list())),
            ),
        }
    }
}

/// Returns whether we run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Asks a person once; `--yes` answers for them.
///
/// # Errors
/// When the answer is no, or nobody can be asked.
pub(crate) fn consent(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(
            Failure::environment(anyhow::anyhow!("{question} (nobody can be asked here)"))
                .hint("add --yes to agree"),
        );
    }
    eprint!("{question} [y/N] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::said(Kind::Environment))
    }
}

/// Makes the system user, its spare ids and folders, as far as they are missing. Only as root.
///
/// # Errors
/// When a system program fails.
pub(crate) fn make_user(user: &str, yes: bool) -> Result<(), Failure> {
    if !has_user(user)? {
        consent(
            &format!("Arena does not work as root. Make the system user `{user}` for it?"),
            yes,
        )?;
        system(
            "useradd",
            &[
                "--system",
                "--user-group",
                "--home-dir",
                HOME,
                "--shell",
                "/usr/sbin/nologin",
                user,
            ],
        )?;
    }
    for (file, option) in [
        ("/etc/subuid", "--add-subuids"),
        ("/etc/subgid", "--add-subgids"),
    ] {
        let text = fs::read_to_string(file).unwrap_or_default();
        if !text
            .lines()
            .any(|line| line.starts_with(&format!("{user}:")))
        {
            let ranges = text.lines().filter_map(|line| {
                let mut fields = line.split(':').skip(1).map(str::parse::<u32>);
                Some(fields.next()?.ok()?.saturating_add(fields.next()?.ok()?))
            });
            let from = ranges.max().unwrap_or(0).max(SPARE_IDS_FROM);
            system(
                "usermod",
                &[option, &format!("{from}-{}", from + SPARE_IDS - 1), user],
            )?;
        }
    }
    for (_, above) in SYSTEM {
        let folder = format!("{above}/arena");
        let folder = folder.as_str();
        fs::create_dir_all(folder).with_context(|| format!("cannot make {folder}"))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot close {folder}"))?;
        system("chown", &[&format!("{user}:"), folder])?;
    }
    Ok(())
}

/// Becomes the user: copies this executable beside its state and runs it there with the arguments.
/// Returns only when that fails.
///
/// # Errors
/// When the copy or the change of user fails.
pub(crate) fn become_user(user: &str, arguments: &[OsString]) -> Result<(), Failure> {
    let error = user_command(user, arguments)?.command.exec();
    Err(Failure::environment(anyhow::Error::new(error).context(
        format!("cannot become the user {user} with setpriv"),
    )))
}

/// As root, becomes the user whose event it is, so that what is written there is theirs; does nothing
/// otherwise.
///
/// # Errors
/// When nobody knows the user, or the change of user fails.
pub(crate) fn become_owner(places: &Places, arguments: &[OsString]) -> Result<(), Failure> {
    if !is_root() {
        return Ok(());
    }
    match owner(&places.state)?.as_str() {
        "root" => Ok(()),
        user => become_user(user, arguments),
    }
}

fn owner(folder: &Path) -> Result<String, Failure> {
    use std::os::unix::fs::MetadataExt;
    let uid = fs::metadata(folder)
        .with_context(|| format!("cannot look at {}", folder.display()))?
        .uid();
    let output = Command::new("getent")
        .args(["passwd", &uid.to_string()])
        .output()
        .context("cannot run getent")?;
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    match line.split(':').next() {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(Failure::environment(anyhow::anyhow!(
            "{} belongs to user {uid}, whom nobody knows here",
            folder.display()
        ))),
    }
}

/// Returns this executable, run as the user: a copy beside its state.
///
/// # Errors
/// When the copy fails.
pub(crate) fn user_command(user: &str, arguments: &[OsString]) -> Result<UserCommand, Failure> {
    let own = std::env::current_exe().context("cannot find this executable")?;
    let held = held(Path::new(HOME)).with_context(|| format!("cannot lock {HOME}"))?;
    let folder = Path::new(HOME).join(".bin");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))
        .context("cannot open the folder of the executable")?;
    let copy = executable_copy(&own, &folder)?;
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            user,
            "--regid",
            user,
            "--init-groups",
            "--inh-caps=-all",
            "--",
        ])
        .arg(&copy)
        .args(arguments);
    command.envs(SYSTEM).env("HOME", HOME).current_dir("/");
    Ok(UserCommand {
        command,
        _held: held,
    })
}

/// This executable, run as a user. Until it is dropped or becomes that program, nobody removes the copy.
pub(crate) struct UserCommand {
    pub(crate) command: Command,
    _held: File,
}

/// Holds a folder together with others, until the file is closed: also by becoming another program.
fn held(folder: &Path) -> io::Result<File> {
    loop {
        fs::create_dir_all(folder)?;
        let file = File::open(folder)?;
        flock(&file, FlockOperation::LockShared)?;
        // It may have been removed while somebody else held it.
        if is_still(&file, folder) {
            return Ok(file);
        }
    }
}

/// Holds a folder alone; nothing when others hold it.
fn held_alone(folder: &Path) -> Option<File> {
    let file = File::open(folder).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    is_still(&file, folder).then_some(file)
}

fn is_still(file: &File, folder: &Path) -> bool {
    let identity = |of: fs::Metadata| (of.dev(), of.ino());
    let now = fs::metadata(folder).map(identity);
    file.metadata()
        .is_ok_and(|held| now.is_ok_and(|now| now == identity(held)))
}

/// Copies the author's folder where the user can read it, and returns the copy. What strangers'
/// tools leave behind (`node_modules`, `.git`) stays out.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn hand_over(user: &str, event: &EventId, folder: &Folder) -> Result<PathBuf, Failure> {
    let state = Host::here()?.event(event).state;
    let (fresh, content) = (state.join("content.new"), state.join("content"));
    // The folder's own name is the name of the work folder in every seat.
    let name = folder
        .path
        .file_name()
        .map_or_else(|| OsString::from("workshop"), OsString::from);
    let copy = || -> anyhow::Result<()> {
        fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot close {}", state.display()))?;
        if fresh.exists() {
            fs::remove_dir_all(&fresh).context("cannot remove an unfinished copy")?;
        }
        for file in &folder.sources.files {
            let (from, to) = (folder.path.join(file), fresh.join(&name).join(file));
            fs::create_dir_all(to.parent().context("a file has a folder")?)?;
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        if content.exists() {
            fs::remove_dir_all(&content).context("cannot remove the last copy")?;
        }
        fs::rename(&fresh, &content).context("cannot finish the copy")
    };
    copy().map_err(Failure::environment)?;
    let owner = format!("{user}:");
    // Only what was copied: seats' files beside it belong to their own users.
    system("chown", &[&owner, &state.display().to_string()])?;
    system(
        "chown",
        &[
            "--recursive",
            "--no-dereference",
            &owner,
            &content.display().to_string(),
        ],
    )?;
    Ok(content.join(name))
}

/// Copies the executable under a name of its content, unless it is there.
fn executable_copy(own: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let bytes = fs::read(own).context("cannot read this executable")?;
    let digest = Sha256::digest(&bytes);
    let copy = folder.join(format!(
        "arena-{:02x}{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2], digest[3]
    ));
    if !copy.exists() {
        let fresh = folder.join(format!(".new-{}", std::process::id()));
        fs::write(&fresh, &bytes).with_context(|| format!("cannot write {}", fresh.display()))?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))
            .context("cannot make the copy executable")?;
        fs::rename(&fresh, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
    }
    Ok(copy)
}

/// Whether another process runs something in this folder, or its command names it: an event that only begins to
/// start runs from there.
///
/// The command is read first: a process that executes another program has no command for a moment, and by then
/// already that program's file.
fn others_name(folder: &Path) -> bool {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut others = processes.filter(|process| process.file_name() != *own);
    others.any(|process| {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let named = command
            .split(|byte| *byte == 0)
            .any(|word| word.starts_with(folder.as_os_str().as_bytes()));
        let runs = || fs::read_link(process.path().join("exe"));
        named || runs().is_ok_and(|file| file.starts_with(folder))
    })
}

/// Returns whether this machine knows the user.
pub(crate) fn has_user(user: &str) -> Result<bool, Failure> {
    let status = Command::new("getent")
        .args(["passwd", user])
        .stdout(std::process::Stdio::null())
        .status();
    Ok(status.context("cannot run getent")?.success())
}

fn system(program: &str, arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::environment(anyhow::anyhow!(
        "{program} {} failed: {said}",
        arguments.join(" ")
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A machine with events, some of which answer at their doors.
    struct Machine {
        host: Host,
        doors: Vec<UnixListener>,
        _folder: tempfile::TempDir,
    }

    impl Machine {
        fn with(stopped: &[&str], running: &[&str]) -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let part = |name: &str| folder.path().join(name);
            let paths = Paths {
                state: part("state"),
                cache: part("cache"),
                runtime: part("run"),
            };
            let host = Host { paths };
            let door = |name: &&str| {
                let places = host.event(&EventId::new(*name).expect("an event's id"));
                fs::create_dir_all(&places.state).expect("a folder");
                fs::create_dir_all(&places.runtime).expect("a folder");
                fs::write(places.state.join("lock"), "").expect("a lock");
                UnixListener::bind(places.door_socket()).expect("a door")
            };
            // A platform that ended leaves its socket, and nobody behind it.
            drop(stopped.iter().map(door).collect::<Vec<_>>());
            let doors = running.iter().map(door).collect();
            Self {
                doors,
                host,
                _folder: folder,
            }
        }

        fn chooses(&self, named: Option<&str>) -> Result<String, String> {
            let chosen = self.host.chosen_to_use(named);
            chosen
                .map(|event| event.to_string())
                .map_err(|failure| format!("{failure:?}"))
        }
    }

    #[test]
    fn a_command_means_the_named_event_else_the_one_that_runs_else_the_only_one() {
        for (stopped, running, named, meant) in [
            (&["spring"][..], &[][..], None, Some("spring")),
            (&["spring", "autumn"], &["summer"], None, Some("summer")),
            (&["spring"], &["summer"], Some("spring"), Some("spring")),
            (&["spring", "autumn"], &[], None, None),
            (&["spring"], &["summer", "autumn"], None, None),
            (&["spring"], &["summer"], Some("winter"), None),
            (&[], &[], None, None),
        ] {
            let machine = Machine::with(stopped, running);
            assert_eq!(machine.doors.len(), running.len());
            let chosen = machine.chooses(named);
            assert_eq!(
                chosen.clone().ok().as_deref(),
                meant,
                "{stopped:?} {running:?} {named:?}: {chosen:?}"
            );
        }
    }

    #[test]
    fn a_copy_of_the_executable_stays_while_somebody_is_about_to_start_from_it() {
        let machine = Machine::with(&[], &[]);
        let copies = machine.host.paths.state.join(".bin");
        fs::create_dir_all(&copies).expect("a folder");
        let starting = [
            held(&machine.host.paths.state),
            held(&machine.host.paths.state),
        ];
        assert!(
            starting.iter().all(Result::is_ok),
            "several may start at once"
        );
        machine.host.remove_if_empty();
        assert!(copies.exists());
        drop(starting);
        machine.host.remove_if_empty();
        assert!(!copies.exists());
    }

    #[test]
    fn a_copy_of_the_executable_stays_as_long_as_somebody_starts_from_it() {
        let machine = Machine::with(&[], &[]);
        let copies = machine.host.paths.state.join(".bin");
        fs::create_dir_all(&copies).expect("a folder");
        let copy = copies.join("arena-1");
        fs::copy("/bin/sleep", &copy).expect("an executable");
        let mut starting = Command::new(&copy).arg("600").spawn().expect("it starts");
        machine.host.remove_if_empty();
        assert!(copy.exists(), "another event starts from it");
        starting.kill().expect("it runs");
        starting.wait().expect("it ends");
        machine.host.remove_if_empty();
        assert!(!copies.exists());
    }
}
