//! The cluster for exercises, started as the supervisor would, with seats made inside.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use arena_database::{Before, DataFile, Provisioner, SeatDatabase};
use arena_local::engine::{EngineTree, OsUser};
use arena_local::postgres::{ClusterError, PostgresCluster, PostgresPrograms};
use arena_workshop::DatabaseName;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        let _ = std::process::Command::new("kill")
            .args(["-INT", &self.0.id().to_string()])
            .status();
        let _ = self.0.wait();
    }
}

/// The engine's tree, and who may read it: a tool cache may be closed to others than its owner.
pub(crate) fn tree() -> (PathBuf, u32) {
    let tree = std::env::var_os("ARENA_ENGINE_TREE").expect(
        "this test needs the database engine: run `cargo xtask test`, \
         or set ARENA_ENGINE_TREE to the path that `arena tools list` shows",
    );
    let owner = std::fs::metadata(&tree).unwrap().uid();
    (tree.into(), owner)
}

fn cluster(folder: &Path) -> PostgresCluster {
    let (tree, owner) = tree();
    let programs = PostgresPrograms::Tree(EngineTree::at(tree).unwrap());
    let cluster = PostgresCluster::new(programs, &folder.join("postgres"), &folder.join("s"), 3);
    if !rustix::process::geteuid().is_root() {
        return cluster;
    }
    // PostgreSQL refuses root.
    let user = if owner == 0 {
        "nobody".to_owned()
    } else {
        user_of(owner)
    };
    cluster.run_as(OsUser(user))
}

pub(crate) fn user_of(id: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&id.to_string()));
    line.unwrap().split(':').next().unwrap().to_owned()
}

fn start(cluster: &PostgresCluster) -> Server {
    let server = Server(
        cluster
            .invocation()
            .command()
            .current_dir("/")
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap(),
    );
    let limit = Instant::now() + Duration::from_secs(60);
    // A killed server leaves its socket behind.
    while std::os::unix::net::UnixStream::connect(cluster.socket()).is_err() {
        assert!(Instant::now() < limit, "PostgreSQL does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

fn world() -> tempfile::TempDir {
    let folder = tempfile::Builder::new()
        .prefix("arena-pg-")
        .tempdir_in("/tmp")
        .unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    folder
}

fn template() -> DatabaseName {
    DatabaseName::new("arena_template").unwrap()
}

/// The socket takes connections a moment before the server has recovered.
async fn log_in(cluster: &PostgresCluster) -> Provisioner {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        match Provisioner::connect(&template(), None, Some(&cluster.admin().unwrap())).await {
            Ok(provisioner) => return provisioner,
            Err(error) => assert!(Instant::now() < limit, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn seats_live_in_the_cluster_and_outlive_a_kill() {
    let folder = world();
    let cluster = cluster(folder.path());
    cluster.prepare().unwrap();
    let mut server = start(&cluster);
    let provisioner = log_in(&cluster).await;
    let data = DataFile {
        name: "data.sql".to_owned(),
        bytes: b"CREATE TABLE a AS SELECT 1 AS b".to_vec(),
    };
    provisioner
        .load_template(std::slice::from_ref(&data))
        .await
        .unwrap();
    let seat = SeatDatabase {
        name: DatabaseName::new("ada").unwrap(),
        password: "a-password-of-ada-0123456789".to_owned(),
    };
    provisioner.create_seat(&seat).await.unwrap();
    server.0.kill().unwrap();
    server.0.wait().unwrap();
    cluster.prepare().unwrap();
    let _server = start(&cluster);
    let provisioner = log_in(&cluster).await;
    provisioner.load_template(&[data]).await.unwrap();
    assert_eq!(provisioner.list().await.unwrap().len(), 1);
    provisioner.restore_seat(&seat, Before::Keep).await.unwrap();
    let mut superuser = cluster.admin().unwrap();
    superuser.password = None;
    assert!(
        Provisioner::connect(&template(), None, Some(&superuser))
            .await
            .is_err(),
        "the socket alone proves nothing"
    );
}

#[test]
fn data_of_another_major_version_is_refused_with_what_to_do() {
    let folder = world();
    let cluster = cluster(folder.path());
    cluster.prepare().unwrap();
    std::fs::write(folder.path().join("postgres/data/PG_VERSION"), "9\n").unwrap();
    let refused = cluster.prepare().unwrap_err();
    assert!(
        matches!(refused, ClusterError::OtherVersion { ref found, .. } if found == "9"),
        "{refused}"
    );
    assert!(refused.to_string().contains("arena down --purge"));
}

#[test]
fn a_server_left_from_before_is_ended_and_nobody_else() {
    let folder = world();
    let cluster = cluster(folder.path());
    cluster.prepare().unwrap();
    let mut server = start(&cluster);
    cluster.prepare().unwrap();
    assert!(server.0.try_wait().unwrap().is_some(), "it still runs");
    // A lock file can outlive its server, and its number become another's.
    let mut other = Server(
        std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap(),
    );
    let lock = folder.path().join("postgres/data/postmaster.pid");
    std::fs::write(lock, format!("{}\n", other.0.id())).unwrap();
    cluster.prepare().unwrap();
    assert!(
        other.0.try_wait().unwrap().is_none(),
        "a stranger was ended"
    );
}
