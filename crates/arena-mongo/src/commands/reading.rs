//! Commands that read documents and names, and the cursors they leave open.

use std::sync::Arc;

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc};

use super::aggregated::spread;
use super::indexes::hashed;
use super::statements::Statement;
use super::{
    Answer, Call, GENERIC_FIELDS, aggregated, aggregation, distinct, field_of, full, hints,
    integer, is_true, lists, orders, outputs, pages, positions, projections, raw, shapes, sorting,
    texts, ties, unread, views, without,
};
use crate::backend::Budget;
use crate::cursors::{Reader, Rest};
use crate::error::CommandError;
use crate::pipeline::{
    Found, as_written, check_raw_expressions, check_sort, chosen, rewritten_fields,
};
use crate::scram::random;
use crate::server::Server;
use crate::users::Action;
use crate::wire::DOCUMENT_BYTES_MAX;

/// What the engine says where it is to find what is near in a collection that is not there.
const NOWHERE: &str = "$geoNear can only be used with specific collections";
const DELETE_CURSORS: &str = "SELECT documentdb_api_internal.delete_cursors($1)::text";

pub(super) async fn run(call: &Call<'_>) -> Answer {
    if matches!(call.name, "find" | "count" | "distinct")
        && let Some(answer) = texts::read(call).await
    {
        return answer;
    }
    match call.name {
        "find" => find(call).await,
        "getMore" => get_more(call).await,
        "killCursors" => kill_cursors(call).await,
        "count" => documents(call, Statement::COUNT).await,
        "distinct" => distinct::run(call).await,
        "listIndexes" => lists::indexes(call).await,
        "listCollections" => lists::collections(call).await,
        other => Err(CommandError::command_not_found(other)),
    }
}

/// Finds by one `_id`: all there is comes at once, but for a view that makes several documents of one.
pub(super) async fn one(call: &Call<'_>, spec: &RawDocument) -> Answer {
    call.allow(Action::Read)?;
    call.collection()?;
    let (page, rest) = pages::in_order(call, call.budget(), Statement::FIND, spec).await?;
    if let Some((id, continuation)) = rest {
        let rest = Rest::Engine(continuation, true);
        keep(call, id, namespace_of(&page)?, rest).await;
    }
    Ok(page)
}

async fn find(call: &Call<'_>) -> Answer {
    let spec = checked_query(call, call.body(), call.name)?;
    views::check_collation(call, call.name).await?;
    projections::check_view(call, &spec).await?;
    if let Some(near) = aggregated::of_near(call.body())? {
        let spec = aggregation::checked_spec(call, &raw(&near))?;
        return first_page(call, call.budget(), Statement::AGGREGATE, &spec).await;
    }
    let is_sorted =
        matches!(field_of(&spec, "sort")?, Some(RawBsonRef::Document(sort)) if !sort.is_empty());
    let spec = if is_sorted {
        hints::within(call, call.collection()?, spec, "filter").await?
    } else {
        spec
    };
    let spec = ties::in_find(call, spec).await?;
    if let Some(RawBsonRef::Document(sort)) = field_of(&spec, "sort")? {
        let sort = Document::try_from(sort)?;
        let ties = sorting::ties(call, call.body(), &sort).await?;
        if !ties.is_empty() {
            let spec = raw(&sorting::told_apart(&spec, &sort, &ties)?);
            return first_page(call, call.budget(), Statement::AGGREGATE, &spec).await;
        }
    }
    let spec = spread::query(call, call.collection()?, spec, "filter").await?;
    let spec = positions::in_find(call, spec).await?;
    let spec = hints::in_order(call, spec).await?;
    let spec = hints::within(call, call.collection()?, spec, "filter").await?;
    let spec = hashed::with_hint(spec)?;
    let (statement, spec) = orders::of_find(call, spec).await?;
    let answer = match first_page(call, call.budget(), statement, &spec).await {
        Ok(answer) => unread::check_find(call, &answer).await.map(|()| answer),
        failed => failed,
    };
    answer.map_err(|error| match call.body().get_document("projection") {
        Ok(projection) => aggregation::of_projection(error, projection),
        Err(_) => error,
    })
}

/// Returns a query as the engine may run it, whether it runs or is explained.
pub(super) fn checked_query(
    call: &Call<'_>,
    query: &RawDocument,
    name: &str,
) -> Result<RawDocumentBuf, CommandError> {
    call.allow(Action::Read)?;
    super::collection_in(query, name)?;
    if is_true(query, "awaitData") && !is_true(query, "tailable") {
        let message = "Cannot set 'awaitData' without also setting 'tailable'";
        return Err(CommandError::failed_to_parse(message));
    }
    if is_true(query, "tailable") {
        return Err(CommandError::not_supported("a tailable cursor"));
    }
    if name == "find" {
        check_find_options(query)?;
    }
    shapes::check_hint(field_of(query, "hint")?)?;
    if name == "count" {
        for field in ["skip", "limit"] {
            if let Some(other) = field_of(query, field)?
                && !super::is_number(other)
            {
                return Err(no_number("count", field, other)?);
            }
        }
    }
    let found = check_raw_expressions(query)?;
    aggregated::check_near(name, query)?;
    let mut spec = without(query, &GENERIC_FIELDS)?;
    let is_empty = |filter: Option<RawBsonRef<'_>>| match filter {
        None | Some(RawBsonRef::Null) => true,
        Some(RawBsonRef::Document(filter)) => filter.is_empty(),
        Some(_) => false,
    };
    if name == "count" && is_empty(field_of(query, "query")?) {
        spec = without(&spec, &["query"])?;
        spec.append(bson::cstr!("query"), raw(&every_document()));
    }
    for (field, named) in [
        ("filter", bson::cstr!("filter")),
        ("query", bson::cstr!("query")),
    ] {
        if let Some(RawBsonRef::Document(filter)) = field_of(&spec, field)?
            && !positions::is_asked(query)?
            && let Some(chosen) = chosen(&Document::try_from(filter)?)
        {
            spec = without(&spec, &[field])?;
            spec.append(named, raw(&chosen));
        }
    }
    if found == Found::Rewritable {
        spec = raw(&rewritten_fields(&spec)?);
    }
    match name {
        "find" => projections::as_read(spec),
        _ => Ok(spec),
    }
}

fn no_number(
    command: &str,
    field: &str,
    other: RawBsonRef<'_>,
) -> Result<CommandError, CommandError> {
    let kind = super::validation::type_name(&Bson::try_from(other)?);
    Ok(CommandError::type_mismatch(format!(
        "BSON field '{command}.{field}' is the wrong type '{kind}', expected types '[long, int, decimal, double]'"
    )))
}

/// Fails where a count is below 0.
pub(super) fn check_not_negative(query: &RawDocument, field: &str) -> Result<(), CommandError> {
    match field_of(query, field)?.and_then(integer) {
        Some(number) if number < 0 => {
            let message =
                format!("BSON field '{field}' value must be >= 0, actual value '{number}'");
            Err(CommandError::new(51024, "Location51024", message))
        }
        _ => Ok(()),
    }
}

/// What the engine would take and not do.
fn check_find_options(query: &RawDocument) -> Result<(), CommandError> {
    shapes::FIND.check(query)?;
    for field in ["skip", "limit", "batchSize"] {
        if let Some(other) = field_of(query, field)?
            && !super::is_number(other)
        {
            return Err(no_number("find", field, other)?);
        }
        check_not_negative(query, field)?;
    }
    if let Some(RawBsonRef::Document(sort)) = field_of(query, "sort")? {
        check_sort(&Document::try_from(sort)?)?;
    }
    if let Some(RawBsonRef::Document(projection)) = field_of(query, "projection")? {
        for element in projection {
            let (path, value) = element?;
            if matches!(value, RawBsonRef::Document(inner) if inner.is_empty()) {
                let message = format!(
                    "An empty sub-projection is not a valid value. Found empty object at path {path}"
                );
                return Err(CommandError::new(51270, "Location51270", message));
            }
        }
    }
    for field in ["min", "max"] {
        if matches!(field_of(query, field)?, Some(RawBsonRef::Document(bound)) if !bound.is_empty())
        {
            return Err(CommandError::not_supported(format_args!(
                "the option '{field}' of find"
            )));
        }
    }
    Ok(())
}

pub(super) async fn documents(call: &Call<'_>, statement: Statement) -> Answer {
    let spec = checked_query(call, call.body(), call.name)?;
    views::check_collation(call, call.name).await?;
    views::check_limit(call).await?;
    let spec = hints::within(call, call.collection()?, spec, "query").await?;
    let spec = spread::query(call, call.collection()?, spec, "query").await?;
    let spec = hashed::with_hint(spec)?;
    statement.answer(call, call.budget(), &spec).await
}

/// Runs what opens a cursor and keeps what is left of it.
pub(super) async fn first_page(
    call: &Call<'_>,
    budget: Budget<'_>,
    statement: Statement,
    spec: &RawDocument,
) -> Answer {
    let is_read = !matches!(
        statement,
        Statement::LIST_INDEXES | Statement::LIST_COLLECTIONS
    );
    let opened = if is_read {
        pages::in_order(call, budget, statement, spec).await
    } else {
        pages::open(call, budget, statement, spec).await
    };
    let (page, rest) = match opened {
        Err(error) if error.message.starts_with(NOWHERE) => {
            return outputs::nothing_near(call, spec, error).await;
        }
        opened => opened?,
    };
    if let Some((id, continuation)) = rest {
        let rest = Rest::Engine(continuation, full::ends_cursor(call.body())?);
        keep(call, id, namespace_of(&page)?, rest).await;
    } else if is_read && !full::ends_cursor(call.body())? && full::is_first(call.body(), &page)? {
        let id = own_id();
        keep(call, id, namespace_of(&page)?, nothing_left()).await;
        return full::still_open(&page, id);
    }
    Ok(page)
}

fn namespace_of(page: &RawDocument) -> Result<&str, CommandError> {
    Ok(page.get_document("cursor")?.get_str("ns")?)
}

async fn keep(call: &Call<'_>, id: i64, namespace: &str, rest: Rest) {
    let per_user = call.server.settings.limits.cursors_per_user;
    let reader = cursor_reader(call, namespace);
    let gone = call.server.cursors.keep(id, &reader, rest, per_user);
    delete_cursors(call.server, call.budget_outside(), gone).await;
}

fn cursor_reader<'a>(call: &Call<'a>, namespace: &'a str) -> Reader<'a> {
    let fields = call.fields;
    Reader {
        owner: call.user_name,
        namespace,
        session: fields.session.as_ref().map(|session| session.id),
        transaction: fields.number.filter(|_| fields.in_transaction),
    }
}

async fn get_more(call: &Call<'_>) -> Answer {
    let body = call.body();
    shapes::GET_MORE.check(body)?;
    let id = body.get_i64("getMore")?;
    check_not_negative(body, "batchSize")?;
    let collection = body.get_str("collection")?;
    if collection.is_empty() {
        return Err(super::invalid_namespace(call.database, collection));
    }
    let namespace = format!("{}.{collection}", call.database);
    let cursors = &call.server.cursors;
    let rest = cursors.take(id, &cursor_reader(call, &namespace))?;
    let answer = match rest {
        Rest::Engine(continuation, ends_full) => {
            next_page(call, id, &continuation, ends_full).await
        }
        Rest::Documents(documents, from) => own_page(call, (id, &namespace), &documents, from),
    };
    match &answer {
        Ok((_, Some(rest))) => keep(call, id, &namespace, rest.clone()).await,
        // Read to its end, or broken.
        _ => drop(cursors.close(id, call.user_name, call.database)),
    }
    answer.map(|(page, _)| page)
}

async fn next_page(
    call: &Call<'_>,
    id: i64,
    continuation: &[u8],
    ends_full: bool,
) -> Result<(RawDocumentBuf, Option<Rest>), CommandError> {
    // Rights may have been taken away since the cursor was opened.
    call.allow(Action::Look)?;
    if !matches!(call.body().get("maxTimeMS")?, None | Some(RawBsonRef::Null)) {
        return Err(CommandError::bad_value(
            "cannot set maxTimeMS on getMore command for a non-awaitData cursor",
        ));
    }
    let (page, rest) = pages::more(call, &call.spec()?, continuation).await?;
    if rest.is_none() && !ends_full && full::is_next(call.body(), &page)? {
        return Ok((full::still_open(&page, id)?, Some(nothing_left())));
    }
    Ok((page, rest.map(|rest| Rest::Engine(rest, ends_full))))
}

/// Returns a cursor's field over documents that are not the engine's; what does not fit is kept.
pub(super) async fn own_cursor(
    call: &Call<'_>,
    namespace: &str,
    documents: Vec<RawDocumentBuf>,
) -> Result<Document, CommandError> {
    let options = call.body().get_document("cursor").ok();
    let size = options.and_then(|options| options.get("batchSize").ok()?.and_then(integer));
    let (end, batch) = page_of(&documents, 0, size)?;
    let mut id = 0;
    if end < documents.len() {
        id = own_id();
        keep(
            call,
            id,
            namespace,
            Rest::Documents(Arc::new(documents), end),
        )
        .await;
    }
    Ok(doc! { "cursor": { "id": id, "firstBatch": batch, "ns": namespace } })
}

/// Positive, as MongoDB's own, and far from the engine's.
fn own_id() -> i64 {
    i64::from_le_bytes(random()) & i64::MAX | 1
}

/// What is left behind a page that took the last document.
fn nothing_left() -> Rest {
    Rest::Documents(Arc::default(), 0)
}

fn own_page(
    call: &Call<'_>,
    (id, namespace): (i64, &str),
    documents: &Arc<Vec<RawDocumentBuf>>,
    from: usize,
) -> Result<(RawDocumentBuf, Option<Rest>), CommandError> {
    let size = call.body().get("batchSize")?.and_then(integer);
    let (end, batch) = page_of(documents, from, size.filter(|size| *size > 0))?;
    let rest = (end < documents.len()).then(|| Rest::Documents(Arc::clone(documents), end));
    let id = if rest.is_some() { id } else { 0 };
    let page = doc! { "cursor": { "id": id, "nextBatch": batch, "ns": namespace }, "ok": 1.0 };
    Ok((raw(&page), rest))
}

/// As many documents as were asked for and fit into an answer, and where the next page begins.
fn page_of(
    documents: &[RawDocumentBuf],
    from: usize,
    size: Option<i64>,
) -> Result<(usize, Vec<Bson>), CommandError> {
    let most = size
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(usize::MAX);
    let (mut bytes, mut batch) = (0, Vec::new());
    for document in documents[from..].iter().take(most) {
        bytes += document.as_bytes().len();
        if bytes > DOCUMENT_BYTES_MAX && !batch.is_empty() {
            break;
        }
        batch.push(Bson::Document(Document::try_from(document.as_ref())?));
    }
    Ok((from + batch.len(), batch))
}

async fn kill_cursors(call: &Call<'_>) -> Answer {
    let body = call.body();
    shapes::KILL_CURSORS.check(body)?;
    super::check_namespace(body, call.name)?;
    // Nothing is killed where anything is no cursor.
    let mut wanted = Vec::new();
    for id in body.get_array("cursors")? {
        match id? {
            RawBsonRef::Int64(id) => wanted.push(id),
            other => {
                let other = super::validation::type_name(&Bson::try_from(other)?);
                return Err(CommandError::type_mismatch(format!(
                    "BSON field 'killCursors.cursors.0' is the wrong type '{other}', expected type 'long'"
                )));
            }
        }
    }
    let (mut killed, mut not_found) = (Vec::new(), Vec::new());
    for id in wanted {
        let cursors = &call.server.cursors;
        if cursors.close(id, call.user_name, call.database) {
            killed.push(id);
        } else {
            not_found.push(id);
        }
    }
    delete_cursors(call.server, call.budget_outside(), killed.clone()).await;
    let none: [i64; 0] = [];
    Ok(raw(&doc! {
        "cursorsKilled": killed, "cursorsNotFound": not_found, "cursorsAlive": none.to_vec(), "cursorsUnknown": none.to_vec(), "ok": 1.0,
    }))
}

/// Frees the engine's files now; they would expire by themselves.
pub(super) async fn delete_cursors(server: &Server, budget: Budget<'_>, ids: Vec<i64>) {
    if ids.is_empty() {
        return;
    }
    if let Err(error) = server.backend.rows(budget, DELETE_CURSORS, &[&ids]).await {
        tracing::debug!(error = error.message, "could not delete cursors early");
    }
}

/// Returns this database's collections with this filter as the engine lists them.
pub(super) async fn collections(
    call: &Call<'_>,
    filter: Document,
) -> Result<Vec<Document>, CommandError> {
    let spec =
        raw(&doc! { "listCollections": 1, "filter": filter, "cursor": { "batchSize": 1000 } });
    let page = Statement::LIST_COLLECTIONS
        .answer(call, call.budget(), &spec)
        .await?;
    let mut collections = Vec::new();
    for collection in page.get_document("cursor")?.get_array("firstBatch")? {
        if let RawBsonRef::Document(collection) = collection? {
            collections.push(Document::try_from(collection)?);
        }
    }
    Ok(collections)
}

/// Returns the names of this database's collections, without views.
pub(super) async fn collections_of(call: &Call<'_>) -> Result<Vec<String>, CommandError> {
    let listed = collections(call, doc! { "type": "collection" }).await?;
    let name = |collection: &Document| collection.get_str("name").ok().map(str::to_owned);
    Ok(listed.iter().filter_map(name).collect())
}

/// Returns a collection's validator, if it has one.
pub(super) async fn validator_of(call: &Call<'_>, collection: &str) -> Option<Document> {
    let listed = collections(call, doc! { "name": collection }).await.ok()?;
    let options = listed.first()?.get_document("options").ok()?;
    let validator = options.get_document("validator").ok()?;
    Some(as_written(validator).unwrap_or(validator).clone())
}

/// Fails where the engine does not understand a filter; it looks at one only when it is used.
pub(super) async fn check_filter(
    call: &Call<'_>,
    filter: &RawDocument,
) -> Result<(), CommandError> {
    let filter = rewritten_fields(filter)?;
    let spec = raw(&doc! { "count": "arena.nothing", "query": filter });
    let answer = Statement::COUNT.answer(call, call.budget(), &spec);
    answer.await.map(drop)
}

/// Returns the `_id`s that a find finds.
pub(super) async fn ids_of(call: &Call<'_>, find: &RawDocument) -> Result<Vec<Bson>, CommandError> {
    let mut ids = Vec::new();
    for document in documents_of(call, find).await? {
        if let Some(id) = document.get("_id")? {
            ids.push(Bson::try_from(id)?);
        }
    }
    Ok(ids)
}

/// Returns the documents that a find finds, in MongoDB's order.
pub(super) async fn documents_of(
    call: &Call<'_>,
    find: &RawDocument,
) -> Result<Vec<RawDocumentBuf>, CommandError> {
    let (statement, spec) = orders::of_find(call, checked_query(call, find, "find")?).await?;
    documents_by(call, statement, spec).await
}

/// Returns the documents that a find finds, in any order.
pub(super) async fn some_documents_of(
    call: &Call<'_>,
    find: &RawDocument,
) -> Result<Vec<RawDocumentBuf>, CommandError> {
    documents_by(call, Statement::FIND, checked_query(call, find, "find")?).await
}

async fn documents_by(
    call: &Call<'_>,
    statement: Statement,
    mut spec: RawDocumentBuf,
) -> Result<Vec<RawDocumentBuf>, CommandError> {
    spec.append(bson::cstr!("batchSize"), 100_000);
    spec.append(bson::cstr!("singleBatch"), true);
    let page = statement.answer(call, call.budget(), &spec).await?;
    let mut documents = Vec::new();
    for document in page.get_document("cursor")?.get_array("firstBatch")? {
        if let RawBsonRef::Document(document) = document? {
            documents.push(document.to_owned());
        }
    }
    Ok(documents)
}

/// Counts a collection's documents. Without a filter the engine would tell an estimate.
pub(super) async fn count_of(call: &Call<'_>, collection: &str) -> Result<i64, CommandError> {
    let spec = raw(&doc! { "count": collection, "query": every_document() });
    let answer = Statement::COUNT.answer(call, call.budget(), &spec).await?;
    Ok(answer.get("n")?.and_then(integer).unwrap_or(0))
}

fn every_document() -> Document {
    doc! { "_id": { "$gte": Bson::MinKey } }
}

/// Returns a collection's indexes as the engine lists them.
pub(super) async fn indexes_of(
    call: &Call<'_>,
    collection: &str,
) -> Result<Vec<RawDocumentBuf>, CommandError> {
    let spec = rawdoc! { "listIndexes": collection };
    let page = Statement::LIST_INDEXES
        .answer(call, call.budget_outside(), &spec)
        .await?;
    let mut indexes = Vec::new();
    for index in page.get_document("cursor")?.get_array("firstBatch")? {
        if let RawBsonRef::Document(index) = index? {
            indexes.push(hashed::listed(index)?);
        }
    }
    Ok(indexes)
}
