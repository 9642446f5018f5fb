//! The specification of scores and sums, in plain Rust.

use super::further::{BlockSigns, Doubt, FurtherLook};
use super::levels::{FINE, LevelCodes, LevelLook, PER_LINE, TILE, Tile};
use super::signs::{Bar, CodeBlock, Layout, SignCodes, SignLook, place};
use super::{BLOCK, ByteQuery, Kernel, Line, PARTIAL_SUMS};

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

    fn project(&self, rows: &[f32], vectors: &[f32], dim: usize, products: &mut [f32]) {
        let pairs = vectors.chunks_exact(dim).flat_map(|vector| rows.chunks_exact(dim).map(move |row| (row, vector)));
        for (product, (row, vector)) in products.iter_mut().zip(pairs) {
            *product = product_of(row, vector);
        }
    }

    fn layout(&self) -> Layout {
        Layout::Nibbles
    }

    fn signs(&self, looks: &[SignLook<'_>], codes: &SignCodes<'_>, masks: &mut [u64]) {
        for (look, masks) in looks.iter().zip(masks.chunks_exact_mut(codes.len().max(1))) {
            for (mask, block) in masks.iter_mut().zip(codes.blocks()) {
                *mask = passing(look.table, &block, &look.bar);
            }
        }
    }

    fn levels(&self, looks: &[LevelLook<'_>], codes: &LevelCodes<'_>, masks: &mut [u64], sums: &mut [[i32; BLOCK]]) {
        let of_blocks = looks.iter().flat_map(|look| (0..codes.len()).map(move |block| (look, block)));
        for ((mask, sums), (look, block)) in masks.iter_mut().zip(sums).zip(of_blocks) {
            *mask = 0;
            for (tile, sums) in sums.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
                *sums = sums_of(look, &codes.tile(block, tile));
                let reaches = |(row, &sum): (usize, &i32)| u64::from(sum >= look.least) << (tile * TILE + row);
                *mask |= sums.iter().enumerate().map(reaches).fold(0, |mask, bit| mask | bit);
            }
        }
    }

    fn further(&self, look: &FurtherLook, blocks: &[BlockSigns], doubts: &mut Vec<Doubt>, least: f32) {
        doubts.retain(|&doubt| {
            let row = BlockSigns::of(blocks, doubt.number);
            look.most(doubt, row, set_weights(&look.weights, &row.bits)) >= least
        });
    }

    fn fetch(&self, _start: *const u8, _bytes: usize) {}

    fn dot_bytes(&self, query: &ByteQuery, rows: &[Line], dots: &mut [i32]) {
        for (dot, row) in dots.iter_mut().zip(rows.chunks_exact(query.lines())) {
            // At most 127² per component: 65,536 of them fit in 31 bits.
            let bytes = row.iter().flat_map(|line| &line.0).zip(query.bytes.as_flattened());
            *dot = bytes.map(|(&a, &b)| i32::from(i16::from(a.cast_signed()) * i16::from(b))).sum();
        }
    }
}

fn passing(table: &[u8], block: &CodeBlock<'_>, bar: &Bar) -> u64 {
    let Some(least) = bar.least_sum(block.least) else { return 0 };
    let mut placed = [0_u16; BLOCK];
    for (line, entries) in block.lines.iter().zip(table.as_chunks::<32>().0) {
        for (sum, &byte) in placed.iter_mut().zip(&line.0) {
            let (low, high) = (usize::from(byte & 15), usize::from(byte >> 4) + 16);
            *sum = sum.wrapping_add(u16::from(entries[low])).wrapping_add(u16::from(entries[high]));
        }
    }
    if placed.iter().all(|&sum| sum < least) {
        return 0;
    }
    let passes = |(slot, &cosine): (usize, &f32)| {
        u64::from(f32::from(placed[place(slot)]) + bar.offset >= bar.required(cosine)) << slot
    };
    block.cosines.iter().enumerate().map(passes).fold(0, |mask, bit| mask | bit)
}

/// The sums of a tile's rows.
fn sums_of(look: &LevelLook<'_>, tile: &Tile<'_>) -> [i32; TILE] {
    let mut sums = [0_i32; TILE];
    for (line, weights) in tile.lines.iter().zip(look.weights.as_chunks::<PER_LINE>().0) {
        let (low, high) = weights.split_at(PER_LINE / 2);
        for (sum, bytes) in sums.iter_mut().zip(line.0.as_chunks::<{ PER_LINE / 2 }>().0) {
            for ((&byte, &low), &high) in bytes.iter().zip(low).zip(high) {
                *sum += i32::from(byte & 15) * i32::from(low) + i32::from(byte >> 4) * i32::from(high);
            }
        }
    }
    for (sum, left) in sums.iter_mut().zip(tile.left.as_chunks::<2>().0) {
        let [inside, outside] = [0, 1].map(|part| i32::from(left[part]) * i32::from(look.of_left[part]));
        *sum = FINE * *sum + inside + outside;
    }
    sums
}

/// The sum of the weights whose bits are set.
fn set_weights(weights: &[i8; 64], bits: &[u8; 8]) -> i32 {
    let of_eight = |(weights, &byte): (&[i8; 8], &u8)| {
        weights.iter().enumerate().map(|(bit, &weight)| i32::from(weight) * i32::from(byte >> bit & 1)).sum::<i32>()
    };
    weights.as_chunks().0.iter().zip(bits).map(of_eight).sum()
}

/// The `f32` dot product, in [`PARTIAL_SUMS`] partial sums.
fn product_of(row: &[f32], vector: &[f32]) -> f32 {
    let mut sums = [0.0_f32; PARTIAL_SUMS];
    let row_steps = row.as_chunks::<PARTIAL_SUMS>().0;
    for (a, b) in row_steps.iter().zip(vector.as_chunks::<PARTIAL_SUMS>().0) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    finish_product(sums.iter().sum(), row, vector, row_steps.len() * PARTIAL_SUMS)
}

/// Adds the products of the last components, from `done` on, to those of the others.
#[inline(always)]
pub(super) fn finish_product(whole: f32, row: &[f32], vector: &[f32], done: usize) -> f32 {
    whole + row[done..].iter().zip(&vector[done..]).map(|(a, b)| a * b).sum::<f32>()
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
    finish(lanes, query_rest, row_rest)
}

/// Adds the products of what does not fill all lanes, then the lanes.
#[inline(always)]
pub(super) fn finish(mut lanes: [f64; LANES], query_rest: &[f64], row_rest: &[f32]) -> f64 {
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
