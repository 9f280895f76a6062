//! Expressions in every depth: no code, and what the engine computes wrongly is
//! written otherwise so that it comes out as MongoDB has it, or refused. Each
//! rewriting says which wrong answer it is for; the behaviour suite holds them.

use bson::{Bson, Document, RawBsonRef, RawDocument, bson, doc};

use super::paths::check_expression;
use super::{
    accumulators, arithmetic, binaries, bindings, date_texts, dates, geo, numbers, schema, sums,
    truncation,
};
use super::{instants, least, lists, operands, patterns, sets, strings};
use crate::error::CommandError;

/// Operators that run code inside the database; nowhere allowed.
const CODE_OPERATORS: [&str; 3] = ["$where", "$function", "$accumulator"];
/// Operators that [`rewritten`] writes otherwise.
const REWRITTEN: [&str; 30] = [
    "$toInt",
    "$toLong",
    "$toDouble",
    "$toDecimal",
    "$add",
    "$subtract",
    "$pow",
    "$log",
    "$sigmoid",
    "$ifNull",
    "$dateTrunc",
    "$dateAdd",
    "$dateSubtract",
    "$avg",
    "$sum",
    "$round",
    "$trunc",
    "$mod",
    "$toString",
    "$dateFromString",
    "$convert",
    "$stdDevPop",
    "$stdDevSamp",
    "$median",
    "$percentile",
    "$mergeObjects",
    "$floor",
    "$ceil",
    "$jsonSchema",
    "$expr",
];

/// The same for the operators of one kind.
const BY_KIND: [&[&str]; 6] = [
    &strings::REWRITTEN,
    &patterns::REWRITTEN,
    &lists::REWRITTEN,
    &sets::REWRITTEN,
    &instants::REWRITTEN,
    &operands::PARTS_OF_DATES,
];

/// What a look at a filter, a projection or an update found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It may go to the engine as it is.
    Nothing,
    /// It must go through [`rewritten`] first.
    Rewritable,
}

/// Looks through a filter, a projection or an update without copying it.
pub(crate) fn check_raw_expressions(document: &RawDocument) -> Result<Found, CommandError> {
    let mut found = Found::Nothing;
    for element in document {
        let (key, value) = element?;
        check_operator(key.as_str())?;
        if geo::HOLDERS.contains(&key.as_str()) {
            geo::check_extent(&Bson::try_from(value)?)?;
        }
        let is_least = least::COMPARING.contains(&key.as_str())
            && value.as_array().is_some_and(|operands| {
                operands
                    .into_iter()
                    .flatten()
                    .any(|one| one == RawBsonRef::MinKey)
            });
        let is_bound = matches!(
            (key.as_str(), value),
            ("$gt" | "$gte", RawBsonRef::MinKey) | ("$lt" | "$lte", RawBsonRef::MaxKey)
        );
        if is_bound
            || is_least
            || REWRITTEN.contains(&key.as_str())
            || BY_KIND.iter().any(|names| names.contains(&key.as_str()))
            || check_raw_value(value)? == Found::Rewritable
        {
            found = Found::Rewritable;
        }
    }
    Ok(found)
}

/// Looks through whatever may hold expressions.
pub(crate) fn check_raw_value(value: RawBsonRef<'_>) -> Result<Found, CommandError> {
    match value {
        RawBsonRef::Document(inner) => check_raw_expressions(inner),
        RawBsonRef::Array(values) => {
            let mut found = Found::Nothing;
            for value in values {
                if check_raw_value(value?)? == Found::Rewritable {
                    found = Found::Rewritable;
                }
            }
            Ok(found)
        }
        _ => Ok(Found::Nothing),
    }
}

fn check_operator(name: &str) -> Result<(), CommandError> {
    // The engine's hashes are not MongoDB's.
    if CODE_OPERATORS.contains(&name) || name == "$toHashedIndexKey" {
        return Err(CommandError::not_supported(name));
    }
    Ok(())
}

/// Returns an expression, or whatever holds expressions, as it has to run.
pub(crate) fn rewritten(value: &Bson) -> Result<Bson, CommandError> {
    match value {
        Bson::Document(document) => {
            let mut rewritten = rewritten_document(document)?;
            instants::read_by(&mut rewritten);
            match only(&rewritten) {
                Some(("$dateTrunc", arguments)) => truncation::truncated(arguments),
                Some((name @ ("$dateAdd" | "$dateSubtract"), arguments)) => moved(name, arguments),
                Some(("$dateToString", arguments)) => date_texts::date_text(arguments),
                Some((name @ ("$year" | "$isoWeekYear" | "$dateToParts"), arguments)) => {
                    Ok(instants::written(name, arguments))
                }
                Some(("$avg", operand)) => Ok(sums::average(operand)),
                Some(("$sum", operand)) => Ok(sums::sum(operand)),
                Some((name, Bson::Array(operands))) if least::COMPARING.contains(&name) => {
                    let compared = least::compared(name, operands);
                    Ok(compared.unwrap_or(Bson::Document(rewritten)))
                }
                Some((name @ ("$round" | "$trunc"), operand)) => {
                    Ok(arithmetic::rounded(name, operand))
                }
                Some(("$add", Bson::Array(operands))) if is_nothing(operands) => Ok(Bson::Null),
                Some((name @ ("$add" | "$subtract"), Bson::Array(operands))) => {
                    Ok(arithmetic::moved_by_fraction(name, operands))
                }
                Some(("$mod", Bson::Array(operands))) => Ok(arithmetic::rest(operands)),
                Some(("$pow", Bson::Array(operands))) => Ok(arithmetic::power(operands)),
                Some(("$log", Bson::Array(operands))) => Ok(arithmetic::logarithm(operands)),
                Some((name @ ("$toInt" | "$toLong" | "$toDouble"), operand)) => {
                    Ok(binaries::converted(name, operand))
                }
                Some(("$toDecimal", operand)) => Ok(arithmetic::to_decimal(operand)),
                Some(("$sigmoid", operand)) => Ok(arithmetic::sigmoid(operand)),
                Some(("$ifNull", Bson::Array(operands))) => Ok(arithmetic::first_found(operands)),
                Some(("$mergeObjects", operand)) => Ok(arithmetic::merged(operand)),
                Some((name @ ("$floor" | "$ceil"), operand)) => {
                    Ok(arithmetic::whole(name, operand))
                }
                Some((name, sets)) if sets::REWRITTEN.contains(&name) => {
                    Ok(sets::rewritten(name, sets))
                }
                Some(("$toString", operand)) => Ok(numbers::text(operand)),
                Some(("$convert", arguments)) => Ok(
                    dates::converted(arguments).unwrap_or_else(|| numbers::converted(arguments))
                ),
                Some(("$toDate", operand)) => Ok(dates::to_date(operand)),
                Some(("$dateFromString", arguments)) => Ok(dates::from_text(arguments)),
                Some((name @ ("$stdDevPop" | "$stdDevSamp"), operand)) => {
                    Ok(numbers::deviation(name, operand))
                }
                Some((name @ ("$median" | "$percentile"), Bson::Document(arguments))) => {
                    accumulators::check_percentile(name, arguments)?;
                    let computed = numbers::percentiles(name, arguments);
                    Ok(computed.unwrap_or(Bson::Document(rewritten)))
                }
                Some((name, operands)) if strings::REWRITTEN.contains(&name) => {
                    strings::rewritten(name, operands)
                }
                Some((name, operands)) if patterns::REWRITTEN.contains(&name) => {
                    patterns::rewritten(name, operands)
                }
                Some((name, operands)) if lists::REWRITTEN.contains(&name) => {
                    Ok(lists::rewritten(name, operands))
                }
                _ => Ok(Bson::Document(rewritten)),
            }
        }
        Bson::Array(values) => values.iter().map(rewritten).collect(),
        other => Ok(other.clone()),
    }
}

/// Constants of which one is null add up to null; the engine takes a null beside a date for zero.
fn is_nothing(operands: &[Bson]) -> bool {
    let is_constant = |operand: &Bson| {
        matches!(
            operand,
            Bson::DateTime(_)
                | Bson::Int32(_)
                | Bson::Int64(_)
                | Bson::Double(_)
                | Bson::Decimal128(_)
                | Bson::Null
        )
    };
    operands.contains(&Bson::Null) && operands.iter().all(is_constant)
}

fn rewritten_document(document: &Document) -> Result<Document, CommandError> {
    let mut fields = Document::new();
    let mut conditions = Vec::new();
    for (key, value) in document {
        check_operator(key)?;
        if geo::HOLDERS.contains(&key.as_str()) {
            geo::check_extent(value)?;
        }
        let value = match (key.as_str(), value) {
            ("$literal", value) => value.clone(),
            ("$expr", value) => {
                check_expression(value)?;
                decided(without_bounds(rewritten(value)?))
            }
            ("$jsonSchema", Bson::Document(written)) => {
                conditions.extend(schema::conditions(written)?);
                continue;
            }
            (path, Bson::Document(operators)) if !path.starts_with('$') && path != "_id" => {
                let operators = with_missing(path, operators, &mut conditions);
                if operators.is_empty() && !value.as_document().is_some_and(Document::is_empty) {
                    continue;
                }
                rewritten(&Bson::Document(operators))?
            }
            (_, value) => rewritten(value)?,
        };
        fields.insert(key, value);
    }
    if let [only] = conditions.as_slice()
        && only.keys().all(|key| !fields.contains_key(key))
    {
        fields.extend(only.clone());
    } else if !conditions.is_empty() {
        let others = fields.get_array("$and").cloned().unwrap_or_default();
        let all = conditions.into_iter().map(Bson::Document).chain(others);
        fields.insert("$and", all.collect::<Vec<Bson>>());
    }
    Ok(fields)
}

/// Operators whose values are true or false, or nothing.
const DECIDING: [&str; 18] = [
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$and",
    "$or",
    "$not",
    "$in",
    "$setEquals",
    "$setIsSubset",
    "$anyElementTrue",
    "$allElementsTrue",
    "$regexMatch",
    "$isArray",
    "$isNumber",
    "$toBool",
];

/// Whether an expression holds. The engine takes a number for the whole one in it, or fails; what `$and` takes for true
/// is true. What decides by itself stays, as an index may find it.
fn decided(expression: Bson) -> Bson {
    let decides =
        |document: &Document| matches!(only(document), Some((name, _)) if DECIDING.contains(&name));
    if expression.as_document().is_some_and(decides) {
        expression
    } else {
        bson!({ "$and": [expression] })
    }
}

/// An index finds values of the other's type only where the engine asks it for what is less or greater, though in an
/// expression what is missing is less than a number, and a text greater. Spelled otherwise, no index is asked.
fn without_bounds(expression: Bson) -> Bson {
    let Bson::Document(document) = &expression else {
        return expression;
    };
    let spelled = |operand: &Bson| match operand {
        Bson::String(path) if path.starts_with('$') && !path.starts_with("$$") => {
            Bson::String(format!("$$ROOT.{}", &path[1..]))
        }
        other => other.clone(),
    };
    match only(document) {
        Some(("$and", Bson::Array(parts))) => {
            let parts = parts.iter().cloned().map(without_bounds);
            bson!({ "$and": parts.collect::<Vec<Bson>>() })
        }
        Some((order @ ("$lt" | "$lte" | "$gt" | "$gte"), Bson::Array(operands))) => {
            bson!({ order: operands.iter().map(spelled).collect::<Vec<Bson>>() })
        }
        _ => expression,
    }
}

/// What is missing is above MinKey and below MaxKey too; not to the engine.
fn with_missing(path: &str, operators: &Document, conditions: &mut Vec<Document>) -> Document {
    let mut others = Document::new();
    for (operator, value) in operators {
        match (operator.as_str(), value) {
            ("$gt" | "$gte", Bson::MinKey) | ("$lt" | "$lte", Bson::MaxKey) => {
                let found = bson!([{ path: { operator: value.clone() } }, { path: Bson::Null }]);
                conditions.push(doc! { "$or": found });
            }
            _ => drop(others.insert(operator, value)),
        }
    }
    others
}

/// Rewrites the operands of an accumulator but not the accumulator itself, which may share an
/// expression's name.
pub(crate) fn rewritten_accumulator(value: &Bson) -> Result<Bson, CommandError> {
    match value {
        Bson::Document(accumulator) => rewritten_document(accumulator).map(Bson::Document),
        other => Ok(other.clone()),
    }
}

/// Returns the only field of a document.
pub(super) fn only(document: &Document) -> Option<(&str, &Bson)> {
    let mut fields = document.iter();
    let (name, value) = fields.next()?;
    fields.next().is_none().then_some((name.as_str(), value))
}

/// `$dateAdd` and `$dateSubtract`: the engine computes with seconds that have a fraction, so that a millisecond is
/// missing now and then, and in a timezone it is a day or an hour off when the clock changes in between. Moved is a
/// date of whole seconds, as a local time where there is a timezone.
fn moved(name: &str, arguments: &Bson) -> Result<Bson, CommandError> {
    let as_it_is = || Ok(bson!({ name: arguments.clone() }));
    let Bson::Document(options) = arguments else {
        return as_it_is();
    };
    let [Some(date), Some(unit), Some(amount)] =
        ["startDate", "unit", "amount"].map(|option| options.get(option))
    else {
        return Err(CommandError::new(
            5_166_402,
            "Location5166402",
            format!("{name} requires startDate, unit, and amount to be present"),
        ));
    };
    let zone = options.get("timezone");
    let is_calendar = match unit {
        Bson::String(unit) if unit.starts_with('$') => {
            if zone.is_some() {
                return Err(CommandError::not_supported(format_args!(
                    "{name} in a timezone with a unit that is not constant"
                )));
            }
            false
        }
        // Hours and less are as long everywhere.
        Bson::String(unit) => {
            matches!(unit.as_str(), "year" | "quarter" | "month" | "week" | "day")
        }
        _ => return as_it_is(),
    };
    let mut options = options.clone();
    let local = zone.filter(|_| is_calendar).map(|_| "$$arenaZone");
    if local.is_some() {
        options.remove("timezone");
    }
    options.insert("startDate", whole_seconds("$$arenaDate", local));
    let back = match local {
        Some(_) => bson!({ "$dateFromParts": parts("$$arenaMoved", None, local) }),
        None => bson!("$$arenaMoved"),
    };
    let sign = if name == "$dateAdd" {
        "$add"
    } else {
        "$subtract"
    };
    let by_amount = bson!({ sign: ["$$arenaStart", "$$arenaAmount"] });
    let by_seconds = bson!({ "$add": [back, { "$millisecond": "$$arenaStart" }] });
    let exactly =
        bson!({ "$cond": [{ "$eq": [unit.clone(), "millisecond"] }, by_amount, by_seconds] });
    let moved = bson!({ "$cond": [{ "$eq": ["$$arenaMoved", Bson::Null] }, Bson::Null, exactly] });
    options.insert("amount", "$$arenaAmount");
    let mut variables = doc! { "arenaDate": date.clone(), "arenaAmount": amount.clone() };
    variables.extend(
        local
            .and(zone)
            .map(|zone| ("arenaZone".to_owned(), zone.clone())),
    );
    Ok(bson!({ "$let": { "vars": variables, "in": { "$let": {
        "vars": { "arenaMoved": { name: options }, "arenaStart": "$$arenaDate" }, "in": moved,
    } } } }))
}

/// A date without its milliseconds, as a local time where there is a zone; what is no date stays.
fn whole_seconds(date: &str, zone: Option<&str>) -> Bson {
    let is_date = bson!({ "$in": [{ "$type": date }, ["date", "timestamp", "objectId"]] });
    bson!({ "$cond": [is_date, { "$dateFromParts": parts(date, zone, None) }, date] })
}

/// A date's parts down to the second: read in one timezone, written in another; UTC where none is named.
fn parts(date: &str, read_in: Option<&str>, written_in: Option<&str>) -> Document {
    let part = |operator: &str| match read_in {
        Some(zone) => bson!({ operator: { "date": date, "timezone": zone } }),
        None => bson!({ operator: date }),
    };
    let mut parts = doc! {
        "year": part("$year"), "month": part("$month"), "day": part("$dayOfMonth"),
        "hour": part("$hour"), "minute": part("$minute"), "second": part("$second"),
    };
    parts.extend(written_in.map(|zone| ("timezone".to_owned(), Bson::String(zone.to_owned()))));
    parts
}

/// Returns a filter, a projection or an update as it has to run.
pub(crate) fn rewritten_fields(document: &RawDocument) -> Result<Document, CommandError> {
    let document = Document::try_from(document)?;
    match bindings::computed_once(rewritten(&Bson::Document(document))?)? {
        Bson::Document(document) => Ok(document),
        other => Ok(doc! { "$expr": other }),
    }
}
