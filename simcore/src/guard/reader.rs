//! From pieces to tokens: what each word is read as, alone or with its neighbours.

use super::analysed::Token;
use super::lexicon::{LEXICON, Lexicon, Word, flag, key};
use super::number::{self, Number};
use super::quantity::IDF_NUMBER;
use super::scan::{Kind, Piece, Scanned};

/// What was appended to a text since it had a length.
fn last(text: &str, start: u32) -> &str {
    text.get(start as usize..).unwrap_or_default()
}

/// Makes the tokens of a text that was cut into pieces.
pub struct Reader<'a> {
    scanned: &'a Scanned,
    pub(super) lexicon: &'static Lexicon,
    /// Lower-case spelling of each piece in `lower`.
    spans: Vec<(u32, u32)>,
    /// The lower-case words, one after the other.
    pub(super) lower: String,
    /// Tokens in order.
    pub(super) tokens: Vec<Token>,
    /// Whether capitals say anything: not in headlines and not where all is shouted.
    capitals: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(scanned: &'a Scanned) -> Self {
        let (mut lower, mut spans) =
            (String::with_capacity(scanned.text.len()), Vec::with_capacity(scanned.pieces.len()));
        let (mut words, mut shouted, mut headline) = (0, 0, false);
        for piece in &scanned.pieces {
            let start = lower.len() as u32;
            let text = scanned.text.get(piece.span.0..piece.span.1).unwrap_or_default();
            if text.is_ascii() {
                lower.extend(text.bytes().map(|b| b.to_ascii_lowercase() as char));
            } else {
                lower.extend(text.chars().flat_map(char::to_lowercase));
            }
            spans.push((start, lower.len() as u32));
            if piece.kind == Kind::Word && !piece.first && text.starts_with(char::is_uppercase) && text.len() > 1 {
                let shouts = text.chars().all(|c| !c.is_lowercase());
                shouted += usize::from(shouts);
                // "How To Open A Tin" capitalises words that are no names.
                headline |= !shouts && LEXICON.word(last(&lower, start)).flags & flag::STOP != 0;
            }
            words += 1;
        }
        let capitals = !headline && shouted * 2 <= words;
        Self { scanned, lexicon: &LEXICON, spans, lower, tokens: Vec::with_capacity(scanned.pieces.len()), capitals }
    }

    pub(super) fn piece(&self, at: usize) -> Option<&'a Piece> {
        self.scanned.pieces.get(at)
    }

    pub(super) fn lower(&self, at: usize) -> &str {
        let (start, end) = self.spans.get(at).copied().unwrap_or_default();
        self.lower.get(start as usize..end as usize).unwrap_or_default()
    }

    pub(super) fn original(&self, at: usize) -> &'a str {
        self.piece(at).and_then(|piece| self.scanned.text.get(piece.span.0..piece.span.1)).unwrap_or_default()
    }

    pub(super) fn read(&mut self) {
        let mut at = 0;
        while let Some(piece) = self.piece(at) {
            at += match piece.kind {
                Kind::Operator => self.operator(at),
                Kind::Unit => self.unit(at),
                Kind::Number => self.number(at),
                Kind::Word => self.word(at),
            };
        }
    }

    pub(super) fn push(&mut self, at: usize, upto: usize, word: Word) {
        let Some(piece) = self.piece(at) else { return };
        let mut flags = word.flags;
        flags |= if piece.code { flag::CODE } else { 0 } | if piece.quoted { flag::QUOTED } else { 0 };
        let start = self.spans.get(at).map_or(0, |span| span.0);
        let end = self.spans.get(upto.max(at + 1) - 1).map_or(start, |span| span.1);
        let exact = key(self.original(at));
        self.tokens.push(Token {
            key: word.lemma,
            root: word.root,
            exact,
            idf: word.idf,
            flags,
            classes: word.classes,
            span: (start, end),
            sentence: piece.sentence,
        });
    }

    fn operator(&mut self, at: usize) -> usize {
        let sign = key(self.original(at));
        let word = Word { idf: 0.0, flags: flag::OPERATOR | flag::CODE, lemma: sign, root: sign, ..Word::default() };
        self.push(at, at + 1, word);
        1
    }

    pub(super) fn matches(&self, at: usize, rest: &[&str]) -> bool {
        rest.iter().enumerate().all(|(i, word)| self.lower(at + 1 + i) == *word)
    }

    fn word(&mut self, at: usize) -> usize {
        let text = self.lower(at);
        let text = text.strip_suffix("'s").unwrap_or(text);
        if let Some(words) = self.lexicon.contraction(self.lower(at)) {
            for word in words {
                let word = self.lexicon.word(word);
                self.push(at, at + 1, word);
            }
            return 1;
        }
        for phrase in self.lexicon.phrases(text) {
            if self.matches(at, &phrase.rest) {
                self.push(at, at + 1 + phrase.rest.len(), phrase.word);
                return 1 + phrase.rest.len();
            }
        }
        if let Some((value, taken)) = number::words(self.lexicon, |i| self.piece(at + i).map(|_| self.lower(at + i)))
            && !self.piece(at).is_some_and(|piece| piece.code)
        {
            let (unit, more, classes) = self.unit_after(at + taken);
            // Alone, "one" is a pronoun.
            if taken > 1 || unit != 0 || text != "one" {
                self.push_number(at, at + taken + more, &Number::Value(value), unit, classes);
                return taken + more;
            }
        }
        if text == "half" && self.matches(at, &["an", "hour"]) {
            let minute = self.lexicon.word("minute");
            self.push_number(at, at + 3, &Number::Value(30.0), minute.lemma, minute.classes);
            return 3;
        }
        if let Some(rank) = self.lexicon.ordinal(text) {
            let mut word = self.lexicon.word(text);
            word.lemma = Number::Ordinal(rank).key(0);
            word.root = word.lemma;
            word.idf = IDF_NUMBER;
            word.flags = flag::ORDINAL | flag::KNOWN;
            self.push(at, at + 1, word);
            return 1;
        }
        let word = self.plain_word(at, text);
        self.push(at, at + 1, word);
        1
    }

    fn plain_word(&self, at: usize, text: &str) -> Word {
        let original = self.original(at);
        let original = original.strip_suffix("'s").unwrap_or(original);
        // "May I" begins with no month.
        let opens = self.piece(at).is_some_and(|piece| piece.first) && self.lexicon.word(text).flags & flag::MOODS != 0;
        let cased = if original == text || opens { None } else { self.lexicon.cased(original) };
        let mut word = cased.copied().unwrap_or_else(|| self.lexicon.word(text));
        if cased.is_some() {
            word.flags &= !flag::STOP;
        }
        let first = self.piece(at).is_some_and(|piece| piece.first);
        let mut capitals = original.chars().filter(|c| c.is_uppercase());
        let (upper, inner) = (capitals.next().is_some(), original.chars().skip(1).any(char::is_uppercase));
        let bears = original.contains('_') || original.bytes().any(|b| b.is_ascii_digit());
        let letter = original.chars().count() == 1 && original.is_ascii() && !word_of_one_letter(text);
        let stop = word.flags & flag::STOP != 0;
        if bears || (letter && !stop) || (upper && !stop && self.capitals && (!first || inner)) {
            word.flags |= flag::NAME;
        }
        if bears || (letter && !stop) {
            word.idf = word.idf.max(IDF_NUMBER);
        }
        // Identifiers are compared exactly wherever they stand: snake_case, camelCase, a.b.
        let camel =
            inner && original.starts_with(char::is_lowercase) && text.len() > 3 && word.flags & flag::KNOWN == 0;
        if original.contains('_')
            || camel
            || (original.contains('.') && !original.ends_with('.') && word.flags & flag::KNOWN == 0)
        {
            word.flags |= flag::CODE;
        }
        // Forms of a word are one word, but those of an identifier are two identifiers.
        if word.flags & flag::CODE != 0 || self.piece(at).is_some_and(|piece| piece.code) {
            word.lemma = key(original);
        }
        word
    }
}

fn word_of_one_letter(text: &str) -> bool {
    matches!(text, "a" | "i" | "s" | "t" | "u")
}
