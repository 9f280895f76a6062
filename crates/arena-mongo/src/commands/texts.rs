//! What `$text` finds. The engine's own search takes words otherwise than MongoDB, so
//! the texts of a collection are read and looked through here, page by page, and the
//! command runs with the `_id`s of what was found. It goes on asking for everything
//! else, so a document that no longer fits is not found. How scores and the order
//! come in is in `scores.rs`, what a word is in `crate::text`.

use std::cmp::Ordering;

use bson::{Bson, Document, RawArray, RawBsonRef, RawDocument, RawDocumentBuf, doc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::statements::Statement;
use super::{Answer, Call, aggregation, pages, raw, reading, scores, without, writing};
use crate::error::CommandError;
use crate::text::{Found, Question, Sensitive, TextIndex};
use crate::wire::{Framing, Request};

/// What is found must fit into the command that goes on.
const FOUND_MAX: usize = 100_000;
const FOUND_BYTES_MAX: usize = 10 * 1024 * 1024;
const NO_HINT: &str = "text and hint not allowed in same query";

/// A document that was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Match {
    pub(super) id: Bson,
    pub(super) found: Found,
}

/// A filter without its `$text`, and what that one finds in MongoDB's order.
pub(super) struct Asked {
    rest: Document,
    pub(super) matches: Vec<Match>,
}

impl Asked {
    /// Returns the filter of what was found.
    pub(super) fn filter(&self) -> Document {
        let ids = self.matches.iter().map(|found| found.id.clone()).collect();
        let ids = doc! { "$in": Bson::Array(ids) };
        let mut filter = self.rest.clone();
        // What is inserted where nothing is found has the _id that was asked for.
        if self.matches.is_empty() && filter.contains_key("_id") {
            return doc! { "$and": [filter, { "_id": ids }] };
        }
        // An _id that was found answers to all that is asked of it, and never changes.
        filter.insert("_id", ids);
        filter
    }

    /// Puts first what has the best score; of the same score, what was inserted first.
    pub(super) fn sort_by_score(&mut self) {
        self.matches.reverse();
        self.matches
            .sort_by(|one, other| descending(one.found.score, other.found.score));
    }
}

/// Where `$text` is asked for, and what else the command says of its filter.
struct Place<'a> {
    collection: &'a str,
    filter: &'a RawDocument,
    command: &'a RawDocument,
}

/// Runs a find, count or distinct of texts; nothing for others.
pub(super) async fn read(call: &Call<'_>) -> Option<Answer> {
    let field = if call.name == "find" {
        "filter"
    } else {
        "query"
    };
    let filter = call.body().get_document(field).ok()?;
    may_ask(filter).then_some(())?;
    let answer = async {
        let place = Place::of(call, filter)?;
        let Some(asked) = place.found(call).await? else {
            return Ok(None);
        };
        let (name, body) = match call.name {
            "find" => scores::find(call.body(), asked)?,
            name => (name, with_filter(call.body(), field, &asked.filter())?),
        };
        run(call, name, body).await.map(Some)
    };
    answer.await.transpose()
}

/// Runs a pipeline that begins with texts; nothing for others.
pub(super) async fn aggregate(call: &Call<'_>) -> Option<Answer> {
    let stages = call.body().get_array("pipeline").ok()?;
    may_ask_bytes(stages.as_bytes()).then_some(())?;
    let answer = async {
        let Bson::Array(stages) = Bson::try_from(RawBsonRef::Array(stages))? else {
            return Ok(None);
        };
        scores::check_places(&stages, true)?;
        let first = stages.first().and_then(Bson::as_document);
        let filter = first.and_then(|first| first.get_document("$match").ok());
        let (Some(filter), Ok(collection)) = (filter, call.body().get_str("aggregate")) else {
            return Ok(None);
        };
        let filter = raw(filter);
        let place = Place {
            collection,
            filter: &filter,
            command: call.body(),
        };
        let Some(asked) = place.found(call).await? else {
            return Ok(None);
        };
        let stages = scores::pipeline(asked, &stages[1..])?;
        let mut body = without(call.body(), &["pipeline"])?;
        let stages = bson::RawBson::try_from(Bson::Array(stages))?;
        body.append(bson::cstr!("pipeline"), stages);
        run(call, "aggregate", body).await.map(Some)
    };
    answer.await.transpose()
}

/// Runs a write of what has texts; nothing for others. Of several statements each one is a command of its own.
pub(super) async fn write(call: &Call<'_>, statements: &[&RawDocument]) -> Option<Answer> {
    let (field, all) = match call.name {
        "update" => ("updates", "multi"),
        "delete" => ("deletes", "limit"),
        _ => return None,
    };
    let [statement] = statements else {
        return None;
    };
    let filter = statement.get_document("q").ok()?;
    may_ask(filter).then_some(())?;
    let answer = async {
        let place = Place {
            collection: call.collection()?,
            filter,
            command: statement,
        };
        let Some(mut asked) = place.found(call).await? else {
            return Ok(None);
        };
        let takes_all = match field {
            "updates" => super::is_true(statement, all),
            _ => statement.get(all)?.and_then(super::integer) == Some(0),
        };
        if !takes_all && statement.get("sort")?.is_none() {
            asked.matches.truncate(1);
        }
        let statement = with_filter(statement, "q", &asked.filter())?;
        let mut body = without(call.body(), &[field])?;
        let mut statements = bson::RawArrayBuf::new();
        statements.push(statement);
        body.append(bson::raw::CString::try_from(field)?, statements);
        run(call, call.name, body).await.map(Some)
    };
    answer.await.transpose()
}

/// Runs a findAndModify of what has texts; nothing for others.
pub(super) async fn find_and_modify(call: &Call<'_>) -> Option<Answer> {
    let filter = call.body().get_document("query").ok()?;
    may_ask(filter).then_some(())?;
    let answer = async {
        let place = Place::of(call, filter)?;
        let Some(mut asked) = place.found(call).await? else {
            return Ok(None);
        };
        let options = Bson::Document(Document::try_from(without(call.body(), &["query"])?)?);
        if scores::is_used(&options) {
            return Err(CommandError::not_supported(
                "{$meta: 'textScore'} in a findAndModify",
            ));
        }
        if call.body().get("sort")?.is_none() {
            asked.matches.truncate(1);
        }
        let body = with_filter(call.body(), "query", &asked.filter())?;
        run(call, call.name, body).await.map(Some)
    };
    answer.await.transpose()
}

/// Whether a filter may ask for texts.
pub(super) fn may_ask(filter: &RawDocument) -> bool {
    may_ask_bytes(filter.as_bytes())
}

fn may_ask_bytes(bytes: &[u8]) -> bool {
    bytes.windows(6).any(|part| part == b"$text\0")
}

fn with_filter(
    command: &RawDocument,
    field: &str,
    filter: &Document,
) -> Result<RawDocumentBuf, CommandError> {
    let mut changed = RawDocumentBuf::new();
    for element in command {
        let (name, value) = element?;
        if name.as_str() == field {
            changed.append(name, raw(filter));
        } else {
            changed.append(name, value);
        }
    }
    Ok(changed)
}

/// Runs the command that is left when it is known what has the texts.
async fn run(call: &Call<'_>, name: &str, body: RawDocumentBuf) -> Answer {
    let request = Request {
        framing: Framing::Msg { checksum: false },
        is_unanswered: false,
        compressor: None,
        body,
        sequences: Vec::new(),
    };
    let part = Call {
        request: &request,
        name,
        ..*call
    };
    match name {
        "aggregate" => Box::pin(aggregation::run(&part)).await,
        "find" | "count" | "distinct" => Box::pin(reading::run(&part)).await,
        _ => Box::pin(writing::run(&part)).await,
    }
}

impl<'a> Place<'a> {
    /// Where a command asks for one filter.
    fn of(call: &'a Call<'_>, filter: &'a RawDocument) -> Result<Self, CommandError> {
        Ok(Self {
            collection: call.collection()?,
            filter,
            command: call.body(),
        })
    }

    /// Returns what the filter's `$text` finds; nothing where the engine has to say what is wrong with it.
    async fn found(&self, call: &Call<'_>) -> Result<Option<Asked>, CommandError> {
        call.allow(crate::users::Action::Read)?;
        let filter = Document::try_from(self.filter)?;
        let Some((text, rest)) = taken(&filter) else {
            return refused(&filter);
        };
        if asks(&rest, "$text") || asks(&rest, "$near") || asks(&rest, "$nearSphere") {
            return Ok(None);
        }
        let indexes = match reading::indexes_of(call, self.collection).await {
            Err(error) if error.code == 26 => {
                return Err(without_index(format!(
                    "text index required for $text query (no such collection '{}.{}')",
                    call.database, self.collection
                )));
            }
            indexes => indexes.unwrap_or_default(),
        };
        let mut shown = indexes
            .iter()
            .filter(|index| !super::is_true(index, "hidden"));
        let text_index = shown.find_map(|index| TextIndex::of(index));
        let is_hidden = || indexes.iter().any(|index| TextIndex::of(index).is_some());
        if text_index.is_none() && is_hidden() {
            let message = "error processing query: planner returned error :: caused by :: failed to use text index to satisfy $text query (if text index is compound, are equality predicates given for all prefix fields?)";
            return Err(CommandError::new(291, "NoQueryExecutionPlans", message));
        }
        let Some(index) = text_index else {
            return Ok(None);
        };
        let Some(question) = question(&index, &text)? else {
            return Ok(None);
        };
        self.check_options()?;
        check_prefix(&index, &rest)?;
        check_partial(&index, &rest)?;
        let matches = self.search(call, index, question, &rest).await?;
        Ok(Some(Asked { rest, matches }))
    }

    fn check_options(&self) -> Result<(), CommandError> {
        let is_given =
            |hint: RawBsonRef<'_>| hint.as_document().is_none_or(|hint| !hint.is_empty());
        if self.command.get("hint")?.is_some_and(is_given) {
            return Err(CommandError::bad_value(NO_HINT));
        }
        let sort = self.command.get_document("sort").ok();
        if sort.is_some_and(|sort| matches!(sort.get("$natural"), Ok(Some(_)))) {
            return Err(CommandError::bad_value(
                "text expression not allowed with $natural sort order",
            ));
        }
        Ok(())
    }

    /// Reads the texts of what the rest of the filter finds, and keeps what answers the question.
    async fn search(
        &self,
        call: &Call<'_>,
        index: TextIndex,
        question: Question,
        rest: &Document,
    ) -> Result<Vec<Match>, CommandError> {
        let mut find =
            doc! { "find": self.collection, "filter": rest.clone(), "batchSize": 100_000 };
        if !index.partial.is_empty() {
            let both = vec![rest.clone(), index.partial.clone()];
            find.insert("filter", doc! { "$and": both });
        }
        if let Some(fields) = index.fields() {
            let fields = fields.into_iter().map(|field| (field, Bson::Int32(1)));
            let whole_id = ("_id".to_owned(), Bson::Int32(1));
            let fields = fields.filter(|(field, _)| !field.starts_with("_id."));
            find.insert("projection", fields.chain([whole_id]).collect::<Document>());
        }
        for option in ["let", "collation"] {
            if let Some(value) = self.command.get(option)? {
                find.insert(option, Bson::try_from(value)?);
            }
        }
        let spec = reading::checked_query(call, &raw(&find), "find")?;
        let mut search = Search {
            index,
            question,
            matches: Vec::new(),
            bytes: 0,
            place: 0,
            until: Instant::now() + call.time,
            interruption: call.interruption.clone(),
        };
        let opened = pages::open(call, call.budget(), Statement::FIND.in_order(), &spec).await?;
        let (mut page, mut cursor) = opened;
        let mut batch = "firstBatch";
        loop {
            let (looked_through, looked) = search.look(call, page, batch).await?;
            search = looked_through;
            let Some((id, continuation)) = cursor else {
                looked?;
                break;
            };
            if let Err(error) = looked {
                reading::delete_cursors(call.server, call.budget_outside(), vec![id]).await;
                return Err(error);
            }
            let more = bson::rawdoc! { "getMore": id, "collection": self.collection, "batchSize": 100_000 };
            let (next, continuation) = pages::more(call, &more, &continuation).await?;
            (page, cursor) = (next, continuation.map(|continuation| (id, continuation)));
            batch = "nextBatch";
        }
        search.matches.sort_by(in_mongodbs_order);
        let matches = search.matches.into_iter();
        Ok(matches.map(|(_, found)| found).collect())
    }
}

/// What is looked for and what was found so far, with its place among all.
struct Search {
    index: TextIndex,
    question: Question,
    matches: Vec<(usize, Match)>,
    bytes: usize,
    place: usize,
    until: Instant,
    interruption: CancellationToken,
}

impl Search {
    /// Looks through a page where it holds up nobody, as one of the user's statements.
    async fn look(
        mut self,
        call: &Call<'_>,
        page: RawDocumentBuf,
        batch: &'static str,
    ) -> Result<(Self, Result<(), CommandError>), CommandError> {
        let _turn = call.place.share.turn().await?;
        let looking = tokio::task::spawn_blocking(move || {
            let documents = page
                .get_document("cursor")
                .and_then(|cursor| cursor.get_array(batch));
            let looked = match documents {
                Ok(documents) => self.take(documents),
                Err(error) => Err(error.into()),
            };
            (self, looked)
        });
        looking.await.map_err(|_| CommandError::internal())
    }

    fn take(&mut self, documents: &RawArray) -> Result<(), CommandError> {
        for document in documents {
            let RawBsonRef::Document(document) = document? else {
                continue;
            };
            if self.interruption.is_cancelled() {
                return Err(CommandError::interrupted());
            }
            if Instant::now() > self.until {
                return Err(CommandError::time_limit());
            }
            self.place += 1;
            let Some(found) = self.index.answer(&self.question, document) else {
                continue;
            };
            let Some(id) = document.get("_id")? else {
                continue;
            };
            let id = Bson::try_from(id)?;
            self.bytes += raw(&doc! { "": id.clone() }).as_bytes().len();
            if self.matches.len() >= FOUND_MAX || self.bytes > FOUND_BYTES_MAX {
                return Err(CommandError::not_supported(format_args!(
                    "a $text that finds more than {FOUND_MAX} documents, or of more than {FOUND_BYTES_MAX} bytes of _id,"
                )));
            }
            self.matches.push((self.place, Match { id, found }));
        }
        Ok(())
    }
}

/// By the first word that is there, of one word by its score, of the same score what was inserted last.
fn in_mongodbs_order(
    (place, one): &(usize, Match),
    (other_place, other): &(usize, Match),
) -> Ordering {
    let (one, other) = (&one.found, &other.found);
    let words = one.first_word.cmp(&other.first_word);
    words
        .then_with(|| descending(one.first_score, other.first_score))
        .then_with(|| other_place.cmp(place))
}

fn descending(one: f64, other: f64) -> Ordering {
    other.total_cmp(&one)
}

fn without_index(message: String) -> CommandError {
    CommandError::new(27, "IndexNotFound", message)
}

/// Takes `$text` out of a filter that asks for it together with all else.
fn taken(filter: &Document) -> Option<(Document, Document)> {
    let mut rest = filter.clone();
    if let Some(text) = rest.remove("$text") {
        return Some((text.as_document()?.clone(), rest));
    }
    let Some(Bson::Array(parts)) = rest.get_mut("$and") else {
        return None;
    };
    let found = parts.iter_mut().find_map(|part| {
        let (text, others) = taken(part.as_document()?)?;
        *part = Bson::Document(others);
        Some(text)
    });
    found.map(|text| (text, rest))
}

/// What is not found by its `_id`s: in a choice MongoDB needs an index for each alternative.
fn refused(filter: &Document) -> Result<Option<Asked>, CommandError> {
    let is_in = |operator| {
        filter
            .get(operator)
            .is_some_and(|parts| asks_in(parts, "$text"))
    };
    if is_in("$or") {
        return Err(CommandError::not_supported("$text in a $or"));
    }
    if is_in("$nor") {
        return Err(CommandError::bad_value(
            "text expression not allowed in nor",
        ));
    }
    Ok(None)
}

fn asks(filter: &Document, operator: &str) -> bool {
    filter
        .iter()
        .any(|(name, value)| name == operator || asks_in(value, operator))
}

pub(super) fn asks_in(value: &Bson, operator: &str) -> bool {
    match value {
        Bson::Document(inner) => asks(inner, operator),
        Bson::Array(values) => values.iter().any(|value| asks_in(value, operator)),
        _ => false,
    }
}

/// Returns the question of a `$text`; nothing where the engine has MongoDB's words for what is wrong with it.
fn question(index: &TextIndex, text: &Document) -> Result<Option<Question>, CommandError> {
    let (Ok(search), Some(language)) = (
        text.get_str("$search"),
        text.get("$language").map_or(Some(""), Bson::as_str),
    ) else {
        return Ok(None);
    };
    let flag = |name: &str| match text.get(name) {
        None => Ok(false),
        Some(Bson::Boolean(is_asked)) => Ok(*is_asked),
        Some(other) => Err(CommandError::type_mismatch(format!(
            "\"{name}\" had the wrong type. Expected bool, found {}",
            super::validation::type_name(other)
        ))),
    };
    let sensitive = Sensitive {
        case: flag("$caseSensitive")?,
        marks: flag("$diacriticSensitive")?,
    };
    let known = [
        "$search",
        "$language",
        "$caseSensitive",
        "$diacriticSensitive",
    ];
    if text.keys().any(|name| !known.contains(&name.as_str())) {
        return Err(CommandError::bad_value("extra fields in $text"));
    }
    index.question(search, language, sensitive).map(Some)
}

/// A partial index answers only what asks for nothing outside it.
fn check_partial(index: &TextIndex, rest: &Document) -> Result<(), CommandError> {
    let is_asked = |(path, wanted): (&String, &Bson)| {
        rest.get(path)
            .is_some_and(|asked| asked == wanted || is_equality(asked))
    };
    if index.partial.iter().all(is_asked) {
        return Ok(());
    }
    Err(CommandError::not_supported(
        "a $text that does not repeat the partialFilterExpression of its index",
    ))
}

fn is_equality(value: &Bson) -> bool {
    match value {
        Bson::Document(operators) => {
            let is_operator = |name: &String| name.starts_with('$');
            operators.contains_key("$eq") || !operators.keys().any(is_operator)
        }
        Bson::RegularExpression(_) => false,
        _ => true,
    }
}

/// A compound index needs to know what is equal to what comes before its texts.
fn check_prefix(index: &TextIndex, rest: &Document) -> Result<(), CommandError> {
    fn has(filter: &Document, path: &str) -> bool {
        let mut parts = filter.get_array("$and").into_iter().flatten();
        filter.get(path).is_some_and(is_equality)
            || parts.any(|part| part.as_document().is_some_and(|part| has(part, path)))
    }
    if index.prefix.iter().all(|path| has(rest, path)) {
        return Ok(());
    }
    let message = "error processing query: planner returned error :: caused by :: failed to use text index to satisfy $text query (if text index is compound, are equality predicates given for all prefix fields?)";
    Err(CommandError::new(291, "NoQueryExecutionPlans", message))
}
