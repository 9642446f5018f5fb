//! Codes of sixteen levels per component, with the lengths of what they leave out: how they lie, and what a search
//! compares them with.
//!
//! A block's rows are four tiles of sixteen. A line of a tile holds eight components of each of its rows: byte `4 j + b` is
//! row `j`'s component `b` in the low nibble and component `4 + b` in the high one, so that one multiply-add of bytes in
//! fours sums for all sixteen rows at once. Before the tiles two lines hold two bytes for each row of the block: what its
//! levels leave out inside the components, and what lies outside of them.

use super::{BLOCK, Line};

/// Rows whose bytes share a line.
pub const TILE: usize = 16;

/// Tiles of a block.
pub const TILES: usize = BLOCK / TILE;

/// Components of each row in a line.
pub const PER_LINE: usize = 8;

/// Lines at the start of a block, with two bytes for each row.
const LEFT_LINES: usize = 2;

/// Tiles whose two bytes per row fill a line.
const TILES_PER_LINE: usize = TILES / LEFT_LINES;

/// What sums of levels are multiplied by before the parts of what is left out are added, so that the weights of these can
/// be whole numbers too.
pub const FINE: i32 = 64;

/// What the codes are compared with for one query. A row passes iff
/// `FINE × Σ weightᵢ levelᵢ + of_left[0] left[0] + of_left[1] left[1] ≥ least`; no sum comes near the limits of `i32`.
#[derive(Debug, Clone, Copy)]
pub struct LevelLook<'a> {
    /// One for each component; at most 127 in magnitude.
    pub weights: &'a [i8],
    /// At most 32,767; not negative.
    pub of_left: [i16; 2],
    /// What a row must reach.
    pub least: i32,
}

/// Lines of a block of codes of so many components.
pub fn lines_per_block(components: usize) -> usize {
    components / PER_LINE * TILES + LEFT_LINES
}

/// Writes a row's levels, and the two bytes about what they leave out, to their places in a block; `None` if the block is
/// not one of codes like this.
pub fn write(block: &mut [Line], slot: usize, levels: &[u8], left_out: [u8; 2]) -> Option<()> {
    let per_tile = levels.len() / PER_LINE;
    let (tile, row) = (slot / TILE, slot % TILE);
    let (left, tiles) = block.split_at_mut_checked(LEFT_LINES)?;
    let lines = tiles.get_mut(tile * per_tile..(tile + 1) * per_tile)?;
    for (line, eight) in lines.iter_mut().zip(levels.as_chunks::<PER_LINE>().0) {
        let (low, high) = eight.split_at(PER_LINE / 2);
        let bytes = line.0.as_chunks_mut::<{ PER_LINE / 2 }>().0.get_mut(row)?;
        for ((byte, &low), &high) in bytes.iter_mut().zip(low).zip(high) {
            *byte = low | high << 4;
        }
    }
    let line = left.get_mut(tile / TILES_PER_LINE)?;
    *line.0.as_chunks_mut::<2>().0.get_mut(tile % TILES_PER_LINE * TILE + row)? = left_out;
    Some(())
}

/// Codes of blocks that follow each other.
#[derive(Debug, Clone, Copy)]
pub struct LevelCodes<'a> {
    lines: &'a [Line],
    per_tile: usize,
}

impl<'a> LevelCodes<'a> {
    /// Codes of so many components, a multiple of [`PER_LINE`].
    pub fn new(lines: &'a [Line], components: usize) -> Self {
        Self { lines, per_tile: components / PER_LINE }
    }

    fn per_block(&self) -> usize {
        self.per_tile * TILES + LEFT_LINES
    }

    /// The number of blocks.
    pub fn len(&self) -> usize {
        self.lines.len() / self.per_block()
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// A tile of a block.
    #[inline(always)]
    pub(super) fn tile(&self, block: usize, tile: usize) -> Tile<'a> {
        let start = block * self.per_block();
        let left = &self.lines[start + tile / TILES_PER_LINE];
        Tile {
            lines: &self.lines[start + LEFT_LINES + tile * self.per_tile..][..self.per_tile],
            left: &left.0.as_chunks().0[tile % TILES_PER_LINE],
        }
    }
}

/// The codes of sixteen rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile<'a> {
    /// [`PER_LINE`] components of each row in each.
    pub(super) lines: &'a [Line],
    /// Two bytes for each row.
    pub(super) left: &'a [u8; 2 * TILE],
}
