//! May a stored answer be served? Evaluates a fitted verifier over a cosine and the guard's features.
//!
//! A verifier is a JSON file ([`format`]): monotone boosted trees, a calibration, and presets. It belongs to one
//! embedder and one version of the guard. The rule: an answer is served for the same text, or where both the verdict V
//! reaches the preset's `v` and the cosine its `cosine`. V only vetoes; which candidate is best the cosine says.

mod calibration;
mod format;
#[cfg(test)]
mod tests;
mod trees;
mod verifier;

pub use verifier::{Invalid, Judgement, Preset, Verifier};
