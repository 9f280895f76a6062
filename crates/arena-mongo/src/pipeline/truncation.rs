//! `$dateTrunc`: the engine is a day off in leap years, a month off before 2000, and
//! knows no timezones. Where a bin begins is computed from the parts of a date.

use bson::{Bson, Document, bson};

use super::operands::constant;
use super::raising::raise;
use crate::error::CommandError;

const DAY_MS: i64 = 86_400_000;
/// MongoDB's greatest bin of weeks and more.
const LARGEST: i64 = 100_000_000_000;
const UNITS: [&str; 9] = [
    "year",
    "quarter",
    "month",
    "week",
    "day",
    "hour",
    "minute",
    "second",
    "millisecond",
];
/// The days of the week from the first of January 2000 on.
const DAYS: [&str; 7] = [
    "saturday",
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
];
const DATE: &str = "$$arenaDate";
const UNIT: &str = "$$arenaUnit";
const SIZE: &str = "$$arenaSize";
const WEEK: &str = "$$arenaWeek";
const ZONE: &str = "$$arenaZone";

/// Options that are constant, and `None` for one that is computed.
struct Options {
    unit: Option<&'static str>,
    size: Option<i64>,
    /// Days from the first of January 2000 to the first such day.
    first: Option<i64>,
}

/// Returns what computes a `$dateTrunc`.
pub(super) fn truncated(arguments: &Bson) -> Result<Bson, CommandError> {
    let Bson::Document(written) = arguments else {
        return Err(CommandError::located(
            5_439_007,
            "$dateTrunc only supports an object as its argument",
        ));
    };
    check_names(written)?;
    let one = Bson::Int32(1);
    let sunday = Bson::String("sunday".to_owned());
    let size = written.get("binSize").unwrap_or(&one);
    let week = written.get("startOfWeek").unwrap_or(&sunday);
    let unit = &written["unit"];
    if [unit, size]
        .iter()
        .any(|option| constant(option) == Some(&Bson::Null))
    {
        return Ok(Bson::Null);
    }
    let unit_name = constant(unit).map(known_unit).transpose()?;
    let is_week = unit_name.is_none_or(|unit| unit == "week");
    if is_week && unit_name.is_some() && constant(week) == Some(&Bson::Null) {
        return Ok(Bson::Null);
    }
    let first = constant(week).filter(|day| is_week && **day != Bson::Null);
    let options = Options {
        unit: unit_name,
        size: constant(size).map(known_size).transpose()?,
        first: first.map(first_day).transpose()?,
    };
    let body = options.body()?;
    let zone = written.get("timezone").cloned();
    let zone = zone.unwrap_or_else(|| Bson::String("UTC".to_owned()));
    Ok(bson!({ "$let": {
        "vars": {
            "arenaDate": written["date"].clone(), "arenaZone": zone, "arenaUnit": unit.clone(),
            "arenaSize": size.clone(), "arenaWeek": week.clone(),
        },
        "in": body,
    } }))
}

fn check_names(written: &Document) -> Result<(), CommandError> {
    let is_known = |name: &str| {
        matches!(
            name,
            "date" | "unit" | "binSize" | "timezone" | "startOfWeek"
        )
    };
    if let Some(name) = written.keys().find(|name| !is_known(name)) {
        let message = format!("Unrecognized argument to $dateTrunc: {name}");
        return Err(CommandError::located(5_439_008, message));
    }
    if !written.contains_key("date") {
        return Err(CommandError::located(
            5_439_009,
            "Missing 'date' parameter to $dateTrunc",
        ));
    }
    if !written.contains_key("unit") {
        return Err(CommandError::located(
            5_439_010,
            "Missing 'unit' parameter to $dateTrunc",
        ));
    }
    Ok(())
}

fn known_unit(unit: &Bson) -> Result<&'static str, CommandError> {
    let Bson::String(unit) = unit else {
        let message = format!("{NO_UNIT}{unit}");
        return Err(CommandError::located(5_439_013, message));
    };
    let known = UNITS.iter().find(|known| *known == unit);
    known
        .copied()
        .ok_or_else(|| CommandError::located(5_439_014, format!("{UNKNOWN_UNIT}{unit}")))
}

const NO_UNIT: &str = "$dateTrunc requires 'unit' to be a string, but got ";
const UNKNOWN_UNIT: &str =
    "$dateTrunc parameter 'unit' value cannot be recognized as a time unit: ";
const NO_DAY: &str = "$dateTrunc requires 'startOfWeek' to be a string, but got ";
const UNKNOWN_DAY: &str =
    "$dateTrunc parameter 'startOfWeek' value cannot be recognized as a day of a week: ";
const NO_SIZE: &str = "$dateTrunc requires 'binSize' to be a 64-bit integer, but got value ";
const SMALL_SIZE: &str =
    "$dateTrunc requires 'binSize' to be greater than 0, but got value of type ";
const NO_DATE: &str = "$dateTrunc requires 'date' to be a date, but got ";
const NO_ZONE: &str = "timezone must evaluate to a string, found ";

fn known_size(size: &Bson) -> Result<i64, CommandError> {
    let whole = match size {
        Bson::Int32(size) => Some(i64::from(*size)),
        Bson::Int64(size) => Some(*size),
        Bson::Double(size) if size.fract() == 0.0 => format!("{size:.0}").parse().ok(),
        Bson::Decimal128(size) => size.to_string().parse::<i64>().ok(),
        _ => None,
    };
    match whole {
        Some(size) if size < 1 => Err(CommandError::located(
            5_439_018,
            format!("{SMALL_SIZE}long"),
        )),
        Some(size) => Ok(size),
        None => Err(CommandError::located(5_439_017, format!("{NO_SIZE}{size}"))),
    }
}

/// The first such day of 2000, counted from the first of January.
fn first_day(name: &Bson) -> Result<i64, CommandError> {
    let Bson::String(name) = name else {
        return Err(CommandError::located(5_439_015, format!("{NO_DAY}{name}")));
    };
    let wanted = name.to_lowercase();
    let position = DAYS
        .iter()
        .position(|day| *day == wanted || day[..3] == wanted)
        .and_then(|position| i64::try_from(position).ok());
    position.ok_or_else(|| CommandError::located(5_439_016, format!("{UNKNOWN_DAY}{name}")))
}

impl Options {
    /// What runs with the options as variables.
    fn body(&self) -> Result<Bson, CommandError> {
        let of_type = |value: &str, types: &[&str]| bson!({ "$in": [{ "$type": value }, types] });
        let other_than = |value: &str, types: &[&str]| bson!({ "$not": [of_type(value, types)] });
        let found = |value: &str| bson!({ "$type": value });
        let mut branches = Vec::new();
        let mut ends = |condition: Bson, then: Bson| {
            branches.push(bson!({ "case": condition, "then": then }));
        };
        for value in [DATE, UNIT, SIZE, ZONE] {
            ends(
                of_type(value, &["null", "missing", "undefined"]),
                Bson::Null,
            );
        }
        if self.unit.is_none() {
            let said = raise(5_439_013, NO_UNIT, found(UNIT));
            ends(other_than(UNIT, &["string"]), said);
            let said = raise(5_439_014, UNKNOWN_UNIT, bson!(UNIT));
            ends(bson!({ "$not": [{ "$in": [UNIT, UNITS] }] }), said);
        }
        if self.size.is_none() {
            let number = bson!({ "$and": [
                { "$isNumber": SIZE }, { "$lt": [{ "$abs": SIZE }, 9.2e18] }, { "$eq": [SIZE, { "$trunc": SIZE }] },
            ] });
            let is_none = bson!({ "$not": [{ "$cond": [{ "$isNumber": SIZE }, number, false] }] });
            ends(is_none, raise(5_439_017, NO_SIZE, found(SIZE)));
            let said = raise(5_439_018, SMALL_SIZE, found(SIZE));
            ends(bson!({ "$lt": [SIZE, 1] }), said);
        }
        if self.first.is_none() && self.unit.is_none_or(|unit| unit == "week") {
            let in_weeks =
                |condition: Bson| bson!({ "$and": [{ "$eq": [UNIT, "week"] }, condition] });
            let nothing = of_type(WEEK, &["null", "missing", "undefined"]);
            ends(in_weeks(nothing), Bson::Null);
            let said = raise(5_439_015, NO_DAY, found(WEEK));
            ends(in_weeks(other_than(WEEK, &["string"])), said);
            let names: Vec<&str> = DAYS.iter().flat_map(|day| [*day, &day[..3]]).collect();
            let unknown = bson!({ "$not": [{ "$in": [{ "$toLower": WEEK }, names] }] });
            let said = raise(5_439_016, UNKNOWN_DAY, bson!(WEEK));
            ends(in_weeks(unknown), said);
        }
        ends(
            other_than(ZONE, &["string"]),
            raise(40517, NO_ZONE, found(ZONE)),
        );
        let said = raise(5_166_307, NO_DATE, found(DATE));
        ends(other_than(DATE, &["date", "timestamp", "objectId"]), said);
        let begins = match self.unit {
            Some(unit) => self.beginning(unit)?,
            None => {
                for unit in UNITS {
                    let begin = self.beginning(unit)?;
                    branches.push(bson!({ "case": { "$eq": [UNIT, unit] }, "then": begin }));
                }
                Bson::Null
            }
        };
        Ok(bson!({ "$switch": { "branches": branches, "default": begins } }))
    }

    /// Where the bin of a date begins in its zone. Bins are counted from the first of January 2000.
    fn beginning(&self, unit: &str) -> Result<Bson, CommandError> {
        match unit {
            "year" => Ok(months(self.bins(12, Some(LARGEST))?)),
            "quarter" => Ok(months(self.bins(3, Some(LARGEST))?)),
            "month" => Ok(months(self.bins(1, Some(LARGEST))?)),
            "week" => {
                let size = self.bins(7, Some(LARGEST))?;
                let short = bson!({ "$substrCP": [{ "$toLower": WEEK }, 0, 3] });
                let shorts: Vec<&str> = DAYS.iter().map(|day| &day[..3]).collect();
                let found = || bson!({ "$indexOfArray": [shorts, short] });
                Ok(days(size, self.first.map_or_else(found, Bson::Int64)))
            }
            "day" => Ok(days(self.bins(1, Some(i64::MAX / DAY_MS))?, Bson::Int64(0))),
            "hour" => Ok(milliseconds(self.bins(3_600_000, None)?)),
            "minute" => Ok(milliseconds(self.bins(60_000, None)?)),
            "second" => Ok(milliseconds(self.bins(1_000, None)?)),
            _ => Ok(milliseconds(self.bins(1, None)?)),
        }
    }

    /// The size of a bin in parts of its unit.
    fn bins(&self, parts: i64, largest: Option<i64>) -> Result<Bson, CommandError> {
        let (code, largest) = match largest {
            Some(LARGEST) => (5_439_006, LARGEST),
            other => (5_439_002, other.unwrap_or(i64::MAX / parts)),
        };
        let message = "$dateTrunc: the bin is too large, 'binSize' is a ";
        match self.size {
            Some(size) if size > largest => {
                Err(CommandError::located(code, format!("{message}long")))
            }
            Some(size) => Ok(Bson::Int64(size * parts)),
            None => {
                let too_large = raise(code, message, bson!({ "$type": SIZE }));
                let size = bson!({ "$multiply": [{ "$toLong": SIZE }, parts] });
                Ok(bson!({ "$cond": [{ "$gt": [SIZE, largest] }, too_large, size] }))
            }
        }
    }
}

fn part(name: &str) -> Bson {
    bson!({ name: { "date": DATE, "timezone": ZONE } })
}

fn local(year: Bson, month: Bson, day: Bson) -> Bson {
    bson!({ "$dateFromParts": { "year": year, "month": month, "day": day, "timezone": ZONE } })
}

/// Down to a multiple, also below zero, where `$mod` has the number's sign.
fn floored(number: Bson, size: &Bson) -> Bson {
    bson!({ "$subtract": [number.clone(), { "$mod": [
        { "$add": [{ "$mod": [number, size.clone()] }, size.clone()] }, size.clone(),
    ] }] })
}

fn months(size: Bson) -> Bson {
    let counted = bson!({ "$add": [{ "$multiply": [{ "$subtract": [part("$year"), 2000] }, 12] }, { "$subtract": [part("$month"), 1] }] });
    let begin = floored(counted, &size);
    let year = bson!({ "$add": [2000, { "$floor": { "$divide": [begin.clone(), 12] } }] });
    let month = bson!({ "$add": [1, { "$mod": [{ "$add": [{ "$mod": [begin, 12] }, 12] }, 12] }] });
    local(
        bson!({ "$toInt": year }),
        bson!({ "$toInt": month }),
        Bson::Int32(1),
    )
}

fn days(size: Bson, first: Bson) -> Bson {
    // Days since the first of January 2000, in the zone.
    let today = bson!({ "$dateFromParts": { "year": part("$year"), "month": part("$month"), "day": part("$dayOfMonth") } });
    let counted = bson!({ "$toLong": { "$divide": [{ "$subtract": [today, epoch()] }, DAY_MS] } });
    let since = bson!({ "$subtract": [counted, first.clone()] });
    let begin = bson!({ "$add": [floored(since, &size), first] });
    let day = bson!({ "$add": [epoch(), { "$multiply": [begin, DAY_MS] }] });
    let of = |name: &str| bson!({ name: day.clone() });
    local(of("$year"), of("$month"), of("$dayOfMonth"))
}

fn milliseconds(length: Bson) -> Bson {
    let since =
        bson!({ "$subtract": [DATE, { "$dateFromParts": { "year": 2000, "timezone": ZONE } }] });
    let rest = bson!({ "$mod": [
        { "$add": [{ "$mod": [since, length.clone()] }, length.clone()] }, length,
    ] });
    bson!({ "$subtract": [DATE, rest] })
}

/// The first of January 2000, a Saturday.
fn epoch() -> Bson {
    Bson::DateTime(bson::DateTime::from_millis(946_684_800_000))
}
