//! The cluster for exercises on a full disk: what is not on it is not acknowledged,
//! sessions are told, and it goes on by itself when there is space.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use arena_local::postgres::PostgresCluster;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::postgres::{cluster, log_in, session, world};

const PATIENCE: Duration = Duration::from_secs(60);
const MEGABYTES: u32 = 200;

/// Mounts it, copies what was there, and lays a file to be taken away later.
const HOLD_A_SMALL_DISK: &str = "set -e; cp -a \"$1\" \"$1.kept\"; mount -t tmpfs -o mode=0755,size=$2m tmpfs \"$1\"; \
    cp -a \"$1.kept/.\" \"$1\"; chown --reference=\"$1.kept\" \"$1\"; chmod --reference=\"$1.kept\" \"$1\"; \
    head -c 33554432 /dev/zero > \"$1/ballast\"; touch \"$1.kept/held\"; exec sleep 1000";

/// A process that keeps a mount namespace with a small disk, and the server in it.
struct SmallDisk {
    folder: PathBuf,
    holder: Child,
    server: Option<Child>,
}

impl SmallDisk {
    fn over(folder: PathBuf) -> Self {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        command.args(["--mount", "sh", "-c", HOLD_A_SMALL_DISK, "sh"]);
        command.arg(&folder).arg(MEGABYTES.to_string());
        let holder = command.stdin(Stdio::null()).spawn().unwrap();
        let limit = Instant::now() + PATIENCE;
        while !folder.with_extension("kept").join("held").exists() {
            assert!(Instant::now() < limit, "cannot mount a small disk");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            folder,
            holder,
            server: None,
        }
    }

    /// Starts the server if it does not run, as its supervisor would. Returns whether it had ended.
    fn keep_running(&mut self, cluster: &PostgresCluster) -> bool {
        let server = self.server.as_mut();
        if server.is_some_and(|server| server.try_wait().unwrap().is_none()) {
            return false;
        }
        let server = cluster.invocation().command();
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.holder.id()));
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--mount").arg(server.get_program());
        command.args(server.get_args()).current_dir("/");
        command.stdin(Stdio::null()).stderr(Stdio::null());
        self.server.replace(command.spawn().unwrap()).is_some()
    }

    fn make_space(&self) {
        let inside = format!("/proc/{}/root", self.holder.id());
        let ballast = self.folder.join("ballast");
        let ballast = ballast.strip_prefix("/").unwrap();
        std::fs::remove_file(Path::new(&inside).join(ballast)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = Command::new("kill")
                .args(["-INT", &server.id().to_string()])
                .status();
            let _ = server.wait();
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Writes a row of 60 kB that does not become small.
async fn write(client: &Client, number: i64) -> Result<(), tokio_postgres::Error> {
    let insert = "INSERT INTO kept SELECT $1::int8, string_agg(md5($1::int8 || '-' || part), '') FROM generate_series(1, 1900) part";
    client.execute(insert, &[&number]).await.map(drop)
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_committed_and_heals_itself() {
    let folder = world();
    let cluster = cluster(folder.path());
    cluster.prepare().unwrap();
    let mut disk = SmallDisk::over(folder.path().join("postgres"));
    disk.keep_running(&cluster);
    drop(log_in(&cluster).await);
    let mut client = session(&cluster).await.unwrap();
    let table = "CREATE TABLE kept (n bigint, text text STORAGE external)";
    client.batch_execute(table).await.unwrap();
    let (mut committed, mut told, mut restarts) = (Vec::new(), Vec::new(), 0);
    // Write until it is full, and go on: every write meets the full disk.
    for number in 0..4_000 {
        match write(&client, number).await {
            Ok(()) => committed.push(number),
            Err(error) => {
                told.push(error.code().cloned());
                restarts += u32::from(disk.keep_running(&cluster));
                // A server that has ended for want of space is met again, or not until there is some.
                if let Ok(next) = session(&cluster).await {
                    client = next;
                }
            }
        }
        if told.len() == 3 {
            break;
        }
    }
    assert!(
        !committed.is_empty() && told.len() == 3,
        "the disk is not full: {} committed, told {told:?}",
        committed.len()
    );
    assert!(
        told.contains(&Some(SqlState::DISK_FULL)),
        "nobody is told why: {told:?}"
    );
    disk.make_space();
    let limit = Instant::now() + PATIENCE;
    loop {
        restarts += u32::from(disk.keep_running(&cluster));
        if let Ok(next) = session(&cluster).await
            && write(&next, 10_000).await.is_ok()
        {
            client = next;
            committed.push(10_000);
            break;
        }
        assert!(Instant::now() < limit, "does not go on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!(
        "{} committed, told {told:?}, {restarts} restarts",
        committed.len()
    );
    let rows = client.query("SELECT n FROM kept WHERE length(text) = 60800", &[]);
    let kept: Vec<i64> = rows.await.unwrap().iter().map(|row| row.get(0)).collect();
    let lost: Vec<&i64> = committed.iter().filter(|n| !kept.contains(n)).collect();
    assert!(lost.is_empty(), "lost {lost:?}");
}
