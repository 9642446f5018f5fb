//! The rows of a chunk in bytes.

use std::sync::Arc;

use super::Error;
use crate::kernel::BLOCK;
use crate::sketch::{ByteFactors, InBytes};

/// Rows in bytes, in blocks; a search knows where one is without looking at anything else of its block.
#[derive(Debug, Clone, Default)]
pub struct Bytes {
    /// Each with room for all its rows.
    blocks: Vec<Arc<[i8]>>,
    /// One for each row.
    factors: Vec<ByteFactors>,
    /// Bytes of a row.
    width: usize,
}

impl Bytes {
    /// Sets a row that exists or is the next one.
    pub fn set(&mut self, number: usize, row: &InBytes) -> Result<(), Error> {
        self.width = row.bytes.len();
        if number == self.factors.len() {
            if number.is_multiple_of(BLOCK) {
                self.blocks.push(vec![0; BLOCK * self.width].into());
            }
            self.factors.push(row.factors);
        }
        *self.factors.get_mut(number).ok_or(Error::Broken)? = row.factors;
        let start = number % BLOCK * self.width;
        let block = Arc::make_mut(self.blocks.get_mut(number / BLOCK).ok_or(Error::Broken)?);
        block.get_mut(start..start + self.width).ok_or(Error::Broken)?.copy_from_slice(&row.bytes);
        Ok(())
    }

    /// Keeps the first rows.
    pub fn truncate(&mut self, rows: usize) {
        self.factors.truncate(rows);
        self.blocks.truncate(rows.div_ceil(BLOCK));
    }

    /// Whether no rows are kept in bytes.
    pub fn is_empty(&self) -> bool {
        self.factors.is_empty()
    }

    /// A row in bytes.
    pub fn row(&self, number: usize) -> Option<&[i8]> {
        let start = number % BLOCK * self.width;
        self.blocks.get(number / BLOCK)?.get(start..start + self.width)
    }

    /// The rows of a block, one after another; behind the last one of the chunk there is something.
    pub fn block(&self, number: usize) -> Option<&[i8]> {
        self.blocks.get(number).map(|block| &block[..])
    }

    /// What bounds the product of each row.
    pub fn factors(&self) -> &[ByteFactors] {
        &self.factors
    }

    /// Bytes of memory that it owns, with the counts of its references.
    pub fn size(&self) -> usize {
        self.blocks.iter().map(|block| block.len() + 2 * size_of::<usize>()).sum::<usize>()
            + self.blocks.capacity() * size_of::<Arc<[i8]>>()
            + self.factors.capacity() * size_of::<ByteFactors>()
    }
}
