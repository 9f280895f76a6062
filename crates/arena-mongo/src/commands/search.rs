//! Search indexes: those for vectors, which the engine has under another name.
//! Atlas Search of texts it has not. Scores are made MongoDB's, which lie between
//! 0 and 1, while the engine's are plain similarities or distances.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, bson, doc};

use super::{Answer, Call, indexes, raw, reading, without};
use crate::error::CommandError;
use crate::users::Action;

/// MongoDB's name of a similarity, and the engine's.
const SIMILARITIES: [(&str, &str); 3] =
    [("cosine", "COS"), ("euclidean", "L2"), ("dotProduct", "IP")];
const DIMENSIONS_MAX: i64 = 2_000;
/// Holds the score of an exact search on its way through a pipeline.
const EXACT_SCORE: &str = "arenaHelperScore";
const SCORE: &str = "vectorSearchScore";

pub(super) async fn run(call: &Call<'_>) -> Answer {
    match call.name {
        "createSearchIndexes" => create(call).await,
        "dropSearchIndex" => drop(call).await,
        "updateSearchIndex" => Err(CommandError::not_supported("updateSearchIndex")),
        _ => Err(not_enabled()),
    }
}

/// What MongoDB says where it has no search.
pub(super) fn not_enabled() -> CommandError {
    let message = "Using Atlas Search Database Commands and the $listSearchIndexes aggregation stage requires additional configuration.";
    CommandError::new(31082, "SearchNotEnabled", message)
}

async fn create(call: &Call<'_>) -> Answer {
    call.allow(Action::Define)?;
    let collection = call.collection()?;
    let asked = call
        .body()
        .get_array("indexes")
        .map_err(|_| CommandError::type_mismatch("'indexes' must be an array"))?;
    let (mut wanted, mut made) = (Vec::new(), Vec::new());
    for index in asked {
        let RawBsonRef::Document(index) = index? else {
            return Err(CommandError::type_mismatch("'indexes' must hold objects"));
        };
        let index = Document::try_from(index)?;
        let name = index.get_str("name").unwrap_or("default").to_owned();
        wanted.extend(engine_indexes(&name, &index)?);
        made.push(doc! { "id": id_of(call, collection, &name), "name": name });
    }
    indexes::build(call, collection, wanted).await?;
    Ok(raw(&doc! { "ok": 1.0, "indexesCreated": made }))
}

/// A name that stays the same for the same index.
fn id_of(call: &Call<'_>, collection: &str, name: &str) -> String {
    format!("{}.{collection}.{name}", call.database)
}

/// The engine's index of the vectors, and one for each field that may filter.
fn engine_indexes(name: &str, index: &Document) -> Result<Vec<Document>, CommandError> {
    if index.get_str("type").unwrap_or("search") != "vectorSearch" {
        return Err(CommandError::not_supported("Atlas Search of texts"));
    }
    let fields = index
        .get_document("definition")
        .and_then(|definition| definition.get_array("fields"));
    let fields = fields.map_err(|_| {
        CommandError::bad_value("\"definition.fields\" of a vector search index is required")
    })?;
    let mut made = Vec::new();
    for field in fields.iter().filter_map(Bson::as_document) {
        let path = field
            .get_str("path")
            .map_err(|_| CommandError::bad_value("\"path\" of a field is required"))?;
        match field.get_str("type") {
            Ok("vector") => made.push(vector_index(name, path, field)?),
            Ok("filter") => {
                made.push(doc! { "key": { path: 1 }, "name": format!("{name}_filter_{path}") });
            }
            _ => {
                return Err(CommandError::bad_value(
                    "\"type\" of a field must be one of [vector, filter]",
                ));
            }
        }
    }
    Ok(made)
}

fn vector_index(name: &str, path: &str, field: &Document) -> Result<Document, CommandError> {
    let asked = field.get_str("similarity").unwrap_or_default();
    let similarity = SIMILARITIES.iter().find(|(theirs, _)| *theirs == asked);
    let (_, similarity) = similarity.ok_or_else(|| {
        CommandError::bad_value("\"similarity\" must be one of [cosine, dotProduct, euclidean]")
    })?;
    let dimensions = field.get("numDimensions").and_then(super::whole);
    let dimensions = dimensions.filter(|dimensions| (1..=DIMENSIONS_MAX).contains(dimensions));
    let dimensions = dimensions.ok_or_else(|| {
        CommandError::bad_value(format!(
            "\"numDimensions\" must be between 1 and {DIMENSIONS_MAX} in the built-in database (DocumentDB)"
        ))
    })?;
    if field.get_str("quantization").unwrap_or("none") != "none" {
        return Err(CommandError::not_supported("quantization of vectors"));
    }
    let options = doc! {
        "kind": "vector-hnsw", "m": 16, "efConstruction": 64, "similarity": *similarity, "dimensions": dimensions,
    };
    Ok(doc! { "key": { path: "cosmosSearch" }, "name": name, "cosmosSearchOptions": options })
}

async fn drop(call: &Call<'_>) -> Answer {
    call.allow(Action::Define)?;
    let collection = call.collection()?;
    let name = call.body().get_str("name").unwrap_or_default();
    let mut found = Vec::new();
    for index in reading::indexes_of(call, collection).await? {
        let listed = index.get_str("name").unwrap_or_default();
        let is_its_filter = listed.starts_with(&format!("{name}_filter_"));
        let is_vector = index.get("cosmosSearchOptions")?.is_some();
        if (is_vector && listed == name) || is_its_filter {
            found.push(listed.to_owned());
        }
    }
    if !found.iter().any(|listed| listed == name) {
        let message = format!("Index {name} does not exist.");
        return Err(CommandError::new(27, "IndexNotFound", message));
    }
    for name in found {
        indexes::remove(call, collection, RawBsonRef::String(&name)).await?;
    }
    Ok(raw(&doc! { "ok": 1.0 }))
}

/// Returns the answer of a pipeline that is only `$listSearchIndexes`.
pub(super) async fn listed(call: &Call<'_>, body: &RawDocument) -> Option<Answer> {
    let stages = body.get_array("pipeline").ok()?;
    let first = stages.into_iter().next()?.ok()?;
    let asked = first.as_document()?.get("$listSearchIndexes").ok()??;
    let named = asked
        .as_document()
        .and_then(|asked| asked.get_str("name").ok());
    Some(list(call, body, named).await)
}

async fn list(call: &Call<'_>, body: &RawDocument, named: Option<&str>) -> Answer {
    call.allow(Action::Look)?;
    let collection = super::collection_in(body, "aggregate")?;
    let indexes = reading::indexes_of(call, collection)
        .await
        .unwrap_or_default();
    let mut found = Vec::new();
    for index in &indexes {
        let index = Document::try_from(&**index)?;
        let Ok(options) = index.get_document("cosmosSearchOptions") else {
            continue;
        };
        let name = index.get_str("name").unwrap_or_default();
        if named.is_some_and(|named| named != name) {
            continue;
        }
        let path = index
            .get_document("key")
            .ok()
            .and_then(|key| key.keys().next());
        let theirs = options.get_str("similarity").unwrap_or_default();
        let similarity = SIMILARITIES.iter().find(|(_, engine)| *engine == theirs);
        let mut fields = vec![doc! {
            "type": "vector", "path": path.cloned().unwrap_or_default(),
            "numDimensions": options.get("dimensions").cloned().unwrap_or(Bson::Null),
            "similarity": similarity.map_or(theirs, |(mongodb, _)| mongodb),
        }];
        let prefix = format!("{name}_filter_");
        let filters = indexes.iter().filter_map(|other| {
            let path = other.get_str("name").ok()?.strip_prefix(&prefix)?;
            Some(doc! { "type": "filter", "path": path })
        });
        fields.extend(filters);
        found.push(Bson::Document(doc! {
            "id": id_of(call, collection, name), "name": name, "type": "vectorSearch", "status": "READY", "queryable": true,
            "latestDefinition": { "fields": fields },
        }));
    }
    if found.is_empty() {
        return Err(not_enabled());
    }
    let namespace = format!("{}.{collection}", call.database);
    Ok(raw(
        &doc! { "cursor": { "id": 0_i64, "ns": namespace, "firstBatch": found }, "ok": 1.0 },
    ))
}

/// Returns a pipeline of `$vectorSearch` with MongoDB's scores; others as they are.
pub(super) async fn scored(
    call: &Call<'_>,
    spec: RawDocumentBuf,
) -> Result<RawDocumentBuf, CommandError> {
    let stages = spec.get_array("pipeline")?;
    let first = stages.into_iter().next().transpose()?;
    let search = match first.and_then(|stage| stage.as_document()) {
        Some(stage) => stage.get("$vectorSearch")?,
        None => None,
    };
    let Some(RawBsonRef::Document(search)) = search else {
        return Ok(spec);
    };
    let is_exact = super::is_true(search, "exact");
    let collection = spec.get_str("aggregate").unwrap_or_default();
    let path = search.get_str("path").unwrap_or_default();
    let indexes = reading::indexes_of(call, collection)
        .await
        .unwrap_or_default();
    let similarity = indexes.iter().find_map(|index| {
        let is_over_path = index.get_document("key").ok()?.get(path).ok()?.is_some();
        let options = index.get_document("cosmosSearchOptions").ok()?;
        is_over_path
            .then(|| options.get_str("similarity").ok())
            .flatten()
    });
    let Some(similarity) = similarity.map(str::to_owned) else {
        let message = format!(
            "no vector search index over '{path}' in {}.{collection}; make one with createSearchIndexes",
            call.database
        );
        return Err(CommandError::new(27, "IndexNotFound", message));
    };
    let Bson::Array(mut pipeline) = Bson::try_from(RawBsonRef::Array(stages))? else {
        return Err(CommandError::internal());
    };
    let pipeline = if is_exact {
        let rest = pipeline.split_off(1);
        Bson::Array(exact(&Document::try_from(search)?, &similarity, rest)?)
    } else {
        if let Some(Bson::Document(stage)) = pipeline.first_mut()
            && let Ok(search) = stage.get_document_mut("$vectorSearch")
        {
            search.remove("exact");
        }
        with_scores(&Bson::Array(pipeline), &similarity)
    };
    let mut scored = without(&spec, &["pipeline"])?;
    scored.append(bson::cstr!("pipeline"), RawBson::try_from(pipeline)?);
    Ok(scored)
}

/// A search that compares every vector, which the engine has no stage for.
fn exact(search: &Document, similarity: &str, rest: Vec<Bson>) -> Result<Vec<Bson>, CommandError> {
    let path = search.get_str("path").unwrap_or_default();
    let (Ok(vector), Some(limit)) = (
        search.get_array("queryVector"),
        search.get("limit").and_then(super::whole),
    ) else {
        let message = "$vectorSearch needs 'queryVector' and 'limit'";
        return Err(CommandError::failed_to_parse(message));
    };
    if search.contains_key("numCandidates") {
        let message = "\"numCandidates\" must be omitted when \"exact\" is true";
        return Err(CommandError::bad_value(message));
    }
    let own = format!("${path}");
    let mut stages = Vec::new();
    if let Ok(filter) = search.get_document("filter") {
        stages.push(bson!({ "$match": filter.clone() }));
    }
    let length = i64::try_from(vector.len()).unwrap_or(i64::MAX);
    stages.push(bson!({ "$match": { "$expr": { "$cond": [
        { "$isArray": [own.clone()] }, { "$eq": [{ "$size": own.clone() }, length] }, false,
    ] } } }));
    let score = likeness(&own, vector, similarity);
    stages.push(bson!({ "$set": { EXACT_SCORE: score } }));
    stages.push(bson!({ "$sort": { EXACT_SCORE: -1 } }));
    stages.push(bson!({ "$limit": limit }));
    let told: Vec<Bson> = rest.iter().map(with_own_score).collect();
    let last = rest
        .iter()
        .zip(&told)
        .rposition(|(asked, told)| asked != told);
    let hidden = last.map_or(0, |last| last + 1);
    for (position, stage) in told.into_iter().enumerate() {
        if position == hidden {
            stages.push(bson!({ "$unset": EXACT_SCORE }));
        }
        stages.push(stage);
    }
    if hidden == rest.len() {
        stages.push(bson!({ "$unset": EXACT_SCORE }));
    }
    Ok(stages)
}

/// How alike a document's vector is, between 0 and 1 as Atlas has it.
fn likeness(own: &str, vector: &[Bson], similarity: &str) -> Bson {
    let pairs = bson!({ "$zip": { "inputs": [own, vector.to_vec()] } });
    let (first, second) = (
        bson!({ "$arrayElemAt": ["$$arenaPair", 0] }),
        bson!({ "$arrayElemAt": ["$$arenaPair", 1] }),
    );
    let sum = |of: Bson| bson!({ "$sum": { "$map": { "input": pairs.clone(), "as": "arenaPair", "in": of } } });
    let product = sum(bson!({ "$multiply": [first.clone(), second.clone()] }));
    match similarity {
        "L2" => {
            let squares = sum(bson!({ "$pow": [{ "$subtract": [first, second] }, 2] }));
            bson!({ "$divide": [1, { "$add": [1, { "$sqrt": squares }] }] })
        }
        "IP" => bson!({ "$divide": [{ "$add": [1, product] }, 2] }),
        _ => {
            let lengths = bson!({ "$sqrt": { "$multiply": [
                sum(bson!({ "$pow": [first, 2] })), sum(bson!({ "$pow": [second, 2] })),
            ] } });
            let cosine = bson!({ "$cond": [{ "$eq": ["$$arenaLengths", 0] }, 0, { "$divide": [product, "$$arenaLengths"] }] });
            bson!({ "$let": { "vars": { "arenaLengths": lengths }, "in":
                { "$divide": [{ "$add": [1, cosine] }, 2] } } })
        }
    }
}

fn with_own_score(value: &Bson) -> Bson {
    match value {
        Bson::Document(document) if document.get_str("$meta").is_ok_and(|kind| kind == SCORE) => {
            Bson::String(format!("${EXACT_SCORE}"))
        }
        Bson::Document(document) => {
            let fields = document.iter();
            let told = fields.map(|(name, value)| (name.clone(), with_own_score(value)));
            Bson::Document(told.collect())
        }
        Bson::Array(values) => values.iter().map(with_own_score).collect(),
        other => other.clone(),
    }
}

fn with_scores(value: &Bson, similarity: &str) -> Bson {
    match value {
        Bson::Document(document) if document.get_str("$meta").is_ok_and(|kind| kind == SCORE) => {
            let score = document.clone();
            match similarity {
                "L2" => bson!({ "$divide": [1, { "$add": [1, score] }] }),
                _ => bson!({ "$divide": [{ "$add": [1, score] }, 2] }),
            }
        }
        Bson::Document(document) => {
            let fields = document.iter();
            Bson::Document(
                fields
                    .map(|(name, value)| (name.clone(), with_scores(value, similarity)))
                    .collect(),
            )
        }
        Bson::Array(values) => values
            .iter()
            .map(|value| with_scores(value, similarity))
            .collect(),
        other => other.clone(),
    }
}
