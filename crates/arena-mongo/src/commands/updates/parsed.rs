//! Updates that nobody can read. MongoDB reads an update before it looks for
//! documents; the engine when it finds one. So one that is not plainly right is
//! tried on an empty document first.

use bson::{Bson, Document, RawArray, RawBsonRef, RawDocument, doc};

use super::update_in;
use crate::backend::BsonIn;
use crate::commands::{Call, integer, is_number, is_true, modifiers, raw, replacing, unread};
use crate::error::CommandError;

const TRY: &str = "SELECT documentdb_api_internal.update_bson_document($1, $2, $3, $4, NULL, NULL)";

/// What is wrong with an update whatever the document is.
const OF_UPDATES: [i32; 5] = [2, 9, 14, 40, 56];
/// What is said of an empty document alone.
const OF_DOCUMENTS: [&str; 4] = [
    "The positional operator did not find",
    "does not exist within the document",
    "must exist in the document",
    "Cannot create field",
];

/// Fails with what is wrong in an update.
pub(super) async fn check(call: &Call<'_>, operation: &RawDocument) -> Result<(), CommandError> {
    match update_in(operation)? {
        Some(RawBsonRef::Array(stages)) => of_stages(call, stages).await,
        Some(RawBsonRef::Document(update)) if !replacing::is_replacement(update) => {
            let filters = match operation.get("arrayFilters")? {
                Some(RawBsonRef::Array(filters)) => Some(filters),
                _ => None,
            };
            if is_plain(update, filters)? {
                return Ok(());
            }
            let way = modifiers::Way {
                is_upsert: is_true(operation, "upsert"),
                finds: false,
                keeps_empty: true,
            };
            // What the front refuses itself it says in MongoDB's words.
            modifiers::prepared(update, way)?;
            check_names(update, way.is_upsert)?;
            tried(call, update, filters).await
        }
        _ => Ok(()),
    }
}

async fn of_stages(call: &Call<'_>, stages: &RawArray) -> Result<(), CommandError> {
    let Bson::Array(stages) = Bson::try_from(RawBsonRef::Array(stages))? else {
        return Ok(());
    };
    let stages = call.reader().check_update_pipeline(&stages)?;
    unread::check_stages(call, stages).await
}

/// A document that is inserted has no name with a dollar.
fn check_names(update: &RawDocument, is_upsert: bool) -> Result<(), CommandError> {
    for element in update {
        let (operator, RawBsonRef::Document(fields)) = element? else {
            continue;
        };
        let adds = is_upsert && modifiers::ADDING.contains(&operator.as_str());
        for field in fields.iter().filter(|_| adds) {
            let (path, _) = field?;
            let name = path.as_str().split('.').next().unwrap_or_default();
            if name.len() > 1 && name.starts_with('$') && !name.starts_with("$[") {
                let message = format!(
                    "The dollar ($) prefixed field '{name}' in '{path}' is not allowed in the context of an update's replacement document. Consider using an aggregation pipeline with $replaceWith."
                );
                return Err(CommandError::new(52, "DollarPrefixedFieldName", message));
            }
        }
    }
    Ok(())
}

async fn tried(
    call: &Call<'_>,
    update: &RawDocument,
    filters: Option<&RawArray>,
) -> Result<(), CommandError> {
    let (nothing, query) = (raw(&Document::new()), raw(&Document::new()));
    let update = raw(&doc! { "": Document::try_from(update)? });
    let filters = match filters {
        Some(filters) => Some(raw(
            &doc! { "": Bson::try_from(RawBsonRef::Array(filters))? },
        )),
        None => None,
    };
    let filters = filters.as_ref().map(|filters| BsonIn(filters.as_bytes()));
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] = [
        &BsonIn(nothing.as_bytes()),
        &BsonIn(update.as_bytes()),
        &BsonIn(query.as_bytes()),
        &filters,
    ];
    let tried = call
        .server
        .backend
        .row(call.budget_outside(), TRY, &parameters);
    let Err(error) = tried.await else {
        return Ok(());
    };
    let worded = call.worded(error.clone());
    let is_of_update = OF_UPDATES.contains(&worded.code);
    let is_of_document = OF_DOCUMENTS
        .iter()
        .any(|said| worded.message.contains(said) || error.message.contains(said));
    if is_of_update && !is_of_document {
        return Err(error);
    }
    Ok(())
}

/// Whether nothing can be wrong with an update whatever the document is.
fn is_plain(update: &RawDocument, filters: Option<&RawArray>) -> Result<bool, CommandError> {
    let mut paths: Vec<&str> = Vec::new();
    for element in update {
        let (operator, value) = element?;
        let RawBsonRef::Document(fields) = value else {
            return Ok(false);
        };
        for field in fields {
            let (path, operand) = field?;
            if !is_operand(operator.as_str(), operand)? {
                return Ok(false);
            }
            paths.push(path.as_str());
            if let ("$rename", Some(to)) = (operator.as_str(), operand.as_str()) {
                paths.push(to);
            }
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for path in &paths {
        for (number, part) in path.split('.').enumerate() {
            if part.is_empty() || (part.starts_with('$') && (number == 0 || !is_position(part))) {
                return Ok(false);
            }
            names.extend(
                part.strip_prefix("$[")
                    .map(|name| name.trim_end_matches(']')),
            );
        }
    }
    names.retain(|name| !name.is_empty());
    if !names.is_empty() || filters.is_some_and(|filters| !filters.is_empty()) {
        return Ok(are_named(&names, filters)? && !have_conflict(paths));
    }
    Ok(!have_conflict(paths))
}

/// Whether array filters and the identifiers of paths are each other's; how they are written the engine says.
fn are_named(names: &[&str], filters: Option<&RawArray>) -> Result<bool, CommandError> {
    let mut known = Vec::new();
    for filter in filters.into_iter().flatten() {
        let RawBsonRef::Document(filter) = filter? else {
            return Ok(false);
        };
        let Some((path, _)) = filter.iter().next().transpose()? else {
            return Ok(false);
        };
        if path.as_str().starts_with('$') {
            return Ok(false);
        }
        known.push(
            path.as_str()
                .split('.')
                .next()
                .unwrap_or_default()
                .to_owned(),
        );
    }
    let all_known = names
        .iter()
        .all(|name| known.iter().any(|known| known == name));
    Ok(all_known && known.iter().all(|known| names.contains(&known.as_str())))
}

fn is_position(part: &str) -> bool {
    part == "$" || (part.starts_with("$[") && part.ends_with(']'))
}

/// Whether one path is another one, or leads to it.
fn have_conflict(mut paths: Vec<&str>) -> bool {
    paths.sort_unstable_by(|a, b| a.split('.').cmp(b.split('.')));
    paths.windows(2).any(|pair| {
        let rest = pair[1].strip_prefix(pair[0]);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Whether an operator may have an operand.
fn is_operand(operator: &str, operand: RawBsonRef<'_>) -> Result<bool, CommandError> {
    Ok(match (operator, operand) {
        ("$set" | "$setOnInsert" | "$unset" | "$min" | "$max", _) => true,
        ("$inc" | "$mul", operand) => is_number(operand),
        ("$rename", RawBsonRef::String(to)) => !to.is_empty(),
        ("$currentDate", RawBsonRef::Boolean(_)) => true,
        ("$pop", operand) => matches!(operand, RawBsonRef::Int32(1 | -1)),
        ("$pullAll", operand) => operand.as_array().is_some(),
        ("$pull", RawBsonRef::Document(condition)) => !has_operators(condition)?,
        ("$pull", _) => true,
        ("$push" | "$addToSet", RawBsonRef::Document(added)) => {
            let is_each = added.iter().count() == 1 && added.get_array("$each").is_ok();
            is_each || !has_operators(added)? || (operator == "$push" && is_pushed(added)?)
        }
        ("$push" | "$addToSet", _) => true,
        _ => false,
    })
}

fn has_operators(document: &RawDocument) -> Result<bool, CommandError> {
    for element in document {
        let (name, value) = element?;
        let inner = match value {
            RawBsonRef::Document(inner) => has_operators(inner)?,
            _ => false,
        };
        if inner || name.as_str().starts_with('$') {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether values are pushed in one of the usual ways.
fn is_pushed(added: &RawDocument) -> Result<bool, CommandError> {
    for element in added {
        let (name, value) = element?;
        let is_usual = match name.as_str() {
            "$each" => value.as_array().is_some(),
            "$slice" | "$position" => matches!(value, RawBsonRef::Int32(_)),
            "$sort" => match value {
                RawBsonRef::Document(keys) => {
                    let mut keys = keys.iter().flatten();
                    keys.all(|(_, order)| matches!(integer(order), Some(1 | -1)))
                }
                order => matches!(integer(order), Some(1 | -1)),
            },
            _ => false,
        };
        if !is_usual {
            return Ok(false);
        }
    }
    Ok(added.get("$each")?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(update: Document, filters: Option<Vec<Document>>) -> bool {
        let held = raw(&doc! { "f": filters.clone().unwrap_or_default() });
        let listed = filters.map(|_| held.get_array("f").expect("an array"));
        is_plain(&raw(&update), listed).expect("it is well-formed")
    }

    #[test]
    fn what_is_plainly_right_is_not_tried() {
        for update in [
            doc! { "$set": { "a": 1, "b.c": {} }, "$inc": { "b.d": 1 } },
            doc! { "$push": { "a": { "$each": [1], "$slice": 5, "$sort": { "x": -1 } } } },
            doc! { "$push": { "a": { "x": 1 } }, "$addToSet": { "b": { "$each": [] } } },
            doc! { "$pull": { "a": { "x": 1 } }, "$unset": { "ab": "" } },
            doc! { "$set": { "a.$.b": 1 } },
        ] {
            assert!(plain(update.clone(), None), "{update}");
        }
        let filters = Some(vec![doc! { "x.b": 1 }]);
        assert!(plain(doc! { "$set": { "a.$[x].c": 1 } }, filters));
    }

    #[test]
    fn all_else_is_tried() {
        for update in [
            doc! { "$set": { "a": 1 }, "$inc": { "a.b": 1 } },
            doc! { "$set": { "a": 1, "a-b": 1, "a.b": 1 } },
            doc! { "$rename": { "a": "a" } },
            doc! { "$set": { "": 1 } },
            doc! { "$set": { "a..b": 1 } },
            doc! { "$set": { "$a": 1 } },
            doc! { "$foo": { "a": 1 } },
            doc! { "$set": 1 },
            doc! { "$pop": { "a": 5 } },
            doc! { "$pull": { "a": { "$foo": 1 } } },
            doc! { "$push": { "a": { "$each": 5 } } },
            doc! { "$addToSet": { "a": { "$each": [], "$sort": 1 } } },
            doc! { "$set": { "a.$[x]": 1 } },
        ] {
            assert!(!plain(update.clone(), None), "{update}");
        }
        let filters = Some(vec![doc! { "x.b": 1 }]);
        assert!(!plain(doc! { "$set": { "a": 1 } }, filters));
    }
}
