//! Codes of one sign bit per component: how they lie, and what a search compares them with.

use super::{BLOCK, Line};

/// Where in a [`Line`] the byte of the row in `slot` is: the first half of the block at even places, the second half
/// at odd ones, so that the 16-bit sums of either half come out in order.
pub fn place(slot: usize) -> usize {
    slot % (BLOCK / 2) * 2 + slot / (BLOCK / 2)
}

/// Lines of a block come in threes, so that 24 components are four groups of six: see [`Layout::Sixes`].
pub const TRIPLE: usize = 3;

/// The sign codes of blocks that follow each other.
#[derive(Debug, Clone, Copy)]
pub struct SignCodes<'a> {
    /// For each block the same number of lines, a multiple of [`TRIPLE`]: byte `i` of each row in line `i`.
    pub lines: &'a [Line],
    /// For each slot of each block the cosine of the angle between the row and its code.
    pub cosines: &'a [[f32; BLOCK]],
    /// The least of each block's.
    pub least: &'a [f32],
}

impl<'a> SignCodes<'a> {
    /// The number of blocks.
    pub fn len(&self) -> usize {
        self.least.len()
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.least.is_empty()
    }

    /// The blocks `from..to`.
    pub fn part(&self, from: usize, to: usize) -> Option<Self> {
        let width = self.lines.len() / self.len().max(1);
        Some(Self {
            lines: self.lines.get(from * width..to * width)?,
            cosines: self.cosines.get(from..to)?,
            least: self.least.get(from..to)?,
        })
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = CodeBlock<'a>> {
        let width = self.lines.len() / self.len().max(1);
        let blocks = self.lines.chunks_exact(width.max(1)).zip(self.cosines).zip(self.least);
        blocks.map(|((lines, cosines), &least)| CodeBlock { lines, cosines, least })
    }
}

/// The sign codes of one block.
#[derive(Debug, Clone, Copy)]
pub(super) struct CodeBlock<'a> {
    pub(super) lines: &'a [Line],
    pub(super) cosines: &'a [f32; BLOCK],
    pub(super) least: f32,
}

/// Which components a table of sums tells together, and so what a kernel looks up at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// 16 sums for the low, then 16 for the high nibble of each line.
    Nibbles,
    /// 64 sums for each group of six bits. Three lines make four groups: the lower six bits of the first, the second
    /// and the third, then the upper two bits of all three.
    Sixes,
}

impl Layout {
    /// Bits per group.
    pub fn bits(self) -> usize {
        match self {
            Self::Nibbles => 4,
            Self::Sixes => 6,
        }
    }

    /// Groups of a code of this many lines.
    pub fn groups(self, lines: usize) -> usize {
        lines * 8 / self.bits()
    }

    /// The component that bit `bit` of group `group` stands for.
    pub fn component(self, group: usize, bit: usize) -> usize {
        match self {
            Self::Nibbles => group * 4 + bit,
            Self::Sixes => {
                let (triple, part) = (group / 4 * 24, group % 4);
                triple + if part < 3 { part * 8 + bit } else { bit / 2 * 8 + 6 + bit % 2 }
            }
        }
    }
}

/// What the codes are compared with for one query.
#[derive(Debug, Clone, Copy)]
pub struct SignLook<'a> {
    /// For each group of the kernel's layout the sums of its components, one for each pattern of their signs; each at
    /// most 127, and the sum of the largest of all groups less than 2^16.
    pub table: &'a [u8],
    /// What a row must reach.
    pub bar: Bar,
}

/// What a row's integer sum `S` must satisfy: `S + offset ≥ straight · c − across · √(1 − c²)`, `c` being its cosine.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    /// Factor of the cosine.
    pub straight: f32,
    /// Factor of the sine.
    pub across: f32,
    /// Added to the sum.
    pub offset: f32,
}

impl Bar {
    /// The right side, less the offset; computed in `f32` in this order by every kernel.
    #[inline(always)]
    pub(super) fn required(&self, cosine: f32) -> f32 {
        self.straight * cosine - self.across * (1.0 - cosine * cosine).sqrt()
    }

    /// The least sum with which any row of a block can pass; `None` if no 16-bit sum is enough.
    #[inline(always)]
    pub(super) fn least_sum(&self, least: f32) -> Option<u16> {
        // One less, so that the roundings of another order of operations cannot matter.
        let sum = self.required(least) - self.offset - 1.0;
        // Saturates: a negative number becomes 0.
        (sum <= f32::from(u16::MAX)).then_some(sum as u16)
    }
}
