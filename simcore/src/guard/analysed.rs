//! A text as the guard sees it: canonical tokens with what is known of each. Made once per text.

use super::asking::{MOODS, asks, moods, passive};
use super::language::{self, Language};
use super::lexicon::{Classes, flag};
use super::literal::literals;
use super::reader::Reader;
use super::scan::scan;

/// One word, number or operator of a text.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// Tokens with equal keys are the same: forms of a word, names of a thing, spellings of a number.
    pub key: u64,
    /// Joins derived words as well.
    pub root: u64,
    /// As written, case included; how code is compared.
    pub exact: u64,
    /// How much it tells, 0 … 1.
    pub idf: f32,
    /// Bits of [`flag`].
    pub flags: u64,
    /// Closed classes.
    pub classes: Classes,
    /// Where it stands in [`Analysed::lower`].
    pub span: (u32, u32),
    /// Number of its sentence.
    pub sentence: u32,
}

impl Token {
    /// Whether any of the flags is set.
    pub fn is(&self, bits: u64) -> bool {
        self.flags & bits != 0
    }

    /// Carries content: no stop word and no operator.
    pub fn content(&self) -> bool {
        !self.is(flag::STOP | flag::OPERATOR)
    }
}

/// A text that was read once, to be compared with many.
#[derive(Debug)]
pub struct Analysed {
    /// Tokens in order.
    pub tokens: Vec<Token>,
    /// The lower-case words, one after the other.
    pub lower: String,
    /// Number of sentences.
    pub sentences: u32,
    /// What language it seems to be in.
    pub language: Language,
    /// The kinds of question that it asks, as bits after [`flag::ASKS`]; the first that was found.
    pub asks: u64,
    /// Whether someone is done something to "by" someone.
    pub passive: bool,
    /// How often each group of [`MOODS`] occurs.
    pub moods: [u16; MOODS.len()],
    /// Keys of the chunks that are meant letter for letter.
    pub literals: Vec<u64>,
}

impl Analysed {
    /// Reads a text. Linear in its length.
    pub fn new(text: &str) -> Self {
        let scanned = scan(text);
        let mut reader = Reader::new(&scanned);
        reader.read();
        let Reader { mut tokens, lower, .. } = reader;
        let language = language::of(&mut tokens, &lower);
        let asks = asks(&tokens);
        let passive = passive(&tokens, &lower);
        let moods = moods(&tokens);
        let literals = literals(&scanned.text);
        Self { tokens, lower, sentences: scanned.sentences, language, asks, passive, moods, literals }
    }

    /// Whether the lists of English apply.
    pub fn english(&self) -> bool {
        self.language == Language::English
    }

    /// The lower-case spelling of a token.
    pub fn word(&self, token: &Token) -> &str {
        self.lower.get(token.span.0 as usize..token.span.1 as usize).unwrap_or_default()
    }
}
