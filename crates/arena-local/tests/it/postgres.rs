//! The cluster for exercises, started as the supervisor would, with seats made inside.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use arena_database::{Before, DataFile, Provisioner, SeatDatabase};
use arena_local::engine::{EngineTree, OsUser, PrepareError, end_server_for_good};
use arena_local::postgres::{PostgresCluster, PostgresPrograms};
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

pub(crate) fn cluster(folder: &Path) -> PostgresCluster {
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

pub(crate) fn world() -> tempfile::TempDir {
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
pub(crate) async fn log_in(cluster: &PostgresCluster) -> Provisioner {
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
    let data = DataFile::new("data.sql", "CREATE TABLE a AS SELECT 1 AS b");
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
        matches!(refused, PrepareError::OtherVersion { ref found, .. } if found == "PostgreSQL 9"),
        "{refused}"
    );
    assert!(refused.to_string().contains("arena down --purge"));
}

#[test]
fn a_data_directory_that_is_not_whole_is_never_begun_anew() {
    let folder = world();
    let cluster = cluster(folder.path());
    cluster.prepare().unwrap();
    let version = folder.path().join("postgres/data/PG_VERSION");
    std::fs::remove_file(&version).unwrap();
    let refused = cluster.prepare().unwrap_err();
    assert!(matches!(refused, PrepareError::Half { .. }), "{refused}");
    assert!(refused.to_string().contains("PG_VERSION is missing"));
    // An interrupted beginning is no data: it is begun again.
    std::fs::rename(
        folder.path().join("postgres/data"),
        folder.path().join("postgres/data.new"),
    )
    .unwrap();
    cluster.prepare().unwrap();
    assert_eq!(std::fs::read_to_string(version).unwrap(), "18\n");
}

/// Commits one by one until the server is gone; returns how many were acknowledged.
async fn commit_until_the_end(client: &tokio_postgres::Client) -> i64 {
    let mut acknowledged = 0;
    while client
        .execute("INSERT INTO kept VALUES ($1)", &[&acknowledged])
        .await
        .is_ok()
    {
        acknowledged += 1;
    }
    acknowledged
}

async fn as_superuser(cluster: &PostgresCluster) -> tokio_postgres::Client {
    drop(log_in(cluster).await);
    session(cluster).await.unwrap()
}

/// A session of the superuser, unless the server has none to give.
pub(crate) async fn session(
    cluster: &PostgresCluster,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let admin = cluster.admin().unwrap();
    let mut config = tokio_postgres::Config::new();
    config
        .host(&admin.host)
        .port(admin.port)
        .user(&admin.user)
        .password(admin.password.unwrap())
        .dbname("postgres");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_every_process_is_killed() {
    let folder = world();
    let cluster = cluster(folder.path());
    cluster.prepare().unwrap();
    let mut server = start(&cluster);
    let client = as_superuser(&cluster).await;
    client
        .batch_execute("CREATE TABLE kept (n bigint)")
        .await
        .unwrap();
    let pids = "SELECT pid FROM pg_stat_activity";
    let pids: Vec<i32> = client
        .query(pids, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let committing = tokio::spawn(async move { commit_until_the_end(&client).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.0.kill().unwrap();
    for pid in pids {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    server.0.wait().unwrap();
    let acknowledged = committing.await.unwrap();
    assert!(acknowledged > 0, "nothing was written before the kill");
    let begin = Instant::now();
    cluster.prepare().unwrap();
    let _server = start(&cluster);
    let client = as_superuser(&cluster).await;
    let back = begin.elapsed();
    let kept: i64 = client
        .query_one("SELECT count(DISTINCT n) FROM kept", &[])
        .await
        .unwrap()
        .get(0);
    assert!(
        kept >= acknowledged,
        "{kept} of {acknowledged}, back after {back:?}"
    );
}

#[tokio::test]
async fn a_commit_waits_for_the_disk() {
    let folder = world();
    let cluster = cluster(folder.path());
    cluster.prepare().unwrap();
    let syncs = async |more: &[&str]| {
        let child = cluster
            .invocation()
            .args(more.iter().copied())
            .command()
            .current_dir("/")
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let _server = Server(child);
        let client = as_superuser(&cluster).await;
        client
            .batch_execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept (n bigint)")
            .await
            .unwrap();
        let count = "SELECT coalesce(sum(fsyncs), 0)::bigint FROM pg_stat_io WHERE object = 'wal' AND backend_type = 'client backend'";
        let before: i64 = client.query_one(count, &[]).await.unwrap().get(0);
        for n in 0..20_i64 {
            client
                .execute("INSERT INTO kept VALUES ($1)", &[&n])
                .await
                .unwrap();
        }
        client
            .batch_execute("SELECT pg_stat_force_next_flush()")
            .await
            .unwrap();
        let after: i64 = client.query_one(count, &[]).await.unwrap().get(0);
        after - before
    };
    let synced = syncs(&[]).await;
    assert!(synced >= 20, "{synced} syncs for 20 commits");
    // Negative control: without syncing there are none.
    assert_eq!(syncs(&["-c", "fsync=off"]).await, 0);
}

#[tokio::test]
async fn a_session_that_wants_all_memory_gets_an_error_and_nobody_else_suffers() {
    let folder = world();
    let cluster = cluster(folder.path());
    cluster.prepare().unwrap();
    let _server = start(&cluster);
    let (hog, other) = (as_superuser(&cluster).await, as_superuser(&cluster).await);
    let hog = hog
        .batch_execute("SET work_mem = '4GB'; SELECT array_agg(repeat(n::text, 1000000)) FROM generate_series(1, 1000) n")
        .await
        .unwrap_err();
    assert_eq!(
        hog.code().unwrap().code(),
        "53200",
        "out of memory: {hog:?}"
    );
    other.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_dump_in_pg_dumps_own_format_becomes_sql_and_anything_else_is_refused() {
    let folder = world();
    let cluster = cluster(folder.path());
    cluster.prepare().unwrap();
    let _server = start(&cluster);
    let client = as_superuser(&cluster).await;
    let fill = "CREATE TABLE t (a int, b text); INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 300) n";
    client.batch_execute(fill).await.unwrap();
    let tree = EngineTree::at(tree().0).unwrap();
    let admin = cluster.admin().unwrap();
    let dumped = tree
        .command("pg_dump")
        .args([
            "--format=custom",
            "--username",
            &admin.user,
            "--host",
            &admin.host,
            "postgres",
        ])
        .env("PGPASSWORD", admin.password.unwrap())
        .output()
        .unwrap();
    assert!(dumped.status.success(), "{dumped:?}");
    let good = folder.path().join("good.dump");
    std::fs::write(&good, &dumped.stdout).unwrap();
    let programs = PostgresPrograms::Tree(tree);
    let text = String::from_utf8(programs.dump_as_sql(&good).unwrap()).unwrap();
    assert!(
        text.contains("COPY public.t (a, b) FROM stdin;\n1\trow 1\n"),
        "{text}"
    );
    assert!(!text.contains("OWNER TO"), "{text}");
    let bad = folder.path().join("bad.dump");
    std::fs::write(&bad, b"PGDMP and nothing that follows").unwrap();
    let refused = programs.dump_as_sql(&bad).unwrap_err();
    assert!(
        matches!(
            refused,
            PrepareError::Program {
                program: "pg_restore",
                ..
            }
        ),
        "{refused}"
    );
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

/// What the kernel keeps for a server on this directory, if anything.
fn memory_kept(cluster_folder: &Path) -> Option<String> {
    let lock = std::fs::read_to_string(cluster_folder.join("postgres/data/postmaster.pid")).ok()?;
    let number = lock.lines().nth(6)?.split_whitespace().nth(1)?.to_owned();
    let kept = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let mut kept = kept.lines().skip(1);
    kept.any(|line| line.split_whitespace().nth(1) == Some(&number))
        .then_some(number)
}

#[tokio::test]
async fn the_memory_of_a_killed_server_is_given_back_and_no_other_servers() {
    let (mine, others) = (world(), world());
    let clusters = [cluster(mine.path()), cluster(others.path())];
    let mut servers = clusters.each_ref().map(|cluster| {
        cluster.prepare().unwrap();
        start(cluster)
    });
    drop(log_in(&clusters[0]).await);
    servers[0].0.kill().unwrap();
    servers[0].0.wait().unwrap();
    assert!(
        memory_kept(mine.path()).is_some(),
        "the kernel frees it by itself: this test shows nothing"
    );
    let others_memory = memory_kept(others.path()).unwrap();
    let lock = mine.path().join("postgres/data/postmaster.pid");
    let text = std::fs::read_to_string(&lock).unwrap();

    // A number that is another's by now is known by its key.
    let line = text.lines().nth(6).unwrap();
    let key = line.split_whitespace().next().unwrap();
    std::fs::write(&lock, text.replace(line, &format!("{key} {others_memory}"))).unwrap();
    end_server_for_good(lock.parent().unwrap());
    assert!(
        memory_kept(others.path()).is_some(),
        "another's memory is gone"
    );

    std::fs::write(&lock, &text).unwrap();
    end_server_for_good(lock.parent().unwrap());
    eventually_gone(mine.path());
    assert!(memory_kept(others.path()).is_some());
}

/// Processes of a killed server use its memory until they notice.
fn eventually_gone(cluster_folder: &Path) {
    let limit = Instant::now() + Duration::from_secs(60);
    while memory_kept(cluster_folder).is_some() {
        assert!(Instant::now() < limit, "a piece of memory is left");
        std::thread::sleep(Duration::from_millis(20));
    }
}
