//! A listing as a document of `listingsAndReviews`: the fields and BSON types
//! that the exercises know.

use bson::{Bson, DateTime, Decimal128, Document, doc};

use super::{Host, Listing, Review};
use crate::embed::decimal;

const DAY_MS: i64 = 86_400_000;
/// Names of the six parts of the scores.
const PARTS: [&str; 6] = [
    "accuracy",
    "cleanliness",
    "checkin",
    "communication",
    "location",
    "value",
];

/// Makes the document.
pub(crate) fn of(listing: &Listing) -> Document {
    let (id, market) = (&listing.id, listing.market);
    doc! {
        "_id": id,
        "listing_url": format!("https://listings.example/rooms/{id}"),
        "name": &listing.name,
        "summary": &listing.summary,
        "description": &listing.description,
        "neighborhood_overview": &listing.neighborhood,
        "transit": &listing.transit,
        "property_type": listing.property,
        "room_type": listing.room,
        "minimum_nights": listing.minimum_nights.to_string(),
        "maximum_nights": listing.maximum_nights.to_string(),
        "accommodates": listing.accommodates,
        "bedrooms": listing.bedrooms,
        "beds": listing.beds,
        "number_of_reviews": i32::try_from(listing.reviews.len()).unwrap_or(i32::MAX),
        "bathrooms": decimal128(&halves(listing.half_bathrooms)),
        "amenities": listing.amenities.as_slice(),
        "price": decimal128(&cents(listing.price_cents)),
        "images": { "picture_url": format!("https://listings.example/pictures/{id}.jpg") },
        "host": host(&listing.host),
        "address": {
            "street": &listing.street,
            "suburb": listing.suburb,
            "government_area": listing.suburb,
            "market": market.name,
            "country": market.country,
            "country_code": market.code,
            "location": {
                "type": "Point",
                "coordinates": [degrees(listing.place.0), degrees(listing.place.1)],
                "is_location_exact": true,
            },
        },
        "review_scores": scores(listing),
        "reviews": listing.reviews.iter().map(|each| review(id, each)).collect::<Vec<Bson>>(),
        "embedding": listing.embedding.iter().map(|part| Bson::Double(decimal(*part))).collect::<Vec<Bson>>(),
    }
}

fn host(host: &Host) -> Document {
    let mut document = doc! {
        "host_id": &host.id,
        "host_name": host.name,
        "host_response_time": host.response_time,
        "host_response_rate": host.response_rate,
        "host_total_listings_count": host.listings,
    };
    if let Some(superhost) = host.superhost {
        document.insert("host_is_superhost", superhost);
    }
    document
}

fn scores(listing: &Listing) -> Document {
    let mut document = Document::new();
    if let Some(scores) = listing.scores {
        for (name, part) in PARTS.into_iter().zip(scores.parts) {
            document.insert(format!("review_scores_{name}"), part);
        }
        document.insert("review_scores_rating", scores.rating);
    }
    document
}

fn review(listing: &str, review: &Review) -> Bson {
    let document = doc! {
        "_id": &review.id,
        "date": DateTime::from_millis(review.day * DAY_MS),
        "listing_id": listing,
        "reviewer_id": &review.reviewer_id,
        "reviewer_name": review.reviewer,
        "comments": &review.comments,
    };
    Bson::Document(document)
}

fn decimal128(text: &str) -> Decimal128 {
    text.parse().expect("digits and one point are a decimal")
}

/// Cents as a decimal with two places.
pub(crate) fn cents(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Halves as a decimal with one place.
pub(crate) fn halves(halves: u64) -> String {
    format!("{}.{}", halves / 2, halves % 2 * 5)
}

/// Millionths as the nearest floating point number.
fn degrees(millionths: i64) -> f64 {
    f64::from(i32::try_from(millionths).unwrap_or(0)) / 1_000_000.0
}
