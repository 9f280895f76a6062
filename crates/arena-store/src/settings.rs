//! What belongs to the event as a whole: its secrets, when its board freezes, who did what.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::events::EventKind;
use crate::links::random_code;
use crate::model::{Change, parsed, timestamp};
use crate::store::{OpenError, Store};
use crate::types::Actor;
use crate::writer::WriteError;

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
    /// What, such as `restore_database`.
    pub action: String,
    /// With whom or what.
    pub subject: String,
}

/// Made once and kept.
pub(crate) struct Secrets {
    pub(crate) event_secret: [u8; 32],
    pub(crate) event_code: String,
}

impl Store {
    /// Returns when the board freezes or froze; results committed later do not count.
    pub fn close_on(&self) -> Option<Timestamp> {
        self.model(|model| model.close_on)
    }

    /// Freezes the board at an instant, or unfreezes it. No-op if it is so already.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn set_close_on(
        &self,
        close_on: Option<Timestamp>,
        by: Actor,
    ) -> Result<(), WriteError> {
        let close_on =
            close_on.and_then(|at| Timestamp::from_microsecond(at.as_microsecond()).ok());
        self.write(move |work| {
            if load_close_on(work.connection)? == close_on {
                return Ok(());
            }
            match close_on {
                Some(at) => work
                    .connection
                    .prepare_cached("insert into settings (key, value) values ('close_on', ?1) on conflict (key) do update set value = excluded.value")?
                    .execute([at.as_microsecond()])?,
                None => work.connection.execute("delete from settings where key = 'close_on'", [])?,
            };
            work.changes.push(Change::CloseOn(close_on));
            let subject = close_on.map_or_else(|| "never".to_owned(), |at| at.to_string());
            work.audit(&by, "freeze_board", &subject)?;
            Ok(work.event(EventKind::CloseOnChanged)?)
        })
        .await
    }

    /// Writes to the audit log who did what with whom or what. Changes made through the store
    /// by an [`Actor`] write there themselves.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn audit(&self, by: Actor, action: &str, subject: &str) -> Result<(), WriteError> {
        let (action, subject) = (action.to_owned(), subject.to_owned());
        self.write(move |work| Ok(work.audit(&by, &action, &subject)?))
            .await
    }

    /// Returns the last `limit` lines of the audit log, newest first. Reads the file.
    pub fn audit_log(&self, limit: usize) -> Vec<AuditEntry> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "select at, actor, action, subject from audit order by id desc limit ?1",
            )?;
            let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                Ok(AuditEntry {
                    at: timestamp(row, 0)?,
                    by: parsed(row, 1)?,
                    action: row.get(2)?,
                    subject: row.get(3)?,
                })
            })?;
            rows.collect()
        })
    }
}

/// Makes the event's secrets where there are none.
pub(crate) fn make_secrets(connection: &Connection) -> Result<rusqlite::Result<()>, OpenError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| OpenError::Machine(std::io::Error::other(error)))?;
    let code = random_code().map_err(|error| OpenError::Machine(std::io::Error::other(error)))?;
    let insert = "insert or ignore into settings (key, value) values (?1, ?2)";
    Ok(connection
        .execute(insert, params!["event_secret", secret])
        .and_then(|_| connection.execute(insert, params!["event_code", code]))
        .map(drop))
}

pub(crate) fn load_secrets(connection: &Connection) -> rusqlite::Result<Secrets> {
    let mut statement = connection.prepare("select value from settings where key = ?1")?;
    let event_secret = statement.query_row(["event_secret"], |row| row.get(0))?;
    let event_code = statement.query_row(["event_code"], |row| row.get(0))?;
    Ok(Secrets {
        event_secret,
        event_code,
    })
}

pub(crate) fn load_close_on(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .query_row(
            "select value from settings where key = 'close_on'",
            [],
            |row| timestamp(row, 0),
        )
        .optional()
}
