//! Operators that take something away: `$pull`, `$pullAll`, `$pop` and `$unset`.
//! Where their path leads nowhere MongoDB finds nothing to take; the engine makes
//! the documents on the way, or refuses a way through an array. Such an operator
//! is left out for the documents in which it finds nothing.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, bson, doc};

use super::{Call, raw, reading, updates};
use crate::error::CommandError;

const OPERATORS: [&str; 4] = ["$pull", "$pullAll", "$pop", "$unset"];

/// In how many documents removals may find nothing.
const PARTS_MAX: i32 = 10_000;

/// What takes away on a path of several parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removal {
    operator: String,
    path: String,
}

/// Returns a statement's removals whose paths may lead nowhere.
pub(super) fn of(statement: &RawDocument) -> Result<Vec<Removal>, CommandError> {
    let mut removals = Vec::new();
    let Some(RawBsonRef::Document(update)) = updates::update_in(statement)? else {
        return Ok(removals);
    };
    for operator in OPERATORS {
        let Some(RawBsonRef::Document(fields)) = update.get(operator)? else {
            continue;
        };
        for field in fields {
            let path = field?.0.as_str();
            let is_plain = path.split('.').all(|part| !part.is_empty());
            if path.contains('.') && is_plain && !path.contains(".$") {
                removals.push(Removal {
                    operator: operator.to_owned(),
                    path: path.to_owned(),
                });
            }
        }
    }
    Ok(removals)
}

/// Returns a statement on one document without the removals that find nothing in it, if there are such.
pub(super) async fn prepared(
    call: &Call<'_>,
    collection: &str,
    statement: &RawDocument,
) -> Result<Option<RawDocumentBuf>, CommandError> {
    let removals = of(statement)?;
    if removals.is_empty() {
        return Ok(None);
    }
    let lost = lost(&removals, &filter_of(statement)?);
    if ids(call, collection, statement, &lost, 1).await?.is_empty() {
        return of_nobody(call, collection, statement, &removals).await;
    }
    if super::is_true(statement, "multi") {
        return Ok(None);
    }
    of_one(call, collection, statement, &removals).await
}

/// Returns the two parts of a statement on many documents in some of which its removals find nothing: what runs for
/// the others, and what runs for these.
pub(super) async fn parts(
    call: &Call<'_>,
    collection: &str,
    statement: &RawDocument,
) -> Result<Option<[RawDocumentBuf; 2]>, CommandError> {
    let removals = of(statement)?;
    if removals.is_empty() || !super::is_true(statement, "multi") {
        return Ok(None);
    }
    let filter = filter_of(statement)?;
    let lost = ids(
        call,
        collection,
        statement,
        &lost(&removals, &filter),
        PARTS_MAX + 1,
    )
    .await?;
    if lost.is_empty() {
        return Ok(None);
    }
    if lost.len() > usize::try_from(PARTS_MAX).unwrap_or(usize::MAX) {
        return Err(CommandError::not_supported(
            "taking away on a path that more than ten thousand of the documents do not have",
        ));
    }
    let these = doc! { "_id": { "$in": &lost } };
    let mut useless = Vec::new();
    for removal in &removals {
        let finding = doc! { "$and": [&these, { "$expr": removal.found() }] };
        let finding = ids(call, collection, statement, &finding, PARTS_MAX).await?;
        if finding.is_empty() {
            useless.push(removal);
        } else if finding.len() < lost.len() {
            return Err(CommandError::not_supported(
                "taking away on several paths of which documents have some and not others",
            ));
        }
    }
    let others = doc! { "$and": [filter, { "_id": { "$nin": lost } }] };
    Ok(Some([
        without(statement, &[], Some(&others))?,
        without(statement, &useless, Some(&these))?,
    ]))
}

/// A filter of the documents in which some of the removals find nothing.
fn lost(removals: &[Removal], filter: &Document) -> Document {
    let found: Vec<Bson> = removals.iter().map(Removal::found).collect();
    doc! { "$and": [filter, { "$expr": { "$not": [{ "$and": found }] } }] }
}

/// An upsert that meets nothing makes a document without what is taken away.
async fn of_nobody(
    call: &Call<'_>,
    collection: &str,
    statement: &RawDocument,
    removals: &[Removal],
) -> Result<Option<RawDocumentBuf>, CommandError> {
    let filter = filter_of(statement)?;
    if !super::is_true(statement, "upsert")
        || !ids(call, collection, statement, &filter, 1)
            .await?
            .is_empty()
    {
        return Ok(None);
    }
    let all: Vec<&Removal> = removals.iter().collect();
    without(statement, &all, None).map(Some)
}

/// The document that is changed is the one that a find finds first.
async fn of_one(
    call: &Call<'_>,
    collection: &str,
    statement: &RawDocument,
    removals: &[Removal],
) -> Result<Option<RawDocumentBuf>, CommandError> {
    let filter = filter_of(statement)?;
    let first = ids(call, collection, statement, &filter, 1).await?;
    let Some(id) = first.first() else {
        return Ok(None);
    };
    let only = doc! { "_id": id };
    let mut useless = Vec::new();
    for removal in removals {
        let finding = doc! { "$and": [&only, { "$expr": removal.found() }] };
        if ids(call, collection, statement, &finding, 1)
            .await?
            .is_empty()
        {
            useless.push(removal);
        }
    }
    without(statement, &useless, Some(&doc! { "$and": [only, filter] })).map(Some)
}

impl Removal {
    /// An expression that is true for the documents that the engine treats as MongoDB does.
    fn found(&self) -> Bson {
        let mut at = Bson::String("$$ROOT".to_owned());
        let mut is_open = Vec::new();
        for (number, part) in self.path.split('.').enumerate() {
            let field =
                bson!({ "$getField": { "field": { "$literal": part }, "input": "$$arenaAt" } });
            let is_object = bson!({ "$eq": [{ "$type": "$$arenaAt" }, "object"] });
            let mut next = bson!({ "$cond": [is_object, field, "$$REMOVE"] });
            let position = part.parse::<i32>().ok();
            if let Some(position) = position {
                let element = bson!({ "$arrayElemAt": ["$$arenaAt", position] });
                next = bson!({ "$cond": [{ "$isArray": ["$$arenaAt"] }, element, next] });
            }
            if number > 0 {
                let ways = match position {
                    Some(_) => bson!(["object", "array", "missing"]),
                    None => bson!(["object", "missing"]),
                };
                is_open.push(bson!({ "$in": [{ "$type": at.clone() }, ways] }));
            }
            at = bson!({ "$let": { "vars": { "arenaAt": at }, "in": next } });
        }
        let is_there = bson!({ "$ne": [{ "$type": at }, "missing"] });
        match self.operator.as_str() {
            // Only a way through something else is refused by the engine.
            "$unset" => bson!({ "$and": is_open }),
            // That way is refused by both.
            _ => bson!({ "$or": [is_there, { "$not": [{ "$and": is_open }] }] }),
        }
    }
}

pub(super) fn filter_of(statement: &RawDocument) -> Result<Document, CommandError> {
    for field in ["q", "query"] {
        if let Some(RawBsonRef::Document(filter)) = statement.get(field)? {
            return Ok(Document::try_from(filter)?);
        }
    }
    Ok(Document::new())
}

async fn ids(
    call: &Call<'_>,
    collection: &str,
    statement: &RawDocument,
    filter: &Document,
    limit: i32,
) -> Result<Vec<Bson>, CommandError> {
    let mut find = bson::rawdoc! { "find": collection, "projection": { "_id": 1 }, "limit": limit };
    find.append(bson::cstr!("filter"), raw(filter));
    for (field, from) in [
        (bson::cstr!("sort"), statement),
        (bson::cstr!("collation"), statement),
        (bson::cstr!("let"), call.body()),
    ] {
        if let Some(RawBsonRef::Document(part)) = from.get(field.as_str())? {
            find.append(field, part);
        }
    }
    reading::ids_of(call, &find).await
}

/// A statement without some of its removals, with another filter where one is given. One that changes nothing any
/// more still meets its documents.
fn without(
    statement: &RawDocument,
    removals: &[&Removal],
    filter: Option<&Document>,
) -> Result<RawDocumentBuf, CommandError> {
    let Some(RawBsonRef::Document(update)) = updates::update_in(statement)? else {
        return Err(CommandError::internal());
    };
    let mut kept = Document::new();
    for (operator, fields) in Document::try_from(update)? {
        let Bson::Document(fields) = fields else {
            kept.insert(operator, fields);
            continue;
        };
        let is_useless = |path: &String| {
            let mut removals = removals.iter();
            removals.any(|removal| removal.operator == operator && removal.path == *path)
        };
        let fields: Document = fields
            .into_iter()
            .filter(|(path, _)| !is_useless(path))
            .collect();
        if !fields.is_empty() {
            kept.insert(operator, fields);
        }
    }
    if kept.is_empty() {
        kept = updates::nothing();
    }
    let mut changes = Vec::new();
    for field in ["u", "update"] {
        if statement
            .get(field)?
            .is_some_and(|update| update.as_document().is_some())
        {
            changes.push((field, Some(RawBson::Document(raw(&kept)))));
        }
    }
    let named = if statement.get("q")?.is_some() {
        "q"
    } else {
        "query"
    };
    changes.extend(filter.map(|filter| (named, Some(RawBson::Document(raw(filter))))));
    let changed = updates::with_changes(statement, &changes)?;
    Ok(changed.unwrap_or_else(|| statement.to_owned()))
}
