//! What the portal is told when it starts: plain values, the store, and where pages are.

use std::fmt;
use std::sync::Arc;

use arena_store::Store;
use arena_workshop::plan::Address;
use arena_workshop::scoring::Scoring;
use arena_workshop::{EventId, ExerciseSlug, SeatId};
use bytes::Bytes;

use crate::texts::Language;

/// How long a browser keeps a session: longer than any event. The store ends it earlier.
const SESSION_SECONDS: u32 = 30 * 24 * 3600;

/// Everything [`serve`](crate::serve) needs besides its listener.
#[derive(Clone)]
pub struct Settings {
    /// Names the session cookie, `arena_{event}`.
    pub event: EventId,
    /// The workshop's title.
    pub title: String,
    /// Where browsers find the event; the portal is at the domain itself.
    pub address: Address,
    /// Language of the pages.
    pub language: Language,
    /// The scenario's exercises, in order.
    pub exercises: Vec<ExerciseEntry>,
    /// Whether people who have no personal link get in by the event's code.
    pub joins_by_code: bool,
    /// How the board ranks.
    pub scoring: Scoring,
    /// Shown on the board, where there are prizes.
    pub prizes: Option<Prizes>,
    /// Path of the workshop's app on a seat's host, such as `/app/` or `/backend/`; `None` where
    /// the workshop has no app to look at.
    pub app_path: Option<String>,
    /// Path of the first page of the instructions, such as `/`.
    pub instructions_path: String,
    /// Whether seats are separated from each other and from this machine. Where they are not, every
    /// seat's page says so.
    pub is_separated: bool,
    /// Looks up pages of the instructions.
    pub instructions: StaticPages,
    /// Looks up how a seat's own programs reach its databases: shown to who sits there.
    pub databases: SeatDatabases,
    /// People, results, orders, events.
    pub store: Store,
}

/// An exercise as the portal shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExerciseEntry {
    /// Such as `crud-1`.
    pub slug: ExerciseSlug,
    /// Shown to people.
    pub title: String,
    /// Its page in the instructions, such as `/crud/1/`.
    pub page: Option<String>,
    /// What it needs and this event does not have, such as `PostgreSQL`: it is shown greyed out with
    /// that reason, cannot be checked and counts nowhere. Empty for all others.
    pub missing: Vec<String>,
}

/// What the board says about prizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prizes {
    /// Such as `at the stage`.
    pub place: String,
    /// Such as `17:00`.
    pub time: String,
}

/// A finished page or file of the instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticPage {
    /// Such as `text/html; charset=utf-8`.
    pub content_type: String,
    /// Its bytes.
    pub body: Bytes,
    /// Quoted entity tag.
    pub etag: String,
}

/// Finds a page of the instructions by its path, such as `/crud/1/`.
pub type StaticPages = Arc<dyn Fn(&str) -> Option<StaticPage> + Send + Sync>;

/// How a seat's own programs reach one of its databases, with the seat's own password. Never logged.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseAccess {
    /// MongoDB, or the built-in database.
    Mongodb {
        /// Connection string.
        uri: String,
    },
    /// PostgreSQL.
    Postgres {
        /// Connection URI.
        uri: String,
        /// The same for Java.
        jdbc: String,
    },
}

/// Finds a seat's databases as they are now: a password may change while the event runs.
pub type SeatDatabases = Arc<dyn Fn(&SeatId) -> Vec<DatabaseAccess> + Send + Sync>;

impl fmt::Debug for DatabaseAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mongodb { .. } => "Mongodb(…)",
            Self::Postgres { .. } => "Postgres(…)",
        })
    }
}

impl Settings {
    /// Returns the origin of a host as a browser writes it: without the scheme's own port.
    pub(crate) fn origin(&self, host: &str) -> String {
        match (self.address.scheme.as_str(), self.address.port) {
            ("http", 80) | ("https", 443) => format!("{}://{host}", self.address.scheme),
            _ => self.address.origin(host),
        }
    }

    /// Returns the portal's own origin.
    pub(crate) fn portal_origin(&self) -> String {
        self.origin(&self.address.domain)
    }

    pub(crate) fn instructions_origin(&self) -> String {
        self.origin(&format!("instructions.{}", self.address.domain))
    }

    pub(crate) fn editor_origin(&self, seat: &SeatId) -> String {
        self.origin(&format!("{seat}--code.{}", self.address.domain))
    }

    pub(crate) fn app_url(&self, seat: &SeatId) -> Option<String> {
        let path = self.app_path.as_ref()?;
        Some(format!(
            "{}{path}",
            self.origin(&format!("{seat}.{}", self.address.domain))
        ))
    }

    /// Returns the exercises that can be solved here, in order: what totals count.
    pub(crate) fn solvable(&self) -> impl Iterator<Item = &ExerciseEntry> {
        self.exercises
            .iter()
            .filter(|entry| entry.missing.is_empty())
    }

    /// Returns the exercise's title, else its slug.
    pub(crate) fn exercise_title<'a>(&'a self, slug: &'a ExerciseSlug) -> &'a str {
        self.exercises
            .iter()
            .find(|entry| entry.slug == *slug)
            .map_or(slug.as_str(), |entry| &entry.title)
    }

    /// Returns a `Set-Cookie` value that gives this browser a session on the portal's host, or with
    /// an empty secret takes it away.
    pub(crate) fn session_cookie(&self, secret: &str) -> String {
        let (prefix, secure) = if self.address.scheme == "https" {
            ("__Host-", "; Secure")
        } else {
            ("", "")
        };
        let seconds = if secret.is_empty() {
            0
        } else {
            SESSION_SECONDS
        };
        format!(
            "{prefix}arena_{}={secret}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}",
            self.event
        )
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("event", &self.event)
            .field("title", &self.title)
            .finish_non_exhaustive()
    }
}
