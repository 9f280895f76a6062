//! Places on the globe. The engine measures on another sphere than MongoDB, and takes
//! `$centerSphere` for a circle on an ellipsoid.

use std::f64::consts::PI;

use bson::{Bson, Document, bson, doc};

use crate::error::CommandError;

/// Operators that hold a shape.
pub(super) const HOLDERS: [&str; 2] = ["$geoWithin", "$geoIntersects"];

/// How far, in degrees, a polygon's corners may be from its middle: beyond 45 the engine takes some for their
/// complement.
const EXTENT_MAX: f64 = 40.0;

/// The engine's radius of the globe (PostGIS' mean radius of WGS 84) in MongoDB's, which are 6,378.1 km
/// (`kRadiusOfEarthInMeters` of its source).
pub(super) const RADII: f64 = 6_371_008.771_415_059 / 6_378_100.0;

/// Corners of a circle, which reach out of it by less than a ten-thousandth of its radius.
const CORNERS: u16 = 256;

/// A circle that a polygon stands for may be so large, in radians, and reach so far north, south, east and west, in
/// degrees: the engine refuses polygons over the antimeridian, loses points of one over a pole, and takes vast ones for
/// their complement.
const RADIUS_MAX: f64 = 0.65;
const REACH_MAX: (f64, f64) = (179.9, 89.9);

/// Returns the operators of a field with the distances of `$near` and `$nearSphere` as the engine measures them, if
/// there are any.
pub(super) fn measured(operators: &Document) -> Option<Document> {
    let mut measured = operators.clone();
    let mut is_changed = false;
    for name in ["$near", "$nearSphere"] {
        match measured.get_mut(name) {
            Some(Bson::Document(near)) if near.contains_key("$geometry") => {
                is_changed |= scale(near, "$maxDistance");
            }
            Some(_) if name == "$nearSphere" => is_changed |= scale(&mut measured, "$maxDistance"),
            _ => {}
        }
    }
    is_changed.then_some(measured)
}

/// Whether a field has to be so far away at least, which only a `$geoNear` can tell.
pub(crate) fn has_least(operators: &Document) -> bool {
    let near = ["$near", "$nearSphere"]
        .iter()
        .find_map(|name| operators.get(name));
    let inside = near.and_then(|near| near.as_document()?.get("$minDistance"));
    let least = inside.or_else(|| operators.get("$minDistance").filter(|_| near.is_some()));
    least.and_then(number).is_some_and(|least| least > 0.0)
}

/// Whether something near is asked for where only a part of a filter says so, which cannot order what is found.
pub(crate) fn is_near_inside(filter: &Document) -> bool {
    has_near(filter, true)
}

/// Whether something near is asked for anywhere in a filter.
pub(crate) fn is_near_at_all(filter: &Document) -> bool {
    has_near(filter, false)
}

fn has_near(filter: &Document, is_top: bool) -> bool {
    let is_near = |name: &String| matches!(name.as_str(), "$near" | "$nearSphere" | "$geoNear");
    filter.iter().any(|(name, value)| match value {
        Bson::Array(parts) if matches!(name.as_str(), "$and" | "$or" | "$nor") => {
            let mut parts = parts.iter().filter_map(Bson::as_document);
            parts.any(|part| has_near(part, is_top && name == "$and"))
        }
        Bson::Document(operators) if !name.starts_with('$') => {
            let negated = operators.get("$not").and_then(Bson::as_document);
            (!is_top && operators.keys().any(is_near))
                || negated.is_some_and(|negated| negated.keys().any(is_near))
        }
        _ => false,
    })
}

/// Returns a find's `$near` or `$nearSphere` of a field as a `$geoNear` without its query, with what else is asked of
/// the field; nothing where it is written in a way that only the engine knows.
pub(crate) fn as_stage(
    path: &str,
    operators: &Document,
    into: &str,
) -> Option<(Document, Document)> {
    let mut others = operators.clone();
    let (name, near) = ["$near", "$nearSphere"]
        .iter()
        .find_map(|name| Some((*name, others.remove(name)?)))?;
    let mut distances = others.clone();
    others.remove("$maxDistance");
    others.remove("$minDistance");
    let (point, is_spherical) = match near {
        Bson::Document(mut near) if near.contains_key("$geometry") => {
            let point = near.remove("$geometry")?;
            let is_known = |name: &String| matches!(name.as_str(), "$maxDistance" | "$minDistance");
            let is_plain = near.keys().all(is_known) && distances.len() == others.len();
            is_geojson(point.as_document()?).then_some(())?;
            distances = is_plain.then_some(near)?;
            (point, true)
        }
        Bson::Array(point) if point.len() == 2 => (Bson::Array(point), name == "$nearSphere"),
        _ => return None,
    };
    let mut stage =
        doc! { "near": point, "key": path, "distanceField": into, "spherical": is_spherical };
    for (from, to) in [
        ("$maxDistance", "maxDistance"),
        ("$minDistance", "minDistance"),
    ] {
        if let Some(distance) = distances.get(from) {
            number(distance)?;
            stage.insert(to, distance.clone());
        }
    }
    Some((stage, others))
}

/// Returns what is within a `$centerSphere` as MongoDB measures it; nothing where the engine's ellipse has to do.
pub(super) fn within(shape: &Bson) -> Option<Bson> {
    let [center, radius] = shape
        .as_document()?
        .get_array("$centerSphere")
        .ok()?
        .as_slice()
    else {
        return None;
    };
    let numbers: Vec<f64> = match center {
        Bson::Array(center) => center.iter().map(number).collect::<Option<_>>()?,
        Bson::Document(center) => center.values().map(number).collect::<Option<_>>()?,
        _ => return None,
    };
    let ([longitude, latitude], radius) = (<[f64; 2]>::try_from(numbers).ok()?, number(radius)?);
    if !(f64::MIN_POSITIVE..=RADIUS_MAX).contains(&radius) {
        return None;
    }
    // The circle touches the polygon's sides from inside: what lies on its edge is in.
    let corner = (radius.tan() / (PI / f64::from(CORNERS)).cos()).atan() * (1.0 + 1e-9);
    let aside = (corner.sin() / latitude.to_radians().cos()).asin();
    let is_inside = longitude.abs() + aside.to_degrees() < REACH_MAX.0
        && latitude.abs() + corner.to_degrees() < REACH_MAX.1;
    if !is_inside {
        return None;
    }
    let corners = (0..CORNERS).chain([0]).map(|number| {
        let direction = -2.0 * PI * f64::from(number) / f64::from(CORNERS);
        destination((longitude, latitude), direction, corner)
    });
    let corners: Vec<Bson> = corners.map(|(x, y)| bson!([x, y])).collect();
    Some(bson!({ "$geometry": { "type": "Polygon", "coordinates": [corners] } }))
}

/// Refuses polygons of which the engine takes one in ten for all the rest of the globe.
pub(super) fn check_extent(shape: &Bson) -> Result<(), CommandError> {
    if rings(shape).into_iter().any(is_vast) {
        return Err(CommandError::not_supported(
            "a polygon with corners more than 40 degrees from its middle",
        ));
    }
    Ok(())
}

/// Whether a shape has a polygon with a pole inside, of which the engine's index loses nearly everything.
pub(super) fn is_around_a_pole(shape: &Bson) -> bool {
    rings(shape).into_iter().any(goes_around)
}

/// Returns the rings of a polygon or of several.
fn rings(shape: &Bson) -> Vec<&[Bson]> {
    let Some(geometry) = shape
        .as_document()
        .and_then(|shape| shape.get_document("$geometry").ok())
    else {
        return Vec::new();
    };
    let coordinates = geometry.get_array("coordinates").ok().into_iter().flatten();
    let outer = coordinates.filter_map(|part| part.as_array().map(Vec::as_slice));
    match geometry.get_str("type") {
        Ok("Polygon") => outer.collect(),
        Ok("MultiPolygon") => outer
            .flatten()
            .filter_map(|ring| ring.as_array().map(Vec::as_slice))
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether a ring has corners too far from the middle of all.
fn is_vast(ring: &[Bson]) -> bool {
    let corners = ring.iter().map(|corner| {
        let corner = corner.as_array()?;
        let longitude = number(corner.first()?)?.to_radians();
        let latitude = number(corner.get(1)?)?.to_radians();
        let aside = latitude.cos();
        Some([
            aside * longitude.cos(),
            aside * longitude.sin(),
            latitude.sin(),
        ])
    });
    let Some(corners) = corners.collect::<Option<Vec<[f64; 3]>>>() else {
        return false;
    };
    let middle = corners.iter().fold([0.0; 3], |sum, corner| {
        [sum[0] + corner[0], sum[1] + corner[1], sum[2] + corner[2]]
    });
    let product = |a: &[f64; 3], b: &[f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let least = product(&middle, &middle).sqrt() * EXTENT_MAX.to_radians().cos();
    corners
        .iter()
        .any(|corner| product(corner, &middle) < least)
}

/// Whether the corners of a ring, each by the shorter way, lead once around the globe.
fn goes_around(ring: &[Bson]) -> bool {
    let longitudes = ring
        .iter()
        .map(|corner| corner.as_array()?.first().and_then(number));
    let Some(longitudes) = longitudes.collect::<Option<Vec<f64>>>() else {
        return false;
    };
    let steps = longitudes.windows(2);
    let turned: f64 = steps
        .map(|step| (step[1] - step[0] + 540.0).rem_euclid(360.0) - 180.0)
        .sum();
    turned.abs() > 180.0
}

/// Where one comes to from a point, in degrees, in a direction, clockwise from north, after a distance, both in
/// radians.
fn destination((longitude, latitude): (f64, f64), direction: f64, distance: f64) -> (f64, f64) {
    let latitude = latitude.to_radians();
    let (ahead, aside) = (direction.cos(), direction.sin());
    let height = latitude.sin() * distance.cos() + latitude.cos() * distance.sin() * ahead;
    let east =
        (aside * distance.sin() * latitude.cos()).atan2(distance.cos() - latitude.sin() * height);
    (longitude + east.to_degrees(), height.asin().to_degrees())
}

pub(super) fn is_geojson(point: &Document) -> bool {
    point.contains_key("type") || point.contains_key("coordinates")
}

/// Writes a distance as the engine measures it; false where there is none.
pub(super) fn scale(document: &mut Document, field: &str) -> bool {
    let Some(distance) = document.get(field).and_then(number) else {
        return false;
    };
    document.insert(field, distance * RADII);
    true
}

pub(super) fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(number) => Some(f64::from(*number)),
        Bson::Int64(_) | Bson::Decimal128(_) => value.to_string().parse().ok(),
        Bson::Double(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_lie_around_the_center() {
        let (x, y) = destination((10.0, 0.0), PI / 2.0, 1_f64.to_radians());
        assert!((x - 11.0).abs() < 1e-12 && y.abs() < 1e-12, "{x} {y}");
        let (x, y) = destination((10.0, 45.0), PI, 2_f64.to_radians());
        assert!(
            (x - 10.0).abs() < 1e-12 && (y - 43.0).abs() < 1e-12,
            "{x} {y}"
        );
    }

    #[test]
    fn rings_around_a_pole_are_told_from_others() {
        let is_around = |kind: &str, coordinates: Bson| {
            is_around_a_pole(&bson!({ "$geometry": { "type": kind, "coordinates": coordinates } }))
        };
        let around = bson!([[0, 85], [90, 85], [180, 85], [-90, 85], [0, 85]]);
        let across = bson!([[179, -1], [-179, -1], [-179, 1], [179, 1], [179, -1]]);
        assert!(is_around("Polygon", bson!([around.clone()])));
        assert!(!is_around("Polygon", bson!([across.clone()])));
        assert!(is_around(
            "MultiPolygon",
            bson!([[across], [around.clone()]])
        ));
        assert!(!is_around("LineString", around));
        assert!(!is_around("Polygon", bson!([[["x", 85], 5]])));
        assert!(!is_around_a_pole(&bson!({ "$box": [[0, 0], [1, 1]] })));
    }

    #[test]
    fn vast_polygons_are_refused() {
        let checked = |half: i32| {
            let ring = bson!([[-half, -half], [half, -half], [half, half], [-half, half]]);
            check_extent(&bson!({ "$geometry": { "type": "Polygon", "coordinates": [ring] } }))
        };
        assert!(checked(20).is_ok());
        assert!(checked(40).is_err());
        assert!(check_extent(&bson!({ "$box": [[-90, -90], [90, 90]] })).is_ok());
    }

    #[test]
    fn circles_that_no_polygon_can_stand_for_stay() {
        let circle = |x: f64, y: f64, radius: f64| {
            within(&bson!({ "$centerSphere": [[x, y], radius] })).is_some()
        };
        assert!(circle(10.0, 45.0, 0.01));
        assert!(!circle(179.8, 10.0, 0.01));
        assert!(!circle(0.0, 89.0, 0.05));
        assert!(!circle(0.0, 89.8, 0.01));
        assert!(!circle(0.0, 0.0, 3.0));
        assert!(!circle(0.0, 0.0, 0.0));
        assert!(!circle(f64::NAN, 0.0, 0.1));
        assert!(!circle(0.0, 0.0, f64::NAN));
        assert_eq!(within(&bson!({ "$center": [[0, 0], 1] })), None);
    }

    #[test]
    fn what_is_near_is_measured_or_stays() {
        let point = bson!({ "type": "Point", "coordinates": [1, 2] });
        let near =
            doc! { "$near": { "$geometry": point.clone(), "$minDistance": 5 }, "$exists": true };
        assert_eq!(
            as_stage("l", &near, "d"),
            Some((
                doc! { "near": point.clone(), "key": "l", "distanceField": "d", "spherical": true, "minDistance": 5 },
                doc! { "$exists": true },
            ))
        );
        let plane = doc! { "$near": [1, 2], "$maxDistance": 3 };
        let (stage, others) = as_stage("l", &plane, "d").unwrap();
        assert_eq!(stage.get("maxDistance"), Some(&Bson::Int32(3)));
        assert!(others.is_empty());
        assert_eq!(measured(&plane), None);
        for odd in [
            doc! { "$near": { "$geometry": point, "$maxDistance": "x" } },
            doc! { "$near": { "$geometry": 5 } },
            doc! { "$near": [1, 2, 3] },
            doc! { "$gt": 5 },
        ] {
            assert_eq!(as_stage("l", &odd, "d"), None, "{odd}");
        }
    }
}
