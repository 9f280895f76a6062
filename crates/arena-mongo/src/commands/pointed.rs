//! Finds of one document by its `_id`, which programs send more than anything else.
//! Nothing in one has to be checked or written otherwise, so it is read once and runs as it is.

use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

use super::{GENERIC_FIELDS, empty_of, integer};
use crate::error::CommandError;

/// MongoDB takes no larger page for larger.
const PAGE_MAX: i64 = 2_147_483_647;

/// Returns a find as the engine should see it, if it asks for one `_id` and for nothing beside.
pub(super) fn find(body: &RawDocument) -> Result<Option<RawDocumentBuf>, CommandError> {
    let mut spec = empty_of(body.as_bytes().len());
    let mut is_by_id = false;
    for element in body {
        let (name, value) = element?;
        match (name.as_str(), value) {
            (name, _) if GENERIC_FIELDS.contains(&name) => continue,
            ("filter", RawBsonRef::Document(filter)) if is_id(filter)? => is_by_id = true,
            ("find", RawBsonRef::String(_)) | ("singleBatch", RawBsonRef::Boolean(_)) => {}
            ("limit", RawBsonRef::Int32(_) | RawBsonRef::Int64(_)) if integer(value) >= Some(0) => {
            }
            ("batchSize", RawBsonRef::Int32(_) | RawBsonRef::Int64(_))
                if integer(value).is_some_and(|size| (0..=PAGE_MAX).contains(&size)) => {}
            _ => return Ok(None),
        }
        spec.append(name, value);
    }
    Ok(is_by_id.then_some(spec))
}

/// Whether a filter is an `_id` of a type in which what is equal is so byte by byte, or a whole number.
fn is_id(filter: &RawDocument) -> Result<bool, CommandError> {
    let mut conditions = filter.iter();
    let (Some(condition), None) = (conditions.next(), conditions.next()) else {
        return Ok(false);
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
    Ok(path == "_id" && is_plain)
}

#[cfg(test)]
mod tests {
    use bson::{Bson, DateTime, Document, doc, oid::ObjectId};

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

    fn read(find: Document) -> Option<Document> {
        let spec = super::find(&raw(&find)).expect("it is read");
        spec.map(|spec| Document::try_from(spec).expect("a document"))
    }

    #[test]
    fn what_runs_as_it_is_has_nothing_to_rewrite() {
        for id in ids() {
            let find = doc! { "find": "c", "filter": { "_id": id.clone() }, "limit": 1_i64, "singleBatch": true };
            assert_eq!(read(find.clone()).as_ref(), Some(&find), "{id}");
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
    fn the_engine_does_not_see_what_belongs_to_the_front() {
        let find = doc! { "find": "c", "filter": { "_id": 1 }, "lsid": { "id": 1 }, "comment": { "$where": "" }, "$db": "d" };
        assert_eq!(
            read(find),
            Some(doc! { "find": "c", "filter": { "_id": 1 } })
        );
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
