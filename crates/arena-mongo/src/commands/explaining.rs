//! explain, in its thinnest form: which index a query uses and how much it read,
//! in the words of MongoDB's classic plans.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};
use serde::Deserialize;

use super::{Answer, Call, GENERIC_FIELDS, aggregation, duplicates, raw, reading, without};
use crate::error::CommandError;

/// What the engine calls the index over `_id`.
const ID_INDEX: &str = "_id_";

pub(super) async fn run(call: &Call<'_>) -> Answer {
    let RawBsonRef::Document(inner) = call.body().get("explain")?.unwrap_or(RawBsonRef::Null)
    else {
        return Err(CommandError::failed_to_parse(
            "explain needs the command to explain",
        ));
    };
    if inner
        .get("$db")?
        .is_some_and(|database| database.as_str() != Some(call.database))
    {
        return Err(CommandError::unauthorized(
            "an explained command must be in the database of the explain",
        ));
    }
    let Some(Ok((name, _))) = inner.iter().next() else {
        return Err(CommandError::failed_to_parse(
            "explain needs the command to explain",
        ));
    };
    let function = match name.as_str() {
        "find" => "bson_aggregation_find",
        "count" => "bson_aggregation_count",
        "distinct" => "bson_aggregation_distinct",
        "aggregate" => return explain_aggregate(call, inner).await,
        other => {
            return Err(CommandError::not_supported(format_args!(
                "explaining {other}"
            )));
        }
    };
    reading::check_query(call, inner, name.as_str())?;
    let collection = super::collection_in(inner, name.as_str())?;
    explain(
        call,
        function,
        &without(inner, &GENERIC_FIELDS)?,
        collection,
    )
    .await
}

pub(super) async fn explain_aggregate(call: &Call<'_>, body: &RawDocument) -> Answer {
    let mut spec = aggregation::checked_spec(call, body)?;
    let writes = |stage: RawBsonRef<'_>| {
        stage.as_document().is_some_and(|stage| {
            stage
                .iter()
                .flatten()
                .any(|(name, _)| matches!(name.as_str(), "$out" | "$merge"))
        })
    };
    if spec
        .get_array("pipeline")?
        .into_iter()
        .flatten()
        .any(writes)
    {
        return Err(CommandError::not_supported(
            "explaining a pipeline that writes",
        ));
    }
    if spec.get("cursor")?.is_none() {
        spec.append(bson::cstr!("cursor"), RawDocumentBuf::new());
    }
    let collection = body.get_str("aggregate").unwrap_or("$cmd.aggregate");
    explain(call, "bson_aggregation_pipeline", &spec, collection).await
}

async fn explain(
    call: &Call<'_>,
    function: &'static str,
    spec: &RawDocument,
    collection: &str,
) -> Answer {
    let is_measured = !matches!(call.body().get_str("verbosity"), Ok("queryPlanner"));
    // A database name has neither quotes nor backslashes (`is_database_name` allows an apostrophe), and
    // a document goes in as hexadecimal digits.
    let database = call.database.replace('\'', "''");
    let document: String = spec
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let analyze = if is_measured { "ANALYZE, " } else { "" };
    let sql = format!(
        "EXPLAIN ({analyze}FORMAT JSON) SELECT document FROM documentdb_api_catalog.{function}\
         ('{database}', 'BSONHEX{document}'::documentdb_core.bson)"
    );
    let text = call
        .server
        .backend
        .texts(call.budget(), &sql)
        .await?
        .join("\n");
    let plan = Plan::of(&text)?;
    let mut answer = doc! {
        "explainVersion": "1",
        "queryPlanner": {
            "namespace": format!("{}.{collection}", call.database),
            "winningPlan": winning_plan(call, collection, &plan).await,
            "rejectedPlans": [],
        },
    };
    if is_measured {
        answer.insert("executionStats", plan.statistics());
    }
    answer.insert("serverInfo", doc! { "host": "arena", "version": "7.0.0" });
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

async fn winning_plan(call: &Call<'_>, collection: &str, plan: &Plan) -> Document {
    let Some(index) = &plan.index else {
        return doc! { "stage": "COLLSCAN", "direction": "forward" };
    };
    let mut scan = doc! { "stage": "IXSCAN", "indexName": index };
    if let Some(pattern) = duplicates::pattern_of(call, collection, index).await {
        scan.insert("keyPattern", pattern);
    }
    doc! { "stage": "FETCH", "inputStage": scan }
}

/// What of PostgreSQL's plan is told.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    index: Option<String>,
    returned: f64,
    examined: f64,
    milliseconds: f64,
}

impl Plan {
    fn of(text: &str) -> Result<Self, CommandError> {
        let plans: Vec<Explained> = serde_json::from_str(text).map_err(|error| {
            tracing::error!(error = %error, "the database engine explained in an unknown form");
            CommandError::internal()
        })?;
        let mut plan = Self::default();
        for explained in &plans {
            plan.returned = explained.plan.actual_rows.unwrap_or(0.0);
            plan.milliseconds = explained.execution_time.unwrap_or(0.0);
            plan.walk(&explained.plan);
        }
        Ok(plan)
    }

    fn walk(&mut self, node: &Node) {
        let is_scan = node.node_type.ends_with("Scan") && node.relation_name.is_some()
            || node.index_name.is_some();
        if is_scan {
            let removed = node.rows_removed_by_filter.unwrap_or(0.0)
                + node.rows_removed_by_recheck.unwrap_or(0.0);
            self.examined += node.actual_rows.unwrap_or(0.0) + removed;
        }
        if let Some(index) = &node.index_name {
            // Every collection's rows are found over its shard key, which is no index of the learner's.
            let condition = node.index_cond.as_deref().unwrap_or_default();
            let is_whole_collection = index == ID_INDEX && !condition.contains("object_id");
            if !is_whole_collection && self.index.is_none() {
                self.index = Some(index.clone());
            }
        }
        node.plans.iter().for_each(|inner| self.walk(inner));
    }

    fn statistics(&self) -> Document {
        let whole = |number: f64| Bson::Int64(format!("{number:.0}").parse().unwrap_or(i64::MAX));
        doc! {
            "executionSuccess": true,
            "nReturned": whole(self.returned),
            "executionTimeMillis": whole(self.milliseconds),
            "totalKeysExamined": if self.index.is_some() { whole(self.examined) } else { Bson::Int64(0) },
            "totalDocsExamined": whole(self.examined),
        }
    }
}

#[derive(Deserialize)]
struct Explained {
    #[serde(rename = "Plan")]
    plan: Node,
    #[serde(rename = "Execution Time")]
    execution_time: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "Node Type", default)]
    node_type: String,
    #[serde(rename = "Relation Name")]
    relation_name: Option<String>,
    #[serde(rename = "Index Name")]
    index_name: Option<String>,
    #[serde(rename = "Index Cond")]
    index_cond: Option<String>,
    #[serde(rename = "Actual Rows")]
    actual_rows: Option<f64>,
    #[serde(rename = "Rows Removed by Filter")]
    rows_removed_by_filter: Option<f64>,
    #[serde(rename = "Rows Removed by Index Recheck")]
    rows_removed_by_recheck: Option<f64>,
    #[serde(default)]
    plans: Vec<Node>,
}
