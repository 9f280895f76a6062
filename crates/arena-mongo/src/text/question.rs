//! What a `$text` asks for: words of which one must be there, words that must not,
//! phrases that must, phrases that must not.

use std::collections::BTreeSet;

use super::languages::Language;
use super::words::{Sensitive, Words, words_of};

/// What is looked for, in one language.
#[derive(Debug, Default)]
pub(crate) struct Question {
    /// What an index would be asked for: words without case and marks, in order.
    pub(super) keys: BTreeSet<String>,
    /// The same with what the search tells apart.
    pub(super) words: BTreeSet<String>,
    pub(super) negated_words: BTreeSet<String>,
    pub(super) phrases: Vec<String>,
    pub(super) negated_phrases: Vec<String>,
    pub(super) sensitive: Sensitive,
}

/// Words and phrases before they are taken to their stems.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts {
    words: String,
    negated_words: String,
    phrases: Vec<String>,
    negated_phrases: Vec<String>,
}

impl Question {
    pub(super) fn of(search: &str, language: &'static Language, sensitive: Sensitive) -> Self {
        let parts = parts_of(search);
        let words = |text: &str, sensitive| {
            words_of(text, language, Words::WithoutStopWords, sensitive).collect()
        };
        Self {
            keys: words(&parts.words, Sensitive::default()),
            words: words(&parts.words, sensitive),
            negated_words: words(&parts.negated_words, sensitive),
            phrases: parts.phrases,
            negated_phrases: parts.negated_phrases,
            sensitive,
        }
    }
}

/// A piece of a search: a sign, or what stands between signs and spaces.
struct Piece<'s> {
    text: &'s str,
    start: usize,
    is_after_space: bool,
}

fn pieces_of(search: &str) -> Vec<Piece<'_>> {
    // A tab is none.
    let is_space = |letter: char| matches!(letter, '\n' | '\u{b}' | '\u{c}' | '\r' | ' ');
    let is_sign = |letter: char| matches!(letter, '-' | '"');
    let (mut pieces, mut is_after_space, mut start) = (Vec::new(), true, 0);
    while let Some(first) = search[start..].chars().next() {
        let rest = &search[start..];
        let length = if is_space(first) || is_sign(first) {
            first.len_utf8()
        } else {
            rest.find(|letter| is_space(letter) || is_sign(letter))
                .unwrap_or(rest.len())
        };
        if !is_space(first) {
            pieces.push(Piece {
                text: &rest[..length],
                start,
                is_after_space,
            });
        }
        is_after_space = is_space(first);
        start += length;
    }
    pieces
}

/// A hyphen after a space negates until the next space, outside of phrases.
fn parts_of(search: &str) -> Parts {
    let mut parts = Parts::default();
    let (mut is_negated, mut phrase) = (false, None);
    for piece in pieces_of(search) {
        match piece.text {
            "-" => is_negated |= phrase.is_none() && piece.is_after_space,
            "\"" => match phrase.take() {
                Some(start) => {
                    let phrase = search[start..piece.start].to_owned();
                    if is_negated {
                        parts.negated_phrases.push(phrase);
                    } else {
                        parts.phrases.push(phrase);
                    }
                }
                None => {
                    phrase = Some(piece.start + 1);
                    is_negated &= !piece.is_after_space;
                }
            },
            _ if phrase.is_some() && is_negated => {}
            word => {
                is_negated &= !piece.is_after_space;
                let words = if is_negated {
                    &mut parts.negated_words
                } else {
                    &mut parts.words
                };
                words.push_str(word);
                words.push(' ');
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Expected<'a> {
        words: &'a [&'a str],
        negated_words: &'a [&'a str],
        phrases: &'a [&'a str],
        negated_phrases: &'a [&'a str],
    }

    fn check(search: &str, expected: &Expected<'_>) {
        let english = Language::named("english").unwrap_or_else(|| panic!("english is there"));
        let asked = Question::of(search, english, Sensitive::default());
        assert!(asked.words.iter().eq(expected.words), "{search}: {asked:?}");
        assert!(
            asked.negated_words.iter().eq(expected.negated_words),
            "{search}: {asked:?}"
        );
        assert_eq!(asked.phrases, expected.phrases, "{search}");
        assert_eq!(asked.negated_phrases, expected.negated_phrases, "{search}");
    }

    #[test]
    fn a_hyphen_negates_until_the_next_space() {
        let fun = Expected {
            words: &["fun"],
            negated_words: &["realli"],
            ..Expected::default()
        };
        check("-really fun", &fun);
        check("--really fun", &fun);
        let both = Expected {
            words: &["fun", "realli"],
            ..Expected::default()
        };
        check("- really fun", &both);
        check("really-fun", &both);
        let negated = ["fun", "realli", "stuff"];
        check(
            "-really-fun-stuff",
            &Expected {
                negated_words: &negated,
                ..Expected::default()
            },
        );
    }

    #[test]
    fn a_phrase_is_words_too_unless_it_is_negated() {
        let words = ["fun", "phrase", "test"];
        let phrase = Expected {
            words: &words,
            phrases: &["phrase test"],
            ..Expected::default()
        };
        check("doing a \"phrase test\" for fun", &phrase);
        check("doing a - \"phrase test\" for fun", &phrase);
        check("doing a-\"phrase test\" for fun", &phrase);
        let negated = Expected {
            words: &["fun"],
            negated_phrases: &["phrase test"],
            ..Expected::default()
        };
        check("doing a -\"phrase test\" for fun", &negated);
        let several = Expected {
            words: &["anoth", "phrase"],
            phrases: &["another phrase"],
            negated_phrases: &["really fun", "stuff here"],
            ..Expected::default()
        };
        check(
            "-\"really fun\"-\"stuff here\" \"another phrase\"",
            &several,
        );
        let open = Expected {
            words: &["open"],
            ..Expected::default()
        };
        check("\"open", &open);
    }

    #[test]
    fn what_is_told_apart_is_kept_beside_the_keys() {
        let english = Language::named("english").unwrap_or_else(|| panic!("english is there"));
        let sensitive = Sensitive {
            case: true,
            marks: false,
        };
        let asked = Question::of("This is Positively fun -Negatively", english, sensitive);
        assert!(asked.keys.iter().eq(&["fun", "posit"]), "{asked:?}");
        assert!(asked.words.iter().eq(&["Posit", "fun"]), "{asked:?}");
        assert!(asked.negated_words.iter().eq(&["Negat"]), "{asked:?}");
    }
}
