//! Cache lines.
#![allow(unsafe_code, reason = "pairs of lines seen as lines")]

use std::slice;

use super::BLOCK;

/// A cache line: one byte of each of a block's rows, or four of a quarter of them, or 64 of one of them.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u8; BLOCK]);

impl Default for Line {
    fn default() -> Self {
        Self([0; BLOCK])
    }
}

/// Two lines. Blocks of memory that are aligned like this lie apart from those that are aligned to one line: what searches
/// read of some rows, from what they read of all.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(128))]
pub struct Pair(pub [Line; 2]);

impl Pair {
    /// The lines of some pairs.
    pub fn lines(pairs: &[Self]) -> &[Line] {
        // SAFETY: a pair is two lines and nothing else, so that many pairs are twice as many lines.
        unsafe { slice::from_raw_parts(pairs.as_ptr().cast(), 2 * pairs.len()) }
    }

    /// The lines of some pairs.
    pub fn lines_mut(pairs: &mut [Self]) -> &mut [Line] {
        // SAFETY: as above, and nobody else has the pairs.
        unsafe { slice::from_raw_parts_mut(pairs.as_mut_ptr().cast(), 2 * pairs.len()) }
    }
}
