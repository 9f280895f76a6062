//! Sessions, hand-overs, links, and what the file must not hold.

use arena_store::{Principal, Store};

use crate::{World, seat};

#[tokio::test]
async fn a_session_is_good_on_its_host_only_and_survives() {
    let world = World::with(&["ada"], 0).await;
    let ada = Principal::Participant(seat("ada"));
    let secret = world
        .store
        .create_session(ada.clone(), "arena.localhost")
        .await
        .unwrap();
    let world = world.reopened();
    let session = world
        .store
        .session(secret.reveal(), "arena.localhost")
        .unwrap();
    assert_eq!(session.principal, ada);
    assert_eq!(
        world.store.session(secret.reveal(), "bob.arena.localhost"),
        None
    );
    assert_eq!(world.store.session(&session.id, "arena.localhost"), None);
    world.store.end_session(&session.id).await.unwrap();
    assert_eq!(
        world.store.session(secret.reveal(), "arena.localhost"),
        None
    );
    assert_eq!(
        world
            .reopened()
            .store
            .session(secret.reveal(), "arena.localhost"),
        None
    );
}

#[tokio::test]
async fn the_file_never_holds_a_session_secret_or_a_link() {
    let world = World::with(&["ada"], 0).await;
    let secret = world
        .store
        .create_session(Principal::Participant(seat("ada")), "h")
        .await
        .unwrap();
    let link = world.store.create_facilitator_link().await.unwrap();
    let personal = world.store.link_token(&seat("ada")).unwrap();
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(world.folder.path()).unwrap() {
        bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    let holds = |text: &str| {
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(holds("participant:ada"), "the search itself works");
    assert!(!holds(secret.reveal()) && !holds(&link) && !holds(&personal));
    assert!(!format!("{secret:?}").contains(secret.reveal()));
}

fn nonce_hash(nonce: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(nonce).into()
}

#[tokio::test]
async fn a_hand_over_is_redeemed_once_by_the_right_host_with_the_nonce() {
    let world = World::new();
    let ada = Principal::Participant(seat("ada"));
    let make = |store: &Store| {
        store
            .create_handover("ada.test", ada.clone(), nonce_hash(b"nonce"))
            .unwrap()
    };
    let code = make(&world.store);
    assert_eq!(
        world.store.redeem_handover(&code, "ada.test", b"nonce"),
        Some(ada.clone())
    );
    assert_eq!(
        world.store.redeem_handover(&code, "ada.test", b"nonce"),
        None
    );
    let code = make(&world.store);
    assert_eq!(
        world.store.redeem_handover(&code, "bob.test", b"nonce"),
        None
    );
    assert_eq!(
        world.store.redeem_handover(&code, "ada.test", b"nonce"),
        None,
        "a wrong try spends it"
    );
    let code = make(&world.store);
    assert_eq!(
        world.store.redeem_handover(&code, "ada.test", b"other"),
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_facilitator_link_makes_one_facilitator() {
    let world = World::new();
    let token = world.store.create_facilitator_link().await.unwrap();
    assert!(
        world.store.facilitator_link_waits(&token) && !world.store.facilitator_link_waits("guess")
    );
    let tries = [
        world.store.redeem_facilitator_link(&token),
        world.store.redeem_facilitator_link(&token),
    ];
    let mut redeemed = 0;
    for attempt in tries {
        redeemed += usize::from(attempt.await.unwrap());
    }
    assert_eq!(redeemed, 1);
    assert!(!world.reopened().store.facilitator_link_waits(&token));
}

#[tokio::test]
async fn the_events_code_and_links_stay() {
    let world = World::with(&["ada", "bob"], 0).await;
    let of = |store: &Store| {
        (
            store.event_code(),
            store.event_secret(),
            store.link_token(&seat("ada")),
        )
    };
    let before = of(&world.store);
    assert!(before.0.len() == 6 && before.0.bytes().all(|letter| letter.is_ascii_uppercase()));
    assert_ne!(
        world.store.link_token(&seat("ada")),
        world.store.link_token(&seat("bob"))
    );
    assert_ne!(of(&World::new().store).0, before.0);
    let world = world.reopened();
    assert_eq!(of(&world.store), before);
}

async fn session(world: &World, principal: Principal) -> arena_store::Session {
    let secret = world
        .store
        .create_session(principal, "arena.localhost")
        .await
        .unwrap();
    world
        .store
        .session(secret.reveal(), "arena.localhost")
        .unwrap()
}

#[tokio::test]
async fn a_device_code_opens_the_seat_once_and_not_after_it_was_given_back() {
    let world = World::with(&["ada"], 0).await;
    let (store, ada) = (&world.store, seat("ada"));
    assert!(
        store.create_device_code(&ada).unwrap().is_none(),
        "nobody sits there"
    );
    store.take_listed(&ada).await.unwrap();
    let (code, holds) = store.create_device_code(&ada).unwrap().unwrap();
    assert!(code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_uppercase()));
    assert_eq!(holds.as_secs(), 300);
    assert_eq!(store.redeem_device_code("BCDFGH").await.unwrap(), None);
    assert_eq!(
        store.redeem_device_code(&code).await.unwrap(),
        Some(ada.clone())
    );
    assert_eq!(store.redeem_device_code(&code).await.unwrap(), None, "once");
    assert_eq!(store.audit_log(1)[0].action, "other_device");
    let (code, _) = store.create_device_code(&ada).unwrap().unwrap();
    store
        .release(&ada, arena_store::Actor::System)
        .await
        .unwrap();
    store.take_listed(&ada).await.unwrap();
    assert_eq!(
        store.redeem_device_code(&code).await.unwrap(),
        None,
        "somebody else sits there"
    );
}

#[tokio::test]
async fn a_visit_lets_one_browser_in_and_ends_with_the_facilitators_session() {
    let world = World::with(&["ada"], 0).await;
    let (store, ada) = (&world.store, seat("ada"));
    let grace = session(&world, Principal::Facilitator("Grace".to_owned())).await;
    let own = session(&world, Principal::Participant(ada.clone())).await;
    assert_eq!(
        store.begin_visit(&ada, &own).await.unwrap(),
        None,
        "no facilitator"
    );
    let visit = store.begin_visit(&ada, &grace).await.unwrap().unwrap();
    let again = store.begin_visit(&ada, &grace).await.unwrap().unwrap();
    assert_ne!(visit.label, again.label, "each has hosts of its own");
    assert_eq!(store.audit_log(1)[0].action, "look_in");
    assert_eq!(store.visits_of(&ada).len(), 2);
    assert_eq!(store.visit(&visit.label), Some(visit.clone()));
    assert!(store.enter_visit(&visit, "a") && store.enter_visit(&visit, "b"));
    assert!(!store.enter_visit(&visit, "a"), "a second browser");
    let ended = tokio::spawn({
        let (store, id) = (store.clone(), grace.id.clone());
        async move { store.session_ended(&id).await }
    });
    store.end_session(&grace.id).await.unwrap();
    ended.await.unwrap();
    assert_eq!(store.visit(&visit.label), None);
    assert!(store.visits_of(&ada).is_empty());
    assert!(!store.enter_visit(&again, "a"));
    assert_eq!(
        store.begin_visit(&ada, &grace).await.unwrap(),
        None,
        "a session that has ended"
    );
}

#[tokio::test]
async fn a_visit_and_its_sessions_end_when_the_seat_is_given_back_or_arena_starts_again() {
    let world = World::with(&["ada"], 0).await;
    let (store, ada) = (&world.store, seat("ada"));
    store.take_listed(&ada).await.unwrap();
    let grace = session(&world, Principal::Facilitator("Grace".to_owned())).await;
    let visit = store.begin_visit(&ada, &grace).await.unwrap().unwrap();
    let visitor = session(&world, visit.visitor()).await;
    store
        .release(&ada, arena_store::Actor::System)
        .await
        .unwrap();
    assert_eq!(store.visit(&visit.label), None);
    assert!(!store.session_holds(&visitor.id));
    assert!(
        store.session_holds(&grace.id),
        "the control: her own goes on"
    );
    let visit = store.begin_visit(&ada, &grace).await.unwrap().unwrap();
    let visitor = session(&world, visit.visitor()).await;
    let world = world.reopened();
    assert!(world.store.session_holds(&grace.id));
    assert!(!world.store.session_holds(&visitor.id));
    assert_eq!(world.store.visit(&visit.label), None);
}
