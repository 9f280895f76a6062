//! Seats that take too much are started again, and nobody else notices.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arena_local::watch::{Excess, Stopped, WatchLimits, watch};
use arena_supervisor::{Child, State};
use arena_workshop::SeatId;
use tokio_util::sync::CancellationToken;

use crate::world::{World, as_ordinary_user, eventually};

/// Two processes with 150 MiB each: either alone would be allowed.
const HOG: &str = "for i in 1 2; do perl -e '$x = \"x\" x (150 << 20); sleep 1000' > /dev/null 2>&1 & done; echo begun";

/// Writes for two seconds or so.
const FILLER: &str = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); head -c 8388608 /dev/zero > ~/$i; sleep 0.05; done > /dev/null 2>&1 & echo begun";

fn memory_limits() -> WatchLimits {
    WatchLimits {
        memory_bytes: 200 << 20,
        free_bytes: 0,
    }
}

/// Watches until `is_over`; returns who was stopped.
fn watched(
    world: &World,
    children: &[(SeatId, Child)],
    limits: WatchLimits,
    is_over: impl Fn(&[Stopped]) -> bool,
) -> Vec<Stopped> {
    let stopped = Arc::new(Mutex::new(Vec::new()));
    let shutdown = CancellationToken::new();
    let note = |seat| stopped.lock().unwrap().push(seat);
    let watching = watch(
        Arc::clone(&world.seats),
        children.iter().cloned().collect(),
        limits,
        note,
        shutdown.clone(),
    );
    let over = async {
        let limit = Instant::now() + Duration::from_secs(20);
        while !is_over(&stopped.lock().unwrap()) && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        shutdown.cancel();
    };
    world.wait(async { tokio::join!(watching, over) });
    stopped.lock().unwrap().clone()
}

/// Started again, and ready: only then may it be asked, for asking waits.
fn is_back(child: &Child) -> bool {
    let status = child.status();
    status.restarts == 1 && status.state == State::Ready
}

fn hogs(world: &World, seat: &SeatId) -> usize {
    world
        .inside(seat, "pgrep -c perl")
        .parse::<usize>()
        .unwrap()
}

#[test]
fn a_memory_hog_is_ended_and_its_neighbour_stays() {
    as_ordinary_user(
        "watch::a_memory_hog_is_ended_and_its_neighbour_stays",
        || {
            let world = World::new();
            let (ada, bea) = (world.make("ada"), world.make("bea"));
            let children = [
                (ada.clone(), world.start(&ada)),
                (bea.clone(), world.start(&bea)),
            ];
            let neighbour = children[1].1.status().pid;
            let agents = hogs(&world, &ada);
            world.inside(&ada, HOG);
            let stopped = watched(&world, &children, memory_limits(), |stopped| {
                !stopped.is_empty()
            });
            assert!(
                matches!(&stopped[..], [Stopped { seat, reason: Excess::Memory { used_bytes, .. } }] if *seat == ada && *used_bytes > 200 << 20),
                "{stopped:?}"
            );
            assert!(
                children[0]
                    .1
                    .tail(50)
                    .iter()
                    .any(|line| line.contains("more than the 200 MiB of a seat"))
            );
            eventually("the seat is back without the hog", || {
                world.wait(async { tokio::time::sleep(Duration::from_millis(20)).await });
                is_back(&children[0].1) && hogs(&world, &ada) == agents
            });
            assert_eq!(children[1].1.status().pid, neighbour);
            assert_eq!(children[1].1.status().restarts, 0);
        },
    );
}

/// The negative control: what the test above sees is the watcher's doing.
#[test]
fn without_the_watcher_a_memory_hog_goes_on() {
    as_ordinary_user("watch::without_the_watcher_a_memory_hog_goes_on", || {
        let world = World::new();
        let ada = world.make("ada");
        let children = [(ada.clone(), world.start(&ada))];
        let agents = hogs(&world, &ada);
        world.inside(&ada, HOG);
        let generous = WatchLimits {
            memory_bytes: 1 << 40,
            free_bytes: 0,
        };
        let begun = Instant::now();
        let stopped = watched(&world, &children, generous, |_| {
            begun.elapsed() > Duration::from_secs(3)
        });
        assert_eq!(stopped, []);
        assert_eq!(hogs(&world, &ada), agents + 2);
    });
}

#[test]
fn who_fills_the_disk_is_ended_and_files_stay() {
    as_ordinary_user("watch::who_fills_the_disk_is_ended_and_files_stay", || {
        let world = World::new();
        let (ada, bea) = (world.make("ada"), world.make("bea"));
        let children = [
            (ada.clone(), world.start(&ada)),
            (bea.clone(), world.start(&bea)),
        ];
        world.inside(&bea, "head -c 100000000 /dev/zero > ~/large-but-old");
        world.inside(&ada, FILLER);
        // The floor is right below what is free now.
        let limits = WatchLimits {
            memory_bytes: 1 << 40,
            free_bytes: free(world.folder.path()).saturating_sub(100 << 20),
        };
        let stopped = watched(&world, &children, limits, |stopped| !stopped.is_empty());
        assert!(
            matches!(&stopped[..], [Stopped { seat, reason: Excess::Disk { grown_bytes: Some(_), .. } }] if *seat == ada),
            "{stopped:?}"
        );
        eventually("the seat is back with its files", || {
            world.wait(async { tokio::time::sleep(Duration::from_millis(20)).await });
            is_back(&children[0].1) && world.inside(&ada, "test -e ~/1 && pgrep -c head") == "0"
        });
        assert_eq!(children[1].1.status().restarts, 0);
    });
}

fn free(folder: &Path) -> u64 {
    let found = rustix::fs::statvfs(folder).unwrap();
    found.f_bavail * found.f_frsize
}

#[test]
fn a_file_cannot_be_larger_than_the_limit() {
    as_ordinary_user("watch::a_file_cannot_be_larger_than_the_limit", || {
        let world = World::new();
        let ada = world.make("ada");
        world.start(&ada);
        let script = "truncate -s 1G ~/one; truncate -s 1025M ~/two; stat -c %s ~/one ~/two";
        let said = world.inside(&ada, script);
        assert!(said.ends_with("1073741824\n0"), "{said}");
    });
}
