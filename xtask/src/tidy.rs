//! Rules of the repository that a compiler does not know. Each rule collects
//! its findings with advice; one run shows all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::root;

/// Layers from the top. A crate may use crates of lower layers only (ARCHITECTURE.md, "Arrows").
const LAYERS: &[&[&str]] = &[
    &["arena"],
    &[
        "arena-portal",
        "arena-gateway",
        "arena-mongo",
        "arena-seat",
        "arena-local",
    ],
    &["arena-grader"],
    &[
        "arena-database",
        "arena-store",
        "arena-site",
        "arena-supervisor",
    ],
    &["arena-workshop", "arena-data"],
];

/// What the model may never depend on: it neither waits nor talks to anything.
const FORBIDDEN_IN_MODEL: &[&str] = &[
    "tokio",
    "axum",
    "hyper",
    "mongodb",
    "tokio-postgres",
    "rusqlite",
    "rustix",
];

/// What is built: other platforms' dependencies are not ours.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Lines of a Rust file. Longer files are several things.
const FILE_LINES_MAX: usize = 600;

/// Runs every rule.
///
/// # Errors
/// When there is a finding; all of them are printed first.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut findings = Vec::new();
    arrows(&mut findings)?;
    versions(&mut findings)?;
    let files = tracked_files()?;
    for file in &files {
        let Ok(text) = fs::read_to_string(root().join(file)) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => rust_file(file, &text, &mut findings),
            Some("md") => links(file, &text, &mut findings),
            _ => {}
        }
    }
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    eprintln!("tidy: {} files, no findings", files.len());
    Ok(())
}

fn tracked_files() -> anyhow::Result<Vec<PathBuf>> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .context("cannot list the repository's files with git")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(PathBuf::from)
        .collect())
}

/// Two incompatible versions of one crate are built and shipped twice: `deny.toml` names those that
/// are not ours to end.
fn versions(findings: &mut Vec<String>) -> anyhow::Result<()> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(
            ["--filter-platform", PLATFORM, "--locked"]
                .map(str::to_owned)
                .to_vec(),
        )
        .exec()
        .context("cannot read cargo metadata")?;
    let excused = fs::read_to_string(root().join("deny.toml")).context("cannot read deny.toml")?;
    let resolved: BTreeSet<_> = metadata
        .resolve
        .iter()
        .flat_map(|resolve| &resolve.nodes)
        .map(|node| &node.id)
        .collect();
    let mut found: BTreeMap<&str, BTreeMap<_, _>> = BTreeMap::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| resolved.contains(&package.id))
    {
        let version = &package.version;
        // Before 1.0.0 the second number says what is compatible.
        let line = if version.major == 0 {
            (0, version.minor)
        } else {
            (version.major, 0)
        };
        found
            .entry(package.name.as_str())
            .or_default()
            .insert(line, version);
    }
    for (name, lines) in found.iter().filter(|(_, lines)| lines.len() > 1) {
        // The newest is the one that all should use.
        for version in lines.values().rev().skip(1) {
            let named = format!("\"{name}@{version}\"");
            if !excused.contains(&named) {
                findings.push(format!("{name} {version} is built beside a newer one: `cargo tree -i {name}@{version}` says for whom; end it, or name it in deny.toml with the reason"));
            }
        }
    }
    Ok(())
}

fn arrows(findings: &mut Vec<String>) -> anyhow::Result<()> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cannot read cargo metadata")?;
    let layer: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(number, names)| names.iter().map(move |name| (*name, number)))
        .collect();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        if name == "xtask" {
            continue;
        }
        let Some(own) = layer.get(name) else {
            findings.push(format!(
                "crate {name} is in no layer: add it to LAYERS and to ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Normal)
        {
            if let Some(other) = layer.get(dependency.name.as_str())
                && other <= own
            {
                findings.push(format!("{name} depends on {}: arrows only point down; move what is shared into a lower crate", dependency.name));
            }
            if matches!(name, "arena-workshop" | "arena-data")
                && FORBIDDEN_IN_MODEL.contains(&dependency.name.as_str())
            {
                findings.push(format!(
                    "arena-workshop depends on {}: the model is pure",
                    dependency.name
                ));
            }
        }
    }
    Ok(())
}

fn rust_file(file: &Path, text: &str, findings: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(format!(
            "{}: {lines} lines, at most {FILE_LINES_MAX}: split it by topic",
            file.display()
        ));
    }
    if !text.starts_with("//!") {
        findings.push(format!(
            "{}:1: begin with `//!`: what the module owns and refuses to know",
            file.display()
        ));
    }
    let own = file.ends_with("xtask/src/tidy.rs");
    for (number, line) in text.lines().enumerate() {
        for word in [
            "#[ignore",
            "#[allow(",
            "#![allow(",
            "todo!(",
            "unimplemented!(",
        ] {
            if !own && line.trim_start().starts_with(word) {
                findings.push(format!(
                    "{}:{}: {word} is not used here (STYLE.md)",
                    file.display(),
                    number + 1
                ));
            }
        }
    }
}

/// Finds links of Markdown files of ours that lead to no file. A workshop's own pages are checked by `arena check`.
fn links(file: &Path, text: &str, findings: &mut Vec<String>) {
    if file.components().any(|part| part.as_os_str() == "docs") && file.starts_with("examples") {
        return;
    }
    let folder = root()
        .join(file)
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default();
    for (number, line) in text.lines().enumerate() {
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            if !folder.join(path).exists() {
                findings.push(format!(
                    "{}:{}: link to {path}, which is not there",
                    file.display(),
                    number + 1
                ));
            }
        }
    }
}
