//! A text index: which texts of a document it has, in which languages, how much they
//! weigh, and how well a document answers a question.

use std::collections::{BTreeMap, HashMap};

use bson::{Document, RawBsonRef, RawDocument};

use super::languages::Language;
use super::question::Question;
use super::words::{Sensitive, Words, has_phrase, words_of};
use crate::error::CommandError;

/// The path of an index over every text.
const EVERY: &str = "$**";

pub(crate) struct TextIndex {
    weights: BTreeMap<String, f64>,
    has_every_text: bool,
    language: &'static Language,
    /// The field in which a document names its language.
    override_field: String,
    /// Fields before the texts in a compound index, which must be equal to something.
    pub(crate) prefix: Vec<String>,
    /// Which documents the index has.
    pub(crate) partial: Document,
}

/// How a document answers a question.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) score: f64,
    /// The first of the question's words that is there, and its part of the score.
    pub(crate) first_word: usize,
    pub(crate) first_score: f64,
}

/// A text of a document.
struct Text<'d> {
    text: &'d str,
    language: &'static Language,
    weight: f64,
}

/// How often a word is in one text.
#[derive(Default)]
struct Count {
    count: f64,
    frequency: f64,
    /// What the next one adds.
    next: f64,
}

impl TextIndex {
    /// Returns an index as it is listed, if it is one of texts.
    pub(crate) fn of(listed: &RawDocument) -> Option<Self> {
        let key = listed.get_document("key").ok()?;
        key.get("_fts").ok()??;
        let names = key.iter().flatten().map(|(name, _)| name.as_str());
        let prefix = names.take_while(|name| !name.starts_with("_fts"));
        let listed_weights = listed.get_document("weights").ok()?.iter().flatten();
        let weights = listed_weights
            .filter_map(|(path, weight)| Some((path.as_str().to_owned(), number(weight)?)));
        let mut weights: BTreeMap<String, f64> = weights.collect();
        let has_every_text = weights.remove(EVERY).is_some();
        let language = listed.get_str("default_language").unwrap_or("english");
        Some(Self {
            weights,
            has_every_text,
            language: Language::named(language)?,
            override_field: listed
                .get_str("language_override")
                .unwrap_or("language")
                .to_owned(),
            prefix: prefix.map(str::to_owned).collect(),
            partial: listed
                .get_document("partialFilterExpression")
                .ok()
                .and_then(|partial| Document::try_from(partial).ok())
                .unwrap_or_default(),
        })
    }

    /// Returns the fields that the index has to see of a document; nothing where it has to see all.
    pub(crate) fn fields(&self) -> Option<Vec<String>> {
        if self.has_every_text {
            return None;
        }
        let mut fields: Vec<String> = vec![self.override_field.clone()];
        for path in self.weights.keys() {
            let parents = path.match_indices('.').map(|(end, _)| &path[..end]);
            fields.extend(parents.map(|parent| format!("{parent}.{}", self.override_field)));
            fields.push(path.clone());
        }
        fields.sort();
        fields.dedup();
        let is_within = |path: &str, other: &str| {
            path.strip_prefix(other)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        let outer = fields
            .iter()
            .filter(|path| !fields.iter().any(|other| is_within(path, other)));
        Some(outer.cloned().collect())
    }

    /// Returns the question of a search.
    pub(crate) fn question(
        &self,
        search: &str,
        language: &str,
        sensitive: Sensitive,
    ) -> Result<Question, CommandError> {
        if language.is_empty() {
            return Ok(Question::of(search, self.language, sensitive));
        }
        let named = Language::named(language).ok_or_else(|| {
            CommandError::bad_value(format!(
                "unsupported language: \"{language}\" for text index version 3"
            ))
        })?;
        Ok(Question::of(search, named, sensitive))
    }

    /// Returns how well a document answers a question, if it does.
    pub(crate) fn answer(&self, question: &Question, document: &RawDocument) -> Option<Found> {
        if question.keys.is_empty() {
            return None;
        }
        let mut texts = Vec::new();
        let whole = Place {
            path: String::new(),
            is_array: false,
            language: self.language,
        };
        self.collect(document, &whole, &mut texts);
        let mut scores = HashMap::new();
        for text in &texts {
            score_into(&mut scores, text, question);
        }
        let words = question.keys.iter().enumerate();
        let mut found = words.filter_map(|(word, key)| Some((word, *scores.get(key.as_str())?)));
        let (first_word, first_score) = found.next()?;
        let score = found.fold(first_score, |sum, (_, score)| sum + score);
        holds(question, &texts).then_some(Found {
            score,
            first_word,
            first_score,
        })
    }

    fn collect<'d>(&self, document: &'d RawDocument, place: &Place, texts: &mut Vec<Text<'d>>) {
        let own = document.get_str(&self.override_field).ok();
        let within = Place {
            path: place.path.clone(),
            is_array: false,
            language: own.and_then(Language::named).unwrap_or(place.language),
        };
        for (name, value) in document.iter().flatten() {
            if self.has_every_text && name.as_str() == self.override_field {
                continue;
            }
            self.collect_value(value, &within.of(name.as_str()), &within, texts);
        }
    }

    /// Takes a value's texts. Of an array in an array only an index over every text knows.
    fn collect_value<'d>(
        &self,
        value: RawBsonRef<'d>,
        path: &str,
        within: &Place,
        texts: &mut Vec<Text<'d>>,
    ) {
        let is_document = matches!(value, RawBsonRef::Document(_));
        let from = if is_document {
            format!("{path}.")
        } else {
            path.to_owned()
        };
        let next = self.weights.range(from..).next();
        let is_exact = next.is_some_and(|(weighted, _)| weighted == path);
        let leads_on = next.is_some_and(|(weighted, _)| {
            weighted
                .strip_prefix(path)
                .is_some_and(|rest| rest.starts_with('.'))
        });
        if !self.has_every_text && !is_exact && !leads_on {
            return;
        }
        let place = |is_array| Place {
            path: path.to_owned(),
            is_array,
            language: within.language,
        };
        match value {
            // Beside a weight for every text that of the next path counts, as in MongoDB.
            RawBsonRef::String(text) if is_exact || self.has_every_text => texts.push(Text {
                text,
                language: within.language,
                weight: next.map_or(1.0, |(_, weight)| *weight),
            }),
            RawBsonRef::Document(inner) => self.collect(inner, &place(false), texts),
            RawBsonRef::Array(values) if !within.is_array || self.has_every_text => {
                let within = place(true);
                for value in values.into_iter().flatten() {
                    self.collect_value(value, path, &within, texts);
                }
            }
            _ => {}
        }
    }
}

/// Where a value lies in the whole document, and its language.
struct Place {
    path: String,
    is_array: bool,
    language: &'static Language,
}

impl Place {
    fn of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

fn number(value: RawBsonRef<'_>) -> Option<f64> {
    match value {
        RawBsonRef::Int32(number) => Some(f64::from(number)),
        RawBsonRef::Double(number) => Some(number),
        RawBsonRef::Int64(number) => i32::try_from(number).ok().map(f64::from),
        _ => None,
    }
}

/// Adds what one text gives each of the question's words.
fn score_into<'q>(scores: &mut HashMap<&'q str, f64>, text: &Text<'_>, question: &'q Question) {
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    let mut words = 0.0;
    let none = Sensitive::default();
    for word in words_of(text.text, text.language, Words::WithoutStopWords, none) {
        words += 1.0;
        if let Some(key) = question.keys.get(&word) {
            let count = counts.entry(key).or_insert(Count {
                next: 1.0,
                ..Count::default()
            });
            count.count += 1.0;
            count.frequency += count.next;
            // Each further one counts half as much.
            count.next /= 2.0;
        }
    }
    for (word, count) in counts {
        let share = 0.5 * count.count / words + 0.5;
        let is_whole = text.text.eq_ignore_ascii_case(word);
        let whole = if is_whole { 1.1 } else { 1.0 };
        *scores.entry(word).or_default() += text.weight * count.frequency * share * whole;
    }
}

/// Whether texts that have one of the words hold to the rest of the question.
fn holds(question: &Question, texts: &[Text<'_>]) -> bool {
    let sensitive = question.sensitive;
    let has_word = |wanted: &std::collections::BTreeSet<String>| {
        !wanted.is_empty()
            && texts.iter().any(|text| {
                words_of(text.text, text.language, Words::All, sensitive)
                    .any(|word| wanted.contains(&word))
            })
    };
    let has = |phrase: &String| {
        texts
            .iter()
            .any(|text| has_phrase(text.text, phrase, text.language, sensitive))
    };
    (sensitive == Sensitive::default() || has_word(&question.words))
        && !has_word(&question.negated_words)
        && question.phrases.iter().all(has)
        && !question.negated_phrases.iter().any(has)
}

#[cfg(test)]
mod tests;
