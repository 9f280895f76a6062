//! The languages of text indexes: which words count for nothing, and what is the stem
//! of a word. Stems are Snowball's. Stop words are MongoDB's lists as they are, with
//! letters that were lost in some of them (`stop_words.txt`).

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};

const STOP_WORDS: &str = include_str!("stop_words.txt");

/// Every language with its short name.
pub(super) const NAMES: [(&str, &str, Option<Algorithm>); 16] = [
    ("none", "none", None),
    ("danish", "da", Some(Algorithm::Danish)),
    ("dutch", "nl", Some(Algorithm::Dutch)),
    ("english", "en", Some(Algorithm::English)),
    ("finnish", "fi", Some(Algorithm::Finnish)),
    ("french", "fr", Some(Algorithm::French)),
    ("german", "de", Some(Algorithm::German)),
    ("hungarian", "hu", Some(Algorithm::Hungarian)),
    ("italian", "it", Some(Algorithm::Italian)),
    ("norwegian", "nb", Some(Algorithm::Norwegian)),
    ("portuguese", "pt", Some(Algorithm::Portuguese)),
    ("romanian", "ro", Some(Algorithm::Romanian)),
    ("russian", "ru", Some(Algorithm::Russian)),
    ("spanish", "es", Some(Algorithm::Spanish)),
    ("swedish", "sv", Some(Algorithm::Swedish)),
    ("turkish", "tr", Some(Algorithm::Turkish)),
];

static LANGUAGES: LazyLock<Vec<Language>> = LazyLock::new(|| {
    let mut lists = stop_words();
    let language = |(name, short, algorithm)| Language {
        name,
        short,
        stop_words: lists.remove(name).unwrap_or_default(),
        stemmer: Option::map(algorithm, Stemmer::create),
    };
    NAMES.map(language).into_iter().collect()
});

pub(super) struct Language {
    name: &'static str,
    short: &'static str,
    stop_words: HashSet<&'static str>,
    stemmer: Option<Stemmer>,
}

impl Language {
    /// Returns the language of a name, long or short, in any case.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        let is_it = |language: &&Self| {
            name.eq_ignore_ascii_case(language.name) || name.eq_ignore_ascii_case(language.short)
        };
        LANGUAGES.iter().find(is_it)
    }

    pub(super) fn is_english(&self) -> bool {
        self.name == "english"
    }

    pub(super) fn is_turkish(&self) -> bool {
        self.name == "turkish"
    }

    pub(super) fn is_stop_word(&self, word: &str) -> bool {
        self.stop_words.contains(word)
    }

    pub(super) fn stem(&self, word: &str) -> String {
        match &self.stemmer {
            Some(stemmer) => stemmer.stem(word).into_owned(),
            None => word.to_owned(),
        }
    }
}

/// The lists by their languages: a line `# language`, then its words.
fn stop_words() -> HashMap<&'static str, HashSet<&'static str>> {
    let mut lists = HashMap::new();
    let sections = STOP_WORDS.split("\n# ").skip(1);
    for section in sections {
        let mut words = section.split_whitespace();
        if let Some(language) = words.next() {
            lists.insert(language, words.collect());
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_has_its_list_and_each_list_its_language() {
        let lists = stop_words();
        for language in lists.keys() {
            assert!(Language::named(language).is_some(), "{language}");
        }
        let without: Vec<_> = NAMES
            .iter()
            .map(|(name, _, _)| *name)
            .filter(|name| !lists.contains_key(name))
            .collect();
        assert_eq!(without, ["none", "romanian"]);
    }

    #[test]
    fn words_come_to_their_stems() {
        let stem = |language: &str, word: &str| {
            Language::named(language).map(|language| language.stem(word))
        };
        assert_eq!(stem("english", "coffee").as_deref(), Some("coffe"));
        assert_eq!(stem("EN", "really").as_deref(), Some("realli"));
        assert_eq!(stem("fr", "voyez").as_deref(), Some("voi"));
        assert_eq!(stem("turkish", "nereden").as_deref(), Some("nere"));
        assert_eq!(stem("none", "running").as_deref(), Some("running"));
        assert_eq!(stem("klingon", "x"), None);
    }
}
