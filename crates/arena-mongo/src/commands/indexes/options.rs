//! What MongoDB refuses in an index and the engine builds, or takes for one that is there.

use std::collections::BTreeSet;

use bson::{Bson, Document, RawBsonRef, RawDocument};

use crate::commands::duplicates::shell_text;
use crate::commands::{Call, approximate, integer, is_true, parallel, storage, validation};
use crate::error::CommandError;

/// Weights of texts are less.
const WEIGHT_MAX: f64 = 1e9;

/// Options of indexes that the engine has and MongoDB has not.
const ENGINE_ONLY: [&str; 5] = [
    "buildAsUnique",
    "cosmosSearchOptions",
    "enableCompositeTerm",
    "enableLargeIndexKeys",
    "enableOrderedIndex",
];

/// Fails where an index has options that it may not have.
pub(super) fn check(index: &RawDocument) -> Result<(), CommandError> {
    check_known(index)?;
    check_storage(index)?;
    let refused = |message: String| CommandError::new(67, "CannotCreateIndex", message);
    if let Some(hidden) = index.get("hidden")?
        && hidden.as_bool().is_none()
    {
        let kind = validation::type_name(&Bson::try_from(hidden)?);
        return Err(CommandError::type_mismatch(format!(
            "BSON field 'createIndexes.indexes.hidden' is the wrong type '{kind}', expected type 'bool'"
        )));
    }
    let Some(RawBsonRef::Document(key)) = index.get("key")? else {
        return Ok(());
    };
    for element in key {
        let (path, kind) = element?;
        if matches!(kind, RawBsonRef::Double(direction) if direction.is_nan()) {
            let message = "Values in the index key pattern cannot be NaN.";
            return Err(refused(message.to_owned()));
        }
        let is_old = index.get("v")?.and_then(integer) == Some(1);
        if is_old && path.as_str().contains("$**") && kind.as_str().is_none() {
            let message = "Index version 1 does not support wildcard indexes";
            return Err(refused(message.to_owned()));
        }
    }
    if let Some(RawBsonRef::Document(weights)) = index.get("weights")? {
        for weight in weights {
            let (_, weight) = weight?;
            let is_weight = |weight: f64| weight > 0.0 && weight < WEIGHT_MAX;
            if let Some(number) = approximate(weight).filter(|weight| !is_weight(*weight)) {
                return Err(refused(format!(
                    "text index weight must be in the exclusive interval (0,1000000000) but found: {number}"
                )));
            }
        }
    }
    Ok(())
}

/// Fails where what a `create` says of the index over `_id` is none.
pub(in crate::commands) fn check_of_id(index: &RawDocument) -> Result<(), CommandError> {
    let refused = |message: &str| Err(CommandError::new(67, "CannotCreateIndex", message));
    let is_by_id = match index.get("key")? {
        Some(RawBsonRef::Document(key)) => {
            let mut fields = key.iter().flatten();
            let first = fields.next();
            let is_id = |(name, order): (&bson::raw::CStr, _)| {
                name.as_str() == "_id" && integer(order) == Some(1)
            };
            first.is_some_and(is_id) && fields.next().is_none()
        }
        _ => false,
    };
    if !is_by_id {
        let message = "The field 'key' for an _id index must be {_id: 1}";
        return Err(CommandError::bad_value(message));
    }
    match index.get("name")? {
        None => {
            let message = "The 'name' field is a required property of an index specification";
            return Err(CommandError::failed_to_parse(message));
        }
        Some(RawBsonRef::String("")) => return refused("index name cannot be empty"),
        Some(_) => {}
    }
    let Some(version) = index.get("v")? else {
        return Ok(());
    };
    match (approximate(version), integer(version)) {
        (None, _) => {
            let message = "The field 'v' must be a number";
            Err(CommandError::type_mismatch(message))
        }
        (Some(number), _) if number.fract() != 0.0 => {
            let message = "Index version must be representable as a 32-bit integer";
            Err(CommandError::bad_value(message))
        }
        (_, Some(1 | 2)) => Ok(()),
        _ => refused("Invalid index specification; this server knows the versions 1 and 2 alone"),
    }
}

/// Fails with an option that is none, or that the engine has no equal of.
fn check_known(index: &RawDocument) -> Result<(), CommandError> {
    for option in ENGINE_ONLY {
        if index.get(option)?.is_some() {
            let whole = shell_text(&Bson::Document(Document::try_from(index)?));
            let message = format!(
                "The field '{option}' is not valid for an index specification. Specification: {whole}"
            );
            return Err(CommandError::new(
                197,
                "InvalidIndexSpecificationOption",
                message,
            ));
        }
    }
    if is_true(index, "prepareUnique") {
        return Err(CommandError::not_supported(
            "the option 'prepareUnique' of an index",
        ));
    }
    Ok(())
}

/// How an index lies on disk is the engine's own matter; MongoDB tells with the index what was asked for.
fn check_storage(index: &RawDocument) -> Result<(), CommandError> {
    let refused = |message: &str| Err(CommandError::new(67, "CannotCreateIndex", message));
    match index.get("storageEngine")? {
        None => Ok(()),
        Some(RawBsonRef::Document(options)) if options.iter().next().is_none() => refused(
            "Empty \"storageEngine\" options are invalid. Please remove the field or include valid options.",
        ),
        Some(RawBsonRef::Document(options)) => {
            storage::check(options)?;
            Err(CommandError::not_supported(
                "the option 'storageEngine' of an index",
            ))
        }
        Some(_) => refused("\"storageEngine\" options must be a document if present"),
    }
}

/// Fails where an index of the same name is there that differs in what the engine does not compare.
pub(super) async fn check_present(
    call: &Call<'_>,
    collection: &str,
    indexes: &[Document],
    hidden: &[String],
) -> Result<(), CommandError> {
    let known = parallel::known(call, collection).await;
    for index in indexes {
        let name = index.get_str("name").unwrap_or_default();
        let mut present = known.indexes.iter();
        let Some(present) =
            present.find(|present| present.get_str("name").is_ok_and(|listed| listed == name))
        else {
            continue;
        };
        let (Ok(key), Ok(present_key)) = (index.get_document("key"), present.get_document("key"))
        else {
            continue;
        };
        let is_hidden = present.get_bool("hidden").unwrap_or(false);
        let asks_hidden = hidden.iter().any(|hidden| hidden == name);
        let differs = match texts(key) {
            Some(texts) => present.get_document("weights").is_ok_and(|weights| {
                let mut asked = texts;
                let own = index.get_document("weights").ok();
                asked.extend(own.into_iter().flat_map(Document::keys).cloned());
                asked != weights.keys().cloned().collect()
            }),
            None => key == present_key && is_hidden != asks_hidden,
        };
        if differs {
            return Err(CommandError::new(
                85,
                "IndexOptionsConflict",
                format!(
                    "An equivalent index already exists with the same name but different options: {name}"
                ),
            ));
        }
    }
    Ok(())
}

/// The texts of an index of texts.
fn texts(key: &Document) -> Option<BTreeSet<String>> {
    let texts = key.iter().filter(|(_, kind)| kind.as_str() == Some("text"));
    let texts: BTreeSet<String> = texts.map(|(path, _)| path.clone()).collect();
    (!texts.is_empty() && !key.contains_key("_fts")).then_some(texts)
}
