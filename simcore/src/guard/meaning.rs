//! Differences in what is said: opposites, negations, names, numbers, closed classes, modifiers, pronouns.

use super::analysed::{Analysed, Token};
use super::asking::MOODS;
use super::features::{Feature, Features};
use super::lexicon::{LEXICON, flag, key};
use super::pairing::{NAME_SLIP, Pairing, one_edit, opposed, unmatched};

/// Leftovers of a side that are compared with each of the other's.
const LOOKED_AT: usize = 24;

/// The tokens at some positions, at most as many as are compared pairwise.
fn at<'a>(text: &'a Analysed, positions: &'a [usize]) -> impl Iterator<Item = &'a Token> + Clone {
    positions.iter().take(LOOKED_AT).filter_map(|at| text.tokens.get(*at))
}

/// Sets all features that do not depend on order.
pub fn measure(a: &Analysed, b: &Analysed, pairing: &Pairing, features: &mut Features) {
    opposites(a, b, pairing, features);
    let denied = |text: &Analysed| text.tokens.iter().filter(|token| token.is(flag::NEGATION)).count();
    features.count(Feature::Neg, denied(a).abs_diff(denied(b)), 2);
    names(a, b, pairing, features);
    numbers(a, b, pairing, features);
    classes(a, b, pairing, features);
    modifiers(a, b, pairing, features);
    pronouns(a, b, features);
    questions(a, b, features);
    let quantities = |text: &Analysed| -> Vec<(u64, usize)> {
        let of = |token: &Token| LEXICON.quantifier(token.classes).map(|member| (u64::from(member), 0));
        text.tokens.iter().filter_map(of).collect()
    };
    let (only_a, only_b) = unmatched(&quantities(a), &quantities(b));
    features.count(Feature::Quantity, only_a.len().max(only_b.len()), 2);
    features.count(Feature::QuantSub, only_a.len().min(only_b.len()), 2);
    let prepositions = |text: &Analysed| -> Vec<(u64, usize)> {
        text.tokens.iter().filter(|token| token.is(flag::PREPOSITION)).map(|token| (token.key, 0)).collect()
    };
    let (only_a, only_b) = unmatched(&prepositions(a), &prepositions(b));
    features.count(Feature::PrepSub, only_a.len().min(only_b.len()), 2);
    moods(a, b, features);
}

/// What must be is not what may be, and what was is not what will be.
fn moods(a: &Analysed, b: &Analysed, features: &mut Features) {
    let more = |group: usize| {
        let of = |text: &Analysed| text.moods.get(group).copied().unwrap_or_default();
        (of(a) > of(b), of(a) < of(b))
    };
    let stands_for = |groups: std::ops::Range<usize>| {
        let (mut left, mut right) = (false, false);
        for (in_a, in_b) in groups.map(more) {
            left |= in_a;
            right |= in_b;
        }
        left && right
    };
    let past = |text: &Analysed| text.moods.first().is_some_and(|count| *count > 0);
    features.set(Feature::PastOne, f32::from(u8::from(past(a) != past(b))));
    let (must, can, ought) = (3, 5, 6);
    features.set(Feature::Tense, f32::from(u8::from(stands_for(0..must))));
    features.set(Feature::Modal, f32::from(u8::from(stands_for(must..MOODS.len()))));
    let one = (must..can).chain([ought]).map(more).filter(|(in_a, in_b)| in_a | in_b).count();
    features.count(Feature::ModalOne, one, 2);
}

fn opposites(a: &Analysed, b: &Analysed, pairing: &Pairing, features: &mut Features) {
    // Stop words have opposites too (before, most, up), so all words take part that only one text has.
    let words = |text: &Analysed| -> Vec<(u64, usize)> {
        text.tokens
            .iter()
            .enumerate()
            .filter(|(_, token)| !token.is(flag::OPERATOR | flag::CODE))
            .map(|(at, token)| (token.key, at))
            .collect()
    };
    let stops = |text: &Analysed| text.tokens.iter().any(|token| token.is(flag::STOP));
    let (only_a, only_b) =
        if stops(a) || stops(b) { unmatched(&words(a), &words(b)) } else { (pairing.a.clone(), pairing.b.clone()) };
    let mut found = 0;
    for x in at(a, &only_a) {
        let meets = at(b, &only_b)
            .any(|y| LEXICON.opposite(x.key, y.key) || (x.content() && y.content() && opposed(a, x, b, y)));
        found += usize::from(meets);
    }
    features.count(Feature::Ant, found, 2);
}

fn subs(features: &mut Features, both: Feature, one: Feature, x: usize, y: usize) {
    if x > 0 && y > 0 {
        features.count(both, x.min(y), 3);
    } else {
        features.count(one, x.max(y), 3);
    }
}

fn names(a: &Analysed, b: &Analysed, pairing: &Pairing, features: &mut Features) {
    let named = |token: &&Token| token.is(flag::NAME) && !token.is(flag::NUMBER);
    let lacks = |own: &Analysed, mine: &[usize], other: &Analysed, theirs: &[usize]| {
        at(own, mine)
            .filter(named)
            .filter(|x| {
                let word = own.word(x);
                let slip = |y: &Token| {
                    word.len() >= NAME_SLIP
                        && !word.bytes().any(|b| b.is_ascii_digit())
                        && one_edit(word, other.word(y))
                };
                !at(other, theirs).any(slip)
            })
            .count()
    };
    let (x, y) = (lacks(a, &pairing.a, b, &pairing.b), lacks(b, &pairing.b, a, &pairing.a));
    subs(features, Feature::EntSub, Feature::EntOne, x, y);
    let telling = |token: &&Token| {
        token.is(flag::NAME | flag::NUMBER | flag::ORDINAL) || token.classes.first().is_some_and(|class| *class != 0)
    };
    let (x, y) = (at(a, &pairing.a).filter(telling).count(), at(b, &pairing.b).filter(telling).count());
    features.count(Feature::KeySub, x.min(y), 3);
    features.count(Feature::KeyOne, x.max(y), 3);
}

fn numbers(a: &Analysed, b: &Analysed, pairing: &Pairing, features: &mut Features) {
    let count = |text, positions| at(text, positions).filter(|token| token.is(flag::NUMBER | flag::ORDINAL)).count();
    subs(features, Feature::NumSub, Feature::NumOne, count(a, &pairing.a), count(b, &pairing.b));
}

fn classes(a: &Analysed, b: &Analysed, pairing: &Pairing, features: &mut Features) {
    let time = LEXICON.class_of_times();
    // Stop words may be members (may, last): those of all tokens count that the other text lacks.
    let shared = |x: &Token, y: &Token| {
        x.classes.iter().any(|c| *c != 0 && y.classes.iter().any(|d| c >> 8 == d >> 8 && c != d))
    };
    let same = |x: &Token, y: &Token| x.classes.iter().any(|c| *c != 0 && y.classes.contains(c));
    let (mut sub, mut one, mut times) = (0, 0, 0);
    let mut used = [false; LOOKED_AT];
    let member = |token: &Token| token.classes.first().is_some_and(|class| *class != 0);
    for x in at(a, &pairing.a).filter(|x| member(x)) {
        let partner = at(b, &pairing.b)
            .enumerate()
            .position(|(j, y)| !used.get(j).copied().unwrap_or(true) && shared(x, y) && !same(x, y));
        if let Some(slot) = partner.and_then(|j| used.get_mut(j)) {
            *slot = true;
            sub += 1;
        } else {
            one += 1;
            times += usize::from(x.classes.iter().any(|class| class >> 8 == time));
        }
    }
    for (j, y) in at(b, &pairing.b).enumerate().filter(|(_, y)| member(y)) {
        if !used.get(j).copied().unwrap_or(true) {
            one += 1;
            times += usize::from(y.classes.iter().any(|class| class >> 8 == time));
        }
    }
    features.count(Feature::ClsSub, sub, 3);
    features.count(Feature::ClsOne, one, 3);
    features.count(Feature::TimeOne, times, 2);
}

/// Stop words between a preposition and what it governs: "on a tight budget" has one and a word.
const REACH: usize = 3;

fn modifiers(a: &Analysed, b: &Analysed, pairing: &Pairing, features: &mut Features) {
    let governed = |text: &Analysed, positions: &[usize]| {
        at_with(text, positions)
            .filter(|(at, token)| {
                !token.is(flag::DEGREE)
                    && text
                        .tokens
                        .get(at.saturating_sub(REACH)..*at)
                        .unwrap_or_default()
                        .iter()
                        .rev()
                        .find(|before| before.is(flag::PREPOSITION))
                        .is_some_and(|before| before.is(flag::MODIFIER) && before.sentence == token.sentence)
            })
            .count()
    };
    let degrees =
        |text: &Analysed, positions: &[usize]| at(text, positions).filter(|token| token.is(flag::DEGREE)).count();
    features.count(Feature::ModOne, governed(a, &pairing.a).abs_diff(governed(b, &pairing.b)), 3);
    features.count(Feature::Degree, degrees(a, &pairing.a) + degrees(b, &pairing.b), 3);
}

fn at_with<'a>(text: &'a Analysed, positions: &'a [usize]) -> impl Iterator<Item = (usize, &'a Token)> {
    positions.iter().take(LOOKED_AT).filter_map(|at| text.tokens.get(*at).map(|token| (*at, token)))
}

/// Pronouns that say whose something is or who is acted on.
const BOUND: [&str; 15] =
    ["my", "mine", "me", "your", "yours", "his", "him", "her", "hers", "our", "ours", "us", "their", "theirs", "them"];

fn pronouns(a: &Analysed, b: &Analysed, features: &mut Features) {
    let counts = |text: &Analysed| {
        let mut counts = [0_usize; 6];
        for token in text.tokens.iter().filter(|token| token.is(flag::PRONOUNS)) {
            for (group, count) in counts.iter_mut().enumerate() {
                *count += usize::from(token.is(flag::PRONOUN << group));
            }
        }
        counts
    };
    let ([he, she, they, own, ..], [he2, she2, they2, own2, ..]) = (counts(a), counts(b));
    let moved = |x: (usize, usize), y: (usize, usize)| (x.0 > x.1 && y.0 < y.1) || (x.0 < x.1 && y.0 > y.1);
    let (he, she, they, own) = ((he, he2), (she, she2), (they, they2), (own, own2));
    let third = moved(he, she) || moved(he, they) || moved(she, they);
    let other = third || [he, she, they].into_iter().any(|third| moved(own, third));
    // "He asked her" and "she asked him" have as many of each.
    let order = |text: &Analysed| -> Vec<u64> {
        let groups = text.tokens.iter().map(|token| token.flags & flag::PRONOUNS);
        groups.filter(|group| *group != 0).take(LOOKED_AT).collect()
    };
    let (x, y) = (order(a), order(b));
    let sorted = |side: &[u64]| {
        let mut side = side.to_vec();
        side.sort_unstable();
        side
    };
    let other = other || (x != y && sorted(&x) == sorted(&y));
    let count = |text: &Analysed, word: u64| text.tokens.iter().filter(|token| token.key == word).count();
    // "I hit a car" and "a car hit me": who did it to whom.
    let done_to = |text: &Analysed, word: u64| {
        let mut before: Option<&Token> = None;
        let mut count = 0;
        for token in &text.tokens {
            // "Tell me" asks, and says nothing of what was done.
            let asked = before.is_none_or(|before| before.is(flag::STOP) && !before.is(flag::PREPOSITION));
            count += usize::from(token.key == word && !asked);
            before = Some(token);
        }
        count
    };
    let turned = [("i", "me"), ("he", "him"), ("they", "them"), ("we", "us")].into_iter().any(|(subject, object)| {
        let (subject, object) = (key(subject), key(object));
        moved((count(a, subject), count(b, subject)), (done_to(a, object), done_to(b, object)))
    });
    let other = other || turned;
    features.set(Feature::Pronoun, f32::from(u8::from(other)));
    // "I" and "you" as subjects stand for anybody; whose something is, and who is acted on, does not.
    let bound = BOUND.map(key);
    let held = |text: &Analysed| -> Vec<(u64, usize)> {
        text.tokens.iter().map(|token| token.key).filter(|word| bound.contains(word)).map(|word| (word, 0)).collect()
    };
    let (only_a, only_b) = unmatched(&held(a), &held(b));
    features.count(Feature::PronounSub, only_a.len().min(only_b.len()), 2);
    // "You" and "I" stand for anybody in a question; whose something is does not.
    let [my, your, our] = ["my", "your", "our"].map(key).map(|word| (count(a, word), count(b, word)));
    let others = [he, she, they].into_iter().any(|third| moved(your, third) || moved(our, third));
    features.set(Feature::Person, f32::from(u8::from(moved(my, your) || moved(our, your) || moved(my, our) || others)));
}

fn questions(a: &Analysed, b: &Analysed, features: &mut Features) {
    let [when, where_, who, why, how, what, yesno, count, _] = std::array::from_fn(|i| flag::ASKS << i);
    if a.asks == b.asks || (a.asks | b.asks) & !(what | how) == 0 {
        return;
    }
    // "How can I" and "is it possible to" ask for the same; "what" may ask for anything.
    let both = a.asks | b.asks;
    let possible = key("possible");
    let able = [a, b].iter().any(|text| text.tokens.iter().any(|token| token.key == possible));
    let loose = what | if both & yesno != 0 && able { how } else { 0 };
    let hard = when | where_ | who | why | count | yesno | how;
    if a.asks & hard & !loose != 0 && b.asks & hard & !loose != 0 {
        features.set(Feature::WhHard, 1.0);
    } else {
        features.set(Feature::WhSoft, 1.0);
    }
}
