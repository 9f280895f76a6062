//! The distinct command. MongoDB sorts the values, and names the first that it meets
//! of those that are equal; the engine sorts them, too, and names any.

use std::collections::{HashMap, HashSet};

use bson::{Bson, Document, RawBsonRef, RawDocumentBuf, doc};

use super::statements::Statement;
use super::{Answer, Call, collations, raw, reading, views};
use crate::error::CommandError;

pub(super) async fn run(call: &Call<'_>) -> Answer {
    check_positions(call).await?;
    if let Some(collation) = call.body().get("collation")? {
        views::check_collation(call, call.name).await?;
        if let Some(collation) = collations::checked(call, collation).await? {
            return by_collation(call, collation).await;
        }
    }
    let answer = reading::documents(call, Statement::DISTINCT).await?;
    let mut answer = Document::try_from(answer)?;
    let values = answer.get_array("values").cloned().unwrap_or_default();
    if !values.iter().any(may_be_another) {
        return Ok(raw(&answer));
    }
    if let Some(values) = as_met(call, &values).await? {
        answer.insert("values", values);
    }
    Ok(raw(&answer))
}

/// A distinct for which texts that are spelt otherwise may be equal, which the engine knows where it groups.
async fn by_collation(call: &Call<'_>, collation: Document) -> Answer {
    // What is wrong with the command itself is told by the distinct without it.
    let spec = super::without(
        &reading::checked_query(call, call.body(), call.name)?,
        &["collation"],
    )?;
    Statement::DISTINCT
        .answer(call, call.budget(), &spec)
        .await?;
    let path = call.body().get_str("key").unwrap_or_default();
    let parts: Vec<&str> = path.split('.').collect();
    let mut find = find_of(call)?;
    find.append(bson::cstr!("collation"), raw(&collation));
    let (mut seen, mut values) = (HashSet::new(), Vec::new());
    for document in reading::documents_of(call, &find).await? {
        let document = Bson::Document(Document::try_from(document)?);
        let mut found = Vec::new();
        collect(&document, &parts, &mut found);
        for value in found {
            if seen.insert(canonical(value)) {
                values.push(value.clone());
            }
        }
    }
    let mut sorted = Vec::new();
    for place in first_places(call, &values, collation).await? {
        sorted.extend(values.get(place).cloned());
    }
    Ok(raw(&doc! { "values": sorted, "ok": 1.0 }))
}

/// Sorts values by a collation; of those that are equal the first is named, by its place.
async fn first_places(
    call: &Call<'_>,
    values: &[Bson],
    collation: Document,
) -> Result<Vec<usize>, CommandError> {
    let mut documents = Vec::new();
    for (place, value) in (0_i32..).zip(values) {
        documents.push(doc! { "value": value.clone(), "place": place });
    }
    if documents.is_empty() {
        return Ok(Vec::new());
    }
    // In an object, since a sort by an array is one by its elements.
    let fields = doc! { "_id": 0, "place": 1, "sorted": { "by": "$_id" } };
    let spec = doc! {
        "aggregate": 1, "cursor": { "batchSize": i32::MAX }, "collation": collation,
        "pipeline": [
            { "$documents": documents }, { "$group": { "_id": "$value", "place": { "$min": "$place" } } },
            { "$project": fields }, { "$sort": { "sorted": 1 } },
        ],
    };
    let page = Statement::AGGREGATE
        .answer(call, call.budget(), &raw(&spec))
        .await?;
    let mut places = Vec::new();
    for group in page.get_document("cursor")?.get_array("firstBatch")? {
        let place = group?
            .as_document()
            .map(|group| group.get("place"))
            .transpose()?;
        let place = place.flatten().and_then(super::integer);
        places.extend(place.and_then(|place| usize::try_from(place).ok()));
    }
    Ok(places)
}

/// A find of what a distinct looks at: its documents, of which only the field that has the values.
fn find_of(call: &Call<'_>) -> Result<RawDocumentBuf, CommandError> {
    let path = call.body().get_str("key").unwrap_or_default();
    let top = path.split('.').next().unwrap_or_default();
    let mut find = bson::rawdoc! { "find": call.collection()? };
    if let Some(RawBsonRef::Document(query)) = call.body().get("query")? {
        find.append(bson::cstr!("filter"), query);
    }
    let mut fields = doc! { top: 1 };
    if top != "_id" {
        fields.insert("_id", 0);
    }
    find.append(bson::cstr!("projection"), raw(&fields));
    Ok(find)
}

/// A position in the path of a distinct means the array's element in MongoDB, which is gone into if it is an array
/// again. The engine goes into none, and takes what the elements have under that name besides.
async fn check_positions(call: &Call<'_>) -> Result<(), CommandError> {
    let body = call.body();
    let path = body.get_str("key").unwrap_or_default();
    let mut ambiguous = Vec::new();
    for (at, _) in path.match_indices('.') {
        let name = path[at + 1..].split('.').next().unwrap_or_default();
        if !name.is_empty() && name.bytes().all(|digit| digit.is_ascii_digit()) {
            let inner = doc! { name: { "$exists": true } };
            ambiguous.push(doc! { &path[..at]: { "$elemMatch": inner } });
            let inner = doc! { "$type": "array" };
            ambiguous.push(doc! { &path[..at]: { "$elemMatch": inner } });
        }
    }
    if ambiguous.is_empty() {
        return Ok(());
    }
    let mut filter = doc! { "$or": ambiguous };
    if let Some(RawBsonRef::Document(query)) = body.get("query")? {
        filter = doc! { "$and": [Document::try_from(query)?, filter] };
    }
    let find = doc! { "find": call.collection()?, "filter": filter, "projection": { "_id": 1 }, "limit": 1 };
    if reading::ids_of(call, &raw(&find)).await?.is_empty() {
        return Ok(());
    }
    Err(CommandError::not_supported(
        "distinct over a position in an array of arrays, or of objects with such a field,",
    ))
}

/// Whether something else may be equal to a value: a number, or what holds one.
fn may_be_another(value: &Bson) -> bool {
    match value {
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => true,
        Bson::Array(values) => values.iter().any(may_be_another),
        Bson::Document(fields) => fields.values().any(may_be_another),
        _ => false,
    }
}

/// Returns the values as MongoDB meets them first; nothing where that is not known.
async fn as_met(call: &Call<'_>, values: &[Bson]) -> Result<Option<Vec<Bson>>, CommandError> {
    let path = call.body().get_str("key").unwrap_or_default();
    let mut places = HashMap::new();
    for (place, value) in values.iter().enumerate() {
        if places.insert(canonical(value), place).is_some() {
            return Ok(None);
        }
    }
    let parts: Vec<&str> = path.split('.').collect();
    let mut met = vec![None; values.len()];
    for document in reading::documents_of(call, &find_of(call)?).await? {
        let document = Bson::Document(Document::try_from(document)?);
        let mut found = Vec::new();
        collect(&document, &parts, &mut found);
        for value in found {
            let Some(place) = places.get(&canonical(value)) else {
                return Ok(None);
            };
            met[*place].get_or_insert_with(|| value.clone());
        }
        if met.iter().all(Option::is_some) {
            break;
        }
    }
    Ok(met.into_iter().collect())
}

/// The values at the end of a path: of an array its elements.
fn collect<'d>(value: &'d Bson, path: &[&str], found: &mut Vec<&'d Bson>) {
    let Some((first, rest)) = path.split_first() else {
        match value {
            Bson::Array(elements) => found.extend(elements),
            other => found.push(other),
        }
        return;
    };
    match value {
        Bson::Document(fields) => {
            if let Some(value) = fields.get(*first) {
                collect_in(value, rest, found);
            }
        }
        Bson::Array(_) => collect_in(value, path, found),
        _ => {}
    }
}

/// Goes into an array on the way: to the position that the path names, or into its documents.
fn collect_in<'d>(value: &'d Bson, path: &[&str], found: &mut Vec<&'d Bson>) {
    let (Bson::Array(elements), Some((first, rest))) = (value, path.split_first()) else {
        return collect(value, path, found);
    };
    match first
        .parse::<usize>()
        .ok()
        .and_then(|position| elements.get(position))
    {
        Some(element) if rest.is_empty() => found.push(element),
        Some(element) => collect_in(element, rest, found),
        None => {
            for element in elements {
                if let Bson::Document(_) = element {
                    collect(element, path, found);
                }
            }
        }
    }
}

/// A text that equal values share, whatever type their numbers have.
fn canonical(value: &Bson) -> String {
    match value {
        Bson::Int32(number) => format!("n{number}"),
        Bson::Int64(number) => format!("n{number}"),
        Bson::Double(number) if *number == 0.0 => "n0".to_owned(),
        Bson::Double(number) => format!("n{number}"),
        Bson::Decimal128(number) => {
            let text = number.to_string();
            let number = text.parse::<f64>();
            number.map_or(text, |number| canonical(&Bson::Double(number)))
        }
        Bson::Array(values) => {
            let values: Vec<String> = values.iter().map(canonical).collect();
            format!("[{}]", values.join(","))
        }
        Bson::Document(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name:?}:{}", canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Bson::String(text) | Bson::Symbol(text) => format!("{text:?}"),
        other => format!("{other:?}"),
    }
}
