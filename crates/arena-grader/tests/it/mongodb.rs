//! MongoDB steps on the server named by `ARENA_TEST_MONGODB_URI`, asked as a seat's own user.

use std::sync::Arc;
use std::time::Duration;

use arena_database::{DataFile, MongodbAdmin, Provisioner, SeatDatabase};
use arena_grader::{Limits, MongodbAccess, SeatAccess, grade};
use arena_workshop::DatabaseName;
use bson::{Document, doc};
use mongodb::Client;

use crate::app::{App, exercise, first_message, json};

/// A seat with its database and an app that answers as told.
struct World {
    app: App,
    provisioner: Provisioner,
    seat: SeatDatabase,
    access: MongodbAccess,
    template: String,
}

impl World {
    async fn start(tag: &str, app: App) -> Self {
        let uri = std::env::var("ARENA_TEST_MONGODB_URI").expect(
            "this test needs a MongoDB whose administrator may make users: \
             run `cargo xtask test`, or set ARENA_TEST_MONGODB_URI=mongodb://admin:…@127.0.0.1:27017/",
        );
        let template = format!("arena_grader_{tag}{}", std::process::id());
        let admin = MongodbAdmin { uri: uri.clone() };
        let provisioner =
            Provisioner::connect(&DatabaseName::new(&*template).unwrap(), Some(&admin), None)
                .await
                .unwrap();
        let lines: Vec<String> =
            (1..=20).map(|n| format!("{{\"_id\":\"{n}\",\"name\":\"N{n:02}\",\"price\":{{\"$numberDecimal\":\"{n}.50\"}},\"beds\":{}}}", n % 4)).collect();
        let data = DataFile::new("listings.ndjson", lines.join("\n"));
        provisioner.load_template(&[data]).await.unwrap();
        let name = DatabaseName::new(format!("grader-{tag}-{}", std::process::id())).unwrap();
        let seat = SeatDatabase {
            name,
            password: "a-password-of-ada-0123456789".to_owned(),
        };
        provisioner.create_seat(&seat).await.unwrap();
        let mut as_seat = url::Url::parse(&uri).unwrap();
        as_seat.set_username(seat.name.as_str()).unwrap();
        as_seat.set_password(Some(&seat.password)).unwrap();
        let access = MongodbAccess {
            uri: as_seat.to_string(),
            database: seat.name.to_string(),
        };
        Self {
            app,
            provisioner,
            seat,
            access,
            template,
        }
    }

    async fn access(&self) -> SeatAccess {
        let samples = Arc::new(self.provisioner.samples().await.unwrap());
        SeatAccess {
            mongodb: Some(self.access.clone()),
            samples,
            ..self.app.seat()
        }
    }

    /// The message of the first failed check; empty when all passed.
    async fn told(&self, checks: &str) -> String {
        let grading = grade(&exercise(checks), &self.access().await, &Limits::default()).await;
        grading
            .checks
            .into_iter()
            .find_map(|check| check.message)
            .unwrap_or_default()
    }

    async fn listings(&self) -> mongodb::Collection<Document> {
        Client::with_uri_str(&self.access.uri)
            .await
            .unwrap()
            .database(&self.access.database)
            .collection("listings")
    }

    async fn end(self) {
        self.provisioner.drop_seat(&self.seat.name).await.unwrap();
        let client = Client::with_uri_str(std::env::var("ARENA_TEST_MONGODB_URI").unwrap())
            .await
            .unwrap();
        client.database(&self.template).drop().await.unwrap();
    }
}

#[tokio::test]
async fn every_question_is_answered() {
    let world = World::start("ask", App::start(|_| json(200, "[]"))).await;
    world
        .listings()
        .await
        .create_index(
            mongodb::IndexModel::builder()
                .keys(doc! { "beds": 1, "price": 1 })
                .build(),
        )
        .await
        .unwrap();
    let told = world
        .told(
            r#"
  - name: find
    mongodb: { find: listings, filter: { beds: 1 }, sort: { name: -1 }, skip: 1, limit: 2, projection: { _id: 0, name: 1 } }
    expect: [{ result: [{ name: N13 }, { name: N09 }] }]
  - name: aggregate
    mongodb: { aggregate: listings, pipeline: [{ $group: { _id: $beds, n: { $sum: 1 } } }, { $sort: { _id: 1 } }] }
    expect: [{ "result.*.n": [5, 5, 5, 5] }]
  - name: count, distinct, kinds
    given:
      number: { mongodb: { count: listings, filter: { price: { $lte: 3.5 } } } }
      kind: { mongodb: { kind: listings } }
      none: { mongodb: { kind: nowhere } }
    mongodb: { distinct: listings, field: beds }
    expect: [{ result: { unordered: [0, 1, 2, 3] } }, { number: 3 }, { kind: collection }, { none: absent }]
  - name: indexes
    given:
      none: { mongodb: { listIndexes: nowhere } }
    mongodb: { listIndexes: listings }
    expect: [{ result: { contains: { name: beds_1_price_1, key: { beds: 1, price: 1 } } } }, { none: [] }]
"#,
        )
        .await;
    assert_eq!(told, "");
    world.end().await;
}

#[tokio::test]
async fn markers_look_like_the_data_and_are_gone_afterwards_whatever_happens() {
    let world = World::start("marker", App::start(|_| json(500, "{}"))).await;
    let checks = r#"
  - name: marker
    given:
      extra: { mongodb: { insert: listings, like: template, with: { name: "{{ random.name }}" } } }
      seen: { mongodb: { find: listings, filter: { _id: "{{ extra._id }}", price: { $numberDecimal: "1.50" } } } }
    request: { get: /api }
    then:
      rest: { mongodb: { delete: listings, filter: { name: N20 } } }
    expect:
      - { seen: ["{{ extra }}"] }
      - { "extra._id": { matches: "^[0-9]+$" } }
      - { rest: 1 }
      - { status: 200, otherwise: "Your route answered {{ status }}." }
"#;
    assert_eq!(world.told(checks).await, "Your route answered 500.");
    assert_eq!(
        world
            .listings()
            .await
            .count_documents(doc! {})
            .await
            .unwrap(),
        19
    );
    world.end().await;
}

#[tokio::test]
async fn data_that_lies_or_is_gone_is_told() {
    let world = World::start("lies", App::start(|_| json(200, "[]"))).await;
    let rows = "  - name: x\n    given: { rows: { mongodb: { find: listings } } }\n    request: { get: / }\n    expect: [{ body: \"{{ rows }}\" }]\n";
    let listings = world.listings().await;
    listings.delete_many(doc! {}).await.unwrap();
    assert_eq!(
        world.told(rows).await,
        "restore your data first: listings gives 0 rows where this check needs at least 1"
    );
    listings
        .insert_many((0..1100).map(|n| doc! { "n": n }))
        .await
        .unwrap();
    assert_eq!(
        world.told(rows).await,
        "your data has more than 1000 rows here: restore your data"
    );
    listings.delete_many(doc! {}).await.unwrap();
    listings
        .insert_many((0..6).map(|n| doc! { "n": n, "fat": "x".repeat(1_000_000) }))
        .await
        .unwrap();
    assert_eq!(
        world.told(rows).await,
        "your data has more than 4096 kB here: restore your data"
    );
    world.end().await;
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_server_are_told() {
    let world = World::start("refused", App::start(|_| json(200, "[]"))).await;
    let checks = "  - name: x\n    mongodb: { count: listings }\n    expect: [{ result: 20 }]\n";
    assert_eq!(world.told(checks).await, "");
    let mut seat = world.access().await;
    let limits = Limits {
        database: Duration::from_secs(1),
        ..Limits::default()
    };
    seat.mongodb = Some(MongodbAccess {
        uri: world.access.uri.replacen("0123456789@", "wrong@", 1),
        ..world.access.clone()
    });
    let refused = first_message(grade(&exercise(checks), &seat, &limits).await);
    assert_eq!(
        refused,
        "your database refuses your seat's password: ask a facilitator"
    );
    seat.mongodb = Some(MongodbAccess {
        uri: "mongodb://127.0.0.1:1/".to_owned(),
        ..world.access.clone()
    });
    let missing = first_message(grade(&exercise(checks), &seat, &limits).await);
    assert_eq!(
        missing,
        "your database does not answer: wait a moment and try again, or ask a facilitator"
    );
    world.end().await;
}
