//! What a file must hold, and what a verdict is.

use super::Verifier;
use crate::guard::Analysed;

const GOOD: &str = r#"{
  "format": "antiphon-verifier", "version": 1, "embedder": "minilm_0", "guard": GUARD,
  "features": ["logdist", "num_sub"], "bias": 0.5,
  "trees": [{"feature": [1, 0], "threshold": [0.0, -2.5], "left": [1, -1], "right": [-3, -2], "value": [1.5, 0.5, -4.0]}],
  "calibration": {"v": [0.2, 0.8], "p_wrong": [0.5, 0.1]},
  "presets": {"default": {"v": 0.8, "cosine": 0.9}, "loose": {"v": 0.5, "cosine": 0.8}},
  "error_rates": [{"max_error_rate": 0.02, "preset": "default"}, {"max_error_rate": 0.05, "preset": "loose"}],
  "fitted": {"anything": [1, {"at": "all"}]}
}"#;

fn good() -> String {
    GOOD.replace("GUARD", &crate::guard::VERSION.to_string())
}

fn problem(from: &str, to: &str) -> String {
    let json = good();
    assert!(json.contains(from), "{from}");
    Verifier::load(&json.replace(from, to)).expect_err(to).to_string()
}

#[test]
fn a_verdict_is_the_sum_of_leaves() {
    let verifier = Verifier::load(&good()).expect("a good file");
    let judge =
        |a: &str, b: &str, cosine| verifier.judge(&Analysed::new(a), &Analysed::new(b), cosine).expect("a cosine");
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    assert_eq!(judge("a cat", "a cat", 1.0).v, sigmoid(2.0));
    assert_eq!(judge("a cat", "a cat", 0.5).v, sigmoid(1.0));
    let other = judge("4 cats", "5 cats", 1.0);
    assert_eq!(other.v, sigmoid(-3.5));
    assert_eq!(other.p_wrong, 0.5);
    assert!(other.report.reasons.contains(&"number"));
    let near = judge("a cat", "a cat", 0.5);
    assert!((near.p_wrong - (0.5 - 0.4 * (near.v - 0.2) / 0.6)).abs() < 1e-12);
}

#[test]
fn a_preset_is_the_loosest_that_keeps_the_rate() {
    let verifier = Verifier::load(&good()).expect("a good file");
    assert_eq!(verifier.preset_for(0.01), None);
    assert_eq!(verifier.preset_for(0.02), Some("default"));
    assert_eq!(verifier.preset_for(0.049), Some("default"));
    assert_eq!(verifier.preset_for(1.0), Some("loose"));
    assert_eq!(verifier.preset_for(f64::NAN), None);
    assert_eq!(verifier.embedder(), "minilm_0");
}

#[test]
fn a_wrong_file_says_what_is_wrong() {
    for (from, to, says) in [
        ("antiphon-verifier", "other", "format"),
        ("\"version\": 1", "\"version\": 2", "version 2"),
        ("\"bias\": 0.5,", "", "bias"),
        ("\"bias\": 0.5,", "\"bias\": 0.5, \"more\": 1,", "more"),
        ("\"logdist\"", "\"logdust\"", "logdust"),
        ("\"num_sub\"", "\"logdist\"", "twice"),
        ("\"feature\": [1, 0]", "\"feature\": [1, 2]", "tree 0"),
        ("\"feature\": [1, 0]", "\"feature\": [1]", "lengths"),
        ("\"threshold\": [0.0, -2.5]", "\"threshold\": [0.0]", "lengths"),
        ("\"left\": [1, -1]", "\"left\": [0, -1]", "child 0"),
        ("\"left\": [1, -1]", "\"left\": [7, -1]", "child 7"),
        ("\"left\": [1, -1]", "\"left\": [1, -9]", "child -9"),
        ("\"right\": [-3, -2]", "\"right\": [-3, -1]", "child -1"),
        ("\"left\": [1, -1]", "\"left\": [1, -2147483648]", "child"),
        ("[1.5, 0.5, -4.0]", "[1.5, 0.5]", "leaves"),
        ("[1.5, 0.5, -4.0]", "[1.5, 0.5, 1e999]", "number out of range"),
        ("\"v\": [0.2, 0.8]", "\"v\": [0.8, 0.2]", "calibration"),
        ("\"p_wrong\": [0.5, 0.1]", "\"p_wrong\": [0.1, 0.5]", "calibration"),
        ("\"p_wrong\": [0.5, 0.1]", "\"p_wrong\": [1.5, 0.1]", "calibration"),
        ("\"v\": [0.2, 0.8], \"p_wrong\": [0.5, 0.1]", "\"v\": [], \"p_wrong\": []", "calibration"),
        ("\"cosine\": 0.9", "\"cosine\": 1.9", "preset \"default\""),
        ("\"preset\": \"loose\"", "\"preset\": \"none\"", "none"),
        ("\"max_error_rate\": 0.05", "\"max_error_rate\": 0.01", "rise"),
    ] {
        let found = problem(from, to);
        assert!(found.contains(says), "{to}: {found}");
    }
    assert!(problem(&format!("\"guard\": {}", crate::guard::VERSION), "\"guard\": 0").contains("guard 0"));
}

#[test]
fn hostile_files_are_errors() {
    for json in ["", "[]", "{", "null", "\u{0}", "{\"format\": \"antiphon-verifier\"}"] {
        assert!(Verifier::load(json).is_err(), "{json}");
    }
    // What is ignored is skipped without recursion, what is read has no such depth.
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Verifier::load(&good().replace("[1, {\"at\": \"all\"}]", &deep)).is_ok());
    assert!(Verifier::load(&good().replace("[\"logdist\", \"num_sub\"]", &deep)).is_err());
    let large = good() + &" ".repeat(1 << 20);
    assert!(Verifier::load(&large).expect_err("large").to_string().contains("bytes"));
}

#[test]
fn a_cosine_must_be_one() {
    let verifier = Verifier::load(&good()).expect("a good file");
    let text = Analysed::new("a cat");
    for cosine in [f64::NAN, f64::INFINITY, 1.5, -2.0] {
        assert!(verifier.judge(&text, &text, cosine).is_err(), "{cosine}");
    }
    assert!(verifier.judge(&text, &text, 1.000_000_1).is_ok());
}
