//! What the guard knows about words: the lists in `lexicon/`, read once.
//!
//! A file's lines that begin with `#` name its source and licence. A malformed line cannot stop the program; a test
//! reads every line strictly.

use std::sync::LazyLock;

use rustc_hash::{FxHashMap, FxHashSet};

use super::number::Number;
use super::stem;

/// Properties of a word or token, as bits.
pub mod flag {
    /// Carries no content of its own.
    pub const STOP: u64 = 1;
    /// In the dictionary of frequent words, or in any other list.
    pub const KNOWN: u64 = 1 << 1;
    /// Denies.
    pub const NEGATION: u64 = 1 << 2;
    /// A preposition.
    pub const PREPOSITION: u64 = 1 << 3;
    /// A preposition that says which way.
    pub const DIRECTION: u64 = 1 << 4;
    /// Opens a part that narrows what is asked ("for", "without", "on").
    pub const MODIFIER: u64 = 1 << 5;
    /// Joins things whose order does not matter.
    pub const JOINING: u64 = 1 << 6;
    /// A form of "be".
    pub const BE: u64 = 1 << 7;
    /// Narrows what is asked by itself ("free", "online").
    pub const DEGREE: u64 = 1 << 8;
    /// A name: capitalised inside a sentence, or bearing a digit or underscore.
    pub const NAME: u64 = 1 << 9;
    /// A number, with its unit if it has one.
    pub const NUMBER: u64 = 1 << 10;
    /// Part of code; compared exactly.
    pub const CODE: u64 = 1 << 11;
    /// Inside quotation marks.
    pub const QUOTED: u64 = 1 << 12;
    /// An operator; no word.
    pub const OPERATOR: u64 = 1 << 13;
    /// An ordinal.
    pub const ORDINAL: u64 = 1 << 14;
    /// In one of the lists of words that English questions are made of.
    pub const ENGLISH: u64 = 1 << 15;
    /// A pronoun of the group `he`, `she`, `they`, `self`, `you`, `we`; shifted by the group's number.
    pub const PRONOUN: u64 = 1 << 16;
    /// All pronoun bits.
    pub const PRONOUNS: u64 = 0x3f << 16;
    /// Opens a question; shifted by the number of its kind.
    pub const ASKS: u64 = 1 << 22;
    /// Names what "when", "where", "why" or "how many" asks for; shifted by the number of the kind.
    pub const NOUN: u64 = 1 << 32;
    /// All bits of such nouns.
    pub const NOUNS: u64 = 0x1ff << 32;
    /// A preposition that says where something goes; they stand for each other.
    pub const ONTO: u64 = 1 << 41;
    /// All bits of question words.
    pub const ASKING: u64 = 0x1ff << 22;
}

/// Kinds of question words, in the order of their bits after [`flag::ASKS`].
pub const ASKING: [&str; 9] = ["when", "where", "who", "why", "how", "what", "yesno", "count", "measure"];
const PRONOUNS: [&str; 6] = ["he", "she", "they", "self", "you", "we"];

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

const WORDS: &str = include_str!("lexicon/words.txt");
const STOP: &str = include_str!("lexicon/stop.txt");
const ALIASES: &str = include_str!("lexicon/aliases.txt");
const CLASSES: &str = include_str!("lexicon/classes.txt");
const CONTRACTIONS: &str = include_str!("lexicon/contractions.txt");
const IRREGULAR: &str = include_str!("lexicon/irregular.txt");
const LANGUAGES: &str = include_str!("lexicon/languages.txt");
const NEGATIONS: &str = include_str!("lexicon/negations.txt");
const NUMBERS: &str = include_str!("lexicon/numbers.txt");
const ORDINALS: &str = include_str!("lexicon/ordinals.txt");
const ROLES: &str = include_str!("lexicon/roles.txt");
const OPPOSITES: [&str; 2] = [include_str!("lexicon/opposites.txt"), include_str!("lexicon/antonyms.txt")];
const SYNONYMS: &str = include_str!("lexicon/synonyms.txt");

/// The one lexicon of this process, read when it is first needed (some 20 ms).
pub static LEXICON: LazyLock<Lexicon> = LazyLock::new(Lexicon::read);

/// The key under which a canonical word is compared. Words with equal keys are taken to be equal.
pub fn key(word: &str) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault};
    BuildHasherDefault::<rustc_hash::FxHasher>::default().hash_one(word)
}

fn lines(file: &'static str) -> impl Iterator<Item = &'static str> {
    file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Lines `name: rest`.
fn named(file: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    lines(file).filter_map(|line| line.split_once(": ")).map(|(name, rest)| (name.trim(), rest.trim()))
}

impl Lexicon {
    fn read() -> Self {
        let mut lexicon = Self::default();
        let ranked: FxHashMap<&'static str, usize> =
            lines(WORDS).flat_map(str::split_whitespace).enumerate().map(|(rank, word)| (word, rank)).collect();
        let irregular: FxHashMap<&'static str, &'static str> = lines(IRREGULAR)
            .flat_map(|line| {
                let mut forms = line.split_whitespace();
                let word = forms.next().unwrap_or_default();
                forms.map(move |form| (form, word))
            })
            .collect();
        // Zipf's law: the share of texts with a word falls with its rank, so the logarithm of the rank is an idf.
        let scale = (ranked.len() as f32 + 1.0).ln();
        for (word, rank) in &ranked {
            let lemma = irregular
                .get(word)
                .map_or_else(|| stem::lemma(word, &|other| ranked.contains_key(other)), |word| (*word).to_owned());
            // A form is as telling as its lemma: "installs" is rarer than "install" and means the same.
            let rank = ranked.get(lemma.as_str()).map_or(*rank, |of_lemma| (*of_lemma).min(*rank));
            let idf = ((rank as f32 + 2.0).ln() / scale).clamp(0.05, 1.0);
            let (root, lemma) = (key(&stem::root(&lemma)), key(&lemma));
            lexicon.words.insert(word, Word { idf, flags: flag::KNOWN, classes: Classes::default(), lemma, root });
        }
        for (form, word) in irregular {
            if !lexicon.words.contains_key(form) {
                let word = lexicon.word(word);
                lexicon.words.insert(form, word);
            }
        }
        lexicon.read_roles();
        lexicon.read_classes();
        lexicon.measures = ["unit", "currency", "period"].map(|name| lexicon.class(name));
        lexicon.times = lexicon.class("time");
        lexicon.quantifiers = lexicon.class("quantifier");
        lexicon.read_aliases();
        lexicon.read_small_lists();
        lexicon
    }

    fn read_roles(&mut self) {
        for word in lines(STOP).flat_map(str::split_whitespace) {
            self.mark(word, flag::STOP | flag::ENGLISH | flag::KNOWN);
        }
        for (name, words) in named(ROLES) {
            let bit = match name {
                "preposition" => flag::PREPOSITION,
                "direction" => flag::DIRECTION,
                "modifier" => flag::MODIFIER,
                "joining" => flag::JOINING,
                "be" => flag::BE,
                "degree" => flag::DEGREE,
                "onto" => flag::ONTO,
                _ => {
                    let pronoun = PRONOUNS.iter().position(|other| *other == name).map(|at| flag::PRONOUN << at);
                    let asks = ASKING.iter().position(|other| *other == name).map(|at| flag::ASKS << at);
                    let noun =
                        name.strip_prefix("noun_").and_then(|kind| ASKING.iter().position(|other| *other == kind));
                    pronoun.or(asks).or(noun.map(|at| flag::NOUN << at)).unwrap_or_default()
                }
            };
            for word in words.split_whitespace() {
                self.mark(word, bit);
            }
        }
    }

    fn read_classes(&mut self) {
        for (number, (name, members)) in named(CLASSES).enumerate() {
            self.class_names.push(name);
            for (member, names) in members.split(';').enumerate() {
                let id = ((number as u16 + 1) << 8) | (member as u16 + 1);
                let mut names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
                let Some(first) = names.next() else { continue };
                let mut word = self.canonical(first);
                Self::join(&mut word.classes, id);
                self.put(first, word);
                for other in names {
                    // Another name brings its own classes along, "metro" is no other thing for being a subway too.
                    let mut same = word;
                    for id in self.canonical(other).classes {
                        Self::join(&mut same.classes, id);
                    }
                    self.put(other, same);
                }
            }
        }
    }

    fn read_aliases(&mut self) {
        for (canonical, names) in named(ALIASES) {
            let mut word = self.canonical(canonical);
            let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
            for name in names.clone() {
                for id in self.known(name).map(|known| known.classes).unwrap_or_default() {
                    Self::join(&mut word.classes, id);
                }
            }
            self.put(canonical, word);
            for name in names {
                self.put(name, word);
            }
        }
    }

    fn read_small_lists(&mut self) {
        for (names, expansion) in named(CONTRACTIONS) {
            for name in names.split_whitespace() {
                self.contractions.insert(name, expansion.split_whitespace().collect());
            }
        }
        for (word, worth) in lines(NUMBERS).filter_map(|line| line.split_once(' ')) {
            let (scales, digits) = worth.strip_prefix('x').map_or((false, worth), |digits| (true, digits));
            self.numbers.insert(word, (scales, digits.parse().unwrap_or_default()));
        }
        for (word, rank) in lines(ORDINALS).filter_map(|line| line.split_once(' ')) {
            self.ordinals.insert(word, rank.parse().unwrap_or_default());
        }
        for (number, (name, words)) in named(LANGUAGES).enumerate() {
            self.languages.push(name);
            for word in words.split_whitespace() {
                *self.function_words.entry(word).or_default() |= 1 << number;
            }
        }
        for (name, words) in named(NEGATIONS) {
            let bit = self.languages.iter().position(|other| *other == name).map_or(0, |at| 1 << at);
            for word in words.split_whitespace() {
                if name == "en" {
                    self.mark(word, flag::NEGATION | flag::KNOWN);
                } else {
                    *self.negations.entry(word).or_default() |= bit;
                }
            }
        }
        let pairs = OPPOSITES.iter().flat_map(|file| lines(file)).flat_map(|line| match line.split_once(" / ") {
            // Every word before the stroke is the opposite of every word behind it.
            Some((left, right)) => {
                left.split_whitespace().flat_map(|a| right.split_whitespace().map(move |b| (a, b))).collect::<Vec<_>>()
            }
            None => line.split_once(' ').into_iter().collect(),
        });
        for (a, b) in pairs {
            let key =
                |word| self.ordinal(word).map_or_else(|| self.word(word).lemma, |rank| Number::Ordinal(rank).key(0));
            let pair = (key(a), key(b));
            self.opposites.extend([pair, (pair.1, pair.0)]);
        }
        for (a, b) in lines(SYNONYMS).filter_map(|line| line.split_once(' ')) {
            let pair = (self.word(a).lemma, self.word(b).lemma);
            if !self.opposites.contains(&pair) {
                self.synonyms.extend([pair, (pair.1, pair.0)]);
            }
        }
    }

    fn join(classes: &mut Classes, id: u16) {
        if id == 0 || classes.contains(&id) {
            return;
        }
        if let Some(free) = classes.iter_mut().find(|slot| **slot == 0) {
            *free = id;
        }
    }

    fn known(&self, name: &str) -> Option<Word> {
        self.words.get(name).or_else(|| self.cased.get(name)).copied()
    }

    /// A name of several words is read as one word without the spaces.
    fn canonical(&self, name: &str) -> Word {
        if name.contains([' ', '-']) {
            let joined: String = name.chars().filter(|c| *c != ' ' && *c != '-').collect();
            let mut word = self.word(&joined);
            word.flags |= flag::KNOWN;
            return word;
        }
        let mut word = self.cased.get(name).copied().unwrap_or_else(|| self.word(name));
        word.flags |= flag::KNOWN;
        word
    }

    fn put(&mut self, name: &'static str, word: Word) {
        let name = name.trim_end_matches('.');
        if name.contains([' ', '-']) {
            let mut parts = name.split([' ', '-']);
            if let Some(first) = parts.next() {
                let phrases = self.phrases.entry(first).or_default();
                phrases.push(Phrase { rest: parts.collect(), word });
                phrases.sort_by_key(|phrase| std::cmp::Reverse(phrase.rest.len()));
            }
        } else if name.chars().any(char::is_uppercase) {
            self.cased.insert(name, word);
        } else {
            let roles = self.words.get(name).map_or(0, |word| word.flags);
            self.words.insert(name, Word { flags: word.flags | (roles & !flag::STOP), ..word });
        }
    }

    fn mark(&mut self, name: &'static str, bits: u64) {
        let mut word = self.word(name);
        word.flags |= bits;
        self.words.insert(name, word);
    }

    /// What is known of a lower-case word; of one that is in no list, what its spelling tells.
    pub fn word(&self, name: &str) -> Word {
        if let Some(word) = self.words.get(name) {
            return *word;
        }
        let lemma = stem::lemma(name, &|other| self.words.contains_key(other));
        if lemma != name
            && let Some(word) = self.words.get(lemma.as_str())
        {
            return Word { flags: word.flags & !flag::STOP, ..*word };
        }
        Word { idf: 1.0, flags: 0, classes: Classes::default(), lemma: key(&lemma), root: key(&stem::root(&lemma)) }
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
