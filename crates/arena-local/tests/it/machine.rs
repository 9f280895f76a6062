//! What `arena check` says about this machine, and machines that lack something.

use std::net::TcpListener;

use arena_local::machine::{Wanted, check_machine};
use arena_local::paths::Paths;
use arena_workshop::plan::Isolation;
use tempfile::TempDir;

use crate::world::{World, as_ordinary_user, as_plain_user, nest};

fn paths(folder: &TempDir) -> Paths {
    Paths::from_environment(|name| {
        name.starts_with("XDG")
            .then(|| folder.path().join(name).display().to_string())
    })
    .unwrap()
}

#[test]
fn a_taken_port_is_named_with_a_free_one() {
    as_ordinary_user("machine::a_taken_port_is_named_with_a_free_one", || {
        let folder = TempDir::new().unwrap();
        let paths = paths(&folder);
        paths.make().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let wanted = Wanted {
            executable: &nest(),
            paths: &paths,
            port,
            seats: 3,
            tools: &[],
        };
        let machine = check_machine(&wanted);
        let failing: Vec<_> = machine
            .requirements
            .iter()
            .filter(|found| !found.is_ok && !found.is_optional)
            .collect();
        assert_eq!(failing.len(), 1, "{failing:#?}");
        assert_eq!(failing[0].name, format!("port {port}"));
        assert!(
            failing[0]
                .fix
                .as_deref()
                .is_some_and(|fix| fix.starts_with("use another one: --port "))
        );
        assert!(machine.people > 0 && machine.probe.sandbox.is_some());
    });
}

#[test]
fn more_seats_than_spare_ids_share_one_user_and_it_says_so() {
    as_ordinary_user(
        "machine::more_seats_than_spare_ids_share_one_user_and_it_says_so",
        || {
            let folder = TempDir::new().unwrap();
            let probe = arena_local::sandbox::probe(&nest(), folder.path(), 1_000_000);
            assert_eq!(probe.sandbox.unwrap().isolation(), Isolation::SharedUser);
            let step = probe
                .steps
                .iter()
                .find(|step| step.name == "user id per seat")
                .unwrap();
            assert!(
                !step.is_ok
                    && step.is_optional
                    && step.detail.contains("spare ids for 1000000 seats")
            );
        },
    );
}

#[test]
fn without_spare_ids_seats_work_and_are_still_apart() {
    as_plain_user(
        "machine::without_spare_ids_seats_work_and_are_still_apart",
        || {
            if std::fs::read_to_string("/etc/subuid")
                .unwrap_or_default()
                .contains(&format!("{}:", whoami()))
            {
                // An ordinary user who runs the tests by hand has spare ids; CI runs this as one without.
                return;
            }
            let world = World::new();
            assert_eq!(world.seats.sandbox().isolation(), Isolation::SharedUser);
            let (ada, bea) = (world.make("ada"), world.make("bea"));
            world.start(&ada);
            let child = world.start(&bea);
            world.inside(&bea, "echo private > ~/diary");
            assert_eq!(world.inside(&ada, "id -u; ls ~; echo mine > ~/workshop/server/node_modules/left-pad/index.js && echo changed"), "1000\nworkshop\nchanged");
            assert_eq!(
                world.inside(
                    &bea,
                    "cat ~/workshop/server/node_modules/left-pad/index.js; chmod 0 ~/diary"
                ),
                "shared"
            );
            world.wait(child.stop());
            world.seats.remove(&bea).unwrap();
            assert!(!world.folder.path().join("seats/bea").exists());
        },
    );
}

fn whoami() -> String {
    let output = std::process::Command::new("id")
        .arg("-un")
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
