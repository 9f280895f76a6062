//! Seats in MongoDB.

use std::num::NonZeroUsize;

use arena_database::{Before, MongodbAdmin, Provisioner, SeatDatabase};
use arena_workshop::DatabaseName;
use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::{ClientOptions, Credential};

use crate::{file, name, seat};

/// One event on the server, dropped by the test itself.
pub(crate) struct World {
    uri: String,
    pub(crate) provisioner: Provisioner,
    pub(crate) tag: String,
}

impl World {
    pub(crate) async fn start(tag: &str) -> Self {
        let uri = std::env::var("ARENA_TEST_MONGODB_URI").expect(
            "this test needs a MongoDB whose administrator may make users: \
             run `cargo xtask test`, or set ARENA_TEST_MONGODB_URI=mongodb://admin:…@127.0.0.1:27017/",
        );
        let tag = format!("{tag}{}", std::process::id());
        let provisioner = connect(&uri, &tag).await;
        let world = Self {
            uri,
            provisioner,
            tag,
        };
        world.load(100).await;
        world
    }

    /// Goes on as the process does that comes after this one.
    pub(crate) async fn next_process(&mut self) {
        self.provisioner = connect(&self.uri, &self.tag).await;
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

    pub(crate) fn seat(&self, text: &str) -> SeatDatabase {
        seat(&format!("{text}-{}", self.tag))
    }

    pub(crate) async fn as_seat(&self, seat: &SeatDatabase) -> mongodb::Database {
        let mut options = ClientOptions::parse(&self.uri).await.unwrap();
        let credential = Credential::builder()
            .username(seat.name.to_string())
            .password(seat.password.clone());
        options.credential = Some(credential.source("admin".to_owned()).build());
        Client::with_options(options)
            .unwrap()
            .database(seat.name.as_str())
    }

    pub(crate) async fn end(self, seats: &[&SeatDatabase]) {
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

async fn connect(uri: &str, tag: &str) -> Provisioner {
    let template = DatabaseName::new(format!("arena_{tag}")).unwrap();
    let admin = MongodbAdmin {
        uri: uri.to_owned(),
    };
    let connected = Provisioner::connect(&template, Some(&admin), None).await;
    connected.unwrap()
}

pub(crate) async fn count(database: &mongodb::Database, collection: &str) -> u64 {
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
    // One way back, and back again.
    world.provisioner.bring_back_seat(&ada).await.unwrap();
    assert_eq!(
        (
            count(&database, "listings").await,
            count(&database, "mine").await
        ),
        (0, 1)
    );
    world.provisioner.bring_back_seat(&ada).await.unwrap();
    assert_eq!(
        (
            count(&database, "listings").await,
            count(&database, "mine").await
        ),
        (100, 0)
    );
    world
        .provisioner
        .restore_seat(&ada, Before::Discard)
        .await
        .unwrap();
    world.end(&[&ada]).await;
}

#[tokio::test]
async fn a_restore_that_is_done_again_after_a_crash_keeps_what_was_kept() {
    let world = World::start("order").await;
    let ada = world.seat("ada");
    world.provisioner.create_seat(&ada).await.unwrap();
    let database = world.as_seat(&ada).await;
    let error = world.provisioner.bring_back_seat(&ada).await.unwrap_err();
    assert!(
        error.to_string().starts_with("nothing is kept of ada-"),
        "{error}"
    );
    let mine = database.collection::<Document>("mine");
    mine.insert_one(doc! { "a": 1 }).await.unwrap();
    for _ in 0..2 {
        world
            .provisioner
            .restore_seat(&ada, Before::KeepFor(7))
            .await
            .unwrap();
    }
    world.provisioner.bring_back_seat(&ada).await.unwrap();
    assert_eq!(count(&database, "mine").await, 1);
    // The negative control: another order keeps what is there now.
    for order in [8, 9] {
        world
            .provisioner
            .restore_seat(&ada, Before::KeepFor(order))
            .await
            .unwrap();
    }
    world.provisioner.bring_back_seat(&ada).await.unwrap();
    assert_eq!(count(&database, "mine").await, 0);
    world.end(&[&ada]).await;
}

#[tokio::test]
async fn who_is_locked_out_finds_everything_again() {
    let world = World::start("locked").await;
    let ada = world.seat("ada");
    world.provisioner.create_seat(&ada).await.unwrap();
    let mine = world.as_seat(&ada).await.collection::<Document>("mine");
    mine.insert_one(doc! { "a": 1 }).await.unwrap();
    world.provisioner.lock_out(&ada.name).await.unwrap();
    world.provisioner.lock_out(&ada.name).await.unwrap();
    let again = world.as_seat(&ada).await.collection::<Document>("mine");
    again.find_one(doc! {}).await.unwrap_err();
    world.provisioner.create_seat(&ada).await.unwrap();
    assert_eq!(count(&world.as_seat(&ada).await, "mine").await, 1);
    world.end(&[&ada]).await;
}

#[tokio::test]
async fn validators_come_with_the_copy_and_dirty_documents_too() {
    let world = World::start("valid").await;
    let files = [
        file(
            "arena/data/towns.ndjson",
            "{\"_id\":1,\"people\":5}\n{\"_id\":2,\"people\":\"many\"}",
        ),
        file(
            "arena/data/towns.validator.json",
            "{\"$jsonSchema\":{\"properties\":{\"people\":{\"bsonType\":\"int\"}}}}",
        ),
        file("arena/data/empty.json", "[]"),
    ];
    world.provisioner.load_template(&files).await.unwrap();
    let ada = world.seat("ada");
    world.provisioner.create_seat(&ada).await.unwrap();
    let database = world.as_seat(&ada).await;
    assert_eq!(count(&database, "towns").await, 2);
    let towns = database.collection::<Document>("towns");
    let refused = towns
        .insert_one(doc! { "people": "few" })
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("121"), "{refused}");
    towns.insert_one(doc! { "people": 3 }).await.unwrap();
    let names = database.list_collection_names().await.unwrap();
    assert!(names.contains(&"empty".to_owned()), "{names:?}");
    world.end(&[&ada]).await;
}

#[tokio::test]
async fn a_mistake_in_a_file_stops_loading_and_the_next_try_begins_anew() {
    let world = World::start("wrong").await;
    let lines = "{\"a\":1}\n".repeat(2500) + "{\"a\":";
    let broken = [file("arena/data/many.ndjson", &lines)];
    let error = world.provisioner.load_template(&broken).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        source.starts_with("arena/data/many.ndjson, line 2501: "),
        "{source}"
    );
    world.load(100).await;
    let ada = world.seat("ada");
    world.provisioner.create_seat(&ada).await.unwrap();
    let database = world.as_seat(&ada).await;
    assert_eq!(
        (
            count(&database, "listings").await,
            count(&database, "many").await
        ),
        (100, 0)
    );
    world.end(&[&ada]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_one_seat_at_once_happens_one_after_the_other() {
    let world = World::start("turns").await;
    let ada = world.seat("ada");
    let provisioner = &world.provisioner;
    provisioner.create_seat(&ada).await.unwrap();
    provisioner.restore_seat(&ada, Before::Keep).await.unwrap();
    for _ in 0..5 {
        let (restored, back, made) = tokio::join!(
            provisioner.restore_seat(&ada, Before::Keep),
            provisioner.bring_back_seat(&ada),
            provisioner.create_seat(&ada),
        );
        restored.and(back).and(made).unwrap();
        let database = world.as_seat(&ada).await;
        assert_eq!(count(&database, "listings").await, 100);
    }
    world.end(&[&ada]).await;
}

#[tokio::test]
async fn an_events_end_leaves_other_events_what_is_theirs() {
    let (ending, going_on) = (World::start("ending").await, World::start("goingon").await);
    let own = ending.seat("ada");
    let locked_out = ending.seat("eve");
    let both = seat(&format!("both{}", std::process::id()));
    for (world, seat) in [
        (&ending, &own),
        (&ending, &locked_out),
        (&ending, &both),
        (&going_on, &both),
    ] {
        world.provisioner.create_seat(seat).await.unwrap();
    }
    let restored = ending.provisioner.restore_seat(&own, Before::Keep);
    restored.await.unwrap();
    ending.provisioner.lock_out(&locked_out.name).await.unwrap();

    let told = std::sync::Mutex::new(Vec::new());
    for _again in 0..2 {
        let tell = |progress: arena_database::Progress| told.lock().unwrap().push(progress);
        ending.provisioner.remove_event(tell).await.unwrap();
    }
    let told = told.into_inner().unwrap();
    assert_eq!(told.last().map(|last| (last.done, last.all)), Some((2, 2)));
    let client = Client::with_uri_str(&ending.uri).await.unwrap();
    let names = client.list_database_names().await.unwrap();
    let left: Vec<&String> = names
        .iter()
        .filter(|name| name.contains(&ending.tag))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let admin = client.database("admin");
    let users = admin.run_command(doc! { "usersInfo": 1 }).await.unwrap();
    let users = users.to_string();
    assert!(!users.contains(&ending.tag), "{users}");
    // The other event's seat of that name, and the template that it came from.
    assert_eq!(count(&going_on.as_seat(&both).await, "listings").await, 100);
    going_on.end(&[&both]).await;
}
