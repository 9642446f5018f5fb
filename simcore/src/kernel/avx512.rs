//! AVX-512 with VBMI and VNNI: Intel since Ice Lake, AMD since Zen 4.
#![allow(unsafe_code, reason = "loads through pointers, and calls of functions compiled for AVX-512")]

use std::arch::x86_64::*;

use super::{Bar, ByteQuery, CodeBlock, Kernel, portable};

/// Bytes ahead of the load that are fetched; pages end streams that the processor would find by itself.
const AHEAD: usize = 3072;

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

    fn passing(&self, table: &[u8], block: &CodeBlock<'_>, bar: &Bar) -> u64 {
        // SAFETY: a value of this type exists only where `detect` found the features.
        unsafe { passing(table, block, bar) }
    }

    fn dot_bytes(&self, query: &ByteQuery, rows: &[i8], dots: &mut [i32]) {
        let width = query.bytes.len();
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

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn passing(table: &[u8], block: &CodeBlock<'_>, bar: &Bar) -> u64 {
    let Some(least) = bar.least_sum(block.least) else { return 0 };
    // Sums of whole 16-bit words, and of their upper bytes.
    let mut words = _mm512_setzero_si512();
    let mut uppers = _mm512_setzero_si512();
    for (line, entries) in block.lines.iter().zip(table.as_chunks::<32>().0) {
        // SAFETY: a line holds 64 bytes, an entry chunk 32. The prefetch reads nothing, wherever it points.
        let (codes, low_entries, high_entries) = unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.0.as_ptr().wrapping_add(AHEAD).cast());
            (
                _mm512_loadu_si512(line.0.as_ptr().cast()),
                _mm_loadu_si128(entries.as_ptr().cast()),
                _mm_loadu_si128(entries.as_ptr().add(16).cast()),
            )
        };
        // The permutation looks at six bits of an index. With four copies of the 16 entries the upper two do not
        // matter, so nothing need be masked.
        let low = _mm512_permutexvar_epi8(codes, _mm512_broadcast_i32x4(low_entries));
        let high = _mm512_permutexvar_epi8(_mm512_srli_epi16::<4>(codes), _mm512_broadcast_i32x4(high_entries));
        let sum = _mm512_add_epi8(low, high);
        words = _mm512_add_epi16(words, sum);
        uppers = _mm512_add_epi16(uppers, _mm512_srli_epi16::<8>(sum));
    }
    let lowers = _mm512_sub_epi16(words, _mm512_slli_epi16::<8>(uppers));
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
        mask |= u64::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(left, right)) << (number * 16);
    }
    mask
}

/// Makes signed bytes unsigned by adding 128: what that adds to a product is the query's excess.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn lift(bytes: &[i8; 64]) -> __m512i {
    // SAFETY: 64 bytes; the load needs no alignment.
    let bytes = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
    _mm512_xor_si512(bytes, _mm512_set1_epi8(-128))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn dot_row(query: &ByteQuery, row: &[i8]) -> i32 {
    let mut sum = _mm512_setzero_si512();
    for (q, r) in query.bytes.as_chunks::<64>().0.iter().zip(row.as_chunks::<64>().0) {
        // SAFETY: 64 bytes; the load needs no alignment.
        let q = unsafe { _mm512_loadu_si512(q.as_ptr().cast()) };
        sum = _mm512_dpbusd_epi32(sum, lift(r), q);
    }
    _mm512_reduce_add_epi32(sum).wrapping_sub(query.excess)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn dot_four(query: &ByteQuery, rows: &[i8]) -> [i32; 4] {
    let width = query.bytes.len();
    let (ab, cd) = rows.split_at(2 * width);
    let ((a, b), (c, d)) = (ab.split_at(width), cd.split_at(width));
    let mut sums = [_mm512_setzero_si512(); 4];
    let rows = a.as_chunks::<64>().0.iter().zip(b.as_chunks().0).zip(c.as_chunks().0).zip(d.as_chunks().0);
    for (q, (((a, b), c), d)) in query.bytes.as_chunks::<64>().0.iter().zip(rows) {
        // SAFETY: 64 bytes; the load needs no alignment.
        let q = unsafe { _mm512_loadu_si512(q.as_ptr().cast()) };
        sums[0] = _mm512_dpbusd_epi32(sums[0], lift(a), q);
        sums[1] = _mm512_dpbusd_epi32(sums[1], lift(b), q);
        sums[2] = _mm512_dpbusd_epi32(sums[2], lift(c), q);
        sums[3] = _mm512_dpbusd_epi32(sums[3], lift(d), q);
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
