//! Transactions and sessions: through the Rust driver, and by commands that no
//! driver would send.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::time::{Duration, Instant};

use arena_mongo::Limits;
use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT};
use mongodb::{ClientSession, Collection};

use crate::wire::{Wire, lsid};
use crate::world::{World, code_of};

async fn with_accounts(world: &World) -> Collection<Document> {
    world.seat("ada");
    let accounts = world
        .client("ada")
        .await
        .database("ada")
        .collection::<Document>("accounts");
    let start = ["a", "b"].map(|id| doc! { "_id": id, "euros": 100 });
    accounts.insert_many(start).await.unwrap();
    accounts
}

async fn session(accounts: &Collection<Document>) -> ClientSession {
    let mut session = accounts.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    session
}

async fn euros(accounts: &Collection<Document>, id: &str) -> i32 {
    let found = accounts.find_one(doc! { "_id": id }).await.unwrap();
    found.unwrap().get_i32("euros").unwrap()
}

fn pay(by: i32) -> Document {
    doc! { "$inc": { "euros": by } }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_seen_by_itself_alone_until_it_is_committed() {
    let world = World::start().await;
    let accounts = with_accounts(&world).await;
    let mut session = session(&accounts).await;
    for (id, by) in [("a", -30), ("b", 30)] {
        accounts
            .update_one(doc! { "_id": id }, pay(by))
            .session(&mut session)
            .await
            .unwrap();
    }
    accounts
        .insert_one(doc! { "_id": "c", "euros": 1 })
        .session(&mut session)
        .await
        .unwrap();
    let inside = accounts.find_one(doc! { "_id": "a" }).session(&mut session);
    assert_eq!(inside.await.unwrap().unwrap().get_i32("euros").unwrap(), 70);
    assert_eq!(euros(&accounts, "a").await, 100);
    session.commit_transaction().await.unwrap();
    // A second commit of the same transaction is a repeated one.
    session.commit_transaction().await.unwrap();
    assert_eq!(euros(&accounts, "a").await, 70);
    assert_eq!(euros(&accounts, "b").await, 130);
    assert_eq!(accounts.count_documents(doc! {}).await.unwrap(), 3);
}

/// What it deleted was there before what comes after it.
#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_transaction_leaves_the_order_of_insertion() {
    let world = World::start().await;
    let accounts = with_accounts(&world).await;
    let mut session = session(&accounts).await;
    let deleted = accounts.delete_many(doc! {}).session(&mut session).await;
    assert_eq!(deleted.unwrap().deleted_count, 2);
    session.abort_transaction().await.unwrap();
    let new = doc! { "_id": "A", "euros": 1 };
    accounts.insert_one(new).await.unwrap();
    let found = accounts.find(doc! {}).await.unwrap();
    let found: Vec<Document> = found.try_collect().await.unwrap();
    let ids = found.iter().map(|account| account.get_str("_id").unwrap());
    assert_eq!(ids.collect::<Vec<&str>>(), ["a", "b", "A"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_transaction_leaves_nothing_not_even_its_collection() {
    let world = World::start().await;
    let accounts = with_accounts(&world).await;
    let mut session = session(&accounts).await;
    accounts
        .delete_many(doc! {})
        .session(&mut session)
        .await
        .unwrap();
    let database = accounts.client().database("ada");
    database
        .collection::<Document>("new")
        .insert_one(doc! {})
        .session(&mut session)
        .await
        .unwrap();
    session.abort_transaction().await.unwrap();
    assert_eq!(accounts.count_documents(doc! {}).await.unwrap(), 2);
    assert_eq!(
        database.list_collection_names().await.unwrap(),
        ["accounts"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_writer_of_a_document_is_told_to_begin_again_at_once() {
    let world = World::start().await;
    let accounts = with_accounts(&world).await;
    let (mut first, mut second) = (session(&accounts).await, session(&accounts).await);
    let filter = || doc! { "_id": "a" };
    accounts
        .update_one(filter(), pay(1))
        .session(&mut first)
        .await
        .unwrap();
    let started = Instant::now();
    let error = accounts
        .update_one(filter(), pay(2))
        .session(&mut second)
        .await
        .unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(code_of(&error), 112, "{error}");
    assert!(error.contains_label(TRANSIENT_TRANSACTION_ERROR));
    // That ended the second transaction; the first one goes on.
    let error = second.commit_transaction().await.unwrap_err();
    assert_eq!(code_of(&error), 251, "{error}");
    assert!(error.contains_label(TRANSIENT_TRANSACTION_ERROR));
    assert!(!error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT));
    first.commit_transaction().await.unwrap();
    assert_eq!(euros(&accounts, "a").await, 101);
}

/// Mongoose makes a model's collection while the app's first transaction writes into it.
#[tokio::test(flavor = "multi_thread")]
async fn who_writes_into_a_collection_that_others_just_made_begins_again_and_succeeds() {
    let world = World::start().await;
    let accounts = with_accounts(&world).await;
    let mut session = session(&accounts).await;
    let read = accounts.find_one(doc! {}).session(&mut session).await;
    assert!(read.unwrap().is_some(), "its snapshot is taken");
    let elsewhere = world.client("ada").await.database("ada");
    elsewhere.create_collection("visits").await.unwrap();
    let database = accounts.client().database("ada");
    let visits = database.collection::<Document>("visits");
    let visit = doc! { "city": "Turin" };
    let written = visits.insert_one(&visit).session(&mut session).await;
    let error = written.unwrap_err();
    assert_eq!(code_of(&error), 112, "{error}");
    assert!(error.contains_label(TRANSIENT_TRANSACTION_ERROR));
    let _ = session.abort_transaction().await;
    session.start_transaction().await.unwrap();
    let written = visits.insert_one(&visit).session(&mut session).await;
    written.unwrap();
    session.commit_transaction().await.unwrap();
    assert_eq!(visits.count_documents(doc! {}).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_transfers_at_once_lose_no_money() {
    let world = World::start().await;
    let accounts = with_accounts(&world).await;
    let transfers = (0..12).map(async |number| {
        let accounts = &accounts;
        let mut session = accounts.client().start_session().await.unwrap();
        let (from, to) = if number % 2 == 0 {
            ("a", "b")
        } else {
            ("b", "a")
        };
        let transfer = session
            .start_transaction()
            .and_run2(async move |session| {
                accounts
                    .update_one(doc! { "_id": from }, pay(-number))
                    .session(&mut *session)
                    .await?;
                accounts
                    .update_one(doc! { "_id": to }, pay(number))
                    .session(&mut *session)
                    .await
            })
            .await;
        transfer.unwrap();
    });
    join_all(transfers).await;
    // Even numbers go from a to b, odd ones back: 30 there, 36 back.
    assert_eq!(euros(&accounts, "a").await, 106);
    assert_eq!(euros(&accounts, "b").await, 94);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_a_transaction_reads_its_snapshot_to_the_end() {
    let world = World::start().await;
    let accounts = with_accounts(&world).await;
    accounts
        .insert_many((0..200).map(|n| doc! { "_id": n, "euros": n }))
        .await
        .unwrap();
    let mut session = session(&accounts).await;
    let mut cursor = accounts
        .find(doc! {})
        .batch_size(10)
        .session(&mut session)
        .await
        .unwrap();
    let mut count = 0;
    while let Some(document) = cursor.next(&mut session).await {
        document.unwrap();
        if count == 50 {
            accounts.delete_many(doc! {}).await.unwrap();
        }
        count += 1;
    }
    assert_eq!(count, 202);
    session.commit_transaction().await.unwrap();
    assert_eq!(accounts.count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_never_ended_is_ended() {
    let limits = Limits {
        transaction_time: Duration::from_millis(1500),
        ..Limits::default()
    };
    let world = World::with_limits(limits).await;
    let accounts = with_accounts(&world).await;
    let mut session = session(&accounts).await;
    accounts
        .update_one(doc! { "_id": "a" }, pay(5))
        .session(&mut session)
        .await
        .unwrap();
    // A writer outside waits until that is over, and no longer.
    let update = accounts.update_one(doc! { "_id": "a" }, pay(1));
    assert_eq!(update.await.unwrap().modified_count, 1);
    let error = accounts
        .find_one(doc! {})
        .session(&mut session)
        .await
        .unwrap_err();
    assert_eq!(code_of(&error), 251, "{error}");
    assert!(error.contains_label(TRANSIENT_TRANSACTION_ERROR));
    assert_eq!(euros(&accounts, "a").await, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_takes_its_transaction_with_it() {
    let world = World::start().await;
    let accounts = with_accounts(&world).await;
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let update = doc! { "update": "accounts", "updates": [{ "q": { "_id": "a" }, "u": pay(5) }], "$db": "ada", "lsid": lsid(1), "txnNumber": 1_i64, "startTransaction": true, "autocommit": false };
    assert_eq!(wire.run(&update).await.get_i32("n").unwrap(), 1);
    drop(wire);
    let started = Instant::now();
    let update = accounts.update_one(doc! { "_id": "a" }, pay(1));
    assert_eq!(update.await.unwrap().modified_count, 1);
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "waited as long as a transaction lives"
    );
    assert_eq!(euros(&accounts, "a").await, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_few_transactions_at_once() {
    let limits = Limits {
        transactions_per_user: 2,
        ..Limits::default()
    };
    let world = World::with_limits(limits).await;
    let accounts = with_accounts(&world).await;
    world.seat("bob");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut session = session(&accounts).await;
        let find = accounts.find_one(doc! {}).session(&mut session);
        find.await.unwrap();
        open.push(session);
    }
    let mut third = session(&accounts).await;
    let error = accounts
        .find_one(doc! {})
        .session(&mut third)
        .await
        .unwrap_err();
    assert_eq!(code_of(&error), 24, "{error}");
    assert!(error.contains_label(TRANSIENT_TRANSACTION_ERROR));
    let bobs = world
        .client("bob")
        .await
        .database("bob")
        .collection::<Document>("c");
    let mut bob = session(&bobs).await;
    bobs.insert_one(doc! {}).session(&mut bob).await.unwrap();
    bob.commit_transaction().await.unwrap();
    open.pop().unwrap().abort_transaction().await.unwrap();
    third.abort_transaction().await.unwrap();
    third.start_transaction().await.unwrap();
    let find = accounts.find_one(doc! {}).session(&mut third);
    find.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_answered_truly_after_the_front_was_restarted() {
    let mut world = World::start().await;
    world.seat("ada");
    let insert = |number: i64| doc! { "insert": "c", "documents": [{ "_id": number }], "$db": "ada", "lsid": lsid(1), "txnNumber": number, "startTransaction": true, "autocommit": false };
    let commit = |number: i64| doc! { "commitTransaction": 1, "$db": "admin", "lsid": lsid(1), "txnNumber": number, "autocommit": false };
    let mut wire = Wire::log_in_as(&world, "ada").await;
    wire.run(&insert(1)).await;
    assert_eq!(wire.run(&commit(1)).await.get_f64("ok").unwrap(), 1.0);
    world.restart_front().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    assert_eq!(wire.run(&commit(1)).await.get_f64("ok").unwrap(), 1.0);
    // The second transaction goes with the front: it never was.
    wire.run(&insert(2)).await;
    world.restart_front().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let answer = wire.run(&commit(2)).await;
    assert_eq!(answer.get_i32("code").unwrap(), 251, "{answer}");
    assert_eq!(
        answer.get_array("errorLabels").unwrap(),
        &[Bson::from("TransientTransactionError")]
    );
    let counted = wire.run(&doc! { "count": "c", "$db": "ada" }).await;
    assert_eq!(counted.get_i32("n").unwrap(), 1, "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_belong_into_a_transaction_is_refused_as_mongodb_refuses_it() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let mut number = 0_i64;
    let mut refused = async |mut command: Document| {
        number += 1;
        command.extend(doc! { "$db": "ada", "lsid": lsid(1), "txnNumber": number, "startTransaction": true, "autocommit": false });
        let answer = wire.run(&command).await;
        let message = answer.get_str("errmsg").unwrap_or_default().to_owned();
        (answer.get_i32("code").unwrap_or(0), message)
    };
    let (code, message) = refused(doc! { "count": "c" }).await;
    assert_eq!(code, 263);
    assert!(message.starts_with("Cannot run 'count' in a multi-document transaction. Please see"));
    for command in [
        doc! { "drop": "c" },
        doc! { "listCollections": 1 },
        doc! { "explain": { "find": "c" } },
        doc! { "dropDatabase": 1 },
        doc! { "ping": 1 },
        doc! { "buildInfo": 1 },
    ] {
        let name = command.keys().next().unwrap().clone();
        let expected = format!("Cannot run '{name}' in a multi-document transaction.");
        assert_eq!(refused(command).await, (263, expected));
    }
    let out = doc! { "aggregate": "c", "pipeline": [{ "$out": "d" }], "cursor": {} };
    assert_eq!(
        refused(out).await,
        (
            263,
            "Stage not supported inside of a multi-document transaction: $out".to_owned()
        )
    );
    let concern = doc! { "insert": "c", "documents": [{}], "writeConcern": { "w": 1 } };
    assert_eq!(refused(concern).await.0, 72);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_a_transaction_has_a_token_that_its_commit_takes_back() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let mut run = async |mut command: Document, more: Document| {
        command.extend(doc! { "lsid": lsid(1), "txnNumber": 1_i64 });
        command.extend(more);
        wire.run(&command).await
    };
    let go_on = || doc! { "autocommit": false };
    let start = doc! { "startTransaction": true, "autocommit": false };
    let read = run(doc! { "find": "c", "$db": "ada" }, start).await;
    let write = doc! { "insert": "c", "documents": [{ "_id": 1 }], "$db": "ada" };
    let written = run(write, go_on()).await;
    let token = written.get_document("recoveryToken").unwrap().clone();
    let commit = doc! { "commitTransaction": 1, "recoveryToken": token, "$db": "admin" };
    for answer in [read, written, run(commit, go_on()).await] {
        assert_eq!(answer.get_f64("ok").unwrap(), 1.0, "{answer}");
        assert!(answer.get_document("recoveryToken").is_ok(), "{answer}");
    }
    let found = wire.run(&doc! { "find": "c", "$db": "ada" }).await;
    assert!(!found.contains_key("recoveryToken"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_transactions_only_go_up() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let mut run = async |command: Document, number: i64, more: Document| {
        let mut command = command;
        command.extend(doc! { "lsid": lsid(1), "txnNumber": number });
        command.extend(more);
        let answer = wire.run(&command).await;
        answer.get_i32("code").unwrap_or(0)
    };
    let find = || doc! { "find": "c", "$db": "ada" };
    let start = || doc! { "startTransaction": true, "autocommit": false };
    let go_on = || doc! { "autocommit": false };
    let commit = || doc! { "commitTransaction": 1, "$db": "admin" };
    let abort = || doc! { "abortTransaction": 1, "$db": "admin" };
    assert_eq!(run(find(), 5, go_on()).await, 251);
    assert_eq!(run(find(), 5, start()).await, 0);
    assert_eq!(run(find(), 5, start()).await, 117);
    assert_eq!(run(find(), 4, start()).await, 225);
    assert_eq!(run(find(), 6, go_on()).await, 251);
    assert_eq!(run(find(), 5, go_on()).await, 0);
    assert_eq!(run(find(), 5, doc! {}).await, 50768);
    assert_eq!(run(commit(), 5, doc! {}).await, 125);
    assert_eq!(run(commit(), 5, go_on()).await, 0);
    assert_eq!(run(commit(), 5, go_on()).await, 0);
    assert_eq!(run(find(), 5, go_on()).await, 256);
    assert_eq!(run(abort(), 5, go_on()).await, 256);
    // A newer transaction ends the one before.
    assert_eq!(run(find(), 7, start()).await, 0);
    assert_eq!(run(find(), 8, start()).await, 0);
    assert_eq!(run(find(), 7, go_on()).await, 225);
    assert_eq!(run(abort(), 8, go_on()).await, 0);
    assert_eq!(run(abort(), 8, go_on()).await, 251);
    assert_eq!(run(commit(), 8, go_on()).await, 251);
    let elsewhere = doc! { "commitTransaction": 1, "$db": "ada" };
    assert_eq!(run(elsewhere, 9, go_on()).await, 13);
    assert_eq!(run(find(), 9, doc! { "autocommit": true }).await, 72);
    assert_eq!(run(find(), 9, doc! { "startTransaction": true }).await, 72);
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_a_session_ends_its_transaction_and_only_the_owner_can() {
    let world = World::start().await;
    world.seat("ada");
    world.seat("bob");
    let mut ada = Wire::log_in_as(&world, "ada").await;
    let mut bob = Wire::log_in_as(&world, "bob").await;
    let find = |start: bool| {
        let mut find = doc! { "find": "c", "$db": "ada", "lsid": lsid(1), "txnNumber": 1_i64, "autocommit": false };
        if start {
            find.insert("startTransaction", true);
        }
        find
    };
    let end = |name: &str| doc! { name: [lsid(1)], "$db": "admin" };
    for (name, number) in [("endSessions", 1), ("killSessions", 2)] {
        assert_eq!(
            ada.run(&find(true)).await.get_f64("ok").unwrap(),
            1.0,
            "{number}"
        );
        bob.run(&end(name)).await;
        assert_eq!(ada.run(&find(false)).await.get_f64("ok").unwrap(), 1.0);
        ada.run(&end(name)).await;
        assert_eq!(ada.run(&find(false)).await.get_i32("code").unwrap(), 251);
    }
    let refused = bob
        .run(&doc! { "killAllSessions": [], "$db": "admin" })
        .await;
    assert_eq!(refused.get_i32("code").unwrap(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_transaction_is_not_kept_out_by_who_has_all() {
    let limits = Limits {
        transactions: 2,
        transactions_per_user: 2,
        ..Limits::default()
    };
    let world = World::with_limits(limits).await;
    let accounts = with_accounts(&world).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut session = session(&accounts).await;
        let find = accounts.find_one(doc! {}).session(&mut session);
        find.await.unwrap();
        open.push(session);
    }
    let mut begun = Vec::new();
    // Bob gets one of Ada's two; Carol the one that was not used for longest, when everybody has one.
    for (name, code) in [("bob", 0), ("carol", 0)] {
        world.seat(name);
        let client = world.client(name).await;
        let own = client.database(name).collection::<Document>("c");
        let mut session = session(&own).await;
        let found = own.find_one(doc! {}).session(&mut session).await;
        assert_eq!(
            found.err().map_or(0, |error| code_of(&error)),
            code,
            "{name}"
        );
        begun.push(session);
    }
    let mut ended = 0;
    for session in &mut open {
        let find = accounts.find_one(doc! {}).session(session);
        if let Err(error) = find.await {
            assert!(error.contains_label(TRANSIENT_TRANSACTION_ERROR), "{error}");
            ended += 1;
        }
    }
    assert_eq!(ended, 2);
    // Who came last goes on.
    let mut carols = begun.pop().unwrap();
    carols.commit_transaction().await.unwrap();
}
