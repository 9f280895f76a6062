//! Makes the editor a third of its size by leaving out what no seat uses: assistants' engines,
//! programs for other machines, sources of what was built, maps and type declarations. What stays
//! is what a browser can load or the server needs; `@microsoft/1ds-*` looks unused and is not.

use std::fs;
use std::io;
use std::path::Path;

/// Folders of `lib/vscode` that go.
const FOLDERS: [&str; 13] = [
    "node_modules/@github",
    "node_modules/@microsoft/mxc-sdk/bin",
    "node_modules/@vscode/sqlite3/deps",
    "node_modules/@vscode/sqlite3/src",
    "node_modules/node-pty/third_party",
    "node_modules/node-pty/deps",
    "node_modules/nan",
    "node_modules/node-addon-api",
    "extensions/copilot",
    "extensions/mermaid-markdown-features",
    "extensions/github-authentication",
    "extensions/microsoft-authentication",
    "extensions/ipynb",
];

/// Folders that go wherever they lie below `node_modules`.
const NAMES: [&str; 4] = ["obj.target", ".deps", "test", "tests"];

/// Endings of files that go.
const ENDINGS: [&str; 8] = [
    ".map", ".d.ts", ".d.mts", ".d.cts", ".o", ".a", ".cc", ".md",
];

/// The TypeScript that the editor itself speaks with needs its declarations.
const TYPESCRIPT: &str = "extensions/node_modules/typescript";

pub(super) fn slim(tree: &Path) -> io::Result<()> {
    let vscode = tree.join("node_modules/code-server/lib/vscode");
    for folder in FOLDERS {
        remove(&vscode.join(folder))?;
    }
    let machine = if cfg!(target_arch = "aarch64") {
        "linux-arm64"
    } else {
        "linux-x64"
    };
    for folder in [
        "node_modules/node-pty/prebuilds",
        "node_modules/@vscode/ripgrep-universal/bin",
    ] {
        keep_only(&vscode.join(folder), machine)?;
    }
    let typescript = vscode.join(TYPESCRIPT);
    sweep(&vscode, &typescript, false)
}

/// Removes the folders of other machines, if this is a folder of machines at all.
fn keep_only(folder: &Path, machine: &str) -> io::Result<()> {
    if !folder.join(machine).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() != machine {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn sweep(folder: &Path, spared: &Path, is_dependency: bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (
            entry.path(),
            entry.file_name().to_string_lossy().into_owned(),
        );
        if path == spared {
            continue;
        }
        if !entry.file_type()?.is_dir() {
            if ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                fs::remove_file(path)?;
            }
        } else if is_dependency && NAMES.contains(&name.as_str()) {
            remove(&path)?;
        } else {
            sweep(&path, spared, is_dependency || name == "node_modules")?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
