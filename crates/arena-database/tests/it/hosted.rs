//! A PostgreSQL that somebody else runs: reached encrypted, by an administrator who is no superuser.

use std::time::Duration;

use arena_database::{Before, PostgresAdmin, ProvisionError, Provisioner, Room};

use crate::cluster::Cluster;
use crate::world::{connect, log_in, number, until};
use crate::{file, name, seat};

const SQL: &str =
    "CREATE TABLE hosts AS SELECT n AS id, 'host ' || n AS name FROM generate_series(1, 500) n;";

/// Makes a role as hosted servers give it, and returns how it logs in.
async fn hosting(cluster: &Cluster, rights: &str) -> PostgresAdmin {
    let admin = cluster.admin();
    let password = admin.password.as_deref().unwrap();
    let superuser = log_in(&admin, &admin.user, password, "postgres")
        .await
        .unwrap();
    let role = format!("CREATE ROLE hosting LOGIN {rights} PASSWORD '{password}'");
    superuser.batch_execute(&role).await.unwrap();
    address(cluster, "localhost", "verify-full")
}

fn address(cluster: &Cluster, host: &str, sslmode: &str) -> PostgresAdmin {
    let (uri, roots) = cluster.address(host, "hosting");
    let roots = if sslmode == "verify-full" {
        format!("&sslrootcert={}", roots.display())
    } else {
        String::new()
    };
    PostgresAdmin::parse(&format!("{uri}?sslmode={sslmode}{roots}")).unwrap()
}

#[tokio::test]
async fn seats_are_made_restored_and_dropped_without_a_superuser() {
    let cluster = Cluster::start_encrypted();
    let admin = hosting(&cluster, "CREATEROLE CREATEDB").await;
    let provisioner = connect(&admin, &[file("a.sql", SQL)]).await;
    let ada = seat("ada");
    provisioner.create_seat(&ada).await.unwrap();
    provisioner.create_seat(&ada).await.unwrap();
    let unix = cluster.admin();
    let as_ada = async || log_in(&unix, "ada", &ada.password, "ada").await;
    let client = as_ada().await.unwrap();
    client
        .batch_execute("CREATE TABLE mine (a int); ALTER TABLE hosts ADD COLUMN x text")
        .await
        .unwrap();
    for forbidden in [
        "SET ROLE hosting",
        "CREATE DATABASE other",
        "CREATE SCHEMA own",
        "SET ROLE arena_template",
    ] {
        assert!(
            client.batch_execute(forbidden).await.is_err(),
            "{forbidden}"
        );
    }
    // Restored although sessions are open, and brought back.
    provisioner.restore_seat(&ada, Before::Keep).await.unwrap();
    assert!(client.batch_execute("SELECT 1").await.is_err());
    assert!(
        as_ada()
            .await
            .unwrap()
            .batch_execute("SELECT * FROM mine")
            .await
            .is_err()
    );
    provisioner.bring_back_seat(&ada).await.unwrap();
    as_ada()
        .await
        .unwrap()
        .batch_execute("SELECT * FROM mine")
        .await
        .unwrap();
    provisioner.drop_seat(&ada.name).await.unwrap();
    assert!(provisioner.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn seats_are_bounded_without_a_superuser() {
    let cluster = Cluster::start_encrypted();
    let admin = hosting(&cluster, "CREATEROLE CREATEDB").await;
    let provisioner = connect(&admin, &[file("a.sql", SQL)]).await;
    let ada = seat("ada");
    provisioner.create_seat(&ada).await.unwrap();
    let unix = cluster.admin();
    let as_ada = async || log_in(&unix, "ada", &ada.password, "ada").await;
    let client = as_ada().await.unwrap();
    client
        .batch_execute("CREATE TABLE mine (a int)")
        .await
        .unwrap();
    provisioner.set_postgres_limits(|limits| {
        limits.statement = Duration::from_secs(1);
        limits.size_bytes = 9 * 1024 * 1024;
    });
    let guarding = provisioner.clone();
    let guard = tokio::spawn(async move { guarding.guard().await });
    let sleeper = as_ada().await.unwrap();
    assert!(
        sleeper
            .batch_execute("SET statement_timeout = 0; SELECT pg_sleep(60)")
            .await
            .is_err()
    );
    let client = as_ada().await.unwrap();
    client
        .batch_execute("INSERT INTO mine SELECT generate_series(1, 100000)")
        .await
        .unwrap();
    let room = || {
        provisioner
            .postgres_usage()
            .get(&ada.name)
            .map_or(Room::Free, |usage| usage.room)
    };
    until("its writes are taken", async || room() == Room::Full).await;
    until("it cannot write", async || match as_ada().await {
        Ok(client) => client
            .batch_execute("INSERT INTO mine VALUES (1)")
            .await
            .is_err(),
        Err(_) => false,
    })
    .await;
    provisioner.set_postgres_limits(|limits| limits.size_bytes *= 100);
    until("its writes are given back", async || room() == Room::Free).await;
    as_ada()
        .await
        .unwrap()
        .batch_execute("INSERT INTO mine VALUES (1)")
        .await
        .unwrap();
    guard.abort();
}

#[tokio::test]
async fn an_administrator_without_rights_is_told_which() {
    let cluster = Cluster::start_encrypted();
    let admin = hosting(&cluster, "CREATEROLE").await;
    let refused = Provisioner::connect(&name("arena_template"), None, Some(&admin))
        .await
        .map(drop);
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, ProvisionError::Administrator(_)),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("CREATEDB"));
}

#[tokio::test]
async fn encryption_is_as_strict_as_it_was_asked_for() {
    let cluster = Cluster::start_encrypted();
    let right = hosting(&cluster, "CREATEROLE CREATEDB").await;
    let tried = async |admin: &PostgresAdmin| {
        let template = name("arena_template");
        match Provisioner::connect(&template, None, Some(admin)).await {
            Ok(_) => String::new(),
            Err(error) => chain(&error),
        }
    };
    assert_eq!(tried(&right).await, "");
    assert_eq!(tried(&address(&cluster, "127.0.0.1", "require")).await, "");
    let plain = tried(&address(&cluster, "localhost", "disable")).await;
    assert!(plain.contains("no encryption"), "{plain}");
    let name = tried(&address(&cluster, "127.0.0.1", "verify-full")).await;
    assert!(
        name.contains("certificate") && name.contains("not valid for"),
        "{name}"
    );
    let (uri, _) = cluster.address("localhost", "hosting");
    let public = PostgresAdmin::parse(&format!("{uri}?sslmode=verify-full")).unwrap();
    let unknown = tried(&public).await;
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    // Encrypted indeed: the server says so.
    let provisioner = connect(&right, &[file("a.sql", SQL)]).await;
    let admin = cluster.admin();
    let superuser = log_in(
        &admin,
        &admin.user,
        admin.password.as_deref().unwrap(),
        "postgres",
    )
    .await
    .unwrap();
    let guarding = tokio::spawn(async move { provisioner.guard().await });
    let encrypted = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'hosting' AND s.ssl";
    until("an encrypted connection", async || {
        number(&superuser, encrypted).await > 0
    })
    .await;
    guarding.abort();
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |error| error.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
