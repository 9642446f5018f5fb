//! Differences in order: who does what to whom, what becomes what, and questions that are turned round.

use rustc_hash::FxHashMap;

use super::analysed::{Analysed, Token};
use super::asking::participle;
use super::features::{Feature, Features};
use super::lexicon::{LEXICON, flag};
use super::pairing::Pairing;

/// Content tokens whose order is looked at; a long text that was turned round shows it in its beginning too.
const LOOKED_AT: usize = 512;

/// Tokens before a word in which its preposition is looked for.
const REACH: usize = 4;

/// A content token that occurs once in either text.
#[derive(Clone, Copy)]
struct Shared {
    a: usize,
    b: usize,
}

/// Sets all features of order; `exact` texts have none.
pub fn measure(a: &Analysed, b: &Analysed, pairing: &Pairing, features: &mut Features) {
    let shared = shared((a, &pairing.a_keys), (b, &pairing.b_keys));
    inversions(a, b, &shared, features);
    let passive = a.passive != b.passive;
    swaps(a, b, &shared, passive, features);
    roles(a, b, &shared, features);
    turns(a, b, &shared, passive, features);
    let rebound = if passive { 0 } else { rebound((a, &pairing.a_keys), (b, &pairing.b_keys)) };
    features.count(Feature::Rebound, rebound, 3);
    let directions = |text: &Analysed| {
        text.tokens.iter().filter(|token| token.is(flag::DIRECTION)).map(|token| (token.key, 0)).collect::<Vec<_>>()
    };
    let (only_a, only_b) = super::pairing::unmatched(&directions(a), &directions(b));
    features.count(Feature::DirOne, only_a.len().max(only_b.len()), 3);
    features.count(Feature::Voice, voices(a, b, &shared), 2);
    let formed = |pair: &&Shared| {
        a.tokens.get(pair.a).zip(b.tokens.get(pair.b)).is_some_and(|(x, y)| a.word(x) != b.word(y) && x.root == y.root)
    };
    features.count(Feature::Forms, shared.iter().take(VERBS).filter(formed).count(), 3);
}

/// Words that a part has at least which may go from the beginning to the end: "on a Mac", no single "only".
const PART: usize = 2;

/// Whether the second is the first with its beginning put at its end: "at night, why …" and "why … at night".
pub fn rotated(a: &[u64], b: &[u64]) -> bool {
    if a.len() != b.len() || a.len() < 2 * PART || a == b {
        return false;
    }
    // Of texts that repeat themselves many beginnings fit; a few are tried.
    let cuts = (PART..=a.len() - PART).filter(|cut| a.get(*cut) == b.first()).take(8);
    let turned = |cut: usize| {
        let (head, tail) = a.split_at(cut);
        b.strip_prefix(tail) == Some(head)
    };
    cuts.into_iter().any(turned)
}

/// Verbs that are passive in one text only although the same word follows them in both: who teaches is then taught.
fn voices(a: &Analysed, b: &Analysed, shared: &[Shared]) -> usize {
    let kept = |verb: &Shared| {
        let in_a = shared.iter().filter(|other| other.a > verb.a).min_by_key(|other| other.a);
        let in_b = shared.iter().filter(|other| other.b > verb.b).min_by_key(|other| other.b);
        in_a.zip(in_b).is_some_and(|(x, y)| x.a == y.a)
    };
    let inflected = |verb: &&Shared| {
        [a.tokens.get(verb.a), b.tokens.get(verb.b)].into_iter().flatten().any(|token| token.is(flag::INFLECTED))
    };
    let passive = |verb: &&Shared| participle(&a.tokens, verb.a) != participle(&b.tokens, verb.b);
    let turned = |verb: &&Shared| inflected(verb) && passive(verb) && kept(verb);
    shared.iter().take(VERBS).filter(turned).count()
}

/// Shared words that are looked at as verbs.
const VERBS: usize = 24;

/// Content tokens that are unique in both texts, in the order of the first.
fn shared(a: (&Analysed, &[u64]), b: (&Analysed, &[u64])) -> Vec<Shared> {
    let unique = |(text, keys): (&Analysed, &[u64])| {
        let mut places: FxHashMap<u64, Option<usize>> = FxHashMap::default();
        let content = text.tokens.iter().zip(keys).enumerate().filter(|(_, (token, _))| token.content());
        for (at, (token, key)) in content.take(LOOKED_AT) {
            // A name that is said twice still has its first place.
            let name = token.is(flag::NAME);
            places.entry(*key).and_modify(|place| *place = place.filter(|_| name)).or_insert(Some(at));
        }
        places
    };
    let (in_a, in_b) = (unique(a), unique(b));
    let mut shared: Vec<Shared> =
        in_a.iter().filter_map(|(key, a)| Some(Shared { a: (*a)?, b: (*in_b.get(key)?)? })).collect();
    shared.sort_unstable_by_key(|pair| pair.a);
    shared
}

/// Whether only words that join stand between two positions.
fn joined(text: &Analysed, x: usize, y: usize) -> bool {
    let (from, to) = (x.min(y) + 1, x.max(y));
    let between = text.tokens.get(from..to).unwrap_or_default();
    !between.is_empty()
        && between.len() <= 3
        && between.iter().any(|token| token.is(flag::JOINING))
        && between
            .iter()
            .all(|token| token.is(flag::JOINING | flag::STOP) && !token.is(flag::PREPOSITION | flag::NEGATION))
}

fn inversions(a: &Analysed, b: &Analysed, shared: &[Shared], features: &mut Features) {
    let steps = shared.len().saturating_sub(1).max(1) as f32;
    let (mut inverted, mut moved, mut flips) = (0, 0, 0);
    for pair in shared.windows(2) {
        let [x, y] = pair else { continue };
        if y.b < x.b {
            inverted += 1;
            let symmetric = joined(a, x.a, y.a) && joined(b, x.b, y.b);
            moved += usize::from(!symmetric);
            flips += usize::from(!symmetric && y.a == x.a + 1 && x.b == y.b + 1);
        }
    }
    // In the passive voice who does it comes last.
    let (inverted, moved, flips) = if a.passive == b.passive { (inverted, moved, flips) } else { (0, 0, 0) };
    features.set(Feature::Inv, inverted as f32 / steps);
    features.set(Feature::Moved, moved as f32 / steps);
    features.count(Feature::AdjFlip, flips, 3);
}

fn swaps(a: &Analysed, b: &Analysed, shared: &[Shared], passive: bool, features: &mut Features) {
    let kin = |x: &Token, y: &Token| {
        let class = x.classes.iter().any(|c| *c != 0 && y.classes.iter().any(|d| c >> 8 == d >> 8 && c != d));
        class || (x.is(flag::NAME) && y.is(flag::NAME))
    };
    let (mut swapped, mut kept) = (0, 0);
    let telling = |pair: &&Shared| {
        a.tokens
            .get(pair.a)
            .is_some_and(|token| token.is(flag::NAME) || token.classes.first().is_some_and(|class| *class != 0))
    };
    let names: Vec<Shared> = shared.iter().filter(telling).copied().collect();
    for pair in names.windows(2) {
        let [first, second] = pair else { continue };
        let (Some(x), Some(y)) = (a.tokens.get(first.a), a.tokens.get(second.a)) else { continue };
        if kin(x, y) || b.tokens.get(first.b).zip(b.tokens.get(second.b)).is_some_and(|(x, y)| kin(x, y)) {
            let symmetric = joined(a, first.a, second.a) && joined(b, first.b, second.b);
            if second.b < first.b {
                swapped += usize::from(!symmetric);
            } else {
                kept += 1;
            }
        }
    }
    // "Did Ann hit Bob" asks what "was Bob hit by Ann" asks; with the names in the same order it does not.
    if passive {
        let same_order = shared.len() >= 2 && shared.first().zip(shared.last()).is_some_and(|(x, y)| x.b < y.b);
        features.set(Feature::Passive, f32::from(u8::from(same_order || kept > swapped)));
        features.count(Feature::SwapCls, if swapped > 0 { 0 } else { kept }, 2);
    } else {
        features.count(Feature::SwapCls, swapped, 2);
    }
}

/// The preposition that governs a position: the nearest before it, unless a shared content word stands between, or a
/// question word that it governs itself: "by whom was Ann …".
fn governor(text: &Analysed, at: usize) -> Option<&Token> {
    let own = text.tokens.get(at)?;
    let before = at.saturating_sub(REACH)..at;
    for (place, token) in before.clone().zip(text.tokens.get(before)?).rev() {
        if token.sentence != own.sentence {
            return None;
        }
        if token.is(flag::PREPOSITION) {
            return (!asked(text, place)).then_some(token);
        }
        if token.content() {
            return None;
        }
    }
    None
}

/// Whether what stands behind a position is a question word, or nothing in its sentence.
fn asked(text: &Analysed, at: usize) -> bool {
    let next =
        text.tokens.get(at + 1).filter(|next| text.tokens.get(at).is_some_and(|own| own.sentence == next.sentence));
    next.is_none_or(|next| next.is(flag::QUESTION))
}

/// Prepositions of what is asked for: "by whom", "who … by?"; of a long text only the first of them.
fn stranded(text: &Analysed) -> Vec<u64> {
    let prepositions = text.tokens.iter().enumerate().filter(|(_, token)| token.is(flag::PREPOSITION));
    prepositions.filter(|(at, _)| asked(text, *at)).map(|(_, token)| token.key).take(REACH).collect()
}

fn roles(a: &Analysed, b: &Analysed, shared: &[Shared], features: &mut Features) {
    let (mut directed, mut gained, mut lost) = (0, Vec::new(), Vec::new());
    for pair in shared {
        match (governor(a, pair.a), governor(b, pair.b)) {
            (Some(x), Some(y)) if x.key != y.key => {
                directed += usize::from(x.is(flag::DIRECTION) && y.is(flag::DIRECTION))
            }
            (Some(x), None) => lost.push(x.key),
            (None, Some(y)) => gained.push(y.key),
            _ => {}
        }
    }
    let exchanged = lost.iter().filter(|key| gained.contains(key)).count();
    let (in_a, in_b) = (stranded(a), stranded(b));
    let left = |own: &Analysed, at: usize, other: &Analysed, to: usize, away: &[u64]| {
        let held = governor(own, at).map(|token| token.key);
        held.is_some_and(|key| away.contains(&key)) && governor(other, to).map(|token| token.key) != held
    };
    let parted = |pair: &&Shared| left(a, pair.a, b, pair.b, &in_b) || left(b, pair.b, a, pair.a, &in_a);
    features.count(Feature::Stranded, shared.iter().filter(parted).count(), 2);
    features.count(Feature::RoleSwap, exchanged, 2);
    features.count(Feature::RoleDir, directed, 2);
}

/// The preposition that alone, but for other stop words, stands between two positions.
fn between(text: &Analysed, x: usize, y: usize) -> Option<&Token> {
    let tokens = text.tokens.get(x.min(y) + 1..x.max(y))?;
    let mut prepositions = tokens.iter().filter(|token| token.is(flag::PREPOSITION));
    let found = prepositions.next()?;
    (prepositions.next().is_none() && tokens.iter().all(|token| !token.content())).then_some(found)
}

fn turns(a: &Analysed, b: &Analysed, shared: &[Shared], passive: bool, features: &mut Features) {
    let mut turned = 0;
    for pair in shared.windows(2) {
        let [x, y] = pair else { continue };
        if y.b < x.b
            && let (Some(p), Some(q)) = (between(a, x.a, y.a), between(b, x.b, y.b))
        {
            turned += usize::from(p.key == q.key || (p.is(flag::ONTO) && q.is(flag::ONTO)));
        }
    }
    let triples = shared.windows(3).filter(|triple| matches!(triple, [x, y, z] if z.b < y.b && y.b < x.b)).count();
    features.count(Feature::Turned, turned, 2);
    features.count(Feature::Reversed, if passive { 0 } else { triples }, 2);
}

/// What a number, name or quantifier stands before, if it occurs once: key of the token and of the next content token.
fn bindings(text: &Analysed, keys: &[u64]) -> FxHashMap<u64, Option<(u64, bool)>> {
    let mut found: FxHashMap<u64, Option<(u64, bool)>> = FxHashMap::default();
    for (at, token) in text.tokens.iter().enumerate().take(LOOKED_AT) {
        let quantifier = LEXICON.quantifier(token.classes).is_some();
        let (Some(key), true) = (keys.get(at), quantifier || token.is(flag::NUMBER | flag::NAME)) else { continue };
        let next = text.tokens.iter().zip(keys).skip(at + 1).find(|(next, _)| next.content());
        let bound = next.filter(|(next, _)| next.sentence == token.sentence).map(|(_, key)| (*key, quantifier));
        found.entry(*key).and_modify(|place| *place = None).or_insert(bound);
    }
    found
}

/// Tokens that stand before another shared word: two numbers or names that change places, or one quantifier that moves.
fn rebound((a, a_keys): (&Analysed, &[u64]), (b, b_keys): (&Analysed, &[u64])) -> usize {
    let (in_a, in_b) = (bindings(a, a_keys), bindings(b, b_keys));
    if in_a.is_empty() || in_b.is_empty() {
        return 0;
    }
    let has = |keys: &[u64], key: &u64| keys.contains(key);
    let (mut things, mut quantifiers) = (0, 0);
    for (key, bound) in &in_a {
        if let (Some((x, quantifier)), Some(Some((y, _)))) = (bound, in_b.get(key))
            && x != y
            && has(b_keys, x)
            && has(a_keys, y)
        {
            if *quantifier {
                quantifiers += 1;
            } else {
                things += 1;
            }
        }
    }
    quantifiers + if things >= 2 { things } else { 0 }
}
