//! Which host serves what, as a value that is replaced as a whole. Readers
//! never lock: the gateway loads the current value once per request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use arena_workshop::SeatId;
use arena_workshop::plan::{Plan, Surface};

/// Authority of the portal's own service; never seen by a browser.
const PORTAL_AUTHORITY: &str = "portal.invalid";

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket: a seat, or a service of the same process.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

/// A service behind the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Name that connections are pooled under, such as `ada.1.invalid`. Two seats, or two
    /// lives of one seat, never share one.
    pub authority: String,
    /// Where it listens.
    pub endpoint: Endpoint,
}

/// What a host serves and where that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What kind of host it is.
    pub surface: Surface,
    /// Who answers there.
    pub upstream: Upstream,
}

/// All hosts of an event.
#[derive(Debug, Clone)]
pub struct Routes {
    portal: Upstream,
    hosts: HashMap<String, Target>,
    endpoints: HashMap<String, Endpoint>,
}

impl Routes {
    /// Returns the routes of some hosts; `portal` answers `/_arena/` on all of them.
    pub fn new(portal: Upstream, hosts: impl IntoIterator<Item = (String, Target)>) -> Self {
        let hosts: HashMap<String, Target> = hosts.into_iter().collect();
        let endpoints = hosts
            .values()
            .map(|target| &target.upstream)
            .chain([&portal])
            .map(|upstream| (upstream.authority.clone(), upstream.endpoint.clone()))
            .collect();
        Self {
            portal,
            hosts,
            endpoints,
        }
    }

    /// Returns a plan's routes: portal and instructions at `portal`, each seat where
    /// `seat_endpoint` says. Routes to seats that the plan does not list are left out.
    pub fn from_plan(
        plan: &Plan,
        portal: Endpoint,
        seat_endpoint: impl Fn(&SeatId) -> Endpoint,
    ) -> Self {
        let portal = Upstream {
            authority: PORTAL_AUTHORITY.to_owned(),
            endpoint: portal,
        };
        let authorities: HashMap<&SeatId, &str> = plan
            .seats
            .iter()
            .map(|seat| (&seat.id, seat.authority.as_str()))
            .collect();
        let hosts = plan.routes.iter().filter_map(|route| {
            let upstream = match &route.surface {
                Surface::Portal | Surface::Instructions => portal.clone(),
                Surface::SeatApps(seat) | Surface::SeatEditor(seat) => Upstream {
                    authority: (*authorities.get(seat)?).to_owned(),
                    endpoint: seat_endpoint(seat),
                },
            };
            Some((
                route.host.clone(),
                Target {
                    surface: route.surface.clone(),
                    upstream,
                },
            ))
        });
        let hosts: Vec<_> = hosts.collect();
        Self::new(portal, hosts)
    }

    /// Returns what a host (lower case, without port) serves.
    pub fn target(&self, host: &str) -> Option<&Target> {
        self.hosts.get(host)
    }

    /// Returns the portal's service.
    pub fn portal(&self) -> &Upstream {
        &self.portal
    }

    /// Returns the host that serves a surface, such as a seat's editor.
    pub(crate) fn host_of(&self, surface: &Surface) -> Option<&str> {
        self.hosts
            .iter()
            .find(|(_, target)| target.surface == *surface)
            .map(|(host, _)| host.as_str())
    }

    /// Returns where an authority listens.
    pub(crate) fn endpoint(&self, authority: &str) -> Option<&Endpoint> {
        self.endpoints.get(authority)
    }
}
