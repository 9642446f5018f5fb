//! How a text asks: which question, in the passive voice or not, in which tense, and with what force.

use super::analysed::Token;
use super::lexicon::{flag, key};

/// The kind of question: that of the last sentence which asks something, since the question follows its context.
pub fn asks(tokens: &[Token]) -> u64 {
    let mut found = 0;
    let mut sentence = u32::MAX;
    for (at, token) in tokens.iter().enumerate() {
        let bits = token.flags & flag::ASKING;
        let opens = at == 0 || tokens.get(at - 1).is_some_and(|last| last.sentence != token.sentence);
        let kind = kind_asked(bits, opens, tokens.get(at + 1..).unwrap_or_default());
        if kind != 0 && (token.sentence != sentence) {
            found = kind;
            sentence = token.sentence;
        }
    }
    if found != 0 {
        return found;
    }
    // "Birthplace of Ann" asks where, without a word that asks.
    tokens.iter().take(NAMED_WITHIN).find_map(named).unwrap_or_default()
}

/// Tokens behind "what" among which the noun stands that says what is asked: "what is the exact birth date".
const NAMED_WITHIN: usize = 6;

fn named(token: &Token) -> Option<u64> {
    let nouns = token.flags & flag::NOUNS;
    (nouns != 0).then_some(nouns / flag::NOUN * flag::ASKS)
}

fn kind_asked(bits: u64, opens: bool, rest: &[Token]) -> u64 {
    let [when, where_, who, why, how, what, yesno, count, measure] = std::array::from_fn(|i| flag::ASKS << i);
    if bits & how != 0 {
        let next = rest.first().map_or(0, |next| next.flags & flag::ASKING);
        return if next & (count | measure) != 0 { count } else { how };
    }
    if bits & yesno != 0 {
        return if opens { yesno } else { 0 };
    }
    if bits & what != 0 {
        return rest.iter().take(NAMED_WITHIN).find_map(named).unwrap_or(what);
    }
    bits & (when | where_ | who | why)
}

/// A form of "be", then a participle, then "by" within a few words: "was written by", "is Ann loved by".
pub fn passive(tokens: &[Token], lower: &str) -> bool {
    let word = |token: &Token| lower.get(token.span.0 as usize..token.span.1 as usize).unwrap_or_default();
    tokens.iter().enumerate().filter(|(_, token)| token.is(flag::PREPOSITION) && word(token) == "by").any(|(by, _)| {
        let before = tokens.get(by.saturating_sub(8)..by).unwrap_or_default();
        let participle = before.last().is_some_and(|last| {
            let form = word(last);
            last.content()
                && (form.ends_with("ed")
                    || form.ends_with('n')
                    || form.ends_with('t')
                    || form.ends_with("de")
                    || form.ends_with("ung")
                    || key(form) != last.key)
        });
        participle && before.iter().any(|token| token.is(flag::BE))
    })
}

/// Whether the word at a position is a participle behind a form of "be" or "get": "is made", "get invited".
pub fn participle(tokens: &[Token], at: usize) -> bool {
    let before = tokens.get(at.saturating_sub(VOICE_WITHIN)..at).unwrap_or_default();
    let Some(token) = tokens.get(at) else { return false };
    token.is(flag::INFLECTED)
        && before.iter().any(|other| other.is(flag::BE) && other.sentence == token.sentence)
        // "Is Ann hitting Bob" is no passive; the form in -ing says so.
        && !token.is(flag::GERUND)
}

/// Tokens between "was" and its participle: "was the very old bridge built".
const VOICE_WITHIN: usize = 6;

/// Groups of words by which it shows when something is, and with what force; in the order of their bits after
/// [`flag::MOOD`].
pub const MOODS: [&str; 7] = ["past", "present", "future", "must", "may", "can", "ought"];

/// How often each group of [`MOODS`] occurs; what only makes a question polite is left out.
pub fn moods(tokens: &[Token]) -> [u16; MOODS.len()] {
    let [.., can, ought] = std::array::from_fn::<u64, { MOODS.len() }, _>(|group| flag::MOOD << group);
    let how = flag::ASKS << 4;
    let mut counts = [0; MOODS.len()];
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.is(flag::MOODS | flag::INFLECTED)) {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before));
        // "How can I" and "how should I" ask what "how do I" asks; "can you" only asks.
        let polite = token.is(can | ought) && before.is_some_and(|before| before.is(how))
            || token.is(can) && tokens.get(at + 1).is_some_and(|next| next.is(flag::PRONOUN << 4));
        // "Who won": the form alone says it.
        let told = token.is(flag::INFLECTED) && !token.is(flag::STOP | flag::NAME) && !participle(tokens, at);
        if let Some(past) = counts.first_mut().filter(|_| told) {
            *past += 1;
        }
        for (group, count) in counts.iter_mut().enumerate() {
            *count += u16::from(!polite && token.is(flag::MOOD << group));
        }
    }
    counts
}
