//! The search of one query in a group with sketches: from cheap bounds to exact scores.
//!
//! A chunk's codes say which of its rows can reach the bar: the threshold, or the score of the worst row kept if `k` are
//! kept and it is higher. For those the bytes say it again, more sharply. What is left is collected and scored in order of
//! its bounds: the best come first and raise the bar for the others. A row whose score is the bar itself always gets that
//! far, so the order among equal scores is decided where all scores are.

use std::mem::take;
use std::slice;

use super::{
    Error,
    chunk::Chunk,
    top::{Candidate, Top},
};
use crate::kernel::{BLOCK, Kernel};
use crate::sketch::SketchedQuery;

/// If at least one row in this many of a block passes the codes, the bytes of the whole block are compared in one go.
const DENSE: u32 = 4;

/// The codes of the following chunks are not read if more than one row in this many passed: then they save less than they
/// cost.
const WORTH: usize = 4;

/// Chunks that do without codes after one that was not worth it.
const REST: u32 = 4;

/// Rows collected before the best of them are scored.
const LEADS: usize = 64;

/// Scores cannot be less, so that such a bar excludes nothing. A little below -1, for what rounding can do.
const ANY_SCORE: f64 = -1.001;

/// A row that may reach the bar.
#[derive(Debug, Clone, Copy)]
struct Lead<'a> {
    most: f64,
    row: Place<'a>,
}

/// A row: its chunk, and its number in that.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    chunk: &'a Chunk,
    number: usize,
}

/// One query's state.
#[derive(Debug)]
pub struct Hunt<'a> {
    kernel: &'a dyn Kernel,
    query: &'a [f64],
    sketched: &'a SketchedQuery,
    now: f64,
    top: Top,
    /// Least score that counts.
    least: f64,
    /// Rows of the last chunk that passed its codes, and whose bytes have been asked for.
    passed: Vec<Place<'a>>,
    leads: Vec<Lead<'a>>,
    resting: u32,
}

impl<'a> Hunt<'a> {
    /// A hunt for rows that are alive at `now` (Unix seconds), which starts with what `top` has kept already.
    pub fn new(
        kernel: &'a dyn Kernel,
        query: &'a [f64],
        sketched: &'a SketchedQuery,
        now: f64,
        top: Top,
        threshold: f64,
    ) -> Self {
        let least = top.bar().map_or(threshold, |score| threshold.max(f64::from(score)));
        Self { kernel, query, sketched, now, top, least, passed: Vec::new(), leads: Vec::new(), resting: 0 }
    }

    /// Scores what is left; returns what was kept.
    pub fn finish(mut self) -> Result<Top, Error> {
        self.compare_passed()?;
        self.follow()?;
        Ok(self.top)
    }

    /// The score that the next chunk's codes are to be compared with; `None` if they need not be.
    pub fn bar(&mut self) -> Option<f64> {
        if self.resting > 0 {
            self.resting -= 1;
            return None;
        }
        (self.least > ANY_SCORE).then_some(self.least)
    }

    /// Looks at a chunk; `masks` says for each block which slots its codes do not exclude, and is absent if they were not
    /// compared.
    pub fn search(&mut self, chunk: &'a Chunk, masks: Option<&[u64]>) -> Result<(), Error> {
        self.compare_passed()?;
        let mut passed = 0;
        for block in 0..chunk.len().div_ceil(BLOCK) {
            let live = u64::MAX >> (BLOCK - (chunk.len() - block * BLOCK).min(BLOCK));
            let mask = live & masks.map_or(Some(&u64::MAX), |masks| masks.get(block)).ok_or(Error::Broken)?;
            if mask == 0 {
                continue;
            }
            let count = mask.count_ones();
            passed += count as usize;
            if self.least <= ANY_SCORE || chunk.bytes().is_empty() {
                Slots(mask).try_for_each(|slot| self.score(Place { chunk, number: block * BLOCK + slot }))?;
            } else if count * DENSE >= live.count_ones() {
                self.compare_block(chunk, block, mask)?;
            } else {
                for slot in Slots(mask) {
                    let number = block * BLOCK + slot;
                    let bytes = chunk.bytes().row(number).ok_or(Error::Broken)?;
                    self.kernel.fetch(bytes.as_ptr().cast(), bytes.len());
                    self.passed.push(Place { chunk, number });
                }
            }
        }
        if masks.is_some() && passed * WORTH > chunk.len() {
            self.resting = REST;
        }
        Ok(())
    }

    /// Compares the bytes of a whole block.
    fn compare_block(&mut self, chunk: &'a Chunk, block: usize, mask: u64) -> Result<(), Error> {
        let query = self.sketched.bytes();
        let factors = chunk.bytes().factors().get(block * BLOCK..).ok_or(Error::Broken)?;
        let mut dots = [0; BLOCK];
        self.kernel.dot_bytes(query.bytes(), chunk.bytes().block(block).ok_or(Error::Broken)?, &mut dots);
        for slot in Slots(mask) {
            let most = query.most(*dots.get(slot).ok_or(Error::Broken)?, *factors.get(slot).ok_or(Error::Broken)?);
            if most >= self.least {
                self.leads.push(Lead { most, row: Place { chunk, number: block * BLOCK + slot } });
            }
        }
        if self.leads.len() >= LEADS { self.follow() } else { Ok(()) }
    }

    /// Compares the bytes of the rows that passed the codes of the last chunk: while this one's were compared, memory has
    /// answered.
    fn compare_passed(&mut self) -> Result<(), Error> {
        let query = self.sketched.bytes();
        let mut passed = take(&mut self.passed);
        for row in passed.drain(..) {
            let bytes = row.chunk.bytes().row(row.number).ok_or(Error::Broken)?;
            let factors = row.chunk.bytes().factors().get(row.number).ok_or(Error::Broken)?;
            let mut dot = 0;
            self.kernel.dot_bytes(query.bytes(), bytes, slice::from_mut(&mut dot));
            let most = query.most(dot, *factors);
            if most >= self.least {
                self.leads.push(Lead { most, row });
            }
        }
        self.passed = passed;
        if self.leads.len() >= LEADS { self.follow() } else { Ok(()) }
    }

    /// Scores the rows that were collected, until none is left whose bound reaches the bar.
    fn follow(&mut self) -> Result<(), Error> {
        let mut leads = take(&mut self.leads);
        leads.sort_unstable_by(|a, b| b.most.total_cmp(&a.most));
        for lead in &leads {
            if lead.most < self.least {
                break;
            }
            self.score(lead.row)?;
        }
        leads.clear();
        self.leads = leads;
        Ok(())
    }

    /// Scores one row and keeps it if it is alive and good enough.
    fn score(&mut self, row: Place<'a>) -> Result<(), Error> {
        let row = row.chunk.row(row.number).ok_or(Error::Broken)?;
        if row.expires_at <= self.now {
            return Ok(());
        }
        let mut score = 0.0;
        self.kernel.score_rows(self.query, row.vector, slice::from_mut(&mut score));
        if f64::from(score) < self.least {
            return Ok(());
        }
        self.top.offer(Candidate { score, id: row.id });
        if let Some(worst) = self.top.bar() {
            self.least = self.least.max(f64::from(worst));
        }
        Ok(())
    }
}

/// The numbers of the bits that are set.
struct Slots(u64);

impl Iterator for Slots {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        (self.0 != 0).then(|| {
            let slot = self.0.trailing_zeros();
            self.0 &= self.0 - 1;
            slot as usize
        })
    }
}
