//! Finds of one document by its `_id`, which programs send more than anything else.
//! Nothing in one has to be checked or written otherwise, and a document that is in a table of its collection is looked
//! up there ([`Lookups`](crate::lookups::Lookups)).

use std::time::{Duration, Instant};

use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

use super::carried::{Carried, OWN_MAX};
use super::{Answer, Call, integer, invalid_namespace, is_collection_name, reading};
use crate::backend::{BsonIn, BsonRef, ROOM_BYTES};
use crate::error::CommandError;
use crate::users::Action;

/// MongoDB takes no larger page for larger.
const PAGE_MAX: i64 = 2_147_483_647;
/// An answer takes less than this beside its document and namespace.
const PAGE_BYTES: usize = 80;

/// A find that asks for one `_id` and for nothing beside.
#[derive(Debug, PartialEq)]
pub(super) struct Pointed<'a> {
    collection: &'a str,
    id: RawBsonRef<'a>,
    /// Its answer has room for a document; otherwise it opens a cursor.
    takes_document: bool,
}

impl<'a> Pointed<'a> {
    /// Returns what a find asks for, if it is such a one.
    pub(super) fn of(find: &Carried<'a>) -> Result<Option<Self>, CommandError> {
        let (mut collection, mut id, mut takes_document) = (None, None, true);
        for (name, value) in &find.own {
            match (*name, *value) {
                ("find", RawBsonRef::String(name)) => collection = Some(name),
                ("filter", RawBsonRef::Document(filter)) => match id_of(filter)? {
                    Some(asked) => id = Some(asked),
                    None => return Ok(None),
                },
                ("singleBatch", RawBsonRef::Boolean(_)) => {}
                ("limit", RawBsonRef::Int32(_) | RawBsonRef::Int64(_))
                    if integer(*value) >= Some(0) => {}
                ("batchSize", RawBsonRef::Int32(_) | RawBsonRef::Int64(_))
                    if integer(*value).is_some_and(|size| (0..=PAGE_MAX).contains(&size)) =>
                {
                    takes_document = integer(*value) != Some(0);
                }
                _ => return Ok(None),
            }
        }
        // There may be more than were kept.
        if find.own.len() == OWN_MAX {
            return Ok(None);
        }
        Ok(collection.zip(id).map(|(collection, id)| Self {
            collection,
            id,
            takes_document,
        }))
    }

    pub(super) async fn answer(&self, call: &Call<'_>) -> Answer {
        call.allow(Action::Read)?;
        let collection = self.collection;
        if !is_collection_name(collection) {
            return Err(invalid_namespace(call.database, collection));
        }
        let namespace = format!("{}.{collection}", call.database);
        let (lookups, backend) = (&call.server.lookups, &call.server.backend);
        // In a transaction there may be other collections.
        let is_lookup = self.takes_document && call.transaction.is_none();
        let began = Instant::now();
        if is_lookup {
            let mut key = RawDocumentBuf::new();
            key.append(bson::cstr!(""), self.id);
            let key = BsonIn(key.as_bytes());
            if let Some(found) = lookups.find(backend, call.budget(), &namespace, &key).await {
                let found = found?;
                let document = found.as_ref().map(|row| row.get::<_, BsonRef<'_>>(0).0);
                return page(&namespace, document);
            }
        }
        // What was waited for counts; in whole seconds, as a connection is told of every other limit.
        let waited = Duration::from_secs(began.elapsed().as_secs());
        let call = &Call {
            time: call.time.saturating_sub(waited),
            ..*call
        };
        let answer = reading::one(call, &call.spec()?).await?;
        if is_lookup && has_document(&answer) {
            lookups.note(backend, &namespace);
        }
        Ok(answer)
    }
}

fn has_document(page: &RawDocument) -> bool {
    let cursor = page.get_document("cursor");
    let batch = cursor.and_then(|cursor| cursor.get_array("firstBatch"));
    batch.is_ok_and(|batch| !batch.is_empty())
}

/// Writes a page of one document or none as the engine does, the document once: it may be large.
fn page(namespace: &str, document: Option<&[u8]>) -> Answer {
    let room = PAGE_BYTES + namespace.len() + document.map_or(0, <[u8]>::len) + ROOM_BYTES;
    let mut bytes = Vec::with_capacity(room);
    nested(&mut bytes, |bytes| {
        bytes.extend_from_slice(b"\x03cursor\0");
        nested(bytes, |bytes| {
            bytes.extend_from_slice(b"\x12id\0\0\0\0\0\0\0\0\0");
            bytes.extend_from_slice(b"\x02ns\0");
            let length = i32::try_from(namespace.len() + 1).unwrap_or(i32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(namespace.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(b"\x04firstBatch\0");
            nested(bytes, |bytes| {
                if let Some(document) = document {
                    bytes.extend_from_slice(b"\x030\0");
                    bytes.extend_from_slice(document);
                }
            });
        });
        bytes.extend_from_slice(b"\x01ok\0");
        bytes.extend_from_slice(&1_f64.to_le_bytes());
    });
    RawDocumentBuf::from_bytes(bytes).map_err(|_| CommandError::internal())
}

/// Writes a document of these fields.
fn nested(bytes: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    fields(bytes);
    bytes.push(0);
    let length = i32::try_from(bytes.len() - start).unwrap_or(i32::MAX);
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// The `_id` that a filter asks for, if it is of a type in which what is equal is so byte by byte, or a whole number.
fn id_of(filter: &RawDocument) -> Result<Option<RawBsonRef<'_>>, CommandError> {
    let mut conditions = filter.iter();
    let (Some(condition), None) = (conditions.next(), conditions.next()) else {
        return Ok(None);
    };
    let (path, value) = condition?;
    let is_plain = matches!(
        value,
        RawBsonRef::ObjectId(_)
            | RawBsonRef::String(_)
            | RawBsonRef::Int32(_)
            | RawBsonRef::Int64(_)
            | RawBsonRef::DateTime(_)
            | RawBsonRef::Boolean(_)
    );
    Ok((path == "_id" && is_plain).then_some(value))
}

#[cfg(test)]
mod tests {
    use bson::{Bson, DateTime, Document, doc, oid::ObjectId};

    use super::Carried;
    use crate::commands::{plain, raw, shapes};
    use crate::pipeline::{Found, check_raw_expressions, chosen};
    use crate::wire::{Framing, Request};

    fn ids() -> [Bson; 9] {
        [
            ObjectId::from_bytes([7; 12]).into(),
            "text".into(),
            "$a".into(),
            7.into(),
            i64::MAX.into(),
            i64::MIN.into(),
            DateTime::from_millis(-1).into(),
            true.into(),
            false.into(),
        ]
    }

    /// Whether it is such a find, and whether its answer has room for the document.
    fn read(find: Document) -> Option<bool> {
        let mut find = find;
        find.insert("$db", "d");
        let find = raw(&find);
        let carried = Carried::of(&find).expect("it has a database");
        let pointed = super::Pointed::of(&carried).expect("it is read");
        pointed.map(|pointed| pointed.takes_document)
    }

    #[test]
    fn what_runs_as_it_is_has_nothing_to_rewrite() {
        for id in ids() {
            let find = doc! { "find": "c", "filter": { "_id": id.clone() }, "limit": 1_i64, "singleBatch": true };
            assert_eq!(read(find.clone()), Some(true), "{id}");
            let request = Request {
                framing: Framing::Query,
                is_unanswered: false,
                compressor: None,
                body: raw(&find),
                sequences: Vec::new(),
            };
            assert_eq!(plain::request("find", &request).expect("it is read"), None);
            shapes::check("find", &request.body).expect("nothing is wrong");
            let filter = doc! { "_id": id };
            assert_eq!(chosen(&filter), None);
            let found = check_raw_expressions(&raw(&find)).expect("it is read");
            assert!(found == Found::Nothing, "{filter}");
        }
    }

    #[test]
    fn what_belongs_to_the_front_may_be_beside() {
        let find = doc! { "find": "c", "filter": { "_id": 1 }, "lsid": { "id": 1 }, "comment": { "$where": "" }, "$db": "d" };
        assert_eq!(read(find.clone()), Some(true));
        for (size, takes_document) in [(0, false), (1, true)] {
            let mut find = find.clone();
            find.insert("batchSize", size);
            assert_eq!(read(find), Some(takes_document));
        }
    }

    #[test]
    fn a_page_is_a_document_like_the_engines() {
        for document in [None, Some(doc! { "_id": 1, "text": "ü" })] {
            let bytes = document.as_ref().map(raw);
            let bytes = bytes.as_ref().map(|document| document.as_bytes());
            let page = super::page("ada.ü", bytes).expect("a document");
            let room = super::PAGE_BYTES + "ada.ü".len() + bytes.map_or(0, <[u8]>::len);
            assert!(page.as_bytes().len() <= room);
            let batch: Vec<Document> = document.into_iter().collect();
            let expected =
                doc! { "cursor": { "id": 0_i64, "ns": "ada.ü", "firstBatch": batch }, "ok": 1.0 };
            assert_eq!(page, raw(&expected));
        }
    }

    #[test]
    fn everything_else_goes_the_long_way() {
        for filter in [
            doc! {},
            doc! { "_id": 1, "a": 1 },
            doc! { "a": 1 },
            doc! { "_id": { "$eq": 1 } },
            doc! { "_id": { "a": 1 } },
            doc! { "_id": [1] },
            doc! { "_id": 1.5 },
            doc! { "_id": Bson::Null },
            doc! { "_id": Bson::MinKey },
            doc! { "$where": "1" },
        ] {
            let find = doc! { "find": "c", "filter": filter };
            assert_eq!(read(find.clone()), None, "{find}");
        }
        for (option, value) in [
            ("projection", Bson::from(doc! { "a": 1 })),
            ("sort", doc! { "a": 1 }.into()),
            ("collation", doc! { "locale": "en" }.into()),
            ("limit", (-1).into()),
            ("batchSize", (-1).into()),
            ("batchSize", 2_147_483_648_i64.into()),
            ("limit", 1.5.into()),
            ("singleBatch", 1.into()),
            ("allowDiskUse", "no".into()),
        ] {
            let mut find = doc! { "find": "c", "filter": { "_id": 1 } };
            find.insert(option, value);
            assert_eq!(read(find.clone()), None, "{find}");
        }
        assert_eq!(read(doc! { "find": 1, "filter": { "_id": 1 } }), None);
        assert_eq!(read(doc! { "find": "c" }), None);
    }
}
