//! The sketches of one group: signs in chunks that are read from end to end, bytes in blocks.

use super::{Error, trie::Trie};
use crate::kernel::{BLOCK, CodeBlock, Line, place};
use crate::sketch::{Encoded, Encoder};

/// Blocks per chunk of signs: 48 KB at 384 dimensions, long enough that a scan runs at the memory's speed, and
/// short enough to be copied by a change.
pub const CHUNK_BLOCKS: u32 = 16;

/// What empty slots hold, so that they do not lower the least cosine; searches mask them.
const EMPTY: f32 = 1.0;

/// The signs of up to [`CHUNK_BLOCKS`] blocks.
#[derive(Debug, Clone, Default)]
struct Chunk {
    /// `padded / 8` lines for each block.
    lines: Vec<Line>,
    cosines: Vec<[f32; BLOCK]>,
    least: Vec<f32>,
}

/// The rows of one block in bytes.
#[derive(Debug, Clone, Default)]
pub struct Bytes {
    /// One after another.
    pub rows: Vec<i8>,
    /// Each row's scale.
    pub scales: Vec<f32>,
    /// Each row's error.
    pub errors: Vec<f32>,
}

/// The sketches of a group's rows, by their numbers in the group.
#[derive(Debug, Clone)]
pub struct Sketch {
    /// Lines per block.
    lines: usize,
    chunks: Trie<Chunk>,
    bytes: Trie<Bytes>,
}

/// Where a row is: its chunk, the block in it, and the slot in that.
fn locate(row: u32) -> (u32, usize, usize) {
    let block = row / BLOCK as u32;
    (block / CHUNK_BLOCKS, (block % CHUNK_BLOCKS) as usize, (row % BLOCK as u32) as usize)
}

impl Bytes {
    fn set(&mut self, slot: usize, encoded: &Encoded) -> Option<()> {
        let new = &encoded.bytes;
        if slot == self.scales.len() {
            if self.scales.len() == self.scales.capacity() {
                // For the whole block: a group with sketches fills several, so little is left unused.
                let room = BLOCK.saturating_sub(slot);
                self.rows.reserve_exact(room * new.bytes.len());
                self.scales.reserve_exact(room);
                self.errors.reserve_exact(room);
            }
            self.rows.extend_from_slice(&new.bytes);
            self.scales.push(new.scale);
            self.errors.push(new.error);
        } else {
            let width = new.bytes.len();
            self.rows.get_mut(slot * width..(slot + 1) * width)?.copy_from_slice(&new.bytes);
            *self.scales.get_mut(slot)? = new.scale;
            *self.errors.get_mut(slot)? = new.error;
        }
        Some(())
    }

    fn width(&self) -> usize {
        self.rows.len() / self.scales.len().max(1)
    }

    /// The row at `slot`.
    pub fn row(&self, slot: usize) -> Option<&[i8]> {
        let width = self.width();
        self.rows.get(slot * width..(slot + 1) * width)
    }

    fn truncate(&mut self, rows: usize) {
        let width = self.width();
        self.rows.truncate(rows * width);
        self.scales.truncate(rows);
        self.errors.truncate(rows);
    }
}

impl Chunk {
    fn set(&mut self, block: usize, slot: usize, lines: usize, encoded: &Encoded) -> Option<()> {
        if block == self.least.len() {
            self.lines.reserve_exact(lines);
            self.lines.resize(self.lines.len() + lines, Line::default());
            self.cosines.push([EMPTY; BLOCK]);
            self.least.push(EMPTY);
        }
        let position = place(slot);
        for (line, &byte) in self.lines.get_mut(block * lines..(block + 1) * lines)?.iter_mut().zip(&encoded.signs) {
            *line.0.get_mut(position)? = byte;
        }
        self.set_cosine(block, slot, encoded.cosine)
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
    }
}

impl Sketch {
    /// A sketch of no rows.
    pub fn new(encoder: &Encoder) -> Self {
        Self { lines: encoder.padded() / 8, chunks: Trie::default(), bytes: Trie::default() }
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
        chunk.set(block, slot, lines, encoded).ok_or(Error::Broken)?;
        if !encoded.bytes.bytes.is_empty() {
            let block = number / BLOCK as u32;
            if self.bytes.get(block).is_none() {
                self.bytes.insert(block, Bytes::default());
            }
            self.bytes.get_mut(block).and_then(|bytes| bytes.set(slot, encoded)).ok_or(Error::Broken)?;
        }
        Ok(())
    }

    /// Forgets row `number`, which is the last one.
    pub fn forget_last(&mut self, number: u32) -> Result<(), Error> {
        let (chunk, block, slot) = locate(number);
        let lines = self.lines;
        if slot > 0 {
            let chunk = self.chunks.get_mut(chunk).ok_or(Error::Broken)?;
            chunk.set_cosine(block, slot, EMPTY).ok_or(Error::Broken)?;
        } else if block > 0 {
            self.chunks.get_mut(chunk).ok_or(Error::Broken)?.truncate(block, lines);
        } else {
            self.chunks.remove(chunk);
        }
        let block = number / BLOCK as u32;
        if slot == 0 {
            self.bytes.remove(block);
        } else if let Some(bytes) = self.bytes.get_mut(block) {
            bytes.truncate(slot);
        }
        Ok(())
    }

    /// The signs of block `first` and the blocks after it in its chunk.
    pub fn codes(&self, first: u32) -> Result<impl Iterator<Item = CodeBlock<'_>>, Error> {
        let chunk = self.chunks.get(first / CHUNK_BLOCKS).ok_or(Error::Broken)?;
        let blocks = chunk.lines.chunks_exact(self.lines).zip(&chunk.cosines).zip(&chunk.least);
        let blocks = blocks.map(|((lines, cosines), &least)| CodeBlock { lines, cosines, least });
        Ok(blocks.skip((first % CHUNK_BLOCKS) as usize))
    }

    /// The rows of a block in bytes, if they are kept.
    pub fn bytes(&self, block: u32) -> Option<&Bytes> {
        self.bytes.get(block)
    }

    /// Bytes of memory that it owns.
    pub fn size(&self) -> Result<usize, Error> {
        let mut size = size_of::<Self>();
        self.chunks.try_each(&mut |_, chunk| {
            size += chunk.lines.capacity() * size_of::<Line>()
                + chunk.cosines.capacity() * size_of::<[f32; BLOCK]>()
                + chunk.least.capacity() * size_of::<f32>();
            Ok::<(), Error>(())
        })?;
        self.bytes.try_each(&mut |_, bytes| {
            size += bytes.rows.capacity() + (bytes.scales.capacity() + bytes.errors.capacity()) * size_of::<f32>();
            Ok::<(), Error>(())
        })?;
        Ok(size)
    }
}
