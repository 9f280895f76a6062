//! A seat that attacks: with everything a driver can send and what only hands can.
//! Each file is one way to get at what is another's; the last is about taking what
//! all share. Success is measured at the victim: what Bob has is as before, no
//! answer holds his secret, and he is served as fast as when it is quiet.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod commands;
mod disguise;
mod elevation;
mod exhaustion;
mod pipelines;

use mongodb::Database;
use mongodb::bson::{Document, doc};

use crate::world::World;

/// Stands in Bob's documents and nowhere else.
pub(crate) const SECRET: &str = "bobs-own-secret";

/// Ada attacks, Bob has something.
pub(crate) struct Attack {
    pub(crate) world: World,
    pub(crate) ada: Database,
    pub(crate) bob: Database,
}

impl Attack {
    pub(crate) async fn begin() -> Self {
        Self::on(World::start().await).await
    }

    pub(crate) async fn on(world: World) -> Self {
        world.seat("ada");
        world.seat("bob");
        let bob = world.client("bob").await.database("bob");
        bob.collection("c")
            .insert_one(doc! { "_id": 1, "secret": SECRET })
            .await
            .unwrap();
        let ada = world.client("ada").await.database("ada");
        ada.collection("c")
            .insert_one(doc! { "_id": 1, "own": true })
            .await
            .unwrap();
        Self { world, ada, bob }
    }

    /// Runs a command as Ada on a database. Whatever the answer is, it must not tell the secret.
    pub(crate) async fn try_on(&self, database: &str, command: &Document) -> Result<Document, i32> {
        let database = self.ada.client().database(database);
        let answer = database.run_command(command.clone()).await;
        let told = format!("{answer:?}");
        assert!(!told.contains(SECRET), "{command} told: {told}");
        if let Ok(answer) = &answer
            && let Ok(errors) = answer.get_array("writeErrors")
        {
            let first = errors.first().and_then(|error| error.as_document());
            return Err(first
                .and_then(|error| error.get_i32("code").ok())
                .unwrap_or(-1));
        }
        answer.map_err(|error| match error.kind.as_ref() {
            mongodb::error::ErrorKind::Command(command) => command.code,
            // The driver itself would not send it, or the server closed: neither is a success.
            _ => -1,
        })
    }

    /// What is Bob's must be as it was, and nothing may have been made beside it.
    pub(crate) async fn nothing_happened(&self) {
        let names = self.bob.list_collection_names().await.unwrap();
        assert_eq!(names, ["c"]);
        let kept = self.bob.collection::<Document>("c");
        let found = kept.find_one(doc! {}).await.unwrap();
        assert_eq!(found, Some(doc! { "_id": 1, "secret": SECRET }));
        assert_eq!(kept.count_documents(doc! {}).await.unwrap(), 1);
        let indexes = kept.list_index_names().await.unwrap();
        assert_eq!(indexes, ["_id_"]);
        let root = self.world.client("root").await;
        let mut databases = root.list_database_names().await.unwrap();
        databases.sort();
        assert_eq!(databases, ["ada", "bob"]);
    }
}
