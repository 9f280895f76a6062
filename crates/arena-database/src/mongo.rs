//! Seats' databases in MongoDB. Users live in `admin`, as Atlas has them, so
//! that a URI cut at `?` still logs in. The template is made in [`loading`],
//! restores and the way back in [`keeping`],
//! and an event's end in [`removal`].

mod keeping;
mod leftovers;
mod loading;
mod removal;

use std::time::Duration;

use arena_data::Collection;
use arena_workshop::DatabaseName;
use bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, Credential};
use mongodb::{Client, Database};

use crate::shared::{SHARED_DATABASE, SharedWriter};
use crate::{Held, MongodbAdmin, ProvisionError, SeatDatabase};

/// Holds what is loaded and which seats are complete; in the template's database, never copied.
pub(crate) const STATE: &str = "arena_state";
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Internal error (of the built-in database, when somebody else makes the collection), not found, exists, write
/// conflict, and what the built-in database cannot do with a collection that has just gone.
const COLLISIONS: [i32; 5] = [1, 26, 48, 112, 115];
/// How often a copy that met another's is tried again, and after how long.
const COLLISIONS_MAX: u32 = 20;
const COLLISION_PAUSE: Duration = Duration::from_millis(100);
/// What `createUser` answers when there is one of that name.
const USER_EXISTS: i32 = 51003;
/// What `dropUser` answers when there is none.
const USER_NOT_FOUND: i32 = 11;

/// The server, as its administrator.
pub(crate) struct Mongo {
    client: Client,
    options: ClientOptions,
    template: Database,
}

/// Whether a copy may succeed when it is made again: somebody else's command came in between. Of a process that was
/// killed, the server may only now read the last one.
fn is_passing(error: &ProvisionError) -> bool {
    match error {
        ProvisionError::Unlike { .. } => true,
        ProvisionError::Mongodb { source, .. } => {
            code(source).is_some_and(|code| COLLISIONS.contains(&code))
        }
        _ => false,
    }
}

pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(Error) -> ProvisionError {
    let what = what.into();
    move |source| ProvisionError::Mongodb {
        what,
        source: Box::new(source),
    }
}

impl Mongo {
    pub(crate) async fn connect(
        admin: &MongodbAdmin,
        template: &DatabaseName,
    ) -> Result<Self, ProvisionError> {
        let mut options = ClientOptions::parse(&admin.uri)
            .await
            .map_err(failed("understand the address"))?;
        let application = format!("arena-provisioner {template}");
        options.app_name = Some(application.clone());
        options.server_selection_timeout = Some(CONNECT_TIME_MAX);
        options.connect_timeout = Some(CONNECT_TIME_MAX);
        let client = Client::with_options(options.clone()).map_err(failed("connect"))?;
        client
            .database("admin")
            .run_command(doc! { "ping": 1 })
            .await
            .map_err(failed("log in as administrator"))?;
        leftovers::end(&client, &application).await?;
        let template = client.database(template.as_str());
        Ok(Self {
            client,
            options,
            template,
        })
    }

    pub(crate) fn shared_writer(&self) -> SharedWriter {
        SharedWriter::new(&self.client)
    }

    /// Reads something that is stored: a front answers `ping` by itself.
    pub(crate) async fn health(&self) -> Result<(), ProvisionError> {
        let command = doc! { "listCollections": 1, "nameOnly": true, "cursor": { "batchSize": 1 } };
        let answer = self.template.run_command(command).await;
        answer.map(drop).map_err(failed("reach the server"))
    }

    pub(crate) async fn create(
        &self,
        seat: &SeatDatabase,
        hash: &str,
    ) -> Result<(), ProvisionError> {
        self.finish_exchange(seat, hash).await?;
        self.user(seat).await?;
        if self.state(&key(&seat.name)).await?.is_none() {
            let own = self.client.database(seat.name.as_str());
            self.copy_whole(&self.template, &own, Some(seat)).await?;
            self.remember(&key(&seat.name), hash).await?;
        }
        Ok(())
    }

    pub(crate) async fn drop(
        &self,
        name: &DatabaseName,
        before: &str,
    ) -> Result<(), ProvisionError> {
        self.forget(&key(name)).await?;
        self.drop_kept(name, before).await?;
        self.empty(name.as_str()).await?;
        self.lock_out(name).await
    }

    /// Drops a seat's user: its databases stay, and nobody logs in until the seat is made again.
    pub(crate) async fn lock_out(&self, name: &DatabaseName) -> Result<(), ProvisionError> {
        match self
            .client
            .database("admin")
            .run_command(doc! { "dropUser": name.as_str() })
            .await
        {
            Err(error) if code(&error) != Some(USER_NOT_FOUND) => {
                Err(failed(format!("drop the user {name}"))(error))
            }
            _ => Ok(()),
        }
    }

    /// Returns the seats that are complete.
    pub(crate) async fn list(&self) -> Result<Vec<DatabaseName>, ProvisionError> {
        self.seats_of(&self.template).await
    }

    async fn seats_of(&self, template: &Database) -> Result<Vec<DatabaseName>, ProvisionError> {
        let what = || failed("list the seats");
        let mut cursor = template
            .collection::<Document>(STATE)
            .find(doc! {})
            .await
            .map_err(what())?;
        let mut names = Vec::new();
        while cursor.advance().await.map_err(what())? {
            let state = cursor.deserialize_current().map_err(what())?;
            let name = state
                .get_str("_id")
                .ok()
                .and_then(|id| id.strip_prefix("seat:"));
            names.extend(name.and_then(|name| DatabaseName::new(name).ok()));
        }
        Ok(names)
    }

    async fn user(&self, seat: &SeatDatabase) -> Result<(), ProvisionError> {
        let name = seat.name.as_str();
        let admin = self.client.database("admin");
        let roles = vec![
            doc! { "role": "readWrite", "db": name },
            doc! { "role": "dbAdmin", "db": name },
            doc! { "role": "read", "db": SHARED_DATABASE },
        ];
        let made = admin
            .run_command(doc! { "createUser": name, "pwd": &seat.password, "roles": roles.clone() })
            .await;
        let made = match made {
            Err(error) if code(&error) == Some(USER_EXISTS) => {
                admin
                    .run_command(doc! { "updateUser": name, "pwd": &seat.password, "roles": roles })
                    .await
            }
            made => made,
        };
        made.map(|_| ())
            .map_err(failed(format!("make the user {name}")))
    }

    /// Copies a database until the copy is whole, counted by the seat itself where it is its own.
    async fn copy_whole(
        &self,
        from: &Database,
        to: &Database,
        seat: Option<&SeatDatabase>,
    ) -> Result<(), ProvisionError> {
        let mut tries = 0;
        loop {
            match self.copy_once(from, to, seat).await {
                Err(error) if tries < COLLISIONS_MAX && is_passing(&error) => {
                    tries += 1;
                    tracing::debug!(%error, "copies {} to {} again", from.name(), to.name());
                    tokio::time::sleep(COLLISION_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    async fn copy_once(
        &self,
        from: &Database,
        to: &Database,
        seat: Option<&SeatDatabase>,
    ) -> Result<(), ProvisionError> {
        self.copy(from, to).await?;
        match seat {
            Some(seat) => self.verify(seat).await,
            None => self.compare(from, to).await,
        }
    }

    /// Copies collections (on the server), indexes and views. What is in the target is replaced.
    async fn copy(&self, from: &Database, to: &Database) -> Result<(), ProvisionError> {
        let contents = self.contents(from).await?;
        for found in contents.iter().filter(|found| !found.is_view) {
            let name = &found.name;
            let what = || failed(format!("copy {name} to {}", to.name()));
            let (validation, others) = found.split_options();
            if !others.is_empty() {
                let mut command = doc! { "create": name };
                command.extend(others);
                to.run_command(command).await.map_err(what())?;
            }
            let out = doc! { "$out": { "db": to.name(), "coll": name } };
            from.collection::<Document>(name)
                .aggregate([out])
                .await
                .map_err(what())?;
            // Behind the documents: the author's may be wrong on purpose.
            if !validation.is_empty() {
                let mut command = doc! { "collMod": name };
                command.extend(validation);
                to.run_command(command).await.map_err(what())?;
            }
            let indexes = self.indexes(from, name).await?;
            if !indexes.is_empty() {
                to.run_command(doc! { "createIndexes": name, "indexes": indexes })
                    .await
                    .map_err(what())?;
            }
        }
        for found in contents.iter().filter(|found| found.is_view) {
            let mut command = doc! { "create": &found.name };
            command.extend(found.options.clone());
            to.run_command(command).await.map_err(failed(format!(
                "make the view {} in {}",
                found.name,
                to.name()
            )))?;
        }
        Ok(())
    }

    /// Logs in as the seat and counts.
    async fn verify(&self, seat: &SeatDatabase) -> Result<(), ProvisionError> {
        let mut options = self.options.clone();
        let name = seat.name.as_str();
        options.credential = Some(
            Credential::builder()
                .username(name.to_owned())
                .password(seat.password.clone())
                .source("admin".to_owned())
                .build(),
        );
        options.app_name = Some("arena-verifier".to_owned());
        options.max_pool_size = Some(1);
        options.min_pool_size = None;
        let client = Client::with_options(options).map_err(failed(format!("connect as {name}")))?;
        let verified = self.compare(&self.template, &client.database(name)).await;
        client.shutdown().await;
        verified
    }

    async fn compare(&self, from: &Database, copy: &Database) -> Result<(), ProvisionError> {
        for found in self
            .contents(from)
            .await?
            .into_iter()
            .filter(|found| !found.is_view)
        {
            let collection = &found.name;
            let count = async |database: &Database| {
                let number = database
                    .collection::<Document>(collection)
                    .count_documents(doc! {})
                    .await;
                number.map_err(failed(format!("count {collection} of {}", database.name())))
            };
            let (expected, actual) = (count(from).await?, count(copy).await?);
            if expected != actual {
                let difference =
                    format!("{collection} has {actual} documents instead of {expected}");
                return Err(ProvisionError::Unlike {
                    database: copy.name().to_owned(),
                    difference,
                });
            }
        }
        Ok(())
    }

    pub(crate) fn database(&self, name: &DatabaseName) -> Database {
        self.client.database(name.as_str())
    }

    /// Lists what the template holds, with indexes and counts.
    pub(crate) async fn held(&self) -> Result<Vec<Held>, ProvisionError> {
        let mut held = Vec::new();
        for found in self.contents(&self.template).await? {
            let documents = self
                .template
                .collection::<Document>(&found.name)
                .count_documents(doc! {})
                .await
                .map_err(failed(format!("count {}", found.name)))?;
            let indexes = if found.is_view {
                Vec::new()
            } else {
                self.indexes(&self.template, &found.name).await?
            };
            let collection = Collection {
                name: found.name,
                options: found.options,
                indexes,
            };
            held.push(Held {
                collection,
                documents,
            });
        }
        Ok(held)
    }

    /// Lists collections and views, without the server's own and ours.
    async fn contents(&self, database: &Database) -> Result<Vec<Found>, ProvisionError> {
        let what = || failed(format!("list the collections of {}", database.name()));
        let answer = database
            .run_command(doc! { "listCollections": 1, "cursor": { "batchSize": 10_000 } })
            .await
            .map_err(what())?;
        let mut contents: Vec<Found> = batch(&answer).filter_map(Found::of).collect();
        contents.retain(|found| found.name != STATE && !found.name.starts_with("system."));
        contents.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(contents)
    }

    /// Lists a collection's indexes as `createIndexes` takes them, without the one over `_id`.
    async fn indexes(
        &self,
        database: &Database,
        collection: &str,
    ) -> Result<Vec<Document>, ProvisionError> {
        let command = doc! { "listIndexes": collection, "cursor": { "batchSize": 1000 } };
        let answer = database
            .run_command(command)
            .await
            .map_err(failed(format!("list the indexes of {collection}")))?;
        let indexes = batch(&answer)
            .filter(|index| index.get_str("name").map_or(true, |name| name != "_id_"))
            .cloned()
            .map(|mut index| {
                index.remove("ns");
                index.remove("v");
                index
            });
        Ok(indexes.collect())
    }

    async fn state(&self, key: &str) -> Result<Option<Document>, ProvisionError> {
        let state = self
            .template
            .collection::<Document>(STATE)
            .find_one(doc! { "_id": key })
            .await;
        state.map_err(failed("read what was made already"))
    }

    async fn remember(&self, key: &str, hash: &str) -> Result<(), ProvisionError> {
        let collection = self.template.collection::<Document>(STATE);
        let update = doc! { "$set": { "hash": hash } };
        let done = collection
            .update_one(doc! { "_id": key }, update)
            .upsert(true)
            .await;
        done.map(|_| ()).map_err(failed("note what was made"))
    }

    async fn forget(&self, key: &str) -> Result<(), ProvisionError> {
        let done = self
            .template
            .collection::<Document>(STATE)
            .delete_one(doc! { "_id": key })
            .await;
        done.map(|_| ()).map_err(failed("note what was dropped"))
    }
}

/// A collection or view.
struct Found {
    name: String,
    is_view: bool,
    options: Document,
}

impl Found {
    fn of(entry: &Document) -> Option<Self> {
        let options = entry.get_document("options").cloned().unwrap_or_default();
        let is_view = entry.get_str("type").is_ok_and(|kind| kind == "view");
        Some(Self {
            name: entry.get_str("name").ok()?.to_owned(),
            is_view,
            options,
        })
    }
}

impl Found {
    /// Splits what `create` was told into what `collMod` can say later, and the rest.
    fn split_options(&self) -> (Document, Document) {
        let is_validation =
            |key: &str| matches!(key, "validator" | "validationLevel" | "validationAction");
        self.options
            .clone()
            .into_iter()
            .filter(|(key, _)| key != "uuid")
            .partition(|(key, _)| is_validation(key))
    }
}

fn key(name: &DatabaseName) -> String {
    format!("seat:{name}")
}

fn batch(answer: &Document) -> impl Iterator<Item = &Document> {
    let batch = answer
        .get_document("cursor")
        .and_then(|cursor| cursor.get_array("firstBatch"));
    batch.into_iter().flatten().filter_map(Bson::as_document)
}

pub(crate) fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        _ => None,
    }
}
