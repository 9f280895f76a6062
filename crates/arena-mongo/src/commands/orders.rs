//! In which order documents come where nobody asks for one. MongoDB gives what it
//! reads: a whole collection as it was inserted, what an index finds in the order of
//! the index. The engine would read by `_id` where it thinks that cheaper, and gives
//! what an index finds as it was inserted; so it is told.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::statements::Statement;
use super::{Call, field_of, hints, parallel, raw, reading, sorting, ties, without};
use crate::error::CommandError;

/// Operators that order what they find.
const ORDERING: [&str; 4] = ["$text", "$near", "$nearSphere", "$geoNear"];
/// What compares with values, so that an index has what it finds in one piece or a few.
const COMPARING: [&str; 6] = ["$eq", "$in", "$gt", "$gte", "$lt", "$lte"];

/// Accumulators whose value depends on the order.
const IN_SEQUENCE: [&str; 11] = [
    "$first",
    "$last",
    "$firstN",
    "$lastN",
    "$top",
    "$bottom",
    "$topN",
    "$bottomN",
    "$push",
    "$mergeObjects",
    "$concatArrays",
];

/// An order that nobody asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Order {
    /// As the engine reads.
    Engines,
    AsInserted,
    /// By the key of an index.
    By(Document),
}

impl Order {
    /// The order of insertion by `_id`, where it tells it.
    fn told(
        self,
        call: &Call<'_>,
        spec: &RawDocument,
        collection: &str,
    ) -> Result<Self, CommandError> {
        let is_told = self == Self::AsInserted
            && !is_given(field_of(spec, "collation")?)
            && call.server.arrivals.are_growing(call.database, collection);
        Ok(if is_told {
            Self::By(doc! { "_id": 1 })
        } else {
            self
        })
    }
}

/// Returns a find as it has to run, and the statement that runs it.
pub(super) async fn of_find(
    call: &Call<'_>,
    spec: RawDocumentBuf,
) -> Result<(Statement, RawDocumentBuf), CommandError> {
    if is_given(field_of(&spec, "sort")?) || is_given(field_of(&spec, "hint")?) {
        return Ok((Statement::FIND, spec));
    }
    let collection = super::collection_in(&spec, "find")?;
    let filter = spec.get_document("filter").ok();
    let filters: Vec<&RawDocument> = filter.into_iter().collect();
    match of(call, &spec, collection, &filters)
        .await?
        .told(call, &spec, collection)?
    {
        Order::Engines => Ok((Statement::FIND, spec)),
        Order::AsInserted => Ok((Statement::FIND.in_order(), spec)),
        Order::By(key) => {
            let mut ordered = without(&spec, &["sort"])?;
            ordered.append(bson::cstr!("sort"), raw(&key));
            Ok((Statement::FIND, ordered))
        }
    }
}

/// Returns a pipeline as it has to run, and the statement that runs it.
pub(super) async fn of_pipeline(
    call: &Call<'_>,
    spec: RawDocumentBuf,
) -> Result<(Statement, RawDocumentBuf), CommandError> {
    let Bson::Array(mut stages) = Bson::try_from(RawBsonRef::Array(spec.get_array("pipeline")?))?
    else {
        return Ok((Statement::AGGREGATE, spec));
    };
    let collection = spec.get_str("aggregate").ok();
    let written = stages.clone();
    ties::in_pipeline(call, collection, &mut stages).await;
    let mut statement = Statement::AGGREGATE;
    statement.keeps_groups = stages.iter().any(groups_in_sequence);
    let filter = |stage: &Bson| stage.as_document()?.get_document("$match").ok().map(raw);
    let filters: Vec<RawDocumentBuf> = stages.iter().map_while(filter).collect();
    let is_read_in_sequence =
        !is_given(spec.get("hint")?) && is_in_sequence(&stages[filters.len()..]);
    if let Some(collection) = collection.filter(|_| is_read_in_sequence) {
        let borrowed: Vec<&RawDocument> = filters.iter().map(|filter| &**filter).collect();
        match of(call, &spec, collection, &borrowed)
            .await?
            .told(call, &spec, collection)?
        {
            Order::Engines => {}
            Order::AsInserted => statement.as_inserted = true,
            Order::By(key) => stages.insert(filters.len(), bson::bson!({ "$sort": key })),
        }
    }
    if stages == written {
        return Ok((statement, spec));
    }
    let mut ordered = without(&spec, &["pipeline"])?;
    let stages = bson::RawBson::try_from(Bson::Array(stages))?;
    ordered.append(bson::cstr!("pipeline"), stages);
    Ok((statement, ordered))
}

/// Whether what comes out of stages depends on the order of what goes in.
pub(super) fn is_in_sequence(stages: &[Bson]) -> bool {
    for stage in stages {
        let Some((name, value)) = stage.as_document().and_then(|stage| stage.iter().next()) else {
            return false;
        };
        match name.as_str() {
            name if hints::UNORDERED.contains(&name) => return false,
            "$limit" | "$skip" => return true,
            "$group" | "$bucket" => return names(value, &IN_SEQUENCE),
            "$sortByCount" | "$bucketAuto" => return false,
            _ => {}
        }
    }
    true
}

/// Whether a stage, or one inside it, groups so that its values depend on the order.
pub(super) fn groups_in_sequence(stage: &Bson) -> bool {
    match stage {
        Bson::Document(fields) => fields.iter().any(|(name, value)| match name.as_str() {
            "$group" | "$bucket" => names(value, &IN_SEQUENCE),
            _ => groups_in_sequence(value),
        }),
        Bson::Array(values) => values.iter().any(groups_in_sequence),
        _ => false,
    }
}

fn names(value: &Bson, wanted: &[&str]) -> bool {
    match value {
        Bson::Document(fields) => fields
            .iter()
            .any(|(name, value)| wanted.contains(&name.as_str()) || names(value, wanted)),
        Bson::Array(values) => values.iter().any(|value| names(value, wanted)),
        _ => false,
    }
}

fn is_given(value: Option<RawBsonRef<'_>>) -> bool {
    match value {
        None | Some(RawBsonRef::Null) => false,
        Some(RawBsonRef::Document(value)) => !value.is_empty(),
        Some(_) => true,
    }
}

/// Returns the order of what filters find.
pub(super) async fn of(
    call: &Call<'_>,
    command: &RawDocument,
    collection: &str,
    filters: &[&RawDocument],
) -> Result<Order, CommandError> {
    let mut conditions = Conditions::default();
    for filter in filters {
        conditions.add(filter)?;
    }
    if conditions.order || conditions.is_point() {
        return Ok(Order::Engines);
    }
    let Some(key) = conditions.key(call, collection).await else {
        return Ok(Order::AsInserted);
    };
    let is_collated = is_given(command.get("collation")?);
    let Some(order) = hints::order_of(&key).filter(|_| !is_collated) else {
        return Ok(Order::AsInserted);
    };
    // An index has an array's elements, and finds a document by one of them.
    let arrays = key.keys().filter(|path| *path != "_id");
    let arrays: Vec<Document> = arrays.map(|path| sorting::has_array(path)).collect();
    if !arrays.is_empty() {
        let mut all = vec![doc! { "$or": arrays }];
        for filter in filters {
            all.push(Document::try_from(*filter)?);
        }
        let mut find = bson::rawdoc! { "find": collection, "limit": 1, "projection": { "_id": 1 } };
        find.append(bson::cstr!("filter"), raw(&doc! { "$and": all }));
        if let Some(RawBsonRef::Document(variables)) = command.get("let")? {
            find.append(bson::cstr!("let"), variables);
        }
        // What is wrong with a filter the command says itself.
        let found = reading::some_documents_of(call, &find).await;
        if found.map_or(true, |found| !found.is_empty()) {
            return Ok(Order::AsInserted);
        }
    }
    Ok(Order::By(order))
}

/// How a path is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Equal,
    Within,
    Otherwise,
}

/// What filters ask.
#[derive(Debug, Default)]
struct Conditions {
    paths: Vec<(String, Asked)>,
    /// One of them orders.
    order: bool,
}

impl Conditions {
    fn add(&mut self, filter: &RawDocument) -> Result<(), CommandError> {
        for element in filter {
            let (name, value) = element?;
            match (name.as_str(), value) {
                ("$and", RawBsonRef::Array(parts)) => {
                    for part in parts {
                        if let RawBsonRef::Document(part) = part? {
                            self.add(part)?;
                        }
                    }
                }
                ("$or" | "$nor", RawBsonRef::Array(parts)) => {
                    let mut inner = Self::default();
                    for part in parts {
                        if let RawBsonRef::Document(part) = part? {
                            inner.add(part)?;
                        }
                    }
                    self.order |= inner.order;
                    let paths = inner.paths.into_iter();
                    self.paths
                        .extend(paths.map(|(path, _)| (path, Asked::Otherwise)));
                }
                (operator, _) if operator.starts_with('$') => {
                    self.order |= ORDERING.contains(&operator);
                }
                (path, value) => {
                    let asked = self.asked(value)?;
                    self.paths.push((path.to_owned(), asked));
                }
            }
        }
        Ok(())
    }

    fn asked(&mut self, value: RawBsonRef<'_>) -> Result<Asked, CommandError> {
        let RawBsonRef::Document(operators) = value else {
            let is_pattern = matches!(value, RawBsonRef::RegularExpression(_));
            return Ok(if is_pattern {
                Asked::Otherwise
            } else {
                Asked::Equal
            });
        };
        let mut asked = Asked::Equal;
        for operator in operators {
            let (operator, _) = operator?;
            let operator = operator.as_str();
            self.order |= ORDERING.contains(&operator);
            if !operator.starts_with('$') {
                return Ok(asked);
            }
            if !COMPARING.contains(&operator) {
                return Ok(Asked::Otherwise);
            }
            if operator != "$eq" {
                asked = Asked::Within;
            }
        }
        Ok(asked)
    }

    /// Whether at most one document is found.
    fn is_point(&self) -> bool {
        self.paths.contains(&("_id".to_owned(), Asked::Equal))
    }

    /// The key of the one index that MongoDB can read, where what it finds there may differ.
    async fn key(&self, call: &Call<'_>, collection: &str) -> Option<Document> {
        let keys = parallel::known(call, collection).await;
        let mut found: Option<&Document> = None;
        let is_hidden = |index: &&Document| index.get_bool("hidden").unwrap_or(false);
        for index in keys.indexes.iter().filter(|index| !is_hidden(index)) {
            let key = index.get_document("key").ok()?;
            let first = key.keys().next()?;
            let mut asked = self.paths.iter().filter(|(path, _)| path == first);
            if first.contains("$**") && !self.paths.is_empty() {
                return None;
            }
            let Some((_, asked)) = asked.next() else {
                continue;
            };
            let is_plain = !index.contains_key("partialFilterExpression")
                && !index.get_bool("sparse").unwrap_or(false);
            let is_decided = *asked != Asked::Otherwise && is_plain && found.is_none();
            if !is_decided {
                return None;
            }
            found = Some(key);
        }
        let key = found?;
        let are_equal = key.keys().all(|path| {
            let mut asked = self.paths.iter().filter(|(asked, _)| asked == path);
            asked.any(|(_, asked)| *asked == Asked::Equal)
        });
        (!are_equal).then(|| key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(filter: &Document) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.add(&raw(filter)).expect("it is well-formed");
        conditions
    }

    #[test]
    fn a_filter_is_read_for_what_an_index_would_find() {
        let asked = |filter: Document| {
            let paths = conditions(&filter).paths.into_iter();
            paths.map(|(_, asked)| asked).collect::<Vec<Asked>>()
        };
        assert_eq!(asked(doc! { "a": 1 }), [Asked::Equal]);
        assert_eq!(asked(doc! { "a": { "b": 1 } }), [Asked::Equal]);
        assert_eq!(asked(doc! { "a": { "$gt": 1, "$lt": 2 } }), [Asked::Within]);
        assert_eq!(
            asked(doc! { "a": { "$gt": 1, "$exists": true } }),
            [Asked::Otherwise]
        );
        assert_eq!(asked(doc! { "$or": [{ "a": 1 }] }), [Asked::Otherwise]);
        assert_eq!(
            asked(doc! { "$and": [{ "a": { "$in": [1] } }] }),
            [Asked::Within]
        );
        assert!(conditions(&doc! { "_id": 1, "a": 2 }).is_point());
        assert!(!conditions(&doc! { "_id": { "$in": [1] } }).is_point());
        assert!(conditions(&doc! { "a": { "$near": [0, 0] } }).order);
    }

    #[test]
    fn only_some_pipelines_mind_the_order() {
        let minds = |stages: Bson| is_in_sequence(stages.as_array().expect("an array"));
        assert!(minds(bson::bson!([])));
        assert!(minds(
            bson::bson!([{ "$set": { "a": 1 } }, { "$limit": 1 }])
        ));
        assert!(minds(
            bson::bson!([{ "$group": { "_id": 1, "a": { "$first": "$b" } } }])
        ));
        for stages in [
            bson::bson!([{ "$sort": { "a": 1 } }, { "$limit": 1 }]),
            bson::bson!([{ "$group": { "_id": 1, "a": { "$sum": "$b" } } }, { "$limit": 1 }]),
            bson::bson!([{ "$count": "n" }]),
            bson::bson!([{ "$geoNear": {} }]),
        ] {
            assert!(!minds(stages.clone()), "{stages}");
        }
    }
}
