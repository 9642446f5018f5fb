//! What a query looks like to the sketches.

use super::SLACK;
use super::encoder::{InBytes, quantise, rotate};
use super::rotation::Rotation;
use crate::kernel::{Bar, ByteQuery, Kernel, Look, TRIPLE};

/// Most that one table entry may be: the sum of two still fits in a byte.
const MOST: usize = 127;

/// Added to `u`, for the sine that kernels derive in `f32`; see `COSINE_MARGIN` of the encoder.
const SINE_SLACK: f64 = 2e-5;

/// Fractions of a step in which single components are counted. Each is rounded up, so a table entry is too high by at
/// most `6 / FINE` for that, beside the step for its own rounding.
const FINE: u16 = 128;

/// Added to the integer sum for the `f32` arithmetic of the kernels. A group's width is at least `2/√D`, so
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
    /// Sketches a unit vector for a kernel.
    pub fn new(rotation: &Rotation, query: &[f32], kernel: &dyn Kernel) -> Self {
        let (mut rotated, mut unit) = (Vec::new(), Vec::new());
        rotate(rotation, query, &mut rotated, &mut unit);
        let layout = kernel.layout();
        let groups = layout.groups((unit.len() / 8).next_multiple_of(TRIPLE));
        let component = |group, bit| unit.get(layout.component(group, bit)).copied().unwrap_or(0.0);
        let reach = |group| (0..layout.bits()).map(|bit| component(group, bit).abs()).sum::<f64>();
        let widest = 2.0 * (0..groups).map(reach).fold(0.0, f64::max);
        // The sum of all groups must fit in 16 bits. One level is kept for rounding up.
        let most = MOST.min(usize::from(u16::MAX) / groups).max(2);
        let step = widest / (most - 1) as f64;
        let fine = f64::from(FINE) / step;
        let size = 1 << layout.bits();
        let mut table = vec![0; groups * size];
        let mut sums = [0_u16; 64];
        for (group, entries) in table.chunks_exact_mut(size).enumerate() {
            // What each pattern has more than the least: the first `1 << bit` are known, each bit doubles them.
            sums[0] = FINE - 1;
            for bit in 0..layout.bits() {
                let component = component(group, bit);
                let width = (2.0 * component.abs() * fine).ceil() as u16;
                let (clear, set) = if component < 0.0 { (width, 0) } else { (0, width) };
                let (known, next) = sums.split_at_mut(1 << bit);
                for (sum, next) in known.iter_mut().zip(next) {
                    *next = *sum + set;
                    *sum += clear;
                }
            }
            for (entry, sum) in entries.iter_mut().zip(sums) {
                *entry = (sum / FINE) as u8;
            }
        }
        let least: f64 = -unit.iter().map(|component| component.abs()).sum::<f64>();
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

    /// What codes are compared with against this bar.
    pub fn look(&self, bar: Bar) -> Look<'_> {
        Look { table: &self.table, bar }
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
