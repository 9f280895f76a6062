//! Variables of the time. The engine has no `$$CLUSTER_TIME`, and no `$$NOW` in
//! groups or in an update of all documents; both are the same for a whole command, so that constants do.

use bson::{Bson, Document, Timestamp};

use super::Place;

const NOW: &str = "$$NOW";
/// Stages in which the engine knows no time.
const GROUPING: [&str; 4] = ["$group", "$bucket", "$bucketAuto", "$sortByCount"];
const CLUSTER_TIME: &str = "$$CLUSTER_TIME";

/// Returns a stage's value with the time in place of variables, if it has any that the engine lacks.
pub(super) fn with_times(name: &str, value: &Bson, place: Place) -> Option<Bson> {
    // Conditions are no expressions, and pipelines inside get the same look.
    if matches!(
        name,
        "$match" | "$geoNear" | "$facet" | "$lookup" | "$unionWith" | "$merge"
    ) {
        return None;
    }
    // A view's pipeline is read at another time.
    let is_without = place == Place::Update || (place == Place::Top && GROUPING.contains(&name));
    is_named(value, is_without).then(|| replaced(value, is_without))
}

fn is_time(text: &str, is_without_now: bool) -> bool {
    text == CLUSTER_TIME || (is_without_now && text == NOW)
}

fn is_named(value: &Bson, is_without_now: bool) -> bool {
    match value {
        Bson::String(text) => is_time(text, is_without_now),
        Bson::Array(values) => values.iter().any(|value| is_named(value, is_without_now)),
        Bson::Document(fields) => fields
            .iter()
            .any(|(name, value)| name != "$literal" && is_named(value, is_without_now)),
        _ => false,
    }
}

fn replaced(value: &Bson, is_without_now: bool) -> Bson {
    match value {
        Bson::String(text) if is_time(text, is_without_now) => time(text),
        Bson::Array(values) => values
            .iter()
            .map(|value| replaced(value, is_without_now))
            .collect(),
        Bson::Document(fields) => Bson::Document(
            fields
                .iter()
                .map(|(name, value)| match name.as_str() {
                    "$literal" => (name.clone(), value.clone()),
                    _ => (name.clone(), replaced(value, is_without_now)),
                })
                .collect::<Document>(),
        ),
        other => other.clone(),
    }
}

fn time(variable: &str) -> Bson {
    if variable == NOW {
        return Bson::DateTime(bson::DateTime::now());
    }
    Bson::Timestamp(cluster_time())
}

/// The cluster's time: that of the one node that there is.
pub(crate) fn cluster_time() -> Timestamp {
    let seconds = bson::DateTime::now().timestamp_millis() / 1000;
    Timestamp {
        time: u32::try_from(seconds).unwrap_or(u32::MAX),
        increment: 1,
    }
}
