//! How much of two texts is shared: content, adjacent pairs, and what is left of long texts without their common part.

use rustc_hash::{FxHashMap, FxHashSet};

use super::analysed::{Analysed, Token};
use super::features::{Feature, Features};
use super::lexicon::flag;
use super::pairing::{Pairing, unmatched};

/// Sets the features of overlap.
pub fn measure(a: &Analysed, b: &Analysed, pairing: &Pairing, features: &mut Features) {
    let out = |text: &Analysed, positions: &[usize]| -> (f32, f32) {
        positions
            .iter()
            .filter_map(|at| text.tokens.get(*at))
            .fold((0.0, 0.0), |(sum, most), token| (sum + token.idf, token.idf.max(most)))
    };
    let content = |text: &Analysed| {
        text.tokens
            .iter()
            .filter(|token| token.content())
            .fold((0.0, 0_usize), |(sum, n), token| (sum + token.idf, n + 1))
    };
    let ((out_a, most_a), (out_b, most_b)) = (out(a, &pairing.a), out(b, &pairing.b));
    let ((all_a, n_a), (all_b, n_b)) = (content(a), content(b));
    features.set(Feature::Jac, share(out_a + out_b, all_a + all_b));
    features.set(Feature::WqMin, out_a.min(out_b));
    features.set(Feature::WqMax, out_a.max(out_b));
    features.set(Feature::Rare, most_a.min(most_b));
    features.count(Feature::OutMin, pairing.a.len().min(pairing.b.len()), 8);
    features.count(Feature::OutMax, pairing.a.len().max(pairing.b.len()), 8);
    features.set(Feature::Length, (1.0 + n_a.min(n_b) as f32).ln());
    features.set(Feature::Ratio, if n_a.max(n_b) == 0 { 1.0 } else { n_a.min(n_b) as f32 / n_a.max(n_b) as f32 });
    features.set(Feature::Sentences, (a.sentences.max(b.sentences).max(1) as f32).ln());
    features.set(Feature::Bigram, bigrams(&pairing.a_keys, &pairing.b_keys));
    features.set(Feature::Stop, stops(a, b));
    sentences(a, b, pairing, features);
    ends(a, b, pairing, features);
}

fn share(out: f32, all: f32) -> f32 {
    if all > 0.0 { (1.0 - out / all).max(0.0) } else { 1.0 }
}

fn jaccard(x: &[(u64, usize)], y: &[(u64, usize)]) -> f32 {
    let (only_x, only_y) = unmatched(x, y);
    let both = x.len() - only_x.len();
    let all = both + only_x.len() + only_y.len();
    if all == 0 { 1.0 } else { both as f32 / all as f32 }
}

fn bigrams(a: &[u64], b: &[u64]) -> f32 {
    let pairs = |keys: &[u64]| -> Vec<(u64, usize)> {
        keys.windows(2)
            .filter_map(|pair| match pair {
                [x, y] => Some((x ^ y.rotate_left(29), 0)),
                _ => None,
            })
            .collect()
    };
    jaccard(&pairs(a), &pairs(b))
}

fn stops(a: &Analysed, b: &Analysed) -> f32 {
    let words = |text: &Analysed| -> Vec<(u64, usize)> {
        text.tokens.iter().filter(|token| token.is(flag::STOP)).map(|token| (token.key, 0)).collect()
    };
    jaccard(&words(a), &words(b))
}

/// The key of every sentence with at least this many tokens; shorter ones are shared by chance.
const SENTENCE: usize = 4;

fn keys(text: &Analysed) -> FxHashMap<u32, u64> {
    let mut keys: FxHashMap<u32, (u64, usize)> = FxHashMap::default();
    for token in &text.tokens {
        let (key, count) = keys.entry(token.sentence).or_default();
        *key = key.rotate_left(7) ^ token.key;
        *count += 1;
    }
    keys.into_iter().filter(|(_, (_, count))| *count >= SENTENCE).map(|(sentence, (key, _))| (sentence, key)).collect()
}

/// Σidf of the content tokens of some sentences, and of those among them that have no partner.
fn part(text: &Analysed, out: &[usize], of: impl Fn(u32) -> bool) -> (f32, f32) {
    let all = text.tokens.iter().filter(|token| token.content() && of(token.sentence)).map(|token| token.idf).sum();
    let left = out
        .iter()
        .filter_map(|at| text.tokens.get(*at))
        .filter(|token| of(token.sentence))
        .map(|token| token.idf)
        .sum();
    (all, left)
}

fn sentences(a: &Analysed, b: &Analysed, pairing: &Pairing, features: &mut Features) {
    let whole = features.get(Feature::Jac);
    if a.sentences <= 1 && b.sentences <= 1 {
        features.set(Feature::Rest, whole);
        features.set(Feature::Edge, whole);
        return;
    }
    let (in_a, in_b) = (keys(a), keys(b));
    let (set_a, set_b): (FxHashSet<u64>, FxHashSet<u64>) =
        (in_a.values().copied().collect(), in_b.values().copied().collect());
    // What remains is paired anew: a word of the question that the shared context has too has no partner in it.
    let rest = |text: &Analysed, own: &FxHashMap<u32, u64>, other: &FxHashSet<u64>| -> Vec<Token> {
        text.tokens
            .iter()
            .filter(|token| token.content() && own.get(&token.sentence).is_none_or(|key| !other.contains(key)))
            .copied()
            .collect()
    };
    let (rest_a, rest_b) = (rest(a, &in_a, &set_b), rest(b, &in_b, &set_a));
    features.set(Feature::Rest, weighed(&rest_a, &rest_b));
    let last = |text: &Analysed| text.tokens.last().map_or(0, |token| token.sentence);
    let of = |text: &Analysed, sentence: u32| -> Vec<Token> {
        text.tokens.iter().filter(|token| token.content() && token.sentence == sentence).copied().collect()
    };
    let head = weighed(&of(a, 0), &of(b, 0));
    let tail = weighed(&of(a, last(a)), &of(b, last(b)));
    // A closing or opening sentence may have moved; then its words have partners elsewhere.
    let ((head_a, out_a), (head_b, out_b)) = (part(a, &pairing.a, |s| s == 0), part(b, &pairing.b, |s| s == 0));
    let ((tail_a, end_a), (tail_b, end_b)) =
        (part(a, &pairing.a, |s| s == last(a)), part(b, &pairing.b, |s| s == last(b)));
    let loose = share(out_a + out_b, head_a + head_b).min(share(end_a + end_b, tail_a + tail_b));
    features.set(Feature::Edge, head.min(tail).max(loose - 0.25).max(0.0));
}

/// `jac` of two lists of tokens by their keys and roots.
fn weighed(a: &[Token], b: &[Token]) -> f32 {
    let roots = |tokens: &[Token]| -> Vec<(u64, usize)> {
        tokens.iter().enumerate().map(|(at, token)| (token.root, at)).collect()
    };
    let (only_a, only_b) = unmatched(&roots(a), &roots(b));
    let sum = |tokens: &[Token], at: &[usize]| -> f32 {
        at.iter().filter_map(|at| tokens.get(*at)).map(|token| token.idf).sum()
    };
    let all: f32 = a.iter().chain(b).map(|token| token.idf).sum();
    share(sum(a, &only_a) + sum(b, &only_b), all)
}

/// Leftovers at the end of the texts, in quotation marks, and in languages that the lists do not know.
fn ends(a: &Analysed, b: &Analysed, pairing: &Pairing, features: &mut Features) {
    let left = |text: &Analysed, positions: &[usize], of: &dyn Fn(&Token) -> bool| {
        positions.iter().filter_map(|at| text.tokens.get(*at)).filter(|token| of(token)).count()
    };
    let (last_a, last_b) =
        (a.tokens.last().map_or(0, |token| token.sentence), b.tokens.last().map_or(0, |token| token.sentence));
    let tail =
        left(a, &pairing.a, &|token| token.sentence == last_a) + left(b, &pairing.b, &|token| token.sentence == last_b);
    features.count(Feature::TailOut, tail, 6);
    let quoted = |token: &Token| token.is(flag::QUOTED);
    features.count(Feature::Quoted, left(a, &pairing.a, &quoted) + left(b, &pairing.b, &quoted), 3);
    let last = |text: &Analysed, positions: &[usize]| {
        let noun = text.tokens.iter().rposition(|token| token.content());
        noun.is_some_and(|noun| positions.contains(&noun))
    };
    features.set(Feature::HeadNoun, f32::from(u8::from(last(a, &pairing.a) && last(b, &pairing.b))));
}
