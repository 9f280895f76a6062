//! The projections of a find: what the engine takes otherwise, and what may be
//! asked of a collection and not of a view, which MongoDB reads by an aggregation.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, bson, doc};

use super::{Answer, Call, field_of, is_number, raw, reading};
use crate::error::CommandError;

/// A view knows no projections that only a find has.
pub(super) async fn check_view(call: &Call<'_>, spec: &RawDocument) -> Result<(), CommandError> {
    let Some(RawBsonRef::Document(projection)) = field_of(spec, "projection")? else {
        return Ok(());
    };
    for element in projection {
        let (path, value) = element?;
        let inner = value.as_document();
        let has = |name: &str| inner.map_or(Ok(None), |inner| inner.get(name));
        let is_element = has("$elemMatch")?.is_some();
        let slice = has("$slice")?.filter(|slice| match slice {
            RawBsonRef::Array(numbers) => {
                matches!(numbers.get(0), Ok(Some(first)) if is_number(first))
            }
            slice => is_number(*slice),
        });
        if !is_element && slice.is_none() && !path.as_str().ends_with(".$") {
            continue;
        }
        let filter = doc! { "name": call.collection()?, "type": "view" };
        if reading::collections(call, filter).await?.is_empty() {
            return Ok(());
        }
        return Err(if is_element {
            let message = "Invalid $project :: caused by :: Unknown expression $elemMatch";
            CommandError::new(168, "InvalidPipelineOperator", message)
        } else if let Some(slice) = slice {
            sliced(slice)?
        } else {
            let message = "Cannot use positional projection in aggregation projection";
            CommandError::new(31324, "Location31324", message)
        });
    }
    Ok(())
}

/// What is wrong with a `$slice` of a find where it is read as the expression of that name.
fn sliced(slice: RawBsonRef<'_>) -> Result<CommandError, CommandError> {
    let RawBsonRef::Array(numbers) = slice else {
        let message = "Invalid $project :: caused by :: Expression $slice takes at least 2 arguments, and at most 3, but 1 were passed in.";
        return Ok(CommandError::new(28667, "Location28667", message));
    };
    let first = numbers.get(0)?.unwrap_or(RawBsonRef::Null);
    let kind = super::validation::type_name(&Bson::try_from(first)?);
    let message = format!("First argument to $slice must be an array, but is of type: {kind}");
    Ok(CommandError::new(28724, "Location28724", message))
}

/// Returns a find whose projection the engine reads as MongoDB does.
pub(super) fn as_read(spec: RawDocumentBuf) -> Answer {
    let Some(RawBsonRef::Document(projection)) = field_of(&spec, "projection")? else {
        return Ok(spec);
    };
    let Some(changed) = read(&Document::try_from(projection)?)? else {
        return Ok(spec);
    };
    let mut whole = Document::try_from(spec)?;
    whole.insert("projection", changed);
    Ok(raw(&whole))
}

/// Returns the projection of a find or a findAndModify as the engine has to read it, if that is another one.
pub(super) fn read(projection: &Document) -> Result<Option<Document>, CommandError> {
    check(projection)?;
    let mut changed = projection.clone();
    for (_, value) in changed.iter_mut() {
        if let Some(read) = with_slice(value) {
            *value = read;
        }
    }
    if is_inclusion_unseen(&changed) {
        changed.insert(NOTHING, 1);
    }
    Ok((changed != *projection).then_some(changed))
}

/// A field that no document has.
const NOTHING: &str = "arenaHelperNothing";

/// A `$slice` as the engine takes it: one whose first argument is no number is the expression of that name, which it
/// takes inside of another one only, and its numbers are ints.
fn with_slice(value: &Bson) -> Option<Bson> {
    let slice = value.as_document()?.get("$slice")?;
    let first = slice.as_array().and_then(|slice| slice.first());
    match (slice, first) {
        (_, Some(Bson::String(_) | Bson::Document(_) | Bson::Array(_))) => {
            Some(bson!({ "$let": { "vars": {}, "in": value.clone() } }))
        }
        (Bson::Array(numbers), _) => {
            let numbers: Vec<Bson> = numbers.iter().map(as_int).collect();
            Some(bson!({ "$slice": numbers }))
        }
        (number, _) => Some(bson!({ "$slice": as_int(number) })),
    }
}

/// A long that is no int, cut to one; no array is as long.
fn as_int(number: &Bson) -> Bson {
    match number {
        Bson::Int64(long) if i32::try_from(*long).is_err() => {
            Bson::Int32(if *long < 0 { -i32::MAX } else { i32::MAX })
        }
        other => other.clone(),
    }
}

/// Whether a projection that only names parts of arrays leaves other fields out: one by `$elemMatch` does, and one by
/// `$slice` where `_id` is asked for. The engine goes by the other fields only.
fn is_inclusion_unseen(projection: &Document) -> bool {
    let operator = |value: &Bson| {
        value
            .as_document()
            .and_then(|value| value.keys().next().cloned())
    };
    let mut names = Vec::new();
    for (_, value) in projection.iter().filter(|(path, _)| *path != "_id") {
        match operator(value) {
            Some(name) if matches!(name.as_str(), "$elemMatch" | "$slice" | "$meta") => {
                names.push(name)
            }
            _ => return false,
        }
    }
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let asks_for_id = match projection.get("_id") {
        Some(Bson::Boolean(is_asked)) => *is_asked,
        Some(number) => super::whole(number).is_some_and(|number| number != 0),
        None => false,
    };
    has("$elemMatch") || (has("$slice") && asks_for_id)
}

/// What MongoDB refuses in a projection and the engine takes, or refuses with another code.
fn check(projection: &Document) -> Result<(), CommandError> {
    let mut positional = None;
    let mut has_element = false;
    for (path, value) in projection {
        if let Some(array) = path.strip_suffix(".$") {
            if has_element {
                let message = "Cannot specify positional operator and $elemMatch.";
                return Err(CommandError::new(31256, "Location31256", message));
            }
            if projection
                .keys()
                .take_while(|other| *other != path)
                .any(|other| other == array)
            {
                let message = format!("Path collision at {path}");
                return Err(CommandError::new(31250, "Location31250", message));
            }
            positional = Some(array);
        }
        let Bson::Document(operators) = value else {
            continue;
        };
        check_has_fields(operators)?;
        if operators.len() > 1
            && let Some(name) = operators.keys().find(|name| name.starts_with('$'))
        {
            let message = format!(
                "FieldPath field names may not start with '$'. Consider using $getField or $setField. Found {name}"
            );
            return Err(CommandError::new(16410, "Location16410", message));
        }
        if operators.contains_key("$elemMatch") {
            if positional.is_some() {
                let message = "Cannot specify $elemMatch and a positional operator.";
                return Err(CommandError::new(31255, "Location31255", message));
            }
            has_element = true;
        }
        if let Some(slice) = operators.get("$slice") {
            check_slice(slice, positional == Some(path.as_str()))?;
        }
    }
    Ok(())
}

/// A projection of a field's own fields names some, in every depth.
fn check_has_fields(fields: &Document) -> Result<(), CommandError> {
    if fields.is_empty() {
        let message = "An empty sub-projection is not a valid value. Found empty object at path";
        return Err(CommandError::new(51270, "Location51270", message));
    }
    let fields = fields.iter().filter(|(name, _)| !name.starts_with('$'));
    let mut inner = fields.filter_map(|(_, value)| value.as_document());
    inner.try_for_each(check_has_fields)
}

fn check_slice(slice: &Bson, has_position: bool) -> Result<(), CommandError> {
    if has_position {
        let message =
            "Expression $slice takes at least 2 arguments, and at most 3, but 1 were passed in.";
        return Err(CommandError::new(28667, "Location28667", message));
    }
    match slice.as_array().map(Vec::as_slice) {
        Some([Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_), _, _]) => {
            let message = "First argument to $slice must be an array, but is a number";
            Err(CommandError::new(28724, "Location28724", message))
        }
        _ => Ok(()),
    }
}
