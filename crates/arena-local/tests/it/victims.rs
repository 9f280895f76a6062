//! One seat takes all that the kernel gives a user, and holds it; its neighbour must not notice.
//! The negative control is a machine where both have the same user: there the neighbour does.

use std::time::Duration;

use arena_workshop::SeatId;

use crate::world::{World, as_ordinary_user, as_plain_user, eventually};

/// Takes until there is no more of it, says how much that was, and holds it.
const TAKE: &str = r#"
import ctypes, fcntl, os, socket, sys, time
libc, held = ctypes.CDLL(None, use_errno=True), []
def inotify():
    held.append(libc.inotify_init())
    if held[-1] < 0: raise OSError(ctypes.get_errno(), 'inotify')
def pipes():
    held.append(os.pipe())
    fcntl.fcntl(held[-1][1], 1031, 1 << 20)
def flight():
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    held.append(pair)
    for _ in range(30): socket.send_fds(pair[0], [b'x'], [0] * 200)
def processes():
    pid = os.fork()
    if pid == 0: time.sleep(600)
    held.append(pid)
took = 0
try:
    while took < 40000:
        locals()[sys.argv[1]](); took += 1
except OSError as error:
    pass
if sys.argv[1] == 'processes':
    for pid in held[:8]: os.kill(pid, 9), os.waitpid(pid, 0)
open('/tmp/took', 'w').write(str(took))
time.sleep(600)
"#;

/// What an editor and an app do all the time, a little of each; the milliseconds that it took.
const WORK: &str = r#"
import ctypes, fcntl, os, socket, sys, time
begun = time.monotonic()
libc = ctypes.CDLL(None, use_errno=True)
for _ in range(4):
    if sys.argv[1:] and libc.inotify_init() < 0: raise OSError(ctypes.get_errno(), 'inotify')
    fcntl.fcntl(os.pipe()[1], 1031, 1 << 20)
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    socket.send_fds(pair[0], [b'x'], [0] * 20)
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
    with open('/home/workspace/saved', 'w') as file:
        file.write('x' * 1000000); file.flush(); os.fsync(file.fileno())
print(round((time.monotonic() - begun) * 1000))
"#;

/// File watchers are not among them: see below.
const RESOURCES: [&str; 3] = ["pipes", "flight", "processes"];
/// Times of the neighbour's work that are compared; their middle counts.
const TIMES: usize = 9;
/// Below this many milliseconds a ratio says nothing.
const NOISE_MS: u32 = 50;

/// Two seats in which the scripts lie.
fn neighbours(world: &World) -> (SeatId, SeatId) {
    let (ada, bea) = (world.make("ada"), world.make("bea"));
    for seat in [&ada, &bea] {
        world.start(seat);
        world.inside(seat, &format!("cat > /tmp/take.py <<'END'\n{TAKE}\nEND"));
        world.inside(seat, &format!("cat > /tmp/work.py <<'END'\n{WORK}\nEND"));
    }
    (ada, bea)
}

/// Takes everything of a resource in a seat; returns how much there was.
fn take(world: &World, seat: &SeatId, resource: &str) -> u32 {
    let script =
        format!("rm -f /tmp/took; python3 /tmp/take.py {resource} > /dev/null 2>&1 & echo begun");
    world.inside(seat, &script);
    let mut took = String::new();
    eventually("everything is taken", || {
        std::thread::sleep(Duration::from_millis(50));
        took = world.inside(seat, "cat /tmp/took 2> /dev/null");
        !took.is_empty()
    });
    took.parse().unwrap()
}

/// The middle of some times of work in a seat, with file watchers if asked for; an error is what it
/// said.
fn work(world: &World, seat: &SeatId, with: &str) -> Result<u32, String> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let said = world.inside(seat, &format!("python3 /tmp/work.py {with} 2>&1"));
        times.push(said.parse::<u32>().map_err(|_| said)?);
    }
    times.sort_unstable();
    Ok(times[TIMES / 2])
}

#[test]
fn a_seat_that_takes_everything_does_not_slow_its_neighbour() {
    as_ordinary_user(
        "victims::a_seat_that_takes_everything_does_not_slow_its_neighbour",
        || {
            for resource in RESOURCES {
                let world = World::new();
                let (ada, bea) = neighbours(&world);
                let quiet = work(&world, &bea, "").unwrap();
                let took = take(&world, &ada, resource);
                assert!(
                    (1..40_000).contains(&took),
                    "{took} of {resource}: no limit"
                );
                let beset = work(&world, &bea, "")
                    .unwrap_or_else(|said| panic!("{took} of {resource}: {said}"));
                assert!(
                    beset <= 2 * quiet.max(NOISE_MS),
                    "{took} of {resource}: {quiet} ms became {beset} ms"
                );
            }
        },
    );
}

#[test]
fn where_seats_share_a_user_they_do_notice() {
    as_plain_user("victims::where_seats_share_a_user_they_do_notice", || {
        let world = World::new();
        if world.seats.sandbox().isolation() != arena_workshop::plan::Isolation::SharedUser {
            // An ordinary user who runs the tests by hand has spare ids; CI runs this as one without.
            return;
        }
        let (ada, bea) = neighbours(&world);
        work(&world, &bea, "").unwrap();
        take(&world, &ada, "pipes");
        let said = work(&world, &bea, "").expect_err("pipes are counted for each user");
        assert!(said.contains("PermissionError"), "{said}");
    });
}

/// Whoever has no user id of its own still has processes of its own: they are counted in the
/// namespace of each seat.
#[test]
fn processes_are_counted_for_each_seat_even_where_they_share_a_user() {
    as_plain_user(
        "victims::processes_are_counted_for_each_seat_even_where_they_share_a_user",
        || {
            let world = World::new();
            let (ada, bea) = neighbours(&world);
            let took = take(&world, &ada, "processes");
            assert!((100..1024).contains(&took), "{took} processes");
            work(&world, &bea, "").unwrap();
        },
    );
}

/// The kernel counts file watchers for whoever made the namespaces too, and that is the platform's
/// user for every seat: `arena check` therefore asks for enough for all of them.
#[test]
fn file_watchers_are_shared_by_all_seats() {
    as_ordinary_user("victims::file_watchers_are_shared_by_all_seats", || {
        let world = World::new();
        let (ada, bea) = neighbours(&world);
        work(&world, &bea, "watchers").unwrap();
        take(&world, &ada, "inotify");
        let said = work(&world, &bea, "watchers").expect_err("each user had watchers of its own");
        assert!(said.contains("inotify"), "{said}");
    });
}
