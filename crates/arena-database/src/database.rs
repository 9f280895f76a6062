//! One MongoDB database as an author sees it: filled from data files, looked at,
//! read out again. For `arena data`; seats are [`crate::Provisioner`]'s.

use arena_data::{Collection, DataFile};
use arena_workshop::DatabaseName;
use bson::{Document, RawDocumentBuf, doc};

use crate::mongo::{Mongo, STATE};
use crate::{Loading, MongodbAdmin, ProvisionError};

/// A database on a server.
pub struct MongodbDatabase {
    server: Mongo,
    name: DatabaseName,
}

/// A collection or view, and how many documents it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Its name, options and indexes.
    pub collection: Collection,
    /// Documents.
    pub documents: u64,
}

impl MongodbDatabase {
    /// Connects as who the URI names.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses the user.
    pub async fn connect(
        server: &MongodbAdmin,
        name: &DatabaseName,
    ) -> Result<Self, ProvisionError> {
        Ok(Self {
            server: Mongo::connect(server, name).await?,
            name: name.clone(),
        })
    }

    /// Lists what it holds, by name.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn held(&self) -> Result<Vec<Held>, ProvisionError> {
        self.server.held().await
    }

    /// Empties it and loads data files; says after each step how far it is.
    ///
    /// # Errors
    /// When a file cannot be read, or the server refuses it.
    pub async fn load(
        &self,
        files: &[DataFile],
        mut progress: impl FnMut(Loading) + Send,
    ) -> Result<(), ProvisionError> {
        self.server.load(files, "by hand", &mut progress).await?;
        // What the provisioner notes belongs to events.
        let notes = self
            .server
            .database(&self.name)
            .collection::<Document>(STATE);
        notes
            .drop()
            .await
            .map_err(crate::mongo::failed("end loading"))
    }

    /// Gives every document of a collection, sorted by `_id`, one after the other.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn documents(
        &self,
        collection: &str,
        mut take: impl FnMut(RawDocumentBuf) -> std::io::Result<()>,
    ) -> Result<std::io::Result<()>, ProvisionError> {
        let what = || crate::mongo::failed(format!("read {collection}"));
        let documents = self
            .server
            .database(&self.name)
            .collection::<RawDocumentBuf>(collection);
        let found = documents.find(doc! {}).sort(doc! { "_id": 1 }).await;
        let mut cursor = found.map_err(what())?;
        while cursor.advance().await.map_err(what())? {
            let document = cursor.current().to_owned();
            if let Err(error) = take(document) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }
}
