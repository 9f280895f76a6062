//! Seats in MongoDB.

use std::num::NonZeroUsize;

use arena_database::{Before, MongodbAdmin, Provisioner, SeatDatabase};
use arena_workshop::DatabaseName;
use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::{ClientOptions, Credential};

use crate::{file, name, seat};

/// One event on the server, dropped by the test itself.
struct World {
    uri: String,
    provisioner: Provisioner,
    tag: String,
}

impl World {
    async fn start(tag: &str) -> Self {
        let uri = std::env::var("ARENA_TEST_MONGODB_URI").expect(
            "this test needs a MongoDB whose administrator may make users: \
             run `cargo xtask test`, or set ARENA_TEST_MONGODB_URI=mongodb://admin:…@127.0.0.1:27017/",
        );
        let tag = format!("{tag}{}", std::process::id());
        let template = DatabaseName::new(format!("arena_{tag}")).unwrap();
        let admin = MongodbAdmin { uri: uri.clone() };
        let provisioner = Provisioner::connect(&template, Some(&admin), None)
            .await
            .unwrap();
        let world = Self {
            uri,
            provisioner,
            tag,
        };
        world.load(100).await;
        world
    }

    async fn load(&self, documents: usize) {
        let lines: Vec<String> = (0..documents)
            .map(|n| {
                format!("{{\"_id\":\"{n}\",\"n\":{n},\"price\":{{\"$numberDecimal\":\"{n}.50\"}}}}")
            })
            .collect();
        let files = [
            file("arena/data/listings.ndjson", &lines.join("\n")),
            file(
                "arena/data/hosts.json",
                "[{\"name\":\"Ada\"},{\"name\":\"Bo\"}]",
            ),
            file(
                "arena/data/listings.indexes.json",
                "[{\"key\":{\"n\":1},\"unique\":true}]",
            ),
            file(
                "arena/data/cheap.view.json",
                "{\"viewOn\":\"listings\",\"pipeline\":[{\"$match\":{\"n\":{\"$lt\":10}}}]}",
            ),
        ];
        self.provisioner.load_template(&files).await.unwrap();
    }

    fn seat(&self, text: &str) -> SeatDatabase {
        seat(&format!("{text}-{}", self.tag))
    }

    async fn as_seat(&self, seat: &SeatDatabase) -> mongodb::Database {
        let mut options = ClientOptions::parse(&self.uri).await.unwrap();
        let credential = Credential::builder()
            .username(seat.name.to_string())
            .password(seat.password.clone());
        options.credential = Some(credential.source("admin".to_owned()).build());
        Client::with_options(options)
            .unwrap()
            .database(seat.name.as_str())
    }

    async fn end(self, seats: &[&SeatDatabase]) {
        for seat in seats {
            self.provisioner.drop_seat(&seat.name).await.unwrap();
        }
        assert!(self.provisioner.list().await.unwrap().is_empty());
        let client = Client::with_uri_str(&self.uri).await.unwrap();
        client
            .database(&format!("arena_{}", self.tag))
            .drop()
            .await
            .unwrap();
    }
}

async fn count(database: &mongodb::Database, collection: &str) -> u64 {
    database
        .collection::<Document>(collection)
        .count_documents(doc! {})
        .await
        .unwrap()
}

#[tokio::test]
async fn a_seat_has_a_copy_of_the_template_and_nothing_else() {
    let world = World::start("copy").await;
    let (ada, bo) = (world.seat("ada"), world.seat("bo"));
    let failed = world
        .provisioner
        .create_seats(
            vec![ada.clone(), bo.clone()],
            NonZeroUsize::new(2).unwrap(),
            |_| {},
        )
        .await;
    assert!(failed.is_empty(), "{failed:?}");
    let database = world.as_seat(&ada).await;
    assert_eq!(
        (
            count(&database, "listings").await,
            count(&database, "hosts").await,
            count(&database, "cheap").await
        ),
        (100, 2, 10)
    );
    let listings = database.collection::<Document>("listings");
    let indexes = listings.list_index_names().await.unwrap();
    assert!(indexes.contains(&"n_1".to_owned()), "{indexes:?}");
    listings
        .insert_one(doc! { "_id": "new", "n": 1000 })
        .await
        .unwrap();
    listings
        .insert_one(doc! { "_id": "twice", "n": 1000 })
        .await
        .unwrap_err();
    let other = database
        .client()
        .database(bo.name.as_str())
        .collection::<Document>("listings");
    other.find_one(doc! {}).await.unwrap_err();
    let template = database
        .client()
        .database(&format!("arena_{}", world.tag))
        .collection::<Document>("listings");
    template.find_one(doc! {}).await.unwrap_err();
    let samples = world.provisioner.samples().await.unwrap();
    assert_eq!(
        samples.get("listings").unwrap().get_str("_id").unwrap(),
        "0"
    );
    world.end(&[&ada, &bo]).await;
}

#[tokio::test]
async fn making_a_seat_again_keeps_its_work_and_sets_its_password() {
    let world = World::start("again").await;
    let mut ada = world.seat("ada");
    world.provisioner.create_seat(&ada).await.unwrap();
    world
        .as_seat(&ada)
        .await
        .collection::<Document>("hosts")
        .drop()
        .await
        .unwrap();
    ada.password = "another-password-0123456789abc".to_owned();
    world.load(100).await;
    world.provisioner.create_seat(&ada).await.unwrap();
    world.load(50).await;
    world.provisioner.create_seat(&ada).await.unwrap();
    let database = world.as_seat(&ada).await;
    assert_eq!(
        (
            count(&database, "listings").await,
            count(&database, "hosts").await
        ),
        (100, 0)
    );
    let listed = world.provisioner.list().await.unwrap();
    assert_eq!(
        listed.into_iter().collect::<Vec<_>>(),
        [name(ada.name.as_str())]
    );
    world.end(&[&ada]).await;
}

#[tokio::test]
async fn restoring_gives_the_template_back_and_keeps_the_old_state_aside() {
    let world = World::start("restore").await;
    let ada = world.seat("ada");
    world.provisioner.create_seat(&ada).await.unwrap();
    let database = world.as_seat(&ada).await;
    database
        .collection::<Document>("listings")
        .delete_many(doc! {})
        .await
        .unwrap();
    database
        .collection::<Document>("mine")
        .insert_one(doc! { "a": 1 })
        .await
        .unwrap();
    database
        .run_command(doc! { "create": "trap", "viewOn": "mine", "pipeline": [] })
        .await
        .unwrap();
    world
        .provisioner
        .restore_seat(&ada, Before::Keep)
        .await
        .unwrap();
    assert_eq!(
        (
            count(&database, "listings").await,
            count(&database, "cheap").await
        ),
        (100, 10)
    );
    let names = database.list_collection_names().await.unwrap();
    assert!(
        !names.contains(&"mine".to_owned()) && !names.contains(&"trap".to_owned()),
        "{names:?}"
    );
    let admin = Client::with_uri_str(&world.uri).await.unwrap();
    let kept = admin.database(&format!("{}_before", ada.name));
    assert_eq!(count(&kept, "mine").await, 1);
    database
        .client()
        .database(&format!("{}_before", ada.name))
        .collection::<Document>("mine")
        .find_one(doc! {})
        .await
        .unwrap_err();
    world
        .provisioner
        .restore_seat(&ada, Before::Discard)
        .await
        .unwrap();
    world.end(&[&ada]).await;
}
