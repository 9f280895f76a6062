//! Stages that the engine answers otherwise than MongoDB, written so that the
//! answer is MongoDB's. One stage may become several; fields that are only needed
//! on the way begin with [`HELPER`] and are gone at the end.

use bson::{Bson, Document, bson, doc};

use super::expressions::{check_path, check_paths, only, rewritten, rewritten_accumulator};
use super::sums;
use crate::error::CommandError;

/// How fields begin that a client never sees.
const HELPER: &str = "arenaHelper";

/// Returns what runs in place of one stage whose value was checked.
pub(super) fn rewritten_stage(name: &str, value: Bson) -> Result<Vec<Bson>, CommandError> {
    Ok(match (name, value) {
        // The engine gives a count of 0 where MongoDB gives no document.
        ("$count", Bson::String(field)) if is_plain_field(&field) => vec![
            bson!({ "$group": { "_id": null, field: { "$sum": 1 } } }),
            bson!({ "$project": { "_id": 0 } }),
        ],
        ("$group", Bson::Document(group)) => grouped(group)?,
        ("$bucket", Bson::Document(bucket)) => {
            let (bucket, after) = with_output(bucket, "output")?;
            // MongoDB gives buckets in the order of their boundaries; the engine in any.
            let mut stages = vec![
                bson!({ "$bucket": bucket }),
                bson!({ "$sort": { "_id": 1 } }),
            ];
            stages.extend(after);
            stages
        }
        ("$bucketAuto", Bson::Document(bucket)) => {
            let (bucket, after) = with_output(bucket, "output")?;
            let mut stages = vec![bson!({ "$bucketAuto": bucket })];
            stages.extend(after);
            stages
        }
        ("$setWindowFields", Bson::Document(windows)) => {
            let (windows, after) = with_output(windows, "output")?;
            let mut stages = vec![bson!({ "$setWindowFields": windows })];
            stages.extend(after);
            stages
        }
        ("$graphLookup", Bson::Document(lookup)) => graph_looked_up(lookup)?,
        // Their pipelines have had the same walk.
        ("$facet" | "$out", value) => vec![bson!({ name: value })],
        ("$merge", Bson::Document(merge)) if merge.get_array("whenMatched").is_ok() => {
            merged(merge)?
        }
        ("$lookup" | "$unionWith" | "$merge", Bson::Document(mut stage)) => {
            if let Some(variables) = stage.get("let") {
                let variables = rewritten(variables)?;
                stage.insert("let", variables);
            }
            vec![bson!({ name: stage })]
        }
        (name, value) => vec![bson!({ name: rewritten(&value)? })],
    })
}

/// What MongoDB refuses in a stage and the engine takes.
pub(super) fn check_plain(name: &str, value: &Bson) -> Result<(), CommandError> {
    match (name, value) {
        ("$count", Bson::String(field)) if field == "_id" => {
            let message = "a group's _id may only be specified once";
            Err(CommandError::new(15948, "Location15948", message))
        }
        ("$addFields" | "$set", Bson::Document(fields)) => {
            check_added(name, fields)?;
            check_paths(value)
        }
        ("$project" | "$replaceRoot" | "$replaceWith", _) => check_paths(value),
        ("$group", Bson::Document(group)) => {
            for (field, accumulator) in group {
                if let (true, Bson::Document(accumulator)) = (field != "_id", accumulator)
                    && let Some((operator, Bson::Array(_))) = only(accumulator)
                {
                    let message = format!("The {operator} accumulator is a unary operator");
                    return Err(CommandError::new(40237, "Location40237", message));
                }
            }
            check_paths(value)
        }
        ("$sort", Bson::Document(keys)) => check_sort(keys),
        _ => Ok(()),
    }
}

fn check_added(stage: &str, fields: &Document) -> Result<(), CommandError> {
    let invalid = |code: i32, name: &'static str, why: String| {
        let message = format!("Invalid {stage} :: caused by :: {why}");
        Err(CommandError::new(code, name, message))
    };
    if fields.is_empty() {
        let why = "specification must have at least one field".to_owned();
        return invalid(40177, "Location40177", why);
    }
    for (position, path) in fields.keys().enumerate() {
        let is_above = |above: &str, below: &str| {
            below
                .strip_prefix(above)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        let before = fields.keys().take(position);
        let mut conflicting = before.filter(|seen| is_above(seen, path) || is_above(path, seen));
        if let Some(seen) = conflicting.next() {
            let why = format!(
                "specification contains two conflicting paths. Cannot specify both '{path}' and '{seen}'"
            );
            return invalid(40176, "Location40176", why);
        }
    }
    Ok(())
}

/// A sort's keys are field paths.
pub(crate) fn check_sort(keys: &Document) -> Result<(), CommandError> {
    for (path, order) in keys {
        if path == "$natural" {
            continue;
        }
        check_path(path)?;
        if matches!(order, Bson::String(_) | Bson::Boolean(_) | Bson::Null) {
            let message = format!("Illegal key in $sort specification: {path}: {order}");
            return Err(CommandError::new(15974, "Location15974", message));
        }
    }
    Ok(())
}

/// `$merge` with a pipeline, which the engine lacks: the document that matches is looked up, the pipeline runs
/// over it, and what comes out replaces it.
fn merged(mut merge: Document) -> Result<Vec<Bson>, CommandError> {
    let unsupported =
        |what: &str| CommandError::not_supported(format_args!("$merge whose pipeline {what}"));
    let Some(Bson::Array(update)) = merge.remove("whenMatched") else {
        return Err(CommandError::internal());
    };
    let into = match merge.get("into") {
        Some(Bson::String(collection)) => collection.clone(),
        Some(Bson::Document(target)) if !target.contains_key("db") => {
            target.get_str("coll").unwrap_or_default().to_owned()
        }
        _ => return Err(unsupported("looks into another database")),
    };
    for stage in &update {
        let stage = stage.as_document().and_then(only);
        let may_move = match stage {
            Some(("$set" | "$addFields", Bson::Document(fields))) => fields.contains_key("_id"),
            Some(("$unset", Bson::String(field))) => field == "_id",
            Some(("$unset", Bson::Array(fields))) => fields.contains(&Bson::String("_id".into())),
            _ => true,
        };
        if may_move {
            return Err(unsupported("may change '_id' or replaces the document"));
        }
    }
    let on = match merge.get("on") {
        None => vec!["_id".to_owned()],
        Some(Bson::String(field)) => vec![field.clone()],
        Some(Bson::Array(fields)) => {
            let names = fields.iter().filter_map(Bson::as_str);
            names.map(str::to_owned).collect()
        }
        Some(_) => return Err(unsupported("matches on what is no field")),
    };
    let is_same = on
        .iter()
        .map(|field| bson!({ "$eq": [format!("${field}"), format!("$$new.{field}")] }));
    let is_same: Vec<Bson> = is_same.collect();
    let mut variables = match merge.remove("let") {
        Some(variables) => match rewritten(&variables)? {
            Bson::Document(variables) => variables,
            _ => {
                return Err(CommandError::type_mismatch(
                    "'let' of $merge must be an object",
                ));
            }
        },
        None => Document::new(),
    };
    variables.insert("new", "$$ROOT");
    let matched = format!("{HELPER}Matched");
    let mut pipeline = vec![bson!({ "$match": { "$expr": { "$and": is_same } } })];
    pipeline.extend(update);
    let lookup = bson!({ "$lookup": { "from": into, "let": variables, "pipeline": pipeline, "as": matched.clone() } });
    let field = format!("${matched}");
    let result = bson!({ "$replaceWith": { "$cond": [
        { "$eq": [field.clone(), []] },
        { "$unsetField": { "field": matched, "input": "$$ROOT" } },
        { "$first": field },
    ] } });
    merge.insert("whenMatched", "replace");
    Ok(vec![lookup, result, bson!({ "$merge": merge })])
}

fn is_plain_field(name: &str) -> bool {
    !name.is_empty() && name != "_id" && !name.starts_with('$') && !name.contains(['.', '\0'])
}

/// A group's key that is a document keeps fields that are missing out, and its accumulators are MongoDB's.
fn grouped(mut group: Document) -> Result<Vec<Bson>, CommandError> {
    if let Some(key) = group.get("_id") {
        let key = rewritten(key)?;
        // The engine writes null for what is missing, and takes both for one group.
        let key = match key {
            Bson::Document(fields) if !fields.is_empty() && !has_operator(&fields) => {
                bson!({ "$mergeObjects": [fields] })
            }
            other => other,
        };
        group.insert("_id", key);
    }
    let key = group.remove("_id");
    let accumulators = Accumulators::of(&group)?;
    let mut whole = Document::new();
    whole.extend(key.map(|key| ("_id".to_owned(), key)));
    whole.extend(accumulators.fields);
    let mut stages = vec![bson!({ "$group": whole })];
    stages.extend(after(accumulators.corrections, accumulators.helpers));
    Ok(stages)
}

fn has_operator(fields: &Document) -> bool {
    fields.keys().any(|name| name.starts_with('$'))
}

/// A stage whose accumulators stand in one of its fields.
fn with_output(mut stage: Document, field: &str) -> Result<(Document, Vec<Bson>), CommandError> {
    let output = stage.get_document(field).cloned().unwrap_or_default();
    for (name, value) in stage.iter_mut() {
        if name != field {
            *value = rewritten(value)?;
        }
    }
    if output.is_empty() {
        return Ok((stage, Vec::new()));
    }
    let accumulators = Accumulators::of(&output)?;
    stage.insert(field, accumulators.fields);
    Ok((stage, after(accumulators.corrections, accumulators.helpers)))
}

fn after(corrections: Document, helpers: Vec<String>) -> Vec<Bson> {
    let mut stages = Vec::new();
    if !corrections.is_empty() {
        stages.push(bson!({ "$set": corrections }));
    }
    if !helpers.is_empty() {
        stages.push(bson!({ "$unset": helpers }));
    }
    stages
}

/// Accumulators as the engine has to run them, and what makes MongoDB's values of its values.
#[derive(Default)]
struct Accumulators {
    fields: Document,
    helpers: Vec<String>,
    corrections: Document,
}

impl Accumulators {
    fn of(fields: &Document) -> Result<Self, CommandError> {
        let mut accumulators = Self::default();
        for (name, value) in fields {
            let value = rewritten_accumulator(value)?;
            accumulators.add(name, value);
        }
        Ok(accumulators)
    }

    fn add(&mut self, name: &str, accumulator: Bson) {
        let Bson::Document(fields) = &accumulator else {
            self.fields.insert(name, accumulator);
            return;
        };
        let window = fields.get("window").cloned();
        let operator = fields.iter().find(|(name, _)| *name != "window");
        match operator {
            Some((operator, operand)) if operator == "$avg" && may_be_decimal(operand) => {
                self.average(name, &accumulator, operand, window.as_ref());
            }
            Some((operator, number @ Bson::Double(_))) if operator == "$sum" => {
                let number = bson!({ "$literal": number.clone() });
                self.sum(name, &number, window.as_ref());
            }
            Some((operator, operand)) if operator == "$sum" && sums::may_be_double(operand) => {
                self.sum(name, operand, window.as_ref());
            }
            // The engine counts instead of adding what is about one.
            Some((operator, number @ (Bson::Int64(_) | Bson::Decimal128(_))))
                if operator == "$sum" =>
            {
                let sum = bson!({ "$sum": { "$literal": number.clone() } });
                self.fields.insert(name, windowed(sum, window.as_ref()));
            }
            Some((operator, operand)) if operator == "$addToSet" && may_be_missing(operand) => {
                self.set(name, operand, window.as_ref());
            }
            _ => {
                self.fields.insert(name, accumulator);
            }
        }
    }

    /// `$sum`: the engine rounds at every step.
    fn sum(&mut self, name: &str, operand: &Bson, window: Option<&Bson>) {
        let added = bson!({ "$sum": operand.clone() });
        self.fields.insert(name, windowed(added, window));
        let of_parts = self.parts(operand, window);
        let sum = format!("${name}");
        self.corrections.insert(
            name,
            bson!({ "$cond": [sums::is_of_parts(&sum), of_parts, sum] }),
        );
    }

    /// Adds both parts of an operand and returns their sum.
    fn parts(&mut self, operand: &Bson, window: Option<&Bson>) -> Bson {
        let helper = |kind: &str| format!("{HELPER}{kind}{}", self.fields.len());
        let (high, low) = (helper("High"), helper("Low"));
        let of_parts = bson!({ "$add": [format!("${high}"), format!("${low}")] });
        let (high_part, low_part) = sums::parts(operand);
        self.helper(high, bson!({ "$sum": high_part }), window);
        self.helper(low, bson!({ "$sum": low_part }), window);
        of_parts
    }

    /// `$avg`: the engine gives a double for decimals.
    fn average(&mut self, name: &str, accumulator: &Bson, operand: &Bson, window: Option<&Bson>) {
        let helper = |kind: &str| format!("{HELPER}{kind}{}", self.fields.len());
        let (sum, count) = (helper("Sum"), helper("Count"));
        let is_number = bson!({ "$cond": [{ "$isNumber": operand.clone() }, 1, 0] });
        self.fields.insert(name, accumulator.clone());
        let of_parts = self.parts(operand, window);
        let (total, divisor) = (format!("${sum}"), format!("${count}"));
        self.corrections.insert(
            name,
            bson!({ "$switch": {
                "branches": [
                    { "case": { "$eq": [{ "$type": &total }, "decimal"] }, "then": { "$divide": [&total, &divisor] } },
                    { "case": sums::is_of_parts(&total), "then": { "$divide": [of_parts, &divisor] } },
                ],
                "default": format!("${name}"),
            } }),
        );
        self.helper(sum, bson!({ "$sum": operand.clone() }), window);
        self.helper(count, bson!({ "$sum": is_number }), window);
    }

    fn helper(&mut self, name: String, accumulator: Bson, window: Option<&Bson>) {
        self.fields
            .insert(name.clone(), windowed(accumulator, window));
        self.helpers.push(name);
    }

    /// `$addToSet`: the engine adds null for what is missing.
    fn set(&mut self, name: &str, operand: &Bson, window: Option<&Bson>) {
        let nothing = Bson::String(format!("{HELPER}\u{1}nothing"));
        let value = bson!({ "$cond": [{ "$eq": [{ "$type": operand.clone() }, "missing"] }, nothing.clone(), operand.clone()] });
        let set = windowed(bson!({ "$addToSet": value }), window);
        self.fields.insert(name, set);
        self.corrections.insert(
            name,
            bson!({ "$filter": { "input": format!("${name}"), "as": "arenaItem", "cond": { "$ne": ["$$arenaItem", nothing] } } }),
        );
    }
}

fn windowed(accumulator: Bson, window: Option<&Bson>) -> Bson {
    match (accumulator, window) {
        (Bson::Document(mut accumulator), Some(window)) => {
            accumulator.insert("window", window.clone());
            Bson::Document(accumulator)
        }
        (accumulator, _) => accumulator,
    }
}

fn may_be_decimal(operand: &Bson) -> bool {
    match operand {
        Bson::String(_) => true,
        // These are never decimals, and are what is averaged most beside plain fields.
        Bson::Document(expression) => !matches!(
            only(expression),
            Some((
                "$size" | "$strLenCP" | "$dateDiff" | "$toInt" | "$toDouble" | "$toLong",
                _
            ))
        ),
        _ => false,
    }
}

fn may_be_missing(operand: &Bson) -> bool {
    match operand {
        Bson::String(text) => text.starts_with('$') && text != "$$ROOT",
        Bson::Document(expression) => has_operator(expression),
        _ => false,
    }
}

/// `$graphLookup`: the depth is a long at MongoDB, an int at the engine.
fn graph_looked_up(lookup: Document) -> Result<Vec<Bson>, CommandError> {
    let depth = lookup.get_str("depthField").ok().map(str::to_owned);
    let found = lookup.get_str("as").ok().map(str::to_owned);
    let stage = bson!({ "$graphLookup": rewritten(&Bson::Document(lookup))? });
    let (Some(depth), Some(found)) = (depth, found) else {
        return Ok(vec![stage]);
    };
    if !is_plain_field(&depth) {
        return Ok(vec![stage]);
    }
    let whole = doc! { depth.as_str(): { "$toLong": format!("$$this.{depth}") } };
    let documents = bson!({ "$map": { "input": format!("${found}"), "in": { "$mergeObjects": ["$$this", whole] } } });
    Ok(vec![stage, bson!({ "$set": { found: documents } })])
}
