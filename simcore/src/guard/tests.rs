//! What each feature finds and what it leaves alone, and that no text is too strange.

use super::lexicon::LEXICON;
use super::{Analysed, COUNT, Features, NAMES, Report, compare};

fn report(a: &str, b: &str) -> Report {
    compare(&Analysed::new(a), &Analysed::new(b))
}

fn of(features: &Features, name: &str) -> f32 {
    let at = NAMES.iter().position(|other| *other == name).expect("a feature's name");
    features.0[at]
}

/// For each feature a pair that has it and one that has not.
const EXAMPLES: [(&str, [&str; 2], [&str; 2]); 70] = [
    ("prep_frame", ["the ferry into Dover", "the ferry out of Dover"], ["the ferry into Dover", "a ferry into Dover"]),
    ("voice", ["Who taught Ann?", "Who was taught by Ann?"], ["Who wrote the play?", "Who was the play written by?"]),
    (
        "voice",
        ["How do I invite a friend?", "How do I get invited by a friend?"],
        ["How is glass made?", "How do they make glass?"],
    ),
    ("rotated", ["At night, why is it cold?", "Why is it cold at night?"], ["only men can read", "men can read only"]),
    ("forms", ["Who wins the race?", "Who won the race?"], ["Who won the race?", "who won the race"]),
    ("past_one", ["Who wins the race?", "Who won the race?"], ["Who built it?", "By whom was it built?"]),
    ("tense", ["What is the wage?", "What was the wage?"], ["What is the wage?", "What's the wage?"]),
    ("tense", ["How did it change?", "How will it change?"], ["How is it made?", "How do they make it?"]),
    ("modal", ["Must I pay?", "May I pay?"], ["Do I have to pay?", "Must I pay?"]),
    ("modal", ["Should I pay?", "Can I pay?"], ["How should I pay?", "How can I pay?"]),
    ("modal_one", ["What must I eat?", "What do I eat?"], ["Can you help me?", "help me"]),
    ("prep_sub", ["the way into the cave", "the way out of the cave"], ["into the cave", "the cave into"]),
    ("quant_sub", ["every second row", "every third row"], ["all rows", "every row"]),
    ("ent_sub", ["Who is Jensen?", "Who is Jansen?"], ["A map of Australia", "a map of australa"]),
    ("foreign_stop", ["Wie kocht man Reis?", "Wie kocht ihr Reis?"], ["Wie kocht man Reis?", "wie kocht man Reis"]),
    ("exact", ["I'm paying 2,000 dollars", "i am paying $2000"], ["red car", "car red"]),
    ("neg", ["Is it safe?", "Is it not safe?"], ["It isn't safe", "It is not safe"]),
    (
        "neg_put",
        ["Why do people vote?", "Why do people not vote?"],
        ["why don't people vote", "why do people not vote"],
    ),
    ("ant", ["How to increase RAM", "How to decrease RAM"], ["How to increase RAM", "How to increase memory"]),
    ("ant", ["the largest lake", "the smallest lake"], ["the largest lake", "the biggest lake"]),
    ("ant", ["a stable release", "an unstable release"], ["a stable release", "a stable relase"]),
    ("ant", ["the first page", "the last page"], ["the first page", "the 1st page"]),
    ("num_sub", ["a cake for 4", "a cake for 6"], ["a cake for 4", "a cake for four"]),
    ("num_sub", ["run 5 miles", "run 5 kilometers"], ["run 5 km", "run 5 kilometres"]),
    ("num_sub", ["at 5 am", "at 5 pm"], ["at 5 pm", "at 17:00"]),
    ("num_sub", ["Python 3.10", "Python 3.1"], ["50% off", "50 percent off"]),
    ("num_one", ["a guide to Java 17", "a guide to Java"], ["a guide to Java 17", "Java 17 guide"]),
    ("ent_sub", ["who is Elon Musk", "who is Alan Kay"], ["who is Elon Musk", "who is elon musk"]),
    ("ent_one", ["the weather", "the weather in Grimsby"], ["the weather in Grimsby", "Weather of Grimsby"]),
    ("cls_sub", ["buses on Monday", "buses on Friday"], ["buses on Monday", "buses on Mon"]),
    ("cls_sub", ["write a paragraph", "write a sentence"], ["write a paragraph", "write me a paragraph"]),
    ("cls_sub", ["weather today", "weather this weekend"], ["weather today", "today's weather"]),
    ("time_one", ["the weather in Rome", "the weather in Rome tomorrow"], ["rain tomorrow", "tomorrow rain"]),
    ("swap_cls", ["fly from Boston to Rome", "fly from Rome to Boston"], ["fly from Boston to Rome", "Boston to Rome"]),
    ("swap_cls", ["New York to Boston", "Boston to New York"], ["New York to Boston", "from NYC to Boston"]),
    ("swap_cls", ["Would Ann Lee beat Bob Ray?", "Would Bob Ray beat Ann Lee?"], ["Ann or Bob?", "Bob or Ann?"]),
    ("turned", ["convert a list to a tuple", "turn a tuple into a list"], ["a list to a tuple", "a list into a tuple"]),
    ("reversed", ["Can a bank sue a shop?", "Can a shop sue a bank?"], ["Can a bank sue?", "can banks sue"]),
    ("rebound", ["5 cats and 7 dogs", "7 cats and 5 dogs"], ["5 cats and 7 dogs", "7 dogs and 5 cats"]),
    ("rebound", ["only men read poems", "men read only poems"], ["only men read", "only men reading"]),
    ("pronoun", ["Did he ask her?", "Did she ask him?"], ["Did he ask her?", "he asked her?"]),
    ("role_swap", ["euros in dollars", "dollars in euros"], ["euros in dollars", "euros into dollars"]),
    ("role_dir", ["the bus from Rome", "the bus to Rome"], ["the bus to Rome", "a bus to Rome"]),
    ("dir_one", ["import data", "import data from disk"], ["import data", "data import"]),
    ("passive", ["Did Ann hit Bob?", "Was Ann hit by Bob?"], ["Did Ann hit Bob?", "Was Bob hit by Ann?"]),
    ("pronoun", ["What is his job?", "What is her job?"], ["What is his job?", "What's his job"]),
    ("pronoun", ["I hit a car", "a car hit me"], ["How do I cook?", "Tell me how to cook"]),
    ("person", ["What is my name?", "What is your name?"], ["What is my name?", "my name?"]),
    ("mod_one", ["bake bread", "bake bread without salt"], ["bake bread", "baking bread"]),
    ("degree", ["a photo editor", "a free photo editor"], ["a photo editor", "the photo editors"]),
    ("wh_hard", ["When was it built?", "Why was it built?"], ["How do I do it?", "Is it possible to do it?"]),
    ("wh_hard", ["When was Ann born?", "the birthplace of Ann"], ["When was Ann born?", "the birthdate of Ann"]),
    ("code_sub", ["what is `a == b`", "what is `a != b`"], ["what is `a == b`", "explain `a == b`"]),
    ("code_one", ["explain range(1, 9)", "explain range(9)"], ["explain range(9)", "range(9) explained"]),
    ("literal_sub", [r"explain ^\d{3}$", r"explain ^\D{3}$"], [r"explain ^\d{3}$", r"What does `^\d{3}$` mean?"]),
    ("literal_sub", ["find . -mtime +7", "find . -mtime -7"], ["pay $2k and/or 50%", "pay $2,000 or 50 %"]),
    ("literal_one", ["copy src to a", "copy src/ to a"], ["C++ or C# (or both)?", "c++ or c#"]),
    ("literal_one", ["what is 7 // 2", "what is -7 // 2"], ["mail **me** at a@b.org", "mail me (at a@b.org)"]),
    ("literal_sub", ["mend \"It rained, we left\"", "mend \"It rained we left\""], ["say \"a b\"", "tell me \"a b.\""]),
    ("stranded", ["Who was taught by Ann?", "By whom was Ann taught?"], ["Who was taught by Ann?", "taught by Ann"]),
    ("stranded", ["planets bigger than Mars", "planets Mars is bigger than"], ["the way to Rome", "How to go to Rome"]),
    ("pronoun_sub", ["Can I use my car?", "Can I use his car?"], ["How do I pay?", "How do you pay?"]),
    ("pronoun_sub", ["tell him of us", "tell us of them"], ["tell me about my car", "tell about my car"]),
    ("code_order", ["what is s[3:]", "what is s[:3]"], ["what is s[3:]", "explain s[3:]"]),
    ("quoted", ["translate \"good dog\"", "translate \"good cat\""], ["translate \"dog\"", "\"dog\" translate"]),
    ("exchange", ["Are old men rich?", "Are rich men old?"], ["Are old men rich?", "are old men rich"]),
    ("in_place", ["a good school here", "a good hospital here"], ["a good school here", "a good shcool here"]),
    ("typos", ["how to lern chess", "how to learn chess"], ["weight of a cat", "height of a cat"]),
    ("quantity", ["Are all birds loud?", "Are most birds loud?"], ["Are all birds loud?", "Is every bird loud?"]),
    ("foreign_out", ["Wie wird das Wetter morgen?", "Wie wird das Wetter heute?"], ["How is it?", "Why is it?"]),
];

#[test]
fn features_find_what_they_are_for() {
    for (name, [a, b], [c, d]) in EXAMPLES {
        let (with, without) = (report(a, b), report(c, d));
        assert!(of(&with.features, name) > 0.0, "{name}: {a} | {b}: {:?}", with.reasons);
        assert!(of(&without.features, name) == 0.0, "{name}: {c} | {d}: {:?}", without.reasons);
    }
}

#[test]
fn the_same_in_another_form_is_the_same() {
    for (a, b) in [
        ("It costs 2,000 dollars", "it costs two thousand dollars"),
        ("It costs $2k", "it costs 2000 USD"),
        ("What's up at 5 pm?", "what is up at 17:00"),
        ("５ ｋｍ", "5 kilometers"),
        ("don’t stop", "do not stop"),
        ("a cafe\u{301} in Rome", "a café in Rome"),
        ("in half an hour", "in 30 minutes"),
        ("The U.S. and the UK", "the United States and the United Kingdom"),
        ("", "  ?!"),
    ] {
        let found = report(a, b);
        assert_eq!(of(&found.features, "exact"), 1.0, "{a} | {b}: {:?}", found.features);
        assert!(found.reasons.is_empty(), "{a} | {b}: {:?}", found.reasons);
    }
}

#[test]
fn two_things_whose_order_does_not_matter_may_change_places() {
    for (a, b) in [
        ("difference between Java and Kotlin", "difference between Kotlin and Java"),
        ("Java vs Kotlin", "Kotlin vs Java"),
    ] {
        let found = report(a, b);
        for name in ["moved", "adj_flip", "swap_cls", "turned"] {
            assert_eq!(of(&found.features, name), 0.0, "{name}: {a} | {b}");
        }
    }
}

#[test]
fn other_languages_are_told() {
    for (text, foreign) in [
        ("How do I open a bank account in London?", 0.0),
        ("Wie kann ich ein Konto bei der Bank eröffnen?", 1.0),
        ("¿Cómo puedo abrir una cuenta en el banco?", 1.0),
        ("Как мне открыть счёт в банке?", 1.0),
        ("如何在银行开户?", 1.0),
        ("銀行口座を開くにはどうすればいいですか?", 1.0),
        ("Miten avaan pankkitilin Helsingissä?", 2.0),
        ("ฉันจะเปิดบัญชีได้อย่างไร", 2.0),
    ] {
        assert_eq!(of(&report(text, text).features, "foreign"), foreign, "{text}");
    }
    assert_eq!(report("Miten avaan tilin?", "Miten suljen tilin?").reasons.last(), Some(&"unknown_language"));
}

/// Numbers from a fixed seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    /// A text of pieces that have broken readers before, and of any characters.
    fn text(&mut self) -> String {
        const PIECES: [&str; 40] = [
            "not ",
            "from ",
            "to ",
            "Java ",
            "17",
            "3.10 ",
            "1,000",
            "5 pm ",
            "half an hour ",
            "New ",
            "York ",
            "by ",
            "was ",
            "\n",
            ". ",
            "? ",
            "`",
            "```",
            "(",
            ")",
            "[",
            "]",
            "f(",
            "==",
            "--",
            "$",
            "%",
            "'s ",
            "’",
            "\"",
            "שלום ",
            "مرحبا ",
            "👩‍👩‍👧 ",
            "e\u{301}",
            "\u{200d}",
            "漢字",
            "カタカナ ",
            "ไทย ",
            "ﬁ",
            "twenty ",
        ];
        let mut text = String::new();
        for _ in 0..self.below(24) {
            if self.below(4) == 0 {
                text.extend(char::from_u32(self.below(0x11_0000) as u32));
            } else {
                text.push_str(PIECES[self.below(PIECES.len())]);
            }
        }
        text
    }
}

#[test]
fn any_text_gives_finite_features_that_are_the_same_again() {
    let mut dice = Dice(1);
    for _ in 0..20_000 {
        let (a, b) = (dice.text(), dice.text());
        let found = report(&a, &b);
        assert!(found.features.0.iter().all(|value| value.is_finite() && *value >= 0.0), "{a:?} {b:?} {found:?}");
        assert_eq!(found, report(&a, &b), "{a:?} {b:?}");
        let same = report(&a, &a);
        assert_eq!(of(&same.features, "exact"), 1.0, "{a:?}");
        assert_eq!(of(&same.features, "jac"), 1.0, "{a:?}");
    }
}

#[test]
fn huge_texts_are_read_in_linear_time() {
    let started = std::time::Instant::now();
    let word = "x".repeat(1 << 20);
    let marks = format!("a{}", "\u{301}".repeat(1 << 18));
    let many = "to be or not to be 17 ".repeat(1 << 15);
    let calls = "f(".repeat(1 << 18);
    let quotes = "`a \"b ".repeat(1 << 17);
    let texts = [&word, &marks, &many, &calls, &quotes].map(|text| Analysed::new(text));
    for a in &texts {
        for b in &texts {
            compare(a, b);
        }
    }
    // Quadratic work would take hours; what is allowed here is a slow machine.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn names_are_unique_and_directions_are_given() {
    assert_eq!(NAMES.len(), COUNT);
    for (at, name) in NAMES.iter().enumerate() {
        assert!(!NAMES[..at].contains(name), "{name}");
    }
}

#[test]
fn every_list_names_its_source_and_has_no_odd_line() {
    let lines = |file: &'static str| file.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    macro_rules! file {
        ($name:literal) => {{
            let file = include_str!(concat!("lexicon/", $name, ".txt"));
            let head: Vec<&str> = file.lines().take_while(|line| line.starts_with('#')).collect();
            assert!(["Apache-2.0", "CC BY", "WordNet licence"].iter().any(|s| head.join(" ").contains(s)), $name);
            file
        }};
    }
    for file in [
        file!("aliases"),
        file!("classes"),
        file!("contractions"),
        file!("languages"),
        file!("negations"),
        file!("roles"),
    ] {
        for line in lines(file) {
            assert!(line.split_once(": ").is_some_and(|(name, rest)| !name.is_empty() && !rest.is_empty()), "{line}");
        }
    }
    for file in [file!("antonyms"), file!("synonyms"), file!("everyday"), file!("numbers"), file!("ordinals")] {
        for line in lines(file) {
            assert_eq!(line.split(' ').count(), 2, "{line}");
        }
    }
    for line in lines(file!("opposites")) {
        assert!(line.contains(" / ") || line.split(' ').count() == 2, "{line}");
    }
    for line in lines(file!("classes")) {
        let members = line.split_once(": ").expect("checked").1.split(';').count();
        assert!(members < 256, "a class's members are numbered in one byte: {line}");
    }
    file!("stop");
    file!("words");
    file!("irregular");
    assert!(LEXICON.word("the").idf < LEXICON.word("docker").idf);
}
