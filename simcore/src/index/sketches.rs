//! The sketches of one group, in chunks: signs that are read from end to end, and bytes that are read row by row.

use std::sync::Arc;

use super::{Error, trie::Trie};
use crate::kernel::{BLOCK, Codes, Line, TRIPLE, place};
use crate::sketch::{Encoded, Encoder};

/// Blocks per chunk: 96 KB of signs at 384 dimensions, long enough that a scan runs at the memory's speed, and
/// short enough to be copied by a change.
pub const CHUNK_BLOCKS: usize = 32;

/// What empty slots hold, so that they do not lower the least cosine; searches mask them.
const EMPTY: f32 = 1.0;

/// What makes a bound of the product of a row in bytes.
#[derive(Debug, Clone)]
pub struct Factors {
    /// For each slot what one unit of a byte is worth.
    pub scales: [f32; BLOCK],
    /// For each slot the length of what the bytes leave out.
    pub errors: [f32; BLOCK],
}

/// The sketches of up to [`CHUNK_BLOCKS`] blocks.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// As many lines for each block.
    lines: Vec<Line>,
    cosines: Vec<[f32; BLOCK]>,
    least: Vec<f32>,
    /// Empty if rows are not kept in bytes.
    factors: Vec<Factors>,
    /// Each block's rows in bytes, one after another; empty if they are not kept.
    rows: Vec<Arc<Vec<i8>>>,
}

/// The sketches of a group's rows, by their numbers in the group.
#[derive(Debug, Clone)]
pub struct Sketch {
    /// Lines per block.
    lines: usize,
    chunks: Trie<Chunk>,
}

/// Where a row is: its chunk, the block in it, and the slot in that.
fn locate(row: u32) -> (u32, usize, usize) {
    let block = row as usize / BLOCK;
    ((block / CHUNK_BLOCKS) as u32, block % CHUNK_BLOCKS, row as usize % BLOCK)
}

impl Chunk {
    fn open_block(&mut self, lines: usize) {
        self.lines.reserve_exact(lines);
        self.lines.resize(self.lines.len() + lines, Line::default());
        self.cosines.push([EMPTY; BLOCK]);
        self.least.push(EMPTY);
    }

    fn set(&mut self, block: usize, slot: usize, lines: usize, encoded: &Encoded) -> Option<()> {
        if block == self.least.len() {
            self.open_block(lines);
        }
        let position = place(slot);
        for (line, &byte) in self.lines.get_mut(block * lines..(block + 1) * lines)?.iter_mut().zip(&encoded.signs) {
            *line.0.get_mut(position)? = byte;
        }
        self.set_cosine(block, slot, encoded.cosine)?;
        let new = &encoded.bytes;
        let width = new.bytes.len();
        if width == 0 {
            return Some(());
        }
        if block == self.rows.len() {
            self.factors.push(Factors { scales: [0.0; BLOCK], errors: [0.0; BLOCK] });
            self.rows.push(Arc::default());
        }
        let factors = self.factors.get_mut(block)?;
        *factors.scales.get_mut(slot)? = new.scale;
        *factors.errors.get_mut(slot)? = new.error;
        let rows = Arc::make_mut(self.rows.get_mut(block)?);
        if rows.len() == slot * width {
            // For the whole block: a group with sketches fills several, so little is left unused.
            rows.reserve_exact(BLOCK.saturating_sub(slot) * width);
            rows.extend_from_slice(&new.bytes);
        } else {
            rows.get_mut(slot * width..(slot + 1) * width)?.copy_from_slice(&new.bytes);
        }
        Some(())
    }

    fn set_cosine(&mut self, block: usize, slot: usize, cosine: f32) -> Option<()> {
        let cosines = self.cosines.get_mut(block)?;
        *cosines.get_mut(slot)? = cosine;
        *self.least.get_mut(block)? = cosines.iter().copied().fold(EMPTY, f32::min);
        Some(())
    }

    fn truncate(&mut self, blocks: usize, lines: usize) {
        self.lines.truncate(blocks * lines);
        self.cosines.truncate(blocks);
        self.least.truncate(blocks);
        self.factors.truncate(blocks);
        self.rows.truncate(blocks);
    }

    /// The signs of its blocks.
    pub fn codes(&self) -> Codes<'_> {
        Codes { lines: &self.lines, cosines: &self.cosines, least: &self.least }
    }

    /// What bounds the rows of a block in bytes.
    pub fn factors(&self, block: usize) -> Option<&Factors> {
        self.factors.get(block)
    }

    /// The rows of a block in bytes, one after another, if they are kept.
    pub fn rows(&self, block: usize) -> Option<&[i8]> {
        self.rows.get(block).map(|rows| rows.as_slice())
    }
}

impl Sketch {
    /// A sketch of no rows.
    pub fn new(encoder: &Encoder) -> Self {
        Self { lines: (encoder.padded() / 8).next_multiple_of(TRIPLE), chunks: Trie::default() }
    }

    /// Sets the sketch of row `number`, which exists or is the next one.
    pub fn set(&mut self, number: u32, vector: &[f32], encoder: &mut Encoder) -> Result<(), Error> {
        let encoded = encoder.encode(vector);
        let (chunk, block, slot) = locate(number);
        if self.chunks.get(chunk).is_none() {
            self.chunks.insert(chunk, Chunk::default());
        }
        let lines = self.lines;
        let chunk = self.chunks.get_mut(chunk).ok_or(Error::Broken)?;
        chunk.set(block, slot, lines, encoded).ok_or(Error::Broken)
    }

    /// Forgets row `number`, which is the last one.
    pub fn forget_last(&mut self, number: u32) -> Result<(), Error> {
        let (number, block, slot) = locate(number);
        if slot == 0 && block == 0 {
            self.chunks.remove(number);
            return Ok(());
        }
        let lines = self.lines;
        let chunk = self.chunks.get_mut(number).ok_or(Error::Broken)?;
        if slot == 0 {
            chunk.truncate(block, lines);
            return Ok(());
        }
        chunk.set_cosine(block, slot, EMPTY).ok_or(Error::Broken)?;
        if let Some(rows) = chunk.rows.get_mut(block) {
            let rows = Arc::make_mut(rows);
            rows.truncate(rows.len() / (slot + 1) * slot);
        }
        Ok(())
    }

    /// The chunk with this number.
    pub fn chunk(&self, number: u32) -> Result<&Chunk, Error> {
        self.chunks.get(number).ok_or(Error::Broken)
    }

    /// Bytes of memory that it owns.
    pub fn size(&self) -> Result<usize, Error> {
        let mut size = size_of::<Self>();
        self.chunks.try_each(&mut |_, chunk| {
            size += chunk.lines.capacity() * size_of::<Line>()
                + chunk.cosines.capacity() * size_of::<[f32; BLOCK]>()
                + chunk.least.capacity() * size_of::<f32>()
                + chunk.factors.capacity() * size_of::<Factors>()
                + chunk
                    .rows
                    .iter()
                    .map(|rows| rows.capacity() + size_of::<Vec<i8>>() + size_of::<Arc<()>>())
                    .sum::<usize>();
            Ok::<(), Error>(())
        })?;
        Ok(size)
    }
}
