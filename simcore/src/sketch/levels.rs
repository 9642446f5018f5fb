//! Sixteen levels per component in a [`Basis`]: codes of rows, and weights of queries.

use super::basis::{Basis, Scale};
use crate::kernel::Kernel;
use crate::kernel::further::{self, FurtherLook, RowSigns, SIGNED};
use crate::kernel::levels::{FINE, LevelLook};

/// Parts of 1 in which the length is counted of what the levels of a row leave out: it is at most 2.01, see
/// [`encode`].
const INSIDE_UNIT: f64 = 125.0;

/// The same for what lies outside of the subspace, which is hardly longer than 1.
const OUTSIDE_UNIT: f64 = 250.0;

/// How much longer than 1 a stored unit vector can be.
const LONGER: f64 = 1e-6;

/// Least worth of one unit of a sum, so that the weights of what is left out fit in 16 bits: rounding weights to it moves
/// a component by at most `UNIT_MIN / 2` of a step, which is at least 3.35e-4, and 128 of them by 0.51 together.
const UNIT_MIN: f64 = 3e-5;

/// The code of one row.
#[derive(Debug, Default, Clone)]
pub struct LevelCode {
    /// One for each component that has levels, 0 … 15.
    pub levels: Vec<u8>,
    /// What the levels leave out inside these components, and what lies outside of them.
    pub left_out: [u8; 2],
    /// If the basis has components with signs.
    pub signs: Option<RowSigns>,
}

/// Encodes a unit vector; `components` is scratch space.
///
/// What the levels leave out is at most `√(‖y₁ − middle‖² + Σ step²/4)` long, where both vectors are at most 1 long and the
/// steps are a third of the spread: 2.01.
pub(super) fn encode(
    basis: &Basis,
    vector: &[f32],
    kernel: &dyn Kernel,
    components: &mut Vec<f32>,
    code: &mut LevelCode,
) {
    basis.project(vector, kernel, components);
    let (first, others) = components.split_at(basis.levelled());
    let (mut inside, mut left_out) = (0.0, 0.0);
    code.levels.clear();
    code.levels.extend(first.iter().zip(basis.scales()).map(|(&component, scale)| {
        let component = f64::from(component);
        let level = scale.level(component);
        let missing = component - scale.component(level);
        inside += component * component;
        left_out += missing * missing;
        level
    }));
    let replaced = up(outside(inside, basis.error()), OUTSIDE_UNIT);
    code.left_out = [up(left_out.sqrt(), INSIDE_UNIT), replaced];
    code.signs = basis.has_signs().then(|| signs(others, inside, basis.error(), replaced));
}

/// The signs of components, of which others are `inside` long in square.
fn signs(components: &[f32], inside: f64, error: f64, replaced: u8) -> RowSigns {
    let edge = (components.len() as f64).sqrt().recip();
    let mut bits = [0; SIGNED / 8];
    for (byte, eight) in bits.iter_mut().zip(components.as_chunks::<8>().0) {
        *byte = (0..).zip(eight).fold(0, |byte, (bit, &component)| byte | u8::from(component >= 0.0) << bit);
    }
    let (mut square, mut along) = (0.0, 0.0);
    for &component in components {
        let component = f64::from(component);
        square += component * component;
        along += component.abs() * edge;
    }
    // Any length along the vertex will do; what is beside it is that of the stored one.
    let stored = (along * further::UNIT) as u8;
    let taken = f64::from(stored) / further::UNIT;
    let beside = (square - 2.0 * taken * along + taken * taken).max(0.0).sqrt();
    RowSigns {
        bits,
        along: stored,
        beside: up(beside + 1e-7, further::UNIT),
        outside: up(outside(inside + square, error), further::UNIT),
        replaced,
    }
}

/// A length in units, rounded up.
fn up(length: f64, unit: f64) -> u8 {
    (length * unit * (1.0 + 1e-9)).ceil() as u8
}

/// At most the length of a unit vector's part outside of the subspace, by the squared length of its components.
fn outside(inside: f64, error: f64) -> f64 {
    let least = (inside.sqrt() - error).max(0.0);
    (1.0 + LONGER - least * least).max(0.0).sqrt()
}

/// A query as it is compared with the codes made in one basis.
#[derive(Debug)]
pub struct LevelQuery {
    weights: Vec<i8>,
    of_left: [i16; 2],
    /// Score per unit of a sum.
    unit: f64,
    /// The part of the bound that is the same for all rows.
    fixed: f64,
    further: Option<Box<FurtherLook>>,
}

impl LevelQuery {
    /// Weighs the components of a unit vector.
    pub fn new(basis: &Basis, vector: &[f32], kernel: &dyn Kernel) -> Self {
        let mut components = Vec::new();
        basis.project(vector, kernel, &mut components);
        let (first, others) = components.split_at(basis.levelled());
        let error = basis.error();
        let weight = |(&component, scale): (&f32, &Scale)| f64::from(component) * scale.step;
        let of_all = || first.iter().zip(basis.scales());
        let largest = of_all().map(weight).fold(0.0, |largest: f64, weight| largest.max(weight.abs()));
        let unit = (largest / 127.0).max(UNIT_MIN);
        let weights: Vec<i8> = of_all().map(|pair| (weight(pair) / unit).round() as i8).collect();
        let (mut inside, mut kept, mut lost, mut middle) = (0.0, 0.0, 0.0, 0.0);
        for ((&component, scale), &weight) in of_all().zip(&weights) {
            let component = f64::from(component);
            // What the rounded weight stands for.
            let stands = unit * f64::from(weight) / scale.step;
            inside += component * component;
            kept += stands * stands;
            lost += (component - stands) * (component - stands);
            middle += stands * scale.component(0);
        }
        // ⟨p₁ − p̂, y₁⟩, what projecting can be wrong by on both sides, and the rounding of the score and of this sum.
        let fixed = middle + lost.sqrt() * (1.0 + error + LONGER) + 2.1 * error + 1e-6;
        let of_left = |length: f64, units: f64| (f64::from(FINE) * length / (units * unit)).ceil() as i16;
        let of_left = [of_left(kept.sqrt(), INSIDE_UNIT), of_left(outside(inside, error), OUTSIDE_UNIT)];
        let sum = unit / f64::from(FINE);
        let signs = basis.has_signs();
        let further = signs.then(|| Box::new(further(others, inside, error, sum, of_left[1], fixed)));
        Self { weights, of_left, unit, fixed, further }
    }

    /// What codes are compared with, so that every row whose score can be `least` passes.
    pub fn look(&self, least: f64) -> LevelLook<'_> {
        // Saturates; one below for the rounding of this line.
        let least = (f64::from(FINE) * (least - self.fixed) / self.unit).floor() as i32;
        LevelLook { weights: &self.weights, of_left: self.of_left, least: least.saturating_sub(1) }
    }

    /// Most that the score of a row can be whose levels have this sum.
    #[inline]
    pub fn most(&self, sum: i32) -> f64 {
        self.fixed + self.unit * f64::from(sum) / f64::from(FINE)
    }

    /// What the signs of further components are compared with, if the basis has any.
    pub fn further(&self) -> Option<&FurtherLook> {
        self.further.as_deref()
    }
}

/// The query's side of `⟨p₁, y₁⟩ + ⟨p₂, y₂⟩ + ⟨p₃, y₃⟩`: the first part as before, without what it added for the rest; of the
/// signed part `y₂ = c v + e` what is along the vertex `v`, and Cauchy and Schwarz for what is beside it, for the third, and
/// for what the weights leave out of `p₂`.
fn further(components: &[f32], inside: f64, error: f64, sum: f64, replaced: i16, fixed: f64) -> FurtherLook {
    let wide = components.iter().copied().map(f64::from);
    let largest = wide.clone().fold(0.0, |largest: f64, component| largest.max(component.abs()));
    let step = (largest / 127.0).max(f64::from(f32::MIN_POSITIVE));
    let mut weights = [0; SIGNED];
    let (mut square, mut lost) = (0.0, 0.0);
    for (weight, component) in weights.iter_mut().zip(wide) {
        *weight = (component / step).round() as i8;
        let missing = component - step * f64::from(*weight);
        square += component * component;
        lost += missing * missing;
    }
    let edge = (SIGNED as f64).sqrt().recip();
    let per_unit = |length: f64| (length / further::UNIT) as f32;
    FurtherLook {
        total: weights.iter().copied().map(i32::from).sum(),
        weights,
        sum: sum as f32,
        // Some ten roundings of numbers below 4, each of at most 2^-24 of them.
        fixed: (fixed + 1e-5) as f32,
        vertex: per_unit(step * edge),
        lost: per_unit(lost.sqrt()),
        beside: per_unit(square.sqrt()),
        outside: per_unit(outside(inside + square, error)),
        replaced: (sum * f64::from(replaced)) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::{LevelCode, LevelQuery, encode};
    use crate::kernel::further::{BlockSigns, Doubt};
    use crate::kernel::levels::{LevelCodes, LevelLook, lines_per_block, write};
    use crate::kernel::{BLOCK, Line, available, portable, unit};
    use crate::sketch::Basis;

    fn noise(state: &mut u64) -> f32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as f32 / (1_u64 << 30) as f32 - 1.0
    }

    fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
        unit::normalise(&mut vector, &mut Vec::new()).unwrap();
        vector
    }

    /// Whether a row with this code passes for a query at a bar: by its levels, and by its signs.
    fn passes(basis: &Basis, code: &LevelCode, query: &LevelQuery, least: f64) -> [bool; 2] {
        let mut lines = vec![Line::default(); lines_per_block(basis.levelled())];
        write(&mut lines, 5, &code.levels, code.left_out).unwrap();
        let of_kernels: Vec<_> = available()
            .into_iter()
            .map(|kernel| {
                let (mut masks, mut sums) = ([0], [[0; BLOCK]]);
                let codes = LevelCodes::new(&lines, basis.levelled());
                // At no bar, so that the sum is written.
                let look = LevelLook { least: i32::MIN, ..query.look(least) };
                kernel.levels(&[look], &codes, &mut masks, &mut sums);
                kernel.levels(&[query.look(least)], &codes, &mut masks, &mut [[0; BLOCK]]);
                (masks[0] >> 5 & 1 == 1, sums[0][5])
            })
            .collect();
        let (by_levels, sum) = of_kernels[0];
        assert!(of_kernels.iter().all(|&of| of == (by_levels, sum)));
        let by_signs = code.signs.is_none_or(|signs| {
            let reaching = available().into_iter().map(|kernel| {
                let mut doubts = vec![Doubt { number: 0, sum }];
                let look = query.further().unwrap();
                kernel.further(look, &[BlockSigns([signs; BLOCK])], &mut doubts, (least as f32).next_down());
                !doubts.is_empty()
            });
            let reaching: Vec<bool> = reaching.collect();
            assert!(reaching.iter().all(|&one| one == reaching[0]));
            reaching[0]
        });
        [by_levels, by_signs]
    }

    #[test]
    fn rows_pass_at_their_score_and_the_worst_ones_hardly_above() {
        let kernel = available()[0];
        let mut state = 1;
        for dim in [16, 100, 384] {
            // Most of the spread lies in few directions.
            let scales: Vec<f32> = (0..dim).map(|number| (number as f32 + 1.0).powf(-0.7)).collect();
            let row = |state: &mut u64| normalised(scales.iter().map(|scale| scale * (noise(state) + 0.1)).collect());
            let sample: Vec<f32> = (0..800).flat_map(|_| row(&mut state)).collect();
            let basis = Basis::fit(&sample, dim, kernel).unwrap();
            let (mut components, mut code) = (Vec::new(), LevelCode::default());
            for number in 0..300 {
                let row = row(&mut state);
                encode(&basis, &row, kernel, &mut components, &mut code);
                // What the levels leave out, in the vectors' own components, and what lies outside of the basis.
                let (mut inside, mut outside) = (vec![0.0; dim], row.clone());
                for ((&component, scale), (&level, direction)) in
                    components.iter().zip(basis.scales()).zip(code.levels.iter().zip(basis.directions()))
                {
                    let missing = component - scale.component(level) as f32;
                    inside.iter_mut().zip(direction).for_each(|(sum, d)| *sum += missing * d);
                    outside.iter_mut().zip(direction).for_each(|(left, d)| *left -= component * d);
                }
                let length = |some: &[f32]| some.iter().map(|c| c * c).sum::<f32>().sqrt().max(1e-9);
                let (of_inside, of_outside) = (length(&inside), length(&outside));
                let share = number as f32 / 300.0;
                // Beside the vertex that the signs name, and outside of all components.
                let mut beside = vec![0.0; dim];
                let mut beyond = outside.clone();
                let signed = components.iter().zip(basis.directions()).enumerate().skip(basis.levelled());
                for (at, (&component, direction)) in signed {
                    let signs = code.signs.unwrap();
                    let edge = f32::from(signs.along) / 250.0 / 8.0;
                    let vertex =
                        if signs.bits[(at - basis.levelled()) / 8] >> (at % 8) & 1 == 1 { edge } else { -edge };
                    beside.iter_mut().zip(direction).for_each(|(sum, d)| *sum += (component - vertex) * d);
                    beyond.iter_mut().zip(direction).for_each(|(left, d)| *left -= component * d);
                }
                let (of_beside, of_beyond) = (length(&beside), length(&beyond));
                let towards = (0..dim).map(|at| match number % 4 {
                    0 => row[at] + share * noise(&mut state) * 0.2,
                    3 => {
                        let rest = (1.0 - share) * (beside[at] / of_beside + beyond[at] / of_beyond);
                        share * inside[at] / of_inside + rest
                    }
                    _ => share * inside[at] / of_inside + (1.0 - share) * outside[at] / of_outside,
                });
                let query = normalised(towards.collect());
                let wide: Vec<f64> = query.iter().copied().map(f64::from).collect();
                let score = f64::from(portable::dot(&wide, &row) as f32);
                let query = LevelQuery::new(&basis, &query, kernel);
                assert_eq!(passes(&basis, &code, &query, score), [true, true], "dim {dim}, row {number}");
                // The worst cases there are: only lengths being rounded up is left.
                let above = passes(&basis, &code, &query, score + 0.03);
                let outside_matters = dim > basis.levelled();
                assert!(number % 4 == 0 || number % 4 == 3 || !outside_matters || !above[0], "dim {dim}, row {number}");
                assert!(number % 4 != 3 || !basis.has_signs() || !above[1], "dim {dim}, row {number}");
            }
        }
    }
}
