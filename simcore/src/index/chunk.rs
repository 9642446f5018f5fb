//! Chunks: the rows of a group whose codes lie together, and the pages that hold them.

use std::mem::take;
use std::sync::Arc;

use super::{
    Error,
    bytes::Bytes,
    codes::{Codes, Levels, Signs},
    page::{Page, Row, rows_per_page},
};
use crate::kernel::BLOCK;
use crate::sketch::{Basis, Encoder};

/// Blocks per chunk: 34 KB of codes at 384 dimensions, long enough that a scan runs at the memory's speed, and short
/// enough to be copied by a change.
pub const CHUNK_BLOCKS: usize = 16;

/// Rows per chunk.
pub const CHUNK: usize = CHUNK_BLOCKS * BLOCK;

/// What kind of sketches the rows of a group have.
#[derive(Debug, Clone, Default)]
pub enum Kind {
    /// None: scoring all rows takes less time than sketching the query.
    #[default]
    Plain,
    /// Bytes, and sign codes.
    Signed,
    /// Bytes, and codes of levels in a basis.
    Levelled(Arc<Basis>),
}

/// Up to [`CHUNK`] rows.
#[derive(Debug, Clone)]
pub struct Chunk {
    pages: Vec<Arc<Page>>,
    per_page: usize,
    rows: usize,
    /// None if rows are not kept in bytes.
    bytes: Bytes,
    codes: Codes,
    /// No row dies before.
    earliest: f64,
}

impl Chunk {
    /// A chunk without rows, to be filled with rows of `dim` components.
    pub fn new(dim: usize, kind: &Kind) -> Self {
        let codes = match kind {
            Kind::Plain => Codes::None,
            Kind::Signed => Codes::Signs(Signs::default()),
            Kind::Levelled(basis) => Codes::Levels(Levels::new(Arc::clone(basis))),
        };
        Self {
            pages: Vec::new(),
            per_page: rows_per_page(dim),
            rows: 0,
            bytes: Bytes::default(),
            codes,
            earliest: f64::INFINITY,
        }
    }

    /// A chunk of the rows of one page, not more than one can hold, without sketches.
    pub fn of(page: Page, dim: usize) -> Self {
        let mut chunk = Self::new(dim, &Kind::Plain);
        chunk.rows = page.len();
        chunk.earliest = page.earliest();
        chunk.pages.push(Arc::new(page));
        chunk
    }

    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Its pages; all but the last one are full.
    pub fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    /// Its rows in bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The codes of its rows.
    pub fn codes(&self) -> &Codes {
        &self.codes
    }

    /// The moment before which none of its rows dies.
    pub fn earliest(&self) -> f64 {
        self.earliest
    }

    /// The page of a row, and the row's slot in it.
    pub fn page(&self, row: usize) -> Option<(&Page, usize)> {
        Some((self.pages.get(row / self.per_page)?, row % self.per_page))
    }

    /// The row with this number.
    pub fn row(&self, row: usize) -> Option<Row<'_>> {
        let (page, slot) = self.page(row)?;
        page.row(slot)
    }

    fn page_mut(&mut self, row: usize) -> Result<(&mut Page, usize), Error> {
        let page = self.pages.get_mut(row / self.per_page).ok_or(Error::Broken)?;
        Ok((Arc::make_mut(page), row % self.per_page))
    }

    /// Sets a row that exists or is the next one; `more` rows (this one included) are about to follow.
    pub fn set(&mut self, number: usize, row: Row<'_>, more: usize, encoder: &mut Encoder) -> Result<(), Error> {
        if number == self.rows {
            if number == self.pages.len() * self.per_page {
                self.pages.push(Arc::default());
            }
            self.rows += 1;
        }
        let most = self.per_page;
        let (page, slot) = self.page_mut(number)?;
        page.set(slot, row, most, more)?;
        self.earliest = self.earliest.min(row.expires_at);
        self.sketch(number, row.vector, encoder)
    }

    /// Sets a row's sketches.
    fn sketch(&mut self, number: usize, vector: &[f32], encoder: &mut Encoder) -> Result<(), Error> {
        if matches!(self.codes, Codes::None) {
            return Ok(());
        }
        if let Some(in_bytes) = encoder.bytes(vector) {
            self.bytes.set(number, in_bytes)?;
        }
        self.encode(number, vector, encoder)
    }

    /// Sets a row's code.
    fn encode(&mut self, number: usize, vector: &[f32], encoder: &mut Encoder) -> Result<(), Error> {
        let (block, slot) = (number / BLOCK, number % BLOCK);
        match &mut self.codes {
            Codes::None => Ok(()),
            Codes::Signs(signs) => signs.set(block, slot, encoder.signs(vector)),
            Codes::Levels(levels) => {
                let code = encoder.levels(&levels.basis, vector);
                levels.set(block, slot, code)
            }
        }
    }

    /// Whether its rows have sketches of this kind.
    pub fn is(&self, kind: &Kind) -> bool {
        match (&self.codes, kind) {
            (Codes::None, Kind::Plain) | (Codes::Signs(_), Kind::Signed) => true,
            (Codes::Levels(levels), Kind::Levelled(basis)) => Arc::ptr_eq(&levels.basis, basis),
            _ => false,
        }
    }

    /// Makes sketches of another kind.
    pub fn become_kind(&mut self, kind: &Kind, dim: usize, encoder: &mut Encoder) -> Result<(), Error> {
        let had = !matches!(self.codes, Codes::None);
        self.codes = Self::new(dim, kind).codes;
        if matches!(kind, Kind::Plain) {
            self.bytes = Bytes::default();
            return Ok(());
        }
        let pages = take(&mut self.pages);
        let mut number = 0;
        for page in &pages {
            for vector in page.vectors().chunks_exact(dim) {
                if had {
                    self.encode(number, vector, encoder)?;
                } else {
                    self.sketch(number, vector, encoder)?;
                }
                number += 1;
            }
        }
        self.pages = pages;
        Ok(())
    }

    /// Forgets the last row.
    pub fn pop(&mut self) -> Result<(), Error> {
        let last = self.rows.checked_sub(1).ok_or(Error::Broken)?;
        self.rows = last;
        if last % self.per_page == 0 {
            self.pages.truncate(last / self.per_page);
        } else {
            let (page, slot) = self.page_mut(last)?;
            page.truncate(slot);
        }
        self.bytes.truncate(last);
        self.codes.forget_behind(last)
    }

    /// Finds out anew when the first of its rows dies, after one that died at `gone` went.
    pub fn left(&mut self, gone: f64) {
        if gone <= self.earliest && self.earliest < f64::INFINITY {
            self.earliest = self.pages.iter().map(|page| page.earliest()).fold(f64::INFINITY, f64::min);
        }
    }

    /// Bytes of memory that it owns, with the counts of its references.
    pub fn size(&self) -> usize {
        self.pages.iter().map(|page| page.size()).sum::<usize>()
            + self.pages.capacity() * size_of::<Arc<Page>>()
            + self.bytes.size()
            + self.codes.size()
            + size_of::<Self>()
            + 2 * size_of::<usize>()
    }
}
