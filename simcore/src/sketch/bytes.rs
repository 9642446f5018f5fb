//! One byte per component of the rotated vector.

use super::SLACK;
use crate::kernel::ByteQuery;

/// Largest magnitude of a component in bytes; symmetric, so that products of two bytes never saturate 16 bits.
const BYTE_MAX: f64 = 127.0;

/// A vector in bytes, times a scale: at most an error away from the rotated unit vector.
#[derive(Debug, Clone, Default)]
pub struct InBytes {
    /// One per padded component.
    pub bytes: Vec<i8>,
    /// What makes a bound of their products.
    pub factors: ByteFactors,
}

/// What makes a bound of the product of a row in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByteFactors {
    /// What one unit of a byte is worth.
    scale: Half,
    /// At least the length of what the bytes leave out.
    error: Half,
}

/// A number that is not negative, rounded up to the upper half of an `f32`: 128 steps from a power of two to the next.
#[derive(Debug, Clone, Copy, Default)]
struct Half(u16);

impl Half {
    fn above(number: f64) -> Self {
        // The cast may round down, but by less than the upper half goes up.
        Self(((number as f32).to_bits().saturating_add(0x1_0000) >> 16) as u16)
    }

    fn value(self) -> f64 {
        f64::from(f32::from_bits(u32::from(self.0) << 16))
    }
}

/// A query in bytes, and what bounds the score of a row in bytes.
#[derive(Debug)]
pub struct QueryInBytes {
    bytes: ByteQuery,
    scale: f64,
    error: f64,
}

impl QueryInBytes {
    /// Rounds a rotated unit vector.
    pub fn new(unit: &[f64]) -> Self {
        let mut coarse = InBytes::default();
        quantise(unit, &mut coarse);
        let ByteFactors { scale, error } = coarse.factors;
        Self { bytes: ByteQuery::new(&coarse.bytes), scale: scale.value(), error: error.value() }
    }

    /// The query in bytes.
    pub fn bytes(&self) -> &ByteQuery {
        &self.bytes
    }

    /// Most that the score can be of a row in bytes whose product with the query's bytes is `dot`.
    #[inline]
    pub fn most(&self, dot: i32, row: ByteFactors) -> f64 {
        let error = row.error.value();
        f64::from(dot) * (row.scale.value() * self.scale) + error + (1.0 + error) * self.error + SLACK
    }
}

/// Rounds a unit vector to bytes.
pub(super) fn quantise(unit: &[f64], out: &mut InBytes) {
    let largest = unit.iter().fold(0.0_f64, |largest, component| largest.max(component.abs()));
    // Rounded to what is stored first: the error below is that of the stored scale.
    let stored = Half::above(largest / BYTE_MAX);
    let scale = stored.value();
    let inverse = scale.recip();
    let mut square = 0.0;
    out.bytes.clear();
    out.bytes.extend(unit.iter().map(|&component| {
        // Adding and taking away 1.5 × 2^52 rounds to the nearest integer without a call.
        const ROUND: f64 = 6_755_399_441_055_744.0;
        let level = ((component * inverse + ROUND) - ROUND).clamp(-BYTE_MAX, BYTE_MAX);
        let left = component - level * scale;
        square += left * left;
        level as i8
    }));
    out.factors = ByteFactors { scale: stored, error: Half::above(square.sqrt()) };
}

#[cfg(test)]
mod tests {
    use super::{Half, InBytes, QueryInBytes, quantise};

    /// Steps of the bytes, and what they leave out of a vector.
    fn stored(unit: &[f64], in_bytes: &InBytes) -> Vec<f64> {
        let scale = in_bytes.factors.scale.value();
        unit.iter().zip(&in_bytes.bytes).map(|(c, &byte)| c - scale * f64::from(byte)).collect()
    }

    #[test]
    fn the_bound_counts_all_that_bytes_leave_out() {
        let mut state = 8_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 30) - 1.0
        };
        let length = |vector: &[f64]| vector.iter().map(|c| c * c).sum::<f64>().sqrt();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for round in 0..300 {
            let unit = |vector: Vec<f64>| -> Vec<f64> {
                let length = length(&vector);
                vector.into_iter().map(|c| c / length).collect()
            };
            let row = unit((0..384).map(|_| noise()).collect());
            let mut in_bytes = InBytes::default();
            quantise(&row, &mut in_bytes);
            let left = stored(&row, &in_bytes);
            // Towards what the row's bytes leave out, where the bound is worst.
            let share = f64::from(round % 10) / 10.0;
            let query = unit(row.iter().zip(&left).map(|(r, l)| share * r + l / length(&left)).collect());
            let (mut coarse, bounded) = (InBytes::default(), QueryInBytes::new(&query));
            quantise(&query, &mut coarse);
            let of_bytes: i32 =
                in_bytes.bytes.iter().zip(&coarse.bytes).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
            let most = bounded.most(of_bytes, in_bytes.factors);
            let (r, f) = (length(&left), length(&stored(&query, &coarse)));
            assert!(most >= dot(&row, &query), "{round}");
            let scales = in_bytes.factors.scale.value() * coarse.factors.scale.value();
            let exact = f64::from(of_bytes) * scales + r + (1.0 + r) * f;
            assert!(most >= exact && most <= exact + 1e-3, "{round}: {most} {exact}");
        }
    }

    #[test]
    fn halves_are_never_less_and_hardly_more() {
        let mut number = 1e-30;
        while number < 4.0 {
            let above = Half::above(number).value();
            assert!(above >= number && above <= number * (1.0 + 2.0_f64.powi(-6)), "{number} {above}");
            number *= 1.000_37;
        }
        assert!(Half::above(0.0).value() < 1e-30);
    }
}
