//! Why a document failed its collection's validator, as MongoDB tells it in
//! `errInfo`. The engine only says that it failed; here the validator is read
//! again, for the keywords and operators that learners use. What is not known here
//! is left out, never guessed.

use std::collections::HashSet;

use bson::{Bson, Document, doc};

use super::{Call, duplicates, raw, reading};
use crate::error::CommandError;

/// Returns the error with `errInfo`.
pub(super) async fn described(
    call: &Call<'_>,
    collection: &str,
    error: CommandError,
    operation: &Document,
) -> CommandError {
    let Some(document) = duplicates::would_be(call, collection, operation).await else {
        return error;
    };
    let mut info = Document::new();
    if let Some(id) = document.get("_id") {
        info.insert("failingDocumentId", id.clone());
    }
    let validator = reading::validator_of(call, collection).await;
    if let Some(details) = validator.and_then(|validator| details(&validator, &document)) {
        info.insert("details", details);
    }
    error.with("errInfo", info)
}

/// What of a validator a document does not satisfy.
fn details(validator: &Document, document: &Document) -> Option<Document> {
    let clauses: Vec<Document> = validator
        .iter()
        .flat_map(|(name, value)| clauses_of(name, value))
        .collect();
    if let [clause] = clauses.as_slice() {
        return clause_details(clause, document);
    }
    let unmet = clauses.iter().enumerate().filter_map(|(index, clause)| {
        let index = i32::try_from(index).ok()?;
        let details = clause_details(clause, document)?;
        Some(doc! { "index": index, "details": details })
    });
    let unmet: Vec<Document> = unmet.collect();
    (!unmet.is_empty()).then(|| doc! { "operatorName": "$and", "clausesNotSatisfied": unmet })
}

/// `{a: {$gt: 1, $lt: 5}}` is two clauses.
fn clauses_of(name: &str, value: &Bson) -> Vec<Document> {
    match value {
        Bson::Document(conditions)
            if !name.starts_with('$') && conditions.keys().all(|key| key.starts_with('$')) =>
        {
            let each = conditions.iter();
            each.map(|(operator, operand)| doc! { name: { operator: operand.clone() } })
                .collect()
        }
        other => vec![doc! { name: other.clone() }],
    }
}

fn clause_details(clause: &Document, document: &Document) -> Option<Document> {
    let (name, value) = clause.iter().next()?;
    match (name.as_str(), value) {
        ("$jsonSchema", Bson::Document(schema)) => {
            let rules = unmet_rules(schema, &Bson::Document(document.clone()));
            if rules.is_empty() {
                return None;
            }
            let mut details = doc! { "operatorName": "$jsonSchema" };
            copy_texts(schema, &mut details);
            details.insert("schemaRulesNotSatisfied", rules);
            Some(details)
        }
        ("$expr", _) => Some(doc! {
            "operatorName": "$expr", "specifiedAs": clause.clone(), "reason": "expression did not match", "expressionResult": false,
        }),
        (path, condition) if !path.starts_with('$') => {
            let (operator, operand) = match condition {
                Bson::Document(one) => one.iter().next()?,
                _ => return None,
            };
            let found = value_at(document, path);
            let reason = reason_of(operator, operand, found.as_ref())?;
            let mut details =
                doc! { "operatorName": operator, "specifiedAs": clause.clone(), "reason": reason };
            if let Some(found) = found {
                if operator == "$type" {
                    details.insert("consideredType", type_name(&found));
                }
                details.insert("consideredValue", found);
            }
            Some(details)
        }
        _ => None,
    }
}

/// Why a condition is not met; nothing when it is, or when that is not known here.
fn reason_of(operator: &str, operand: &Bson, found: Option<&Bson>) -> Option<&'static str> {
    let Some(found) = found else {
        let needs_value = matches!(
            operator,
            "$gt" | "$gte" | "$lt" | "$lte" | "$eq" | "$in" | "$type" | "$regex"
        );
        return if operator == "$exists" {
            Some("path does not exist")
        } else {
            needs_value.then_some("field was missing")
        };
    };
    let (found_number, number) = (number(found), number(operand));
    let compared = found_number.zip(number);
    match operator {
        "$gt" | "$gte" | "$lt" | "$lte" => {
            let is_met = match (operator, compared) {
                ("$gt", Some((a, b))) => a > b,
                ("$gte", Some((a, b))) => a >= b,
                ("$lt", Some((a, b))) => a < b,
                ("$lte", Some((a, b))) => a <= b,
                _ if type_name(found) == type_name(operand) => return None,
                _ => return Some("type did not match"),
            };
            (!is_met).then_some("comparison failed")
        }
        "$eq" => (!is_equal(found, operand)).then_some("comparison failed"),
        "$in" => {
            let listed = operand.as_array()?;
            (!listed.iter().any(|one| is_equal(found, one)))
                .then_some("no matching value found in array")
        }
        "$type" => (!is_of_type(found, operand)?).then_some("type did not match"),
        "$exists" => (operand.as_bool() == Some(false)).then_some("path does exist"),
        _ => None,
    }
}

/// The rules of a schema that a value does not satisfy, in MongoDB's order.
fn unmet_rules(schema: &Document, value: &Bson) -> Vec<Document> {
    let mut rules = Vec::new();
    for (keyword, specified) in schema {
        rules.extend(unmet_scalar(schema, keyword, specified, value));
    }
    if let Bson::Array(values) = value {
        rules.extend(unmet_items(schema, values));
    }
    if let Bson::Document(fields) = value {
        rules.extend(unmet_properties(schema, fields));
    }
    rules
}

fn unmet_scalar(
    schema: &Document,
    keyword: &str,
    specified: &Bson,
    value: &Bson,
) -> Option<Document> {
    let reason = match keyword {
        "bsonType" | "type" => {
            if is_of_type(value, specified)? {
                return None;
            }
            return Some(doc! {
                "operatorName": keyword, "specifiedAs": { keyword: specified.clone() }, "reason": "type did not match",
                "consideredValue": value.clone(), "consideredType": type_name(value),
            });
        }
        "enum" => {
            let listed = specified.as_array()?;
            (!listed.iter().any(|one| is_equal(one, value)))
                .then_some("value was not found in enum")
        }
        "minimum" | "maximum" => {
            let (value, limit) = (number(value)?, number(specified)?);
            let is_exclusive = |name: &str| schema.get_bool(name).unwrap_or(false);
            let is_met = match keyword {
                "minimum" if is_exclusive("exclusiveMinimum") => value > limit,
                "minimum" => value >= limit,
                _ if is_exclusive("exclusiveMaximum") => value < limit,
                _ => value <= limit,
            };
            (!is_met).then_some("comparison failed")
        }
        "multipleOf" => {
            let (value, unit) = (number(value)?, number(specified)?);
            (value % unit != 0.0)
                .then_some("considered value is not a multiple of the specified value")
        }
        "minLength" | "maxLength" => {
            let (length, limit) = (count(value.as_str()?.chars().count())?, number(specified)?);
            is_outside(keyword, length, limit)
                .then_some("specified string length was not satisfied")
        }
        "minItems" | "maxItems" => {
            let (length, limit) = (count(value.as_array()?.len())?, number(specified)?);
            is_outside(keyword, length, limit).then_some("array did not match specified length")
        }
        "minProperties" | "maxProperties" => {
            let (length, limit) = (count(value.as_document()?.len())?, number(specified)?);
            is_outside(keyword, length, limit)
                .then_some("specified number of properties was not satisfied")
        }
        "pattern" => {
            let pattern = regex_lite::Regex::new(specified.as_str()?).ok()?;
            (!pattern.is_match(value.as_str()?)).then_some("regular expression did not match")
        }
        _ => None,
    }?;
    let mut specified_as = doc! { keyword: specified.clone() };
    let exclusive = match keyword {
        "minimum" => "exclusiveMinimum",
        "maximum" => "exclusiveMaximum",
        _ => "",
    };
    specified_as.extend(
        schema
            .get(exclusive)
            .map(|set| (exclusive.to_owned(), set.clone())),
    );
    Some(doc! {
        "operatorName": keyword, "specifiedAs": specified_as, "reason": reason, "consideredValue": value.clone(),
    })
}

fn is_outside(keyword: &str, length: f64, limit: f64) -> bool {
    if keyword.starts_with("min") {
        length < limit
    } else {
        length > limit
    }
}

fn unmet_items(schema: &Document, values: &[Bson]) -> Vec<Document> {
    let mut rules = Vec::new();
    let is_unique = matches!(schema.get_bool("uniqueItems"), Ok(true));
    let mut seen = HashSet::new();
    let mut is_new = |value: &Bson| seen.insert(raw(&doc! { "": value }).into_bytes());
    if is_unique && let Some(value) = values.iter().find(|value| !is_new(value)) {
        rules.push(doc! {
            "operatorName": "uniqueItems", "specifiedAs": { "uniqueItems": true }, "reason": "found a duplicate item",
            "consideredValue": values.to_vec(), "duplicatedValue": value.clone(),
        });
    }
    if let Ok(items) = schema.get_document("items") {
        let failed = values.iter().enumerate().find_map(|(index, value)| {
            let details = unmet_rules(items, value);
            (!details.is_empty()).then_some((index, details))
        });
        if let Some((index, details)) = failed {
            rules.push(doc! {
                "operatorName": "items", "reason": "At least one item did not match the sub-schema",
                "itemIndex": i32::try_from(index).unwrap_or(i32::MAX), "details": details,
            });
        }
    }
    rules
}

fn unmet_properties(schema: &Document, fields: &Document) -> Vec<Document> {
    let mut rules = Vec::new();
    let none = Document::new();
    let properties = schema.get_document("properties").unwrap_or(&none);
    let mut unmet = Vec::new();
    for (name, property) in properties {
        let (Bson::Document(property), Some(value)) = (property, fields.get(name)) else {
            continue;
        };
        let details = unmet_rules(property, value);
        if !details.is_empty() {
            let mut one = doc! { "propertyName": name };
            copy_texts(property, &mut one);
            one.insert("details", details);
            unmet.push(one);
        }
    }
    if !unmet.is_empty() {
        rules.push(doc! { "operatorName": "properties", "propertiesNotSatisfied": unmet });
    }
    let is_closed = schema.get("additionalProperties") == Some(&Bson::Boolean(false));
    if is_closed && !schema.contains_key("patternProperties") {
        let others = fields.keys().filter(|name| !properties.contains_key(name));
        let others: Vec<String> = others.cloned().collect();
        if !others.is_empty() {
            rules.push(doc! {
                "operatorName": "additionalProperties", "specifiedAs": { "additionalProperties": false }, "additionalProperties": others,
            });
        }
    }
    if let Ok(required) = schema.get_array("required") {
        let is_missing =
            |name: &&Bson| name.as_str().is_some_and(|name| !fields.contains_key(name));
        let missing: Vec<Bson> = required.iter().filter(is_missing).cloned().collect();
        if !missing.is_empty() {
            rules.push(doc! {
                "operatorName": "required", "specifiedAs": { "required": required.clone() }, "missingProperties": missing,
            });
        }
    }
    rules
}

/// A schema's own words for people.
fn copy_texts(schema: &Document, into: &mut Document) {
    for name in ["title", "description"] {
        let text = schema.get(name).cloned();
        into.extend(text.map(|text| (name.to_owned(), text)));
    }
}

fn value_at(document: &Document, path: &str) -> Option<Bson> {
    match path.split_once('.') {
        None => document.get(path).cloned(),
        Some((first, rest)) => value_at(document.get_document(first).ok()?, rest),
    }
}

fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(value) => Some((*value).into()),
        Bson::Int64(value) => value.to_string().parse().ok(),
        Bson::Double(value) => Some(*value),
        Bson::Decimal128(value) => value.to_string().parse().ok(),
        _ => None,
    }
}

fn count(length: usize) -> Option<f64> {
    u32::try_from(length).ok().map(f64::from)
}

fn is_equal(a: &Bson, b: &Bson) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// Whether a value is of a type, or of one of several; nothing when a type is not known here.
fn is_of_type(value: &Bson, types: &Bson) -> Option<bool> {
    match types {
        Bson::Array(types) => {
            let each: Option<Vec<bool>> = types.iter().map(|one| is_of_type(value, one)).collect();
            each.map(|each| each.contains(&true))
        }
        Bson::String(wanted) => {
            let found = type_name(value);
            let is_number = matches!(found, "int" | "long" | "double" | "decimal");
            Some(match wanted.as_str() {
                "number" => is_number,
                "boolean" => found == "bool",
                wanted => found == wanted,
            })
        }
        _ => None,
    }
}

/// Returns a type's name as MongoDB has it.
pub(super) fn type_name(value: &Bson) -> &'static str {
    match value {
        Bson::Double(_) => "double",
        Bson::String(_) => "string",
        Bson::Document(_) => "object",
        Bson::Array(_) => "array",
        Bson::Binary(_) => "binData",
        Bson::Undefined => "undefined",
        Bson::ObjectId(_) => "objectId",
        Bson::Boolean(_) => "bool",
        Bson::DateTime(_) => "date",
        Bson::Null => "null",
        Bson::RegularExpression(_) => "regex",
        Bson::DbPointer(_) => "dbPointer",
        Bson::JavaScriptCode(_) => "javascript",
        Bson::Symbol(_) => "symbol",
        Bson::JavaScriptCodeWithScope(_) => "javascriptWithScope",
        Bson::Int32(_) => "int",
        Bson::Timestamp(_) => "timestamp",
        Bson::Int64(_) => "long",
        Bson::Decimal128(_) => "decimal",
        Bson::MinKey => "minKey",
        Bson::MaxKey => "maxKey",
    }
}
