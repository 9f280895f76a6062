//! Visits: a facilitator looks into a seat. Each has a host name of its own that
//! nobody has seen before, so nothing that the seat put into a browser is there.
//! One browser may enter it, once; it ends by itself, with the facilitator's
//! session, and when the seat is given back. Visits live in memory.

use std::time::Duration;

use arena_workshop::SeatId;
use jiff::{SignedDuration, Timestamp};

use crate::events::EventKind;
use crate::links::random_code;
use crate::model::Change;
use crate::sessions::Session;
use crate::store::Store;
use crate::types::{Actor, Principal};
use crate::writer::{WriteError, now};

/// How long a visit lasts.
const VISIT_LIFE: SignedDuration = SignedDuration::from_mins(30);
/// Visits that are remembered; the oldest give way.
const VISITS_MAX: usize = 256;

/// A facilitator's look into a seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Its host's first label, `{label}.{domain}`; the editor's is `{label}--code.{domain}`.
    pub label: String,
    /// The seat.
    pub seat: SeatId,
    /// The seat's sitting when it began.
    pub sitting: i64,
    /// Name of the facilitator.
    pub facilitator: String,
    /// Id of the facilitator's session at the portal.
    pub session: String,
    /// When it began.
    pub at: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

impl Visit {
    /// Returns how long it still lasts.
    pub fn remaining(&self) -> Duration {
        Duration::try_from(self.until.duration_since(Timestamp::now())).unwrap_or_default()
    }

    /// Returns whom the seat sees.
    pub fn visitor(&self) -> Principal {
        Principal::Visitor {
            seat: self.seat.clone(),
            facilitator: self.facilitator.clone(),
        }
    }
}

impl Store {
    /// Begins a visit of the facilitator whose session it is. `None`: there is no such seat, or it
    /// is nobody's session or not a facilitator's.
    ///
    /// # Errors
    /// When it could not be committed.
    pub async fn begin_visit(
        &self,
        seat: &SeatId,
        session: &Session,
    ) -> Result<Option<Visit>, WriteError> {
        let Principal::Facilitator(facilitator) = session.principal.clone() else {
            return Ok(None);
        };
        let known = self.seat(seat).filter(|record| !record.decommissioned);
        let Some(record) = known.filter(|_| self.session_holds(&session.id)) else {
            return Ok(None);
        };
        let random = format!("{}{}{}", random_code()?, random_code()?, random_code()?);
        let at = now();
        let visit = Visit {
            label: format!("look-{}", random.to_lowercase()),
            seat: seat.clone(),
            sitting: record.sitting,
            facilitator: facilitator.clone(),
            session: session.id.clone(),
            at,
            until: at.checked_add(VISIT_LIFE).unwrap_or(at),
        };
        let begun = visit.clone();
        self.write(move |work| {
            let seat = begun.seat.clone();
            work.audit(&Actor::Facilitator(facilitator), "look_in", seat.as_str())?;
            work.changes.push(Change::Visit(begun));
            Ok::<_, WriteError>(work.event(EventKind::LookedInto { seat })?)
        })
        .await?;
        Ok(Some(visit))
    }

    /// Returns the visit of a label, if it has not ended.
    pub fn visit(&self, label: &str) -> Option<Visit> {
        let now = Timestamp::now();
        self.model(|model| {
            let named = model.visits.iter().find(|visit| visit.label == label);
            named.filter(|visit| model.visit_holds(visit, now)).cloned()
        })
    }

    /// Returns the visits of a seat that have not ended.
    pub fn visits_of(&self, seat: &SeatId) -> Vec<Visit> {
        let now = Timestamp::now();
        self.model(|model| {
            model
                .visits
                .iter()
                .filter(|visit| visit.seat == *seat && model.visit_holds(visit, now))
                .cloned()
                .collect()
        })
    }

    /// Lets one browser in on one of a visit's hosts: true for the first.
    pub fn enter_visit(&self, visit: &Visit, host: &str) -> bool {
        let holds = self.visit(&visit.label).is_some();
        holds && self.shared().entered_hosts().insert(host.to_owned())
    }
}

/// Adds a visit to those that are remembered.
pub(crate) fn remember(visits: &mut Vec<Visit>, visit: Visit) {
    visits.retain(|known| known.until > visit.at);
    if visits.len() >= VISITS_MAX {
        visits.remove(0);
    }
    visits.push(visit);
}
