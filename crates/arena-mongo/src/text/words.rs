//! The words of a text as a text index takes them: without signs, without those that
//! count for nothing, as their stems, in lower case and without marks.

use super::languages::Language;
use super::letters::{folded, is_delimiter, plain};

/// What a search tells apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sensitive {
    pub(crate) case: bool,
    pub(crate) marks: bool,
}

/// Which words are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    All,
    WithoutStopWords,
}

/// Returns the words of a text.
pub(super) fn words_of<'t>(
    text: &'t str,
    language: &'static Language,
    which: Words,
    sensitive: Sensitive,
) -> impl Iterator<Item = String> + 't {
    let is_english = language.is_english();
    let parts = text.split(move |letter| is_delimiter(letter, is_english));
    let parts = parts.filter(|part| !part.is_empty());
    parts.filter_map(move |part| {
        // Marks still count for a list of stop words and for a stemmer.
        let lower = lowered(part, language);
        if which == Words::WithoutStopWords && language.is_stop_word(&lower) {
            return None;
        }
        let stem = language.stem(if sensitive.case { part } else { &lower });
        Some(if sensitive.marks {
            stem
        } else {
            unmarked(stem)
        })
    })
}

/// Whether a text has a phrase somewhere, be it in the middle of a word.
pub(super) fn has_phrase(
    text: &str,
    phrase: &str,
    language: &Language,
    sensitive: Sensitive,
) -> bool {
    let compared = |text: &str| {
        // Turkish is compared without case always, because of its i.
        let text = if sensitive.case && !language.is_turkish() {
            text.to_owned()
        } else {
            lowered(text, language)
        };
        if sensitive.marks {
            text
        } else {
            unmarked(text)
        }
    };
    let text = compared(text);
    !text.is_empty() && text.contains(&compared(phrase))
}

fn lowered(text: &str, language: &Language) -> String {
    let is_turkish = language.is_turkish();
    text.chars()
        .map(|letter| folded(letter, is_turkish))
        .collect()
}

fn unmarked(text: String) -> String {
    let is_plain = |byte: u8| byte.is_ascii() && byte != b'^' && byte != b'`';
    if text.bytes().all(is_plain) {
        return text;
    }
    text.chars().filter_map(plain).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::languages::NAMES;

    const CASE: Sensitive = Sensitive {
        case: true,
        marks: false,
    };
    const MARKS: Sensitive = Sensitive {
        case: false,
        marks: true,
    };
    const BOTH: Sensitive = Sensitive {
        case: true,
        marks: true,
    };

    fn check(text: &str, language: &str, which: Words, sensitive: Sensitive, expected: &[&str]) {
        let language = Language::named(language).unwrap_or_else(|| panic!("{language} is there"));
        let words: Vec<String> = words_of(text, language, which, sensitive).collect();
        assert_eq!(words, expected, "{text}");
    }

    #[test]
    fn words_are_told_without_signs_as_their_stems() {
        let none = Sensitive::default();
        let text = "  , Do you see Mark's dog running?  ";
        check(
            text,
            "english",
            Words::All,
            none,
            &["do", "you", "see", "mark", "dog", "run"],
        );
        check(
            text,
            "english",
            Words::WithoutStopWords,
            none,
            &["see", "mark", "dog", "run"],
        );
        check(" - ", "english", Words::All, none, &[]);
        let text = "Voyez-vous «le chien» de Mark courante? C'est bien!";
        let words = [
            "voi", "vous", "le", "chien", "de", "mark", "cour", "c", "est", "bien",
        ];
        check(text, "french", Words::All, none, &words);
    }

    #[test]
    fn a_stop_word_has_its_marks() {
        let text = "Je ne vais pas etre énervé. Je vais être excité.";
        let plain = ["vais", "etre", "enerv", "vais", "excit"];
        check(
            text,
            "french",
            Words::WithoutStopWords,
            Sensitive::default(),
            &plain,
        );
        let marked = ["vais", "etre", "énerv", "vais", "excit"];
        check(text, "french", Words::WithoutStopWords, MARKS, &marked);
    }

    #[test]
    fn case_and_marks_are_kept_where_they_count() {
        let text = "KAÇ YAŞINDASIN SEN, VE SEN NEREDEN VARDIR?";
        let lower = ["kac", "yas", "sen", "ve", "sen", "nere", "var"];
        check(text, "turkish", Words::All, Sensitive::default(), &lower);
        let marked = ["kaç", "yaş", "sen", "ve", "sen", "nere", "var"];
        check(text, "turkish", Words::All, MARKS, &marked);
        let upper = ["KAC", "YASINDASIN", "SEN", "VE", "SEN", "NEREDEN", "VARDIR"];
        check(text, "turkish", Words::All, CASE, &upper);
        let kept = ["KAÇ", "YAŞINDASIN", "NEREDEN", "VARDIR"];
        check(text, "turkish", Words::WithoutStopWords, BOTH, &kept);
    }

    #[test]
    fn a_phrase_is_found_in_the_middle_of_words() {
        let english = Language::named("english").unwrap_or_else(|| panic!("english is there"));
        let has =
            |phrase: &str, sensitive| has_phrase("Café Crème-Brûlée", phrase, english, sensitive);
        assert!(has("fe creme-bru", Sensitive::default()));
        assert!(!has("creme brulee", Sensitive::default()));
        assert!(!has("café", CASE) && has("Cafe", CASE));
        assert!(!has("cafe", MARKS) && has("café", MARKS));
        assert!(has("", Sensitive::default()) && !has_phrase("", "", english, BOTH));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in any::<String>(), letters in "[a-zA-ZäöüßéèêçñıİşğÅøæа-яА-Я'^` ]{0,60}") {
            for (language, _, _) in NAMES {
                let language = Language::named(language).unwrap_or_else(|| panic!("{language} is there"));
                for sensitive in [Sensitive::default(), CASE, MARKS, BOTH] {
                    for text in [&text, &letters] {
                        let parted = text.split(|letter| is_delimiter(letter, language.is_english()));
                        let expected = parted.filter(|part| !part.is_empty()).count();
                        prop_assert_eq!(words_of(text, language, Words::All, sensitive).count(), expected);
                        prop_assert!(text.is_empty() || has_phrase(text, text, language, sensitive) || !sensitive.marks);
                    }
                }
            }
        }
    }
}
