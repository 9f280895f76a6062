//! Letters as a text index takes them: which part words, which are the same but for
//! their case, and which are the same but for their marks. Unicode's properties say so,
//! one character at a time; where Unicode would make two of one, it stays as it is.

use icu_properties::CodePointSetData;
use icu_properties::props::{
    Dash, Diacritic, Hyphen, PatternSyntax, QuotationMark, SentenceTerminal, TerminalPunctuation,
    WhiteSpace,
};
use unicode_normalization::UnicodeNormalization;

/// Whether a character parts words. In English an apostrophe does not.
pub(super) fn is_delimiter(letter: char, is_english: bool) -> bool {
    if letter.is_ascii() {
        let is_space = matches!(letter, '\t'..='\r' | ' ');
        let is_sign = letter.is_ascii_punctuation() && letter != '_';
        return is_space || (is_sign && !(is_english && letter == '\''));
    }
    CodePointSetData::new::<WhiteSpace>().contains(letter)
        || CodePointSetData::new::<PatternSyntax>().contains(letter)
        || CodePointSetData::new::<TerminalPunctuation>().contains(letter)
        || CodePointSetData::new::<SentenceTerminal>().contains(letter)
        || CodePointSetData::new::<QuotationMark>().contains(letter)
        || CodePointSetData::new::<Dash>().contains(letter)
        || CodePointSetData::new::<Hyphen>().contains(letter)
}

/// Returns a letter in the case that all its cases share. That is not always the lower one.
pub(super) fn folded(letter: char, is_turkish: bool) -> char {
    match letter {
        'I' if is_turkish => 'ı',
        'İ' if is_turkish => 'i',
        letter if letter.is_ascii() => letter.to_ascii_lowercase(),
        'µ' => 'μ',
        'ſ' => 's',
        'ς' => 'σ',
        'ϐ' => 'β',
        'ϑ' => 'θ',
        'ϕ' => 'φ',
        'ϖ' => 'π',
        'ϰ' => 'κ',
        'ϱ' => 'ρ',
        'ϵ' => 'ε',
        'ẛ' => 'ṡ',
        '\u{345}' | '\u{1fbe}' => 'ι',
        '\u{13a0}'..='\u{13f5}' => letter,
        '\u{13f8}'..='\u{13fd}' => moved(letter, 0x13f8, 0x13f0),
        '\u{ab70}'..='\u{abbf}' => moved(letter, 0xab70, 0x13a0),
        letter => {
            let mut lower = letter.to_lowercase();
            match (lower.next(), lower.next()) {
                (Some(lower), None) => lower,
                _ => letter,
            }
        }
    }
}

fn moved(letter: char, from: u32, to: u32) -> char {
    char::from_u32(u32::from(letter) - from + to).unwrap_or(letter)
}

/// Returns a letter without its marks; nothing of what is only a mark.
pub(super) fn plain(letter: char) -> Option<char> {
    if letter.is_ascii() {
        return (letter != '^' && letter != '`').then_some(letter);
    }
    let marks = CodePointSetData::new::<Diacritic>();
    if marks.contains(letter) {
        return None;
    }
    let bare = std::iter::once(letter)
        .nfd()
        .filter(|part| !marks.contains(*part));
    let mut bare = bare.nfc();
    match (bare.next(), bare.next()) {
        (Some(plain), None) => Some(plain),
        _ => Some(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_at_signs_but_for_the_apostrophe_of_english() {
        for sign in ['-', '.', '"', '¿', '«', ' ', '\n', '^', '`', '\u{2019}'] {
            assert!(
                is_delimiter(sign, true) && is_delimiter(sign, false),
                "{sign:?}"
            );
        }
        for letter in ['a', 'ê', 'π', 'Ω', 'å', '_', '7', '漢'] {
            assert!(
                !is_delimiter(letter, true) && !is_delimiter(letter, false),
                "{letter:?}"
            );
        }
        assert!(is_delimiter('\'', false) && !is_delimiter('\'', true));
    }

    #[test]
    fn a_letter_loses_its_marks_and_its_case_once_and_for_all() {
        let letters = (0..0x3400).chain(0xa000..0xb000).chain(0xf900..0x1_1000);
        let letters = letters.filter_map(char::from_u32);
        for letter in letters {
            for is_turkish in [false, true] {
                let once = folded(letter, is_turkish);
                assert_eq!(folded(once, is_turkish), once, "{letter:?}");
            }
            if let Some(once) = plain(letter) {
                assert_eq!(plain(once), Some(once), "{letter:?}");
            }
        }
    }

    #[test]
    fn letters_fold_as_unicode_has_it() {
        let folded: String = "ÁÊÑÅÇ ΣΟΦΟΣ ς ẞ İ I Ꭰ ꭰ"
            .chars()
            .map(|letter| folded(letter, false))
            .collect();
        assert_eq!(folded, "áêñåç σοφοσ σ ß İ i Ꭰ Ꭰ");
        let plain: String = "áêñåç øßæ が İ e\u{301} a^b`"
            .chars()
            .filter_map(plain)
            .collect();
        assert_eq!(plain, "aenac øßæ か I e ab");
        assert_eq!(
            (super::folded('I', true), super::folded('İ', true)),
            ('ı', 'i')
        );
    }
}
