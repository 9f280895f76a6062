//! Which element the positional operator means. MongoDB takes the position of the
//! last condition that was met in an array, in an order of its own, and of the
//! outermost array where arrays lie in arrays; a negation has none. The engine
//! takes the conditions as they were written, the innermost array, and positions
//! of negations. A filter is written so that both find the same.

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};

use super::{Answer, Call, field_of, parallel, raw, reading};
use crate::error::CommandError;
use crate::pipeline::is_of_values;

/// Operators in the order in which MongoDB looks at conditions that are otherwise alike.
const IN_ORDER: [&str; 14] = [
    "$elemMatch",
    "$eq",
    "$lte",
    "$lt",
    "$gt",
    "$gte",
    "$regex",
    "$mod",
    "$exists",
    "$in",
    "$bitsAllSet",
    "$bitsAllClear",
    "$bitsAnySet",
    "$bitsAnyClear",
];

/// Returns the paths of arrays whose position an update names.
pub(super) fn in_update(update: &RawDocument) -> Result<Vec<String>, CommandError> {
    let mut arrays = Vec::new();
    for element in update {
        if let (_, RawBsonRef::Document(fields)) = element? {
            for field in fields {
                arrays.extend(array_in(field?.0.as_str()));
            }
        }
    }
    Ok(arrays)
}

/// Returns a find with a filter by which the engine finds the position that its projection names.
pub(super) async fn in_find(call: &Call<'_>, spec: RawDocumentBuf) -> Answer {
    let (Some(RawBsonRef::Document(projection)), Some(RawBsonRef::Document(filter))) =
        (field_of(&spec, "projection")?, spec.get("filter")?)
    else {
        return Ok(spec);
    };
    let mut arrays = Vec::new();
    for field in projection {
        let (path, _) = field?;
        if path.as_str().contains(".$.") {
            let message = "As of 4.4, it's illegal to specify positional operator in the middle of a path.Positional projection may only be used at the end, for example: a.b.$. If the query previously used a form like a.b.$.d, remove the parts following the '$' and the results will be equivalent.";
            return Err(CommandError::new(31394, "Location31394", message));
        }
        arrays.extend(array_in(path.as_str()));
    }
    let Some(located) = located(call, call.collection()?, filter, &arrays).await? else {
        return Ok(spec);
    };
    let mut spec = Document::try_from(spec)?;
    spec.insert("filter", located);
    Ok(raw(&spec))
}

/// Returns whether a find's projection asks for a position.
pub(super) fn is_asked(find: &RawDocument) -> Result<bool, CommandError> {
    let Some(RawBsonRef::Document(projection)) = field_of(find, "projection")? else {
        return Ok(false);
    };
    for field in projection {
        if field?.0.as_str().contains(".$") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn array_in(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('.').collect();
    let at = parts.iter().position(|part| *part == "$")?;
    (at > 0).then(|| parts[..at].join("."))
}

/// Returns a filter that finds the same documents and MongoDB's positions in them, if it is another one.
pub(super) async fn located(
    call: &Call<'_>,
    collection: &str,
    filter: &RawDocument,
    arrays: &[String],
) -> Result<Option<Document>, CommandError> {
    if arrays.is_empty() || filter.is_empty() {
        return Ok(None);
    }
    let filter = Document::try_from(filter)?;
    let mut rest = filter.clone();
    // It is no array, and found fastest where it stands alone.
    let id = rest.remove("_id");
    let mut conditions = Conditions::default();
    conditions.add(&rest);
    let outer = conditions.outer(arrays);
    let values = conditions.of_values();
    let (broken, has_every) = parallel::behind_others(call, collection, values).await;
    if has_every && broken.iter().any(|path| arrays.contains(path)) {
        let what = "the position of a value in a collection with an index of every field";
        return Err(CommandError::not_supported(what));
    }
    let is_changed = conditions.is_changed || outer.is_some() || !broken.is_empty();
    if !is_changed && conditions.placed.len() < 2 {
        return Ok(None);
    }
    let mut all = conditions.ordered();
    if let Some((array, condition)) = outer {
        let elsewhere = doc! { &array: { "$not": { "$type": "array" } } };
        let find = doc! {
            "find": collection, "filter": { "$and": [&filter, elsewhere] }, "projection": { "_id": 1 }, "limit": 1,
        };
        // Where it is no array the innermost one is the outermost.
        if reading::ids_of(call, &raw(&find)).await?.is_empty() {
            all.push(condition);
        }
    }
    Ok(Some(together(id, all, &broken, arrays)))
}

/// Joins conditions so that no index breaks the engine: it does where one with a path of the broken ones has another
/// path before it. Those that give the position stand alone then, of the others no index knows.
fn together(
    id: Option<Bson>,
    all: Vec<Document>,
    broken: &[String],
    arrays: &[String],
) -> Document {
    let is_broken = |condition: &Document| {
        let path = condition.keys().next();
        path.is_some_and(|path| broken.contains(path)) && is_of_element(condition)
    };
    let gives_position = |condition: &Document| condition.keys().any(|path| arrays.contains(path));
    let stand_alone = all
        .iter()
        .any(|condition| is_broken(condition) && gives_position(condition));
    let hidden = |condition: Document| doc! { "$nor": [{ "$nor": [condition] }] };
    let written = all.into_iter().map(|condition| {
        let stays =
            is_broken(&condition) == stand_alone && (!stand_alone || gives_position(&condition));
        Bson::Document(if stays { condition } else { hidden(condition) })
    });
    let all: Vec<Bson> = written.collect();
    match id {
        Some(id) if stand_alone => {
            let mut all = all;
            all.insert(0, Bson::Document(hidden(doc! { "_id": id })));
            doc! { "$and": all }
        }
        Some(id) => doc! { "_id": id, "$and": all },
        None => doc! { "$and": all },
    }
}

/// Whether one of `$all` may be something else than a value that is looked for.
fn may_be_no_value(value: &Bson) -> bool {
    matches!(
        value,
        Bson::Document(_) | Bson::Array(_) | Bson::RegularExpression(_) | Bson::Null
    )
}

/// Whether a condition is `$elemMatch` of values.
fn is_of_element(condition: &Document) -> bool {
    let operators = condition.values().next().and_then(Bson::as_document);
    operators.is_some_and(|operators| {
        let mut operators = operators.iter();
        operators.any(|(operator, value)| is_of_values(operator, value))
    })
}

/// One condition on a field that has a position.
struct Placed {
    path: String,
    rank: usize,
    condition: Document,
}

#[derive(Default)]
struct Conditions {
    /// What has no position, or none that is known.
    others: Vec<Document>,
    placed: Vec<Placed>,
    is_changed: bool,
}

impl Conditions {
    fn add(&mut self, filter: &Document) {
        for (key, value) in filter {
            match (key.as_str(), value) {
                ("$and", Bson::Array(parts)) => self.add_all(parts),
                ("$or", Bson::Array(parts)) if parts.len() == 1 => self.add_all(parts),
                ("$or", Bson::Array(parts)) => self.add_choice(parts),
                (key, value) if key.starts_with('$') => self.others.push(doc! { key: value }),
                (path, Bson::Document(operators)) if is_operators(operators) => {
                    self.add_operators(path, operators);
                }
                (path, Bson::RegularExpression(_)) => self.place(path, "$regex", value.clone()),
                (path, value) => self.place(path, "$eq", value.clone()),
            }
        }
    }

    fn add_all(&mut self, parts: &[Bson]) {
        for part in parts {
            match part {
                Bson::Document(part) => self.add(part),
                // The engine says what is wrong with it.
                _ => self.others.push(doc! { "$and": [part] }),
            }
        }
    }

    /// One of several has no position, but several values of one field are `$in` to MongoDB.
    fn add_choice(&mut self, parts: &[Bson]) {
        let mut values = Vec::new();
        let mut field = None;
        for part in parts {
            let only = part.as_document().filter(|part| part.len() == 1);
            match only.and_then(|part| part.iter().next()) {
                Some((path, value))
                    if !path.starts_with('$')
                        && *field.get_or_insert(path) == path
                        && !matches!(value, Bson::Document(_) | Bson::RegularExpression(_)) =>
                {
                    values.push(value.clone());
                }
                _ => {
                    self.is_changed = true;
                    self.others.push(doc! { "$nor": [{ "$nor": parts }] });
                    return;
                }
            }
        }
        if let Some(path) = field {
            self.place(path, "$in", Bson::Document(doc! { "$in": values }));
        }
    }

    fn add_operators(&mut self, path: &str, operators: &Document) {
        if let Ok(values) = operators.get_array("$all")
            && operators.len() == 1
            && values.len() > 1
            && !values.iter().any(may_be_no_value)
        {
            // Each of them is a condition, of which the last one counts.
            self.is_changed = true;
            for value in values {
                self.place(path, "$eq", value.clone());
            }
            return;
        }
        let are_known = operators.keys().all(|operator| {
            IN_ORDER.contains(&operator.as_str())
                || matches!(
                    operator.as_str(),
                    "$ne" | "$nin" | "$not" | "$options" | "$all"
                )
        });
        if !are_known {
            return self.place(path, "", Bson::Document(operators.clone()));
        }
        for (operator, value) in operators {
            let negated = match (operator.as_str(), value) {
                ("$ne", value) => doc! { "$eq": value },
                ("$nin", value) => doc! { "$in": value },
                // On a way through an array it is asked of its elements.
                ("$exists", value) if is_true(value) && path.contains('.') => {
                    self.place(path, operator, Bson::Document(doc! { operator: value }));
                    continue;
                }
                ("$exists", value) if is_true(value) => doc! { "$exists": false },
                ("$all", Bson::Array(all)) if !all.is_empty() => {
                    self.is_changed = true;
                    all.iter().for_each(|one| self.place_one_of_all(path, one));
                    continue;
                }
                ("$all", value) => {
                    self.place(path, "", Bson::Document(doc! { operator: value }));
                    continue;
                }
                ("$exists" | "$not", value) => {
                    self.others.push(doc! { path: { operator: value } });
                    continue;
                }
                ("$options", _) => continue,
                ("$regex", value) => {
                    let mut pattern = doc! { "$regex": value };
                    if let Some(options) = operators.get("$options") {
                        pattern.insert("$options", options);
                    }
                    self.place(path, "$regex", Bson::Document(pattern));
                    continue;
                }
                (operator, value) => {
                    self.place(path, operator, Bson::Document(doc! { operator: value }));
                    continue;
                }
            };
            self.is_changed = true;
            self.others.push(doc! { path: { "$not": negated } });
        }
    }

    /// Each value of `$all` is a condition of its own.
    fn place_one_of_all(&mut self, path: &str, one: &Bson) {
        let element = one
            .as_document()
            .filter(|one| one.contains_key("$elemMatch"));
        match one {
            _ if element.is_some() => self.place(path, "$elemMatch", one.clone()),
            Bson::RegularExpression(_) => self.place(path, "$regex", one.clone()),
            one => self.place(path, "$eq", Bson::Document(doc! { "$eq": one.clone() })),
        }
    }

    fn place(&mut self, path: &str, operator: &str, condition: Bson) {
        let known = IN_ORDER.iter().position(|known| *known == operator);
        self.placed.push(Placed {
            path: path.to_owned(),
            rank: known.unwrap_or(IN_ORDER.len()),
            condition: doc! { path: condition },
        });
    }

    /// Sorts the conditions as MongoDB does, and returns the last one as one on the outermost array.
    fn outer(&mut self, arrays: &[String]) -> Option<(String, Document)> {
        self.placed
            .sort_by(|a, b| (a.rank, &a.path).cmp(&(b.rank, &b.path)));
        let last = self.placed.last()?;
        let inside = |array: &&String| {
            let rest = last.path.strip_prefix(array.as_str())?.strip_prefix('.')?;
            Some((array.to_string(), rest.to_owned()))
        };
        let (array, rest) = arrays.iter().find_map(|array| inside(&array))?;
        if rest.split('.').any(|part| part.parse::<u64>().is_ok()) {
            return None;
        }
        let condition = last.condition.get(&last.path)?.clone();
        let condition = doc! { &array: { "$elemMatch": { rest: condition } } };
        Some((array, condition))
    }

    /// The paths whose elements have to be some value.
    fn of_values(&self) -> Vec<String> {
        let placed = self.placed.iter();
        let placed = placed.filter(|placed| is_of_element(&placed.condition));
        placed.map(|placed| placed.path.clone()).collect()
    }

    fn ordered(self) -> Vec<Document> {
        let placed = self.placed.into_iter().map(|placed| placed.condition);
        self.others.into_iter().chain(placed).collect()
    }
}

fn is_operators(value: &Document) -> bool {
    value.keys().next().is_some_and(|key| key.starts_with('$'))
}

fn is_true(value: &Bson) -> bool {
    !matches!(value, Bson::Boolean(false) | Bson::Null)
        && super::whole(value).is_none_or(|number| number != 0)
}
