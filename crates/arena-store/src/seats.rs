//! Seats and who sits in them. Taking a seat is one update that names its
//! condition, so nobody sits where somebody sits. A seat that is given back
//! begins a new sitting: the last person's link, sessions and results end with
//! theirs, and stay in the file.

use std::collections::HashMap;

use arena_workshop::SeatId;
use arena_workshop::plan::AppKind;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::events::EventKind;
use crate::model::{Change, timestamp};
use crate::store::Store;
use crate::types::Actor;
use crate::waiting;
use crate::writer::{Work, WriteError};

/// A seat as the plan wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatSpec {
    /// The seat.
    pub seat: SeatId,
    /// Name of the person on the list, else the id.
    pub display_name: String,
    /// E-mail of the person on the list. Private: it is in no record that leaves the store.
    pub email: Option<String>,
    /// Whether a row of the list made it; a seat that is not listed is free for anybody.
    pub listed: bool,
}

/// A seat and who sits there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeatRecord {
    /// The seat.
    pub seat: SeatId,
    /// Name to show: of the person who sits there, else of the person on the list, else the id.
    pub display_name: String,
    /// Whether a row of the list made it.
    pub listed: bool,
    /// Who sits there since when; `None`: nobody yet.
    pub taken: Option<Taken>,
    /// Whether the person is hidden from the board.
    pub excluded: bool,
    /// Whether the seat is missing from the plan now; its data is kept.
    pub decommissioned: bool,
    /// How editor, apps and database are. Not kept over a restart.
    pub status: SeatStatus,
    /// Counts from 1 and grows when the seat is given back.
    pub sitting: i64,
}

/// Who took a seat, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// When.
    pub at: Timestamp,
    /// The name given, or the list's.
    pub name: String,
}

/// How a seat is now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SeatStatus {
    /// Another number whenever the seat was started again, so that what a page shows of it has ended; `None` until
    /// its agent answers.
    #[serde(default)]
    pub run: Option<u64>,
    /// The seat as a whole.
    pub phase: SeatPhase,
    /// Its editor.
    pub editor: EditorStatus,
    /// Its apps, back end first.
    pub apps: Vec<AppStatus>,
    /// Its database.
    pub database: DatabaseStatus,
    /// What it takes of the built-in database; `None` on any other server.
    pub database_use: Option<DatabaseUse>,
    /// What it takes of PostgreSQL; `None` without one, and until it was measured.
    #[serde(default)]
    pub postgres_use: Option<PostgresUse>,
    /// What is wrong or being done, in a line.
    pub message: Option<String>,
}

impl SeatStatus {
    /// Returns whether the seat or its editor was given up, so that somebody must act.
    pub fn is_given_up(&self) -> bool {
        self.phase == SeatPhase::Failed || self.editor == EditorStatus::Failed
    }
}

/// The seat as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeatPhase {
    /// Being made.
    #[default]
    Preparing,
    /// Usable.
    Ready,
    /// Could not be made, or broke.
    Failed,
    /// Stopped on purpose.
    Stopped,
}

/// A seat's editor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum EditorStatus {
    /// Sleeps until somebody comes.
    #[default]
    Stopped,
    /// Waits for its turn to wake.
    Queued {
        /// Place in line, from 1.
        position: u32,
    },
    /// Wakes.
    Starting,
    /// Answers.
    Ready,
    /// Did not wake, or died.
    Failed,
}

/// One of a seat's apps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Which app.
    pub kind: AppKind,
    /// Its state.
    pub state: AppState,
    /// The last line of what went wrong.
    pub message: Option<String>,
}

/// State of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppState {
    /// Not started yet: it starts with the editor.
    Asleep,
    /// Started, not answering yet.
    Starting,
    /// Answers.
    Ready,
    /// Died or answers with errors.
    Failed,
    /// Not running.
    Stopped,
}

/// A seat's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseStatus {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// Made and reachable.
    Ready,
    /// Could not be made or reached.
    Failed,
}

/// What a seat takes of the built-in database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DatabaseUse {
    /// Megabytes on disk, rounded up.
    pub megabytes: u64,
    /// How many it may take.
    pub megabytes_max: u64,
    /// Documents.
    pub documents: u64,
    /// How many it may hold.
    pub documents_max: u64,
    /// Open connections.
    pub connections: u64,
    /// Open cursors.
    pub cursors: u64,
    /// Commands that were refused since the start: no right, or over a quota.
    pub refused: u64,
    /// The last slow statements, newest first, one in a line: place, shape without values, time.
    pub slow: Vec<String>,
}

impl DatabaseUse {
    /// Whether little is left: nine tenths of bytes or documents are taken.
    pub fn is_nearly_full(&self) -> bool {
        is_nearly(self.megabytes, self.megabytes_max)
            || is_nearly(self.documents, self.documents_max)
    }
}

/// What a seat takes of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PostgresUse {
    /// Megabytes on disk beyond an empty database, rounded up.
    pub megabytes: u64,
    /// How many it may take.
    pub megabytes_max: u64,
    /// Open connections.
    pub connections: u64,
    /// Whether it may write.
    pub room: PostgresRoom,
    /// Sessions that were ended since the start, because they took what all seats need.
    pub ended: u64,
    /// Why the last one was ended.
    pub last_ended: Option<String>,
}

/// What a seat may still do in its PostgreSQL database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostgresRoom {
    /// Everything.
    #[default]
    Free,
    /// Read, delete and empty tables: it is over its quota.
    Full,
    /// Nothing: it is far over its quota.
    Shut,
}

impl PostgresUse {
    /// Whether little is left: nine tenths are taken, or writes are taken away already.
    pub fn is_nearly_full(&self) -> bool {
        self.room != PostgresRoom::Free || is_nearly(self.megabytes, self.megabytes_max)
    }
}

fn is_nearly(taken: u64, allowed: u64) -> bool {
    taken.saturating_mul(10) >= allowed.saturating_mul(9)
}

/// A seat that could not be taken.
#[derive(Debug, Error)]
pub enum TakeError {
    /// There is no such seat now, or it is not of the kind asked for.
    #[error("there is no such seat")]
    Unknown,
    /// Somebody sits there.
    #[error("somebody has taken that seat")]
    Taken,
    /// Every free seat is taken.
    #[error("every free seat is taken")]
    NoneFree,
    /// Somebody with that e-mail is on the list or has joined.
    #[error("somebody with that e-mail is on the list or has joined")]
    EmailKnown,
    /// The write failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<rusqlite::Error> for TakeError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Write(error.into())
    }
}

impl Store {
    /// Makes the seats what the plan wants. Seats that are missing in `specs` are decommissioned
    /// and keep their data; listed again they come back. Who sits where does not change.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn sync_seats(&self, specs: Vec<SeatSpec>) -> Result<(), WriteError> {
        self.write(move |work| Ok(sync_seats(work, &specs)?)).await
    }

    /// Returns all seats in order, decommissioned ones included.
    pub fn seats(&self) -> Vec<SeatRecord> {
        self.model(|model| model.seats.clone())
    }

    /// Returns a seat.
    pub fn seat(&self, seat: &SeatId) -> Option<SeatRecord> {
        self.model(|model| model.seat(seat).cloned())
    }

    /// Returns the e-mail of who sits in a seat or is on the list for it. Private.
    pub fn email(&self, seat: &SeatId) -> Option<String> {
        self.model(|model| model.emails.get(seat).cloned())
    }

    /// Takes the seat of a person on the list.
    ///
    /// # Errors
    /// When there is no such listed seat, somebody sits there, or the write failed.
    ///
    /// # Cancellation
    /// The seat may be taken.
    pub async fn take_listed(&self, seat: &SeatId) -> Result<SeatRecord, TakeError> {
        let seat = seat.clone();
        self.write(move |work| {
            let record = record(work.connection, &seat)?.ok_or(TakeError::Unknown)?;
            if !record.listed || record.decommissioned {
                return Err(TakeError::Unknown);
            }
            take(work, &seat, None, None)
        })
        .await
    }

    /// Takes the first free seat for somebody who is not on the list.
    ///
    /// # Errors
    /// When no seat is free, the e-mail is known already, or the write failed.
    ///
    /// # Cancellation
    /// A seat may be taken.
    pub async fn take_free(&self, name: &str, email: &str) -> Result<SeatRecord, TakeError> {
        let (name, email) = (name.to_owned(), email.trim().to_lowercase());
        self.write(move |work| take_free(work, &name, &email)).await
    }

    /// Gives a seat back: a new sitting begins, with a new personal link and without results.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn release(&self, seat: &SeatId, by: Actor) -> Result<(), WriteError> {
        let seat = seat.clone();
        self.write(move |work| Ok(release(work, &seat, &by)?)).await
    }

    /// Hides a person from the board, or shows them again. No-op if it is so already.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn set_excluded(
        &self,
        seat: &SeatId,
        excluded: bool,
        by: Actor,
    ) -> Result<(), WriteError> {
        let seat = seat.clone();
        self.write(move |work| {
            let changed = work
                .connection
                .prepare_cached(
                    "update seats set excluded = ?2 where seat = ?1 and excluded <> ?2",
                )?
                .execute(params![seat.as_str(), excluded])?;
            if changed == 0 {
                return Ok(());
            }
            push_record(work, &seat)?;
            work.audit(&by, if excluded { "hide" } else { "show" }, seat.as_str())?;
            Ok(work.event(EventKind::ExcludedChanged { seat })?)
        })
        .await
    }

    /// Says how a seat is now. No-op if it is so already, or there is no such seat.
    ///
    /// # Errors
    /// When the event could not be committed.
    pub async fn set_status(&self, seat: &SeatId, status: SeatStatus) -> Result<(), WriteError> {
        self.set_statuses(vec![(seat.clone(), status)]).await
    }

    /// As [`Store::set_status`], of many seats with one commit.
    ///
    /// # Errors
    /// When the events could not be committed.
    pub async fn set_statuses(
        &self,
        mut statuses: Vec<(SeatId, SeatStatus)>,
    ) -> Result<(), WriteError> {
        self.model(|model| {
            statuses.retain(|(seat, status)| {
                let record = model.seat(seat);
                record.is_some_and(|record| record.status != *status)
            });
        });
        if statuses.is_empty() {
            return Ok(());
        }
        self.write(move |work| {
            for (seat, status) in statuses {
                work.changes.push(Change::Status(seat.clone(), status));
                work.event(EventKind::SeatStatus { seat })?;
            }
            Ok(())
        })
        .await
    }
}

/// Reads all seats and their e-mails.
pub(crate) fn load(
    connection: &Connection,
) -> rusqlite::Result<(Vec<SeatRecord>, HashMap<SeatId, String>)> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} order by position, seat"))?;
    let rows: Vec<_> = statement
        .query_map([], row_with_email)?
        .collect::<rusqlite::Result<_>>()?;
    let emails = rows
        .iter()
        .filter_map(|(record, email)| Some((record.seat.clone(), email.clone()?)))
        .collect();
    Ok((rows.into_iter().map(|(record, _)| record).collect(), emails))
}

/// Returns which sitting a seat is in.
pub(crate) fn sitting(connection: &Connection, seat: &SeatId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("select sitting from seats where seat = ?1")?
        .query_row([seat.as_str()], |row| row.get(0))
        .optional()
}

const SELECT: &str = "select seat, display_name, listed, taken_at, taken_name, excluded, decommissioned, sitting, coalesce(taken_email, email) from seats";

fn row_with_email(row: &Row<'_>) -> rusqlite::Result<(SeatRecord, Option<String>)> {
    let taken_name: Option<String> = row.get(4)?;
    let taken = match taken_name {
        Some(name) => Some(Taken {
            at: timestamp(row, 3)?,
            name,
        }),
        None => None,
    };
    let display_name: String = row.get(1)?;
    let record = SeatRecord {
        seat: crate::model::parsed(row, 0)?,
        display_name: taken
            .as_ref()
            .map_or(display_name, |taken| taken.name.clone()),
        listed: row.get(2)?,
        taken,
        excluded: row.get(5)?,
        decommissioned: row.get(6)?,
        status: SeatStatus::default(),
        sitting: row.get(7)?,
    };
    Ok((record, row.get(8)?))
}

fn record_with_email(
    connection: &Connection,
    seat: &SeatId,
) -> rusqlite::Result<Option<(SeatRecord, Option<String>)>> {
    connection
        .prepare_cached(&format!("{SELECT} where seat = ?1"))?
        .query_row([seat.as_str()], row_with_email)
        .optional()
}

fn record(connection: &Connection, seat: &SeatId) -> rusqlite::Result<Option<SeatRecord>> {
    Ok(record_with_email(connection, seat)?.map(|(record, _)| record))
}

/// Reads the seat as it is in the transaction and lets the model know after the commit.
fn push_record(work: &mut Work<'_>, seat: &SeatId) -> rusqlite::Result<Option<SeatRecord>> {
    let Some((record, email)) = record_with_email(work.connection, seat)? else {
        return Ok(None);
    };
    work.changes
        .push(Change::Seat(Box::new(record.clone()), email));
    Ok(Some(record))
}

/// Takes the first free seat for somebody who is not on the list.
pub(crate) fn take_free(
    work: &mut Work<'_>,
    name: &str,
    email: &str,
) -> Result<SeatRecord, TakeError> {
    let known: Option<i64> = work.connection.prepare_cached("select 1 from seats where not decommissioned and (lower(email) = ?1 or lower(taken_email) = ?1)")?
        .query_row([email], |row| row.get(0)).optional()?;
    let is_known = known.is_some() || waiting::is_waiting(work.connection, email)?;
    if is_known && !email.is_empty() {
        return Err(TakeError::EmailKnown);
    }
    let seat = first_free(work.connection)?.ok_or(TakeError::NoneFree)?;
    take(work, &seat, Some(name), Some(email))
}

/// Returns the first seat that is on nobody's list and in which nobody sits.
pub(crate) fn first_free(connection: &Connection) -> rusqlite::Result<Option<SeatId>> {
    connection.prepare_cached("select seat from seats where taken_at is null and not listed and not decommissioned order by position, seat limit 1")?
        .query_row([], |row| crate::model::parsed(row, 0)).optional()
}

fn take(
    work: &mut Work<'_>,
    seat: &SeatId,
    name: Option<&str>,
    email: Option<&str>,
) -> Result<SeatRecord, TakeError> {
    sit_down(work, seat, name, email)?.ok_or(TakeError::Taken)
}

/// Lets somebody sit in a seat; `None` where somebody sits already.
pub(crate) fn sit_down(
    work: &mut Work<'_>,
    seat: &SeatId,
    name: Option<&str>,
    email: Option<&str>,
) -> rusqlite::Result<Option<SeatRecord>> {
    let changed = work
        .connection
        .prepare_cached("update seats set taken_at = ?2, taken_name = coalesce(?3, display_name), taken_email = ?4 where seat = ?1 and taken_at is null and not decommissioned")?
        .execute(params![seat.as_str(), work.now.as_microsecond(), name, email])?;
    if changed == 0 {
        return Ok(None);
    }
    let record = push_record(work, seat)?;
    work.audit(&Actor::Participant(seat.clone()), "join", seat.as_str())?;
    work.event(EventKind::Joined { seat: seat.clone() })?;
    Ok(record)
}

fn release(work: &mut Work<'_>, seat: &SeatId, by: &Actor) -> rusqlite::Result<()> {
    let changed = work
        .connection
        .prepare_cached("update seats set taken_at = null, taken_name = null, taken_email = null, excluded = 0, sitting = sitting + 1 where seat = ?1 and taken_at is not null")?
        .execute([seat.as_str()])?;
    if changed == 0 {
        return Ok(());
    }
    let principal = crate::types::Principal::Participant(seat.clone()).to_string();
    work.connection
        .prepare_cached("delete from sessions where principal = ?1 or instr(principal, ?2) = 1")?
        .execute([principal, format!("visitor:{seat}:")])?;
    push_record(work, seat)?;
    work.changes.push(Change::Cleared(seat.clone()));
    work.changes.push(Change::SessionsEnded(seat.clone()));
    work.audit(by, "release", seat.as_str())?;
    work.event(EventKind::Released { seat: seat.clone() })?;
    waiting::seat_those_who_wait(work)
}

fn sync_seats(work: &mut Work<'_>, specs: &[SeatSpec]) -> rusqlite::Result<()> {
    let before = load(work.connection)?;
    work.connection
        .execute("update seats set decommissioned = 1", [])?;
    let mut statement = work.connection.prepare_cached(
        "insert into seats (seat, position, display_name, email, listed) values (?1, ?2, ?3, ?4, ?5)
         on conflict (seat) do update set position = excluded.position, display_name = excluded.display_name,
         email = excluded.email, listed = excluded.listed, decommissioned = 0",
    )?;
    for (position, spec) in (0_i64..).zip(specs) {
        statement.execute(params![
            spec.seat.as_str(),
            position,
            spec.display_name,
            spec.email,
            spec.listed
        ])?;
    }
    let after = load(work.connection)?;
    if after != before {
        work.changes.push(Change::Seats(after.0, after.1));
        work.event(EventKind::SeatsSynced)?;
        waiting::seat_those_who_wait(work)?;
    }
    Ok(())
}
