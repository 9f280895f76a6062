//! Two changes of one update that mean the same element of an array. Which elements
//! array filters choose is only known in a document: MongoDB refuses the update of
//! one in which two changes meet, the engine lets one of them win.

use bson::{Bson, Document, RawBsonRef, RawDocument, doc};

use super::{Call, raw, reading, sorting, updates};
use crate::error::CommandError;

/// Where two changes meet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Meeting {
    /// Matches the documents in which they do.
    pub(super) filter: Document,
    /// The outermost array.
    pub(super) array: String,
}

/// Whether two changes of a document meet.
enum Met {
    Never,
    Always,
    Where(Document),
}

/// What is known of one element of an array.
enum Element {
    /// Operators on the element itself.
    Value(Document),
    /// Conditions on its fields.
    Fields(Vec<Bson>),
}

/// Returns where changes of an update meet.
pub(super) fn of(operation: &RawDocument) -> Result<Vec<Meeting>, CommandError> {
    let Some(RawBsonRef::Document(update)) = updates::update_in(operation)? else {
        return Ok(Vec::new());
    };
    let mut paths = Vec::new();
    for element in update {
        let (operator, RawBsonRef::Document(fields)) = element? else {
            continue;
        };
        for field in fields.iter().filter(|_| operator.as_str() != "$rename") {
            let path = field?.0.as_str();
            if path.contains(".$") {
                paths.push(path.split('.').collect::<Vec<&str>>());
            }
        }
    }
    let mut filters = Vec::new();
    if let (true, Some(RawBsonRef::Array(listed))) =
        (paths.len() > 1, operation.get("arrayFilters")?)
    {
        for filter in listed {
            if let RawBsonRef::Document(filter) = filter? {
                filters.push(Document::try_from(filter)?);
            }
        }
    }
    let mut meetings = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        for other in &paths[number + 1..] {
            let outer = path.iter().take_while(|part| !part.starts_with("$["));
            let array = outer.copied().collect::<Vec<&str>>().join(".");
            match met(path, other, &filters, false)? {
                Met::Never => {}
                Met::Where(filter) => meetings.push(Meeting { filter, array }),
                Met::Always => {
                    let message = format!(
                        "Updating the path '{}' would create a conflict at '{array}'",
                        other.join(".")
                    );
                    return Err(CommandError::new(40, "ConflictingUpdateOperators", message));
                }
            }
        }
    }
    Ok(meetings)
}

/// Whether two paths meet from here on; where all their parts were the same, the engine notices itself.
fn met(
    path: &[&str],
    other: &[&str],
    filters: &[Document],
    are_different: bool,
) -> Result<Met, CommandError> {
    let is_array = |part: &&str| part.starts_with("$[");
    let plain = |path: &[&str]| path.iter().take_while(|part| !is_array(part)).count();
    let (before, before_other) = (plain(path), plain(other));
    let shorter = before.min(before_other);
    if path[..shorter] != other[..shorter] {
        return Ok(Met::Never);
    }
    let is_end = path.len() == shorter || other.len() == shorter;
    if is_end && !are_different {
        return Ok(Met::Never);
    }
    if is_end || before != before_other {
        return Ok(Met::Always);
    }
    let (name, other_name) = (path[shorter], other[shorter]);
    let inner = met(
        &path[shorter + 1..],
        &other[shorter + 1..],
        filters,
        are_different || name != other_name,
    )?;
    let inner = match inner {
        Met::Never => return Ok(Met::Never),
        Met::Always => None,
        Met::Where(inner) => Some(inner),
    };
    let mut names = vec![name];
    names.extend((name != other_name).then_some(other_name));
    let mut conditions: Vec<&Document> = Vec::new();
    for name in names {
        let identifier = name.trim_start_matches("$[").trim_end_matches(']');
        conditions.extend(
            filters
                .iter()
                .filter(|filter| !identifier.is_empty() && is_of(filter, identifier)),
        );
    }
    let prefix = path[..shorter].join(".");
    if prefix.is_empty() {
        return Err(refused());
    }
    Ok(Met::Where(chosen(&prefix, &conditions, inner)?))
}

fn refused() -> CommandError {
    CommandError::not_supported("an update with two array filters that may choose the same element")
}

/// A filter of the documents in which an array has an element that meets all conditions.
fn chosen(
    prefix: &str,
    conditions: &[&Document],
    inner: Option<Document>,
) -> Result<Document, CommandError> {
    let mut elements = conditions.iter().map(|filter| element(filter));
    let mut whole = match (inner, elements.next()) {
        (Some(inner), None) => Element::Fields(vec![Bson::Document(inner)]),
        (None, None) => return Ok(doc! { format!("{prefix}.0"): { "$exists": true } }),
        (inner, Some(first)) => {
            let inner = inner.map(|inner| Element::Fields(vec![Bson::Document(inner)]));
            let first = first.ok_or_else(refused)?;
            match inner {
                Some(inner) => both(first, inner).ok_or_else(refused)?,
                None => first,
            }
        }
    };
    for other in elements {
        whole = both(whole, other.ok_or_else(refused)?).ok_or_else(refused)?;
    }
    let condition = match whole {
        Element::Value(operators) => operators,
        Element::Fields(conditions) => doc! { "$and": conditions },
    };
    Ok(doc! { prefix: { "$elemMatch": condition } })
}

/// The identifier of an array filter is the first part of all its paths.
pub(super) fn is_of(filter: &Document, identifier: &str) -> bool {
    filter.iter().next().is_some_and(|(key, value)| {
        if key.starts_with('$') {
            let parts = value.as_array().into_iter().flatten();
            let mut parts = parts.filter_map(Bson::as_document);
            return parts.next().is_some_and(|part| is_of(part, identifier));
        }
        key.split('.').next() == Some(identifier)
    })
}

fn element(filter: &Document) -> Option<Element> {
    if let (1, Some((key, value))) = (filter.len(), filter.iter().next())
        && !key.starts_with('$')
        && !key.contains('.')
    {
        let operators = match value {
            Bson::Document(operators)
                if operators
                    .keys()
                    .next()
                    .is_some_and(|key| key.starts_with('$')) =>
            {
                operators.clone()
            }
            Bson::RegularExpression(_) => return None,
            other => doc! { "$eq": other.clone() },
        };
        return Some(Element::Value(operators));
    }
    Some(Element::Fields(vec![Bson::Document(of_fields(filter)?)]))
}

/// A filter without its identifier.
fn of_fields(filter: &Document) -> Option<Document> {
    let mut fields = Document::new();
    for (key, value) in filter {
        if key.starts_with('$') {
            let parts = value.as_array()?.iter();
            let parts = parts.map(|part| of_fields(part.as_document()?).map(Bson::Document));
            fields.insert(key, parts.collect::<Option<Vec<Bson>>>()?);
        } else {
            fields.insert(key.split_once('.')?.1, value.clone());
        }
    }
    Some(fields)
}

/// What is known of an element of which two things are known.
fn both(one: Element, other: Element) -> Option<Element> {
    match (one, other) {
        (Element::Fields(mut one), Element::Fields(other)) => {
            one.extend(other);
            Some(Element::Fields(one))
        }
        (Element::Value(mut one), Element::Value(other)) => {
            for (operator, value) in other {
                match one.get(&operator) {
                    None => drop(one.insert(operator, value)),
                    Some(same) if *same == value => {}
                    Some(_) if operator == "$eq" && !one.contains_key("$in") => {
                        one.insert("$in", vec![value]);
                    }
                    Some(_) => return None,
                }
            }
            Some(Element::Value(one))
        }
        _ => None,
    }
}

impl Meeting {
    /// Where two changes meet in a document: the first element of the outermost array in which they do.
    pub(super) async fn place_in(
        &self,
        call: &Call<'_>,
        collection: &str,
        document: &Document,
    ) -> Result<String, CommandError> {
        let found =
            doc! { "$and": [{ "_id": { "$eq": document.get("_id").cloned() } }, &self.filter] };
        let position = format!("{}.$", self.array);
        let find =
            doc! { "find": collection, "filter": found, "projection": { position: 1 }, "limit": 1 };
        let found = reading::documents_of(call, &raw(&find))
            .await
            .unwrap_or_default();
        let found = found
            .first()
            .map(|found| Document::try_from(found.as_ref()));
        let at = |document: &Document| {
            let parent = sorting::array_on(document, &self.array);
            parent.map(|(_, array, _)| array.clone())
        };
        let element = found.transpose()?.as_ref().and_then(at);
        let array = at(document).unwrap_or_default();
        let place =
            element.and_then(|element| array.iter().position(|one| Some(one) == element.first()));
        Ok(place.map_or_else(
            || self.array.clone(),
            |place| format!("{}.{place}", self.array),
        ))
    }
}

/// What MongoDB says of a document in which two changes meet.
pub(super) fn error(place: &str) -> CommandError {
    CommandError::new(
        40,
        "ConflictingUpdateOperators",
        format!("Update created a conflict at '{place}'"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(update: Document, array_filters: Vec<Document>) -> Vec<Document> {
        let operation = doc! { "q": {}, "u": { "$set": update }, "arrayFilters": array_filters };
        let meetings = of(&raw(&operation)).expect("it can be said");
        meetings.into_iter().map(|meeting| meeting.filter).collect()
    }

    #[test]
    fn changes_of_the_same_element_meet() {
        assert_eq!(
            filters(
                doc! { "a.$[i]": 5, "a.$[j]": 6 },
                vec![doc! { "i": 0 }, doc! { "j": { "$lt": 3 } }]
            ),
            [doc! { "a": { "$elemMatch": { "$eq": 0, "$lt": 3 } } }]
        );
        assert_eq!(
            filters(
                doc! { "o.a.$[i].x": 5, "o.a.$[j].x.y": 6 },
                vec![
                    doc! { "i.k": 1 },
                    doc! { "$or": [{ "j.k": 2 }, { "j.l": 3 }] }
                ]
            ),
            [
                doc! { "o.a": { "$elemMatch": { "$and": [{ "k": 1 }, { "$or": [{ "k": 2 }, { "l": 3 }] }] } } }
            ]
        );
        assert_eq!(
            filters(
                doc! { "a.$[].b.$[i]": 1, "a.$[].b.$[j]": 2 },
                vec![doc! { "i": 1 }, doc! { "j": 2 }]
            ),
            [
                doc! { "a": { "$elemMatch": { "$and": [{ "b": { "$elemMatch": { "$eq": 1, "$in": [2] } } }] } } }
            ]
        );
        assert_eq!(
            filters(doc! { "a.$[]": 1, "a.$[i]": 2 }, vec![doc! { "i": 2 }]),
            [doc! { "a": { "$elemMatch": { "$eq": 2 } } }]
        );
    }

    #[test]
    fn a_position_and_a_filter_of_one_array_meet_in_any_document() {
        let update = doc! { "$set": { "a.$[i]": 1, "a.$": 2 } };
        let operation = doc! { "q": { "a": 1 }, "u": update, "arrayFilters": [{ "i": 1 }] };
        let error = of(&raw(&operation)).expect_err("they meet");
        assert_eq!(error.code, 40);
    }

    #[test]
    fn changes_beside_each_other_do_not_meet() {
        for update in [
            doc! { "a.$[i].x": 5, "a.$[j].y": 6 },
            doc! { "a.$[i]": 5, "b.$[j]": 6 },
            doc! { "a.$[i].x": 5, "a.$[].y": 6 },
            doc! { "a.$[i].x": 5, "a.$[i].y": 6 },
            doc! { "a.$[i]": 5, "b": 6 },
            doc! { "a.$.x": 5, "a.$.y": 6 },
        ] {
            let both = vec![doc! { "i.k": 0 }, doc! { "j.k": 0 }];
            assert!(filters(update.clone(), both).is_empty(), "{update}");
        }
    }
}
