//! The directions in which a group's rows differ most: an orthonormal basis of a subspace, learned from a sample.
//!
//! Any orthonormal basis gives bounds that hold; a good one gives sharp ones. So it is found approximately, by subspace
//! iteration from random directions (Halko, Martinsson & Tropp, SIAM Review 2011), and only its defect is measured.

use super::rotation::noise_bits;
use crate::kernel::further::SIGNED;
use crate::kernel::levels::PER_LINE;
use crate::kernel::{Kernel, PARTIAL_SUMS};

/// Components of a sample: learning from so many takes 50 to 150 ms.
const SAMPLE_COMPONENTS: usize = 3 << 19;

/// Rounds of subspace iteration. The spectra of embeddings fall slowly: a fifth gains less than a hundredth.
const ROUNDS: usize = 4;

/// Components of which a code holds the level: one of so many dimensions,
const DIMENSIONS_PER_COMPONENT: usize = 12;
/// but at least so many, where the vectors have them,
const LEVELLED_MIN: usize = 64;
/// and at most so many.
const LEVELLED_MAX: usize = 128;

/// Least share of the rows' squared lengths that must lie in the subspace: below, sign codes exclude more.
const ENERGY_MIN: f64 = 0.35;

/// Levels of a component.
const LEVELS: f64 = 16.0;
/// The step of a uniform quantiser of sixteen levels that errs least for a normal distribution, in standard deviations
/// (Max, IRE Transactions on Information Theory, 1960).
const STEP: f64 = 0.335;

/// Largest accepted distance of the stored basis from an orthonormal one.
const DEFECT_MAX: f64 = 1e-5;

/// An orthonormal basis of a subspace, and how the components in it are quantised.
#[derive(Debug)]
pub struct Basis {
    /// A direction after another, `dim` components each.
    directions: Vec<f32>,
    dim: usize,
    /// Of the first directions codes hold levels, of the others signs.
    levelled: usize,
    /// For each of the first directions the component that its middle stands for, and the distance of its levels.
    scales: Vec<Scale>,
    /// How far components in it can lie from those in an exactly orthonormal basis, as a vector of all of them.
    error: f64,
}

/// How one component is quantised: level `l` stands for `middle + step × (l − 7.5)`.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// What lies between the levels 7 and 8.
    pub middle: f64,
    /// From one level to the next.
    pub step: f64,
}

impl Scale {
    /// The level nearest to a component.
    pub fn level(&self, component: f64) -> u8 {
        // Saturates; components are finite.
        (((component - self.middle) / self.step + LEVELS / 2.0).clamp(0.0, LEVELS - 1.0)) as u8
    }

    /// The component that a level stands for.
    pub fn component(&self, level: u8) -> f64 {
        self.middle + self.step * (f64::from(level) - (LEVELS - 1.0) / 2.0)
    }
}

/// Components of which a code of rows of so many dimensions holds the level, a multiple of [`PER_LINE`], and the sign.
fn components(dim: usize) -> (usize, usize) {
    let wanted = (dim / DIMENSIONS_PER_COMPONENT).clamp(LEVELLED_MIN, LEVELLED_MAX);
    let levelled = wanted.min(dim) / PER_LINE * PER_LINE;
    (levelled, if dim >= levelled + SIGNED { SIGNED } else { 0 })
}

/// Most rows of `dim` components that a basis is learned from.
pub fn sample_rows(dim: usize) -> usize {
    (SAMPLE_COMPONENTS / dim).max(2 * (LEVELLED_MAX + SIGNED))
}

impl Basis {
    /// Learns a basis from unit vectors that lie one after another; `None` if none would be of use.
    pub fn fit(sample: &[f32], dim: usize, kernel: &dyn Kernel) -> Option<Self> {
        let (levelled, signed) = components(dim);
        let (count, rows) = (levelled + signed, sample.len() / dim);
        if levelled == 0 || rows < count {
            return None;
        }
        let mut state = 0;
        let mut directions: Vec<f32> = (0..count * dim).map(|_| noise(&mut state)).collect();
        let columns = transposed(sample, dim);
        let mut of_rows = vec![0.0; rows * count];
        for _ in 0..ROUNDS {
            orthonormalise(&mut directions, dim, &mut state);
            kernel.project(&directions, sample, dim, &mut of_rows);
            kernel.project(&columns, &transposed(&of_rows, count), rows, &mut directions);
        }
        orthonormalise(&mut directions, dim, &mut state);
        let (first, others) = directions.split_at(levelled * dim);
        let mut turned = turned(first, dim, kernel, &mut state);
        turned.extend(self::turned(others, dim, kernel, &mut state));
        orthonormalise(&mut turned, dim, &mut state);
        let defect = defect(&turned, dim);
        if defect > DEFECT_MAX {
            return None;
        }
        let error = rounding(dim, count) + defect;
        let mut basis = Self { directions: turned, dim, levelled, scales: Vec::new(), error };
        let energy = basis.measure(sample, kernel);
        (energy >= ENERGY_MIN).then_some(basis)
    }

    /// Sets the scales; returns the mean squared length of the sample in the subspace.
    fn measure(&mut self, sample: &[f32], kernel: &dyn Kernel) -> f64 {
        let mut products = vec![0.0; self.levelled];
        let mut sums = vec![(0.0, 0.0); self.levelled];
        let rows = (sample.len() / self.dim) as f64;
        let first = self.directions.get(..self.levelled * self.dim).unwrap_or_default();
        for vector in sample.chunks_exact(self.dim) {
            kernel.project(first, vector, self.dim, &mut products);
            for (sum, &product) in sums.iter_mut().zip(&products) {
                let product = f64::from(product);
                *sum = (sum.0 + product, sum.1 + product * product);
            }
        }
        self.scales.extend(sums.iter().map(|(sum, square)| {
            let middle = sum / rows;
            let spread = (square / rows - middle * middle).max(0.0).sqrt();
            // A sample of equal rows has no spread; others may differ all the same.
            Scale { middle, step: STEP * spread.max(1e-3) }
        }));
        sums.iter().map(|(_, square)| square / rows).sum()
    }

    /// Components of which a code holds the level.
    pub fn levelled(&self) -> usize {
        self.levelled
    }

    /// Whether a code holds signs of further components.
    pub fn has_signs(&self) -> bool {
        self.directions.len() > self.levelled * self.dim
    }

    /// The directions.
    #[cfg(test)]
    pub(super) fn directions(&self) -> impl Iterator<Item = &[f32]> {
        self.directions.chunks_exact(self.dim)
    }

    /// How each component is quantised.
    pub fn scales(&self) -> &[Scale] {
        &self.scales
    }

    /// At most the distance of the components that [`Basis::project`] finds of a unit vector from those in an exactly
    /// orthonormal basis.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// Replaces the contents of `out` by the vector's components: those with levels, then those with signs.
    pub fn project(&self, vector: &[f32], kernel: &dyn Kernel, out: &mut Vec<f32>) {
        out.clear();
        out.resize(self.directions.len() / self.dim, 0.0);
        kernel.project(&self.directions, vector, self.dim, out);
    }

    /// Bytes of memory that it owns.
    pub fn size(&self) -> usize {
        self.directions.capacity() * size_of::<f32>() + self.scales.capacity() * size_of::<Scale>() + size_of::<Self>()
    }
}

/// What [`Kernel::project`] can be wrong by, for all components of a unit vector together.
fn rounding(dim: usize, count: usize) -> f64 {
    let one = (dim / PARTIAL_SUMS + 2 * PARTIAL_SUMS + 8) as f64 * 2_f64.powi(-24);
    1.01 * one * (count as f64).sqrt()
}

/// A pseudo-random number of about normal distribution.
fn noise(state: &mut u64) -> f32 {
    let bits = noise_bits(state);
    let bytes = bits.to_le_bytes().map(f32::from);
    bytes.iter().sum::<f32>() / 1020.0 - 1.0
}

fn transposed(rows: &[f32], dim: usize) -> Vec<f32> {
    let count = rows.len() / dim;
    let mut columns = vec![0.0; rows.len()];
    for (number, row) in rows.chunks_exact(dim).enumerate() {
        for (column, &component) in columns.chunks_exact_mut(count).zip(row) {
            if let Some(place) = column.get_mut(number) {
                *place = component;
            }
        }
    }
    columns
}

/// Another basis of the same subspace, turned at random: all components then have about the same spread, and one scale of
/// weights suits them.
fn turned(directions: &[f32], dim: usize, kernel: &dyn Kernel, state: &mut u64) -> Vec<f32> {
    let count = directions.len() / dim;
    if count == 0 {
        return Vec::new();
    }
    let mut turn: Vec<f32> = (0..count * count).map(|_| noise(state)).collect();
    orthonormalise(&mut turn, count, state);
    let mut axes = vec![0.0; directions.len()];
    kernel.project(&turn, &transposed(directions, dim), count, &mut axes);
    transposed(&axes, count)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Gram and Schmidt, each direction twice (Giraud et al., 2005); one that vanishes is replaced by another.
fn orthonormalise(directions: &mut [f32], dim: usize, state: &mut u64) {
    for number in 0..directions.len() / dim {
        let (done, rest) = directions.split_at_mut(number * dim);
        let Some(direction) = rest.get_mut(..dim) else { return };
        for _ in 0..8 {
            let before = dot(direction, direction).sqrt();
            for _ in 0..2 {
                for other in done.chunks_exact(dim) {
                    let share = dot(direction, other) as f32;
                    direction.iter_mut().zip(other).for_each(|(component, &other)| *component -= share * other);
                }
            }
            let length = dot(direction, direction).sqrt();
            if length > 1e-4 * before && length > f64::from(f32::MIN_POSITIVE) {
                direction.iter_mut().for_each(|component| *component = (f64::from(*component) / length) as f32);
                break;
            }
            direction.iter_mut().for_each(|component| *component = noise(state));
        }
    }
}

/// At least the distance of the directions from orthonormal ones: `‖WWᵀ − I‖` by its largest sum of a row's magnitudes.
fn defect(directions: &[f32], dim: usize) -> f64 {
    let sum = |(number, a): (usize, &[f32])| {
        directions
            .chunks_exact(dim)
            .enumerate()
            .map(|(other, b)| (dot(a, b) - f64::from(u8::from(other == number))).abs())
            .sum::<f64>()
    };
    // A NaN must not pass for a small defect.
    let sums: Vec<f64> = directions.chunks_exact(dim).enumerate().map(sum).collect();
    if sums.iter().all(|sum| sum.is_finite()) { sums.into_iter().fold(0.0, f64::max) } else { f64::INFINITY }
}
