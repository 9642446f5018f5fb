//! Scores of one query against rows that lie one after another in memory.
//!
//! [`portable`] is the specification; a kernel for an instruction set gives the same bits. That is possible because
//! the product of two `f32` is exact in `f64` (24 + 24 significant bits fit in 53), so only the order of the
//! additions matters, and [`portable::dot`] fixes it.

pub mod portable;
pub mod unit;

use std::fmt::Debug;

/// One way to compute scores; chosen once per index.
pub trait Kernel: Debug + Send + Sync {
    /// The instruction set's name, for benches.
    fn name(&self) -> &'static str;

    /// Writes the score of `query` against each row of `rows` to `scores`.
    ///
    /// `rows` holds `scores.len()` rows of `query.len()` components each.
    fn score_rows(&self, query: &[f64], rows: &[f32], scores: &mut [f32]);
}

/// The fastest kernel that this machine can run.
pub fn select() -> &'static dyn Kernel {
    &portable::Portable
}
