//! Pages: a few rows each, which lie together in memory and are copied together by a change.

use super::Error;
use crate::kernel::BLOCK;

/// Most bytes of `f32` in a page: replacing a row copies so much, which takes a few µs.
const PAGE_BYTES: usize = 64 << 10;

/// Rows of a page of rows of so many dimensions: a power of two, at most a block's.
pub fn rows_per_page(dim: usize) -> usize {
    let most = (PAGE_BYTES / (dim * size_of::<f32>())).clamp(1, BLOCK);
    1 << most.ilog2()
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

/// What is known of a row beside its vector.
#[derive(Debug, Clone, Copy)]
pub struct Label {
    /// The caller's id.
    pub id: u64,
    /// Unix seconds from which on the row is dead.
    pub expires_at: f64,
}

/// Some rows, column by column.
#[derive(Debug, Clone, Default)]
pub struct Page {
    labels: Vec<Label>,
    /// The unit vectors, one after another.
    vectors: Vec<f32>,
}

impl Page {
    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// What is known of its rows beside their vectors.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The unit vectors, one after another.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// When the first of its rows dies.
    pub fn earliest(&self) -> f64 {
        self.labels.iter().map(|label| label.expires_at).fold(f64::INFINITY, f64::min)
    }

    /// The row at `slot`.
    pub fn row(&self, slot: usize) -> Option<Row<'_>> {
        let label = self.labels.get(slot)?;
        let dim = self.vectors.len() / self.labels.len();
        let vector = self.vectors.get(slot * dim..(slot + 1) * dim)?;
        Some(Row { id: label.id, expires_at: label.expires_at, vector })
    }

    /// Sets the row at `slot`, which exists or is the next one of at most `most`; `more` rows (this one included) are about
    /// to follow.
    pub fn set(&mut self, slot: usize, row: Row<'_>, most: usize, more: usize) -> Result<(), Error> {
        let (dim, label) = (row.vector.len(), Label { id: row.id, expires_at: row.expires_at });
        if slot < self.labels.len() {
            *self.labels.get_mut(slot).ok_or(Error::Broken)? = label;
            let old = self.vectors.get_mut(slot * dim..(slot + 1) * dim).ok_or(Error::Broken)?;
            old.copy_from_slice(row.vector);
            return Ok(());
        }
        if slot != self.labels.len() || slot >= most {
            return Err(Error::Broken);
        }
        if self.labels.len() == self.labels.capacity() {
            // Exact for bulk loads; by quarters for single rows, because small groups must stay small.
            let room = more.max(slot / 4).clamp(1, most - slot);
            self.labels.reserve_exact(room);
            self.vectors.reserve_exact(room * dim);
        }
        self.labels.push(label);
        self.vectors.extend_from_slice(row.vector);
        Ok(())
    }

    /// Keeps the first `len` rows.
    pub fn truncate(&mut self, len: usize) {
        let dim = self.vectors.len() / self.labels.len().max(1);
        self.vectors.truncate(len * dim);
        self.labels.truncate(len);
    }

    /// Bytes of memory that it owns, with the counts of its references.
    pub fn size(&self) -> usize {
        self.labels.capacity() * size_of::<Label>()
            + self.vectors.capacity() * size_of::<f32>()
            + size_of::<Self>()
            + 2 * size_of::<usize>()
    }
}
