//! Lemmas and roots of English words: rules that ask a dictionary where the spelling alone does not tell.
//!
//! A *lemma* joins the forms of one word (install, installs, installed, installing). A *root* joins words that are
//! derived from each other (install, installation); two texts that differ in that are close but not the same, so
//! the guard counts what only roots have joined.

/// Endings that make a word of another kind, longest first. Not among them: those of persons (employer, employee)
/// and of lack (-less), which change what is meant.
const DERIVED: [&str; 26] = [
    "ization", "isation", "ational", "fulness", "ousness", "ically", "ation", "ition", "ility", "ement", "ance",
    "ence", "able", "ible", "ment", "ness", "tion", "sion", "ical", "ally", "ity", "ive", "ing", "ion", "al", "ly",
];

/// Letters that a root keeps at least; shorter ones join words by chance.
const ROOT: usize = 4;

/// The lemma of a lower-case word; `known` says whether a word is in the dictionary. Other scripts pass unchanged.
pub fn lemma(word: &str, known: &dyn Fn(&str) -> bool) -> String {
    if !word.is_ascii() || word.len() <= 3 {
        return word.to_owned();
    }
    let cut = |n: usize| word.get(..word.len() - n).unwrap_or_default();
    if word.ends_with("ies") && word.len() > 4 {
        return first_known([cut(1).to_owned(), format!("{}y", cut(3))], known, 1);
    }
    if ["sses", "xes", "ches", "shes", "zes", "oes"].iter().any(|end| word.ends_with(end)) {
        return first_known([cut(2).to_owned(), cut(1).to_owned()], known, 0);
    }
    if word.ends_with('s') && !["ss", "us", "is"].iter().any(|end| word.ends_with(end)) {
        return cut(1).to_owned();
    }
    if word.ends_with("ing") && word.len() >= 5 {
        return verb(word, cut(3), known);
    }
    if word.ends_with("ied") && word.len() > 4 {
        return format!("{}y", cut(3));
    }
    if word.ends_with("ed") && !word.ends_with("eed") && word.len() >= 4 {
        return verb(word, cut(2), known);
    }
    word.to_owned()
}

fn first_known<const N: usize>(candidates: [String; N], known: &dyn Fn(&str) -> bool, otherwise: usize) -> String {
    let at = candidates.iter().position(|candidate| known(candidate)).unwrap_or(otherwise);
    candidates.into_iter().nth(at).unwrap_or_default()
}

/// The verb behind a form in -ing or -ed whose ending was cut off: plan(n), us(e), work.
fn verb(word: &str, base: &str, known: &dyn Fn(&str) -> bool) -> String {
    if !base.bytes().any(|b| b"aeiouy".contains(&b)) {
        return word.to_owned();
    }
    let bytes = base.as_bytes();
    let doubled = match bytes {
        [.., a, b] => a == b && !b"aeiou".contains(b),
        _ => false,
    };
    let single = if doubled { base.get(..base.len() - 1).unwrap_or_default() } else { "" };
    let with_e = format!("{base}e");
    if doubled && known(single) && !known(base) {
        return single.to_owned();
    }
    // "hoping" is of hope: hop doubles its letter. Two vowels or two consonants before the ending leave no doubt.
    let short = matches!(bytes, [.., c, v, d] if !is_vowel(*c) && is_vowel(*v) && !is_vowel(*d)) || base.len() < 3;
    match (base.len() >= 3 && known(base), known(&with_e)) {
        (true, true) => {
            if short {
                with_e
            } else {
                base.to_owned()
            }
        }
        (true, false) => base.to_owned(),
        (false, true) => with_e,
        (false, false) if doubled && base.len() > 3 => single.to_owned(),
        (false, false) if known(word) || base.len() < 4 => word.to_owned(),
        (false, false) => base.to_owned(),
    }
}

fn is_vowel(byte: u8) -> bool {
    b"aeiouy".contains(&byte)
}

/// The root of a lemma: without one derivational ending, final e, i or y, and accents of Latin letters.
pub fn root(lemma: &str) -> String {
    let plain: String = if lemma.is_ascii() {
        lemma.to_owned()
    } else {
        use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
        if !lemma.chars().all(|c| (c as u32) < 0x250) {
            return lemma.to_owned();
        }
        lemma.nfd().filter(|c| !is_combining_mark(*c)).collect()
    };
    let mut stem = plain.as_str();
    for end in DERIVED {
        if let Some(rest) = stem.strip_suffix(end)
            && rest.len() >= ROOT
        {
            stem = rest;
            break;
        }
    }
    let trimmed = stem.trim_end_matches(['e', 'i', 'y']);
    let trimmed = if trimmed.len() >= 3 { trimmed } else { stem };
    trimmed.replace("iz", "is")
}

#[cfg(test)]
mod tests {
    use super::{lemma, root};

    fn of(word: &str) -> String {
        let known =
            ["install", "use", "plan", "hope", "hop", "movie", "city", "bus", "box", "care", "car", "work", "string"];
        lemma(word, &|word| known.contains(&word))
    }

    #[test]
    fn forms_of_a_word_share_a_lemma() {
        for (form, word) in [
            ("installs", "install"),
            ("installing", "install"),
            ("installed", "install"),
            ("using", "use"),
            ("used", "use"),
            ("planning", "plan"),
            ("hoping", "hope"),
            ("hopping", "hop"),
            ("movies", "movie"),
            ("cities", "city"),
            ("boxes", "box"),
            ("caring", "care"),
            ("string", "string"),
            ("need", "need"),
            ("größe", "größe"),
        ] {
            assert_eq!(of(form), word, "{form}");
        }
    }

    #[test]
    fn derived_words_share_a_root_but_persons_and_lack_do_not() {
        assert_eq!(root("installation"), root("install"));
        assert_eq!(root("quickly"), root("quick"));
        assert_eq!(root("formation"), root("form"));
        assert_eq!(root("café"), root("cafe"));
        assert_ne!(root("employer"), root("employee"));
        assert_ne!(root("careless"), root("careful"));
    }
}
