//! What a participant may try with the seat's own role in PostgreSQL. Each attack has its negative
//! control: the same thing succeeds where the guard is taken away.

use std::time::Duration;

use arena_database::{PostgresLimits, Room, SeatDatabase};
use tokio_postgres::Client;

use crate::world::{World, number, refusal, until};

const SQL: &str = "CREATE TABLE hosts (id integer PRIMARY KEY, name text);
INSERT INTO hosts SELECT n, 'host ' || n FROM generate_series(1, 500) n;";

const NOT_ALLOWED: &str = "42501";

#[tokio::test]
async fn a_seat_cannot_reach_beyond_its_database() {
    let world = World::start(SQL).await;
    let ada = world.as_seat(&world.ada).await;
    let superuser = world.as_superuser("ada").await;
    // What a superuser may do is refused to the seat for want of rights, not because it is wrong.
    for statement in [
        "COPY hosts TO PROGRAM 'cat'",
        "COPY hosts FROM PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/arena-a-file-of-a-test'",
        "SELECT pg_read_file('PG_VERSION')",
        "SELECT pg_ls_dir('.')",
        "SELECT lo_import('PG_VERSION')",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1, 2)",
        "SELECT pg_logical_emit_message(false, 'a', 'b')",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bea' UNION ALL SELECT pg_terminate_backend(0) FROM pg_authid",
        "SELECT rolpassword FROM pg_authid",
        "CREATE DATABASE other",
        "CREATE ROLE other",
        "DROP ROLE other",
        "ALTER ROLE bea PASSWORD 'x'",
        "SET ROLE arena",
        "SET ROLE bea",
        "SET ROLE arena_template",
        "SET SESSION AUTHORIZATION bea",
        "SET temp_file_limit = -1",
        "SET session_replication_role = replica",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "CREATE EXTENSION pg_trgm",
        "CREATE EXTENSION file_fdw",
        "CREATE FUNCTION c() RETURNS int LANGUAGE c AS '$libdir/pg_trgm', 'set_limit'",
        "CREATE FUNCTION i(bigint) RETURNS void LANGUAGE internal AS 'pg_advisory_lock_int8'",
        "CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE SCHEMA own",
        "CREATE PUBLICATION p",
        "BEGIN; LOCK TABLE pg_class IN ACCESS EXCLUSIVE MODE",
        "BEGIN; LOCK TABLE pg_database IN ROW EXCLUSIVE MODE",
        "ALTER DATABASE ada CONNECTION LIMIT 1000",
    ] {
        let allowed = refusal(&superuser, &format!("BEGIN; {statement}; ROLLBACK")).await;
        superuser
            .batch_execute("ROLLBACK; RESET ROLE; RESET SESSION AUTHORIZATION")
            .await
            .unwrap();
        assert_ne!(allowed, NOT_ALLOWED, "{statement} is refused to everybody");
        assert_eq!(refusal(&ada, statement).await, NOT_ALLOWED, "{statement}");
        ada.batch_execute("ROLLBACK").await.unwrap();
    }
    let prepared = refusal(&ada, "BEGIN; PREPARE TRANSACTION 'x'").await;
    assert_eq!(
        prepared, "55000",
        "prepared transactions hold locks for ever"
    );
    ada.batch_execute("ROLLBACK").await.unwrap();
    for database in ["bea", "postgres", "template1", "arena_template"] {
        let refused = world.log_in(&world.ada, database).await;
        assert!(refused.is_err(), "{database}");
        assert!(database == "arena_template" || !world.as_superuser(database).await.is_closed());
    }
}

#[tokio::test]
async fn another_seats_queries_and_messages_are_not_seen() {
    let world = World::start(SQL).await;
    let (ada, bea) = (
        world.as_seat(&world.ada).await,
        world.as_seat(&world.bea).await,
    );
    bea.batch_execute("SELECT 'a secret of bea'").await.unwrap();
    let seen =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%a secret%' AND usename = 'bea'";
    assert_eq!(number(&ada, seen).await, 0);
    assert_eq!(number(&world.as_superuser("postgres").await, seen).await, 1);
    let marks = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'bea' AND (client_port IS NOT NULL OR state IS NOT NULL)";
    assert_eq!(number(&ada, marks).await, 0);
    // What is told across databases is heard in one's own only.
    let heard = |listener: &World| {
        let admin = listener.cluster.admin();
        let ada = listener.ada.clone();
        async move {
            let mut config = tokio_postgres::Config::new();
            config
                .host(&admin.host)
                .port(admin.port)
                .user("ada")
                .password(&ada.password)
                .dbname("ada");
            config.connect(tokio_postgres::NoTls).await.unwrap()
        }
    };
    let (listener, mut connection) = heard(&world).await;
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) =
            std::future::poll_fn(|context| connection.poll_message(context)).await
        {
            if let tokio_postgres::AsyncMessage::Notification(notification) = message {
                let _ = sender.send(notification.payload().to_owned());
            }
        }
    });
    listener.batch_execute("LISTEN here").await.unwrap();
    bea.batch_execute("NOTIFY here, 'from bea'").await.unwrap();
    ada.batch_execute("NOTIFY here, 'from ada'").await.unwrap();
    assert_eq!(told.recv().await.unwrap(), "from ada");
}

#[tokio::test]
async fn sessions_of_one_seat_end_where_its_share_does() {
    let world = World::start(SQL).await;
    let mut sessions = Vec::new();
    let refused = loop {
        match world.log_in(&world.ada, "ada").await {
            Ok(session) => sessions.push(session),
            Err(error) => break error,
        }
    };
    assert_eq!(sessions.len(), 8);
    assert_eq!(refused.code().unwrap().code(), "53300");
    assert!(
        refused
            .as_db_error()
            .unwrap()
            .message()
            .contains("too many connections for role")
    );
    // Nobody else is kept out, and the platform still makes and restores.
    assert_eq!(
        number(
            &world.as_seat(&world.bea).await,
            "SELECT count(*) FROM hosts"
        )
        .await,
        500
    );
    world
        .provisioner
        .restore_seat(&world.ada, arena_database::Before::Discard)
        .await
        .unwrap();
    // Without the role's limit one seat takes what all share.
    let superuser = world.as_superuser("postgres").await;
    superuser
        .batch_execute("ALTER ROLE ada CONNECTION LIMIT -1; ALTER DATABASE ada CONNECTION LIMIT -1")
        .await
        .unwrap();
    let mut sessions = Vec::new();
    while let Ok(session) = world.log_in(&world.ada, "ada").await {
        sessions.push(session);
    }
    assert!(sessions.len() > 50, "{}", sessions.len());
    assert!(
        world.log_in(&world.bea, "bea").await.is_err(),
        "others have no place left"
    );
}

/// Limits that a test can wait for.
fn short(limits: &mut PostgresLimits) {
    limits.statement = Duration::from_secs(1);
    limits.idle_in_transaction = Duration::from_secs(1);
    limits.slow = Duration::from_millis(200);
    limits.temporary_bytes = 8 * 1024 * 1024;
}

#[tokio::test]
async fn who_lifts_the_time_limits_is_ended_all_the_same() {
    let mut world = World::start(SQL).await;
    let lifted = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";
    let lift = async |client: Client| {
        client.batch_execute(lifted).await.unwrap();
        client
    };
    // Without the guard both go on for as long as they like.
    let sleeper = lift(world.as_seat(&world.ada).await).await;
    sleeper.batch_execute("SELECT pg_sleep(3)").await.unwrap();
    let idler = lift(world.as_seat(&world.ada).await).await;
    idler.batch_execute("BEGIN; LOCK hosts").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    idler.batch_execute("SELECT 1").await.unwrap();
    world.provisioner.set_postgres_limits(short);
    world.guard();
    assert!(sleeper.batch_execute("SELECT pg_sleep(60)").await.is_err());
    until("the idle transaction ends", async || idler.is_closed()).await;
    world
        .usage_shows(
            &world.ada,
            "two sessions and a slow statement are counted",
            |usage| usage.sessions_ended >= 2 && usage.slow_statements >= 1,
        )
        .await;
    // Who keeps to the limits stays.
    let calm = world.as_seat(&world.bea).await;
    calm.batch_execute("SELECT pg_sleep(0.3)").await.unwrap();
    world
        .usage_shows(&world.bea, "her sessions stay", |usage| {
            usage.sessions_ended == 0
        })
        .await;
    assert!(world.is_guarded());
}

#[tokio::test]
async fn floods_of_temporary_files_are_bounded() {
    let mut world = World::start(SQL).await;
    let flood = |rows: u32| {
        format!(
            "SELECT count(*) FROM (SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, {rows}) n ORDER BY 2, 1) x"
        )
    };
    let ada = world.as_seat(&world.ada).await;
    ada.batch_execute("SET work_mem = '1MB'; SET statement_timeout = 0")
        .await
        .unwrap();
    // A single session ends at its own limit, which it cannot lift ("SET temp_file_limit" above).
    let refused = refusal(&ada, &flood(1_200_000)).await;
    assert_eq!(
        refused, "53400",
        "temporary file size exceeds temp_file_limit"
    );
    // Several together are the guard's; without it each has its own.
    ada.batch_execute(&flood(60_000)).await.unwrap();
    world.provisioner.set_postgres_limits(|limits| {
        limits.temporary_bytes = 8 * 1024 * 1024;
    });
    world.guard();
    until("a flood is ended", async || {
        let Ok(session) = world.log_in(&world.ada, "ada").await else {
            return false;
        };
        session
            .batch_execute("SET work_mem = '1MB'; SET statement_timeout = 0")
            .await
            .unwrap();
        // The answer comes before the client's own task has seen the connection end.
        matches!(
            refusal(&session, &flood(500_000)).await.as_str(),
            "57P01" | "the connection is gone"
        )
    })
    .await;
    world
        .usage_shows(&world.ada, "the reason is noted", |usage| {
            usage.last_ended == Some(arena_database::Reason::Temporary)
        })
        .await;
}

#[tokio::test]
async fn a_lock_on_another_seats_database_does_not_keep_it_from_its_restore() {
    let mut world = World::start(SQL).await;
    let ada = world.as_seat(&world.ada).await;
    // A setting for another's database locks that database, and nobody's rights are asked for it.
    let lock = "SET idle_in_transaction_session_timeout = 0; BEGIN; ALTER ROLE ada IN DATABASE bea SET work_mem = '4MB'";
    ada.batch_execute(lock).await.unwrap();
    let restore = async |world: &World| {
        world
            .provisioner
            .restore_seat(&world.bea, arena_database::Before::Keep)
            .await
    };
    let hangs = tokio::time::timeout(Duration::from_secs(3), restore(&world)).await;
    assert!(hangs.is_err(), "the attack is real");
    assert!(!ada.is_closed());
    world.guard();
    restore(&world).await.unwrap();
    until("the session in the way ends", async || ada.is_closed()).await;
    world
        .usage_shows(&world.ada, "the reason is noted", |usage| {
            usage.last_ended == Some(arena_database::Reason::InTheWay)
        })
        .await;
    assert_eq!(
        number(
            &world.as_seat(&world.bea).await,
            "SELECT count(*) FROM hosts"
        )
        .await,
        500
    );
}

#[tokio::test]
async fn what_a_participant_changed_about_the_role_is_put_back() {
    let world = World::start(SQL).await;
    let ada = world.as_seat(&world.ada).await;
    ada.batch_execute("ALTER ROLE ada PASSWORD 'mine'; ALTER ROLE ada SET search_path = nowhere; ALTER ROLE ada SET statement_timeout = 0")
        .await
        .unwrap();
    assert!(
        world.log_in(&world.ada, "ada").await.is_err(),
        "it was changed"
    );
    world.provisioner.create_seat(&world.ada).await.unwrap();
    let ada = world.as_seat(&world.ada).await;
    let settings =
        "SELECT current_setting('statement_timeout') || ' ' || current_setting('search_path')";
    let settings: String = ada.query_one(settings, &[]).await.unwrap().get(0);
    assert_eq!(settings, "30s \"$user\", public");
}

/// Where the seat ada stands, as the guard last said.
async fn room(world: &World) -> Room {
    let usage = world.provisioner.postgres_usage();
    usage
        .get(&world.ada.name)
        .map_or(Room::Free, |usage| usage.room)
}

async fn can_write(world: &World, seat: &SeatDatabase) {
    let client = world.as_seat(seat).await;
    let insert = "INSERT INTO hosts VALUES (0, 'x')";
    client.batch_execute(insert).await.unwrap();
}

/// Tries every way to make a database larger.
async fn cannot_write(ada: &Client) {
    for statement in [
        "INSERT INTO hosts VALUES (0, 'x')",
        "UPDATE hosts SET name = 'x'",
        "CREATE TABLE more (a int)",
        "CREATE TEMP TABLE more (a int)",
        "SELECT nextval('mine_id_seq')",
        "SELECT fill()",
        "ALTER TABLE hosts ADD COLUMN x text",
    ] {
        // Resetting what a user may reset does not help.
        let tried = format!("SET default_transaction_read_only = off; SET ROLE ada; {statement}");
        assert_eq!(refusal(ada, &tried).await, NOT_ALLOWED, "{statement}");
    }
}

#[tokio::test]
async fn a_database_over_its_quota_is_read_and_emptied_and_then_written_again() {
    let mut world = World::start(SQL).await;
    let fill =
        "INSERT INTO hosts SELECT n, repeat(md5(n::text), 30) FROM generate_series(1000, 9000) n";
    let max = 14 * 1024 * 1024;
    world
        .provisioner
        .set_postgres_limits(|limits| limits.size_bytes = max);
    let ada = world.as_seat(&world.ada).await;
    ada.batch_execute("CREATE TABLE mine (id serial PRIMARY KEY, note text); CREATE VIEW names AS SELECT name FROM hosts; CREATE FUNCTION fill() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO mine (note) VALUES (1)'")
        .await
        .unwrap();
    ada.batch_execute(fill).await.unwrap();
    world.guard();
    until("its writes are taken", async || {
        room(&world).await == Room::Full
    })
    .await;
    until("it may log in", async || {
        world.log_in(&world.ada, "ada").await.is_ok()
    })
    .await;
    let ada = world.as_seat(&world.ada).await;
    ada.batch_execute("GRANT ALL ON hosts, mine TO ada")
        .await
        .unwrap();
    cannot_write(&ada).await;
    assert!(number(&ada, "SELECT count(*) FROM names").await > 8000);
    // The other seat is not concerned.
    can_write(&world, &world.bea).await;
    // A larger quota opens it at once …
    world.provisioner.set_postgres_limits(|limits| {
        limits
            .size_bytes_of
            .insert(world.ada.name.clone(), 10 * max);
    });
    until("its writes are given back", async || {
        room(&world).await == Room::Free
    })
    .await;
    let ada = world.as_seat(&world.ada).await;
    ada.batch_execute("SELECT fill(); ALTER TABLE hosts ADD COLUMN x text; DROP VIEW names; CREATE TABLE more (a int); CREATE TEMP TABLE most (a int)")
        .await
        .unwrap();
    // … and so does less data.
    world
        .provisioner
        .set_postgres_limits(|limits| limits.size_bytes_of.clear());
    until("its writes are taken again", async || {
        room(&world).await == Room::Full
    })
    .await;
    until("it may empty its table", async || {
        match world.log_in(&world.ada, "ada").await {
            Ok(ada) => ada
                .batch_execute("DELETE FROM hosts WHERE id < 10; TRUNCATE hosts")
                .await
                .is_ok(),
            Err(_) => false,
        }
    })
    .await;
    until("its writes come back by themselves", async || {
        room(&world).await == Room::Free
    })
    .await;
    can_write(&world, &world.ada).await;
    assert!(world.is_guarded());
}

#[tokio::test]
async fn a_database_that_grows_in_spite_of_its_quota_is_shut_until_it_is_restored() {
    let mut world = World::start(SQL).await;
    let ada = world.as_seat(&world.ada).await;
    // A rule writes with the rights of the table's owner, whoever that is.
    ada.batch_execute(
        "CREATE TABLE a (t text); CREATE TABLE b (t text); INSERT INTO a VALUES ('x');
         CREATE RULE r AS ON INSERT TO b DO ALSO INSERT INTO a VALUES ('y');
         INSERT INTO a SELECT repeat(md5(n::text), 30) FROM generate_series(1, 30000) n",
    )
    .await
    .unwrap();
    world
        .provisioner
        .set_postgres_limits(|limits| limits.size_bytes = 10 * 1024 * 1024);
    world.guard();
    until("it is shut", async || {
        world
            .provisioner
            .postgres_usage()
            .get(&world.ada.name)
            .is_some_and(|usage| usage.room == Room::Shut)
    })
    .await;
    let refused = world.log_in(&world.ada, "ada").await.unwrap_err();
    assert!(
        refused
            .as_db_error()
            .unwrap()
            .message()
            .contains("not permitted to log in"),
        "{refused:?}"
    );
    world
        .provisioner
        .restore_seat(&world.ada, arena_database::Before::Discard)
        .await
        .unwrap();
    let ada = world.as_seat(&world.ada).await;
    ada.batch_execute("INSERT INTO hosts VALUES (0, 'x')")
        .await
        .unwrap();
}
