//! Clients that leave while the engine works for them. What the engine does is
//! read from the engine, beside the front.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arena_mongo::{Limits, Quota};
use mongodb::Database;
use mongodb::bson::{Document, doc};

use crate::crud::slow_pipeline;
use crate::wire::{Wire, document, lsid, message, unanswered};
use crate::world::{PASSWORD, World, code, code_of};

/// What these tests start would run so long.
const STATEMENT: Duration = Duration::from_secs(60);
/// A statement whose client has left is gone after this.
const SOON: Duration = Duration::from_secs(8);

/// A world with a seat whose collection `n` is long enough for a statement that does not end.
struct Scene {
    world: World,
    ada: Database,
    engine: tokio_postgres::Client,
}

impl Scene {
    async fn set(limits: Limits) -> Self {
        let quota = Quota {
            statement_time: STATEMENT,
            ..Quota::default()
        };
        let world = World::with(limits, quota).await;
        world.seat("ada");
        let ada = world.client("ada").await.database("ada");
        let documents = (0..3000).map(|n| doc! { "_id": n });
        ada.collection::<Document>("n")
            .insert_many(documents)
            .await
            .unwrap();
        let engine = world.engine.connect().await;
        Self { world, ada, engine }
    }

    /// How many of the front's statements that contain these words the engine runs.
    async fn running(&self, words: &str) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'arena-mongo' \
            AND state = 'active' AND query LIKE '%' || $1 || '%'";
        self.engine.query_one(sql, &[&words]).await.unwrap().get(0)
    }

    async fn wait_for(&self, words: &str, count: i64, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            let running = self.running(words).await;
            if running == count {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{running} instead of {count} statements with {words}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Begins a statement that does not end by itself.
    async fn busy(&self) -> Wire {
        let mut wire = Wire::log_in_as(&self.world, "ada").await;
        wire.send(&message(&document(&slow()))).await;
        wire
    }
}

fn slow() -> Document {
    doc! { "aggregate": "n", "pipeline": slow_pipeline("n"), "cursor": {}, "$db": "ada" }
}

const AGGREGATE: &str = "aggregate_cursor_first_page";

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_ends_with_the_client_that_asked_and_not_with_another() {
    let scene = Scene::set(Limits::default()).await;
    let (leaving, _staying) = (scene.busy().await, scene.busy().await);
    scene.wait_for(AGGREGATE, 2, SOON).await;
    drop(leaving);
    scene.wait_for(AGGREGATE, 1, SOON).await;
    // The other one shows that it would still run.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.running(AGGREGATE).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_places_of_a_killed_client_are_free_at_once() {
    let limits = Limits {
        statements_per_user: 1,
        ..Limits::default()
    };
    let scene = Scene::set(limits).await;
    let socket = scene.busy().await.into_stream().into_std().unwrap();
    scene.wait_for(AGGREGATE, 1, SOON).await;
    // The socket is now this process's alone.
    let mut client = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .spawn()
        .unwrap();
    let connections = || scene.world.guard.usage()["ada"].connections;
    let before = connections();
    let numbers = scene.ada.collection::<Document>("n");
    let mut next = Box::pin(numbers.find_one(doc! {}).into_future());
    // Ada may run one statement, and runs one.
    let waiting = tokio::time::timeout(Duration::from_secs(1), &mut next).await;
    assert!(waiting.is_err(), "{waiting:?}");
    client.kill().unwrap();
    client.wait().unwrap();
    let served = tokio::time::timeout(SOON, next).await;
    assert!(served.unwrap().unwrap().is_some());
    scene.wait_for(AGGREGATE, 0, SOON).await;
    assert!(connections() < before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_ends_with_the_client_whose_statement_runs_in_it() {
    let scene = Scene::set(Limits::default()).await;
    let mut wire = Wire::log_in_as(&scene.world, "ada").await;
    let within = |mut command: Document| {
        command.extend(
            doc! { "$db": "ada", "lsid": lsid(1), "txnNumber": 1_i64, "autocommit": false },
        );
        command
    };
    let mut lock = within(
        doc! { "update": "n", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "by": "transaction" } } }] },
    );
    lock.insert("startTransaction", true);
    let answer = wire.run(&lock).await;
    assert_eq!(answer.get_i32("nModified").unwrap(), 1, "{answer}");
    wire.send(&message(&document(&within(slow())))).await;
    scene.wait_for(AGGREGATE, 1, SOON).await;
    drop(wire);
    let change = doc! { "$set": { "by": "next" } };
    let next = scene.ada.collection::<Document>("n");
    let next = next.update_one(doc! { "_id": 1 }, change).into_future();
    let changed = tokio::time::timeout(SOON, next).await.unwrap().unwrap();
    assert_eq!(changed.modified_count, 1);
    scene.wait_for(AGGREGATE, 0, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_for_a_lock_waits_no_longer_than_its_client() {
    let scene = Scene::set(Limits::default()).await;
    let mut holder = Wire::log_in_as(&scene.world, "ada").await;
    let update = || doc! { "update": "n", "updates": [{ "q": { "_id": 1 }, "u": { "$inc": { "n": 1 } } }], "$db": "ada" };
    let mut lock = update();
    lock.extend(
        doc! { "lsid": lsid(1), "txnNumber": 1_i64, "autocommit": false, "startTransaction": true },
    );
    holder.run(&lock).await;
    let mut wire = Wire::log_in_as(&scene.world, "ada").await;
    wire.send(&message(&document(&update()))).await;
    scene.wait_for("documentdb_api.update", 1, SOON).await;
    drop(wire);
    scene.wait_for("documentdb_api.update", 0, SOON).await;
    // It changed nothing after its client had gone.
    let commit = doc! { "commitTransaction": 1, "$db": "admin", "lsid": lsid(1), "txnNumber": 1_i64, "autocommit": false };
    assert_eq!(holder.run(&commit).await.get_f64("ok").unwrap(), 1.0);
    let numbers = scene.ada.collection::<Document>("n");
    let found = numbers.find_one(doc! { "_id": 1 });
    assert_eq!(found.await.unwrap().unwrap().get_i32("n").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_finished_though_its_client_leaves_at_once() {
    let scene = Scene::set(Limits::default()).await;
    for name in ["answered", "unanswered"] {
        let mut wire = Wire::open(&scene.world).await;
        wire.log_in("ada", PASSWORD).await;
        let documents: Vec<Document> = (0..500).map(|n| doc! { "_id": n }).collect();
        let insert = doc! { "insert": name, "documents": documents, "$db": "ada" };
        let bytes = match name {
            "answered" => message(&document(&insert)),
            _ => unanswered(&document(&insert)),
        };
        wire.send(&bytes).await;
        drop(wire);
        let deadline = Instant::now() + SOON;
        let written = scene.ada.collection::<Document>(name);
        while written.count_documents(doc! {}).await.unwrap() != 500 {
            assert!(Instant::now() < deadline, "{name}: not written");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_end_with_the_front() {
    let scene = Scene::set(Limits::default()).await;
    let _waiting = scene.busy().await;
    scene.wait_for(AGGREGATE, 1, SOON).await;
    scene.world.end_front();
    scene.wait_for(AGGREGATE, 0, SOON).await;
}

async fn operations(database: &Database, options: Document) -> Vec<Document> {
    let admin = database.client().database("admin");
    let pipeline = [
        doc! { "$currentOp": options },
        doc! { "$match": { "ns": "ada.n" } },
    ];
    let found = admin.aggregate(pipeline).await.unwrap();
    futures_util::TryStreamExt::try_collect(found)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_seen_and_ended_by_its_owner_and_by_nobody_else() {
    let scene = Scene::set(Limits::default()).await;
    scene.world.seat("bob");
    let bob = scene.world.client("bob").await.database("bob");
    let mut busy = scene.busy().await;
    scene.wait_for(AGGREGATE, 1, SOON).await;
    let seen = operations(&scene.ada, doc! {}).await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(
        seen[0].get_document("command").unwrap(),
        &doc! { "aggregate": "n" }
    );
    let kill = doc! { "killOp": 1, "op": seen[0].get_i32("opid").unwrap() };
    assert!(operations(&bob, doc! {}).await.is_empty());
    let bobs = bob.client().database("admin");
    assert_eq!(code(bobs.run_command(kill.clone()).await), 13);
    let all = [doc! { "$currentOp": { "allUsers": true } }];
    assert_eq!(code_of(&bobs.aggregate(all).await.unwrap_err()), 13);
    assert_eq!(scene.running(AGGREGATE).await, 1);
    let adas = scene.ada.client().database("admin");
    adas.run_command(kill).await.unwrap();
    let answer = busy.answer().await.unwrap();
    assert_eq!(answer.get_i32("code").unwrap(), 11601, "{answer}");
    scene.wait_for(AGGREGATE, 0, SOON).await;
    // The client that was interrupted goes on.
    let found = busy
        .run(&doc! { "find": "n", "limit": 1, "$db": "ada" })
        .await;
    assert_eq!(found.get_f64("ok").unwrap(), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_seen_by_their_owner_and_by_an_administrator() {
    let scene = Scene::set(Limits::default()).await;
    scene.world.seat("bob");
    let list = |database: &Database, options: Document| {
        // Stages may follow it, as after any other.
        let pipeline = [
            doc! { "$listLocalSessions": options },
            doc! { "$sort": { "lastUse": 1 } },
            doc! { "$project": { "id": "$_id.id", "owner": "$_id.uid", "is_new": { "$lte": ["$lastUse", "$$NOW"] } } },
        ];
        let database = database.clone();
        async move {
            let found = database.aggregate(pipeline).await?;
            futures_util::TryStreamExt::try_collect::<Vec<Document>>(found).await
        }
    };
    let [adas, bobs, roots] = [
        scene.world.client("ada").await.database("ada"),
        scene.world.client("bob").await.database("admin"),
        scene.world.client("root").await.database("admin"),
    ];
    let mut session = adas.client().start_session().await.unwrap();
    let numbers = adas.collection::<Document>("n");
    numbers
        .find_one(doc! {})
        .session(&mut session)
        .await
        .unwrap();
    let own = session.id().get("id").unwrap().clone();
    let seen = list(&adas, doc! {}).await.unwrap();
    assert!(
        seen.iter().any(|one| one.get("id") == Some(&own)),
        "{seen:?}"
    );
    assert!(
        seen.iter()
            .all(|one| one.get_bool("is_new").unwrap() && one.get("owner") == seen[0].get("owner"))
    );
    let of_bob = list(&bobs, doc! {}).await.unwrap();
    assert!(
        !of_bob.is_empty()
            && of_bob
                .iter()
                .all(|one| one.get("owner") != seen[0].get("owner"))
    );
    let all = doc! { "allUsers": true };
    let refused = list(&bobs, all.clone()).await.unwrap_err();
    assert_eq!(code_of(&refused), 13);
    let of_all = list(&roots, all).await.unwrap();
    assert!(
        of_all.iter().any(|one| one.get("id") == Some(&own)),
        "{of_all:?}"
    );
    let unknown = list(&adas, doc! { "nope": 1 }).await.unwrap_err();
    assert_eq!(code_of(&unknown), 40415);
    let on_a_collection = numbers.aggregate([doc! { "$listLocalSessions": {} }]).await;
    assert_eq!(code_of(&on_a_collection.unwrap_err()), 73);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_a_session_ends_what_runs_in_it_alone() {
    let scene = Scene::set(Limits::default()).await;
    let mut clients = Vec::new();
    for number in 1..3 {
        let mut wire = Wire::log_in_as(&scene.world, "ada").await;
        let mut slow = slow();
        slow.insert("lsid", lsid(number));
        wire.send(&message(&document(&slow))).await;
        clients.push(wire);
    }
    scene.wait_for(AGGREGATE, 2, SOON).await;
    let root = scene.world.client("root").await.database("admin");
    let seen = operations(&root, doc! { "allUsers": true }).await;
    assert_eq!(seen.len(), 2, "{seen:?}");
    let kill = doc! { "killSessions": [lsid(1)] };
    scene.ada.run_command(kill).await.unwrap();
    let answer = clients[0].answer().await.unwrap();
    assert_eq!(answer.get_i32("code").unwrap(), 11601, "{answer}");
    scene.wait_for(AGGREGATE, 1, SOON).await;
}
