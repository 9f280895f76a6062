//! The same listings as five tables for PostgreSQL, with a vector column. Plain
//! SQL that `psql` and Arena's own loader both run; foreign keys hold.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::document::{cents, halves};
use super::words::AMENITIES;
use super::{Host, Listing, Listings, host};
use crate::embed::DIMENSIONS;

/// Rows of one statement.
const ROWS: usize = 200;

const TABLES: &str = "\
CREATE TABLE hosts (
  id bigint PRIMARY KEY,
  name text NOT NULL,
  is_superhost boolean,
  response_rate integer CHECK (response_rate BETWEEN 0 AND 100),
  response_time text,
  total_listings_count integer NOT NULL
);
CREATE TABLE listings (
  id text PRIMARY KEY,
  host_id bigint NOT NULL REFERENCES hosts,
  name text NOT NULL,
  summary text NOT NULL,
  description text NOT NULL,
  neighborhood_overview text NOT NULL,
  transit text NOT NULL,
  property_type text NOT NULL,
  room_type text NOT NULL,
  price numeric(10,2) NOT NULL,
  bathrooms numeric(4,1) NOT NULL,
  bedrooms integer NOT NULL,
  beds integer NOT NULL,
  accommodates integer NOT NULL,
  minimum_nights integer NOT NULL,
  maximum_nights integer NOT NULL,
  number_of_reviews integer NOT NULL,
  market text NOT NULL,
  suburb text NOT NULL,
  country text NOT NULL,
  country_code char(2) NOT NULL,
  longitude numeric(9,6) NOT NULL,
  latitude numeric(9,6) NOT NULL,
  rating integer CHECK (rating BETWEEN 0 AND 100),
  embedding vector(16) NOT NULL
);
CREATE TABLE amenities (
  id integer PRIMARY KEY,
  name text NOT NULL UNIQUE
);
CREATE TABLE listing_amenities (
  listing_id text NOT NULL REFERENCES listings,
  amenity_id integer NOT NULL REFERENCES amenities,
  PRIMARY KEY (listing_id, amenity_id)
);
CREATE TABLE reviews (
  id text PRIMARY KEY,
  listing_id text NOT NULL REFERENCES listings,
  date date NOT NULL,
  reviewer_id bigint NOT NULL,
  reviewer_name text NOT NULL,
  comments text NOT NULL
);
";

/// Indexes that foreign keys do not bring; `listings` has none, exercises make them.
const INDEXES: &str = "\
CREATE INDEX reviews_listing_id ON reviews (listing_id);
";

/// Makes the statements in an order that keeps every foreign key.
pub(crate) fn statements(seed: u64, documents: u32) -> impl Iterator<Item = String> + use<> {
    debug_assert_eq!(DIMENSIONS, 16, "the table's column says so");
    let amenities = AMENITIES
        .iter()
        .zip(1..)
        .map(|(name, id)| format!("({id}, {})", text(name)));
    let hosts = used_hosts(seed, documents)
        .into_values()
        .map(|host| host_row(&host));
    let listings = Listings::new(seed, documents).map(|listing| listing_row(&listing));
    let has = Listings::new(seed, documents).flat_map(|listing| amenity_rows(&listing));
    let reviews = Listings::new(seed, documents).flat_map(|listing| review_rows(&listing));
    std::iter::once(TABLES.to_owned())
        .chain(inserts("amenities", amenities))
        .chain(inserts("hosts", hosts))
        .chain(inserts("listings", listings))
        .chain(inserts("listing_amenities", has))
        .chain(inserts("reviews", reviews))
        .chain(std::iter::once(INDEXES.to_owned()))
}

/// Hosts that have a listing, by id.
pub(crate) fn used_hosts(seed: u64, documents: u32) -> std::collections::BTreeMap<String, Host> {
    let used: BTreeSet<String> = Listings::new(seed, documents)
        .map(|listing| listing.host.id)
        .collect();
    (0..Listings::hosts(documents))
        .map(|number| host(seed, number))
        .filter(|host| used.contains(&host.id))
        .map(|host| (host.id.clone(), host))
        .collect()
}

/// Gathers rows into statements.
fn inserts(
    table: &'static str,
    rows: impl Iterator<Item = String>,
) -> impl Iterator<Item = String> {
    let mut rows = rows.peekable();
    std::iter::from_fn(move || {
        rows.peek()?;
        let many: Vec<String> = rows.by_ref().take(ROWS).collect();
        Some(format!(
            "INSERT INTO {table} VALUES\n{};\n",
            many.join(",\n")
        ))
    })
}

fn host_row(host: &Host) -> String {
    format!(
        "({}, {}, {}, {}, {}, {})",
        host.id,
        text(host.name),
        optional(host.superhost),
        optional(host.response_rate),
        host.response_time.map_or_else(|| "NULL".to_owned(), text),
        host.listings
    )
}

fn listing_row(listing: &Listing) -> String {
    let texts = [
        &listing.name,
        &listing.summary,
        &listing.description,
        &listing.neighborhood,
        &listing.transit,
    ]
    .map(|each| text(each));
    let mut vector = String::new();
    for part in listing.embedding {
        let comma = if vector.is_empty() { "" } else { "," };
        let _ = write!(vector, "{comma}{}.{:04}", part / 10_000, part % 10_000);
    }
    let market = listing.market;
    let columns = [
        format!("'{}'", listing.id),
        listing.host.id.clone(),
        texts.join(", "),
        text(listing.property),
        text(listing.room),
        cents(listing.price_cents),
        halves(listing.half_bathrooms),
        listing.bedrooms.to_string(),
        listing.beds.to_string(),
        listing.accommodates.to_string(),
        listing.minimum_nights.to_string(),
        listing.maximum_nights.to_string(),
        listing.reviews.len().to_string(),
        text(market.name),
        text(listing.suburb),
        text(market.country),
        text(market.code),
        millionths(listing.place.0),
        millionths(listing.place.1),
        optional(listing.scores.map(|scores| scores.rating)),
        format!("'[{vector}]'"),
    ];
    format!("({})", columns.join(", "))
}

fn amenity_rows(listing: &Listing) -> Vec<String> {
    let id = |amenity: &str| AMENITIES.iter().position(|name| *name == amenity);
    let ids = listing.amenities.iter().filter_map(|amenity| id(amenity));
    ids.map(|index| format!("('{}', {})", listing.id, index + 1))
        .collect()
}

fn review_rows(listing: &Listing) -> Vec<String> {
    let row = |review: &super::Review| {
        format!(
            "('{}', '{}', date '1970-01-01' + {}, {}, {}, {})",
            review.id,
            listing.id,
            review.day,
            review.reviewer_id,
            text(review.reviewer),
            text(&review.comments)
        )
    };
    listing.reviews.iter().map(row).collect()
}

/// A string literal; the words hold no backslash, and quotes are doubled.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

fn millionths(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let value = value.abs();
    format!("{sign}{}.{:06}", value / 1_000_000, value % 1_000_000)
}
