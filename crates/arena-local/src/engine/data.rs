//! The data directory of the built-in database and how its server starts. A
//! prepared directory (extensions, the front's role) is made once as a template
//! and copied, because copying takes a thirtieth of making. The server listens on
//! one unix socket that only this user may open, and trusts the operating
//! system's word for who connects.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs, io};

use serde::{Deserialize, Serialize};

use super::server::{self, OsUser, PrepareError, ServerPlace, files_at, remove_if_there};
use super::tree::{EngineTree, Invocation};

/// The PostgreSQL role of the front: DocumentDB's rights, no superuser.
pub const FRONT_ROLE: &str = "arena_front";

/// The cluster's superuser; only maintenance by hand uses it.
const OWNER_ROLE: &str = "arena";
const MADE_BY: &str = "arena-made-by.json";

const TEMPLATE_SQL: &str = "\
CREATE EXTENSION documentdb CASCADE;
CREATE ROLE arena_front LOGIN;
GRANT documentdb_admin_role TO arena_front;
CREATE SCHEMA arena_front AUTHORIZATION arena_front;
SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname LIKE 'documentdb_index_build_task_%';
";

/// Which versions made a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct MadeBy {
    postgres: String,
    documentdb: String,
}

impl fmt::Display for MadeBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PostgreSQL {} with DocumentDB {}",
            self.postgres, self.documentdb
        )
    }
}

/// The built-in database's server: a tree, a data directory and a socket folder.
#[derive(Debug, Clone)]
pub struct Engine {
    tree: EngineTree,
    template: PathBuf,
    place: ServerPlace,
}

impl Engine {
    /// Describes an engine whose template data directory is kept below `cache` (per version), whose data lives
    /// in `folder` and whose socket appears in `sockets` (a short path). Nothing is touched yet.
    pub fn new(tree: EngineTree, cache: &Path, folder: &Path, sockets: &Path) -> Self {
        let template = cache.join("engine").join(format!("template-{}", tree.id()));
        Self {
            tree,
            template,
            place: ServerPlace::new(folder, sockets),
        }
    }

    /// Runs the server as another user of the operating system; only root can ask for this.
    #[must_use]
    pub fn run_as(mut self, user: OsUser) -> Self {
        // The template belongs to the user who made it and nobody else may read it.
        self.template
            .set_file_name(format!("template-{}-{}", self.tree.id(), user.0));
        self.place.run_as(user);
        self
    }

    /// Returns the folder where the socket appears: the host in a PostgreSQL connection string.
    pub fn socket_dir(&self) -> &Path {
        self.place.sockets()
    }

    /// Returns the socket itself; it exists once the server accepts connections.
    pub fn socket(&self) -> PathBuf {
        self.place.sockets().join(".s.PGSQL.5432")
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.place.data()
    }

    /// Returns how to start the server as a direct child. Stop it with SIGINT.
    pub fn invocation(&self) -> Invocation {
        self.place.wrapped(
            self.tree
                .invocation("postgres")
                .args([OsString::from("-D"), self.data_dir().into()]),
        )
    }

    /// Returns a `psql` as the cluster's owner, for maintenance and tests.
    pub fn psql(&self) -> Command {
        let mut command = self.tree.command("psql");
        command.args([
            "--no-psqlrc",
            "--quiet",
            "--username",
            OWNER_ROLE,
            "--dbname",
            "postgres",
            "--host",
        ]);
        command.arg(self.place.sockets());
        command
    }

    /// Ends a server left from before, makes the data directory if there is none, and writes its
    /// settings. Repeatable; blocks for up to a few seconds the first time.
    ///
    /// # Errors
    /// When this runs as root without another user to run as, when a folder cannot be written, when the
    /// tree's programs fail, or when the data was made by other versions.
    pub fn prepare(&self) -> Result<(), PrepareError> {
        if self.place.open()? {
            self.check_version()?;
        } else {
            self.make_template()?;
            self.copy_template()?;
        }
        self.write_settings(&self.data_dir(), &this_user()?)
    }

    /// A prepared directory holds tables of DocumentDB's version, so that must be the same, too.
    fn check_version(&self) -> Result<(), PrepareError> {
        self.place.check_major(self.tree.postgres_version())?;
        let path = self.data_dir().join(MADE_BY);
        if !path.exists() {
            return Err(PrepareError::Half {
                path: self.data_dir(),
                missing: MADE_BY.to_owned(),
            });
        }
        let bytes = fs::read(&path).map_err(files_at(&path))?;
        let found: MadeBy = serde_json::from_slice(&bytes)
            .map_err(io::Error::other)
            .map_err(files_at(&path))?;
        let ours = self.made_by();
        if server::major(&found.postgres) == server::major(&ours.postgres)
            && found.documentdb == ours.documentdb
        {
            return Ok(());
        }
        Err(PrepareError::OtherVersion {
            path: self.data_dir(),
            found: found.to_string(),
            wanted: ours.to_string(),
        })
    }

    fn made_by(&self) -> MadeBy {
        MadeBy {
            postgres: self.tree.postgres_version().to_owned(),
            documentdb: self.tree.documentdb_version().to_owned(),
        }
    }

    /// Makes the template once; of two processes that try at once, one wins and both find it there.
    fn make_template(&self) -> Result<(), PrepareError> {
        if self.template.exists() {
            return Ok(());
        }
        let parent = self.template.parent().unwrap_or(&self.template);
        fs::create_dir_all(parent).map_err(files_at(parent))?;
        let work = self
            .template
            .with_extension(format!("new-{}", std::process::id()));
        remove_if_there(&work)?;
        self.place.private_folder(&work)?;
        let made = self.fill_template(&work.join("data"));
        if made.is_ok() && fs::rename(&work, &self.template).is_ok() {
            return Ok(());
        }
        remove_if_there(&work)?;
        made
    }

    fn fill_template(&self, data: &Path) -> Result<(), PrepareError> {
        let initdb = self.tree.invocation("initdb").args([
            "--auth=peer",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--wal-segsize=4",
            "--no-sync",
            "--username",
            OWNER_ROLE,
            "-D",
        ]);
        self.place.run("initdb", initdb.args([data]), "")?;
        self.place.include_settings(data)?;
        self.write_settings(data, "")?;
        let made_by = serde_json::to_vec(&self.made_by()).map_err(io::Error::other);
        let path = data.join(MADE_BY);
        made_by
            .and_then(|json| fs::write(&path, json))
            .map_err(files_at(&path))?;
        // The single-user server needs no socket, no waiting and no stopping.
        let single = self.tree.invocation("postgres").args([
            OsString::from("--single"),
            "-D".into(),
            data.into(),
            "postgres".into(),
        ]);
        let printed = self.place.run("postgres --single", single, TEMPLATE_SQL)?;
        match printed
            .stderr
            .lines()
            .find(|line| line.contains("ERROR:") || line.contains("FATAL:"))
        {
            Some(line) => Err(PrepareError::Program {
                program: "postgres --single",
                output: line.to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn copy_template(&self) -> Result<(), PrepareError> {
        let work = self.place.clear_unfinished()?;
        let args = [
            OsString::from("-a"),
            self.template.join("data").into(),
            work.clone().into(),
        ];
        self.place.run(
            "cp",
            Invocation {
                program: "cp".into(),
                args: args.into(),
            },
            "",
        )?;
        let sync = self.tree.invocation("initdb").args([
            OsString::from("--sync-only"),
            "-D".into(),
            work.clone().into(),
        ]);
        self.place.run("initdb --sync-only", sync, "")?;
        self.place.finish()
    }

    fn write_settings(&self, data: &Path, me: &str) -> Result<(), PrepareError> {
        let users = self
            .place
            .user()
            .into_iter()
            .chain([me])
            .filter(|name| !name.is_empty());
        let ident: String = users.map(|user| format!("self \"{user}\" all\n")).collect();
        let files = [
            ("arena.conf", settings_text(self.place.sockets())),
            ("pg_hba.conf", "local all all peer map=self\n".to_owned()),
            ("pg_ident.conf", ident),
        ];
        self.place.write(data, &files)
    }
}

/// The settings that differ from PostgreSQL's own, with the reason where it is not obvious.
fn settings_text(sockets: &Path) -> String {
    let sockets = sockets.display().to_string().replace('\'', "''");
    format!(
        "# Written by Arena at every start; changes are lost.
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
shared_preload_libraries = 'pg_cron,pg_documentdb_core,pg_documentdb'
cron.database_name = 'postgres'
cron.use_background_workers = on # else TTL indexes never expire anything
cron.log_run = off
documentdb.localhost_connection_string = 'host={sockets}' # else the first insert fails
documentdb.useFileBasedPersistedCursors = on # a cursor is not bound to a connection
documentdb.defaultCursorExpiryTimeLimitSeconds = 600
documentdb_core.enableCollation = on
documentdb.enablePrimaryKeyCursorScan = off # documents without a sort come in the order of insertion
enable_seqscan = off # an index shows in explain on small data too
timezone = 'GMT'
log_timezone = 'GMT'
max_connections = 100
wal_level = minimal
max_wal_senders = 0
shared_buffers = 64MB
jit = off
"
    )
}

/// The name that PostgreSQL's peer authentication will see for this process.
fn this_user() -> Result<String, PrepareError> {
    let id = Invocation {
        program: "id".into(),
        args: vec!["-un".into()],
    };
    let printed = server::output_of("id", &id, "")?;
    Ok(printed.stdout.trim().to_owned())
}
