//! What the gateway is told when it starts. Limits have documented defaults;
//! a test makes them small.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use arena_store::Store;
use arena_workshop::EventId;
use arena_workshop::plan::Address;

use crate::Routes;

/// Everything [`serve`](crate::serve) needs besides its listener.
#[derive(Clone)]
pub struct Settings {
    /// Names the platform's cookies: ports do not separate cookies, events on one machine do.
    pub event: EventId,
    /// Where browsers find the event; the portal is at the domain itself.
    pub address: Address,
    /// Which host serves what. Store a new value to change it; running connections stay.
    pub routes: Arc<ArcSwap<Routes>>,
    /// Sessions, seats and orders.
    pub store: Store,
    /// How much of everything.
    pub limits: Limits,
}

impl Settings {
    /// Returns the origin of a host as a browser writes it: without the scheme's own port.
    pub(crate) fn origin(&self, host: &str) -> String {
        match (self.address.scheme.as_str(), self.address.port) {
            ("http", 80) | ("https", 443) => format!("{}://{host}", self.address.scheme),
            _ => self.address.origin(host),
        }
    }

    /// Returns the origin of the portal.
    pub(crate) fn portal_origin(&self) -> String {
        self.origin(&self.address.domain)
    }

    /// Returns whether browsers speak TLS to this event.
    pub(crate) fn is_secure(&self) -> bool {
        self.address.scheme == "https"
    }
}

/// How much of everything, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; later ones wait in the listener's queue. 4,096.
    pub connections_max: usize,
    /// Connections of one address at once; generous, a room shares one address. 2,048.
    pub connections_per_address_max: usize,
    /// Time to send a request's head, and for an idle connection to send the next. 15 s.
    pub head_wait: Duration,
    /// Size of a request's head. 64 KiB.
    pub head_bytes_max: usize,
    /// Header lines of a request. 200.
    pub headers_max: usize,
    /// Size of all cookies of a request; above it a page clears them. 8 KiB.
    pub cookie_bytes_max: usize,
    /// Size of a request's body. 256 MiB.
    pub body_bytes_max: u64,
    /// Longest pause inside a request's body. 60 s.
    pub body_idle: Duration,
    /// Time to connect to a seat or the portal. 5 s.
    pub connect_wait: Duration,
    /// Time for a seat or the portal to begin its answer. One hour.
    pub answer_wait: Duration,
    /// How long an unused connection to a seat is kept; Node closes at 5 s. 4 s.
    pub pool_idle: Duration,
    /// Requests that wait for sleeping editors at once. 1,024.
    pub wake_waiters_max: usize,
    /// How long a request waits for a sleeping editor. 30 s.
    pub wake_wait: Duration,
    /// How long a browser's navigation waits before it gets a page that says so. 1 s.
    pub wake_page_after: Duration,
    /// A browser's WebSocket that is silent this long gets a ping. 25 s.
    pub ping_every: Duration,
    /// Time for running requests and WebSockets to end at shutdown. 10 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            connections_per_address_max: 2_048,
            head_wait: Duration::from_secs(15),
            head_bytes_max: 64 << 10,
            headers_max: 200,
            cookie_bytes_max: 8 << 10,
            body_bytes_max: 256 << 20,
            body_idle: Duration::from_secs(60),
            connect_wait: Duration::from_secs(5),
            answer_wait: Duration::from_secs(3_600),
            pool_idle: Duration::from_secs(4),
            wake_waiters_max: 1_024,
            wake_wait: Duration::from_secs(30),
            wake_page_after: Duration::from_secs(1),
            ping_every: Duration::from_secs(25),
            drain: Duration::from_secs(10),
        }
    }
}
