//! What a participant may try. Every attack is a script that prints `through` when it works; the
//! same script runs outside the sandbox as the same user, where it must work: else it proves nothing.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;

use crate::world::{World, as_ordinary_user};

fn outside(script: &str) -> String {
    let output = Command::new("/bin/sh")
        .args(["-c", &format!("exec 2>&1; {script}")])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs an attack inside, where it must fail, and outside, where it must work.
fn check(world: &World, name: &str, attack: &str) {
    let seat = world.seats.made().pop_first().expect("a seat was made");
    let script = format!("if {attack}; then echo through; fi");
    let (inside, control) = (world.inside(&seat, &script), outside(&script));
    assert!(
        !inside.contains("through"),
        "{name} worked inside the sandbox: {inside}"
    );
    assert!(
        control.contains("through"),
        "{name} does not even work outside, so the test proves nothing: {control}"
    );
}

#[test]
fn a_seat_reaches_nothing_of_the_host() {
    as_ordinary_user("attacks::a_seat_reaches_nothing_of_the_host", || {
        let world = World::new();
        let (ada, bea) = (world.make("ada"), world.make("bea"));
        world.start(&ada);
        world.start(&bea);
        world.inside(&bea, "echo private > /home/workspace/diary");
        let root = world.folder.path().display();
        check(
            &world,
            "another seat's files",
            &format!("ls {root}/seats/bea/upper/diary"),
        );
        check(&world, "the host's files", &format!("ls {root}/seats"));
        check(
            &world,
            "another seat's listener",
            &format!("ls {root}/r/seats/bea.sock"),
        );
        check(
            &world,
            "the host's processes",
            &format!("kill -0 {}", std::process::id()),
        );
        check(
            &world,
            "the host's process list",
            &format!("grep -q . /proc/{}/stat", std::process::id()),
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let tcp = format!(
            "perl -MIO::Socket::INET -e 'IO::Socket::INET->new(PeerAddr => \"127.0.0.1:{port}\") or die $!'"
        );
        check(&world, "the host's loopback", &tcp);
        let name = format!("arena-test-{}", std::process::id());
        let _abstract =
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let abstract_socket = format!(
            "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack(\"S a*\", AF_UNIX, \"\\0{name}\")) or die $!'"
        );
        check(&world, "an abstract socket of the host", &abstract_socket);
    });
}

#[test]
fn a_seat_cannot_nest_namespaces_or_mount() {
    as_ordinary_user("attacks::a_seat_cannot_nest_namespaces_or_mount", || {
        let world = World::new();
        world.start(&world.make("ada"));
        check(&world, "a nested user namespace", "unshare -U true");
        check(&world, "a mount", "unshare -Urm mount -t tmpfs none /mnt");
        check(&world, "becoming root", "unshare -Ur id -u | grep -qx 0");
    });
}

#[test]
fn system_calls_that_open_kernels_are_refused() {
    as_ordinary_user(
        "attacks::system_calls_that_open_kernels_are_refused",
        || {
            let world = World::new();
            world.start(&world.make("ada"));
            // Refused by us is EPERM; a kernel without the family says something else, outside too.
            let not_refused =
                |code: &str| format!("perl -MErrno -e '{code}; exit($!{{EPERM}} ? 1 : 0)'");
            check(&world, "AF_VSOCK", &not_refused("socket(my $s, 40, 1, 0)"));
            check(&world, "AF_ALG", &not_refused("socket(my $s, 38, 5, 0)"));
            let packet = not_refused("socket(my $s, 17, 3, 0)");
            let seat = world.seats.made().pop_first().unwrap();
            let script = format!("if {packet}; then echo through; fi");
            assert!(
                !world.inside(&seat, &script).contains("through"),
                "AF_PACKET"
            );
            let control = outside(&format!(
                "unshare -Urn sh -c '{}'",
                script.replace('\'', "'\\''")
            ));
            assert!(
                control.contains("through"),
                "AF_PACKET does not even work with the right to it: {control}"
            );
            let io_uring = not_refused("my $p = \"\\0\" x 120; syscall(425, 8, $p)");
            check(&world, "io_uring", &io_uring);
            if cfg!(target_arch = "x86_64") {
                check(&world, "keyctl", &not_refused("syscall(250, 0, -3, 0)"));
            }
        },
    );
}

#[test]
fn what_seats_share_is_read_only() {
    as_ordinary_user("attacks::what_seats_share_is_read_only", || {
        let world = World::new();
        let (ada, bea) = (world.make("ada"), world.make("bea"));
        world.start(&ada);
        world.start(&bea);
        for path in [
            "/usr/x",
            "/etc/x",
            "/etc/hosts",
            "/opt/arena/x",
            "/opt/arena/bin/arena",
            "/x",
            "/run/x",
            "/run/svc/x",
            "/dev/x",
            "/run/arena/settings.json",
        ] {
            let answer = world.inside(&ada, &format!("if echo x >> {path}; then echo through; fi"));
            assert!(!answer.contains("through"), "{path} can be written");
        }
        for path in [
            "/tmp/x",
            "/run/arena/x",
            "/home/workspace/x",
            "/dev/shm/x",
            "/var/tmp/x",
            "/home/workspace/workshop/server/index.js",
        ] {
            assert_eq!(
                world.inside(&ada, &format!("echo x >> {path} && echo fine")),
                "fine",
                "{path}"
            );
        }
        // A shared file can be changed, but only one's own view of it.
        let shared = "/home/workspace/workshop/server/node_modules/left-pad/index.js";
        assert_eq!(
            world.inside(&ada, &format!("echo mine > {shared} && cat {shared}")),
            "mine"
        );
        assert_eq!(world.inside(&bea, &format!("cat {shared}")), "shared");
        assert_eq!(
            world.inside(
                &ada,
                "grep -o secret-of-[a-z]* /run/arena/settings.json; rm -f /run/arena/settings.json"
            ),
            "secret-of-ada\nrm: cannot remove '/run/arena/settings.json': Device or resource busy"
        );
    });
}

#[test]
fn a_fork_bomb_ends_at_the_limit_of_its_seat() {
    as_ordinary_user("attacks::a_fork_bomb_ends_at_the_limit_of_its_seat", || {
        let world = World::new();
        let (ada, bea) = (world.make("ada"), world.make("bea"));
        world.start(&ada);
        world.start(&bea);
        let bomb = "perl -e '$n=0; while(1) { my $p = fork(); last unless defined $p; if (!$p) { sleep 60; exit } push @p, $p; last if ++$n > 3000 } print $n; kill 9, @p'";
        let reached: u32 = world.inside(&ada, bomb).parse().unwrap();
        assert!((100..1024).contains(&reached), "{reached} processes");
        assert_eq!(world.inside(&bea, "echo fine"), "fine");
    });
}
