//! Which content tokens of two texts have no partner in the other, and how the others found theirs.

use super::analysed::{Analysed, Token};
use super::lexicon::{LEXICON, flag};

/// Tokens without an equal that are looked at for a likely partner; in texts that differ more it does not matter.
const LOOKED_AT: usize = 32;

/// Letters of a word from which one slip of the keyboard is forgiven.
const TYPO: usize = 4;

/// The same for two words that are both written as names: Jensen is not Jansen, but Australa is Australia.
pub const NAME_SLIP: usize = 8;

/// Letters of an initialism: more are a word.
const INITIALS: std::ops::RangeInclusive<usize> = 2..=6;

/// What is left over, as positions of tokens in either text, and how many partners were found by which rule.
#[derive(Debug, Default)]
pub struct Pairing {
    /// Positions in the query without partner, rising.
    pub a: Vec<usize>,
    /// Positions in the cached text without partner, rising.
    pub b: Vec<usize>,
    /// Keys of the query's tokens, equal to those of their partners however they were found.
    pub a_keys: Vec<u64>,
    /// The same of the cached text.
    pub b_keys: Vec<u64>,
    /// Partners that share a root only.
    pub derived: usize,
    /// Partners by the list of synonyms.
    pub synonyms: usize,
    /// Partners by a slip of the keyboard.
    pub typos: usize,
}

/// Positions whose keys the other side lacks, both as multisets.
pub fn unmatched(a: &[(u64, usize)], b: &[(u64, usize)]) -> (Vec<usize>, Vec<usize>) {
    let sorted = |side: &[(u64, usize)]| {
        let mut side = side.to_vec();
        side.sort_unstable();
        side
    };
    let (a, b) = (sorted(a), sorted(b));
    let (mut only_a, mut only_b) = (Vec::new(), Vec::new());
    let (mut left, mut right) = (a.iter().peekable(), b.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (Some((x, _)), Some((y, _))) if x == y => {
                left.next();
                right.next();
            }
            (Some((x, at)), other) if other.is_none_or(|(y, _)| x < y) => {
                only_a.push(*at);
                left.next();
            }
            (_, Some((_, at))) => {
                only_b.push(*at);
                right.next();
            }
            (_, None) => break,
        }
    }
    only_a.sort_unstable();
    only_b.sort_unstable();
    (only_a, only_b)
}

/// Pairs the content tokens of two texts.
pub fn pair(a: &Analysed, b: &Analysed) -> Pairing {
    let content = |text: &Analysed| -> Vec<(u64, usize)> {
        text.tokens.iter().enumerate().filter(|(_, token)| token.content()).map(|(at, token)| (token.key, at)).collect()
    };
    let (only_a, only_b) = unmatched(&content(a), &content(b));
    let keys = |text: &Analysed| text.tokens.iter().map(|token| token.key).collect();
    let mut pairing = Pairing { a: only_a, b: only_b, a_keys: keys(a), b_keys: keys(b), ..Pairing::default() };
    if pairing.a.is_empty() && pairing.b.is_empty() {
        return pairing;
    }
    pairing.derived = pairing.join(a, b, |a, x, b, y| {
        let exact = (x.flags | y.flags) & flag::NUMBER != 0 || x.flags & y.flags & flag::CODE != 0;
        !exact && x.root == y.root && !opposed(a, x, b, y)
    });
    pairing.typos = pairing.join(a, b, slipped);
    pairing.compounds(a, b);
    pairing.initialisms(a, b);
    pairing.synonyms = pairing.join(a, b, |_, x, _, y| LEXICON.synonym(x.key, y.key));
    pairing
}

/// un-, in-, dis- … before the other word: the opposite, however alike they look.
pub fn opposed(a: &Analysed, x: &Token, b: &Analysed, y: &Token) -> bool {
    const PREFIXES: [&str; 9] = ["un", "in", "dis", "non", "im", "ir", "il", "de", "anti"];
    let (x, y) = (a.word(x), b.word(y));
    let (long, short) = if x.len() > y.len() { (x, y) } else { (y, x) };
    // Prefix plus two letters of the word, so that "press" is not the opposite of "impress" by its ending.
    short.len() > 3
        && PREFIXES.iter().any(|prefix| {
            long.strip_prefix(prefix).is_some_and(|rest| {
                rest == short
                    || (rest.len() > 4
                        && short.len() > 4
                        && rest.get(..5) == short.get(..5)
                        && rest.len().abs_diff(short.len()) <= 3)
            })
        })
}

impl Pairing {
    /// Takes out the pairs for which a rule holds, each token once, and returns how many.
    fn join(
        &mut self,
        a: &Analysed,
        b: &Analysed,
        rule: impl Fn(&Analysed, &Token, &Analysed, &Token) -> bool,
    ) -> usize {
        let mut found = 0;
        let mut i = 0;
        while let Some(x) = self.a.get(i).filter(|_| i < LOOKED_AT).and_then(|at| a.tokens.get(*at)) {
            let partner =
                self.b.iter().take(LOOKED_AT).position(|at| b.tokens.get(*at).is_some_and(|y| rule(a, x, b, y)));
            if let Some(j) = partner {
                let (x, y) = (self.a.remove(i), self.b.remove(j));
                if let (Some(key), Some(slot)) = (self.a_keys.get(x), self.b_keys.get_mut(y)) {
                    *slot = *key;
                }
                found += 1;
            } else {
                i += 1;
            }
        }
        found
    }

    /// "back end" and "backend": two neighbours of one text are one word of the other.
    fn compounds(&mut self, a: &Analysed, b: &Analysed) {
        compound(&mut self.a, a, &mut self.b, b);
        compound(&mut self.b, b, &mut self.a, a);
    }

    /// "asap" and "as soon as possible": the initials of words of the other text.
    fn initialisms(&mut self, a: &Analysed, b: &Analysed) {
        initialism(&mut self.a, a, &mut self.b, b);
        initialism(&mut self.b, b, &mut self.a, a);
    }
}

fn compound(parts: &mut Vec<usize>, of: &Analysed, wholes: &mut Vec<usize>, whole_of: &Analysed) {
    let mut j = 0;
    while let Some(whole) = wholes.get(j).filter(|_| j < LOOKED_AT).and_then(|at| whole_of.tokens.get(*at)) {
        let word = whole_of.word(whole);
        let found = parts.iter().take(LOOKED_AT).position(|at| {
            let (Some(first), Some(second)) = (of.tokens.get(*at), of.tokens.get(at + 1)) else { return false };
            let (first, second) = (of.word(first), of.word(second));
            first.len() + second.len() == word.len()
                && word.starts_with(first)
                && word.ends_with(second)
                && !first.is_empty()
                && !second.is_empty()
        });
        if let Some(i) = found {
            let at = parts.remove(i);
            parts.retain(|other| *other != at + 1);
            wholes.remove(j);
        } else {
            j += 1;
        }
    }
}

fn initialism(shorts: &mut Vec<usize>, of: &Analysed, longs: &mut Vec<usize>, long_of: &Analysed) {
    let mut i = 0;
    while let Some(short) = shorts.get(i).filter(|_| i < LOOKED_AT).and_then(|at| of.tokens.get(*at)) {
        let word = of.word(short);
        let letters = word.chars().count();
        let begins = INITIALS.contains(&letters) && !short.is(flag::NUMBER | flag::OPERATOR);
        let found = longs.iter().take(LOOKED_AT).filter(|_| begins).find_map(|at| {
            // Initials may begin at a stop word right before: "as soon as possible".
            (at.saturating_sub(1)..=*at).find(|start| {
                let mut words = long_of.tokens.get(*start..start + letters).into_iter().flatten();
                word.chars().all(|c| words.next().is_some_and(|token| long_of.word(token).starts_with(c)))
            })
        });
        if let Some(start) = found {
            shorts.remove(i);
            longs.retain(|at| !(start..start + letters).contains(at));
        } else {
            i += 1;
        }
    }
}

/// One slip of the keyboard between two words of an alphabet, at least one of which is no word.
fn slipped(a: &Analysed, x: &Token, b: &Analysed, y: &Token) -> bool {
    let both = x.flags & y.flags & flag::KNOWN != 0;
    if both || (x.flags | y.flags) & (flag::NUMBER | flag::CODE | flag::OPERATOR) != 0 {
        return false;
    }
    let names = x.is(flag::NAME) && y.is(flag::NAME);
    let (x, y) = (a.word(x), b.word(y));
    if x.bytes().chain(y.bytes()).any(|byte| byte.is_ascii_digit()) || !(a.english() && b.english()) {
        return false;
    }
    x.len().min(y.len()) >= if names { NAME_SLIP } else { TYPO } && one_edit(x, y) && !starts_differ(x, y)
}

/// The first letter is hardly ever mistyped, and short names differ in it.
fn starts_differ(x: &str, y: &str) -> bool {
    x.chars().next() != y.chars().next() && x.len().min(y.len()) < 6
}

/// Whether one insertion, deletion, substitution or exchange of neighbours turns one word into the other.
pub fn one_edit(x: &str, y: &str) -> bool {
    if x.len().abs_diff(y.len()) > 4 || x == y {
        return false;
    }
    let (x, y): (Vec<char>, Vec<char>) = (x.chars().collect(), y.chars().collect());
    if x.len().abs_diff(y.len()) > 1 || x.len() > 64 {
        return false;
    }
    let head = x.iter().zip(&y).take_while(|(a, b)| a == b).count();
    let most = x.len().min(y.len()) - head;
    let tail = x.iter().rev().zip(y.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let (x, y) = (x.get(head..x.len() - tail).unwrap_or_default(), y.get(head..y.len() - tail).unwrap_or_default());
    match (x, y) {
        ([_], [_] | []) | ([], [_]) => true,
        ([a, b], [c, d]) => a == d && b == c,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::analysed::Analysed;
    use super::{one_edit, pair};

    fn left(a: &str, b: &str) -> (usize, usize) {
        let pairing = pair(&Analysed::new(a), &Analysed::new(b));
        (pairing.a.len(), pairing.b.len())
    }

    #[test]
    fn slips_are_one_edit() {
        assert!(one_edit("recieve", "receive"));
        assert!(one_edit("pyton", "python"));
        assert!(one_edit("pythonn", "python"));
        assert!(one_edit("pythen", "python"));
        assert!(!one_edit("python", "python"));
        assert!(!one_edit("pxthen", "python"));
    }

    #[test]
    fn the_same_in_other_words_finds_its_partner() {
        for (a, b) in [
            ("instalation of docker", "docker installation"),
            ("backend developer", "back end developer"),
            ("what does ROI mean", "what does return on investment mean"),
            ("buy 2,000 bricks", "buy two thousand bricks"),
            ("meet at 5 pm", "meet at 17:00"),
            ("50% off", "50 percent off"),
            ("k8s tutorial", "kubernetes tutorial"),
            ("NYC hotels", "New York hotels"),
        ] {
            assert_eq!(left(a, b), (0, 0), "{a} | {b}");
        }
    }

    #[test]
    fn another_thing_finds_none() {
        for (a, b) in [
            ("weight of a panda", "height of a panda"),
            ("python 3.10", "python 3.1"),
            ("stable version", "unstable version"),
        ] {
            assert_ne!(left(a, b), (0, 0), "{a} | {b}");
        }
    }
}
