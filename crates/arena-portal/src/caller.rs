//! Who asks, as the gateway says in its headers.

use std::sync::Arc;

use arena_store::{Actor, Principal};
use arena_workshop::SeatId;
use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;

use crate::problem::{Code, Problem};
use crate::serve::App;

/// Which kind of host a request came in on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    Portal,
    Instructions,
    Seat,
}

/// Who asks. Anybody may be nobody.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Option<Principal>,
    /// Id of the session, for tokens against forged requests.
    pub(crate) session: String,
    /// Address of the browser, for limits.
    pub(crate) address: String,
    /// The newest event when the request came: live events go on from there, so that nothing is
    /// missed between a page and its stream.
    pub(crate) seen: i64,
}

/// Somebody who sits in a seat.
#[derive(Debug, Clone)]
pub(crate) struct Participant {
    pub(crate) seat: SeatId,
}

/// A facilitator, on the portal's own host.
#[derive(Debug, Clone)]
pub(crate) struct Facilitator {
    pub(crate) name: String,
    pub(crate) session: String,
}

impl Surface {
    /// Returns the surface that the gateway says; `None` when it says none that we know.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        match headers.get("x-arena-surface")?.to_str().ok()? {
            "portal" => Some(Self::Portal),
            "instructions" => Some(Self::Instructions),
            "seat" | "editor" => Some(Self::Seat),
            _ => None,
        }
    }
}

impl Caller {
    pub(crate) fn of(headers: &HeaderMap, app: &App) -> Self {
        let text = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        Self {
            principal: text("x-arena-principal").parse().ok(),
            session: text("x-arena-session").to_owned(),
            address: text("x-forwarded-for").to_owned(),
            seen: app.settings.store.last_event(),
        }
    }

    /// Returns the seat of a participant.
    pub(crate) fn seat(&self) -> Option<&SeatId> {
        match &self.principal {
            Some(Principal::Participant(seat)) => Some(seat),
            _ => None,
        }
    }

    pub(crate) fn is_facilitator(&self) -> bool {
        matches!(self.principal, Some(Principal::Facilitator(_)))
    }
}

impl Facilitator {
    pub(crate) fn actor(&self) -> Actor {
        Actor::Facilitator(self.name.clone())
    }
}

/// Returns an error when a seat is no longer on the list of names: it is kept, and nobody sits there.
pub(crate) fn check_on_list(app: &App, seat: &SeatId) -> Result<(), Problem> {
    let record = app.settings.store.seat(seat);
    if record.is_some_and(|record| record.decommissioned) {
        return Err(Problem::new(Code::OffTheList));
    }
    Ok(())
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        app: &Arc<App>,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.headers, app))
    }
}

impl FromRequestParts<Arc<App>> for Participant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let caller = Caller::of(&parts.headers, app);
        match caller.principal {
            Some(Principal::Participant(seat)) => {
                check_on_list(app, &seat)?;
                Ok(Self { seat })
            }
            Some(Principal::Facilitator(_) | Principal::Visitor { .. }) => {
                Err(Problem::new(Code::ParticipantsOnly))
            }
            None => Err(Problem::new(Code::NotJoined)),
        }
    }
}

impl FromRequestParts<Arc<App>> for Facilitator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let caller = Caller::of(&parts.headers, app);
        match caller.principal {
            Some(Principal::Facilitator(name))
                if Surface::of(&parts.headers) == Some(Surface::Portal) =>
            {
                Ok(Self {
                    name,
                    session: caller.session,
                })
            }
            _ => Err(Problem::new(Code::FacilitatorsOnly)),
        }
    }
}
