//! Builds a sandbox and becomes it. Everything from the host is opened first and then brought
//! onto a small stage over `/tmp`, because bubblewrap runs as the seat's user and could not
//! reach into our 0700 folders. The stage exists in this mount namespace only.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Seek, Write};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FlockOperation, MemfdFlags, Mode, OFlags, flock, memfd_create};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use rustix::process::{
    Gid, Resource, Rlimit, Signal, Uid, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{Home, Limits, NestError, Run, SEAT_ID, seccomp};

/// Covered by the stage, in this mount namespace only. Bubblewrap itself counts on it.
const STAGE: &str = "/tmp";

/// Who is killed first when memory runs out: a seat, never the platform.
const OOM_SCORE: &str = "900";

/// How long a killed sandbox may take to let go of its files.
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// Parts of the host's `/etc` that programs in `/usr` need; none of them is about this machine's people.
const ETC_FROM_HOST: [&str; 6] = [
    "ssl",
    "pki",
    "ca-certificates",
    "alternatives",
    "ld.so.cache",
    "localtime",
];

/// Becomes the sandbox's command.
pub(super) fn run(run: &Run) -> Result<Infallible, NestError> {
    die_with_platform()?;
    let lock = hold(&run.lock)?;
    fs::write("/proc/self/oom_score_adj", OOM_SCORE)
        .map_err(NestError::new("cannot raise oom_score_adj"))?;
    let home = open_home(&run.home)?;
    let mut trees = Vec::new();
    for bind in &run.read_only {
        trees.push((copy_tree(&bind.from)?, bind.from.is_dir()));
    }
    mount_stage()?;
    place(&home, &stage("home"), true)?;
    for (index, (tree, is_folder)) in trees.iter().enumerate() {
        place(tree, &stage(&index.to_string()), *is_folder)?;
    }
    write_etc(run).map_err(NestError::new("cannot write the sandbox's /etc"))?;
    for (index, text) in run.files.values().enumerate() {
        write_private(&stage(&format!("file-{index}")), text, run.own_user)
            .map_err(NestError::new("cannot write the sandbox's own files"))?;
    }
    let filter = seccomp::filter()
        .map_err(|error| NestError::new("cannot compile the filter")(io::Error::other(error)))?;
    let filter = in_memory("seccomp", &filter)?;
    let arguments = in_memory("arguments", &join(&arguments(run, &filter, &lock)))?;
    limit(run.limits)?;
    if run.own_user {
        become_seat()?;
    }
    die_with_platform()?;
    let mut bubblewrap = Command::new("/usr/bin/bwrap");
    bubblewrap
        .arg("--args")
        .arg(arguments.as_raw_fd().to_string())
        .arg("--")
        .args(&run.command);
    bubblewrap.env_clear().envs(&run.environment);
    Err(NestError::new("cannot start bubblewrap")(bubblewrap.exec()))
}

/// Arms the parent-death signal, which every change of credentials disarms. Who died before it was
/// armed sends none; but then our standard input, whose other end the platform holds, has ended.
pub(super) fn die_with_platform() -> Result<(), NestError> {
    let what = "cannot tie us to the platform";
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(NestError::at(what))?;
    let input = io::stdin();
    let mut looked_at = [PollFd::new(&input, PollFlags::empty())];
    poll(&mut looked_at, Some(&Timespec::default())).map_err(NestError::at(what))?;
    if looked_at[0].revents().contains(PollFlags::HUP) {
        return Err(NestError::new("the platform is gone")(io::Error::other(
            "orphaned",
        )));
    }
    Ok(())
}

/// Takes the lock. The descriptor is inherited by the sandbox's first process and nobody else,
/// so the lock ends with the sandbox. The last sandbox on these files may still be dying.
pub(super) fn hold(path: &Path) -> Result<OwnedFd, NestError> {
    let what = || format!("cannot lock {}: it is in use", path.display());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW;
    let lock =
        rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(NestError::at(what()))?;
    let give_up = Instant::now() + LOCK_WAIT;
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::WOULDBLOCK) if Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(20))
            }
            Err(errno) => return Err(NestError::at(what())(errno)),
        }
    }
}

fn open_home(home: &Home) -> Result<OwnedFd, NestError> {
    match home {
        Home::Folder(folder) => copy_tree(folder),
        Home::Overlay { lower, upper, work } => {
            let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
                .map_err(NestError::at("there is no overlay here"))?;
            // Descriptors instead of paths: no character of a path can mean anything to overlayfs.
            let mut held = Vec::new();
            for (key, folder) in [("lowerdir", lower), ("upperdir", upper), ("workdir", work)] {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let opened = rustix::fs::open(folder, flags, Mode::empty())
                    .map_err(NestError::at(format!("cannot open {}", folder.display())))?;
                let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
                fsconfig_set_string(&context, key, path)
                    .map_err(NestError::at("cannot set up the overlay"))?;
                held.push(opened);
            }
            fsconfig_set_flag(&context, "userxattr")
                .map_err(NestError::at("cannot set up the overlay"))?;
            fsconfig_create(&context).map_err(NestError::at("cannot make the overlay"))?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
                .map_err(NestError::at("cannot mount the overlay"))
        }
    }
}

/// Returns a detached copy of what is mounted at a path of ours.
fn copy_tree(path: &Path) -> Result<OwnedFd, NestError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    open_tree(CWD, path, flags)
        .map_err(NestError::at(format!("cannot bring in {}", path.display())))
}

fn mount_stage() -> Result<(), NestError> {
    let what = "cannot mount the stage";
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(NestError::at(what))?;
    fsconfig_set_string(&context, "mode", "0755").map_err(NestError::at(what))?;
    fsconfig_set_string(&context, "size", "8m").map_err(NestError::at(what))?;
    fsconfig_create(&context).map_err(NestError::at(what))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let tmpfs = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(NestError::at(what))?;
    move_mount(
        &tmpfs,
        "",
        CWD,
        STAGE,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(NestError::at(what))
}

fn stage(name: &str) -> String {
    format!("{STAGE}/{name}")
}

/// Mounts a detached tree on a new place of the stage.
fn place(tree: &OwnedFd, at: &str, is_folder: bool) -> Result<(), NestError> {
    let made = if is_folder {
        open_folder(at)
    } else {
        File::create(at).map(drop)
    };
    made.map_err(NestError::new(format!("cannot make {at}")))?;
    move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(NestError::at(format!("cannot mount on {at}")))
}

fn open_folder(path: &str) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

fn write_etc(run: &Run) -> io::Result<()> {
    let etc = stage("etc");
    open_folder(&etc)?;
    let name = &run.host_name;
    let home = &run.home_at;
    let passwd = format!(
        "root:x:0:0:root:/root:/usr/sbin/nologin\nworkspace:x:{SEAT_ID}:{SEAT_ID}:{name}:{home}:/bin/bash\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    );
    let group = format!("root:x:0:\nworkspace:x:{SEAT_ID}:\nnogroup:x:65534:\n");
    for (file, text) in [
        ("passwd", passwd),
        ("group", group),
        ("hostname", format!("{name}\n")),
        ("resolv.conf", String::new()),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n".to_owned(),
        ),
        ("shells", "/bin/sh\n/bin/bash\n".to_owned()),
        // A seat reaches nobody who would read it.
        (
            "mongosh.conf",
            "mongosh:\n  enableTelemetry: false\n".to_owned(),
        ),
    ] {
        fs::write(format!("{etc}/{file}"), text)?;
        fs::set_permissions(format!("{etc}/{file}"), Permissions::from_mode(0o644))?;
    }
    match &run.hosts_file {
        Some(file) => symlink(file, format!("{etc}/hosts"))?,
        None => {
            fs::write(format!("{etc}/hosts"), hosts(name, &BTreeMap::new()))?;
            fs::set_permissions(format!("{etc}/hosts"), Permissions::from_mode(0o644))?;
        }
    }
    for name in ETC_FROM_HOST {
        let from = format!("/etc/{name}");
        if Path::new(&from).is_dir() {
            open_folder(&format!("{etc}/{name}"))?;
        } else if Path::new(&from).exists() {
            File::create(format!("{etc}/{name}"))?;
        }
    }
    Ok(())
}

/// Returns the text of a sandbox's hosts file.
pub(crate) fn hosts(host_name: &str, names: &BTreeMap<String, IpAddr>) -> String {
    let mut text = format!("127.0.0.1 localhost {host_name}\n::1 localhost ip6-localhost\n");
    for (name, address) in names {
        let _ = writeln!(text, "{address} {name}");
    }
    text
}

fn write_private(path: &str, text: &str, own_user: bool) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, Permissions::from_mode(0o400))?;
    if own_user {
        chown(path, Some(SEAT_ID), Some(SEAT_ID))
    } else {
        Ok(())
    }
}

/// Returns a descriptor that survives `exec`, positioned before the bytes.
fn in_memory(name: &str, bytes: &[u8]) -> Result<OwnedFd, NestError> {
    let memory = memfd_create(name, MemfdFlags::empty())
        .map_err(NestError::at("cannot make a file in memory"))?;
    let mut file = File::from(memory);
    file.write_all(bytes)
        .and_then(|()| file.rewind())
        .map_err(NestError::new("cannot write to a file in memory"))?;
    Ok(file.into())
}

fn join(arguments: &[OsString]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for argument in arguments {
        bytes.extend_from_slice(argument.as_encoded_bytes());
        bytes.push(0);
    }
    bytes
}

/// Bubblewrap's arguments. Order matters: later mounts cover earlier ones.
fn arguments(run: &Run, filter: &OwnedFd, lock: &OwnedFd) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| all.extend(words.iter().map(OsString::from));
    let id = SEAT_ID.to_string();
    add(&["--unshare-user", "--uid", &id, "--gid", &id]);
    add(&[
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]);
    add(&[
        "--hostname",
        &run.host_name,
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
    ]);
    add(&["--disable-userns"]);
    add(&[
        "--seccomp",
        &filter.as_raw_fd().to_string(),
        "--sync-fd",
        &lock.as_raw_fd().to_string(),
    ]);
    add(&["--ro-bind", "/usr", "/usr"]);
    for folder in ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
        match fs::read_link(folder) {
            Ok(target) => add(&["--symlink", &target.to_string_lossy(), folder]),
            Err(_) if Path::new(folder).is_dir() => add(&["--ro-bind", folder, folder]),
            Err(_) => {}
        }
    }
    let size = run.limits.scratch_bytes.to_string();
    add(&["--proc", "/proc", "--dev", "/dev"]);
    for (folder, mode) in [
        ("/dev/shm", "1777"),
        ("/tmp", "1777"),
        ("/run", "755"),
        ("/var", "755"),
        ("/run/arena", "700"),
    ] {
        add(&["--perms", mode, "--size", &size, "--tmpfs", folder]);
    }
    add(&["--perms", "1777", "--dir", "/var/tmp"]);
    add(&["--ro-bind", &stage("etc"), "/etc"]);
    for name in ETC_FROM_HOST {
        let path = format!("/etc/{name}");
        add(&["--ro-bind-try", &path, &path]);
    }
    add(&["--bind", &stage("home"), &run.home_at]);
    for (index, bind) in run.read_only.iter().enumerate() {
        add(&["--ro-bind", &stage(&index.to_string()), &bind.to]);
    }
    for (index, path) in run.files.keys().enumerate() {
        add(&["--ro-bind", &stage(&format!("file-{index}")), path]);
    }
    for folder in ["/", "/run", "/dev"] {
        add(&["--remount-ro", folder]);
    }
    add(&["--chdir", &run.directory]);
    all
}

fn limit(limits: Limits) -> Result<(), NestError> {
    for (resource, value) in [
        (Resource::Data, limits.data_bytes),
        (Resource::Nproc, limits.processes),
        (Resource::Nofile, limits.open_files),
        (Resource::Fsize, limits.file_bytes),
        (Resource::Core, 0),
    ] {
        // A lower limit that was set on us stays.
        let most = rustix::process::getrlimit(resource)
            .maximum
            .unwrap_or(u64::MAX);
        let value = Some(value.min(most));
        setrlimit(
            resource,
            Rlimit {
                current: value,
                maximum: value,
            },
        )
        .map_err(NestError::at(format!("cannot limit {resource:?}")))?;
    }
    Ok(())
}

/// Gives up being the platform's user. The capabilities go with it.
fn become_seat() -> Result<(), NestError> {
    let what = "cannot become the seat's user";
    let (uid, gid) = (Uid::from_raw(SEAT_ID), Gid::from_raw(SEAT_ID));
    set_thread_groups(&[]).map_err(NestError::at(what))?;
    set_thread_res_gid(gid, gid, gid).map_err(NestError::at(what))?;
    set_thread_res_uid(uid, uid, uid).map_err(NestError::at(what))
}
