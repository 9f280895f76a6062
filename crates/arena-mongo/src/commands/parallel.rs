//! Arrays in several fields of one index. MongoDB refuses such documents, the
//! engine indexes them. The keys of a collection's indexes are kept until some
//! index or collection changes, so that inserts need not ask for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bson::{Bson, Document, RawDocument, doc};

use super::indexes::hashed;
use super::{Call, raw, reading, sorting, whole};
use crate::aside;
use crate::error::CommandError;

/// So many documents of a collection that gets an index are looked at.
const LOOKED_AT_MAX: i32 = 100;

/// What is known of the keys of a collection's indexes.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The paths of each index with several.
    several: Vec<Vec<String>>,
    /// The indexes as the engine lists them.
    pub(super) indexes: Vec<Document>,
    /// The hashed paths of each index.
    hashed: Vec<String>,
    /// The paths of each index behind its first one.
    later: Vec<String>,
    /// Whether an index has every field.
    has_every: bool,
}

/// What is known of the indexes of collections.
#[derive(Debug, Default)]
pub(crate) struct Indexed(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Counts the changes, so that what was asked for before one is not kept after it.
    changes: u64,
    collections: HashMap<String, Arc<Keys>>,
}

impl Indexed {
    /// Forgets everything: an index or a collection has changed.
    pub(crate) fn forget(&self) {
        let mut known = self.known();
        known.changes += 1;
        known.collections.clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn of(&self, call: &Call<'_>, collection: &str) -> Arc<Keys> {
        let namespace = format!("{}.{collection}", call.database);
        let changes = {
            let known = self.known();
            if let Some(keys) = known.collections.get(&namespace) {
                return Arc::clone(keys);
            }
            known.changes
        };
        // A collection that is not there has none.
        let indexes = reading::indexes_of(call, collection)
            .await
            .unwrap_or_default();
        let mut keys = Keys::default();
        for index in &indexes {
            let Ok(index) = Document::try_from(index.as_ref()) else {
                continue;
            };
            let key = index.get_document("key").ok();
            let paths: Vec<&String> = key.into_iter().flat_map(Document::keys).collect();
            keys.later.extend(paths.iter().skip(1).copied().cloned());
            keys.has_every |= paths.first().is_some_and(|path| path.contains("$**"));
            if !index.contains_key("partialFilterExpression") {
                keys.hashed.extend(key.into_iter().flat_map(hashed::paths));
            }
            keys.several.extend(paths_of(&index));
            keys.indexes.push(index);
        }
        let keys = Arc::new(keys);
        let mut known = self.known();
        // A collection without any is not there yet, and may be at any time.
        if known.changes == changes && !keys.indexes.is_empty() {
            known.collections.insert(namespace, Arc::clone(&keys));
        }
        keys
    }
}

/// The paths of an index that may not meet several arrays.
fn paths_of(index: &Document) -> Option<Vec<String>> {
    // What a partial index leaves out may be anything.
    if index.contains_key("partialFilterExpression") {
        return None;
    }
    let key = index.get_document("key").ok()?;
    let is_plain = |path: &str| {
        path.split('.')
            .all(|part| part.parse::<u32>().is_err() && part != "$**")
    };
    let paths = key
        .iter()
        .filter(|(path, order)| whole(order).is_some() && is_plain(path));
    let paths: Vec<String> = paths.map(|(path, _)| path.clone()).collect();
    (paths.len() > 1).then_some(paths)
}

/// Returns what is known of a collection's indexes.
pub(super) async fn known(call: &Call<'_>, collection: &str) -> Arc<Keys> {
    call.server.indexed.of(call, collection).await
}

/// Returns those of some paths that an index has behind another one, and whether an index has every field.
pub(super) async fn behind_others(
    call: &Call<'_>,
    collection: &str,
    mut paths: Vec<String>,
) -> (Vec<String>, bool) {
    if paths.is_empty() {
        return (paths, false);
    }
    let keys = call.server.indexed.of(call, collection).await;
    paths.retain(|path| keys.has_every || keys.later.contains(path));
    (paths, keys.has_every)
}

/// Returns the documents that may not be inserted, by their places.
pub(super) async fn refused(
    call: &Call<'_>,
    collection: &str,
    documents: &[&RawDocument],
) -> Result<Vec<(usize, CommandError)>, CommandError> {
    let keys = call.server.indexed.of(call, collection).await;
    let mut refused = Vec::new();
    if keys.take_all() {
        return Ok(refused);
    }
    let mut since = Instant::now();
    for (place, document) in documents.iter().enumerate() {
        let document = Document::try_from(*document)?;
        let mut found = None;
        for paths in &keys.several {
            found = several(&document, paths).map(error);
            if found.is_some() {
                break;
            }
            aside::pause(&mut since).await;
        }
        let found = found.or_else(|| keys.refusal_of_hashed(&document));
        refused.extend(found.map(|error| (place, error)));
    }
    Ok(refused)
}

impl Keys {
    /// What is wrong with the arrays of a document.
    pub(super) fn refusal(&self, document: &Document) -> Option<CommandError> {
        let mut indexes = self.several.iter();
        if let Some(message) = indexes.find_map(|paths| several(document, paths)) {
            return Some(error(message));
        }
        self.refusal_of_hashed(document)
    }

    fn refusal_of_hashed(&self, document: &Document) -> Option<CommandError> {
        let mut hashed = self.hashed.iter();
        let path = hashed.find(|path| sorting::array_on(document, path).is_some())?;
        Some(hashed::refused(path))
    }

    /// Whether every document may be in all indexes.
    pub(super) fn take_all(&self) -> bool {
        self.several.is_empty() && self.hashed.is_empty()
    }

    pub(super) fn several(&self) -> &[Vec<String>] {
        &self.several
    }

    pub(super) fn hashed(&self) -> &[String] {
        &self.hashed
    }
}

/// Fails where a collection has documents that a new index may not have.
pub(super) async fn check_index(
    call: &Call<'_>,
    collection: &str,
    index: &Document,
) -> Result<(), CommandError> {
    let Some(paths) = paths_of(index) else {
        return Ok(());
    };
    let mut pairs = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        let others = paths[number + 1..].iter();
        let pair = |other: &String| {
            doc! { "$and": [sorting::has_array(path), sorting::has_array(other)] }
        };
        pairs.extend(others.map(pair));
    }
    let find = doc! { "find": collection, "filter": { "$or": pairs }, "limit": LOOKED_AT_MAX };
    for document in reading::documents_of(call, &raw(&find)).await? {
        if let Some(message) = several(&Document::try_from(document)?, &paths) {
            let namespace = format!("{}.{collection}", call.database);
            return Err(error(format!(
                "Index build failed: Collection {namespace} :: caused by :: {message}"
            )));
        }
    }
    Ok(())
}

pub(super) fn error(message: String) -> CommandError {
    CommandError::new(171, "CannotIndexParallelArrays", message)
}

/// Says which two arrays of a document are on the paths of one index.
fn several(document: &Document, paths: &[String]) -> Option<String> {
    let every: Vec<&str> = paths.iter().map(String::as_str).collect();
    if !has_parallel(document, &every) {
        return None;
    }
    for (number, path) in paths.iter().enumerate() {
        for other in &paths[number + 1..] {
            if let Some((first, second)) = parallel(document, path, other) {
                return Some(format!("cannot index parallel arrays [{second}] [{first}]"));
            }
        }
    }
    None
}

/// Whether some two paths go through arrays neither of which is inside the other. Each path is followed once through
/// the elements of an array, and not once with every other.
fn has_parallel(document: &Document, paths: &[&str]) -> bool {
    let paths = paths.iter().copied();
    let found: Vec<_> = paths
        .filter_map(|path| sorting::array_on(document, path))
        .collect();
    let Some((_, array, _)) = found.first() else {
        return false;
    };
    if found
        .iter()
        .any(|(_, other, _)| !std::ptr::eq(*array, *other))
    {
        return true;
    }
    let rests = found.iter().map(|(_, _, rest)| *rest);
    let rests: Vec<&str> = rests.filter(|rest| !rest.is_empty()).collect();
    let mut elements = array.iter().filter_map(Bson::as_document);
    rests.len() > 1 && elements.any(|inner| has_parallel(inner, &rests))
}

/// Returns the names of two arrays on two paths, neither of which is inside the other.
pub(super) fn parallel(document: &Document, path: &str, other: &str) -> Option<(String, String)> {
    let (name, array, rest) = sorting::array_on(document, path)?;
    let (other_name, second, other_rest) = sorting::array_on(document, other)?;
    if !std::ptr::eq(array, second) {
        return Some((name.to_owned(), other_name.to_owned()));
    }
    if rest.is_empty() || other_rest.is_empty() {
        return None;
    }
    let documents = array.iter().filter_map(Bson::as_document);
    let mut found = documents.filter_map(|inner| parallel(inner, rest, other_rest));
    found.next()
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;

    #[test]
    fn arrays_on_two_ways_are_parallel() {
        let is_parallel = |document: Document, path: &str, other: &str| {
            parallel(&document, path, other).is_some()
        };
        assert!(is_parallel(doc! { "a": [1], "b": [1] }, "a", "b"));
        assert!(is_parallel(
            doc! { "a": { "b": [], "c": [] } },
            "a.b",
            "a.c"
        ));
        let inside = doc! { "a": [{ "b": 1 }, { "b": [1], "c": [1] }] };
        assert!(is_parallel(inside, "a.b", "a.c"));
        let beside = doc! { "a": [{ "b": [1], "c": 1 }, { "b": 1, "c": [1] }] };
        assert!(!is_parallel(beside, "a.b", "a.c"));
        assert!(!is_parallel(doc! { "a": [1], "b": 1 }, "a", "b"));
        assert!(!is_parallel(doc! { "a": [{ "b": 1 }] }, "a", "a.b"));
    }

    /// Values of arrays and documents with the names of [`PATHS`].
    fn values() -> impl Strategy<Value = Bson> {
        let leaf = Just(Bson::Int32(1));
        leaf.prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..3).prop_map(Bson::Array),
                btree_map("[abc]", inner, 0..3)
                    .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
            ]
        })
    }

    const PATHS: [&str; 8] = ["a", "b", "a.b", "a.c", "b.a", "a.b.c", "a.b.a", "a.c.b"];

    proptest! {
        #[test]
        fn all_paths_at_once_find_what_each_two_find(
            fields in btree_map("[abc]", values(), 0..3),
            paths in subsequence(PATHS.to_vec(), 0..8),
        ) {
            let document: Document = fields.into_iter().collect();
            let mut pairs = paths.iter().enumerate().flat_map(|(number, path)| {
                paths[number + 1..].iter().map(move |other| (*path, *other))
            });
            let is_found = pairs.any(|(path, other)| parallel(&document, path, other).is_some());
            prop_assert_eq!(has_parallel(&document, &paths), is_found);
        }
    }

    #[test]
    fn only_several_plain_paths_of_a_whole_index_count() {
        let paths = |index: Document| paths_of(&index);
        assert_eq!(
            paths(doc! { "key": { "a": 1, "b": -1.0 } }),
            Some(vec!["a".to_owned(), "b".to_owned()])
        );
        for index in [
            doc! { "key": { "a": 1 } },
            doc! { "key": { "a": 1, "b": "text" } },
            doc! { "key": { "a.0": 1, "b": 1 } },
            doc! { "key": { "a": 1, "b": 1 }, "partialFilterExpression": { "c": 1 } },
        ] {
            assert_eq!(paths(index.clone()), None, "{index}");
        }
    }
}
