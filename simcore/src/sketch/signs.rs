//! One sign bit per component of the rotated vector: codes of rows, and tables of queries.

use super::SLACK;
use crate::kernel::Kernel;
use crate::kernel::signs::{Bar, SignLook, TRIPLE};

/// Taken off each stored cosine. It keeps the sine that the kernels derive from it in `f32` within 1e-5 of a cone
/// that holds the row: `1 − cos²` is then at least 2e-6 and errs by at most `2^-25`.
const COSINE_MARGIN: f64 = 1e-6;

/// Most that one table entry may be: the sum of two still fits in a byte.
const MOST: usize = 127;

/// Added to `u`, for the sine that kernels derive in `f32`; see [`COSINE_MARGIN`].
const SINE_SLACK: f64 = 2e-5;

/// Fractions of a step in which single components are counted. Each is rounded up, so a table entry is too high by at
/// most `6 / FINE` for that, beside the step for its own rounding.
const FINE: u16 = 128;

/// Added to the integer sum for the `f32` arithmetic of the kernels. A group's width is at least `2/√D`, so
/// `√D / δ ≤ D (levels − 1) / 2 ≤ 2^17`; six roundings of numbers up to that err by at most `2^-7` each.
const SUM_SLACK: f64 = 0.5;

/// The sign code of one row.
#[derive(Debug, Default)]
pub struct SignCode {
    /// Component `8 i + j` in bit `j` of byte `i`; set if the component is not negative.
    pub signs: Vec<u8>,
    /// At most the cosine of the angle between the rotated row and its vertex.
    pub cosine: f32,
}

/// The signs of a rotated unit vector.
pub(super) fn encode(unit: &[f64], code: &mut SignCode) {
    code.signs.clear();
    code.signs.extend(
        unit.as_chunks::<8>()
            .0
            .iter()
            .map(|eight| eight.iter().rev().fold(0_u8, |byte, &component| byte << 1 | u8::from(component >= 0.0))),
    );
    let sum: f64 = unit.iter().map(|component| component.abs()).sum();
    code.cosine = (sum / (unit.len() as f64).sqrt() - COSINE_MARGIN).max(0.0) as f32;
}

/// A rotated query, tabulated.
#[derive(Debug)]
pub struct SignQuery {
    table: Vec<u8>,
    /// `M / δ`: what the rounded-down sums of all groups are worth.
    base: f64,
    /// `√D / δ`: units of the integer sum per unit of `u`.
    per_unit: f64,
}

impl SignQuery {
    /// Tabulates a rotated unit vector for a kernel.
    pub fn new(unit: &[f64], kernel: &dyn Kernel) -> Self {
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
        Self { table, base: least / step, per_unit: (unit.len() as f64).sqrt() / step }
    }

    /// What sign codes are compared with, so that every row whose score can be `least` passes; `None` if all can.
    pub fn look(&self, least: f64) -> Option<SignLook<'_>> {
        let cosine = (least - SLACK).min(1.0);
        (cosine > 0.0).then(|| SignLook {
            table: &self.table,
            bar: Bar {
                straight: (cosine * self.per_unit) as f32,
                across: ((1.0 - cosine * cosine).sqrt() * self.per_unit) as f32,
                offset: (self.base + SINE_SLACK * self.per_unit + SUM_SLACK) as f32,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{SignCode, SignQuery, encode};
    use crate::kernel::signs::{SignCodes, TRIPLE, place};
    use crate::kernel::{BLOCK, Line, available};

    #[test]
    fn rows_at_the_edge_of_the_cone_pass_and_those_outside_of_it_do_not() {
        let mut state = 4_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 30) - 1.0
        };
        for width in [64_usize, 384, 4096] {
            for _ in 0..60 {
                let unit = |vector: Vec<f64>| -> Vec<f64> {
                    let length = vector.iter().map(|c| c * c).sum::<f64>().sqrt();
                    vector.into_iter().map(|c| c / length).collect()
                };
                let row = unit((0..width).map(|_| noise()).collect());
                let mut code = SignCode::default();
                encode(&row, &mut code);
                // The query on the great circle from the vertex through the row, as far behind it as the score says: of all
                // queries with this score the one with the least product with the vertex.
                let edge = (width as f64).sqrt().recip();
                let vertex: Vec<f64> = row.iter().map(|c| if *c >= 0.0 { edge } else { -edge }).collect();
                let cosine: f64 = row.iter().zip(&vertex).map(|(a, b)| a * b).sum();
                let away = unit(row.iter().zip(&vertex).map(|(r, v)| r * cosine - v).collect());
                let score = 0.8 + 0.1 * noise();
                let query = row.iter().zip(&away).map(|(r, a)| score * r + (1.0 - score * score).sqrt() * a).collect();
                let query = unit(query);

                let mut lines = vec![Line::default(); (width / 8).next_multiple_of(TRIPLE)];
                lines.iter_mut().zip(&code.signs).for_each(|(line, &byte)| line.0[place(9)] = byte);
                let mut cosines = [1.0; BLOCK];
                cosines[9] = code.cosine;
                let codes = SignCodes { lines: &lines, cosines: &[cosines], least: &[code.cosine] };
                for kernel in available() {
                    let query = SignQuery::new(&query, kernel);
                    let passes = |least| {
                        let mut masks = [0];
                        kernel.signs(&[query.look(least).unwrap()], &codes, &mut masks);
                        masks[0] >> 9 & 1 == 1
                    };
                    assert!(passes(score), "{} {width}", kernel.name());
                    assert!(!passes(score + 0.08), "{} {width}", kernel.name());
                }
            }
        }
    }
}
