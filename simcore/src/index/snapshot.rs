//! One immutable state of the index: groups of rows in blocks.
//!
//! A group's rows are numbered from 0 without gaps and lie in blocks of [`BLOCK`], each contiguous. Snapshots
//! share all blocks that no change has touched in between.

use std::sync::Arc;

use super::{Error, sketches::Sketch, trie::Trie};
pub use crate::kernel::BLOCK;
use crate::sketch::Encoder;

/// Rows from which on a group has sketches: below, scoring all of them takes less time than sketching the query.
const SKETCH_FROM: u32 = 256;

/// Rows below which a group gives its sketches up; half, so that a group at the limit does not make them over and over.
const SKETCH_UNTIL: u32 = SKETCH_FROM / 2;

/// Up to [`BLOCK`] rows, column by column.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// The caller's ids.
    pub ids: Vec<u64>,
    /// Unix seconds from which on the row is dead.
    pub expires_at: Vec<f64>,
    /// The unit vectors, one after another.
    pub vectors: Vec<f32>,
}

/// A row to be stored.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The caller's id.
    pub id: u64,
    /// Unix seconds from which on the row is dead.
    pub expires_at: f64,
    /// A unit vector.
    pub vector: &'a [f32],
}

impl Block {
    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    fn dim(&self) -> usize {
        self.vectors.len() / self.ids.len().max(1)
    }

    /// The row at `slot`.
    pub fn row(&self, slot: usize) -> Option<Row<'_>> {
        let dim = self.dim();
        Some(Row {
            id: *self.ids.get(slot)?,
            expires_at: *self.expires_at.get(slot)?,
            vector: self.vectors.get(slot * dim..(slot + 1) * dim)?,
        })
    }

    /// Bytes of memory that its columns own.
    pub fn bytes(&self) -> usize {
        self.ids.capacity() * size_of::<u64>()
            + self.expires_at.capacity() * size_of::<f64>()
            + self.vectors.capacity() * size_of::<f32>()
    }

    /// Appends a row; `more` rows (this one included) are about to follow.
    fn push(&mut self, row: Row<'_>, more: usize) {
        if self.ids.len() == self.ids.capacity() {
            // Exact for bulk loads; by quarters for single rows, because small groups must stay small.
            let room = more.max(self.len() / 4).clamp(1, BLOCK.saturating_sub(self.len()).max(1));
            self.ids.reserve_exact(room);
            self.expires_at.reserve_exact(room);
            self.vectors.reserve_exact(room * row.vector.len());
        }
        self.ids.push(row.id);
        self.expires_at.push(row.expires_at);
        self.vectors.extend_from_slice(row.vector);
    }

    fn replace(&mut self, slot: usize, row: Row<'_>) -> Option<()> {
        let dim = self.dim();
        self.vectors.get_mut(slot * dim..(slot + 1) * dim)?.copy_from_slice(row.vector);
        *self.expires_at.get_mut(slot)? = row.expires_at;
        *self.ids.get_mut(slot)? = row.id;
        Some(())
    }

    fn truncate(&mut self, len: usize) {
        let dim = self.dim();
        self.vectors.truncate(len * dim);
        self.expires_at.truncate(len);
        self.ids.truncate(len);
    }
}

/// The rows of one scope.
#[derive(Debug, Clone, Default)]
pub struct Group {
    blocks: Trie<Block>,
    rows: u32,
    sketch: Option<Arc<Sketch>>,
}

/// Where row number `row` of a group is: its block and its slot in it.
fn locate(row: u32) -> (u32, usize) {
    (row / BLOCK as u32, (row % BLOCK as u32) as usize)
}

impl Group {
    /// How many rows it holds.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// How many blocks they fill.
    pub fn blocks(&self) -> u32 {
        self.rows.div_ceil(BLOCK as u32)
    }

    /// The block with this number.
    pub fn block(&self, number: u32) -> Result<&Block, Error> {
        self.blocks.get(number).ok_or(Error::Broken)
    }

    /// The sketches of its rows, if it is large enough to have any.
    pub fn sketch(&self) -> Option<&Sketch> {
        self.sketch.as_deref()
    }

    /// Appends a row and returns its number; `more` rows (this one included) are about to follow.
    pub fn push(&mut self, row: Row<'_>, more: usize, encoder: &mut Encoder) -> Result<u32, Error> {
        let number = self.rows;
        let (block, slot) = locate(number);
        if slot == 0 {
            self.blocks.insert(block, Block::default());
        }
        self.blocks.get_mut(block).ok_or(Error::Broken)?.push(row, more);
        self.rows = number.checked_add(1).ok_or(Error::Broken)?;
        if let Some(sketch) = &mut self.sketch {
            Arc::make_mut(sketch).set(number, row.vector, encoder)?;
        } else if self.rows >= SKETCH_FROM {
            self.sketch = Some(Arc::new(self.sketched(encoder)?));
        }
        Ok(number)
    }

    /// Sketches of all rows.
    fn sketched(&self, encoder: &mut Encoder) -> Result<Sketch, Error> {
        let mut sketch = Sketch::new(encoder);
        for number in 0..self.rows {
            let (block, slot) = locate(number);
            sketch.set(number, self.block(block)?.row(slot).ok_or(Error::Broken)?.vector, encoder)?;
        }
        Ok(sketch)
    }

    /// Overwrites the row with this number.
    pub fn replace(&mut self, number: u32, row: Row<'_>, encoder: &mut Encoder) -> Result<(), Error> {
        let (block, slot) = locate(number);
        self.blocks.get_mut(block).and_then(|block| block.replace(slot, row)).ok_or(Error::Broken)?;
        match &mut self.sketch {
            Some(sketch) => Arc::make_mut(sketch).set(number, row.vector, encoder),
            None => Ok(()),
        }
    }

    /// Removes the row with this number; the last row takes its place. Returns the id of the row that moved.
    pub fn swap_remove(&mut self, number: u32, encoder: &mut Encoder) -> Result<Option<u64>, Error> {
        let last = self.rows.checked_sub(1).ok_or(Error::Broken)?;
        let (block, slot) = locate(last);
        let mut moved = None;
        if number != last {
            let row = self.block(block)?.row(slot).ok_or(Error::Broken)?;
            let (id, expires_at, vector) = (row.id, row.expires_at, row.vector.to_vec());
            self.replace(number, Row { id, expires_at, vector: &vector }, encoder)?;
            moved = Some(id);
        }
        if slot == 0 {
            self.blocks.remove(block);
        } else {
            self.blocks.get_mut(block).ok_or(Error::Broken)?.truncate(slot);
        }
        self.rows = last;
        if last < SKETCH_UNTIL {
            self.sketch = None;
        } else if let Some(sketch) = &mut self.sketch {
            Arc::make_mut(sketch).forget_last(last)?;
        }
        Ok(moved)
    }
}

/// One state of the index.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The groups that have rows.
    pub groups: Trie<Group>,
    /// Rows in all groups, expired ones included.
    pub rows: usize,
    /// Bytes of memory that the writer's bookkeeping of this state owns.
    pub writer_bytes: usize,
}

impl Snapshot {
    /// The ids of at most `limit` rows that are dead at `now`.
    pub fn expired(&self, now: f64, limit: usize) -> Result<Vec<u64>, Error> {
        let mut ids = Vec::new();
        self.try_each_block(|_, block| {
            let dead = block.ids.iter().zip(&block.expires_at).filter(|&(_, &expires_at)| expires_at <= now);
            let room = limit - ids.len();
            ids.extend(dead.map(|(&id, _)| id).take(room));
            Ok(())
        })?;
        Ok(ids)
    }

    /// Calls `visit` with the number of a group and a block of it, for all blocks, in order.
    pub fn try_each_block<'a>(
        &'a self,
        mut visit: impl FnMut(u32, &'a Block) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.groups.try_each(&mut |number, group| group.blocks.try_each(&mut |_, block| visit(number, block)))
    }
}
