//! What pages say, one file per language: lines of `key = text`.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::LazyLock;

/// A language that the pages speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Spanish.
    Spanish,
}

/// The texts of one language.
#[derive(Clone, Copy)]
pub(crate) struct Texts {
    language: Language,
    texts: &'static HashMap<&'static str, &'static str>,
}

static ENGLISH: LazyLock<HashMap<&str, &str>> =
    LazyLock::new(|| parse(include_str!("../texts/en.txt")));
static SPANISH: LazyLock<HashMap<&str, &str>> =
    LazyLock::new(|| parse(include_str!("../texts/es.txt")));

impl Texts {
    pub(crate) fn of(language: Language) -> Self {
        let texts = match language {
            Language::English => &*ENGLISH,
            Language::Spanish => &*SPANISH,
        };
        Self { language, texts }
    }

    /// Returns a text; English where this language has none.
    pub(crate) fn get(&self, key: &str) -> &'static str {
        self.texts.get(key).copied().unwrap_or_else(|| english(key))
    }

    /// Returns what is counted, for a number before it: of one thing the text with `.one` behind its key.
    pub(crate) fn counted(&self, key: &str, count: impl Borrow<usize>) -> &'static str {
        match count.borrow() {
            1 => self.get(&format!("{key}.one")),
            _ => self.get(key),
        }
    }

    /// Returns a text with `{}` replaced by a value.
    pub(crate) fn with(&self, key: &str, value: impl Display) -> String {
        self.get(key).replacen("{}", &value.to_string(), 1)
    }

    /// Returns a text with two `{}` replaced by values.
    pub(crate) fn with_both(&self, key: &str, first: impl Display, second: impl Display) -> String {
        let Some((start, rest)) = self.get(key).split_once("{}") else {
            return self.get(key).to_owned();
        };
        format!(
            "{start}{first}{}",
            rest.replacen("{}", &second.to_string(), 1)
        )
    }

    /// Returns the language's code for `lang`.
    pub(crate) fn code(&self) -> &'static str {
        match self.language {
            Language::English => "en",
            Language::Spanish => "es",
        }
    }
}

/// Returns an English text; the key itself where there is none, which a test forbids.
pub(crate) fn english(key: &str) -> &'static str {
    ENGLISH.get(key).copied().unwrap_or("")
}

fn parse(file: &'static str) -> HashMap<&'static str, &'static str> {
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "))
        .map(|(key, text)| (key.trim(), text.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_language_says_the_same_things_with_the_same_gaps() {
        let keys: BTreeSet<_> = ENGLISH.keys().collect();
        assert_eq!(keys, SPANISH.keys().collect::<BTreeSet<_>>());
        for key in keys {
            assert_eq!(
                ENGLISH[key].matches("{}").count(),
                SPANISH[key].matches("{}").count(),
                "{key}"
            );
        }
    }

    #[test]
    fn every_text_that_a_page_wants_exists() {
        let sources = ["src", "src/pages", "templates"].map(|folder| {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            std::fs::read_dir(folder)
                .unwrap()
                .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
        });
        for source in sources.into_iter().flatten() {
            for call in [
                "t.get(\"",
                "t.counted(\"",
                "t.with(\"",
                "t.with_both(\"",
                "texts.get(\"",
                "texts.with(\"",
            ] {
                for part in source.split(call).skip(1) {
                    let key = part.split('"').next().unwrap();
                    assert!(
                        ENGLISH.contains_key(key) || key.contains('{'),
                        "no text {key}"
                    );
                    let one = format!("{key}.one");
                    assert!(
                        !call.contains("counted") || ENGLISH.contains_key(one.as_str()),
                        "no text {one}"
                    );
                }
            }
        }
    }
}
