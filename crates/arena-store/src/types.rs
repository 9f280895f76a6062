//! Who acts: principals (people with a session) and actors (those and the system).

use std::fmt::{self, Write};
use std::str::FromStr;

use arena_workshop::SeatId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Somebody whom a session names.
///
/// As text it is `participant:{seat}`, `facilitator:{name}` or `visitor:{seat}:{name}`, where every
/// byte of the name other than an ASCII letter, digit or one of `-._~` is percent-encoded: fit for a
/// header.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Principal {
    /// Who sits in that seat.
    Participant(SeatId),
    /// A facilitator by the name they gave.
    Facilitator(String),
    /// A facilitator who looks into a seat: there they may what its participant may, and elsewhere
    /// nothing.
    Visitor {
        /// The seat.
        seat: SeatId,
        /// The facilitator's name.
        facilitator: String,
    },
}

/// Who caused a change; as text like [`Principal`], or `system`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Actor {
    /// Who sits in that seat.
    Participant(SeatId),
    /// A facilitator by the name they gave.
    Facilitator(String),
    /// Arena itself.
    System,
}

/// A text that names neither a participant nor a facilitator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot read {0:?} as participant:SEAT, facilitator:NAME or visitor:SEAT:NAME")]
pub struct UnknownPrincipal(String);

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Participant(seat) => write!(f, "participant:{seat}"),
            Self::Facilitator(name) => {
                f.write_str("facilitator:")?;
                write_encoded(f, name)
            }
            Self::Visitor { seat, facilitator } => {
                write!(f, "visitor:{seat}:")?;
                write_encoded(f, facilitator)
            }
        }
    }
}

fn write_encoded(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            f.write_char(char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

impl Principal {
    /// Returns whether it is about that seat: who sits there, or who looks into it.
    pub(crate) fn is_in(&self, wanted: &SeatId) -> bool {
        match self {
            Self::Participant(seat) | Self::Visitor { seat, .. } => seat == wanted,
            Self::Facilitator(_) => false,
        }
    }
}

impl FromStr for Principal {
    type Err = UnknownPrincipal;

    fn from_str(text: &str) -> Result<Self, UnknownPrincipal> {
        let unknown = || UnknownPrincipal(text.to_owned());
        match text.split_once(':') {
            Some(("participant", seat)) => {
                Ok(Self::Participant(SeatId::new(seat).map_err(|_| unknown())?))
            }
            Some(("visitor", rest)) => {
                let (seat, name) = rest.split_once(':').ok_or_else(unknown)?;
                Ok(Self::Visitor {
                    seat: SeatId::new(seat).map_err(|_| unknown())?,
                    facilitator: decode(name),
                })
            }
            Some(("facilitator", name)) if !name.is_empty() => Ok(Self::Facilitator(decode(name))),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Participant(seat) => Principal::Participant(seat.clone()).fmt(f),
            Self::Facilitator(name) => Principal::Facilitator(name.clone()).fmt(f),
            Self::System => f.write_str("system"),
        }
    }
}

impl From<Principal> for Actor {
    fn from(principal: Principal) -> Self {
        match principal {
            Principal::Participant(seat) => Self::Participant(seat),
            // What a visitor does, a facilitator has done.
            Principal::Facilitator(name)
            | Principal::Visitor {
                facilitator: name, ..
            } => Self::Facilitator(name),
        }
    }
}

impl TryFrom<String> for Principal {
    type Error = UnknownPrincipal;
    fn try_from(text: String) -> Result<Self, UnknownPrincipal> {
        text.parse()
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.to_string()
    }
}

impl TryFrom<String> for Actor {
    type Error = UnknownPrincipal;
    fn try_from(text: String) -> Result<Self, UnknownPrincipal> {
        if text == "system" {
            Ok(Self::System)
        } else {
            text.parse::<Principal>().map(Self::from)
        }
    }
}

impl From<Actor> for String {
    fn from(actor: Actor) -> Self {
        actor.to_string()
    }
}

/// Undoes percent-encoding; what is not an escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let escape = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_facilitators_name_survives_a_header() {
        for name in [
            "Grace",
            "Zoë Ó Briain",
            "100% %41",
            "a:b\r\nx-evil: 1",
            "李",
        ] {
            let principal = Principal::Facilitator(name.to_owned());
            assert!(
                principal
                    .to_string()
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic())
            );
            assert_eq!(principal.to_string().parse(), Ok(principal));
            let visitor = Principal::Visitor {
                seat: SeatId::new("ada").unwrap(),
                facilitator: name.to_owned(),
            };
            assert_eq!(visitor.to_string().parse(), Ok(visitor));
        }
    }

    #[test]
    fn a_seat_that_cannot_exist_is_nobody() {
        assert!("participant:../x".parse::<Principal>().is_err());
        assert!("facilitator:".parse::<Principal>().is_err());
        assert!("system".parse::<Principal>().is_err());
    }
}
