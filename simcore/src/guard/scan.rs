//! From text to pieces: words, numbers and operators, with what their surroundings say about them.
//!
//! Works on the compatibility form NFKC, so that full-width digits and ligatures are what they look like. Scripts
//! that do not part words by spaces give one piece per ideograph or syllable.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Letters, and what stands between them without a space.
    Word,
    /// Begins with a digit.
    Number,
    /// An operator of code or arithmetic.
    Operator,
    /// A sign for a currency, or for percent.
    Unit,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// What it is.
    pub kind: Kind,
    /// Where it begins and ends in [`Scanned::text`].
    pub span: (usize, usize),
    /// Number of the sentence.
    pub sentence: u32,
    /// The first of its sentence.
    pub first: bool,
    /// Part of code.
    pub code: bool,
    /// Inside quotation marks.
    pub quoted: bool,
}

/// A text in NFKC and its pieces.
#[derive(Debug)]
pub struct Scanned {
    /// The text that spans refer to.
    pub text: String,
    /// Its pieces in order.
    pub pieces: Vec<Piece>,
    /// Number of sentences that have pieces.
    pub sentences: u32,
}

/// Letters whose script writes words without spaces between them.
pub fn unspaced(c: char) -> bool {
    matches!(c as u32,
        0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x309F | 0x3400..=0x4DBF | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

/// Characters that show nothing and part nothing.
fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn plain(text: &str) -> String {
    let simple = |c: char| match c {
        '’' | '‘' | 'ʼ' | '`' if c != '`' => '\'',
        '“' | '”' | '„' | '«' | '»' => '"',
        '–' | '—' | '−' | '‑' | '‐' => '-',
        '÷' => '/',
        '×' => '*',
        other => other,
    };
    if text.is_ascii() {
        return text.to_owned();
    }
    let visible = text.chars().filter(|c| !invisible(*c));
    if is_nfkc_quick(text.chars()) == IsNormalized::Yes {
        visible.map(simple).collect()
    } else {
        visible.nfkc().map(simple).collect()
    }
}

const OPERATORS: &str = "=<>!+-*/%&|^~?:";

/// Letters of a name from which "-" and a number are rather a dash and a number.
const MINUEND: usize = 3;

/// Characters between brackets that are looked at for a range: "[a-z]".
const RANGE: usize = 24;

/// Words with which a line of code begins.
const CODE_OPENS: [&str; 14] = [
    "def ", "class ", "import ", "from ", "return ", "#include", "public ", "const ", "let ", "var ", "func ", "fn ",
    "SELECT ", "print(",
];

/// Whether a line reads as code. `from` and `class` also begin sentences, so those need a mark of code as well.
fn code_line(line: &str) -> bool {
    let line = line.trim();
    if line.len() > 400 {
        return false;
    }
    let marks = line.contains(['=', '(', '{', ';', '*']);
    line.ends_with([';', '{', '}'])
        || (CODE_OPENS.iter().any(|word| line.starts_with(word)) && (marks || line.contains(" import ")))
        || line.contains("();")
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    pieces: Vec<Piece>,
    sentence: u32,
    fresh: bool,
    fenced: bool,
    ticked: bool,
    quoted: bool,
    line_is_code: bool,
    call_ends: usize,
}

/// Cuts a text into pieces.
pub fn scan(text: &str) -> Scanned {
    let text = plain(text);
    let mut scanner = Scanner {
        text: &text,
        at: 0,
        pieces: Vec::with_capacity(text.len() / 5 + 4),
        sentence: 0,
        fresh: true,
        fenced: false,
        ticked: false,
        quoted: false,
        line_is_code: false,
        call_ends: 0,
    };
    scanner.line_begins();
    scanner.run();
    let (pieces, sentences) = (scanner.pieces, scanner.sentence + u32::from(!scanner.fresh));
    Scanned { text, pieces, sentences }
}

impl Scanner<'_> {
    fn peek(&self, from: usize) -> Option<char> {
        self.text.get(from..).and_then(|rest| rest.chars().next())
    }

    fn before(&self, at: usize) -> Option<char> {
        self.text.get(..at).and_then(|head| head.chars().next_back())
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn line_begins(&mut self) {
        let line = self.rest().lines().next().unwrap_or_default();
        self.line_is_code = code_line(line);
    }

    fn run(&mut self) {
        while let Some(c) = self.peek(self.at) {
            if c.is_alphanumeric() || c == '_' || (c == '.' && self.dotted()) {
                self.word(c);
            } else {
                self.other(c);
            }
        }
    }

    /// ".net", ".5": a dot that belongs to what follows.
    fn dotted(&self) -> bool {
        let starts = self.before(self.at).is_none_or(|c| c.is_whitespace() || c == '(' || c == '$');
        starts && self.peek(self.at + 1).is_some_and(char::is_alphanumeric)
    }

    fn push(&mut self, kind: Kind, end: usize) {
        let code = self.fenced || self.ticked || self.line_is_code || self.at < self.call_ends;
        self.pieces.push(Piece {
            kind,
            span: (self.at, end),
            sentence: self.sentence,
            first: self.fresh,
            code,
            quoted: self.quoted,
        });
        self.fresh = false;
        self.at = end;
    }

    fn word(&mut self, first: char) {
        if unspaced(first) {
            self.push(Kind::Word, self.at + first.len_utf8());
            return;
        }
        let (mut end, mut last) = (self.at, ' ');
        let numeric =
            first.is_ascii_digit() || (first == '.' && self.peek(self.at + 1).is_some_and(|c| c.is_ascii_digit()));
        while let Some(c) = self.peek(end) {
            let next = self.peek(end + c.len_utf8());
            let digits = last.is_ascii_digit() && next.is_some_and(|n| n.is_ascii_digit());
            let goes_on = if c.is_alphanumeric() || c == '_' {
                !unspaced(c)
            } else {
                match c {
                    '\'' => last.is_alphabetic() && next.is_some_and(char::is_alphabetic) && !self.quote_closes(end),
                    '.' => end == self.at || (last.is_alphanumeric() && next.is_some_and(char::is_alphanumeric)),
                    ',' => digits && self.thousands(end + 1),
                    ':' => digits && numeric,
                    '-' => digits && numeric && self.date(end),
                    '/' => digits && numeric,
                    '@' => last.is_alphanumeric() && next.is_some_and(char::is_alphanumeric),
                    // Combining marks of scripts that have no composed forms belong to their letters.
                    _ => unicode_normalization::char::is_combining_mark(c) && last != ' ',
                }
            };
            if !goes_on {
                break;
            }
            last = c;
            end += c.len_utf8();
        }
        end = self.suffix(end);
        self.call(end);
        let kind = if numeric { Kind::Number } else { Kind::Word };
        self.push(kind, end.max(self.at + first.len_utf8()));
    }

    /// An apostrophe that closes a quotation rather than standing in a word.
    fn quote_closes(&self, at: usize) -> bool {
        self.ticked && self.peek(at + 1).is_none_or(|c| !c.is_alphabetic())
    }

    /// Whether three digits, and no fourth, stand after a comma.
    fn thousands(&self, at: usize) -> bool {
        let digits = self.text.get(at..).unwrap_or_default().bytes().take_while(u8::is_ascii_digit).count();
        // Indian grouping has two digits between commas: 5,00,000.
        digits == 3 || (digits == 2 && self.text.get(at + 2..).is_some_and(|rest| rest.starts_with(',')))
    }

    /// Whether a hyphen between digits is one of a date such as 2024-01-31.
    fn date(&self, at: usize) -> bool {
        let head = self.text.get(self.at..at).unwrap_or_default();
        let tail = self.text.get(at + 1..).unwrap_or_default();
        head.contains('-') || (head.len() == 4 && tail.as_bytes().get(2) == Some(&b'-'))
    }

    /// C++, C#, F#: signs that belong to a name of one letter.
    fn suffix(&self, end: usize) -> usize {
        let word = self.text.get(self.at..end).unwrap_or_default();
        let rest = self.text.get(end..).unwrap_or_default();
        let signs = if rest.starts_with("++") { 2 } else { usize::from(rest.starts_with('#')) };
        let after = self.peek(end + signs);
        let ends = after.is_none_or(|c| !c.is_alphanumeric() && !OPERATORS.contains(c) || c == '?' || c == '/');
        if signs > 0 && word.len() == 1 && ends && !self.line_is_code { end + signs } else { end }
    }

    /// A name with a bracket right behind it calls something: all up to the closing bracket is code.
    fn call(&mut self, end: usize) {
        let rest = self.text.get(end..).unwrap_or_default();
        if !rest.starts_with(['(', '[']) || rest.starts_with("(s)") || rest.starts_with("(es)") {
            return;
        }
        let mut depth = 0_usize;
        for (offset, c) in rest.char_indices().take(200) {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                '\n' => return,
                _ => {}
            }
            if depth == 0 {
                self.call_ends = self.call_ends.max(end + offset);
                return;
            }
        }
    }

    fn other(&mut self, c: char) {
        let after = self.at + c.len_utf8();
        match c {
            '`' => self.tick(),
            '\n' => {
                self.end_sentence();
                self.at = after;
                self.line_begins();
            }
            '.' | '!' | '?' | '。' | '!' | '?' | '؟' | '।' if !self.operator_follows() => {
                if self.peek(after).is_none_or(|next| next.is_whitespace() || unspaced(next) || next == '"')
                    && !self.in_code()
                {
                    self.end_sentence();
                }
                self.at = after;
            }
            '[' => {
                self.at = after;
                self.range();
            }
            '"' => {
                self.quoted = !self.quoted;
                self.at = after;
            }
            '$' | '€' | '£' | '¥' | '₹' | '%' | '°' if !(c == '%' && self.in_code()) => {
                self.push(Kind::Unit, after);
            }
            '{' | '#' | '@' | '\\' if self.in_code() => self.push(Kind::Operator, after),
            _ if OPERATORS.contains(c) => self.operator(),
            _ => {
                self.at = after;
            }
        }
    }

    /// "[a-z]": letters of a regular expression, whose case matters.
    fn range(&mut self) {
        let near = self.rest().as_bytes().iter().take(RANGE);
        let inside = near.take_while(|b| b.is_ascii_graphic() && **b != b']').count();
        let closes = self.rest().as_bytes().get(inside) == Some(&b']');
        if closes && self.rest().as_bytes().get(1) == Some(&b'-') {
            self.call_ends = self.call_ends.max(self.at + inside);
        }
    }

    fn in_code(&self) -> bool {
        self.fenced || self.ticked || self.line_is_code || self.at < self.call_ends
    }

    fn tick(&mut self) {
        if self.rest().starts_with("```") {
            self.fenced = !self.fenced;
            self.at += 3;
        } else {
            // A lone backtick is a slip of the keyboard, not the beginning of code.
            let closes = self.rest().get(1..).is_some_and(|rest| rest.lines().next().unwrap_or_default().contains('`'));
            self.ticked = !self.ticked && closes;
            self.at += 1;
        }
    }

    fn end_sentence(&mut self) {
        if !self.fresh {
            self.sentence += 1;
            self.fresh = true;
        }
        self.quoted = false;
    }

    fn operator_follows(&self) -> bool {
        let rest = self.rest();
        rest.starts_with("!=") || rest.starts_with("?.") || rest.starts_with("??") && self.in_code()
    }

    /// A run of operator signs. One sign alone counts where it stands between operands or in code.
    fn operator(&mut self) {
        let run = self.rest().bytes().take_while(|b| OPERATORS.as_bytes().contains(b)).count();
        let end = self.at + run;
        let sign = self.text.get(self.at..end).unwrap_or_default();
        let (before, after) = (self.before(self.at), self.peek(end));
        let operand = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let spaced = before.is_some_and(|c| c == ' ') && after.is_some_and(|c| c == ' ');
        let digits = before.is_some_and(|c| c.is_ascii_digit()) && after.is_some_and(|c| c.is_ascii_digit());
        let counts = match sign {
            "-" => self.in_code() || self.flag(before, after) || (spaced && self.minus(end)),
            "--" if operand(after) && before.is_none_or(char::is_whitespace) => true,
            ":" | "?" | "??" | "!" | "!!" | "?!" | "!?" | "???" | "!!!" | "---" => {
                self.in_code() && !sign.starts_with('!')
            }
            "/" => self.in_code() || spaced,
            "&" => self.in_code(),
            "://" => false,
            "**" | "//" | "--" | "==" => self.in_code() || spaced || (operand(before) && operand(after)),
            "+" | "*" | "=" | "<" | ">" | "%" | "^" | "|" | "~" => {
                self.in_code() || spaced || (operand(before) && operand(after)) || digits
            }
            _ => run <= 3 && !sign.bytes().all(|b| b == b'-' || b == b'*' || b == b'=' && run > 3),
        };
        if counts {
            self.push(Kind::Operator, end);
            if sign.starts_with('-') && self.flag(before, after) {
                // What an option is called is part of it: "-it" is no pronoun.
                let name = self.rest().find(|c: char| !c.is_alphanumeric() && c != '-').unwrap_or(self.rest().len());
                self.call_ends = self.call_ends.max(self.at + name);
            }
        } else {
            self.at = end;
        }
    }

    /// "x - 1": what follows the sign is a number, and what stands before it a short name or a number.
    fn minus(&self, end: usize) -> bool {
        let number = self.peek(end + 1).is_some_and(|c| c.is_ascii_digit());
        let before = self.text.get(..self.at).unwrap_or_default().trim_end();
        let name = before.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        number && (1..=MINUEND).contains(&name.len())
    }

    /// "-r", "-n 5": an option of a command.
    fn flag(&self, before: Option<char>, after: Option<char>) -> bool {
        before.is_none_or(char::is_whitespace) && after.is_some_and(char::is_alphabetic)
    }
}
