//! Scores by hand, and where an index has its texts.

use bson::{Document, doc};

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
