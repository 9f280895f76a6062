//! The generator: the same bytes for ever, and everything that exercises rely on.

use std::collections::BTreeSet;

use arena_data::{DataSet, SetName, embed};
use bson::{Bson, Document, doc};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn set(seed: u64, documents: u32) -> DataSet {
    DataSet::new(SetName::Listings)
        .with_seed(seed)
        .with_documents(documents)
        .unwrap()
}

fn documents(seed: u64, count: u32) -> Vec<Document> {
    set(seed, count).collection_documents().collect()
}

/// Changing these on purpose is a new data set: say so in the change log.
#[test]
fn the_bytes_of_a_seed_are_those_of_the_first_release() {
    assert_eq!(
        set(1, 5555).truth().sha256,
        "2c795696c4056390e3a304885750c37945c8a5f79ba7bc41243b883aeff0c1fb"
    );
    assert_eq!(
        set(7, 500).truth().sha256,
        "77950cac5951cc4e0f6511bfc1dccd00ba9f58684d2a562b378d7c79b70feade"
    );
}

#[test]
fn another_seed_gives_other_data_and_the_same_seed_the_same() {
    assert_eq!(documents(3, 50), documents(3, 50));
    assert_ne!(documents(3, 50), documents(4, 50));
    assert!(set(3, 50).sql().eq(set(3, 50).sql()));
}

#[test]
fn lines_are_extended_json_that_reads_back_to_the_same_documents() {
    for canonical in [false, true] {
        let back: Vec<Document> = set(5, 40)
            .lines(canonical)
            .map(|line| {
                let json: serde_json::Value = serde_json::from_str(&line).unwrap();
                Bson::try_from(json).unwrap().as_document().unwrap().clone()
            })
            .collect();
        assert_eq!(back, documents(5, 40), "canonical: {canonical}");
    }
}

/// Seven scores, or none where nobody reviewed.
fn check_scores(document: &Document, has_no_reviews: bool) {
    let scores = document.get_document("review_scores").unwrap();
    assert_eq!(scores.len(), if has_no_reviews { 0 } else { 7 });
    for (name, score) in scores {
        let most = if name == "review_scores_rating" {
            100
        } else {
            10
        };
        assert!((0..=most).contains(&score.as_i32().unwrap()), "{name}");
    }
}

#[test]
fn fields_have_the_types_that_the_exercises_know() {
    for document in documents(1, 500) {
        let kind = |path: &str| -> String {
            let mut value = Bson::Document(document.clone());
            for part in path.split('.') {
                let inner = value
                    .as_document()
                    .and_then(|inner| inner.get(part))
                    .cloned();
                value = inner.unwrap_or_else(|| panic!("no {path}"));
            }
            format!("{:?}", value.element_type())
        };
        for text in "_id listing_url name summary description neighborhood_overview transit property_type \
            room_type minimum_nights maximum_nights images.picture_url host.host_id host.host_name address.street \
            address.suburb address.government_area address.market address.country address.country_code \
            address.location.type"
            .split_whitespace()
        {
            assert_eq!(kind(text), "String", "{text}");
        }
        for whole in [
            "beds",
            "bedrooms",
            "accommodates",
            "number_of_reviews",
            "host.host_total_listings_count",
        ] {
            assert_eq!(kind(whole), "Int32", "{whole}");
        }
        for decimal in ["price", "bathrooms"] {
            assert_eq!(kind(decimal), "Decimal128", "{decimal}");
        }
        for list in [
            "amenities",
            "reviews",
            "embedding",
            "address.location.coordinates",
        ] {
            assert_eq!(kind(list), "Array", "{list}");
        }
        assert!(
            document
                .get_str("_id")
                .unwrap()
                .bytes()
                .all(|byte| byte.is_ascii_digit())
        );
        let reviews = document.get_array("reviews").unwrap();
        assert_eq!(
            i32::try_from(reviews.len()).unwrap(),
            document.get_i32("number_of_reviews").unwrap()
        );
        for review in reviews {
            let review = review.as_document().unwrap();
            assert_eq!(
                review.get_str("listing_id").unwrap(),
                document.get_str("_id").unwrap()
            );
            review.get_datetime("date").unwrap();
        }
        check_scores(&document, reviews.is_empty());
        assert!(bson::serialize_to_vec(&document).unwrap().len() < 32 * 1024);
    }
}

/// The list at the end of the reference's exercises, for any seed from the smallest size on.
#[test]
fn what_the_exercises_rely_on_holds_for_every_seed() {
    // A case is a whole data set: the square root of what others do.
    let cases = ProptestConfig::default().cases.isqrt();
    let mut runner = TestRunner::new(ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(cases)
    });
    let outcome = runner.run(&(any::<u64>(), 500_u32..1500), |(seed, documents)| {
        let truth = set(seed, documents).truth();
        prop_assert!(truth.guaranteed);
        prop_assert_eq!(truth.distinct.bedrooms.len(), 13);
        prop_assert!(truth.exercises.crud_4.count >= 15);
        prop_assert!(truth.counts.hawaii >= 12);
        prop_assert_eq!(truth.distinct.market.len(), 15);
        let kinds = &truth.exercises.pipeline_2;
        prop_assert_eq!(kinds.len(), 2);
        prop_assert!(kinds[0].avg_rating > kinds[1].avg_rating);
        prop_assert!(truth.counts.superhost.contains_key("missing"));
        prop_assert!(truth.counts.response_rate_null > 0);
        for count in [
            truth.counts.price_zero,
            truth.counts.reviews_zero,
            truth.counts.beds_above_ten,
        ] {
            prop_assert!(count > 0);
        }
        let dirty = truth.counts.dirty * 1000 / usize::try_from(documents).unwrap();
        prop_assert!((40..=55).contains(&dirty), "{dirty} per thousand");
        let listings: Vec<Document> = set(seed, documents).collection_documents().collect();
        let ids: BTreeSet<&str> = listings
            .iter()
            .map(|each| each.get_str("_id").unwrap())
            .collect();
        prop_assert_eq!(ids.len(), listings.len());
        prop_assert!(
            !listings
                .iter()
                .map(|each| each.get_str("_id").unwrap())
                .is_sorted()
        );
        prop_assert!(
            listings
                .iter()
                .all(|each| each.get_i32("accommodates").unwrap() != 9)
        );
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn prices_are_spread_as_those_of_a_market_are() {
    let truth = set(1, 5555).truth();
    assert!(
        truth.counts.market.values().all(|count| *count > 200),
        "{:?}",
        truth.counts.market
    );
    let mut prices: Vec<f64> = documents(1, 5555)
        .iter()
        .filter(|each| *each.get_document("address").unwrap() != doc! {})
        .map(|each| {
            each.get("price")
                .unwrap()
                .to_string()
                .parse::<f64>()
                .unwrap()
        })
        .filter(|price| *price > 0.0)
        .collect();
    prices.sort_by(f64::total_cmp);
    let at = |percent: usize| prices[prices.len() * percent / 100];
    // A long tail to the right: that is what a median is for.
    assert!(
        at(50) - at(5) < at(95) - at(50),
        "{} {} {}",
        at(5),
        at(50),
        at(95)
    );
}

#[test]
fn texts_and_vectors_say_the_same() {
    let near =
        |left: &[f64], right: &[f64]| -> f64 { left.iter().zip(right).map(|(l, r)| l * r).sum() };
    let query = embed("cozy apartment near beach");
    let mut by_likeness: Vec<(f64, String)> = documents(1, 2000)
        .iter()
        .map(|each| {
            let vector: Vec<f64> = each
                .get_array("embedding")
                .unwrap()
                .iter()
                .map(|part| part.as_f64().unwrap())
                .collect();
            let length = near(&vector, &vector);
            assert!((length - 1.0).abs() < 0.001, "{length}");
            (
                near(&query, &vector),
                each.get_str("description").unwrap().to_lowercase(),
            )
        })
        .collect();
    by_likeness.sort_by(|left, right| right.0.total_cmp(&left.0));
    let about = |text: &str| {
        [
            "beach", "sand", "shore", "swim", "cozy", "quiet", "peaceful", "snug",
        ]
        .iter()
        .any(|word| text.contains(word))
    };
    assert!(
        by_likeness[..20].iter().all(|(_, text)| about(text)),
        "{:?}",
        &by_likeness[..20]
    );
    assert!(
        by_likeness[1900..]
            .iter()
            .filter(|(_, text)| about(text))
            .count()
            < 10
    );
}
