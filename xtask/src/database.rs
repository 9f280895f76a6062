//! A MongoDB for tests that need one whose administrator may make users: the
//! built-in database, started by Arena's own executable for one run.

use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// The engine gets ten seconds to stop, its front the rest.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// A running database; stopped and removed when dropped.
pub(crate) struct Database {
    server: Child,
    folder: PathBuf,
    pub(crate) uri: String,
}

impl Database {
    /// Starts it with this engine and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started, or ends before it is ready.
    pub(crate) fn start(arena: &Path, tree: &Path) -> anyhow::Result<Self> {
        // A socket's path is short; the server may run as another user and must reach its own folder below.
        let folder = std::env::temp_dir().join(format!("arena-xtask-{}", std::process::id()));
        DirBuilder::new()
            .mode(0o755)
            .create(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        // However this chore ends, the server ends too.
        let mut server = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(arena)
            .args(["serve", "mongo", "--listen", "127.0.0.1:0", "--tree"])
            .arg(tree)
            .arg("--state")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start arena serve mongo")?;
        let stdout = server.stdout.take().context("its output is piped")?;
        let mut database = Self {
            server,
            folder,
            uri: String::new(),
        };
        BufReader::new(stdout)
            .read_line(&mut database.uri)
            .context("cannot read what arena serve mongo says")?;
        database.uri.truncate(database.uri.trim_end().len());
        if database.uri.is_empty() {
            bail!("arena serve mongo ended before it was ready");
        }
        Ok(database)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-TERM", &self.server.id().to_string()])
            .status();
        let limit = Instant::now() + STOP_LIMIT;
        while Instant::now() < limit && matches!(self.server.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
