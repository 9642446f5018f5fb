//! Sixteen levels per component in a [`Basis`]: codes of rows, and weights of queries.

use super::basis::{Basis, Scale};
use crate::kernel::Kernel;
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
    /// One for each component, 0 … 15.
    pub levels: Vec<u8>,
    /// What the levels leave out inside the components, and what lies outside of them.
    pub left_out: [u8; 2],
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
    let (mut inside, mut left_out) = (0.0, 0.0);
    code.levels.clear();
    code.levels.extend(components.iter().zip(basis.scales()).map(|(&component, scale)| {
        let component = f64::from(component);
        let level = scale.level(component);
        let missing = component - scale.component(level);
        inside += component * component;
        left_out += missing * missing;
        level
    }));
    code.left_out = [up(left_out.sqrt(), INSIDE_UNIT), up(outside(inside, basis.error()), OUTSIDE_UNIT)];
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
}

impl LevelQuery {
    /// Weighs the components of a unit vector.
    pub fn new(basis: &Basis, vector: &[f32], kernel: &dyn Kernel) -> Self {
        let mut components = Vec::new();
        basis.project(vector, kernel, &mut components);
        let error = basis.error();
        let weight = |(&component, scale): (&f32, &Scale)| f64::from(component) * scale.step;
        let of_all = || components.iter().zip(basis.scales());
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
        Self { weights, of_left, unit, fixed }
    }

    /// What codes are compared with, so that every row whose score can be `least` passes.
    pub fn look(&self, least: f64) -> LevelLook<'_> {
        // Saturates; one below for the rounding of this line.
        let least = (f64::from(FINE) * (least - self.fixed) / self.unit).floor() as i32;
        LevelLook { weights: &self.weights, of_left: self.of_left, least: least.saturating_sub(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::{LevelCode, LevelQuery, encode};
    use crate::kernel::levels::{LevelCodes, lines_per_block, write};
    use crate::kernel::{Line, available, portable, unit};
    use crate::sketch::Basis;

    fn noise(state: &mut u64) -> f32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as f32 / (1_u64 << 30) as f32 - 1.0
    }

    fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
        unit::normalise(&mut vector, &mut Vec::new()).unwrap();
        vector
    }

    /// Whether a row with this code passes for a query at a bar.
    fn passes(basis: &Basis, code: &LevelCode, query: &LevelQuery, least: f64) -> bool {
        let mut lines = vec![Line::default(); lines_per_block(basis.components())];
        write(&mut lines, 5, &code.levels, code.left_out).unwrap();
        let masks = available().into_iter().map(|kernel| {
            let mut masks = [0];
            kernel.levels(&[query.look(least)], &LevelCodes::new(&lines, basis.components()), &mut masks);
            masks[0] >> 5 & 1
        });
        let all: Vec<u64> = masks.collect();
        assert!(all.iter().all(|&bit| bit == all[0]));
        all[0] == 1
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
                let towards = (0..dim).map(|at| match number % 3 {
                    0 => row[at] + share * noise(&mut state) * 0.2,
                    _ => share * inside[at] / of_inside + (1.0 - share) * outside[at] / of_outside,
                });
                let query = normalised(towards.collect());
                let wide: Vec<f64> = query.iter().copied().map(f64::from).collect();
                let score = f64::from(portable::dot(&wide, &row) as f32);
                let query = LevelQuery::new(&basis, &query, kernel);
                assert!(passes(&basis, &code, &query, score), "dim {dim}, row {number}");
                // The worst case there is: only lengths being rounded up is left.
                let worst = number % 3 > 0 && dim > basis.components();
                assert!(!worst || !passes(&basis, &code, &query, score + 0.03), "dim {dim}, row {number}");
            }
        }
    }
}
