//! A process that restores is killed with kill -9 at many moments: the next one
//! goes on, and neither what a seat had nor what was kept is ever lost.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use arena_database::{Before, MongodbAdmin, PostgresAdmin, Provisioner, SeatDatabase};
use bson::{Document, doc};

use crate::mongodb::{World, count};
use crate::world::{self, connect, number};
use crate::{file, name, seat};

const CHILD: &str = "ARENA_DATABASE_TEST_CHILD";
/// Kills, each a little later than the one before.
const ROUNDS: u32 = 8;

/// What the child does, and where.
struct Task<'a> {
    template: &'a str,
    seat: &'a str,
    /// The restore's order; 0 brings back.
    order: u32,
    /// MongoDB's address, or PostgreSQL's folder and password.
    server: String,
}

/// The child: a no-op unless the tests below start it.
#[tokio::test]
async fn child_that_restores_until_it_is_killed() {
    let Ok(task) = std::env::var(CHILD) else {
        return;
    };
    let parts: Vec<&str> = task.split('\n').collect();
    let template = name(parts[0]);
    let (mongodb, postgres) = match parts[3].split_once('\t') {
        Some((host, password)) => (
            None,
            Some(PostgresAdmin {
                host: host.to_owned(),
                password: Some(password.to_owned()),
                user: "arena".to_owned(),
                database: "postgres".to_owned(),
                port: 5432,
                ..PostgresAdmin::default()
            }),
        ),
        None => {
            let uri = parts[3].to_owned();
            (Some(MongodbAdmin { uri }), None)
        }
    };
    let provisioner = Provisioner::connect(&template, mongodb.as_ref(), postgres.as_ref());
    let provisioner = provisioner.await.unwrap();
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
async fn begin_and_kill(task: &Task<'_>, after: Duration) {
    let Task {
        template,
        seat,
        order,
        server,
    } = task;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "killed::child_that_restores_until_it_is_killed",
            "--nocapture",
        ])
        .env(CHILD, format!("{template}\n{seat}\n{order}\n{server}"))
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
    let template = format!("arena_{}", world.tag);
    let task = |order| Task {
        template: &template,
        seat: ada.name.as_str(),
        order,
        server: std::env::var("ARENA_TEST_MONGODB_URI").unwrap(),
    };
    for round in 1..=ROUNDS {
        let after = Duration::from_millis(u64::from(round * round) * 8);
        let database = world.as_seat(&ada).await;
        let mine = database.collection::<Document>("mine");
        mine.delete_many(doc! {}).await.unwrap();
        mine.insert_one(doc! { "round": i32::try_from(round).unwrap() })
            .await
            .unwrap();
        begin_and_kill(&task(round), after).await;
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
        begin_and_kill(&task(0), after).await;
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

const HOSTS: &str =
    "CREATE TABLE hosts (id int PRIMARY KEY); INSERT INTO hosts SELECT generate_series(1, 500);";

/// Returns the round that the seat's own table tells; nothing where it has none.
async fn own_round(world: &world::World) -> Option<i64> {
    let client = world.as_seat(&world.ada).await;
    assert_eq!(number(&client, "SELECT count(*) FROM hosts").await, 500);
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'mine'";
    let is_there = number(&client, tables).await == 1;
    if is_there {
        Some(number(&client, "SELECT max(round)::bigint FROM mine").await)
    } else {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_postgresql_that_is_killed_anywhere_is_finished_by_the_next_process() {
    let mut world = world::World::start(HOSTS).await;
    let admin = world.cluster.admin();
    let task = |order| Task {
        template: "arena_template",
        seat: "ada",
        order,
        server: format!("{}\t{}", admin.host, admin.password.as_deref().unwrap()),
    };
    for round in 1..=ROUNDS {
        let after = Duration::from_millis(u64::from(round * round) * 4);
        let note = format!(
            "DROP TABLE IF EXISTS mine; CREATE TABLE mine (round int); INSERT INTO mine VALUES ({round})"
        );
        let client = world.as_seat(&world.ada).await;
        client.batch_execute(&note).await.unwrap();
        begin_and_kill(&task(round), after).await;
        // As `up` does: make what is missing, then carry out open orders again.
        world.provisioner = connect(&admin, &[file("arena/data/data.sql", HOSTS)]).await;
        world.provisioner.create_seat(&world.ada).await.unwrap();
        let again = Before::KeepFor(i64::from(round));
        world
            .provisioner
            .restore_seat(&world.ada, again)
            .await
            .unwrap();
        assert_eq!(own_round(&world).await, None, "round {round}");
        begin_and_kill(&task(0), after).await;
        world.provisioner = connect(&admin, &[file("arena/data/data.sql", HOSTS)]).await;
        world.provisioner.create_seat(&world.ada).await.unwrap();
        // Before or after the exchange: one call leads from one state to the other.
        if own_round(&world).await.is_none() {
            world.provisioner.bring_back_seat(&world.ada).await.unwrap();
        }
        assert_eq!(own_round(&world).await, Some(i64::from(round)));
        world.provisioner.bring_back_seat(&world.ada).await.unwrap();
        assert_eq!(own_round(&world).await, None, "round {round}");
    }
}

/// A restore that ended after the seat's database was closed, and before it was put aside.
#[tokio::test]
async fn what_was_about_to_be_put_aside_is_not_taken_for_half_made() {
    let world = world::World::start(HOSTS).await;
    let restore = async || {
        world
            .provisioner
            .restore_seat(&world.ada, Before::Keep)
            .await
    };
    restore().await.unwrap();
    let own = world.as_seat(&world.ada).await;
    let table = own.batch_execute("CREATE TABLE mine AS SELECT 7 AS round");
    table.await.unwrap();
    // What was kept before cannot be dropped, so that the restore stops there.
    let administrator = world.as_superuser("postgres").await;
    let hold = async |is: bool| {
        let statement = format!("ALTER DATABASE ada_before IS_TEMPLATE {is}");
        administrator.batch_execute(&statement).await.unwrap();
    };
    hold(true).await;
    restore().await.unwrap_err();
    world.provisioner.create_seat(&world.ada).await.unwrap();
    assert_eq!(own_round(&world).await, Some(7));
    hold(false).await;
    restore().await.unwrap();
    assert_eq!(own_round(&world).await, None);
    world.provisioner.bring_back_seat(&world.ada).await.unwrap();
    assert_eq!(own_round(&world).await, Some(7));
}

#[tokio::test]
async fn what_a_killed_process_asked_for_is_ended_and_another_events_is_not() {
    let world = world::World::start(HOSTS).await;
    let admin = world.cluster.admin();
    // They differ behind what PostgreSQL keeps of a connection's name.
    let long = |last: &str| format!("{}{last}", "a-long-name-of-an-event-".repeat(2));
    let (own, others) = (long("one"), long("two"));
    let administrator = world.as_superuser("postgres").await;
    let held = "BEGIN; ALTER ROLE ada CONNECTION LIMIT 5; ALTER ROLE bea CONNECTION LIMIT 5";
    administrator.batch_execute(held).await.unwrap();
    let asked = |template: &str, seat: &SeatDatabase| {
        let (admin, template, seat) = (admin.clone(), name(template), seat.clone());
        tokio::spawn(async move {
            let provisioner = Provisioner::connect(&template, None, Some(&admin))
                .await
                .unwrap();
            provisioner.create_seat(&seat).await
        })
    };
    let (left, going_on) = (asked(&own, &world.ada), asked(&others, &world.bea));
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER ROLE%'";
    let looking = world.as_superuser("postgres").await;
    world::until("both wait", async || number(&looking, waiting).await == 2).await;
    let _next = Provisioner::connect(&name(&own), None, Some(&admin))
        .await
        .unwrap();
    assert_eq!(number(&looking, waiting).await, 1);
    left.await.unwrap().unwrap_err();
    going_on.abort();
}
