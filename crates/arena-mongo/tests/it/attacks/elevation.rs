//! Becoming somebody else: by making users, by others' cursors and sessions, by
//! what was overheard of a login.

use mongodb::bson::{Binary, Bson, Document, doc, spec::BinarySubtype};

use super::{Attack, SECRET};
use crate::wire::Wire;
use crate::world::PASSWORD;

fn session(byte: u8) -> Document {
    doc! { "id": Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] } }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_oneself_more() {
    let attack = Attack::begin().await;
    for role in [
        "root",
        "dbOwner",
        "readWrite",
        "read",
        "readAnyDatabase",
        "userAdmin",
        "__system",
    ] {
        for on in ["admin", "bob", "ada", ""] {
            let role = Bson::from(doc! { "role": role, "db": on });
            for database in ["admin", "ada", "bob"] {
                for command in [
                    doc! { "createUser": "eve", "pwd": "x", "roles": [role.clone()] },
                    doc! { "updateUser": "ada", "roles": [role.clone()] },
                    doc! { "updateUser": "bob", "pwd": "known" },
                    doc! { "grantRolesToUser": "ada", "roles": [role.clone()] },
                    doc! { "revokeRolesFromUser": "bob", "roles": [role.clone()] },
                ] {
                    assert_eq!(
                        attack.try_on(database, &command).await,
                        Err(13),
                        "{command}"
                    );
                }
            }
        }
    }
    let status = attack
        .ada
        .run_command(doc! { "connectionStatus": 1 })
        .await
        .unwrap();
    assert!(!status.to_string().contains("bob"), "{status}");
    attack.nothing_happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_number_opens_anothers_cursor() {
    let attack = Attack::begin().await;
    let many = attack.bob.collection::<Document>("many");
    many.insert_many((0..50).map(|_| doc! { "secret": SECRET }))
        .await
        .unwrap();
    // A cursor is read on in the session that opened it.
    let mut session = attack.bob.client().start_session().await.unwrap();
    let mut opened = Vec::new();
    for _ in 0..5 {
        let page = attack
            .bob
            .run_command(doc! { "find": "many", "batchSize": 2 })
            .session(&mut session)
            .await
            .unwrap();
        opened.push(page.get_document("cursor").unwrap().get_i64("id").unwrap());
    }
    let guesses = opened
        .iter()
        .flat_map(|id| [*id, id.wrapping_add(1), id.wrapping_sub(1), -id]);
    for id in guesses.chain([0, 1, -1, i64::MAX, i64::MIN]) {
        for database in ["ada", "bob", "admin"] {
            for collection in ["many", "c", "$cmd.aggregate"] {
                let more = doc! { "getMore": id, "collection": collection };
                let answer = attack.try_on(database, &more).await;
                assert!(answer.is_err(), "{more}: {answer:?}");
            }
            let _ = attack
                .try_on(database, &doc! { "killCursors": "many", "cursors": [id] })
                .await;
        }
    }
    for id in opened {
        let more = attack
            .bob
            .run_command(doc! { "getMore": id, "collection": "many" })
            .session(&mut session)
            .await
            .unwrap();
        assert!(
            more.to_string().contains(SECRET),
            "Bob's own cursor is gone"
        );
    }
    many.drop().await.unwrap();
    attack.nothing_happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_session_tells_and_changes_nothing() {
    let attack = Attack::begin().await;
    let write = |id: i32| {
        doc! { "insert": "s", "documents": [{ "_id": id, "secret": SECRET }], "lsid": session(7), "txnNumber": 1_i64 }
    };
    attack
        .world
        .user("bob", &[(arena_mongo::RoleName::ReadWrite, "bob")]);
    let mut bob = Wire::open(&attack.world).await;
    bob.log_in("bob", PASSWORD).await;
    let mut ada = Wire::open(&attack.world).await;
    ada.log_in("ada", PASSWORD).await;
    let on = |mut command: Document, database: &str| {
        command.insert("$db", database);
        command
    };
    let first = bob.run(&on(write(1), "bob")).await;
    assert_eq!(first.get_i32("n").unwrap(), 1, "{first}");
    // The same session and number by another user is another write, and no answer of the first.
    let other = ada.run(&on(doc! { "insert": "s", "documents": [{ "_id": 5 }], "lsid": session(7), "txnNumber": 1_i64 }, "ada")).await;
    assert_eq!(other.get_i32("n").unwrap(), 1, "{other}");
    let stored = attack
        .ada
        .collection::<Document>("s")
        .count_documents(doc! {})
        .await
        .unwrap();
    assert_eq!(stored, 1);
    // Ending it ends nothing of Bob's: his retry is still known as one.
    for command in ["endSessions", "killSessions", "refreshSessions"] {
        let _ = ada.run(&on(doc! { command: [session(7)] }, "admin")).await;
    }
    let again = bob.run(&on(write(1), "bob")).await;
    assert_eq!(again.get_f64("ok").unwrap(), 1.0, "{again}");
    let bobs = attack.bob.collection::<Document>("s");
    assert_eq!(bobs.count_documents(doc! {}).await.unwrap(), 1);
    bobs.drop().await.unwrap();
    attack.nothing_happened().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_in_again_as_another_needs_the_others_password() {
    let attack = Attack::begin().await;
    let mut wire = Wire::open(&attack.world).await;
    wire.log_in("ada", PASSWORD).await;
    let (answer, _) = wire.log_in("bob", "wrong").await;
    assert_eq!(answer.get_i32("code").unwrap(), 18, "{answer}");
    let answer = wire.run(&doc! { "find": "c", "$db": "bob" }).await;
    assert_eq!(answer.get_i32("code").unwrap(), 13, "{answer}");
    let (answer, _) = wire.log_in("bob' OR 1 --", PASSWORD).await;
    assert_eq!(answer.get_i32("code").unwrap(), 18, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_removed_has_no_rights_a_moment_later() {
    let attack = Attack::begin().await;
    attack.ada.run_command(doc! { "find": "c" }).await.unwrap();
    attack.world.users.remove("ada");
    assert_eq!(attack.try_on("ada", &doc! { "find": "c" }).await, Err(13));
    attack.world.seat("ada");
    attack.try_on("ada", &doc! { "find": "c" }).await.unwrap();
}
