//! MongoDB's own driver tests, as pymongo's source carries them, run against the
//! front. They take minutes, so `cargo xtask test --long` names their folder in
//! `ARENA_TEST_PYMONGO`; without it nothing runs. Tests that fail must be listed in
//! `suites.csv` with the reason, and those listed must fail.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use tokio::process::Command;

use crate::world::{PASSWORD, World};

/// `test,reason` of every test that the front fails.
const DIFFERENCES: &str = include_str!("suites.csv");

const FILES: &[&str] = &[
    "test_crud_unified",
    "test_sessions_unified",
    "test_transactions_unified",
    "test_retryable_writes_unified",
    "test_collection_management",
    "test_run_command",
    "test_bulk",
    "test_causal_consistency",
    "test_collation",
    "test_collection",
    "test_command_logging",
    "test_command_monitoring",
    "test_crud_v1",
    "test_cursor",
    "test_database",
    "test_transactions",
    "test_versioned_api_integration",
    "test_write_concern",
];

fn folder(variable: &str) -> PathBuf {
    let found = env::var_os(variable).map(PathBuf::from);
    found.filter(|path| path.is_dir()).unwrap_or_else(|| {
        panic!("set {variable}, or run cargo xtask test, which installs what it names")
    })
}

/// Runs test files and returns what became of each test that ran.
async fn run(world: &World, files: &[&str]) -> BTreeMap<String, String> {
    let (suite, packages) = (
        folder("ARENA_TEST_PYMONGO"),
        folder("ARENA_TEST_PYTHON_PACKAGES"),
    );
    let work = tempfile::tempdir().unwrap();
    let report = work.path().join("report.xml");
    let (host, port) = world.address.split_once(':').unwrap();
    let files = files
        .iter()
        .map(|file| format!("test/{file}.py"))
        .filter(|file| suite.join(file).exists());
    let mut command = Command::new("python3");
    command
        .current_dir(&suite)
        .args([
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "addopts=",
            "-m",
            "default",
        ])
        .arg(format!("--junitxml={}", report.display()))
        .args(files)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOME", work.path())
        .env("DB_IP", host)
        .env("DB_PORT", port)
        .env("DB_USER", "root")
        .env("DB_PASSWORD", PASSWORD);
    let output = command.output().await.unwrap();
    let xml = fs::read_to_string(&report)
        .unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(&output.stdout)));
    outcomes(&xml)
}

/// Reads `<testcase classname="…" name="…"><failure message="…"`; skipped tests are left out.
fn outcomes(xml: &str) -> BTreeMap<String, String> {
    let mut outcomes = BTreeMap::new();
    for case in xml.split("<testcase ").skip(1) {
        let attribute = |text: &str, name: &str| {
            let rest = text.split_once(&format!("{name}=\""))?.1;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let class = attribute(case, "classname").unwrap_or_default();
        let class = class.rsplit('.').next().unwrap_or_default();
        let name = attribute(case, " name").unwrap_or_default();
        let outcome = if case.contains("<skipped") {
            continue;
        } else if case.contains("<failure") || case.contains("<error") {
            attribute(case, "message").unwrap_or_else(|| "failed".to_owned())
        } else {
            String::new()
        };
        outcomes.insert(format!("{class}.{name}"), outcome);
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drivers_own_tests_pass_but_for_those_that_are_listed() {
    if env::var_os("ARENA_TEST_PYMONGO").is_none() {
        eprintln!("runs with cargo xtask test --long");
        return;
    }
    let world = World::start().await;
    let outcomes = run(&world, FILES).await;
    if let Some(path) = env::var_os("ARENA_TEST_SUITES_REPORT") {
        let lines = outcomes
            .iter()
            .map(|(test, outcome)| format!("{test}\t{outcome}\n"));
        fs::write(Path::new(&path), lines.collect::<String>()).unwrap();
    }
    let failed: BTreeSet<&str> = outcomes
        .iter()
        .filter(|(_, outcome)| !outcome.is_empty())
        .map(|(test, _)| test.as_str())
        .collect();
    let listed: BTreeSet<&str> = DIFFERENCES
        .lines()
        .skip(1)
        .filter_map(|line| line.split(',').next())
        .collect();
    let new: Vec<_> = failed
        .difference(&listed)
        .map(|test| (test, &outcomes[*test]))
        .collect();
    assert!(new.is_empty(), "fail and are not listed: {new:#?}");
    let cured: Vec<_> = listed.difference(&failed).collect();
    assert!(cured.is_empty(), "are listed and pass: {cured:#?}");
    assert!(outcomes.len() > 300, "only {} tests ran", outcomes.len());
}
