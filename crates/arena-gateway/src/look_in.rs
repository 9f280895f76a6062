//! What a host serves: a route of the plan, or a visit's own two hosts, where one
//! facilitator looks into one seat for a while. Nobody has seen a visit's hosts
//! before, so nothing that the seat left in a browser waits there; and whoever is
//! there has left their facilitator's session at the portal.

use std::borrow::Cow;

use arena_store::{Principal, Session, Visit};
use arena_workshop::plan::Surface;

use crate::session::may_enter;
use crate::{Routes, Settings, Target, headers};

/// Ends the first label of an editor's host.
const EDITOR_SUFFIX: &str = "--code";

/// A host and what it serves.
pub(crate) struct Place<'a> {
    pub(crate) target: Cow<'a, Target>,
    /// The visit whose host it is.
    pub(crate) visit: Option<Visit>,
}

impl<'a> Place<'a> {
    /// Returns what a host (lower case, without port) serves now.
    pub(crate) fn of(settings: &Settings, routes: &'a Routes, host: &str) -> Option<Self> {
        if let Some(target) = routes.target(host) {
            return Some(Self {
                target: Cow::Borrowed(target),
                visit: None,
            });
        }
        let label = host
            .strip_suffix(&settings.address.domain)?
            .strip_suffix('.')?;
        let (label, is_editor) = label
            .strip_suffix(EDITOR_SUFFIX)
            .map_or((label, false), |label| (label, true));
        let visit = settings.store.visit(label)?;
        let seat = visit.seat.clone();
        let surface = if is_editor {
            Surface::SeatEditor(seat)
        } else {
            Surface::SeatApps(seat)
        };
        let target = routes.target(routes.host_of(&surface)?)?;
        Some(Self {
            target: Cow::Borrowed(target),
            visit: Some(visit),
        })
    }

    /// Returns the host of the editor that belongs to this place.
    pub(crate) fn editor_host(&self, settings: &Settings, routes: &Routes) -> Option<String> {
        let (Surface::SeatApps(seat) | Surface::SeatEditor(seat)) = &self.target.surface else {
            return None;
        };
        match &self.visit {
            Some(visit) => Some(format!(
                "{}{EDITOR_SUFFIX}.{}",
                visit.label, settings.address.domain
            )),
            None => routes
                .host_of(&Surface::SeatEditor(seat.clone()))
                .map(str::to_owned),
        }
    }

    /// Returns which origins may show this place in a frame: a visit's hosts only each other.
    pub(crate) fn frame_ancestors(&self, settings: &Settings, routes: &Routes) -> String {
        let editor = self.editor_host(settings, routes);
        match (&self.visit, &editor) {
            (Some(_), Some(editor)) => format!("'self' {}", settings.origin(editor)),
            _ => headers::frame_ancestors(settings, &self.target.surface, editor.as_deref()),
        }
    }

    /// Returns whether somebody with a session of this host may be here.
    pub(crate) fn lets_in(&self, principal: &Principal) -> bool {
        match &self.visit {
            Some(visit) => *principal == visit.visitor(),
            None => may_enter(principal, &self.target.surface),
        }
    }

    /// Returns as whom somebody with a session of the portal may come here: on a visit's hosts only
    /// the browser that began it, and there it is a visitor.
    pub(crate) fn vouches_for(&self, session: &Session) -> Option<Principal> {
        match &self.visit {
            Some(visit) => (session.id == visit.session).then(|| visit.visitor()),
            None => may_enter(&session.principal, &self.target.surface)
                .then(|| session.principal.clone()),
        }
    }
}
