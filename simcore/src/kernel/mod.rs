//! Scores of one query against rows that lie one after another in memory, and sums over their sketches.
//!
//! [`portable`] is the specification; a kernel for an instruction set gives the same bits. For scores that is possible
//! because the product of two `f32` is exact in `f64` (24 + 24 significant bits fit in 53), so only the order of the
//! additions matters, and [`portable::dot`] fixes it. Sums over sketches are integers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod portable;
pub mod unit;

use std::fmt::Debug;

/// Rows per block of sketches, one for each bit of a mask.
pub const BLOCK: usize = 64;

/// One byte of each of a block's rows, see [`place`].
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u8; BLOCK]);

impl Default for Line {
    fn default() -> Self {
        Self([0; BLOCK])
    }
}

/// Where in a [`Line`] the byte of the row in `slot` is: the first half of the block at even places, the second half
/// at odd ones, so that the 16-bit sums of either half come out in order.
pub fn place(slot: usize) -> usize {
    slot % (BLOCK / 2) * 2 + slot / (BLOCK / 2)
}

/// Lines of a block come in threes, so that 24 components are four groups of six: see [`Layout::Sixes`].
pub const TRIPLE: usize = 3;

/// The sign codes of blocks that follow each other.
#[derive(Debug, Clone, Copy)]
pub struct Codes<'a> {
    /// For each block the same number of lines, a multiple of [`TRIPLE`]: byte `i` of each row in line `i`.
    pub lines: &'a [Line],
    /// For each slot of each block the cosine of the angle between the row and its code.
    pub cosines: &'a [[f32; BLOCK]],
    /// The least of each block's.
    pub least: &'a [f32],
}

impl<'a> Codes<'a> {
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

    fn blocks(&self) -> impl Iterator<Item = CodeBlock<'a>> {
        let width = self.lines.len() / self.len().max(1);
        let blocks = self.lines.chunks_exact(width.max(1)).zip(self.cosines).zip(self.least);
        blocks.map(|((lines, cosines), &least)| CodeBlock { lines, cosines, least })
    }
}

/// The sign codes of one block.
#[derive(Debug, Clone, Copy)]
struct CodeBlock<'a> {
    lines: &'a [Line],
    cosines: &'a [f32; BLOCK],
    least: f32,
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
pub struct Look<'a> {
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
    fn required(&self, cosine: f32) -> f32 {
        self.straight * cosine - self.across * (1.0 - cosine * cosine).sqrt()
    }

    /// The least sum with which any row of a block can pass; `None` if no 16-bit sum is enough.
    #[inline(always)]
    fn least_sum(&self, least: f32) -> Option<u16> {
        // One less, so that the roundings of another order of operations cannot matter.
        let sum = self.required(least) - self.offset - 1.0;
        // Saturates: a negative number becomes 0.
        (sum <= f32::from(u16::MAX)).then_some(sum as u16)
    }
}

/// A query in bytes.
#[derive(Debug, Clone)]
pub struct ByteQuery {
    bytes: Vec<i8>,
    /// 128 times the sum of the bytes: what kernels whose products need an unsigned side have too much.
    excess: i32,
}

impl ByteQuery {
    /// A query of these components, each from -127 to 127.
    pub fn new(bytes: Vec<i8>) -> Self {
        let excess = bytes.iter().map(|&byte| i32::from(byte) * 128).sum();
        Self { bytes, excess }
    }

    /// The number of bytes.
    #[allow(clippy::len_without_is_empty, reason = "no query is empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// One way to compute scores and sums; chosen once per index.
pub trait Kernel: Debug + Send + Sync {
    /// The instruction set's name, as `SIMCORE_ISA` takes it.
    fn name(&self) -> &'static str;

    /// Writes the score of `query` against each row of `rows` to `scores`.
    ///
    /// `rows` holds `scores.len()` rows of `query.len()` components each.
    fn score_rows(&self, query: &[f64], rows: &[f32], scores: &mut [f32]);

    /// How the tables of [`Kernel::passing`] are laid out.
    fn layout(&self) -> Layout;

    /// Says which slots of each block pass each bar, slot `i` in bit `i`: for each look one mask per block.
    ///
    /// A row's sum adds, for each group of its code, the entry of the table that the group's bits select.
    fn passing(&self, looks: &[Look<'_>], codes: &Codes<'_>, masks: &mut [u64]);

    /// Asks for a row that will be needed soon.
    fn fetch(&self, row: &[i8]);

    /// Writes the product of `query` with each row of `rows` to `dots`; rows are as long as the query, a multiple of 64.
    fn dot_bytes(&self, query: &ByteQuery, rows: &[i8], dots: &mut [i32]);
}

/// The environment variable that overrides the choice of a kernel by its name.
pub const ISA_VARIABLE: &str = "SIMCORE_ISA";

/// All kernels that this machine can run, the fastest first.
pub fn available() -> Vec<&'static dyn Kernel> {
    let mut kernels: Vec<&'static dyn Kernel> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        kernels.extend(avx512::Avx512::detect().map(|kernel| kernel as &dyn Kernel));
        kernels.extend(avx2::Avx2::detect().map(|kernel| kernel as &dyn Kernel));
    }
    kernels.push(&portable::Portable);
    kernels
}

/// The kernel with this name, or the fastest one without a name; `None` if this machine cannot run it.
pub fn select(name: Option<&str>) -> Option<&'static dyn Kernel> {
    available().into_iter().find(|kernel| name.is_none_or(|name| kernel.name() == name))
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Bar, ByteQuery, Codes, Layout, Line, Look, TRIPLE, available, place, portable};

    fn noise(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn every_component_has_one_place_in_a_layout() {
        for layout in [Layout::Nibbles, Layout::Sixes] {
            let lines = 4 * TRIPLE;
            let groups = 0..layout.groups(lines);
            let mut all: Vec<usize> =
                groups.flat_map(|group| (0..layout.bits()).map(move |bit| layout.component(group, bit))).collect();
            all.sort_unstable();
            assert_eq!(all, (0..lines * 8).collect::<Vec<_>>());
        }
    }

    #[test]
    fn all_kernels_pass_the_specified_rows() {
        let mut state = 7;
        for lines in [9, 18, 24, 48, 51 * 9, 513] {
            for round in 0..24 {
                let blocks = 1 + round % 3;
                let codes: Vec<Line> =
                    (0..lines * blocks).map(|_| Line(std::array::from_fn(|_| noise(&mut state) as u8))).collect();
                let cosines: Vec<[f32; BLOCK]> = (0..blocks)
                    .map(|_| std::array::from_fn(|_| 0.7 + (noise(&mut state) % 1000) as f32 / 4000.0))
                    .collect();
                let least: Vec<f32> = cosines.iter().map(|some| some.iter().copied().fold(1.0, f32::min)).collect();
                let codes = Codes { lines: &codes, cosines: &cosines, least: &least };
                for kernel in available() {
                    let layout = kernel.layout();
                    let groups = layout.groups(lines);
                    let most = (65_535 / groups as u64).min(127);
                    let size = 1 << layout.bits();
                    let tables: Vec<Vec<u8>> = (0..1 + round % 7)
                        .map(|_| (0..groups * size).map(|_| (noise(&mut state) % (most + 1)) as u8).collect())
                        .collect();
                    let mean = (most as usize * groups / 2) as f32;
                    let looks: Vec<Look<'_>> = (0..)
                        .zip(&tables)
                        .map(|(query, table)| {
                            let straight = mean * (1.2 + (query * 5 + round) as f32 / 100.0);
                            let bar = Bar { straight, across: mean * 0.3, offset: round as f32 - 20.0 };
                            Look { table, bar }
                        })
                        .collect();
                    let expected: Vec<u64> = looks
                        .iter()
                        .flat_map(|look| {
                            codes.blocks().map(move |block| {
                                let passes = |slot: usize| {
                                    let component = |number: usize| {
                                        usize::from(block.lines[number / 8].0[place(slot)] >> (number % 8) & 1)
                                    };
                                    let sum: u32 = (0..groups)
                                        .map(|group| {
                                            let bit = |bit| component(layout.component(group, bit)) << bit;
                                            let pattern: usize = (0..layout.bits()).map(bit).sum();
                                            u32::from(look.table[group * size + pattern])
                                        })
                                        .sum();
                                    sum as f32 + look.bar.offset >= look.bar.required(block.cosines[slot])
                                };
                                (0..BLOCK).map(|slot| u64::from(passes(slot)) << slot).sum()
                            })
                        })
                        .collect();
                    let mut masks = vec![1; looks.len() * blocks];
                    kernel.passing(&looks, &codes, &mut masks);
                    assert_eq!(masks, expected, "{} {lines}", kernel.name());
                    assert!(round > 0 || masks.iter().any(|&mask| mask != 0 && mask != u64::MAX), "{lines}");
                }
            }
        }
    }

    #[test]
    fn all_kernels_give_the_same_products_of_bytes() {
        let mut state = 9;
        for width in [64, 128, 192, 384, 4096] {
            for extreme in [false, true] {
                let mut byte = || if extreme { [-127, 127][noise(&mut state) as usize % 2] } else { (noise(&mut state) % 255) as i32 - 127 } as i8;
                let query: Vec<i8> = (0..width).map(|_| byte()).collect();
                let rows: Vec<i8> = (0..width * 67).map(|_| byte()).collect();
                let expected: Vec<i32> = rows
                    .chunks(width)
                    .map(|row| row.iter().zip(&query).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum())
                    .collect();
                for kernel in available() {
                    for count in [1, 2, 3, 64, 67] {
                        let mut dots = vec![0; count];
                        kernel.dot_bytes(&ByteQuery::new(query.clone()), &rows[..count * width], &mut dots);
                        assert_eq!(dots, expected[..count], "{} {width}", kernel.name());
                    }
                }
            }
        }
    }

    #[test]
    fn all_kernels_give_the_specified_scores_to_the_bit() {
        let mut state = 11;
        for dim in [1, 3, 7, 8, 9, 15, 16, 17, 100, 383, 384, 1536, 4096] {
            for rows in [1, 2, 3, 4, 5, 9, 64] {
                let mut component =
                    || (noise(&mut state) as f32 / (1_u64 << 31) as f32 - 0.5) * [1e-30, 1.0][(dim + rows) % 2];
                let query: Vec<f64> = (0..dim).map(|_| f64::from(component())).collect();
                let vectors: Vec<f32> = (0..dim * rows).map(|_| component()).collect();
                let expected: Vec<u32> =
                    vectors.chunks(dim).map(|row| (portable::dot(&query, row) as f32).to_bits()).collect();
                for kernel in available() {
                    let mut scores = vec![0.0_f32; rows];
                    kernel.score_rows(&query, &vectors, &mut scores);
                    let bits: Vec<u32> = scores.iter().map(|score| score.to_bits()).collect();
                    assert_eq!(bits, expected, "{} {dim}x{rows}", kernel.name());
                }
            }
        }
    }
}
