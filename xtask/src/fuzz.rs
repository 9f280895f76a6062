//! `cargo xtask fuzz`: lets the fuzzers of `fuzz/` run. They are built by the
//! toolchain that builds everything, with LLVM's coverage pass for libFuzzer, so
//! that neither a nightly compiler nor another tool is needed. What they have
//! found is kept in `fuzz/corpus`, and what breaks something in `fuzz/artifacts`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::{cargo, root, step};

/// What `cargo fuzz` sets, without the sanitizer, which needs a nightly compiler.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks";
const DEFAULT_TIME: Duration = Duration::from_secs(60);
/// More memory than this is a fault of what reads the input.
const MEMORY_MIB: u32 = 1024;
/// An input that takes longer is a fault.
const INPUT_SECONDS: u32 = 10;

/// Runs one fuzzer, or each after the other, for so many seconds.
///
/// # Errors
/// When a fuzzer finds something; its last lines name the file that holds the input.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let mut names = Vec::new();
    let mut time = DEFAULT_TIME;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if *argument == "--seconds" {
            let seconds = rest.next().context("--seconds needs a number")?;
            time = Duration::from_secs(seconds.parse().context("--seconds needs a number")?);
        } else {
            names.push((*argument).to_owned());
        }
    }
    let known = targets()?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!(
            "there is no fuzzer {unknown}; there are {}",
            known.join(", ")
        );
    }
    each(if names.is_empty() { &known } else { &names }, time)
}

/// Runs these fuzzers.
pub(crate) fn each(names: &[String], time: Duration) -> anyhow::Result<()> {
    let folder = root().join("fuzz");
    // With a triple of its own a build leaves its build scripts alone.
    let triple = host()?;
    step(
        "build the fuzzers",
        cargo()
            .current_dir(&folder)
            .env("RUSTFLAGS", COVERAGE)
            .args(["build", "--release", "--quiet", "--target", &triple]),
    )?;
    for name in names {
        let (corpus, artifacts) = (
            folder.join("corpus").join(name),
            folder.join("artifacts").join(name),
        );
        for made in [&corpus, &artifacts] {
            fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        let program = folder
            .join("target")
            .join(&triple)
            .join("release")
            .join(name);
        let mut command = Command::new(program);
        command.args([
            format!("-max_total_time={}", time.as_secs()),
            format!("-rss_limit_mb={MEMORY_MIB}"),
            format!("-timeout={INPUT_SECONDS}"),
            format!("-artifact_prefix={}/", artifacts.display()),
            "-print_final_stats=1".to_owned(),
            "-verbosity=0".to_owned(),
        ]);
        step(&format!("fuzz {name}"), command.arg(&corpus))?;
    }
    Ok(())
}

/// The triple of this machine, as the compiler says it.
fn host() -> anyhow::Result<String> {
    let said = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("cannot run rustc")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .context("rustc does not say its host")
}

/// Names the fuzzers by their files.
pub(crate) fn targets() -> anyhow::Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let listed =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in listed {
        let path = entry.context("cannot read the fuzzers' folder")?.path();
        names.extend(
            path.file_stem()
                .and_then(|name| name.to_str())
                .map(str::to_owned),
        );
    }
    names.sort();
    Ok(names)
}
