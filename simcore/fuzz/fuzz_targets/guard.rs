//! Comparing any two texts, alike and unlike: never a panic, always the same, and a higher cosine never serves less.
#![no_main]

use libfuzzer_sys::fuzz_target;
use simcore_fuzz::compare;

fuzz_target!(|texts: (&str, &str)| {
    let (a, b) = texts;
    compare::check(a, b);
    // Most texts that a cache compares are nearly the same.
    compare::check(a, &format!("{a} {b}"));
    compare::check(&format!("{b}{a}"), &format!("{a}{b}"));
});
