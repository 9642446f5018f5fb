//! Time of the guard and the verifier: `cargo bench --bench guard`. Prints JSON.
#![expect(clippy::print_stdout, reason = "a bench prints its result")]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use simcore::decision::Verifier;
use simcore::guard::Analysed;

const ROUNDS: usize = 2_000;

/// 200 characters, and four candidates of the same length, as near as candidates are.
const QUERY: &str = "I moved from Berlin to Vienna in March 2024 and still pay 49.90 euros each month for my old gym. Can I cancel \
                     the contract before its end without paying the rest, and what should I write to them?";
const CANDIDATES: [&str; 4] = [
    "I moved from Vienna to Berlin in March 2024 and still pay 49.90 euros each month for my old gym. Can I cancel the \
     contract before its end without paying the rest, and what should I write to them?",
    "I moved from Berlin to Vienna in March 2023 and still pay 59.90 euros each month for my old gym. Can I cancel the \
     contract before its end without paying the rest, and what do I have to write?",
    "Since moving from Berlin to Vienna in March 2024 I have been paying 49.90 euros per month for a gym that I do not use. \
     How can I end the contract early, and how do I word the letter to them?",
    "My old gym in Berlin wants 49.90 euros a month although I live in Vienna since March 2024. Is there a way to get out \
     of this contract before it ends, and what must the letter say?",
];

fn main() -> Result<(), Box<dyn Error>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/cache/verifier/minilm.json");
    let verifier = Verifier::load(&std::fs::read_to_string(path)?)?;
    let once = || -> Result<f64, Box<dyn Error>> {
        let query = Analysed::new(black_box(QUERY));
        let mut sum = 0.0;
        for candidate in CANDIDATES {
            sum += verifier.judge(&query, &Analysed::new(candidate), 0.93)?.v;
        }
        Ok(sum)
    };
    black_box(once()?);
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(once()?);
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(ROUNDS / 2).copied().unwrap_or_default();
    println!("{{\"guard_and_verifier_4_candidates_us\": {median:.1}}}");
    Ok(())
}
