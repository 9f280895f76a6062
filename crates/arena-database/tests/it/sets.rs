//! The generated data set on a real server: loaded by the provisioner, asked by
//! the driver, compared with the truth that was computed without any database.

use arena_data::Truth;
use arena_database::{DataFile, DataSet, MongodbAdmin, Provisioner, SetName};
use arena_workshop::DatabaseName;
use bson::{Bson, Document, doc};
use mongodb::{Client, Collection, Database};

use crate::cluster::Cluster;
use crate::postgres::as_seat;
use crate::{name, seat};

const SEED: u64 = 7;
const DOCUMENTS: u32 = 700;

fn set() -> DataSet {
    let set = DataSet::new(SetName::Listings).with_seed(SEED);
    set.with_documents(DOCUMENTS).unwrap()
}

async fn all(listings: &Collection<Document>, pipeline: Vec<Document>) -> Vec<Document> {
    let mut cursor = listings.aggregate(pipeline).await.unwrap();
    let mut rows = Vec::new();
    while cursor.advance().await.unwrap() {
        rows.push(cursor.deserialize_current().unwrap());
    }
    rows
}

fn number(value: &Bson) -> f64 {
    match value {
        Bson::Int32(number) => f64::from(*number),
        other => other.to_string().parse().unwrap(),
    }
}

#[tokio::test]
async fn the_engine_says_what_the_truth_says() {
    let uri = std::env::var("ARENA_TEST_MONGODB_URI")
        .expect("cargo xtask test sets ARENA_TEST_MONGODB_URI");
    let template = DatabaseName::new(format!("arena_set{}", std::process::id())).unwrap();
    let admin = MongodbAdmin { uri: uri.clone() };
    let provisioner = Provisioner::connect(&template, Some(&admin), None)
        .await
        .unwrap();
    let mut told = Vec::new();
    provisioner
        .load_template_step_by_step(&[DataFile::set(set())], |loading| {
            told.push(loading.documents)
        })
        .await
        .unwrap();
    assert_eq!(told.last(), Some(&usize::try_from(DOCUMENTS).unwrap()));
    let client = Client::with_uri_str(&uri).await.unwrap();
    let database = client.database(template.as_str());
    let truth = set().truth();
    reading(&database, &truth).await;
    statistics(&database, &truth).await;
    database.drop().await.unwrap();
}

async fn reading(database: &Database, truth: &Truth) {
    let listings = database.collection::<Document>("listingsAndReviews");
    assert_eq!(
        listings.count_documents(doc! {}).await.unwrap(),
        u64::from(DOCUMENTS)
    );
    let ids = |rows: &[Document]| -> Vec<String> {
        rows.iter()
            .map(|row| row.get_str("_id").unwrap().to_owned())
            .collect()
    };
    let sort = doc! { "$sort": { "_id": 1 } };
    let page = all(&listings, vec![sort.clone(), doc! { "$limit": 5 }]).await;
    assert_eq!(ids(&page), truth.exercises.crud_1);
    let first = &page[0];
    let one = &truth.exercises.crud_2;
    assert_eq!(
        (
            first.get_str("name").unwrap(),
            first.get_str("property_type").unwrap()
        ),
        (one.name.as_str(), one.property_type.as_str())
    );
    assert_eq!(
        first.get_i32("accommodates").unwrap(),
        truth.exercises.crud_6
    );
    let mut bedrooms: Vec<i32> = listings
        .distinct("bedrooms", doc! {})
        .await
        .unwrap()
        .iter()
        .map(|value| value.as_i32().unwrap())
        .collect();
    bedrooms.sort_unstable();
    assert_eq!(
        bedrooms,
        truth.exercises.crud_3.iter().copied().collect::<Vec<_>>()
    );
    let filter = doc! { "amenities": { "$all": ["24-hour check-in", "Accessible-height bed"] }, "property_type": "Apartment", "beds": { "$gte": 1, "$lte": 2 } };
    let filtered = all(&listings, vec![doc! { "$match": filter }, sort]).await;
    assert_eq!(filtered.len(), truth.exercises.crud_4.count);
    assert!(ids(&filtered).starts_with(&truth.exercises.crud_4.ids));
    for (filter, count) in [
        (doc! { "name": { "$regex": "Hawaii" } }, truth.counts.hawaii),
        (
            doc! { "price": { "$eq": "0".parse::<bson::Decimal128>().unwrap() } },
            truth.counts.price_zero,
        ),
        (doc! { "number_of_reviews": 0 }, truth.counts.reviews_zero),
        (doc! { "beds": { "$gt": 10 } }, truth.counts.beds_above_ten),
        (
            doc! { "host.host_is_superhost": { "$exists": false } },
            truth.counts.superhost["missing"],
        ),
        (doc! { "_id": &truth.exercises.crud_5 }, 0),
    ] {
        assert_eq!(
            listings.count_documents(filter.clone()).await.unwrap(),
            u64::try_from(count).unwrap(),
            "{filter}"
        );
    }
}

async fn statistics(database: &Database, truth: &Truth) {
    let listings = database.collection::<Document>("listingsAndReviews");
    let match_1 = doc! { "price": { "$gt": 0 }, "number_of_reviews": { "$gt": 0 }, "beds": { "$gte": 0, "$lte": 10 }, "accommodates": { "$gt": 0 } };
    let rows = all(&listings, vec![
        doc! { "$match": match_1 },
        doc! { "$group": { "_id": "$beds", "price": { "$avg": "$price" }, "count": { "$sum": 1 }, "reviews": { "$avg": "$number_of_reviews" } } },
        doc! { "$project": { "price": { "$round": ["$price", 2] }, "count": 1, "reviews": { "$round": ["$reviews", 1] } } },
        doc! { "$sort": { "_id": 1 } },
    ]).await;
    assert_eq!(rows.len(), truth.exercises.pipeline_1.len());
    for (row, expected) in rows.iter().zip(&truth.exercises.pipeline_1) {
        let at = |key: &str| number(row.get(key).unwrap());
        assert_eq!(row.get_i32("_id").unwrap(), expected.beds);
        assert!(
            (at("price") - expected.average_price).abs() < 0.001,
            "{row} {expected:?}"
        );
        assert!(
            (at("reviews") - expected.average_reviews).abs() < 0.001,
            "{row} {expected:?}"
        );
        assert!(
            (at("count") - f64::from(u32::try_from(expected.property_count).unwrap())).abs() < 0.1
        );
    }
    let kind = doc! { "$cond": [{ "$eq": ["$host.host_is_superhost", true] }, "Superhost", "Regular Host"] };
    let rows = all(&listings, vec![
        doc! { "$match": { "price": { "$gt": 0 }, "number_of_reviews": { "$gt": 0 } } },
        doc! { "$group": { "_id": kind, "rating": { "$avg": "$review_scores.review_scores_rating" }, "hosted": { "$avg": "$host.host_total_listings_count" }, "price": { "$avg": "$price" }, "count": { "$sum": 1 }, "rate": { "$avg": "$host.host_response_rate" } } },
        doc! { "$sort": { "rating": -1 } },
    ]).await;
    assert_eq!(rows.len(), 2);
    for (row, expected) in rows.iter().zip(&truth.exercises.pipeline_2) {
        let near = |key: &str, expected: f64, half: f64| {
            let found = number(row.get(key).unwrap());
            assert!(
                (found - expected).abs() <= half + 1e-9,
                "{key}: {found} {expected}"
            );
        };
        assert_eq!(row.get_str("_id").unwrap(), expected.host_type);
        near("rating", expected.avg_rating, 0.05);
        near("hosted", expected.avg_listings, 0.5);
        near("price", expected.avg_price, 0.005);
        near("rate", expected.avg_response_rate, 0.05);
    }
}

#[tokio::test]
async fn the_relational_twin_holds_what_the_truth_says() {
    let cluster = Cluster::start();
    let provisioner = Provisioner::connect(&name("arena_twin"), None, Some(&cluster.admin()))
        .await
        .unwrap();
    provisioner
        .load_template(&[DataFile::set(set())])
        .await
        .unwrap();
    let ada = seat("ada");
    provisioner.create_seat(&ada).await.unwrap();
    let client = as_seat(&cluster.admin(), &ada).await;
    let truth = set().truth();
    for (table, rows) in &truth.tables {
        let query = format!("SELECT count(*) FROM {table}");
        let found: i64 = client.query_one(&query, &[]).await.unwrap().get(0);
        assert_eq!(usize::try_from(found).unwrap(), *rows, "{table}");
    }
    let query = "SELECT beds, round(avg(price), 2)::float8, count(*) FROM listings WHERE price > 0 AND number_of_reviews > 0 AND beds BETWEEN 0 AND 10 GROUP BY beds ORDER BY beds";
    for (row, expected) in client
        .query(query, &[])
        .await
        .unwrap()
        .iter()
        .zip(&truth.exercises.pipeline_1)
    {
        assert_eq!(row.get::<_, i32>(0), expected.beds);
        assert!((row.get::<_, f64>(1) - expected.average_price).abs() < 0.0051);
    }
    let vector = format!("{:?}", truth.exercises.vector_search_1.vector);
    let query = format!(
        "SELECT id FROM listings WHERE property_type = 'Apartment' ORDER BY embedding <#> '{vector}', id LIMIT 5"
    );
    let found: Vec<String> = client
        .query(&query, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(found[0], truth.exercises.vector_search_1.ids[0]);
}
