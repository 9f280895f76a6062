//! Sorts over arrays. MongoDB refuses to sort a document by two arrays, and puts
//! an empty array before nothing; the engine takes each key by itself, and an
//! empty array for nothing. By a collation it tells null from nothing. Whether there
//! are such documents is looked up before.

use bson::{Bson, Document, RawBsonRef, RawDocument, doc};

use super::{Call, aggregated, collated, parallel, raw, reading};
use crate::error::CommandError;

/// So many documents with several arrays are looked at.
const LOOKED_AT_MAX: i32 = 100;

/// Returns the paths by which documents with an empty array are sorted beside documents with nothing, which the
/// engine does not tell apart.
///
/// # Errors
/// Where MongoDB does not sort the documents, and where the engine would sort them otherwise.
pub(super) async fn ties(
    call: &Call<'_>,
    query: &RawDocument,
    sort: &Document,
) -> Result<Vec<String>, CommandError> {
    let keys = sort.iter().filter(|(path, order)| {
        let is_plain = path.split('.').all(|part| part.parse::<u32>().is_err());
        is_plain && *path != "_id" && !path.starts_with('$') && super::whole(order).is_some()
    });
    let keys: Vec<&str> = keys.map(|(path, _)| path.as_str()).collect();
    let empty = |path: &&str| doc! { *path: { "$eq": [] } };
    let mut unusual: Vec<Document> = keys.iter().map(empty).collect();
    for (number, path) in keys.iter().enumerate() {
        let others = keys[number + 1..].iter();
        unusual.extend(others.map(|other| doc! { "$and": [has_array(path), has_array(other)] }));
    }
    if unusual.is_empty() {
        return Ok(Vec::new());
    }
    // What is wrong with a query it says itself.
    let found = matching(call, query, doc! { "$or": unusual }, LOOKED_AT_MAX).await;
    let found = found.unwrap_or_default();
    for document in &found {
        for (number, path) in keys.iter().enumerate() {
            for other in &keys[number + 1..] {
                check_pair(document, path, other)?;
            }
        }
    }
    let is_collated = is_collated(query)?;
    let has = async |condition: Document| {
        let found = matching(call, query, condition, 1).await?;
        Ok::<bool, CommandError>(!found.is_empty())
    };
    let mut ties = Vec::new();
    for path in &keys {
        let empty = doc! { *path: { "$size": 0 } };
        let is_tie = !found.is_empty() && has(empty).await? && has(doc! { *path: null }).await?;
        let null = doc! { "$and": [{ *path: null }, { *path: { "$exists": true } }] };
        let missing = doc! { *path: { "$exists": false } };
        if is_tie || (is_collated && has(missing).await? && has(null).await?) {
            ties.push((*path).to_owned());
        }
    }
    Ok(ties)
}

/// Returns a pipeline that begins with a sort, or with one of what matches, be it with other fields beside, so that
/// it sorts as MongoDB does; nothing where it does as it is.
pub(super) async fn in_pipeline(
    call: &Call<'_>,
    stages: &[Bson],
) -> Result<Option<Vec<Bson>>, CommandError> {
    let part = |stage: &Bson, name: &str| -> Option<Document> {
        stage.as_document()?.get_document(name).ok().cloned()
    };
    let filters = stages.iter().map_while(|stage| part(stage, "$match"));
    let filters: Vec<Document> = filters.collect();
    let after = &stages[filters.len()..];
    let Some(others) = after
        .iter()
        .position(|stage| part(stage, "$sort").is_some())
    else {
        return Ok(None);
    };
    let place = filters.len() + others;
    let sort = part(&stages[place], "$sort").unwrap_or_default();
    if !after[..others]
        .iter()
        .all(|stage| leaves_keys(stage, &sort))
    {
        return Ok(None);
    }
    let mut query = Document::new();
    if !filters.is_empty() {
        query.insert("filter", doc! { "$and": filters });
    }
    for field in ["let", "collation"] {
        if let Some(value) = call.body().get(field)? {
            query.insert(field, Bson::try_from(value)?);
        }
    }
    let ties = ties(call, &raw(&query), &sort).await?;
    if query.contains_key("collation") && !ties.iter().any(|path| path.contains('.')) {
        // Every sort by a collation tells them apart by itself.
        return Ok(None);
    }
    if ties.is_empty() {
        return Ok(None);
    }
    let mut told = stages[..place].to_vec();
    told.extend(helped(&sort, &ties, false)?.map(Bson::Document));
    told.extend(stages[place + 1..].iter().cloned());
    Ok(Some(told))
}

/// Whether a stage leaves every document, and in it the fields by which it is sorted.
pub(crate) fn leaves_keys(stage: &Bson, sort: &Document) -> bool {
    let root = |path: &str| path.split('.').next().unwrap_or_default().to_owned();
    let is_key = |path: &str| sort.keys().any(|key| root(key) == root(path));
    let Some((name, value)) = stage.as_document().and_then(|stage| stage.iter().next()) else {
        return false;
    };
    match (name.as_str(), value) {
        ("$set" | "$addFields", Bson::Document(fields)) => !fields.keys().any(|path| is_key(path)),
        ("$lookup", Bson::Document(lookup)) => lookup.get_str("as").is_ok_and(|path| !is_key(path)),
        ("$unset", Bson::String(path)) => !is_key(path),
        ("$project", Bson::Document(fields)) => sort.keys().all(|key| {
            let field = fields.get(key).or_else(|| fields.get(root(key)));
            let is_kept =
                field == Some(&Bson::Boolean(true)) || field.and_then(super::whole) == Some(1);
            is_kept || (key == "_id" && field.is_none())
        }),
        _ => false,
    }
}

/// A sort with helpers that are smaller for an empty array than for nothing.
fn helped(
    sort: &Document,
    ties: &[String],
    is_collated: bool,
) -> Result<[Document; 3], CommandError> {
    if ties.iter().any(|path| path.contains('.')) {
        return Err(CommandError::not_supported(untold(ties)));
    }
    if is_collated && let Some(helped) = collated::with_null(sort) {
        return Ok(helped);
    }
    let (mut helpers, mut keys) = (Document::new(), Document::new());
    for (path, order) in sort {
        keys.insert(path, order.clone());
        if ties.contains(path) {
            let helper = format!("arenaTie{}", helpers.len());
            let is_empty = bson::bson!({ "$eq": [format!("${path}"), []] });
            keys.insert(&helper, order.clone());
            helpers.insert(helper, bson::bson!({ "$cond": [is_empty, 0, 1] }));
        }
    }
    let names: Vec<Bson> = helpers.keys().cloned().map(Bson::String).collect();
    Ok([
        doc! { "$set": helpers },
        doc! { "$sort": keys },
        doc! { "$unset": names },
    ])
}

fn is_collated(query: &RawDocument) -> Result<bool, CommandError> {
    Ok(matches!(
        query.get("collation")?,
        Some(RawBsonRef::Document(_))
    ))
}

fn untold(ties: &[String]) -> String {
    format!(
        "sorting by '{}', which is an empty array or null in some documents and nothing in others,",
        ties.join("' and '")
    )
}

/// Returns a find as the aggregation that tells an empty array from nothing.
pub(super) fn told_apart(
    find: &RawDocument,
    sort: &Document,
    ties: &[String],
) -> Result<Document, CommandError> {
    let find = Document::try_from(find)?;
    let [helpers, keys, others] = helped(sort, ties, is_collated(&raw(&find))?)?;
    let filter = find.get_document("filter").cloned().unwrap_or_default();
    let stages = vec![doc! { "$match": filter }, helpers, keys];
    aggregated::of_find(&find, stages, vec![others])
        .ok_or_else(|| CommandError::not_supported(untold(ties)))
}

/// A filter of the documents with an array somewhere on a path.
pub(super) fn has_array(path: &str) -> Document {
    let ends = path.match_indices('.').map(|(at, _)| at);
    let above = ends.chain([path.len()]).map(|end| &path[..end]);
    let arrays: Vec<Document> = above
        .map(|path| doc! { path: { "$type": "array" } })
        .collect();
    doc! { "$or": arrays }
}

fn check_pair(document: &Document, path: &str, other: &str) -> Result<(), CommandError> {
    if parallel::parallel(document, path, other).is_some() {
        return Err(CommandError::bad_value(
            "cannot sort with keys that are parallel arrays",
        ));
    }
    let (Some((_, array, rest)), Some((_, _, other_rest))) =
        (array_on(document, path), array_on(document, other))
    else {
        return Ok(());
    };
    if array.len() > 1 {
        return Err(CommandError::not_supported(
            "sorting by two fields of the same array's elements",
        ));
    }
    match array.first() {
        Some(Bson::Document(only)) if !rest.is_empty() && !other_rest.is_empty() => {
            check_pair(only, rest, other_rest)
        }
        _ => Ok(()),
    }
}

/// Returns the name of the first array on a path, the array, and what is left of the path.
pub(super) fn array_on<'d, 'p>(
    document: &'d Document,
    path: &'p str,
) -> Option<(&'p str, &'d Vec<Bson>, &'p str)> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    match document.get(first)? {
        Bson::Array(array) => Some((first, array, rest)),
        Bson::Document(inner) if !rest.is_empty() => array_on(inner, rest),
        _ => None,
    }
}

/// The documents of a find that fit one more condition.
async fn matching(
    call: &Call<'_>,
    query: &RawDocument,
    condition: Document,
    limit: i32,
) -> Result<Vec<Document>, CommandError> {
    let mut filter = condition;
    if let Some(RawBsonRef::Document(own)) = query.get("filter")? {
        filter = doc! { "$and": [Document::try_from(own)?, filter] };
    }
    let mut find = bson::rawdoc! { "find": call.collection()?, "limit": limit };
    find.append(bson::cstr!("filter"), raw(&filter));
    for field in [bson::cstr!("let"), bson::cstr!("collation")] {
        if let Some(RawBsonRef::Document(part)) = query.get(field.as_str())? {
            find.append(field, part);
        }
    }
    let found = reading::documents_of(call, &find).await?;
    let documents = found
        .iter()
        .map(|document| Document::try_from(document.as_ref()));
    Ok(documents.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(document: Document, path: &str, other: &str) -> i32 {
        check_pair(&document, path, other).map_or_else(|error| error.code, |()| 0)
    }

    #[test]
    fn arrays_on_two_ways_are_parallel() {
        assert_eq!(code(doc! { "a": [1], "b": [1] }, "a", "b"), 2);
        assert_eq!(code(doc! { "a": { "b": [], "c": [] } }, "a.b", "a.c"), 2);
        assert_eq!(
            code(doc! { "a": [{ "b": [1], "c": [1] }] }, "a.b", "a.c"),
            2
        );
        assert_eq!(code(doc! { "a": [{ "b": [1], "c": 1 }] }, "a.b", "a.c"), 0);
        assert_eq!(code(doc! { "a": [1], "b": 1 }, "a", "b"), 0);
        assert_eq!(
            code(doc! { "a": [{ "b": 1 }, { "b": 2 }] }, "a.b", "a.c"),
            115
        );
    }
}
