//! `$geoNear`. The engine measures on another sphere than MongoDB and with other last
//! digits, lets only what is nearer than `minDistance` through an index, and loses the
//! stage before `$match`. So what it finds is measured once more, as MongoDB does.

use std::f64::consts::PI;

use bson::{Bson, Document, bson, doc};

use super::accumulators::HELPER;
use super::geo::{RADII, is_geojson, is_near_at_all, number, scale};
use super::paths::check_path;
use crate::error::CommandError;

/// The globe's radius in metres (`kRadiusOfEarthInMeters` of MongoDB's source).
const RADIUS: f64 = 6_378_100.0;
const DEGREE: f64 = PI / 180.0;

/// Options that MongoDB knows, or knew and refuses by a name of their own.
const OPTIONS: [&str; 13] = [
    "near",
    "distanceField",
    "spherical",
    "maxDistance",
    "minDistance",
    "query",
    "distanceMultiplier",
    "key",
    "includeLocs",
    "uniqueDocs",
    "limit",
    "num",
    "start",
];

/// Returns the stages that run in place of a `$geoNear`.
pub(super) fn stages(mut stage: Document) -> Vec<Bson> {
    plain_point(&mut stage);
    let is_geojson = stage.get_document("near").is_ok_and(is_geojson);
    let is_spherical = match stage.get("spherical") {
        Some(Bson::Boolean(value)) => *value,
        Some(other) => number(other).is_some_and(|value| value != 0.0),
        None => false,
    };
    let multiplier = stage.get("distanceMultiplier").map_or(Some(1.0), number);
    let least = stage.get("minDistance").and_then(number);
    if is_geojson || is_spherical {
        scale(&mut stage, "maxDistance");
    }
    if let Some(multiplier) = multiplier.filter(|_| is_geojson) {
        stage.insert("distanceMultiplier", multiplier / RADII);
    }
    let measured = match multiplier {
        Some(multiplier) if is_geojson || is_spherical => {
            point(&stage).map(|point| (point, is_geojson, multiplier))
        }
        _ => None,
    };
    let asked = stage.get_str("distanceField").ok().map(str::to_owned);
    let helper = format!("{HELPER}Distance");
    let mut last = set(&mut stage, asked.as_deref(), measured);
    if asked.is_none() {
        stage.insert("distanceField", helper.as_str());
        last.push(bson!({ "$unset": &helper }));
    }
    // A limit that is none keeps the engine from filtering before it has measured.
    let mut after = vec![bson!({ "$limit": i64::MAX })];
    if let (Some(least), Some(multiplier)) = (least, multiplier) {
        stage.remove("minDistance");
        if least > 0.0 {
            // What lies on the edge is in, however the last digit comes out.
            let least = least * multiplier * (1.0 - 1e-12);
            let field = stage.get_str("distanceField").unwrap_or(&helper);
            after.push(bson!({ "$match": { field: { "$gte": least } } }));
        }
    }
    after.extend(last);
    std::iter::once(bson!({ "$geoNear": stage }))
        .chain(after)
        .collect()
}

/// Writes a point with its first two coordinates, of which the engine takes a third for a height.
fn plain_point(stage: &mut Document) {
    let Some(Bson::Document(near)) = stage.get_mut("near") else {
        return;
    };
    let Some(coordinates) = near.get("coordinates").and_then(listed) else {
        return;
    };
    let plain: Vec<Bson> = coordinates.into_iter().take(2).collect();
    near.insert("coordinates", plain);
}

/// The coordinates of a point, which may be an object's values.
fn listed(coordinates: &Bson) -> Option<Vec<Bson>> {
    match coordinates {
        Bson::Array(values) => Some(values.clone()),
        Bson::Document(fields) => Some(fields.values().cloned().collect()),
        _ => None,
    }
}

/// From where is measured, in degrees.
fn point(stage: &Document) -> Option<[f64; 2]> {
    let near = stage.get("near")?;
    let coordinates = match near {
        Bson::Document(geometry) if is_geojson(geometry) => listed(geometry.get("coordinates")?)?,
        other => listed(other)?,
    };
    let numbers = coordinates.iter().map(number).collect::<Option<Vec<f64>>>();
    numbers?.try_into().ok()
}

/// Returns what writes the distance, and then the place, as MongoDB does; the engine writes them into fields of their
/// own first.
fn set(
    stage: &mut Document,
    asked: Option<&str>,
    measured: Option<([f64; 2], bool, f64)>,
) -> Vec<Bson> {
    let place = stage.get_str("includeLocs").ok().map(str::to_owned);
    let is_above = |above: &str, below: &str| {
        let rest = below.strip_prefix(above);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let conflict = match (asked, &place) {
        (Some(distance), Some(place)) => is_above(distance, place) || is_above(place, distance),
        _ => false,
    };
    let distance = asked.filter(|_| !conflict && (measured.is_some() || place.is_some()));
    let Some(distance) = distance else {
        return Vec::new();
    };
    let (as_found, at) = (format!("{HELPER}Distance"), format!("{HELPER}Place"));
    stage.insert("distanceField", as_found.as_str());
    stage.insert("includeLocs", at.as_str());
    let value = match measured {
        Some((from, in_metres, multiplier)) => {
            distance_from(from, in_metres, multiplier, &as_found, &at)
        }
        None => Bson::String(format!("${as_found}")),
    };
    let mut fields = doc! { distance: value };
    fields.extend(place.map(|place| (place, Bson::String(format!("${at}")))));
    vec![
        bson!({ "$set": fields }),
        bson!({ "$unset": [as_found, at] }),
    ]
}

/// The distance of a place that is a point; of others what the engine has measured.
fn distance_from(
    from: [f64; 2],
    in_metres: bool,
    multiplier: f64,
    as_found: &str,
    at: &str,
) -> Bson {
    let at = format!("${at}");
    let inside = |field: &str| format!("{at}.{field}");
    let is_pair = |value: &str| {
        bson!({ "$and": [
            { "$isArray": [value] },
            { "$isNumber": { "$arrayElemAt": [value, 0] } },
            { "$isNumber": { "$arrayElemAt": [value, 1] } },
        ] })
    };
    let is_point = bson!({ "$eq": [inside("type"), "Point"] });
    let is_legacy = bson!({ "$and": [
        { "$eq": [{ "$type": &at }, "object"] },
        { "$eq": [{ "$type": inside("coordinates") }, "missing"] },
    ] });
    let values = bson!({ "$map": { "input": { "$objectToArray": &at }, "in": "$$this.v" } });
    let coordinates = bson!({ "$switch": {
        "branches": [
            { "case": { "$isArray": [&at] }, "then": &at },
            { "case": is_point, "then": inside("coordinates") },
            { "case": is_legacy, "then": values },
        ],
        "default": null,
    } });
    let metres = bson!({ "$multiply": [angle(from), RADIUS] });
    let distance = if in_metres {
        metres
    } else {
        bson!({ "$divide": [metres, RADIUS] })
    };
    let distance = if multiplier == 1.0 {
        distance
    } else {
        bson!({ "$multiply": [distance, multiplier] })
    };
    bson!({ "$let": { "vars": { "arenaAt": coordinates }, "in": {
        "$cond": [is_pair("$$arenaAt"), distance, format!("${as_found}")],
    } } })
}

/// The angle between two unit vectors, in the steps that MongoDB takes, so that the last digit is the same.
fn angle([longitude, latitude]: [f64; 2]) -> Bson {
    let (longitude, latitude) = (longitude * DEGREE, latitude * DEGREE);
    let from = [
        latitude.cos() * longitude.cos(),
        latitude.cos() * longitude.sin(),
        latitude.sin(),
    ];
    let times = |a: f64, b: &str| bson!({ "$multiply": [a, b] });
    let minus = |a: Bson, b: Bson| bson!({ "$subtract": [a, b] });
    let sum = |[a, b, c]: [Bson; 3]| bson!({ "$add": [{ "$add": [a, b] }, c] });
    let square = |a: &str| bson!({ "$multiply": [a, a] });
    let [x, y, z] = from;
    let to = ["$$arenaX", "$$arenaY", "$$arenaZ"];
    let cross = doc! {
        "arenaA": minus(times(y, to[2]), times(z, to[1])),
        "arenaB": minus(times(z, to[0]), times(x, to[2])),
        "arenaC": minus(times(x, to[1]), times(y, to[0])),
    };
    let dot = sum([times(x, to[0]), times(y, to[1]), times(z, to[2])]);
    let norm = sum([square("$$arenaA"), square("$$arenaB"), square("$$arenaC")]);
    let between =
        bson!({ "$let": { "vars": cross, "in": { "$atan2": [{ "$sqrt": norm }, dot] } } });
    let radians = |place: i32| bson!({ "$multiply": [{ "$toDouble": { "$arrayElemAt": ["$$arenaAt", place] } }, DEGREE] });
    let aside = bson!({ "$cos": "$$arenaLatitude" });
    let vector = doc! {
        "arenaX": { "$multiply": [aside.clone(), { "$cos": "$$arenaLongitude" }] },
        "arenaY": { "$multiply": [aside, { "$sin": "$$arenaLongitude" }] },
        "arenaZ": { "$sin": "$$arenaLatitude" },
    };
    let angles = doc! { "arenaLongitude": radians(0), "arenaLatitude": radians(1) };
    bson!({ "$let": { "vars": angles, "in": { "$let": { "vars": vector, "in": between } } } })
}

/// What `$geoNear` needs; the engine measures from 0, 0 where it is not said from where.
pub(super) fn check(stage: &Bson) -> Result<(), CommandError> {
    let near = match stage {
        Bson::Document(near) => near,
        Bson::Array(_) => return Err(from_nowhere()),
        _ => return Ok(()),
    };
    for (field, code, name) in [
        ("distanceField", 16606, "Location16606"),
        ("includeLocs", 16607, "Location16607"),
    ] {
        match near.get(field) {
            None => {}
            Some(Bson::String(path)) => check_path(path)?,
            Some(_) => {
                let message = format!("$geoNear requires that '{field}' option is a String");
                return Err(CommandError::new(code, name, message));
            }
        }
    }
    if let Some(option) = near.keys().find(|key| !OPTIONS.contains(&key.as_str())) {
        let message = format!("Unknown argument to $geoNear: {option}");
        return Err(CommandError::bad_value(message));
    }
    if let Ok(key) = near.get_str("key")
        && !key.is_empty()
    {
        check_path(key)?;
    }
    check_query(near)?;
    check_distances(near)?;
    check_point(near.get("near").ok_or_else(from_nowhere)?)
}

fn from_nowhere() -> CommandError {
    let message = "$geoNear requires a 'near' option as an Array or Object";
    CommandError::new(5_860_400, "Location5860400", message)
}

fn check_query(near: &Document) -> Result<(), CommandError> {
    match near.get("query") {
        Some(Bson::Document(query)) if asks_near(query) => {
            let message = "$geoNear, $near, and $nearSphere are not allowed in this context";
            Err(CommandError::new(5_626_500, "Location5626500", message))
        }
        None | Some(Bson::Document(_)) => Ok(()),
        Some(_) => Err(CommandError::type_mismatch(
            "$geoNear requires that 'query' is an Object",
        )),
    }
}

fn asks_near(query: &Document) -> bool {
    let is_near = |name: &String| matches!(name.as_str(), "$near" | "$nearSphere" | "$geoNear");
    let mut fields = query.values().filter_map(Bson::as_document);
    is_near_at_all(query) || fields.any(|operators| operators.keys().any(is_near))
}

fn check_distances(near: &Document) -> Result<(), CommandError> {
    let least = near.get("minDistance").and_then(number);
    if least.is_some_and(|least| least.is_nan() || least < 0.0) {
        return Err(CommandError::bad_value("minDistance must be non-negative"));
    }
    Ok(())
}

fn check_point(point: &Bson) -> Result<(), CommandError> {
    let is_nan = |values: Vec<Bson>| {
        let mut numbers = values.iter().filter_map(number);
        numbers.any(f64::is_nan)
    };
    match point {
        Bson::String(path) if path.starts_with('$') && !path.starts_with("$$") => {
            let message = "$geoNear requires a 'near' that is a constant";
            Err(CommandError::new(5_860_402, "Location5860402", message))
        }
        Bson::Array(values) if values.len() > 3 || is_nan(values.clone()) => Err(
            CommandError::bad_value("invalid argument in geo near query: near"),
        ),
        Bson::Array(_) => Ok(()),
        Bson::Document(geometry) => {
            let coordinates = geometry.get("coordinates").and_then(listed);
            let kind = geometry.get_str("type").unwrap_or("Point");
            let is_misspelt = kind != "Point" && kind.eq_ignore_ascii_case("point");
            if is_misspelt || coordinates.is_some_and(is_nan) {
                let message = "invalid argument in geo near query: near";
                return Err(CommandError::bad_value(message));
            }
            Ok(())
        }
        _ => {
            let message = "$geoNear requires that 'near' is an Array or Object";
            Err(CommandError::new(5_860_401, "Location5860401", message))
        }
    }
}
