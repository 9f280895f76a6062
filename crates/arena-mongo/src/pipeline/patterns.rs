//! `$regexFind`, `$regexFindAll` and `$regexMatch`: options that are null, references
//! from one group to another, and matches of no width.

use bson::{Bson, Document, bson};

use super::operands::constant;
use super::raising::raise;
use super::references::has_reference;
use crate::error::CommandError;

/// What [`rewritten`] writes otherwise.
pub(super) const REWRITTEN: [&str; 3] = ["$regexFind", "$regexFindAll", "$regexMatch"];
/// Returns what computes such an operator.
pub(super) fn rewritten(name: &str, operands: &Bson) -> Result<Bson, CommandError> {
    let Bson::Document(arguments) = operands else {
        return Ok(bson!({ name: operands.clone() }));
    };
    let options = arguments.get("options");
    let without = || {
        let mut arguments = arguments.clone();
        arguments.remove("options");
        found(name, &arguments)
    };
    let regex = arguments.get("regex");
    match options.map(|options| (options, constant(options))) {
        Some((_, Some(Bson::Null))) => Ok(without()),
        Some((options, Some(other))) => {
            if regex.and_then(constant) == Some(&Bson::Null) && !matches!(other, Bson::String(_)) {
                let message =
                    format!("{name} needs 'options' to be of type string, found {options}");
                return Err(CommandError::new(51106, "Location51106", message));
            }
            Ok(found(name, arguments))
        }
        Some((options, None)) => Ok(with_options(name, arguments, options)),
        None => Ok(found(name, arguments)),
    }
}

/// Options that only a document tells.
fn with_options(name: &str, arguments: &Document, options: &Bson) -> Bson {
    let regex = arguments.get("regex").cloned().unwrap_or(Bson::Null);
    let mut arguments = arguments.clone();
    arguments.insert("regex", "$$arenaRegex");
    arguments.insert("options", "$$arenaOptions");
    let with = found(name, &arguments);
    arguments.remove("options");
    let without = found(name, &arguments);
    let nothing =
        |value: &str| bson!({ "$in": [{ "$type": value }, ["null", "missing", "undefined"]] });
    let found = bson!({ "$type": "$$arenaOptions" });
    let said = format!("{name} needs 'options' to be of type string, found ");
    let checked = bson!({ "$cond": [
        { "$eq": [found.clone(), "string"] }, without.clone(), raise(51106, &said, found),
    ] });
    let chosen = bson!({ "$switch": {
        "branches": [
            { "case": nothing("$$arenaOptions"), "then": without },
            { "case": nothing("$$arenaRegex"), "then": checked },
        ],
        "default": with,
    } });
    bson!({ "$let": {
        "vars": { "arenaRegex": regex, "arenaOptions": options.clone() }, "in": chosen,
    } })
}

fn found(name: &str, arguments: &Document) -> Bson {
    let regex = arguments.get("regex").map(constant);
    let pattern = match regex {
        Some(Some(Bson::String(pattern))) => Some(pattern.as_str()),
        Some(Some(Bson::RegularExpression(regex))) => Some(regex.pattern.as_str()),
        Some(Some(_)) | None => return bson!({ name: arguments.clone() }),
        Some(None) => None,
    };
    match name {
        // Where only a yes or a no is wanted the engine counts no groups.
        "$regexMatch" if pattern.is_none_or(has_reference) => {
            bson!({ "$ne": [{ "$regexFind": arguments.clone() }, Bson::Null] })
        }
        "$regexFindAll" if pattern.is_none_or(may_be_empty) => {
            without_empty(arguments, pattern.is_none_or(is_anywhere))
        }
        _ => bson!({ name: arguments.clone() }),
    }
}

/// Whether a match may have no width: not where the pattern is plain letters, or a class of them.
fn may_be_empty(pattern: &str) -> bool {
    pattern.is_empty() || pattern.contains(['*', '?', '{', '|', '^', '$', '\\', '('])
}

/// Whether such a match may be further on than where it is looked for: where what is around it matters.
fn is_anywhere(pattern: &str) -> bool {
    let plain = pattern.replace("[^", "[").replace("(?:", "(");
    let mut letters = plain.chars();
    while let Some(letter) = letters.next() {
        let is_around = match letter {
            '\\' => letters.next().is_none_or(|next| "AbBEGKQzZ".contains(next)),
            '(' => letters.as_str().starts_with(['?', '*']),
            _ => matches!(letter, '^' | '$'),
        };
        if is_around {
            return true;
        }
    }
    false
}

/// The engine tells a match of no width where it began to look for it, and looks on from the next byte.
fn without_empty(arguments: &Document, is_anywhere: bool) -> Bson {
    let mut options = arguments.clone();
    if let Some(input) = arguments.get("input") {
        options.insert("input", "$$arenaInput");
        let all = bson!({ "$regexFindAll": options });
        let said = "matches of no width in $regexFindAll are not supported by the built-in database (DocumentDB): ";
        let is_empty = bson!({ "$in": ["", "$$arenaMatches.match"] });
        let is_wrong = if is_anywhere {
            is_empty
        } else {
            let letters = bson!({ "$strLenCP": "$$arenaInput" });
            bson!({ "$and": [is_empty, { "$ne": [{ "$strLenBytes": "$$arenaInput" }, letters] }] })
        };
        let refused = raise(115, said, bson!("$$arenaInput"));
        return bson!({ "$let": { "vars": { "arenaInput": input.clone() }, "in": { "$let": {
            "vars": { "arenaMatches": all },
            "in": { "$cond": [is_wrong, refused, "$$arenaMatches"] },
        } } } });
    }
    bson!({ "$regexFindAll": options })
}
