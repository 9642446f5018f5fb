//! A random rotation in `O(D log D)`: rounds of random signs and a Hadamard transform.
//!
//! `D` need not be a power of two: rounds transform the first and the last `2^m` components in turn, where
//! `2^m` is the largest power of two in `D`, so that the two overlap and mix. Each step is orthogonal.

/// Twice over the front and twice over the back.
const ROUNDS: usize = 4;

/// Sketches are made of whole lines of code bytes and of whole registers of bytes.
pub const STEP: usize = 64;

/// Pseudo-random bits: splitmix64 (Steele, Lea & Flood, 2014), the same in every run.
pub(super) fn noise_bits(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bits = *state;
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

/// A rotation of `dim` components in `padded` dimensions; the same for equal `dim`.
#[derive(Debug)]
pub struct Rotation {
    padded: usize,
    width: usize,
    /// Sign bits of each round, as they are in an `f32`.
    flips: Vec<u32>,
}

impl Rotation {
    /// The rotation for vectors of `dim` components.
    pub fn new(dim: usize) -> Self {
        let padded = dim.next_multiple_of(STEP);
        let width = 1 << padded.ilog2();
        let mut state = 0x5EED_0F51_6715_u64;
        let flips = (0..padded * ROUNDS).map(|_| (noise_bits(&mut state) >> 32) as u32 & (1 << 31)).collect();
        Self { padded, width, flips }
    }

    /// Components after padding.
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// Replaces the contents of `out` by the rotated `vector`.
    pub fn apply(&self, vector: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(vector);
        out.resize(self.padded, 0.0);
        let scale = (self.width as f32).sqrt().recip();
        for (round, flips) in self.flips.chunks_exact(self.padded).enumerate() {
            for (component, flip) in out.iter_mut().zip(flips) {
                *component = f32::from_bits(component.to_bits() ^ flip);
            }
            let start = if round % 2 == 0 { 0 } else { self.padded - self.width };
            if let Some(part) = out.get_mut(start..start + self.width) {
                hadamard(part);
                part.iter_mut().for_each(|component| *component *= scale);
            }
        }
    }
}

/// The unnormalised Hadamard transform; the length is a power of two and at least 8.
fn hadamard(part: &mut [f32]) {
    for eight in part.as_chunks_mut::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *eight;
        let (a, b, c, d, e, f, g, h) = (a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h);
        let (a, b, c, d, e, f, g, h) = (a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h);
        *eight = [a + b, a - b, c + d, c - d, e + f, e - f, g + h, g - h];
    }
    let mut half = 8;
    while half < part.len() {
        for pair in part.chunks_exact_mut(half * 2) {
            let (front, back) = pair.split_at_mut(half);
            for (a, b) in front.iter_mut().zip(back) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::Rotation;

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    #[test]
    fn products_survive_and_axes_spread() {
        for dim in [1, 8, 63, 64, 65, 100, 384, 1000, 1536, 4096] {
            let rotation = Rotation::new(dim);
            let rotated = |vector: &[f32]| {
                let mut out = Vec::new();
                rotation.apply(vector, &mut out);
                out
            };
            let a: Vec<f32> = (0..dim).map(|i| ((i * 37 % 101) as f32 - 50.0) / (dim as f32).sqrt() / 30.0).collect();
            let b: Vec<f32> = (0..dim).map(|i| ((i * 53 % 89) as f32 - 44.0) / (dim as f32).sqrt() / 30.0).collect();
            assert!((dot(&rotated(&a), &rotated(&b)) - dot(&a, &b)).abs() < 1e-5, "dim {dim}");
            let mut axis = vec![0.0; dim];
            axis[dim / 2] = 1.0;
            let spread: f32 = rotated(&axis).iter().map(|component| component.abs()).sum();
            assert!(spread > 0.5 * (rotation.padded() as f32).sqrt(), "dim {dim}: {spread}");
        }
    }
}
