//! Accumulators of groups, buckets and windows: the engine runs them beside helpers,
//! and corrections after the stage make MongoDB's values of theirs.

use bson::{Bson, Document, bson};

use super::counted::{computed_count, counted};
use super::expressions::{only, rewritten_accumulator};
use super::numbers::percentiles;
use super::{sets, sums};
use crate::commands::whole;
use crate::error::CommandError;

/// How fields begin that a client never sees.
pub(super) const HELPER: &str = "arenaHelper";

/// Accumulators that order what they see.
pub(super) const ORDERED: [&str; 4] = ["$top", "$topN", "$bottom", "$bottomN"];

/// Accumulators as the engine has to run them, and what makes MongoDB's values of its values.
#[derive(Default)]
pub(super) struct Accumulators {
    pub(super) fields: Document,
    helpers: Vec<String>,
    corrections: Document,
}

impl Accumulators {
    pub(super) fn of(fields: &Document) -> Result<Self, CommandError> {
        let mut accumulators = Self::default();
        for (name, value) in fields {
            check(value)?;
            let value = rewritten_accumulator(value)?;
            accumulators.add(name, value);
        }
        Ok(accumulators)
    }

    /// Returns the stages that follow.
    pub(super) fn after(self) -> Vec<Bson> {
        let mut stages = Vec::new();
        if !self.corrections.is_empty() {
            stages.push(bson!({ "$set": self.corrections }));
        }
        if !self.helpers.is_empty() {
            stages.push(bson!({ "$unset": self.helpers }));
        }
        stages
    }

    fn add(&mut self, name: &str, accumulator: Bson) {
        let Bson::Document(fields) = &accumulator else {
            self.fields.insert(name, accumulator);
            return;
        };
        let window = fields.get("window").cloned();
        let operator = fields.iter().find(|(name, _)| *name != "window");
        match operator.map(|(operator, operand)| (operator.as_str(), operand)) {
            Some(("$avg", operand)) if may_be_decimal(operand) => {
                self.average(name, operand, window.as_ref());
            }
            Some(("$sum", number @ Bson::Double(_))) => {
                let number = bson!({ "$literal": number.clone() });
                self.sum(name, &number, window.as_ref());
            }
            Some(("$sum", operand)) if sums::may_be_double(operand) => {
                self.sum(name, operand, window.as_ref());
            }
            // The engine counts instead of adding what is about one.
            Some(("$sum", number @ (Bson::Int64(_) | Bson::Decimal128(_)))) => {
                let sum = bson!({ "$sum": { "$literal": number.clone() } });
                self.fields.insert(name, windowed(sum, window.as_ref()));
            }
            Some(("$addToSet", operand)) if may_be_missing(operand) => {
                self.set(name, operand, window.as_ref());
            }
            Some((operator, operand)) if matches!(operator, "$concatArrays" | "$setUnion") => {
                let pushed = bson!({ "$push": sets::listed(operator, operand) });
                self.fields.insert(name, windowed(pushed, window.as_ref()));
                self.corrections
                    .insert(name, sets::joined(operator, &format!("${name}")));
            }
            Some((operator @ ("$median" | "$percentile"), Bson::Document(options))) => {
                self.percentile(name, operator, options, window.as_ref());
            }
            Some((operator, operand)) if let Some(counted) = counted(name, operator, operand) => {
                self.fields.insert(name, counted.accumulator);
                self.corrections.insert(name, counted.taken);
            }
            Some(("$bottomN", Bson::Document(options))) => {
                self.bottom(name, options, window.as_ref());
            }
            Some(("$mergeObjects", operand)) if window.is_none() => {
                let merged = bson!({ "$mergeObjects": names_without_points(operand) });
                self.fields.insert(name, merged);
                self.corrections
                    .insert(name, names_with_points(&format!("${name}")));
            }
            _ => {
                self.fields.insert(name, accumulator);
            }
        }
    }

    /// `$sum`: the engine rounds at every step, and takes 15 digits of a double beside a decimal.
    fn sum(&mut self, name: &str, operand: &Bson, window: Option<&Bson>) {
        let [decimals, parts, beyond_long] = self.added(name, operand, window);
        let branches = [decimals, beyond_long, parts];
        let branches = branches.map(|(case, sum)| bson!({ "case": case, "then": sum }));
        let sum = format!("${name}");
        self.corrections.insert(
            name,
            bson!({ "$switch": { "branches": Bson::Array(branches.into()), "default": sum } }),
        );
    }

    /// Adds a sum and its parts; returns MongoDB's sums of decimals, of doubles, and of whole numbers that are no long
    /// on the way, and when there are such.
    fn added(&mut self, name: &str, operand: &Bson, window: Option<&Bson>) -> [(Bson, Bson); 3] {
        let added = bson!({ "$sum": operand.clone() });
        self.fields.insert(name, windowed(added, window));
        let own = self.fields.len();
        let mut number = 0;
        let parts = sums::parts(operand).map(|part| {
            let name = format!("{HELPER}Part{own}x{number}");
            number += 1;
            let sum = Bson::String(format!("${name}"));
            self.helper(name, bson!({ "$sum": part }), window);
            sum
        });
        let decimals = format!("{HELPER}Decimals{own}");
        let of_decimals = sums::with_decimals(bson!(format!("${decimals}")), parts.clone());
        self.helper(decimals, bson!({ "$sum": sums::decimals(operand) }), window);
        let sum = format!("${name}");
        [
            (sums::is_decimal(&sum), of_decimals),
            (sums::is_of_parts(&sum), sums::total(parts.clone())),
            sums::beyond_long(&sum, parts),
        ]
    }

    /// `$avg`: the engine gives a double for decimals.
    fn average(&mut self, name: &str, operand: &Bson, window: Option<&Bson>) {
        let count = format!("{HELPER}Count{}", self.fields.len());
        let divisor = format!("${count}");
        let is_number = bson!({ "$cond": [{ "$isNumber": operand.clone() }, 1, 0] });
        let mut branches = vec![bson!({ "case": { "$eq": [&divisor, 0] }, "then": Bson::Null })];
        for (case, sum) in self.added(name, operand, window) {
            branches.push(bson!({ "case": case, "then": { "$divide": [sum, &divisor] } }));
        }
        let mean = bson!({ "$divide": [format!("${name}"), &divisor] });
        self.corrections.insert(
            name,
            bson!({ "$switch": { "branches": branches, "default": mean } }),
        );
        self.helper(count, bson!({ "$sum": is_number }), window);
    }

    fn helper(&mut self, name: String, accumulator: Bson, window: Option<&Bson>) {
        self.fields
            .insert(name.clone(), windowed(accumulator, window));
        self.helpers.push(name);
    }

    /// `$median` and `$percentile`: the engine computes a value between two, MongoDB gives one of them.
    fn percentile(
        &mut self,
        name: &str,
        operator: &str,
        options: &Document,
        window: Option<&Bson>,
    ) {
        let mut of_values = options.clone();
        let input = of_values.insert("input", format!("${name}"));
        let (Some(input), Some(value)) = (input, percentiles(operator, &of_values)) else {
            let as_it_is = bson!({ operator: options.clone() });
            self.fields.insert(name, windowed(as_it_is, window));
            return;
        };
        let number = bson!({ "$cond": [{ "$isNumber": input.clone() }, input, null] });
        self.fields
            .insert(name, windowed(bson!({ "$push": number }), window));
        self.corrections.insert(name, value);
    }

    /// `$bottomN`: the engine gives those with one key from the last to the first.
    fn bottom(&mut self, name: &str, options: &Document, window: Option<&Bson>) {
        let keyed = with_keys(options);
        if keyed.is_some() {
            self.corrections.insert(name, turned(&format!("${name}")));
        }
        let options = keyed.unwrap_or_else(|| options.clone());
        let bottom = bson!({ "$bottomN": options });
        self.fields.insert(name, windowed(bottom, window));
    }

    /// `$addToSet`: the engine adds null for what is missing.
    fn set(&mut self, name: &str, operand: &Bson, window: Option<&Bson>) {
        let nothing = Bson::String(format!("{HELPER}\u{1}nothing"));
        let value = bson!({ "$cond": [{ "$eq": [{ "$type": operand.clone() }, "missing"] }, nothing.clone(), operand.clone()] });
        let set = windowed(bson!({ "$addToSet": value }), window);
        self.fields.insert(name, set);
        let found = bson!({ "$filter": { "input": format!("${name}"), "as": "arenaItem", "cond": { "$ne": ["$$arenaItem", nothing] } } });
        self.corrections.insert(name, sets::without_alike(found));
    }
}

/// Values so many of which are ordered again.
const ORDERED_AGAIN_MAX: i64 = 1_000;

/// Options whose values have their keys beside them, if they are ordered by fields alone.
fn with_keys(options: &Document) -> Option<Document> {
    let keys = options.get_document("sortBy").ok()?;
    let count = options.get("n").and_then(whole)?;
    if !(1..=ORDERED_AGAIN_MAX).contains(&count) {
        return None;
    }
    let key = |(path, order): (&String, &Bson)| {
        whole(order).map(|_| bson!({ "$ifNull": [format!("${path}"), null] }))
    };
    let keys = keys.iter().map(key).collect::<Option<Vec<Bson>>>()?;
    let mut keyed = options.clone();
    let value = keyed.get("output")?.clone();
    keyed.insert("output", bson!({ "k": keys, "v": value }));
    Some(keyed)
}

/// The values of pairs of a key and a value, those of one key the other way round.
fn turned(pairs: &str) -> Bson {
    let is_same = bson!({ "$eq": ["$$this.k", "$$value.k"] });
    let value = bson!(["$$this.v"]);
    let more = bson!({
        "k": "$$value.k",
        "same": { "$concatArrays": [value.clone(), "$$value.same"] },
        "others": "$$value.others",
    });
    let next = bson!({
        "k": "$$this.k",
        "same": value,
        "others": { "$concatArrays": ["$$value.others", "$$value.same"] },
    });
    let all = bson!({ "$reduce": {
        "input": pairs,
        "initialValue": { "k": Bson::Null, "same": [], "others": [] },
        "in": { "$cond": [is_same, more, next] },
    } });
    bson!({ "$let": {
        "vars": { "arenaTurned": all },
        "in": { "$concatArrays": ["$$arenaTurned.others", "$$arenaTurned.same"] },
    } })
}

/// Stands for a point in the name of a field.
const POINT: &str = "\u{1}point";

/// An object to merge: the engine takes a name with a point in it for a path.
fn names_without_points(operand: &Bson) -> Bson {
    bson!({ "$let": {
        "vars": { "arenaMerged": operand.clone() },
        "in": renamed("$$arenaMerged", ".", POINT),
    } })
}

fn names_with_points(merged: &str) -> Bson {
    renamed(merged, POINT, ".")
}

/// An object with other names, if any name holds what is looked for; what is no object stays.
fn renamed(object: &str, found: &str, replacement: &str) -> Bson {
    let fields = bson!({ "$objectToArray": object });
    let holds = bson!({ "$gte": [{ "$indexOfBytes": ["$$this.k", found] }, 0] });
    let holds =
        bson!({ "$anyElementTrue": [{ "$map": { "input": fields.clone(), "in": holds } }] });
    let name = bson!({ "$replaceAll": { "input": "$$this.k", "find": found, "replacement": replacement } });
    let named = bson!({ "$arrayToObject": { "$map": { "input": fields, "in": { "k": name, "v": "$$this.v" } } } });
    bson!({ "$switch": {
        "branches": [
            { "case": { "$ne": [{ "$type": object }, "object"] }, "then": object },
            { "case": holds, "then": named },
        ],
        "default": object,
    } })
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

pub(super) fn may_be_missing(operand: &Bson) -> bool {
    match operand {
        Bson::String(text) => text.starts_with('$') && text != "$$ROOT",
        Bson::Document(expression) => has_operator(expression),
        _ => false,
    }
}

pub(super) fn has_operator(fields: &Document) -> bool {
    fields.keys().any(|name| name.starts_with('$'))
}

/// What the engine takes in an accumulator and MongoDB does not, or understands otherwise.
fn check(accumulator: &Bson) -> Result<(), CommandError> {
    let operators = accumulator.as_document().into_iter().flatten();
    for (name, operand) in operators.filter(|(name, _)| name.starts_with('$')) {
        if let Bson::Array(_) = operand
            && matches!(name.as_str(), "$concatArrays" | "$setUnion")
        {
            let message = format!("The {name} accumulator is a unary operator");
            return Err(CommandError::new(40237, "Location40237", message));
        }
        let Bson::Document(options) = operand else {
            continue;
        };
        let is_over_window = accumulator
            .as_document()
            .is_some_and(|one| one.contains_key("window"));
        if is_over_window && computed_count(name, operand).is_some() {
            return Err(CommandError::not_supported(format_args!(
                "{name} of a computed number of values of a window"
            )));
        }
        match options.get("sortBy") {
            Some(Bson::Document(keys)) if ORDERED.contains(&name.as_str()) => check_order(keys)?,
            _ => {}
        }
        if matches!(name.as_str(), "$median" | "$percentile") {
            check_percentile(name, options)?;
        }
    }
    Ok(())
}

/// Whether an expression reads a field; at MongoDB one of the group's key.
fn reads_fields(value: &Bson) -> bool {
    match value {
        Bson::String(text) => text.starts_with('$') && !text.starts_with("$$"),
        Bson::Array(values) => values.iter().any(reads_fields),
        Bson::Document(fields) => fields
            .iter()
            .any(|(name, value)| name != "$literal" && reads_fields(value)),
        _ => false,
    }
}

fn check_order(keys: &Document) -> Result<(), CommandError> {
    for (path, order) in keys {
        let direction = match order {
            Bson::Int32(direction) => f64::from(*direction),
            Bson::Double(direction) => *direction,
            Bson::Int64(1 | -1) => 1.0,
            Bson::Int64(_) => 0.0,
            Bson::Document(_) | Bson::Decimal128(_) => continue,
            _ => {
                let message = format!("Illegal key in $sort specification: {path}: {order}");
                return Err(CommandError::new(15974, "Location15974", message));
            }
        };
        if direction.abs() != 1.0 {
            let message = "$sort key ordering must be 1 (for ascending) or -1 (for descending)";
            return Err(CommandError::new(15975, "Location15975", message));
        }
    }
    Ok(())
}

/// `$median` and `$percentile`: the engine ignores fields that they do not have, and takes what is no number
/// from 0 to 1.
pub(super) fn check_percentile(name: &str, options: &Document) -> Result<(), CommandError> {
    let is_known = |field: &str| {
        matches!(field, "input" | "method") || (field == "p" && name == "$percentile")
    };
    if let Some(field) = options.keys().find(|field| !is_known(field)) {
        let message = format!("BSON field '{name}.{field}' is an unknown field.");
        return Err(CommandError::new(40415, "Location40415", message));
    }
    let wanted = match options.get("p") {
        Some(Bson::Array(wanted)) => wanted,
        Some(Bson::Document(_)) => return Err(computed(name)),
        Some(Bson::String(text)) if text.starts_with("$$") => return Err(computed(name)),
        _ => return Ok(()),
    };
    for fraction in wanted {
        match fraction {
            Bson::Double(number) if number.is_nan() => {
                let message = format!(
                    "The {name} 'p' field must be an array of numbers from [0.0, 1.0], but found: nan"
                );
                return Err(CommandError::new(7_750_303, "Location7750303", message));
            }
            other if reads_fields(other) => {
                let message = format!("The {name} 'p' field must be an array of constant values");
                return Err(CommandError::new(7_750_300, "Location7750300", message));
            }
            Bson::Document(_) => return Err(computed(name)),
            Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => {}
            other => {
                let message = format!(
                    "The {name} 'p' field must be an array of numbers from [0.0, 1.0], but found: {other}"
                );
                return Err(CommandError::new(7_750_302, "Location7750302", message));
            }
        }
    }
    Ok(())
}

/// What the engine would compute between two values.
fn computed(name: &str) -> CommandError {
    CommandError::not_supported(format_args!("{name} of computed percentiles"))
}
