//! The life of a seat: made, started, stopped, killed, removed.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::time::Duration;

use arena_supervisor::{State, Supervisor};
use arena_workshop::SeatId;
use arena_workshop::plan::Ways;

use crate::world::{World, as_ordinary_user, eventually};

#[test]
fn files_survive_a_restart_and_belong_to_the_participant() {
    as_ordinary_user(
        "seats::files_survive_a_restart_and_belong_to_the_participant",
        || {
            let world = World::new();
            let ada = world.make("ada");
            let child = world.start(&ada);
            assert_eq!(
                world.inside(
                    &ada,
                    "id -un; cd ~/workshop; stat -c %U:%a server/index.js README.md ."
                ),
                "workspace\nworkspace:644\nworkspace:644\nworkspace:755"
            );
            world.inside(&ada, "cd ~/workshop && echo mine > server/index.js && rm README.md && chmod 755 server/index.js");
            world.wait(child.stop());
            world.seats.make(&ada, "another-template").unwrap();
            world.start(&ada);
            assert_eq!(world.inside(&ada, "cd ~/workshop; cat server/index.js; ls; ls server/node_modules; getent hosts mongo.example"), "mine\nserver\nleft-pad\n127.0.0.2       mongo.example");
        },
    );
}

#[test]
fn names_of_servers_change_while_a_seat_lives() {
    as_ordinary_user("seats::names_of_servers_change_while_a_seat_lives", || {
        let world = World::new();
        let ada = world.make("ada");
        world.start(&ada);
        let asked =
            "getent hosts other.example || echo none; getent hosts mongo.example || echo none";
        assert_eq!(
            world.inside(&ada, asked),
            "none\n127.0.0.2       mongo.example"
        );
        let ways = Ways {
            names: [(
                "other.example".to_owned(),
                Ipv4Addr::new(127, 0, 0, 3).into(),
            )]
            .into(),
            ..Ways::default()
        };
        world.seats.lead(&ada, &ways).unwrap();
        assert_eq!(
            world.inside(&ada, asked),
            "127.0.0.3       other.example\nnone"
        );
        let answer = world.inside(
            &ada,
            "echo '127.0.0.9 other.example' > /run/svc/hosts || echo refused",
        );
        assert!(answer.ends_with("refused"), "{answer}");
    });
}

#[test]
fn two_sandboxes_never_share_one_seat() {
    as_ordinary_user("seats::two_sandboxes_never_share_one_seat", || {
        let world = World::new();
        let ada = world.make("ada");
        world.start(&ada);
        let second = world.begin(&ada);
        eventually("the second one gives up", || {
            world.wait(async { tokio::time::sleep(Duration::from_millis(1)).await });
            second
                .tail(50)
                .iter()
                .any(|line| line.contains("it is in use"))
        });
        world.wait(second.stop());
    });
}

#[test]
fn removing_a_seat_follows_no_link_and_leaves_nothing() {
    as_ordinary_user(
        "seats::removing_a_seat_follows_no_link_and_leaves_nothing",
        || {
            let world = World::new();
            let victim = world.folder.path().join("victim");
            fs::create_dir(&victim).unwrap();
            fs::write(victim.join("precious"), "x").unwrap();
            let ada = world.make("ada");
            let child = world.start(&ada);
            let script = format!(
                "cd; ln -s {0} link; ln -s {0}/precious file; mkdir -p a/b && ln -s {0} a/b/c && chmod 0 a/b; mkdir shut && chmod 0 shut; \
             mkfifo pipe; rm -rf workshop; perl -e 'for (1..3000) {{ mkdir \"d\" or die; chdir \"d\" or die }}'; echo done",
                victim.display()
            );
            assert_eq!(world.inside(&ada, &script), "done");
            world.wait(child.stop());
            world.seats.remove(&ada).unwrap();
            assert!(victim.join("precious").exists());
            assert!(!world.folder.path().join("seats/ada").exists());
            assert!(!world.seats.socket(&ada).exists());
        },
    );
}

#[test]
fn a_link_in_place_of_the_listener_is_not_followed() {
    as_ordinary_user(
        "seats::a_link_in_place_of_the_listener_is_not_followed",
        || {
            let world = World::new();
            let (ada, bea) = (world.make("ada"), world.make("bea"));
            world.start(&bea);
            // Even a link that the platform itself finds there is replaced, not listened on.
            symlink(world.seats.socket(&bea), world.seats.socket(&ada)).unwrap();
            world.start(&ada);
            assert_eq!(world.inside(&ada, "hostname"), "ada");
            assert_eq!(world.inside(&bea, "hostname"), "bea");
            // From inside there is nothing to replace: no socket of ours has a path there.
            assert_eq!(
                world.inside(&ada, "ls /run /run/svc /run/arena"),
                "/run:\narena\nsvc\n\n/run/arena:\nsettings.json\n\n/run/svc:\nhosts\nways.json"
            );
        },
    );
}

#[test]
fn a_seat_that_was_never_made_is_an_error_and_a_broken_one_is_given_up() {
    as_ordinary_user(
        "seats::a_seat_that_was_never_made_is_an_error_and_a_broken_one_is_given_up",
        || {
            let world = World::new();
            let nobody = SeatId::new("nobody").unwrap();
            let spec = arena_supervisor::ChildSpec::new("x", "/bin/true");
            assert_eq!(spec.name, "x");
            assert!(world.seats.made().is_empty());
            world.seats.remove(&nobody).unwrap();
            let ada = world.make("ada");
            fs::remove_dir_all(world.folder.path().join("template")).unwrap();
            let child = world.begin(&ada);
            eventually("its message names what is missing", || {
                world.wait(async { tokio::time::sleep(Duration::from_millis(1)).await });
                child
                    .tail(50)
                    .iter()
                    .any(|line| line.contains("cannot open") && line.contains("template"))
            });
            assert!(!matches!(child.status().state, State::Ready));
            let _: &Supervisor = &world.supervisor;
        },
    );
}
