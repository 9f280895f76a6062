//! Ends PostgreSQL sessions of seats that take what all seats share: one transaction with locks on
//! thousands of tables leaves no memory for anybody's, and users may reset their own time limits.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::ProvisionError;
use crate::postgres::{Postgres, SEAT_MARK, failed};

/// How often it looks.
const PAUSE: Duration = Duration::from_millis(500);
/// Locks of one role in the table that all share. A seat's share of it is this large: eight
/// connections, 128 locks each.
const LOCKS_MAX: i64 = 1024;
/// A statement may take twice its role's time, an idle transaction too.
const STATEMENT_SECONDS_MAX: f64 = 60.0;
const IDLE_SECONDS_MAX: f64 = 120.0;

/// Roles of seats, by the mark of their databases.
const SEATS: &str = "SELECT r.oid FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_database d ON d.datname = r.rolname \
    WHERE pg_catalog.starts_with(pg_catalog.shobj_description(d.oid, 'pg_database'), $1)";

/// Asks functions only: to read a view of the server's own takes a lock, and there may be none left.
const END: &str = "
    WITH sessions AS MATERIALIZED (
      SELECT s.pid, s.usesysid, s.state, s.query_start, s.state_change, coalesce(l.locks, 0) AS locks,
             sum(coalesce(l.locks, 0)) OVER (PARTITION BY s.usesysid) AS together
      FROM pg_catalog.pg_stat_get_activity(NULL) s
      LEFT JOIN (SELECT pid, count(*) AS locks FROM pg_catalog.pg_lock_status() WHERE NOT fastpath GROUP BY pid) l
        ON l.pid = s.pid
      WHERE s.usesysid = ANY ($1::oid[])
    )
    SELECT usesysid, locks, pg_catalog.pg_terminate_backend(pid) FROM sessions
    WHERE (together > $2::bigint AND locks > $2::bigint / 8)
       OR (state = 'active' AND query_start < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $3::double precision))
       OR (state LIKE 'idle in transaction%' AND state_change < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $4::double precision))";

/// Watches until something breaks.
pub(crate) async fn watch(server: &Postgres) -> Result<(), ProvisionError> {
    // Kept open: at the worst moment a new connection would not come about.
    let link = server.admin_link(&server.admin.database).await?;
    let what = || failed("watch over the seats' sessions");
    let end = link.client.prepare(END).await.map_err(what())?;
    let mut seats: Vec<u32> = Vec::new();
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // While no locks are left, those of a moment ago will do.
        if let Ok(rows) = link.client.query(SEATS, &[&SEAT_MARK]).await {
            seats = rows.iter().map(|row| row.get(0)).collect();
        }
        let limits = (LOCKS_MAX, STATEMENT_SECONDS_MAX, IDLE_SECONDS_MAX);
        let ended = link
            .client
            .query(&end, &[&seats, &limits.0, &limits.1, &limits.2])
            .await;
        match ended {
            Ok(rows) => {
                for row in rows {
                    let (role, locks): (u32, i64) = (row.get(0), row.get(1));
                    tracing::warn!(role, locks, "ended a seat's session that took too much");
                }
            }
            Err(error) if link.client.is_closed() => return Err(what()(error)),
            Err(error) => tracing::warn!(%error, "could not look at the seats' sessions"),
        }
    }
}
