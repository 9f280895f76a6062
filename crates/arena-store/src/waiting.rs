//! The waiting list: who came when every free seat was taken, in order. A free
//! seat goes to the first of them in the transaction that frees or adds it, so
//! nobody who comes later is faster. Their seat is taken in their name; they
//! reach it by the token of their place.

use arena_workshop::SeatId;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use sha2::Sha256;

use crate::events::EventKind;
use crate::links::same_bytes;
use crate::model::{Change, parsed, timestamp};
use crate::seats::{self, SeatRecord, TakeError};
use crate::store::Store;
use crate::types::Actor;
use crate::writer::{Work, WriteError};

/// People who can wait at once.
const WAITING_MAX: i64 = 1000;

/// Number of somebody on the waiting list; grows in order of coming.
pub type WaitingId = i64;

/// Somebody on the waiting list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Their number.
    pub id: WaitingId,
    /// The name they gave.
    pub name: String,
    /// Since when.
    pub at: Timestamp,
    /// The seat that they got, and its sitting; they wait no more.
    #[serde(skip)]
    pub given: Option<(SeatId, i64)>,
}

/// What became of somebody who wanted a free seat.
#[derive(Debug, Clone, PartialEq)]
pub enum Seated {
    /// They sit there.
    Seat(Box<SeatRecord>),
    /// Every free seat is taken: they wait, and this token is their place.
    Waits(String),
}

/// Where somebody on the waiting list stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// They wait; place in line, from 1.
    Waits {
        /// Who waits.
        name: String,
        /// Place in line, from 1.
        place: usize,
    },
    /// A seat is theirs.
    Has(SeatId),
}

impl Store {
    /// Takes the first free seat for somebody who is not on the list, or puts them on the waiting list.
    ///
    /// # Errors
    /// When the e-mail is known already, the waiting list is full, or the write failed.
    ///
    /// # Cancellation
    /// A seat or a place may be taken.
    pub async fn take_free_or_wait(&self, name: &str, email: &str) -> Result<Seated, TakeError> {
        let (name, email) = (name.to_owned(), email.trim().to_lowercase());
        let taken = self
            .write(move |work| match seats::take_free(work, &name, &email) {
                Ok(record) => Ok(Ok(record)),
                Err(TakeError::NoneFree) => add(work, &name, &email).map(Err),
                Err(error) => Err(error),
            })
            .await?;
        Ok(match taken {
            Ok(record) => Seated::Seat(Box::new(record)),
            Err(id) => Seated::Waits(self.waiting_token(id)),
        })
    }

    /// Returns who waits, first come first.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.model(|model| {
            let waits = model.waiting.iter().filter(|entry| entry.given.is_none());
            waits.cloned().collect()
        })
    }

    /// Returns the token of a place on the waiting list: it brings only that person in.
    pub fn waiting_token(&self, id: WaitingId) -> String {
        self.model(|model| format!("{id}.{}", token_mac(&model.secrets.event_secret, id)))
    }

    /// Returns how the place with that token stands; `None`: there is none, it was taken off the
    /// list, or its seat was given back.
    pub fn standing(&self, token: &str) -> Option<Standing> {
        let (id, mac) = token.split_once('.')?;
        let id: WaitingId = id.parse().ok()?;
        self.model(|model| {
            let wanted = token_mac(&model.secrets.event_secret, id);
            if !same_bytes(wanted.as_bytes(), mac.as_bytes()) {
                return None;
            }
            let waits = |entry: &&Waiting| entry.given.is_none();
            let entry = model.waiting.iter().find(|entry| entry.id == id)?;
            match &entry.given {
                None => Some(Standing::Waits {
                    name: entry.name.clone(),
                    place: model
                        .waiting
                        .iter()
                        .filter(waits)
                        .position(|entry| entry.id == id)?
                        + 1,
                }),
                Some((seat, sitting)) => model
                    .seat(seat)
                    .filter(|record| record.sitting == *sitting && record.taken.is_some())
                    .map(|record| Standing::Has(record.seat.clone())),
            }
        })
    }

    /// Takes somebody off the waiting list. No-op if they do not wait.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn stop_waiting(&self, id: WaitingId, by: Actor) -> Result<(), WriteError> {
        self.write(move |work| {
            let changed = work
                .connection
                .prepare_cached(
                    "update waiting set ended_at = ?2 where id = ?1 and ended_at is null",
                )?
                .execute(params![id, work.now.as_microsecond()])?;
            if changed > 0 {
                work.audit(&by, "stop_waiting", &id.to_string())?;
                push(work)?;
            }
            Ok(())
        })
        .await
    }

    /// Gives somebody who waits a seat in which nobody sits, also one of a person on the list who
    /// has not come: that person's link ends.
    ///
    /// # Errors
    /// When they do not wait, there is no such seat, somebody sits there, or the write failed.
    pub async fn give_seat(
        &self,
        id: WaitingId,
        seat: &SeatId,
        by: Actor,
    ) -> Result<SeatRecord, TakeError> {
        let seat = seat.clone();
        self.write(move |work| {
            let entry = open_entry(work.connection, Some(id))?.ok_or(TakeError::Unknown)?;
            let known = seats::sitting(work.connection, &seat)?;
            known.ok_or(TakeError::Unknown)?;
            work.connection
                .prepare_cached("update seats set sitting = sitting + 1 where seat = ?1 and taken_at is null and listed")?
                .execute([seat.as_str()])?;
            give(work, &entry, &seat, &by)?.ok_or(TakeError::Taken)
        })
        .await
    }
}

/// Gives free seats to who waits, in order, as long as there are both.
pub(crate) fn seat_those_who_wait(work: &mut Work<'_>) -> rusqlite::Result<()> {
    loop {
        let Some(entry) = open_entry(work.connection, None)? else {
            return Ok(());
        };
        let Some(seat) = seats::first_free(work.connection)? else {
            return Ok(());
        };
        // Nobody else writes: a seat that was free a line ago is.
        give(work, &entry, &seat, &Actor::System)?;
    }
}

/// Returns whether somebody with that e-mail waits.
pub(crate) fn is_waiting(connection: &Connection, email: &str) -> rusqlite::Result<bool> {
    let found: Option<i64> = connection
        .prepare_cached("select 1 from waiting where email = ?1 and ended_at is null")?
        .query_row([email], |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}

/// Reads everybody who waits or got a seat, in order.
pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Vec<Waiting>> {
    let mut statement = connection.prepare_cached(
        "select id, name, at, seat, sitting from waiting where ended_at is null or seat is not null order by id",
    )?;
    let rows = statement.query_map([], entry_from)?;
    rows.collect()
}

struct OpenEntry {
    id: WaitingId,
    name: String,
    email: String,
}

fn open_entry(
    connection: &Connection,
    id: Option<WaitingId>,
) -> rusqlite::Result<Option<OpenEntry>> {
    connection
        .prepare_cached("select id, name, email from waiting where ended_at is null and (?1 is null or id = ?1) order by id limit 1")?
        .query_row([id], |row| {
            Ok(OpenEntry {
                id: row.get(0)?,
                name: row.get(1)?,
                email: row.get(2)?,
            })
        })
        .optional()
}

fn entry_from(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    let seat: Option<String> = row.get(3)?;
    let given = match seat {
        Some(_) => Some((parsed(row, 3)?, row.get(4)?)),
        None => None,
    };
    Ok(Waiting {
        id: row.get(0)?,
        name: row.get(1)?,
        at: timestamp(row, 2)?,
        given,
    })
}

fn add(work: &mut Work<'_>, name: &str, email: &str) -> Result<WaitingId, TakeError> {
    let waiting: i64 = work
        .connection
        .prepare_cached("select count(*) from waiting where ended_at is null")?
        .query_row([], |row| row.get(0))?;
    if waiting >= WAITING_MAX {
        return Err(TakeError::NoneFree);
    }
    work.connection
        .prepare_cached("insert into waiting (name, email, at) values (?1, ?2, ?3)")?
        .execute(params![name, email, work.now.as_microsecond()])?;
    let id = work.connection.last_insert_rowid();
    push(work)?;
    Ok(id)
}

fn give(
    work: &mut Work<'_>,
    entry: &OpenEntry,
    seat: &SeatId,
    by: &Actor,
) -> rusqlite::Result<Option<SeatRecord>> {
    let Some(record) = seats::sit_down(work, seat, Some(&entry.name), Some(&entry.email))? else {
        return Ok(None);
    };
    work.connection
        .prepare_cached("update waiting set seat = ?2, sitting = ?3, ended_at = ?4 where id = ?1")?
        .execute(params![
            entry.id,
            seat.as_str(),
            record.sitting,
            work.now.as_microsecond()
        ])?;
    work.audit(by, "give_seat", seat.as_str())?;
    push(work)?;
    Ok(Some(record))
}

fn push(work: &mut Work<'_>) -> rusqlite::Result<()> {
    let list = load(work.connection)?;
    work.changes.push(Change::Waiting(list));
    work.event(EventKind::WaitingChanged)
}

fn token_mac(secret: &[u8; 32], id: WaitingId) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(format!("waiting|{id}").as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..16])
}
