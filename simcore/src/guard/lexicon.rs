//! What the guard knows about words: the lists in `lexicon/`, read once.
//!
//! A file's lines that begin with `#` name its source and licence. A malformed line cannot stop the program; a test
//! reads every line strictly.

use std::sync::LazyLock;

use rustc_hash::{FxHashMap, FxHashSet};

use super::stem;

pub mod flag;
mod reading;

use reading::inflection;

/// Members of closed classes that one word may be: `class << 8 | member`, 0 for none.
pub type Classes = [u16; 3];

/// What is known about one word.
#[derive(Clone, Copy, Debug, Default)]
pub struct Word {
    /// How much the word tells, 0 … 1.
    pub idf: f32,
    /// Bits of [`flag`].
    pub flags: u64,
    /// Which closed classes it belongs to.
    pub classes: Classes,
    /// Key of its lemma, after aliases.
    pub lemma: u64,
    /// Key of its root.
    pub root: u64,
}

/// Several words that stand for one.
#[derive(Debug)]
pub struct Phrase {
    /// The words after the first.
    pub rest: Vec<&'static str>,
    /// What the whole is read as.
    pub word: Word,
}

/// Everything that the files say.
#[derive(Debug, Default)]
pub struct Lexicon {
    words: FxHashMap<&'static str, Word>,
    /// Words that are meant only in this spelling: US, PIN, May.
    cased: FxHashMap<&'static str, Word>,
    phrases: FxHashMap<&'static str, Vec<Phrase>>,
    contractions: FxHashMap<&'static str, Vec<&'static str>>,
    numbers: FxHashMap<&'static str, (bool, u64)>,
    ordinals: FxHashMap<&'static str, u64>,
    opposites: FxHashSet<(u64, u64)>,
    synonyms: FxHashSet<(u64, u64)>,
    languages: Vec<&'static str>,
    function_words: FxHashMap<&'static str, u32>,
    negations: FxHashMap<&'static str, u32>,
    class_names: Vec<&'static str>,
    measures: [u16; 3],
    times: u16,
    quantifiers: u16,
}

/// The one lexicon of this process, read when it is first needed (some 20 ms).
pub static LEXICON: LazyLock<Lexicon> = LazyLock::new(Lexicon::read);

/// The key under which a canonical word is compared. Words with equal keys are taken to be equal.
pub fn key(word: &str) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault};
    BuildHasherDefault::<rustc_hash::FxHasher>::default().hash_one(word)
}

impl Lexicon {
    /// What is known of a lower-case word; of one that is in no list, what its spelling tells.
    pub fn word(&self, name: &str) -> Word {
        if let Some(word) = self.words.get(name) {
            return *word;
        }
        let lemma = stem::lemma(name, &|other| self.words.contains_key(other));
        if lemma != name
            && let Some(word) = self.words.get(lemma.as_str())
        {
            return Word { flags: (word.flags & !flag::STOP) | inflection(name, &lemma), ..*word };
        }
        Word {
            idf: 1.0,
            flags: inflection(name, &lemma),
            classes: Classes::default(),
            lemma: key(&lemma),
            root: key(&stem::root(&lemma)),
        }
    }

    /// A word that is meant only in this very spelling.
    pub fn cased(&self, name: &str) -> Option<&Word> {
        self.cased.get(name)
    }

    /// Phrases that begin with a word, the longest first.
    pub fn phrases(&self, first: &str) -> &[Phrase] {
        self.phrases.get(first).map_or(&[], Vec::as_slice)
    }

    /// The words that a contraction stands for.
    pub fn contraction(&self, name: &str) -> Option<&[&'static str]> {
        self.contractions.get(name).map(Vec::as_slice)
    }

    /// The worth of a number word; true if it multiplies what came before.
    pub fn number(&self, name: &str) -> Option<(bool, u64)> {
        self.numbers.get(name).copied()
    }

    /// The rank that an ordinal names.
    pub fn ordinal(&self, name: &str) -> Option<u64> {
        self.ordinals.get(name).copied()
    }

    /// Bits of the languages of which this is a function word.
    pub fn function_word(&self, name: &str) -> u32 {
        self.function_words.get(name).copied().unwrap_or_default()
    }

    /// Bits of the languages, English aside, in which this word denies.
    pub fn denies(&self, name: &str) -> u32 {
        self.negations.get(name).copied().unwrap_or_default()
    }

    /// Names of the languages, by bit.
    pub fn languages(&self) -> &[&'static str] {
        &self.languages
    }

    /// Whether a word is a unit, a currency or a length of time.
    pub fn measures(&self, word: &Word) -> bool {
        word.classes.iter().any(|class| *class != 0 && self.measures.contains(&(class >> 8)))
    }

    /// Whether a word is a currency.
    pub fn is_currency(&self, word: &Word) -> bool {
        word.classes.iter().any(|class| class >> 8 == self.measures[1])
    }

    /// Whether two lemmas are listed opposites.
    pub fn opposite(&self, a: u64, b: u64) -> bool {
        self.opposites.contains(&(a, b))
    }

    /// Whether two lemmas are listed synonyms.
    pub fn synonym(&self, a: u64, b: u64) -> bool {
        self.synonyms.contains(&(a, b))
    }

    /// The number of the class of times, as in the high byte of its members.
    pub fn class_of_times(&self) -> u16 {
        self.times
    }

    /// The quantifier that a token is, as a member of their class.
    pub fn quantifier(&self, classes: Classes) -> Option<u16> {
        classes.into_iter().find(|class| class >> 8 == self.quantifiers)
    }

    fn class(&self, name: &str) -> u16 {
        self.class_names.iter().position(|other| *other == name).map_or(u16::MAX, |at| at as u16 + 1)
    }
}
