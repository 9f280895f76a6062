//! explain, in MongoDB's shape: which indexes a command uses and how much it read.
//! Everything told is what the engine planned or did; what it does not tell
//! (index bounds, rejected plans, what an update would change) is left out. A
//! write is explained by the query that finds its documents, and writes nothing.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::indexes::hashed;
use super::plans::{Planned, Stage, Statistics};
use super::{Answer, Call, aggregation, duplicates, fitting, known, raw, reading, shapes};
use crate::error::CommandError;
use crate::users::Action;

/// Stages that MongoDB runs within a query's plan.
const WITHIN_PLAN: [&str; 5] = ["$match", "$sort", "$limit", "$skip", "$project"];

/// How much is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verbosity {
    QueryPlanner,
    ExecutionStats,
    AllPlansExecution,
}

/// What is explained: a function of the engine, what it is given, and what the client sees of it.
struct Explained<'a> {
    function: &'static str,
    spec: RawDocumentBuf,
    collection: &'a str,
    filter: Document,
    /// What stands above the plan that finds documents, such as `UPDATE`.
    above: Option<&'static str>,
    projection: Option<Document>,
    limit: Option<i64>,
    skip: Option<i64>,
    /// The stages of a pipeline that run above the plan.
    stages: Vec<Bson>,
}

pub(super) async fn run(call: &Call<'_>) -> Answer {
    let needs_command =
        || CommandError::failed_to_parse("The explain command requires a nested object to explain");
    shapes::EXPLAIN.check(call.body())?;
    let inner = match call.body().get("explain")? {
        Some(RawBsonRef::Document(inner)) => inner,
        _ => return Err(needs_command()),
    };
    if inner
        .get("$db")?
        .is_some_and(|database| database.as_str() != Some(call.database))
    {
        return Err(CommandError::unauthorized(
            "an explained command must be in the database of the explain",
        ));
    }
    let verbosity = verbosity(call.body())?;
    let first = inner.iter().next().transpose()?;
    let name = first.map_or("", |(name, _)| name.as_str());
    let explained = match name {
        "find" | "count" | "distinct" => query(call, inner, name)?,
        "aggregate" => pipeline(call, inner)?,
        "update" => write(call, inner, "update", "updates", "UPDATE")?,
        "delete" => write(call, inner, "delete", "deletes", "DELETE")?,
        "findAndModify" | "findandmodify" => {
            let removes = super::is_true(inner, "remove");
            let above = if removes { "DELETE" } else { "UPDATE" };
            let finding = Finding {
                collection: super::collection_in(inner, name)?,
                operation: inner,
                filter: "query",
                above,
            };
            finding.explained(call)?
        }
        "mapReduce" => return Err(CommandError::not_supported("mapReduce")),
        known if known::kind_of(known).is_some() => {
            let message = format!("Cannot explain cmd: {known}");
            return Err(CommandError::new(20, "IllegalOperation", message));
        }
        other => {
            let message = format!("Explain failed due to unknown command: {other}");
            return Err(CommandError::new(59, "CommandNotFound", message));
        }
    };
    explain(call, &explained, verbosity).await
}

/// `{aggregate: …, explain: true}`.
pub(super) async fn explain_aggregate(call: &Call<'_>, body: &RawDocument) -> Answer {
    explain(call, &pipeline(call, body)?, Verbosity::QueryPlanner).await
}

fn verbosity(body: &RawDocument) -> Result<Verbosity, CommandError> {
    let Some(asked) = body.get("verbosity")? else {
        return Ok(Verbosity::AllPlansExecution);
    };
    match asked.as_str() {
        Some("queryPlanner") => Ok(Verbosity::QueryPlanner),
        Some("executionStats") => Ok(Verbosity::ExecutionStats),
        Some("allPlansExecution") => Ok(Verbosity::AllPlansExecution),
        other => Err(CommandError::bad_value(format!(
            "Enumeration value '{}' for field 'explain.verbosity' is not a valid value.",
            other.unwrap_or_default()
        ))),
    }
}

fn query<'a>(
    call: &Call<'_>,
    inner: &'a RawDocument,
    name: &str,
) -> Result<Explained<'a>, CommandError> {
    let spec = hashed::with_hint(reading::checked_query(call, inner, name)?)?;
    let filter = if name == "find" { "filter" } else { "query" };
    let number = |field: &str| -> Result<Option<i64>, CommandError> {
        Ok(inner
            .get(field)?
            .and_then(super::integer)
            .filter(|n| *n != 0))
    };
    let (function, above) = match name {
        "find" => ("bson_aggregation_find", None),
        "count" => ("bson_aggregation_count", Some("COUNT")),
        _ => ("bson_aggregation_distinct", None),
    };
    Ok(Explained {
        function,
        spec,
        collection: super::collection_in(inner, name)?,
        filter: document_in(inner, filter)?,
        above,
        projection: Some(document_in(inner, "projection")?).filter(|fields| !fields.is_empty()),
        limit: number("limit")?,
        skip: number("skip")?,
        stages: Vec::new(),
    })
}

fn document_in(document: &RawDocument, field: &str) -> Result<Document, CommandError> {
    match document.get(field)? {
        Some(RawBsonRef::Document(inner)) => Ok(Document::try_from(inner)?),
        _ => Ok(Document::new()),
    }
}

fn pipeline<'a>(call: &Call<'_>, body: &'a RawDocument) -> Result<Explained<'a>, CommandError> {
    let mut spec = hashed::with_hint(aggregation::checked_spec(call, body)?)?;
    let stages = match Bson::try_from(RawBsonRef::Array(body.get_array("pipeline")?))? {
        Bson::Array(stages) => stages,
        _ => Vec::new(),
    };
    if stages
        .iter()
        .any(|stage| matches!(name_of(stage), Some("$out" | "$merge")))
    {
        return Err(CommandError::not_supported(
            "explaining a pipeline that writes",
        ));
    }
    if spec.get("cursor")?.is_none() {
        spec.append(bson::cstr!("cursor"), RawDocumentBuf::new());
    }
    let matched = stages
        .first()
        .filter(|stage| name_of(stage) == Some("$match"));
    let filter = matched.and_then(|stage| stage.as_document()?.get_document("$match").ok());
    let is_one_plan = stages
        .iter()
        .all(|stage| name_of(stage).is_some_and(|name| WITHIN_PLAN.contains(&name)));
    Ok(Explained {
        function: "bson_aggregation_pipeline",
        spec,
        collection: body.get_str("aggregate").unwrap_or("$cmd.aggregate"),
        filter: filter.cloned().unwrap_or_default(),
        above: None,
        projection: None,
        limit: None,
        skip: None,
        stages: if is_one_plan {
            Vec::new()
        } else {
            stages[usize::from(matched.is_some())..].to_vec()
        },
    })
}

fn name_of(stage: &Bson) -> Option<&str> {
    stage.as_document()?.keys().next().map(String::as_str)
}

/// The first operation of an update or delete, which is all that MongoDB explains.
fn write<'a>(
    call: &Call<'_>,
    inner: &'a RawDocument,
    name: &str,
    field: &str,
    above: &'static str,
) -> Result<Explained<'a>, CommandError> {
    let operations = inner.get_array(field).map_err(|_| {
        let message = format!("BSON field '{name}.{field}' is missing but a required field");
        CommandError::new(40414, "IDLFailedToParse", message)
    })?;
    match operations.into_iter().next().transpose()? {
        Some(RawBsonRef::Document(operation)) => {
            let finding = Finding {
                collection: super::collection_in(inner, name)?,
                operation,
                filter: "q",
                above,
            };
            finding.explained(call)
        }
        _ => Err(CommandError::type_mismatch(format!(
            "'{name}.{field}' must hold objects"
        ))),
    }
}

/// A write by the query that finds what it changes.
struct Finding<'a> {
    collection: &'a str,
    operation: &'a RawDocument,
    /// The field of the operation that holds its filter.
    filter: &'static str,
    above: &'static str,
}

impl<'a> Finding<'a> {
    fn explained(self, call: &Call<'_>) -> Result<Explained<'a>, CommandError> {
        call.allow(Action::Write)?;
        let filter = document_in(self.operation, self.filter)?;
        let is_of_many = super::is_true(self.operation, "multi")
            || self.operation.get("limit")?.and_then(super::integer) == Some(0);
        let mut find = doc! { "find": self.collection, "filter": filter.clone() };
        if let Some(RawBsonRef::Document(sort)) = self.operation.get("sort")? {
            find.insert("sort", Document::try_from(sort)?);
        }
        if !is_of_many {
            find.insert("limit", 1);
        }
        let spec = reading::checked_query(call, &raw(&find), "find")?;
        Ok(Explained {
            function: "bson_aggregation_find",
            spec,
            collection: self.collection,
            filter,
            above: Some(self.above),
            projection: None,
            limit: None,
            skip: None,
            stages: Vec::new(),
        })
    }
}

async fn explain(call: &Call<'_>, explained: &Explained<'_>, verbosity: Verbosity) -> Answer {
    let mut plan = planned(call, explained, verbosity != Verbosity::QueryPlanner).await?;
    let mut patterns = Vec::new();
    for index in plan.root.indexes() {
        if let Some(pattern) = duplicates::pattern_of(call, explained.collection, &index).await {
            patterns.push((index, pattern));
        }
    }
    let is_of_pipeline = !explained.stages.is_empty();
    if is_of_pipeline {
        plan.root = plan.root.reading();
    }
    shape(explained, &mut plan);
    let namespace = format!("{}.{}", call.database, explained.collection);
    let mut shown = doc! {
        "queryPlanner": {
            "namespace": namespace,
            "parsedQuery": parsed(&explained.filter),
            "winningPlan": plan.root.planned(&patterns, &explained.filter),
            "rejectedPlans": [],
        },
    };
    if let Some(statistics) = &plan.statistics {
        let mut executed = executed(statistics, &plan.root, explained);
        let stages = plan.root.executed(&patterns, &explained.filter);
        executed.insert("executionStages", stages);
        if verbosity == Verbosity::AllPlansExecution {
            executed.insert("allPlansExecution", Bson::Array(Vec::new()));
        }
        shown.insert("executionStats", executed);
    }
    let mut answer = doc! { "explainVersion": "1" };
    if is_of_pipeline {
        let mut stages = vec![Bson::Document(doc! { "$cursor": shown })];
        stages.extend(explained.stages.iter().cloned());
        answer.insert("stages", stages);
    } else {
        answer.extend(shown);
    }
    answer.insert(
        "command",
        Document::try_from(explained_command(call, explained))?,
    );
    answer.insert(
        "serverInfo",
        doc! { "host": "arena", "version": super::VERSION },
    );
    answer.insert("ok", 1.0);
    Ok(raw(&answer))
}

fn explained_command<'c>(call: &'c Call<'_>, explained: &'c Explained<'_>) -> &'c RawDocument {
    match call.body().get("explain") {
        Ok(Some(RawBsonRef::Document(inner))) => inner,
        _ => &explained.spec,
    }
}

async fn planned(
    call: &Call<'_>,
    explained: &Explained<'_>,
    is_measured: bool,
) -> Result<Planned, CommandError> {
    // A database name has neither quotes nor backslashes (`is_database_name` allows an apostrophe), and
    // a document goes in as hexadecimal digits.
    let database = call.database.replace('\'', "''");
    let document: String = explained
        .spec
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let analyze = if is_measured { "ANALYZE, " } else { "" };
    let function = explained.function;
    let sql = format!(
        "EXPLAIN ({analyze}FORMAT JSON) SELECT document FROM documentdb_api_catalog.{function}\
         ('{database}', 'BSONHEX{document}'::documentdb_core.bson)"
    );
    let texts = call.server.backend.texts(call.budget(), &sql).await?;
    Planned::of(&texts.join("\n"))
}

/// Puts above the engine's plan what MongoDB shows there.
fn shape(explained: &Explained<'_>, plan: &mut Planned) {
    let mut root = std::mem::take(&mut plan.root).with_amounts(explained.limit, explained.skip);
    if let Some(fields) = &explained.projection {
        root = Stage::projection(fields.clone(), root);
    }
    if let Some(name) = explained.above {
        root = root.below(name);
    }
    plan.root = root;
}

fn executed(statistics: &Statistics, root: &Stage, explained: &Explained<'_>) -> Document {
    // A write and a count return no documents.
    let returned = if explained.above.is_some() {
        0
    } else {
        root.returned()
    };
    doc! {
        "executionSuccess": true,
        "nReturned": fitting(returned),
        "executionTimeMillis": fitting(statistics.milliseconds),
        "totalKeysExamined": fitting(statistics.keys_examined),
        "totalDocsExamined": fitting(statistics.documents_examined),
    }
}

/// A filter as MongoDB shows it: `{a: 1}` is `{a: {$eq: 1}}`.
fn parsed(filter: &Document) -> Document {
    let mut clauses = Vec::new();
    for (name, value) in filter {
        let is_condition =
            |value: &Document| value.keys().next().is_some_and(|key| key.starts_with('$'));
        match value {
            Bson::Document(conditions) if !name.starts_with('$') && is_condition(conditions) => {
                let each = conditions.iter();
                clauses.extend(
                    each.map(|(operator, operand)| doc! { name: { operator: operand.clone() } }),
                );
            }
            value if name.starts_with('$') => clauses.push(doc! { name: value.clone() }),
            value => clauses.push(doc! { name: { "$eq": value.clone() } }),
        }
    }
    if clauses.len() > 1 {
        return doc! { "$and": clauses };
    }
    clauses.pop().unwrap_or_default()
}
