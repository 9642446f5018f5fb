//! Sketches: what a row looks like in a few bits, and in one byte, per component, and what its score can be at most.
//!
//! A search reads the codes and scores only rows whose upper bound reaches the threshold or the running best. The bounds
//! hold for every row and query, so results stay those of scoring all rows. Let `y` be a unit row and `p` a unit query; the
//! score is `⟨p, y⟩`, which no rotation changes.
//!
//! # Sixteen levels per component in a learned basis
//!
//! Embeddings lie near a subspace. Let `W` hold an orthonormal basis of one, [`Basis`], learned from the group itself, and
//! split both vectors: `y = W y₁ + y₂`, `p = W p₁ + p₂`, where `y₂` and `p₂` are orthogonal to the subspace. The code holds
//! each component of `y₁` as one of sixteen levels, `y₁ = ŷ + r`, and beside them `‖r‖` and `‖y₂‖`, rounded up.
//!
//! *Bound.* By Cauchy and Schwarz,
//!
//! ```text
//! ⟨p, y⟩ = ⟨p₁, ŷ⟩ + ⟨p₁, r⟩ + ⟨p₂, y₂⟩ ≤ ⟨p₁, ŷ⟩ + ‖p₁‖ ‖r‖ + ‖p₂‖ ‖y₂‖.
//! ```
//!
//! Both inequalities are sharp: there are queries for which the two sides are equal. What makes the bound useful is that
//! `‖p₂‖ ‖y₂‖` is about a half where the subspace holds half of the squared lengths, so that rows which differ from the
//! query inside the subspace are told apart from a threshold of 0.9 with 64 of 384 components.
//!
//! *In integers.* `ŷᵢ = mᵢ + sᵢ (lᵢ − 7.5)` with a level `lᵢ`. The query's components are replaced by `p̂ᵢ = u wᵢ / sᵢ` with
//! integers `|wᵢ| ≤ 127`, which adds `‖p₁ − p̂‖ ‖y₁‖`; then `⟨p̂, ŷ⟩ = u Σ wᵢ lᵢ + const`, and the rest of the bound is
//! added with weights that are rounded up. See [`LevelQuery`].
//!
//! *Signs.* Behind the components with levels come 64 with a sign each, which are looked at for the rows that
//! the bound above lets pass. Let `y₂` now be the row's part in these, `v` the vertex of the cube that their signs name,
//! `y₂ = c v + e` with the stored length `c`, and `y₃` what lies outside of all components. Then
//!
//! ```text
//! ⟨p₂, y₂⟩ + ⟨p₃, y₃⟩ ≤ c ⟨p₂, v⟩ + ‖p₂‖ ‖e‖ + ‖p₃‖ ‖y₃‖
//! ```
//!
//! takes the place of `‖p₂‖ ‖y₂‖` above. The query's components are replaced by `p̂ = u w` with integers `|wᵢ| ≤ 127` here too,
//! which adds `c ‖p₂ − p̂‖`, since `v` has length 1. Components that differ less need fewer bits: at a threshold of 0.8, 64 signs in 8 bytes
//! exclude most of the rows that 64 levels let pass.
//!
//! *Any basis will do.* The bound needs only that the stored basis is orthonormal, and takes for what is missing from that
//! [`Basis::error`], which is measured. Whether it is a good one decides how many rows pass, and nothing else.
//!
//! # One bit per component
//!
//! For groups of which no basis was learned. The idea is RaBitQ's (Gao & Long, SIGMOD 2024, arXiv:2405.12497): rotate the
//! unit row by a random orthogonal `P`, padded with zeros to `D` components, and keep the signs of `P y`. They name a vertex
//! `v` of the cube, `±1/√D` in each component, at the angle `α` from `P y` with `cos α = Σ|(P y)ᵢ| / √D`. After a random
//! rotation `cos α` is about 0.8.
//!
//! *Bound.* Let `β` be the angle between `p` and `y`, and `u = ⟨P p, v⟩`. Angles on the sphere obey the triangle
//! inequality: `∠(P p, v) ≤ ∠(P p, P y) + ∠(P y, v) = β + α`. A score of at least `b = cos γ ≥ 0` means `β ≤ γ`, and
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
//! *The sum.* `√D u` is a sum over groups of sign bits, four or six in each as the kernel likes. [`SignQuery`] tabulates the
//! sums of each group as `m + δ e` with an integer `e`, rounded up, so that the integer sum `S` of a row's `e` has
//! `√D u ≤ M + δ S`.
//!
//! # One byte per component
//!
//! `P y = s c + r` with integers `|c_i| ≤ 127` and `P p = t w + f` likewise. By Cauchy and Schwarz, with `‖p‖ = 1`,
//!
//! ```text
//! ⟨y, p⟩ = s t ⟨c, w⟩ + ⟨r, P p⟩ + ⟨s c, f⟩ ≤ s t ⟨c, w⟩ + ‖r‖ + (1 + ‖r‖) ‖f‖.
//! ```
//!
//! # Rounding
//!
//! [`SLACK`] is added to every score of the last two for what differs from real arithmetic: stored rows have a squared
//! length within 1e-6 of 1 and the score is rounded to `f32` (6e-8). One level of the `f32` butterflies errs by at most
//! `2^-24` of the vector's length; with four rounds of at most 16 levels and two more roundings each, rotated vectors are
//! within `72 × 2^-24 < 5e-6` of the exact rotation, and within twice that after they are scaled to length 1. Together less
//! than 3e-5. Sums over rotated components are taken in `f64`, whose errors are below 1e-10. For levels the error depends on
//! the number of components and is part of [`Basis::error`]; it counts on both sides.

mod basis;
mod bytes;
mod encoder;
mod levels;
mod query;
mod rotation;
mod signs;

pub use basis::{Basis, sample_rows};
pub use bytes::{ByteFactors, InBytes, QueryInBytes};
pub use encoder::Encoder;
pub use levels::{LevelCode, LevelQuery};
pub use query::SketchedQuery;
pub use rotation::Rotation;
pub use signs::{SignCode, SignQuery};

/// How far a score may lie above what the exact geometry of the rotated vectors allows; see the module's documentation.
pub const SLACK: f64 = 1e-4;
