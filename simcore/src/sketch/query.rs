//! What a query looks like to the sketches.

use super::SLACK;
use super::encoder::{InBytes, quantise, rotate};
use super::rotation::Rotation;
use crate::kernel::{Bar, ByteQuery};

/// Most that one table entry may be: the sum of two still fits in a byte.
const MOST: usize = 127;

/// Added to `u`, for the sine that kernels derive in `f32`; see `COSINE_MARGIN` of the encoder.
const SINE_SLACK: f64 = 2e-5;

/// Added to the integer sum for the `f32` arithmetic of the kernels. A nibble's width is at least `2/√D`, so
/// `√D / δ ≤ D (levels − 1) / 2 ≤ 2^17`; six roundings of numbers up to that err by at most `2^-7` each.
const SUM_SLACK: f64 = 0.5;

/// A query, rotated and tabulated.
#[derive(Debug)]
pub struct SketchedQuery {
    table: Vec<u8>,
    /// `M / δ`: what the rounded-down sums of all nibbles are worth.
    base: f64,
    /// `√D / δ`: units of the integer sum per unit of `u`.
    per_unit: f64,
    bytes: ByteQuery,
    scale: f64,
    error: f64,
}

impl SketchedQuery {
    /// Sketches a unit vector.
    pub fn new(rotation: &Rotation, query: &[f32]) -> Self {
        let (mut rotated, mut unit) = (Vec::new(), Vec::new());
        rotate(rotation, query, &mut rotated, &mut unit);
        let nibbles = unit.as_chunks::<4>().0;
        let reach = |nibble: &[f64; 4]| nibble.iter().map(|component| component.abs()).sum::<f64>();
        let widest = 2.0 * nibbles.iter().map(reach).fold(0.0, f64::max);
        // The sum of all nibbles must fit in 16 bits. One level is kept for rounding up.
        let most = MOST.min(usize::from(u16::MAX) / nibbles.len()).max(2);
        let step = widest / (most - 1) as f64;
        let mut table = Vec::with_capacity(nibbles.len() * 16);
        let mut least = 0.0;
        for nibble in nibbles {
            let lowest = -reach(nibble);
            least += lowest;
            for pattern in 0..16_u8 {
                let sum: f64 = nibble
                    .iter()
                    .enumerate()
                    .map(|(bit, &component)| if pattern >> bit & 1 == 1 { component } else { -component })
                    .sum();
                // The addend is far above the error of these few operations.
                let entry = ((sum - lowest) / step + 1e-9).ceil();
                table.push(entry as u8);
            }
        }
        let mut coarse = InBytes::default();
        quantise(&unit, &mut coarse);
        Self {
            table,
            base: least / step,
            per_unit: (unit.len() as f64).sqrt() / step,
            bytes: ByteQuery::new(coarse.bytes),
            scale: f64::from(coarse.scale),
            error: f64::from(coarse.error),
        }
    }

    /// The table of sums: 16 for each nibble of a row's signs.
    pub fn table(&self) -> &[u8] {
        &self.table
    }

    /// The query in bytes.
    pub fn bytes(&self) -> &ByteQuery {
        &self.bytes
    }

    /// What the sign codes of a row must satisfy if its score can be `least`; `None` if they exclude nothing.
    pub fn bar(&self, least: f64) -> Option<Bar> {
        let cosine = (least - SLACK).min(1.0);
        (cosine > 0.0).then(|| Bar {
            straight: (cosine * self.per_unit) as f32,
            across: ((1.0 - cosine * cosine).sqrt() * self.per_unit) as f32,
            offset: (self.base + SINE_SLACK * self.per_unit + SUM_SLACK) as f32,
        })
    }

    /// Most that the score can be of a row in bytes whose product with the query's bytes is `dot`.
    #[inline]
    pub fn most(&self, dot: i32, scale: f32, error: f32) -> f64 {
        let error = f64::from(error);
        f64::from(dot) * (f64::from(scale) * self.scale) + error + (1.0 + error) * self.error + SLACK
    }
}
