//! What decides where sort keys do not. MongoDB puts an empty array before nothing, the
//! engine takes both for the same: a helper beside the key tells them apart. Documents
//! that tie stay at MongoDB as they came, in a window of the engine in any order: their
//! `_id`s decide, which most programs give in the order of insertion.

use bson::{Bson, Document, bson};

use super::accumulators::{HELPER, ORDERED};
use super::carried::{ENDING, leaves, without};
use super::expressions::only;
use super::sorts::may_be_array;
use crate::commands::{leaves_keys, whole};

/// A sort by more keys is an error of its own.
const KEYS_MAX: usize = 32;

/// Window functions that are by one key.
const BY_ONE_KEY: [&str; 6] = [
    "$rank",
    "$denseRank",
    "$documentNumber",
    "$derivative",
    "$integral",
    "$linearFill",
];

/// Operators whose value is never an array, of those that are sorted by most.
const NO_ARRAYS: [&str; 17] = [
    "$abs",
    "$add",
    "$avg",
    "$ceil",
    "$concat",
    "$dateToString",
    "$dateTrunc",
    "$divide",
    "$floor",
    "$multiply",
    "$round",
    "$size",
    "$strLenCP",
    "$subtract",
    "$sum",
    "$toLower",
    "$trunc",
];

/// Returns a pipeline whose sorts are told what decides, if one of them has to be.
pub(super) fn told(pipeline: &[Bson]) -> Option<Vec<Bson>> {
    let parts = pipeline.iter().enumerate().map(|(position, stage)| {
        let (name, value) = only(stage.as_document()?)?;
        in_stage(&pipeline[..position], name, value.as_document()?)
    });
    let parts: Vec<Option<Vec<Bson>>> = parts.collect();
    if parts.iter().all(Option::is_none) {
        return None;
    }
    let stages = pipeline.iter().zip(parts);
    let stages = stages.flat_map(|(stage, told)| told.unwrap_or_else(|| vec![stage.clone()]));
    Some(stages.collect())
}

fn in_stage(before: &[Bson], name: &str, value: &Document) -> Option<Vec<Bson>> {
    let mut helpers = Helpers {
        before,
        paths: Vec::new(),
    };
    let mut stage = value.clone();
    match name {
        "$sort" if is_made(before, value) => stage = helpers.beside(value)?,
        "$group" => helpers.in_accumulators(&mut stage),
        "$bucket" | "$bucketAuto" => {
            helpers.in_accumulators(stage.get_document_mut("output").ok()?);
        }
        "$setWindowFields" => helpers.in_windows(&mut stage),
        "$fill" if is_carried(value) => {
            let keys = with_ties(value.get_document("sortBy").ok()?, before)?;
            stage.insert("sortBy", keys);
        }
        _ => return None,
    }
    (stage != *value).then(|| helpers.around(name, stage))
}

/// Whether documents may be sorted that nobody has looked at before.
fn is_made(before: &[Bson], keys: &Document) -> bool {
    let is_match = |stage: &&Bson| {
        stage
            .as_document()
            .is_some_and(|stage| stage.contains_key("$match"))
    };
    let mut others = before.iter().skip_while(is_match);
    others.any(|stage| !leaves_keys(stage, keys))
}

/// Whether values are carried on, and none is computed between others, which is by one key.
fn is_carried(fill: &Document) -> bool {
    let output = fill.get_document("output").into_iter().flatten();
    let methods = output.filter_map(|(_, value)| value.as_document()?.get_str("method").ok());
    let methods: Vec<&str> = methods.collect();
    !methods.is_empty() && methods.iter().all(|method| *method == "locf")
}

/// Keys that leave no documents equal: those of a sort right before, and the `_id`.
fn with_ties(keys: &Document, before: &[Bson]) -> Option<Document> {
    if !are_plain(keys) {
        return None;
    }
    let mut told = keys.clone();
    let last = before.last().and_then(|stage| only(stage.as_document()?));
    if let Some(("$sort", Bson::Document(sorted))) = last
        && are_plain(sorted)
    {
        for (path, order) in sorted.iter().filter(|(path, _)| !keys.contains_key(path)) {
            told.insert(path, order.clone());
        }
    }
    if !told.contains_key("_id") {
        told.insert("_id", 1);
    }
    (told.len() <= KEYS_MAX).then_some(told)
}

/// Functions in which a `$documentNumber`, which is by one key, is a count.
fn counted(output: &Document) -> Document {
    let number = bson!({ "$documentNumber": {} });
    let count = bson!({ "$sum": 1, "window": { "documents": ["unbounded", "current"] } });
    let functions = output.iter().map(|(path, function)| {
        let is_number = *function == number;
        (
            path.clone(),
            if is_number { &count } else { function }.clone(),
        )
    });
    functions.collect()
}

/// Of what ties in a window that moves off values MongoDB has the last, elsewhere the first.
fn last_of(function: &mut Bson, order: &Document) {
    let Some(function) = function.as_document_mut() else {
        return;
    };
    let bounds = function
        .get_document("window")
        .and_then(|window| window.get_array("documents"));
    let begins = bounds.ok().and_then(|bounds| bounds.first());
    if begins.is_none_or(|begins| begins.as_str() == Some("unbounded")) {
        return;
    }
    for name in ["$bottom", "$bottomN"] {
        let options = function.get_document_mut(name).ok();
        if let Some(keys) = options.and_then(|options| options.get_document_mut("sortBy").ok())
            && are_plain(keys)
        {
            for (path, direction) in order {
                keys.entry(path.clone()).or_insert(direction.clone());
            }
        }
    }
}

fn is_by_one_key(function: &Bson) -> bool {
    let Some(function) = function.as_document() else {
        return true;
    };
    let window = function.get_document("window");
    let mut names = function.keys();
    window.is_ok_and(|window| window.contains_key("range"))
        || names.any(|name| BY_ONE_KEY.contains(&name.as_str()))
}

/// Whether keys are paths with directions.
fn are_plain(keys: &Document) -> bool {
    let is_name =
        |part: &str| !part.is_empty() && !part.starts_with('$') && part.parse::<u32>().is_err();
    let mut keys = keys.iter().peekable();
    keys.peek().is_some()
        && keys.all(|(path, order)| {
            path.split('.').all(is_name) && matches!(whole(order), Some(1 | -1))
        })
}

/// Fields that are smaller for an empty array than for nothing.
struct Helpers<'a> {
    before: &'a [Bson],
    paths: Vec<String>,
}

impl Helpers<'_> {
    /// Keys with helpers beside them; nothing where the engine sorts as it should.
    fn beside(&mut self, keys: &Document) -> Option<Document> {
        if !are_plain(keys) || keys.len() * 2 > KEYS_MAX {
            return None;
        }
        let mut told = Document::new();
        for (path, order) in keys {
            told.insert(path, order.clone());
            if self.may_be_empty(path) {
                told.insert(self.name(path), order.clone());
            }
        }
        (told.len() > keys.len()).then_some(told)
    }

    fn name(&mut self, path: &str) -> String {
        let known = self.paths.iter().position(|known| known == path);
        let number = known.unwrap_or_else(|| {
            self.paths.push(path.to_owned());
            self.paths.len() - 1
        });
        format!("{HELPER}Empty{number}")
    }

    /// Whether there may be an empty array, as far as the stages tell.
    fn may_be_empty(&self, path: &str) -> bool {
        let root = path.split('.').next().unwrap_or_default();
        let keys = bson::doc! { path: 1 };
        for stage in self.before.iter().rev() {
            match stage.as_document().and_then(only) {
                Some(("$group", Bson::Document(group))) => return may_be_array(group, root),
                Some(("$set" | "$addFields" | "$project", Bson::Document(fields))) => {
                    let made = fields.get(path).and_then(|made| only(made.as_document()?));
                    if made.is_some_and(|(operator, _)| NO_ARRAYS.contains(&operator)) {
                        return false;
                    }
                }
                Some((name, _)) if ENDING.contains(&name) && name != "$sort" => return true,
                _ => {}
            }
            if !leaves(stage, &keys) {
                return true;
            }
        }
        // Of documents as they are stored.
        root != "_id"
    }

    /// Tells accumulators that order what they see.
    fn in_accumulators(&mut self, fields: &mut Document) {
        for (_, accumulator) in fields.iter_mut() {
            let operators = accumulator
                .as_document_mut()
                .into_iter()
                .flat_map(Document::iter_mut);
            for (_, options) in operators.filter(|(name, _)| ORDERED.contains(&name.as_str())) {
                let Some(options) = options.as_document_mut() else {
                    continue;
                };
                if let Ok(keys) = options.get_document("sortBy")
                    && let Some(told) = self.beside(keys)
                {
                    options.insert("sortBy", told);
                }
            }
        }
    }

    fn in_windows(&mut self, stage: &mut Document) {
        let Ok(output) = stage.get_document_mut("output") else {
            return;
        };
        self.in_accumulators(output);
        let is_numbered = output.values().any(is_by_one_key);
        let mut counted = counted(output);
        if counted.values().any(is_by_one_key) {
            return;
        }
        let keys = stage.get_document("sortBy").cloned().unwrap_or_default();
        let told = self.beside(&keys).unwrap_or_else(|| keys.clone());
        let Some(told) = with_ties(&told, self.before) else {
            return;
        };
        counted
            .iter_mut()
            .for_each(|(_, function)| last_of(function, &told));
        // A number by several keys is an error, and stays one.
        if keys.len() == 1 || !is_numbered {
            stage.insert("output", counted);
        }
        stage.insert("sortBy", told);
    }

    /// A stage between those that make its helpers and take them away.
    fn around(self, name: &str, stage: Document) -> Vec<Bson> {
        if self.paths.is_empty() {
            return vec![bson!({ name: stage })];
        }
        let names: Vec<String> = (0..self.paths.len())
            .map(|number| format!("{HELPER}Empty{number}"))
            .collect();
        let paths = names.iter().cloned().zip(&self.paths);
        let helpers: Document = paths.map(|(name, path)| (name, told_empty(path))).collect();
        let stage = names.iter().fold(Bson::Document(stage), |stage, helper| {
            without(&stage, helper)
        });
        let mut stages = vec![bson!({ "$set": helpers }), bson!({ name: stage })];
        if matches!(name, "$sort" | "$setWindowFields") {
            stages.push(bson!({ "$unset": names }));
        }
        stages
    }
}

/// 0 for an empty array, 1 for all others; an array on the way has elements, of which none is looked for.
fn told_empty(path: &str) -> Bson {
    let is_empty = bson!({ "$eq": [format!("${path}"), []] });
    let points = path.match_indices('.').map(|(point, _)| point);
    let arrays = points.map(|point| bson!({ "$isArray": [format!("${}", &path[..point])] }));
    let arrays: Vec<Bson> = arrays.collect();
    let is_told = if arrays.is_empty() {
        is_empty
    } else {
        bson!({ "$and": [{ "$not": [{ "$or": arrays }] }, is_empty] })
    };
    bson!({ "$cond": [is_told, 0, 1] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(pipeline: Bson) -> usize {
        let pipeline = pipeline.as_array().expect("an array");
        told(pipeline).map_or(0, |told| told.len())
    }

    #[test]
    fn only_what_may_be_an_empty_array_is_told() {
        assert_eq!(
            stages(bson!([{ "$unwind": "$x" }, { "$sort": { "x.a": 1 } }])),
            4
        );
        assert_eq!(
            stages(bson!([{ "$group": { "_id": "$a" } }, { "$sort": { "_id": 1 } }])),
            4
        );
        for same in [
            bson!([{ "$match": { "a": 1 } }, { "$sort": { "a": 1 } }]),
            bson!([{ "$group": { "_id": "$a", "n": { "$sum": 1 } } }, { "$sort": { "n": -1 } }]),
            bson!([{ "$set": { "n": { "$add": ["$a", 1] } } }, { "$sort": { "n": 1 } }]),
            bson!([{ "$limit": 1 }, { "$sort": { "s": { "$meta": "textScore" } } }]),
            bson!([{ "$group": { "_id": 1, "t": { "$top": { "sortBy": { "_id": 1 }, "output": "$a" } } } }]),
        ] {
            assert_eq!(stages(same.clone()), 0, "{same}");
        }
    }

    #[test]
    fn documents_of_a_window_do_not_tie() {
        let told = told(&[
            bson!({ "$sort": { "b": -1 } }),
            bson!({ "$setWindowFields": { "sortBy": { "_id.a": 1 }, "output": { "n": { "$documentNumber": {} } } } }),
        ]);
        let keys = &told.expect("it is told")[1];
        let keys = keys.as_document().expect("a stage");
        let keys = keys.get_document("$setWindowFields").expect("a window");
        assert_eq!(
            keys.get_document("sortBy").ok(),
            Some(&bson::doc! { "_id.a": 1, "b": -1, "_id": 1 })
        );
        let ranked = bson!({ "$setWindowFields": { "sortBy": { "a": 1 }, "output": { "n": { "$rank": {} } } } });
        assert_eq!(stages(bson!([ranked])), 0);
    }
}
