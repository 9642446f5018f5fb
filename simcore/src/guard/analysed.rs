//! A text as the guard sees it: canonical tokens with what is known of each. Made once per text.

use super::language::{self, Language};
use super::lexicon::{Classes, LEXICON, Lexicon, Word, flag, key};
use super::number::{self, Number};
use super::scan::{Kind, Piece, Scanned, scan};

/// How much a number, or a word of no list, tells.
const IDF_NUMBER: f32 = 0.9;

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
        Self { tokens, lower, sentences: scanned.sentences, language, asks, passive }
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

/// What was appended to a text since it had a length.
fn last(text: &str, start: u32) -> &str {
    text.get(start as usize..).unwrap_or_default()
}

struct Reader<'a> {
    scanned: &'a Scanned,
    lexicon: &'static Lexicon,
    /// Lower-case spelling of each piece in `lower`.
    spans: Vec<(u32, u32)>,
    lower: String,
    tokens: Vec<Token>,
    /// Whether capitals say anything: not in headlines and not where all is shouted.
    capitals: bool,
}

impl<'a> Reader<'a> {
    fn new(scanned: &'a Scanned) -> Self {
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

    fn piece(&self, at: usize) -> Option<&'a Piece> {
        self.scanned.pieces.get(at)
    }

    fn lower(&self, at: usize) -> &str {
        let (start, end) = self.spans.get(at).copied().unwrap_or_default();
        self.lower.get(start as usize..end as usize).unwrap_or_default()
    }

    fn original(&self, at: usize) -> &'a str {
        self.piece(at).and_then(|piece| self.scanned.text.get(piece.span.0..piece.span.1)).unwrap_or_default()
    }

    fn read(&mut self) {
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

    fn push(&mut self, at: usize, upto: usize, word: Word) {
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

    /// A sign before a number is its unit; one that stands alone says nothing.
    fn unit(&mut self, at: usize) -> usize {
        let sign = currency(self.original(at));
        match self.piece(at + 1) {
            Some(next) if next.kind == Kind::Number && !sign.is_empty() => 1 + self.quantity(at + 1, Some(sign)),
            _ => 1,
        }
    }

    fn number(&mut self, at: usize) -> usize {
        self.quantity(at, None)
    }

    /// A number in digits with what belongs to it: scale, hours, unit.
    fn quantity(&mut self, at: usize, sign: Option<&str>) -> usize {
        let text = self.lower(at).to_owned();
        let letters = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ',');
        // "5km", "16gb": the unit is glued to the number.
        if !letters.is_empty() && letters.len() < text.len() {
            let known = self.lexicon.word(letters);
            let digits = &text[..text.len() - letters.len()];
            if self.lexicon.measures(&known) {
                self.push_number(at, at + 1, &number::read(digits), known.lemma, known.classes);
                return 1;
            }
        }
        let mut value = number::read(&text);
        let mut taken = 1;
        if let Number::Value(plain) = value {
            if let Some((true, scale)) = self.lexicon.number(self.lower(at + 1)) {
                value = number::scaled(plain, scale as f64);
                taken += 1;
            } else if matches!(self.lower(at + 1), "am" | "pm" | "a.m" | "p.m")
                && let Some(time) = number::hour(plain, 0.0, self.lower(at + 1).starts_with('p'))
            {
                value = time;
                taken += 1;
            }
        } else if let (Number::Time(minutes), "pm" | "am" | "p.m" | "a.m") = (&value, self.lower(at + 1)) {
            let half = f64::from(minutes / 60);
            value = number::hour(half, f64::from(minutes % 60), self.lower(at + 1).starts_with('p')).unwrap_or(value);
            taken += 1;
        }
        let (unit, more, classes) = match sign {
            Some(sign) => {
                (self.lexicon.word(sign).lemma, self.skips_currency(at + taken), self.lexicon.word(sign).classes)
            }
            None => self.unit_after(at + taken),
        };
        self.push_number(at, at + taken + more, &value, unit, classes);
        taken + more
    }

    /// "$5 USD": the currency is said twice.
    fn skips_currency(&self, at: usize) -> usize {
        usize::from(self.lexicon.is_currency(&self.lexicon.word(self.lower(at))))
    }

    /// The unit behind a number, how many pieces it takes, and its classes.
    fn unit_after(&self, at: usize) -> (u64, usize, Classes) {
        let Some(piece) = self.piece(at) else { return (0, 0, Classes::default()) };
        let sign = currency(self.original(at));
        if piece.kind == Kind::Unit && !sign.is_empty() {
            let word = self.lexicon.word(sign);
            return (word.lemma, 1, word.classes);
        }
        if piece.kind != Kind::Word {
            return (0, 0, Classes::default());
        }
        for phrase in self.lexicon.phrases(self.lower(at)) {
            if self.matches(at, &phrase.rest) && self.lexicon.measures(&phrase.word) {
                return (phrase.word.lemma, 1 + phrase.rest.len(), phrase.word.classes);
            }
        }
        let word = match self.lower(at) {
            "min" => self.lexicon.word("minute"),
            "h" => self.lexicon.word("hour"),
            "g" => self.lexicon.word("gram"),
            other => self.lexicon.word(other),
        };
        if self.lexicon.measures(&word) { (word.lemma, 1, word.classes) } else { (0, 0, Classes::default()) }
    }

    fn push_number(&mut self, at: usize, upto: usize, value: &Number, unit: u64, classes: Classes) {
        let lemma = value.key(unit);
        let ordinal = matches!(value, Number::Ordinal(_));
        let flags = flag::KNOWN | if ordinal { flag::ORDINAL } else { 0 } | flag::NUMBER;
        self.push(at, upto, Word { idf: IDF_NUMBER, flags, classes, lemma, root: lemma });
    }

    fn matches(&self, at: usize, rest: &[&str]) -> bool {
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
        let cased = if original == text { None } else { self.lexicon.cased(original) };
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

fn currency(sign: &str) -> &'static str {
    match sign {
        "$" => "dollar",
        "€" => "euro",
        "£" => "britishpound",
        "¥" => "yen",
        "₹" => "rupee",
        "%" => "percent",
        "°" => "degree",
        _ => "",
    }
}

/// The kind of question: that of the last sentence which asks something, since the question follows its context.
fn asks(tokens: &[Token]) -> u64 {
    let mut found = 0;
    let mut sentence = u32::MAX;
    for (at, token) in tokens.iter().enumerate() {
        let bits = token.flags & flag::ASKING;
        let opens = at == 0 || tokens.get(at - 1).is_some_and(|last| last.sentence != token.sentence);
        let kind = kind_asked(bits, opens, tokens.get(at + 1..).unwrap_or_default());
        if kind != 0 && (token.sentence != sentence) {
            found = kind;
            sentence = token.sentence;
        }
    }
    if found != 0 {
        return found;
    }
    // "Birthplace of Ann" asks where, without a word that asks.
    tokens.iter().take(NAMED_WITHIN).find_map(named).unwrap_or_default()
}

/// Tokens behind "what" among which the noun stands that says what is asked: "what is the exact birth date".
const NAMED_WITHIN: usize = 6;

fn named(token: &Token) -> Option<u64> {
    let nouns = token.flags & flag::NOUNS;
    (nouns != 0).then_some(nouns / flag::NOUN * flag::ASKS)
}

fn kind_asked(bits: u64, opens: bool, rest: &[Token]) -> u64 {
    let [when, where_, who, why, how, what, yesno, count, measure] = std::array::from_fn(|i| flag::ASKS << i);
    if bits & how != 0 {
        let next = rest.first().map_or(0, |next| next.flags & flag::ASKING);
        return if next & (count | measure) != 0 { count } else { how };
    }
    if bits & yesno != 0 {
        return if opens { yesno } else { 0 };
    }
    if bits & what != 0 {
        return rest.iter().take(NAMED_WITHIN).find_map(named).unwrap_or(what);
    }
    bits & (when | where_ | who | why)
}

/// A form of "be", then a participle, then "by" within a few words: "was written by", "is Ann loved by".
fn passive(tokens: &[Token], lower: &str) -> bool {
    let word = |token: &Token| lower.get(token.span.0 as usize..token.span.1 as usize).unwrap_or_default();
    tokens.iter().enumerate().filter(|(_, token)| token.is(flag::PREPOSITION) && word(token) == "by").any(|(by, _)| {
        let before = tokens.get(by.saturating_sub(8)..by).unwrap_or_default();
        let participle = before.last().is_some_and(|last| {
            let form = word(last);
            last.content()
                && (form.ends_with("ed")
                    || form.ends_with('n')
                    || form.ends_with('t')
                    || form.ends_with("de")
                    || form.ends_with("ung")
                    || key(form) != last.key)
        });
        participle && before.iter().any(|token| token.is(flag::BE))
    })
}
