//! Machines that lack something. Each test makes what is missing true in
//! namespaces of its own and reads what a person would read.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::world::{Arena, Said, World, finish, is_root, wait_until};

/// What `check` finds missing, with what mends it: nothing that hangs on the machine's size.
fn missing(said: &Said) -> Vec<(String, String, String)> {
    let found: Value =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("no JSON: {said:?}"));
    let rows = found["machine"].as_array().expect("requirements").iter();
    let word = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows.filter(|row| row["ok"] == false && row["optional"] == false)
        .map(|row| (word(row, "name"), word(row, "detail"), word(row, "fix")))
        .collect()
}

/// The machine's check, on a port that is free.
fn check(arena: &Arena<'_>) -> Said {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.expect("a port").port().to_string();
    arena.run(&["check", "--format", "json", "--port", &port])
}

#[test]
fn an_ordinary_machine_lacks_nothing() {
    // The negative control of everything below.
    let world = World::of("hello");
    let said = check(&world.ordinary());
    assert_eq!((said.code, missing(&said)), (0, Vec::new()), "{said:?}");
}

#[test]
fn as_root_the_machine_is_looked_at_as_the_user_who_will_run_it() {
    assert!(is_root(), "continuous integration runs these as root");
    let world = World::of("hello");
    let said = world.arena(&["check", "--port", "0"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out
            .contains("✓ sandbox: a seat's whole sandbox starts"),
        "{said:?}"
    );
    assert!(!said.out.contains('✗'), "{said:?}");
}

#[test]
fn a_taken_port_is_named_with_a_free_one() {
    let world = World::of("hello");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let said = world.ordinary().run(&["check", "--port", &port]);
    said.is_refused(
        3,
        &[
            &format!("✗ port {port}: another program listens there\n    use another one: --port "),
            "see the lines marked ✗",
        ],
    );
}

#[test]
fn without_bubblewrap_its_package_is_named() {
    let world = World::of("hello");
    let machine = world.ordinary().without("bwrap");
    let said = machine.run(&["check"]);
    said.is_refused(
        3,
        &["✗ bubblewrap: not installed\n    sudo apt-get install -y bubblewrap\n"],
    );
    for command in [&["up", "."][..], &["tools", "install"]] {
        let said = machine.run(command);
        insta::allow_duplicates! {
            insta::assert_snapshot!(said.transcript(&world), @"
            error: system packages are missing: bubblewrap
            help: run: sudo apt-get install -y --no-install-recommends bubblewrap
            exit code 3
            ");
        }
    }
}

#[test]
fn without_user_namespaces_the_setting_is_named() {
    let world = World::of("hello");
    let machine = world.ordinary().without_user_namespaces();
    let said = check(&machine);
    assert_eq!(said.code, 3, "{said:?}");
    let [(name, detail, fix)] = &missing(&said)[..] else {
        panic!("{said:?}")
    };
    insta::assert_snapshot!(format!("{name}: {detail}\n{fix}"), @"
    user namespaces: this machine's limit on them is reached
    sudo sysctl -w user.max_user_namespaces=15000 (in a container: on its host)
    ");
    let said = machine.run(&["up", ".", "--port", "0"]);
    insta::assert_snapshot!(said.transcript(&world), @"
    error: seats cannot be separated from each other on this machine
    help: user namespaces: this machine's limit on them is reached; sudo sysctl -w user.max_user_namespaces=15000 (in a container: on its host)
    help: alone and only to try it out? `arena up --isolation none` makes one seat that is not separated
    exit code 3
    ");
}

#[test]
fn without_network_the_registry_is_named() {
    let world = World::of("hello");
    let said = world
        .ordinary()
        .without_network()
        .run(&["tools", "install", "editor"]);
    said.is_refused(
        3,
        &[
            "✗ tools",
            "cannot fetch ",
            "EAI_AGAIN",
            "help: is the package registry reachable from this machine? `npm ping` tells",
        ],
    );
}

#[test]
fn without_network_the_mirror_is_named() {
    let world = World::of("hello");
    let said = world
        .ordinary()
        .without_network()
        .run(&["tools", "install", "engine"]);
    said.is_refused(
        3,
        &[
            "✗ engine",
            "apt-get update",
            "help: it comes from the Debian mirror",
        ],
    );
}

#[test]
fn a_small_disk_is_told_before_anything_is_fetched() {
    let world = World::of("hello");
    let machine = world.ordinary().with_cache_of(16_000_000);
    let said = check(&machine);
    let [(name, detail, fix)] = &missing(&said)[..] else {
        panic!("{said:?}")
    };
    assert_eq!(name, "disk for tools");
    assert!(
        detail.contains("GB free for") && fix.contains("XDG_CACHE_HOME"),
        "{detail} {fix}"
    );
    let said = machine.run(&["tools", "install", "editor"]);
    said.is_refused(
        3,
        &[
            " MB in ",
            "which has 15 MB free",
            "help: free some space there, or set XDG_CACHE_HOME",
        ],
    );
}

#[test]
fn a_disk_that_fills_up_while_installing_is_told() {
    let world = World::of("hello");
    let said = world
        .ordinary()
        .with_files_in_cache(4)
        .run(&["tools", "install", "editor"]);
    said.is_refused(
        3,
        &[
            "cannot make a folder in the tool cache",
            "No space left on device",
            "help: free some space there",
        ],
    );
    let said = world
        .ordinary()
        .with_files_in_cache(4)
        .run(&["tools", "install", "engine"]);
    said.is_refused(
        3,
        &["No space left on device", "help: free some space there"],
    );
}

#[test]
fn a_second_installation_waits_for_the_first() {
    let world = World::of("hello");
    // A first `tools install` holds the cache's lock; here a program of the system does.
    let cache = world.path("cache/arena");
    std::fs::create_dir(&cache).expect("a folder");
    let lock = std::fs::File::create(cache.join("lock")).expect("a file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .expect("nobody else has it");
    let owned = Command::new("chown")
        .args(["--recursive", "65534:65534"])
        .arg(&cache)
        .status();
    assert!(!is_root() || owned.expect("chown runs").success());

    let mut second = world.ordinary().start(&["tools", "install", "editor"]);
    let mut said = BufReader::new(second.stderr.take().expect("it is piped"));
    let mut lines = String::new();
    wait_until("the second one says that it waits", || {
        said.read_line(&mut lines).expect("text");
        lines.contains("another Arena installs them, waiting for it")
    });
    assert!(
        second.try_wait().expect("our child").is_none(),
        "it did not wait: {lines}"
    );

    // The first one finishes: what the second finds is not installed again.
    for tool in world.tools() {
        let (folder, program) = tool.split_once('/').expect("a folder and a program");
        let bin = cache.join(folder).join("bin");
        std::fs::create_dir_all(&bin).expect("a folder");
        std::fs::write(bin.join(program), "").expect("a file");
    }
    drop(lock);
    let ended = finish(second);
    assert_eq!(ended.code, 0, "{lines}{ended:?}");
}

#[test]
fn an_unknown_tool_is_told_with_those_that_there_are() {
    let world = World::of("hello");
    let said = world.ordinary().run(&["tools", "install", "emacs"]);
    insta::assert_snapshot!(said.transcript(&world), @"
    error: there is no tool emacs
    help: there are: node, editor, mongosh, engine
    exit code 2
    ");
}

#[test]
fn a_workshop_whose_npm_install_fails_shows_its_output_and_what_to_do() {
    assert!(is_root(), "continuous integration runs these as root");
    let world = World::of("hello");
    world.edit("server/package.json", |text| {
        text.replacen("\"scripts\": {", "\"scripts\": {\n    \"preinstall\": \"echo the tide tables of 1999 are gone >&2; exit 7\",", 1)
    });
    let up = || world.arena(&["up", "--yes", "--port", "0"]);
    let said = up();
    let shown: Vec<&str> = said
        .err
        .lines()
        .skip_while(|line| !line.starts_with("error:"))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    error: npm install --legacy-peer-deps in server failed:

    > preinstall
    > echo the tide tables of 1999 are gone >&2; exit 7

    the tide tables of 1999 are gone
    npm error code 7
    npm error path /home/workspace/workshop/server
    npm error command failed
    npm error command sh -c echo the tide tables of 1999 are gone >&2; exit 7
    exit status: 7
    help: run the same command in that folder of the workshop; it must work there first
    ");
    assert_eq!(
        (said.code, said.out.as_str()),
        (2, ""),
        "nothing was opened"
    );

    // Mended, the same event starts from what was left; purged, nothing is left.
    assert_eq!(up().code, 2, "a second try fails in the same way");
    world.purge();
    let state = std::path::Path::new("/var/lib/arena").join(&world.event);
    assert!(!state.exists(), "{} outlived a purge", state.display());
}
