//! Everything the gateway answers by itself because a request cannot go on, as
//! one closed list. `pages.rs` turns it into a page for people or a short code
//! for programs.

use std::error::Error;

use arena_workshop::plan::AppKind;
use http::StatusCode;

/// Why a request does not go on.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It can be read in more than one way, or in none.
    Malformed(&'static str),
    /// CONNECT or TRACE.
    Method,
    /// No such host in this event.
    UnknownHost,
    /// Too many or too large cookies: their names, to be cleared.
    Cookies(Vec<String>),
    /// A page of another origin asked.
    Foreign,
    /// Nobody is logged in here, and a program asked.
    NoSession,
    /// Nobody is logged in at the portal, and a host needs it.
    NobodyKnown,
    /// Somebody else's seat.
    NotYours,
    /// Hand-overs of this browser lead nowhere: it keeps no cookies.
    Circle,
    /// A hand-over that was used, is too old, or belongs to another browser.
    StaleHandover,
    /// The editor wakes: its place in line, if it waits for its turn.
    Waking { position: Option<u32> },
    /// The editor did not wake, and why.
    WakeFailed(Option<String>),
    /// Too many requests wait already.
    Crowded,
    /// Nobody listens there.
    SeatDown,
    /// Nobody listens at the portal's socket.
    PortalDown,
    /// The seat says that its editor does not answer, though it was awake.
    EditorDown,
    /// The seat says that it has nothing there.
    UnknownPage,
    /// The seat says that this app does not run.
    AppDown(AppKind),
    /// It broke off before it answered, or answered nonsense.
    BrokenAnswer,
    /// It did not answer in time.
    Late,
    /// Our own fault or the machine's; the log has the details.
    Broken,
}

impl Refusal {
    /// Logs what went wrong here and keeps it from the browser.
    pub(crate) fn broken(what: &'static str, error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error, "{what}");
        Self::Broken
    }

    /// Returns the status to answer with.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Circle | Self::StaleHandover => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownHost | Self::UnknownPage => StatusCode::NOT_FOUND,
            Self::Cookies(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Foreign | Self::NotYours => StatusCode::FORBIDDEN,
            Self::NoSession | Self::NobodyKnown => StatusCode::UNAUTHORIZED,
            Self::Waking { .. }
            | Self::WakeFailed(_)
            | Self::Crowded
            | Self::EditorDown
            | Self::AppDown(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::SeatDown | Self::PortalDown | Self::BrokenAnswer => StatusCode::BAD_GATEWAY,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the stable code that programs go by.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed-request",
            Self::Method => "method-not-allowed",
            Self::UnknownHost => "unknown-host",
            Self::Cookies(_) => "cookies-too-large",
            Self::Foreign => "foreign-origin",
            Self::NoSession | Self::NobodyKnown => "no-session",
            Self::NotYours => "not-yours",
            Self::Circle => "cookies-not-kept",
            Self::StaleHandover => "stale-hand-over",
            Self::Waking { .. } => "waking",
            Self::WakeFailed(_) => "wake-failed",
            Self::Crowded => "crowded",
            Self::EditorDown => "editor-down",
            Self::UnknownPage => "unknown-page",
            Self::SeatDown => "seat-down",
            Self::PortalDown => "portal-down",
            Self::AppDown(_) => "app-down",
            Self::BrokenAnswer => "broken-answer",
            Self::Late => "late-answer",
            Self::Broken => "internal",
        }
    }

    /// Returns after how many seconds it is worth asking again.
    pub(crate) fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Waking { .. }
            | Self::EditorDown
            | Self::SeatDown
            | Self::PortalDown
            | Self::AppDown(_) => Some(2),
            Self::WakeFailed(_) | Self::Crowded => Some(5),
            _ => None,
        }
    }

    /// Returns a heading and a text for people.
    pub(crate) fn words(&self) -> (&'static str, String) {
        let (heading, text) = match self {
            Self::Malformed(what) => ("This request makes no sense", return_text(what)),
            Self::Method => ("This is not done here", "The method of this request is not allowed.".into()),
            Self::UnknownHost => ("Nothing lives at this address", "Please start at the event's own page.".into()),
            Self::Cookies(_) => (
                "Too many cookies",
                "Pages of this event have left more cookies than fit. They were cleared: please load the page again.".into(),
            ),
            Self::Foreign => ("Another page asked for this", "For your safety this only works from its own page.".into()),
            Self::NoSession | Self::NobodyKnown => {
                ("Please join first", "Open your personal link, or join with the event's code, and come back.".into())
            }
            Self::NotYours => ("This seat is somebody else's", "Only the person who sits there may enter it.".into()),
            Self::Circle => (
                "Your browser kept no cookie",
                "Please allow cookies for this event and load the page again in a minute.".into(),
            ),
            Self::StaleHandover => {
                ("This link was used already", "Please go back to the event's page and open it from there.".into())
            }
            Self::Waking { position: Some(position) } => (
                "Your editor waits for its turn",
                format!("Several editors wake at once. Yours is number {position} in line. This page goes on by itself."),
            ),
            Self::Waking { position: None } => {
                ("Your editor wakes up", "This takes a few seconds. This page goes on by itself.".into())
            }
            Self::WakeFailed(why) => ("Your editor did not start", wake_failed_text(why.as_deref())),
            Self::Crowded => ("Many people are coming in", "Please wait a few seconds. This page goes on by itself.".into()),
            Self::EditorDown => ("Your editor wakes up", "This takes a few seconds. This page goes on by itself.".into()),
            Self::UnknownPage => (
                "Nothing lives at this address",
                "A seat has /app/, /backend/, /react/ and /postgres/, as far as the workshop uses them.".into(),
            ),
            Self::SeatDown => (
                "Your seat is not running",
                "It is being started, or was stopped. If this stays, please call a facilitator.".into(),
            ),
            Self::PortalDown => ("The event's page is not running", "Please try again in a moment.".into()),
            Self::AppDown(kind) => ("Your app is not running", app_down_text(*kind)),
            Self::BrokenAnswer => ("There was no whole answer", "The app broke off while it answered. Please try again.".into()),
            Self::Late => ("There was no answer in time", "The app did not answer. Please look at its output.".into()),
            Self::Broken => ("Something broke on our side", "It was written to the event's log. Please try again.".into()),
        };
        (heading, text)
    }
}

fn return_text(what: &str) -> String {
    format!("It has {what}.")
}

fn wake_failed_text(why: Option<&str>) -> String {
    let why = why.map_or(String::new(), |why| format!(" What it said: {why}."));
    format!(
        "Loading this page again starts another try.{why} If it fails again, please call a facilitator."
    )
}

fn app_down_text(kind: AppKind) -> String {
    match kind {
        AppKind::Backend => {
            "Your back end is not running: see the terminal named server in your editor."
        }
        AppKind::Frontend => {
            "Your front end was not built: see the terminal named server in your editor."
        }
        AppKind::React => {
            "Your React app is not running: nothing answers on port 3001 of your seat."
        }
        AppKind::Postgres => {
            "Your PostgreSQL app is not running: nothing answers on port 5001 of your seat."
        }
    }
    .to_owned()
}
