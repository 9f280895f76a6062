//! Questions to a seat's MongoDB, asked as the seat's own user.

use std::future::Future;

use arena_database::Samples;
use arena_workshop::check::{Find, MongodbStep, Template};
use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::ClientOptions;
use mongodb::{Client, Cursor, Database};
use tokio::time::{Duration, timeout};

use crate::http::seconds;
use crate::session::StepFailure;
use crate::values::Values;
use crate::{Limits, MongodbAccess, show};

/// Finding the server and logging in.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Documents that come at once: their bytes are counted between two batches.
const BATCH_ROWS: u32 = 100;
/// What MongoDB answers about a collection that does not exist.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// A connection to a seat's MongoDB.
pub(crate) struct Mongo {
    client: Client,
    database: Database,
}

/// A document put into the participant's collection, to be removed at the end.
pub(crate) struct Marker {
    pub(crate) collection: String,
    pub(crate) document: Document,
}

impl Marker {
    /// Lays fields over a template's document; the marker has an `_id` of its own.
    pub(crate) fn new(collection: &str, like: Document, fields: Document) -> Self {
        let mut document = Document::new();
        let fresh = ObjectId::new();
        let id = fields
            .get("_id")
            .cloned()
            .unwrap_or_else(|| match like.get("_id") {
                Some(Bson::String(text)) => Bson::String(look_alike(text, fresh)),
                Some(Bson::Int32(_) | Bson::Int64(_)) => {
                    Bson::Int64(i64::from(u32::from_be_bytes(tail(fresh))) + (1 << 40))
                }
                _ => Bson::ObjectId(fresh),
            });
        document.insert("_id", id);
        document.extend(like.into_iter().filter(|(key, _)| key != "_id"));
        document.extend(fields.into_iter().filter(|(key, _)| key != "_id"));
        Self {
            collection: collection.to_owned(),
            document,
        }
    }
}

/// Makes a new id that looks like another one: digits for digits.
fn look_alike(text: &str, fresh: ObjectId) -> String {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = u64::from(u32::from_be_bytes(tail(fresh)));
        return format!("99{number:010}");
    }
    fresh.to_hex()
}

fn tail(id: ObjectId) -> [u8; 4] {
    let bytes = id.bytes();
    [bytes[8], bytes[9], bytes[10], bytes[11]]
}

impl Mongo {
    pub(crate) async fn connect(
        access: &MongodbAccess,
        limits: &Limits,
    ) -> Result<Self, StepFailure> {
        let mut options = ClientOptions::parse(&access.uri)
            .await
            .map_err(|error| failure(&error, limits))?;
        options.app_name = Some("arena-grader".to_owned());
        options.server_selection_timeout = Some(CONNECT_TIME_MAX);
        options.connect_timeout = Some(CONNECT_TIME_MAX);
        options.max_pool_size = Some(2);
        let client = Client::with_options(options).map_err(|error| failure(&error, limits))?;
        let database = client.database(&access.database);
        Ok(Self { client, database })
    }

    pub(crate) async fn close(self) {
        drop(self.database);
        self.client.shutdown().await;
    }

    /// Answers a step that is no insert.
    pub(crate) async fn ask(
        &self,
        step: &MongodbStep,
        values: &Values,
        limits: &Limits,
    ) -> Result<Bson, StepFailure> {
        match step {
            MongodbStep::Find(find) => self.find(find, values, limits).await,
            MongodbStep::Aggregate {
                collection,
                pipeline,
            } => self.aggregate(collection, pipeline, values, limits).await,
            MongodbStep::Count { collection, filter } => {
                let filter = filled(values, filter)?;
                let collection = self.database.collection::<Document>(collection);
                let number = bounded(
                    limits,
                    collection.count_documents(filter).max_time(limits.database),
                )
                .await?;
                Ok(Bson::Int64(i64::try_from(number).unwrap_or(i64::MAX)))
            }
            MongodbStep::Distinct {
                collection,
                field,
                filter,
            } => {
                let filter = filled(values, filter)?;
                let collection = self.database.collection::<Document>(collection);
                let values = bounded(
                    limits,
                    collection.distinct(field, filter).max_time(limits.database),
                )
                .await?;
                if values.len() > limits.rows {
                    Err(too_many(limits))
                } else {
                    Ok(Bson::Array(values))
                }
            }
            MongodbStep::ListIndexes { collection } => self.indexes(collection, limits).await,
            MongodbStep::Kind { collection } => self.kind(collection, limits).await,
            MongodbStep::Delete { collection, filter } => {
                let filter = filled(values, filter)?;
                let result = bounded(
                    limits,
                    self.database
                        .collection::<Document>(collection)
                        .delete_many(filter),
                )
                .await?;
                Ok(Bson::Int64(
                    i64::try_from(result.deleted_count).unwrap_or(i64::MAX),
                ))
            }
            MongodbStep::Insert { .. } => Err(StepFailure::new("a marker is inserted by the run")),
        }
    }

    async fn aggregate(
        &self,
        collection: &str,
        pipeline: &Template,
        values: &Values,
        limits: &Limits,
    ) -> Result<Bson, StepFailure> {
        let Some(Bson::Array(stages)) = values.fill(pipeline) else {
            return Err(unfilled(pipeline));
        };
        let stages = stages.into_iter().filter_map(|stage| match stage {
            Bson::Document(stage) => Some(stage),
            _ => None,
        });
        let collection = self.database.collection::<Document>(collection);
        let action = collection
            .aggregate(stages)
            .batch_size(BATCH_ROWS)
            .max_time(limits.database);
        rows(bounded(limits, action).await?, limits).await
    }

    async fn find(
        &self,
        find: &Find,
        values: &Values,
        limits: &Limits,
    ) -> Result<Bson, StepFailure> {
        let filter = values
            .fill_document(&find.filter)
            .ok_or_else(|| unfilled(&find.filter))?;
        let number = |template: &Option<Template>| {
            template
                .as_ref()
                .and_then(|template| whole(&values.fill(template)?))
        };
        let document = |template: &Option<Template>| {
            template
                .as_ref()
                .and_then(|template| values.fill_document(template))
        };
        // One more than is compared, so that "more than" can be told.
        let most = i64::try_from(limits.rows).unwrap_or(i64::MAX - 1) + 1;
        let limit = number(&find.limit)
            .filter(|limit| *limit > 0)
            .map_or(most, |limit| limit.min(most));
        let collection = self.database.collection::<Document>(&find.collection);
        let mut action = collection
            .find(filter)
            .limit(limit)
            .batch_size(BATCH_ROWS)
            .max_time(limits.database);
        if let Some(skip) = number(&find.skip).and_then(|skip| u64::try_from(skip).ok()) {
            action = action.skip(skip);
        }
        if let Some(sort) = document(&find.sort) {
            action = action.sort(sort);
        }
        if let Some(projection) = document(&find.projection) {
            action = action.projection(projection);
        }
        rows(bounded(limits, action).await?, limits).await
    }

    async fn indexes(&self, collection: &str, limits: &Limits) -> Result<Bson, StepFailure> {
        let answer = self
            .database
            .run_command(doc! { "listIndexes": collection });
        let answer = match timeout(limits.database, answer.into_future()).await {
            Ok(Err(error)) if code(&error) == Some(NAMESPACE_NOT_FOUND) => {
                return Ok(Bson::Array(Vec::new()));
            }
            Ok(answer) => answer.map_err(|error| failure(&error, limits))?,
            Err(_) => return Err(too_slow(limits)),
        };
        let batch = answer
            .get_document("cursor")
            .and_then(|cursor| cursor.get_array("firstBatch"));
        Ok(Bson::Array(batch.cloned().unwrap_or_default()))
    }

    async fn kind(&self, collection: &str, limits: &Limits) -> Result<Bson, StepFailure> {
        let answer = self
            .database
            .run_command(doc! { "listCollections": 1, "filter": { "name": collection } });
        let answer = bounded(limits, answer).await?;
        let batch = answer
            .get_document("cursor")
            .and_then(|cursor| cursor.get_array("firstBatch"));
        let kind = batch
            .ok()
            .and_then(|batch| batch.first())
            .and_then(Bson::as_document);
        let kind = kind.map_or("absent", |found| {
            found.get_str("type").unwrap_or("collection")
        });
        Ok(Bson::String(kind.to_owned()))
    }

    /// Returns a document that markers are made like: the template's, else one of the seat's own.
    pub(crate) async fn like(
        &self,
        samples: &Samples,
        collection: &str,
    ) -> Result<Document, StepFailure> {
        if let Some(document) = samples.get(collection) {
            return Ok(document.clone());
        }
        let found = timeout(
            CONNECT_TIME_MAX,
            self.database
                .collection::<Document>(collection)
                .find_one(doc! {})
                .into_future(),
        )
        .await;
        match found {
            Ok(Ok(Some(document))) => Ok(document),
            _ => Err(StepFailure::new(format!(
                "restore your data first: {collection} has no document"
            ))),
        }
    }

    pub(crate) async fn insert(
        &self,
        collection: &str,
        document: &Document,
        limits: &Limits,
    ) -> Result<(), StepFailure> {
        bounded(
            limits,
            self.database
                .collection::<Document>(collection)
                .insert_one(document),
        )
        .await
        .map(|_| ())
    }

    pub(crate) async fn remove(&self, marker: &Marker) -> Result<(), StepFailure> {
        let filter = doc! { "_id": marker.document.get("_id").cloned().unwrap_or(Bson::Null) };
        let removed = self
            .database
            .collection::<Document>(&marker.collection)
            .delete_one(filter)
            .await;
        removed
            .map(|_| ())
            .map_err(|error| StepFailure::new(error.to_string()))
    }
}

/// Reads rows, as many and as large as the limits allow.
async fn rows(mut cursor: Cursor<Document>, limits: &Limits) -> Result<Bson, StepFailure> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    loop {
        let more = timeout(limits.database, cursor.advance())
            .await
            .map_err(|_| too_slow(limits))?;
        if !more.map_err(|error| failure(&error, limits))? {
            return Ok(Bson::Array(rows));
        }
        bytes += cursor.current().as_bytes().len();
        if rows.len() >= limits.rows {
            return Err(too_many(limits));
        }
        if bytes > limits.rows_bytes {
            return Err(StepFailure::new(format!(
                "your data has more than {} kB here: restore your data",
                limits.rows_bytes / 1024
            )));
        }
        let row = cursor
            .deserialize_current()
            .map_err(|error| failure(&error, limits))?;
        rows.push(Bson::Document(row));
    }
}

async fn bounded<T>(
    limits: &Limits,
    action: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<T, StepFailure> {
    within(limits, action.into_future()).await
}

async fn within<T>(
    limits: &Limits,
    action: impl Future<Output = Result<T, Error>>,
) -> Result<T, StepFailure> {
    match timeout(limits.database + CONNECT_TIME_MAX, action).await {
        Ok(answer) => answer.map_err(|error| failure(&error, limits)),
        Err(_) => Err(too_slow(limits)),
    }
}

fn whole(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

fn filled(values: &Values, template: &Template) -> Result<Document, StepFailure> {
    values
        .fill_document(template)
        .ok_or_else(|| unfilled(template))
}

fn unfilled(template: &Template) -> StepFailure {
    StepFailure::new(format!(
        "restore your data first: there is nothing for {}",
        template.0
    ))
}

fn too_many(limits: &Limits) -> StepFailure {
    StepFailure::new(format!(
        "your data has more than {} rows here: restore your data",
        limits.rows
    ))
}

fn too_slow(limits: &Limits) -> StepFailure {
    StepFailure::new(format!(
        "your database did not answer within {}",
        seconds(limits.database)
    ))
}

fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        _ => None,
    }
}

/// What MongoDB's "operation exceeded time limit" is called.
const MAX_TIME_EXPIRED: i32 = 50;

fn failure(error: &Error, limits: &Limits) -> StepFailure {
    match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => {
            StepFailure::new("your database refuses your seat's password: ask a facilitator")
        }
        ErrorKind::ServerSelection { .. }
        | ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. } => StepFailure::new(
            "your database does not answer: wait a moment and try again, or ask a facilitator",
        ),
        ErrorKind::Command(error) if error.code == MAX_TIME_EXPIRED => too_slow(limits),
        ErrorKind::Command(error) => StepFailure::new(format!(
            "your database says: {}",
            show::harmless(&error.message)
        )),
        _ => StepFailure::new(format!(
            "your database says: {}",
            show::harmless(&error.to_string())
        )),
    }
}
