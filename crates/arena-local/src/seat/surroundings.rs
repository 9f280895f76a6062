//! What programs in a seat find around them: the trees that are brought in, and their environment.
//! [`try_out`] is the smallest seat there is: the whole sandbox, with `true` in it.

use std::collections::BTreeMap;
use std::path::Path;

use arena_workshop::plan::SeatSettings;

use super::{EDITOR, ENGINE, HOME, MONGOSH, NODE, PATH, Trees};
use crate::nest::{Bind, Home, INNER_EXECUTABLE, Limits, Run, Work};
use crate::sandbox::{Sandbox, SandboxError, Slot};

/// Our executable and the tools.
pub(crate) fn common_binds(sandbox: &Sandbox, trees: &Trees) -> Vec<Bind> {
    let executable = Some((sandbox.executable(), INNER_EXECUTABLE));
    let node = trees.node.as_deref().map(|tree| (tree, NODE));
    let editor = trees.editor.as_deref().map(|tree| (tree, EDITOR));
    let mongosh = trees.mongosh.as_deref().map(|tree| (tree, MONGOSH));
    let engine = trees.engine.as_deref().map(|tree| (tree, ENGINE));
    let all = [executable, node, editor, mongosh, engine]
        .into_iter()
        .flatten();
    all.map(|(from, to)| Bind {
        from: from.to_owned(),
        to: to.to_owned(),
    })
    .collect()
}

/// What every process inside a sandbox starts with.
pub(crate) fn inner_environment() -> BTreeMap<String, String> {
    let pairs = [
        ("PATH", PATH),
        ("HOME", HOME),
        ("USER", "workspace"),
        ("LOGNAME", "workspace"),
        ("SHELL", "/bin/bash"),
        ("LANG", "C.UTF-8"),
    ];
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Adds what only this runtime knows to a seat's environment: where programs are, and the way out.
pub(super) fn completed(settings: &SeatSettings) -> SeatSettings {
    let mut settings = settings.clone();
    let mut added = vec![("PATH", PATH.to_owned())];
    if let Some(way) = settings
        .forwards
        .iter()
        .find(|forward| forward.socket == "outbound.sock")
    {
        let proxy = format!("http://127.0.0.1:{}", way.port);
        for name in [
            "http_proxy",
            "https_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "npm_config_proxy",
            "npm_config_https_proxy",
        ] {
            added.push((name, proxy.clone()));
        }
        for name in ["no_proxy", "NO_PROXY", "npm_config_noproxy"] {
            added.push((name, "localhost,127.0.0.1,::1".to_owned()));
        }
        // Without a way to the host, npm would wait 71 s before it says so.
        added.push(("npm_config_fetch_retries", "0".to_owned()));
    }
    for (name, value) in added {
        settings.environment.entry(name.to_owned()).or_insert(value);
    }
    settings
}

/// The agent finds its listener, descriptor 3, by the convention of systemd.
pub(super) fn agent_environment() -> BTreeMap<String, String> {
    let mut environment = inner_environment();
    environment.insert("LISTEN_FDS".to_owned(), "1".to_owned());
    environment
}

/// Runs `true` in a sandbox made like a seat's; `folder` holds `lower`, `upper` and `work`.
pub(crate) fn try_out(sandbox: &Sandbox, folder: &Path) -> Result<(), SandboxError> {
    let home = if sandbox.has_overlay() {
        Home::Overlay {
            lower: folder.join("lower"),
            upper: folder.join("upper"),
            work: folder.join("work"),
        }
    } else {
        Home::Folder(folder.join("upper"))
    };
    let run = Run {
        own_user: sandbox.has_own_users(),
        open: None,
        lock: folder.join("lock"),
        home,
        home_at: HOME.to_owned(),
        read_only: common_binds(sandbox, &Trees::default()),
        files: BTreeMap::new(),
        hosts_file: None,
        host_name: "probe".to_owned(),
        command: vec!["/usr/bin/true".to_owned()],
        environment: inner_environment(),
        directory: "/".to_owned(),
        limits: Limits::default(),
    };
    sandbox.perform(
        Slot::PLATFORM,
        "a sandbox does not start",
        &Work::Run(Box::new(run)),
    )
}
