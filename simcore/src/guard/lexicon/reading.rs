//! Reads the lists: words, forms, roles, classes, other names, opposites, synonyms, and what is known of other languages.

use rustc_hash::FxHashMap;

use super::super::asking::MOODS;
use super::super::number::Number;
use super::super::stem;
use super::{Classes, Lexicon, Phrase, Word, flag, key};

/// Kinds of question words, in the order of their bits after [`flag::ASKS`].
pub const ASKING: [&str; 9] = ["when", "where", "who", "why", "how", "what", "yesno", "count", "measure"];
const PRONOUNS: [&str; 6] = ["he", "she", "they", "self", "you", "we"];

const WORDS: &str = include_str!("words.txt");
const STOP: &str = include_str!("stop.txt");
const ALIASES: &str = include_str!("aliases.txt");
const CLASSES: &str = include_str!("classes.txt");
const CONTRACTIONS: &str = include_str!("contractions.txt");
const IRREGULAR: &str = include_str!("irregular.txt");
const LANGUAGES: &str = include_str!("languages.txt");
const NEGATIONS: &str = include_str!("negations.txt");
const NUMBERS: &str = include_str!("numbers.txt");
const ORDINALS: &str = include_str!("ordinals.txt");
const ROLES: &str = include_str!("roles.txt");
const OPPOSITES: [&str; 2] = [include_str!("opposites.txt"), include_str!("antonyms.txt")];
const SYNONYMS: [&str; 2] = [include_str!("synonyms.txt"), include_str!("everyday.txt")];

fn lines(file: &'static str) -> impl Iterator<Item = &'static str> {
    file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Lines `name: rest`.
fn named(file: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    lines(file).filter_map(|line| line.split_once(": ")).map(|(name, rest)| (name.trim(), rest.trim()))
}

/// How a form differs from its lemma: -ing, or in another way that a participle may. Plurals are neither.
pub fn inflection(form: &str, lemma: &str) -> u64 {
    match () {
        () if form == lemma || form.ends_with('s') => 0,
        () if form.ends_with("ing") => flag::GERUND,
        () => flag::INFLECTED,
    }
}

impl Lexicon {
    pub(super) fn read() -> Self {
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
            let flags = flag::KNOWN | inflection(word, &lemma);
            let (root, lemma) = (key(&stem::root(&lemma)), key(&lemma));
            lexicon.words.insert(word, Word { idf, flags, classes: Classes::default(), lemma, root });
        }
        for (form, word) in irregular {
            if !lexicon.words.contains_key(form) {
                let of_lemma = lexicon.word(word);
                lexicon.words.insert(form, Word { flags: of_lemma.flags | inflection(form, word), ..of_lemma });
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
                    let mood = MOODS.iter().position(|other| *other == name).map(|at| flag::MOOD << at);
                    pronoun.or(asks).or(noun.map(|at| flag::NOUN << at)).or(mood).unwrap_or_default()
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
        for (a, b) in SYNONYMS.iter().flat_map(|file| lines(file)).filter_map(|line| line.split_once(' ')) {
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
}
