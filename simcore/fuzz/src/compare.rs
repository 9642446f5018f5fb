//! What must hold for any two texts: features that are numbers and the same again, verdicts that rise with the cosine.

use simcore::decision::Verifier;
use simcore::guard::{Analysed, Feature, Report, compare};

/// The verifier in the package.
const SHIPPED: &str = include_str!("../../../services/cache/verifier/minilm.json");

/// Cosines, rising.
const COSINES: [f64; 4] = [-1.0, 0.5, 0.9, 1.0];

thread_local! {
    static VERIFIER: Verifier = Verifier::load(SHIPPED).expect("the verifier in the package is one");
}

/// A report with the bits of its features, by which reports are compared.
fn found(a: &Analysed, b: &Analysed) -> (Report, Vec<u32>) {
    let report = compare(a, b);
    let bits = report.features.0.iter().map(|value| value.to_bits()).collect();
    (report, bits)
}

/// Checks a pair.
pub fn check(a: &str, b: &str) {
    let (query, cached) = (Analysed::new(a), Analysed::new(b));
    let (report, bits) = found(&query, &cached);
    assert!(report.features.0.iter().all(|value| value.is_finite() && *value >= 0.0), "{report:?}");
    assert_eq!((report, bits), found(&Analysed::new(a), &Analysed::new(b)), "another answer to the same texts");

    let (same, _) = found(&query, &query);
    assert_eq!(same.features.get(Feature::Exact), 1.0);
    assert_eq!(same.features.get(Feature::Jac), 1.0);
    assert!(same.reasons.iter().all(|reason| *reason == "unknown_language"), "{:?}", same.reasons);

    VERIFIER.with(|verifier| {
        let v = COSINES.map(|cosine| verifier.judge(&query, &cached, cosine).expect("a cosine").v);
        assert!(v.is_sorted() && v.iter().all(|v| (0.0..=1.0).contains(v)), "{v:?}");
    });
}
