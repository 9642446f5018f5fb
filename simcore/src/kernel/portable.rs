//! The specification of the score, in plain Rust.

use super::Kernel;

/// Lanes of the accumulation: one 512-bit register of `f64`.
pub const LANES: usize = 8;

/// The kernel without any instruction set of its own.
#[derive(Debug)]
pub struct Portable;

impl Kernel for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn score_rows(&self, query: &[f64], rows: &[f32], scores: &mut [f32]) {
        for (score, row) in scores.iter_mut().zip(rows.chunks_exact(query.len())) {
            *score = dot(query, row) as f32;
        }
    }
}

/// The dot product that defines the score.
///
/// Lane `j` adds the products at `j`, `j + 8`, `j + 16`, … in this order, starting from zero; the lanes are
/// then added as `((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7))`.
#[inline]
pub fn dot(query: &[f64], row: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let (query_steps, query_rest) = query.as_chunks::<LANES>();
    let (row_steps, row_rest) = row.as_chunks::<LANES>();
    for (q, r) in query_steps.iter().zip(row_steps) {
        for (lane, (&a, &b)) in lanes.iter_mut().zip(q.iter().zip(r)) {
            *lane += a * f64::from(b);
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(query_rest.iter().zip(row_rest)) {
        *lane += a * f64::from(b);
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[cfg(test)]
mod tests {
    use super::dot;

    #[test]
    fn additions_follow_the_fixed_order() {
        // 2^60 absorbs a 1 that is added to it: which ones survive shows the order.
        let big = (1_u64 << 60) as f32;
        let mut row = vec![0.0_f32; 24];
        (row[0], row[8], row[16]) = (big, 1.0, -big);
        assert_eq!(dot(&[1.0; 24], &row), 0.0, "lane 0 adds 2^60, 1, -2^60 in this order");
        (row[8], row[16]) = (-big, 1.0);
        assert_eq!(dot(&[1.0; 24], &row), 1.0, "lane 0 adds 2^60, -2^60, 1 in this order");
        assert_eq!(dot(&[1.0; 8], &[big, 0.0, 1.0, 0.0, -big, 0.0, 0.0, 0.0]), 1.0, "0 + 4 before + 2");
        assert_eq!(dot(&[1.0; 8], &[big, 1.0, -big, 0.0, 1.0, 0.0, 0.0, 0.0]), 1.0, "1 is absorbed by 0 + 4");
    }
}
