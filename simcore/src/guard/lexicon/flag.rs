//! Properties of a word or token, as bits.

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
/// The kinds that a question word opens; the others are "is", "many" and "old".
pub const QUESTION: u64 = 0x3f << 22;
/// Names what "when", "where", "why" or "how many" asks for; shifted by the number of the kind.
pub const NOUN: u64 = 1 << 32;
/// All bits of such nouns.
pub const NOUNS: u64 = 0x1ff << 32;
/// A preposition that says where something goes; they stand for each other.
pub const ONTO: u64 = 1 << 41;
/// All bits of question words.
pub const ASKING: u64 = 0x1ff << 22;
/// A group of `super::super::asking::MOODS`; shifted by the group's number.
pub const MOOD: u64 = 1 << 42;
/// All bits of such groups.
pub const MOODS: u64 = 0x7f << 42;
/// Written in another form than its lemma, or like a participle.
pub const INFLECTED: u64 = 1 << 49;
/// A form in -ing.
pub const GERUND: u64 = 1 << 50;
