//! Where two texts differ when laid side by side: the shortest way from one to the other, in blocks.
//!
//! Whoever asks the same in other words changes many places; one word exchanged in an otherwise equal text is mostly
//! another question. Myers, "An O(ND) Difference Algorithm and Its Variations" (1986), cut off after [`MOST`] edits:
//! beyond them nothing is "otherwise equal".

use super::analysed::{Analysed, Token};
use super::features::{Feature, Features};
use super::lexicon::flag;

/// Single insertions and deletions up to which texts are laid side by side.
const MOST: usize = 24;

/// From this share of equal tokens on, a text is the same but for an exchange.
const FRAME: f32 = 0.85;

/// The same where the exchange is of a preposition, two words for one at most.
const PREPOSITION_FRAME: f32 = 0.7;

/// A block with more tokens on a side is another wording, no exchange.
const SMALL: usize = 3;

/// A place where the texts differ, as half-open ranges of tokens of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Tokens of the first text.
    pub a: (usize, usize),
    /// Tokens of the second.
    pub b: (usize, usize),
}

/// The blocks in which two sequences differ; `None` if they differ in more than [`MOST`] tokens.
pub fn blocks(a: &[u64], b: &[u64]) -> Option<Vec<Block>> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let most = a.len().min(b.len()) - head;
    let tail = a.iter().rev().zip(b.iter().rev()).take(most).take_while(|(x, y)| x == y).count();
    let (x, y) = (a.get(head..a.len() - tail)?, b.get(head..b.len() - tail)?);
    if x.len().abs_diff(y.len()) > MOST {
        return None;
    }
    let equal = matches(x, y)?;
    let (mut found, mut at) = (Vec::new(), (0, 0));
    for next in equal.into_iter().chain([(x.len(), y.len())]) {
        if next != at {
            found.push(Block { a: (head + at.0, head + next.0), b: (head + at.1, head + next.1) });
        }
        at = (next.0 + 1, next.1 + 1);
    }
    Some(found)
}

/// Pairs of equal positions on the shortest way, rising.
fn matches(x: &[u64], y: &[u64]) -> Option<Vec<(usize, usize)>> {
    let (n, m) = (x.len() as isize, y.len() as isize);
    const WIDTH: usize = 2 * MOST + 3;
    let place = |k: isize| (k + MOST as isize + 1) as usize;
    let mut furthest = [0_isize; WIDTH];
    let mut history: Vec<[isize; WIDTH]> = Vec::new();
    for d in 0..=MOST as isize {
        history.push(furthest);
        for k in (-d..=d).step_by(2) {
            let get = |k: isize| furthest.get(place(k)).copied().unwrap_or(-1);
            let mut i = if k == -d || (k != d && get(k - 1) < get(k + 1)) { get(k + 1) } else { get(k - 1) + 1 };
            while i < n && i - k < m && i - k >= 0 && x.get(i as usize) == y.get((i - k) as usize) {
                i += 1;
            }
            if let Some(slot) = furthest.get_mut(place(k)) {
                *slot = i;
            }
            if i >= n && i - k >= m {
                return Some(trace(&history, d, n, m, place));
            }
        }
    }
    None
}

/// Walks back from the end to the beginning.
fn trace<const W: usize>(
    history: &[[isize; W]],
    edits: isize,
    n: isize,
    m: isize,
    place: impl Fn(isize) -> usize,
) -> Vec<(usize, usize)> {
    let (mut i, mut j, mut equal) = (n, m, Vec::new());
    for d in (0..=edits).rev() {
        let Some(furthest) = history.get(d as usize) else { break };
        let get = |k: isize| furthest.get(place(k)).copied().unwrap_or(-1);
        let k = i - j;
        let down = k == -d || (k != d && get(k - 1) < get(k + 1));
        let from = if d == 0 {
            (0, 0)
        } else if down {
            (get(k + 1), get(k + 1) - k - 1)
        } else {
            (get(k - 1), get(k - 1) - k + 1)
        };
        while i > from.0
            && j > from.1
            && i > 0
            && j > 0
            && (d == 0 || i > from.0.max(0) + isize::from(!down) || j > from.1.max(0) + isize::from(down))
        {
            i -= 1;
            j -= 1;
            equal.push((i as usize, j as usize));
        }
        if d > 0 {
            (i, j) = from;
        }
    }
    equal.reverse();
    equal
}

/// Places in which texts of one length differ up to which they are looked at in pairs.
const PLACES: usize = 12;

/// Pairs of places of texts of one length whose words are exchanged. The shortest way may hide them in other blocks.
fn exchanges(a: &[u64], b: &[u64]) -> usize {
    if a.len() != b.len() {
        return 0;
    }
    let differ: Vec<(u64, u64)> =
        a.iter().zip(b).filter(|(x, y)| x != y).map(|(x, y)| (*x, *y)).take(PLACES + 1).collect();
    if differ.len() > PLACES {
        return 0;
    }
    let later = |at: usize| differ.iter().skip(at + 1);
    differ.iter().enumerate().map(|(at, (x, y))| later(at).filter(|(u, v)| x == v && y == u).count()).sum()
}

/// The keys of all but pronouns and auxiliaries, which change places when a sentence becomes a question.
fn telling(text: &Analysed, keys: &[u64]) -> Vec<u64> {
    let auxiliary = flag::ASKS << 6;
    let told = text.tokens.iter().zip(keys).filter(|(token, _)| !token.is(flag::PRONOUNS | flag::BE | auxiliary));
    told.map(|(_, key)| *key).collect()
}

/// Sets the features of texts laid side by side; `a_keys` and `b_keys` are equal for partners.
pub fn measure(a: &Analysed, a_keys: &[u64], b: &Analysed, b_keys: &[u64], features: &mut Features) {
    let Some(blocks) = blocks(a_keys, b_keys) else {
        features.set(Feature::Blocks, 9.0);
        return;
    };
    let of = |text: &'_ [u64], range: (usize, usize)| text.get(range.0..range.1).unwrap_or_default().to_vec();
    let sides: Vec<(Vec<u64>, Vec<u64>)> =
        blocks.iter().map(|block| (of(a_keys, block.a), of(b_keys, block.b))).collect();
    let changed: usize = sides.iter().map(|(x, y)| x.len() + y.len()).sum();
    let all = (a_keys.len() + b_keys.len()).max(1);
    features.count(Feature::Blocks, blocks.len(), 8);
    features.set(Feature::Frame, 1.0 - changed as f32 / all as f32);
    let (mut in_place, mut put_in, mut denied, mut governed, mut stops, mut exchanged, mut moves) =
        (0, 0, 0, 0, 0, 0, 0);
    for (at, (block, (x, y))) in blocks.iter().zip(&sides).enumerate() {
        let tokens_a = a.tokens.get(block.a.0..block.a.1).unwrap_or_default();
        let tokens_b = b.tokens.get(block.b.0..block.b.1).unwrap_or_default();
        let holds = |tokens: &[Token], bits: u64| tokens.iter().any(|token| token.is(bits));
        let content = |tokens: &[Token]| tokens.iter().any(Token::content);
        let others = sides.iter().enumerate().filter(|(other, _)| *other > at);
        if !x.is_empty() && !y.is_empty() {
            exchanged += others.clone().filter(|(_, (u, v))| x == v && y == u).count();
        }
        // What was cut out here stands there.
        let moved = |x: &[u64], y: &[u64]| x.len() == 1 + x.len() / 2 && !x.is_empty() && x == y;
        moves += others.filter(|(_, (u, v))| (y.is_empty() && moved(x, v)) || (x.is_empty() && moved(y, u))).count();
        if x.len() > SMALL || y.len() > SMALL {
            continue;
        }
        match (content(tokens_a), content(tokens_b)) {
            (true, true) => in_place += 1,
            (true, false) | (false, true) => put_in += 1,
            (false, false) => stops += usize::from(!x.is_empty() && !y.is_empty()),
        }
        denied += usize::from(holds(tokens_a, flag::NEGATION) != holds(tokens_b, flag::NEGATION));
        governed += usize::from(holds(tokens_a, flag::PREPOSITION) && holds(tokens_b, flag::PREPOSITION));
    }
    features.count(Feature::InPlace, in_place, 3);
    let framed = in_place > 0 && features.get(Feature::Frame) >= FRAME;
    features.set(Feature::InFrame, f32::from(u8::from(framed)));
    features.count(Feature::PutIn, put_in, 3);
    // As many negations in other places are another way to put it: "why don't they", "why do they not".
    let denials = |text: &Analysed| text.tokens.iter().filter(|token| token.is(flag::NEGATION)).count();
    features.count(Feature::NegPut, if denials(a) == denials(b) { 0 } else { denied }, 2);
    features.count(Feature::PrepPut, governed, 2);
    let alone = governed > 0 && blocks.len() == 1 && features.get(Feature::Frame) >= PREPOSITION_FRAME;
    features.set(Feature::PrepFrame, f32::from(u8::from(alone)));
    features.count(Feature::StopPut, stops, 3);
    features.count(
        Feature::Exchange,
        if a.passive == b.passive { exchanged.max(exchanges(&telling(a, a_keys), &telling(b, b_keys))) } else { 0 },
        2,
    );
    features.count(Feature::Moves, moves, 2);
}

#[cfg(test)]
mod tests {
    use super::{Block, blocks, exchanges};

    fn of(a: &str, b: &str) -> Option<Vec<Block>> {
        let keys = |text: &str| text.bytes().map(u64::from).collect::<Vec<_>>();
        blocks(&keys(a), &keys(b))
    }

    fn block(a: (usize, usize), b: (usize, usize)) -> Block {
        Block { a, b }
    }

    #[test]
    fn exchanges_are_seen_place_by_place() {
        let of = |a: &[u64], b: &[u64]| exchanges(a, b);
        assert_eq!(of(&[1, 7, 2, 8, 3], &[1, 8, 2, 7, 3]), 1);
        assert_eq!(of(&[1, 7, 2, 8, 3], &[1, 8, 2, 9, 3]), 0);
        assert_eq!(of(&[1, 2], &[1, 2, 3]), 0);
    }

    #[test]
    fn differences_are_found_where_they_are() {
        assert_eq!(of("abc", "abc"), Some(vec![]));
        assert_eq!(of("abc", "axc"), Some(vec![block((1, 2), (1, 2))]));
        assert_eq!(of("abc", "abxc"), Some(vec![block((2, 2), (2, 3))]));
        assert_eq!(of("abcdef", "xbcdey"), Some(vec![block((0, 1), (0, 1)), block((5, 6), (5, 6))]));
        assert_eq!(of("", "ab"), Some(vec![block((0, 0), (0, 2))]));
        assert_eq!(of("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), None);
    }

    /// The blocks and what is between them make up both texts, and what is between is equal.
    #[test]
    fn what_is_between_blocks_is_equal() {
        let mut state = 7_u64;
        let mut next = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..20_000 {
            let (n, m) = (next(14), next(14));
            let a: Vec<u64> = (0..n).map(|_| next(3)).collect();
            let b: Vec<u64> = (0..m).map(|_| next(3)).collect();
            let found = blocks(&a, &b).expect("few edits");
            let (mut i, mut j) = (0, 0);
            for block in found.iter().copied().chain([Block { a: (a.len(), a.len()), b: (b.len(), b.len()) }]) {
                assert_eq!(a[i..block.a.0], b[j..block.b.0], "{a:?} {b:?} {found:?}");
                (i, j) = (block.a.1, block.b.1);
            }
        }
    }
}
