//! `$setWindowFields`: what the engine computes otherwise over windows.

use bson::{Bson, Document, bson, doc};

use super::accumulators::{Accumulators, HELPER, has_operator, may_be_missing};
use super::expressions::{only, rewritten};
use super::missing::{accumulated, or_null};
use super::raising::refuse;
use super::rates;
use super::stages::directed;
use crate::error::CommandError;

/// Window functions whose value may be an object.
const OF_VALUES: [&str; 8] = [
    "$first", "$last", "$top", "$bottom", "$min", "$max", "$shift", "$locf",
];

/// Operators whose value may be an object.
const OF_OBJECTS: [&str; 18] = [
    "$arrayElemAt",
    "$arrayToObject",
    "$cond",
    "$dateToParts",
    "$first",
    "$getField",
    "$ifNull",
    "$last",
    "$let",
    "$literal",
    "$max",
    "$mergeObjects",
    "$min",
    "$reduce",
    "$regexFind",
    "$setField",
    "$switch",
    "$unsetField",
];

/// Returns the stages that run in place of one.
pub(super) fn rewritten_windows(mut stage: Document) -> Result<Vec<Bson>, CommandError> {
    ordered(&mut stage);
    let output = stage.get_document("output").cloned().unwrap_or_default();
    for (name, value) in stage.iter_mut() {
        if name != "output" {
            *value = rewritten(value)?;
        }
    }
    parted(&mut stage);
    if output.is_empty() {
        return Ok(vec![bson!({ "$setWindowFields": stage })]);
    }
    let mut fields = Document::new();
    let mut replaced = Document::new();
    let mut tied = Document::new();
    let (mut computed, mut carried) = (Document::new(), Document::new());
    for (path, function) in &output {
        let function = checked(function)?;
        if let Some(peers) = peers(&function) {
            let helper = format!("{HELPER}Peers{}", tied.len());
            tied.insert(path, without_ties(path, &format!("${helper}")));
            fields.insert(helper, peers);
        }
        let value = format!("{HELPER}Value{}", replaced.len());
        // Read back through an array, a field is all of its elements'; and fields come in order.
        let is_aside = path.contains('.') || !replaced.is_empty();
        let target = if is_aside { &value } else { path };
        let helper = format!("{HELPER}Numbers{}", fields.len());
        if let Some(average) = rates::of_decimals(&function) {
            carried.insert(target, rates::carried_on(target, &format!("${helper}")));
            fields.insert(target, average.function);
            fields.insert(helper, average.decimals);
        } else if let Some(rate) = rates::in_milliseconds(target, &function) {
            computed.insert(target, rewritten(&rate.value)?);
            fields.insert(target, rate.function);
        } else if let Some(moving) = moving(target, &function, &helper) {
            computed.insert(target, rewritten(&moving.value)?);
            fields.insert(target, moving.written);
            fields.extend(moving.counted.map(|counted| (helper, counted)));
        } else if let Some(wrapped) = as_value(&function) {
            replaced.insert(path, wrapped.unwrapped(&format!("${value}")));
            fields.insert(value, wrapped.function);
            continue;
        } else {
            fields.insert(target, function);
        }
        if is_aside {
            replaced.insert(path, format!("${value}"));
        }
    }
    let accumulators = Accumulators::of(&accumulated(&fields))?;
    let carrying = bson!({ "$setWindowFields": with_output(&stage, &carried) });
    stage.insert("output", accumulators.fields.clone());
    let mut stages = vec![bson!({ "$setWindowFields": stage })];
    stages.extend(accumulators.after());
    stages.extend((!carried.is_empty()).then_some(carrying));
    let helpers: Vec<String> = fields
        .keys()
        .filter(|name| name.starts_with(HELPER))
        .cloned()
        .collect();
    for corrections in [computed, replaced, tied] {
        if !corrections.is_empty() {
            stages.push(bson!({ "$set": corrections }));
        }
    }
    if !helpers.is_empty() {
        stages.push(bson!({ "$unset": helpers }));
    }
    Ok(stages)
}

/// The engine writes null for what is missing in a key, and takes both for one partition.
fn parted(stage: &mut Document) {
    if let Some(Bson::Document(key)) = stage.get("partitionBy")
        && !key.is_empty()
        && !has_operator(key)
    {
        let key = bson!({ "$mergeObjects": [key.clone()] });
        stage.insert("partitionBy", key);
    }
    if let Some(key) = stage.get_mut("partitionBy") {
        *key = or_null(std::mem::replace(key, Bson::Null));
    }
}

/// An order by nothing is one to MongoDB, and null is none; the engine refuses both.
fn ordered(stage: &mut Document) {
    match stage.remove("sortBy") {
        None | Some(Bson::Null) => {}
        Some(Bson::Document(keys)) if keys.is_empty() => {
            stage.insert("sortBy", doc! { format!("{HELPER}Nothing"): 1 });
        }
        Some(Bson::Document(keys)) => drop(stage.insert("sortBy", directed(keys))),
        Some(other) => drop(stage.insert("sortBy", other)),
    }
}

fn with_output(stage: &Document, output: &Document) -> Document {
    let mut stage = stage.clone();
    stage.insert("output", output.clone());
    stage
}

/// What is computed in place of a function over a moving window.
struct Moving {
    /// What the window function writes instead.
    written: Bson,
    /// What a helper field counts beside it.
    counted: Option<Bson>,
    /// The function's value from both.
    value: Bson,
}

/// An average, deviation or covariance over a window that moves off values: the engine takes them away from its sums,
/// which ends with a division by zero when only others than numbers are left, and loses digits of a deviation.
fn moving(path: &str, function: &Bson, helper: &str) -> Option<Moving> {
    let function = function.as_document()?;
    let (operator, operand) = function.iter().find(|(name, _)| *name != "window")?;
    let window = function.get_document("window").ok()?;
    let bounds = window
        .get_array("documents")
        .or_else(|_| window.get_array("range"));
    let [from, _] = bounds.ok()?.as_slice() else {
        return None;
    };
    if from.as_str() == Some("unbounded") {
        return None;
    }
    let written = format!("${path}");
    let values = bson!({ "$push": operand.clone(), "window": window.clone() });
    let from_values = |value: Bson| Moving {
        written: values,
        counted: None,
        value,
    };
    match (operator.as_str(), operand) {
        ("$avg", _) => {
            let one = bson!({ "$cond": [{ "$isNumber": [operand.clone()] }, 1, 0] });
            let count = format!("${helper}");
            let average = bson!({ "$divide": [written, count.clone()] });
            Some(Moving {
                written: bson!({ "$sum": operand.clone(), "window": window.clone() }),
                counted: Some(bson!({ "$sum": one, "window": window.clone() })),
                value: bson!({ "$cond": [{ "$eq": [count, 0] }, null, average] }),
            })
        }
        ("$stdDevPop" | "$stdDevSamp", _) => Some(from_values(deviation(operator, &written))),
        ("$covariancePop", Bson::Array(pair)) if pair.len() == 2 => {
            Some(from_values(covariance(&written, 0)))
        }
        ("$covarianceSamp", Bson::Array(pair)) if pair.len() == 2 => {
            Some(from_values(covariance(&written, 1)))
        }
        _ => None,
    }
}

/// A deviation of values that move off: there is none while one of them has no end, or is no number that is one.
fn deviation(operator: &str, values: &str) -> Bson {
    let size = bson!({ "$abs": "$$this" });
    let has_end =
        bson!({ "$and": [{ "$gte": [size.clone(), 0] }, { "$lt": [size, f64::INFINITY] }] });
    let is_odd = bson!({ "$cond": [{ "$isNumber": "$$this" }, { "$not": [has_end] }, false] });
    let is_odd = bson!({ "$anyElementTrue": [{ "$map": { "input": values, "in": is_odd } }] });
    bson!({ "$cond": [is_odd, null, { operator: values }] })
}

/// The covariance of pairs, of those that are numbers; `less` is taken from their count.
fn covariance(pairs: &str, less: i32) -> Bson {
    let part = |of: &str, number: i32| bson!({ "$arrayElemAt": [of, number] });
    let numbers = bson!({ "$filter": { "input": pairs, "as": "arenaPair", "cond": { "$and": [
        { "$isNumber": part("$$arenaPair", 0) },
        { "$isNumber": part("$$arenaPair", 1) },
    ] } } });
    let mean = |number: i32| bson!({ "$avg": { "$map": { "input": "$$arenaPairs", "as": "arenaPair", "in": part("$$arenaPair", number) } } });
    let product = bson!({ "$multiply": [
        { "$subtract": [part("$$arenaPair", 0), "$$arenaX"] },
        { "$subtract": [part("$$arenaPair", 1), "$$arenaY"] },
    ] });
    let sum = bson!({ "$sum": { "$map": { "input": "$$arenaPairs", "as": "arenaPair", "in": product } } });
    let count = bson!({ "$subtract": [{ "$size": "$$arenaPairs" }, less] });
    let value = bson!({ "$let": {
        "vars": { "arenaX": mean(0), "arenaY": mean(1) },
        "in": { "$divide": [sum, count.clone()] },
    } });
    bson!({ "$let": {
        "vars": { "arenaPairs": numbers },
        "in": { "$cond": [{ "$lt": [count, 1] }, null, value] },
    } })
}

/// How many documents tie with the current one, for a function whose range ends or begins there: to the engine all of
/// them are the current one.
fn peers(function: &Bson) -> Option<Bson> {
    let window = function.as_document()?.get_document("window").ok()?;
    let mut bounds = window.get_array("range").ok()?.iter();
    if !bounds.any(|bound| bound.as_str() == Some("current")) {
        return None;
    }
    let mut current = bson::doc! { "range": ["current", "current"] };
    current.extend(
        window
            .get("unit")
            .map(|unit| ("unit".to_owned(), unit.clone())),
    );
    Some(bson!({ "$sum": 1, "window": current }))
}

/// The value of a path, unless its document ties with others.
fn without_ties(path: &str, peers: &str) -> Bson {
    let error = refuse(
        "a range to the current document where others tie with it",
        peers,
    );
    bson!({ "$cond": [{ "$gt": [peers, 1] }, error, format!("${path}")] })
}

/// A window function with what the engine understands otherwise, or overlooks.
fn checked(function: &Bson) -> Result<Bson, CommandError> {
    let Bson::Document(function) = function else {
        return Ok(function.clone());
    };
    let mut names = function.keys().filter(|name| *name != "window");
    let (Some(operator), unknown) = (names.next(), names.next()) else {
        return Ok(Bson::Document(function.clone()));
    };
    if !operator.starts_with('$') {
        return Ok(Bson::Document(function.clone()));
    }
    if let Some(unknown) = unknown {
        let message = format!("Window function {operator} found an unknown argument: {unknown}");
        if matches!(
            operator.as_str(),
            "$rank" | "$denseRank" | "$documentNumber"
        ) {
            return Err(CommandError::new(5_371_601, "Location5371601", message));
        }
        return Err(CommandError::failed_to_parse(message));
    }
    let mut function = function.clone();
    if let Ok(shift) = function.get_document_mut("$shift") {
        shifted(shift)?;
    }
    Ok(Bson::Document(function))
}

/// `$shift`: the engine writes a computed default as it stands, and null for a field that is missing in the other
/// document, where MongoDB takes the default.
fn shifted(shift: &mut Document) -> Result<(), CommandError> {
    let default = match shift.get("default") {
        None | Some(Bson::Null) => return Ok(()),
        Some(Bson::Document(default)) => match only(default) {
            Some(("$literal" | "$const", value)) => value.clone(),
            Some((operator, _)) if operator.starts_with('$') => {
                return Err(CommandError::not_supported(
                    "$shift with a computed default",
                ));
            }
            _ => Bson::Document(default.clone()),
        },
        Some(constant) => constant.clone(),
    };
    let output = shift.get("output").cloned().unwrap_or(Bson::Null);
    if may_be_missing(&output) && !matches!(&default, Bson::String(text) if text.starts_with('$')) {
        let is_missing = bson!({ "$eq": [{ "$type": output.clone() }, "missing"] });
        let value = bson!({ "$cond": [is_missing, { "$literal": default.clone() }, output] });
        shift.insert("output", value);
        shift.insert("default", default);
    }
    Ok(())
}

/// A window function whose value may be an object. The engine would merge it into one that stands there, and takes its
/// names for paths, so that it lies in an array on the way, where the function gives it as it is.
struct Wrapped {
    function: Bson,
    is_in_array: bool,
}

impl Wrapped {
    fn unwrapped(&self, value: &str) -> Bson {
        if self.is_in_array {
            let first = bson!({ "$arrayElemAt": [value, 0] });
            bson!({ "$cond": [{ "$isArray": [value] }, first, null] })
        } else {
            Bson::String(value.to_owned())
        }
    }
}

fn as_value(function: &Bson) -> Option<Wrapped> {
    let mut function = function.as_document()?.clone();
    let (operator, operand) = function
        .iter()
        .find(|(name, _)| OF_VALUES.contains(&name.as_str()))?;
    let operator = operator.clone();
    let option = match operator.as_str() {
        "$top" | "$bottom" | "$shift" => Some("output"),
        _ => None,
    };
    let value = match option {
        Some(option) => operand.as_document()?.get(option)?,
        None => operand,
    };
    if !may_be_object(value) {
        return None;
    }
    let is_in_array = !matches!(operator.as_str(), "$min" | "$max");
    let wrapped = match operator.as_str() {
        "$min" | "$max" => value.clone(),
        // What is null is carried on.
        "$locf" => bson!({ "$cond": [
            { "$in": [{ "$type": value.clone() }, ["null", "missing", "undefined"]] }, null, [value.clone()],
        ] }),
        _ => Bson::Array(vec![value.clone()]),
    };
    match (option, function.get_mut(&operator)?) {
        (Some(option), Bson::Document(options)) => {
            options.insert(option, wrapped);
            if let Some(default) = options.get_mut("default") {
                *default = Bson::Array(vec![default.clone()]);
            }
        }
        (_, operand) => *operand = wrapped,
    }
    Some(Wrapped {
        function: Bson::Document(function),
        is_in_array,
    })
}

/// Whether a value may be an object, as far as it can be seen.
fn may_be_object(value: &Bson) -> bool {
    match value {
        Bson::String(text) => text.starts_with('$'),
        Bson::Document(object) => match only(object) {
            Some((operator, _)) if operator.starts_with('$') => OF_OBJECTS.contains(&operator),
            _ => true,
        },
        _ => false,
    }
}
