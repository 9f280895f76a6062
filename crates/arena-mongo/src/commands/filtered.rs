//! Array filters of one update that may choose the same element. MongoDB applies the
//! changes of all of them to it, the engine those of one. The filters of an array are
//! written as others that never choose the same: one for each choice of them.

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, bson, doc};

use super::conflicts::is_of;
use super::{raw, updates};
use crate::error::CommandError;

/// So many filters of one array become fifteen.
const NAMES_MAX: usize = 4;
/// So many arrays inside of each other, or beside.
const ARRAYS_MAX: usize = 4;

/// How the names of choices begin, of which none has an element of another.
const MADE: &str = "arenachoice";

/// A path of an update that leads into an array's elements.
#[derive(Debug, Clone)]
struct Change {
    /// The parts before the array's elements, those after them, and the filter's name between.
    before: Vec<String>,
    after: Vec<String>,
    name: String,
}

/// An array of whose elements several filters choose some.
#[derive(Debug)]
struct Meeting {
    before: Vec<String>,
    names: Vec<String>,
    /// Filters of which a document fails where they choose the same element.
    colliding: Vec<(usize, usize)>,
}

/// Returns an operation whose array filters never choose the same element, if they may as they came.
pub(super) fn apart(operation: &RawDocument) -> Result<Option<RawDocumentBuf>, CommandError> {
    let Some(RawBsonRef::Document(update)) = updates::update_in(operation)? else {
        return Ok(None);
    };
    if meeting(&changes_of(update)?).is_none() {
        return Ok(None);
    }
    let mut filters = Vec::new();
    if let Some(RawBsonRef::Array(listed)) = operation.get("arrayFilters")? {
        for filter in listed {
            match filter? {
                RawBsonRef::Document(filter) => filters.push(Document::try_from(filter)?),
                _ => return Ok(None),
            }
        }
    }
    let mut update = Document::try_from(update)?;
    for round in 0..=ARRAYS_MAX {
        let Some(meeting) = meeting(&changes_of(&raw(&update))?) else {
            break;
        };
        if round == ARRAYS_MAX || meeting.names.len() > NAMES_MAX {
            return Err(CommandError::not_supported(
                "an update with so many array filters that may choose the same element",
            ));
        }
        let choices = meeting.choices(round);
        // What is wrong with them, the update says itself.
        let Some(added) = choices
            .iter()
            .map(|one| meeting.filter(one, &filters))
            .collect()
        else {
            return Ok(None);
        };
        let added: Vec<Document> = added;
        update = meeting.with_paths(&update, &choices);
        let is_used = |name: &String| {
            let place = format!("$[{name}]");
            let mut paths = update
                .values()
                .filter_map(Bson::as_document)
                .flat_map(Document::keys);
            paths.any(|path| path.split('.').any(|part| part == place))
        };
        let unused: Vec<&String> = meeting.names.iter().filter(|name| !is_used(name)).collect();
        filters.retain(|filter| !unused.iter().any(|name| is_of(filter, name)));
        filters.extend(added);
    }
    let field = if operation.get("u")?.is_some() {
        "u"
    } else {
        "update"
    };
    let filters = RawBson::try_from(bson!(filters))?;
    updates::with_changes(
        operation,
        &[
            (field, Some(RawBson::Document(raw(&update)))),
            ("arrayFilters", Some(filters)),
        ],
    )
}

/// Each array on the paths of an update.
fn changes_of(update: &RawDocument) -> Result<Vec<Change>, CommandError> {
    let mut changes = Vec::new();
    for element in update {
        if let (_, RawBsonRef::Document(fields)) = element? {
            for field in fields {
                changes.extend(arrays_of(field?.0.as_str()));
            }
        }
    }
    Ok(changes)
}

/// Each array on a path.
fn arrays_of(path: &str) -> Vec<Change> {
    let parts: Vec<&str> = path.split('.').collect();
    let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
    let places = parts.iter().enumerate();
    places
        .filter_map(|(place, part)| {
            Some(Change {
                before: owned(&parts[..place]),
                after: owned(&parts[place + 1..]),
                name: identifier(part)?.to_owned(),
            })
        })
        .collect()
}

fn identifier(part: &str) -> Option<&str> {
    part.strip_prefix("$[")?.strip_suffix(']')
}

/// Returns the first array of whose elements several filters choose some, if there is such.
fn meeting(changes: &[Change]) -> Option<Meeting> {
    for change in changes {
        let own: Vec<&Change> = changes
            .iter()
            .filter(|other| other.before == change.before && !other.name.starts_with(MADE))
            .collect();
        let mut names: Vec<String> = own.iter().map(|change| change.name.clone()).collect();
        names.sort();
        names.dedup();
        let place = |name: &str| names.iter().position(|known| known == name);
        let (mut colliding, mut meets) = (Vec::new(), Vec::new());
        for (number, one) in own.iter().enumerate() {
            for other in own[number + 1..]
                .iter()
                .filter(|other| other.name != one.name)
            {
                let (Some(a), Some(b)) = (place(&one.name), place(&other.name)) else {
                    continue;
                };
                let shorter = one.after.len().min(other.after.len());
                let pair = (a.min(b), a.max(b));
                if one.after[..shorter] == other.after[..shorter] {
                    colliding.push(pair);
                } else {
                    meets.push(pair);
                }
            }
        }
        if meets.iter().any(|pair| !colliding.contains(pair)) {
            let before = change.before.clone();
            return Some(Meeting {
                before,
                names,
                colliding,
            });
        }
    }
    None
}

/// Some of an array's filters, and the name of what they and no others choose.
struct Choice {
    places: Vec<usize>,
    name: String,
}

impl Meeting {
    /// Every choice of filters that may choose the same element. The empty name is of all elements.
    fn choices(&self, round: usize) -> Vec<Choice> {
        let has_all = self.names.first().is_some_and(String::is_empty);
        let choices = (1_usize..1 << self.names.len()).map(|number| {
            let places = (0..self.names.len()).filter(|place| number >> place & 1 == 1);
            Choice {
                places: places.collect(),
                name: format!("{MADE}{round}x{number}"),
            }
        });
        let may_be = |choice: &Choice| {
            let has = |place: &usize| choice.places.contains(place);
            let collides = self
                .colliding
                .iter()
                .any(|(one, other)| has(one) && has(other));
            !collides && (!has_all || has(&0))
        };
        choices.filter(may_be).collect()
    }

    /// The filter of a choice; nothing where one of them is missing or there are two.
    fn filter(&self, choice: &Choice, filters: &[Document]) -> Option<Document> {
        let (mut all, mut others) = (Vec::new(), Vec::new());
        for (place, name) in self.names.iter().enumerate() {
            if name.is_empty() {
                continue;
            }
            let mut own = filters.iter().filter(|filter| is_of(filter, name));
            let filter = own.next().filter(|_| own.next().is_none())?;
            let filter = Bson::Document(renamed(filter, &choice.name)?);
            if choice.places.contains(&place) {
                all.push(filter);
            } else {
                others.push(filter);
            }
        }
        if !others.is_empty() {
            all.push(Bson::Document(doc! { "$nor": others }));
        }
        Some(doc! { "$and": all })
    }

    /// An update whose paths through the array name the choices.
    fn with_paths(&self, update: &Document, choices: &[Choice]) -> Document {
        let mut written = Document::new();
        for (operator, value) in update {
            let Bson::Document(fields) = value else {
                written.insert(operator, value.clone());
                continue;
            };
            let mut paths = Document::new();
            for (path, operand) in fields {
                let parts: Vec<&str> = path.split('.').collect();
                let Some(own) = self.place_in(&parts) else {
                    paths.insert(path, operand.clone());
                    continue;
                };
                for choice in choices.iter().filter(|choice| choice.places.contains(&own)) {
                    let mut parts: Vec<String> =
                        parts.iter().map(|part| (*part).to_owned()).collect();
                    parts[self.before.len()] = format!("$[{}]", choice.name);
                    paths.insert(parts.join("."), operand.clone());
                }
            }
            written.insert(operator, paths);
        }
        written
    }

    /// The filter that a path names where it goes through the array.
    fn place_in(&self, parts: &[&str]) -> Option<usize> {
        let (before, after) = parts.split_at_checked(self.before.len())?;
        let is_through = before
            .iter()
            .zip(&self.before)
            .all(|(part, other)| part == other);
        let own = identifier(after.first().filter(|_| is_through)?)?;
        self.names.iter().position(|name| name == own)
    }
}

/// A filter under another name.
fn renamed(filter: &Document, name: &str) -> Option<Document> {
    let mut fields = Document::new();
    for (key, value) in filter {
        if key.starts_with('$') {
            let parts = value.as_array()?.iter();
            let parts = parts.map(|part| renamed(part.as_document()?, name).map(Bson::Document));
            fields.insert(key, parts.collect::<Option<Vec<Bson>>>()?);
        } else {
            let path = match key.split_once('.') {
                Some((_, rest)) => format!("{name}.{rest}"),
                None => name.to_owned(),
            };
            fields.insert(path, value.clone());
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(update: Document, filters: Vec<Document>) -> Option<Document> {
        let operation = doc! { "q": {}, "u": update, "arrayFilters": filters };
        let written = apart(&raw(&operation)).unwrap();
        written.map(|written| Document::try_from(written).unwrap())
    }

    #[test]
    fn two_filters_become_three() {
        let update = doc! { "$set": { "a.$[x].b": 1, "a.$[y].c": 2, "z": 3 } };
        let changed = written(update, vec![doc! { "x.b": 1 }, doc! { "y.c": 2 }]).unwrap();
        assert_eq!(
            changed.get_document("u").unwrap(),
            &doc! { "$set": {
                "a.$[arenachoice0x1].b": 1, "a.$[arenachoice0x3].b": 1,
                "a.$[arenachoice0x2].c": 2, "a.$[arenachoice0x3].c": 2, "z": 3,
            } }
        );
        assert_eq!(changed.get_array("arrayFilters").unwrap().len(), 3);
        assert_eq!(apart(&raw(&changed)).unwrap(), None);
    }

    #[test]
    fn all_elements_are_those_of_a_filter_and_the_others() {
        let update = doc! { "$inc": { "a.$[].b": 1 }, "$set": { "a.$[y].c": 2 } };
        let changed = written(update, vec![doc! { "y.c": 2 }]).unwrap();
        assert_eq!(
            changed,
            doc! {
                "q": {},
                "u": {
                    "$inc": { "a.$[arenachoice0x1].b": 1, "a.$[arenachoice0x3].b": 1 },
                    "$set": { "a.$[arenachoice0x3].c": 2 },
                },
                "arrayFilters": [
                    { "$and": [{ "$nor": [{ "arenachoice0x1.c": 2 }] }] },
                    { "$and": [{ "arenachoice0x3.c": 2 }] },
                ],
            }
        );
    }

    #[test]
    fn filters_that_may_not_meet_are_no_choice() {
        let update = doc! { "$set": { "a.$[x].b": 1, "a.$[y].b": 2, "a.$[z].c": 3 } };
        let filters = vec![doc! { "x.k": 1 }, doc! { "y.k": 2 }, doc! { "z.k": 3 }];
        let changed = written(update, filters).unwrap();
        // Not x and y.
        assert_eq!(changed.get_array("arrayFilters").unwrap().len(), 5);
    }

    #[test]
    fn what_never_meets_stays() {
        let both = || vec![doc! { "x.k": 0 }, doc! { "y.k": 0 }];
        for update in [
            doc! { "a.$[x].b": 5, "a.$[x].c": 6 },
            doc! { "a.$[x]": 5, "b.$[y]": 6 },
            doc! { "a.$[x].b": 5, "a.$[y].b": 6 },
            doc! { "a.$[x]": 5, "a.$[y].b": 6 },
            doc! { "a.$[x].b": 5, "a.$[y].b": 6, "a.$[x].b.c": 7 },
            doc! { "a.$.b": 5, "c": 6 },
        ] {
            assert_eq!(written(doc! { "$set": update }, both()), None);
        }
    }
}
