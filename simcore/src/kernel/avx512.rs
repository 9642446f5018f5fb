//! AVX-512 with VBMI and VNNI: Intel since Ice Lake, AMD since Zen 4.
#![allow(unsafe_code, reason = "loads through pointers, and calls of functions compiled for AVX-512")]

use std::arch::x86_64::*;

use super::further::{BlockSigns, Doubt, FETCHED, FurtherLook};
use super::levels::{FINE, LevelCodes, LevelLook, PER_LINE, TILE, TILES};
use super::signs::{Bar, CodeBlock, Layout, SignCodes, SignLook, TRIPLE};
use super::{BLOCK, ByteQuery, Kernel, Line, portable, tiles};

/// Queries that share the loads and shifts of a block: their tables of signs (16 KB at 384 dimensions) fit in the first
/// cache, and their sums of levels in registers.
const TOGETHER: usize = 4;

/// Bytes ahead of rows in bytes that are fetched: one query's products take less time than memory.
const AHEAD: usize = 2048;

/// The kernel; [`Avx512::detect`] is the only way to one.
#[derive(Debug)]
pub struct Avx512(());

static THE: Avx512 = Avx512(());

impl Avx512 {
    /// The kernel, if this machine can run it.
    pub fn detect() -> Option<&'static Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vnni");
        all.then_some(&THE)
    }
}

impl Kernel for Avx512 {
    fn name(&self) -> &'static str {
        "avx512"
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
        Layout::Sixes
    }

    fn signs(&self, looks: &[SignLook<'_>], codes: &SignCodes<'_>, masks: &mut [u64]) {
        let (fours, rest) = looks.as_chunks::<TOGETHER>();
        let (mut four_masks, mut rest_masks) = masks.split_at_mut(fours.len() * TOGETHER * codes.len());
        // SAFETY: a value of this type exists only where `detect` found the features.
        unsafe {
            for four in fours {
                four_masks = passing(four, codes, four_masks);
            }
            for one in rest {
                rest_masks = passing(std::array::from_ref(one), codes, rest_masks);
            }
        }
    }

    fn levels(&self, looks: &[LevelLook<'_>], codes: &LevelCodes<'_>, masks: &mut [u64], sums: &mut [[i32; BLOCK]]) {
        let (fours, rest) = looks.as_chunks::<TOGETHER>();
        let split = fours.len() * TOGETHER * codes.len();
        let (four_masks, rest_masks) = masks.split_at_mut(split);
        let (four_sums, rest_sums) = sums.split_at_mut(split);
        // SAFETY: a value of this type exists only where `detect` found the features.
        unsafe {
            let together = (TOGETHER * codes.len()).max(1);
            let places = four_masks.chunks_exact_mut(together).zip(four_sums.chunks_exact_mut(together));
            for (four, (masks, sums)) in fours.iter().zip(places) {
                reaching(four, codes, masks, sums);
            }
            let alone = codes.len().max(1);
            let places = rest_masks.chunks_exact_mut(alone).zip(rest_sums.chunks_exact_mut(alone));
            for (one, (masks, sums)) in rest.iter().zip(places) {
                reaching(std::array::from_ref(one), codes, masks, sums);
            }
        }
    }

    fn further(&self, look: &FurtherLook, blocks: &[BlockSigns], doubts: &mut Vec<Doubt>, least: f32) {
        // SAFETY: a value of this type exists only where `detect` found the features.
        unsafe { further(look, blocks, doubts, least) };
    }

    fn fetch(&self, start: *const u8, bytes: usize) {
        for offset in (0..bytes).step_by(64) {
            // SAFETY: AVX-512 implies SSE; a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset).cast()) };
        }
    }

    fn dot_bytes(&self, query: &ByteQuery, rows: &[Line], dots: &mut [i32]) {
        let width = query.lines();
        let (dots, rest) = dots.as_chunks_mut::<4>();
        let (rows, rest_rows) = rows.split_at((dots.len() * 4 * width).min(rows.len()));
        for (four, rows) in dots.iter_mut().zip(rows.chunks_exact(4 * width)) {
            // SAFETY: a value of this type exists only where `detect` found the features.
            *four = unsafe { dot_four(query, rows) };
        }
        for (dot, row) in rest.iter_mut().zip(rest_rows.chunks_exact(width)) {
            // SAFETY: as above.
            *dot = unsafe { dot_row(query, row) };
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn dot(query: &[f64], row: &[f32]) -> f64 {
    let (query_steps, query_rest) = query.as_chunks::<{ portable::LANES }>();
    let (row_steps, row_rest) = row.as_chunks::<{ portable::LANES }>();
    let mut sums = _mm512_setzero_pd();
    for (q, r) in query_steps.iter().zip(row_steps) {
        // SAFETY: `q` and `r` hold eight components each; the loads need no alignment.
        let (q, r) = unsafe { (_mm512_loadu_pd(q.as_ptr()), _mm256_loadu_ps(r.as_ptr())) };
        // Fused or not makes no difference: the products are exact.
        sums = _mm512_fmadd_pd(q, _mm512_cvtps_pd(r), sums);
    }
    let mut lanes = [0.0; portable::LANES];
    // SAFETY: the array holds eight lanes; the store needs no alignment.
    unsafe { _mm512_storeu_pd(lanes.as_mut_ptr(), sums) };
    portable::finish(lanes, query_rest, row_rest)
}

/// The four groups of six bits in each byte of three lines; the upper two bits of a byte are anything, because the
/// permutation looks at six.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn sixes(lines: &[Line; TRIPLE]) -> [__m512i; 4] {
    // SAFETY: a line holds 64 bytes.
    let [a, b, c] = unsafe { [0, 1, 2].map(|line: usize| _mm512_loadu_si512(lines[line].0.as_ptr().cast())) };
    // 0xCA takes each bit from the second operand where the first one has a 1, else from the third.
    let upper = _mm512_ternarylogic_epi64::<0xCA>(
        _mm512_set1_epi8(0b0000_1111),
        _mm512_srli_epi16::<4>(b),
        _mm512_srli_epi16::<2>(c),
    );
    [a, b, c, _mm512_ternarylogic_epi64::<0xCA>(_mm512_set1_epi8(0b0000_0011), _mm512_srli_epi16::<6>(a), upper)]
}

/// Fills the first masks, `codes.len()` for each look, and returns the rest.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn passing<'a, const N: usize>(
    looks: &[SignLook<'_>; N],
    codes: &SignCodes<'_>,
    masks: &'a mut [u64],
) -> &'a mut [u64] {
    let (masks, rest) = masks.split_at_mut(N * codes.len());
    let tables = looks.each_ref().map(|look| look.table.as_chunks::<64>().0.as_chunks::<4>().0);
    let triples = tables.iter().map(|table| table.len()).min().unwrap_or(0);
    let tables = tables.map(|table| &table[..triples]);
    for (number, block) in codes.blocks().enumerate() {
        // Sums of whole 16-bit words, and of their upper bytes.
        let mut words = [_mm512_setzero_si512(); N];
        let mut uppers = [_mm512_setzero_si512(); N];
        for (triple, lines) in block.lines.as_chunks::<TRIPLE>().0.iter().enumerate().take(triples) {
            let groups = sixes(lines);
            for query in 0..N {
                let entries = &tables[query][triple];
                let look_up = |group: usize| {
                    // SAFETY: a group's entries are 64 bytes.
                    let entries = unsafe { _mm512_loadu_si512(entries[group].as_ptr().cast()) };
                    _mm512_permutexvar_epi8(groups[group], entries)
                };
                let first = _mm512_add_epi8(look_up(0), look_up(1));
                let second = _mm512_add_epi8(look_up(2), look_up(3));
                words[query] = _mm512_add_epi16(words[query], _mm512_add_epi16(first, second));
                let upper = _mm512_add_epi16(_mm512_srli_epi16::<8>(first), _mm512_srli_epi16::<8>(second));
                uppers[query] = _mm512_add_epi16(uppers[query], upper);
            }
        }
        for query in 0..N {
            let lowers = _mm512_sub_epi16(words[query], _mm512_slli_epi16::<8>(uppers[query]));
            masks[query * codes.len() + number] = compare(lowers, uppers[query], &block, &looks[query].bar);
        }
    }
    rest
}

/// Which slots pass: `lowers` are the sums of the first half of the block, `uppers` those of the second.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn compare(lowers: __m512i, uppers: __m512i, block: &CodeBlock<'_>, bar: &Bar) -> u64 {
    let Some(least) = bar.least_sum(block.least) else { return 0 };
    let highest = _mm512_max_epu16(lowers, uppers);
    if _mm512_cmpge_epu16_mask(highest, _mm512_set1_epi16(least.cast_signed())) == 0 {
        return 0;
    }
    let quarters = [
        _mm512_castsi512_si256(lowers),
        _mm512_extracti64x4_epi64::<1>(lowers),
        _mm512_castsi512_si256(uppers),
        _mm512_extracti64x4_epi64::<1>(uppers),
    ];
    let mut mask = 0;
    for (number, (sums, cosines)) in quarters.into_iter().zip(block.cosines.as_chunks::<16>().0).enumerate() {
        let left = _mm512_add_ps(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums)), _mm512_set1_ps(bar.offset));
        // SAFETY: sixteen components.
        let cosines = unsafe { _mm512_loadu_ps(cosines.as_ptr()) };
        let sines = _mm512_sqrt_ps(_mm512_sub_ps(_mm512_set1_ps(1.0), _mm512_mul_ps(cosines, cosines)));
        let right = _mm512_sub_ps(
            _mm512_mul_ps(_mm512_set1_ps(bar.straight), cosines),
            _mm512_mul_ps(_mm512_set1_ps(bar.across), sines),
        );
        mask |= u64::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(left, right)) << (number * (BLOCK / 4));
    }
    mask
}

/// Makes signed bytes unsigned by adding 128: what that adds to a product is the query's excess.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn lift(bytes: &Line) -> __m512i {
    // SAFETY: 64 bytes; the load needs no alignment.
    let bytes = unsafe { _mm512_loadu_si512(bytes.0.as_ptr().cast()) };
    _mm512_xor_si512(bytes, _mm512_set1_epi8(-128))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn dot_row(query: &ByteQuery, row: &[Line]) -> i32 {
    let mut sum = _mm512_setzero_si512();
    for (q, r) in query.bytes.iter().zip(row) {
        // SAFETY: 64 bytes; the load needs no alignment.
        let q = unsafe { _mm512_loadu_si512(q.as_ptr().cast()) };
        sum = _mm512_dpbusd_epi32(sum, lift(r), q);
    }
    _mm512_reduce_add_epi32(sum).wrapping_sub(query.excess)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn dot_four(query: &ByteQuery, rows: &[Line]) -> [i32; 4] {
    let width = query.lines();
    let mut sums = [_mm512_setzero_si512(); 4];
    // In the order of memory.
    for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(width)) {
        for (q, r) in query.bytes.iter().zip(row) {
            // SAFETY: 64 bytes; the load needs no alignment. The prefetch reads nothing, wherever it points.
            let q = unsafe {
                _mm_prefetch::<_MM_HINT_T0>(r.0.as_ptr().wrapping_add(AHEAD).cast());
                _mm512_loadu_si512(q.as_ptr().cast())
            };
            *sum = _mm512_dpbusd_epi32(*sum, lift(r), q);
        }
    }
    // Transposes as it adds: four lanes of 128 bits with one number of each row, then the lanes together.
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(sums[0], sums[1]), _mm512_unpackhi_epi32(sums[0], sums[1]));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(sums[2], sums[3]), _mm512_unpackhi_epi32(sums[2], sums[3]));
    let lanes = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64::<1>(lanes));
    let four = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
    let mut dots = [0; 4];
    // SAFETY: the array holds four numbers; the store needs no alignment.
    unsafe { _mm_storeu_si128(dots.as_mut_ptr().cast(), four) };
    dots.map(|dot: i32| dot.wrapping_sub(query.excess))
}

/// Keeps the doubts whose rows reach.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn further(look: &FurtherLook, blocks: &[BlockSigns], doubts: &mut Vec<Doubt>, least: f32) {
    // SAFETY: 64 bytes; the load needs no alignment.
    let weights = unsafe { _mm512_loadu_si512(look.weights.as_ptr().cast()) };
    let ones = _mm512_set1_epi8(1);
    let mut kept = 0;
    for at in 0..doubts.len() {
        if let Some(later) = doubts.get(at + FETCHED) {
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(BlockSigns::of(blocks, later.number)).cast());
        }
        let doubt = doubts[at];
        let row = BlockSigns::of(blocks, doubt.number);
        let weights = _mm512_maskz_mov_epi8(u64::from_le_bytes(row.bits), weights);
        let set = _mm512_reduce_add_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, weights));
        doubts[kept] = doubt;
        kept += usize::from(look.most(doubt, row, set) >= least);
    }
    doubts.truncate(kept);
}

/// Fills the masks, one per block for each look, and the sums of rows that pass.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn reaching<const N: usize>(
    looks: &[LevelLook<'_>; N],
    codes: &LevelCodes<'_>,
    masks: &mut [u64],
    sums: &mut [[i32; BLOCK]],
) {
    let weights = looks.each_ref().map(|look| look.weights.as_chunks::<PER_LINE>().0);
    let of_left = looks.each_ref().map(|look| {
        let [inside, outside] = look.of_left.map(|weight| u32::from(weight.cast_unsigned()));
        _mm512_set1_epi32((inside | outside << 16).cast_signed())
    });
    let (low_nibbles, high_nibbles) = (_mm512_set1_epi8(0x0F), _mm512_set1_epi8(0xF0_u8.cast_signed()));
    for block in 0..codes.len() {
        let mut found = [0_u64; N];
        let mut totals = [[_mm512_setzero_si512(); N]; TILES];
        for (number, totals) in totals.iter_mut().enumerate() {
            let tile = codes.tile(block, number);
            // Sums of low nibbles, and sixteen times those of high ones.
            let mut lows = [_mm512_setzero_si512(); N];
            let mut highs = [_mm512_setzero_si512(); N];
            for (at, line) in tile.lines.iter().enumerate() {
                // SAFETY: a line holds 64 bytes.
                let codes = unsafe { _mm512_loadu_si512(line.0.as_ptr().cast()) };
                let (low, high) = (_mm512_and_si512(codes, low_nibbles), _mm512_and_si512(codes, high_nibbles));
                for query in 0..N {
                    let [of_low, of_high] = [0, 4].map(|from| {
                        let four = [0, 1, 2, 3].map(|b: usize| weights[query][at][from + b].cast_unsigned());
                        _mm512_set1_epi32(i32::from_le_bytes(four))
                    });
                    lows[query] = _mm512_dpbusd_epi32(lows[query], low, of_low);
                    highs[query] = _mm512_dpbusd_epi32(highs[query], high, of_high);
                }
            }
            // SAFETY: a tile has 32 bytes of what is left.
            let left = _mm512_cvtepu8_epi16(unsafe { _mm256_loadu_si256(tile.left.as_ptr().cast()) });
            for query in 0..N {
                const SHIFT: u32 = FINE.trailing_zeros();
                let levels = _mm512_add_epi32(
                    _mm512_slli_epi32::<SHIFT>(lows[query]),
                    _mm512_slli_epi32::<{ SHIFT - 4 }>(highs[query]),
                );
                let total = _mm512_add_epi32(levels, _mm512_madd_epi16(left, of_left[query]));
                let reaching = _mm512_cmpge_epi32_mask(total, _mm512_set1_epi32(looks[query].least));
                totals[query] = total;
                found[query] |= u64::from(reaching) << (number * TILE);
            }
        }
        for (query, found) in found.into_iter().enumerate() {
            masks[query * codes.len() + block] = found;
            // Rare, and so is a branch that is foretold wrongly, if it is one for the whole block.
            if found != 0 {
                let places = sums[query * codes.len() + block].as_chunks_mut::<TILE>().0;
                for (place, totals) in places.iter_mut().zip(totals) {
                    // SAFETY: sixteen sums; the store needs no alignment.
                    unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), totals[query]) };
                }
            }
        }
    }
}

/// Rows and vectors whose sums fit in registers together, and rows of which one vector's do.
const ROWS: usize = 4;
const VECTORS: usize = 4;
const ROWS_ALONE: usize = 8;

/// The `f32` dot products of some vectors with some rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn products_of<const R: usize, const V: usize>(rows: [&[f32]; R], vectors: [&[f32]; V]) -> [[f32; R]; V] {
    const LANES: usize = 16;
    let mut sums = [[_mm512_setzero_ps(); R]; V];
    let dim = rows[0].len();
    let steps = dim / LANES;
    let rows_steps = rows.map(|row| &row.as_chunks::<LANES>().0[..steps]);
    let vectors_steps = vectors.map(|vector| &vector.as_chunks::<LANES>().0[..steps]);
    for step in 0..steps {
        // SAFETY: a step holds as many components as the register; the loads need no alignment.
        let some = rows_steps.map(|row| unsafe { _mm512_loadu_ps(row[step].as_ptr()) });
        for (sums, vector) in sums.iter_mut().zip(&vectors_steps) {
            // SAFETY: as above.
            let vector = unsafe { _mm512_loadu_ps(vector[step].as_ptr()) };
            for (sum, row) in sums.iter_mut().zip(some) {
                *sum = _mm512_fmadd_ps(row, vector, *sum);
            }
        }
    }
    std::array::from_fn(|vector| {
        std::array::from_fn(|row| {
            let whole = _mm512_reduce_add_ps(sums[vector][row]);
            portable::finish_product(whole, rows[row], vectors[vector], steps * LANES)
        })
    })
}
