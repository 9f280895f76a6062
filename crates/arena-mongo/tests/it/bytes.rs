//! Attacks by hand-made bytes: what no driver would send.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use mongodb::bson::{Bson, Document, doc};

use crate::wire::{Wire, document, message, sasl};
use crate::world::{PASSWORD, World};

#[tokio::test(flavor = "multi_thread")]
async fn lying_lengths_close_the_connection_and_nothing_else() {
    let world = World::start().await;
    let ping = message(&document(&doc! { "ping": 1, "$db": "admin" }));
    for (at, lies) in [
        (0, [i32::MIN, -1, 0, 15, i32::MAX]),
        (21, [i32::MIN, -1, 0, 4, i32::MAX]),
    ] {
        for lie in lies {
            let mut bytes = ping.clone();
            bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
            let mut wire = Wire::open(&world).await;
            wire.send(&bytes).await;
            let answer = wire.answer().await;
            assert!(answer.is_none(), "{at} {lie}: {answer:?}");
        }
    }
    let mut wire = Wire::open(&world).await;
    wire.send(&ping).await;
    assert_eq!(wire.answer().await.unwrap().get_f64("ok").unwrap(), 1.0);
}

/// A compressed message that says how long it was.
fn compressed(stated: i32, compressor: u8, bytes: &[u8]) -> Vec<u8> {
    let length = i32::try_from(16 + 9 + bytes.len()).unwrap();
    let head: Vec<u8> = [length, 7, 0, 2012, 2013, stated]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    [&head[..], &[compressor], bytes].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_messages_that_lie_close_the_connection_and_nothing_else() {
    let world = World::start().await;
    world.seat("ada");
    let ping = message(&document(&doc! { "ping": 1, "$db": "admin" }));
    let ping = &ping[16..];
    let deflate = |bytes: &[u8]| {
        let level = flate2::Compression::best();
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let bomb = deflate(&vec![0; 200_000_000]);
    let (small, true_length) = (deflate(ping), i32::try_from(ping.len()).unwrap());
    let zstd_bomb = zstd::bulk::compress(&vec![0; 200_000_000], 1).unwrap();
    let zstd_small = zstd::bulk::compress(ping, 1).unwrap();
    let mut lies = vec![
        compressed(47_000_000, 2, &bomb),
        compressed(i32::MAX, 2, &bomb),
        compressed(true_length, 2, &bomb),
        // Snappy's own length inside: 4 GB.
        compressed(true_length, 1, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
        compressed(true_length, 9, &small),
        compressed(47_000_000, 3, &zstd_bomb),
        compressed(true_length, 3, &zstd_bomb),
        compressed(true_length, 3, &zstd_small[..zstd_small.len() - 1]),
        compressed(true_length, 3, &small),
    ];
    for (compressor, bytes) in [(2, &small), (3, &zstd_small)] {
        let lengths = [i32::MIN, -1, 0, true_length - 1, true_length + 1];
        lies.extend(lengths.map(|lie| compressed(lie, compressor, bytes)));
    }
    for (number, lie) in lies.iter().enumerate() {
        let mut wire = Wire::log_in_as(&world, "ada").await;
        wire.send(lie).await;
        let answer = wire.answer().await;
        assert!(answer.is_none(), "{number}: {answer:?}");
    }
    let mut wire = Wire::log_in_as(&world, "ada").await;
    for (compressor, bytes) in [(2, &small), (3, &zstd_small)] {
        wire.send(&compressed(true_length, compressor, bytes)).await;
        let answer = wire.raw_answer().await;
        assert_eq!(answer[12..16], 2012_i32.to_le_bytes());
        assert_eq!(answer[24], compressor);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_login_a_large_message_is_not_even_awaited() {
    let world = World::start().await;
    let mut wire = Wire::open(&world).await;
    let head: Vec<u8> = [47_000_000, 7, 0, 2013]
        .iter()
        .flat_map(|number: &i32| number.to_le_bytes())
        .collect();
    wire.send(&head).await;
    assert!(wire.answer().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_fields_and_deep_nesting_are_refused() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::open(&world).await;
    wire.log_in("ada", PASSWORD).await;
    // `$db` twice: one for the checker, one for the engine.
    let mut body = document(&doc! { "find": "c", "$db": "ada", "$dc": "bob" });
    let second = body.windows(4).position(|name| name == b"$dc\0").unwrap();
    body[second..second + 4].copy_from_slice(b"$db\0");
    wire.send(&message(&body)).await;
    let answer = wire.answer().await.unwrap();
    assert!(
        answer.get_str("errmsg").unwrap().contains("appears twice"),
        "{answer}"
    );
    let nested = (0..150).fold(doc! {}, |inner, _| doc! { "a": inner });
    let answer = wire
        .run(&doc! { "find": "c", "filter": nested, "$db": "ada" })
        .await;
    assert!(
        answer.get_str("errmsg").unwrap().contains("nesting"),
        "{answer}"
    );
    let answer = wire.run(&doc! { "find": "c", "$db": "ada" }).await;
    assert_eq!(answer.get_f64("ok").unwrap(), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_cannot_hide_what_the_body_says() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::open(&world).await;
    wire.log_in("ada", PASSWORD).await;
    let body = document(&doc! { "insert": "c", "documents": [{ "_id": 1 }], "$db": "ada" });
    let hidden = document(&doc! { "_id": 2 });
    let section = [b"documents\0", &hidden[..]].concat();
    let length = i32::try_from(section.len() + 4).unwrap();
    let mut bytes = [
        message(&body),
        vec![1],
        length.to_le_bytes().to_vec(),
        section,
    ]
    .concat();
    let whole = i32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&whole.to_le_bytes());
    wire.send(&bytes).await;
    assert!(wire.answer().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_login_cannot_be_replayed() {
    let world = World::start().await;
    world.seat("ada");
    let mut victim = Wire::open(&world).await;
    let (answer, recorded) = victim.log_in("ada", PASSWORD).await;
    assert!(answer.get_bool("done").unwrap(), "{answer}");
    let mut thief = Wire::open(&world).await;
    thief.run(&sasl("saslStart", "n,,n=ada,r=abcdef")).await;
    let answer = thief.run(&sasl("saslContinue", &recorded)).await;
    assert_eq!(answer.get_i32("code").unwrap(), 18);
    let answer = thief.run(&doc! { "find": "c", "$db": "ada" }).await;
    assert_eq!(answer.get_i32("code").unwrap(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_of_a_login_cannot_be_skipped() {
    let world = World::start().await;
    world.seat("ada");
    let mut wire = Wire::open(&world).await;
    for step in [
        sasl("saslContinue", ""),
        sasl("saslContinue", "c=biws,r=x,p=AAAA"),
    ] {
        assert_eq!(wire.run(&step).await.get_i32("code").unwrap(), 18);
    }
    let plain = doc! { "saslStart": 1, "mechanism": "PLAIN", "payload": Bson::from("\0ada\0x"), "$db": "admin" };
    assert_eq!(wire.run(&plain).await.get_i32("code").unwrap(), 334);
    // That was the third: the connection is over.
    wire.send(&message(&document(&doc! { "ping": 1, "$db": "admin" })))
        .await;
    assert!(wire.answer().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_users_handshake_looks_like_a_known_ones() {
    let world = World::start().await;
    world.seat("ada");
    let mut shapes = Vec::new();
    for name in ["ada", "eve"] {
        let mut salts = Vec::new();
        for _ in 0..2 {
            let answer = Wire::open(&world)
                .await
                .run(&sasl("saslStart", &format!("n,,n={name},r=abcdef")))
                .await;
            let text =
                String::from_utf8(answer.get_binary_generic("payload").unwrap().clone()).unwrap();
            let fields: Vec<String> = text.split(',').map(str::to_owned).collect();
            salts.push(fields[1].clone());
            shapes.push((fields[0].len(), fields[1].len(), fields[2].clone()));
        }
        assert_eq!(salts[0], salts[1], "{name}");
    }
    shapes.dedup();
    assert_eq!(shapes.len(), 1, "{shapes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_hello_is_answered_in_its_own_form() {
    let world = World::start().await;
    let mut payload = 0_i32.to_le_bytes().to_vec();
    payload.extend_from_slice(b"admin.$cmd\0");
    payload.extend_from_slice(&[0, 0, 0, 0, 255, 255, 255, 255]);
    payload.extend_from_slice(&document(&doc! { "isMaster": 1, "helloOk": true }));
    let length = i32::try_from(payload.len() + 16).unwrap();
    let head: Vec<u8> = [length, 7, 0, 2004]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let mut wire = Wire::open(&world).await;
    wire.send(&[head, payload].concat()).await;
    let reply = wire.raw_answer().await;
    assert_eq!(reply[12..16], 1_i32.to_le_bytes());
    assert!(
        Document::from_reader(&reply[36..])
            .unwrap()
            .get_bool("ismaster")
            .unwrap()
    );
}
