//! Restoring a seat, and one way back: what was there before is kept in a
//! database beside, which no seat may read. Each step leaves a note in
//! [`super::STATE`], so that a crash between any two of them loses neither the
//! seat's state nor what was kept, and the same call again goes on.

use arena_workshop::DatabaseName;
use bson::doc;
use mongodb::Database;

use super::{Mongo, failed, key};
use crate::{Keeping, ProvisionError, SeatDatabase};

/// How far an exchange is: the seat's state is in the third database.
const ASIDE: &str = "aside";
/// The seat has what was kept.
const BACK: &str = "back";

/// Notes: that a state is kept (and for which order), that an exchange is under way.
fn kept(name: &DatabaseName) -> String {
    format!("kept:{name}")
}

fn exchange(name: &DatabaseName) -> String {
    format!("exchange:{name}")
}

impl Mongo {
    pub(crate) async fn restore(
        &self,
        seat: &SeatDatabase,
        keeping: Option<Keeping<'_>>,
        hash: &str,
    ) -> Result<(), ProvisionError> {
        self.finish_exchange(seat, hash).await?;
        if let Some(keeping) = keeping {
            self.keep(&seat.name, keeping).await?;
        }
        // A crash from here on leaves a seat that `create` makes anew.
        self.forget(&key(&seat.name)).await?;
        self.empty(seat.name.as_str()).await?;
        self.create(seat, hash).await
    }

    /// Keeps the state of a seat, unless that was done for this order already, or the seat is not
    /// complete (a crash left it half restored: what counts is what was kept).
    async fn keep(&self, name: &DatabaseName, keeping: Keeping<'_>) -> Result<(), ProvisionError> {
        let order = keeping.order_text();
        let note = self.state(&kept(name)).await?;
        let is_kept = keeping.order.is_some()
            && note.is_some_and(|note| note.get_str("hash").is_ok_and(|found| found == order));
        if is_kept || self.state(&key(name)).await?.is_none() {
            return Ok(());
        }
        self.forget(&kept(name)).await?;
        self.empty(keeping.database).await?;
        let from = self.client.database(name.as_str());
        self.copy_whole(&from, &self.client.database(keeping.database), None)
            .await?;
        self.remember(&kept(name), &order).await
    }

    /// Exchanges a seat's state with what the last restore kept; a second call exchanges them back.
    pub(crate) async fn bring_back(
        &self,
        seat: &SeatDatabase,
        before: &str,
        hash: &str,
    ) -> Result<(), ProvisionError> {
        let name = &seat.name;
        if self.state(&exchange(name)).await?.is_some() {
            return self.finish_exchange(seat, hash).await;
        }
        if self.state(&kept(name)).await?.is_none() {
            return Err(ProvisionError::NothingKept(name.clone()));
        }
        self.empty(&aside(before)).await?;
        let own = self.client.database(name.as_str());
        self.copy_whole(&own, &self.client.database(&aside(before)), None)
            .await?;
        self.note(&exchange(name), ASIDE, before).await?;
        self.finish_exchange(seat, hash).await
    }

    /// Goes on with an exchange that a crash interrupted; does nothing where there is none.
    pub(super) async fn finish_exchange(
        &self,
        seat: &SeatDatabase,
        hash: &str,
    ) -> Result<(), ProvisionError> {
        let name = &seat.name;
        let Some(note) = self.state(&exchange(name)).await? else {
            return Ok(());
        };
        let before = note.get_str("before").unwrap_or_default().to_owned();
        let own: Database = self.client.database(name.as_str());
        if note.get_str("hash").is_ok_and(|stage| stage == ASIDE) {
            self.forget(&key(name)).await?;
            self.empty(name.as_str()).await?;
            self.copy_whole(&self.client.database(&before), &own, None)
                .await?;
            self.user(seat).await?;
            self.remember(&key(name), hash).await?;
            self.note(&exchange(name), BACK, &before).await?;
        }
        self.empty(&before).await?;
        self.copy_whole(
            &self.client.database(&aside(&before)),
            &self.client.database(&before),
            None,
        )
        .await?;
        self.forget(&exchange(name)).await?;
        self.empty(&aside(&before)).await
    }

    /// Drops everything that was kept of a seat.
    pub(super) async fn drop_kept(
        &self,
        name: &DatabaseName,
        before: &str,
    ) -> Result<(), ProvisionError> {
        for note in [kept(name), exchange(name)] {
            self.forget(&note).await?;
        }
        for database in [before, &aside(before)] {
            self.empty(database).await?;
        }
        Ok(())
    }

    pub(super) async fn empty(&self, database: &str) -> Result<(), ProvisionError> {
        let dropped = self.client.database(database).drop().await;
        dropped.map_err(failed(format!("empty {database}")))
    }

    async fn note(&self, key: &str, stage: &str, before: &str) -> Result<(), ProvisionError> {
        let collection = self.template.collection::<bson::Document>(super::STATE);
        let update = doc! { "$set": { "hash": stage, "before": before } };
        let done = collection
            .update_one(doc! { "_id": key }, update)
            .upsert(true)
            .await;
        done.map(|_| ()).map_err(failed("note how far it is"))
    }
}

/// Names the third database of an exchange: no longer than what was kept's.
fn aside(before: &str) -> String {
    before.replace("_before", "_aside")
}
