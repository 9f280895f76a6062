//! Watches the seats' databases: whether the servers answer, what each seat takes
//! of the built-in database, and how much it may take. The facilitators' room
//! shows it; an order raises a seat's quota, which the store remembers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arena_mongo::{Guard, Quota, SlowStatement, Usage};
use arena_store::{DatabaseStatus, DatabaseUse, OrderKind};
use arena_workshop::SeatId;
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

/// The built-in database, as far as control has a say in it.
#[derive(Clone)]
pub(crate) struct BuiltIn {
    /// Quotas and what was taken, shared with the front.
    pub(crate) guard: Guard,
    /// What a seat may take when nobody raised it.
    pub(crate) quota: Quota,
}

impl BuiltIn {
    fn set(&self, watch: &SeatWatch, raises: u32) {
        if let Some(database) = watch.database() {
            self.guard
                .set_quota(database.name.as_str(), raised(self.quota, raises));
        }
    }
}

/// Doubles what is stored, so many times; connections, time and pace stay.
fn raised(quota: Quota, times: u32) -> Quota {
    let factor = 1_u64 << times.min(RAISES_MAX);
    Quota {
        bytes: quota.bytes.saturating_mul(factor),
        documents: quota.documents.saturating_mul(factor),
        collections: quota.collections.saturating_mul(factor),
        indexes: quota.indexes.saturating_mul(factor),
        ..quota
    }
}

/// Gives every seat the quota that facilitators had raised it to before this start.
pub(super) fn recall_quotas(shared: &Shared) {
    let Some(built_in) = &shared.built_in else {
        return;
    };
    for (seat, watch) in &shared.seats {
        let raises = shared.store.times_done(&order(seat));
        if raises > 0 {
            built_in.set(watch, raises);
        }
    }
}

fn order(seat: &SeatId) -> OrderKind {
    OrderKind::RaiseQuota { seat: seat.clone() }
}

/// Doubles a seat's quota, at once.
pub(super) fn raise_quota(shared: &Shared, watch: &SeatWatch) -> anyhow::Result<String> {
    let built_in = shared.built_in.as_ref();
    let built_in = built_in.ok_or_else(|| {
        anyhow::anyhow!(
            "this workshop has no built-in database, and a server of yours keeps its own quotas"
        )
    })?;
    let raises = shared.store.times_done(&order(watch.id())) + 1;
    if raises > RAISES_MAX {
        anyhow::bail!(
            "the quota of {} was doubled {RAISES_MAX} times already; set `arena.quota` in config.yaml",
            watch.id()
        );
    }
    built_in.set(watch, raises);
    let quota = raised(built_in.quota, raises);
    Ok(format!(
        "the database of {} may hold {} MB and {} documents",
        watch.id(),
        quota.bytes / MEGABYTE,
        quota.documents
    ))
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
                let message = error.to_string();
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
        let usage = shared
            .built_in
            .as_ref()
            .filter(|_| tells_use)
            .map(|built_in| built_in.guard.usage());
        for seat in shared.seats.values() {
            tell(&shared, seat, status.as_ref(), usage.as_ref()).await?;
        }
    }
}

/// Writes what is new about one seat's database.
async fn tell(
    shared: &Shared,
    seat: &SeatWatch,
    status: Option<&(DatabaseStatus, Option<String>)>,
    usage: Option<&BTreeMap<String, Usage>>,
) -> anyhow::Result<()> {
    let Some(database) = seat.database() else {
        return Ok(());
    };
    let taken = usage.and_then(|usage| usage.get(database.name.as_str()));
    if seat.note_database(status, taken.map(told_use)) {
        seat.publish_as_it_is(shared).await?;
    }
    Ok(())
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
