//! Signs of components that lie behind those with levels: how a row has them, and what a search compares them with.
//!
//! They are looked at only for rows whose levels reach, wherever these are, so that a row's lie together.

use super::BLOCK;

/// Components with a sign: as many as a mask of bytes has bits.
pub const SIGNED: usize = 64;

/// Parts of 1 in which a row's lengths are counted.
pub const UNIT: f64 = 250.0;

/// How many doubts ahead their signs are fetched.
pub(super) const FETCHED: usize = 16;

/// What is known of a row's further components.
#[derive(Debug, Default, Clone, Copy)]
pub struct RowSigns {
    /// Component `8 i + j` in bit `j` of byte `i`; set if it is not negative. They name a vertex of the cube, `±1/8` in each
    /// of them.
    pub bits: [u8; SIGNED / 8],
    /// How far the components go along the vertex, and at most how far they are then from there.
    pub along: u8,
    /// See `along`.
    pub beside: u8,
    /// What lies outside of all components.
    pub outside: u8,
    /// What lies outside of those with levels: what the row's levels say of it.
    pub replaced: u8,
}

/// The signs of a block's rows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(128))]
pub struct BlockSigns(pub [RowSigns; BLOCK]);

impl BlockSigns {
    /// A row's signs in blocks that follow each other.
    #[inline(always)]
    pub(super) fn of(blocks: &[Self], row: u32) -> &RowSigns {
        &blocks[row as usize / BLOCK].0[row as usize % BLOCK]
    }
}

/// A row whose levels reach.
#[derive(Debug, Clone, Copy)]
pub struct Doubt {
    /// Its number in the blocks of which signs are given.
    pub number: u32,
    /// The sum of its levels.
    pub sum: i32,
}

/// What the signs are compared with for one query.
///
/// With the sum `S` of the weights at a row's set bits, a row reaches if this is at least the bar, computed in `f32` in this
/// order: `fixed + (sum × its sum − replaced × its replaced) + its along × (vertex × (2 S − total) + lost) +
/// (beside × its beside + outside × its outside)`.
#[derive(Debug, Clone)]
pub struct FurtherLook {
    /// One for each component; at most 127 in magnitude.
    pub weights: [i8; SIGNED],
    /// Their sum.
    pub total: i32,
    /// Per unit of a sum, and the part that is the same for all rows.
    pub sum: f32,
    /// See `sum`.
    pub fixed: f32,
    /// Per unit of a weight and of what a row has along its vertex.
    pub vertex: f32,
    /// Per unit of that for what the weights leave out.
    pub lost: f32,
    /// Per unit of what is beside the vertex.
    pub beside: f32,
    /// Per unit of what lies outside of all components.
    pub outside: f32,
    /// Per unit of what is replaced by all this.
    pub replaced: f32,
}

impl FurtherLook {
    /// Most that the score of a row can be whose set bits have weights of this sum.
    #[inline(always)]
    pub(super) fn most(&self, doubt: Doubt, row: &RowSigns, set: i32) -> f32 {
        let levels = self.sum * doubt.sum as f32 - self.replaced * f32::from(row.replaced);
        let along = f32::from(row.along) * (self.vertex * (2 * set - self.total) as f32 + self.lost);
        self.fixed + levels + along + (self.beside * f32::from(row.beside) + self.outside * f32::from(row.outside))
    }
}
