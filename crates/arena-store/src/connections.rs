//! Tests of people's connections, made on a page days before or in the room: the
//! last one of each person, for the facilitators.

use arena_workshop::SeatId;
use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::events::EventKind;
use crate::model::{Change, json, timestamp};
use crate::store::Store;
use crate::writer::{WriteError, to_json};

/// Tests that are kept; the oldest give way.
const TESTS_MAX: i64 = 1000;

/// What a browser found out about its way to the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// WebSockets go both ways.
    pub websocket: bool,
    /// Cookies are kept.
    pub cookies: bool,
    /// Pages may use the clipboard.
    pub clipboard: bool,
    /// Hosts of the event that the browser cannot reach, by what they are for.
    pub blocked: Vec<String>,
    /// Time to the event and back, in the middle of some tries.
    pub latency_ms: Option<u32>,
}

/// A test and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionTest {
    /// Name that was given, or of who sits in the seat.
    pub name: String,
    /// When.
    pub at: Timestamp,
    /// What came out.
    pub report: ConnectionReport,
}

impl ConnectionReport {
    /// Returns whether an editor can be used over this connection.
    pub fn is_good(&self) -> bool {
        self.websocket && self.cookies && self.blocked.is_empty()
    }
}

impl Store {
    /// Keeps a test in place of the last one of the same seat, or of the same name.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn record_connection_test(
        &self,
        seat: Option<&SeatId>,
        name: &str,
        report: ConnectionReport,
    ) -> Result<(), WriteError> {
        let subject = seat.map_or_else(
            || format!("name:{}", name.to_lowercase()),
            |seat| format!("seat:{seat}"),
        );
        let name = name.to_owned();
        self.write(move |work| {
            work.connection
                .prepare_cached("insert into connection_tests (subject, name, at, report) values (?1, ?2, ?3, ?4) on conflict (subject) do update set name = excluded.name, at = excluded.at, report = excluded.report")?
                .execute(params![subject, name, work.now.as_microsecond(), to_json(&report)?])?;
            work.connection
                .prepare_cached("delete from connection_tests where subject not in (select subject from connection_tests order by at desc limit ?1)")?
                .execute([TESTS_MAX])?;
            work.changes.push(Change::ConnectionTests(load(work.connection)?));
            Ok::<_, WriteError>(work.event(EventKind::ConnectionTested)?)
        })
        .await
    }

    /// Returns the tests, newest first.
    pub fn connection_tests(&self) -> Vec<ConnectionTest> {
        self.model(|model| model.connection_tests.clone())
    }
}

/// Reads all tests, newest first.
pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Vec<ConnectionTest>> {
    let mut statement = connection
        .prepare_cached("select name, at, report from connection_tests order by at desc, name")?;
    let rows = statement.query_map([], |row| {
        Ok(ConnectionTest {
            name: row.get(0)?,
            at: timestamp(row, 1)?,
            report: json(row, 2)?,
        })
    })?;
    rows.collect()
}
