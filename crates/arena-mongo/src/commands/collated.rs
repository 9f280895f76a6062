//! Reads by a collation. The engine goes by it also where MongoDB does not, tells an
//! empty text from others without a weight, and what is missing from null; here such
//! questions are written otherwise, or refused.

use bson::{Bson, Document, RawBsonRef, RawDocument, bson, doc};

use super::{collations, integer};
use crate::error::CommandError;

/// Of the commands that read, what is to be compared.
const PARTS: [&str; 4] = ["filter", "query", "projection", "pipeline"];
/// A text without a weight that the engine takes for equal to all others but the empty one.
const WEIGHTLESS: &str = " ";
/// What has no weight by a shifted collation, beside spaces.
const PUNCTUATION: &str = "_-,;:!?.'\"()[]{}@*/\\&#%";

/// Returns the body of a command that reads by a collation as the engine has to read it, if that is another one.
///
/// # Errors
/// Where the engine compares otherwise and nothing else says it.
pub(super) fn body(name: &str, body: &RawDocument) -> Result<Option<Document>, CommandError> {
    let Some(RawBsonRef::Document(collation)) = body.get("collation")? else {
        return Ok(None);
    };
    let reads = matches!(name, "find" | "aggregate" | "count" | "distinct");
    if !reads || collation.is_empty() || collations::is_simple(collation) {
        return Ok(None);
    }
    let body = Document::try_from(body)?;
    let mut written = body.clone();
    check_projection(&body)?;
    let weightless = weightless(collation)?;
    let filters = PARTS.iter().filter_map(|part| body.get(*part));
    filters.clone().try_for_each(check_choices)?;
    if let Ok(stages) = body.get_array("pipeline") {
        check_groups(collation, stages)?;
    }
    for part in PARTS {
        let Some(value) = written.get_mut(part) else {
            continue;
        };
        compare_bytes(value);
        match value {
            Bson::Document(filter) if part != "projection" => filter_texts(filter, &weightless),
            Bson::Array(stages) => {
                let filters = stages.iter_mut().filter_map(Bson::as_document_mut);
                for filter in filters.filter_map(|stage| stage.get_document_mut("$match").ok()) {
                    filter_texts(filter, &weightless);
                }
            }
            _ => {}
        }
    }
    Ok((written != body).then_some(written))
}

/// A projection by `$elemMatch` compares by the collation; the engine's does not.
fn check_projection(find: &Document) -> Result<(), CommandError> {
    let projection = find.get_document("projection").into_iter().flatten();
    let mut elements = projection.filter_map(|(_, value)| value.as_document()?.get("$elemMatch"));
    if elements.any(collations::has_text) {
        return Err(CommandError::not_supported(
            "$elemMatch of texts in a projection by a collation",
        ));
    }
    Ok(())
}

/// A field that is one of constants is looked for without the collation by some MongoDBs, and with it by others.
fn check_choices(value: &Bson) -> Result<(), CommandError> {
    match value {
        Bson::Array(values) => values.iter().try_for_each(check_choices),
        Bson::Document(document) => document.iter().try_for_each(|(name, value)| {
            if name == "$expr" && has_choice(value) {
                return Err(CommandError::not_supported(
                    "$expr with $in of a field and constant texts by a collation",
                ));
            }
            check_choices(value)
        }),
        _ => Ok(()),
    }
}

fn has_choice(expression: &Bson) -> bool {
    let Bson::Document(expression) = expression else {
        return false;
    };
    expression
        .iter()
        .any(|(name, value)| match (name.as_str(), value) {
            ("$and" | "$or", Bson::Array(parts)) => parts.iter().any(has_choice),
            ("$in", Bson::Array(two)) => {
                let is_path = |path: &Bson| {
                    path.as_str()
                        .is_some_and(|path| path.starts_with('$') && !path.starts_with("$$"))
                };
                let is_constant =
                    |value: &Bson| matches!(value, Bson::String(text) if !text.starts_with('$'));
                matches!(two.as_slice(), [path, Bson::Array(values)]
                if is_path(path) && values.iter().any(is_constant))
            }
            _ => false,
        })
}

/// A group is named by its first value; the engine's grouping does not keep what was sorted before.
fn check_groups(collation: &RawDocument, stages: &[Bson]) -> Result<(), CommandError> {
    let is_loose = matches!(collation.get("strength")?.and_then(integer), Some(1 | 2));
    let mut is_sorted = false;
    for stage in stages.iter().filter_map(Bson::as_document) {
        is_sorted |= stage.contains_key("$sort");
        let key = stage.get_document("$group").ok();
        let key = key.and_then(|group| group.get("_id"));
        if is_loose && is_sorted && key.is_some_and(collations::has_text) {
            return Err(CommandError::not_supported(
                "$group behind $sort by a collation that takes different texts for equal",
            ));
        }
        is_sorted &= key.is_none();
    }
    Ok(())
}

/// `$strcasecmp` goes by no collation: the names of fields are compared by none.
fn compare_bytes(value: &mut Bson) {
    match value {
        Bson::Array(values) => values.iter_mut().for_each(compare_bytes),
        Bson::Document(document) => {
            for (_, value) in document.iter_mut().filter(|(name, _)| *name != "$literal") {
                compare_bytes(value);
            }
            if document.len() == 1
                && let Some(Bson::Array(two)) = document.get("$strcasecmp")
                && two.len() == 2
            {
                let named = |text: &Bson| bson!({ "$arrayToObject": [[{ "k": { "$toUpper": text.clone() }, "v": 0 }]] });
                *value = bson!({ "$cmp": [named(&two[0]), named(&two[1])] });
            }
        }
        _ => {}
    }
}

/// Which letters have no weight by a collation.
fn weightless(collation: &RawDocument) -> Result<String, CommandError> {
    let is =
        |option: &str, value: &str| matches!(collation.get_str(option), Ok(own) if own == value);
    let counts_all = collation
        .get("strength")?
        .and_then(integer)
        .is_some_and(|strength| strength > 3);
    Ok(match is("alternate", "shifted") && !counts_all {
        true if is("maxVariable", "space") => " \t\n\r".to_owned(),
        true => format!(" \t\n\r{PUNCTUATION}"),
        false => String::new(),
    })
}

/// Texts without a weight are equal to the empty one.
fn filter_texts(filter: &mut Document, weightless: &str) {
    if weightless.is_empty() {
        return;
    }
    for (name, value) in filter.iter_mut() {
        match value {
            Bson::Array(parts) if matches!(name.as_str(), "$and" | "$or" | "$nor") => {
                let parts = parts.iter_mut().filter_map(Bson::as_document_mut);
                parts.for_each(|part| filter_texts(part, weightless));
            }
            Bson::Document(operators) if !name.starts_with('$') => {
                *operators = operators
                    .iter()
                    .map(|(operator, value)| condition(operator, value, weightless))
                    .collect();
            }
            value if !name.starts_with('$') && is_empty(value, weightless) => {
                *value = bson!({ "$in": ["", WEIGHTLESS] });
            }
            _ => {}
        }
    }
}

fn condition(operator: &str, value: &Bson, weightless: &str) -> (String, Bson) {
    let is_empty = |value: &Bson| is_empty(value, weightless);
    let (operator, value) = match (operator, value) {
        ("$eq", value) if is_empty(value) => ("$in", bson!(["", WEIGHTLESS])),
        ("$ne", value) if is_empty(value) => ("$nin", bson!(["", WEIGHTLESS])),
        ("$gt" | "$lte", value) if is_empty(value) => (operator, bson!(WEIGHTLESS)),
        ("$gte" | "$lt", value) if is_empty(value) => (operator, bson!("")),
        ("$in" | "$nin", Bson::Array(values)) if values.iter().any(is_empty) => {
            let both = [bson!(""), bson!(WEIGHTLESS)];
            (
                operator,
                values.iter().cloned().chain(both).collect::<Bson>(),
            )
        }
        ("$not", Bson::Document(negated)) => {
            let negated = negated.iter();
            let negated = negated.map(|(operator, value)| condition(operator, value, weightless));
            (operator, Bson::Document(negated.collect()))
        }
        (operator, value) => (operator, value.clone()),
    };
    (operator.to_owned(), value)
}

fn is_empty(value: &Bson, weightless: &str) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.chars().all(|letter| weightless.contains(letter)))
}

/// Writes the sorts of a pipeline, and of the pipelines in it, so that what is missing is null.
pub(super) fn sorted(stages: Vec<Bson>) -> Vec<Bson> {
    let stages = stages.into_iter().flat_map(|mut stage| {
        let sort = stage
            .as_document()
            .and_then(|stage| stage.get_document("$sort").ok());
        if let Some(written) = sort.and_then(with_null) {
            return written.into_iter().map(Bson::Document).collect();
        }
        for inner in inner_stages(&mut stage) {
            *inner = sorted(std::mem::take(inner));
        }
        vec![stage]
    });
    stages.collect()
}

/// The pipelines in a stage.
fn inner_stages(stage: &mut Bson) -> Vec<&mut Vec<Bson>> {
    let stage = stage.as_document_mut();
    let Some((name, Bson::Document(parts))) = stage.and_then(|stage| stage.iter_mut().next())
    else {
        return Vec::new();
    };
    let is_joined = name == "$lookup" || name == "$unionWith";
    let is_parted = name == "$facet";
    let inner = parts
        .iter_mut()
        .filter(|(part, _)| is_parted || (is_joined && *part == "pipeline"));
    inner
        .filter_map(|(_, stages)| stages.as_array_mut())
        .collect()
}

/// A sort whose keys are null where they are missing, and smaller where they are an empty array; nothing where none
/// of them may be.
pub(super) fn with_null(sort: &Document) -> Option<[Document; 3]> {
    let (mut helpers, mut keys) = (Document::new(), Document::new());
    for (path, order) in sort {
        let is_plain = !path.contains('.') && !path.starts_with('$') && path != "_id";
        if !is_plain || super::whole(order).is_none() {
            keys.insert(path, order.clone());
            continue;
        }
        let (key, tie) = (
            format!("arenaKey{}", helpers.len()),
            format!("arenaTie{}", helpers.len()),
        );
        let value = format!("${path}");
        let is_empty = bson!({ "$eq": [value.clone(), []] });
        keys.insert(&key, order.clone());
        keys.insert(&tie, order.clone());
        helpers.insert(
            key,
            bson!({ "$cond": [is_empty.clone(), Bson::Null, { "$ifNull": [value, Bson::Null] }] }),
        );
        helpers.insert(tie, bson!({ "$cond": [is_empty, 0, 1] }));
    }
    let names: Vec<Bson> = helpers.keys().cloned().map(Bson::String).collect();
    (!names.is_empty()).then(|| {
        [
            doc! { "$set": helpers },
            doc! { "$sort": keys },
            doc! { "$unset": names },
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::raw;

    fn filtered(filter: Document, options: Document) -> Result<Option<Document>, CommandError> {
        let mut collation = doc! { "locale": "en" };
        collation.extend(options);
        let find = doc! { "find": "c", "filter": filter, "collation": collation };
        let written = body("find", &raw(&find))?;
        Ok(written.and_then(|find| find.get_document("filter").ok().cloned()))
    }

    #[test]
    fn texts_without_a_weight_are_empty_ones() {
        let shifted = || doc! { "alternate": "shifted" };
        for (filter, written) in [
            (doc! { "x": "" }, doc! { "x": { "$in": ["", " "] } }),
            (
                doc! { "$or": [{ "x": { "$not": { "$gt": "." } } }] },
                doc! { "$or": [{ "x": { "$not": { "$gt": " " } } }] },
            ),
            (
                doc! { "x": { "$nin": ["--", "a"] } },
                doc! { "x": { "$nin": ["--", "a", "", " "] } },
            ),
        ] {
            assert_eq!(filtered(filter.clone(), shifted()), Ok(Some(written)));
            assert_eq!(filtered(filter, doc! {}), Ok(None));
        }
        assert_eq!(filtered(doc! { "x": "a." }, shifted()), Ok(None));
        let mut counted = shifted();
        counted.insert("strength", 4);
        assert_eq!(filtered(doc! { "x": "." }, counted), Ok(None));
    }

    #[test]
    fn a_choice_of_constants_is_refused() {
        let code = |expression: Bson| {
            filtered(doc! { "$expr": expression }, doc! {}).map_err(|error| error.code)
        };
        assert_eq!(code(bson!({ "$in": ["$x", ["a"]] })), Err(115));
        assert_eq!(
            code(bson!({ "$and": [{ "$in": ["$x", [1, "a"]] }] })),
            Err(115)
        );
        for taken in [
            bson!({ "$in": ["$x", [1, 2]] }),
            bson!({ "$in": ["a", "$x"] }),
            bson!({ "$in": ["$x", ["$a"]] }),
        ] {
            assert_eq!(code(taken), Ok(None));
        }
    }
}
