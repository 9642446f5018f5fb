//! Groups: the rows of one scope, numbered from 0 without gaps, in one page or in chunks.
//!
//! The rows of a small group lie in a page of its own, where a search finds them in few steps through memory.
//! From [`SKETCH_FROM`] rows on a group's rows have sketches: bytes, and sign codes, which need to know nothing of the rows.
//! From [`BASIS_FROM`] rows on a basis is learned from some of them, and again each time the group is eight times as large;
//! if it is of use, the rows' codes are made in it. New chunks follow at once, the others a few with each change.

use std::mem::take;
use std::sync::Arc;

use super::{
    Error,
    chunk::{CHUNK, Chunk, Kind},
    page::{Page, Row, rows_per_page},
    trie::Trie,
};
use crate::sketch::{Basis, Encoder, sample_rows};

/// Rows from which on rows have sketches: below, scoring all of them takes less time than sketching the query.
const SKETCH_FROM: u32 = 256;

/// Rows below which sketches are given up; half, so that a group at the limit does not make them over and over.
const SKETCH_UNTIL: u32 = SKETCH_FROM / 2;

/// Rows from which on a basis is learned: it takes as much memory as the vectors of 64 of them.
const BASIS_FROM: u32 = 4096;

/// Rows below which the basis is given up.
const BASIS_UNTIL: u32 = BASIS_FROM / 4;

/// How much a group grows until its basis is learned anew.
const GROWTH: u32 = 8;

/// Rows changed for each further chunk that gets codes of another kind: encoding one takes about a millisecond.
const ROWS_PER_CHUNK: usize = 64;

/// Children of a node above the chunks: few, because changes are scattered over them.
const FAN: usize = 8;

/// The rows of one scope.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// All rows, as long as there never were more than a page holds; else none.
    few: Page,
    chunks: Trie<Chunk, FAN>,
    rows: u32,
    kind: Kind,
    /// Rows when its basis was last learned, whether or not it was of use.
    learned: u32,
    /// The first chunk whose codes may be of another kind than the group's.
    unsettled: u32,
}

/// The chunk of a row, and the row's number in it.
fn locate(row: u32) -> (u32, usize) {
    (row / CHUNK as u32, row as usize % CHUNK)
}

impl Group {
    /// How many rows it holds.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// How many chunks they fill; 0 if they lie in one page.
    pub fn chunks(&self) -> u32 {
        if self.few.len() > 0 { 0 } else { self.rows.div_ceil(CHUNK as u32) }
    }

    /// The page of a group that has no chunks.
    pub fn few(&self) -> &Page {
        &self.few
    }

    /// The chunk with this number.
    pub fn chunk(&self, number: u32) -> Result<&Chunk, Error> {
        self.chunks.get(number).ok_or(Error::Broken)
    }

    /// Calls `visit` with all chunks in order.
    pub fn try_each_chunk<'a, E>(&'a self, visit: &mut impl FnMut(&'a Chunk) -> Result<(), E>) -> Result<(), E> {
        self.chunks.try_each(&mut |_, chunk| visit(chunk))
    }

    /// Calls `visit` with all pages in order.
    pub fn try_each_page<'a, E>(&'a self, visit: &mut impl FnMut(&'a Page) -> Result<(), E>) -> Result<(), E> {
        if self.few.len() > 0 {
            visit(&self.few)?;
        }
        self.try_each_chunk(&mut |chunk| chunk.pages().iter().try_for_each(|page| visit(page)))
    }

    /// Whether its rows have sketches.
    pub fn is_sketched(&self) -> bool {
        !matches!(self.kind, Kind::Plain)
    }

    /// The basis that was learned of it, if that is of use.
    pub fn basis(&self) -> Option<&Arc<Basis>> {
        match &self.kind {
            Kind::Levelled(basis) => Some(basis),
            _ => None,
        }
    }

    /// The id of the row with this number.
    pub fn id(&self, number: u32) -> Option<u64> {
        let (page, slot) = match self.few.len() {
            0 => {
                let (chunk, row) = locate(number);
                self.chunks.get(chunk)?.page(row)?
            }
            _ => (&self.few, number as usize),
        };
        page.labels().get(slot).map(|label| label.id)
    }

    fn row(&self, number: u32) -> Result<Row<'_>, Error> {
        if self.few.len() > 0 {
            return self.few.row(number as usize).ok_or(Error::Broken);
        }
        let (chunk, row) = locate(number);
        self.chunk(chunk)?.row(row).ok_or(Error::Broken)
    }

    /// Appends a row and returns its number; `more` rows (this one included) are about to follow.
    pub fn push(&mut self, row: Row<'_>, more: usize, encoder: &mut Encoder) -> Result<u32, Error> {
        let number = self.rows;
        let most = rows_per_page(row.vector.len());
        self.rows = number.checked_add(1).ok_or(Error::Broken)?;
        if (self.few.len() > 0 || number == 0) && (number as usize) < most {
            self.few.set(number as usize, row, most, more)?;
            return Ok(number);
        }
        if self.few.len() > 0 {
            self.chunks.insert(0, Chunk::of(take(&mut self.few), row.vector.len()));
        }
        let (chunk, place) = locate(number);
        if place == 0 {
            self.chunks.insert(chunk, Chunk::new(row.vector.len(), &self.kind));
        }
        self.chunks.get_mut(chunk).ok_or(Error::Broken)?.set(place, row, more, encoder)?;
        if self.rows >= SKETCH_FROM && !self.is_sketched() {
            self.turn(Kind::Signed);
            self.settle(usize::MAX, encoder)?;
        }
        if self.rows >= BASIS_FROM.max(self.learned.saturating_mul(GROWTH)) {
            self.learn(encoder)?;
        }
        Ok(number)
    }

    /// From now on its rows get sketches of this kind.
    fn turn(&mut self, kind: Kind) {
        self.kind = kind;
        self.unsettled = 0;
    }

    /// Learns a basis from rows all over the group.
    fn learn(&mut self, encoder: &Encoder) -> Result<(), Error> {
        self.learned = self.rows;
        let dim = self.row(0)?.vector.len();
        let rows = u64::from(self.rows);
        let count = rows.min(sample_rows(dim) as u64);
        let mut sample = Vec::with_capacity(count as usize * dim);
        for part in 0..count {
            sample.extend_from_slice(self.row((part * rows / count) as u32)?.vector);
        }
        if let Some(basis) = Basis::fit(&sample, dim, encoder.kernel()) {
            self.turn(Kind::Levelled(Arc::new(basis)));
        } else if self.basis().is_some() {
            self.turn(Kind::Signed);
        }
        Ok(())
    }

    /// Whether the codes of some of its chunks may be of another kind than those that its rows get by now.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled < self.chunks()
    }

    /// Gives some chunks the kind of codes that the group's rows get by now: more of them after a change of more rows.
    pub fn settle(&mut self, changed: usize, encoder: &mut Encoder) -> Result<(), Error> {
        let mut chunks = 1 + changed / ROWS_PER_CHUNK;
        while self.is_unsettled() && chunks > 0 {
            let number = self.unsettled;
            if !self.chunk(number)?.is(&self.kind) {
                let dim = self.row(0)?.vector.len();
                self.chunks.get_mut(number).ok_or(Error::Broken)?.become_kind(&self.kind, dim, encoder)?;
                chunks -= 1;
            }
            self.unsettled += 1;
        }
        Ok(())
    }

    /// Overwrites the row with this number.
    pub fn replace(&mut self, number: u32, row: Row<'_>, encoder: &mut Encoder) -> Result<(), Error> {
        if self.few.len() > 0 {
            return self.few.set(number as usize, row, self.few.len(), 1);
        }
        let (chunk, place) = locate(number);
        let chunk = self.chunks.get_mut(chunk).ok_or(Error::Broken)?;
        let gone = chunk.row(place).ok_or(Error::Broken)?.expires_at;
        chunk.set(place, row, 1, encoder)?;
        chunk.left(gone);
        Ok(())
    }

    /// Removes the row with this number; the last row takes its place. Returns the id of the row that moved.
    pub fn swap_remove(&mut self, number: u32, encoder: &mut Encoder) -> Result<Option<u64>, Error> {
        let last = self.rows.checked_sub(1).ok_or(Error::Broken)?;
        let mut moved = None;
        if number != last {
            let Row { id, expires_at, vector } = self.row(last)?;
            let vector = vector.to_vec();
            self.replace(number, Row { id, expires_at, vector: &vector }, encoder)?;
            moved = Some(id);
        }
        let (chunk, place) = locate(last);
        if self.few.len() > 0 {
            self.few.truncate(last as usize);
        } else if place == 0 {
            self.chunks.remove(chunk);
        } else {
            let chunk = self.chunks.get_mut(chunk).ok_or(Error::Broken)?;
            let gone = chunk.row(place).ok_or(Error::Broken)?.expires_at;
            chunk.pop()?;
            chunk.left(gone);
        }
        self.rows = last;
        if self.rows < BASIS_UNTIL && self.learned > 0 {
            self.learned = 0;
            self.turn(Kind::Signed);
        }
        if self.rows < SKETCH_UNTIL && self.is_sketched() {
            self.turn(Kind::Plain);
            self.settle(usize::MAX, encoder)?;
        }
        Ok(moved)
    }
}
