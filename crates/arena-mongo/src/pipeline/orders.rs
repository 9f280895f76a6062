//! What stands right behind a stage that excludes fields. A `$set` there still reads
//! them in the engine; and where a stage after a `$sort` computes a field that is
//! sorted by, the engine sorts by the computed one.

use bson::{Bson, Document, bson};

use super::Place;
use super::expressions::only;

/// Stages so far, and whether fields were excluded since the last one that keeps others from that.
#[derive(Default)]
pub(super) struct Order {
    pub(super) stages: Vec<Bson>,
    is_open: bool,
}

impl Order {
    /// Adds the next stage of a pipeline, and what has to stand before it.
    pub(super) fn push(&mut self, stage: Bson, place: Place) {
        let parting = self.before(&stage, place);
        self.stages.extend(parting);
        self.stages.push(stage);
    }

    fn before(&mut self, stage: &Bson, place: Place) -> Option<Bson> {
        let (name, value) = stage.as_document().and_then(only)?;
        match name {
            "$unset" => self.is_open = true,
            "$project" => self.is_open = value.as_document().is_some_and(excludes),
            "$match" | "$skip" | "$limit" => {}
            "$sort" | "$set" | "$addFields" | "$fill" if self.is_open && place != Place::Update => {
                self.is_open = false;
                return Some(bson!({ "$replaceRoot": { "newRoot": "$$ROOT" } }));
            }
            _ => self.is_open = false,
        }
        None
    }
}

/// Whether a projection names what it leaves out.
fn excludes(projection: &Document) -> bool {
    projection.iter().any(|(path, value)| match value {
        Bson::Boolean(is_included) => !is_included && path != "_id",
        Bson::Document(inner) => !inner.keys().any(|key| key.starts_with('$')) && excludes(inner),
        number => path != "_id" && crate::commands::whole(number) == Some(0),
    }) || matches!(
        only(projection),
        Some(("_id", Bson::Boolean(false) | Bson::Int32(0)))
    )
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn is_parted(stages: &[Document]) -> bool {
        let mut order = Order::default();
        let stages = stages.iter().cloned().map(Bson::Document);
        stages
            .map(|stage| order.before(&stage, Place::Top))
            .any(|one| one.is_some())
    }

    #[test]
    fn what_is_behind_an_exclusion_is_parted_from_it() {
        let sort = doc! { "$sort": { "a": 1 } };
        for excluding in [
            doc! { "$unset": "b" },
            doc! { "$project": { "b": 0 } },
            doc! { "$project": { "b": { "c": false } } },
            doc! { "$project": { "_id": 0 } },
        ] {
            let between = doc! { "$match": { "a": 1 } };
            assert!(
                is_parted(&[excluding.clone(), between, sort.clone()]),
                "{excluding}"
            );
            let set = doc! { "$set": { "c": "$b" } };
            assert!(is_parted(&[excluding.clone(), set]), "{excluding}");
            let group = doc! { "$group": { "_id": "$b" } };
            assert!(!is_parted(&[excluding, group, sort.clone()]));
        }
        for other in [
            doc! { "$project": { "b": 1, "_id": 0 } },
            doc! { "$set": { "b": 1 } },
        ] {
            assert!(!is_parted(&[other.clone(), sort.clone()]), "{other}");
        }
    }
}
