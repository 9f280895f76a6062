//! Seats in PostgreSQL.

use std::num::NonZeroUsize;

use arena_database::{Before, PostgresAdmin, ProvisionError, Provisioner, SeatDatabase};
use tokio_postgres::{Client, Config, NoTls};

use crate::cluster::Cluster;
use crate::{file, name, seat};

const SQL: &str = "CREATE TABLE hosts (id integer PRIMARY KEY, name text NOT NULL);
INSERT INTO hosts SELECT n, 'host ' || n FROM generate_series(1, 500) n;
CREATE VIEW first_hosts AS SELECT * FROM hosts WHERE id < 10;
CREATE INDEX hosts_name ON hosts (name);";

async fn provisioner(admin: &PostgresAdmin) -> Provisioner {
    let provisioner = Provisioner::connect(&name("arena_template"), None, Some(admin))
        .await
        .unwrap();
    provisioner
        .load_template(&[file("arena/data/hosts.sql", SQL)])
        .await
        .unwrap();
    provisioner
}

async fn log_in(
    admin: &PostgresAdmin,
    user: &str,
    password: &str,
    database: &str,
) -> Result<Client, tokio_postgres::Error> {
    let mut config = Config::new();
    config
        .host(&admin.host)
        .port(admin.port)
        .user(user)
        .password(password)
        .dbname(database);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) async fn as_seat(admin: &PostgresAdmin, seat: &SeatDatabase) -> Client {
    log_in(
        admin,
        seat.name.as_str(),
        &seat.password,
        seat.name.as_str(),
    )
    .await
    .unwrap()
}

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_seat_owns_a_copy_of_the_template_and_nothing_else() {
    let cluster = Cluster::start();
    let admin = cluster.admin();
    let provisioner = provisioner(&admin).await;
    let (ada, bo) = (seat("ada"), seat("bo-b"));
    let mut told = Vec::new();
    let failed = provisioner
        .create_seats(
            vec![ada.clone(), bo.clone()],
            NonZeroUsize::new(2).unwrap(),
            |progress| told.push((progress.done, progress.all)),
        )
        .await;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(told, [(1, 2), (2, 2)]);
    let client = as_seat(&admin, &ada).await;
    assert_eq!(number(&client, "SELECT count(*) FROM hosts").await, 500);
    assert_eq!(number(&client, "SELECT count(*) FROM first_hosts").await, 9);
    client.batch_execute("ALTER TABLE hosts ADD COLUMN town text; CREATE TABLE mine (a int); DROP VIEW first_hosts").await.unwrap();
    for forbidden in [
        "CREATE DATABASE other",
        "CREATE ROLE other",
        "ALTER ROLE ada SUPERUSER",
        "SET ROLE arena",
        "SET ROLE arena_template",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1, 2)",
        "COPY hosts TO PROGRAM 'true'",
        "SELECT pg_read_file('postgresql.conf')",
        "DROP DATABASE ada",
        "CREATE SCHEMA own",
        "ALTER DATABASE ada CONNECTION LIMIT 1000",
        "CREATE EXTENSION plpython3u",
        "SELECT rolpassword FROM pg_authid",
        "SET temp_file_limit = -1",
    ] {
        assert!(
            client.batch_execute(forbidden).await.is_err(),
            "{forbidden}"
        );
    }
    for database in ["bo-b", "postgres", "template1", "arena_template"] {
        assert!(
            log_in(&admin, "ada", &ada.password, database)
                .await
                .is_err(),
            "{database}"
        );
    }
    assert!(log_in(&admin, "ada", &bo.password, "ada").await.is_err());
    assert!(
        log_in(&admin, "arena_template", "", "arena_template")
            .await
            .is_err()
    );
    let verifiers = log_in(
        &admin,
        "arena",
        admin.password.as_deref().unwrap(),
        "postgres",
    )
    .await
    .unwrap();
    let clear = "SELECT count(*) FROM pg_authid WHERE rolpassword NOT LIKE 'SCRAM-SHA-256$%'";
    assert_eq!(number(&verifiers, clear).await, 0);
}

#[tokio::test]
async fn making_a_seat_again_keeps_its_work_and_sets_its_password() {
    let cluster = Cluster::start();
    let admin = cluster.admin();
    let provisioner = provisioner(&admin).await;
    let mut ada = seat("ada");
    provisioner.create_seat(&ada).await.unwrap();
    as_seat(&admin, &ada)
        .await
        .batch_execute("DELETE FROM hosts WHERE id > 7")
        .await
        .unwrap();
    ada.password = "another-password-0123456789abc".to_owned();
    provisioner.create_seat(&ada).await.unwrap();
    assert_eq!(
        number(&as_seat(&admin, &ada).await, "SELECT count(*) FROM hosts").await,
        7
    );
    // Loading the same data again is nothing; other data is for new seats only.
    provisioner
        .load_template(&[file("arena/data/hosts.sql", SQL)])
        .await
        .unwrap();
    provisioner
        .load_template(&[file("arena/data/hosts.sql", "CREATE TABLE other (a int)")])
        .await
        .unwrap();
    provisioner.create_seat(&ada).await.unwrap();
    assert_eq!(
        number(&as_seat(&admin, &ada).await, "SELECT count(*) FROM hosts").await,
        7
    );
    assert_eq!(
        provisioner
            .list()
            .await
            .unwrap()
            .into_iter()
            .collect::<Vec<_>>(),
        [name("ada")]
    );
}

#[tokio::test]
async fn restoring_gives_the_template_back_and_keeps_the_old_state_aside() {
    let cluster = Cluster::start();
    let admin = cluster.admin();
    let provisioner = provisioner(&admin).await;
    let ada = seat("ada");
    provisioner.create_seat(&ada).await.unwrap();
    let busy = as_seat(&admin, &ada).await;
    busy.batch_execute("DROP TABLE hosts CASCADE; CREATE TABLE mine (a int); BEGIN; LOCK mine")
        .await
        .unwrap();
    for before in [Before::Keep, Before::Keep, Before::Discard] {
        provisioner.restore_seat(&ada, before).await.unwrap();
    }
    assert!(
        busy.batch_execute("SELECT 1").await.is_err(),
        "its connections are cut"
    );
    let client = as_seat(&admin, &ada).await;
    assert_eq!(number(&client, "SELECT count(*) FROM hosts").await, 500);
    assert!(client.batch_execute("SELECT * FROM mine").await.is_err());
    assert!(
        log_in(&admin, "ada", &ada.password, "ada_before")
            .await
            .is_err()
    );
    let platform = log_in(
        &admin,
        "arena",
        admin.password.as_deref().unwrap(),
        "postgres",
    )
    .await
    .unwrap();
    let kept = "SELECT count(*) FROM pg_database WHERE datname = 'ada_before'";
    assert_eq!(number(&platform, kept).await, 1);
    // What was kept comes back, and the next call exchanges it again.
    client
        .batch_execute("CREATE TABLE later (a int)")
        .await
        .unwrap();
    provisioner.restore_seat(&ada, Before::Keep).await.unwrap();
    provisioner.bring_back_seat(&ada).await.unwrap();
    let client = as_seat(&admin, &ada).await;
    client
        .batch_execute("INSERT INTO later VALUES (1)")
        .await
        .unwrap();
    provisioner.bring_back_seat(&ada).await.unwrap();
    let client = as_seat(&admin, &ada).await;
    assert!(client.batch_execute("SELECT * FROM later").await.is_err());
    assert_eq!(number(&client, "SELECT count(*) FROM hosts").await, 500);
    assert_eq!(provisioner.list().await.unwrap().len(), 1);
    let none = provisioner.bring_back_seat(&seat("bea")).await.unwrap_err();
    assert!(matches!(none, ProvisionError::NothingKept(_)), "{none}");
    provisioner.drop_seat(&ada.name).await.unwrap();
    provisioner.drop_seat(&ada.name).await.unwrap();
    assert_eq!(number(&platform, kept).await, 0);
    assert!(log_in(&admin, "ada", &ada.password, "ada").await.is_err());
    assert!(provisioner.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_authors_sql_has_no_more_rights_than_an_ordinary_role() {
    let cluster = Cluster::start();
    let provisioner = Provisioner::connect(&name("arena_template"), None, Some(&cluster.admin()))
        .await
        .unwrap();
    for sql in [
        "RESET ROLE; COPY (SELECT 1) TO PROGRAM 'cat'",
        "CREATE ROLE evil SUPERUSER",
        "SELECT pg_read_file('PG_VERSION')",
    ] {
        let refused = provisioner
            .load_template(&[file("arena/data/evil.sql", sql)])
            .await;
        assert!(
            matches!(refused, Err(ProvisionError::Postgres { ref what, .. }) if what == "run arena/data/evil.sql, line 1"),
            "{refused:?}"
        );
    }
    // A half-made template is made anew.
    provisioner
        .load_template(&[file("arena/data/hosts.sql", SQL)])
        .await
        .unwrap();
    provisioner.create_seat(&seat("ada")).await.unwrap();
}

/// Takes locks on new tables until there are none left, or the session is ended.
async fn hoard(hoarder: &Client) {
    let begin = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; BEGIN; SAVEPOINT one";
    hoarder.batch_execute(begin).await.unwrap();
    let mut table = 0;
    while hoarder
        .batch_execute(&format!(
            "SAVEPOINT last; CREATE TABLE hoard_{table} (x int)"
        ))
        .await
        .is_ok()
    {
        table += 1;
        assert!(table < 100_000, "the table of locks is never full");
    }
    // Goes on in the transaction, with all locks but the last.
    let _ = hoarder.batch_execute("ROLLBACK TO last").await;
}

#[tokio::test]
async fn one_seats_locks_leave_the_others_theirs() {
    let cluster = Cluster::start();
    let admin = cluster.admin();
    let provisioner = provisioner(&admin).await;
    let (ada, bea) = (seat("ada"), seat("bea"));
    for seat in [&ada, &bea] {
        provisioner.create_seat(seat).await.unwrap();
    }
    let other = as_seat(&admin, &bea).await;
    let many = "DO $$ BEGIN FOR i IN 1..100 LOOP EXECUTE 'CREATE TEMP TABLE t' || i || ' (x int)'; END LOOP; END $$";
    // Without the guard nobody else gets what they need: the attack is real.
    let hoarder = as_seat(&admin, &ada).await;
    hoard(&hoarder).await;
    assert!(!hoarder.is_closed());
    assert!(
        other.batch_execute(many).await.is_err(),
        "there are locks left"
    );
    hoarder.batch_execute("ROLLBACK").await.unwrap();
    // With it the session ends.
    let guard = tokio::spawn(async move { provisioner.guard().await });
    hoard(&hoarder).await;
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while hoarder.batch_execute("SELECT 1").await.is_ok() {
        assert!(!guard.is_finished(), "the guard gave up");
        assert!(
            tokio::time::Instant::now() < limit,
            "the hoarder's session goes on"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    other.batch_execute(many).await.unwrap();
    assert!(!guard.is_finished());
    guard.abort();
}

#[tokio::test]
async fn an_events_end_leaves_the_server_as_it_was() {
    let cluster = Cluster::start();
    let admin = cluster.admin();
    let password = admin.password.as_deref().unwrap_or_default();
    let server = async || {
        let client = log_in(&admin, &admin.user, password, "postgres")
            .await
            .unwrap();
        let query = "SELECT datname::text FROM pg_database UNION ALL SELECT rolname::text FROM pg_roles ORDER BY 1";
        let rows = client.query(query, &[]).await.unwrap();
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        names
    };
    let before = server().await;
    let provisioner = provisioner(&admin).await;
    let (ada, bo) = (seat("ada"), seat("bo-b"));
    for seat in [&ada, &bo] {
        provisioner.create_seat(seat).await.unwrap();
    }
    provisioner.restore_seat(&ada, Before::Keep).await.unwrap();
    provisioner.lock_out(&bo.name).await.unwrap();
    assert_eq!(
        server().await.len(),
        before.len() + 7,
        "three databases and what was kept, three roles"
    );
    provisioner.remove_event(|_| ()).await.unwrap();
    provisioner.remove_event(|_| ()).await.unwrap();
    assert_eq!(server().await, before);
}
