//! AVX2: x86-64 processors since about 2013.
#![allow(unsafe_code, reason = "loads through pointers, and calls of functions compiled for AVX2")]

use std::arch::x86_64::*;

use super::further::{BlockSigns, Doubt, FETCHED, FurtherLook};
use super::levels::{FINE, LevelCodes, LevelLook, PER_LINE, TILE, Tile};
use super::signs::{Bar, CodeBlock, Layout, SignCodes, SignLook};
use super::{BLOCK, ByteQuery, Kernel, Line, portable, tiles};

/// Bytes ahead of the load that are fetched; pages end streams that the processor would find by itself.
const AHEAD: usize = 3072;

/// The kernel; [`Avx2::detect`] is the only way to one.
#[derive(Debug)]
pub struct Avx2(());

static THE: Avx2 = Avx2(());

impl Avx2 {
    /// The kernel, if this machine can run it.
    pub fn detect() -> Option<&'static Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(&THE)
    }
}

impl Kernel for Avx2 {
    fn name(&self) -> &'static str {
        "avx2"
    }

    fn score_rows(&self, query: &[f64], rows: &[f32], scores: &mut [f32]) {
        for (score, row) in scores.iter_mut().zip(rows.chunks_exact(query.len())) {
            // SAFETY: a value of this type exists only where `detect` found the features.
            *score = unsafe { dot(query, row) } as f32;
        }
    }

    fn project(&self, rows: &[f32], vectors: &[f32], dim: usize, products: &mut [f32]) {
        tiles::products(
            (rows, vectors, dim),
            products,
            // SAFETY: a value of this type exists only where `detect` found the features.
            |rows, vectors| unsafe { products_of::<ROWS, VECTORS>(rows, vectors) },
            // SAFETY: as above.
            |rows, vector| unsafe { products_of::<ROWS_ALONE, 1>(rows, vector) },
        );
    }

    fn layout(&self) -> Layout {
        Layout::Nibbles
    }

    fn signs(&self, looks: &[SignLook<'_>], codes: &SignCodes<'_>, masks: &mut [u64]) {
        for (look, masks) in looks.iter().zip(masks.chunks_exact_mut(codes.len().max(1))) {
            for (mask, block) in masks.iter_mut().zip(codes.blocks()) {
                // SAFETY: a value of this type exists only where `detect` found the features.
                *mask = unsafe { passing(look.table, &block, &look.bar) };
            }
        }
    }

    fn levels(&self, looks: &[LevelLook<'_>], codes: &LevelCodes<'_>, masks: &mut [u64], sums: &mut [[i32; BLOCK]]) {
        let blocks = codes.len().max(1);
        for ((look, masks), sums) in looks.iter().zip(masks.chunks_exact_mut(blocks)).zip(sums.chunks_exact_mut(blocks))
        {
            // SAFETY: a value of this type exists only where `detect` found the features.
            unsafe { levels(look, codes, masks, sums) };
        }
    }

    fn further(&self, look: &FurtherLook, blocks: &[BlockSigns], doubts: &mut Vec<Doubt>, least: f32) {
        // SAFETY: a value of this type exists only where `detect` found the features.
        unsafe { further(look, blocks, doubts, least) };
    }

    fn fetch(&self, start: *const u8, bytes: usize) {
        for offset in (0..bytes).step_by(64) {
            // SAFETY: AVX2 implies SSE; a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset).cast()) };
        }
    }

    fn dot_bytes(&self, query: &ByteQuery, rows: &[Line], dots: &mut [i32]) {
        for (dot, row) in dots.iter_mut().zip(rows.chunks_exact(query.lines())) {
            // SAFETY: a value of this type exists only where `detect` found the features.
            *dot = unsafe { dot_row(query, row) };
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn dot(query: &[f64], row: &[f32]) -> f64 {
    let (query_steps, query_rest) = query.as_chunks::<{ portable::LANES }>();
    let (row_steps, row_rest) = row.as_chunks::<{ portable::LANES }>();
    let (mut low, mut high) = (_mm256_setzero_pd(), _mm256_setzero_pd());
    for (q, r) in query_steps.iter().zip(row_steps) {
        // SAFETY: `q` and `r` hold eight components each; the loads need no alignment.
        let (r, q_low, q_high) =
            unsafe { (_mm256_loadu_ps(r.as_ptr()), _mm256_loadu_pd(q.as_ptr()), _mm256_loadu_pd(q.as_ptr().add(4))) };
        // Fused or not makes no difference: the products are exact.
        low = _mm256_fmadd_pd(q_low, _mm256_cvtps_pd(_mm256_castps256_ps128(r)), low);
        high = _mm256_fmadd_pd(q_high, _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(r)), high);
    }
    let mut lanes = [0.0; portable::LANES];
    // SAFETY: the array holds both halves; the stores need no alignment.
    unsafe {
        _mm256_storeu_pd(lanes.as_mut_ptr(), low);
        _mm256_storeu_pd(lanes.as_mut_ptr().add(4), high);
    }
    portable::finish(lanes, query_rest, row_rest)
}

#[target_feature(enable = "avx2,fma")]
fn passing(table: &[u8], block: &CodeBlock<'_>, bar: &Bar) -> u64 {
    let Some(least) = bar.least_sum(block.least) else { return 0 };
    let nibble = _mm256_set1_epi8(15);
    // For each half of a line: sums of whole 16-bit words, and of their upper bytes.
    let mut words = [_mm256_setzero_si256(); 2];
    let mut uppers = [_mm256_setzero_si256(); 2];
    for (line, entries) in block.lines.iter().zip(table.as_chunks::<32>().0) {
        // SAFETY: an entry chunk holds 32 bytes. The prefetch reads nothing, wherever it points.
        let (low_entries, high_entries) = unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.0.as_ptr().wrapping_add(AHEAD).cast());
            (_mm_loadu_si128(entries.as_ptr().cast()), _mm_loadu_si128(entries.as_ptr().add(16).cast()))
        };
        let (low_entries, high_entries) =
            (_mm256_broadcastsi128_si256(low_entries), _mm256_broadcastsi128_si256(high_entries));
        for half in 0..2 {
            // SAFETY: a line holds two halves of 32 bytes.
            let codes = unsafe { _mm256_loadu_si256(line.0.as_ptr().add(half * 32).cast()) };
            let low = _mm256_shuffle_epi8(low_entries, _mm256_and_si256(codes, nibble));
            let high = _mm256_shuffle_epi8(high_entries, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble));
            let sum = _mm256_add_epi8(low, high);
            words[half] = _mm256_add_epi16(words[half], sum);
            uppers[half] = _mm256_add_epi16(uppers[half], _mm256_srli_epi16::<8>(sum));
        }
    }
    // Slots 0–15, 16–31, 32–47, 48–63.
    let lowers = [0, 1].map(|half| _mm256_sub_epi16(words[half], _mm256_slli_epi16::<8>(uppers[half])));
    let sums = [lowers[0], lowers[1], uppers[0], uppers[1]];
    let highest = _mm256_max_epu16(_mm256_max_epu16(sums[0], sums[1]), _mm256_max_epu16(sums[2], sums[3]));
    let least = _mm256_set1_epi16(least.cast_signed());
    if _mm256_movemask_epi8(_mm256_cmpeq_epi16(_mm256_max_epu16(highest, least), highest)) == 0 {
        return 0;
    }
    let mut mask = 0;
    for (eight, cosines) in block.cosines.as_chunks::<8>().0.iter().enumerate() {
        let sums = sums[eight / 2];
        let sums = if eight % 2 == 0 { _mm256_castsi256_si128(sums) } else { _mm256_extracti128_si256::<1>(sums) };
        let left = _mm256_add_ps(_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums)), _mm256_set1_ps(bar.offset));
        // SAFETY: eight components.
        let cosines = unsafe { _mm256_loadu_ps(cosines.as_ptr()) };
        let sines = _mm256_sqrt_ps(_mm256_sub_ps(_mm256_set1_ps(1.0), _mm256_mul_ps(cosines, cosines)));
        let right = _mm256_sub_ps(
            _mm256_mul_ps(_mm256_set1_ps(bar.straight), cosines),
            _mm256_mul_ps(_mm256_set1_ps(bar.across), sines),
        );
        let passing = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(left, right));
        mask |= u64::from(passing.cast_unsigned()) << (eight * (BLOCK / 8));
    }
    mask
}

#[target_feature(enable = "avx2,fma")]
fn dot_row(query: &ByteQuery, row: &[Line]) -> i32 {
    let ones = _mm256_set1_epi16(1);
    let mut sum = _mm256_setzero_si256();
    for (q, r) in query.bytes.iter().zip(row) {
        for half in [0, 32] {
            // SAFETY: a line and its bytes in the query have two halves of 32 bytes; the loads need no alignment.
            let (q, r) = unsafe {
                (_mm256_loadu_si256(q.as_ptr().add(half).cast()), _mm256_loadu_si256(r.0.as_ptr().add(half).cast()))
            };
            // One side must be unsigned: |r| × (q with r's sign). No byte is -128, so two products fit in 16 bits.
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(r), _mm256_sign_epi8(q, r));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    sum_of(sum)
}

/// The sum of eight numbers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sum_of(sum: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
}

/// Keeps the doubts whose rows reach.
#[target_feature(enable = "avx2,fma")]
fn further(look: &FurtherLook, blocks: &[BlockSigns], doubts: &mut Vec<Doubt>, least: f32) {
    let (ones, pairs) = (_mm256_set1_epi8(1), _mm256_set1_epi16(1));
    // Byte `i` of a half holds the byte whose bit is asked for, then only this bit.
    let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
    // SAFETY: the weights are two halves of 32 bytes; the loads need no alignment.
    let weights = unsafe { [0, 32].map(|half| _mm256_loadu_si256(look.weights.as_ptr().add(half).cast())) };
    let mut kept = 0;
    for at in 0..doubts.len() {
        if let Some(later) = doubts.get(at + FETCHED) {
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(BlockSigns::of(blocks, later.number)).cast());
        }
        let doubt = doubts[at];
        let row = BlockSigns::of(blocks, doubt.number);
        let mut sum = _mm256_setzero_si256();
        for (half, weights) in row.bits.as_chunks().0.iter().zip(weights) {
            let spread = _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(*half)), spread);
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bits), bits);
            // Sums of two weights: no overflow.
            sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(ones, _mm256_and_si256(weights, set)));
        }
        let set = sum_of(_mm256_madd_epi16(sum, pairs));
        doubts[kept] = doubt;
        kept += usize::from(look.most(doubt, row, set) >= least);
    }
    doubts.truncate(kept);
}

/// Lines after which sums of 16 bits could overflow: two products of at most 15 × 127 come together in each.
const FLUSH: usize = 8;

/// Fills the masks and the sums, one for each block.
#[target_feature(enable = "avx2,fma")]
fn levels(look: &LevelLook<'_>, codes: &LevelCodes<'_>, masks: &mut [u64], sums: &mut [[i32; BLOCK]]) {
    for (block, (mask, sums)) in masks.iter_mut().zip(sums).enumerate() {
        *mask = 0;
        for (tile, sums) in sums.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
            *mask |= u64::from(reaching(look, &codes.tile(block, tile), sums)) << (tile * TILE);
        }
    }
}

/// Which rows of a tile reach what the look asks for; writes their sums.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn reaching(look: &LevelLook<'_>, tile: &Tile<'_>, sums: &mut [i32; TILE]) -> u16 {
    let (nibble, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    let (inside, outside) = (look.of_left[0].cast_unsigned(), look.of_left[1].cast_unsigned());
    let of_left = _mm256_set1_epi32((u32::from(inside) | u32::from(outside) << 16).cast_signed());
    // For each half of the tile.
    let mut sums_of = [_mm256_setzero_si256(); 2];
    let weights = look.weights.as_chunks::<PER_LINE>().0;
    for (lines, weights) in tile.lines.chunks(FLUSH).zip(weights.chunks(FLUSH)) {
        let (mut lows, mut highs) = ([_mm256_setzero_si256(); 2], [_mm256_setzero_si256(); 2]);
        for (line, weights) in lines.iter().zip(weights) {
            let [low, high] = [0, 4].map(|at| {
                _mm256_set1_epi32(i32::from_le_bytes([0, 1, 2, 3].map(|b: usize| weights[at + b].cast_unsigned())))
            });
            for half in 0..2 {
                // SAFETY: a line holds two halves of 32 bytes.
                let codes = unsafe { _mm256_loadu_si256(line.0.as_ptr().add(half * 32).cast()) };
                lows[half] = _mm256_add_epi16(lows[half], _mm256_maddubs_epi16(_mm256_and_si256(codes, nibble), low));
                let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble);
                highs[half] = _mm256_add_epi16(highs[half], _mm256_maddubs_epi16(upper, high));
            }
        }
        for half in 0..2 {
            let both = _mm256_add_epi32(_mm256_madd_epi16(lows[half], ones), _mm256_madd_epi16(highs[half], ones));
            sums_of[half] = _mm256_add_epi32(sums_of[half], both);
        }
    }
    let mut mask = 0;
    for (half, sum) in sums_of.into_iter().enumerate() {
        // SAFETY: a tile has 32 bytes of what is left, 16 for each half.
        let left = unsafe { _mm_loadu_si128(tile.left.as_ptr().add(half * 16).cast()) };
        let left = _mm256_madd_epi16(_mm256_cvtepu8_epi16(left), of_left);
        let total = _mm256_add_epi32(_mm256_slli_epi32::<{ FINE.trailing_zeros() as i32 }>(sum), left);
        let less = _mm256_cmpgt_epi32(_mm256_set1_epi32(look.least), total);
        let reaching = !_mm256_movemask_ps(_mm256_castsi256_ps(less)).cast_unsigned() as u8;
        // SAFETY: a tile has sixteen sums, eight for each half; the store needs no alignment.
        unsafe { _mm256_storeu_si256(sums.as_mut_ptr().add(half * 8).cast(), total) };
        mask |= u16::from(reaching) << (half * 8);
    }
    mask
}

/// Rows and vectors whose sums fit in registers together, and rows of which one vector's do.
const ROWS: usize = 4;
const VECTORS: usize = 2;
const ROWS_ALONE: usize = 8;

/// The `f32` dot products of some vectors with some rows.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn products_of<const R: usize, const V: usize>(rows: [&[f32]; R], vectors: [&[f32]; V]) -> [[f32; R]; V] {
    const LANES: usize = 8;
    let mut sums = [[_mm256_setzero_ps(); R]; V];
    let dim = rows[0].len();
    let steps = dim / LANES;
    let rows_steps = rows.map(|row| &row.as_chunks::<LANES>().0[..steps]);
    let vectors_steps = vectors.map(|vector| &vector.as_chunks::<LANES>().0[..steps]);
    for step in 0..steps {
        // SAFETY: a step holds as many components as the register; the loads need no alignment.
        let some = rows_steps.map(|row| unsafe { _mm256_loadu_ps(row[step].as_ptr()) });
        for (sums, vector) in sums.iter_mut().zip(&vectors_steps) {
            // SAFETY: as above.
            let vector = unsafe { _mm256_loadu_ps(vector[step].as_ptr()) };
            for (sum, row) in sums.iter_mut().zip(some) {
                *sum = _mm256_fmadd_ps(row, vector, *sum);
            }
        }
    }
    std::array::from_fn(|vector| {
        std::array::from_fn(|row| {
            let mut lanes = [0.0_f32; LANES];
            // SAFETY: the array holds all lanes; the store needs no alignment.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sums[vector][row]) };
            let whole = lanes.iter().sum();
            portable::finish_product(whole, rows[row], vectors[vector], steps * LANES)
        })
    })
}
