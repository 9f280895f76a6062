//! Which of the fields that any command may carry are there, and which are its own. Most
//! commands have few: they are looked for once, and what reads one is asked only where it is.

use bson::{RawBsonRef, RawDocument};

use crate::error::CommandError;

/// So many of its own fields are kept: those that a find by one `_id` may have ([`Pointed`](super::pointed::Pointed)),
/// and one more. A message may have millions.
pub(super) const OWN_MAX: usize = 6;

/// What a command carries beside what it is about.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Carried<'a> {
    /// The database that it is sent to.
    pub(super) database: &'a str,
    /// A version of the Stable API.
    pub(super) version: bool,
    /// A read preference or a read concern.
    pub(super) preference: bool,
    /// A write concern.
    pub(super) concern: bool,
    /// How long it may take.
    pub(super) time: bool,
    /// The UUID of the collection that it expects.
    pub(super) expectation: bool,
    /// Its session.
    pub(super) session: Option<RawBsonRef<'a>>,
    /// The number of its transaction or retryable write.
    pub(super) number: Option<RawBsonRef<'a>>,
    pub(super) autocommit: Option<RawBsonRef<'a>>,
    pub(super) start: Option<RawBsonRef<'a>>,
    pub(super) read_concern: Option<RawBsonRef<'a>>,
    /// The first of the fields that are its own, at most [`OWN_MAX`]: its name, and what it is about.
    pub(super) own: Vec<(&'a str, RawBsonRef<'a>)>,
}

impl<'a> Carried<'a> {
    pub(super) fn of(body: &'a RawDocument) -> Result<Self, CommandError> {
        let mut database = None;
        let mut carried = Self {
            own: Vec::with_capacity(OWN_MAX),
            ..Self::default()
        };
        for element in body {
            let (field, value) = element?;
            let field = field.as_str();
            match field {
                "$db" => database = Some(value),
                "apiVersion" | "apiStrict" | "apiDeprecationErrors" => carried.version = true,
                "$readPreference" => carried.preference = true,
                "readConcern" => {
                    carried.preference = true;
                    carried.read_concern = Some(value);
                }
                "writeConcern" => carried.concern = true,
                "maxTimeMS" => carried.time = true,
                "lsid" => carried.session = Some(value),
                "txnNumber" => carried.number = Some(value),
                "autocommit" => carried.autocommit = Some(value),
                "startTransaction" => carried.start = Some(value),
                "$clusterTime" | "stmtId" | "stmtIds" | "comment" => {}
                own => {
                    carried.expectation |= own == "collectionUUID";
                    if carried.own.len() < OWN_MAX {
                        carried.own.push((own, value));
                    }
                }
            }
        }
        let Some(RawBsonRef::String(database)) = database else {
            return Err(CommandError::failed_to_parse("'$db' must be a string"));
        };
        Ok(Self {
            database,
            ..carried
        })
    }
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;
    use crate::commands::{GENERIC_FIELDS, raw};

    #[test]
    fn each_field_is_noticed() {
        let bare = doc! { "find": "c", "$db": "d", "lsid": {}, "comment": { "maxTimeMS": 1 } };
        let of = |body: &Document| {
            let body = raw(body);
            let carried = Carried::of(&body).expect("it has a database");
            assert_eq!(carried.database, "d");
            let Carried {
                version,
                preference,
                concern,
                time,
                expectation,
                ..
            } = carried;
            [version, preference, concern, time, expectation]
        };
        assert_eq!(of(&bare), [false; 5]);
        for (field, noticed) in [
            ("apiVersion", 0),
            ("apiStrict", 0),
            ("apiDeprecationErrors", 0),
            ("$readPreference", 1),
            ("readConcern", 1),
            ("writeConcern", 2),
            ("maxTimeMS", 3),
            ("collectionUUID", 4),
        ] {
            let mut body = bare.clone();
            body.insert(field, 1);
            let mut expected = [false; 5];
            expected[noticed] = true;
            assert_eq!(of(&body), expected, "{field}");
        }
    }

    #[test]
    fn what_any_command_may_carry_is_not_its_own() {
        let mut body = doc! { "find": "c", "filter": {} };
        for field in GENERIC_FIELDS {
            body.insert(field, 1);
        }
        body.insert("$db", "d");
        for number in 0..OWN_MAX {
            body.insert(format!("own{number}"), 1);
        }
        let body = raw(&body);
        let carried = Carried::of(&body).expect("it has a database");
        let own: Vec<&str> = carried.own.iter().map(|(name, _)| *name).collect();
        assert_eq!(own, ["find", "filter", "own0", "own1", "own2", "own3"]);
    }

    #[test]
    fn a_command_has_a_database() {
        for body in [doc! { "ping": 1 }, doc! { "ping": 1, "$db": 1 }] {
            assert!(Carried::of(&raw(&body)).is_err(), "{body}");
        }
    }
}
