//! Hints: the index that a command names, and the order in which it is read.

use bson::{Bson, Document, RawBsonRef, RawDocumentBuf};

use super::{Answer, Call, collection_in, field_of, parallel, raw, reading, whole, without};
use crate::error::CommandError;

/// Returns a find in the order of the index that it names. MongoDB reads in that order where no other is asked
/// for; the engine in the order of the collection.
pub(super) async fn in_order(call: &Call<'_>, spec: RawDocumentBuf) -> Answer {
    let Some(hint @ (RawBsonRef::String(_) | RawBsonRef::Document(_))) = field_of(&spec, "hint")?
    else {
        return Ok(spec);
    };
    if matches!(field_of(&spec, "sort")?, Some(RawBsonRef::Document(sort)) if !sort.is_empty()) {
        return Ok(spec);
    }
    let key = match Bson::try_from(hint)? {
        Bson::Document(key) => Some(key),
        Bson::String(name) => key_of(call, collection_in(&spec, "find")?, &name).await?,
        _ => None,
    };
    let Some(sort) = key.as_ref().and_then(order_of) else {
        return Ok(spec);
    };
    let mut ordered = without(&spec, &["sort"])?;
    ordered.append(bson::cstr!("sort"), raw(&sort));
    Ok(ordered)
}

/// Stages that order for themselves, or that nothing may precede.
pub(super) const UNORDERED: [&str; 8] = [
    "$sort",
    "$geoNear",
    "$collStats",
    "$indexStats",
    "$documents",
    "$search",
    "$vectorSearch",
    "$count",
];

/// Returns a pipeline whose collection is read in the order of the index that it names, for the same reason.
pub(super) async fn in_order_of_pipeline(call: &Call<'_>, spec: RawDocumentBuf) -> Answer {
    let (Some(hint), Ok(collection)) = (field_of(&spec, "hint")?, spec.get_str("aggregate")) else {
        return Ok(spec);
    };
    let held = held(call, collection, hint).await?;
    let key = match Bson::try_from(hint)? {
        Bson::Document(key) => Some(key),
        // A view has no indexes of its own.
        Bson::String(name) => key_of(call, collection, &name).await.unwrap_or(None),
        _ => None,
    };
    let Some(order) = key.as_ref().and_then(order_of) else {
        return Ok(spec);
    };
    let Bson::Array(mut stages) = Bson::try_from(RawBsonRef::Array(spec.get_array("pipeline")?))?
    else {
        return Ok(spec);
    };
    let name = |stage: &Bson| Some(stage.as_document()?.keys().next()?.clone());
    let is_match = |stage: &Bson| name(stage).is_some_and(|name| name == "$match");
    let begin = stages.iter().take_while(|stage| is_match(stage)).count();
    let next = stages.get(begin).and_then(name);
    if next.is_some_and(|next| UNORDERED.contains(&next.as_str())) {
        return Ok(spec);
    }
    let mut ordered = without(&spec, &["pipeline"])?;
    let order = match order.get("$natural").map(whole) {
        None => order,
        // Backwards is by `_id`, where that tells the order of insertion.
        Some(Some(-1)) if call.server.arrivals.are_growing(call.database, collection) => {
            ordered = without(&ordered, &["hint"])?;
            bson::doc! { "_id": -1 }
        }
        Some(Some(-1)) => {
            return Err(CommandError::not_supported(
                "an aggregate with the hint {$natural: -1} where '_id' does not grow",
            ));
        }
        Some(_) => return Ok(spec),
    };
    stages.insert(begin, bson::bson!({ "$sort": order }));
    if let Some(held) = held {
        stages.insert(0, bson::bson!({ "$match": held }));
        ordered = without(&ordered, &["hint"])?;
    }
    ordered.append(
        bson::cstr!("pipeline"),
        bson::RawBson::try_from(Bson::Array(stages))?,
    );
    Ok(ordered)
}

/// The order of an index's entries; those that are equal come as they were inserted. Nothing where an index has
/// no order that means anything.
pub(super) fn order_of(key: &Document) -> Option<Document> {
    let mut order = Document::new();
    for (path, direction) in key {
        let direction = whole(direction)?.signum();
        if direction == 0 || path.contains("$**") {
            return None;
        }
        order.insert(path, i32::try_from(direction).ok()?);
    }
    if order.is_empty() {
        return None;
    }
    if !order.contains_key("_id") && !order.contains_key("$natural") {
        order.insert("_id", 1);
    }
    Some(order)
}

async fn key_of(
    call: &Call<'_>,
    collection: &str,
    name: &str,
) -> Result<Option<Document>, CommandError> {
    let indexes = indexes_of(call, collection).await?;
    let index = indexes
        .iter()
        .find(|index| index.get_str("name").is_ok_and(|listed| listed == name));
    match index {
        Some(index) => Ok(Some(Document::try_from(index.get_document("key")?)?)),
        None => Ok(None),
    }
}

/// A collection that is not there has no index.
async fn indexes_of(
    call: &Call<'_>,
    collection: &str,
) -> Result<Vec<RawDocumentBuf>, CommandError> {
    match reading::indexes_of(call, collection).await {
        Err(error) if error.code == 26 => Ok(Vec::new()),
        indexes => indexes,
    }
}

/// Returns what all documents of a hinted index have, where that is not every document: MongoDB reads a sparse index
/// as a whole, the engine what a filter asks for, and of several paths only the first one.
///
/// # Errors
/// Where the index is hidden, so that no hint may name it.
pub(super) async fn held(
    call: &Call<'_>,
    collection: &str,
    hint: RawBsonRef<'_>,
) -> Result<Option<Document>, CommandError> {
    let hint = Bson::try_from(hint)?;
    let keys = parallel::known(call, collection).await;
    let is_hinted = |index: &&Document| match &hint {
        Bson::String(name) => index.get_str("name").is_ok_and(|listed| listed == name),
        Bson::Document(key) => index.get_document("key").is_ok_and(|listed| listed == key),
        _ => false,
    };
    let hinted = keys.indexes.iter().filter(is_hinted);
    let (hidden, shown): (Vec<&Document>, Vec<&Document>) =
        hinted.partition(|index| index.get_bool("hidden").unwrap_or(false));
    let Some(index) = shown.first() else {
        return if hidden.is_empty() {
            Ok(None)
        } else {
            Err(unknown(call, collection))
        };
    };
    let key = index.get_document("key")?;
    let is_plain = |(path, order): (&String, &Bson)| {
        !path.contains("$**") && (whole(order).is_some() || order.as_str() == Some("hashed"))
    };
    if !index.get_bool("sparse").unwrap_or(false) || !key.iter().all(is_plain) {
        return Ok(None);
    }
    let paths = key
        .keys()
        .map(|path| bson::bson!({ path: { "$exists": true } }));
    Ok(Some(bson::doc! { "$or": paths.collect::<Vec<Bson>>() }))
}

/// Returns a query that reads what a hinted index holds.
pub(super) async fn within(
    call: &Call<'_>,
    collection: &str,
    spec: RawDocumentBuf,
    field: &str,
) -> Answer {
    let Some(hint) = field_of(&spec, "hint")? else {
        return Ok(spec);
    };
    let Some(held) = held(call, collection, hint).await? else {
        return Ok(spec);
    };
    let filter = match spec.get(field)? {
        Some(RawBsonRef::Document(filter)) => {
            bson::doc! { "$and": [held, Document::try_from(filter)?] }
        }
        _ => held,
    };
    let mut reading = Document::try_from(without(&spec, &["hint"])?)?;
    reading.insert(field, filter);
    Ok(raw(&reading))
}

/// A write's hint must name an index; the engine would take any.
pub(super) async fn check(
    call: &Call<'_>,
    collection: &str,
    hint: RawBsonRef<'_>,
) -> Result<(), CommandError> {
    let hint = Bson::try_from(hint)?;
    if matches!(&hint, Bson::Document(hint) if hint.is_empty() || hint.contains_key("$natural")) {
        return Ok(());
    }
    let indexes = indexes_of(call, collection).await?;
    let is_hinted = |index: &RawDocumentBuf| match &hint {
        Bson::String(name) => index.get_str("name").is_ok_and(|listed| listed == name),
        Bson::Document(key) => index
            .get_document("key")
            .is_ok_and(|listed| Document::try_from(listed).is_ok_and(|listed| listed == *key)),
        _ => false,
    };
    // Without any index there is no collection, and nothing to change.
    if indexes.is_empty() || indexes.iter().any(is_hinted) {
        return Ok(());
    }
    Err(unknown(call, collection))
}

fn unknown(call: &Call<'_>, collection: &str) -> CommandError {
    CommandError::bad_value(format!(
        "error processing query: ns={}.{collection} planner returned error :: caused by :: hint provided does not correspond to an existing index",
        call.database
    ))
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn an_index_is_read_in_the_order_of_its_key() {
        assert_eq!(
            order_of(&doc! { "a": -1.0, "b": 1 }),
            Some(doc! { "a": -1, "b": 1, "_id": 1 })
        );
        assert_eq!(order_of(&doc! { "_id": 1 }), Some(doc! { "_id": 1 }));
        assert_eq!(
            order_of(&doc! { "$natural": -1 }),
            Some(doc! { "$natural": -1 })
        );
        for key in [
            doc! {},
            doc! { "a": "hashed" },
            doc! { "a": 1, "t": "text" },
            doc! { "$**": 1 },
        ] {
            assert_eq!(order_of(&key), None, "{key}");
        }
    }
}
