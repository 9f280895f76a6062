//! In which order a collection's documents came, where their `_id`s tell it. MongoDB reads a collection in the order of
//! insertion, whatever was changed or deleted since; the engine reads it as its pages have room: a changed document may
//! come last, a small one before larger ones that came earlier. Programs mostly give `_id`s that grow (numbers one
//! after the other, ObjectIds), and a collection of which nothing else is known since it was made is read by them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bson::oid::ObjectId;
use bson::{RawBsonRef, RawDocument};

/// Larger collections are read as the engine reads them: sorted, the first page would wait for the last document.
const DOCUMENTS_MAX: usize = 20_000;

/// What is known of collections by their namespaces. Of those that were there before the front nothing is.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<HashMap<String, Arrived>>);

#[derive(Debug)]
enum Arrived {
    /// Each `_id` was greater than all before.
    Growing {
        last: Option<Id>,
        count: usize,
    },
    Otherwise,
}

/// An `_id` whose place among others is known, in the order of MongoDB's types.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Number(i64),
    Text(String),
    Object(ObjectId),
    Date(i64),
}

impl Id {
    fn of(value: RawBsonRef<'_>) -> Option<Self> {
        match value {
            RawBsonRef::Int32(number) => Some(Self::Number(number.into())),
            RawBsonRef::Int64(number) => Some(Self::Number(number)),
            RawBsonRef::String(text) => Some(Self::Text(text.to_owned())),
            RawBsonRef::ObjectId(id) => Some(Self::Object(id)),
            RawBsonRef::DateTime(date) => Some(Self::Date(date.timestamp_millis())),
            _ => None,
        }
    }
}

impl Arrivals {
    /// A collection is made, if it is not there yet.
    pub(crate) fn begin(&self, database: &str, collection: &str) {
        let mut known = self.known();
        known
            .entry(namespace(database, collection))
            .or_insert(Arrived::Growing {
                last: None,
                count: 0,
            });
    }

    /// All documents of a collection were deleted.
    pub(crate) fn begin_anew(&self, database: &str, collection: &str) {
        self.end(database, Some(collection));
        self.begin(database, collection);
    }

    /// A collection, or all of a database, is dropped, or written by others than the commands that note it.
    pub(crate) fn end(&self, database: &str, collection: Option<&str>) {
        let mut known = self.known();
        match collection {
            Some(collection) => drop(known.remove(&namespace(database, collection))),
            None => known.retain(|name, _| {
                let rest = name.strip_prefix(database);
                !rest.is_some_and(|rest| rest.starts_with('.'))
            }),
        }
    }

    /// Documents come, in this order.
    pub(crate) fn note<'a>(
        &self,
        database: &str,
        collection: &str,
        ids: impl Iterator<Item = Option<RawBsonRef<'a>>>,
    ) {
        let mut known = self.known();
        let Some(arrived) = known.get_mut(&namespace(database, collection)) else {
            return;
        };
        for id in ids {
            let Arrived::Growing { last, count } = arrived else {
                return;
            };
            match id.and_then(Id::of) {
                // One that is there already is refused.
                Some(id) if last.as_ref() == Some(&id) => {}
                Some(id) if last.as_ref().is_none_or(|last| *last < id) => {
                    (*last, *count) = (Some(id), *count + 1);
                }
                _ => *arrived = Arrived::Otherwise,
            }
        }
    }

    /// Whether the order of `_id`s is that of insertion.
    pub(crate) fn are_growing(&self, database: &str, collection: &str) -> bool {
        let known = self.known();
        let arrived = known.get(&namespace(database, collection));
        matches!(arrived, Some(Arrived::Growing { count, .. }) if *count <= DOCUMENTS_MAX)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arrived>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn namespace(database: &str, collection: &str) -> String {
    format!("{database}.{collection}")
}

/// Returns the `_id`s that an answer says were inserted by an upsert.
pub(crate) fn upserted(answer: &RawDocument) -> Vec<RawBsonRef<'_>> {
    let listed = answer.get_array("upserted").into_iter().flatten().flatten();
    let mut ids: Vec<_> = listed
        .filter_map(|one| one.as_document()?.get("_id").ok()?)
        .collect();
    let of_one = answer.get_document("lastErrorObject").ok();
    ids.extend(of_one.and_then(|one| one.get("upserted").ok()?));
    ids
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    /// Whether a new collection is read by these `_id`s.
    fn grow(ids: &[RawBsonRef<'_>]) -> bool {
        let arrivals = Arrivals::default();
        arrivals.begin("ada", "c");
        arrivals.note("ada", "c", ids.iter().copied().map(Some));
        arrivals.are_growing("ada", "c")
    }

    #[test]
    fn only_greater_and_greater_ids_tell_an_order() {
        use RawBsonRef::{Double, Int32, Int64, String};
        assert!(grow(&[
            Int32(1),
            Int64(2),
            Int32(7),
            String("a"),
            String("b")
        ]));
        assert!(grow(&[Int32(1), Int32(1)]), "the second one is refused");
        for ids in [
            vec![Int32(2), Int32(1)],
            vec![String("a"), Int32(1)],
            vec![Double(1.5)],
            vec![Int32(1), Int32(3), Int32(2), Int32(4)],
        ] {
            assert!(!grow(&ids), "{ids:?}");
        }
    }

    #[test]
    fn of_what_was_there_before_nothing_is_known() {
        let arrivals = Arrivals::default();
        arrivals.note("ada", "c", [Some(RawBsonRef::Int32(1))].into_iter());
        assert!(!arrivals.are_growing("ada", "c"));
        arrivals.begin("ada", "c");
        arrivals.begin("ada", "d");
        arrivals.begin("adam", "c");
        arrivals.note("ada", "c", [None].into_iter());
        arrivals.begin("ada", "c");
        assert!(!arrivals.are_growing("ada", "c"), "it was there already");
        arrivals.begin_anew("ada", "c");
        assert!(arrivals.are_growing("ada", "c"));
        arrivals.end("ada", Some("c"));
        assert!(!arrivals.are_growing("ada", "c") && arrivals.are_growing("ada", "d"));
        arrivals.end("ada", None);
        assert!(!arrivals.are_growing("ada", "d") && arrivals.are_growing("adam", "c"));
    }

    #[test]
    fn upserts_are_found_in_answers() {
        let many = rawdoc! { "upserted": [{ "index": 0, "_id": 5 }, { "index": 2, "_id": 6 }] };
        assert_eq!(
            upserted(&many),
            [RawBsonRef::Int32(5), RawBsonRef::Int32(6)]
        );
        let one = rawdoc! { "lastErrorObject": { "n": 1, "upserted": 7 } };
        assert_eq!(upserted(&one), [RawBsonRef::Int32(7)]);
        assert!(upserted(&rawdoc! { "n": 1 }).is_empty());
    }
}
