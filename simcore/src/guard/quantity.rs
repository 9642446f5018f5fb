//! Numbers in a text with what belongs to them: scale, hours, unit, currency.

use super::lexicon::{Classes, Word, flag};
use super::number::{self, Number};
use super::reader::Reader;
use super::scan::Kind;

/// How much a number, or a word of no list, tells.
pub const IDF_NUMBER: f32 = 0.9;

impl Reader<'_> {
    /// A sign before a number is its unit; one that stands alone says nothing.
    pub(super) fn unit(&mut self, at: usize) -> usize {
        let sign = currency(self.original(at));
        match self.piece(at + 1) {
            Some(next) if next.kind == Kind::Number && !sign.is_empty() => 1 + self.quantity(at + 1, Some(sign)),
            _ => 1,
        }
    }

    pub(super) fn number(&mut self, at: usize) -> usize {
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
    pub(super) fn unit_after(&self, at: usize) -> (u64, usize, Classes) {
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

    pub(super) fn push_number(&mut self, at: usize, upto: usize, value: &Number, unit: u64, classes: Classes) {
        let lemma = value.key(unit);
        let ordinal = matches!(value, Number::Ordinal(_));
        let flags = flag::KNOWN | if ordinal { flag::ORDINAL } else { 0 } | flag::NUMBER;
        self.push(at, upto, Word { idf: IDF_NUMBER, flags, classes, lemma, root: lemma });
    }
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
