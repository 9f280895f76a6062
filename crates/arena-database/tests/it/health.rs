//! A server that does not answer is told, and one that answers again too.

use std::time::{Duration, Instant};

use arena_database::Provisioner;

use crate::cluster::Cluster;
use crate::name;

/// Sends the server a signal: `STOP` makes it deaf, `CONT` wakes it.
fn signal(cluster: &Cluster, name: &str) {
    let file = std::path::Path::new(&cluster.admin().host).join("data/postmaster.pid");
    let id = std::fs::read_to_string(file).unwrap();
    let id = id.lines().next().unwrap();
    let sent = std::process::Command::new("kill")
        .args([&format!("-{name}"), id])
        .status();
    assert!(sent.unwrap().success());
}

#[tokio::test]
async fn a_deaf_postgresql_is_told_within_seconds_and_its_return_too() {
    let cluster = Cluster::start();
    let provisioner = Provisioner::connect(&name("template_health"), None, Some(&cluster.admin()))
        .await
        .unwrap();
    provisioner.health().await.unwrap();
    signal(&cluster, "STOP");
    let begun = Instant::now();
    let told = provisioner.health().await;
    let waited = begun.elapsed();
    signal(&cluster, "CONT");
    assert!(told.is_err());
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    provisioner.health().await.unwrap();
}
