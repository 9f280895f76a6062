//! Ctrl-C while something is fetched: it ends soon, with everything that it started.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::world::{Said, World, finish, wait_until};

/// Far below what any package client would wait by itself.
const LIMIT: Duration = Duration::from_secs(15);

/// A package registry that takes connections and never answers. The home's `.npmrc` names it.
fn silent_registry(world: &World) -> TcpListener {
    let (listener, address) = silent_server();
    fs::write(world.path("home/.npmrc"), format!("registry={address}/\n")).expect("our folder");
    listener
}

fn silent_server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, format!("http://127.0.0.1:{port}"))
}

/// Waits until the registry is asked, interrupts Arena alone (a terminal would tell its children, too),
/// and returns what was said and how long it took.
fn interrupted(running: Child, registry: &TcpListener) -> (Said, Duration) {
    let (_asked, _) = registry.accept().expect("somebody asks the registry");
    let around = running.id();
    let arena = fs::read_to_string(format!("/proc/{around}/task/{around}/children"));
    let pressed = Instant::now();
    let status = Command::new("kill")
        .args(["-s", "INT", arena.expect("it runs").trim()])
        .status();
    assert!(status.expect("kill runs").success());
    (finish(running), pressed.elapsed())
}

/// Processes that have the world's folder in their command line or as their place.
fn processes(world: &World) -> Vec<String> {
    let folder = world.path("").display().to_string();
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    entries
        .filter_map(|entry| {
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let place = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            (line.contains(&folder) || place.starts_with(&folder)).then_some(line)
        })
        .collect()
}

fn ends_with_everything(world: &World, arguments: &[&str]) -> Said {
    let registry = silent_registry(world);
    is_ended_with_everything(world, &registry, world.ordinary().start(arguments))
}

fn is_ended_with_everything(world: &World, registry: &TcpListener, running: Child) -> Said {
    // Negative control: what is looked for below is found as long as it is there.
    wait_until("it runs", || !processes(world).is_empty());
    let (said, took) = interrupted(running, registry);
    assert!(took < LIMIT, "it took {took:?}: {said:?}");
    said.is_readable();
    wait_until("nothing of it is left", || processes(world).is_empty());
    said
}

#[test]
fn an_interrupted_installation_ends_with_everything_it_started() {
    let world = World::of("hello");
    let install = ["tools", "install", "editor"];
    ends_with_everything(&world, &install);
    // Nothing stands in the way of the next one.
    ends_with_everything(&world, &install);
    let said = world.ordinary().run(&["tools", "list"]);
    assert!(said.out.contains("not installed"), "{said:?}");
}

#[test]
fn an_up_that_is_interrupted_while_it_installs_ends_with_everything_it_started() {
    let world = World::of("hello");
    let said = ends_with_everything(&world, &["up", "--port", "0"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("stopping in order"), "{said:?}");
}

#[test]
fn an_interrupted_installation_of_the_engine_ends_with_apt() {
    let world = World::of("hello");
    let install = ["tools", "install", "engine"];
    for _ in 0..2 {
        // A mirror of its own: apt opens several connections, and one that the first run left behind would be
        // taken for a question of the second, before Arena itself runs.
        let (mirror, address) = silent_server();
        let running = world.ordinary().with_mirror(&address).start(&install);
        is_ended_with_everything(&world, &mirror, running);
    }
    let said = world.ordinary().run(&["tools", "list"]);
    assert!(said.out.contains("not installed"), "{said:?}");
}
