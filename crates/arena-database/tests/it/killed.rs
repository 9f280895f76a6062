//! A process that restores is killed with kill -9 at many moments: the next one
//! goes on, and neither what a seat had nor what was kept is ever lost.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use arena_database::{Before, MongodbAdmin, Provisioner};
use arena_workshop::DatabaseName;
use bson::{Document, doc};

use crate::mongodb::{World, count};
use crate::seat;

const CHILD: &str = "ARENA_DATABASE_TEST_CHILD";
/// Kills, each a little later than the one before.
const ROUNDS: u32 = 8;

/// The child: a no-op unless the test below starts it with `TEMPLATE SEAT ORDER`; order 0 brings back.
#[tokio::test]
async fn child_that_restores_until_it_is_killed() {
    let Ok(task) = std::env::var(CHILD) else {
        return;
    };
    let parts: Vec<&str> = task.split(' ').collect();
    let uri = std::env::var("ARENA_TEST_MONGODB_URI").unwrap();
    let template = DatabaseName::new(parts[0]).unwrap();
    let provisioner = Provisioner::connect(&template, Some(&MongodbAdmin { uri }), None)
        .await
        .unwrap();
    println!("READY");
    std::io::stdout().flush().unwrap();
    let seat = seat(parts[1]);
    match parts[2].parse().unwrap() {
        0 => provisioner.bring_back_seat(&seat).await.unwrap(),
        order => provisioner
            .restore_seat(&seat, Before::KeepFor(order))
            .await
            .unwrap(),
    }
}

/// Starts the child and kills it so long after it began.
async fn begin_and_kill(world: &World, name: &str, order: u32, after: Duration) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "killed::child_that_restores_until_it_is_killed",
            "--nocapture",
        ])
        .env(CHILD, format!("arena_{} {name} {order}", world.tag))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().ends_with("READY")),
        "it begins"
    );
    tokio::time::sleep(after).await;
    // SIGKILL; it may have ended by itself already.
    let _ = child.kill();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_anywhere_is_finished_by_the_next_process() {
    let mut world = World::start("killed").await;
    let ada = world.seat("ada");
    world.provisioner.create_seat(&ada).await.unwrap();
    for round in 1..=ROUNDS {
        let after = Duration::from_millis(u64::from(round * round) * 8);
        let database = world.as_seat(&ada).await;
        let mine = database.collection::<Document>("mine");
        mine.delete_many(doc! {}).await.unwrap();
        mine.insert_one(doc! { "round": i32::try_from(round).unwrap() })
            .await
            .unwrap();
        begin_and_kill(&world, ada.name.as_str(), round, after).await;
        world.next_process().await;
        // As `up` does: make what is missing, then carry out open orders again.
        world.provisioner.create_seat(&ada).await.unwrap();
        let again = Before::KeepFor(i64::from(round));
        world.provisioner.restore_seat(&ada, again).await.unwrap();
        assert_eq!(
            (
                count(&database, "listings").await,
                count(&database, "mine").await
            ),
            (100, 0),
            "round {round}"
        );
        begin_and_kill(&world, ada.name.as_str(), 0, after).await;
        world.next_process().await;
        world.provisioner.create_seat(&ada).await.unwrap();
        // Before or after the exchange: both states are whole, and one call leads from one to the other.
        if count(&database, "mine").await == 0 {
            assert_eq!(count(&database, "listings").await, 100, "round {round}");
            world.provisioner.bring_back_seat(&ada).await.unwrap();
        }
        let kept = mine.find_one(doc! {}).await.unwrap().unwrap();
        assert_eq!(i64::from(kept.get_i32("round").unwrap()), i64::from(round));
        assert_eq!(count(&database, "listings").await, 100, "round {round}");
        world.provisioner.bring_back_seat(&ada).await.unwrap();
        assert_eq!(
            (
                count(&database, "listings").await,
                count(&database, "mine").await
            ),
            (100, 0),
            "round {round}"
        );
    }
    world.end(&[&ada]).await;
}
