//! Numbers in one form: 2,000 = 2000 = two thousand = 2k; 5 pm = 17:00; 50% = 50 percent; $5 = 5 dollars.

use super::lexicon::{Lexicon, key};

/// The largest exponent of ten that a written scale may reach; beyond it digits are compared as they stand.
const LARGEST: f64 = 1e18;

/// A number in the form in which numbers are compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// A quantity.
    Value(f64),
    /// Minutes since midnight.
    Time(u32),
    /// A rank: 1st.
    Ordinal(u64),
    /// Versions, dates, codes: compared as written.
    Code(String),
}

impl Number {
    /// The key of the number with the key of its unit, 0 for none.
    pub fn key(&self, unit: u64) -> u64 {
        let text = match self {
            Self::Value(value) => format!("#{value}"),
            Self::Time(minutes) => format!("#t{minutes}"),
            Self::Ordinal(rank) => format!("#o{rank}"),
            Self::Code(code) => format!("#c{code}"),
        };
        key(&text) ^ unit.rotate_left(17)
    }
}

/// Reads a piece that begins with a digit, in lower case.
pub fn read(text: &str) -> Number {
    let digits =
        text.bytes().take_while(|b| b.is_ascii_digit() || matches!(b, b',' | b'.' | b':' | b'/' | b'-')).count();
    let (head, tail) = text.split_at_checked(digits).unwrap_or((text, ""));
    let head = head.trim_end_matches(['.', ',', ':', '-', '/']);
    if head.contains(':') {
        return clock(head, tail).unwrap_or_else(|| Number::Code(text.to_owned()));
    }
    if head.contains(['/', '-']) || head.matches('.').count() > 1 {
        return Number::Code(text.to_owned());
    }
    let plain: String = head.chars().filter(|c| *c != ',').collect();
    // A long row of digits is an identifier; as a float it would equal its neighbours. And 3.10 is not version 3.1.
    let fraction = plain.split_once('.').map_or("", |(_, fraction)| fraction);
    if plain.len() > 15 || (fraction.ends_with('0') && fraction.bytes().any(|b| b != b'0')) {
        return Number::Code(text.to_owned());
    }
    let Ok(value) = plain.parse::<f64>() else { return Number::Code(text.to_owned()) };
    match tail {
        "" | "s" => Number::Value(value),
        "st" | "nd" | "rd" | "th" if value.fract() == 0.0 => Number::Ordinal(value as u64),
        "am" | "pm" | "a.m" | "p.m" => {
            hour(value, 0.0, tail.starts_with('p')).unwrap_or_else(|| Number::Code(text.to_owned()))
        }
        _ => match scale(tail) {
            Some(scale) => scaled(value, scale),
            None => Number::Code(text.to_owned()),
        },
    }
}

fn scale(tail: &str) -> Option<f64> {
    Some(match tail {
        "k" => 1e3,
        "m" | "mn" | "mio" => 1e6,
        "b" | "bn" => 1e9,
        _ => return None,
    })
}

/// A value times a scale, rounded so that 1.1 k is 1100.
pub fn scaled(value: f64, scale: f64) -> Number {
    let product = value * scale;
    if product < LARGEST {
        Number::Value((product * 1e6).round() / 1e6)
    } else {
        Number::Code(format!("{value}e{scale}"))
    }
}

/// The time that an hour names; `None` if there is no such hour.
pub fn hour(hours: f64, minutes: f64, afternoon: bool) -> Option<Number> {
    let fits = hours.fract() == 0.0 && (1.0..=12.0).contains(&hours) && (0.0..60.0).contains(&minutes);
    let of_day = (hours % 12.0) * 60.0 + minutes + if afternoon { 720.0 } else { 0.0 };
    fits.then_some(Number::Time(of_day as u32))
}

fn clock(head: &str, tail: &str) -> Option<Number> {
    let (hours, minutes) = head.split_once(':')?;
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if minutes >= 60 {
        return None;
    }
    match tail {
        "am" | "pm" | "a.m" | "p.m" => hour(f64::from(hours), f64::from(minutes), tail.starts_with('p')),
        "" if hours < 25 => Some(Number::Time(hours * 60 + minutes)),
        _ => None,
    }
}

/// Reads a row of number words, "two thousand five hundred and ten"; returns the value and how many words it took.
pub fn words<'a>(lexicon: &Lexicon, mut next: impl FnMut(usize) -> Option<&'a str>) -> Option<(f64, usize)> {
    let (mut total, mut group, mut taken, mut seen) = (0.0_f64, 0.0_f64, 0_usize, 0_usize);
    // What the last unit left room for: "twenty" takes a digit, "five" nothing, so "five six" is two numbers.
    let mut room = f64::INFINITY;
    while let Some(word) = next(seen) {
        if word == "and" && taken > 0 && room >= 100.0 {
            seen += 1;
            continue;
        }
        let Some((scales, worth)) = lexicon.number(word) else { break };
        let worth = worth as f64;
        if scales {
            let base = if group == 0.0 && taken == 0 { 1.0 } else { group };
            if taken > 0 && base == 0.0 {
                break;
            }
            if worth == 100.0 {
                group = base * worth;
            } else {
                total += base * worth;
                group = 0.0;
            }
            room = worth;
        } else {
            if worth >= room {
                break;
            }
            group += worth;
            room = if worth >= 20.0 && worth % 10.0 == 0.0 { 10.0 } else { 0.0 };
        }
        seen += 1;
        taken = seen;
    }
    (taken > 0 && total + group < LARGEST).then_some((total + group, taken))
}

#[cfg(test)]
mod tests {
    use super::super::lexicon::LEXICON;
    use super::{Number, read, words};

    #[test]
    fn one_number_in_several_forms() {
        for (a, b) in [
            ("2,000", "2000"),
            ("2k", "2000"),
            ("1.5m", "1500000"),
            ("5.0", "5"),
            ("5pm", "17:00"),
            ("5:30pm", "17:30"),
            ("5,00,000", "500000"),
            ("12am", "0:00"),
            ("90s", "90"),
        ] {
            assert_eq!(read(a), read(b), "{a} {b}");
        }
    }

    #[test]
    fn other_numbers_differ() {
        for (a, b) in [
            ("1", "1st"),
            ("3.11", "3.1"),
            ("3.10", "3.1"),
            ("3.11.2", "3.11.3"),
            ("5am", "5pm"),
            ("2024-01-31", "2024-01-30"),
            ("1234567890123456789", "1234567890123456788"),
            ("13pm", "13"),
            ("4k", "4m"),
            ("7b1", "7b2"),
        ] {
            assert_ne!(read(a), read(b), "{a} {b}");
        }
    }

    fn spoken(text: &str) -> Option<(f64, usize)> {
        let all: Vec<&str> = text.split(' ').collect();
        words(&LEXICON, |at| all.get(at).copied())
    }

    #[test]
    fn number_words_add_up() {
        assert_eq!(spoken("two thousand five hundred and ten dollars"), Some((2510.0, 6)));
        assert_eq!(spoken("twenty five"), Some((25.0, 2)));
        assert_eq!(spoken("five six"), Some((5.0, 1)));
        assert_eq!(spoken("one million"), Some((1e6, 2)));
        assert_eq!(spoken("hundred and one"), Some((101.0, 3)));
        assert_eq!(spoken("two and three"), Some((2.0, 1)));
        assert_eq!(spoken("cat"), None);
        assert_eq!(read("3"), Number::Value(3.0));
    }
}
