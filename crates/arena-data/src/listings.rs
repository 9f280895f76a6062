//! The data set `listings`: holiday lettings as plain values, from which the
//! document form, the relational form and the truth are all made. A listing is
//! decided by the seed and its number alone, so any part can be made alone.
//! What exercises rely on is planted by number, never left to chance.

pub(crate) mod document;
mod markets;
pub(crate) mod relational;
pub(crate) mod truth;
pub(crate) mod words;

use std::ops::Range;

use crate::embed::{DIMENSIONS, embed_scaled};
use crate::random::Random;
use markets::{HAWAII, MARKETS, Market};
use words::{ADJECTIVES, AMENITIES, PEOPLE, PRAISE, PROPERTIES, RESPONSE_TIMES, ROOMS, SENTENCES};

/// Numbers of bedrooms that occur.
pub(crate) const BEDROOMS: [i32; 13] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15];
/// Streams of random numbers of one seed: ids, then one for each host, then one for each listing.
const HOST_STREAMS: u64 = 1 << 32;
const LISTING_STREAMS: u64 = 1 << 40;
/// Listings of one host, about.
const LISTINGS_PER_HOST: u32 = 3;
/// Ids have eight digits. The step shares no divisor with their number, so it meets every id once,
/// and it is golden, so that neighbours in the collection are far apart in order.
const IDS: u64 = 89_999_999;
const ID_FIRST: u64 = 10_000_000;
const ID_STEP: u64 = 55_623_059;
/// 1 January 2012, in days since 1970; reviews were written in the eight years that follow.
const REVIEWS_FROM: i64 = 15_340;
const REVIEW_DAYS: u64 = 2922;

/// A letting.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) summary: String,
    pub(crate) description: String,
    pub(crate) neighborhood: String,
    pub(crate) transit: String,
    pub(crate) property: &'static str,
    pub(crate) room: &'static str,
    pub(crate) price_cents: u64,
    /// Halves of bathrooms.
    pub(crate) half_bathrooms: u64,
    pub(crate) beds: i32,
    pub(crate) bedrooms: i32,
    pub(crate) accommodates: i32,
    pub(crate) minimum_nights: u64,
    pub(crate) maximum_nights: u64,
    pub(crate) amenities: Vec<&'static str>,
    pub(crate) host: Host,
    pub(crate) market: &'static Market,
    pub(crate) suburb: &'static str,
    pub(crate) street: String,
    /// Longitude and latitude in millionths of a degree.
    pub(crate) place: (i64, i64),
    /// `None` without reviews.
    pub(crate) scores: Option<Scores>,
    pub(crate) reviews: Vec<Review>,
    pub(crate) embedding: [i64; DIMENSIONS],
    /// Deliberately wrong: a price of zero, no reviews, or more than ten beds.
    pub(crate) is_dirty: bool,
}

/// Who lets it.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) id: String,
    pub(crate) name: &'static str,
    pub(crate) superhost: Option<bool>,
    pub(crate) response_rate: Option<i32>,
    pub(crate) response_time: Option<&'static str>,
    pub(crate) listings: i32,
}

/// What guests gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scores {
    /// 0 to 100.
    pub(crate) rating: i32,
    /// Accuracy, cleanliness, check-in, communication, location, value: 0 to 10.
    pub(crate) parts: [i32; 6],
}

/// What a guest wrote.
#[derive(Debug, Clone)]
pub(crate) struct Review {
    pub(crate) id: String,
    /// Days since 1970.
    pub(crate) day: i64,
    pub(crate) reviewer_id: String,
    pub(crate) reviewer: &'static str,
    pub(crate) comments: String,
}

/// The listings of a seed, in insertion order.
#[derive(Debug, Clone)]
pub(crate) struct Listings {
    seed: u64,
    all: u32,
    rest: Range<u32>,
}

impl Listings {
    pub(crate) fn new(seed: u64, documents: u32) -> Self {
        Self {
            seed,
            all: documents,
            rest: 0..documents,
        }
    }

    /// How many hosts there are.
    pub(crate) fn hosts(documents: u32) -> u32 {
        documents.div_ceil(LISTINGS_PER_HOST)
    }
}

impl Iterator for Listings {
    type Item = Listing;

    fn next(&mut self) -> Option<Listing> {
        let number = self.rest.next()?;
        Some(listing(self.seed, number, self.all))
    }
}

/// Makes a host.
pub(crate) fn host(seed: u64, number: u32) -> Host {
    let mut random = Random::new(seed, HOST_STREAMS + u64::from(number));
    let superhost = match random.below(100) {
        0..5 => None,
        5..30 => Some(true),
        _ => Some(false),
    };
    let answers = random.chance(80);
    let (worst, slowest) = if superhost == Some(true) {
        (90, 1)
    } else {
        (40, 3)
    };
    let rate = i32::try_from(random.between(worst, 100)).unwrap_or(100);
    let time = RESPONSE_TIMES[usize::try_from(random.between(0, slowest)).unwrap_or(0)];
    Host {
        id: (1_000_000 + u64::from(number) * 977 + random.below(977)).to_string(),
        name: random.pick(&PEOPLE),
        superhost,
        response_rate: answers.then_some(rate),
        response_time: answers.then_some(time),
        listings: i32::try_from(1 + random.poisson(2)).unwrap_or(1),
    }
}

/// What a listing's number plants in it.
struct Planted {
    /// An apartment with both amenities of the filter exercise and one or two beds.
    filtered: bool,
    hawaii: bool,
    bedrooms: Option<i32>,
    /// A price of zero, no reviews, or more than ten beds.
    dirt: Option<u32>,
}

impl Planted {
    fn of(number: u32) -> Self {
        let filtered = number % 29 == 7;
        let bedrooms = (number % 37 == 5).then(|| {
            let which = usize::try_from(number / 37).unwrap_or(0);
            BEDROOMS[which % BEDROOMS.len()]
        });
        Self {
            filtered,
            hawaii: number % 31 == 3,
            bedrooms,
            dirt: (number % 20 == 13 && !filtered).then_some(number / 20 % 3),
        }
    }
}

fn listing(seed: u64, number: u32, all: u32) -> Listing {
    let planted = Planted::of(number);
    let random = &mut Random::new(seed, LISTING_STREAMS + u64::from(number));
    let which = random.below(u64::from(Listings::hosts(all)));
    let host = host(seed, u32::try_from(which).unwrap_or(0));
    let markets = if planted.hawaii {
        &MARKETS[..HAWAII]
    } else {
        &MARKETS[..]
    };
    let market = &markets[random.index(markets.len())];
    let property = if planted.filtered {
        "Apartment"
    } else {
        random.pick(&PROPERTIES)
    };
    let (bedrooms, beds) = rooms(&planted, random);
    let guests = u64::try_from(bedrooms.clamp(1, 6)).unwrap_or(1);
    // Never nine: an exercise sets it to nine and looks whether it changed.
    let accommodates = random.pick(&[1, 2, 2, 3, 4, 4, 5, 6, 7, 8, 10, 12, 16][..]);
    let is_free = planted.dirt == Some(0);
    let price = random.log_normal(market.median * (2 + guests) / 4);
    let id = id(seed, number);
    let reviews = reviews(&id, market, planted.dirt == Some(1), random);
    let suburb = random.pick(&market.suburbs);
    let texts = texts(market, property, suburb, planted.hawaii, random);
    let mut place =
        |middle: i64| middle + i64::try_from(random.below(160_001)).unwrap_or(0) - 80_000;
    let place = (place(market.middle.0), place(market.middle.1));
    Listing {
        place,
        embedding: embed_scaled(&texts.description),
        name: texts.name,
        summary: texts.summary,
        description: texts.description,
        neighborhood: texts.neighborhood,
        transit: texts.transit,
        property,
        room: random.pick(&ROOMS),
        price_cents: if is_free {
            0
        } else {
            price.max(900).div_ceil(100) * 100
        },
        half_bathrooms: random.between(2, 2 + guests),
        beds,
        bedrooms,
        accommodates,
        minimum_nights: random.pick(&[1, 1, 1, 2, 2, 3, 4, 5, 7, 14, 30][..]),
        maximum_nights: random.pick(&[14, 28, 30, 60, 90, 365, 1125, 1125, 1125][..]),
        amenities: amenities(planted.filtered, random),
        suburb,
        street: format!("{suburb}, {}, {}", market.name, market.country),
        scores: (!reviews.is_empty()).then(|| scores(host.superhost == Some(true), random)),
        reviews,
        host,
        market,
        is_dirty: planted.dirt.is_some(),
        id,
    }
}

/// Eight digits, no two alike, and not in order: who forgets to sort is found out.
fn id(seed: u64, number: u32) -> String {
    let start = Random::new(seed, 0).below(IDS);
    let place = (start + u64::from(number) * ID_STEP) % IDS;
    (ID_FIRST + place).to_string()
}

fn rooms(planted: &Planted, random: &mut Random) -> (i32, i32) {
    let usual = random.pick(&[0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4][..]);
    let bedrooms = planted.bedrooms.unwrap_or(usual);
    let more = i32::try_from(random.below(3)).unwrap_or(0);
    let beds = if planted.filtered {
        1 + more % 2
    } else if planted.dirt == Some(2) {
        11 + more * 4
    } else {
        (bedrooms.max(1) + more).min(10)
    };
    (bedrooms, beds)
}

fn amenities(planted: bool, random: &mut Random) -> Vec<&'static str> {
    let count = usize::try_from(random.between(6, 18)).unwrap_or(6);
    let (filtered, others) = AMENITIES.split_at(2);
    let mut amenities: Vec<&'static str> =
        random.some(others, count).into_iter().copied().collect();
    for amenity in filtered {
        if planted || random.chance(15) {
            amenities.insert(0, amenity);
        }
    }
    amenities
}

fn scores(is_superhost: bool, random: &mut Random) -> Scores {
    let (low, high) = if is_superhost { (92, 100) } else { (74, 99) };
    let rating = i32::try_from(random.between(low, high)).unwrap_or(90);
    let mut parts = [0; 6];
    for part in &mut parts {
        let off = i32::try_from(random.below(2)).unwrap_or(0);
        *part = ((rating + 5) / 10 - off).clamp(0, 10);
    }
    Scores { rating, parts }
}

fn reviews(listing: &str, market: &Market, none: bool, random: &mut Random) -> Vec<Review> {
    let which = usize::try_from(random.below(5)).unwrap_or(0);
    let count = if none { 0 } else { random.poisson(which) };
    let mut days: Vec<i64> = (0..count)
        .map(|_| REVIEWS_FROM + i64::try_from(random.below(REVIEW_DAYS)).unwrap_or(0))
        .collect();
    days.sort_unstable();
    let mut review = |(number, day): (usize, i64)| {
        let topic = random.pick(&market.topics);
        let mut comments = random.pick(&PRAISE).to_owned();
        if random.chance(60) {
            comments.push(' ');
            comments.push_str(random.pick(&SENTENCES[topic]));
        }
        Review {
            id: format!("{listing}{:03}", number + 1),
            day,
            reviewer_id: (2_000_000 + random.below(60_000_000)).to_string(),
            reviewer: random.pick(&PEOPLE),
            comments,
        }
    };
    days.into_iter().enumerate().map(&mut review).collect()
}

/// What is written about a listing.
struct Texts {
    name: String,
    summary: String,
    description: String,
    neighborhood: String,
    transit: String,
}

fn texts(
    market: &Market,
    property: &str,
    suburb: &str,
    hawaii: bool,
    random: &mut Random,
) -> Texts {
    let adjective = random.pick(&ADJECTIVES);
    let kind = property.to_lowercase();
    let name = if hawaii {
        format!("{adjective} Hawaii {kind} in {suburb}")
    } else {
        format!("{adjective} {kind} in {suburb}")
    };
    // One topic of the market, one of any.
    let own = random.pick(&market.topics);
    let any = usize::try_from(random.below(16)).unwrap_or(0);
    let summary = format!("{adjective} {kind}. {}", random.pick(&SENTENCES[own]));
    let description = format!(
        "{summary} {} {}",
        random.pick(&SENTENCES[any]),
        random.pick(&market.sentences)
    );
    Texts {
        name,
        summary,
        description,
        neighborhood: format!(
            "{suburb} is {}. {}",
            random.pick(&[
                "lively",
                "green",
                "old",
                "up and coming",
                "by the water",
                "well connected"
            ]),
            random.pick(&market.sentences)
        ),
        transit: random.pick(&SENTENCES[11]).to_owned(),
    }
}
