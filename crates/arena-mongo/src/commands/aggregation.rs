//! The aggregate command.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::aggregated::spread;
use super::indexes::hashed;
use super::statements::Statement;
use super::{
    Answer, Call, GENERIC_FIELDS, collated, copying, hints, operations, orders, outputs, raw,
    reading, search, sorting, texts, unread, views, without,
};
use crate::error::CommandError;
use crate::guard::Growth;
use crate::pipeline::{Place, without_index};
use crate::users::Action;
use crate::wording::{Asked, reworded};

/// What the engine says where an index is to find a value that is missing.
const NO_KEY: &str = "Should not have empty document";

/// For texts that name no command.
const NOBODY: Asked<'_> = Asked {
    command: "",
    namespace: "",
};

pub(super) async fn run(call: &Call<'_>) -> Answer {
    super::shapes::check_hint(call.body().get("hint")?)?;
    if let Some(explain) = call.body().get("explain")?
        && !matches!(explain, RawBsonRef::Boolean(_))
    {
        let found = super::validation::type_name(&Bson::try_from(explain)?);
        return Err(CommandError::type_mismatch(format!(
            "BSON field 'aggregate.explain' is the wrong type '{found}', expected type 'bool'"
        )));
    }
    if super::is_true(call.body(), "explain") {
        return super::explaining::explain_aggregate(call, call.body()).await;
    }
    if let Some(listed) = search::listed(call, call.body()).await {
        return listed;
    }
    if let Some(answer) = texts::aggregate(call).await {
        return answer;
    }
    let spec = match operations::listed(call)? {
        Some(running) => operations_spec(call, running)?,
        None => {
            let spec = checked_spec(call, call.body())?;
            let spec = sorted_spec(call).await?.unwrap_or(spec);
            let spec = spread::pipeline(call, search::scored(call, spec).await?).await?;
            hashed::with_hint(hints::in_order_of_pipeline(call, spec).await?)?
        }
    };
    views::check_collation(call, "aggregate").await?;
    let writes_to = writes_to(&spec);
    let made = outputs::checked(call, &spec, writes_to.as_ref()).await?;
    let _let_in = match &writes_to {
        Some((database, collection)) => {
            let database = database.as_deref().unwrap_or(call.database);
            call.server.arrivals.end(database, Some(collection));
            let size = output_size(call, &spec).await?;
            let growth = Growth { collection, ..size };
            Some(call.admit(database, growth).await?)
        }
        None => None,
    };
    let written = match &writes_to {
        Some(target) => match outputs::onto_itself(call, &spec, target).await {
            None => copied(call, &spec, target).await,
            written => written,
        },
        None => None,
    };
    let answer = match written {
        Some(answer) => answer?,
        None => by_engine(call, &spec, writes_to.as_ref()).await?,
    };
    if let Some((database, collection)) = writes_to {
        outputs::drop_empty(call, made, &collection).await?;
        call.schema_changed(
            database.as_deref().unwrap_or(call.database),
            Some(&collection),
        );
    }
    Ok(answer)
}

/// Runs a pipeline as the engine does, that may write.
async fn by_engine(
    call: &Call<'_>,
    spec: &RawDocument,
    writes_to: Option<&(Option<String>, String)>,
) -> Answer {
    let budget = if replaces(spec) {
        call.budget_to_change()
    } else {
        call.budget()
    };
    let (statement, spec) = orders::of_pipeline(call, spec.to_owned()).await?;
    let Some(target) = writes_to else {
        let answer = reading::first_page(call, budget, statement, &spec).await;
        let read = read(call, (statement, &spec), answer).await;
        return read.map_err(|error| of_projections(error, call.body()));
    };
    let statement = outputs::statement(statement, call.body());
    match reading::first_page(call, budget, statement, &spec).await {
        Err(error) => outputs::after_failure(call, (statement, &spec), target, error).await,
        answer => read(call, (statement, &spec), answer)
            .await
            .map_err(|error| of_projections(error, call.body())),
    }
}

/// An answer, if nothing is wrong with expressions that no document reached.
async fn read(
    call: &Call<'_>,
    (statement, spec): (Statement, &RawDocument),
    answer: Answer,
) -> Answer {
    let answer = match answer {
        Err(error) if error.message.ends_with(NO_KEY) => {
            joined(call, statement, spec, error).await?
        }
        answer => answer?,
    };
    unread::check_pipeline(call, spec, &answer).await?;
    Ok(answer)
}

/// Runs a pipeline once more in which an index was to find what equals a variable that is missing.
async fn joined(
    call: &Call<'_>,
    statement: Statement,
    spec: &RawDocument,
    error: CommandError,
) -> Answer {
    let mut spec = Document::try_from(spec)?;
    let stages = spec.get_array_mut("pipeline").ok();
    if call.transaction.is_some() || !stages.is_some_and(|stages| without_index(stages)) {
        return Err(error);
    }
    reading::first_page(call, call.budget(), statement, &raw(&spec)).await
}

/// Runs a pipeline that only copies a collection; nothing for all others.
async fn copied(
    call: &Call<'_>,
    spec: &RawDocument,
    (database, collection): &(Option<String>, String),
) -> Option<Answer> {
    if !replaces(spec) {
        return None;
    }
    let database = database.as_deref().unwrap_or(call.database);
    copying::whole(call, spec, (database, collection)).await
}

/// An error of a pipeline's `$project` says that it is one.
pub(super) fn of_projections(error: CommandError, body: &RawDocument) -> CommandError {
    let stages = body.get_array("pipeline").into_iter().flatten().flatten();
    let projections = stages.filter_map(|stage| stage.as_document()?.get_document("$project").ok());
    for projection in projections {
        let own = of_projection(error.clone(), projection);
        let is_own = own.message != error.message;
        if is_own || matches!(own.code, 31249 | 31252 | 31253 | 31254) {
            let said = reworded(&own.message, NOBODY).map_or(own.message, |(_, said)| said);
            let message = format!("Invalid $project :: caused by :: {said}");
            return CommandError {
                message,
                code: own.code,
                name: own.name,
                ..error
            };
        }
    }
    error
}

/// An unknown expression that is a projection's field itself is an error of its own.
pub(super) fn of_projection(error: CommandError, projection: &RawDocument) -> CommandError {
    if matches!(error.code, 31253 | 31254) {
        return mixed(projection).unwrap_or(error);
    }
    let Some(name) = error
        .message
        .strip_prefix("Unrecognized expression format: ")
    else {
        return error;
    };
    let is_it = |value: RawBsonRef<'_>| {
        let value = value.as_document();
        value.is_some_and(|value| matches!(value.get(name), Ok(Some(_))))
    };
    let is_field = projection.iter().flatten().any(|(_, value)| is_it(value));
    let is_unknown = reworded(&error.message, NOBODY).is_some_and(|(code, _)| code == Some(168));
    if is_field && is_unknown {
        let message = format!("Unknown expression {name}");
        return CommandError::new(31325, "Location31325", message);
    }
    error
}

/// The first field of a projection that is not of its kind; the engine takes every projection for an inclusion.
fn mixed(projection: &RawDocument) -> Option<CommandError> {
    let mut includes = None;
    for (path, value) in projection
        .iter()
        .flatten()
        .filter(|(path, _)| *path != "_id")
    {
        let (is_inclusion, is_expression) = match value {
            RawBsonRef::Boolean(is_true) => (is_true, false),
            RawBsonRef::Document(inner) => {
                let (operator, _) = inner.iter().next()?.ok()?;
                if matches!(operator.as_str(), "$slice" | "$elemMatch" | "$meta") {
                    continue;
                }
                // The engine looks into documents.
                if !operator.as_str().starts_with('$') {
                    return None;
                }
                (true, true)
            }
            value => match super::integer(value) {
                Some(number) => (number != 0, false),
                None => (
                    true,
                    !matches!(value, RawBsonRef::Double(_) | RawBsonRef::Decimal128(_)),
                ),
            },
        };
        let of_kind = *includes.get_or_insert(is_inclusion);
        let (code, name, message) = match (of_kind, is_inclusion, is_expression) {
            (false, true, true) => (
                31252,
                "Location31252",
                "Cannot use expression other than $meta in exclusion projection".to_owned(),
            ),
            (false, true, false) => (
                31253,
                "Location31253",
                format!("Cannot do inclusion on field {path} in exclusion projection"),
            ),
            (true, false, _) => (
                31254,
                "Location31254",
                format!("Cannot do exclusion on field {path} in inclusion projection"),
            ),
            _ => continue,
        };
        return Some(CommandError::new(code, name, message));
    }
    None
}

/// Returns the first document of a pipeline of our own, which must not write. It is asked beside a transaction, which
/// has failed when its error is to be described.
pub(super) async fn first(
    call: &Call<'_>,
    collection: &str,
    pipeline: Vec<Document>,
) -> Option<Document> {
    let spec = doc! { "aggregate": collection, "pipeline": pipeline, "cursor": {} };
    let spec = raw(&spec);
    let answer = Statement::AGGREGATE.answer(call, call.budget_outside(), &spec);
    let page = answer.await.ok()?;
    let batch = page
        .get_document("cursor")
        .ok()?
        .get_array("firstBatch")
        .ok()?;
    let first = batch.into_iter().next()?.ok()?;
    Document::try_from(first.as_document()?).ok()
}

/// Returns a pipeline over what runs now. It reads nothing of the database that it is sent to.
fn operations_spec(call: &Call<'_>, running: Vec<Bson>) -> Result<RawDocumentBuf, CommandError> {
    let mut stages = vec![Bson::Document(doc! { "$documents": running })];
    stages.extend(stages_of(call.body())?.into_iter().skip(1));
    with_pipeline(call, call.body(), &stages)
}

/// Returns the command as the engine may run it.
pub(super) fn checked_spec(
    call: &Call<'_>,
    body: &RawDocument,
) -> Result<RawDocumentBuf, CommandError> {
    call.allow(Action::Read)?;
    match body.get("aggregate")? {
        Some(RawBsonRef::String(_)) => drop(super::collection_in(body, "aggregate")?),
        Some(number) if super::integer(number) == Some(1) => check_starts_with_documents(body)?,
        _ => {
            return Err(CommandError::new(
                73,
                "InvalidNamespace",
                "aggregate needs a collection's name or 1",
            ));
        }
    }
    with_pipeline(call, body, &stages_of(body)?)
}

/// Returns the command with its first sort written so that the engine sorts as MongoDB does, if that is another one.
async fn sorted_spec(call: &Call<'_>) -> Result<Option<RawDocumentBuf>, CommandError> {
    if call.body().get_str("aggregate").is_err() {
        return Ok(None);
    }
    let told = sorting::in_pipeline(call, &stages_of(call.body())?).await?;
    let spec = told.map(|stages| with_pipeline(call, call.body(), &stages));
    spec.transpose()
}

fn stages_of(body: &RawDocument) -> Result<Vec<Bson>, CommandError> {
    let Some(stages) = body.get("pipeline")? else {
        let message = "BSON field 'aggregate.pipeline' is missing but a required field";
        return Err(CommandError::new(40414, "IDLFailedToParse", message));
    };
    let stages = stages.as_array().ok_or_else(|| {
        CommandError::type_mismatch("'pipeline' option must be specified as an array")
    })?;
    match Bson::try_from(RawBsonRef::Array(stages))? {
        Bson::Array(stages) => Ok(stages),
        _ => Err(CommandError::internal()),
    }
}

fn with_pipeline(
    call: &Call<'_>,
    body: &RawDocument,
    stages: &[Bson],
) -> Result<RawDocumentBuf, CommandError> {
    let mut checked = call.reader().check_pipeline(stages, Place::Top)?;
    if body.get("collation")?.is_some() {
        checked = collated::sorted(checked);
    }
    if hashed::shows_indexes(&checked) {
        checked.insert(1, hashed::named());
    }
    let mut spec = without(
        body,
        &[&GENERIC_FIELDS[..], &["pipeline", "explain"]].concat(),
    )?;
    let pipeline = RawBson::try_from(Bson::Array(checked))?;
    spec.append(bson::cstr!("pipeline"), pipeline);
    Ok(spec)
}

/// Without a collection there must be something else to read from.
fn check_starts_with_documents(body: &RawDocument) -> Result<(), CommandError> {
    let first = body
        .get_array("pipeline")
        .ok()
        .and_then(|stages| stages.into_iter().next()?.ok());
    let name = match first {
        Some(RawBsonRef::Document(stage)) => stage
            .iter()
            .next()
            .and_then(Result::ok)
            .map(|(name, _)| name.as_str().to_owned()),
        _ => None,
    };
    match name.as_deref() {
        // These get their own answer from the walk through the stages.
        Some(
            "$documents" | "$changeStream" | "$currentOp" | "$listLocalSessions" | "$listSessions",
        ) => Ok(()),
        other => Err(CommandError::new(
            73,
            "InvalidNamespace",
            format!(
                "{{aggregate: 1}} is not valid for '{}'; a collection is required.",
                other.unwrap_or("an empty pipeline")
            ),
        )),
    }
}

/// How much a pipeline would write. The engine writes all of it in one step that nobody can look into, so it is
/// counted first.
async fn output_size(call: &Call<'_>, spec: &RawDocument) -> Result<Growth<'static>, CommandError> {
    if call.user.is_root() {
        return Ok(Growth::default());
    }
    let counting = bson::bson!({ "$group": {
        "_id": null, "documents": { "$sum": 1 }, "bytes": { "$sum": { "$bsonSize": "$$ROOT" } }
    } });
    let Bson::Array(mut stages) = Bson::try_from(RawBsonRef::Array(spec.get_array("pipeline")?))?
    else {
        return Err(CommandError::internal());
    };
    stages.pop();
    stages.push(counting);
    let mut counted = without(spec, &["pipeline", "cursor"])?;
    counted.append(
        bson::cstr!("pipeline"),
        RawBson::try_from(Bson::Array(stages))?,
    );
    counted.append(bson::cstr!("cursor"), RawDocumentBuf::new());
    let page = Statement::AGGREGATE
        .answer(call, call.budget(), &counted)
        .await?;
    let first = page
        .get_document("cursor")?
        .get_array("firstBatch")?
        .into_iter()
        .next();
    let Some(RawBsonRef::Document(sizes)) = first.transpose()? else {
        return Ok(Growth::default());
    };
    let number = |field: &str| {
        let value = sizes.get(field).ok().flatten().and_then(super::integer);
        value
            .and_then(|value| u64::try_from(value).ok())
            .unwrap_or(0)
    };
    Ok(Growth {
        bytes: number("bytes"),
        documents: number("documents"),
        ..Growth::default()
    })
}

pub(super) fn replaces(spec: &RawDocument) -> bool {
    let stages = spec.get_array("pipeline").into_iter().flatten();
    let last = stages.last().and_then(Result::ok);
    let last = last.and_then(|stage| stage.as_document());
    last.is_some_and(|stage| matches!(stage.get("$out"), Ok(Some(_))))
}

/// A pipeline that ends in `$out` or `$merge` may make a collection.
pub(super) fn writes_to(spec: &RawDocument) -> Option<(Option<String>, String)> {
    let last = spec.get_array("pipeline").ok()?.into_iter().last()?.ok()?;
    let (name, value) = last.as_document()?.iter().next()?.ok()?;
    let target = match name.as_str() {
        "$out" => value,
        "$merge" => match value {
            RawBsonRef::Document(merge) => merge.get("into").ok()??,
            other => other,
        },
        _ => return None,
    };
    match target {
        RawBsonRef::String(collection) => Some((None, collection.to_owned())),
        RawBsonRef::Document(target) => {
            let database = target.get_str("db").ok().map(str::to_owned);
            Some((database, target.get_str("coll").ok()?.to_owned()))
        }
        _ => None,
    }
}
