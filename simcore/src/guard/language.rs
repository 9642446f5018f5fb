//! Which language a text seems to be in, told by its script and its function words.
//!
//! The lists know English well, the languages of `languages.txt` a little, and the others not at all. What is not
//! known is said, so that whoever decides can be stricter.

use super::analysed::Token;
use super::lexicon::{LEXICON, flag};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English, or too short to tell and of English words.
    English,
    /// A language of which the function words and negations are known.
    Listed(u32),
    /// Another, or none.
    Unknown,
}

/// Words looked at; the language does not change after so many.
const LOOKED_AT: usize = 400;

/// Finds the language and, if it is not English, sets its stop words and negations on the tokens.
pub fn of(tokens: &mut [Token], lower: &str) -> Language {
    let word = |token: &Token| lower.get(token.span.0 as usize..token.span.1 as usize).unwrap_or_default();
    let (mut english, mut known, mut letters, mut counts) = (0, 0, 0, [0_usize; 32]);
    for token in tokens.iter().take(LOOKED_AT) {
        if token.is(flag::NUMBER | flag::OPERATOR | flag::CODE) {
            continue;
        }
        letters += 1;
        let text = word(token);
        english += usize::from(token.is(flag::ENGLISH) && text.len() > 1);
        known += usize::from(token.is(flag::KNOWN) && text.is_ascii());
        let mut bits = LEXICON.function_word(text);
        while bits != 0 {
            counts[bits.trailing_zeros() as usize % 32] += 1;
            bits &= bits - 1;
        }
    }
    let (best, found) = counts
        .iter()
        .enumerate()
        .max_by_key(|(at, count)| (**count, usize::MAX - at))
        .map_or((0, 0), |(at, count)| (at, *count));
    if letters == 0 || (known * 2 >= letters && english + known >= found * 2) || (english >= 2 && english > found) {
        return Language::English;
    }
    let language = script(lower).or((found > 0 && found * 8 >= letters).then_some(best as u32));
    let Some(language) = language else {
        // A few names without a verb say nothing about the language.
        return if letters <= 2 && lower.is_ascii() { Language::English } else { Language::Unknown };
    };
    for token in tokens.iter_mut() {
        let text = word(token);
        let bit = 1_u32 << language;
        token.flags &= !(flag::STOP | flag::NEGATION | flag::ASKING);
        if LEXICON.function_word(text) & bit != 0 {
            token.flags |= flag::STOP;
        }
        if LEXICON.denies(text) & bit != 0 {
            token.flags |= flag::NEGATION;
        }
    }
    Language::Listed(language)
}

/// The language of a script that hardly another language is written in.
fn script(lower: &str) -> Option<u32> {
    let (mut kana, mut han, mut hangul, mut total) = (0, 0, 0, 0);
    for c in lower.chars().filter(|c| c.is_alphabetic()).take(LOOKED_AT) {
        total += 1;
        match c as u32 {
            0x3040..=0x30FF => kana += 1,
            0x3400..=0x9FFF => han += 1,
            0xAC00..=0xD7AF => hangul += 1,
            _ => {}
        }
    }
    let name = if kana * 10 > total && kana > 0 {
        "ja"
    } else if han * 2 > total {
        "zh"
    } else if hangul * 2 > total {
        "ko"
    } else {
        return None;
    };
    LEXICON.languages().iter().position(|other| *other == name).map(|at| at as u32)
}
