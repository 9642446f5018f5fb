//! What two texts differ in, as far as words tell: features for a verifier, and reasons for people.
//!
//! A text is read once ([`Analysed::new`]) and compared with many ([`compare`]). Both are pure and never fail: any
//! text gives features. Embeddings hardly see a changed number, name, negation or direction; this does, and leaves it to
//! a fitted verifier (`crate::decision`) what that means for an answer. The lists in `lexicon/` know English; of a
//! few other languages they know function words, negations and numbers, and of the rest nothing, which the features
//! say (`foreign`, `foreign_out`).

mod align;
mod analysed;
mod asking;
mod code;
mod features;
mod language;
mod lexicon;
mod literal;
mod meaning;
mod number;
mod order;
mod overlap;
mod pairing;
mod quantity;
mod reader;
mod reasons;
mod scan;
mod stem;
#[cfg(test)]
mod tests;

pub use analysed::{Analysed, Token};
pub use features::{COUNT, DIRECTIONS, Direction, Feature, Features, NAMES};
pub use language::Language;
pub use reasons::reasons;

use lexicon::flag;

/// Changes whenever the same two texts may give other features; a verifier names the version that it was fitted with.
pub const VERSION: u32 = 4;

/// What the guard found in one pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The features.
    pub features: Features,
    /// Names of the differences that speak against sharing an answer, in a fixed order.
    pub reasons: Vec<&'static str>,
}

/// Compares a query with a cached text. Only `inv` and its kin depend a little on which of the two is which: they read the
/// cached text in the query's order.
pub fn compare(query: &Analysed, cached: &Analysed) -> Report {
    let mut features = Features::default();
    let pairing = pairing::pair(query, cached);
    let same = |a: &[Token], b: &[Token]| a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.key == y.key);
    features.set(Feature::Exact, f32::from(u8::from(same(&query.tokens, &cached.tokens))));
    features.count(Feature::Derived, pairing.derived, 3);
    features.count(Feature::Synonyms, pairing.synonyms, 3);
    features.count(Feature::Typos, pairing.typos, 3);
    overlap::measure(query, cached, &pairing, &mut features);
    meaning::measure(query, cached, &pairing, &mut features);
    code::measure(query, cached, &mut features);
    literal::measure(query, cached, &mut features);
    if order::rotated(&pairing.a_keys, &pairing.b_keys) {
        features.set(Feature::Rotated, 1.0);
        features.set(Feature::Frame, 1.0);
        features.set(Feature::WhHard, 0.0);
        features.set(Feature::WhSoft, 0.0);
    } else {
        order::measure(query, cached, &pairing, &mut features);
        align::measure(query, &pairing.a_keys, cached, &pairing.b_keys, &mut features);
    }
    foreign(query, cached, &mut features);
    features.count(Feature::Hard, found(&features, &HARD), 4);
    features.count(Feature::Soft, found(&features, &SOFT), 4);
    let reasons = reasons(&features);
    Report { features, reasons }
}

/// Differences that hardly ever leave an answer right. Each is rare in any set that a verifier is fitted on; together they
/// are not, so what is learned about the common ones holds for the rare ones too.
const HARD: [Feature; 35] = [
    Feature::Neg,
    Feature::Ant,
    Feature::NumSub,
    Feature::EntSub,
    Feature::ClsSub,
    Feature::SwapCls,
    Feature::Turned,
    Feature::Reversed,
    Feature::Rebound,
    Feature::RoleSwap,
    Feature::Stranded,
    Feature::RoleDir,
    Feature::Passive,
    Feature::Pronoun,
    Feature::Person,
    Feature::PronounSub,
    Feature::WhHard,
    Feature::CodeSub,
    Feature::CodeOne,
    Feature::CodeOrder,
    Feature::LiteralSub,
    Feature::Exchange,
    Feature::Quoted,
    Feature::KeySub,
    Feature::ForeignOut,
    Feature::TimeOne,
    Feature::NumOne,
    Feature::InFrame,
    Feature::ModOne,
    Feature::Degree,
    Feature::Voice,
    Feature::PrepFrame,
    Feature::Modal,
    Feature::Tense,
    Feature::QuantSub,
];

/// Differences that may leave an answer right: one-sided ones, and those that only narrow.
const SOFT: [Feature; 14] = [
    Feature::PutIn,
    Feature::EntOne,
    Feature::ClsOne,
    Feature::AdjFlip,
    Feature::DirOne,
    Feature::Moves,
    Feature::WhSoft,
    Feature::InPlace,
    Feature::PrepPut,
    Feature::HeadNoun,
    Feature::PrepSub,
    Feature::ModalOne,
    Feature::Quantity,
    Feature::PastOne,
];

fn found(features: &Features, of: &[Feature]) -> usize {
    of.iter().filter(|feature| features.get(**feature) > 0.0).count()
}

/// Whether a token of another language tells something: a word that denies does, though it is a function word.
fn told(token: &Token) -> bool {
    !token.is(flag::STOP) || token.is(flag::NEGATION)
}

fn foreign(a: &Analysed, b: &Analysed, features: &mut Features) {
    let rank = |text: &Analysed| match text.language {
        Language::English => 0_u8,
        Language::Listed(_) => 1,
        Language::Unknown => 2,
    };
    let foreign = if a.language == b.language { rank(a) } else { rank(a).max(rank(b)).max(1) };
    features.set(Feature::Foreign, f32::from(foreign));
    if foreign > 0 {
        // Without lists of what matters, every word matters that is not known to be a function word.
        let out = |stop: bool| {
            let words = |text: &Analysed| -> Vec<(u64, usize)> {
                let of = |token: &&Token| !token.is(flag::OPERATOR) && told(token) != stop;
                text.tokens.iter().filter(of).map(|token| (token.key, 0)).collect()
            };
            let (only_a, only_b) = pairing::unmatched(&words(a), &words(b));
            only_a.len().max(only_b.len())
        };
        features.count(Feature::ForeignOut, out(false), 4);
        features.count(Feature::ForeignStop, out(true), 4);
    }
}
