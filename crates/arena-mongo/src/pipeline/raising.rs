//! Errors that only a document's value calls for, raised inside the engine by a
//! number that cannot be read and worded as MongoDB's when they come back.

use bson::{Bson, bson};

use crate::error::CommandError;

/// How the text of such a number begins.
const MARK: &str = "arenaRaised ";
/// What the engine says around it.
const AROUND: (&str, &str) = (
    "Unable to interpret number '",
    "' within $convert, as no onError value was specified: ",
);

/// An expression that ends its statement with an error. `found` is an expression for the text's end, never null and
/// not constant: the engine computes what is constant before it looks at any document.
pub(super) fn raise(code: i32, text: &str, found: Bson) -> Bson {
    bson!({ "$toInt": { "$concat": [format!("{MARK}{code} {text}"), found] } })
}

/// The same with a text that is whole, told by the type of a value near it.
pub(super) fn raise_whole(code: i32, text: &str, near: &str) -> Bson {
    raise(
        code,
        text,
        bson!({ "$substrCP": [{ "$type": near }, 0, 0] }),
    )
}

/// The refusal of what MongoDB can and the engine cannot, told by a value near it.
pub(super) fn refuse(what: &str, near: &str) -> Bson {
    let refusal = CommandError::not_supported(what);
    raise_whole(refusal.code, &refusal.message, near)
}

/// The code and the text of such an error.
pub(crate) fn raised(message: &str) -> Option<(i32, &str)> {
    let text = message.strip_prefix(AROUND.0)?.strip_prefix(MARK)?;
    let (code, text) = text.split_once(' ')?;
    let end = text.rfind(AROUND.1)?;
    Some((code.parse().ok()?, &text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_raised_is_taken_for_it() {
        let said = "Unable to interpret number 'arenaRaised 40517 found: int' within $convert, as no onError value was specified: Failed.";
        assert_eq!(raised(said), Some((40517, "found: int")));
        for other in [
            "Unable to interpret number 'x' within $convert, as no onError value was specified: Failed.",
            "arenaRaised 1 x",
            "Unable to interpret number 'arenaRaised x y' within $convert, as no onError value was specified: Failed.",
        ] {
            assert_eq!(raised(other), None, "{other}");
        }
    }
}
