//! A world for tests: a real engine in a folder of its own and the front before it.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use arena_mongo::{
    Guard, Limits, Listener, Quota, Role, RoleName, SchemaChange, ScramVerifier, Settings, Socket,
    Tls, User, Users,
};
use mongodb::Client;
use mongodb::bson::Document;
use mongodb::options::ClientOptions;
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::programs::{give_to_server, is_root, program, run, tree};

const READY_WAIT: Duration = Duration::from_secs(60);
const TEMPLATE_SQL: &str = "CREATE EXTENSION documentdb CASCADE;\n\
    CREATE ROLE arena_front LOGIN;\n\
    GRANT documentdb_admin_role TO arena_front;\n\
    CREATE SCHEMA arena_front AUTHORIZATION arena_front;\n\
    SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname LIKE 'documentdb_index_build_task_%';\n";

/// Password of every user that [`World::user`] makes.
pub(crate) const PASSWORD: &str = "correct horse";

/// An initialised data directory, made once per checkout and copied by every test.
fn template() -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap();
    let id = fs::canonicalize(tree()).unwrap();
    let id = id
        .file_name()
        .unwrap_or(OsStr::new("tree"))
        .to_string_lossy()
        .into_owned();
    let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("engine-template-{id}"));
    if template.exists() {
        return template;
    }
    let work = TempDir::with_prefix("arena-template-").unwrap();
    give_to_server(work.path());
    let data = work.path().join("data");
    run(program("initdb")
        .args([
            "--auth=peer",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ])
        .args(["--wal-segsize=4", "--no-sync", "--username=arena", "-D"])
        .arg(&data));
    configure(&data, work.path());
    let sql = work.path().join("template.sql");
    fs::write(&sql, TEMPLATE_SQL).unwrap();
    run(program("postgres")
        .arg("--single")
        .arg("-D")
        .arg(&data)
        .arg("postgres")
        .stdin(fs::File::open(sql).unwrap()));
    let new = template.with_extension(format!("new-{}", std::process::id()));
    run(Command::new("cp").arg("-a").arg(&data).arg(&new));
    let _ = fs::rename(&new, &template);
    template
}

fn configure(data: &Path, sockets: &Path) {
    let sockets = sockets.display();
    let settings = format!(
        "listen_addresses = ''\nunix_socket_directories = '{sockets}'\nunix_socket_permissions = 0700\n\
         shared_preload_libraries = 'pg_cron,pg_documentdb_core,pg_documentdb'\ncron.database_name = 'postgres'\n\
         cron.use_background_workers = on\ncron.log_run = off\n\
         documentdb.localhost_connection_string = 'host={sockets}'\ndocumentdb.useFileBasedPersistedCursors = on\n\
         documentdb.defaultCursorExpiryTimeLimitSeconds = 600\ndocumentdb_core.enableCollation = on\n\
         documentdb.enablePrimaryKeyCursorScan = off\nenable_seqscan = off\ntimezone = 'GMT'\nlog_timezone = 'GMT'\n\
         wal_level = minimal\nmax_wal_senders = 0\nshared_buffers = 64MB\njit = off\n"
    );
    fs::write(data.join("postgresql.conf"), settings).unwrap();
    fs::write(data.join("pg_hba.conf"), "local all all peer map=self\n").unwrap();
    let me = Command::new("id").arg("-un").output().unwrap();
    let me = String::from_utf8(me.stdout).unwrap();
    fs::write(
        data.join("pg_ident.conf"),
        format!("self {} all\nself nobody all\n", me.trim()),
    )
    .unwrap();
}

/// PostgreSQL with DocumentDB; ends when dropped.
pub(crate) struct Engine {
    folder: TempDir,
    server: Option<Child>,
    /// A disk of its own, which only the server sees.
    disk: Option<Disk>,
    /// What it is started by, if not at once.
    starter: Vec<String>,
}

/// A process that keeps a mount namespace with a small disk over the data directory.
struct Disk {
    holder: Child,
}

/// Mounts it, copies what was there, and lays a file to be taken away later.
const HOLD_A_SMALL_DISK: &str = "set -e; cp -a \"$1\" \"$1.kept\"; mount -t tmpfs -o mode=0700,size=$2m tmpfs \"$1\"; \
    cp -a \"$1.kept/.\" \"$1\"; chown --reference=\"$1.kept\" \"$1\"; \
    head -c 33554432 /dev/zero > \"$1/ballast\"; touch \"$1.kept/held\"; exec sleep 1000";

impl Disk {
    fn over(data: &Path, megabytes: u32) -> Self {
        let mut command = Command::new("unshare");
        if !is_root() {
            command.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        command.args(["--mount", "sh", "-c", HOLD_A_SMALL_DISK, "sh"]);
        command.arg(data).arg(megabytes.to_string());
        let holder = command.stdin(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + READY_WAIT;
        while !data.with_extension("kept").join("held").exists() {
            assert!(Instant::now() < deadline, "cannot mount a small disk");
            thread::sleep(Duration::from_millis(10));
        }
        Self { holder }
    }

    /// The same command where the disk is.
    fn inside(&self, server: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.id().to_string());
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--mount");
        command.arg(server.get_program()).args(server.get_args());
        command
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Engine {
    fn start(disk: Option<u32>) -> Self {
        let folder = TempDir::with_prefix("arena-engine-").unwrap();
        let data = folder.path().join("data");
        run(Command::new("cp").arg("-a").arg(template()).arg(&data));
        configure(&data, folder.path());
        give_to_server(folder.path());
        let mut engine = Self {
            folder,
            server: None,
            disk: disk.map(|megabytes| Disk::over(&data, megabytes)),
            starter: Vec::new(),
        };
        engine.run_server();
        engine
    }

    /// Takes the ballast away: there is space again.
    pub(crate) fn make_space(&self) {
        let holder = self.disk.as_ref().unwrap().holder.id();
        let data = self.folder.path().join("data");
        let inside = format!("/proc/{holder}/root{}/ballast", data.display());
        fs::remove_file(inside).unwrap();
    }

    /// Starts the server again if it has ended, as its supervisor would. Returns whether it had.
    pub(crate) fn keep_running(&mut self) -> bool {
        let server = self.server.as_mut();
        let has_ended = server.is_none_or(|server| server.try_wait().unwrap().is_some());
        if has_ended {
            let _ = fs::remove_file(self.socket());
            self.spawn_server();
        }
        has_ended
    }

    fn spawn_server(&mut self) {
        // The thread that starts a child with a death signal must live as long as the child.
        let data = self.folder.path().join("data");
        let mut command = program("postgres");
        command.arg("-D").arg(&data);
        if let Some(disk) = &self.disk {
            command = disk.inside(&command);
        }
        if let [starter, arguments @ ..] = &self.starter[..] {
            let server = std::mem::replace(&mut command, Command::new(starter));
            command.args(arguments).arg(server.get_program());
            command.args(server.get_args()).current_dir("/");
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let log = fs::File::create(data.join("log")).unwrap();
            sender.send(command.stderr(log).spawn().unwrap()).unwrap();
            loop {
                thread::park();
            }
        });
        self.server = Some(receiver.recv().unwrap());
    }

    pub(crate) fn run_server(&mut self) {
        self.spawn_server();
        let deadline = Instant::now() + READY_WAIT;
        while !self.socket().exists() {
            let has_ended = self
                .server
                .as_mut()
                .is_some_and(|server| server.try_wait().unwrap().is_some());
            // What a killed one had started may still be ending; a supervisor tries again, too.
            let may_start = !has_ended || self.log().contains("is still in use");
            let log = self.log();
            assert!(may_start && Instant::now() < deadline, "no engine: {log}");
            if has_ended {
                self.spawn_server();
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts the server again with more settings, by another program that runs it.
    pub(crate) fn restart_by(&mut self, starter: Vec<String>, settings: &str) {
        self.kill();
        let file = self.folder.path().join("data/postgresql.conf");
        let kept = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{kept}{settings}\n")).unwrap();
        self.starter = starter;
        self.run_server();
    }

    /// Ends the server, and gives back the memory that the kernel keeps for one that was killed: a machine has 4,096
    /// pieces, and every test that left one would take one for good.
    fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            let mut kill = Command::new("kill");
            let _ = kill.args(["-QUIT", &server.id().to_string()]).status();
            let _ = server.wait();
        }
        let lock = fs::read_to_string(self.folder.path().join("data/postmaster.pid"));
        let lock = lock.unwrap_or_default();
        let memory = lock.lines().nth(6).unwrap_or_default();
        if let Some(number) = memory.split_whitespace().nth(1) {
            let mut remove = Command::new("ipcrm");
            let _ = remove.args(["-m", number]).stderr(Stdio::null()).status();
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
            let _ = fs::remove_file(self.socket());
        }
    }

    /// A connection to the engine beside the front, as the front's own role.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(self.folder.path())
            .dbname("postgres")
            .user("arena_front");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("data/log")).unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            eprintln!("the engine's log:\n{}", self.log());
        }
    }
}

/// The front before an engine, with one administrator `root`.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) users: Users,
    pub(crate) address: String,
    pub(crate) changes: Arc<Mutex<Vec<SchemaChange>>>,
    listeners: mpsc::Sender<Listener>,
    shutdown: CancellationToken,
    serving: Option<JoinHandle<()>>,
    limits: Limits,
    pub(crate) guard: Guard,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        Self::with(limits, Quota::default()).await
    }

    pub(crate) async fn with_quota(quota: Quota) -> Self {
        Self::with(Limits::default(), quota).await
    }

    /// With an engine on a disk of so many megabytes.
    pub(crate) async fn on_a_disk_of(megabytes: u32) -> Self {
        Self::build(Limits::default(), Quota::default(), Some(megabytes)).await
    }

    pub(crate) async fn with(limits: Limits, quota: Quota) -> Self {
        Self::build(limits, quota, None).await
    }

    async fn build(limits: Limits, quota: Quota, disk: Option<u32>) -> Self {
        let engine = tokio::task::spawn_blocking(move || Engine::start(disk))
            .await
            .unwrap();
        let (listeners, _) = mpsc::channel(1);
        let mut world = Self {
            engine,
            users: Users::default(),
            address: String::new(),
            changes: Arc::default(),
            listeners,
            shutdown: CancellationToken::new(),
            serving: None,
            limits,
            guard: Guard::new(quota),
        };
        world.user("root", &[(RoleName::Root, "admin")]);
        world.serve().await;
        world
    }

    /// Starts the front; with the users that it was given, and those kept in the engine.
    async fn serve(&mut self) {
        let changes = Arc::clone(&self.changes);
        let settings = Settings {
            engine_socket_dir: self.engine.folder.path().to_path_buf(),
            users: self.users.clone(),
            limits: Limits {
                threads: crate::front_threads(),
                ..self.limits
            },
            guard: self.guard.clone(),
            on_schema_change: Some(Arc::new(move |change| changes.lock().unwrap().push(change))),
        };
        let (sender, receiver) = mpsc::channel(8);
        self.listeners = sender;
        self.shutdown = CancellationToken::new();
        let shutdown = self.shutdown.clone();
        self.serving = Some(tokio::spawn(async move {
            arena_mongo::serve(settings, receiver, shutdown)
                .await
                .unwrap();
        }));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.address = socket.local_addr().unwrap().to_string();
        self.listeners
            .send(Listener::new(Socket::Tcp(socket)))
            .await
            .unwrap();
    }

    /// Ends the front and does not wait for it.
    pub(crate) fn end_front(&self) {
        self.shutdown.cancel();
    }

    /// Ends the front and starts another one, which knows only `root`.
    pub(crate) async fn restart_front(&mut self) {
        self.shutdown.cancel();
        self.serving.take().unwrap().await.unwrap();
        self.users = Users::default();
        self.user("root", &[(RoleName::Root, "admin")]);
        self.serve().await;
    }

    pub(crate) fn user(&self, name: &str, roles: &[(RoleName, &str)]) {
        let roles = roles
            .iter()
            .map(|(role, database)| Role::new(*role, *database).unwrap())
            .collect();
        self.users.set(
            name,
            User {
                verifier: ScramVerifier::from_password(PASSWORD),
                roles,
            },
        );
    }

    /// A seat: a user with a database of the same name.
    pub(crate) fn seat(&self, name: &str) {
        self.user(name, &[(RoleName::ReadWrite, name)]);
    }

    /// A unix socket where only this user may log in.
    pub(crate) async fn seat_socket(&self, user: &str) -> PathBuf {
        let path = self.engine.folder.path().join(format!("{user}.sock"));
        let socket = Socket::Unix(UnixListener::bind(&path).unwrap());
        self.listeners
            .send(Listener::only_for(socket, user))
            .await
            .unwrap();
        path
    }

    /// An address where TLS is spoken.
    pub(crate) async fn encrypted_address(&self, tls: Tls) -> String {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let mut listener = Listener::new(Socket::Tcp(socket));
        listener.tls = Some(tls);
        self.listeners.send(listener).await.unwrap();
        address
    }

    pub(crate) fn uri(&self, user: &str) -> String {
        format!(
            "mongodb://{user}:{}@{}/?serverSelectionTimeoutMS=5000",
            PASSWORD.replace(' ', "%20"),
            self.address
        )
    }

    /// A driver that is logged in, or not if the password is wrong; it connects when used.
    pub(crate) async fn client(&self, user: &str) -> Client {
        Client::with_options(ClientOptions::parse(self.uri(user)).await.unwrap()).unwrap()
    }

    pub(crate) async fn client_with_password(&self, user: &str, password: &str) -> Client {
        let uri = format!("mongodb://{user}:{password}@{}/", self.address);
        Client::with_uri_str(uri).await.unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The code of a command that the server refused.
pub(crate) fn code(result: mongodb::error::Result<Document>) -> i32 {
    match result {
        Ok(answer) => panic!("was answered: {answer}"),
        Err(error) => code_of(&error),
    }
}

/// The code of an error, wherever the driver keeps it.
pub(crate) fn code_of(error: &mongodb::error::Error) -> i32 {
    use mongodb::error::{ErrorKind, WriteFailure};
    match error.kind.as_ref() {
        ErrorKind::Command(command) => command.code,
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.code,
        ErrorKind::InsertMany(many) => many
            .write_errors
            .as_ref()
            .map_or(0, |errors| errors[0].code),
        other => panic!("another error: {other:?}"),
    }
}
