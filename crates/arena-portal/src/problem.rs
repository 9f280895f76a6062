//! What went wrong, for programs (RFC 9457 with a stable `code`) and for people (a friendly page).

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use arena_store::{TakeError, WriteError};

/// Everything that can be refused. The name in snake case is the stable `code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    /// The gateway said nothing that we know about this host.
    UnknownHost,
    NotFound,
    Malformed,
    MissingFields,
    ForeignOrigin,
    StaleForm,
    NotJoined,
    /// The seat is no longer on the list of names.
    OffTheList,
    ParticipantsOnly,
    FacilitatorsOnly,
    LinkInvalid,
    FacilitatorLinkInvalid,
    #[serde(rename = "wrong_code")]
    Mistyped,
    TooManyTries,
    SeatTaken,
    SeatUnknown,
    NoneFree,
    EmailKnown,
    NameUnfit,
    ExerciseUnknown,
    NoResults,
    Excluded,
    Broken,
}

/// A refusal. As a response it is problem details; pages turn it into a page (`serve.rs`).
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) retry_after_seconds: Option<u64>,
}

impl Code {
    /// Returns the HTTP status.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::UnknownHost | Self::Malformed | Self::MissingFields | Self::NameUnfit => {
                StatusCode::BAD_REQUEST
            }
            Self::NotFound
            | Self::LinkInvalid
            | Self::FacilitatorLinkInvalid
            | Self::SeatUnknown
            | Self::NoneFree
            | Self::ExerciseUnknown
            | Self::NoResults => StatusCode::NOT_FOUND,
            Self::NotJoined => StatusCode::UNAUTHORIZED,
            Self::ForeignOrigin
            | Self::StaleForm
            | Self::OffTheList
            | Self::ParticipantsOnly
            | Self::FacilitatorsOnly
            | Self::Mistyped
            | Self::Excluded => StatusCode::FORBIDDEN,
            Self::SeatTaken | Self::EmailKnown => StatusCode::CONFLICT,
            Self::TooManyTries => StatusCode::TOO_MANY_REQUESTS,
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the stable name, which is also the name of its texts.
    pub(crate) fn name(self) -> String {
        let name = serde_json::to_value(self).ok();
        name.and_then(|name| name.as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

impl Problem {
    pub(crate) fn new(code: Code) -> Self {
        Self {
            code,
            retry_after_seconds: None,
        }
    }

    /// Says that something of ours broke: the details go to the log, not to the client.
    pub(crate) fn broken(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %error, source = ?error.source(), "cannot answer a request");
        Self::new(Code::Broken)
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        Self::broken(&error)
    }
}

impl From<TakeError> for Problem {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Unknown => Self::new(Code::SeatUnknown),
            TakeError::Taken => Self::new(Code::SeatTaken),
            TakeError::NoneFree => Self::new(Code::NoneFree),
            TakeError::EmailKnown => Self::new(Code::EmailKnown),
            TakeError::Write(error) => Self::broken(&error),
        }
    }
}

#[derive(Serialize)]
struct Details {
    r#type: &'static str,
    title: String,
    status: u16,
    code: Code,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let title =
            crate::texts::english(&format!("problem.{}.title", self.code.name())).to_owned();
        let details = Details {
            r#type: "about:blank",
            title,
            status: status.as_u16(),
            code: self.code,
        };
        let body = serde_json::to_string(&details).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}
