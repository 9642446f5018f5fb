//! AVX2: x86-64 processors since about 2013.
#![allow(unsafe_code, reason = "loads through pointers, and calls of functions compiled for AVX2")]

use std::arch::x86_64::*;

use super::{BLOCK, Bar, ByteQuery, CodeBlock, Codes, Kernel, Layout, Look, portable};

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

    fn layout(&self) -> Layout {
        Layout::Nibbles
    }

    fn passing(&self, looks: &[Look<'_>], codes: &Codes<'_>, masks: &mut [u64]) {
        for (look, masks) in looks.iter().zip(masks.chunks_exact_mut(codes.len().max(1))) {
            for (mask, block) in masks.iter_mut().zip(codes.blocks()) {
                // SAFETY: a value of this type exists only where `detect` found the features.
                *mask = unsafe { passing(look.table, &block, &look.bar) };
            }
        }
    }

    fn fetch(&self, row: &[i8]) {
        for line in row.chunks(64) {
            // SAFETY: AVX2 implies SSE; a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr()) };
        }
    }

    fn dot_bytes(&self, query: &ByteQuery, rows: &[i8], dots: &mut [i32]) {
        for (dot, row) in dots.iter_mut().zip(rows.chunks_exact(query.bytes.len())) {
            // SAFETY: a value of this type exists only where `detect` found the features.
            *dot = unsafe { dot_row(&query.bytes, row) };
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
fn dot_row(query: &[i8], row: &[i8]) -> i32 {
    let ones = _mm256_set1_epi16(1);
    let mut sum = _mm256_setzero_si256();
    for (q, r) in query.as_chunks::<32>().0.iter().zip(row.as_chunks::<32>().0) {
        // SAFETY: 32 bytes each; the loads need no alignment.
        let (q, r) = unsafe { (_mm256_loadu_si256(q.as_ptr().cast()), _mm256_loadu_si256(r.as_ptr().cast())) };
        // One side must be unsigned: |r| × (q with r's sign). No byte is -128, so two products fit in 16 bits.
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(r), _mm256_sign_epi8(q, r));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
}
