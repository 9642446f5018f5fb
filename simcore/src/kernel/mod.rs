//! Scores of one query against rows that lie one after another in memory, and sums over their sketches.
//!
//! [`portable`] is the specification; a kernel for an instruction set gives the same bits. For scores that is possible
//! because the product of two `f32` is exact in `f64` (24 + 24 significant bits fit in 53), so only the order of the
//! additions matters, and [`portable::dot`] fixes it. Sums over sketches are integers. Only [`Kernel::project`] may differ
//! in its last bits; what is made of it allows for that.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod further;
pub mod levels;
mod line;
#[cfg(target_os = "linux")]
pub mod memory;
pub mod portable;
pub mod signs;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;
pub mod unit;

use std::fmt::Debug;

use further::{BlockSigns, Doubt, FurtherLook};
use levels::{LevelCodes, LevelLook};
pub use line::{Line, Pair};
use signs::{Layout, SignCodes, SignLook};

/// Rows per block of sketches, one for each bit of a mask.
pub const BLOCK: usize = 64;

/// A query in bytes, in lines.
#[derive(Debug, Clone)]
pub struct ByteQuery {
    bytes: Vec<[i8; BLOCK]>,
    /// 128 times the sum of the bytes: what kernels whose products need an unsigned side have too much.
    excess: i32,
}

impl ByteQuery {
    /// A query of these components, each from -127 to 127; what does not fill a line is left out.
    pub fn new(bytes: &[i8]) -> Self {
        let excess = bytes.iter().map(|&byte| i32::from(byte) * 128).sum();
        Self { bytes: bytes.as_chunks().0.to_vec(), excess }
    }

    /// The lines of a row.
    pub fn lines(&self) -> usize {
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

    /// Writes the `f32` dot products of each vector with all rows to `products`, those of the first vector first.
    ///
    /// Rows and vectors have `dim` components each. At least [`PARTIAL_SUMS`] partial sums are kept, so that a product errs
    /// by at most `(dim / PARTIAL_SUMS + 2 PARTIAL_SUMS + 8) × 2^-24` of the two lengths.
    fn project(&self, rows: &[f32], vectors: &[f32], dim: usize, products: &mut [f32]);

    /// How the tables of [`Kernel::signs`] are laid out.
    fn layout(&self) -> Layout;

    /// Says which slots of each block pass each bar, slot `i` in bit `i`: for each look one mask per block.
    ///
    /// A row's sum adds, for each group of its code, the entry of the table that the group's bits select.
    fn signs(&self, looks: &[SignLook<'_>], codes: &SignCodes<'_>, masks: &mut [u64]);

    /// The same for codes of levels, whose sum [`LevelLook`] describes. The sums of rows that pass are written to `sums`: for
    /// each look one for each row; what the others are is not said.
    fn levels(&self, looks: &[LevelLook<'_>], codes: &LevelCodes<'_>, masks: &mut [u64], sums: &mut [[i32; BLOCK]]);

    /// Keeps of `doubts` those whose rows reach `least` by the signs of their further components.
    fn further(&self, look: &FurtherLook, blocks: &[BlockSigns], doubts: &mut Vec<Doubt>, least: f32);

    /// Asks for bytes that will be needed soon; reads nothing, wherever `start` points.
    fn fetch(&self, start: *const u8, bytes: usize);

    /// Writes the product of `query` with each row of `rows` to `dots`; a row has as many lines as the query, of signed bytes.
    fn dot_bytes(&self, query: &ByteQuery, rows: &[Line], dots: &mut [i32]);
}

/// See [`Kernel::project`].
pub const PARTIAL_SUMS: usize = 8;

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
