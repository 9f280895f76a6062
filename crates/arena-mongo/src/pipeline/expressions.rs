//! Expressions in every depth: no code, and what the engine computes wrongly is
//! written otherwise so that it comes out as MongoDB has it, or refused. Each
//! rewriting says which wrong answer it is for; the behaviour suite holds them.

use bson::{Bson, Document, RawBsonRef, RawDocument, bson, doc};

use super::{accumulators, dates, geo, numbers, schema, sums};
use crate::error::CommandError;

/// Operators that run code inside the database; nowhere allowed.
const CODE_OPERATORS: [&str; 3] = ["$where", "$function", "$accumulator"];
/// Operators that [`rewritten`] writes otherwise.
const REWRITTEN: [&str; 28] = [
    "$add",
    "$dateTrunc",
    "$dateAdd",
    "$dateSubtract",
    "$dateToString",
    "$avg",
    "$sum",
    "$round",
    "$trunc",
    "$mod",
    "$setUnion",
    "$setIntersection",
    "$substr",
    "$substrBytes",
    "$substrCP",
    "$replaceOne",
    "$replaceAll",
    "$toString",
    "$toDate",
    "$dateFromString",
    "$convert",
    "$stdDevPop",
    "$stdDevSamp",
    "$median",
    "$percentile",
    "$mergeObjects",
    "$jsonSchema",
    "$expr",
];
/// MongoDB's own text of a date in a timezone that has no format.
const LOCAL_FORMAT: &str = "%Y-%m-%dT%H:%M:%S.%L";

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
        let is_bound = matches!(
            (key.as_str(), value),
            ("$gt" | "$gte", RawBsonRef::MinKey) | ("$lt" | "$lte", RawBsonRef::MaxKey)
        );
        if is_bound
            || REWRITTEN.contains(&key.as_str())
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
            let rewritten = rewritten_document(document)?;
            match only(&rewritten) {
                Some(("$dateTrunc", arguments)) => truncated(arguments),
                Some((name @ ("$dateAdd" | "$dateSubtract"), arguments)) => moved(name, arguments),
                Some(("$dateToString", arguments)) => date_text(arguments),
                Some(("$avg", operand)) => Ok(sums::average(operand)),
                Some(("$sum", operand)) => Ok(sums::sum(operand)),
                Some((name @ ("$round" | "$trunc"), Bson::Array(operands))) => {
                    Ok(numbers::rounded(name, operands))
                }
                Some(("$add", Bson::Array(operands))) if is_nothing(operands) => Ok(Bson::Null),
                Some(("$mod", Bson::Array(operands))) => Ok(numbers::rest(operands)),
                // MongoDB keeps them in order, the engine by hash.
                Some((name @ ("$setUnion" | "$setIntersection"), sets)) => {
                    Ok(bson!({ "$sortArray": { "input": { name: sets.clone() }, "sortBy": 1 } }))
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
                // Their value is a part of another text, which the engine reads on to its end where it reads a
                // number or a date; joined to nothing it is a text of its own.
                Some((
                    "$substr" | "$substrBytes" | "$substrCP" | "$replaceOne" | "$replaceAll",
                    _,
                )) => Ok(bson!({ "$concat": [rewritten, ""] })),
                // The engine wants at least one.
                Some(("$mergeObjects", Bson::Array(none))) if none.is_empty() => {
                    Ok(bson!({ "$literal": {} }))
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
            ("$expr", value) => without_bounds(rewritten(value)?),
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

/// `$dateToString` without a format but with a timezone: the engine ends the text with a 'Z' that is not
/// true. It also takes a computed format for the text of one.
fn date_text(arguments: &Bson) -> Result<Bson, CommandError> {
    let Bson::Document(arguments) = arguments else {
        return Ok(bson!({ "$dateToString": arguments.clone() }));
    };
    let mut arguments = arguments.clone();
    match arguments.get("format") {
        None if arguments.contains_key("timezone") => {
            arguments.insert("format", LOCAL_FORMAT);
        }
        None => {}
        Some(Bson::String(format)) if !format.starts_with('$') => {}
        Some(_) => {
            return Err(CommandError::not_supported(
                "$dateToString with a format that is not constant",
            ));
        }
    }
    Ok(bson!({ "$dateToString": arguments }))
}

/// `$dateAdd` and `$dateSubtract` in a timezone: the engine is a day or an hour off when the clock changes in
/// between. Moved is the local time, as if it were UTC's.
fn moved(name: &str, arguments: &Bson) -> Result<Bson, CommandError> {
    let as_it_is = || Ok(bson!({ name: arguments.clone() }));
    let Bson::Document(options) = arguments else {
        return as_it_is();
    };
    if ["startDate", "unit", "amount"]
        .iter()
        .any(|part| !options.contains_key(*part))
    {
        return Err(CommandError::new(
            5_166_402,
            "Location5166402",
            format!("{name} requires startDate, unit, and amount to be present"),
        ));
    }
    let (Some(zone), Some(date)) = (options.get("timezone"), options.get("startDate")) else {
        return as_it_is();
    };
    let mut options = options.clone();
    options.remove("timezone");
    match options.get("unit") {
        Some(Bson::String(unit)) if unit.starts_with('$') => {
            return Err(CommandError::not_supported(format_args!(
                "{name} in a timezone with a unit that is not constant"
            )));
        }
        Some(Bson::String(unit))
            if matches!(unit.as_str(), "year" | "quarter" | "month" | "week" | "day") => {}
        // Hours and less are as long everywhere.
        _ => return as_it_is(),
    }
    options.insert(
        "startDate",
        date_from("$$arenaDate", Some("$$arenaZone"), None),
    );
    let there = date_from("$$arenaMoved", None, Some("$$arenaZone"));
    Ok(bson!({ "$let": {
        "vars": { "arenaDate": date.clone(), "arenaZone": zone.clone() },
        "in": { "$let": { "vars": { "arenaMoved": { name: options } }, "in": there } },
    } }))
}

/// A date made of a date's parts: read in one timezone, written in another; UTC where none is named.
fn date_from(date: &str, read_in: Option<&str>, written_in: Option<&str>) -> Bson {
    let part = |operator: &str| match read_in {
        Some(zone) => bson!({ operator: { "date": date, "timezone": zone } }),
        None => bson!({ operator: date }),
    };
    let mut parts = doc! {
        "year": part("$year"), "month": part("$month"), "day": part("$dayOfMonth"),
        "hour": part("$hour"), "minute": part("$minute"), "second": part("$second"), "millisecond": part("$millisecond"),
    };
    parts.extend(written_in.map(|zone| ("timezone".to_owned(), Bson::String(zone.to_owned()))));
    bson!({ "$dateFromParts": parts })
}

/// `$dateTrunc`: the engine is a day off in leap years, a month off before 2000, and knows no timezones.
fn truncated(arguments: &Bson) -> Result<Bson, CommandError> {
    let not_constant =
        || CommandError::not_supported("$dateTrunc with an option that is not constant");
    let Bson::Document(arguments) = arguments else {
        return Err(CommandError::new(
            5_439_007,
            "Location5439007",
            "$dateTrunc only supports an object as its argument",
        ));
    };
    let date = arguments
        .get("date")
        .ok_or_else(|| missing("date", 5_439_009))?;
    let unit = match arguments.get("unit") {
        Some(Bson::String(unit)) if !unit.starts_with('$') => unit.as_str(),
        Some(Bson::Null) => return Ok(Bson::Null),
        Some(_) => return Err(not_constant()),
        None => return Err(missing("unit", 5_439_010)),
    };
    let size = match arguments.get("binSize") {
        None => 1,
        Some(Bson::Int32(size)) => i64::from(*size),
        Some(Bson::Int64(size)) => *size,
        Some(Bson::Null) => return Ok(Bson::Null),
        Some(_) => return Err(not_constant()),
    };
    if size < 1 {
        return Err(CommandError::new(
            5_439_018,
            "Location5439018",
            format!("$dateTrunc requires 'binSize' to be greater than 0, but got value {size}"),
        ));
    }
    let start_of_week = match arguments.get("startOfWeek") {
        None => "sunday",
        Some(Bson::String(day)) if !day.starts_with('$') => day.as_str(),
        Some(_) => return Err(not_constant()),
    };
    let zone = arguments.get("timezone").cloned();
    let zone = zone.unwrap_or_else(|| Bson::String("UTC".to_owned()));
    let begin = beginning(unit, size, start_of_week)?;
    Ok(bson!({ "$let": {
        "vars": { "arenaDate": date.clone(), "arenaZone": zone },
        "in": { "$cond": [
            { "$or": [{ "$lte": ["$$arenaDate", Bson::Null] }, { "$lte": ["$$arenaZone", Bson::Null] }] },
            Bson::Null,
            begin,
        ] },
    } }))
}

fn missing(parameter: &str, code: i32) -> CommandError {
    let name = if code == 5_439_009 {
        "Location5439009"
    } else {
        "Location5439010"
    };
    CommandError::new(
        code,
        name,
        format!("Missing '{parameter}' parameter to $dateTrunc"),
    )
}

/// Where the bin of `$$arenaDate` begins in `$$arenaZone`. Bins are counted from the first of January 2000.
fn beginning(unit: &str, size: i64, start_of_week: &str) -> Result<Bson, CommandError> {
    let part = |name: &str| bson!({ name: { "date": "$$arenaDate", "timezone": "$$arenaZone" } });
    let local = |year: Bson, month: Bson, day: Bson| bson!({ "$dateFromParts": { "year": year, "month": month, "day": day, "timezone": "$$arenaZone" } });
    let one = || Bson::Int32(1);
    let floored = |number: Bson, size: i64| {
        // Down to a multiple, also below zero, where $mod has the number's sign.
        bson!({ "$subtract": [number.clone(), { "$mod": [{ "$add": [{ "$mod": [number, size] }, size] }, size] }] })
    };
    let months = |size: i64| {
        let counted = bson!({ "$add": [{ "$multiply": [{ "$subtract": [part("$year"), 2000] }, 12] }, { "$subtract": [part("$month"), 1] }] });
        let begin = floored(counted, size);
        let year = bson!({ "$add": [2000, { "$floor": { "$divide": [begin.clone(), 12] } }] });
        let month =
            bson!({ "$add": [1, { "$mod": [{ "$add": [{ "$mod": [begin, 12] }, 12] }, 12] }] });
        local(bson!({ "$toInt": year }), bson!({ "$toInt": month }), one())
    };
    let days = |size: i64, first: i64| {
        // Days since the first of January 2000, in the zone.
        let today = bson!({ "$dateFromParts": { "year": part("$year"), "month": part("$month"), "day": part("$dayOfMonth") } });
        let counted =
            bson!({ "$toLong": { "$divide": [{ "$subtract": [today, epoch()] }, DAY_MS] } });
        let begin =
            bson!({ "$add": [floored(bson!({ "$subtract": [counted, first] }), size), first] });
        let day = bson!({ "$add": [epoch(), { "$multiply": [begin, DAY_MS] }] });
        let of = |name: &str| bson!({ name: day.clone() });
        local(of("$year"), of("$month"), of("$dayOfMonth"))
    };
    let milliseconds = |length: i64| {
        let local_time = date_from("$$arenaDate", Some("$$arenaZone"), None);
        let since = bson!({ "$subtract": [local_time, epoch()] });
        let rest = bson!({ "$mod": [{ "$add": [{ "$mod": [since, length] }, length] }, length] });
        bson!({ "$subtract": ["$$arenaDate", rest] })
    };
    Ok(match unit {
        "year" => months(12 * size),
        "quarter" => months(3 * size),
        "month" => months(size),
        "week" => days(7 * size, first_day(start_of_week)?),
        "day" => days(size, 0),
        "hour" => milliseconds(3_600_000 * size),
        "minute" => milliseconds(60_000 * size),
        "second" => milliseconds(1_000 * size),
        "millisecond" => milliseconds(size),
        _ => {
            let message = format!("unknown time unit value: {unit}");
            return Err(CommandError::failed_to_parse(message));
        }
    })
}

const DAY_MS: i64 = 86_400_000;

/// The first of January 2000, a Saturday.
fn epoch() -> Bson {
    Bson::DateTime(bson::DateTime::from_millis(946_684_800_000))
}

/// The first such day of 2000, counted from the first of January.
fn first_day(name: &str) -> Result<i64, CommandError> {
    let days = [
        "saturday",
        "sunday",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
    ];
    let name = name.to_lowercase();
    let position = days
        .iter()
        .position(|day| *day == name || day[..3] == name)
        .and_then(|position| i64::try_from(position).ok());
    position
        .ok_or_else(|| CommandError::failed_to_parse(format!("unknown day of week value: {name}")))
}

/// Returns a filter, a projection or an update as it has to run.
pub(crate) fn rewritten_fields(document: &RawDocument) -> Result<Document, CommandError> {
    let document = Document::try_from(document)?;
    match rewritten(&Bson::Document(document))? {
        Bson::Document(document) => Ok(document),
        other => Ok(doc! { "$expr": other }),
    }
}
