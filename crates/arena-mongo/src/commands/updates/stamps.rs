//! Empty timestamps. MongoDB puts the time in the place of one that is a field of a
//! document that is inserted or replaces another one.

use std::sync::atomic::{AtomicU32, Ordering};

use bson::{Bson, RawBsonRef, RawDocument, RawDocumentBuf, Timestamp};

use crate::commands::{is_true, validation};
use crate::error::CommandError;
use crate::pipeline::cluster_time;

const BYPASS: &str = "bypassEmptyTsReplacement";

/// Whether a command asks for empty timestamps to stay, as restores do.
pub(in crate::commands) fn keeps_empty(command: &RawDocument) -> bool {
    is_true(command, BYPASS)
}

/// Fails where a command says otherwise than by a boolean whether they stay.
pub(in crate::commands) fn check_bypass(
    command: &str,
    body: &RawDocument,
) -> Result<(), CommandError> {
    match body.get(BYPASS)? {
        None | Some(RawBsonRef::Boolean(_) | RawBsonRef::Null) => Ok(()),
        Some(other) => {
            let kind = validation::type_name(&Bson::try_from(other)?);
            Err(CommandError::type_mismatch(format!(
                "BSON field '{command}.{BYPASS}' is the wrong type '{kind}', expected type 'bool'"
            )))
        }
    }
}

/// The next of those of one second.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Returns a document with the time in place of empty timestamps, if it has some.
pub(in crate::commands) fn stamped(
    document: &RawDocument,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    let is_empty = |name: &str, value: RawBsonRef<'_>| {
        let empty = Timestamp {
            time: 0,
            increment: 0,
        };
        name != "_id" && value.as_timestamp() == Some(empty)
    };
    let mut fields = document.iter().flatten();
    if !fields.any(|(name, value)| is_empty(name.as_str(), value)) {
        return Ok(None);
    }
    let mut stamped = RawDocumentBuf::new();
    for element in document {
        let (name, value) = element?;
        if is_empty(name.as_str(), value) {
            let increment = NEXT.fetch_add(1, Ordering::Relaxed).max(1);
            stamped.append(
                name,
                Timestamp {
                    increment,
                    ..cluster_time()
                },
            );
        } else {
            stamped.append(name, value);
        }
    }
    Ok(Some(stamped))
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;
    use crate::commands::raw;

    #[test]
    fn each_field_has_a_time_of_its_own() {
        let empty = Bson::Timestamp(Timestamp {
            time: 0,
            increment: 0,
        });
        let document = doc! { "_id": empty.clone(), "a": empty.clone(), "b": { "c": empty.clone() }, "d": empty.clone() };
        let stamped = stamped(&raw(&document))
            .expect("it is well-formed")
            .expect("some are empty");
        let stamped = Document::try_from(stamped).expect("it is well-formed");
        assert_eq!((&stamped["_id"], &stamped["b"]), (&empty, &document["b"]));
        assert_ne!(stamped["a"], stamped["d"]);
        assert_ne!(stamped["a"], empty);
    }
}
