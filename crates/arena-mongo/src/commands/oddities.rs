//! Documents that an update changes otherwise than the engine would: `$inc` and `$mul`
//! of a boolean, and two changes of one element, fail at MongoDB; `$max` of NaN takes
//! every number; `$set` of what differs only in its numbers' types is a change, and
//! `$addToSet` of it is none. They are looked for before, but for the commonest: an
//! update of a document by its `_id` that only computes leaves booleans out, and only
//! where it finds nothing it is looked for one.

mod pulled;
mod several;
mod values;

use std::collections::HashMap;

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, bson, doc};

pub(super) use self::several::are_met;
use self::values::{is_fraction, is_nan, is_zero, value_at};
use super::alike::{has_types, is_alike, is_identical};
use super::duplicates::shell_text;
use super::singly::{self, Done};
use super::{Answer, Call, conflicts, integer, is_true, raw, reading, sorting, updates};
use crate::error::CommandError;

/// So many odd documents of one update are looked at.
const LOOKED_AT_MAX: i32 = 10_000;

/// What of an update is odd in some documents.
#[derive(Debug, Clone)]
enum Oddity {
    /// A number is needed.
    Computes(&'static str, String),
    /// Nothing is added to a decimal, which stays as it is written.
    Idle(String),
    /// NaN is less than it.
    Largest(String),
    /// Something else may be equal to it.
    Set(String, Bson),
    Added(String, Bson),
    /// Documents that fit a condition are taken away; the engine takes arrays for documents, too.
    Pulled(String, Document),
}

/// An update with what is odd in it.
#[derive(Debug)]
pub(super) struct Odd {
    oddities: Vec<Oddity>,
    meetings: Vec<conflicts::Meeting>,
    update: Document,
    filter: Document,
    /// The field of the operation that holds it.
    filter_field: &'static str,
    is_by_id: bool,
}

/// What an update does in one document.
enum Effect {
    Fails(CommandError),
    /// Another update, and another one after it.
    Otherwise(Document, Vec<Bson>),
}

/// Returns what is odd in an update; nothing where that is nothing, or in elements of arrays that it has to find.
pub(super) fn of(operation: &RawDocument) -> Result<Option<Odd>, CommandError> {
    let Some(RawBsonRef::Document(update)) = updates::update_in(operation)? else {
        return Ok(None);
    };
    let mut oddities = Vec::new();
    for element in update {
        let (operator, RawBsonRef::Document(fields)) = element? else {
            continue;
        };
        for field in fields {
            let (path, operand) = field?;
            let path = path.as_str();
            if !path.contains('$') && path.split('.').all(|part| !part.is_empty()) {
                add(&mut oddities, operator.as_str(), path, operand)?;
            }
        }
    }
    let meetings = conflicts::of(operation)?;
    if (oddities.is_empty() && meetings.is_empty()) || updates::has_collation(operation)? {
        return Ok(None);
    }
    let filter_field = if operation.get("q")?.is_some() {
        "q"
    } else {
        "query"
    };
    let filter = match operation.get(filter_field)? {
        Some(RawBsonRef::Document(filter)) => Document::try_from(filter)?,
        _ => return Ok(None),
    };
    let is_by_id = match filter.get("_id") {
        None | Some(Bson::RegularExpression(_)) => false,
        Some(Bson::Document(id)) => !id.keys().any(|key| key.starts_with('$')),
        Some(_) => true,
    };
    Ok(Some(Odd {
        oddities,
        meetings,
        update: Document::try_from(update)?,
        filter,
        filter_field,
        is_by_id,
    }))
}

fn add(
    oddities: &mut Vec<Oddity>,
    operator: &str,
    path: &str,
    operand: RawBsonRef<'_>,
) -> Result<(), CommandError> {
    let path = path.to_owned();
    match (operator, operand) {
        ("$inc", operand) => {
            if is_zero(operand) {
                oddities.push(Oddity::Idle(path.clone()));
            }
            oddities.push(Oddity::Computes("$inc", path));
        }
        ("$mul", _) => oddities.push(Oddity::Computes("$mul", path)),
        (
            "$max",
            RawBsonRef::Int32(_)
            | RawBsonRef::Int64(_)
            | RawBsonRef::Double(_)
            | RawBsonRef::Decimal128(_),
        ) => oddities.push(Oddity::Largest(path)),
        ("$set", operand) if has_types(operand)? => {
            oddities.push(Oddity::Set(path, Bson::try_from(operand)?));
        }
        ("$addToSet", RawBsonRef::Document(added)) if added.get("$each")?.is_some() => {
            if let Some(RawBsonRef::Array(each)) = added.get("$each")? {
                for one in each {
                    add(oddities, operator, &path, one?)?;
                }
            }
        }
        ("$pull", RawBsonRef::Document(condition)) if pulled::may_take_arrays(condition) => {
            oddities.push(Oddity::Pulled(path, Document::try_from(condition)?));
        }
        ("$addToSet", operand) if has_types(operand)? || is_fraction(operand) => {
            oddities.push(Oddity::Added(path, Bson::try_from(operand)?));
        }
        _ => {}
    }
    Ok(())
}

impl Oddity {
    /// Matches the documents in which it is one, and maybe others.
    fn condition(&self) -> Document {
        match self {
            Self::Computes(_, path) => doc! { path: { "$type": "bool" } },
            Self::Idle(path) => doc! { path: { "$type": "decimal" } },
            Self::Largest(path) => doc! { path: f64::NAN },
            Self::Set(path, value) | Self::Added(path, value) => {
                doc! { path: { "$eq": value, "$exists": true } }
            }
            Self::Pulled(path, _) => doc! { path: { "$elemMatch": { "$type": "array" } } },
        }
    }

    /// Whether its condition is the same whatever the update brings.
    fn is_of_any_value(&self) -> bool {
        matches!(
            self,
            Self::Computes(..) | Self::Idle(_) | Self::Largest(_) | Self::Pulled(..)
        )
    }

    fn path(&self) -> &str {
        match self {
            Self::Computes(_, path)
            | Self::Idle(path)
            | Self::Largest(path)
            | Self::Pulled(path, _) => path,
            Self::Set(path, _) | Self::Added(path, _) => path,
        }
    }
}

impl Odd {
    /// Whether it is enough to leave odd documents out: where there is none of them nothing is found.
    pub(super) fn only_computes(&self, operation: &RawDocument) -> bool {
        let computes = |oddity: &Oddity| matches!(oddity, Oddity::Computes(..));
        self.is_by_id
            && self.meetings.is_empty()
            && self.oddities.iter().all(computes)
            && !is_true(operation, "upsert")
    }

    /// Returns an operation so that it leaves out odd documents.
    pub(super) fn guarded(
        &self,
        operation: &RawDocument,
    ) -> Result<Option<RawDocumentBuf>, CommandError> {
        let Some(RawBsonRef::Document(filter)) = operation.get(self.filter_field)? else {
            return Ok(None);
        };
        let mut filter = Document::try_from(filter)?;
        let others = filter.get_array("$nor").cloned().unwrap_or_default();
        // On a way through arrays it is not known what is meant.
        let is_boolean = |oddity: &Oddity| {
            let mut condition = oddity.condition();
            condition.insert("$nor", vec![sorting::has_array(oddity.path())]);
            Bson::Document(condition)
        };
        let left_out = self.oddities.iter().map(is_boolean).chain(others);
        filter.insert("$nor", left_out.collect::<Vec<Bson>>());
        let filter = RawBson::Document(raw(&filter));
        updates::with_changes(operation, &[(self.filter_field, Some(filter))])
    }

    /// Returns the answer to an update that found nothing because of a boolean.
    pub(super) async fn refused(
        &self,
        call: &Call<'_>,
        collection: &str,
        result: &RawDocument,
    ) -> Result<Option<RawDocumentBuf>, CommandError> {
        if result.get("n")?.and_then(integer) != Some(0) || result.get("writeErrors")?.is_some() {
            return Ok(None);
        }
        let Err(error) = self.check(call, collection).await else {
            return Ok(None);
        };
        let said = doc! { "index": 0, "code": error.code, "errmsg": error.message };
        let answer = doc! { "n": 0, "nModified": 0, "writeErrors": [said], "ok": 1.0 };
        Ok(Some(raw(&answer)))
    }

    /// Fails as MongoDB does in the first document that is found.
    pub(super) async fn check(
        &self,
        call: &Call<'_>,
        collection: &str,
    ) -> Result<(), CommandError> {
        for found in self.found(call, collection, 1).await? {
            if let Some(Effect::Fails(error)) = self.effect(&found) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The documents that fit the filter and may be odd.
    async fn found(
        &self,
        call: &Call<'_>,
        collection: &str,
        limit: i32,
    ) -> Result<Vec<Document>, CommandError> {
        let conditions = self.oddities.iter().map(Oddity::condition);
        let conditions: Vec<Document> = conditions.collect();
        if conditions.is_empty() {
            return Ok(Vec::new());
        }
        matching(
            call,
            collection,
            &self.filter,
            &doc! { "$or": conditions },
            limit,
        )
        .await
    }

    /// What an update does in a document, if that is odd.
    fn effect(&self, found: &Document) -> Option<Effect> {
        let (mut update, mut after) = (self.update.clone(), Vec::new());
        for oddity in &self.oddities {
            let value = value_at(found, oddity.path());
            match (oddity, value) {
                (Oddity::Computes(operator, path), Some(Bson::Boolean(_))) => {
                    return Some(Effect::Fails(not_numeric(operator, path, found)));
                }
                (Oddity::Idle(path), Some(Bson::Decimal128(_))) => {
                    update.get_document_mut("$inc").ok()?.remove(path);
                }
                (Oddity::Pulled(path, condition), Some(Bson::Array(held)))
                    if held.iter().any(|one| matches!(one, Bson::Array(_))) =>
                {
                    match pulled::of_documents(condition, held) {
                        Ok(condition) => {
                            let pulled = update.get_document_mut("$pull").ok()?;
                            pulled.insert(path, condition);
                        }
                        Err(error) => return Some(Effect::Fails(error)),
                    }
                }
                (Oddity::Largest(path), Some(value)) if is_nan(value) => {
                    let operand = update.get_document_mut("$max").ok()?.remove(path)?;
                    if !is_nan(&operand) {
                        let set = update.entry("$set".to_owned());
                        let set = set.or_insert_with(|| Bson::Document(Document::new()));
                        set.as_document_mut()?.insert(path, operand);
                    }
                }
                (Oddity::Set(path, new), Some(old))
                    if is_alike(old, new) && !is_identical(old, new) =>
                {
                    after.push(bson!({ "$set": { path: { "$literal": new.clone() } } }));
                }
                (Oddity::Added(path, new), Some(Bson::Array(held)))
                    if held.iter().any(|one| is_alike(one, new))
                        && !held.iter().any(|one| is_identical(one, new)) =>
                {
                    take_from_set(&mut update, path, new);
                }
                _ => {}
            }
        }
        for operator in ["$inc", "$max", "$addToSet"] {
            if update.get_document(operator).is_ok_and(Document::is_empty) {
                update.remove(operator);
            }
        }
        if update.is_empty() {
            update = updates::nothing();
        }
        let is_odd = update != self.update || !after.is_empty();
        is_odd.then_some(Effect::Otherwise(update, after))
    }

    /// The effects on the documents that are odd, by their `_id`s as text.
    async fn effects(
        &self,
        call: &Call<'_>,
        collection: &str,
        filter: &Document,
        limit: i32,
    ) -> Result<Vec<(Bson, Effect)>, CommandError> {
        let mut effects = Vec::new();
        for meeting in &self.meetings {
            let found = matching(call, collection, filter, &meeting.filter, limit).await?;
            for document in found {
                let error = conflicts::error(&meeting.place_in(call, collection, &document).await?);
                effects.extend(
                    document
                        .get("_id")
                        .cloned()
                        .map(|id| (id, Effect::Fails(error))),
                );
            }
        }
        let conditions: Vec<Document> = self.oddities.iter().map(Oddity::condition).collect();
        if !conditions.is_empty() {
            let any = doc! { "$or": conditions };
            for document in matching(call, collection, filter, &any, limit).await? {
                let id = document.get("_id").cloned();
                effects.extend(id.zip(self.effect(&document)));
            }
        }
        Ok(effects)
    }

    /// Runs an update of which a document may be odd; nothing if it may run as it is.
    pub(super) async fn run(
        &self,
        call: &Call<'_>,
        collection: &str,
        operation: &RawDocument,
    ) -> Result<Option<RawDocumentBuf>, CommandError> {
        if !self.is_met(call, collection).await? {
            return Ok(None);
        }
        let effects = self
            .effects(call, collection, &self.filter, LOOKED_AT_MAX)
            .await?;
        if effects.is_empty() {
            return Ok(None);
        }
        let ids = if is_true(operation, "multi") {
            singly::ids(call, collection, operation).await?
        } else {
            Some(first(call, collection, operation, &self.filter).await?)
        };
        let Some(ids) = ids else {
            return Err(CommandError::not_supported(
                "an update of more than ten thousand documents, some of which fail or have numbers of another type,",
            ));
        };
        self.one_by_one(call, collection, operation, (&ids, &effects))
            .await
            .map(Some)
    }

    async fn one_by_one(
        &self,
        call: &Call<'_>,
        collection: &str,
        operation: &RawDocument,
        (ids, effects): (&[Bson], &[(Bson, Effect)]),
    ) -> Answer {
        let prepared = updates::prepared_one(call, collection, operation).await?;
        let plain = prepared.as_deref().unwrap_or(operation);
        let is_one = !is_true(operation, "multi");
        let (mut done, mut waiting, mut fails) = (Done::default(), Vec::new(), None);
        // Ten thousand documents may be odd of ten thousand.
        let key = |id: &Bson| raw(&doc! { "_id": id }).into_bytes();
        let mut by_id = HashMap::new();
        for (id, effect) in effects {
            by_id.entry(key(id)).or_insert(effect);
        }
        for id in ids {
            let (update, after) = match by_id.get(&key(id)).copied() {
                Some(Effect::Fails(error)) => {
                    fails = Some(error.clone());
                    break;
                }
                None if !is_one => {
                    waiting.push(singly::of_one(plain, id)?);
                    continue;
                }
                None => (None, [].as_slice()),
                Some(Effect::Otherwise(update, after)) => (Some(update), after.as_slice()),
            };
            done.add(singly::run(call, &std::mem::take(&mut waiting)).await?);
            if done.has_failed() {
                break;
            }
            let statement = match update {
                None => singly::of_one(plain, id)?,
                Some(update) => {
                    let other = singly::of_one(&with_update(operation, update)?, id)?;
                    let prepared = updates::prepared_one(call, collection, &other).await?;
                    prepared.unwrap_or(other)
                }
            };
            let mut one = if is_one {
                singly::run_once(call, statement).await?
            } else {
                singly::run(call, &[statement]).await?
            };
            if !after.is_empty() && !one.has_failed() {
                let own = doc! { "q": { "_id": { "$eq": id } }, "u": after };
                one.add_to_same(&singly::run(call, &[raw(&own)]).await?);
            }
            done.add(one);
            if done.has_failed() {
                break;
            }
        }
        if !done.has_failed() {
            done.add(singly::run(call, &waiting).await?);
        }
        done.answer(call, collection, fails).await
    }

    /// Whether a document that fits the filter may be odd.
    async fn is_met(&self, call: &Call<'_>, collection: &str) -> Result<bool, CommandError> {
        let conditions = self.oddities.iter().map(Oddity::condition);
        let meetings = self.meetings.iter().map(|meeting| meeting.filter.clone());
        let any: Vec<Document> = conditions.chain(meetings).collect();
        let found = matching(call, collection, &self.filter, &doc! { "$or": any }, 1).await?;
        Ok(!found.is_empty())
    }

    /// Returns a findAndModify as it has to run.
    ///
    /// # Errors
    /// Where it fails in the document that it finds.
    pub(super) async fn found_and_modified(
        &self,
        call: &Call<'_>,
        collection: &str,
        operation: &RawDocument,
    ) -> Result<Option<RawDocumentBuf>, CommandError> {
        if !self.is_met(call, collection).await? {
            return Ok(None);
        }
        let ids = first(call, collection, operation, &self.filter).await?;
        let Some(id) = ids.first() else {
            return Ok(None);
        };
        let own = doc! { "$and": [{ "_id": { "$eq": id } }, &self.filter] };
        let mut effects = self.effects(call, collection, &own, 1).await?;
        let update = match effects.pop().map(|(_, effect)| effect) {
            None => return Ok(None),
            Some(Effect::Fails(error)) => return Err(error),
            Some(Effect::Otherwise(_, after)) if !after.is_empty() => {
                return Err(CommandError::not_supported(
                    "a findAndModify that changes nothing of a value but its numbers' types",
                ));
            }
            Some(Effect::Otherwise(update, _)) => update,
        };
        let pinned = [("query", Some(RawBson::Document(raw(&own))))];
        let other = with_update(operation, &update)?;
        updates::with_changes(&other, &pinned)
    }
}

fn with_update(operation: &RawDocument, update: &Document) -> Result<RawDocumentBuf, CommandError> {
    let field = if operation.get("u")?.is_some() {
        "u"
    } else {
        "update"
    };
    let update = RawBson::Document(raw(update));
    let changed = updates::with_changes(operation, &[(field, Some(update))])?;
    Ok(changed.unwrap_or_else(|| operation.to_owned()))
}

/// The `_id` of the document that an operation takes first, if there is one.
async fn first(
    call: &Call<'_>,
    collection: &str,
    operation: &RawDocument,
    filter: &Document,
) -> Result<Vec<Bson>, CommandError> {
    let mut find = doc! {
        "find": collection, "filter": filter.clone(), "limit": 1, "projection": { "_id": 1 },
    };
    for (name, from) in [("sort", operation), ("let", call.body())] {
        if let Some(RawBsonRef::Document(part)) = from.get(name)? {
            find.insert(name, Document::try_from(part)?);
        }
    }
    reading::ids_of(call, &raw(&find)).await
}

/// Documents that fit two filters. What is wrong with a filter the update says itself.
async fn matching(
    call: &Call<'_>,
    collection: &str,
    filter: &Document,
    condition: &Document,
    limit: i32,
) -> Result<Vec<Document>, CommandError> {
    let mut find = doc! {
        "find": collection, "filter": { "$and": [condition.clone()] }, "limit": limit,
    };
    if !filter.is_empty() {
        find.insert(
            "filter",
            doc! { "$and": [filter.clone(), condition.clone()] },
        );
    }
    if let Some(RawBsonRef::Document(variables)) = call.body().get("let")? {
        find.insert("let", Document::try_from(variables)?);
    }
    let found = reading::documents_of(call, &raw(&find)).await;
    let found = found.unwrap_or_default();
    let documents = found.iter().map(|found| Document::try_from(found.as_ref()));
    Ok(documents.collect::<Result<_, _>>()?)
}

fn not_numeric(operator: &str, path: &str, found: &Document) -> CommandError {
    let id = found.get("_id").map(shell_text).unwrap_or_default();
    let field = path.rsplit('.').next().unwrap_or(path);
    CommandError::type_mismatch(format!(
        "Cannot apply {operator} to a value of non-numeric type. {{_id: {id}}} has the field '{field}' of non-numeric type bool"
    ))
}

/// Takes a value out of what `$addToSet` adds.
fn take_from_set(update: &mut Document, path: &str, value: &Bson) {
    let Ok(sets) = update.get_document_mut("$addToSet") else {
        return;
    };
    let each = sets.get_document_mut(path).ok();
    if let Some(each) = each.and_then(|added| added.get_array_mut("$each").ok()) {
        each.retain(|one| !is_alike(one, value));
        if !each.is_empty() {
            return;
        }
    }
    sets.remove(path);
}
