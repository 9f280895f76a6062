//! What the editor finds when it starts: its settings, and our extension that
//! opens the first file and the terminal named *server*. Settings that the
//! participant has changed stay as they are.

use std::io;
use std::path::{Path, PathBuf};

use arena_workshop::plan::SeatSettings;
use serde_json::{Map, Value, json};

use crate::prepare::{read_small, replace};

const PACKAGE: &str = include_str!("../extension/package.json");
const CODE: &str = include_str!("../extension/extension.js");
const ID: &str = "arena.arena-seat";
const FOLDER: &str = "arena.arena-seat-0.1.0";
const VERSION: &str = "0.1.0";

/// The editor's data folder, at its usual place.
pub(crate) fn user_data(settings: &SeatSettings) -> PathBuf {
    Path::new(&settings.home).join(".local/share/code-server")
}

/// The folder of extensions.
pub(crate) fn folder(settings: &SeatSettings) -> PathBuf {
    user_data(settings).join("extensions")
}

/// Writes settings and extension.
pub(crate) fn write(settings: &SeatSettings) -> io::Result<()> {
    let ours = folder(settings).join(FOLDER);
    std::fs::create_dir_all(&ours)?;
    std::fs::create_dir_all(user_data(settings).join("User"))?;
    for (name, text) in [("package.json", PACKAGE), ("extension.js", CODE)] {
        if read_small(&ours.join(name)).ok().as_deref() != Some(text) {
            replace(&ours.join(name), text.as_bytes())?;
        }
    }
    registered(settings)?;
    user_settings(settings)
}

/// Lists the extension where the editor looks for installed ones.
fn registered(settings: &SeatSettings) -> io::Result<()> {
    let path = folder(settings).join("extensions.json");
    let before = read_small(&path).unwrap_or_default();
    let mut list: Vec<Value> = serde_json::from_str(&before).unwrap_or_default();
    list.retain(|entry| entry["identifier"]["id"] != ID);
    list.push(json!({
        "identifier": { "id": ID },
        "version": VERSION,
        "location": { "$mid": 1, "path": folder(settings).join(FOLDER), "scheme": "file" },
        "relativeLocation": FOLDER,
        "metadata": { "pinned": true, "source": "vsix", "installedTimestamp": 0 },
    }));
    let after = Value::from(list).to_string();
    if after == before {
        Ok(())
    } else {
        replace(&path, after.as_bytes())
    }
}

/// Adds our settings where the participant has none of their own.
fn user_settings(settings: &SeatSettings) -> io::Result<()> {
    let path = user_data(settings).join("User/settings.json");
    let before = read_small(&path).unwrap_or_default();
    let parsed = if before.trim().is_empty() {
        Ok(Map::new())
    } else {
        serde_json::from_str(&before)
    };
    // With comments in it, it is the participant's own work: leave it.
    let Ok(mut merged) = parsed else {
        return Ok(());
    };
    for (key, value) in defaults(settings) {
        if OURS.contains(&key.as_str()) || !merged.contains_key(&key) {
            merged.insert(key, value);
        }
    }
    let after = serde_json::to_string_pretty(&merged).map_err(io::Error::other)? + "\n";
    if after == before {
        Ok(())
    } else {
        replace(&path, after.as_bytes())
    }
}

const TERMINAL_ENVIRONMENT: &str = "terminal.integrated.env.linux";
/// Settings that are brought up to date: a password may have changed.
const OURS: [&str; 2] = [TERMINAL_ENVIRONMENT, "mdb.presetConnections"];

/// MongoDB's extension, where it is installed, knows the seat's database from the start.
fn connections(settings: &SeatSettings) -> Option<(String, Value)> {
    let uri = settings.environment.get("MONGODB_URI")?;
    let own = json!([{ "name": "My database", "connectionString": uri }]);
    Some(("mdb.presetConnections".to_owned(), own))
}

fn defaults(settings: &SeatSettings) -> Map<String, Value> {
    let own = settings.editor_environment.keys().map(|name| {
        let outside = settings.environment.get(name).cloned();
        (name.clone(), outside.map_or(Value::Null, Value::from))
    });
    let terminal_environment: Map<String, Value> = own.collect();
    let fixed = json!({
        // A browser's editor saves by itself after a second, which would grade half-typed code.
        "files.autoSave": "off",
        "files.watcherExclude": {
            "**/.git/objects/**": true, "**/.git/subtree-cache/**": true, "**/node_modules/**": true,
            "**/out/**": true, "**/dist/**": true
        },
        // Light or dark as the participant's own system, like every page of ours.
        "window.autoDetectColorScheme": true,
        "chat.disableAIFeatures": true,
        "telemetry.telemetryLevel": "off",
        "update.mode": "none",
        "update.showReleaseNotes": false,
        "extensions.autoUpdate": false,
        "extensions.autoCheckUpdates": false,
        "extensions.ignoreRecommendations": true,
        "typescript.disableAutomaticTypeAcquisition": true,
        "npm.fetchOnlinePackageInfo": false,
        "security.workspace.trust.enabled": false,
        "workbench.startupEditor": "none",
        "workbench.tips.enabled": false,
        "workbench.welcomePage.walkthroughs.openOnInstall": false,
        "workbench.secondarySideBar.defaultVisibility": "hidden",
        "workbench.enableExperiments": false,
        "workbench.settings.enableNaturalLanguageSearch": false,
        "git.autofetch": false,
        "git.openRepositoryInParentFolders": "never",
        "remote.autoForwardPorts": false,
        // Else a reload opens a shell beside the terminal named server.
        "terminal.integrated.hideOnStartup": "whenEmpty",
        "window.title": format!("${{dirty}}${{activeEditorShort}} – {}", settings.display_name),
        TERMINAL_ENVIRONMENT: terminal_environment,
    });
    match fixed {
        Value::Object(mut map) => {
            map.extend(connections(settings));
            map
        }
        _ => unreachable!("written as an object above"),
    }
}
