//! Whether and how seats can be separated on this machine, found out by doing it: [`probe`] runs
//! the whole chain with `true` and says for each step what to do when it fails. A [`Sandbox`] is
//! what came out, and starts everything that strangers wrote.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arena_workshop::plan::Isolation;
use thiserror::Error;

use crate::nest::{self, Work};

/// Programs of the host, called by a fixed path of their own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Ties everything that runs in there to our life, without a gap: `setpriv` ties `unshare` to us,
/// `unshare` its child, and that is the first process of a process namespace, with which the kernel
/// ends all others. Bubblewrap alone leaves one behind that was killed while it built a sandbox.
const TIED: [&str; 7] = [
    "--pdeathsig",
    "KILL",
    "--",
    "unshare",
    "--pid",
    "--kill-child",
    "--mount-proc",
];

/// A limit on user namespaces, and what lifts it.
const LIMIT_REACHED: &str = "this machine's limit on them is reached";
const NAMESPACES_LIMIT_FIX: &str =
    "sudo sysctl -w user.max_user_namespaces=15000 (in a container: on its host)";

/// What a sandbox says about its own failure; the rest is cut.
const ERROR_BYTES_MAX: u64 = 64 << 10;
/// A printed line longer than this comes in pieces.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// Which of the machine's spare user ids something runs as. Seats have 1 and up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot of templates and installations: never that of a seat.
    pub const PLATFORM: Slot = Slot(0);
}

/// How this machine separates seats. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    executable: PathBuf,
    users: Users,
    has_overlay: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Users {
    /// Spare ids from `/etc/subuid` and `/etc/subgid`: where they begin, how many.
    PerSlot { uid: u32, gid: u32, count: u32 },
    /// Everything runs as the user that Arena runs as.
    Shared,
    /// That too, and without namespaces: nothing is separated.
    Open,
}

/// A step of the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeStep {
    /// What was tried.
    pub name: &'static str,
    /// Whether it worked.
    pub is_ok: bool,
    /// Whether seats can be separated without it.
    pub is_optional: bool,
    /// What was found.
    pub detail: String,
    /// What mends it: a command to run, or a sentence.
    pub fix: Option<String>,
}

/// What came out of a probe.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Every step, in order.
    pub steps: Vec<ProbeStep>,
    /// The sandbox, where the steps that matter worked.
    pub sandbox: Option<Sandbox>,
}

/// Work inside a seat's namespaces failed.
#[derive(Debug, Error)]
#[error("{what}: {message}")]
pub struct SandboxError {
    what: String,
    message: String,
}

impl SandboxError {
    /// Returns the innermost reason: the last line of what the failed process said.
    pub(crate) fn reason(&self) -> &str {
        let last = self.message.lines().last().unwrap_or_default().trim();
        last.strip_prefix("because ").unwrap_or(last)
    }

    pub(crate) fn new(what: &str, reason: &dyn std::error::Error) -> SandboxError {
        SandboxError {
            what: what.to_owned(),
            message: reason.to_string(),
        }
    }
}

/// Finds out how `seats` seats can be separated, by running the exact chain with `true`.
/// `executable` is our own (see [`nest::ARGUMENTS`]); `scratch` is a folder of ours on the disk
/// where seats will be.
pub fn probe(executable: &Path, scratch: &Path, seats: u32) -> Probe {
    let mut steps = prerequisites();
    let users = users(seats);
    let found = users
        .as_ref()
        .map(|_| format!("a user id for each of {seats} seats"))
        .map_err(Clone::clone);
    steps.push(optional(step(
        "user id per seat",
        found,
        Some(subuid_fix()),
    )));
    if steps.iter().any(|step| !step.is_ok && !step.is_optional) {
        return Probe {
            steps,
            sandbox: None,
        };
    }
    let users = users.unwrap_or(Users::Shared);
    let mut sandbox = Sandbox {
        executable: executable.to_owned(),
        users,
        has_overlay: true,
    };
    let mut whole = sandbox.try_out(scratch);
    if sandbox.users != Users::Shared
        && whole.is_err()
        && sandbox.clone_shared().try_out(scratch).is_ok()
    {
        sandbox = sandbox.clone_shared();
        let last = steps.last_mut().expect("a step was pushed above");
        (last.is_ok, last.detail) = (false, whole.expect_err("it failed").to_string());
        last.fix = Some(subuid_fix());
        whole = Ok(());
    }
    let overlay = whole
        .as_ref()
        .map(|()| "works".to_owned())
        .map_err(ToString::to_string);
    if whole.is_err() {
        sandbox.has_overlay = false;
        whole = sandbox.try_out(scratch);
    }
    let fix =
        "without it every seat gets a full copy of the template: more disk, otherwise the same";
    steps.push(optional(step(
        "overlay in user namespaces",
        overlay,
        Some(fix.to_owned()),
    )));
    let result = whole
        .map(|()| "a seat's whole sandbox starts".to_owned())
        .map_err(|error| error.to_string());
    steps.push(step("sandbox", result, Some(namespaces_fix())));
    let is_usable = steps.iter().all(|step| step.is_ok || step.is_optional);
    Probe {
        steps,
        sandbox: is_usable.then_some(sandbox),
    }
}

fn prerequisites() -> Vec<ProbeStep> {
    let mut steps = Vec::new();
    let bubblewrap = version("bwrap");
    steps.push(step(
        "bubblewrap",
        bubblewrap,
        Some("apt-get install -y bubblewrap".to_owned()),
    ));
    if rustix::process::geteuid().is_root() {
        let message =
            Err("seats must not run as root: they could write this machine's settings".to_owned());
        steps.push(step(
            "ordinary user",
            message,
            Some("start it with --run-as, or as an ordinary user".to_owned()),
        ));
    }
    steps.push(namespaces());
    steps
}

fn namespaces() -> ProbeStep {
    // The kernel's word for a limit on namespaces; nothing to do with disks.
    let namespaces =
        run(Command::new("unshare").args(["-U", "-r", "-m", "true"])).map_err(|text| {
            if text.contains("No space left on device") {
                LIMIT_REACHED.to_owned()
            } else {
                text
            }
        });
    let fix = match &namespaces {
        Err(text) if text == LIMIT_REACHED => NAMESPACES_LIMIT_FIX.to_owned(),
        _ => namespaces_fix(),
    };
    step(
        "user namespaces",
        namespaces.map(|_| "allowed".to_owned()),
        Some(fix),
    )
}

impl Sandbox {
    /// Returns no sandbox at all: programs run as our own user, who asked for it by name. `executable`
    /// is our own.
    pub fn open(executable: &Path) -> Sandbox {
        Sandbox {
            executable: executable.to_owned(),
            users: Users::Open,
            has_overlay: false,
        }
    }

    /// Returns whether nothing is separated.
    pub fn is_open(&self) -> bool {
        self.users == Users::Open
    }

    /// Returns how seats are separated.
    pub fn isolation(&self) -> Isolation {
        match self.users {
            Users::PerSlot { .. } => Isolation::OwnUser,
            Users::Shared => Isolation::SharedUser,
            Users::Open => Isolation::None,
        }
    }

    /// Returns whether seats share the template's files through an overlay.
    pub fn has_overlay(&self) -> bool {
        self.has_overlay
    }

    /// Returns our own executable on the host.
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    pub(crate) fn has_own_users(&self) -> bool {
        matches!(self.users, Users::PerSlot { .. })
    }

    /// Returns whether there is a user id for this slot.
    pub(crate) fn has_slot(&self, slot: Slot) -> bool {
        match self.users {
            Users::PerSlot { count, .. } => slot.0 < count,
            Users::Shared | Users::Open => true,
        }
    }

    /// Returns the program and arguments that do `work` (a path, or `-`) in a slot's namespaces.
    pub(crate) fn command(&self, slot: Slot, work: &str) -> (PathBuf, Vec<OsString>) {
        if self.is_open() {
            let mut arguments: Vec<OsString> = nest::ARGUMENTS.map(OsString::from).to_vec();
            arguments.push(work.into());
            return (self.executable.clone(), arguments);
        }
        let mut arguments: Vec<OsString> = TIED.map(OsString::from).to_vec();
        arguments.extend(["-U", "-m", "-r", "--propagation", "private"].map(OsString::from));
        if let Users::PerSlot { uid, gid, count } = self.users {
            assert!(
                slot.0 < count,
                "slots are handed out below the count that was probed"
            );
            let inner = nest::SEAT_ID;
            arguments.push(format!("--map-users={},{inner},1", uid + slot.0).into());
            arguments.push(format!("--map-groups={},{inner},1", gid + slot.0).into());
        }
        arguments.push("--".into());
        arguments.push(self.executable.clone().into_os_string());
        arguments.extend(nest::ARGUMENTS.map(OsString::from));
        arguments.push(work.into());
        (PathBuf::from("/usr/bin/setpriv"), arguments)
    }

    /// Does work in a slot's namespaces and waits for it. Blocks.
    pub(crate) fn perform(&self, slot: Slot, what: &str, work: &Work) -> Result<(), SandboxError> {
        self.perform_aloud(slot, what, work, &|_| {})
    }

    /// Does work in a slot's namespaces, handing out every line that it prints. Blocks.
    pub(crate) fn perform_aloud(
        &self,
        slot: Slot,
        what: &str,
        work: &Work,
        on_line: &dyn Fn(&str),
    ) -> Result<(), SandboxError> {
        let failed = |message: String| SandboxError {
            what: what.to_owned(),
            message,
        };
        let (program, arguments) = self.command(slot, "-");
        let mut text =
            serde_json::to_vec(work).expect("a work order has only strings, numbers and lists");
        text.push(b'\n');
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .process_group(0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| failed(format!("cannot start a process: {error}")))?;
        // A child that fails before it reads says why on its standard error.
        // The pipe stays open until it has ended, see `die_with_platform`.
        let mut lifeline = child.stdin.take().expect("it was piped");
        let _ = lifeline.write_all(&text);
        let errors = child.stderr.take().expect("it was piped");
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.take(ERROR_BYTES_MAX).read_to_end(&mut text);
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let mut output = BufReader::new(child.stdout.take().expect("it was piped"));
        let mut line = Vec::new();
        while matches!(
            output
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line),
            Ok(1..)
        ) {
            on_line(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        let status = child.wait().map_err(|error| failed(error.to_string()))?;
        drop(lifeline);
        let message = errors.join().unwrap_or_default();
        match (status.success(), message.is_empty()) {
            (true, _) => Ok(()),
            (false, false) => Err(failed(message)),
            (false, true) => Err(failed(status.to_string())),
        }
    }

    fn clone_shared(&self) -> Sandbox {
        Sandbox {
            users: Users::Shared,
            ..self.clone()
        }
    }

    /// Runs `true` in a sandbox made like a seat's, in a throw-away folder.
    fn try_out(&self, scratch: &Path) -> Result<(), SandboxError> {
        let folder = scratch.join(format!("probe-{}", std::process::id()));
        let made = ["lower", "upper", "work"]
            .iter()
            .try_for_each(|name| std::fs::create_dir_all(folder.join(name)));
        made.map_err(|error| SandboxError {
            what: format!("cannot write to {}", scratch.display()),
            message: error.to_string(),
        })?;
        let outcome = crate::seat::try_out(self, &folder);
        let removed = self.perform(Slot::PLATFORM, "cannot tidy up", &Work::Remove { folder });
        outcome.and(removed)
    }
}

fn step(name: &'static str, found: Result<String, String>, fix: Option<String>) -> ProbeStep {
    let is_ok = found.is_ok();
    let (Ok(detail) | Err(detail)) = found;
    ProbeStep {
        name,
        is_ok,
        is_optional: false,
        detail,
        fix: fix.filter(|_| !is_ok),
    }
}

fn optional(step: ProbeStep) -> ProbeStep {
    ProbeStep {
        is_optional: true,
        ..step
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "not installed".to_owned(),
            _ => format!("cannot start {name}: {error}"),
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

fn version(program: &str) -> Result<String, String> {
    run(Command::new(program).arg("--version"))
}

/// What stands in the way of user namespaces, from the settings that distributions use.
fn namespaces_fix() -> String {
    let setting = |path: &str| {
        std::fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".to_owned();
    }
    if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1".to_owned();
    }
    if setting("/proc/sys/user/max_user_namespaces") == "0" {
        return NAMESPACES_LIMIT_FIX.to_owned();
    }
    "this machine (perhaps a container) forbids user namespaces: allow them".to_owned()
}

pub(crate) fn subuid_fix() -> String {
    let user = user_name().unwrap_or_else(|| "$USER".to_owned());
    format!(
        "apt-get install -y uidmap && usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
    )
}

/// The spare ids of our user, when there are enough for the seats and the platform's own slot.
fn users(seats: u32) -> Result<Users, String> {
    // Without arguments it only prints its usage; that it can be started is all we ask.
    Command::new("newuidmap")
        .stdin(Stdio::null())
        .output()
        .map_err(|_| "newuidmap is missing".to_owned())?;
    let (uid, uids) = spare_ids("/etc/subuid")?;
    let (gid, gids) = spare_ids("/etc/subgid")?;
    let count = uids.min(gids);
    if count <= seats {
        return Err(format!("only {count} spare ids for {seats} seats"));
    }
    Ok(Users::PerSlot { uid, gid, count })
}

/// The longest range of a file such as `/etc/subuid` for our user, by name or number.
fn spare_ids(file: &str) -> Result<(u32, u32), String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let number = rustix::process::geteuid().as_raw().to_string();
    let name = user_name().unwrap_or_else(|| number.clone());
    let ranges = text.lines().filter_map(|line| {
        let mut parts = line.trim().split(':');
        let owner = parts.next()?;
        let range = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (owner == name || owner == number).then_some(range)
    });
    ranges
        .max_by_key(|(_, count): &(u32, u32)| *count)
        .ok_or_else(|| format!("{file} has no line for {name}"))
}

/// The name of the user we run as.
pub(crate) fn user_name() -> Option<String> {
    let number = rustix::process::geteuid().as_raw().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut names = accounts.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let (name, id) = (parts.next()?, parts.nth(1)?);
        (id == number).then(|| name.to_owned())
    });
    names.next()
}
