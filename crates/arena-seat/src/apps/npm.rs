//! What `npm start` would run, without npm: Node runs a package's scripts itself, and npm between
//! them costs half a second of a core and 50 MB in every seat. The variables that npm sets for a
//! script are set here; what only npm can do is left to npm.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value as Json;

/// A command in place of `npm start`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) program: &'static str,
    pub(super) args: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
}

/// Runs `prestart` first, as npm does; a failure of it is a failure of the start.
const WITH_PRESTART: &str =
    "npm_lifecycle_event=prestart node --run prestart; exec node --run start";

/// Returns what `npm start` means in a folder; `None` where npm itself must see to it.
pub(super) fn start(folder: &Path) -> Option<Start> {
    let text = fs::read_to_string(folder.join("package.json")).ok()?;
    let package: Json = serde_json::from_str(&text).ok()?;
    let scripts = &package["scripts"];
    // Runs after the app has ended by itself, which a server never does.
    if scripts["poststart"].is_string() {
        return None;
    }
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let (program, args) = match (scripts["prestart"].as_str(), scripts["start"].as_str()) {
        (None, Some(_)) => ("node", words(&["--run", "start"])),
        (Some(_), Some(_)) => ("/bin/sh", words(&["-ec", WITH_PRESTART])),
        (None, None) if folder.join("server.js").is_file() => ("node", words(&["server.js"])),
        _ => return None,
    };
    Some(Start {
        program,
        args,
        environment: variables(folder, &package),
    })
}

/// The variables that scripts read most: who they are, and what their package says.
fn variables(folder: &Path, package: &Json) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from(
        [
            ("npm_command", "start".to_owned()),
            ("npm_lifecycle_event", "start".to_owned()),
            (
                "npm_package_json",
                folder.join("package.json").display().to_string(),
            ),
            ("INIT_CWD", folder.display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let script = package["scripts"]["start"].as_str();
    let texts = [
        ("npm_lifecycle_script", script),
        ("npm_package_name", package["name"].as_str()),
        ("npm_package_version", package["version"].as_str()),
    ];
    for (name, value) in texts {
        variables.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
    let config = package["config"].as_object().into_iter().flatten();
    variables.extend(config.filter_map(|(key, value)| {
        let value = match value {
            Json::String(text) => text.clone(),
            Json::Number(_) | Json::Bool(_) => value.to_string(),
            _ => return None,
        };
        // A variable's name cannot hold these, and npm does not make one of them either.
        let is_name = !key.is_empty() && !key.contains(['=', '\0']);
        is_name.then(|| (format!("npm_package_config_{key}"), value))
    }));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(package: &str) -> Option<Start> {
        let folder = tempfile::TempDir::new().unwrap();
        fs::write(folder.path().join("package.json"), package).unwrap();
        start(folder.path())
    }

    #[test]
    fn a_plain_script_is_run_by_node_with_npms_variables() {
        let start = of(
            r#"{"name":"homes","version":"1.2.3","config":{"port":8080},"scripts":{"start":"node x.js"}}"#,
        )
        .unwrap();
        assert_eq!(
            (start.program, &*start.args),
            ("node", &["--run".to_owned(), "start".to_owned()][..])
        );
        for (name, value) in [
            ("npm_lifecycle_event", "start"),
            ("npm_lifecycle_script", "node x.js"),
            ("npm_package_name", "homes"),
            ("npm_package_version", "1.2.3"),
            ("npm_package_config_port", "8080"),
        ] {
            assert_eq!(start.environment[name], value);
        }
    }

    #[test]
    fn scripts_around_it_are_not_forgotten() {
        let before = of(r#"{"scripts":{"prestart":"make","start":"node x.js"}}"#).unwrap();
        assert_eq!(before.program, "/bin/sh");
        assert_eq!(of(r#"{"scripts":{"start":"x","poststart":"y"}}"#), None);
        assert_eq!(of(r#"{"scripts":{}}"#), None);
        assert_eq!(of("not json"), None);
    }
}
