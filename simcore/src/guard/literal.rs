//! Chunks that are meant letter for letter: patterns, paths, flags, signed numbers, whatever stands in a shell or a file.
//!
//! Tokens of code forgive brackets, case and what stands where; `^\d{3}` and `^\D{3}` or `src` and `src/` are then the
//! same. Here a chunk is what stands between two spaces, and equal means equal.

use super::analysed::Analysed;
use super::features::{Feature, Features};
use super::lexicon::key;
use super::pairing::unmatched;
use super::scan::unspaced;

/// Chunks of a text that are looked at.
const LOOKED_AT: usize = 4096;

/// Bytes of a chunk from which on it is no word of a pattern but something pasted.
const LONGEST: usize = 400;

/// Signs that hardly occur in a word of prose.
const SIGNS: &str = "\\{}[]=<>|^~$_@#%&*+;/(";

/// What stands round a chunk in a sentence.
const BEFORE: &[char] = &['"', '\'', '`', '('];
const AFTER: &[char] = &['"', '\'', '`', ')', '.', ',', ';', ':', '!', '?'];

/// The keys of the chunks of a text, then those of what it quotes.
pub fn literals(text: &str) -> Vec<u64> {
    let chunks = text.split(|c: char| c.is_whitespace() || unspaced(c));
    let marked = chunks.map(bare).filter(|chunk| literal(chunk)).take(LOOKED_AT);
    marked.chain(quotations(text).into_iter().take(LOOKED_AT)).map(key).collect()
}

/// What stands between two quotation marks or ticks of one line, if it is more than a word.
fn quotations(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (line, mark) in text.lines().flat_map(|line| [(line, '"'), (line, '`')]) {
        let mut parts = line.split(mark).skip(1);
        while let (Some(inner), Some(_)) = (parts.next(), parts.next()) {
            let inner = inner.trim().trim_end_matches(AFTER);
            if inner.len() <= LONGEST && inner.contains(char::is_whitespace) {
                found.push(inner);
            }
        }
    }
    found
}

/// Sets the features of literals.
pub fn measure(a: &Analysed, b: &Analysed, features: &mut Features) {
    if a.literals.is_empty() && b.literals.is_empty() {
        return;
    }
    let keys = |text: &Analysed| -> Vec<(u64, usize)> { text.literals.iter().map(|key| (*key, 0)).collect() };
    let (only_a, only_b) = unmatched(&keys(a), &keys(b));
    if only_a.is_empty() || only_b.is_empty() {
        features.count(Feature::LiteralOne, only_a.len().max(only_b.len()), 2);
    } else {
        features.count(Feature::LiteralSub, only_a.len().min(only_b.len()), 2);
    }
}

/// A chunk without the punctuation of its sentence, and without marks of emphasis.
fn bare(chunk: &str) -> &str {
    let mut chunk = chunk.trim_start_matches(BEFORE).trim_end_matches(AFTER);
    while let Some(inner) = ['*', '_'].iter().find_map(|mark| chunk.strip_prefix(*mark)?.strip_suffix(*mark)) {
        chunk = inner;
    }
    chunk
}

fn literal(chunk: &str) -> bool {
    if chunk.len() < 2 || chunk.len() > LONGEST || !chunk.contains(char::is_alphanumeric) {
        return false;
    }
    let signed = chunk.starts_with(['-', '+']);
    let marked = chunk.contains(|c| SIGNS.contains(c)) || chunk.contains("--") || chunk.contains("..") || signed;
    marked && !amount(chunk) && !prose(chunk)
}

/// "$2,000", "$2k", "50%", "#1": sums and shares have features of their own, and several spellings.
fn amount(chunk: &str) -> bool {
    let number = chunk.trim_start_matches(['$', '€', '£', '¥', '#']);
    let unit = number.trim_start_matches(|c: char| c.is_ascii_digit() || ".,".contains(c));
    let unit_ends = unit.chars().count() <= 2 && unit.chars().all(|c| c.is_alphabetic() || "%€+".contains(c));
    number.starts_with(|c: char| c.is_ascii_digit()) && unit_ends
}

/// "and/or", "24/7", "Q&A", "word(s", "C++", "C#", "#python", "me@example.org": signs that words bear.
fn prose(chunk: &str) -> bool {
    let between = |c: char| c.is_alphanumeric() || matches!(c, '/' | '&' | '\'' | '-' | '.');
    let joined = chunk.chars().all(between) && !chunk.starts_with(['/', '-', '.']) && !chunk.ends_with('/');
    let named = chunk.trim_end_matches(['+', '#']);
    let suffixed = named.len() <= 2 && named.chars().all(char::is_alphabetic);
    let tagged = chunk.strip_prefix('#').is_some_and(|tag| tag.chars().all(char::is_alphanumeric));
    let plural = ["(s", "(es"].iter().any(|ending| chunk.ends_with(ending));
    let address = chunk.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'));
    joined || suffixed || tagged || plural || address
}
