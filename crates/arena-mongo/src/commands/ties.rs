//! Documents that a sort leaves equal. MongoDB's sort is stable: they stay as they were read. The engine's is not, from
//! the seventh document on, so it is told to go by `_id`, which most programs give in the order of insertion.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

use super::{Call, parallel, whole, without};
use crate::error::CommandError;

/// A sort by more keys is an error of its own.
const KEYS_MAX: usize = 32;

/// Returns a find whose sort leaves no documents equal.
pub(super) async fn in_find(
    call: &Call<'_>,
    spec: RawDocumentBuf,
) -> Result<RawDocumentBuf, CommandError> {
    let Some(RawBsonRef::Document(sort)) = spec.get("sort")? else {
        return Ok(spec);
    };
    let filters: Vec<Document> = match spec.get("filter")? {
        Some(RawBsonRef::Document(filter)) => vec![Document::try_from(filter)?],
        _ => Vec::new(),
    };
    let collection = super::collection_in(&spec, "find")?;
    let sort = Document::try_from(sort)?;
    let last = direction(call, collection, &sort, &filters).await;
    let Some(told) = told(&sort, last) else {
        return Ok(spec);
    };
    let mut changed = without(&spec, &["sort"])?;
    changed.append(bson::cstr!("sort"), super::raw(&told));
    Ok(changed)
}

/// Returns the sort of an update or a findAndModify, if documents may be equal in it.
pub(super) fn in_operation(operation: &RawDocument) -> Result<Option<RawBson>, CommandError> {
    let Some(RawBsonRef::Document(sort)) = operation.get("sort")? else {
        return Ok(None);
    };
    let told = told(&Document::try_from(sort)?, 1);
    Ok(told.map(|told| RawBson::Document(super::raw(&told))))
}

/// Tells all sorts of a pipeline, and of the pipelines in it.
pub(super) async fn in_pipeline(call: &Call<'_>, collection: Option<&str>, stages: &mut [Bson]) {
    let first = stages
        .iter()
        .position(|stage| part(stage, "$match").is_none());
    if let (Some(collection), Some(first)) = (collection, first)
        && let Some(sort) = part(&stages[first], "$sort").cloned()
    {
        let filters = stages[..first]
            .iter()
            .filter_map(|stage| part(stage, "$match"));
        let filters: Vec<Document> = filters.cloned().collect();
        let last = direction(call, collection, &sort, &filters).await;
        if let Some(told) = told(&sort, last) {
            stages[first] = Bson::Document(bson::doc! { "$sort": told });
        }
    }
    in_stages(stages);
}

fn in_stages(stages: &mut [Bson]) {
    for stage in stages {
        let stage = stage
            .as_document_mut()
            .and_then(|stage| stage.iter_mut().next());
        match stage {
            Some((name, Bson::Document(sort))) if name == "$sort" => {
                if let Some(told) = told(sort, 1) {
                    *sort = told;
                }
            }
            Some((name, Bson::Document(facets))) if name == "$facet" => {
                let inner = facets
                    .iter_mut()
                    .filter_map(|(_, inner)| inner.as_array_mut());
                inner.for_each(|inner| in_stages(inner));
            }
            Some((name, Bson::Document(joined))) if name == "$lookup" || name == "$unionWith" => {
                if let Some(Bson::Array(inner)) = joined.get_mut("pipeline") {
                    in_stages(inner);
                }
            }
            _ => {}
        }
    }
}

fn part<'a>(stage: &'a Bson, name: &str) -> Option<&'a Document> {
    stage.as_document()?.get_document(name).ok()
}

/// Returns a sort with a last key, if it is by fields alone and none of them decides.
fn told(sort: &Document, last: i32) -> Option<Document> {
    let is_field = |(path, order): (&String, &Bson)| {
        let decides = path == "_id" || path.starts_with("_id.");
        !decides && !path.starts_with('$') && whole(order).is_some()
    };
    let is_open = !sort.is_empty() && sort.len() < KEYS_MAX && sort.iter().all(is_field);
    is_open.then(|| {
        let mut told = sort.clone();
        told.insert("_id", last);
        told
    })
}

/// In which order equal documents come: the other way round where MongoDB reads an index from its end.
async fn direction(
    call: &Call<'_>,
    collection: &str,
    sort: &Document,
    filters: &[Document],
) -> i32 {
    let keys = parallel::known(call, collection).await;
    let is_asked = |path: &String| filters.iter().any(|filter| filter.contains_key(path));
    let is_plain = filters
        .iter()
        .all(|filter| filter.keys().all(|path| !path.starts_with('$')));
    let mut is_backward = false;
    for index in &keys.indexes {
        let is_whole = ["hidden", "sparse"]
            .iter()
            .all(|option| !index.get_bool(option).unwrap_or(false))
            && !index.contains_key("partialFilterExpression");
        let Ok(key) = index.get_document("key") else {
            continue;
        };
        let leads = key.keys().next().zip(sort.keys().next());
        match leads {
            Some((leading, first)) if leading != first => {
                // What that index finds is sorted afterwards.
                if is_asked(leading) {
                    return 1;
                }
            }
            _ => is_backward |= is_whole && is_reverse(key, sort),
        }
    }
    if is_backward && is_plain { -1 } else { 1 }
}

/// Whether an index has the keys of a sort, each the other way round.
fn is_reverse(key: &Document, sort: &Document) -> bool {
    let mut pairs = key.iter().zip(sort);
    sort.len() <= key.len()
        && pairs.all(|((path, order), (other, wanted))| {
            let sign = |order: &Bson| whole(order).map(i64::signum);
            path == other && sign(order).is_some() && sign(order) == sign(wanted).map(|sign| -sign)
        })
}

#[cfg(test)]
mod tests {
    use bson::{bson, doc};

    use super::*;

    #[test]
    fn a_sort_that_decides_stays_as_it_is() {
        assert_eq!(told(&doc! { "a": -1 }, 1), Some(doc! { "a": -1, "_id": 1 }));
        for sort in [
            doc! {},
            doc! { "a": 1, "_id": -1 },
            doc! { "_id.a": 1 },
            doc! { "$natural": -1 },
            doc! { "s": { "$meta": "textScore" } },
        ] {
            assert_eq!(told(&sort, 1), None, "{sort}");
        }
    }

    #[test]
    fn sorts_are_told_in_every_depth() {
        let mut stages = [
            bson!({ "$facet": { "f": [{ "$sort": { "a": 1 } }] } }),
            bson!({ "$lookup": { "from": "c", "as": "x", "pipeline": [{ "$unionWith": { "coll": "d", "pipeline": [{ "$sort": { "a": 1 } }] } }] } }),
        ];
        in_stages(&mut stages);
        let told = bson!({ "$sort": { "a": 1, "_id": 1 } });
        assert_eq!(stages[0], bson!({ "$facet": { "f": [told.clone()] } }));
        assert_eq!(
            stages[1],
            bson!({ "$lookup": { "from": "c", "as": "x", "pipeline": [{ "$unionWith": { "coll": "d", "pipeline": [told] } }] } })
        );
    }

    #[test]
    fn an_index_is_read_backward_by_a_sort_the_other_way_round() {
        let key = doc! { "a": 1, "b": -1 };
        assert!(is_reverse(&key, &doc! { "a": -1 }));
        assert!(is_reverse(&key, &doc! { "a": -1, "b": 1.0 }));
        assert!(!is_reverse(&key, &doc! { "a": -1, "b": -1 }));
        assert!(!is_reverse(&key, &doc! { "a": -1, "b": 1, "c": 1 }));
        assert!(!is_reverse(&doc! { "a": "hashed" }, &doc! { "a": -1 }));
    }
}
