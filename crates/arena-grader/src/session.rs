//! Connections of one run, made when first needed and closed at its end.

use crate::mongo::Mongo;
use crate::sql::Sql;
use crate::{Limits, SeatAccess};

/// Why a step has no answer: lines for the participant.
#[derive(Debug)]
pub(crate) struct StepFailure(pub(crate) Vec<String>);

impl StepFailure {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self(vec![line.into()])
    }
}

/// One run's way into a seat.
pub(crate) struct Session<'a> {
    pub(crate) seat: &'a SeatAccess,
    pub(crate) limits: &'a Limits,
    mongo: Option<Mongo>,
    sql: Option<Sql>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(seat: &'a SeatAccess, limits: &'a Limits) -> Self {
        Self {
            seat,
            limits,
            mongo: None,
            sql: None,
        }
    }

    /// Returns the connection to the seat's MongoDB.
    pub(crate) async fn mongo(&mut self) -> Result<&mut Mongo, StepFailure> {
        if self.mongo.is_none() {
            let access = self
                .seat
                .mongodb
                .as_ref()
                .ok_or_else(|| StepFailure::new("this event has no MongoDB"))?;
            self.mongo = Some(Mongo::connect(access, self.limits).await?);
        }
        self.mongo
            .as_mut()
            .ok_or_else(|| StepFailure::new("this event has no MongoDB"))
    }

    /// Returns the connection to the seat's PostgreSQL.
    pub(crate) async fn sql(&mut self) -> Result<&mut Sql, StepFailure> {
        if self.sql.as_ref().is_none_or(Sql::is_closed) {
            let access = self
                .seat
                .postgres
                .as_ref()
                .ok_or_else(|| StepFailure::new("this event has no PostgreSQL"))?;
            self.sql = Some(Sql::connect(access, self.limits).await?);
        }
        self.sql
            .as_mut()
            .ok_or_else(|| StepFailure::new("this event has no PostgreSQL"))
    }

    /// Closes what was opened.
    pub(crate) async fn close(self) {
        if let Some(mongo) = self.mongo {
            mongo.close().await;
        }
        if let Some(sql) = self.sql {
            sql.close().await;
        }
    }
}
