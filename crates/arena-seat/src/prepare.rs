//! Files that must be there before anything starts: folders for sockets and the
//! editor, the apps' `.env` files, and a repository with one commit, so that
//! `git diff` and `git stash` work and no answer is in the log. What the
//! participant changed is kept: only our own lines and keys are brought up to date.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use arena_supervisor::{ChildSpec, Restart, State};
use arena_workshop::plan::{AppPlan, SeatSettings};
use tokio::sync::watch;

use crate::agent::Agent;
use crate::{Places, ServeError, apps, extension};

/// A fresh repository; names are the participant's own business later.
const FIRST_COMMIT: &str = "set -e
umask 022
git init --quiet --initial-branch=main .
printf '%s\\n' node_modules/ .env '*.log' >> .git/info/exclude
git add --all
git -c user.name=Arena -c user.email=arena@localhost -c commit.gpgsign=false commit --quiet --allow-empty --message 'Start of the workshop'
";
/// `.env` files are small; larger ones are not touched.
const ENV_FILE_BYTES: u64 = 256 * 1024;

/// Writes all files.
pub(crate) fn files(settings: &SeatSettings, places: &Places) -> Result<(), ServeError> {
    let prepared = |path: &Path, outcome: io::Result<()>| {
        outcome.map_err(|source| ServeError::Prepare {
            path: path.display().to_string(),
            source,
        })
    };
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true).mode(0o700);
    prepared(&places.run, folder.create(&places.run))?;
    for app in settings.apps.iter().filter(|app| !app.env_file.is_empty()) {
        let path = Path::new(&settings.work).join(&app.folder).join(".env");
        prepared(&path, env_file(&path, app))?;
    }
    if !settings.editor.is_empty() {
        let path = extension::user_data(settings);
        prepared(&path, extension::write(settings))?;
    }
    Ok(())
}

/// Brings our lines of a `.env` file up to date and keeps all others.
fn env_file(path: &Path, app: &AppPlan) -> io::Result<()> {
    let before = read_small(path)?;
    let ours = |line: &&str| {
        let name = line.split('=').next().unwrap_or_default().trim();
        !app.env_file
            .contains_key(name.trim_start_matches("export ").trim())
    };
    let mut lines: Vec<String> = before.lines().filter(ours).map(str::to_owned).collect();
    lines.extend(
        app.env_file
            .iter()
            .map(|(name, value)| format!("{name}={}", quoted(value))),
    );
    let after = lines.join("\n") + "\n";
    if after == before {
        Ok(())
    } else {
        replace(path, after.as_bytes())
    }
}

/// Quotes a value where dotenv readers would cut it.
fn quoted(value: &str) -> String {
    if value.contains(['#', ' ', '\'', '`', '\n']) {
        format!("\"{}\"", value.replace('\n', "\\n"))
    } else {
        value.to_owned()
    }
}

/// Reads a small text file; a missing one is empty.
pub(crate) fn read_small(path: &Path) -> io::Result<String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.is_file() || metadata.len() > ENV_FILE_BYTES => {
            Err(io::Error::other("not a small file"))
        }
        Ok(_) => std::fs::read_to_string(path),
    }
}

/// Writes a file anew beside the old one, then takes its place; others never see half of it.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".arena-new");
    let _ = std::fs::remove_file(&name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&name)?;
    file.write_all(bytes)?;
    std::fs::rename(&name, path)
}

/// Makes the repository if there is none, then says that all is prepared.
pub(crate) async fn repository(agent: Arc<Agent>, prepared: watch::Sender<bool>) -> &'static str {
    let work = Path::new(&agent.settings.work);
    if work.join(".git").symlink_metadata().is_err() {
        let mut environment = apps::environment(&agent.settings);
        environment.insert("GIT_CONFIG_GLOBAL".into(), "/dev/null".into());
        environment.insert("GIT_CONFIG_NOSYSTEM".into(), "1".into());
        let child = agent.supervisor.start(ChildSpec {
            args: vec!["-c".into(), FIRST_COMMIT.into()],
            environment,
            directory: work.to_owned(),
            restart: Restart::never(),
            ..ChildSpec::new("git", "/bin/sh")
        });
        let mut changes = child.changes();
        let ended = changes.wait_for(|status| {
            matches!(
                status.state,
                State::Ended(..) | State::Failed(_) | State::Stopped
            )
        });
        let end = ended.await.map(|status| status.state.clone());
        if let Ok(State::Ended(Some(1..) | None, message) | State::Failed(message)) = end {
            // Without a repository everything but `git` works.
            tracing::warn!(seat.id = %agent.settings.seat, "cannot make the seat's repository: {message}");
        }
        child.stop().await;
    }
    prepared.send_replace(true);
    agent.shutdown.cancelled().await;
    "preparation"
}
