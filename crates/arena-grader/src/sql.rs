//! Questions to a seat's PostgreSQL, asked as the seat's own role.
//!
//! Rows come as JSON that the server makes (`row_to_json`), so every type has
//! one way here. The search path is set by us: a role's own setting could put
//! look-alikes of PostgreSQL's functions before the real ones.

use std::collections::BTreeMap;

use arena_workshop::check::{SqlStep, Template};
use bson::{Bson, Document};
use bytes::BytesMut;
use serde_json::Value as Json;
use tokio::task::JoinHandle;
use tokio::time::{Duration, timeout};
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage};

use crate::http::seconds;
use crate::session::StepFailure;
use crate::values::{Values, from_json, plain_text};
use crate::{Limits, PostgresAccess, show};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Rows that come at once: their bytes are counted between two batches.
const BATCH_ROWS: i32 = 50;
/// Characters of one row; larger ones are cut by the server and refused here.
const ROW_LENGTH_MAX: usize = 65_536;

/// Facts about the table named by `$1`, as one JSON object.
const TABLE_FACTS: &str = include_str!("table_facts.sql");

/// A connection to a seat's PostgreSQL.
pub(crate) struct Sql {
    client: Client,
    connection: JoinHandle<()>,
    limits: Limits,
}

/// A row put into the participant's table, to be removed at the end.
pub(crate) struct Marker {
    pub(crate) table: String,
    /// Values that identify it: those inserted, then its primary key.
    pub(crate) columns: BTreeMap<String, Option<Bson>>,
}

impl Sql {
    pub(crate) async fn connect(
        access: &PostgresAccess,
        limits: &Limits,
    ) -> Result<Self, StepFailure> {
        let milliseconds = limits.database.as_millis();
        let mut config = Config::new();
        config
            .host(&access.host)
            .port(access.port)
            .dbname(&access.database)
            .user(&access.user)
            .password(&access.password)
            .application_name("arena-grader")
            .connect_timeout(CONNECT_TIME_MAX)
            .ssl_mode(access.tls.mode())
            .options(format!("-c search_path=public -c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"));
        let connected = timeout(CONNECT_TIME_MAX, config.connect(access.tls.clone())).await;
        let (client, connection) = connected
            .map_err(|_| too_slow(limits))?
            .map_err(|error| failure(&error, limits))?;
        // Ends when the client is dropped; awaited in `close`.
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a seat's PostgreSQL connection ended");
            }
        });
        Ok(Self {
            client,
            connection,
            limits: limits.clone(),
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(crate) async fn close(self) {
        drop(self.client);
        let mut connection = self.connection;
        if timeout(CONNECT_TIME_MAX, &mut connection).await.is_err() {
            connection.abort();
        }
    }

    /// Answers a step that is no insert.
    pub(crate) async fn ask(
        &mut self,
        step: &SqlStep,
        values: &Values,
        limits: &Limits,
    ) -> Result<Bson, StepFailure> {
        match step {
            SqlStep::Query { text, parameters } => {
                let parameters = parameters
                    .iter()
                    .map(|template| Text::of(template, values))
                    .collect();
                self.query(text, parameters).await
            }
            SqlStep::Plan { text } => self.plan(text).await,
            SqlStep::Table { name } => {
                let row = within(limits, self.client.query_one(TABLE_FACTS, &[name])).await?;
                let text: String = row.try_get(0).map_err(|error| failure(&error, limits))?;
                Ok(parsed(&text))
            }
            SqlStep::Insert { .. } => Err(StepFailure::new("a marker is inserted by the run")),
        }
    }

    async fn query(&mut self, text: &str, parameters: Vec<Text>) -> Result<Bson, StepFailure> {
        let limits = self.limits.clone();
        let statement = text.trim().trim_end_matches(';');
        let statement = format!(
            "SELECT pg_catalog.left(pg_catalog.row_to_json(arena_row)::text, {}) FROM (\n{statement}\n) AS arena_row LIMIT {}",
            ROW_LENGTH_MAX + 1,
            limits.rows + 1
        );
        let read = async {
            let transaction = self
                .client
                .build_transaction()
                .read_only(true)
                .start()
                .await?;
            let statement = transaction.prepare(&statement).await?;
            let parameters: Vec<&(dyn ToSql + Sync)> = parameters
                .iter()
                .map(|text| -> &(dyn ToSql + Sync) { text })
                .collect();
            let portal = transaction.bind(&statement, &parameters).await?;
            let mut texts: Vec<String> = Vec::new();
            let mut bytes = 0;
            loop {
                let batch = transaction.query_portal(&portal, BATCH_ROWS).await?;
                for row in &batch {
                    let text: String = row.try_get(0)?;
                    bytes += text.len();
                    texts.push(text);
                }
                if batch.is_empty() || texts.len() > limits.rows || bytes > limits.rows_bytes {
                    break;
                }
            }
            transaction.rollback().await?;
            Ok((texts, bytes))
        };
        let (texts, bytes) = within(&limits, read).await?;
        if texts.len() > limits.rows {
            return Err(StepFailure::new(format!(
                "your tables have more than {} rows here: restore your data",
                limits.rows
            )));
        }
        if bytes > limits.rows_bytes || texts.iter().any(|text| text.len() > ROW_LENGTH_MAX) {
            return Err(StepFailure::new(
                "your tables hold far larger rows here than they should: restore your data",
            ));
        }
        Ok(Bson::Array(texts.iter().map(|text| parsed(text)).collect()))
    }

    /// Says how a query would be answered if tables were too large to read from end to end.
    async fn plan(&mut self, text: &str) -> Result<Bson, StepFailure> {
        let limits = self.limits.clone();
        let statement = format!("EXPLAIN (FORMAT JSON) {text}");
        let explain = async {
            let transaction = self
                .client
                .build_transaction()
                .read_only(true)
                .start()
                .await?;
            transaction
                .batch_execute("SET LOCAL enable_seqscan = off")
                .await?;
            let messages = transaction.simple_query(&statement).await?;
            transaction.rollback().await?;
            Ok(messages)
        };
        let messages = within(&limits, explain).await?;
        let lines = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let text: String = lines.collect();
        let plan: Json = serde_json::from_str(&text).unwrap_or_default();
        let (mut indexes, mut sequential) = (Vec::new(), Vec::new());
        collect_nodes(&plan, &mut indexes, &mut sequential);
        let mut document = Document::new();
        document.insert("indexes", indexes);
        document.insert("sequential", sequential);
        document.insert("text", text);
        Ok(Bson::Document(document))
    }

    /// Inserts a marker and returns its whole row; the marker then knows its primary key.
    pub(crate) async fn insert(&mut self, marker: &mut Marker) -> Result<Bson, StepFailure> {
        let table = quoted_path(&marker.table);
        let names: Vec<String> = marker.columns.keys().map(|column| quoted(column)).collect();
        let places: Vec<String> = (1..=names.len())
            .map(|number| format!("${number}"))
            .collect();
        let statement = format!(
            "INSERT INTO {table} AS arena_row ({}) VALUES ({}) RETURNING pg_catalog.row_to_json(arena_row)::text",
            names.join(", "),
            places.join(", ")
        );
        let texts: Vec<Text> = marker
            .columns
            .values()
            .map(|value| Text::from_value(value.as_ref()))
            .collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = texts
            .iter()
            .map(|text| -> &(dyn ToSql + Sync) { text })
            .collect();
        let row = within(&self.limits, self.client.query_one(&statement, &parameters)).await?;
        let text: String = row
            .try_get(0)
            .map_err(|error| failure(&error, &self.limits))?;
        let value = parsed(&text);
        let keys = "SELECT a.attname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a \
                    ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
                    WHERE i.indisprimary AND i.indrelid = pg_catalog.to_regclass($1)";
        let keys = within(&self.limits, self.client.query(keys, &[&table])).await?;
        let keys: Vec<String> = keys.iter().filter_map(|row| row.try_get(0).ok()).collect();
        if let (Bson::Document(row), false) = (&value, keys.is_empty()) {
            marker.columns = keys
                .into_iter()
                .map(|key| (key.clone(), row.get(&key).cloned()))
                .collect();
        }
        Ok(value)
    }

    pub(crate) async fn remove(&mut self, marker: &Marker) -> Result<(), StepFailure> {
        let named = marker
            .columns
            .iter()
            .filter_map(|(column, value)| value.as_ref().map(|value| (column, value)));
        let named: Vec<(&String, Text)> = named
            .map(|(column, value)| (column, Text::from_value(Some(value))))
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        let conditions: Vec<String> = named
            .iter()
            .enumerate()
            .map(|(index, (column, _))| format!("{} = ${}", quoted(column), index + 1))
            .collect();
        let statement = format!(
            "DELETE FROM {} WHERE {}",
            quoted_path(&marker.table),
            conditions.join(" AND ")
        );
        let parameters: Vec<&(dyn ToSql + Sync)> = named
            .iter()
            .map(|(_, text)| -> &(dyn ToSql + Sync) { text })
            .collect();
        within(&self.limits, self.client.execute(&statement, &parameters))
            .await
            .map(|_| ())
    }
}

/// A parameter in PostgreSQL's text form, whatever its type: the server reads it.
#[derive(Debug)]
struct Text(Option<String>);

impl Text {
    fn of(template: &Template, values: &Values) -> Self {
        Self::from_value(values.fill(template).as_ref())
    }

    fn from_value(value: Option<&Bson>) -> Self {
        match value {
            None | Some(Bson::Null | Bson::Undefined) => Self(None),
            Some(value) => Self(Some(plain_text(value))),
        }
    }
}

impl ToSql for Text {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.0 {
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

fn parsed(text: &str) -> Bson {
    serde_json::from_str(text).map_or(Bson::Null, |json: Json| from_json(&json))
}

fn collect_nodes(plan: &Json, indexes: &mut Vec<Bson>, sequential: &mut Vec<Bson>) {
    match plan {
        Json::Array(items) => items
            .iter()
            .for_each(|item| collect_nodes(item, indexes, sequential)),
        Json::Object(node) => {
            let text = |key: &str| {
                node.get(key)
                    .and_then(Json::as_str)
                    .map(|text| Bson::String(text.to_owned()))
            };
            indexes.extend(text("Index Name"));
            if node.get("Node Type").and_then(Json::as_str) == Some("Seq Scan") {
                sequential.extend(text("Relation Name"));
            }
            node.values()
                .for_each(|value| collect_nodes(value, indexes, sequential));
        }
        _ => {}
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted_path(name: &str) -> String {
    name.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

async fn within<T>(
    limits: &Limits,
    action: impl Future<Output = Result<T, Error>>,
) -> Result<T, StepFailure> {
    match timeout(limits.database + Duration::from_secs(1), action).await {
        Ok(answer) => answer.map_err(|error| failure(&error, limits)),
        Err(_) => Err(too_slow(limits)),
    }
}

fn too_slow(limits: &Limits) -> StepFailure {
    StepFailure::new(format!(
        "your PostgreSQL did not answer within {}",
        seconds(limits.database)
    ))
}

fn failure(error: &Error, limits: &Limits) -> StepFailure {
    let Some(error) = error.as_db_error() else {
        return StepFailure::new(
            "your PostgreSQL does not answer: wait a moment and try again, or ask a facilitator",
        );
    };
    match error.code().code() {
        "57014" | "55P03" => too_slow(limits),
        "28P01" | "28000" => {
            StepFailure::new("your PostgreSQL refuses your seat's password: ask a facilitator")
        }
        "53300" => StepFailure::new(
            "your app holds all connections to your PostgreSQL: stop it for a moment, or restart it",
        ),
        _ => StepFailure::new(format!(
            "your PostgreSQL says: {}",
            show::harmless(error.message())
        )),
    }
}
