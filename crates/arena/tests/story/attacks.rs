//! What somebody may try who sits in a seat, or holds a participant's session: code of their own in
//! the app that runs there, and requests and pages of their own towards everybody else.

mod door;
mod pages;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::world::{Event, World, wait_until};

/// Generous: the test machine does other things too.
const LIMIT: Duration = Duration::from_secs(60);
const INSIDE: &str = include_str!("attacks/inside.mjs");
/// Where the seat's app is, seen from its home.
const SERVER: &str = "/home/workspace/workshop/server";
/// Shorter lines of a solution may stand anywhere.
const TELLING_CHARS: usize = 30;

/// One thing that a participant's code tried.
#[derive(Deserialize)]
struct Tried {
    kind: String,
    name: String,
    through: bool,
    said: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_out_of_a_seat_or_into_anothers() {
    let world = World::copy("harbour", "attacks");
    let event = world.up();
    code_of_the_seats_own_reaches_nothing_else(&event);
    answers_and_secrets_are_not_in_the_seat(&world, &event);
    door::a_session_opens_its_own_seat_only(&event);
    pages::text_stays_text(&world, &event).await;
    event.interrupt();
    world.purge();
}

/// The seat's app loads the attacks itself: what runs is held back like any participant's code.
fn code_of_the_seats_own_reaches_nothing_else(event: &Event) {
    let state = PathBuf::from(event.text("/state"));
    let runtime = runtime_of(event);
    let (platform, engine) = (runtime.join("platform.sock"), runtime.join("mongodb.sock"));
    for path in [
        &state.join("secrets"),
        &state.join("event.db"),
        &state.join("seats/grace"),
        &platform,
        &engine,
    ] {
        assert!(path.exists(), "{} is nothing to find", path.display());
    }
    TcpStream::connect(("127.0.0.1", event.port())).expect("the machine reaches its gateway");
    let name = format!("arena-attack-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let _abstract = UnixListener::bind_addr(&address).expect("a free name");
    let input = json!({
        "own": "ada",
        "other": "grace",
        "otherPassword": password(&state, "grace"),
        "gateway": event.port(),
        "platform": platform,
        "engine": engine,
        "state": state,
        "abstract": name,
    });
    event.in_seat(
        "ada",
        "cat > /tmp/attacks-input.json",
        input.to_string().as_bytes(),
    );
    event.opens_link(0);
    event.in_seat(
        "ada",
        &format!("cat > {SERVER}/src/attacks.mjs"),
        INSIDE.as_bytes(),
    );
    event.in_seat(
        "ada",
        &format!("echo \"import('./attacks.mjs');\" >> {SERVER}/src/index.js"),
        b"",
    );
    wait_until(LIMIT, "the app has tried everything", || {
        event
            .try_in_seat("ada", "test -f /tmp/attacks.json", b"")
            .is_ok()
    });
    let report = event.in_seat("ada", "cat /tmp/attacks.json", b"");
    let tried: Vec<Tried> = serde_json::from_str(&report).expect("the report is JSON");
    assert!(tried.len() > 200, "only {} were tried", tried.len());
    let wrong: Vec<String> = tried
        .iter()
        .filter(|tried| tried.through != (tried.kind == "control"))
        .map(|tried| format!("{}: {}: {}", tried.kind, tried.name, tried.said))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The folder of the event's sockets, found among the machine's.
fn runtime_of(event: &Event) -> PathBuf {
    let platform = format!("/proc/{}/net/unix", event.summary["pid"]);
    let sockets = fs::read_to_string(platform).expect("the platform's sockets");
    let mut folders: Vec<PathBuf> = sockets
        .lines()
        .filter_map(|line| Some(PathBuf::from(line.split_whitespace().nth(7)?)))
        .filter(|path| path.ends_with("platform.sock"))
        .filter_map(|path| path.parent().map(Path::to_owned))
        .filter(|folder| folder.join("svc/margaret").exists())
        .collect();
    folders.sort_by_key(|folder| fs::metadata(folder).and_then(|found| found.modified()).ok());
    folders.pop().expect("the platform listens")
}

fn password(state: &Path, seat: &str) -> String {
    fs::read_to_string(state.join(format!("secrets/seat--{seat}--database")))
        .expect("a seat's password")
        .trim()
        .to_owned()
}

/// Checks and solutions, in files or in the history; other people's passwords and links.
fn answers_and_secrets_are_not_in_the_seat(world: &World, event: &Event) {
    let state = PathBuf::from(event.text("/state"));
    let mut telling = lines_only_below(&world.workshop(), "arena");
    assert!(telling.len() > 50, "the answers are telling");
    telling.extend(["grace", "seat0"].map(|seat| password(&state, seat)));
    telling.insert(event.text("/event_code"));
    for link in [
        event.text("/facilitator_link"),
        event.link(0),
        event.link(1),
    ] {
        telling.extend(link.rsplit('/').next().map(str::to_owned));
    }
    let find = |needles: &str| {
        let script = format!(
            "cat > /tmp/needles; {{ grep -rIhoF -f /tmp/needles --exclude=needles --exclude=attacks* \
               /home /tmp /run /etc /var; \
               cd {SERVER}; git cat-file --batch-all-objects --batch | grep -aoF -f /tmp/needles; \
               cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -aoF -f /tmp/needles; \
             }} 2>/dev/null | sort -u"
        );
        event.in_seat("ada", &script, needles.as_bytes())
    };
    let all: Vec<String> = telling.into_iter().collect();
    assert_eq!(
        find(&(all.join("\n") + "\n")),
        "",
        "the seat holds answers or secrets"
    );
    // The same search finds what is there.
    let own = password(&state, "ada");
    let starter = "Your code goes here: find, sort, skip, limit.";
    assert_eq!(
        find(&format!("{own}\n{starter}\n"))
            .lines()
            .collect::<BTreeSet<_>>(),
        BTreeSet::from([own.as_str(), starter])
    );
    let history = event.in_seat(
        "ada",
        &format!("cd {SERVER} && git rev-list --all --reflog --objects"),
        b"",
    );
    let commits = event.in_seat(
        "ada",
        &format!("cd {SERVER} && git rev-list --all --reflog"),
        b"",
    );
    assert_eq!(
        commits.lines().count(),
        1,
        "the history is one commit: {commits}"
    );
    assert!(
        history.contains("server/src/app.js") && !history.contains(" arena"),
        "{history}"
    );
    event.in_seat(
        "ada",
        "rm /tmp/needles; ! ls -d /home/workspace/*/arena",
        b"",
    );
}

/// Long lines of the files below `folder` of a workshop that stand in no other of its files.
fn lines_only_below(workshop: &Path, folder: &str) -> BTreeSet<String> {
    let (mut below, mut elsewhere) = (BTreeSet::new(), BTreeSet::new());
    let mut folders = vec![workshop.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let is_below = path.starts_with(workshop.join(folder));
            // The data is in the seat's own database, and meant to be.
            if is_below && path.starts_with(workshop.join(folder).join("data")) {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines = text.lines().map(|line| line.trim().to_owned());
            let lines = lines.filter(|line| line.chars().count() >= TELLING_CHARS);
            if is_below { &mut below } else { &mut elsewhere }.extend(lines);
        }
    }
    below
        .into_iter()
        .filter(|line: &String| !elsewhere.iter().any(|other: &String| other.contains(line)))
        .collect()
}
