//! How long seats' databases take to make and to restore, on the MongoDB named by
//! `ARENA_TEST_MONGODB_URI`. Prints a table in Markdown; numbers of a laptop that
//! does something else at the same time say little.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark may panic, and prints"
)]

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use arena_database::{Before, DataFile, DataSet, MongodbAdmin, Provisioner, SeatDatabase, SetName};
use arena_workshop::DatabaseName;

/// Documents of about 5 MB.
const DOCUMENTS: u32 = 2300;

fn main() {
    let Ok(uri) = std::env::var("ARENA_TEST_MONGODB_URI") else {
        println!("set ARENA_TEST_MONGODB_URI to the MongoDB to be measured");
        return;
    };
    let seats = std::env::var("ARENA_BENCH_SEATS").map_or(100, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure(uri, seats));
}

async fn measure(uri: String, seats: usize) {
    let template = DatabaseName::new(format!("bench{}", std::process::id())).unwrap();
    let admin = MongodbAdmin { uri: uri.clone() };
    let provisioner = Provisioner::connect(&template, Some(&admin), None)
        .await
        .unwrap();
    let set = DataSet::new(SetName::Listings)
        .with_documents(DOCUMENTS)
        .unwrap();
    let size: usize = set
        .collection_documents()
        .map(|document| bson::serialize_to_vec(&document).unwrap().len())
        .sum();
    println!(
        "| {} documents, {:.1} MB a seat | seconds |\n|---|---|",
        DOCUMENTS,
        mega(size)
    );
    let began = Instant::now();
    provisioner
        .load_template(&[DataFile::set(set)])
        .await
        .unwrap();
    row("make the data set and load the template", began.elapsed());
    let all: Vec<SeatDatabase> = (0..seats)
        .map(|number| SeatDatabase {
            name: DatabaseName::new(format!("b{}x{number}", std::process::id())).unwrap(),
            password: format!("a-password-of-a-bench-{number:010}"),
        })
        .collect();
    let at_once = NonZeroUsize::new(4).unwrap();
    let began = Instant::now();
    let failed = provisioner.create_seats(all.clone(), at_once, |_| {}).await;
    assert!(failed.is_empty(), "{failed:?}");
    row(&format!("make {seats} seats, 4 at once"), began.elapsed());
    let began = Instant::now();
    provisioner
        .restore_seat(&all[0], Before::Keep)
        .await
        .unwrap();
    row("restore one, its state kept", began.elapsed());
    let began = Instant::now();
    provisioner.bring_back_seat(&all[0]).await.unwrap();
    row("bring its state back", began.elapsed());
    let began = Instant::now();
    for pair in all.chunks(2) {
        let (first, second) = (&pair[0], pair.get(1).unwrap_or(&pair[0]));
        let both = tokio::join!(provisioner.restore_seat(first, Before::Keep), async {
            if first == second {
                Ok(())
            } else {
                provisioner.restore_seat(second, Before::Keep).await
            }
        });
        both.0.and(both.1).unwrap();
    }
    row(
        &format!("restore {seats}, 2 at once, their states kept"),
        began.elapsed(),
    );
    for seat in &all {
        provisioner.drop_seat(&seat.name).await.unwrap();
    }
    let client = mongodb::Client::with_uri_str(&uri).await.unwrap();
    client.database(template.as_str()).drop().await.unwrap();
}

fn row(what: &str, took: Duration) {
    println!("| {what} | {:.2} |", took.as_secs_f64());
}

fn mega(bytes: usize) -> f64 {
    f64::from(u32::try_from(bytes).unwrap()) / 1e6
}
