//! The platform killed without warning: nothing of it lives on, and it can be started again at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arena_local::engine::EngineTree;
use arena_local::postgres::{PostgresCluster, PostgresPrograms};
use arena_supervisor::{ChildSpec, ParentDeath, Ready, StopSignal};
use tempfile::TempDir;

use crate::postgres;
use crate::world::{USER, World, as_ordinary_user, as_user, eventually};

/// A process that cannot be mistaken for a later one: its number and when it began.
type Process = (u32, String);

/// Not a test of its own: the platform that the next test kills.
#[test]
fn platform_to_be_killed() {
    let Some(folder) = std::env::var_os("ARENA_TEST_FOLDER").map(PathBuf::from) else {
        return;
    };
    let world = World::lasting(&folder.join("platform"));
    let programs = PostgresPrograms::Tree(EngineTree::at(postgres::tree().0).unwrap());
    let cluster = PostgresCluster::new(programs, &folder.join("postgres"), &folder.join("s"), 3);
    cluster.prepare().unwrap();
    let invocation = cluster.invocation();
    let spec = ChildSpec {
        args: invocation.args.clone(),
        environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
        parent_death: Some(ParentDeath::Interrupt),
        ready: Ready::Socket(cluster.socket()),
        stop_signal: StopSignal::Interrupt,
        ..ChildSpec::new("postgres", &invocation.program)
    };
    let server = world.wait(async { world.supervisor.start(spec) });
    world
        .wait(server.ready(Duration::from_secs(60)))
        .unwrap_or_else(|error| panic!("{error}"));
    let ada = world.make("ada");
    world.start(&ada);
    world.inside(&ada, "echo kept >> ~/notes; sleep 1000 > /dev/null 2>&1 &");
    let restarts = server.status().restarts;
    let notes = world.inside(&ada, "grep -c kept ~/notes");
    let mut ready = fs::File::create(folder.join("ready.new")).unwrap();
    write!(ready, "{restarts} {notes}").unwrap();
    fs::rename(folder.join("ready.new"), folder.join("ready")).unwrap();
    loop {
        world.wait(async { tokio::time::sleep(Duration::from_secs(1)).await });
    }
}

/// Starts the platform; returns it with what it said when everything ran.
fn platform(folder: &Path) -> (Child, String) {
    let ready = folder.join("ready");
    let mut platform = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "leftovers::platform_to_be_killed", "--nocapture"])
        .env("ARENA_TEST_FOLDER", folder)
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("errors")).unwrap())
        .spawn()
        .unwrap();
    eventually("everything runs, or it gave up", || {
        ready.exists() || platform.try_wait().unwrap().is_some()
    });
    let errors = fs::read_to_string(folder.join("errors")).unwrap();
    let said = fs::read_to_string(&ready).unwrap_or_else(|_| panic!("{errors}"));
    fs::remove_file(ready).unwrap();
    (platform, said)
}

fn kill(platform: &mut Child) {
    platform.kill().unwrap();
    platform.wait().unwrap();
}

#[test]
fn killing_the_platform_leaves_nothing_and_the_next_one_starts_at_once() {
    let owner = match postgres::tree().1 {
        0 => USER.to_owned(),
        other => postgres::user_of(other),
    };
    as_user(
        &owner,
        "leftovers::killing_the_platform_leaves_nothing_and_the_next_one_starts_at_once",
        || {
            let folder = TempDir::new().unwrap();
            let (mut first, said) = platform(folder.path());
            assert_eq!(said, "0 1");
            let offspring = descendants(first.id());
            let titles: Vec<String> = offspring.iter().map(|(pid, _)| title(*pid)).collect();
            for expected in ["postgres -D", "bwrap ", "sleep ", "perl "] {
                assert!(
                    titles.iter().any(|title| title.contains(expected)),
                    "{titles:?}"
                );
            }
            kill(&mut first);
            // At once: what is left of the first one may still be ending.
            let (mut second, said) = platform(folder.path());
            assert_eq!(
                said, "0 2",
                "restarts of the server, starts seen in the seat"
            );
            let new = descendants(second.id());
            assert!(new.is_disjoint(&offspring));
            let left =
                |all: &BTreeSet<Process>| all.iter().filter(|process| lives(process)).count();
            eventually("everything of the first has ended", || {
                left(&offspring) == 0
            });
            kill(&mut second);
            eventually("everything of the second has ended", || left(&new) == 0);
            eventually("no mount, argument or variable names its folder", || {
                traces_of(folder.path()) == 0
            });
        },
    );
}

#[test]
fn starts_that_lost_their_platform_are_ended_and_those_of_others_are_not() {
    as_ordinary_user(
        "leftovers::starts_that_lost_their_platform_are_ended_and_those_of_others_are_not",
        || {
            let (world, other) = (World::new(), World::new());
            let start = |world: &World, file: &str| {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", "read -r forever"]);
                command.arg(world.folder.path().join("seats/ada").join(file));
                command.stdin(Stdio::piped()).spawn().unwrap()
            };
            let mut left = start(&world, "nest.json");
            let mut bystanders = [start(&other, "nest.json"), start(&world, "notes.json")];
            world.seats.end_starters();
            assert!(left.try_wait().unwrap().is_some());
            for bystander in &mut bystanders {
                assert!(bystander.try_wait().unwrap().is_none());
                bystander.kill().unwrap();
                bystander.wait().unwrap();
            }
        },
    );
}

/// The fields of `/proc/PID/stat` after the name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Its name and arguments: a program started by the tree's own loader has the loader's name.
fn title(pid: u32) -> String {
    let read = |file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let text = [read("comm"), read("cmdline")].concat();
    String::from_utf8_lossy(&text).replace(['\0', '\n'], " ")
}

fn lives((pid, began): &Process) -> bool {
    stat(*pid).is_some_and(|fields| fields[19] == *began)
}

fn process_ids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn descendants(of: u32) -> BTreeSet<Process> {
    let mut found = BTreeSet::new();
    let parents: BTreeMap<u32, Vec<String>> = process_ids()
        .into_iter()
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect();
    let mut waiting = vec![of];
    while let Some(parent) = waiting.pop() {
        for (pid, fields) in &parents {
            if fields[1] == parent.to_string() {
                found.insert((*pid, fields[19].clone()));
                waiting.push(*pid);
            }
        }
    }
    found
}

/// Counts processes that have the folder in their arguments, environment or mounts.
fn traces_of(folder: &Path) -> usize {
    let needle = folder.to_str().unwrap();
    let others = process_ids()
        .into_iter()
        .filter(|pid| *pid != std::process::id());
    let mentions = |pid: &u32| {
        ["cmdline", "mountinfo", "environ"].iter().any(|file| {
            fs::read(format!("/proc/{pid}/{file}"))
                .is_ok_and(|text| String::from_utf8_lossy(&text).contains(needle))
        })
    };
    others.filter(mentions).count()
}
