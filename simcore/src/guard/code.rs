//! Differences in code: tokens of code are compared as written and in order, operators included.

use rustc_hash::FxHashSet;

use super::analysed::{Analysed, Token};
use super::features::{Feature, Features};
use super::lexicon::flag;
use super::pairing::unmatched;

/// Tokens of code that are looked at.
const LOOKED_AT: usize = 4096;

/// Sets the features of code.
pub fn measure(a: &Analysed, b: &Analysed, features: &mut Features) {
    let code = |text: &Analysed| -> Vec<(u64, usize)> {
        text.tokens
            .iter()
            .enumerate()
            .filter(|(_, token)| token.is(flag::CODE))
            .take(LOOKED_AT)
            .map(|(at, token)| (token.exact, at))
            .collect()
    };
    let (in_a, in_b) = (code(a), code(b));
    if in_a.is_empty() && in_b.is_empty() {
        return;
    }
    let (only_a, only_b) = unmatched(&in_a, &in_b);
    let (x, y) = (lacking(a, &only_a, b, in_b.is_empty()), lacking(b, &only_b, a, in_a.is_empty()));
    if x > 0 && y > 0 {
        features.count(Feature::CodeSub, x.min(y), 3);
    } else {
        features.count(Feature::CodeOne, x.max(y), 3);
    }
    let same = only_a.is_empty() && only_b.is_empty();
    let turned = same && in_a.iter().zip(&in_b).any(|(x, y)| x.0 != y.0);
    features.set(Feature::CodeOrder, f32::from(u8::from(turned)));
}

/// How many of the positions the other text lacks also as plain words: not everybody marks code as code.
fn lacking(own: &Analysed, positions: &[usize], other: &Analysed, unmarked: bool) -> usize {
    let words: FxHashSet<u64> = other.tokens.iter().flat_map(|token: &Token| [token.exact, token.key]).collect();
    let lacks = |token: &&Token| {
        let word = words.contains(&token.exact) || (!token.is(flag::OPERATOR) && words.contains(&token.key));
        // Where the other text has no code at all, such a sign may be a word there.
        let sign = unmarked && token.is(flag::OPERATOR) && ["/", "&", "|", "~", "+"].contains(&own.word(token));
        !word && !sign
    };
    positions.iter().filter_map(|at| own.tokens.get(*at)).filter(lacks).count()
}
