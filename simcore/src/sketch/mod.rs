//! Sketches: what a row looks like in one bit, and in one byte, per component, and what its score can be at most.
//!
//! A search reads the sketches and scores only rows whose upper bound reaches the threshold or the running best.
//! The bounds hold for every row and query, so results stay those of scoring all rows.
//!
//! # One bit per component
//!
//! The idea is RaBitQ's (Gao & Long, SIGMOD 2024, arXiv:2405.12497): rotate the unit row by a random orthogonal `P`,
//! padded with zeros to `D` components, and keep the signs of `y = P x`. They name a vertex `v` of the cube, `±1/√D` in
//! each component, at the angle `α` from `y` with `cos α = Σ|y_i| / √D`. After a random rotation `cos α` is about 0.8.
//!
//! *Bound.* Let `p = P q`, `β` be the angle between `p` and `y`, and `u = ⟨p, v⟩`. Angles on the sphere obey the triangle
//! inequality: `∠(p, v) ≤ ∠(p, y) + ∠(y, v) = β + α`. A score of at least `b = cos γ ≥ 0` means `β ≤ γ`, and
//! `γ + α ≤ π`, where the cosine falls, hence
//!
//! ```text
//! score ≥ b   ⇒   u ≥ cos(γ + α) = b cos α − √(1 − b²) sin α.
//! ```
//!
//! A row with a smaller `u` cannot reach `b`. The right side falls as `α` grows, so the largest `α` of a block gives a
//! bound for all its rows, and a smaller stored `cos α` is always safe. This is the paper's geometry without its
//! statistics: there, `u / cos α` *estimates* the score and an error interval holds with high probability; here the
//! cone's edge is the bound and nothing is left to chance. Other differences: `P` is made of Hadamard rounds, rows are
//! not centred, and the query is not rounded at random but upwards.
//!
//! *The sum.* `√D u` is a sum over groups of sign bits, four or six in each as the kernel likes. [`query`] tabulates the
//! sums of each group as `m + δ e` with an integer `e`, rounded up, so that the integer sum `S` of a row's `e` has
//! `√D u ≤ M + δ S`.
//!
//! # One byte per component
//!
//! `y = s c + r` with integers `|c_i| ≤ 127` and `p = t w + f` likewise. By Cauchy and Schwarz, with `‖p‖ = 1`,
//!
//! ```text
//! ⟨y, p⟩ = s t ⟨c, w⟩ + ⟨r, p⟩ + ⟨s c, f⟩ ≤ s t ⟨c, w⟩ + ‖r‖ + (1 + ‖r‖) ‖f‖.
//! ```
//!
//! # Rounding
//!
//! [`SLACK`] is added to every score for what differs from real arithmetic: stored rows have a squared length within
//! 1e-6 of 1 and the score is rounded to `f32` (6e-8). One level of the `f32` butterflies errs by at most `2^-24` of
//! the vector's length; with four rounds of at most 16 levels and two more roundings each, `y` and `p` are within
//! `72 × 2^-24 < 5e-6` of the exact rotation, and within twice that after they are scaled to length 1. Together less than
//! 3e-5. Sums over rotated components are taken in `f64`, whose errors are below 1e-10.

mod encoder;
mod query;
mod rotation;

pub use encoder::{Encoded, Encoder};
pub use query::SketchedQuery;
pub use rotation::Rotation;

/// How far a score may lie above what the exact geometry of the rotated vectors allows; see the module.
pub const SLACK: f64 = 1e-4;
