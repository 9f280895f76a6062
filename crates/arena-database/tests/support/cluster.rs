//! A PostgreSQL in a temporary folder, for one test. Its programs are the database engine's: the tree
//! named by `ARENA_ENGINE_TREE`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use arena_database::PostgresAdmin;

const PASSWORD: &str = "a password for this test only";

/// A running cluster; gone when dropped.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    server: Child,
    /// Where it listens on loopback, encrypted; `None`: on its socket only.
    port: Option<u16>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::launch(None)
    }

    /// Starts one that listens on loopback as `localhost`, and takes encrypted connections only.
    pub(crate) fn start_encrypted() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        Self::launch(Some(port))
    }

    fn launch(port: Option<u16>) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("arena-pg-")
            .tempdir_in("/tmp")
            .unwrap();
        let data = folder.path().join("data");
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        if port.is_some() {
            certificates(folder.path());
        }
        if is_root() {
            run(Command::new("chown")
                .arg("-R")
                .arg(format!("{}:", server_user()))
                .arg(folder.path()));
        }
        run(program("initdb")
            .args([
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--username=arena",
                "--no-sync",
                "--pwfile",
            ])
            .arg(folder.path().join("password"))
            .arg("-D")
            .arg(&data));
        std::fs::write(
            data.join("pg_hba.conf"),
            "local all arena scram-sha-256\nlocal sameuser all scram-sha-256\nhostssl all all samehost scram-sha-256\n",
        )
        .unwrap();
        let network = port.map_or_else(
            || "-clisten_addresses=".to_owned(),
            |port| format!("-clisten_addresses=127.0.0.1 -cport={port} -cssl=on -cssl_cert_file={0}/server.pem -cssl_key_file={0}/server.key", folder.path().display()),
        );
        let server = program("postgres")
            .args(network.split(' '))
            .args([
                "-c",
                "fsync=off",
                "-c",
                "superuser_reserved_connections=20",
                "-c",
            ])
            .arg(format!(
                "unix_socket_directories={}",
                folder.path().display()
            ))
            .arg("-D")
            .arg(&data)
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let cluster = Self {
            folder,
            server,
            port,
        };
        cluster.wait();
        cluster
    }

    pub(crate) fn admin(&self) -> PostgresAdmin {
        PostgresAdmin {
            host: self.folder.path().display().to_string(),
            port: self.port.unwrap_or(5432),
            user: "arena".to_owned(),
            password: Some(PASSWORD.to_owned()),
            database: "postgres".to_owned(),
            ..PostgresAdmin::default()
        }
    }

    /// Returns the address of an encrypted one for this user, and the file of its authority.
    pub(crate) fn address(&self, host: &str, user: &str) -> (String, PathBuf) {
        let port = self.port.unwrap_or_default();
        let uri = format!("postgres://{user}:{PASSWORD}@{host}:{port}/postgres");
        (uri.replace(' ', "%20"), self.folder.path().join("ca.pem"))
    }

    fn wait(&self) {
        let limit = Instant::now() + Duration::from_secs(60);
        let log = self.folder.path().join("log");
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.contains("ready to accept connections") {
                return;
            }
            assert!(Instant::now() < limit, "PostgreSQL does not start: {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-INT", &self.server.id().to_string()])
            .status();
        let _ = self.server.wait();
    }
}

/// Makes an authority, and a certificate of it for `localhost`.
fn certificates(folder: &Path) {
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    let make = |arguments: &str| {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        let arguments = arguments.replace("NEW", key);
        run(Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .stderr(Stdio::null()));
    };
    make("req -x509 NEW -subj /CN=authority -keyout ca.key -out ca.pem");
    make("req NEW -subj /CN=localhost -keyout server.key -out server.csr");
    make(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.join("server.key"), private).unwrap();
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

/// Returns a program of the engine's tree. PostgreSQL refuses to run as root.
pub(crate) fn program(name: &str) -> Command {
    let path = folder_of_programs().join(name);
    if !is_root() {
        return Command::new(path);
    }
    let user = server_user();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &user, "--regid"])
        .arg(said(Command::new("id").args(["-g", &user])))
        .args(["--clear-groups", "--"])
        .arg(path)
        .current_dir("/");
    command
}

/// Whose the programs are, since a tool cache may be closed to others; `nobody` where that is root.
fn server_user() -> String {
    let owner = said(
        Command::new("stat")
            .args(["--format", "%U"])
            .arg(folder_of_programs()),
    );
    if owner == "root" {
        "nobody".to_owned()
    } else {
        owner
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn folder_of_programs() -> PathBuf {
    let tree = std::env::var_os("ARENA_ENGINE_TREE").expect(
        "this test needs the database engine: run `cargo xtask test`, \
         or set ARENA_ENGINE_TREE to the path that `arena tools list` shows",
    );
    Path::new(&tree).join("usr/lib/postgresql/18/bin")
}

fn run(command: &mut Command) {
    let output = command.stdout(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
