//! Watches the seats' databases: whether the servers answer, what each seat takes
//! of the built-in database and of PostgreSQL, and how much it may take. The
//! facilitators' room shows it; an order raises a seat's quota in both at once,
//! which the store remembers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arena_database::{PostgresUsage, Provisioner, Room};
use arena_mongo::{Guard, Quota, SlowStatement, Usage};
use arena_store::{DatabaseStatus, DatabaseUse, OrderKind, PostgresRoom, PostgresUse};
use arena_workshop::{DatabaseName, SeatId};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::seat::SeatWatch;

/// How often servers are asked. A broken one shows after at most twice this long and the answer's limit.
const PAUSE: Duration = Duration::from_secs(2);
/// A slow answer may be the machine's fault: so many in a row are not.
const FAILURES: u32 = 2;
/// What a seat takes is told this often at most: each telling is a write.
const USE_PAUSE: Duration = Duration::from_secs(4);
/// Slow statements told of a seat.
const SLOW_TOLD: usize = 5;
/// A quota doubled more often than this is meant to be set in `config.yaml`.
const RAISES_MAX: u32 = 6;
const MEGABYTE: u64 = 1024 * 1024;
/// What PostgreSQL's catalogs take of a database with nothing in it (7.5 MiB in version 18, with `vector`
/// 7.7): no quota counts them.
const POSTGRES_EMPTY_BYTES: u64 = 8 * MEGABYTE;

/// The built-in database, as far as control has a say in it.
#[derive(Clone)]
pub(crate) struct BuiltIn {
    /// Quotas and what was taken, shared with the front.
    pub(crate) guard: Guard,
    /// What a seat may take when nobody raised it.
    pub(crate) quota: Quota,
}

/// What a seat may take when nobody raised it, and where that is kept.
#[derive(Clone, Default)]
pub(crate) struct Quotas {
    /// Of the built-in database; `None` when MongoDB is another or absent.
    pub(crate) built_in: Option<BuiltIn>,
    /// Bytes of PostgreSQL beyond an empty database; `None` without one.
    pub(crate) postgres_bytes: Option<u64>,
}

impl Quotas {
    /// Sets what a seat may take, doubled so many times, and says it.
    fn set(&self, provisioner: &Provisioner, database: &DatabaseName, raises: u32) -> Vec<String> {
        let mut said = Vec::new();
        if let Some(built_in) = &self.built_in {
            let quota = raised(built_in.quota, raises);
            built_in.guard.set_quota(database.as_str(), quota);
            said.push(format!(
                "{} MB and {} documents in MongoDB",
                quota.bytes / MEGABYTE,
                quota.documents
            ));
        }
        if let Some(bytes) = self.postgres_bytes {
            let bytes = bytes.saturating_mul(factor(raises));
            provisioner.set_postgres_limits(|limits| {
                let bytes = bytes.saturating_add(POSTGRES_EMPTY_BYTES);
                limits.size_bytes_of.insert(database.clone(), bytes);
            });
            said.push(format!("{} MB in PostgreSQL", bytes / MEGABYTE));
        }
        said
    }
}

fn factor(times: u32) -> u64 {
    1 << times.min(RAISES_MAX)
}

/// Doubles what is stored, so many times; connections, time and pace stay.
fn raised(quota: Quota, times: u32) -> Quota {
    let factor = factor(times);
    Quota {
        bytes: quota.bytes.saturating_mul(factor),
        documents: quota.documents.saturating_mul(factor),
        collections: quota.collections.saturating_mul(factor),
        indexes: quota.indexes.saturating_mul(factor),
        ..quota
    }
}

/// Puts the workshop's quotas in force.
pub(super) fn set_quotas(shared: &Shared) {
    if let (Some(provisioner), Some(bytes)) = (&shared.provisioner, shared.quotas.postgres_bytes) {
        provisioner.set_postgres_limits(|limits| {
            limits.size_bytes = bytes.saturating_add(POSTGRES_EMPTY_BYTES);
        });
    }
}

/// Puts in force what facilitators had raised a seat's quota to before it was started.
pub(super) fn recall_quota(shared: &Shared, watch: &SeatWatch) {
    let raises = shared.store.times_done(&order(watch.id()));
    if let Some(provisioner) = &shared.provisioner
        && let Some(database) = watch.database().filter(|_| raises > 0)
    {
        shared.quotas.set(provisioner, &database.name, raises);
    }
}

fn order(seat: &SeatId) -> OrderKind {
    OrderKind::RaiseQuota { seat: seat.clone() }
}

/// Doubles a seat's quota in every database, at once.
pub(super) fn raise_quota(shared: &Shared, watch: &SeatWatch) -> anyhow::Result<String> {
    let raises = shared.store.times_done(&order(watch.id())) + 1;
    if raises > RAISES_MAX {
        anyhow::bail!(
            "the quota of {} was doubled {RAISES_MAX} times already; set `arena.quota` in config.yaml",
            watch.id()
        );
    }
    let said = match (&shared.provisioner, watch.database()) {
        (Some(provisioner), Some(database)) => {
            shared.quotas.set(provisioner, &database.name, raises)
        }
        _ => Vec::new(),
    };
    if said.is_empty() {
        anyhow::bail!(
            "this workshop has neither the built-in database nor PostgreSQL, and a MongoDB of yours keeps its own quotas"
        );
    }
    Ok(format!("{} may hold {}", watch.id(), said.join(" and ")))
}

/// Asks again and again, until `shutdown`.
pub(super) async fn watch(shared: Arc<Shared>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Some(provisioner) = shared.provisioner.clone() else {
        return Ok(());
    };
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0;
    let mut told: Option<Instant> = None;
    loop {
        // Waiting and asking leave nothing half done.
        let answer = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            answer = async { ticks.tick().await; provisioner.health().await } => answer,
        };
        let status = match answer {
            Ok(()) => {
                if failures >= FAILURES {
                    tracing::info!("the databases answer again");
                }
                failures = 0;
                Some((DatabaseStatus::Ready, None))
            }
            Err(error) => {
                failures += 1;
                // The room is told what; the log also why.
                let message =
                    format!("the databases do not answer, `arena status` says why: {error}");
                if failures == FAILURES {
                    let error = format!("{:#}", anyhow::Error::new(error));
                    tracing::error!(error, "the databases do not answer");
                }
                (failures >= FAILURES).then_some((DatabaseStatus::Failed, Some(message)))
            }
        };
        let tells_use = told.is_none_or(|at| at.elapsed() >= USE_PAUSE);
        if tells_use {
            told = Some(Instant::now());
        }
        let taken = if tells_use {
            Taken::now(&shared, &provisioner)
        } else {
            Taken::default()
        };
        for seat in shared.seats.all() {
            tell(&shared, &seat, status.as_ref(), &taken).await?;
        }
    }
}

/// What all seats take, by their database's name; empty when nobody is told.
#[derive(Default)]
struct Taken {
    built_in: BTreeMap<String, Usage>,
    postgres: BTreeMap<DatabaseName, PostgresUsage>,
}

impl Taken {
    fn now(shared: &Shared, provisioner: &Provisioner) -> Self {
        let built_in = shared.quotas.built_in.as_ref();
        Self {
            built_in: built_in
                .map(|built_in| built_in.guard.usage())
                .unwrap_or_default(),
            postgres: provisioner.postgres_usage(),
        }
    }
}

/// Writes what is new about one seat's database.
async fn tell(
    shared: &Shared,
    seat: &SeatWatch,
    status: Option<&(DatabaseStatus, Option<String>)>,
    taken: &Taken,
) -> anyhow::Result<()> {
    let Some(database) = seat.database() else {
        return Ok(());
    };
    let built_in = taken.built_in.get(database.name.as_str()).map(told_use);
    let postgres = taken.postgres.get(&database.name).and_then(told_postgres);
    if seat.note_database(status, built_in, postgres) {
        seat.publish(shared).await?;
    }
    Ok(())
}

/// `None` until it was measured.
fn told_postgres(usage: &PostgresUsage) -> Option<PostgresUse> {
    (usage.size_bytes_max > 0).then(|| PostgresUse {
        megabytes: usage
            .size_bytes
            .saturating_sub(POSTGRES_EMPTY_BYTES)
            .div_ceil(MEGABYTE),
        megabytes_max: usage.size_bytes_max.saturating_sub(POSTGRES_EMPTY_BYTES) / MEGABYTE,
        connections: usage.connections.into(),
        room: match usage.room {
            Room::Free => PostgresRoom::Free,
            Room::Full => PostgresRoom::Full,
            Room::Shut => PostgresRoom::Shut,
        },
        ended: usage.sessions_ended,
        last_ended: usage.last_ended.map(|reason| reason.as_str().to_owned()),
    })
}

fn told_use(usage: &Usage) -> DatabaseUse {
    let stored = usage.stored.unwrap_or_default();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    DatabaseUse {
        megabytes: stored.bytes.div_ceil(MEGABYTE),
        megabytes_max: usage.quota.bytes / MEGABYTE,
        documents: stored.documents,
        documents_max: usage.quota.documents,
        connections: count(usage.connections),
        cursors: count(usage.cursors),
        refused: usage.refused,
        slow: usage.slow.iter().take(SLOW_TOLD).map(slow_line).collect(),
    }
}

fn slow_line(slow: &SlowStatement) -> String {
    format!(
        "{:.1} s · {} · {}",
        slow.time.as_secs_f64(),
        slow.namespace,
        slow.shape
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_doubles_what_is_stored_and_nothing_else() {
        let quota = Quota::default();
        let twice = raised(quota, 2);
        assert_eq!(
            (twice.bytes, twice.documents, twice.connections),
            (quota.bytes * 4, quota.documents * 4, quota.connections)
        );
        assert_eq!(raised(quota, 99), raised(quota, RAISES_MAX));
    }
}
