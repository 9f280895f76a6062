//! The tables, as numbered migrations. A migration that was released never changes; add one.

use rusqlite::{Connection, params};

/// Migration `n` is element `n - 1`.
const MIGRATIONS: &[&str] = &[
    r"
create table settings (key text primary key, value blob not null) without rowid;
create table seats (
    seat text primary key,
    position integer not null,
    display_name text not null,
    email text,
    listed integer not null,
    decommissioned integer not null default 0,
    excluded integer not null default 0,
    sitting integer not null default 1,
    taken_at integer,
    taken_name text,
    taken_email text
) without rowid;
create table attempts (
    id integer primary key autoincrement,
    seat text not null,
    sitting integer not null,
    exercise text not null,
    version text not null,
    files_hash text not null,
    trigger text not null,
    trial integer not null,
    passed integer not null,
    checks text not null,
    started_at integer not null,
    duration_us integer not null,
    recorded_at integer not null
);
create index attempts_by_seat on attempts (seat, sitting, exercise);
create table results (
    seat text not null,
    sitting integer not null,
    exercise text not null,
    at integer not null,
    attempt integer not null,
    primary key (seat, sitting, exercise)
) without rowid;
create table orders (
    id integer primary key autoincrement,
    key text not null,
    kind text not null,
    actor text not null,
    at integer not null,
    state text not null,
    message text,
    finished_at integer
);
create unique index orders_pending on orders (key) where state = 'pending';
create index orders_open on orders (state) where state in ('pending', 'running');
create table events (id integer primary key autoincrement, at integer not null, kind text not null);
create table audit (
    id integer primary key autoincrement,
    at integer not null,
    actor text not null,
    action text not null,
    subject text not null
);
create table sessions (
    id text primary key,
    secret_hash blob not null unique,
    host text not null,
    principal text not null,
    at integer not null
) without rowid;
create table facilitator_links (token_hash blob primary key, at integer not null, redeemed_at integer) without rowid;
",
    r"
create table waiting (
    id integer primary key autoincrement,
    name text not null,
    email text not null,
    at integer not null,
    seat text,
    sitting integer,
    ended_at integer
);
create index waiting_open on waiting (id) where ended_at is null;
create table connection_tests (
    subject text primary key,
    name text not null,
    at integer not null,
    report text not null
) without rowid;
",
];

/// Sets what every connection needs. Returns an error where SQLite refuses one of them.
pub(crate) fn prepare_connection(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", "on")?;
    Ok(())
}

/// Brings the tables to the newest version. Returns the version found when it is newer than ours.
pub(crate) fn migrate(connection: &mut Connection, now: i64) -> rusqlite::Result<Result<(), i64>> {
    connection.execute_batch(
        "create table if not exists migrations (number integer primary key, at integer not null)",
    )?;
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row(
        "select coalesce(max(number), 0) from migrations",
        [],
        |row| row.get(0),
    )?;
    if found > i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX) {
        return Ok(Err(found));
    }
    for (number, migration) in (1_i64..).zip(MIGRATIONS) {
        if number > found {
            transaction.execute_batch(migration)?;
            transaction.execute(
                "insert into migrations (number, at) values (?1, ?2)",
                params![number, now],
            )?;
        }
    }
    transaction.commit()?;
    Ok(Ok(()))
}
