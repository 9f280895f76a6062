//! The clients that participants use: npm's `mongodb` and `mongosh`, run by Node.
//! `ARENA_TEST_NODE` is Node's executable (else `node` on PATH) and
//! `ARENA_TEST_NODE_MODULES` a `node_modules` folder with both packages.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Output;

use tokio::process::Command;

use crate::world::World;

fn modules() -> PathBuf {
    let found = env::var_os("ARENA_TEST_NODE_MODULES")
        .map(PathBuf::from)
        .filter(|path| path.is_dir());
    found.unwrap_or_else(|| {
        panic!("set ARENA_TEST_NODE_MODULES to a node_modules folder with mongodb@6 and mongosh; cargo xtask test installs it")
    })
}

async fn node(script: &Path, arguments: &[&str]) -> Output {
    let node = env::var_os("ARENA_TEST_NODE").unwrap_or_else(|| "node".into());
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(node);
    command
        .arg(script)
        .args(arguments)
        .env("HOME", home.path())
        .env("NODE_PATH", modules())
        .kill_on_drop(true);
    command.output().await.unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_driver_works_as_the_samples_use_it() {
    let world = World::start().await;
    world.seat("ada");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/driver.js");
    let output = node(&script, &[&world.uri("ada")]).await;
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("all good"), "{}", said(&output));
}

/// Runs one of the scripts in `clients/` as a seat's app.
async fn runs(script: &str, library: &str) {
    let world = World::start().await;
    world.seat("ada");
    runs_at(&world.uri("ada"), script, library).await;
}

/// Runs one of the scripts in `clients/`, with what it should know besides.
pub(crate) async fn runs_at(uri: &str, script: &str, library: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients");
    let output = if script.ends_with(".py") {
        let packages = env::var_os("ARENA_TEST_PYTHON_PACKAGES");
        let mut command = Command::new("python3");
        command
            .arg(folder.join(script))
            .arg(uri)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONPATH", packages.expect("cargo xtask test sets it"));
        command.output().await.unwrap()
    } else {
        node(&folder.join(script), &[uri, library]).await
    };
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("all good"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_driver_6_runs_transactions_and_bulk_writes() {
    runs("transfers.js", "mongodb").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_driver_7_runs_transactions_and_bulk_writes() {
    runs("transfers.js", "mongodb7").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongoose_runs_its_models() {
    runs("models.js", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodbs_mcp_server_runs_its_tools() {
    runs("tools.js", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pymongo_runs_what_an_app_does() {
    runs("driver.py", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_opens_and_answers() {
    let world = World::start().await;
    world.seat("ada");
    let uri = world.uri("ada").replace("/?", "/ada?");
    let shell = modules().join("mongosh/bin/mongosh.js");
    let script = "db.notes.insertOne({_id: 1, t: 'hello from the shell'}); print(db.notes.findOne().t); \
        print(db.notes.createIndex({t: 1})); print(JSON.stringify(db.notes.getIndexes())); show = db.getCollectionNames(); print(show); \
        print(db.notes.find({t: 'x'}).explain('executionStats').queryPlanner.winningPlan.stage); \
        for (let i = 0; i < 300; i++) db.many.insertOne({i}); print(db.many.find().toArray().length); print(db.getMongo().getDBNames())";
    let output = node(
        &shell,
        &[
            &uri,
            "--quiet",
            "--authenticationDatabase",
            "admin",
            "--eval",
            script,
        ],
    )
    .await;
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    for expected in ["hello from the shell", "t_1", "_id_", "FETCH", "300", "ada"] {
        assert!(said.contains(expected), "{expected} not in:\n{said}");
    }
}
