//! Taking what all share. Measured at the victim: how long Bob's small reads take
//! while Ada attacks, against how long they take when it is quiet.

use std::time::{Duration, Instant};

use arena_mongo::{Limits, Quota};
use mongodb::Database;
use mongodb::bson::{Binary, Bson, DateTime, Document, Regex, bson, doc, spec::BinarySubtype};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::Attack;
use crate::crud::slow_pipeline;
use crate::wire::Wire;
use crate::world::{PASSWORD, World, code, code_of};

/// Reads that make one figure.
const READS: u32 = 30;
/// A machine that does other things too may make one read this slow; an attack that holds up others makes every
/// read as slow as its own statements, which take many seconds.
const BOUND: Duration = Duration::from_millis(1500);
/// How long Ada's statements run at most.
const STATEMENT: Duration = Duration::from_secs(6);

fn quota() -> Quota {
    Quota {
        statement_time: STATEMENT,
        ..Quota::default()
    }
}

/// The median of Bob's reads.
async fn median(bob: &Database) -> Duration {
    let mut times = Vec::new();
    for _ in 0..READS {
        let started = Instant::now();
        bob.collection::<Document>("c")
            .find_one(doc! { "_id": 1 })
            .await
            .unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

async fn fill(database: &Database) {
    let long = "a".repeat(60) + "!";
    let documents = (0..3000).map(|n| doc! { "_id": n, "text": &long });
    database
        .collection::<Document>("n")
        .insert_many(documents)
        .await
        .unwrap();
}

/// Sends the command again and again on so many connections, until dropped.
fn attack_with(ada: &Database, command: &Document, at_once: usize) -> JoinSet<()> {
    let mut attackers = JoinSet::new();
    for _ in 0..at_once {
        let (ada, command) = (ada.clone(), command.clone());
        attackers.spawn(async move {
            loop {
                if ada.run_command(command.clone()).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
    }
    attackers
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_statements_do_not_slow_the_neighbour() {
    let regex = Regex {
        pattern: "^(a+)+$".try_into().unwrap(),
        options: "".try_into().unwrap(),
    };
    is_not_felt_by_the_neighbour(&[
        doc! { "aggregate": "n", "pipeline": slow_pipeline("n"), "cursor": {} },
        doc! { "find": "n", "filter": { "text": regex } },
        doc! { "aggregate": "n", "pipeline": [{ "$set": { "x": { "$range": [0, 100_000] } } }, { "$unwind": "$x" }, { "$sort": { "x": -1 } }], "cursor": {} },
        doc! { "createIndexes": "n", "indexes": [{ "key": { "$**": 1 }, "name": "all" }] },
        doc! { "collMod": "n", "validationLevel": "moderate" },
        doc! { "find": "n", "batchSize": 2 },
        doc! { "insert": "n", "documents": [{ "_id": 1 }] },
    ])
    .await;
}

/// Sends each command again and again as Ada, and measures Bob meanwhile.
async fn is_not_felt_by_the_neighbour(heavy: &[Document]) {
    let attack = Attack::on(World::with(Limits::default(), quota()).await).await;
    fill(&attack.ada).await;
    let quiet = median(&attack.bob).await;
    for command in heavy {
        let attackers = attack_with(&attack.ada, command, 8);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let attacked = median(&attack.bob).await;
        drop(attackers);
        let shape: String = command.to_string().chars().take(200).collect();
        eprintln!("quiet {quiet:?}, attacked {attacked:?}: {shape}");
        assert!(
            attacked < quiet * 20 + BOUND,
            "{quiet:?} became {attacked:?}: {shape}"
        );
    }
}

/// An expression so many levels deep, of which each level is checked and rewritten.
fn nested(levels: u32) -> Bson {
    (0..levels).fold(
        bson!("$a"),
        |inner, level| bson!({ "$cond": [{ "$gt": ["$a", level] }, inner, { "$add": ["$b", 1] }] }),
    )
}

/// The front itself works for seconds on what comes in one message, before the engine has seen any of it.
#[tokio::test(flavor = "multi_thread")]
async fn large_messages_do_not_slow_the_neighbour() {
    let listed: Vec<_> = (0..8_000).map(|n| doc! { "x": n }).collect();
    let fields = (0..100).map(|n| (format!("r{n}"), nested(22)));
    let fields: Document = fields.collect();
    is_not_felt_by_the_neighbour(&[
        doc! { "find": "n", "filter": { "a": { "$elemMatch": { "b": { "$in": listed } } } } },
        doc! { "aggregate": "n", "pipeline": [{ "$limit": 1 }, { "$project": fields }], "cursor": {} },
    ])
    .await;
}

/// What is costly need not be large: forty kilobytes of expressions keep the front busy as long as megabytes of
/// documents. If they were worked on where everybody is answered, who asks would wait for about one of them.
#[tokio::test(flavor = "multi_thread")]
async fn messages_full_of_expressions_do_not_slow_the_neighbour() {
    let sum = (0..10).fold(bson!("$a"), |inner, _| bson!({ "$add": [inner, 1] }));
    let twice = doc! { "$let": { "vars": { "x": sum }, "in": { "$add": ["$$x", "$$x"] } } };
    let fields = (0..120).map(|n| (format!("f{n}"), Bson::from(&twice)));
    let fields: Document = fields.collect();
    let costly = doc! { "aggregate": "n", "pipeline": [{ "$limit": 1 }, { "$project": fields }], "cursor": {} };
    let attack = Attack::on(World::with(Limits::default(), quota()).await).await;
    fill(&attack.ada).await;
    let started = Instant::now();
    attack.ada.run_command(costly.clone()).await.unwrap();
    let one = started.elapsed();
    let attackers = attack_with(&attack.ada, &costly, 8);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let attacked = median(&attack.bob).await;
    drop(attackers);
    assert!(attacked * 4 < one, "{attacked:?} beside one of {one:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_regex_that_explodes_ends_with_its_time_and_is_felt_by_nobody() {
    let attack = Attack::on(World::with(Limits::default(), quota()).await).await;
    fill(&attack.ada).await;
    let quiet = median(&attack.bob).await;
    let engine = attack.world.engine.connect().await;
    let matched = doc! { "$regexMatch": { "input": "$text", "regex": "^(a+)+$" } };
    for command in [
        doc! { "find": "n", "filter": { "text": { "$regex": "^(a+)+$" } } },
        doc! { "aggregate": "n", "pipeline": [{ "$match": { "text": { "$not": { "$regex": "(a|aa)+$" } } } }], "cursor": {} },
        doc! { "aggregate": "n", "pipeline": [{ "$match": { "$expr": &matched } }], "cursor": {} },
        doc! { "aggregate": "n", "pipeline": [{ "$project": { "x": &matched } }], "cursor": {} },
    ] {
        let started = Instant::now();
        let exploding = attack.ada.run_command(command.clone());
        let (_, attacked) = tokio::join!(exploding.into_future(), median(&attack.bob));
        let took = started.elapsed();
        assert!(took < STATEMENT * 2, "{took:?}: {command}");
        assert!(
            attacked < quiet * 20 + BOUND,
            "{quiet:?} became {attacked:?}: {command}"
        );
        let deadline = Instant::now() + STATEMENT;
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'arena-mongo' AND state = 'active'";
        while engine.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            assert!(Instant::now() < deadline, "the engine goes on: {command}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The negative control: without the share of each user, Bob waits for Ada's statements.
#[tokio::test(flavor = "multi_thread")]
async fn without_shares_the_same_attack_is_felt() {
    let limits = Limits {
        statements: 4,
        statements_per_user: 4,
        ..Limits::default()
    };
    let attack = Attack::on(World::with(limits, quota()).await).await;
    fill(&attack.ada).await;
    let heavy = doc! { "aggregate": "n", "pipeline": slow_pipeline("n"), "cursor": {} };
    let attackers = attack_with(&attack.ada, &heavy, 8);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let started = Instant::now();
    let _ = attack
        .bob
        .collection::<Document>("c")
        .find_one(doc! { "_id": 1 })
        .await;
    let waited = started.elapsed();
    drop(attackers);
    assert!(waited > BOUND, "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_connections_of_one_seat_leave_the_others_theirs() {
    let limits = Limits {
        connections: 400,
        ..Limits::default()
    };
    let attack = Attack::on(World::with(limits, Quota::default()).await).await;
    let (adas, bobs) = (
        attack.world.seat_socket("ada").await,
        attack.world.seat_socket("bob").await,
    );
    let mut open = Vec::new();
    for _ in 0..500 {
        if let Ok(stream) = UnixStream::connect(&adas).await {
            open.push(stream);
        }
    }
    // There are fewer places than connections asked for, and Bob still gets in.
    let mut bob = UnixStream::connect(&bobs).await.unwrap();
    let hello = crate::wire::message(&crate::wire::document(&doc! { "hello": 1, "$db": "admin" }));
    tokio::io::AsyncWriteExt::write_all(&mut bob, &hello)
        .await
        .unwrap();
    let mut answer = [0; 16];
    bob.read_exact(&mut answer).await.unwrap();
    assert!(open.len() > 400);
    median(&attack.bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_logins_than_allowed_are_refused_with_the_number() {
    let quota = Quota {
        connections: 20,
        ..Quota::default()
    };
    let attack = Attack::on(World::with_quota(quota).await).await;
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..60 {
        let mut wire = Wire::open(&attack.world).await;
        let (answer, _) = wire.log_in("ada", PASSWORD).await;
        if answer.get_f64("ok").unwrap() == 0.0 {
            assert!(
                answer.to_string().contains("has 20 connections already"),
                "{answer}"
            );
            refused += 1;
        }
        open.push(wire);
    }
    assert!(refused >= 40, "{refused}");
    median(&attack.bob).await;
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_that_nobody_reads_are_bounded_and_cost_others_nothing() {
    let attack = Attack::on(World::with(Limits::default(), quota()).await).await;
    fill(&attack.ada).await;
    let quiet = median(&attack.bob).await;
    for _ in 0..400 {
        let page = attack
            .ada
            .run_command(doc! { "find": "n", "batchSize": 1 })
            .await
            .unwrap();
        assert_ne!(
            page.get_document("cursor").unwrap().get_i64("id").unwrap(),
            0
        );
    }
    let left = median(&attack.bob).await;
    assert!(left < quiet * 20 + BOUND, "{quiet:?} became {left:?}");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let cursors = attack.world.guard.usage()["ada"].cursors;
        if (1..=Limits::default().cursors_per_user).contains(&cursors) {
            break;
        }
        assert!(Instant::now() < deadline, "{cursors} cursors");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_messages_and_silence_hold_nobody_up() {
    let attack = Attack::begin().await;
    let quiet = median(&attack.bob).await;
    let mut open = Vec::new();
    for n in 0..200_u8 {
        let mut stream = TcpStream::connect(&attack.world.address).await.unwrap();
        let bytes = vec![n; usize::from(n % 20)];
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await;
        open.push(stream);
    }
    let attacked = median(&attack.bob).await;
    assert!(
        attacked < quiet * 20 + BOUND,
        "{quiet:?} became {attacked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_48_megabytes_is_answered_and_memory_given_back() {
    let attack = Attack::begin().await;
    let quiet = median(&attack.bob).await;
    let big: Vec<Document> = (0..3)
        .map(|n| doc! { "_id": n, "text": "x".repeat(15_500_000) })
        .collect();
    let things = attack.ada.collection::<Document>("big");
    let (written, attacked) = tokio::join!(things.insert_many(big), median(&attack.bob));
    assert!(
        attacked < quiet * 20 + BOUND,
        "{quiet:?} became {attacked:?}"
    );
    // Either it is stored or refused for its size; never half.
    let stored = things.count_documents(doc! {}).await.unwrap();
    match written {
        Ok(_) => assert_eq!(stored, 3),
        Err(error) => {
            assert_eq!(stored, 0, "{error}");
            assert_eq!(code_of(&error), 8000);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_nobody_ends_are_bounded_and_cost_others_nothing() {
    let attack = Attack::begin().await;
    let quiet = median(&attack.bob).await;
    let begin = |number: u8, database: &str| {
        let id = Binary {
            subtype: BinarySubtype::Uuid,
            bytes: vec![number; 16],
        };
        doc! {
            "insert": "t", "documents": [{ "n": i32::from(number) }], "lsid": { "id": id }, "txnNumber": 1_i64,
            "startTransaction": true, "autocommit": false, "$db": database,
        }
    };
    attack.ada.create_collection("t").await.unwrap();
    attack.bob.create_collection("t").await.unwrap();
    let mut wire = Wire::open(&attack.world).await;
    wire.log_in("ada", PASSWORD).await;
    let mut refused = 0;
    for number in 0..12 {
        let answer = wire.run(&begin(number, "ada")).await;
        refused += u32::from(answer.get_f64("ok").unwrap() == 0.0);
    }
    assert!(refused > 0, "twelve open transactions of one user");
    let attacked = median(&attack.bob).await;
    assert!(
        attacked < quiet * 20 + BOUND,
        "{quiet:?} became {attacked:?}"
    );
    // Bob may still begin one.
    let mut bob = Wire::open(&attack.world).await;
    bob.log_in("bob", PASSWORD).await;
    let answer = bob.run(&begin(1, "bob")).await;
    assert_eq!(answer.get_f64("ok").unwrap(), 1.0, "{answer}");
}

/// The first command of a transaction in a session of this number.
fn beginning(number: u8, database: &str) -> Document {
    let id = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: vec![number; 16],
    };
    doc! {
        "find": "c", "lsid": { "id": id }, "txnNumber": 1_i64, "startTransaction": true, "autocommit": false, "$db": database,
    }
}

fn code_in(answer: &Document) -> i32 {
    answer.get_i32("code").unwrap_or(0)
}

async fn with_places_for_transactions(places: usize, users: &[&str]) -> (World, Vec<Wire>) {
    let limits = Limits {
        transactions: places,
        transactions_per_user: 3,
        ..Limits::default()
    };
    let world = World::with_limits(limits).await;
    let mut wires = Vec::new();
    for user in users {
        world.seat(user);
        wires.push(Wire::log_in_as(&world, user).await);
    }
    (world, wires)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_begins_a_transaction_when_everybody_keeps_one_open() {
    let users = ["u1", "u2", "u3", "u4", "newcomer"];
    let (_world, mut wires) = with_places_for_transactions(4, &users).await;
    let mut newcomer = wires.pop().unwrap();
    for (number, wire) in wires.iter_mut().enumerate() {
        let begin = beginning(1, users[number]);
        assert_eq!(code_in(&wire.run(&begin).await), 0);
    }
    let answer = newcomer.run(&beginning(1, "newcomer")).await;
    assert_eq!(code_in(&answer), 0, "{answer}");
    // One of the four begins again, the others go on.
    let mut ended = Vec::new();
    for (number, wire) in wires.iter_mut().enumerate() {
        let mut next = beginning(1, users[number]);
        next.remove("startTransaction");
        let answer = wire.run(&next).await;
        if code_in(&answer) != 0 {
            assert_eq!(code_in(&answer), 251, "{answer}");
            assert!(
                answer.to_string().contains("TransientTransactionError"),
                "{answer}"
            );
            ended.push(number);
        }
    }
    // The one that was not used for longest.
    assert_eq!(ended, [0]);
}

/// Those in line get nothing: this is what a newcomer would get without being preferred.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_have_transactions_and_want_more_stand_behind_a_newcomer() {
    let users = ["ada", "carol", "newcomer"];
    let (world, mut wires) = with_places_for_transactions(4, &users).await;
    let mut newcomer = wires.pop().unwrap();
    for (wire, user) in wires.iter_mut().zip(users) {
        for number in [1, 2] {
            let answer = wire.run(&beginning(number, user)).await;
            assert_eq!(code_in(&answer), 0, "{answer}");
        }
    }
    let mut waiting = Vec::new();
    for user in ["ada", "carol"] {
        let mut wire = Wire::log_in_as(&world, user).await;
        wire.send(&crate::wire::message(&crate::wire::document(&beginning(
            3, user,
        ))))
        .await;
        waiting.push(wire);
    }
    // They stand in line before the newcomer comes: what they run is listed.
    let mut root = Wire::log_in_as(&world, "root").await;
    let deadline = Instant::now() + Duration::from_secs(4);
    loop {
        let pipeline = vec![doc! { "$currentOp": { "allUsers": true } }];
        let running = doc! { "aggregate": 1, "pipeline": pipeline, "cursor": {}, "$db": "admin" };
        let listed = root.run(&running).await.to_string();
        if listed.contains("\"ada.c\"") && listed.contains("\"carol.c\"") {
            break;
        }
        assert!(Instant::now() < deadline, "{listed}");
    }
    let answer = newcomer.run(&beginning(1, "newcomer")).await;
    assert_eq!(code_in(&answer), 0, "{answer}");
    let mut codes = Vec::new();
    for mut wire in waiting {
        codes.push(code_in(&wire.answer().await.unwrap()));
    }

    assert_eq!(codes, [24, 24]);
}

type Operator = fn(Bson) -> Bson;

/// The engine computes a variable wherever it is read, so that what is nested in each other would take twice or three
/// times as long with each level.
#[tokio::test(flavor = "multi_thread")]
async fn expressions_nested_in_each_other_are_answered_in_time() {
    let attack = Attack::begin().await;
    let own = attack.ada.clone();
    let one = doc! { "_id": 1, "a": [1], "n": 3, "d": DateTime::from_millis(90_000_000) };
    let things = own.collection::<Document>("nested");
    things.insert_one(one).await.unwrap();
    let day = DateTime::from_millis(86_400_000);
    let operators: [(Operator, &str, Bson); 6] = [
        (|e| bson!({ "$avg": [e, "$n"] }), "$n", 3.0.into()),
        (|e| bson!({ "$mod": [e, 5] }), "$n", 3.into()),
        (|e| bson!({ "$pow": [e, 1] }), "$n", 3.into()),
        (|e| bson!({ "$setUnion": [e, "$a"] }), "$a", bson!([1])),
        (
            |e| bson!({ "$dateTrunc": { "date": e, "unit": "day" } }),
            "$d",
            day.into(),
        ),
        (
            |e| bson!({ "$let": { "vars": { "x": e }, "in": { "$max": ["$$x", "$$x", "$$x"] } } }),
            "$n",
            3.into(),
        ),
    ];
    for (operator, innermost, expected) in operators {
        let nested = (0..10).fold(Bson::from(innermost), |inner, _| operator(inner));
        let asked = doc! { "aggregate": "nested", "cursor": {}, "pipeline": [{ "$project": { "_id": 0, "r": nested } }] };
        let answer = own.run_command(asked.clone()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{error}: {asked}"));
        let found = answer
            .get_document("cursor")
            .unwrap()
            .get_array("firstBatch")
            .unwrap();
        assert_eq!(found, &[bson!({ "r": expected })], "{asked}");
    }
    // A client's levels would become too many for everybody's stack.
    let deep = (0..90).fold(bson!("$d"), |inner, _| bson!({ "$toDate": inner }));
    let refused = own.run_command(
        doc! { "aggregate": "nested", "cursor": {}, "pipeline": [{ "$project": { "r": deep } }] },
    );
    assert_eq!(code(refused.await), 115);
    assert_eq!(things.count_documents(doc! {}).await.unwrap(), 1);
}
