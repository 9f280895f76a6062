//! Watches over the seats' PostgreSQL: what each uses, and who takes so much that others get
//! nothing. One transaction with locks on thousands of tables leaves no memory for anybody's; users
//! may reset their own time limits; and a database may fill the disk.
//!
//! [`watch`] looks twice a second, from the `postgres` database only: catalogs and functions of
//! PostgreSQL, never anything that a seat made. What it saw is [`Guarded::usage`].

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use arena_workshop::DatabaseName;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::ProvisionError;
use crate::postgres::{Link, Postgres, failed};
use crate::quota::{self, Room};

/// How often it looks at sessions.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it measures databases that are in use.
const SIZE_PAUSE: Duration = Duration::from_secs(2);
/// How often it measures all of them.
const ALL_SIZES_PAUSE: Duration = Duration::from_secs(60);

/// What each seat may use of PostgreSQL.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresLimits {
    /// Bytes of a database; beyond, the seat may only read and delete until it is smaller. 512 MiB.
    pub size_bytes: u64,
    /// Seats whose database may have another size.
    pub size_bytes_of: BTreeMap<DatabaseName, u64>,
    /// A statement that runs longer is ended with its session: twice the role's own limit, 60 s.
    pub statement: Duration,
    /// A transaction that idles longer is ended: twice the role's own limit, 120 s.
    pub idle_in_transaction: Duration,
    /// Locks in the table that all seats share: eight connections, 128 locks each.
    pub locks: u32,
    /// Bytes of temporary files of all sessions of a seat together. 512 MiB.
    pub temporary_bytes: u64,
    /// A statement that runs longer is counted as slow. 1 s.
    pub slow: Duration,
}

impl Default for PostgresLimits {
    fn default() -> Self {
        Self {
            size_bytes: 512 * 1024 * 1024,
            size_bytes_of: BTreeMap::new(),
            statement: Duration::from_secs(60),
            idle_in_transaction: Duration::from_secs(120),
            locks: 1024,
            temporary_bytes: 512 * 1024 * 1024,
            slow: Duration::from_secs(1),
        }
    }
}

/// What a seat uses of PostgreSQL, as last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostgresUsage {
    /// Bytes of its database; 0 until measured.
    pub size_bytes: u64,
    /// Bytes that it may have.
    pub size_bytes_max: u64,
    /// Whether its writes are taken away, or it is shut altogether.
    pub room: Room,
    /// Its sessions.
    pub connections: u32,
    /// Its locks in the table that all share.
    pub locks: u32,
    /// Bytes of its sessions' temporary files.
    pub temporary_bytes: u64,
    /// Statements that ran longer than [`PostgresLimits::slow`], since the guard started.
    pub slow_statements: u64,
    /// Sessions that the guard ended.
    pub sessions_ended: u64,
    /// Why it ended the last one.
    pub last_ended: Option<Reason>,
}

/// Why a session was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Too many locks.
    Locks,
    /// A statement that ran too long.
    Statement,
    /// A transaction that stayed open without doing anything.
    Idle,
    /// Too many bytes of temporary files.
    Temporary,
    /// The platform needed what it held.
    InTheWay,
}

impl Reason {
    /// Returns it in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Locks => "too many locks",
            Self::Statement => "a statement ran too long",
            Self::Idle => "a transaction stayed open too long",
            Self::Temporary => "too large temporary files",
            Self::InTheWay => "it held what a restore needed",
        }
    }
}

/// Limits and what was seen, shared with who asks.
#[derive(Default)]
pub(crate) struct Guarded {
    pub(crate) limits: watch::Sender<PostgresLimits>,
    usage: Mutex<BTreeMap<DatabaseName, PostgresUsage>>,
    /// Held by who makes or restores a seat; the guard changes no seat's rights meanwhile.
    pub(crate) making: tokio::sync::RwLock<()>,
}

impl Guarded {
    pub(crate) fn usage(&self) -> BTreeMap<DatabaseName, PostgresUsage> {
        self.usage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn update(&self, change: impl FnOnce(&mut BTreeMap<DatabaseName, PostgresUsage>)) {
        change(&mut self.usage.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Seats of this event by the mark of their databases.
const SEATS: &str = "SELECT d.datname::pg_catalog.text, r.oid, d.oid, pg_catalog.shobj_description(d.oid, 'pg_database'), \
    pg_catalog.pg_stat_get_db_xact_commit(d.oid) + pg_catalog.pg_stat_get_db_xact_rollback(d.oid) \
    FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_database d ON d.datname = r.rolname \
    WHERE pg_catalog.shobj_description(d.oid, 'pg_database') LIKE ANY ($1)";

/// Asks functions only: to read a view of the server's own takes a lock, and there may be none left.
const SESSIONS: &str = "
    SELECT s.pid, s.usesysid,
           CASE WHEN s.state IN ('active', 'fastpath function call')
                THEN EXTRACT(epoch FROM pg_catalog.clock_timestamp() - s.query_start)::pg_catalog.float8 END,
           CASE WHEN s.state LIKE 'idle in transaction%'
                THEN EXTRACT(epoch FROM pg_catalog.clock_timestamp() - s.state_change)::pg_catalog.float8 END,
           EXTRACT(epoch FROM s.query_start)::pg_catalog.float8,
           coalesce(l.locks, 0),
           coalesce(s.pid = ANY (b.pids), false)
    FROM pg_catalog.pg_stat_get_activity(NULL) s
    LEFT JOIN (SELECT pid, pg_catalog.count(*) AS locks FROM pg_catalog.pg_lock_status() WHERE NOT fastpath GROUP BY pid) l
      ON l.pid = s.pid
    CROSS JOIN (SELECT pg_catalog.array_agg(blocking.pid) AS pids FROM pg_catalog.pg_stat_get_activity(NULL) a
      CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(a.pid)) AS blocking(pid)
      WHERE a.application_name LIKE 'arena-provisioner%' AND a.wait_event_type = 'Lock' AND NOT a.usesysid = ANY ($1::pg_catalog.oid[])) b
    WHERE s.usesysid = ANY ($1::pg_catalog.oid[])";

/// Asks for the role again: meanwhile the number may have become another's.
const END: &str = "SELECT pg_catalog.pg_terminate_backend(s.pid) FROM pg_catalog.pg_stat_get_activity(NULL) s \
    WHERE s.pid = ANY ($1::pg_catalog.int4[]) AND s.usesysid = ANY ($2::pg_catalog.oid[])";

/// Named `pgsql_tmp{pid}.{number}`; only a superuser or monitor may look.
const TEMPORARY: &str =
    "SELECT name, size FROM pg_catalog.pg_ls_tmpdir() WHERE name LIKE 'pgsql\\_tmp%'";

/// A seat's role and database.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) name: DatabaseName,
    role: u32,
    database: u32,
    /// The comment of its database.
    pub(crate) mark: String,
    /// How many transactions have ended in it: more than before, and somebody was there, however briefly.
    transactions: i64,
}

/// A session of a seat.
#[derive(Debug, Clone, PartialEq)]
struct Session {
    pid: i32,
    role: u32,
    /// Seconds that its statement runs.
    active: Option<f64>,
    /// Seconds that its transaction idles.
    idle: Option<f64>,
    /// When its statement began; tells one from the next.
    began: Option<f64>,
    locks: i64,
    is_in_the_way: bool,
    temporary_bytes: u64,
}

/// Watches until something breaks.
pub(crate) async fn watch(server: &Postgres) -> Result<(), ProvisionError> {
    // Kept open: at the worst moment a new connection would not come about.
    let link = server.admin_link(&server.admin.database).await?;
    let mut watcher = Watcher::new(server, &link).await?;
    let mut limits = server.guarded.limits.subscribe();
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Neither holds anything that is lost when the other comes first.
        tokio::select! {
            _ = ticks.tick() => {}
            changed = limits.changed() => {
                if changed.is_ok() {
                    watcher.measure_all();
                }
            }
        }
        let now = limits.borrow_and_update().clone();
        if let Err(error) = watcher.look(&now).await {
            if link.client.is_closed() {
                return Err(failed("watch over the seats' sessions")(error));
            }
            tracing::warn!(%error, "could not look at the seats' sessions");
            continue;
        }
        watcher.rooms(&now).await;
    }
}

struct Watcher<'a> {
    server: &'a Postgres,
    link: &'a Link,
    sessions: tokio_postgres::Statement,
    end: tokio_postgres::Statement,
    seats: Vec<Watched>,
    /// Statements that were counted as slow and still run.
    slow: HashSet<(i32, u64)>,
    /// Roles that had a session since their database was measured.
    used: BTreeSet<u32>,
    /// What each database's transactions were when it was measured.
    transactions: BTreeMap<u32, i64>,
    measured: Option<Instant>,
    all_measured: Option<Instant>,
}

impl<'a> Watcher<'a> {
    async fn new(server: &'a Postgres, link: &'a Link) -> Result<Self, ProvisionError> {
        let what = || failed("watch over the seats' sessions");
        Ok(Self {
            server,
            link,
            sessions: link.client.prepare(SESSIONS).await.map_err(what())?,
            end: link.client.prepare(END).await.map_err(what())?,
            seats: Vec::new(),
            slow: HashSet::new(),
            used: BTreeSet::new(),
            transactions: BTreeMap::new(),
            measured: None,
            all_measured: None,
        })
    }

    fn measure_all(&mut self) {
        self.all_measured = None;
        self.measured = None;
    }

    /// Looks at all sessions, and ends those that take too much.
    async fn look(&mut self, limits: &PostgresLimits) -> Result<(), tokio_postgres::Error> {
        let marks = self.server.marks();
        // While no locks are left, those of a moment ago will do.
        if let Ok(rows) = self.link.client.query(SEATS, &[&marks]).await {
            let seats = rows.iter().filter_map(|row| {
                Some(Watched {
                    name: DatabaseName::new(row.get::<_, String>(0)).ok()?,
                    role: row.get(1),
                    database: row.get(2),
                    mark: row.get(3),
                    transactions: row.get(4),
                })
            });
            self.seats = seats.collect();
        }
        let roles: Vec<u32> = self.seats.iter().map(|seat| seat.role).collect();
        let rows = self.link.client.query(&self.sessions, &[&roles]).await?;
        let mut sessions: Vec<Session> = rows
            .iter()
            .map(|row| Session {
                pid: row.get(0),
                role: row.get(1),
                active: row.get(2),
                idle: row.get(3),
                began: row.get(4),
                locks: row.get(5),
                is_in_the_way: row.get(6),
                temporary_bytes: 0,
            })
            .collect();
        if sessions.iter().any(|session| session.active.is_some()) {
            self.add_temporary(&mut sessions).await;
        }
        let doomed = doomed(&sessions, limits);
        if !doomed.is_empty() {
            let pids: Vec<i32> = doomed.iter().map(|(pid, _)| *pid).collect();
            self.link.client.query(&self.end, &[&pids, &roles]).await?;
        }
        self.note(&sessions, &doomed, limits);
        Ok(())
    }

    /// Adds the temporary files of each session. Where the administrator may not look, the role's own
    /// limit has to do.
    async fn add_temporary(&self, sessions: &mut [Session]) {
        let Ok(rows) = self.link.client.query(TEMPORARY, &[]).await else {
            return;
        };
        for row in rows {
            let (name, size): (String, i64) = (row.get(0), row.get(1));
            let pid = name
                .trim_start_matches("pgsql_tmp")
                .split('.')
                .next()
                .and_then(|pid| pid.parse::<i32>().ok());
            if let Some(session) = sessions.iter_mut().find(|session| Some(session.pid) == pid) {
                session.temporary_bytes += u64::try_from(size).unwrap_or_default();
            }
        }
    }

    fn note(&mut self, sessions: &[Session], doomed: &[(i32, Reason)], limits: &PostgresLimits) {
        let slow: HashSet<(i32, u64)> = sessions
            .iter()
            .filter(|session| {
                session
                    .active
                    .is_some_and(|seconds| seconds > limits.slow.as_secs_f64())
            })
            .filter_map(|session| Some((session.pid, session.began?.to_bits())))
            .collect();
        let seats = &self.seats;
        let new: HashSet<i32> = slow.difference(&self.slow).map(|(pid, _)| *pid).collect();
        self.server.guarded.update(|usage| {
            usage.retain(|name, _| seats.iter().any(|seat| seat.name == *name));
            for seat in seats {
                let own: Vec<&Session> = sessions
                    .iter()
                    .filter(|session| session.role == seat.role)
                    .collect();
                let usage = usage.entry(seat.name.clone()).or_default();
                usage.connections = u32::try_from(own.len()).unwrap_or(u32::MAX);
                usage.locks = u32::try_from(own.iter().map(|session| session.locks).sum::<i64>())
                    .unwrap_or(u32::MAX);
                usage.temporary_bytes = own.iter().map(|session| session.temporary_bytes).sum();
                usage.slow_statements += count(own.iter().filter(|session| new.contains(&session.pid)));
                for (_, reason) in doomed
                    .iter()
                    .filter(|(pid, _)| own.iter().any(|session| session.pid == *pid))
                {
                    usage.sessions_ended += 1;
                    usage.last_ended = Some(*reason);
                    tracing::warn!(seat.database = %seat.name, "ended a session in PostgreSQL: {}", reason.as_str());
                }
            }
        });
        self.slow = slow;
        self.used
            .extend(sessions.iter().map(|session| session.role));
    }

    /// Measures databases and takes or gives writes.
    async fn rooms(&mut self, limits: &PostgresLimits) {
        let is_due =
            |last: Option<Instant>, pause| last.is_none_or(|last: Instant| last.elapsed() >= pause);
        if !is_due(self.measured, SIZE_PAUSE) {
            return;
        }
        let all = is_due(self.all_measured, ALL_SIZES_PAUSE);
        self.measured = Some(Instant::now());
        if all {
            self.all_measured = self.measured;
        }
        let measured: Vec<&Watched> = self
            .seats
            .iter()
            .filter(|seat| {
                all || self.used.contains(&seat.role)
                    || self.transactions.get(&seat.database) != Some(&seat.transactions)
                    || quota::room(&seat.mark) != Room::Free
            })
            .collect();
        let databases: Vec<u32> = measured.iter().map(|seat| seat.database).collect();
        let query = "SELECT d.oid, pg_catalog.pg_database_size(d.oid) FROM pg_catalog.pg_database d WHERE d.oid = ANY ($1::pg_catalog.oid[])";
        let rows = match self.link.client.query(query, &[&databases]).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::debug!(%error, "could not measure the seats' databases");
                return;
            }
        };
        let sizes: BTreeMap<u32, i64> = rows
            .iter()
            .filter_map(|row| Some((row.get(0), row.get::<_, Option<i64>>(1)?)))
            .collect();
        for seat in &measured {
            let Ok(_alone) = self.server.guarded.making.try_write() else {
                // A seat is being made or restored, which may wait for us to end a session.
                self.measured = None;
                return;
            };
            let Some(size) = sizes.get(&seat.database) else {
                continue;
            };
            let size = u64::try_from(*size).unwrap_or_default();
            let max = limits
                .size_bytes_of
                .get(&seat.name)
                .copied()
                .unwrap_or(limits.size_bytes);
            let room = match quota::adjust(self.server, self.link, seat, size, max).await {
                Ok(room) => room,
                Err(error) => {
                    tracing::warn!(seat.database = %seat.name, error = %chain(&error), "could not bound a database");
                    quota::room(&seat.mark)
                }
            };
            self.server.guarded.update(|usage| {
                let usage = usage.entry(seat.name.clone()).or_default();
                (usage.size_bytes, usage.size_bytes_max, usage.room) = (size, max, room);
            });
        }
        let seen = measured
            .iter()
            .map(|seat| (seat.database, seat.transactions));
        self.transactions.extend(seen);
        self.used.clear();
    }
}

/// Says which sessions must end, and why.
fn doomed(sessions: &[Session], limits: &PostgresLimits) -> Vec<(i32, Reason)> {
    let mut together: BTreeMap<u32, (i64, u64)> = BTreeMap::new();
    for session in sessions {
        let sum = together.entry(session.role).or_default();
        *sum = (sum.0 + session.locks, sum.1 + session.temporary_bytes);
    }
    let locks_max = i64::from(limits.locks);
    let longer = |seconds: Option<f64>, max: Duration| {
        seconds.is_some_and(|seconds| seconds > max.as_secs_f64())
    };
    let reason = |session: &Session| {
        let (locks, temporary) = together[&session.role];
        if locks > locks_max && session.locks > locks_max / 8 {
            Some(Reason::Locks)
        } else if temporary > limits.temporary_bytes
            && session.temporary_bytes > limits.temporary_bytes / 16
        {
            Some(Reason::Temporary)
        } else if longer(session.active, limits.statement) {
            Some(Reason::Statement)
        } else if longer(session.idle, limits.idle_in_transaction) {
            Some(Reason::Idle)
        } else if session.is_in_the_way {
            Some(Reason::InTheWay)
        } else {
            None
        }
    };
    sessions
        .iter()
        .filter_map(|session| Some((session.pid, reason(session)?)))
        .collect()
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

/// An error with its causes, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |error| error.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
