//! Asks the engine how much databases hold, with the front's own role on
//! connections of its own, and does what follows: lets writes in, ends those that
//! go far over, and rewrites tables whose space is short.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::storage::{Admitted, Due, Growth};
use crate::error::CommandError;
use crate::server::Server;

/// A look is good for this long.
const FRESH: Duration = Duration::from_secs(1);
/// How often the watch looks at what is written.
const PAUSE: Duration = Duration::from_millis(500);
/// Databases that nobody writes to are looked at this often: documents may expire.
const LOOK_AT_ALL: Duration = Duration::from_secs(60);
/// Smaller tables are not worth rewriting.
const REWRITTEN_FROM_BYTES: i64 = 1024 * 1024;
/// Counters of the engine begin anew after a crash, but `reltuples` survives: what it knew and what came since.
const MEASURE: &str = "\
    SELECT c.database_name::text, c.collection_name::text, c.view_definition IS NOT NULL, \
      coalesce(pg_catalog.pg_total_relation_size(r.oid), 0), \
      CASE WHEN r.oid IS NULL THEN 0 \
        WHEN coalesce(pg_stat_get_last_analyze_time(r.oid), pg_stat_get_last_autoanalyze_time(r.oid), \
             pg_stat_get_last_vacuum_time(r.oid), pg_stat_get_last_autovacuum_time(r.oid)) IS NOT NULL \
          OR pg_stat_get_tuples_inserted(r.oid) >= r.reltuples THEN pg_stat_get_live_tuples(r.oid) \
        ELSE greatest(0, r.reltuples::bigint + pg_stat_get_tuples_inserted(r.oid) - pg_stat_get_tuples_deleted(r.oid)) \
      END::bigint, \
      (SELECT count(*) FROM pg_catalog.pg_index i WHERE i.indrelid = r.oid) \
    FROM documentdb_api_catalog.collections c \
    LEFT JOIN pg_catalog.pg_class r ON r.relname = 'documents_' || c.collection_id \
      AND r.relnamespace = 'documentdb_data'::regnamespace \
    WHERE ($1::text[] IS NULL OR c.database_name = ANY ($1)) AND NOT starts_with(c.collection_name, 'system.')";
/// Ends what grows a database's tables; deleting goes on.
const END_WRITES: &str = "\
    SELECT pg_catalog.pg_cancel_backend(a.pid) FROM pg_catalog.pg_stat_activity a \
    WHERE a.state = 'active' AND a.query ~ '(documentdb_api\\.(insert|update|find_and_modify)|arena_front\\.(insert|update|modify)_once)\\M' AND EXISTS \
      (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class r ON r.oid = l.relation \
       JOIN documentdb_api_catalog.collections c ON r.relname = 'documents_' || c.collection_id \
       WHERE l.pid = a.pid AND c.database_name = $1)";
const TABLES: &str = "\
    SELECT r.relname::text FROM documentdb_api_catalog.collections c \
    JOIN pg_catalog.pg_class r ON r.relname = 'documents_' || c.collection_id \
      AND r.relnamespace = 'documentdb_data'::regnamespace \
    WHERE c.database_name = $1 AND pg_catalog.pg_relation_size(r.oid) >= $2";

/// Lets a write in, or refuses it by a fresh look.
pub(crate) async fn admit<'a>(
    server: &'a Server,
    database: &str,
    growth: Growth<'_>,
) -> Result<Admitted<'a>, CommandError> {
    let guard = &server.settings.guard;
    let (storage, quota) = (guard.storage(), guard.quota(database));
    if storage.age(database) > FRESH {
        measure(server, database).await?;
    }
    match storage.try_admit(database, &quota, growth) {
        Err(_) if storage.is_outdated(database) => {
            measure(server, database).await?;
            storage.try_admit(database, &quota, growth)
        }
        admitted => admitted,
    }
}

async fn measure(server: &Server, database: &str) -> Result<(), CommandError> {
    look(server, Some(vec![database.to_owned()])).await
}

/// Looks at every database.
async fn measure_all(server: &Server) -> Result<(), CommandError> {
    look(server, None).await
}

async fn look(server: &Server, databases: Option<Vec<String>>) -> Result<(), CommandError> {
    let storage = server.settings.guard.storage();
    let since = storage.begin_look(databases.as_deref());
    let rows = server
        .watching
        .rows(server.own_budget(), MEASURE, &[&databases])
        .await?;
    storage.take_in(&rows, databases.as_deref(), &since);
    Ok(())
}

/// Keeps the numbers fresh while something is written, ends what goes far over, and gives the space of deleted
/// documents back where it is short. Never returns.
pub(crate) async fn watch(server: &Server) {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut all_looked_at: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let guard = &server.settings.guard;
        guard.note_cursors(&server.cursors.by_owner());
        let looked = if all_looked_at.is_none_or(|at| at.elapsed() > LOOK_AT_ALL) {
            all_looked_at = Some(Instant::now());
            measure_all(server).await
        } else {
            match guard.storage().changed() {
                changed if changed.is_empty() => Ok(()),
                changed => look(server, Some(changed)).await,
            }
        };
        let done = match looked {
            Ok(()) => act(server).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            // The engine restarts; the next look begins anew.
            tracing::debug!(
                error = error.message,
                "could not look at the databases' sizes"
            );
            all_looked_at = None;
        }
    }
}

async fn act(server: &Server) -> Result<(), CommandError> {
    let guard = &server.settings.guard;
    let Due { far_over, short } = guard.storage().due(|name| guard.quota(name));
    for name in far_over {
        tracing::warn!(
            database = name,
            "ended a statement that went far over its quota"
        );
        server
            .watching
            .rows(server.own_budget(), END_WRITES, &[&name])
            .await?;
    }
    for name in short {
        rewrite(server, &name).await?;
        measure(server, &name).await?;
    }
    Ok(())
}

/// Writes a database's tables anew, without the holes that deleted documents left.
async fn rewrite(server: &Server, database: &str) -> Result<(), CommandError> {
    let budget = server.own_budget();
    let tables = server
        .watching
        .rows(budget, TABLES, &[&database, &REWRITTEN_FROM_BYTES])
        .await?;
    for table in tables {
        let table: String = table.get(0);
        // The catalog's own name, made of a number.
        let sql = format!("VACUUM (FULL) documentdb_data.{table}");
        server.watching.texts(budget, &sql).await?;
    }
    Ok(())
}
