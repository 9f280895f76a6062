//! Installs a tool into the cache: fetch without running anything, build in the sandbox, slim,
//! verify, rename. Under the cache's lock; what a broken installation left is removed by the next.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use sha2::{Digest, Sha256};

use super::{
    NPM, PINS, Pin, ToolError, ToolProgress, ToolSettings, missing_build_packages, output, slim,
};
use crate::nest::{Step, Work};
use crate::sandbox::{Sandbox, Slot};
use crate::seat::{EDITOR, HOME, NODE, Trees, make_folder};
use crate::workroom::{StepFailure, Supplies, Workroom};

/// Seconds that fetching one package with all it needs may take.
const FETCH_SECONDS: &str = "1200";

/// Node's own releases, where no package client is there.
const NODE_RELEASES: &str = "https://nodejs.org/dist";
const ARCHIVE_BYTES_MAX: u64 = 200 << 20;

/// Another installation has this long to end.
const OTHER_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How often the lock is tried.
const OTHER_BEAT: Duration = Duration::from_millis(200);

/// A registry that answers at all does so soon; npm itself would wait for minutes between tries.
const NPM_RETRIES: [&str; 2] = [
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=5000",
];

/// How often progress is reported.
const BEAT: Duration = Duration::from_millis(500);

/// Takes the cache's lock; it is free again when the returned value is dropped. Waits for another
/// installation, telling so.
pub(super) fn lock(cache: &Path, progress: &dyn Fn(ToolProgress)) -> Result<OwnedFd, ToolError> {
    make_folder(cache, 0o700).map_err(files("make the tool cache"))?;
    let path = cache.join("lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600));
    let lock = lock.map_err(|errno| files("lock the tool cache")(errno.into()))?;
    let begun = Instant::now();
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if begun.elapsed() > OTHER_LIMIT {
            return Err(ToolError::Busy(cache.display().to_string()));
        }
        progress(ToolProgress {
            name: "tools",
            step: "another Arena installs them, waiting for it".to_owned(),
            bytes: 0,
            total_bytes: 0,
            elapsed: begun.elapsed(),
        });
        thread::sleep(OTHER_BEAT);
    }
    Ok(lock)
}

/// Installs Node with npm and returns its tree.
pub(super) fn node(
    settings: &ToolSettings,
    progress: &dyn Fn(ToolProgress),
) -> Result<PathBuf, ToolError> {
    let [pin, _] = PINS;
    let meter = Meter::new(settings, pin, progress)?;
    let fetched = meter.folder.join("fetched");
    let tree = meter.folder.join("tree");
    make_folder(&fetched, 0o700).map_err(files("make a folder in the tool cache"))?;
    let package = format!(
        "node-linux-{}",
        if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "x64"
        }
    );
    if output(Command::new("npm").arg("--version")).is_err() {
        meter.watch("fetching", || node_release(&pin, &fetched))?;
        let name = format!(
            "node-v{}-{}",
            pin.version,
            package.trim_start_matches("node-")
        );
        fs::rename(fetched.join(name), &tree).map_err(files("unpack Node"))?;
    } else {
        let packages = [format!("{package}@{}", pin.version), format!("npm@{NPM}")];
        meter.watch("fetching", || fetch(&fetched, None, &packages))?;
        let modules = fetched.join("node_modules");
        fs::rename(modules.join(&package), &tree).map_err(files("place Node"))?;
        make_folder(&tree.join("lib/node_modules"), 0o755).map_err(files("place npm"))?;
        fs::rename(modules.join("npm"), tree.join("lib/node_modules/npm"))
            .map_err(files("place npm"))?;
        for name in ["npm", "npx"] {
            symlink(
                format!("../lib/node_modules/npm/bin/{name}-cli.js"),
                tree.join("bin").join(name),
            )
            .map_err(files("place npm"))?;
        }
    }
    let failed = |output| ToolError::Program {
        what: "verify Node".to_owned(),
        output,
    };
    let version = output(Command::new(tree.join("bin/node")).arg("--version")).map_err(failed)?;
    if version != format!("v{}", pin.version) {
        return Err(failed(format!("it says that it is {version}")));
    }
    open_up(&tree).map_err(files("open Node to seats"))?;
    meter.finish(&tree)
}

/// Installs the editor and returns its tree. `node` is the tree that it will run on; none for a
/// Node under `/usr`.
pub(super) fn editor(
    settings: &ToolSettings,
    sandbox: &Sandbox,
    node: Option<PathBuf>,
    progress: &dyn Fn(ToolProgress),
) -> Result<PathBuf, ToolError> {
    let [_, pin] = PINS;
    let packages = missing_build_packages();
    if !packages.is_empty() {
        let command = format!("apt-get install -y {}", packages.join(" "));
        return Err(ToolError::Packages {
            name: pin.name,
            packages,
            command,
        });
    }
    // A build that was cut off left files of the sandbox's user.
    let begun = Work::Remove {
        folder: settings.cache.join(format!("{}.new", pin.name)),
    };
    let removed = sandbox.perform(
        Slot::PLATFORM,
        "cannot remove a broken installation",
        &begun,
    );
    removed.map_err(|source| ToolError::Sandbox {
        name: pin.name,
        source,
    })?;
    let meter = Meter::new(settings, pin, progress)?;
    let home = meter.folder.join("home");
    let tree = home.join("editor");
    make_folder(&tree, 0o755).map_err(files("make a folder in the tool cache"))?;
    let vscode = tree.join("node_modules/code-server/lib/vscode");
    let node_bin = node.as_ref().map(|tree| tree.join("bin"));
    let fetch = |step: &str, folder: &Path, packages: &[String]| {
        meter.watch(step, || fetch(folder, node_bin.as_deref(), packages))
    };
    fetch(
        "fetching code-server",
        &tree,
        &[format!("{}@{}", pin.name, pin.version)],
    )?;
    fetch("fetching VS Code's packages", &vscode, &[])?;
    fetch(
        "fetching extensions' packages",
        &vscode.join("extensions"),
        &[],
    )?;
    place_scripts(&vscode).map_err(files("place the editor's scripts"))?;
    let supplies = Supplies {
        trees: Trees {
            node,
            ..Trees::default()
        },
        ..Supplies::default()
    };
    let room = Workroom {
        sandbox,
        home: &home,
        lock: &meter.folder.join("room"),
        supplies: &supplies,
    };
    meter.watch("building native parts", || build(&room))?;
    meter.watch("leaving out what no seat uses", || {
        slim::slim(&tree).map_err(files("slim the editor"))
    })?;
    write_starter(&tree).map_err(files("write the editor's starter"))?;
    open_up(&tree).map_err(files("open the editor to seats"))?;
    let proof = meter.folder.join("proof");
    make_folder(&proof, 0o755).map_err(files("make a folder in the tool cache"))?;
    let verifying = Workroom {
        home: &proof,
        ..room
    };
    meter.watch("verifying", || verify(&verifying, &tree))?;
    meter.finish(&tree)
}

fn place_scripts(vscode: &Path) -> io::Result<()> {
    for (folder, script, name) in [
        ("remote-cli", "code-linux.sh", "code-server"),
        ("helpers", "browser-linux.sh", "browser.sh"),
    ] {
        let link = vscode.join("bin").join(folder).join(name);
        crate::seat::absent_is_fine(fs::remove_file(&link))?;
        symlink(script, link)?;
    }
    Ok(())
}

/// Starts the built editor once, where seats will see it.
fn verify(room: &Workroom<'_>, tree: &Path) -> Result<(), ToolError> {
    let trees = Trees {
        editor: Some(tree.to_owned()),
        ..room.supplies.trees.clone()
    };
    let supplies = Supplies {
        trees,
        ..room.supplies.clone()
    };
    let room = Workroom {
        supplies: &supplies,
        ..*room
    };
    steps(
        &room,
        "code-server",
        vec![step(
            "starting code-server",
            &[&format!("{EDITOR}/bin/code-server"), "--version"],
            HOME,
        )],
    )
}

/// Builds what is native, without network: everything was fetched before.
fn build(room: &Workroom<'_>) -> Result<(), ToolError> {
    let server = format!("{HOME}/editor/node_modules/code-server");
    let vscode = format!("{server}/lib/vscode");
    steps(
        room,
        "code-server",
        vec![
            step(
                "building argon2",
                &["npm", "rebuild", "argon2"],
                &format!("{HOME}/editor"),
            ),
            step(
                "building VS Code's packages",
                &["npm", "rebuild", "--foreground-scripts"],
                &vscode,
            ),
            step(
                "preparing extensions",
                &["node", "./postinstall.mjs"],
                &format!("{vscode}/extensions"),
            ),
        ],
    )?;
    let work = Work::Seal {
        folder: room.home.to_owned(),
    };
    let sealed = room
        .sandbox
        .perform(Slot::PLATFORM, "cannot take the files back", &work);
    sealed.map_err(|source| ToolError::Sandbox {
        name: "code-server",
        source,
    })
}

pub(super) fn steps(
    room: &Workroom<'_>,
    name: &'static str,
    steps: Vec<Step>,
) -> Result<(), ToolError> {
    room.run(steps, None, &|_| {})
        .map_err(|failure| match failure {
            StepFailure::Sandbox(source) => ToolError::Sandbox { name, source },
            StepFailure::Step { step, output } => ToolError::Program {
                what: format!("finish {step}"),
                output,
            },
        })
}

pub(super) fn step(title: &str, command: &[&str], directory: &str) -> Step {
    let nodedir = if Path::new("/usr/include/node").exists() {
        "/usr"
    } else {
        NODE
    };
    let environment = BTreeMap::from([("npm_config_nodedir".to_owned(), nodedir.to_owned())]);
    let command = command.iter().map(|&word| word.to_owned()).collect();
    Step {
        title: title.to_owned(),
        command,
        environment,
        directory: directory.to_owned(),
        tries: 1,
    }
}

/// Installs packages (or, with none named, what a folder's own lock says) without running any
/// script of theirs.
pub(super) fn fetch(
    folder: &Path,
    node_bin: Option<&Path>,
    packages: &[String],
) -> Result<(), ToolError> {
    // `timeout` has a process group of its own, which no Ctrl-C reaches: it ends with us.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", "timeout"]);
    command.arg(FETCH_SECONDS).args([
        "npm",
        "install",
        "--ignore-scripts",
        "--omit=dev",
        "--no-audit",
        "--no-fund",
    ]);
    command.args(NPM_RETRIES);
    command.args(packages).current_dir(folder);
    if !packages.is_empty() {
        command.arg("--prefix").arg(folder);
    }
    if let Some(bin) = node_bin {
        let mut path = bin.as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.env("PATH", path);
    }
    let failed = |output| ToolError::Program {
        what: if packages.is_empty() {
            format!("fetch the packages of {}", folder.display())
        } else {
            format!("fetch {}", packages.join(", "))
        },
        output,
    };
    output(&mut command).map(drop).map_err(failed)
}

/// Fetches Node's release archive and its published checksum.
fn node_release(pin: &Pin, folder: &Path) -> Result<(), ToolError> {
    let name = format!(
        "node-v{}-linux-{}.tar.gz",
        pin.version,
        if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "x64"
        }
    );
    let get = |file: &str, most: u64| -> Result<Vec<u8>, ToolError> {
        let url = format!("{NODE_RELEASES}/v{}/{file}", pin.version);
        let failed = |error: &dyn std::fmt::Display| ToolError::Program {
            what: format!("fetch {url}"),
            output: format!(
                "{error}\n(there is no npm on this machine either: apt-get install -y npm)"
            ),
        };
        let mut answer = ureq::get(&url).call().map_err(|error| failed(&error))?;
        let mut bytes = Vec::new();
        let mut reader = answer.body_mut().as_reader().take(most);
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| failed(&error))?;
        Ok(bytes)
    };
    let sums = get("SHASUMS256.txt", 1 << 20)?;
    let archive = get(&name, ARCHIVE_BYTES_MAX)?;
    let sum: String = Sha256::digest(&archive)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if !String::from_utf8_lossy(&sums)
        .lines()
        .any(|line| line == format!("{sum}  {name}"))
    {
        return Err(ToolError::Program {
            what: format!("verify {name}"),
            output: format!("its checksum {sum} is not the published one"),
        });
    }
    let file = folder.join(&name);
    fs::write(&file, archive).map_err(files("write Node's archive"))?;
    let unpacked = output(
        Command::new("tar")
            .args(["--extract", "--gzip", "--file"])
            .arg(&file)
            .arg("--directory")
            .arg(folder),
    );
    unpacked.map(drop).map_err(|output| ToolError::Program {
        what: format!("unpack {name}"),
        output,
    })
}

fn write_starter(tree: &Path) -> io::Result<()> {
    let starter = tree.join("bin/code-server");
    fs::create_dir_all(tree.join("bin"))?;
    fs::write(
        &starter,
        "#!/bin/sh\nhere=$(dirname \"$(readlink -f \"$0\")\")\nexec node \"$here/../node_modules/code-server/out/node/entry.js\" \"$@\"\n",
    )?;
    fs::set_permissions(starter, fs::Permissions::from_mode(0o755))
}

/// Lets other users (seats) read a tree of ours, and nobody but us write it.
pub(super) fn open_up(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            open_up(&entry.path())?;
        } else if kind.is_file() {
            let is_executable = entry.metadata()?.permissions().mode() & 0o111 != 0;
            fs::set_permissions(
                entry.path(),
                fs::Permissions::from_mode(if is_executable { 0o755 } else { 0o644 }),
            )?;
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

pub(super) fn files(what: &'static str) -> impl Fn(io::Error) -> ToolError {
    move |source| ToolError::Files {
        what: what.to_owned(),
        source,
    }
}

/// A folder that grows, and who is told.
pub(super) struct Meter<'a> {
    pin: Pin,
    pub(super) folder: PathBuf,
    target: PathBuf,
    begun: Instant,
    progress: &'a dyn Fn(ToolProgress),
}

impl<'a> Meter<'a> {
    /// Makes an empty folder for the installation, in the cache.
    pub(super) fn new(
        settings: &ToolSettings,
        pin: Pin,
        progress: &'a dyn Fn(ToolProgress),
    ) -> Result<Meter<'a>, ToolError> {
        let folder = settings.cache.join(format!("{}.new", pin.name));
        crate::seat::absent_is_fine(fs::remove_dir_all(&folder))
            .map_err(files("remove a broken installation"))?;
        make_folder(&folder, 0o700).map_err(files("make a folder in the tool cache"))?;
        let target = settings.cache.join(format!("{}-{}", pin.name, pin.version));
        Ok(Meter {
            pin,
            folder,
            target,
            begun: Instant::now(),
            progress,
        })
    }

    /// Does a part of the work, telling how far it is.
    pub(super) fn watch<T: Send>(&self, step: &str, work: impl FnOnce() -> T + Send) -> T {
        let folder = self.folder.as_path();
        let tell = |bytes| {
            (self.progress)(ToolProgress {
                name: self.pin.name,
                step: step.to_owned(),
                bytes,
                total_bytes: self.pin.size_bytes,
                elapsed: self.begun.elapsed(),
            });
        };
        thread::scope(|scope| {
            let worker = scope.spawn(work);
            // What belongs to the sandbox's user for now cannot be measured: never less than before.
            let mut bytes = 0;
            while !worker.is_finished() {
                bytes = size(folder).max(bytes);
                tell(bytes);
                thread::park_timeout(BEAT);
            }
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Puts the finished tree into its place.
    pub(super) fn finish(&self, tree: &Path) -> Result<PathBuf, ToolError> {
        fs::rename(tree, &self.target).map_err(files("put the tool into its place"))?;
        // What is left is of no use; the next installation would remove it too.
        let _ = fs::remove_dir_all(&self.folder);
        Ok(self.target.clone())
    }
}

/// Bytes below a folder, as far as we may look.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
