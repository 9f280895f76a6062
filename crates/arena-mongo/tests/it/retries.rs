//! Writes that a driver repeats because it did not see the answer.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};

use crate::wire::{Wire, lsid};
use crate::world::World;

/// A command as a driver sends it when it may repeat it.
fn repeatable(command: Document, number: i64) -> Document {
    let mut command = command;
    command.extend(doc! { "$db": "ada", "lsid": lsid(1), "txnNumber": number });
    command
}

/// What the command did, without when it was answered.
async fn run(wire: &mut Wire, command: &Document) -> Document {
    let mut answer = wire.run(command).await;
    answer.remove("$clusterTime");
    answer.remove("operationTime");
    answer
}

async fn count(wire: &mut Wire, filter: Document) -> i32 {
    let count = doc! { "count": "c", "query": filter, "$db": "ada" };
    wire.run(&count).await.get_i32("n").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_write_runs_once_and_gets_the_same_answer() {
    let mut world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let odd = doc! { "_id": "odd", "high": f64::NAN, "o": { "a": 1 } };
    wire.run(&doc! { "insert": "c", "documents": [{ "_id": "there" }, odd], "$db": "ada" })
        .await;
    let writes = [
        doc! { "insert": "c", "documents": [{ "n": 1 }] },
        doc! { "insert": "c", "documents": [{ "n": 2 }, { "n": 2 }, { "n": 2 }] },
        doc! { "insert": "c", "documents": [{ "n": 3 }, { "_id": "there" }, { "n": 3 }], "ordered": false },
        doc! { "update": "c", "updates": [{ "q": { "n": 1 }, "u": { "$inc": { "times": 1 } } }] },
        doc! { "update": "c", "updates": [{ "q": { "n": 1 }, "u": { "$inc": { "times": 10 } } }, { "q": { "n": 7 }, "u": { "$set": { "up": 1 } }, "upsert": true }] },
        doc! { "update": "c", "updates": [{ "q": { "_id": "odd" }, "u": { "$max": { "high": 3 }, "$inc": { "times": 1 } } }] },
        doc! { "update": "c", "updates": [{ "q": { "high": 3 }, "u": { "$set": { "o": { "a": 1.0 } }, "$inc": { "times": 1 } } }] },
        doc! { "delete": "c", "deletes": [{ "q": { "n": 2 }, "limit": 1 }] },
        doc! { "findAndModify": "c", "query": { "n": 1 }, "update": { "$inc": { "times": 100 } }, "new": true },
        doc! { "findAndModify": "c", "query": { "n": 2 }, "remove": true },
    ];
    for (number, write) in (1..).zip(writes) {
        let write = repeatable(write, number);
        let first = run(&mut wire, &write).await;
        assert_eq!(first.get_f64("ok").unwrap(), 1.0, "{first}");
        assert_eq!(run(&mut wire, &write).await, first, "{write}");
        // Neither another connection nor another front runs it again.
        let mut other = Wire::log_in_as(&world, "ada").await;
        assert_eq!(run(&mut other, &write).await, first, "{write}");
        if number == 2 {
            world.restart_front().await;
            world.seat("ada");
            wire = Wire::log_in_as(&world, "ada").await;
            assert_eq!(run(&mut wire, &write).await, first, "{write}");
        }
    }
    assert_eq!(count(&mut wire, doc! { "n": 1, "times": 111 }).await, 1);
    assert_eq!(count(&mut wire, doc! { "n": 2 }).await, 1);
    assert_eq!(count(&mut wire, doc! { "n": 3 }).await, 2);
    assert_eq!(count(&mut wire, doc! { "up": 1 }).await, 1);
    // The same without a number runs each time.
    let plain = doc! { "insert": "c", "documents": [{ "n": 9 }], "$db": "ada" };
    wire.run(&plain).await;
    wire.run(&plain).await;
    assert_eq!(count(&mut wire, doc! { "n": 9 }).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_number_is_refused_and_a_failed_write_may_be_tried_again() {
    let mut world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let insert = |id: i32| doc! { "insert": "c", "documents": [{ "_id": id }] };
    wire.run(&repeatable(insert(5), 5)).await;
    let old = wire.run(&repeatable(insert(4), 4)).await;
    assert_eq!(old.get_i32("code").unwrap(), 225, "{old}");
    world.restart_front().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    let old = wire.run(&repeatable(insert(4), 4)).await;
    assert_eq!(old.get_i32("code").unwrap(), 225, "{old}");
    assert_eq!(count(&mut wire, doc! {}).await, 1);
    let refused = repeatable(doc! { "findAndModify": "c", "update": { "$what": 1 } }, 6);
    assert_eq!(wire.run(&refused).await.get_f64("ok").unwrap(), 0.0);
    wire.run(&repeatable(insert(6), 6)).await;
    assert_eq!(count(&mut wire, doc! {}).await, 2);
    // Two statements of one number are two writes.
    for statement in [0, 1, 1, 0] {
        let mut insert = repeatable(doc! { "insert": "c", "documents": [{ "s": statement }] }, 7);
        insert.insert("stmtId", statement);
        wire.run(&insert).await;
    }
    assert_eq!(count(&mut wire, doc! { "s": { "$exists": true } }).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_write_sent_twice_at_once_runs_once() {
    let world = World::start().await;
    world.seat("ada");
    let mut wires = Vec::new();
    for _ in 0..6 {
        wires.push(Wire::log_in_as(&world, "ada").await);
    }
    for number in 1..4 {
        let write = repeatable(
            doc! { "insert": "c", "documents": [{ "n": 1 }, { "n": 1 }] },
            number,
        );
        let answers = wires.iter_mut().map(|wire| run(wire, &write));
        for answer in futures_util::future::join_all(answers).await {
            assert_eq!(answer, doc! { "n": 2, "ok": 1.0 });
        }
        let expected = i32::try_from(number).unwrap() * 2;
        assert_eq!(count(&mut wires[0], doc! {}).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_through_a_killed_engine_and_none_is_lost_or_doubled() {
    let mut world = World::start().await;
    world.seat("ada");
    let notes = world
        .client("ada")
        .await
        .database("ada")
        .collection::<Document>("c");
    notes.insert_one(doc! { "n": -1 }).await.unwrap();
    let writer = {
        let notes = notes.clone();
        tokio::spawn(async move {
            let deadline = Instant::now() + Duration::from_secs(60);
            let (mut acknowledged, mut doubtful, mut n) = (Vec::new(), Vec::new(), 0);
            // Until it has written for a while after the engine came back.
            while acknowledged.len() < 60 && Instant::now() < deadline {
                match notes.insert_one(doc! { "n": n }).await {
                    Ok(_) => acknowledged.push(n),
                    Err(_) => doubtful.push(n),
                }
                n += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            (acknowledged, doubtful)
        })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.engine.kill();
    world.engine.run_server();
    let (acknowledged, doubtful) = writer.await.unwrap();
    assert_eq!(
        acknowledged.len(),
        60,
        "never came back; failed: {doubtful:?}"
    );
    // The driver repeats what failed once; the front waits for the engine meanwhile.
    assert!(doubtful.is_empty(), "not retried: {doubtful:?}");
    for n in acknowledged {
        let copies = notes.count_documents(doc! { "n": n }).await.unwrap();
        assert_eq!(copies, 1, "document {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_many_documents_cannot_be_repeated() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::log_in_as(&world, "ada").await;
    wire.run(&doc! { "insert": "c", "documents": [{ "n": 1 }, { "n": 1 }], "$db": "ada" })
        .await;
    let many = doc! { "q": { "n": 1 }, "u": { "$set": { "many": 1 } }, "multi": true };
    let one = doc! { "q": { "n": 1 }, "u": { "$set": { "one": 1 } } };
    let update = doc! { "update": "c", "updates": [one, many.clone()] };
    let answer = run(&mut wire, &repeatable(update, 1)).await;
    let errors = answer.get_array("writeErrors").unwrap();
    let error = errors[0].as_document().unwrap();
    assert_eq!(answer.get_i32("n").unwrap(), 1, "{answer}");
    let said = ["index", "code"].map(|field| error.get_i32(field).unwrap());
    assert_eq!(said, [1, 72]);
    let delete = doc! { "delete": "c", "deletes": [{ "q": { "n": 1 }, "limit": 0 }] };
    let answer = run(&mut wire, &repeatable(delete, 2)).await;
    assert!(answer.get_array("writeErrors").is_ok(), "{answer}");
    assert_eq!(count(&mut wire, doc! { "many": 1 }).await, 0);
    assert_eq!(count(&mut wire, doc! { "n": 1 }).await, 2);
    // Once, it runs.
    let once = doc! { "update": "c", "updates": [many], "$db": "ada" };
    assert_eq!(wire.run(&once).await.get_i32("n").unwrap(), 2);
}
