//! Names that a machine interprets. A value of one of these types is valid by
//! construction: its constructor is the only place that checks it.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A text that cannot be the name it was meant to be.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{text:?} is not a {what}: {rule}")]
pub struct InvalidId {
    what: &'static str,
    text: String,
    rule: &'static str,
}

/// Labels of a DNS name: RFC 1035 allows 63 octets; editors' hosts append `--code`.
const LABEL_LENGTH_MAX: usize = 50;
const LABEL_RULE: &str = "use 1 to 50 lower-case letters, digits and single hyphens, with a letter or digit at both ends";

fn is_label(text: &str) -> bool {
    (1..=LABEL_LENGTH_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the name, or why the text cannot be one.
            ///
            /// # Errors
            /// When the text breaks the rule that the type documents.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(InvalidId { what: $what, text, rule: $rule }) }
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

label!(
    /// A seat's id: one DNS label without `--`, such as `john-doe`. It is never a reserved
    /// host or database name; [`crate::participants`] sees to that.
    SeatId, "seat id", is_label, LABEL_RULE
);
label!(
    /// An event's id: one DNS label, made from `customer.name`. It names the state folder.
    EventId, "event id", is_label, LABEL_RULE
);
label!(
    /// An exercise's slug such as `crud-1` or `search-index`.
    ExerciseSlug, "exercise slug", is_label, LABEL_RULE
);
label!(
    /// A service of the plan such as `gateway` or `engine`.
    ServiceName, "service name", is_label, LABEL_RULE
);
label!(
    /// A database or role name: letters, digits, `_` and `-`, at most 60 bytes, starting with a
    /// letter or digit (the intersection of MongoDB's 63 bytes and PostgreSQL's 63 bytes).
    DatabaseName, "database name",
    |text| (1..=60).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && text.as_bytes()[0].is_ascii_alphanumeric(),
    "use 1 to 60 letters, digits, _ and -, starting with a letter or digit"
);

impl From<&SeatId> for DatabaseName {
    /// Every seat id is a database name; the reference names a seat's database after the seat.
    fn from(seat: &SeatId) -> Self {
        Self(seat.as_str().to_owned())
    }
}
