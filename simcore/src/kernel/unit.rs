//! Unit vectors: how rows and queries are normalised.

use super::portable;

/// Why a vector cannot be normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// A component is NaN or infinite.
    NotFinite,
    /// All components are zero.
    Zero,
}

/// Divides `row` by its length, in place: each component is `f32(x / sqrt(dot(row, row)))`, computed in `f64`.
///
/// No length over- or underflows: the square of any `f32`, even a denormal one, is a normal `f64`.
/// `wide` is scratch space. On an error `row` is unchanged.
pub fn normalise(row: &mut [f32], wide: &mut Vec<f64>) -> Result<(), Unfit> {
    widen(row, wide);
    let length = portable::dot(wide, row).sqrt();
    if !length.is_finite() {
        return Err(Unfit::NotFinite);
    }
    if length == 0.0 {
        return Err(Unfit::Zero);
    }
    for (component, &exact) in row.iter_mut().zip(wide.iter()) {
        *component = (exact / length) as f32;
    }
    Ok(())
}

/// Whether `row` is what [`normalise`] leaves behind, up to the rounding of its components.
pub fn is_unit(row: &[f32], wide: &mut Vec<f64>) -> bool {
    // Rounding moves each component by a relative 2^-24 at most, so the squared length by about 2^-23.
    const TOLERANCE: f64 = 1e-6;
    widen(row, wide);
    (portable::dot(wide, row) - 1.0).abs() <= TOLERANCE
}

/// Replaces the contents of `wide` by `row` in `f64`.
pub fn widen(row: &[f32], wide: &mut Vec<f64>) {
    wide.clear();
    wide.extend(row.iter().copied().map(f64::from));
}

#[cfg(test)]
mod tests {
    use super::{Unfit, is_unit, normalise};

    #[test]
    fn extreme_lengths_become_unit() {
        for scale in [f32::from_bits(1), f32::MIN_POSITIVE, 1.0, f32::MAX] {
            let mut row = vec![scale; 4096];
            normalise(&mut row, &mut Vec::new()).unwrap();
            assert_eq!(row, vec![1.0 / 64.0; 4096]);
            assert!(is_unit(&row, &mut Vec::new()));
        }
    }

    #[test]
    fn what_has_no_direction_is_refused_and_unchanged() {
        for (row, reason) in [
            ([0.0, -0.0, 0.0], Unfit::Zero),
            ([1.0, f32::NAN, 0.0], Unfit::NotFinite),
            ([f32::INFINITY, 0.0, 0.0], Unfit::NotFinite),
            ([f32::INFINITY, f32::NEG_INFINITY, 0.0], Unfit::NotFinite),
        ] {
            let mut copy = row;
            assert_eq!(normalise(&mut copy, &mut Vec::new()), Err(reason));
            assert_eq!(copy.map(f32::to_bits), row.map(f32::to_bits));
        }
    }
}
