//! What right answers are, computed from the plain values with integers and
//! without any database: tests compare it with what real engines say.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::relational::used_hosts;
use super::words::AMENITIES;
use super::{Listing, Listings};
use crate::embed::embed_scaled;
use crate::set::DataSet;

/// Rows of a page in the filter exercise.
const FILTER_PAGE: usize = 12;
/// Rows of a page in the paging exercise.
const PAGE: usize = 5;
/// Nearest neighbours that are named.
const NEAREST: usize = 5;
/// What the exercise searches for.
const QUERY: &str = "cozy apartment near beach";

/// Right answers about a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// The set's name.
    pub set: String,
    /// Its seed.
    pub seed: u64,
    /// Documents of its collection.
    pub documents: u32,
    /// Whether it is large enough for every guarantee to hold.
    pub guaranteed: bool,
    /// SHA-256 (hex) of its lines as relaxed extended JSON.
    pub sha256: String,
    /// How many documents are what.
    pub counts: Counts,
    /// Distinct values by field, sorted.
    pub distinct: Distinct,
    /// Answers of the reference's exercises.
    pub exercises: Exercises,
    /// Rows of the relational form, by table.
    pub tables: BTreeMap<String, usize>,
}

/// How many documents are what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// By `address.market`.
    pub market: BTreeMap<String, usize>,
    /// By `property_type`.
    pub property_type: BTreeMap<String, usize>,
    /// By `host.host_is_superhost`: `true`, `false`, `missing`.
    pub superhost: BTreeMap<String, usize>,
    /// `host.host_response_rate` is null.
    pub response_rate_null: usize,
    /// Entries of `reviews` in all documents.
    pub reviews: usize,
    /// `name` contains `Hawaii`.
    pub hawaii: usize,
    /// `price` is 0.
    pub price_zero: usize,
    /// `number_of_reviews` is 0.
    pub reviews_zero: usize,
    /// `beds` is above 10.
    pub beds_above_ten: usize,
    /// Documents made wrong on purpose.
    pub dirty: usize,
}

/// Distinct values, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distinct {
    /// Of `bedrooms`.
    pub bedrooms: BTreeSet<i32>,
    /// Of `beds`.
    pub beds: BTreeSet<i32>,
    /// Of `property_type`.
    pub property_type: BTreeSet<String>,
    /// Of `room_type`.
    pub room_type: BTreeSet<String>,
    /// Of `amenities`.
    pub amenities: BTreeSet<String>,
    /// Of `address.market`.
    pub market: BTreeSet<String>,
}

/// Answers of the reference's exercises, as their slugs name them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Exercises {
    /// `_id`s of the first page, sorted by `_id`, five a page.
    #[serde(rename = "crud-1")]
    pub crud_1: Vec<String>,
    /// The first document by `_id`.
    #[serde(rename = "crud-2")]
    pub crud_2: One,
    /// Distinct `bedrooms`.
    #[serde(rename = "crud-3")]
    pub crud_3: BTreeSet<i32>,
    /// Apartments with both amenities and one or two beds.
    #[serde(rename = "crud-4")]
    pub crud_4: Filtered,
    /// An `_id` that is not taken.
    #[serde(rename = "crud-5")]
    pub crud_5: String,
    /// The first document's `accommodates`; never 9.
    #[serde(rename = "crud-6")]
    pub crud_6: i32,
    /// The first document's `number_of_reviews`.
    #[serde(rename = "crud-7")]
    pub crud_7: usize,
    /// Statistics by beds.
    #[serde(rename = "pipeline-1")]
    pub pipeline_1: Vec<Statistics>,
    /// Two kinds of hosts.
    #[serde(rename = "pipeline-2")]
    pub pipeline_2: Vec<HostKind>,
    /// Documents whose `name` contains `Hawaii`.
    #[serde(rename = "search-1")]
    pub search_1: usize,
    /// Apartments nearest to the query's vector.
    #[serde(rename = "vector-search-1")]
    pub vector_search_1: Nearest,
}

/// A document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct One {
    /// Its `_id`.
    #[serde(rename = "_id")]
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its property type.
    pub property_type: String,
}

/// What a filter finds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filtered {
    /// How many.
    pub count: usize,
    /// The first twelve `_id`s, sorted.
    pub ids: Vec<String>,
}

/// A row of pipeline-1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    /// Group.
    pub beds: i32,
    /// Rounded to two places.
    pub average_price: f64,
    /// Documents of the group.
    pub property_count: u64,
    /// Rounded to one place.
    pub average_reviews: f64,
}

/// A row of pipeline-2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostKind {
    /// `Superhost` or `Regular Host`.
    pub host_type: String,
    /// Rounded to one place.
    pub avg_rating: f64,
    /// Rounded to whole numbers.
    pub avg_reviews: f64,
    /// Rounded to whole numbers.
    pub avg_listings: f64,
    /// Rounded to two places.
    pub avg_price: f64,
    /// Documents of the group.
    pub total_properties: u64,
    /// Rounded to one place; of hosts that have one.
    pub avg_response_rate: f64,
}

/// What is near a text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Nearest {
    /// The text.
    pub query: String,
    /// Its vector.
    pub vector: Vec<f64>,
    /// The nearest `_id`s by cosine, nearest first.
    pub ids: Vec<String>,
}

/// A sum and how many it is of.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: u64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: u64) {
        self.sum += value;
        self.count += 1;
    }

    /// Half goes to the even neighbour, as `$round` does. `unit` is how many of the sum make one.
    fn rounded(self, unit: u64, places: u32) -> f64 {
        let scale = 10_u64.pow(places);
        let (dividend, divisor) = (self.sum * scale, (self.count * unit).max(1));
        let (whole, rest) = (dividend / divisor, dividend % divisor);
        let up = rest * 2 > divisor || (rest * 2 == divisor && whole % 2 == 1);
        let rounded = u32::try_from(whole + u64::from(up)).unwrap_or(u32::MAX);
        f64::from(rounded) / f64::from(u32::try_from(scale).unwrap_or(1))
    }
}

/// Computes everything.
pub(crate) fn of(set: &DataSet) -> Truth {
    let (seed, documents) = (set.seed(), set.documents());
    let mut listings: Vec<Listing> = Listings::new(seed, documents).collect();
    listings.sort_by(|left, right| left.id.cmp(&right.id));
    let mut hash = Sha256::new();
    for line in set.lines(false) {
        hash.update(line);
    }
    let counts = counts(&listings);
    let tables = [
        ("amenities", AMENITIES.len()),
        ("hosts", used_hosts(seed, documents).len()),
        (
            "listing_amenities",
            listings.iter().map(|each| each.amenities.len()).sum(),
        ),
        ("listings", listings.len()),
        ("reviews", counts.reviews),
    ];
    Truth {
        set: set.name().to_string(),
        seed,
        documents,
        guaranteed: set.holds_guarantees(),
        sha256: hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        counts,
        distinct: distinct(&listings),
        exercises: exercises(&listings),
        tables: tables.map(|(name, rows)| (name.to_owned(), rows)).into(),
    }
}

fn counts(listings: &[Listing]) -> Counts {
    let mut counts = Counts::default();
    for listing in listings {
        *counts
            .market
            .entry(listing.market.name.to_owned())
            .or_default() += 1;
        *counts
            .property_type
            .entry(listing.property.to_owned())
            .or_default() += 1;
        let superhost = listing
            .host
            .superhost
            .map_or("missing".to_owned(), |is| is.to_string());
        *counts.superhost.entry(superhost).or_default() += 1;
        counts.response_rate_null += usize::from(listing.host.response_rate.is_none());
        counts.reviews += listing.reviews.len();
        counts.hawaii += usize::from(listing.name.contains("Hawaii"));
        counts.price_zero += usize::from(listing.price_cents == 0);
        counts.reviews_zero += usize::from(listing.reviews.is_empty());
        counts.beds_above_ten += usize::from(listing.beds > 10);
        counts.dirty += usize::from(listing.is_dirty);
    }
    counts
}

fn distinct(listings: &[Listing]) -> Distinct {
    let texts = |of: fn(&Listing) -> &'static str| {
        listings.iter().map(|each| of(each).to_owned()).collect()
    };
    let amenities = listings.iter().flat_map(|each| &each.amenities);
    Distinct {
        bedrooms: listings.iter().map(|each| each.bedrooms).collect(),
        beds: listings.iter().map(|each| each.beds).collect(),
        property_type: texts(|each| each.property),
        room_type: texts(|each| each.room),
        amenities: amenities.map(|amenity| (*amenity).to_owned()).collect(),
        market: texts(|each| each.market.name),
    }
}

/// `listings` are sorted by `_id`.
fn exercises(listings: &[Listing]) -> Exercises {
    let filtered: Vec<&Listing> = listings
        .iter()
        .filter(|each| {
            each.property == "Apartment"
                && AMENITIES[..2]
                    .iter()
                    .all(|amenity| each.amenities.contains(amenity))
                && (1..=2).contains(&each.beds)
        })
        .collect();
    let first = listings.first();
    Exercises {
        crud_1: listings
            .iter()
            .take(PAGE)
            .map(|each| each.id.clone())
            .collect(),
        crud_2: first.map_or_else(One::default, |first| One {
            id: first.id.clone(),
            name: first.name.clone(),
            property_type: first.property.to_owned(),
        }),
        crud_3: listings.iter().map(|each| each.bedrooms).collect(),
        crud_4: Filtered {
            count: filtered.len(),
            ids: filtered
                .iter()
                .take(FILTER_PAGE)
                .map(|each| each.id.clone())
                .collect(),
        },
        // Ids of the set have eight digits.
        crud_5: "1".to_owned(),
        crud_6: first.map_or(0, |first| first.accommodates),
        crud_7: first.map_or(0, |first| first.reviews.len()),
        pipeline_1: statistics(listings),
        pipeline_2: host_kinds(listings),
        search_1: listings
            .iter()
            .filter(|each| each.name.contains("Hawaii"))
            .count(),
        vector_search_1: nearest(listings),
    }
}

fn length(reviews: &[super::Review]) -> u64 {
    u64::try_from(reviews.len()).unwrap_or(u64::MAX)
}

fn statistics(listings: &[Listing]) -> Vec<Statistics> {
    let mut groups: BTreeMap<i32, (Mean, Mean)> = BTreeMap::new();
    for listing in listings.iter().filter(|each| {
        each.price_cents > 0 && !each.reviews.is_empty() && (0..=10).contains(&each.beds)
    }) {
        let (price, reviews) = groups.entry(listing.beds).or_default();
        price.add(listing.price_cents);
        reviews.add(length(&listing.reviews));
    }
    let row = |(beds, (price, reviews)): (i32, (Mean, Mean))| Statistics {
        beds,
        average_price: price.rounded(100, 2),
        property_count: price.count,
        average_reviews: reviews.rounded(1, 1),
    };
    groups.into_iter().map(row).collect()
}

fn host_kinds(listings: &[Listing]) -> Vec<HostKind> {
    let mut groups: BTreeMap<bool, [Mean; 5]> = BTreeMap::new();
    for listing in listings
        .iter()
        .filter(|each| each.price_cents > 0 && !each.reviews.is_empty())
    {
        let unsigned = |number: i32| u64::try_from(number).unwrap_or(0);
        let means = groups
            .entry(listing.host.superhost == Some(true))
            .or_default();
        let [rating, reviews, hosted, price, rate] = means;
        if let Some(scores) = listing.scores {
            rating.add(unsigned(scores.rating));
        }
        reviews.add(length(&listing.reviews));
        hosted.add(unsigned(listing.host.listings));
        price.add(listing.price_cents);
        if let Some(answered) = listing.host.response_rate {
            rate.add(unsigned(answered));
        }
    }
    let row = |(superhost, [rating, reviews, hosted, price, rate]): (bool, [Mean; 5])| HostKind {
        host_type: if superhost {
            "Superhost"
        } else {
            "Regular Host"
        }
        .to_owned(),
        avg_rating: rating.rounded(1, 1),
        avg_reviews: reviews.rounded(1, 0),
        avg_listings: hosted.rounded(1, 0),
        avg_price: price.rounded(100, 2),
        total_properties: price.count,
        avg_response_rate: rate.rounded(1, 1),
    };
    let mut rows: Vec<HostKind> = groups.into_iter().map(row).collect();
    rows.sort_by(|left, right| right.avg_rating.total_cmp(&left.avg_rating));
    rows
}

fn nearest(listings: &[Listing]) -> Nearest {
    let query = embed_scaled(QUERY);
    let likeness = |listing: &Listing| -> i64 {
        let products = listing
            .embedding
            .iter()
            .zip(query)
            .map(|(left, right)| left * right);
        products.sum()
    };
    let mut near: Vec<(i64, &str)> = listings
        .iter()
        .filter(|each| each.property == "Apartment")
        .map(|each| (likeness(each), each.id.as_str()))
        .collect();
    near.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(right.1)));
    Nearest {
        query: QUERY.to_owned(),
        vector: crate::embed(QUERY),
        ids: near
            .iter()
            .take(NEAREST)
            .map(|(_, id)| (*id).to_owned())
            .collect(),
    }
}
