//! The verifier in the package moves the way that the guard's features say, for any features and for any texts.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use simcore::decision::Verifier;
use simcore::guard::{Analysed, COUNT, DIRECTIONS, Direction, Features, NAMES};

/// Features at which the moves begin, and pairs of texts.
const CASES: usize = 3_000;
/// Above any threshold of a count.
const LARGEST: usize = 10;

fn shipped() -> Verifier {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/cache/verifier/minilm.json");
    Verifier::load(&std::fs::read_to_string(path).expect("a file")).expect("a verifier")
}

/// Numbers from a fixed seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn share(&mut self) -> f32 {
        self.below(1_001) as f32 / 1_000.0
    }

    /// Mostly nothing, as in most pairs; else a share or a count.
    fn feature(&mut self) -> f32 {
        match self.below(6) {
            0 => self.share(),
            1 => self.below(LARGEST) as f32,
            _ => 0.0,
        }
    }
}

#[test]
fn no_difference_speaks_for_serving_and_no_likeness_against_it() {
    let (verifier, mut dice) = (shipped(), Dice(1));
    for _ in 0..CASES {
        let mut features = Features([0.0; COUNT]);
        features.0.iter_mut().for_each(|value| *value = dice.feature());
        let cosine = f64::from(dice.share());
        let v = verifier.v(&features, cosine);
        assert!(verifier.v(&features, cosine + 0.1 * f64::from(dice.share())) >= v, "cosine: {features:?}");
        for (at, direction) in DIRECTIONS.iter().enumerate() {
            let mut more = features.clone();
            more.0[at] += dice.feature();
            let moved = verifier.v(&more, cosine);
            let right = match direction {
                Direction::Up => moved >= v,
                Direction::Down => moved <= v,
                Direction::Free => true,
            };
            assert!(right, "{}: {v} became {moved}: {features:?}", NAMES[at]);
        }
    }
}

#[test]
fn a_verdict_on_any_texts_is_the_same_again_and_a_probability() {
    const PIECES: [&str; 16] = [
        "not ",
        "from ",
        "to ",
        "Java ",
        "17",
        "3.10 ",
        "must ",
        "was built ",
        "by ",
        "? ",
        "`a[1]` ",
        "every ",
        "東京",
        "wie ",
        "e\u{301}",
        "-rf ",
    ];
    let (verifier, mut dice) = (shipped(), Dice(2));
    let text = |dice: &mut Dice| -> String { (0..dice.below(12)).map(|_| PIECES[dice.below(PIECES.len())]).collect() };
    for _ in 0..CASES {
        let (a, b, cosine) = (text(&mut dice), text(&mut dice), f64::from(dice.share()));
        let (query, cached) = (Analysed::new(&a), Analysed::new(&b));
        let judged = verifier.judge(&query, &cached, cosine).expect("a cosine");
        assert!((0.0..=1.0).contains(&judged.v) && (0.0..=1.0).contains(&judged.p_wrong), "{a:?} {b:?} {judged:?}");
        assert_eq!(judged, verifier.judge(&query, &cached, cosine).expect("a cosine"), "{a:?} {b:?}");
        assert_eq!(judged.v, verifier.v(&judged.report.features, cosine));
    }
}
