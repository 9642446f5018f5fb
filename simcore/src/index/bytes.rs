//! The rows of a chunk in bytes.

use std::sync::Arc;

use super::Error;
use crate::kernel::{BLOCK, Kernel, Line, Pair};
use crate::sketch::{ByteFactors, InBytes};

/// Rows in bytes, in blocks; a search knows where one is without looking at anything else of its block.
#[derive(Debug, Clone, Default)]
pub struct Bytes {
    /// Each with room for all its rows.
    blocks: Vec<Arc<[Pair]>>,
    /// One for each row.
    factors: Vec<ByteFactors>,
    /// Lines of a row.
    width: usize,
}

impl Bytes {
    /// Sets a row that exists or is the next one.
    pub fn set(&mut self, number: usize, row: &InBytes) -> Result<(), Error> {
        let (lines, _) = row.bytes.as_chunks::<BLOCK>();
        self.width = lines.len();
        if number == self.factors.len() {
            if number.is_multiple_of(BLOCK) {
                self.blocks.push(vec![Pair::default(); BLOCK / 2 * self.width].into());
            }
            self.factors.push(row.factors);
        }
        *self.factors.get_mut(number).ok_or(Error::Broken)? = row.factors;
        let start = number % BLOCK * self.width;
        let block = Pair::lines_mut(Arc::make_mut(self.blocks.get_mut(number / BLOCK).ok_or(Error::Broken)?));
        let places = block.get_mut(start..start + self.width).ok_or(Error::Broken)?;
        for (place, line) in places.iter_mut().zip(lines) {
            *place = Line(line.map(i8::cast_unsigned));
        }
        Ok(())
    }

    /// Asks for what says where rows are.
    pub fn fetch_places(&self, kernel: &dyn Kernel) {
        kernel.fetch(self.blocks.as_ptr().cast(), size_of_val(&self.blocks[..]));
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
    pub fn row(&self, number: usize) -> Option<&[Line]> {
        let start = number % BLOCK * self.width;
        Pair::lines(self.blocks.get(number / BLOCK)?).get(start..start + self.width)
    }

    /// The rows of a block, one after another; behind the last one of the chunk there is something.
    pub fn block(&self, number: usize) -> Option<&[Line]> {
        self.blocks.get(number).map(|block| Pair::lines(block))
    }

    /// What bounds the product of each row.
    pub fn factors(&self) -> &[ByteFactors] {
        &self.factors
    }

    /// Bytes of memory that it owns, with the counts of its references.
    pub fn size(&self) -> usize {
        self.blocks.iter().map(|block| size_of_val(&block[..]) + 2 * size_of::<usize>()).sum::<usize>()
            + self.blocks.capacity() * size_of::<Arc<[Pair]>>()
            + self.factors.capacity() * size_of::<ByteFactors>()
    }
}
