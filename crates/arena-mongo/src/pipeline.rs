//! What may stand in queries and aggregation pipelines. Stages are allowed by
//! name, pipelines inside pipelines get the same walk, and whatever names another
//! database needs a right there. The guard also stands here: what the engine would
//! answer wrongly without saying so is refused or rewritten.

mod accumulators;
mod arithmetic;
mod binaries;
mod bindings;
mod buckets;
pub(crate) mod carried;
mod checks;
mod choices;
mod clock;
mod conditions;
mod counted;
mod date_texts;
mod dates;
mod elements;
mod empties;
mod expressions;
mod geo;
mod granularity;
mod identity;
mod instants;
mod joins;
mod least;
mod lists;
mod merges;
mod metadata;
mod missing;
mod near;
mod numbers;
mod operands;
mod orders;
mod paths;
mod patterns;
mod projections;
mod raising;
mod rates;
mod references;
mod schema;
mod sets;
mod sorts;
mod stages;
mod strings;
mod sums;
mod targets;
mod truncation;
mod windows;

use bson::{Bson, Document, bson};

pub(crate) use self::checks::check_sort;
use self::choices::with_chosen;
pub(crate) use self::choices::{chosen, chosen_to_insert};
pub(crate) use self::clock::cluster_time;
pub(crate) use self::conditions::check as check_conditions;
pub(crate) use self::elements::is_of_values;
pub(crate) use self::expressions::{
    Found, check_raw_expressions, check_raw_value, rewritten_fields,
};
pub(crate) use self::geo::{as_stage, has_least, is_near_at_all, is_near_inside};
use self::identity::with_one_identity;
pub(crate) use self::joins::without_index;
pub(crate) use self::raising::raised;
pub(crate) use self::schema::{as_written, stages_as_written, stored, stored_stages};
use crate::error::CommandError;
use crate::users::{Action, User};

/// Stages that neither read another collection nor write.
const PLAIN_STAGES: [&str; 26] = [
    "$match",
    "$project",
    "$addFields",
    "$set",
    "$unset",
    "$group",
    "$sort",
    "$limit",
    "$skip",
    "$unwind",
    "$bucket",
    "$bucketAuto",
    "$count",
    "$sortByCount",
    "$replaceRoot",
    "$replaceWith",
    "$sample",
    "$redact",
    "$setWindowFields",
    "$densify",
    "$fill",
    "$geoNear",
    "$documents",
    "$vectorSearch",
    "$indexStats",
    "$collStats",
];

/// Stages that exist at MongoDB and say so when they are missing here.
const MISSING_STAGES: [(&str, &str); 8] = [
    ("$changeStream", "watching changes ($changeStream)"),
    (
        "$changeStreamSplitLargeEvent",
        "watching changes ($changeStream)",
    ),
    ("$searchMeta", "Atlas Search ($searchMeta)"),
    ("$currentOp", "$currentOp"),
    ("$listSessions", "$listSessions"),
    ("$listLocalSessions", "$listLocalSessions"),
    ("$planCacheStats", "$planCacheStats"),
    ("$rankFusion", "$rankFusion"),
];

/// Stages that MongoDB allows outside of `$facet` only.
const NEVER_IN_FACET: [&str; 8] = [
    "$collStats",
    "$facet",
    "$geoNear",
    "$indexStats",
    "$out",
    "$merge",
    "$planCacheStats",
    "$vectorSearch",
];

/// Whose pipeline it is and which database it reads.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) user: &'a User,
    pub(crate) database: &'a str,
}

/// Where a pipeline stands, which decides whether it may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The pipeline of an aggregate command.
    Top,
    /// Inside a stage, or the definition of a view.
    Inner,
    /// Of an update, whose documents keep their `_id`.
    Update,
}

impl Reader<'_> {
    /// Checks a pipeline and returns it as it has to run.
    pub(crate) fn check_pipeline(
        self,
        pipeline: &[Bson],
        place: Place,
    ) -> Result<Vec<Bson>, CommandError> {
        checks::check_documents(pipeline)?;
        let told = empties::told(pipeline);
        let pipeline = told.as_deref().unwrap_or(pipeline);
        let carried = carried::with_keys(pipeline)?;
        let pipeline = carried.as_deref().unwrap_or(pipeline);
        let has_metadata = metadata::is_given(pipeline);
        let mut order = orders::Order::default();
        for (position, stage) in pipeline.iter().enumerate() {
            let (name, value) = only_field(stage)?;
            let may_write = place == Place::Top && position + 1 == pipeline.len();
            if matches!(name, "$out" | "$merge") && !may_write {
                let message = format!("{name} can only be the final stage in the pipeline");
                return Err(CommandError::new(40601, "Location40601", message));
            }
            let without = (!has_metadata).then(|| metadata::without_absent(name, value));
            let without = without.flatten();
            let value = without.as_ref().unwrap_or(value);
            let timed = clock::with_times(name, value, place);
            let value = self.check_stage(name, timed.as_ref().unwrap_or(value))?;
            if name == "$sort"
                && let Some(check) = sorts::check(&pipeline[..position], &value)
            {
                order.push(check, place);
            }
            let may_part = name == "$project" && place != Place::Update;
            let projection = value.as_document().filter(|_| may_part);
            let parts = match projection.and_then(projections::in_order) {
                Some(parts) => parts,
                None => vec![bson!({ name: value })],
            };
            for part in parts {
                let (name, value) = only_field(&part)?;
                for stage in stages::rewritten_stage(name, value.clone())? {
                    order.push(stage, place);
                }
            }
        }
        let stages = order.stages.into_iter();
        stages.map(bindings::computed_once).collect()
    }

    /// Checks one stage and returns its value as it has to run.
    fn check_stage(self, name: &str, value: &Bson) -> Result<Bson, CommandError> {
        match name {
            "$project" if value.as_document().is_some_and(Document::is_empty) => {
                let message = "Invalid $project :: caused by :: projection specification must have at least one field";
                Err(CommandError::new(51272, "Location51272", message))
            }
            "$match" => {
                checks::check_plain(name, value)?;
                choices::of_match(value)
            }
            "$geoNear" => checks::check_plain(name, value).map(|()| with_chosen(value, "query")),
            _ if PLAIN_STAGES.contains(&name) => {
                checks::check_plain(name, value).map(|()| value.clone())
            }
            "$facet" => self.check_facet(value),
            "$lookup" => {
                checks::check_lookup(value)?;
                self.check_joined(name, value, "from")
            }
            "$graphLookup" => {
                let value = with_chosen(value, "restrictSearchWithMatch");
                self.check_joined(name, &value, "from")
            }
            "$unionWith" => match value {
                Bson::String(collection) => checked_collection(collection).map(|()| value.clone()),
                _ => self.check_joined(name, value, "coll"),
            },
            "$out" => self.check_target(name, value).map(|()| value.clone()),
            "$merge" => self.check_merge(value),
            "$search" => checks::check_search(value).map(|()| value.clone()),
            "$listSearchIndexes" => Err(CommandError::new(
                31082,
                "SearchNotEnabled",
                "Using Atlas Search Database Commands and the $listSearchIndexes aggregation stage requires additional configuration.",
            )),
            _ => match MISSING_STAGES.iter().find(|(missing, _)| *missing == name) {
                Some((_, what)) => Err(CommandError::not_supported(what)),
                None => Err(unrecognized(name)),
            },
        }
    }

    fn check_facet(self, value: &Bson) -> Result<Bson, CommandError> {
        let facets = value
            .as_document()
            .filter(|facets| !facets.is_empty())
            .ok_or_else(|| {
                let message = "the $facet specification must be a non-empty object";
                CommandError::new(40169, "Location40169", message)
            })?;
        let mut checked = Document::new();
        for (facet, pipeline) in facets {
            if facet.is_empty() {
                return Err(paths::with_empty());
            }
            paths::check_path(facet)?;
            if facet.contains('.') {
                return Err(paths::with_point());
            }
            let stages = pipeline.as_array().ok_or_else(|| {
                let message = format!("arguments to $facet must be arrays, {facet} is no array");
                CommandError::new(40170, "Location40170", message)
            })?;
            for stage in stages {
                if stage.as_document().is_none() {
                    let message = format!(
                        "elements of arrays in $facet spec must be objects, {facet} has another"
                    );
                    return Err(CommandError::new(40171, "Location40171", message));
                }
                let (name, _) = only_field(stage)?;
                if NEVER_IN_FACET.contains(&name) {
                    let message = format!("{name} is not allowed to be used within a $facet stage");
                    return Err(CommandError::new(40600, "Location40600", message));
                }
            }
            checked.insert(facet, self.check_pipeline(stages, Place::Inner)?);
        }
        Ok(Bson::Document(checked))
    }

    /// `$lookup`, `$graphLookup` and `$unionWith` name a collection of the same database.
    fn check_joined(self, stage: &str, value: &Bson, field: &str) -> Result<Bson, CommandError> {
        let mut joined = value.as_document().cloned().ok_or_else(|| {
            let message = format!("the {stage} stage specification must be an object");
            match stage {
                "$graphLookup" => CommandError::new(40327, "Location40327", message),
                _ => CommandError::failed_to_parse(message),
            }
        })?;
        if joined.contains_key("db") {
            return Err(self.other_database(stage));
        }
        let other = if field == "from" { "coll" } else { "from" };
        for name in [field, other] {
            match joined.get(name) {
                Some(Bson::String(collection)) => checked_collection(collection)?,
                None => {}
                Some(Bson::Document(_)) => return Err(self.other_database(stage)),
                Some(_) => {
                    let message = format!("'{name}' of {stage} must be a string");
                    return Err(CommandError::failed_to_parse(message));
                }
            }
        }
        if let Some(pipeline) = joined.get("pipeline") {
            let stages = pipeline
                .as_array()
                .ok_or_else(|| CommandError::type_mismatch("'pipeline' option must be an array"))?;
            checks::check_writes_nothing(stage, stages)?;
            let checked = self.check_pipeline(stages, Place::Inner)?;
            joined.insert("pipeline", checked);
        }
        Ok(Bson::Document(joined))
    }

    fn other_database(self, stage: &str) -> CommandError {
        CommandError::unauthorized(format!(
            "{stage} may only name a collection of the database '{}'",
            self.database
        ))
    }

    /// `$out` and `$merge` write: here, or in another database with a right to write there.
    fn check_target(self, stage: &str, target: &Bson) -> Result<(), CommandError> {
        let (database, collection) = targets::named(stage, target)?;
        let database = database.unwrap_or(self.database);
        targets::check_collection(stage, collection)?;
        if !crate::commands::is_database_name(database) || !self.user.may(Action::Write, database) {
            if stage == "$out" {
                targets::check_database_name(database)?;
            }
            return Err(CommandError::unauthorized(format!(
                "not authorized on {database} to write with {stage}"
            )));
        }
        targets::check_database(stage, database)
    }

    fn check_merge(self, value: &Bson) -> Result<Bson, CommandError> {
        if !matches!(value, Bson::String(_) | Bson::Document(_)) {
            let message = "$merge requires a string or object argument";
            return Err(CommandError::type_mismatch(message));
        }
        let Bson::Document(merge) = value else {
            return self.check_target("$merge", value).map(|()| value.clone());
        };
        let into = merge.get("into").ok_or_else(|| {
            let message = "BSON field '$merge.into' is missing but a required field";
            CommandError::new(40414, "IDLFailedToParse", message)
        })?;
        self.check_target("$merge", into)?;
        targets::check_modes(merge)?;
        let mut merge = merge.clone();
        if let Some(Bson::Array(stages)) = merge.get("whenMatched") {
            let checked = self.check_update_pipeline(stages)?;
            merge.insert("whenMatched", checked);
        }
        Ok(Bson::Document(merge))
    }

    /// Updates by pipeline know few stages.
    pub(crate) fn check_update_pipeline(self, stages: &[Bson]) -> Result<Vec<Bson>, CommandError> {
        for stage in stages {
            let (name, _) = only_field(stage)?;
            if !matches!(
                name,
                "$set" | "$addFields" | "$unset" | "$project" | "$replaceRoot" | "$replaceWith"
            ) {
                if !is_stage(name) {
                    return Err(unrecognized(name));
                }
                let message = format!("{name} is not allowed to be used within an update");
                return Err(CommandError::new(72, "InvalidOptions", message));
            }
        }
        with_one_identity(self.check_pipeline(stages, Place::Update)?)
    }
}

fn is_stage(name: &str) -> bool {
    PLAIN_STAGES.contains(&name)
        || NEVER_IN_FACET.contains(&name)
        || MISSING_STAGES.iter().any(|(missing, _)| *missing == name)
        || matches!(
            name,
            "$lookup" | "$graphLookup" | "$unionWith" | "$search" | "$listSearchIndexes"
        )
}

fn unrecognized(name: &str) -> CommandError {
    let message = format!("Unrecognized pipeline stage name: '{name}'");
    CommandError::new(40324, "Location40324", message)
}

fn only_field(stage: &Bson) -> Result<(&str, &Bson), CommandError> {
    let message = "A pipeline stage specification object must contain exactly one field.";
    let error = || CommandError::new(40323, "Location40323", message);
    let no_object = "Each element of the 'pipeline' array must be an object";
    let stage = stage
        .as_document()
        .ok_or_else(|| CommandError::type_mismatch(no_object))?;
    let stage = Some(stage)
        .filter(|stage| stage.len() == 1)
        .ok_or_else(error)?;
    stage
        .iter()
        .next()
        .map(|(name, value)| (name.as_str(), value))
        .ok_or_else(error)
}

fn checked_collection(name: &str) -> Result<(), CommandError> {
    if crate::commands::is_collection_name(name) {
        Ok(())
    } else {
        Err(CommandError::new(
            73,
            "InvalidNamespace",
            format!("Invalid collection name: {name}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use bson::{bson, doc};

    use super::*;
    use crate::scram::ScramVerifier;
    use crate::users::Role;

    fn check_as(roles: &[&str], pipeline: Bson) -> Result<Vec<Bson>, CommandError> {
        let roles = roles
            .iter()
            .map(|role| Role::parse(role).unwrap())
            .collect();
        let user = User {
            verifier: ScramVerifier::of_nobody(&[0; 32], ""),
            roles,
        };
        let Bson::Array(stages) = pipeline else {
            panic!("a pipeline is an array")
        };
        Reader {
            user: &user,
            database: "ada",
        }
        .check_pipeline(&stages, Place::Top)
    }

    fn code(pipeline: Bson) -> i32 {
        check_as(&["readWrite@ada"], pipeline).map_or_else(|error| error.code, |_| 0)
    }

    #[test]
    fn no_stage_reaches_another_database() {
        for stage in [
            bson!({ "$lookup": { "from": { "db": "bob", "coll": "c" }, "as": "x", "pipeline": [] } }),
            bson!({ "$lookup": { "from": "c", "db": "bob", "as": "x", "pipeline": [] } }),
            bson!({ "$graphLookup": { "from": { "db": "bob", "coll": "c" } } }),
            bson!({ "$unionWith": { "db": "bob", "coll": "c" } }),
            bson!({ "$out": { "db": "bob", "coll": "c" } }),
            bson!({ "$merge": { "into": { "db": "bob", "coll": "c" } } }),
            bson!({ "$out": { "db": "admin", "coll": "c" } }),
        ] {
            assert_eq!(code(bson!([stage.clone()])), 13, "{stage}");
            if !stage
                .as_document()
                .unwrap()
                .keys()
                .any(|key| matches!(key.as_str(), "$out" | "$merge"))
            {
                assert_eq!(code(bson!([{ "$facet": { "f": [stage.clone()] } }])), 13);
                assert_eq!(
                    code(
                        bson!([{ "$lookup": { "from": "c", "as": "x", "pipeline": [{ "$facet": { "f": [stage] } }] } }])
                    ),
                    13
                );
            }
        }
    }

    #[test]
    fn writing_elsewhere_needs_the_right_there() {
        let out = || bson!([{ "$out": { "db": "bob", "coll": "c" } }]);
        assert!(check_as(&["readWrite@ada", "read@bob"], out()).is_err());
        assert!(check_as(&["readWrite@ada", "readWrite@bob"], out()).is_ok());
        assert!(check_as(&["root@admin"], out()).is_ok());
        assert!(check_as(&["read@ada"], bson!([{ "$out": "c" }])).is_err());
    }

    #[test]
    fn writing_stages_only_end_a_pipeline() {
        assert_eq!(code(bson!([{ "$out": "c" }, { "$match": {} }])), 40601);
        assert_eq!(
            code(bson!([{ "$unionWith": { "coll": "c", "pipeline": [{ "$out": "d" }] } }])),
            31441
        );
        assert_eq!(
            code(bson!([{ "$facet": { "f": [{ "$merge": "d" }] } }])),
            40600
        );
    }

    #[test]
    fn unknown_stages_and_code_are_refused_in_every_depth() {
        assert_eq!(code(bson!([{ "$inverseMatch": { "from": "x" } }])), 40324);
        assert_eq!(code(bson!([{ "$match": {}, "$out": "x" }])), 40323);
        assert_eq!(code(bson!([{ "$changeStream": {} }])), 115);
        assert_eq!(
            code(bson!([{ "$match": { "$or": [{ "a": 1 }, { "$where": "1" }] } }])),
            115
        );
        assert_eq!(
            code(bson!([{ "$group": { "_id": 1, "n": { "$accumulator": {} } } }])),
            115
        );
        assert_eq!(code(bson!([{ "$listSearchIndexes": {} }])), 31082);
    }

    #[test]
    fn answers_that_would_be_wrong_are_refused() {
        assert_eq!(
            code(bson!([{ "$redact": { "$cond": ["$$ROOT.a", "$$KEEP", "$$DESCEND"] } }])),
            115
        );
        let within =
            |root: &str| bson!([{ "$redact": { "$cond": [root, "$$KEEP", "$$DESCEND"] } }]);
        assert_eq!(code(within("$a")), 0);
    }

    #[test]
    fn what_is_pruned_is_not_counted() {
        let checked = check_as(
            &["read@ada"],
            bson!([{ "$redact": "$$PRUNE" }, { "$limit": 1 }]),
        );
        let checked = checked.unwrap();
        let name = |stage: &Bson| stage.as_document().unwrap().keys().next().cloned();
        let names: Vec<_> = checked.iter().filter_map(name).collect();
        assert_eq!(names, ["$redact", "$match", "$limit"]);
    }

    #[test]
    fn buckets_are_sorted() {
        let checked = check_as(
            &["read@ada"],
            bson!([{ "$bucket": { "groupBy": "$a" } }, { "$limit": 1 }]),
        )
        .unwrap();
        assert_eq!(checked[1], bson!({ "$sort": { "_id": 1 } }));
        assert_eq!(checked.len(), 3);
    }

    #[test]
    fn raw_filters_get_the_same_look() {
        let check =
            |document| check_raw_expressions(&bson::RawDocumentBuf::try_from(&document).unwrap());
        assert!(check(doc! { "a": [{ "$where": "1" }] }).is_err());
        assert_eq!(
            check(doc! { "$expr": [{ "$avg": "$a" }] }),
            Ok(Found::Rewritable)
        );
        assert_eq!(check(doc! { "a": { "$gt": 1 } }), Ok(Found::Nothing));
    }
}
