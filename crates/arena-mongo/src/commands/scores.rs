//! Scores of texts and the order in which MongoDB finds them, on their way through a
//! find or a pipeline: a helper field that each document gets by its `_id`, that what
//! asks for `{$meta: 'textScore'}` reads, and that is taken away behind the last one.

use std::cmp::Ordering;

use bson::{Bson, Document, RawDocument, RawDocumentBuf, bson, doc};

use super::texts::{Asked, Match, asks_in};
use super::{GENERIC_FIELDS, aggregated, orders, raw, whole};
use crate::error::CommandError;
use crate::pipeline::carried::without;

const HELPER: &str = "arenaText";
const SCORE: &str = "arenaText.score";
const PLACE: &str = "arenaText.place";
/// Where nobody asks for a score, the helper is the place.
const ONLY_PLACE: &str = HELPER;
/// So many are looked up one after the other where their `_id`s are of several types.
const LISTED_MAX: usize = 1_000;

/// Stages that let nothing through that they do not name.
const REPLACING: [&str; 8] = [
    "$replaceRoot",
    "$replaceWith",
    "$facet",
    "$unionWith",
    "$densify",
    "$graphLookup",
    "$out",
    "$merge",
];

/// Returns a find as the command that finds what has the texts, with its name.
pub(super) fn find(
    find: &RawDocument,
    mut asked: Asked,
) -> Result<(&'static str, RawDocumentBuf), CommandError> {
    let mut find = Document::try_from(find)?;
    let projection = find.get_document("projection").cloned().unwrap_or_default();
    let sort = find.get_document("sort").cloned().unwrap_or_default();
    let is_scored =
        is_used(&Bson::Document(projection.clone())) || is_used(&Bson::Document(sort.clone()));
    let is_by_score_only = sort.len() == 1 && sort.values().all(is_score);
    if is_scored {
        asked.sort_by_score();
    }
    if is_by_score_only || (sort.is_empty() && !is_scored) {
        cut(&mut find, &mut asked.matches);
    }
    find.insert("filter", asked.filter());
    let needs_no_order = !sort.is_empty() || asked.matches.len() < 2;
    let mut stages = vec![doc! { "$match": asked.filter() }];
    if !is_scored && needs_no_order {
        return Ok(("find", raw(&find)));
    }
    let helper = helper(&asked.matches, is_scored)?;
    stages.push(doc! { "$set": { HELPER: helper } });
    if !sort.is_empty() {
        stages.push(doc! { "$sort": sorted(&sort) });
    } else if !is_scored {
        stages.push(doc! { "$sort": { ONLY_PLACE: 1 } });
    }
    if aggregated::is_finds_own(&projection) {
        if is_scored {
            return Err(CommandError::not_supported(
                "{$meta: 'textScore'} beside $elemMatch, $slice or '.$' in a projection",
            ));
        }
        return Ok(("find", raw(&find)));
    }
    let mut last = Vec::new();
    if is_scored {
        find.remove("projection");
        last = projected(&projection, false);
    }
    last.push(doc! { "$unset": HELPER });
    let spec = aggregated::of_find(&find, stages, last);
    let mut spec = spec.ok_or_else(CommandError::internal)?;
    let generic = find
        .into_iter()
        .filter(|(field, _)| GENERIC_FIELDS.contains(&field.as_str()));
    spec.extend(generic);
    Ok(("aggregate", raw(&spec)))
}

/// Leaves of what comes in order what a find does not skip and not limit.
fn cut(find: &mut Document, matches: &mut Vec<Match>) {
    let number = |field: &str| {
        let number = find.get(field).and_then(whole);
        number.and_then(|number| usize::try_from(number).ok())
    };
    let (skip, limit) = (number("skip").unwrap_or(0), number("limit").unwrap_or(0));
    matches.drain(..skip.min(matches.len()));
    if limit > 0 {
        matches.truncate(limit);
    }
    find.remove("skip");
}

/// Returns the stages of a pipeline that begins with texts.
pub(super) fn pipeline(mut asked: Asked, rest: &[Bson]) -> Result<Vec<Bson>, CommandError> {
    let used = rest.iter().rposition(is_used).map_or(0, |last| last + 1);
    if used > 0 {
        asked.sort_by_score();
    }
    let is_ordered = used == 0 && orders::is_in_sequence(rest);
    let in_order = match rest.first() {
        Some(first) if is_sort_by_score(first) => rest.get(1),
        first => first.filter(|_| is_ordered),
    };
    let limit = in_order.and_then(|stage| whole(stage.as_document()?.get("$limit")?));
    if let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) {
        asked.matches.truncate(limit);
    }
    let mut stages = vec![bson!({ "$match": asked.filter() })];
    if used > 0 || (is_ordered && asked.matches.len() > 1) {
        stages.push(bson!({ "$set": { HELPER: helper(&asked.matches, used > 0)? } }));
        stages.extend((used == 0).then(|| bson!({ "$sort": { ONLY_PLACE: 1 } })));
    }
    // The engine looks for what came last by what it had sorted by, which must still be there.
    let grouped = rest.iter().rposition(orders::groups_in_sequence);
    let kept = used.max(grouped.map_or(0, |grouped| grouped + 1));
    if stages.len() == 1 {
        stages.extend(rest.iter().cloned());
        return Ok(stages);
    }
    stages.extend(scored(&rest[..kept])?);
    stages.push(bson!({ "$unset": HELPER }));
    stages.extend(rest[kept..].iter().cloned());
    Ok(stages)
}

fn is_sort_by_score(stage: &Bson) -> bool {
    let sort = stage.as_document().map(|stage| stage.get_document("$sort"));
    matches!(sort, Some(Ok(sort)) if sort.len() == 1 && sort.values().all(is_score))
}

/// Returns stages, the last of which asks for a score, as they read it from the helper.
fn scored(stages: &[Bson]) -> Result<Vec<Bson>, CommandError> {
    let mut told = Vec::new();
    for (place, stage) in stages.iter().enumerate() {
        let is_last = place + 1 == stages.len();
        let Some((name, value)) = stage.as_document().and_then(|stage| stage.iter().next()) else {
            return Err(CommandError::internal());
        };
        match (name.as_str(), value) {
            ("$project", Bson::Document(projection)) => {
                let projected = projected(projection, !is_last);
                let projected = projected.into_iter().map(Bson::Document);
                told.extend(projected.map(|stage| without(&stage, HELPER)));
            }
            ("$sort", Bson::Document(sort)) => told.push(bson!({ "$sort": sorted(sort) })),
            (name, _) if REPLACING.contains(&name) => {
                return Err(CommandError::not_supported(format_args!(
                    "the score or the order of a $text in or behind {name}"
                )));
            }
            _ => told.push(without(&with_score(stage), HELPER)),
        }
    }
    Ok(told)
}

/// Texts are asked for by the first stage alone.
pub(super) fn check_places(stages: &[Bson], is_top: bool) -> Result<(), CommandError> {
    for (place, stage) in stages.iter().enumerate() {
        let Some((name, value)) = stage.as_document().and_then(|stage| stage.iter().next()) else {
            continue;
        };
        match name.as_str() {
            "$match" if place == 0 && is_top => {}
            "$match" if asks_in(value, "$text") && is_top => {
                let message = "$match with $text is only allowed as the first pipeline stage";
                return Err(CommandError::new(17313, "Location17313", message));
            }
            "$match" if asks_in(value, "$text") => {
                let message = "$match is not allowed to be used within a $facet stage";
                return Err(CommandError::new(40600, "Location40600", message));
            }
            "$facet" => {
                let pipelines = value.as_document().into_iter().flat_map(Document::values);
                for pipeline in pipelines.filter_map(Bson::as_array) {
                    check_places(pipeline, false)?;
                }
            }
            "$lookup" | "$unionWith" | "$graphLookup" if asks_in(value, "$text") => {
                return Err(CommandError::not_supported(format_args!(
                    "$text in a {name}"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_score(value: &Bson) -> bool {
    let value = value.as_document();
    value.is_some_and(|value| value.get_str("$meta").is_ok_and(|kind| kind == "textScore"))
}

/// Whether a score is asked for anywhere.
pub(super) fn is_used(value: &Bson) -> bool {
    is_score(value)
        || match value {
            Bson::Document(inner) => inner.values().any(is_used),
            Bson::Array(values) => values.iter().any(is_used),
            _ => false,
        }
}

fn with_score(value: &Bson) -> Bson {
    match value {
        value if is_score(value) => Bson::String(format!("${SCORE}")),
        Bson::Document(inner) => {
            let fields = inner.iter();
            let told = fields.map(|(name, value)| (name.clone(), with_score(value)));
            Bson::Document(told.collect())
        }
        Bson::Array(values) => values.iter().map(with_score).collect(),
        other => other.clone(),
    }
}

/// A sort by the score alone goes by the place, so that equal scores have one order.
fn sorted(sort: &Document) -> Document {
    if sort.len() == 1 && sort.values().all(is_score) {
        return doc! { PLACE: 1 };
    }
    let keys = sort.iter().map(|(path, order)| match is_score(order) {
        true => (SCORE.to_owned(), Bson::Int32(-1)),
        false => (path.clone(), order.clone()),
    });
    keys.collect()
}

/// Returns the stages of a projection. A score alone neither includes nor excludes anything.
fn projected(projection: &Document, keeps_helper: bool) -> Vec<Document> {
    let (scores, others): (Document, Document) = projection
        .clone()
        .into_iter()
        .partition(|(_, value)| is_score(value));
    let is_taken = |value: &Bson| match value {
        Bson::Boolean(is_taken) => *is_taken,
        value => whole(value) != Some(0),
    };
    if others.values().any(is_taken) {
        let Bson::Document(mut included) = with_score(&Bson::Document(projection.clone())) else {
            return Vec::new();
        };
        if keeps_helper {
            included.insert(HELPER, 1);
        }
        return vec![doc! { "$project": included }];
    }
    let mut stages = Vec::new();
    if !scores.is_empty() {
        let Bson::Document(set) = with_score(&Bson::Document(scores)) else {
            return Vec::new();
        };
        stages.push(doc! { "$set": set });
    }
    if !others.is_empty() {
        stages.push(doc! { "$project": others });
    }
    stages
}

/// Returns the expression of a document's place, by its `_id`, and of its score.
fn helper(matches: &[Match], is_scored: bool) -> Result<Bson, CommandError> {
    let mut leaves: Vec<(&Bson, Bson)> = Vec::new();
    for (place, one) in matches.iter().enumerate() {
        let place = i32::try_from(place).unwrap_or(i32::MAX);
        let leaf = match is_scored {
            true => bson!({ "score": one.found.score, "place": place }),
            false => Bson::Int32(place),
        };
        leaves.push((&one.id, leaf));
    }
    let first = leaves.first().map(|(id, _)| *id);
    let is_ordered = leaves
        .iter()
        .all(|(id, _)| first.is_none_or(|first| compared(first, id).is_some()));
    if is_ordered {
        leaves.sort_by(|(one, _), (other, _)| compared(one, other).unwrap_or(Ordering::Equal));
        return Ok(tree(&leaves));
    }
    if leaves.len() > LISTED_MAX {
        return Err(CommandError::not_supported(format_args!(
            "the order or the score of more than {LISTED_MAX} documents with _id of several types"
        )));
    }
    let ids: Vec<Bson> = leaves.iter().map(|(id, _)| (*id).clone()).collect();
    let values: Vec<Bson> = leaves.into_iter().map(|(_, leaf)| leaf).collect();
    let place = bson!({ "$indexOfArray": [{ "$literal": ids }, "$_id"] });
    Ok(bson!({ "$arrayElemAt": [values, place] }))
}

/// A choice by halves.
fn tree(leaves: &[(&Bson, Bson)]) -> Bson {
    match leaves {
        [] => Bson::Null,
        [(_, leaf)] => leaf.clone(),
        leaves => {
            let (lower, upper) = leaves.split_at(leaves.len() / 2);
            let is_lower = bson!({ "$lt": ["$_id", { "$literal": upper[0].0.clone() }] });
            bson!({ "$cond": [is_lower, tree(lower), tree(upper)] })
        }
    }
}

/// Compares two `_id`s of one type as the engine does.
fn compared(one: &Bson, other: &Bson) -> Option<Ordering> {
    match (one, other) {
        (Bson::ObjectId(one), Bson::ObjectId(other)) => Some(one.bytes().cmp(&other.bytes())),
        (Bson::String(one), Bson::String(other)) => Some(one.cmp(other)),
        (Bson::DateTime(one), Bson::DateTime(other)) => Some(one.cmp(other)),
        (Bson::Double(one), Bson::Double(other)) => one.partial_cmp(other),
        (Bson::Int32(_) | Bson::Int64(_), Bson::Int32(_) | Bson::Int64(_)) => {
            Some(whole(one)?.cmp(&whole(other)?))
        }
        _ => None,
    }
}
