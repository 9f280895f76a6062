//! Scores by hand, and where an index has its texts.

use bson::{Document, doc};
use proptest::prelude::*;

use super::*;

fn index(weights: Document) -> TextIndex {
    let listed = doc! {
        "key": { "_fts": "text", "_ftsx": 1 }, "weights": weights,
        "default_language": "english", "language_override": "language",
    };
    let listed = bson::RawDocumentBuf::try_from(&listed).unwrap_or_default();
    TextIndex::of(&listed).unwrap_or_else(|| panic!("an index of texts"))
}

fn question(index: &TextIndex, search: &str) -> Question {
    let asked = index.question(search, "", Sensitive::default());
    asked.unwrap_or_else(|error| panic!("{}", error.message))
}

fn score(weights: Document, document: Document, search: &str) -> Option<f64> {
    let index = index(weights);
    let document = bson::RawDocumentBuf::try_from(&document).unwrap_or_default();
    let found = index.answer(&question(&index, search), &document);
    found.map(|found| found.score)
}

#[test]
fn scores_are_those_of_mongodbs_documentation() {
    let subject = |text: &str| score(doc! { "s": 1 }, doc! { "s": text }, "coffee");
    assert_eq!(subject("coffee"), Some(1.0));
    assert_eq!(subject("Coffee Shopping"), Some(0.75));
    assert_eq!(subject("coffee and cream"), Some(0.75));
    assert_eq!(subject("Baking a cake"), None);
}

#[test]
fn each_further_word_counts_half_and_the_whole_text_a_tenth_more() {
    let of = |text: &str, search: &str| score(doc! { "s": 1 }, doc! { "s": text }, search);
    assert_eq!(of("dog", "dog"), Some(1.1));
    assert_eq!(of("dog dog", "dog"), Some(1.5));
    assert_eq!(of("dog dog dog cat", "dog"), Some(1.75 * 0.875));
    assert_eq!(of("dog cat", "cat dog"), Some(1.5));
    assert_eq!(of("the dog and the cat", "the"), None);
}

#[test]
fn texts_are_found_where_the_index_has_them() {
    let nested =
        doc! { "a": { "b": [{ "c": "dog" }, { "c": ["dog"] }, [{ "c": "dog" }]] }, "d": "dog" };
    assert_eq!(score(doc! { "a.b.c": 1 }, nested.clone(), "dog"), Some(2.2));
    assert_eq!(
        score(doc! { "a.b.c": 5, "d": 2 }, nested.clone(), "dog"),
        Some(5.5 + 5.5 + 2.2)
    );
    assert_eq!(
        score(doc! { "$**": 1 }, nested.clone(), "dog"),
        Some(1.1 + 1.1 + 1.1 + 1.1)
    );
    assert_eq!(score(doc! { "a": 1, "a.b": 1 }, nested, "dog"), None);
}

#[test]
fn a_document_names_its_language_and_so_does_one_within() {
    let document = doc! { "language": "fr", "a": { "s": "parlèrent" }, "b": { "language": "none", "s": "Parlà" } };
    let of = |path: &str, search: &str| score(doc! { path: 1 }, document.clone(), search);
    assert_eq!(of("a.s", "parl"), Some(1.0));
    assert_eq!(of("b.s", "parl"), None);
    assert_eq!(of("b.s", "parla"), Some(1.0));
    assert_eq!(of("$**", "fr"), None);
}

#[test]
fn only_what_the_index_has_is_asked_for() {
    let fields = index(doc! { "a.b": 1, "a.b.c": 1, "d": 1 }).fields();
    let expected = ["a.b", "a.language", "d", "language"].map(str::to_owned);
    assert_eq!(fields, Some(expected.to_vec()));
    assert_eq!(index(doc! { "$**": 1, "d": 1 }).fields(), None);
}

/// What a search finds, told in the plainest way: words of one letter or two, nothing to be taken to its stem.
fn plain_score(text: &str, search: &str) -> Option<f64> {
    let (mut words, mut negated, mut phrases) = (Vec::new(), Vec::new(), Vec::new());
    for (place, part) in search.split('"').enumerate() {
        if place % 2 == 1 {
            phrases.push(part);
        }
        let parts = part.split_whitespace();
        for word in parts {
            match word.strip_prefix('-') {
                Some(word) => negated.push(word),
                None => words.push(word),
            }
        }
    }
    words.sort_unstable();
    words.dedup();
    let all: Vec<&str> = text.split_whitespace().collect();
    if negated.iter().any(|word| all.contains(word))
        || !phrases.iter().all(|phrase| text.contains(phrase))
    {
        return None;
    }
    let mut score = None;
    for word in words {
        let count = all.iter().filter(|other| **other == word).count();
        if count > 0 {
            let (count, of) = (
                f64::from(u32::try_from(count).unwrap_or(0)),
                f64::from(u32::try_from(all.len()).unwrap_or(0)),
            );
            let halves = 2.0 - 2.0 * 0.5_f64.powf(count);
            let whole = if text == word { 1.1 } else { 1.0 };
            score = Some(score.unwrap_or(0.0) + halves * (0.5 * count / of + 0.5) * whole);
        }
    }
    score
}

proptest! {
    #[test]
    fn any_search_finds_what_the_plain_one_finds(
        text in proptest::collection::vec("[xyz]{1,2}", 0..8),
        parts in proptest::collection::vec(("-?[xyz]{1,2}", any::<bool>()), 0..5),
    ) {
        let parts = parts.iter().map(|(word, is_phrase)| match is_phrase {
            true => format!("\"{}\"", word.trim_start_matches('-')),
            false => word.clone(),
        });
        let search = parts.collect::<Vec<_>>().join(" ");
        let text = text.join(" ");
        let listed = doc! { "key": { "_fts": "text" }, "weights": { "s": 1 }, "default_language": "none" };
        let listed = bson::RawDocumentBuf::try_from(&listed).unwrap_or_default();
        let index = TextIndex::of(&listed).unwrap_or_else(|| panic!("an index of texts"));
        let document = bson::RawDocumentBuf::try_from(&doc! { "s": &text }).unwrap_or_default();
        let found = index.answer(&question(&index, &search), &document);
        prop_assert_eq!(found.map(|found| found.score), plain_score(&text, &search), "{} in {}", search, text);
    }
}
