//! The codes of a chunk's rows: what a search reads of all of them.

use std::sync::Arc;

use super::{Error, chunk::CHUNK_BLOCKS};
use crate::kernel::further::{BlockSigns, RowSigns};
use crate::kernel::levels::{self, LevelCodes};
use crate::kernel::signs::{SignCodes, TRIPLE, place};
use crate::kernel::{BLOCK, Line};
use crate::sketch::{Basis, LevelCode, SignCode};

/// What empty slots hold, so that they do not lower the least cosine; searches mask them.
const EMPTY: f32 = 1.0;

/// Sign codes of blocks that follow each other.
#[derive(Debug, Clone, Default)]
pub struct Signs {
    /// As many lines for each block.
    lines: Vec<Line>,
    cosines: Vec<[f32; BLOCK]>,
    least: Vec<f32>,
}

impl Signs {
    /// Sets the code of the row at `slot` of a block that exists or is the next one.
    pub fn set(&mut self, block: usize, slot: usize, code: &SignCode) -> Result<(), Error> {
        let lines = code.signs.len().next_multiple_of(TRIPLE);
        if block == self.least.len() {
            self.lines.reserve_exact(lines);
            self.lines.resize(self.lines.len() + lines, Line::default());
            self.cosines.push([EMPTY; BLOCK]);
            self.least.push(EMPTY);
        }
        let position = place(slot);
        let block_lines = self.lines.get_mut(block * lines..(block + 1) * lines).ok_or(Error::Broken)?;
        for (line, &byte) in block_lines.iter_mut().zip(&code.signs) {
            *line.0.get_mut(position).ok_or(Error::Broken)? = byte;
        }
        self.set_cosine(block, slot, code.cosine)
    }

    fn set_cosine(&mut self, block: usize, slot: usize, cosine: f32) -> Result<(), Error> {
        let cosines = self.cosines.get_mut(block).ok_or(Error::Broken)?;
        *cosines.get_mut(slot).ok_or(Error::Broken)? = cosine;
        *self.least.get_mut(block).ok_or(Error::Broken)? = cosines.iter().copied().fold(EMPTY, f32::min);
        Ok(())
    }

    /// Forgets what lies behind the first `rows` rows, of which there was one more.
    fn forget_behind(&mut self, rows: usize) -> Result<(), Error> {
        let (block, slot) = (rows / BLOCK, rows % BLOCK);
        if slot > 0 {
            return self.set_cosine(block, slot, EMPTY);
        }
        let lines = self.lines.len() / self.least.len().max(1);
        self.lines.truncate(block * lines);
        self.cosines.truncate(block);
        self.least.truncate(block);
        Ok(())
    }

    /// The codes as kernels take them.
    pub fn codes(&self) -> SignCodes<'_> {
        SignCodes { lines: &self.lines, cosines: &self.cosines, least: &self.least }
    }
}

/// Codes of levels in one basis.
#[derive(Debug, Clone)]
pub struct Levels {
    /// What they were made in.
    pub basis: Arc<Basis>,
    lines: Vec<Line>,
    /// What is said of further components, for each row; empty if the basis has none.
    further: Vec<BlockSigns>,
}

impl Levels {
    /// No codes yet, in this basis.
    pub fn new(basis: Arc<Basis>) -> Self {
        Self { basis, lines: Vec::new(), further: Vec::new() }
    }

    /// Sets the code of the row at `slot` of a block that exists or is the next one.
    pub fn set(&mut self, block: usize, slot: usize, code: &LevelCode) -> Result<(), Error> {
        let lines = levels::lines_per_block(code.levels.len());
        if block * lines == self.lines.len() {
            // A group with levels is large: where one chunk's end, the next one's begin.
            self.lines.reserve_exact(CHUNK_BLOCKS * lines - self.lines.len());
            self.lines.resize(self.lines.len() + lines, Line::default());
        }
        let lines_of_block = self.lines.get_mut(block * lines..(block + 1) * lines).ok_or(Error::Broken)?;
        levels::write(lines_of_block, slot, &code.levels, code.left_out).ok_or(Error::Broken)?;
        if let Some(signs) = code.signs {
            if block == self.further.len() {
                self.further.reserve_exact(CHUNK_BLOCKS - self.further.len());
                self.further.push(BlockSigns([RowSigns::default(); BLOCK]));
            }
            let of_block = self.further.get_mut(block).ok_or(Error::Broken)?;
            *of_block.0.get_mut(slot).ok_or(Error::Broken)? = signs;
        }
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.lines.truncate(rows.div_ceil(BLOCK) * levels::lines_per_block(self.basis.levelled()));
        self.further.truncate(rows.div_ceil(BLOCK));
    }

    /// What is said of the rows' further components.
    pub fn further(&self) -> &[BlockSigns] {
        &self.further
    }

    /// The codes as kernels take them.
    pub fn codes(&self) -> LevelCodes<'_> {
        LevelCodes::new(&self.lines, self.basis.levelled())
    }
}

/// The codes of a chunk.
#[derive(Debug, Clone, Default)]
pub enum Codes {
    /// Its group is too small for any.
    #[default]
    None,
    /// One sign per component: needs to know nothing of the rows.
    Signs(Signs),
    /// Sixteen levels of the components that matter: of groups of which a basis was learned.
    Levels(Levels),
}

impl Codes {
    /// Forgets what lies behind the first `rows` rows, of which there was one more.
    pub fn forget_behind(&mut self, rows: usize) -> Result<(), Error> {
        match self {
            Self::None => Ok(()),
            Self::Signs(signs) => signs.forget_behind(rows),
            Self::Levels(levels) => {
                levels.truncate(rows);
                Ok(())
            }
        }
    }

    /// Bytes of memory that they own.
    pub fn size(&self) -> usize {
        let lines = |lines: &Vec<Line>| lines.capacity() * size_of::<Line>();
        match self {
            Self::None => 0,
            Self::Levels(levels) => lines(&levels.lines) + levels.further.capacity() * size_of::<BlockSigns>(),
            Self::Signs(signs) => {
                lines(&signs.lines)
                    + signs.cosines.capacity() * size_of::<[f32; BLOCK]>()
                    + signs.least.capacity() * size_of::<f32>()
            }
        }
    }
}
